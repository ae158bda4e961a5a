//! The options of the command (fw-format §18).

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::Arc;

use fwup_stream::Variables;
use fwup_stream::create::PrivateKey;
use fwup_stream::limits::PUBLIC_KEYS;
use fwup_stream::trust::PublicKey;

use crate::Failure;
use crate::detect;
use crate::getopt::{Getopt, Item, Spec};
use crate::keys;
use crate::output::{Output, complain};
use crate::usage;

/// The name that scripts call the original by. Called so, what is printed is the original's to the byte: programs
/// take all that `fwup --version` prints for a version, as NervesHub's do.
const ORIGINAL: &str = "fwup";
/// What `--version` prints then: the version of fwup whose features and behaviour these are.
const VERSION: &str = "1.16.0\n";
/// What it prints otherwise; scripts that read the first line read the same.
const VERSION_AND_NAME: &str =
    concat!("1.16.0\nfwup-stream ", env!("CARGO_PKG_VERSION"), ", which does what fwup 1.16.0 does\n");
/// The level of compression when none is given.
const LEVEL_DEFAULT: u32 = 9;
/// Bytes of the hole that `--sparse-check` tries.
const SPARSE_CHECK_SIZE: u64 = 4096;
/// The task of easy mode.
const EASY_TASK: &str = "complete";

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Apply,
    List,
    Metadata,
    Verify,
    Create,
    Sign,
    GenKeys,
    SparseCheck,
}

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) command: Command,
    /// The command was called by the name of the original.
    pub(crate) as_fwup: bool,
    pub(crate) input: Option<OsString>,
    pub(crate) output: Option<OsString>,
    pub(crate) configuration: Option<OsString>,
    pub(crate) private_key: Option<PrivateKey>,
    pub(crate) level: u32,
    pub(crate) destination: Option<OsString>,
    pub(crate) task: Option<String>,
    pub(crate) public_keys: Vec<PublicKey>,
    pub(crate) metadata_key: Option<String>,
    pub(crate) numeric: bool,
    pub(crate) quiet: bool,
    pub(crate) framing: bool,
    pub(crate) unmount: bool,
    /// A memory card that was found may be overwritten without a question.
    pub(crate) yes: bool,
    pub(crate) sparse_check: Option<OsString>,
    pub(crate) sparse_check_size: u64,
    pub(crate) progress_low: i32,
    pub(crate) progress_high: i32,
    pub(crate) verify_writes: Option<bool>,
    pub(crate) minimize_writes: bool,
    pub(crate) enable_trim: bool,
    pub(crate) max_blocks: Option<u64>,
    pub(crate) unsafe_allowed: bool,
    pub(crate) reboot_param_path: Option<OsString>,
}

/// What the command line came to.
pub(crate) enum Parsed {
    /// Something to do.
    Run(Box<Options>),
    /// It is done already: help or version.
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Apply,
    Create,
    Destination,
    Detect,
    Eject,
    EnableTrim,
    ExitHandshake,
    Config,
    Framing,
    GenKeys,
    Input,
    List,
    MetadataKey,
    MaxSize,
    Metadata,
    MinimizeWrites,
    NoMinimizeWrites,
    Numeric,
    Output,
    PublicKeyFile,
    PrivateKey,
    PrivateKeyFile,
    ProgressLow,
    ProgressHigh,
    PublicKey,
    Quiet,
    RebootParamPath,
    Sign,
    SparseCheck,
    SparseCheckSize,
    Task,
    Unmount,
    NoUnmount,
    Unsafe,
    Verbose,
    Verify,
    VerifyWrites,
    NoVerifyWrites,
    Version,
    Help,
    Yes,
    FindCard,
    Level(u32),
}

const fn spec(short: u8, long: Option<&'static str>, argument: bool, meaning: Meaning) -> Spec<Meaning> {
    Spec { short: if short == 0 { None } else { Some(short) }, long, argument, meaning }
}

