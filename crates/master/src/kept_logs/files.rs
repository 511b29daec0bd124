//! The kept log on disk: folder `kept` of the state folder, and in it one for each node.
//!
//! A batch is a gzip member of its own behind the others: its checksum tells a torn end, and what stands before that is
//! good. A file that is full is packed anew as one member, which takes far less, and the next begins. What was never
//! acknowledged is sent again, so a torn end is no loss.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::UNIX_EPOCH,
};

use flate2::{Compression, bufread::GzDecoder, write::GzEncoder};
use piccolo_core::{
    logs::kept::{KeptLine, Newest, Retention, Shelf, count, unseen},
    model::NodeId,
    time::WallTime,
};
use piccolo_rpc::{convert::kept_lines, v1};
use prost::Message as _;

/// Bytes of a file before they are packed, about; then the next begins.
const FILE_BYTES: u64 = 256 << 10;
/// Of one member, unpacked: a whole file, and a batch beyond.
const MEMBER_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
    retention: Retention,
    /// What readers look into; never held while the disk is waited for.
    index: Mutex<Index>,
    /// One write at a time.
    open: Mutex<BTreeMap<NodeId, Open>>,
}

#[derive(Debug, Default)]
struct Index {
    shelf: Shelf,
    /// The newest sequence number of each node.
    through: BTreeMap<NodeId, u64>,
    /// Since this process began.
    lines: u64,
    dropped: u64,
}

/// How much is kept, and how many lines came and were left out by their nodes since this process began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) bytes: u64,
    pub(crate) lines: u64,
    pub(crate) dropped: u64,
}

/// The file of a node that is written now.
#[derive(Debug, Clone, Copy, Default)]
struct Open {
    number: u64,
    /// Before it is packed.
    bytes: u64,
}

impl Files {
    /// What an earlier life has kept, and what of it cannot be read.
    pub(super) fn open(state_dir: &Path, retention: Retention) -> (Self, Vec<String>) {
        let folder = state_dir.join("kept");
        let (mut index, mut open, mut problems) = (Index::default(), BTreeMap::new(), Vec::new());
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(node) = name.to_str().and_then(|name| NodeId::parse("node", name).ok()) else {
                continue;
            };
            let numbers = found(&entry.path(), &node, &mut index.shelf);
            let (through, next) = recalled(&entry.path(), &numbers, &mut problems);
            index.through.insert(node.clone(), through);
            open.insert(node, next);
        }
        let files = Self { folder, retention, index: Mutex::new(index), open: Mutex::new(open) };
        (files, problems)
    }

    /// Kept through this sequence number.
    pub(super) fn through(&self, node: &NodeId) -> u64 {
        lock(&self.index).through.get(node).copied().unwrap_or_default()
    }

    /// Keeps what is new of a batch; durable when it returns, with the newest sequence number.
    ///
    /// # Errors
    /// The disk's; nothing of the batch counts then.
    pub(super) fn append(
        &self,
        now: WallTime,
        node: &NodeId,
        lines: Vec<KeptLine>,
    ) -> io::Result<u64> {
        let mut all = lock(&self.open);
        let through = self.through(node);
        let lines = unseen(through, lines);
        let Some(last) = lines.last().map(|line| line.sequence) else { return Ok(through) };
        let (kept, dropped) = count(through, &lines);
        let lines = lines.into_iter().map(Into::into).collect();
        let batch = v1::KeptLines { lines }.encode_length_delimited_to_vec();
        let open = all.entry(node.clone()).or_default();
        let path = self.path(node, open.number);
        if let Err(error) = self.write(&path, &batch) {
            // what comes behind a torn end would not be read
            *open = Open { number: open.number + 1, bytes: 0 };
            return Err(error);
        }
        open.bytes += batch.len() as u64;
        let written = open.number;
        if open.bytes >= FILE_BYTES {
            *open = Open { number: written + 1, bytes: 0 };
            if let Err(error) = repack(&path) {
                tracing::warn!(%error, "a file of the kept log could not be packed anew");
            }
        }
        let size = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        {
            let mut index = lock(&self.index);
            index.shelf.put(node, written, size, now);
            index.through.insert(node.clone(), last);
            index.lines += kept;
            index.dropped = index.dropped.saturating_add(dropped);
        }
        if let Err(error) = self.clean(now, &mut all) {
            tracing::warn!(%error, "a file of the kept log could not be removed");
        }
        Ok(last)
    }

    /// Removes what is too old.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn tidy(&self, now: WallTime) -> io::Result<()> {
        self.clean(now, &mut lock(&self.open))
    }

    pub(super) fn extent(&self) -> Extent {
        let index = lock(&self.index);
        Extent { bytes: index.shelf.bytes(), lines: index.lines, dropped: index.dropped }
    }

    /// Of which something is kept.
    pub(super) fn nodes(&self) -> Vec<NodeId> {
        lock(&self.index).shelf.nodes()
    }

    /// Gives everything of a node to `newest`, the oldest first.
    pub(super) fn read(&self, node: &NodeId, newest: &mut Newest) {
        let numbers = lock(&self.index).shelf.of(node);
        for number in numbers {
            // one that has gone meanwhile is too old; of one that is written the end may be torn
            let read = each_line(&self.path(node, number), |line| newest.take(line));
            if let Err(error) = read {
                tracing::debug!(%error, %node, number, "the end of a file of the kept log");
            }
        }
    }

    fn clean(&self, now: WallTime, open: &mut BTreeMap<NodeId, Open>) -> io::Result<()> {
        let gone = lock(&self.index).shelf.surplus(now, self.retention);
        let mut removed = Ok(());
        for (node, number) in gone {
            removed = removed.and(fs::remove_file(self.path(&node, number)).or_else(missing));
            if let Some(open) = open.get_mut(&node).filter(|open| open.number == number) {
                *open = Open { number: number + 1, bytes: 0 };
            }
        }
        removed
    }

    fn path(&self, node: &NodeId, number: u64) -> PathBuf {
        self.folder.join(node.as_str()).join(format!("{number:08}.gz"))
    }

    fn write(&self, path: &Path, batch: &[u8]) -> io::Result<()> {
        let folder = path.parent().unwrap_or(&self.folder);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let new = !path.exists();
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        file.write_all(&pack(batch)?)?;
        file.sync_data()?;
        if new { File::open(folder)?.sync_all() } else { Ok(()) }
    }
}

