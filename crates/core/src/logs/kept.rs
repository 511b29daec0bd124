//! The kept log (HLD §11.2): important lines of the nodes' units, which agents tell by themselves and the master keeps,
//! so that they are there when the board is not.
//!
//! On a node each unit has a [`Budget`], and what is within it waits in a journal of its own until the master has
//! acknowledged it; one [`Batch`] is under way at a time. The master takes what it does not have yet ([`unseen`]), and a
//! [`Shelf`] says which files have to go. Nothing is lost in silence: what came too fast is an entry that says how many,
//! and what a full journal had no room for is missing in the sequence numbers; [`Newest`] counts both for who reads.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::{
    CHUNK_BYTES_MAX, CHUNK_LINES_MAX, Filter, LINES_MAX, LogLine,
    pace::{Pace, Rate},
    target::{self, Known},
};
use crate::{
    api_server::{Code, Refusal},
    model::{FieldError, NodeId},
    session::SEQUENCE_MAX,
    time::{Timestamp, WallTime},
};

/// Bytes of the name of a unit.
pub const UNIT_BYTES_MAX: usize = 255;
/// Of one batch. Beats wait behind one at most.
pub const BATCH_LINES_MAX: usize = CHUNK_LINES_MAX;
const BATCH_BYTES_MAX: usize = CHUNK_BYTES_MAX;
/// Bytes of what one reader gets.
pub const READ_BYTES_MAX: usize = 4 << 20;
/// Of one of its nodes at least, however many there are.
const READ_BYTES_OF_NODE_MIN: usize = 16 << 10;
/// Of one unit, on its node.
const OF_UNIT: Rate = Rate { per_second: 1, burst: 200 };
/// That the master takes of one node.
pub const OF_NODE: Rate = Rate { per_second: 100, burst: 4000 };

/// One entry of the kept log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeptLine {
    /// Of the node's own count.
    pub sequence: u64,
    pub unit: String,
    pub line: LogLine,
    /// Not 0: no line, but so many of the unit that were left out about then.
    pub dropped: u64,
}

impl KeptLine {
    /// About what it takes on the wire.
    pub fn bytes(&self) -> usize {
        self.line.bytes() + self.unit.len() + 16
    }
}

/// What each unit of a node may say. By the times of the lines: what waited while the agent was not there is judged as
/// if it had been.
#[derive(Debug, Default)]
pub struct Budget {
    units: BTreeMap<String, Unit>,
}

#[derive(Debug)]
struct Unit {
    pace: Pace,
    dropped: u64,
    at_ns: i64,
}

impl Budget {
    /// Whether a line is kept; one that is not is counted.
    pub fn take(&mut self, unit: &str, line: &LogLine) -> bool {
        let unit = self.unit(unit, line.at_ns);
        let kept = unit.pace.take(timestamp(line.at_ns), line.bytes()).is_ok();
        if !kept {
            unit.dropped = unit.dropped.saturating_add(1);
            unit.at_ns = line.at_ns;
        }
        kept
    }

    /// So many that could not be read, or had no place on the disk.
    pub fn lost(&mut self, unit: &str, at_ns: i64, lines: u64) {
        let unit = self.unit(unit, at_ns);
        (unit.dropped, unit.at_ns) = (unit.dropped.saturating_add(lines), at_ns);
    }

    fn unit(&mut self, name: &str, at_ns: i64) -> &mut Unit {
        let new = || Unit { pace: Pace::of(OF_UNIT, timestamp(at_ns)), dropped: 0, at_ns };
        self.units.entry(name.to_owned()).or_insert_with(new)
    }

    /// An entry for each unit of which something was left out since the last call.
    pub fn dropped(&mut self) -> Vec<KeptLine> {
        let units = self.units.iter_mut().filter(|(_, unit)| unit.dropped > 0);
        let told = units.map(|(name, unit)| KeptLine {
            sequence: 0,
            unit: name.clone(),
            line: LogLine { at_ns: unit.at_ns, level: super::DEBUG, ..LogLine::default() },
            dropped: std::mem::take(&mut unit.dropped),
        });
        told.collect()
    }
}

/// A line's own time, of which only spans are used.
fn timestamp(at_ns: i64) -> Timestamp {
    Timestamp(u64::try_from(at_ns / 1000).unwrap_or_default())
}

/// What goes to the master at once.
#[derive(Debug, Default)]
pub struct Batch {
    lines: Vec<KeptLine>,
    bytes: usize,
}

