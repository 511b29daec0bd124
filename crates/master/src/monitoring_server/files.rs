//! The memory of figures on disk: folder `history` of the state folder.
//!
//! A file for each day and level holds records, one behind another, each a gzip member of its own: its checksum
//! tells a torn end, and what stands before that is good. What is lost with a power loss is the last quarter of an hour.
//! What is much is several records, of some series each. `recent.gz` has the finest level, and is written when the
//! master stops.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use flate2::{Compression, bufread::GzDecoder, write::GzEncoder};
use piccolo_core::{
    model::NodeId,
    monitoring_server::{
        SeriesName,
        history::Bucket,
        record::{Recalled, Record, Stretch},
    },
    time::WallTime,
};
use prost::Message as _;

/// Of all files together; the oldest goes first.
const BYTES_MAX: u64 = 64 << 20;
/// Of one record, unpacked: an earlier version put everything of its time into one.
const RECORD_BYTES_MAX: u64 = 64 << 20;
/// Slots of one record, of all its series together, as it is written: while it is read it is in memory three times.
const RECORD_SLOTS_MAX: usize = 8192;
/// The name that each level's files begin with; the finest has one alone.
const NAMES: [&str; 3] = ["recent", "minutes", "quarters"];
/// Days for which the files of each level are kept, with the one that is written now.
const DAYS: [i64; 3] = [1, 2, 31];
const DAY_MS: i64 = 86_400_000;

#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
}

impl Files {
    pub(super) fn below(state_dir: &Path) -> Self {
        Self { folder: state_dir.join("history") }
    }

    /// Everything that can be read, the oldest first, and what could not.
    pub(super) fn read(&self) -> (Recalled, Vec<String>) {
        let (mut recalled, mut problems) = (Recalled::default(), Vec::new());
        for path in self.list() {
            let read = File::open(&path).map(BufReader::new);
            let read =
                read.and_then(|mut file| each_record(&mut file, |record| recalled.put(record)));
            if let Err(error) = read {
                problems.push(format!("{}: {error}", path.display()));
            }
        }
        (recalled, problems)
    }

    /// Durable when it returns.
    ///
    /// # Errors
    /// The disk's; a record that was written in part is not read.
    pub(super) fn write(&self, record: &Record) -> io::Result<()> {
        let Some(name) = NAMES.get(record.level) else { return Ok(()) };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let finest = record.level == 0;
        let day = record.from.0.div_euclid(DAY_MS);
        let name = if finest { format!("{name}.gz") } else { format!("{name}-{day:06}.gz") };
        let path = self.folder.join(name);
        let packed = pack(record)?;
        if finest {
            // the newest alone: what it had is in the coarser ones
            fs::remove_file(&path).or_else(gone)?;
        }
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
        file.write_all(&packed)?;
        file.sync_data()?;
        self.clean(record.from)
    }

    /// Takes the finest away once it is read: it is of one life alone.
    pub(super) fn forget_recent(&self) {
        fs::remove_file(self.folder.join("recent.gz")).ok();
    }

    /// Removes what is too old, and then what is too much.
    fn clean(&self, now: WallTime) -> io::Result<()> {
        let today = now.0.div_euclid(DAY_MS);
        let mut kept = Vec::new();
        for path in self.list() {
            let (level, day) = level_and_day(&path).unwrap_or((0, today));
            if day <= today - DAYS.get(level).copied().unwrap_or(1) {
                fs::remove_file(&path).or_else(gone)?;
            } else {
                kept.push((fs::metadata(&path)?.len(), path));
            }
        }
        let mut bytes: u64 = kept.iter().map(|(bytes, _)| bytes).sum();
        for (size, path) in kept {
            if bytes <= BYTES_MAX {
                break;
            }
            fs::remove_file(&path).or_else(gone)?;
            bytes -= size;
        }
        Ok(())
    }

    /// Of all levels, by day: the oldest first.
    fn list(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut files: Vec<_> = entries
            .map(|entry| entry.path())
            .filter_map(|path| Some((level_and_day(&path)?, path)))
            .collect();
        files.sort_by_key(|((level, day), _)| (*day, *level));
        files.into_iter().map(|(_, path)| path).collect()
    }
}

