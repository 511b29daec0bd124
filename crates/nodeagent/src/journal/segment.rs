//! One file of the journal.
//!
//! ```text
//! header   0..8    "PICJRNL1"
//!          8       1 if this segment replaces all older ones, else 0
//!          9..16   zero
//!         16..24   the next sequence number when the segment was begun
//!         24..32   everything through here was acknowledged by then
//!         32..40   entries dropped by then
//!         40..44   CRC-32 of bytes 0..40
//!         44..48   zero
//! record   0..4    length of what follows the checksum
//!          4..8    CRC-32 of what follows
//!          8       kind: 1 entry, 2 critical entry, 3 dropped, 4 trimmed
//!          9..17   sequence number
//!         17..     the entry itself
//! ```
//! All numbers are little endian.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{Criticality, ENTRY_BYTES_MAX, Recovery, SEQUENCE_MAX};
use crate::durable;

pub(super) const HEADER_BYTES: usize = 48;
/// From the start of a record to its payload.
pub(super) const PAYLOAD_OFFSET: usize = 17;
const PREFIX_BYTES: usize = 8;
const MAGIC: [u8; 8] = *b"PICJRNL1";
/// Never written that large; a file that is was not written by us.
const SEGMENT_BYTES_MAX: u64 = 256 * 1024 * 1024;
const DAMAGED_SEGMENTS_KEPT_MAX: u32 = 3;
/// Counted up by one for each segment, from 1: a file with a greater number was not written by us.
const NUMBER_MAX: u64 = u64::MAX / 2;

/// What a segment knows of the time before it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) is_base: bool,
    pub(super) next_sequence: u64,
    pub(super) trimmed_through: u64,
    pub(super) dropped_total: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record<'a> {
    Entry { sequence: u64, criticality: Criticality, bytes: &'a [u8] },
    Dropped { sequence: u64 },
    Trimmed { through: u64 },
}

/// An open segment.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    file: File,
    length: u64,
    /// A failed write left bytes beyond `length`.
    dirty_tail: bool,
    pub(super) live_entries: usize,
}

impl Segment {
    /// Writes a whole segment; it is durable when this returns.
    pub(super) fn create(
        folder: &Path,
        number: u64,
        header: &Header,
        records: &[Record<'_>],
    ) -> io::Result<Self> {
        let path = folder.join(format!("{number:020}.journal"));
        let mut contents = encode_header(header).to_vec();
        for record in records {
            encode(record, &mut contents);
        }
        durable::replace(&path, &[&contents])?;
        let file = open_file(&path)?;
        Ok(Self { path, file, length: contents.len() as u64, dirty_tail: false, live_entries: 0 })
    }

    /// Opens a segment and reads it whole; `None` if it is none.
    pub(super) fn open(path: &Path) -> io::Result<Option<(Self, Header, Vec<u8>)>> {
        let file = open_file(path)?;
        let length = file.metadata()?.len();
        if length > SEGMENT_BYTES_MAX {
            return Ok(None);
        }
        let mut contents = Vec::new();
        (&file).read_to_end(&mut contents)?;
        let Some(header) = decode_header(&contents) else { return Ok(None) };
        let length = contents.len() as u64;
        let segment =
            Self { path: path.to_owned(), file, length, dirty_tail: false, live_entries: 0 };
        Ok(Some((segment, header, contents)))
    }

    /// Appends with one write. Returns offset and length of the payload.
    pub(super) fn append(&mut self, record: &Record<'_>) -> io::Result<(u64, u32)> {
        if self.dirty_tail {
            self.file.set_len(self.length)?;
            self.dirty_tail = false;
        }
        let mut bytes = Vec::new();
        encode(record, &mut bytes);
        if let Err(error) = self.file.write_all(&bytes) {
            // a full disk may have taken a part of it
            self.dirty_tail = self.file.set_len(self.length).is_err();
            return Err(error);
        }
        let payload = self.length + PAYLOAD_OFFSET as u64;
        self.length += bytes.len() as u64;
        Ok((payload, u32::try_from(bytes.len() - PAYLOAD_OFFSET).unwrap_or(0)))
    }

    pub(super) fn read_payload(&self, offset: u64, length: u32) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length as usize];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn delete(self) -> io::Result<()> {
        std::fs::remove_file(&self.path)?;
        durable::sync_folder_of(&self.path)
    }

    /// Cuts off what follows the last whole record of `contents`, which is this file's.
    pub(super) fn cut_torn_tail(&mut self, contents: &[u8]) -> io::Result<()> {
        let whole = Walk::new(contents).last().map_or(HEADER_BYTES, |(range, _)| range.end) as u64;
        if whole < self.length {
            self.file.set_len(whole)?;
            self.file.sync_data()?;
            self.length = whole;
        }
        Ok(())
    }
}

