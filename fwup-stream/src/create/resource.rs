//! The data of resources: files of this system, with or without their holes, or text of the configuration.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use rustix::fs::SeekFrom as Place;

use super::error::CreateError;
use crate::lengths::smaller;
use crate::limits::SPARSE_PIECES;
use crate::manifest::ResourceSource;
use crate::trust::{Blake2b256, to_hex};

/// Bytes read at once to compute a digest.
const PIECE: usize = 256 * 1024;

/// A resource, measured.
#[derive(Debug)]
pub(super) struct Resource {
    pub(super) source: ResourceSource,
    /// Bytes of data and of hole in turn.
    pub(super) lengths: Vec<u64>,
    /// The digest of the data, as hex digits.
    pub(super) digest: String,
    parts: Vec<Part>,
}

/// Where a run of data comes from.
#[derive(Clone, Debug)]
enum Part {
    Text(String),
    File { path: String, offset: u64, length: u64 },
}

impl Resource {
    /// Finds out how long the data are and computes their digest.
    pub(super) fn measure(source: ResourceSource) -> Result<Self, CreateError> {
        let mut lengths = Vec::new();
        let mut parts = Vec::new();
        match (&source.host_path, &source.contents) {
            (Some(paths), _) if paths.is_empty() => return Err(CreateError::NoPath(source.name)),
            (Some(paths), _) => {
                for path in paths.split(';').filter(|path| !path.is_empty()) {
                    measure_file(&source, path, &mut lengths, &mut parts)?;
                }
            }
            // The configuration was refused if it had neither; an empty text is one.
            (None, text) => {
                let text = text.clone().unwrap_or_default();
                lengths.push(text.len() as u64);
                parts.push(Part::Text(text));
            }
        }
        let mut resource = Self { source, lengths, digest: String::new(), parts };
        let mut data = resource.data();
        let mut buffer = vec![0; PIECE];
        let mut digest = Blake2b256::new();
        let mut left = resource.data_length();
        while left > 0 {
            let (room, _) = buffer.split_at_mut(smaller(left, PIECE));
            let count = data.read(room)?;
            if count == 0 {
                return Err(CreateError::Changed(resource.source.name));
            }
            let (read, _) = room.split_at(count);
            digest.update(read);
            left -= count as u64;
        }
        let digest = to_hex(&digest.finalize());
        resource.digest = digest;
        Ok(resource)
    }

    /// Bytes of data in the archive.
    pub(super) fn data_length(&self) -> u64 {
        self.lengths.iter().step_by(2).fold(0, |sum, length| sum.saturating_add(*length))
    }

    /// Reads the data from the start.
    pub(super) fn data(&self) -> Data<'_> {
        Data { resource: &self.source.name, parts: &self.parts, taken: 0, open: None }
    }

    /// Checks the size the configuration asserts.
    pub(super) fn check_size(&self) -> Result<(), CreateError> {
        let Some(paths) = &self.source.host_path else { return Ok(()) };
        let size = self.lengths.iter().fold(0_u64, |sum, length| sum.saturating_add(*length));
        let wrong = |relation, limit| CreateError::Size { paths: paths.clone(), size, relation, limit };
        match (self.source.size_at_least, self.source.size_at_most) {
            (Some(limit), _) if size < limit => Err(wrong(">=", limit)),
            (_, Some(limit)) if size > limit => Err(wrong("<=", limit)),
            _ => Ok(()),
        }
    }
}

/// Reads the data of a resource.
#[derive(Debug)]
pub(super) struct Data<'a> {
    resource: &'a str,
    parts: &'a [Part],
    /// Bytes taken of the first part.
    taken: u64,
    open: Option<File>,
}

