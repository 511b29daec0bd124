//! The MonitoringServer's memory: what nodes and their containers have told of themselves, and how to ask for
//! it (HLD §3.1, §11.1).
//!
//! - [`alerts`]: what people should know of
//! - [`export`]: when it is sent on, where somebody wants that
//! - [`history`]: one figure in three resolutions
//! - [`query`]: a figure over a range, in steps, of one node or of many together
//! - [`record`]: what is put on disk, and how it comes back
//!
//! It is bounded by bytes: the more series there are, the less far back each of them goes.

pub mod alerts;
pub mod export;
pub mod history;
pub mod query;
pub mod record;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use self::history::{LEVELS, SLOT_BYTES, Series};
use crate::{
    model::{ContainerReport, NodeId, NodeRecord, NodeView},
    session::{CONTAINERS_MAX, METRICS_MAX, MISSED_STEP, MissedFigures, MissedSeries},
    time::WallTime,
};

/// What is remembered of all nodes together, by default.
pub const BYTES_MAX: usize = 24 << 20;
/// A series that nothing was heard of for so long is forgotten: its container or its node is gone.
pub const KEPT_FOR: Duration = Duration::from_secs(86_400);
/// The figure of a node's link: from a beat that its agent sends until the master's answer.
pub const ROUND_TRIP: &str = "round_trip_seconds";
/// What an agent of this version tells of its node. An agent of somebody's own may tell more.
pub const NODE_FIGURES: [&str; 13] = [
    "cpu_percent",
    "disk_free_bytes",
    "disk_total_bytes",
    "load1",
    "load15",
    "load5",
    "memory_available_bytes",
    "memory_total_bytes",
    "network_rx_bytes_per_s",
    "network_tx_bytes_per_s",
    ROUND_TRIP,
    "temperature_celsius",
    "uptime_seconds",
];
/// Before it has run for so long, a container's figures are not kept: what lives for seconds has no history.
pub const YOUNG_FOR: Duration = Duration::from_secs(30);
/// Thousandths of each resolution that a series has at least; where there is no room for that, it is refused.
const SHARE_MIN: usize = 10;
/// Series of one node at most: whoever makes up names takes the room of nobody else.
const SERIES_PER_NODE_MAX: usize = METRICS_MAX + 2 * CONTAINERS_MAX;
/// Bytes that a series takes beside its slots: itself, its name and its place in a tree, about.
const SERIES_BYTES: usize = size_of::<Series>() + 256;

#[derive(Debug)]
pub struct MonitoringServer {
    bytes_max: usize,
    nodes: BTreeMap<NodeId, NodeHistory>,
    series: usize,
    /// Thousandths of each resolution that all series were cut to last.
    cut_to: usize,
    /// Samples of series for which there was no room.
    refused: u64,
    swept: WallTime,
}

/// What is remembered of one node.
#[derive(Debug)]
struct NodeHistory {
    /// As it was seen last: for its name and its labels.
    record: Arc<NodeRecord>,
    /// The report that was taken last.
    sampled_at: Option<WallTime>,
    series: BTreeMap<SeriesName, Series>,
    /// Containers of that report that ran, and since when.
    running: BTreeMap<String, WallTime>,
}

/// Of the node itself where the container is empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct SeriesName {
    pub container: String,
    pub figure: String,
}

/// How large it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extent {
    pub nodes: usize,
    pub series: usize,
    pub bytes: usize,
    pub refused: u64,
}

impl MonitoringServer {
    pub fn new(bytes_max: usize) -> Self {
        let (nodes, swept) = (BTreeMap::new(), WallTime::default());
        Self { bytes_max, nodes, series: 0, cut_to: 1000, refused: 0, swept }
    }

    /// A node as it is seen now. Its figures count once for each of its reports, however often it is seen.
    pub fn seen(&mut self, now: WallTime, view: &NodeView) {
        let node = self.nodes.entry(view.record.id.clone()).or_insert_with(|| NodeHistory {
            record: Arc::new(view.record.clone()),
            sampled_at: None,
            series: BTreeMap::new(),
            running: BTreeMap::new(),
        });
        if *node.record != view.record {
            node.record = Arc::new(view.record.clone());
        }
        if view.sampled_at.is_none() || node.sampled_at == view.sampled_at {
            return;
        }
        node.sampled_at = view.sampled_at;
        let old = node.see_running(now, &view.containers);
        let id = &view.record.id;
        // one for all samples: names are copied where a series begins
        let mut name = SeriesName::default();
        for (figure, text) in &view.metrics {
            if let Some(value) = number(text) {
                figure.clone_into(&mut name.figure);
                self.sampled(now, id, &name, value);
            }
        }
        for container in old {
            container.name.clone_into(&mut name.container);
            for (figure, value) in figures(container) {
                figure.clone_into(&mut name.figure);
                self.sampled(now, id, &name, value);
            }
        }
        self.sweep(now);
    }

