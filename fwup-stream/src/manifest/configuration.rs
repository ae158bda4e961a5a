//! Reading the configuration (`fwup.conf`) an archive is made from (fw-format §3 and §19.4).

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::creation_check;
use super::lexer::Lexer;
use super::metadata::{NICKNAME_VARIABLE, UUID_VARIABLE};
use super::number;
use super::parser::Parser;
use super::print;
use super::section::{Section, Value};
use super::variables::Variables;
use crate::limits::{CONFIGURATION_BYTES, INCLUDE_DEPTH, INCLUDES, MANIFEST_MAX, MANIFEST_MIN};

/// Bytes of a block, the unit of size assertions.
const BLOCK: i64 = 512;
/// The name the reference has for standard input in messages.
const STDIN_NAME: &str = "FILE";

/// Why a configuration cannot be used. Displays as the reference's error text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigurationError {
    /// The file cannot be opened.
    #[error("Error opening configuration file '{0}'")]
    Open(String),
    /// The text breaks the language's rules, or says something that cannot be. The reference also prints
    /// `detail` to its standard error.
    #[error("Error parsing configuration {}", source_name(.file.as_deref()))]
    Syntax {
        /// The file; `None` for standard input.
        file: Option<String>,
        /// What is wrong and where: `FILE:LINE: TEXT`.
        detail: String,
    },
    /// A section's title cannot stand in a manifest, where titles are not escaped.
    #[error(
        "the name '{title}' of a {kind} section has a quote or backslash in it, which meta.conf can't hold; use \
         another name"
    )]
    Title {
        /// The section's kind.
        kind: &'static str,
        /// Its title.
        title: String,
    },
    /// The manifest would be too short or too long to be read again.
    #[error(
        "meta.conf would be {0} bytes long, but archives with less than {MANIFEST_MIN} or more than {MANIFEST_MAX} \
         bytes of it can't be applied; use fewer or shorter resources and tasks"
    )]
    ManifestSize(usize),
}

impl ConfigurationError {
    /// Returns the line the reference prints to its standard error besides the error text, if any.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::Syntax { detail, .. } => Some(detail),
            _ => None,
        }
    }
}

fn source_name(file: Option<&str>) -> String {
    file.map_or_else(|| "from stdin".to_owned(), |file| format!("file '{file}'"))
}

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Configuration {
    top: Section,
    defined: Vec<(String, String)>,
}

/// Where the data of a resource come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceSource {
    /// The resource's name.
    pub name: String,
    /// Files of this system joined by `;`, relative to the current folder; `None` when there are `contents`.
    pub host_path: Option<String>,
    /// The data themselves.
    pub contents: Option<String>,
    /// Look for holes in the files.
    pub skip_holes: bool,
    /// Most bytes allowed, holes included.
    pub size_at_most: Option<u64>,
    /// Fewest bytes allowed, holes included.
    pub size_at_least: Option<u64>,
}