impl Batch {
    /// Whether it fitted.
    pub fn push(&mut self, line: KeptLine) -> bool {
        let bytes = self.bytes + line.bytes();
        let fits = self.lines.len() < BATCH_LINES_MAX && bytes <= BATCH_BYTES_MAX;
        if fits {
            self.bytes = bytes;
            self.lines.push(line);
        }
        fits
    }

    #[must_use]
    pub fn into_lines(self) -> Vec<KeptLine> {
        self.lines
    }
}

/// Where an agent goes on, whose master has kept more than it ever told: the board had an earlier life, and its numbers
/// must not come twice.
pub fn step_over(next_sequence: u64, acknowledged: u64) -> Option<u64> {
    (acknowledged >= next_sequence && acknowledged < SEQUENCE_MAX).then(|| acknowledged + 1)
}

/// # Errors
/// The sequence numbers of a batch do not ascend.
pub fn check(lines: &[KeptLine]) -> Result<(), FieldError> {
    let ascends = lines.windows(2).all(|pair| pair[0].sequence < pair[1].sequence);
    let ends = lines.last().is_none_or(|line| line.sequence <= SEQUENCE_MAX);
    if ascends && ends {
        Ok(())
    } else {
        Err(FieldError::new("kept.lines", "must have ascending sequence numbers"))
    }
}

/// Of a batch, what is not kept yet.
#[must_use]
pub fn unseen(through: u64, lines: Vec<KeptLine>) -> Vec<KeptLine> {
    lines.into_iter().filter(|line| line.sequence > through).collect()
}

/// Of a batch that is kept: its lines, and those of the node that were left out before or between them.
#[must_use]
pub fn count(through: u64, lines: &[KeptLine]) -> (u64, u64) {
    let (mut kept, mut dropped, mut last) = (0, 0_u64, through);
    for line in lines {
        // of a node that was never heard before, nothing is known to be missing
        let skipped = if last > 0 { line.sequence.saturating_sub(last + 1) } else { 0 };
        last = line.sequence;
        dropped = dropped.saturating_add(skipped).saturating_add(line.dropped);
        kept += u64::from(line.dropped == 0);
    }
    (kept, dropped)
}

/// How much the master keeps, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    pub bytes_max: u64,
    pub age_max: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self { bytes_max: 32 << 20, age_max: Duration::from_secs(30 * 86_400) }
    }
}

/// The master's files: of each node several, with ascending numbers.
#[derive(Debug, Default)]
pub struct Shelf {
    files: BTreeMap<NodeId, BTreeMap<u64, Stored>>,
}

#[derive(Debug, Clone, Copy)]
struct Stored {
    bytes: u64,
    written: WallTime,
}

impl Shelf {
    /// A file as it is now.
    pub fn put(&mut self, node: &NodeId, number: u64, bytes: u64, written: WallTime) {
        let of_node = self.files.entry(node.clone()).or_default();
        of_node.insert(number, Stored { bytes, written });
    }

    /// Takes out what is too old, and what is too much: of the node that has most, the oldest. So whoever floods pushes
    /// out what is its own, as long as the others have less.
    #[must_use]
    pub fn surplus(&mut self, now: WallTime, keep: Retention) -> Vec<(NodeId, u64)> {
        let mut gone = Vec::new();
        for (node, files) in &mut self.files {
            let old = files.iter().filter(|(_, file)| now.since(file.written) > keep.age_max);
            for number in old.map(|(number, _)| *number).collect::<Vec<_>>() {
                files.remove(&number);
                gone.push((node.clone(), number));
            }
        }
        let size = |files: &BTreeMap<u64, Stored>| files.values().map(|f| f.bytes).sum::<u64>();
        let mut sizes: BTreeMap<NodeId, u64> =
            self.files.iter().map(|(node, files)| (node.clone(), size(files))).collect();
        while sizes.values().sum::<u64>() > keep.bytes_max
            && let Some((node, bytes)) = sizes.iter_mut().max_by_key(|(_, bytes)| **bytes)
            && let Some((number, file)) =
                self.files.get_mut(node).and_then(|files| files.pop_first())
        {
            *bytes = bytes.saturating_sub(file.bytes);
            gone.push((node.clone(), number));
        }
        self.files.retain(|_, files| !files.is_empty());
        gone
    }