fn level_and_day(path: &Path) -> Option<(usize, i64)> {
    let name = path.file_name()?.to_str()?.strip_suffix(".gz")?;
    if name == "recent" {
        return Some((0, i64::MAX));
    }
    let (name, day) = name.split_once('-')?;
    Some((NAMES.iter().position(|known| *known == name)?, day.parse().ok()?))
}

fn gone(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Packed {
    #[prost(uint32, tag = "1")]
    level: u32,
    #[prost(sint64, tag = "2")]
    from_ms: i64,
    #[prost(message, repeated, tag = "3")]
    series: Vec<PackedStretch>,
}

/// The slots' values one kind after another: so they pack best.
#[derive(Clone, PartialEq, prost::Message)]
struct PackedStretch {
    #[prost(string, tag = "1")]
    node: String,
    #[prost(string, tag = "2")]
    container: String,
    #[prost(string, tag = "3")]
    figure: String,
    #[prost(float, repeated, tag = "4")]
    mean: Vec<f32>,
    #[prost(float, repeated, tag = "5")]
    min: Vec<f32>,
    #[prost(float, repeated, tag = "6")]
    max: Vec<f32>,
    #[prost(uint32, repeated, tag = "7")]
    count: Vec<u32>,
}

/// One record, or several where it is long.
fn pack(record: &Record) -> io::Result<Vec<u8>> {
    let longest = record.series.iter().map(|stretch| stretch.buckets.len()).max();
    let series_max = RECORD_SLOTS_MAX / longest.unwrap_or(1).clamp(1, RECORD_SLOTS_MAX);
    let mut packed = Vec::new();
    for series in record.series.chunks(series_max) {
        let mut encoder = GzEncoder::new(&mut packed, Compression::default());
        encoder.write_all(&encode(record, series))?;
        encoder.finish()?;
    }
    Ok(packed)
}

fn encode(record: &Record, series: &[Stretch]) -> Vec<u8> {
    let of =
        |value: fn(&Bucket) -> f32, stretch: &Stretch| stretch.buckets.iter().map(value).collect();
    let stretch = |stretch: &Stretch| PackedStretch {
        node: stretch.node.to_string(),
        container: stretch.name.container.clone(),
        figure: stretch.name.figure.clone(),
        mean: of(|bucket| bucket.mean, stretch),
        min: of(|bucket| bucket.min, stretch),
        max: of(|bucket| bucket.max, stretch),
        count: stretch.buckets.iter().map(|bucket| bucket.count).collect(),
    };
    let packed = Packed {
        level: u32::try_from(record.level).unwrap_or(u32::MAX),
        from_ms: record.from.0,
        series: series.iter().map(stretch).collect(),
    };
    packed.encode_to_vec()
}

/// Gives every whole record to `take`.
fn each_record(file: &mut impl BufRead, mut take: impl FnMut(Record)) -> io::Result<()> {
    let mut bytes = Vec::new();
    while !file.fill_buf()?.is_empty() {
        bytes.clear();
        let mut member = GzDecoder::new(&mut *file).take(RECORD_BYTES_MAX);
        member.read_to_end(&mut bytes)?;
        if bytes.len() as u64 == RECORD_BYTES_MAX {
            return Err(io::Error::other("a record is larger than any that is written"));
        }
        let packed = Packed::decode(&bytes[..]).map_err(io::Error::other)?;
        take(unpack(packed));
    }
    Ok(())
}

fn unpack(packed: Packed) -> Record {
    let stretch = |packed: PackedStretch| {
        let values = packed.mean.into_iter().zip(packed.min).zip(packed.max).zip(packed.count);
        let bucket = |(((mean, min), max), count)| Bucket { mean, min, max, count };
        Some(Stretch {
            node: NodeId::parse("node", &packed.node).ok()?,
            name: SeriesName { container: packed.container, figure: packed.figure },
            buckets: values
                .map(bucket)
                .map(|b| {
                    if b.mean.is_finite() && b.min.is_finite() && b.max.is_finite() {
                        b
                    } else {
                        Bucket::default()
                    }
                })
                .collect(),
        })
    };
    Record {
        level: packed.level as usize,
        from: WallTime(packed.from_ms),
        series: packed.series.into_iter().filter_map(stretch).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(level: usize, day: i64, value: f32) -> Record {
        let name = SeriesName { container: String::new(), figure: "cpu_percent".to_owned() };
        let node = NodeId::parse("node", "n1").unwrap();
        let buckets = vec![Bucket::of(value), Bucket::default(), Bucket::of(value)];
        Record {
            level,
            from: WallTime(day * DAY_MS),
            series: vec![Stretch { node, name, buckets }],
        }
    }

    fn records(path: &Path) -> (Vec<Record>, bool) {
        let mut seen = Vec::new();
        let mut file = BufReader::new(File::open(path).unwrap());
        let whole = each_record(&mut file, |record| seen.push(record)).is_ok();
        (seen, whole)
    }

    #[test]
    fn records_come_back_as_they_were_and_a_torn_end_costs_itself_alone() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::below(folder.path());
        let (one, other) = (record(1, 20_000, 5.0), record(1, 20_000, 7.5));
        files.write(&one).unwrap();
        files.write(&other).unwrap();
        let path = folder.path().join("history/minutes-020000.gz");
        assert_eq!(records(&path), (vec![one.clone(), other], true));
        let bytes = fs::read(&path).unwrap();
        for end in (bytes.len() / 2 + 1)..bytes.len() {
            fs::write(&path, &bytes[..end]).unwrap();
            assert_eq!(records(&path).0.first(), Some(&one), "{end} of {}", bytes.len());
            let (recalled, problems) = files.read();
            assert!(!recalled.is_empty() && problems.len() <= 1);
        }
        let mut flipped = bytes.clone();
        for at in 0..bytes.len() {
            flipped[at] ^= 0x10;
            fs::write(&path, &flipped).unwrap();
            drop(files.read());
            flipped[at] ^= 0x10;
        }
    }

    #[test]
    fn a_long_record_is_written_in_pieces_and_comes_back_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::below(folder.path());
        let mut long = record(0, 20_000, 1.0);
        let of = |number: u16| Stretch {
            name: SeriesName { container: format!("c{number}"), figure: "load".to_owned() },
            buckets: vec![Bucket::of(f32::from(number)); 360],
            ..long.series[0].clone()
        };
        long.series = (0..100).map(of).collect();
        files.write(&long).unwrap();
        let path = folder.path().join("history/recent.gz");
        let whole = |records: &[Record]| Record {
            series: records.iter().flat_map(|record| record.series.clone()).collect(),
            ..records[0].clone()
        };
        let (pieces, read) = records(&path);
        assert!(read && pieces.len() > 1);
        let slots = |record: &Record| record.series.iter().map(|s| s.buckets.len()).sum::<usize>();
        assert!(pieces.iter().all(|piece| slots(piece) <= RECORD_SLOTS_MAX));
        assert_eq!(whole(&pieces), long);
        // a torn end costs a piece, and not the hour
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let (left, read) = records(&path);
        assert!(!read);
        assert_eq!(left, pieces[..pieces.len() - 1]);
    }

    #[test]
    fn old_files_go_and_the_finest_is_of_the_newest_life_alone() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::below(folder.path());
        for day in 20_000..20_040 {
            for level in 0..3 {
                files.write(&record(level, day, 1.0)).unwrap();
            }
        }
        let names: Vec<_> = files
            .list()
            .iter()
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        let of = |kind: &str| names.iter().filter(|name| name.starts_with(kind)).count();
        assert_eq!((of("recent"), of("minutes"), of("quarters")), (1, 2, 31));
        assert_eq!(records(&folder.path().join("history/recent.gz")).0.len(), 1);
        files.forget_recent();
        assert!(!folder.path().join("history/recent.gz").exists());
    }
}