impl Data<'_> {
    /// Reads some bytes; none at the end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, CreateError> {
        loop {
            let Some((part, rest)) = self.parts.split_first() else { return Ok(0) };
            let count = match part {
                Part::Text(text) => {
                    let (_, mut left) = text.as_bytes().split_at(smaller(self.taken, text.len()));
                    left.read(buffer)?
                }
                Part::File { path, offset, length } => {
                    let error = |source| read_error(self.resource, path, source);
                    let mut file = if let Some(file) = self.open.take() {
                        file
                    } else {
                        let mut file = open(self.resource, path)?;
                        file.seek(SeekFrom::Start(*offset)).map_err(error)?;
                        file
                    };
                    let left = length - self.taken;
                    let (room, _) = buffer.split_at_mut(smaller(left, buffer.len()));
                    let count = read(&mut file, room);
                    let count = count.map_err(error)?;
                    self.open = Some(file);
                    if count == 0 && left > 0 {
                        return Err(CreateError::Changed(self.resource.to_owned()));
                    }
                    count
                }
            };
            if count > 0 || buffer.is_empty() {
                self.taken += count as u64;
                return Ok(count);
            }
            self.parts = rest;
            self.taken = 0;
            self.open = None;
        }
    }
}

fn read(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

fn open(resource: &str, path: &str) -> Result<File, CreateError> {
    File::open(path).map_err(|_| CreateError::Open { path: path.to_owned(), resource: resource.to_owned() })
}

fn read_error(resource: &str, path: &str, source: io::Error) -> CreateError {
    CreateError::Read { path: path.to_owned(), resource: resource.to_owned(), source }
}

/// Adds a file to what a resource consists of.
fn measure_file(
    source: &ResourceSource,
    path: &str,
    lengths: &mut Vec<u64>,
    parts: &mut Vec<Part>,
) -> Result<(), CreateError> {
    let mut file = open(&source.name, path)?;
    let error = |source_error| read_error(&source.name, path, source_error);
    if file.metadata().map_err(error)?.is_dir() {
        return Err(error(io::Error::from(io::ErrorKind::IsADirectory)));
    }
    let size = file.seek(SeekFrom::End(0)).map_err(error)?;
    let mut offset = 0;
    // At the end of the list everything that is left counts as data, holes too.
    while source.skip_holes && lengths.len() < SPARSE_PIECES && offset < size {
        let (data, hole) = next_run(&file, offset, size).map_err(error)?;
        add(lengths, false, data);
        if data > 0 {
            parts.push(Part::File { path: path.to_owned(), offset, length: data });
        }
        if hole > 0 {
            add(lengths, true, hole);
        }
        offset += data + hole;
    }
    let rest = size - offset;
    if rest > 0 || lengths.is_empty() {
        add(lengths, false, rest);
        parts.push(Part::File { path: path.to_owned(), offset, length: rest });
    }
    Ok(())
}

/// Bytes of data from `offset` on, and of the hole behind them.
fn next_run(file: &File, offset: u64, size: u64) -> io::Result<(u64, u64)> {
    let seek = |place| match rustix::fs::seek(file, place) {
        Ok(place) => Ok(place.min(size)),
        // No more data: the hole goes on to the end.
        // Or a file system that knows nothing of holes.
        Err(rustix::io::Errno::NXIO | rustix::io::Errno::INVAL) => Ok(size),
        Err(error) => Err(io::Error::from(error)),
    };
    let hole = seek(Place::Hole(offset))?.max(offset);
    let data = if hole < size { seek(Place::Data(hole))?.max(hole) } else { size };
    Ok((hole - offset, data - hole))
}

/// Adds bytes of data or of hole to a list of both in turn.
fn add(lengths: &mut Vec<u64>, hole: bool, length: u64) {
    let last_is_hole = lengths.len().is_multiple_of(2);
    match lengths.last_mut() {
        Some(last) if last_is_hole == hole => *last = last.saturating_add(length),
        // A file that begins with data where the list ends in a hole, or the other way round.
        Some(_) if length > 0 => lengths.push(length),
        Some(_) => {}
        None if hole => lengths.extend([0, length]),
        None => lengths.push(length),
    }
}

#[cfg(test)]
mod tests {
    use super::add;

    #[test]
    fn lengths_join_what_is_alike() {
        let mut lengths = Vec::new();
        for (hole, length) in
            [(false, 0), (true, 5), (false, 0), (true, 6), (false, 7), (false, 8), (true, 9)]
        {
            add(&mut lengths, hole, length);
        }
        assert_eq!(lengths, [0, 11, 15, 9]);
        let mut lengths = Vec::new();
        add(&mut lengths, true, 3);
        assert_eq!(lengths, [0, 3]);
    }
}