    /// Of all files together.
    pub fn bytes(&self) -> u64 {
        self.files.values().flat_map(BTreeMap::values).map(|file| file.bytes).sum()
    }

    pub fn nodes(&self) -> Vec<NodeId> {
        self.files.keys().cloned().collect()
    }

    /// The numbers of a node's files, the oldest first.
    pub fn of(&self, node: &NodeId) -> Vec<u64> {
        self.files.get(node).map(|files| files.keys().copied().collect()).unwrap_or_default()
    }
}

/// Whose kept lines are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub node: NodeId,
    /// For people; the id of one that was removed.
    pub name: String,
    /// Empty: all of them.
    pub unit: String,
}

/// `NODE` or `NODE:UNIT`, of nodes that are there or of which something is kept.
///
/// # Errors
/// Nothing is named, or something that is not there.
pub fn targets(
    texts: &[String],
    all: bool,
    unit: &str,
    nodes: &[Known<'_>],
    kept: &[NodeId],
) -> Result<Vec<Target>, Refusal> {
    let target = |node: &NodeId, name: &str, unit: &str| Target {
        node: node.clone(),
        name: name.to_owned(),
        unit: unit.to_owned(),
    };
    let mut found = Vec::new();
    match (all, texts.is_empty()) {
        (true, true) => {
            found.extend(nodes.iter().map(|node| target(node.id, node.name, unit)));
            let gone = kept.iter().filter(|id| nodes.iter().all(|node| node.id != *id));
            found.extend(gone.map(|id| target(id, id.as_str(), unit)));
        }
        (false, false) => {}
        (true, false) | (false, true) => {
            let message = "either targets or all of them";
            return Err(Refusal::new(Code::InvalidArgument, "InvalidField", message));
        }
    }
    for text in texts {
        let (node, unit) = text.split_once(':').unwrap_or((text, unit));
        let one = match target::find(node, nodes) {
            Some(known) => target(known.id, known.name, unit),
            None => match kept.iter().find(|id| id.as_str() == node) {
                Some(id) => target(id, id.as_str(), unit),
                None => return Err(target::missing(target::NO_NODE, &format!("no node {node}"))),
            },
        };
        if !found.contains(&one) {
            found.push(one);
        }
    }
    Ok(found)
}

/// Bytes that one of so many nodes may have of an answer.
pub fn share(nodes: usize) -> usize {
    (READ_BYTES_MAX / nodes.max(1)).max(READ_BYTES_OF_NODE_MIN)
}

/// The newest lines of one node that are wanted, found by going through all of them.
#[derive(Debug)]
pub struct Newest {
    filter: Filter,
    unit: String,
    bytes_max: usize,
    lines: VecDeque<KeptLine>,
    bytes: usize,
    last: Option<u64>,
    missing: u64,
    more: bool,
}

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub lines: Vec<KeptLine>,
    /// Of that time, but left out by the node.
    pub missing: u64,
    /// Older ones are there that would have been wanted too.
    pub more: bool,
}

impl Newest {
    pub fn new(filter: Filter, unit: String, bytes_max: usize) -> Self {
        let lines = VecDeque::new();
        Self { filter, unit, bytes_max, lines, bytes: 0, last: None, missing: 0, more: false }
    }

    /// In the order of their sequence numbers.
    pub fn take(&mut self, kept: KeptLine) {
        let time = Filter {
            since_ns: self.filter.since_ns,
            until_ns: self.filter.until_ns,
            ..Filter::default()
        };
        let skipped = self.last.map_or(0, |last| kept.sequence.saturating_sub(last + 1));
        self.last = Some(kept.sequence);
        if time.keeps(&kept.line) {
            self.missing = self.missing.saturating_add(skipped);
        }
        if !self.unit.is_empty() && self.unit != kept.unit {
            return;
        }
        if kept.dropped > 0 {
            if time.keeps(&kept.line) {
                self.missing = self.missing.saturating_add(kept.dropped);
            }
            return;
        }
        if !self.filter.keeps(&kept.line) {
            return;
        }
        self.bytes += kept.bytes();
        self.lines.push_back(kept);
        let asked = self.filter.lines;
        let lines_max = if asked == 0 { LINES_MAX } else { asked } as usize;
        while self.lines.len() > lines_max || self.bytes > self.bytes_max {
            self.more |= asked == 0 || self.lines.len() <= lines_max;
            let Some(gone) = self.lines.pop_front() else { break };
            self.bytes -= gone.bytes();
        }
    }

