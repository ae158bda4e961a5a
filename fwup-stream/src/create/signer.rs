//! Signing an archive that is there already (fw-format §19.3).

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use flate2::{Decompress, FlushDecompress, Status};

use super::builder::write_start;
use super::deflate::deflate;
use super::directory::{self, DirectoryEntry};
use super::error::CreateError;
use super::keys::PrivateKey;
use super::output::{OutputFile, spool};
use crate::archive::{ArchiveWriter, EntryHeader, EntryTotals, FIXED_LENGTH, LocalHeader, le};
use crate::lengths::smaller;
use crate::limits::{ENTRY_NAME, MANIFEST_MAX, MANIFEST_MIN, SIGN_ENTRIES};
use crate::options::Variables;

const MANIFEST: &str = "meta.conf";
const SIGNATURE: &str = "meta.conf.ed25519";
const METHOD_STORED: u16 = 0;
const METHOD_DEFLATE: u16 = 8;
/// The level at which the manifest, and what was not compressed, is.
const LEVEL: u32 = 9;
/// Bytes read at once.
const PIECE: usize = 256 * 1024;

/// Signs archives. The resources are copied as they are compressed, so it takes no longer than copying.
///
/// ```
/// use std::io::Cursor;
///
/// use fwup_stream::Verifier;
/// use fwup_stream::create::{Builder, KeyPair, Signer};
/// use fwup_stream::manifest::Configuration;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let configuration = Configuration::parse(b"meta-product = \"Lamp\"", &|_| None)?;
/// let unsigned = Builder::new().create(configuration, Vec::new())?;
///
/// let keys = KeyPair::generate()?;
/// let signed = Signer::new(keys.private).sign(&mut Cursor::new(unsigned), Vec::new())?;
///
/// let mut verifier = Verifier::new(vec![keys.public], Verifier::no_variables(), None);
/// verifier.push(&signed)?;
/// assert_eq!(verifier.finish()?.to_string(), "Valid archive with a good signature");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Signer {
    key: PrivateKey,
    variables: Variables,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("key", &self.key).finish_non_exhaustive()
    }
}

/// An entry of the archive to sign.
struct Entry {
    name: String,
    method: u16,
    crc: u32,
    compressed: u64,
    uncompressed: u64,
    /// Where its data begin, and the entry behind them.
    data: u64,
    next: u64,
}

impl Signer {
    /// Begins with the key to sign with.
    pub fn new(key: PrivateKey) -> Self {
        Self { key, variables: Arc::new(|_| None) }
    }

    /// Sets what answers `SOURCE_DATE_EPOCH`, `NOW` and `TZ`, which decide the archive's time.
    #[must_use]
    pub fn variables(self, variables: Variables) -> Self {
        Self { variables, ..self }
    }

    /// Signs the archive in one file and puts the result into another, which may be the same.
    pub fn sign_file(&self, input: &Path, output: &Path) -> Result<(), CreateError> {
        let path = || input.to_string_lossy().into_owned();
        let mut file =
            File::open(input).map_err(|source| CreateError::OpenArchive { path: path(), source })?;
        let unreadable = |source| CreateError::ReadArchive { path: path(), source };
        if file.metadata().map_err(unreadable)?.is_dir() {
            return Err(unreadable(io::ErrorKind::IsADirectory.into()));
        }
        if file.stream_position().is_err() {
            file = spool(file, output)?;
        }
        let out = OutputFile::create(output, Some(&file))?;
        self.sign(&mut BufReader::new(file), out)?.keep()
    }