impl Configuration {
    /// Reads a configuration file and what it includes. `variables` answers `${NAME}`.
    pub fn read(file: &Path, variables: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigurationError> {
        let name = file.to_string_lossy().into_owned();
        let text = read_all(file).map_err(|_| ConfigurationError::Open(name.clone()))?;
        Self::parse_as(&text, Some(name), variables)
    }

    /// Reads a configuration that comes from elsewhere. What it includes and refers to is relative to the
    /// current folder.
    pub fn parse(
        text: &[u8],
        variables: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigurationError> {
        Self::parse_as(text, None, variables)
    }

    fn parse_as(
        text: &[u8],
        file: Option<String>,
        variables: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigurationError> {
        let mut own = Variables::new(variables);
        // They follow from what is made here, so they pass unexpanded into the manifest.
        own.set(UUID_VARIABLE, format!("${{{UUID_VARIABLE}}}"));
        own.set(NICKNAME_VARIABLE, format!("${{{NICKNAME_VARIABLE}}}"));
        let name = file.clone().unwrap_or_else(|| STDIN_NAME.to_owned());
        let too_long = |size: usize| ConfigurationError::Syntax {
            file: file.clone(),
            detail: format!("{name}:1: {size} bytes are more than the {CONFIGURATION_BYTES} allowed"),
        };
        if text.len() > CONFIGURATION_BYTES {
            return Err(too_long(text.len()));
        }
        let mut parser = Parser::new(Lexer::new(text, own), Some(Creation::new(name.clone(), text.len())));
        let mut top = Section::default();
        if let Err(wrong) = parser.top(&mut top) {
            let place = parser.creation.and_then(|creation| creation.failed_at);
            let place = place.unwrap_or_else(|| format!("{name}:{}", parser.lexer.line()));
            return Err(ConfigurationError::Syntax { file, detail: format!("{place}: {wrong}") });
        }
        Ok(Self { top, defined: parser.lexer.variables.into_defined() })
    }

    /// Returns the value of a variable the configuration defines.
    pub fn defined(&self, name: &str) -> Option<&str> {
        self.defined.iter().find(|(defined, _)| defined == name).map(|(_, value)| value.as_str())
    }

    /// Returns where the data of the resources come from, in the order of the text.
    pub fn resources(&self) -> Vec<ResourceSource> {
        self.top.all("file-resource").map(resource_source).collect()
    }

    /// Sets what the manifest says about a resource: bytes of data and hole in turn, and the digest as hex
    /// digits. Returns whether there is such a resource.
    pub fn describe(&mut self, resource: &str, lengths: Vec<u64>, digest: String) -> bool {
        let Some(section) = self.top.find_mut("file-resource", resource) else { return false };
        section.set("length", Value::Lengths(lengths));
        section.set("blake2b-256", Value::Text(digest));
        true
    }

    /// Returns the manifest: the text of `meta.conf`.
    pub fn to_manifest(&self) -> Result<String, ConfigurationError> {
        let text = print::print(&self.top)
            .map_err(|(kind, title)| ConfigurationError::Title { kind, title: title.to_owned() })?;
        if text.len() < MANIFEST_MIN || text.len() > MANIFEST_MAX {
            return Err(ConfigurationError::ManifestSize(text.len()));
        }
        Ok(text)
    }
}

fn resource_source(section: &Section) -> ResourceSource {
    let limit = |name| {
        let blocks = section.integer(name).filter(|blocks| *blocks >= 0)?;
        // A limit that bytes cannot count is none that a file could break.
        u64::try_from(blocks.saturating_mul(BLOCK)).ok()
    };
    ResourceSource {
        name: section.title.clone(),
        host_path: section.text("host-path"),
        contents: section.text("contents"),
        skip_holes: section.boolean("skip-holes"),
        size_at_most: limit("assert-size-lte"),
        size_at_least: limit("assert-size-gte"),
    }
}

/// What is known of the configuration while it is read.
#[derive(Debug)]
pub(super) struct Creation {
    /// The file being read, and the places in the files that include it.
    file: String,
    outer: Vec<(String, usize)>,
    /// Files included and bytes read so far.
    includes: usize,
    bytes: usize,
    /// Kinds and titles of the sections so far, for references.
    known: Vec<(&'static str, String)>,
    /// Where in an included file reading failed.
    failed_at: Option<String>,
}

impl Creation {
    fn new(file: String, bytes: usize) -> Self {
        Self { file, outer: Vec::new(), includes: 0, bytes, known: Vec::new(), failed_at: None }
    }

    /// Tells whether there is a section of that kind and title so far.
    pub(super) fn knows(&self, kind: &str, title: &str) -> bool {
        self.known.iter().any(|(other, name)| *other == kind && name == title)
    }

    /// Returns a path of this system as seen from the current folder: it was meant relative to the present
    /// file.
    pub(super) fn joined(&self, path: &str) -> String {
        match self.file.rsplit_once('/') {
            Some((folder, _)) if !path.starts_with(['/', '~']) => format!("{folder}/{path}"),
            _ => path.to_owned(),
        }
    }

    /// Goes into an included file and returns its text; `line` is where it is included.
    pub(super) fn enter(&mut self, args: &[String], line: usize) -> Result<Vec<u8>, String> {
        let [name] = args else {
            return Err("wrong number of arguments to cfg_include()".to_owned());
        };
        if name.is_empty() {
            return Err("Cannot include the contents of an undefined variable".to_owned());
        }
        let path = self.joined(name);
        let Ok(metadata) = std::fs::metadata(&path) else {
            return Err(format!("Cannot include '{path}': File not found"));
        };
        if !metadata.is_file() {
            return Err(format!("Cannot include '{path}': Not a regular file"));
        }
        self.includes += 1;
        if self.outer.len() >= INCLUDE_DEPTH || self.includes > INCLUDES {
            return Err("includes nested too deeply".to_owned());
        }
        let text = read_all(Path::new(&path)).map_err(|error| format!("{path}: {error}"))?;
        self.bytes = self.bytes.saturating_add(text.len());
        if self.bytes > CONFIGURATION_BYTES {
            return Err(format!("Cannot include '{path}': more than {CONFIGURATION_BYTES} bytes in all"));
        }
        let outer = std::mem::replace(&mut self.file, path);
        self.outer.push((outer, line));
        Ok(text)
    }

    /// Comes back from an included file, at whose line `line` reading ended.
    pub(super) fn leave(&mut self, line: usize, failed: bool) {
        if failed && self.failed_at.is_none() {
            self.failed_at = Some(format!("{}:{line}", self.file));
        }
        let outer = self.outer.pop();
        debug_assert!(outer.is_some(), "left a file that was not entered");
        if let Some((file, _)) = outer {
            self.file = file;
        }
    }

    /// Checks a complete titled section, and completes what the manifest says.
    pub(super) fn finish_section(
        &mut self,
        kind: &'static str,
        section: &mut Section,
        variables: &mut Variables<'_>,
    ) -> Result<(), String> {
        creation_check::section(self, kind, section)?;
        if kind == "file-resource"
            && let Some(path) = section.text("host-path")
        {
            // Unlike everything else relative to the current folder only, and only a single file.
            if let Some(size) = std::fs::metadata(&path).ok().filter(std::fs::Metadata::is_file) {
                let name = section.title.replace(['-', '/', '.'], "_");
                variables.set(&format!("FWUP_SIZE_{name}"), size.len().to_string());
            }
            let parts: Vec<_> = path
                .split(';')
                .map(|part| if part.is_empty() { String::new() } else { self.joined(part) })
                .collect();
            section.set("host-path", Value::Text(parts.join(";")));
        }
        self.known.push((kind, section.title.clone()));
        Ok(())
    }

    /// Checks a call's references, and completes its arguments. `resource` is the title of the section.
    pub(super) fn check_call(
        &self,
        name: &str,
        args: &mut Vec<String>,
        resource: &str,
    ) -> Result<(), String> {
        creation_check::references(self, name, args)?;
        if name == "fat_write" && args.len() == 1 {
            args.push(resource.to_owned());
        }
        Ok(())
    }
}

/// Reads a file up to what a configuration may have, and one byte more.
fn read_all(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let most = u64::try_from(CONFIGURATION_BYTES).unwrap_or(u64::MAX);
    File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut text)?;
    Ok(text)
}

/// Reads a number of a partition table that stands as text.
pub(super) fn whole_number(text: &str) -> Option<i64> {
    match number::parse(text) {
        (value, "", true) if !text.is_empty() => Some(value),
        _ => None,
    }
}