const SPECS: &[Spec<Meaning>] = &[
    spec(b'a', Some("apply"), false, Meaning::Apply),
    spec(b'c', Some("create"), false, Meaning::Create),
    spec(b'd', None, true, Meaning::Destination),
    spec(b'D', Some("detect"), false, Meaning::Detect),
    spec(b'E', Some("eject"), false, Meaning::Eject),
    spec(0, Some("no-eject"), false, Meaning::Eject),
    spec(0, Some("enable-trim"), false, Meaning::EnableTrim),
    spec(0, Some("exit-handshake"), false, Meaning::ExitHandshake),
    spec(b'f', None, true, Meaning::Config),
    spec(b'F', Some("framing"), false, Meaning::Framing),
    spec(b'g', Some("gen-keys"), false, Meaning::GenKeys),
    spec(b'i', None, true, Meaning::Input),
    spec(b'l', Some("list"), false, Meaning::List),
    spec(0, Some("metadata-key"), true, Meaning::MetadataKey),
    spec(0, Some("max-size"), true, Meaning::MaxSize),
    spec(b'm', Some("metadata"), false, Meaning::Metadata),
    spec(0, Some("minimize-writes"), false, Meaning::MinimizeWrites),
    spec(0, Some("no-minimize-writes"), false, Meaning::NoMinimizeWrites),
    spec(b'n', None, false, Meaning::Numeric),
    spec(b'o', None, true, Meaning::Output),
    spec(b'p', Some("public-key-file"), true, Meaning::PublicKeyFile),
    spec(0, Some("private-key"), true, Meaning::PrivateKey),
    spec(b's', Some("private-key-file"), true, Meaning::PrivateKeyFile),
    spec(0, Some("progress-low"), true, Meaning::ProgressLow),
    spec(0, Some("progress-high"), true, Meaning::ProgressHigh),
    spec(0, Some("public-key"), true, Meaning::PublicKey),
    spec(b'q', Some("quiet"), false, Meaning::Quiet),
    spec(0, Some("reboot-param-path"), true, Meaning::RebootParamPath),
    spec(b'S', Some("sign"), false, Meaning::Sign),
    spec(0, Some("sparse-check"), true, Meaning::SparseCheck),
    spec(0, Some("sparse-check-size"), true, Meaning::SparseCheckSize),
    spec(b't', Some("task"), true, Meaning::Task),
    spec(b'u', Some("unmount"), false, Meaning::Unmount),
    spec(b'U', Some("no-unmount"), false, Meaning::NoUnmount),
    spec(0, Some("unsafe"), false, Meaning::Unsafe),
    spec(b'v', Some("verbose"), false, Meaning::Verbose),
    spec(b'V', Some("verify"), false, Meaning::Verify),
    spec(0, Some("verify-writes"), false, Meaning::VerifyWrites),
    spec(0, Some("no-verify-writes"), false, Meaning::NoVerifyWrites),
    spec(0, Some("version"), false, Meaning::Version),
    spec(b'h', Some("help"), false, Meaning::Help),
    spec(b'y', None, false, Meaning::Yes),
    spec(b'z', None, false, Meaning::FindCard),
    spec(b'1', None, false, Meaning::Level(1)),
    spec(b'2', None, false, Meaning::Level(2)),
    spec(b'3', None, false, Meaning::Level(3)),
    spec(b'4', None, false, Meaning::Level(4)),
    spec(b'5', None, false, Meaning::Level(5)),
    spec(b'6', None, false, Meaning::Level(6)),
    spec(b'7', None, false, Meaning::Level(7)),
    spec(b'8', None, false, Meaning::Level(8)),
    spec(b'9', None, false, Meaning::Level(9)),
];

