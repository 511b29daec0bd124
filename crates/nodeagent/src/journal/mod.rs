//! Events on disk until the master has acknowledged them. HLD §4.2, §1.2.3 (offline).
//!
//! The journal is a folder of segments, each a header and records that are only ever appended
//! ([`segment`] has the layout). An entry has a sequence number that never comes twice, not even
//! after everything was acknowledged and the agent restarted. [`Journal::trim_through`] forgets
//! what was acknowledged; segments with nothing left in them are deleted.
//!
//! **Bounds.** At most `entries_max` entries of `bytes_max` bytes are kept. When one more does not
//! fit, the oldest that is not critical goes, and if all are critical the oldest; each is counted in
//! [`Journal::dropped_total`], which is on disk too. On disk at most twice `bytes_max` and a
//! segment are used: then the live entries are written anew.
//!
//! **Durability.** A record is written with one `write`, so it survives the end of the process at
//! once. It survives a power cut after [`Journal::sync`], which does nothing if nothing was written
//! since: an idle journal causes no write at all. Sync before anything is sent that was appended
//! since the last time; otherwise a power cut could let a sequence number be used twice. Sync
//! once after a batch too if [`Journal::awaits_sync`] says so: there is a critical entry in it. A
//! sync may take seconds on a worn card, so [`Journal::append`] does none itself: ten deaths at once
//! cost one. What is not synced, the kernel writes within half a minute.
//!
//! **After a crash.** A torn record at the end is cut off. A damaged one elsewhere is skipped and
//! reported in [`Journal::recovery`]; nothing here panics on what it finds.

mod segment;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use segment::{Header, Record, Segment};

/// One event with its fields is a few hundred bytes.
pub const ENTRY_BYTES_MAX: usize = 64 * 1024;
/// One below what fits, so that there is always a next number. A record beyond it is not one of ours.
const SEQUENCE_MAX: u64 = u64::MAX - 1;
const SEGMENT_BYTES_MIN: u64 = 16 * 1024;
const SEGMENTS_PER_JOURNAL: u64 = 8;

/// How much may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub entries_max: usize,
    /// Of the entries themselves, at least 64 KiB; the files take up to twice as much.
    pub bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries_max: 10_000, bytes_max: 4 * 1024 * 1024 }
    }
}

/// Whether an entry may go when the journal is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Criticality {
    Normal,
    /// Goes only when all others are critical too.
    Critical,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub sequence: u64,
    pub criticality: Criticality,
    pub bytes: Vec<u8>,
}

/// What was not as it should be when the journal was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Torn off the end, as a crash during a write leaves them.
    pub cut_bytes: u64,
    /// Records elsewhere that could not be read.
    pub damaged_records: u64,
    /// Whole files that are no segments.
    pub damaged_segments: u64,
}

/// Why the journal could not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {what} {}; the entries so far are kept", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("an entry of {bytes} bytes is larger than {ENTRY_BYTES_MAX}; it was not kept")]
    TooLarge { bytes: usize },
    #[error("sequence {sequence} was used already, the next is {next}; the entry was not kept")]
    SequenceUsed { sequence: u64, next: u64 },
    #[error(
        "the sequence numbers of {} are used up; the entry was not kept; move the folder away",
        folder.display()
    )]
    SequencesUsedUp { folder: PathBuf },
}

/// The journal of one agent. Only one process may use a folder at a time.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    limits: Limits,
    segments: BTreeMap<u64, Segment>,
    /// The newest segment's number.
    active: u64,
    entries: BTreeMap<u64, Place>,
    live_bytes: u64,
    next_sequence: u64,
    trimmed_through: u64,
    dropped_total: u64,
    synced: bool,
    awaits_sync: bool,
    recovery: Recovery,
}

/// Where an entry lies.
#[derive(Debug, Clone, Copy)]
struct Place {
    segment: u64,
    offset: u64,
    length: u32,
    criticality: Criticality,
}

impl Journal {
    /// Opens the journal in `folder`, which is made if missing.
    ///
    /// # Errors
    /// The folder cannot be made, read or written. Damaged contents are no error.
    pub fn open(folder: impl Into<PathBuf>, limits: Limits) -> Result<Self, Error> {
        let folder = folder.into();
        let limits = Limits {
            entries_max: limits.entries_max.max(1),
            bytes_max: limits.bytes_max.max(ENTRY_BYTES_MAX as u64),
        };
        let mut journal = Self {
            limits,
            segments: BTreeMap::new(),
            active: 0,
            entries: BTreeMap::new(),
            live_bytes: 0,
            next_sequence: 1,
            trimmed_through: 0,
            dropped_total: 0,
            synced: true,
            awaits_sync: false,
            recovery: Recovery::default(),
            folder,
        };
        journal.recover()?;
        journal.make_room(0, 0)?;
        journal.sync()?;
        Ok(journal)
    }

