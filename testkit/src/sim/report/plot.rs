//! Plots as SVG, coloured by the style sheet of the page.

use std::fmt::Write as _;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 44.0;

/// An axis with a tick at each step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis<'a> {
    pub from: f64,
    pub to: f64,
    pub step: f64,
    pub unit: &'a str,
}

/// A plot over time.
#[derive(Debug)]
pub(super) struct Plot<'a> {
    x: Axis<'a>,
    y: Axis<'a>,
    marks: Vec<(f64, String)>,
    body: String,
}

impl Axis<'_> {
    fn share(&self, value: f64) -> f64 {
        let whole = self.to - self.from;
        if whole > 0.0 { ((value - self.from) / whole).clamp(0.0, 1.0) } else { 0.0 }
    }

    fn ticks(&self) -> Vec<f64> {
        let mut ticks = Vec::new();
        let mut at = (self.from / self.step).ceil() * self.step;
        while at <= self.to + self.step * 1e-6 && ticks.len() < 50 {
            ticks.push(at);
            at += self.step;
        }
        ticks
    }
}

impl<'a> Plot<'a> {
    pub fn new(x: Axis<'a>, y: Axis<'a>) -> Self {
        Self { x, y, marks: Vec::new(), body: String::new() }
    }

    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let across = LEFT + self.x.share(x) * (WIDTH - LEFT - RIGHT);
        let down = HEIGHT - BOTTOM - self.y.share(y) * (HEIGHT - TOP - BOTTOM);
        (across, down)
    }

    /// A line with the area below it.
    pub fn area(&mut self, points: &[(f64, f64)], class: &str) {
        let (Some(first), Some(last)) = (points.first(), points.last()) else { return };
        let mut line = String::new();
        for (x, y) in points {
            let (x, y) = self.at(*x, *y);
            let _ = write!(line, "{}{x:.1} {y:.1}", if line.is_empty() { "M" } else { "L" });
        }
        let (left, bottom) = self.at(first.0, self.y.from);
        let (right, _) = self.at(last.0, self.y.from);
        let _ = writeln!(
            self.body,
            "<path class=\"area {class}\" d=\"{line}L{right:.1} {bottom:.1}L{left:.1} {bottom:.1}Z\"/>\
             <path class=\"line {class}\" d=\"{line}\"/>"
        );
    }

    /// A point in time with a name.
    pub fn mark(&mut self, x: f64, label: &str) {
        self.marks.push((x, label.to_owned()));
    }

    /// The whole picture.
    pub fn finish(self, x_name: &str, y_name: &str) -> String {
        let mut svg = start(HEIGHT, y_name);
        for tick in self.y.ticks() {
            let (x, y) = self.at(self.x.from, tick);
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{x:.1} {y:.1}H{:.1}\"/><text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" \
                 text-anchor=\"end\">{}{}</text>",
                WIDTH - RIGHT,
                x - 8.0,
                y + 4.0,
                number(tick),
                self.y.unit,
            );
        }
        svg.push_str(&self.body);
        for tick in self.x.ticks() {
            let (x, y) = self.at(tick, self.y.from);
            let _ = writeln!(
                svg,
                "<path class=\"notch\" d=\"M{x:.1} {y:.1}v5\"/><text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" \
                 text-anchor=\"middle\">{}{}</text>",
                y + 19.0,
                number(tick),
                self.x.unit,
            );
        }
        let mut free = 0.0;
        for (x, label) in &self.marks {
            let (x, bottom) = self.at(*x, self.y.from);
            let _ = writeln!(svg, "<path class=\"mark\" d=\"M{x:.1} {TOP}V{bottom:.1}\"/>");
            // Labels that would lie on each other are left out; the lines stay. About 6.5 units a letter.
            #[expect(clippy::cast_precision_loss, reason = "short words")]
            let half = label.chars().count() as f64 * 3.25 + 3.0;
            let middle = x.min(WIDTH - RIGHT - half + 8.0);
            if middle - half >= free {
                let _ = writeln!(
                    svg,
                    "<text class=\"label\" x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
                    TOP - 8.0
                );
                free = middle + half;
            }
        }
        let (left, bottom) = self.at(self.x.from, self.y.from);
        let _ = writeln!(svg, "<path class=\"axis\" d=\"M{left:.1} {bottom:.1}H{:.1}\"/>", WIDTH - RIGHT);
        end(svg, HEIGHT, x_name)
    }
}

/// A column for each name.
pub(super) fn columns(bars: &[(String, f64)], x_name: &str, y_name: &str) -> String {
    let most = bars.iter().map(|(_, value)| *value).fold(1.0, f64::max);
    let sum: f64 = bars.iter().map(|(_, value)| *value).sum::<f64>().max(1.0);
    let bottom = HEIGHT - BOTTOM;
    let mut svg = start(HEIGHT, y_name);
    #[expect(clippy::cast_precision_loss, reason = "a handful of columns")]
    let slot = (WIDTH - LEFT - RIGHT) / bars.len().max(1) as f64;
    let mut x = LEFT;
    for (name, value) in bars {
        let height = value / most * (bottom - TOP);
        let middle = x + slot / 2.0;
        let _ = writeln!(
            svg,
            "<rect class=\"column\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\" rx=\"3\"/>\
             <text class=\"label\" x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text class=\"tick\" x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{name}</text>",
            x + slot * 0.14,
            bottom - height,
            slot * 0.72,
            bottom - height - 7.0,
            if *value > 0.0 { format!("{value} · {:.1} %", value / sum * 100.0) } else { "–".to_owned() },
            bottom + 19.0,
        );
        x += slot;
    }
    let _ = writeln!(svg, "<path class=\"axis\" d=\"M{LEFT} {bottom}H{:.1}\"/>", WIDTH - RIGHT);
    end(svg, HEIGHT, x_name)
}

fn start(height: f64, y_name: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{y_name} over time\">\n\
         <text class=\"name\" transform=\"translate(13 {:.1}) rotate(-90)\" text-anchor=\"middle\">{y_name}</text>\n",
        f64::midpoint(height - BOTTOM, TOP),
    )
}

fn end(mut svg: String, height: f64, x_name: &str) -> String {
    let _ = write!(
        svg,
        "<text class=\"name\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{x_name}</text>\n</svg>",
        (WIDTH + LEFT - RIGHT) / 2.0,
        height - 6.0,
    );
    svg
}

/// A number of a tick, with as many places as it needs.
fn number(value: f64) -> String {
    let rounded = (value * 100.0).round() / 100.0;
    rounded.to_string()
}