/// The variables of the process's environment.
pub(crate) fn environment() -> Variables {
    Arc::new(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
}

/// Says whether the command was called by the name of the original.
pub(crate) fn is_original(name: &str) -> bool {
    Path::new(name).file_name().is_some_and(|name| name == ORIGINAL)
}

/// Reads the command line. Keys are loaded, and what acts at once is done, in the order given. `name` is what the
/// command was called by, which stands in front of what the C library's `getopt` says.
pub(crate) fn parse(name: &str, arguments: &[OsString], output: &mut Output) -> Result<Parsed, Failure> {
    let mut reading = Reading::default();
    let as_fwup = is_original(name);
    reading.options.as_fwup = as_fwup;
    let mut getopt = Getopt::new(SPECS, arguments);
    while let Some(item) = getopt.next() {
        match item {
            Ok(Item::Operand(operand)) => reading.operands.push(operand),
            Ok(Item::Option(Meaning::Version, _)) => {
                output.at_exit(if as_fwup { VERSION } else { VERSION_AND_NAME });
                return Ok(Parsed::Done);
            }
            Ok(Item::Option(Meaning::Help, _)) => {
                output.at_exit(usage::text(as_fwup));
                return Ok(Parsed::Done);
            }
            Ok(Item::Option(Meaning::Detect, _)) => {
                detect::print_all(output);
                return Ok(Parsed::Done);
            }
            Ok(Item::Option(Meaning::FindCard, _)) => {
                detect::print_one(output)?;
                return Ok(Parsed::Done);
            }
            Ok(Item::Option(meaning, value)) => reading.take(meaning, value, output)?,
            Err(text) => {
                complain(&format!("{name}: {text}"));
                output.at_exit(usage::text(as_fwup));
                return Err(Failure::told());
            }
        }
    }
    reading.finish().map(|options| Parsed::Run(Box::new(options)))
}

/// The command line while it is read.
#[derive(Default)]
struct Reading {
    command: Option<Command>,
    operands: Vec<OsString>,
    /// Something was given that does not go with easy mode.
    not_easy: bool,
    options: Options,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            command: Command::Apply,
            as_fwup: false,
            input: None,
            output: None,
            configuration: None,
            private_key: None,
            level: LEVEL_DEFAULT,
            destination: None,
            task: None,
            public_keys: Vec::new(),
            metadata_key: None,
            numeric: false,
            quiet: false,
            framing: false,
            unmount: true,
            yes: false,
            sparse_check: None,
            sparse_check_size: SPARSE_CHECK_SIZE,
            progress_low: 0,
            progress_high: 100,
            verify_writes: None,
            minimize_writes: false,
            enable_trim: false,
            max_blocks: None,
            unsafe_allowed: false,
            reboot_param_path: None,
        }
    }
}

impl Reading {
    fn take(&mut self, meaning: Meaning, value: OsString, output: &mut Output) -> Result<(), Failure> {
        let options = &mut self.options;
        match meaning {
            Meaning::Apply => self.command(Command::Apply),
            Meaning::Create => self.command(Command::Create),
            Meaning::GenKeys => self.command(Command::GenKeys),
            Meaning::List => self.command(Command::List),
            Meaning::Metadata => self.command(Command::Metadata),
            Meaning::Sign => self.command(Command::Sign),
            Meaning::SparseCheck => {
                options.sparse_check = Some(value);
                self.command(Command::SparseCheck);
            }
            Meaning::Level(level) => options.level = level,
            Meaning::SparseCheckSize => options.sparse_check_size = number(&value),
            Meaning::Verify => self.command(Command::Verify),
            Meaning::Destination => options.destination = Some(value),
            Meaning::Input => {
                options.input = Some(value);
                self.not_easy = true;
            }
            Meaning::Framing => {
                options.framing = true;
                output.framing = true;
                self.not_easy = true;
            }
            Meaning::Config => {
                options.configuration = Some(value);
                self.not_easy = true;
            }
            Meaning::Output => {
                options.output = Some(value);
                self.not_easy = true;
            }
            Meaning::PrivateKey => {
                options.private_key = Some(keys::private_from_text(&value)?);
                self.not_easy = true;
            }
            Meaning::PrivateKeyFile => {
                options.private_key = Some(keys::private_from_file(&value)?);
                self.not_easy = true;
            }
            Meaning::PublicKeyFile => {
                let key = keys::public_from_file(&value)?;
                self.add_key(key, output);
                self.not_easy = true;
            }
            Meaning::PublicKey => {
                let key = value.to_str().and_then(|text| PublicKey::from_text(text).ok());
                let key = key.ok_or_else(|| Failure::new("Error decoding public key"))?;
                self.add_key(key, output);
            }
            Meaning::Task => options.task = Some(value.to_string_lossy().into_owned()),
            Meaning::MetadataKey => options.metadata_key = Some(value.to_string_lossy().into_owned()),
            Meaning::Numeric => options.numeric = true,
            Meaning::Quiet => options.quiet = true,
            Meaning::ProgressLow => options.progress_low = number(&value),
            Meaning::ProgressHigh => options.progress_high = number(&value),
            Meaning::MaxSize => {
                let text = value.to_string_lossy();
                if text.trim_start().starts_with('-') {
                    let blocks = "--max-size takes a number of 512-byte blocks, 0 for no limit";
                    return Err(Failure::new(format!("{blocks}, and not '{text}'")));
                }
                options.max_blocks = Some(number(&value)).filter(|blocks: &u64| *blocks > 0);
            }
            Meaning::ExitHandshake => output.exit_handshake = true,
            Meaning::Verbose => output.verbose = true,
            Meaning::Unmount => options.unmount = true,
            Meaning::NoUnmount => options.unmount = false,
            Meaning::VerifyWrites => options.verify_writes = Some(true),
            Meaning::NoVerifyWrites => options.verify_writes = Some(false),
            Meaning::MinimizeWrites => options.minimize_writes = true,
            Meaning::NoMinimizeWrites => options.minimize_writes = false,
            Meaning::EnableTrim => options.enable_trim = true,
            Meaning::Unsafe => options.unsafe_allowed = true,
            Meaning::RebootParamPath => options.reboot_param_path = Some(value),
            Meaning::Yes => options.yes = true,
            // No effect on this system or without the command they go with, or done already.
            Meaning::Eject | Meaning::Detect | Meaning::FindCard | Meaning::Version | Meaning::Help => {}
        }
        Ok(())
    }