    /// Signs an archive and returns what it was written to. An old signature is dropped; the manifest's bytes
    /// stay as they are.
    pub fn sign<R: Read + Seek, W: Write>(&self, input: &mut R, out: W) -> Result<W, CreateError> {
        let directory = directory::read(input)?.ok_or_else(|| {
            damaged("it has no directory at its end, so something may be missing".to_owned())
        })?;
        let mut out = ArchiveWriter::new(out);
        let mut has_manifest = false;
        let mut at = 0;
        for count in 0.. {
            let Some(entry) = next_entry(input, at, &directory)? else { break };
            if count >= SIGN_ENTRIES {
                return Err(CreateError::Entries);
            }
            at = entry.next;
            match entry.name.as_str() {
                SIGNATURE => {}
                MANIFEST if has_manifest => return Err(CreateError::TwoManifests),
                MANIFEST => {
                    has_manifest = true;
                    let text = manifest(input, &entry)?;
                    write_start(&mut out, &text, Some(&self.key), LEVEL, &*self.variables)?;
                }
                _ if !has_manifest => return Err(CreateError::ManifestNotFirst),
                // No resource has such a name, and archives with folders in them are refused by some.
                name if name.ends_with('/') => {}
                _ => copy(input, entry, &mut out)?,
            }
        }
        if !has_manifest {
            return Err(CreateError::NoManifest);
        }
        Ok(out.finish()?)
    }
}

fn damaged(what: String) -> CreateError {
    CreateError::Damaged(what)
}

/// Finds the entry at a place; nothing where the entries end.
fn next_entry<R: Read + Seek>(
    input: &mut R,
    at: u64,
    directory: &[DirectoryEntry],
) -> Result<Option<Entry>, CreateError> {
    input.seek(SeekFrom::Start(at))?;
    let mut fixed = Vec::new();
    input.take(FIXED_LENGTH as u64).read_to_end(&mut fixed)?;
    match fixed.get(..4) {
        Some(b"PK\x03\x04") => {}
        // The directory, or its end when there are no entries.
        Some(b"PK\x01\x02" | b"PK\x05\x06" | b"PK\x06\x06") => return Ok(None),
        _ => return Err(damaged(format!("what stands at byte {at} is no entry"))),
    }
    let cut = || damaged(format!("the entry at byte {at} is cut"));
    let mut header = LocalHeader::parse(&fixed).ok_or_else(cut)?;
    let name = exactly(input, header.name_length, &cut)?;
    let extra = exactly(input, header.extra_length, &cut)?;
    header.read_extra(&extra).ok_or_else(|| damaged(format!("the header at byte {at} is malformed")))?;
    let name = Some(name).filter(|name| name.len() <= ENTRY_NAME && str::from_utf8(name).is_ok());
    let name = name.ok_or_else(|| damaged(format!("the entry at byte {at} has an unusable name")))?;
    // As whoever applies it reads it: names from DOS have other separators.
    let name = header.info(&name).name;
    if header.encrypted || ![METHOD_STORED, METHOD_DEFLATE].contains(&header.method) {
        return Err(damaged(format!("'{name}' is compressed or encrypted in a way no firmware is")));
    }
    let lengths = header.name_length as u64 + header.extra_length as u64;
    let data = at + FIXED_LENGTH as u64 + lengths;
    let listed = directory.binary_search_by_key(&at, |entry| entry.offset).ok();
    let listed = listed.and_then(|index| directory.get(index)).copied();
    let listed = listed.ok_or_else(|| damaged(format!("its directory has no '{name}'")))?;
    let mut next = data.checked_add(listed.compressed).ok_or_else(cut)?;
    if header.descriptor {
        input.seek(SeekFrom::Start(next))?;
        next += check_descriptor(input, header.zip64, listed).ok_or_else(|| disagree(&name))?;
    } else if (header.crc, header.compressed, header.uncompressed)
        != (listed.crc, listed.compressed, listed.uncompressed)
    {
        return Err(disagree(&name));
    }
    let DirectoryEntry { crc, compressed, uncompressed, .. } = listed;
    Ok(Some(Entry { name, method: header.method, crc, compressed, uncompressed, data, next }))
}

fn disagree(name: &str) -> CreateError {
    damaged(format!("the sizes or checksums of '{name}' disagree with each other"))
}