    /// Keeps an event and returns its sequence number. Older ones may have to go.
    ///
    /// # Errors
    /// [`Error::TooLarge`], or the disk refuses; the event was not kept then.
    pub fn append(&mut self, criticality: Criticality, bytes: &[u8]) -> Result<u64, Error> {
        let sequence = self.next_sequence;
        self.append_as(sequence, criticality, bytes)?;
        Ok(sequence)
    }

    /// As [`Self::append`], with a sequence number that somebody else chose.
    ///
    /// # Errors
    /// As [`Self::append`]; [`Error::SequenceUsed`] if it is below [`Self::next_sequence`], and
    /// [`Error::SequencesUsedUp`] where no other could follow it.
    pub fn append_as(
        &mut self,
        sequence: u64,
        criticality: Criticality,
        bytes: &[u8],
    ) -> Result<(), Error> {
        if sequence < self.next_sequence {
            return Err(Error::SequenceUsed { sequence, next: self.next_sequence });
        }
        if sequence > SEQUENCE_MAX {
            return Err(Error::SequencesUsedUp { folder: self.folder.clone() });
        }
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(Error::TooLarge { bytes: bytes.len() });
        }
        self.make_room(1, bytes.len() as u64)?;
        let (offset, length) = self.write(&Record::Entry { sequence, criticality, bytes })?;
        self.remember(sequence, Place { segment: self.active, offset, length, criticality });
        self.awaits_sync |= criticality == Criticality::Critical;
        Ok(())
    }

    /// The entries from `sequence` on, oldest first, read from disk one by one. An entry that
    /// cannot be read any more is an error and the next one follows.
    pub fn iter_from(&self, sequence: u64) -> impl Iterator<Item = Result<Entry, Error>> {
        self.entries.range(sequence..).map(|(&sequence, place)| {
            let segment = self.segments.get(&place.segment);
            let bytes = segment.map(|s| s.read_payload(place.offset, place.length));
            match bytes.unwrap_or_else(|| Err(io::ErrorKind::NotFound.into())) {
                Ok(bytes) => Ok(Entry { sequence, criticality: place.criticality, bytes }),
                Err(source) => Err(self.error("read from", source)),
            }
        })
    }

    /// Forgets everything up to and including `sequence`, because it was acknowledged.
    ///
    /// # Errors
    /// The disk refuses. What is in memory counts; on disk the entries may come back after a
    /// restart, which the receiver notices by their numbers.
    pub fn trim_through(&mut self, sequence: u64) -> Result<(), Error> {
        let sequence = sequence.min(self.next_sequence - 1);
        if sequence <= self.trimmed_through {
            return Ok(());
        }
        self.trimmed_through = sequence;
        let rest = self.entries.split_off(&(sequence + 1));
        let any = !self.entries.is_empty();
        for (_, place) in std::mem::replace(&mut self.entries, rest) {
            self.forget(place);
        }
        if any {
            self.write(&Record::Trimmed { through: sequence })?;
        }
        self.delete_empty_segments()
    }

    /// Gives up one entry that the journal's owner has no room for, and counts it.
    ///
    /// # Errors
    /// The disk refuses; the entry may come back after a restart.
    pub fn drop_entry(&mut self, sequence: u64) -> Result<(), Error> {
        let Some(place) = self.entries.remove(&sequence) else { return Ok(()) };
        self.forget(place);
        let written = self.write(&Record::Dropped { sequence });
        // after: a segment begun for this record does not count it yet
        self.dropped_total = self.dropped_total.saturating_add(1);
        written?;
        self.delete_empty_segments()
    }

    /// Makes everything so far survive a power cut. Does nothing if it does already.
    ///
    /// # Errors
    /// The disk refuses: nothing is known of what was written since the last sync.
    pub fn sync(&mut self) -> Result<(), Error> {
        if self.synced {
            return Ok(());
        }
        let active = self.segments.get(&self.active);
        active.map_or(Ok(()), Segment::sync).map_err(|source| self.error("sync", source))?;
        self.synced = true;
        self.awaits_sync = false;
        Ok(())
    }

    /// Whether a power cut would lose nothing.
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    /// Whether a power cut would lose a critical entry: time for a [`Self::sync`].
    pub fn awaits_sync(&self) -> bool {
        self.awaits_sync
    }

    /// The number that the next entry gets. Never goes back.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Entries that had to go because the journal was full, ever.
    pub fn dropped_total(&self) -> u64 {
        self.dropped_total
    }

    /// How many entries wait for their acknowledgement.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What the files take on disk, in bytes.
    pub fn disk_bytes(&self) -> u64 {
        self.segments.values().map(Segment::length).sum()
    }

    /// What was found damaged when the journal was opened.
    pub fn recovery(&self) -> Recovery {
        self.recovery
    }

    fn recover(&mut self) -> Result<(), Error> {
        std::fs::create_dir_all(&self.folder).map_err(|e| self.error("make", e))?;
        let found = segment::find(&self.folder).map_err(|e| self.error("read", e))?;
        let mut newest_knows_all = true;
        for (number, path) in found {
            let opened = Segment::open(&path).map_err(|e| self.error("open a segment in", e))?;
            let Some((segment, header, contents)) = opened else {
                segment::put_aside(&path).map_err(|e| self.error("put aside a segment in", e))?;
                self.recovery.damaged_segments += 1;
                self.active = number;
                continue;
            };
            if header.is_base {
                self.forget_older(number)?;
            }
            newest_knows_all = header.next_sequence >= self.next_sequence
                && header.trimmed_through >= self.trimmed_through
                && header.dropped_total >= self.dropped_total;
            self.next_sequence = self.next_sequence.max(header.next_sequence);
            self.trimmed_through = self.trimmed_through.max(header.trimmed_through);
            self.dropped_total = self.dropped_total.max(header.dropped_total);
            self.active = number;
            self.segments.insert(number, segment);
            for (offset, record) in segment::records(&contents, &mut self.recovery) {
                self.replay(number, offset, &record);
            }
            let cut = self.segments.get_mut(&number).map(|s| s.cut_torn_tail(&contents));
            cut.unwrap_or(Ok(())).map_err(|e| self.error("cut a torn record in", e))?;
        }
        let rest = self.entries.split_off(&(self.trimmed_through + 1));
        for (_, place) in std::mem::replace(&mut self.entries, rest) {
            self.forget(place);
        }
        self.next_sequence = self.next_sequence.max(self.trimmed_through + 1);
        // Older segments will be deleted, and what they alone know with them.
        if !newest_knows_all || !self.segments.contains_key(&self.active) {
            self.start_segment()?;
        }
        self.delete_empty_segments()
    }

    fn replay(&mut self, number: u64, offset: u64, record: &Record<'_>) {
        match *record {
            Record::Entry { sequence, criticality, bytes } => {
                let length = u32::try_from(bytes.len()).unwrap_or(0);
                if let Some(older) = self.entries.remove(&sequence) {
                    self.forget(older);
                }
                self.remember(sequence, Place { segment: number, offset, length, criticality });
            }
            Record::Trimmed { through } => {
                self.trimmed_through = self.trimmed_through.max(through);
            }
            Record::Dropped { sequence } => {
                self.dropped_total = self.dropped_total.saturating_add(1);
                self.next_sequence = self.next_sequence.max(sequence + 1);
                if let Some(place) = self.entries.remove(&sequence) {
                    self.forget(place);
                }
            }
        }
    }

    fn remember(&mut self, sequence: u64, place: Place) {
        self.next_sequence = self.next_sequence.max(sequence + 1);
        self.live_bytes += u64::from(place.length);
        if let Some(segment) = self.segments.get_mut(&place.segment) {
            segment.live_entries += 1;
        }
        self.entries.insert(sequence, place);
    }

    fn forget(&mut self, place: Place) {
        self.live_bytes -= u64::from(place.length);
        if let Some(segment) = self.segments.get_mut(&place.segment) {
            segment.live_entries -= 1;
        }
    }

    /// Drops entries until so many more with so many bytes fit, and keeps the files bounded.
    fn make_room(&mut self, entries: usize, bytes: u64) -> Result<(), Error> {
        while self.entries.len() + entries > self.limits.entries_max
            || self.live_bytes + bytes > self.limits.bytes_max
        {
            let normal = self.entries.iter().find(|(_, p)| p.criticality == Criticality::Normal);
            let Some((&sequence, _)) = normal.or_else(|| self.entries.iter().next()) else { break };
            self.drop_entry(sequence)?;
        }
        if self.disk_bytes() > self.limits.bytes_max * 2 + self.segment_bytes() {
            self.rewrite()?;
        }
        Ok(())
    }

    /// Appends one record, in a new segment if this one is full. Returns where its payload lies.
    fn write(&mut self, record: &Record<'_>) -> Result<(u64, u32), Error> {
        let limit = self.segment_bytes();
        let full = self.segments.get(&self.active).is_none_or(|segment| segment.length() >= limit);
        if full {
            self.sync()?;
            self.start_segment()?;
        }
        self.synced = false;
        let written = match self.segments.get_mut(&self.active) {
            Some(segment) => segment.append(record),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        written.map_err(|source| self.error("write to", source))
    }

    fn start_segment(&mut self) -> Result<(), Error> {
        let number = self.active + 1;
        let segment = Segment::create(&self.folder, number, &self.header(false), &[])
            .map_err(|source| self.error("start a segment in", source))?;
        self.segments.insert(number, segment);
        self.active = number;
        Ok(())
    }

    /// Writes the live entries into one new segment that replaces all others.
    fn rewrite(&mut self) -> Result<(), Error> {
        let entries: Vec<Entry> = self.iter_from(0).filter_map(Result::ok).collect();
        let unreadable = (self.entries.len() - entries.len()) as u64;
        self.dropped_total = self.dropped_total.saturating_add(unreadable);
        let number = self.active + 1;
        let records: Vec<Record<'_>> = entries
            .iter()
            .map(|e| Record::Entry {
                sequence: e.sequence,
                criticality: e.criticality,
                bytes: &e.bytes,
            })
            .collect();
        let segment = Segment::create(&self.folder, number, &self.header(true), &records)
            .map_err(|source| self.error("rewrite", source))?;
        self.segments.insert(number, segment);
        self.active = number;
        self.synced = true;
        self.forget_older(number)?;
        let mut offset = segment::HEADER_BYTES as u64;
        for record in &records {
            offset += self.place(number, offset, record);
        }
        Ok(())
    }

    /// Notes an entry of a rewritten segment; returns how long its record is.
    fn place(&mut self, number: u64, offset: u64, record: &Record<'_>) -> u64 {
        if let Record::Entry { bytes, .. } = record {
            let payload = offset + segment::PAYLOAD_OFFSET as u64;
            self.replay(number, payload, record);
            return (segment::PAYLOAD_OFFSET + bytes.len()) as u64;
        }
        0
    }

    /// Deletes all segments before `number` together with what they hold.
    fn forget_older(&mut self, number: u64) -> Result<(), Error> {
        let newer = self.segments.split_off(&number);
        for (_, older) in std::mem::replace(&mut self.segments, newer) {
            older.delete().map_err(|source| self.error("delete a segment of", source))?;
        }
        let gone: Vec<u64> =
            self.entries.iter().filter(|(_, p)| p.segment < number).map(|(s, _)| *s).collect();
        for sequence in gone {
            if let Some(place) = self.entries.remove(&sequence) {
                self.forget(place);
            }
        }
        Ok(())
    }

    /// Deletes the oldest segments as long as they hold nothing; never the newest one.
    fn delete_empty_segments(&mut self) -> Result<(), Error> {
        while let Some(oldest) = self.segments.first_entry() {
            if *oldest.key() == self.active || oldest.get().live_entries > 0 {
                break;
            }
            // The newest segment's header knows what was dropped and trimmed before it began, and
            // its records what came later. They must be durable before the older ones go.
            let older = oldest.remove();
            self.sync()?;
            older.delete().map_err(|source| self.error("delete a segment of", source))?;
        }
        Ok(())
    }

    fn header(&self, is_base: bool) -> Header {
        Header {
            is_base,
            next_sequence: self.next_sequence,
            trimmed_through: self.trimmed_through,
            dropped_total: self.dropped_total,
        }
    }

    fn segment_bytes(&self) -> u64 {
        (self.limits.bytes_max / SEGMENTS_PER_JOURNAL).max(SEGMENT_BYTES_MIN)
    }

    fn error(&self, what: &'static str, source: io::Error) -> Error {
        Error::Io { what, path: self.folder.clone(), source }
    }

    /// Where the journal is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

#[cfg(test)]
mod tests;