/// Puts the files in a node's folder on the shelf; their numbers, the oldest first.
fn found(folder: &Path, node: &NodeId, shelf: &mut Shelf) -> Vec<u64> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (name, metadata) = (entry.file_name(), entry.metadata());
        let number = name.to_str().and_then(|name| name.strip_suffix(".gz"));
        let Some(number) = number.and_then(|number| number.parse().ok()) else {
            // a packing that was interrupted
            fs::remove_file(entry.path()).ok();
            continue;
        };
        let Ok(metadata) = metadata else { continue };
        let written = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let written = WallTime(0).plus(written.unwrap_or_default());
        shelf.put(node, number, metadata.len(), written);
    }
    shelf.of(node)
}

/// The newest sequence number that is there, and the file to go on with.
fn recalled(folder: &Path, numbers: &[u64], problems: &mut Vec<String>) -> (u64, Open) {
    let newest = numbers.last().copied().unwrap_or_default();
    let mut next = Open { number: newest + 1, bytes: 0 };
    for number in numbers.iter().rev() {
        let path = folder.join(format!("{number:08}.gz"));
        let mut last = None;
        match each_line(&path, |line| last = Some(line.sequence)) {
            Ok(bytes) if *number == newest && bytes < FILE_BYTES => {
                next = Open { number: newest, bytes };
            }
            Ok(_) => {}
            Err(error) => problems.push(format!("{}: {error}", path.display())),
        }
        if let Some(last) = last {
            return (last, next);
        }
    }
    (0, next)
}

