//! Making an archive from a configuration (fw-format §19.4).

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use super::deflate::deflate;
use super::error::{CreateError, entry_name};
use super::keys::PrivateKey;
use super::output::OutputFile;
use super::resource::Resource;
use super::time::{dos_time, manifest_time};
use crate::archive::{ArchiveWriter, EntryHeader, EntryTotals};
use crate::internal::Internal;
use crate::manifest::{Configuration, Manifest};
use crate::options::Variables;
use crate::task;
use crate::trust::{Blake2b256, SIGNATURE_LENGTH, to_hex};

/// The level of compression when none is asked for: the most.
const LEVEL_DEFAULT: u32 = 9;

/// Makes archives.
///
/// ```
/// use fwup_stream::Verifier;
/// use fwup_stream::create::{Builder, KeyPair};
/// use fwup_stream::manifest::Configuration;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let keys = KeyPair::generate()?;
/// let configuration = Configuration::parse(
///     br#"
///     meta-product = "Lamp"
///     meta-version = "1.0.0"
///     file-resource "hello" { contents = "Hello!" }
///     task "complete" { on-resource "hello" { raw_write(0) } }
///     "#,
///     &|_| None,
/// )?;
/// let archive = Builder::new().signing_key(keys.private).create(configuration, Vec::new())?;
///
/// let mut verifier = Verifier::new(vec![keys.public], Verifier::no_variables(), None);
/// verifier.push(&archive)?;
/// assert_eq!(verifier.finish()?.to_string(), "Valid archive with a good signature");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Builder {
    level: u32,
    key: Option<PrivateKey>,
    variables: Variables,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("level", &self.level).field("key", &self.key).finish_non_exhaustive()
    }
}

impl Builder {
    /// Begins with the highest level of compression, no signature, and the present time.
    pub fn new() -> Self {
        Self { level: LEVEL_DEFAULT, key: None, variables: Arc::new(|_| None) }
    }

    /// Sets the level of compression, from 1 (fast) to 9 (small). Anything else counts as the nearest.
    #[must_use]
    pub fn level(self, level: u32) -> Self {
        Self { level: level.clamp(1, 9), ..self }
    }

    /// Signs the archive.
    #[must_use]
    pub fn signing_key(self, key: PrivateKey) -> Self {
        Self { key: Some(key), ..self }
    }

    /// Sets what answers `SOURCE_DATE_EPOCH`, `NOW` and `TZ`, which decide the archive's time where the
    /// configuration does not. The answers to `${NAME}` are given when the configuration is read.
    #[must_use]
    pub fn variables(self, variables: Variables) -> Self {
        Self { variables, ..self }
    }

    /// Makes an archive and returns what it was written to.
    pub fn create<W: Write>(&self, configuration: Configuration, out: W) -> Result<W, CreateError> {
        let prepared = Prepared::new(configuration)?;
        prepared.write(self, out)
    }

    /// Makes an archive in a file. Until it is complete it has another name, where that can be; a file that
    /// was there before stays if anything fails.
    pub fn create_file(&self, configuration: Configuration, path: &Path) -> Result<(), CreateError> {
        let prepared = Prepared::new(configuration)?;
        let out = OutputFile::create(path, None)?;
        prepared.write(self, out)?.keep()
    }
}

/// All that goes into the archive.
struct Prepared {
    configuration: Configuration,
    manifest: String,
    resources: Vec<Resource>,
}

impl Prepared {
    fn new(mut configuration: Configuration) -> Result<Self, CreateError> {
        let resources = configuration.resources().into_iter().map(Resource::measure);
        let resources = resources.collect::<Result<Vec<_>, _>>()?;
        for resource in &resources {
            let (name, lengths) = (&resource.source.name, resource.lengths.clone());
            if !configuration.describe(name, lengths, resource.digest.clone()) {
                return Err(Internal::new("a resource of the configuration is not in it").into());
            }
        }
        let manifest = configuration.to_manifest()?;
        check(&manifest)?;
        Ok(Self { configuration, manifest, resources })
    }

    fn write<W: Write>(&self, builder: &Builder, out: W) -> Result<W, CreateError> {
        let mut names = Vec::new();
        for resource in &self.resources {
            resource.check_size()?;
            names.push(entry_name(&resource.source.name)?);
        }
        let variables = |name: &str| {
            let defined = self.configuration.defined(name).map(str::to_owned);
            defined.or_else(|| (builder.variables)(name))
        };
        let mut archive = ArchiveWriter::new(out);
        let text = self.manifest.as_bytes();
        write_start(&mut archive, text, builder.key.as_ref(), builder.level, &variables)?;
        for (resource, name) in self.resources.iter().zip(names) {
            let size = resource.data_length();
            let header = EntryHeader { name, size, deflated: true, mtime: None };
            archive.entry(header, |out| {
                let mut data = resource.data();
                let mut digest = Blake2b256::new();
                let read = |buffer: &mut [u8]| {
                    let count = data.read(buffer)?;
                    let (read, _) = buffer.split_at(count);
                    digest.update(read);
                    Ok::<_, CreateError>(count)
                };
                let totals = deflate(size, builder.level, read, out)?;
                if to_hex(&digest.finalize()) == resource.digest {
                    Ok(totals)
                } else {
                    Err(CreateError::Changed(resource.source.name.clone()))
                }
            })?;
        }
        Ok(archive.finish()?)
    }
}

/// Reads the manifest as whoever applies the archive will, and looks through its tasks: what can be made can be
/// applied. What depends on a variable of the device is known only there and stays as it is.
fn check(manifest: &str) -> Result<(), CreateError> {
    let unknown = |name: &str| Some(format!("${{{name}}}"));
    let read = Manifest::parse(manifest.as_bytes(), &unknown).map_err(|error| {
        CreateError::Unreadable(error.detail().map_or_else(|| error.to_string(), str::to_owned))
    })?;
    for task in &read.tasks {
        task::check(&read, task)
            .map_err(|error| CreateError::Task { task: task.name.clone(), error: Box::new(error) })?;
    }
    Ok(())
}

/// Writes the signature, when there is a key, and the manifest.
pub(super) fn write_start<W: Write>(
    archive: &mut ArchiveWriter<W>,
    manifest: &[u8],
    key: Option<&PrivateKey>,
    level: u32,
    variables: &dyn Fn(&str) -> Option<String>,
) -> Result<(), CreateError> {
    if let Some(key) = key {
        let signature = key.sign(manifest);
        let size = SIGNATURE_LENGTH as u64;
        let header = EntryHeader { name: "meta.conf.ed25519".to_owned(), size, deflated: false, mtime: None };
        archive.entry(header, |out| {
            out.write_all(&signature)?;
            Ok::<_, CreateError>(EntryTotals { crc: crc32fast::hash(&signature), compressed: size })
        })?;
    }
    let seconds = manifest_time(variables);
    let header = EntryHeader {
        name: "meta.conf".to_owned(),
        size: manifest.len() as u64,
        deflated: true,
        mtime: Some((seconds, dos_time(seconds, variables))),
    };
    let mut left = manifest;
    let read = |buffer: &mut [u8]| Ok::<_, CreateError>(std::io::Read::read(&mut left, buffer)?);
    archive.entry(header, |out| deflate(manifest.len() as u64, level, read, out))
}
