//! The options of each section (fw-format §4).

/// What an option holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Text,
    Integer,
    Boolean,
    /// A list of strings.
    Texts,
    /// A list of floating point numbers, as the reference keeps lengths.
    Floats,
    /// A section that has a title.
    Titled(&'static Schema),
    /// A section of which there is one.
    Untitled(&'static Schema),
    /// `define` and its kin.
    Define {
        /// Sets the variable even if it is set already.
        always: bool,
        /// Evaluates the value first.
        evaluate: bool,
    },
    /// `include`.
    Include,
    /// A call, kept in the named list of the section.
    Call(&'static str),
}

/// The options of a section.
#[derive(Debug)]
pub(super) struct Schema {
    options: &'static [(&'static str, Kind)],
    /// The list of calls, and what may be called.
    calls: Option<(&'static str, Known)>,
}

/// Returns the known call of a name.
type Known = fn(&str) -> Option<&'static str>;

impl Schema {
    /// Returns what the option is; `None` if it is unknown.
    pub(super) fn option(&self, name: &str) -> Option<(&'static str, Kind)> {
        let option = self.options.iter().find(|(option, _)| *option == name).copied();
        option.or_else(|| {
            let (list, known) = self.calls?;
            Some((known(name)?, Kind::Call(list)))
        })
    }
}

/// The top level.
pub(super) static TOP: Schema = Schema {
    options: &[
        ("meta-product", Kind::Text),
        ("meta-description", Kind::Text),
        ("meta-version", Kind::Text),
        ("meta-author", Kind::Text),
        ("meta-platform", Kind::Text),
        ("meta-architecture", Kind::Text),
        ("meta-creation-date", Kind::Text),
        ("meta-fwup-version", Kind::Text),
        ("meta-vcs-identifier", Kind::Text),
        ("meta-misc", Kind::Text),
        ("meta-uuid", Kind::Text),
        ("meta-nickname", Kind::Text),
        ("require-fwup-version", Kind::Text),
        ("block-cache-size-mb", Kind::Integer),
        ("file-resource", Kind::Titled(&FILE_RESOURCE)),
        ("mbr", Kind::Titled(&MBR)),
        ("gpt", Kind::Titled(&GPT)),
        ("uboot-environment", Kind::Titled(&UBOOT_ENVIRONMENT)),
        ("task", Kind::Titled(&TASK)),
        ("define", Kind::Define { always: false, evaluate: false }),
        ("define!", Kind::Define { always: true, evaluate: false }),
        ("define-eval", Kind::Define { always: false, evaluate: true }),
        ("define-eval!", Kind::Define { always: true, evaluate: true }),
        ("include", Kind::Include),
    ],
    calls: None,
};

static FILE_RESOURCE: Schema = Schema {
    options: &[
        ("host-path", Kind::Text),
        ("contents", Kind::Text),
        ("skip-holes", Kind::Boolean),
        ("assert-size-lte", Kind::Integer),
        ("assert-size-gte", Kind::Integer),
        ("length", Kind::Floats),
        ("blake2b-256", Kind::Text),
        ("sha256", Kind::Text),
        ("include", Kind::Include),
    ],
    calls: None,
};

static MBR: Schema = Schema {
    options: &[
        ("bootstrap-code-host-path", Kind::Text),
        ("bootstrap-code", Kind::Text),
        ("include-osip", Kind::Boolean),
        ("osip-major", Kind::Integer),
        ("osip-minor", Kind::Integer),
        ("osip-num-pointers", Kind::Integer),
        ("signature", Kind::Text),
        ("partition", Kind::Titled(&MBR_PARTITION)),
        ("osii", Kind::Titled(&OSII)),
    ],
    calls: None,
};

static MBR_PARTITION: Schema = Schema {
    options: &[
        ("block-offset", Kind::Text),
        ("block-count", Kind::Integer),
        ("type", Kind::Integer),
        ("boot", Kind::Boolean),
        ("expand", Kind::Boolean),
    ],
    calls: None,
};

static OSII: Schema = Schema {
    options: &[
        ("os-major", Kind::Integer),
        ("os-minor", Kind::Integer),
        ("start-block-offset", Kind::Integer),
        ("ddr-load-address", Kind::Integer),
        ("entry-point", Kind::Integer),
        ("image-size-blocks", Kind::Integer),
        ("attribute", Kind::Integer),
    ],
    calls: None,
};

static GPT: Schema =
    Schema { options: &[("guid", Kind::Text), ("partition", Kind::Titled(&GPT_PARTITION))], calls: None };

static GPT_PARTITION: Schema = Schema {
    options: &[
        ("block-offset", Kind::Text),
        ("block-count", Kind::Integer),
        ("type", Kind::Text),
        ("guid", Kind::Text),
        ("name", Kind::Text),
        ("flags", Kind::Text),
        ("expand", Kind::Boolean),
        ("boot", Kind::Boolean),
    ],
    calls: None,
};

static UBOOT_ENVIRONMENT: Schema = Schema {
    options: &[
        ("block-offset", Kind::Text),
        ("block-count", Kind::Integer),
        ("block-offset-redund", Kind::Text),
    ],
    calls: None,
};

static TASK: Schema = Schema {
    options: &[
        ("reqlist", Kind::Texts),
        ("require-partition1-offset", Kind::Integer),
        ("require-unmounted-destination", Kind::Boolean),
        ("verify-on-the-fly", Kind::Boolean),
        ("on-init", Kind::Untitled(&EVENT)),
        ("on-finish", Kind::Untitled(&EVENT)),
        ("on-error", Kind::Untitled(&EVENT)),
        ("on-resource", Kind::Titled(&ON_RESOURCE)),
        ("include", Kind::Include),
    ],
    calls: Some(("reqlist", super::call_check::requirement)),
};

static EVENT: Schema = Schema {
    options: &[("funlist", Kind::Texts), ("include", Kind::Include)],
    calls: Some(("funlist", super::call_check::function)),
};

static ON_RESOURCE: Schema = Schema {
    options: &[
        ("verify-on-the-fly", Kind::Boolean),
        ("delta-source-raw-offset", Kind::Text),
        ("delta-source-raw-count", Kind::Integer),
        ("delta-source-raw-options", Kind::Text),
        ("delta-source-fat-offset", Kind::Text),
        ("delta-source-fat-path", Kind::Text),
        ("funlist", Kind::Texts),
        ("include", Kind::Include),
    ],
    calls: Some(("funlist", super::call_check::function)),
};