/// Compares the descriptor behind an entry's data with the directory and returns its length.
fn check_descriptor<R: Read>(input: &mut R, zip64: bool, listed: DirectoryEntry) -> Option<u64> {
    let size = if zip64 { 8 } else { 4 };
    let mut bytes = Vec::new();
    input.take(4 + 4 + 2 * size as u64).read_to_end(&mut bytes).ok()?;
    let expected = (u64::from(listed.crc), listed.compressed, listed.uncompressed);
    // The word in front is usual, but not a must.
    let starts = [4, 0].into_iter().filter(|start| *start == 0 || bytes.starts_with(b"PK\x07\x08"));
    for start in starts {
        let fields =
            (le(&bytes, start, 4)?, le(&bytes, start + 4, size)?, le(&bytes, start + 4 + size, size)?);
        if fields == expected {
            return Some((start + 4 + 2 * size) as u64);
        }
    }
    None
}

fn exactly<R: Read>(
    input: &mut R,
    length: usize,
    cut: &dyn Fn() -> CreateError,
) -> Result<Vec<u8>, CreateError> {
    let mut bytes = Vec::new();
    input.take(length as u64).read_to_end(&mut bytes)?;
    if bytes.len() == length { Ok(bytes) } else { Err(cut()) }
}

/// Reads the manifest.
fn manifest<R: Read + Seek>(input: &mut R, entry: &Entry) -> Result<Vec<u8>, CreateError> {
    input.seek(SeekFrom::Start(entry.data))?;
    let mut packed = Vec::new();
    // Nothing that deflates to an allowed manifest is longer than this.
    input.take(entry.compressed.min(2 * MANIFEST_MAX as u64)).read_to_end(&mut packed)?;
    let mut text = packed;
    if entry.method == METHOD_DEFLATE {
        let mut room = Vec::with_capacity(MANIFEST_MAX + 1);
        let status = Decompress::new(false).decompress_vec(&text, &mut room, FlushDecompress::Finish);
        if !matches!(status, Ok(Status::StreamEnd)) && room.len() <= MANIFEST_MAX {
            return Err(CreateError::ManifestSize(0));
        }
        text = room;
    }
    text.truncate(MANIFEST_MAX + 1);
    if text.len() < MANIFEST_MIN || text.len() > MANIFEST_MAX {
        return Err(CreateError::ManifestSize(text.len()));
    }
    if crc32fast::hash(&text) != entry.crc {
        return Err(CreateError::ManifestSize(0));
    }
    Ok(text)
}

/// Copies an entry. What was only stored is deflated, as everything in firmware is.
fn copy<R: Read + Seek, W: Write>(
    input: &mut R,
    entry: Entry,
    out: &mut ArchiveWriter<W>,
) -> Result<(), CreateError> {
    input.seek(SeekFrom::Start(entry.data))?;
    let Entry { name, crc, compressed, .. } = entry;
    let shown = name.clone();
    let header = EntryHeader { name, size: entry.uncompressed, deflated: true, mtime: None };
    if entry.method == METHOD_STORED {
        if compressed != entry.uncompressed {
            return Err(disagree(&shown));
        }
        return out.entry(header, |out| {
            let read = |buffer: &mut [u8]| Ok::<_, CreateError>(input.read(buffer)?);
            let totals = deflate(compressed, LEVEL, read, out)?;
            if totals.crc == crc { Ok(totals) } else { Err(disagree(&shown)) }
        });
    }
    out.entry(header, |out| {
        let mut buffer = vec![0; PIECE];
        let mut left = compressed;
        while left > 0 {
            let wanted = smaller(left, PIECE);
            let (piece, _) = buffer.split_at_mut(wanted);
            input.read_exact(piece).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => damaged(format!("'{shown}' is cut")),
                _ => error.into(),
            })?;
            out.write_all(piece)?;
            left -= wanted as u64;
        }
        Ok(EntryTotals { crc, compressed })
    })
}