    fn command(&mut self, command: Command) {
        self.command = Some(command);
        self.not_easy = true;
    }

    fn add_key(&mut self, key: PublicKey, output: &mut Output) {
        if self.options.public_keys.len() < PUBLIC_KEYS {
            self.options.public_keys.push(key);
        } else {
            output.message(&format!("Ignoring public key since only {PUBLIC_KEYS} supported"));
        }
    }

    fn finish(self) -> Result<Options, Failure> {
        let Self { command, operands, not_easy, mut options } = self;
        let command = match (command, operands.as_slice()) {
            (None, [file]) if !not_easy => {
                options.input = Some(file.clone());
                options.task.get_or_insert_with(|| EASY_TASK.to_owned());
                Some(Command::Apply)
            }
            (_, [operand, ..]) => {
                let text = format!("unexpected parameter: {}", operand.to_string_lossy());
                return Err(Failure::new(text));
            }
            (command, []) => command,
        };
        if options.numeric && options.quiet {
            return Err(Failure::new("pick either -n or -q, but not both"));
        }
        match command {
            Some(command) => Ok(Options { command, ..options }),
            None => Err(Failure::new("specify one of -a, -c, -l, -m, -S, -V, or -z")),
        }
    }
}

/// A number as C's `strtol` with base 0 reads it; 0 when there is none or it does not fit.
fn number<N: TryFrom<i64> + Default>(text: &OsStr) -> N {
    let text = text.to_string_lossy();
    N::try_from(fwup_stream::manifest::leading_number(&text)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_text_names_every_option() {
        let words: Vec<_> = usage::ORIGINAL.split(|c: char| c.is_whitespace() || c == ',').collect();
        let own: Vec<_> = usage::OWN.split(|c: char| c.is_whitespace() || c == ',').collect();
        let page = include_str!("../../../man/fwup-stream.1").replace("\\-", "-").replace('"', " ");
        let page: Vec<_> = page.split(|c: char| c.is_whitespace() || c == ',').collect();
        // Who reads it knows how to ask for it.
        for spec in SPECS.iter().filter(|spec| spec.meaning != Meaning::Help) {
            // The levels between the lowest and the highest go without saying.
            let short = spec.short.filter(|letter| !(b'2'..=b'8').contains(letter));
            let names = [
                short.map(|letter| format!("-{}", char::from(letter))),
                spec.long.map(|long| format!("--{long}")),
            ];
            for name in names.into_iter().flatten() {
                assert!(words.contains(&name.as_str()), "{name}");
                assert!(own.contains(&name.as_str()), "{name}");
                assert!(page.contains(&name.as_str()), "{name} is not in the man page");
            }
        }
    }
}