fn pack(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// The same in one member, beside it and then in its place.
fn repack(path: &Path) -> io::Result<()> {
    let mut bytes = Vec::new();
    each_member(path, |member| {
        bytes.extend_from_slice(&member);
        Ok(())
    })?;
    let beside = path.with_extension("new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(&pack(&bytes)?)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

/// Gives every whole member to `take`; says how many bytes they have together.
fn each_member(path: &Path, mut take: impl FnMut(Vec<u8>) -> io::Result<()>) -> io::Result<u64> {
    let mut file = BufReader::new(File::open(path)?);
    let mut sum = 0;
    while !file.fill_buf()?.is_empty() {
        let mut bytes = Vec::new();
        GzDecoder::new(&mut file).take(MEMBER_BYTES_MAX).read_to_end(&mut bytes)?;
        if bytes.len() as u64 == MEMBER_BYTES_MAX {
            return Err(io::Error::other("a member is larger than any that is written"));
        }
        sum += bytes.len() as u64;
        take(bytes)?;
    }
    Ok(sum)
}

fn each_line(path: &Path, mut take: impl FnMut(KeptLine)) -> io::Result<u64> {
    each_member(path, |member| {
        let mut rest = &member[..];
        while !rest.is_empty() {
            let batch =
                v1::KeptLines::decode_length_delimited(&mut rest).map_err(io::Error::other)?;
            kept_lines(batch).map_err(io::Error::other)?.into_iter().for_each(&mut take);
        }
        Ok(())
    })
}

fn missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // a panic elsewhere leaves whole entries behind
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use piccolo_core::logs::{Filter, LogLine};

    use super::*;

    const NOW: WallTime = WallTime(1_800_000_000_000);

    fn node(id: &str) -> NodeId {
        NodeId::parse("node", id).unwrap()
    }

    fn lines(sequences: impl IntoIterator<Item = u64>, message: &str) -> Vec<KeptLine> {
        let line = |sequence: u64| KeptLine {
            sequence,
            unit: "a.service".to_owned(),
            line: LogLine::new(1, 4, "a", &format!("{message} {sequence}")),
            dropped: 0,
        };
        sequences.into_iter().map(line).collect()
    }

    fn open(folder: &Path, bytes_max: u64) -> (Files, usize) {
        // the clock of these tests is not that of the files
        let age_max = Duration::from_secs(1 << 40);
        let (files, problems) = Files::open(folder, Retention { bytes_max, age_max });
        (files, problems.len())
    }

    fn sequences(files: &Files, id: &str) -> Vec<u64> {
        let mut newest = Newest::new(Filter::default(), String::new(), usize::MAX);
        files.read(&node(id), &mut newest);
        newest.found().lines.into_iter().map(|line| line.sequence).collect()
    }

    #[test]
    fn what_was_acknowledged_is_there_once_after_a_restart_and_after_a_torn_end() {
        let folder = tempfile::tempdir().unwrap();
        let (files, _) = open(folder.path(), 1 << 20);
        assert_eq!(files.append(NOW, &node("n1"), lines(1..=3, "x")).unwrap(), 3);
        assert_eq!(files.append(NOW, &node("n1"), lines(2..=5, "x")).unwrap(), 5);
        assert_eq!(sequences(&files, "n1"), [1, 2, 3, 4, 5]);
        let path = folder.path().join("kept/n1/00000000.gz");
        let whole = fs::read(&path).unwrap();
        for cut in [1, 9, 20] {
            fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let (files, problems) = open(folder.path(), 1 << 20);
            assert_eq!((files.through(&node("n1")), problems), (3, 1));
            assert_eq!(files.append(NOW, &node("n1"), lines(4..=5, "x")).unwrap(), 5);
            assert_eq!(sequences(&files, "n1"), [1, 2, 3, 4, 5]);
            fs::remove_file(folder.path().join("kept/n1/00000001.gz")).unwrap();
        }
        fs::write(&path, &whole).unwrap();
        let (files, problems) = open(folder.path(), 1 << 20);
        assert_eq!((files.through(&node("n1")), problems), (5, 0));
        assert_eq!(files.append(NOW, &node("n1"), lines([6], "x")).unwrap(), 6);
        assert!(!folder.path().join("kept/n1/00000001.gz").exists(), "the same file goes on");
    }

    #[test]
    fn a_full_file_is_packed_anew_and_a_flood_pushes_out_its_own_lines_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (files, _) = open(folder.path(), 64 << 10);
        files.append(NOW, &node("quiet"), lines(1..=2, "important")).unwrap();
        let size = || -> u64 {
            let of = |id: &str| fs::read_dir(folder.path().join("kept").join(id));
            let files = ["quiet", "loud"].into_iter().filter_map(|id| of(id).ok()).flatten();
            files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
        };
        let mut through = 0;
        for _ in 0..200 {
            let next = through + 1..=through + 100;
            through = files.append(NOW, &node("loud"), lines(next, &"flood ".repeat(9))).unwrap();
            assert!(size() <= 64 << 10, "{}", size());
        }
        assert_eq!(sequences(&files, "quiet"), [1, 2]);
        let left = sequences(&files, "loud");
        assert_eq!(left.last(), Some(&20_000));
        assert!(left[0] > 1 && left.len() > 1000, "{} lines", left.len());
        assert!(left.windows(2).all(|pair| pair[1] == pair[0] + 1));
    }

    #[test]
    fn nothing_that_stands_on_the_disk_makes_it_fail() {
        let folder = tempfile::tempdir().unwrap();
        let (files, _) = open(folder.path(), 1 << 20);
        files.append(NOW, &node("n1"), lines(1..=3, "x")).unwrap();
        let path = folder.path().join("kept/n1/00000000.gz");
        let mut bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            bytes[at] ^= 0x10;
            fs::write(&path, &bytes).unwrap();
            let (files, _) = open(folder.path(), 1 << 20);
            assert_eq!(files.append(NOW, &node("n1"), lines(1..=3, "x")).unwrap(), 3);
            assert_eq!(sequences(&files, "n1").last(), Some(&3));
            fs::remove_file(folder.path().join("kept/n1/00000001.gz")).ok();
            bytes[at] ^= 0x10;
        }
    }
}