    #[must_use]
    pub fn found(self) -> Found {
        Found { lines: self.lines.into(), missing: self.missing, more: self.more }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn line(at_s: i64, level: u8, message: &str) -> LogLine {
        LogLine::new(at_s * SECOND, level, "a", message)
    }

    fn kept(sequence: u64, at_s: i64, message: &str) -> KeptLine {
        let line = line(at_s, 4, message);
        KeptLine { sequence, unit: "a.service".to_owned(), line, dropped: 0 }
    }

    fn node(id: &str) -> NodeId {
        NodeId::parse("node", id).unwrap()
    }

    #[test]
    fn a_unit_that_floods_is_counted_and_takes_nothing_from_another() {
        let mut budget = Budget::default();
        let mut flood = |at_s, lines| {
            (0..lines).filter(|_| budget.take("loud.service", &line(at_s, 4, "x"))).count()
        };
        assert_eq!(flood(1000, 900), 200);
        assert_eq!(flood(1010, 900), 10, "one a second in the long run");
        assert!(budget.take("quiet.service", &line(1010, 3, "broken")));
        let told = budget.dropped();
        let told: Vec<_> = told.iter().map(|kept| (kept.unit.as_str(), kept.dropped)).collect();
        assert_eq!(told, [("loud.service", 1590)]);
        assert_eq!(budget.dropped(), [], "told once");
        budget.lost("quiet.service", 0, 3);
        assert_eq!(budget.dropped()[0].dropped, 3);
    }

    #[test]
    fn what_was_said_over_hours_is_kept_also_when_it_is_read_at_once() {
        let mut budget = Budget::default();
        let hours = (0..5000).map(|i| line(i * 10, 4, "x"));
        assert_eq!(hours.filter(|line| budget.take("a.service", line)).count(), 5000);
    }

    #[test]
    fn a_batch_is_bounded_by_lines_and_by_bytes_and_never_empty() {
        let fill = |message: &str| {
            let mut batch = Batch::default();
            (1..1000).take_while(|n| batch.push(kept(*n, 1, message))).count()
        };
        assert_eq!(fill("x"), BATCH_LINES_MAX);
        assert_eq!(fill(&"x".repeat(super::super::LINE_BYTES_MAX)), 3);
    }

    #[test]
    fn what_is_told_twice_is_kept_once_and_numbers_must_ascend() {
        let batch = |numbers: &[u64]| numbers.iter().map(|n| kept(*n, 1, "x")).collect::<Vec<_>>();
        assert_eq!(unseen(4, batch(&[3, 4, 5, 8])), batch(&[5, 8]));
        assert_eq!(unseen(8, batch(&[3, 4, 5, 8])), []);
        assert_eq!(check(&batch(&[3, 5, 8])), Ok(()));
        for bad in [&[3, 3][..], &[5, 4], &[1, u64::MAX]] {
            assert_eq!(check(&batch(bad)).unwrap_err().field, "kept.lines", "{bad:?}");
        }
    }

    #[test]
    fn what_a_node_left_out_is_counted_by_its_numbers_and_by_its_own_count() {
        let flood = |n| KeptLine { dropped: 30, ..kept(n, 1, "") };
        let line = |n| kept(n, 1, "x");
        for (through, lines, expected) in [
            (0, vec![], (0, 0)),
            (0, vec![line(5), line(6)], (2, 0)),
            (4, vec![line(5), line(6)], (2, 0)),
            (3, vec![line(5), flood(6), line(9)], (2, 33)),
        ] {
            assert_eq!(count(through, &lines), expected, "{through} {lines:?}");
        }
    }

    #[test]
    fn a_board_that_lost_its_numbers_goes_on_above_those_that_are_kept() {
        for (next, acknowledged, expected) in
            [(1, 0, None), (5, 4, None), (5, 5, Some(6)), (1, 70, Some(71)), (1, u64::MAX, None)]
        {
            assert_eq!(step_over(next, acknowledged), expected, "{next} {acknowledged}");
        }
    }

    #[test]
    fn what_is_too_old_goes_and_of_what_is_too_much_the_oldest_of_who_has_most() {
        let (loud, quiet) = (node("loud"), node("quiet"));
        let keep = Retention { bytes_max: 100, age_max: Duration::from_secs(60) };
        let mut shelf = Shelf::default();
        shelf.put(&quiet, 1, 20, WallTime::from_secs(0));
        shelf.put(&quiet, 2, 20, WallTime::from_secs(50));
        for number in 1..=4 {
            shelf.put(&loud, number, 30, WallTime::from_secs(50));
        }
        assert_eq!(shelf.bytes(), 160);
        let gone = shelf.surplus(WallTime::from_secs(61), keep);
        assert_eq!(gone, [(quiet.clone(), 1), (loud.clone(), 1), (loud.clone(), 2)]);
        assert_eq!((shelf.of(&quiet), shelf.of(&loud)), (vec![2], vec![3, 4]));
        assert_eq!(shelf.bytes(), 80);
        assert_eq!(shelf.surplus(WallTime::from_secs(0), keep), [], "a clock that goes back");
        let all = shelf.surplus(WallTime::from_secs(999), keep);
        assert_eq!((all.len(), shelf.nodes()), (3, vec![]));
    }

    /// Numbers of what is found, how many are missing, and whether there is more.
    fn found(filter: Filter, unit: &str, bytes_max: usize) -> (Vec<u64>, u64, bool) {
        let mut newest = Newest::new(filter, unit.to_owned(), bytes_max);
        for (sequence, at_s) in [(1, 10), (2, 20), (5, 30), (6, 40)] {
            newest.take(kept(sequence, at_s, "x"));
        }
        let other = KeptLine { unit: "b.service".to_owned(), ..kept(7, 50, "out of memory") };
        newest.take(other);
        newest.take(KeptLine { dropped: 9, ..kept(8, 60, "") });
        let Found { lines, missing, more } = newest.found();
        (lines.iter().map(|line| line.sequence).collect(), missing, more)
    }

    #[test]
    fn the_newest_that_are_wanted_are_found_and_what_is_missing_is_counted() {
        let all = Filter::default();
        let find = |filter, unit| found(filter, unit, READ_BYTES_MAX);
        assert_eq!(find(all.clone(), ""), (vec![1, 2, 5, 6, 7], 11, false));
        assert_eq!(find(all.clone(), "b.service"), (vec![7], 2, false));
        assert_eq!(find(Filter { lines: 2, ..all.clone() }, ""), (vec![6, 7], 11, false));
        let grep = Filter { grep: "memory".to_owned(), ..all.clone() };
        assert_eq!(find(grep, ""), (vec![7], 11, false));
        let early = Filter { until_ns: Some(25 * SECOND), ..all.clone() };
        assert_eq!(find(early, ""), (vec![1, 2], 0, false));
        let late = Filter { since_ns: Some(35 * SECOND), ..all.clone() };
        assert_eq!(find(late, ""), (vec![6, 7], 9, false));
        assert_eq!(found(all, "", 120), (vec![6, 7], 11, true), "bounded by bytes");
    }

    #[test]
    fn a_node_is_named_as_people_name_it_also_one_that_was_removed() {
        let a = node("id-a");
        let nodes = [Known { id: &a, name: "zone-a", containers: vec![] }];
        let kept = [node("id-a"), node("gone")];
        let meant = |texts: &[&str], all, unit: &str| {
            let texts: Vec<_> = texts.iter().map(|text| (*text).to_owned()).collect();
            let found = targets(&texts, all, unit, &nodes, &kept).map_err(|r| r.reason)?;
            let each = found.into_iter().map(|t| format!("{} {} {}", t.node, t.name, t.unit));
            Ok::<_, &str>(each.collect::<Vec<_>>())
        };
        assert_eq!(meant(&["ZONE-A"], false, ""), Ok(vec!["id-a zone-a ".to_owned()]));
        let unit = Ok(vec!["id-a zone-a x.service".to_owned()]);
        assert_eq!(meant(&["zone-a:x.service"], false, ""), unit);
        assert_eq!(meant(&["id-a"], false, "x.service"), unit);
        let all = Ok(vec!["id-a zone-a ".to_owned(), "gone gone ".to_owned()]);
        assert_eq!(meant(&[], true, ""), all);
        assert_eq!(meant(&["gone"], false, ""), Ok(vec!["gone gone ".to_owned()]));
        assert_eq!(meant(&["nobody"], false, ""), Err("NoSuchNode"));
        assert_eq!(meant(&[], false, ""), Err("InvalidField"));
        assert_eq!(meant(&["zone-a"], true, ""), Err("InvalidField"));
    }
}
