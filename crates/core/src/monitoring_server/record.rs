//! What is put on disk of the memory, and how it comes back.
//!
//! A record is a stretch of time at one level. A later one of the same slots is the truer one: a slot that was not
//! over yet is written again once it is.

use std::collections::BTreeMap;

use super::{
    MonitoringServer, SeriesName,
    history::{Bucket, LEVELS, Series},
};
use crate::{model::NodeId, time::WallTime};

#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Index into [`LEVELS`].
    pub level: usize,
    /// Of the first slot of each series.
    pub from: WallTime,
    pub series: Vec<Stretch>,
}

/// One series within it, slot by slot.
#[derive(Debug, Clone, PartialEq)]
pub struct Stretch {
    pub node: NodeId,
    pub name: SeriesName,
    pub buckets: Vec<Bucket>,
}

/// What an earlier life has written, put together.
#[derive(Debug, Default)]
pub struct Recalled(BTreeMap<(NodeId, SeriesName), Series>);

impl Recalled {
    /// Records are put in in the order in which they were written.
    pub fn put(&mut self, record: Record) {
        let Some(level) = LEVELS.get(record.level) else { return };
        for Stretch { node, name, buckets } in record.series {
            let series = self.0.entry((node, name)).or_default();
            series.put(record.level, record.from, buckets.into_iter().take(level.slots));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl MonitoringServer {
    /// What was seen in the slots of a level from `from` until before `until`; series of which nothing was seen are
    /// left out.
    pub fn record(&self, level: usize, from: WallTime, until: WallTime) -> Record {
        let mut series = Vec::new();
        for (node, history) in &self.nodes {
            for (name, one) in &history.series {
                let buckets = one.slots(level, from, until);
                if buckets.iter().any(|bucket| !bucket.is_gap()) {
                    series.push(Stretch { node: node.clone(), name: name.clone(), buckets });
                }
            }
        }
        Record { level, from, series }
    }

    /// Puts what an earlier life remembers of the nodes that are there beneath what this one has seen.
    pub fn absorb(&mut self, recalled: Recalled) {
        for ((node, name), earlier) in recalled.0 {
            let share = self.share();
            let Some(series) = self.series_of(&node, &name) else { continue };
            series.absorb(earlier, share);
        }
        self.cut(self.share());
    }
}