/// The segments in `folder`, oldest first. Leftovers of an interrupted creation are removed.
pub(super) fn find(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(number) = name.strip_suffix(".journal").and_then(|n| n.parse().ok()) {
            if number <= NUMBER_MAX {
                found.push((number, path));
            }
        } else if name.ends_with(".journal.new") {
            std::fs::remove_file(&path)?;
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Keeps a file that is no segment for somebody to look at.
pub(super) fn put_aside(path: &Path) -> io::Result<()> {
    durable::set_aside(path, DAMAGED_SEGMENTS_KEPT_MAX).map(drop)
}

/// The whole records of a segment, each with the offset of its payload.
pub(super) fn records<'a>(contents: &'a [u8], recovery: &mut Recovery) -> Vec<(u64, Record<'a>)> {
    let mut found = Vec::new();
    let mut end = HEADER_BYTES;
    for (range, record) in Walk::new(contents) {
        recovery.damaged_records += u64::from(record.is_none());
        if let Some(record) = record {
            found.push(((range.start + PAYLOAD_OFFSET) as u64, record));
        }
        end = range.end;
    }
    recovery.cut_bytes += (contents.len() - end.min(contents.len())) as u64;
    found
}

/// Goes from record to record. A damaged record is `None` if a whole one follows it directly;
/// otherwise the walk ends before it.
struct Walk<'a> {
    contents: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    fn new(contents: &'a [u8]) -> Self {
        Self { contents, at: HEADER_BYTES }
    }

    /// The range that the record at `at` claims, and the record if its checksum is right.
    fn look(&self, at: usize) -> Option<(std::ops::Range<usize>, Option<Record<'a>>)> {
        let rest = self.contents.get(at..)?;
        let length = u32_at(rest, 0)? as usize;
        if !(PAYLOAD_OFFSET - PREFIX_BYTES..=ENTRY_BYTES_MAX + PAYLOAD_OFFSET).contains(&length) {
            return None;
        }
        let body = rest.get(PREFIX_BYTES..PREFIX_BYTES + length)?;
        let whole = crc32fast::hash(body) == u32_at(rest, 4)?;
        let record = whole.then(|| decode(body)).flatten();
        Some((at..at + PREFIX_BYTES + length, record))
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = (std::ops::Range<usize>, Option<Record<'a>>);

    fn next(&mut self) -> Option<Self::Item> {
        let (range, record) = self.look(self.at)?;
        if record.is_none() {
            self.look(range.end).filter(|(_, following)| following.is_some())?;
        }
        self.at = range.end;
        Some((range, record))
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).mode(durable::FILE_MODE).open(path)
}

fn encode(record: &Record<'_>, out: &mut Vec<u8>) {
    let (kind, sequence, payload): (u8, u64, &[u8]) = match *record {
        Record::Entry { sequence, criticality: Criticality::Normal, bytes } => (1, sequence, bytes),
        Record::Entry { sequence, criticality: Criticality::Critical, bytes } => {
            (2, sequence, bytes)
        }
        Record::Dropped { sequence } => (3, sequence, &[]),
        Record::Trimmed { through } => (4, through, &[]),
    };
    let mut body = vec![kind];
    body.extend(sequence.to_le_bytes());
    body.extend(payload);
    out.extend(u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend(crc32fast::hash(&body).to_le_bytes());
    out.extend(body);
}

fn decode(body: &[u8]) -> Option<Record<'_>> {
    let sequence = u64_at(body, 1).filter(|sequence| *sequence <= SEQUENCE_MAX)?;
    let bytes = body.get(PAYLOAD_OFFSET - PREFIX_BYTES..)?;
    let entry = |criticality| Record::Entry { sequence, criticality, bytes };
    match body.first()? {
        1 => Some(entry(Criticality::Normal)),
        2 => Some(entry(Criticality::Critical)),
        3 => Some(Record::Dropped { sequence }),
        4 => Some(Record::Trimmed { through: sequence }),
        _ => None,
    }
}

fn encode_header(header: &Header) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    let fields = MAGIC
        .into_iter()
        .chain([u8::from(header.is_base)])
        .chain([0; 7])
        .chain(header.next_sequence.to_le_bytes())
        .chain(header.trimmed_through.to_le_bytes())
        .chain(header.dropped_total.to_le_bytes());
    for (place, byte) in bytes.iter_mut().zip(fields) {
        *place = byte;
    }
    let checksum = crc32fast::hash(&bytes[..40]).to_le_bytes();
    bytes[40..44].copy_from_slice(&checksum);
    bytes
}

fn decode_header(contents: &[u8]) -> Option<Header> {
    let bytes = contents.get(..HEADER_BYTES)?;
    let whole = bytes.starts_with(&MAGIC) && crc32fast::hash(&bytes[..40]) == u32_at(bytes, 40)?;
    let header = Header {
        is_base: *bytes.get(8)? == 1,
        next_sequence: u64_at(bytes, 16)?,
        trimmed_through: u64_at(bytes, 24).filter(|through| *through <= SEQUENCE_MAX)?,
        dropped_total: u64_at(bytes, 32)?,
    };
    whole.then_some(header)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
