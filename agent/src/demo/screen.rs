//! What the demonstration shows: a timeline, with bars on a terminal and plain lines elsewhere.

use std::io::IsTerminal;
use std::time::Instant;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use nerves_hub_link_protocol::printable::Escaped;

/// Who a line of the timeline speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The stand-in for the server.
    Hub,
    /// The device.
    Device,
    /// The disk, as a boot loader sees it.
    Disk,
    /// The demonstration itself.
    Stage,
}

/// The timeline.
pub struct Screen {
    start: Instant,
    bars: Option<Bars>,
    // The last tenth printed for each bar, where there is no terminal.
    said: [Option<u8>; 2],
}

struct Bars {
    all: MultiProgress,
    each: [ProgressBar; 2],
}

/// The two bars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bar {
    /// Bytes received.
    Download = 0,
    /// Firmware written.
    Write = 1,
}

const NAMES: [&str; 2] = ["receiving", "writing  "];

impl Screen {
    /// Starts the clock of the timeline. `plain` asks for lines even on a terminal.
    pub fn new(plain: bool) -> Self {
        let bars = (!plain && std::io::stdout().is_terminal()).then(|| {
            let all = MultiProgress::with_draw_target(indicatif::ProgressDrawTarget::stdout());
            let each = NAMES.map(|name| {
                let bar = all.add(ProgressBar::new(100));
                // A wrong template would only cost the bar its looks.
                if let Ok(style) = ProgressStyle::with_template("           {prefix} [{bar:40}] {pos:>3} %") {
                    bar.set_style(style.progress_chars("=> "));
                }
                bar.set_prefix(name);
                bar
            });
            Bars { all, each }
        });
        Self { start: Instant::now(), bars, said: [None; 2] }
    }

    /// Returns the seconds since the timeline began.
    pub fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// Adds a line.
    pub fn line(&self, who: Who, text: &str) {
        let who = match who {
            Who::Hub => "hub",
            Who::Device => "device",
            Who::Disk => "disk",
            Who::Stage => "",
        };
        let line = format!("{:>7.2} s  {who:<7} {}", self.seconds(), Escaped(text));
        match &self.bars {
            Some(bars) if bars.all.println(&line).is_ok() => {}
            _ => println!("{line}"),
        }
    }

    /// Moves a bar; without a terminal, says every tenth once.
    pub fn progress(&mut self, bar: Bar, percent: u8) {
        let percent = percent.min(100);
        let [download, write] = &mut self.said;
        let said = match bar {
            Bar::Download => download,
            Bar::Write => write,
        };
        let tenth = percent / 20;
        let news = *said != Some(tenth);
        *said = Some(tenth);
        if let Some(bars) = &self.bars {
            let [download, write] = &bars.each;
            let bar = match bar {
                Bar::Download => download,
                Bar::Write => write,
            };
            bar.set_position(u64::from(percent));
        } else if news {
            let name = match bar {
                Bar::Download => "receiving",
                Bar::Write => "writing",
            };
            self.line(Who::Device, &format!("{name} {percent} %"));
        }
    }

    /// Takes the bars away and prints the last line.
    pub fn end(self, summary: &str) {
        if let Some(bars) = &self.bars {
            for bar in &bars.each {
                bar.finish_and_clear();
            }
        }
        // The summary has lines of its own.
        summary.lines().for_each(|line| println!("{}", Escaped(line)));
    }
}
