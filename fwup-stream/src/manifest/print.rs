//! Writing a manifest: the normalised text of a configuration (fw-format §3.4).

use super::metadata::quoted;
use super::section::{Section, Value};

/// What a section consists of, in the order it is written.
enum Part {
    /// An option, and the text of its value that is left out.
    Value(&'static str, &'static str),
    /// The sections of a kind; with or without empty ones.
    Sections { kind: &'static str, parts: &'static [Part], titled: bool, empty: bool },
}

const fn text(name: &'static str) -> Part {
    Part::Value(name, "")
}

const fn flag(name: &'static str) -> Part {
    Part::Value(name, "false")
}

const fn titled(kind: &'static str, parts: &'static [Part]) -> Part {
    Part::Sections { kind, parts, titled: true, empty: false }
}

const fn event(kind: &'static str) -> Part {
    Part::Sections { kind, parts: EVENT, titled: false, empty: false }
}

/// `block-count` where none is given.
const NO_COUNT: &str = "2147483647";

static TOP: &[Part] = &[
    text("meta-product"),
    text("meta-description"),
    text("meta-version"),
    text("meta-author"),
    text("meta-platform"),
    text("meta-architecture"),
    text("meta-fwup-version"),
    text("meta-vcs-identifier"),
    text("meta-misc"),
    Part::Value("require-fwup-version", "0"),
    Part::Value("block-cache-size-mb", "8"),
    titled("file-resource", &[Part::Value("length", "0"), text("blake2b-256"), text("sha256")]),
    // fwup leaves an empty one out, takes what it then does not find for an empty one, and writes that.
    Part::Sections { kind: "mbr", parts: MBR, titled: true, empty: true },
    titled("gpt", &[text("guid"), titled("partition", GPT_PARTITION)]),
    Part::Sections { kind: "task", parts: TASK, titled: true, empty: true },
    titled(
        "uboot-environment",
        &[text("block-offset"), Part::Value("block-count", NO_COUNT), text("block-offset-redund")],
    ),
];

const MBR: &[Part] = &[
    text("bootstrap-code"),
    flag("include-osip"),
    Part::Value("osip-major", "1"),
    Part::Value("osip-minor", "0"),
    Part::Value("osip-num-pointers", "1"),
    text("signature"),
    titled(
        "partition",
        &[
            text("block-offset"),
            Part::Value("block-count", NO_COUNT),
            Part::Value("type", "-1"),
            flag("boot"),
            flag("expand"),
        ],
    ),
    titled(
        "osii",
        &[
            Part::Value("os-major", "0"),
            Part::Value("os-minor", "0"),
            Part::Value("start-block-offset", "0"),
            Part::Value("ddr-load-address", "0"),
            Part::Value("entry-point", "0"),
            Part::Value("image-size-blocks", "0"),
            Part::Value("attribute", "15"),
        ],
    ),
];

const GPT_PARTITION: &[Part] = &[
    text("block-offset"),
    Part::Value("block-count", NO_COUNT),
    text("type"),
    text("guid"),
    text("name"),
    Part::Value("flags", "0"),
    flag("expand"),
    flag("boot"),
];

const EVENT: &[Part] = &[text("funlist")];

const TASK: &[Part] = &[
    text("reqlist"),
    Part::Value("require-partition1-offset", "-1"),
    flag("require-unmounted-destination"),
    flag("verify-on-the-fly"),
    event("on-init"),
    event("on-finish"),
    event("on-error"),
    titled(
        "on-resource",
        &[
            flag("verify-on-the-fly"),
            text("delta-source-raw-offset"),
            Part::Value("delta-source-raw-count", NO_COUNT),
            text("delta-source-raw-options"),
            text("delta-source-fat-offset"),
            text("delta-source-fat-path"),
            text("funlist"),
        ],
    ),
];

/// Written when nothing else is.
const EMPTY: &str = "# Empty file\n";

/// Writes a whole manifest. A title that cannot stand in one is returned as an error, with its section's
/// kind.
pub(super) fn print(top: &Section) -> Result<String, (&'static str, &str)> {
    let mut out = String::new();
    parts(&mut out, TOP, top)?;
    if out.is_empty() {
        out.push_str(EMPTY);
    }
    Ok(out)
}

fn parts<'a>(out: &mut String, list: &[Part], section: &'a Section) -> Result<(), (&'static str, &'a str)> {
    for part in list {
        match part {
            Part::Value(name, default) => {
                if let Some(printed) = section.get(name).and_then(|value| value_text(value, default)) {
                    out.extend([name, "=", &printed, "\n"]);
                }
            }
            Part::Sections { kind, parts: inner, titled, empty } => {
                for section in section.all(kind) {
                    let mut body = String::new();
                    parts(&mut body, inner, section)?;
                    if body.is_empty() && !empty {
                        continue;
                    }
                    // The reference writes such titles too, and then cannot read them.
                    if section.title.contains(['"', '\\']) {
                        return Err((*kind, &section.title));
                    }
                    let title = if *titled { format!(" \"{}\"", section.title) } else { String::new() };
                    out.extend([kind, title.as_str(), " {\n", &body, "}\n"]);
                }
            }
        }
    }
    Ok(())
}

/// The text of a value; nothing when it is the default.
fn value_text(value: &Value, default: &str) -> Option<String> {
    let single = |text: String| Some(text).filter(|text| *text != default);
    match value {
        Value::Text(text) if text.is_empty() || text == default => None,
        Value::Text(text) => Some(quoted(text)),
        Value::Integer(number) => single(number.to_string()),
        Value::Boolean(on) => single(on.to_string()),
        Value::Texts(texts) => list(&texts.iter().map(|text| quoted(text)).collect::<Vec<_>>()),
        Value::Lengths(lengths) => {
            let lengths: Vec<_> = lengths.iter().map(u64::to_string).collect();
            if lengths.len() == 1 && lengths.first().is_some_and(|length| length == default) {
                return None;
            }
            list(&lengths)
        }
    }
}

fn list(values: &[String]) -> Option<String> {
    match values {
        [] => None,
        [one] => Some(one.clone()),
        several => Some(format!("{{{}}}", several.join(","))),
    }
}