    /// What a node has told of the time in which nobody heard it.
    pub fn missed(&mut self, now: WallTime, node: &NodeId, figures: &MissedFigures) {
        let from = WallTime(now.0.saturating_sub(history::millis(figures.age)));
        for MissedSeries { name, buckets } in &figures.series {
            let share = self.share();
            let Some(series) = self.series_of(node, name) else { continue };
            let slots = (0..).map(|n| from.plus(MISSED_STEP * n)).zip(buckets);
            for (at, bucket) in slots.filter(|(_, bucket)| !bucket.is_gap()) {
                series.fill(at, MISSED_STEP, *bucket, share);
            }
        }
        self.cut(self.share());
    }

    /// It was removed, and nobody is to see it any more.
    pub fn removed(&mut self, node: &NodeId) {
        if let Some(gone) = self.nodes.remove(node) {
            self.series -= gone.series.len();
        }
    }

    fn sampled(&mut self, now: WallTime, id: &NodeId, name: &SeriesName, value: f32) {
        let share = self.share();
        if share < self.cut_to * 9 / 10 {
            self.cut(share);
        }
        if let Some(series) = self.series_of(id, name) {
            series.sampled(now, value, share);
        }
    }

    /// Where there is room for it; of a node that is there.
    fn series_of(&mut self, id: &NodeId, name: &SeriesName) -> Option<&mut Series> {
        let node = self.nodes.get_mut(id)?;
        if !node.series.contains_key(name) {
            let full = (self.series + 1) * least_bytes() > self.bytes_max;
            if full || node.series.len() >= SERIES_PER_NODE_MAX {
                self.refused += 1;
                return None;
            }
            self.series += 1;
            node.series.insert(name.clone(), Series::default());
        }
        node.series.get_mut(name)
    }

    /// Thousandths of each resolution that all series can have within the bytes that there are.
    fn share(&self) -> usize {
        let for_slots = (self.bytes_max / (self.series + 1)).saturating_sub(SERIES_BYTES);
        (for_slots * 1000 / slots_bytes()).clamp(SHARE_MIN, 1000)
    }

    fn cut(&mut self, share: usize) {
        self.nodes
            .values_mut()
            .flat_map(|node| node.series.values_mut())
            .for_each(|s| s.cut(share));
        self.cut_to = share;
    }

    /// Once a minute: forgets the series that nothing was heard of for long.
    fn sweep(&mut self, now: WallTime) {
        if now.since(self.swept) < Duration::from_secs(60) && self.swept <= now {
            return;
        }
        self.swept = now;
        for node in self.nodes.values_mut() {
            node.series.retain(|_, series| now.since(series.newest_at()) < KEPT_FOR);
        }
        self.series = self.nodes.values().map(|node| node.series.len()).sum();
        self.cut_to = self.share();
    }

    pub fn extent(&self) -> Extent {
        let series = self.nodes.values().flat_map(|node| node.series.values());
        Extent {
            nodes: self.nodes.len(),
            series: self.series,
            bytes: series.map(Series::bytes).sum(),
            refused: self.refused,
        }
    }
}

impl NodeHistory {
    /// Those that have run for a while. Their node says since when, but its clock may be ahead; and one that is
    /// started again and again has run all the time.
    fn see_running<'c>(
        &mut self,
        now: WallTime,
        containers: &'c [ContainerReport],
    ) -> Vec<&'c ContainerReport> {
        let mut before = std::mem::take(&mut self.running);
        let mut old = Vec::new();
        for container in containers.iter().filter(|container| container.is_running()) {
            let entry = before.remove_entry(&container.name);
            let (name, known) = entry.unwrap_or_else(|| (container.name.clone(), now));
            let since = container.started_at.map_or(known, |at| at.min(known)).min(now);
            if now.since(since) >= YOUNG_FOR {
                old.push(container);
            }
            self.running.insert(name, since);
        }
        old
    }
}

/// Of all slots of one series.
fn slots_bytes() -> usize {
    LEVELS.iter().map(|level| level.slots).sum::<usize>() * SLOT_BYTES
}

/// Of a series at the least.
fn least_bytes() -> usize {
    SERIES_BYTES + slots_bytes() * SHARE_MIN / 1000
}

/// What is kept of a container that runs.
pub(crate) fn figures(container: &ContainerReport) -> [(&'static str, f32); 2] {
    #[allow(clippy::cast_precision_loss, reason = "seven digits are enough for a picture")]
    let (cpu, memory) = (container.cpu_basis_points as f32 / 100.0, container.memory_bytes as f32);
    [("cpu_percent", cpu), ("memory_bytes", memory)]
}

/// A figure is a number that is finite; other texts are shown, and not remembered.
pub(crate) fn number(text: &str) -> Option<f32> {
    text.parse::<f32>().ok().filter(|value| value.is_finite())
}
