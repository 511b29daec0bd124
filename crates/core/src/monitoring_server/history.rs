//! What one figure has been, in three resolutions: 10 s for an hour, a minute for a day, a quarter of an hour
//! for 30 days (HLD §11.1).
//!
//! Time is the master's wall clock, cut into slots; a slot without a sample is a gap and is never made up.

use std::{collections::VecDeque, time::Duration};

use crate::time::WallTime;

/// A resolution, and how many slots of it there are at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    pub step: Duration,
    pub slots: usize,
}

/// The finest first.
pub const LEVELS: [Level; 3] = [
    Level { step: Duration::from_secs(10), slots: 360 },
    Level { step: Duration::from_secs(60), slots: 1440 },
    Level { step: Duration::from_secs(900), slots: 2880 },
];

/// Slots by which a ring grows at a time: most nodes are young.
const GROWTH: usize = 16;

/// What was seen within one slot.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Bucket {
    pub mean: f32,
    pub min: f32,
    pub max: f32,
    /// Samples in it; none is a gap.
    pub count: u32,
}

/// Bytes of memory that a slot takes.
pub const BUCKET_BYTES: usize = size_of::<Bucket>();

impl Bucket {
    pub fn of(value: f32) -> Self {
        Self { mean: value, min: value, max: value, count: 1 }
    }

    pub fn is_gap(&self) -> bool {
        self.count == 0
    }

    /// Both together, each with the weight of its samples.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        if self.is_gap() || other.is_gap() {
            return if self.is_gap() { other } else { self };
        }
        let count = self.count.saturating_add(other.count);
        #[allow(clippy::cast_precision_loss, reason = "a weight")]
        let weight = other.count as f32 / count as f32;
        Self {
            mean: self.mean + (other.mean - self.mean) * weight,
            min: self.min.min(other.min),
            max: self.max.max(other.max),
            count,
        }
    }
}

/// The slots of one resolution, without holes: from the oldest that is kept to the newest that was seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Ring {
    /// Number of the first slot since 1970.
    first: i64,
    buckets: VecDeque<Bucket>,
}

impl Ring {
    /// Adds to its slot what was seen. What lies further back than `slots` before the newest is too old.
    fn add(&mut self, slot: i64, bucket: Bucket, slots: usize) {
        if self.buckets.is_empty() {
            self.first = slot;
        }
        let end = self.first + as_i64(self.buckets.len());
        if slot >= end + as_i64(slots) {
            self.buckets.clear();
            self.first = slot;
        }
        while self.first + as_i64(self.buckets.len()) <= slot {
            self.make_room();
            self.buckets.push_back(Bucket::default());
        }
        let has_place = slot > end - 1 - as_i64(slots);
        while slot < self.first && has_place {
            self.make_room();
            self.buckets.push_front(Bucket::default());
            self.first -= 1;
        }
        self.trim(slots);
        let index = usize::try_from(slot - self.first).ok();
        if let Some(known) = index.and_then(|index| self.buckets.get_mut(index)) {
            *known = known.with(bucket);
        }
    }

    /// In small steps: doubling would cost half of the memory for nothing.
    fn make_room(&mut self) {
        if self.buckets.len() == self.buckets.capacity() {
            self.buckets.reserve_exact(GROWTH);
        }
    }

    fn trim(&mut self, slots: usize) {
        while self.buckets.len() > slots {
            self.buckets.pop_front();
            self.first += 1;
        }
        if self.buckets.capacity() > self.buckets.len() + 2 * GROWTH {
            self.buckets.shrink_to(slots);
        }
    }

    /// Where all of it lies so far ahead that `slot` has no place, a clock that was wrong has seen it.
    fn forget_what_is_far_ahead_of(&mut self, slot: i64, slots: usize) {
        if self.first + as_i64(self.buckets.len()) > slot.saturating_add(as_i64(slots)) {
            self.buckets.clear();
        }
    }

    fn within(&self, from: i64, through: i64) -> Bucket {
        let index = |slot: i64| usize::try_from((slot - self.first).max(0)).unwrap_or(usize::MAX);
        let end = index(through.saturating_add(1)).min(self.buckets.len());
        let start = index(from).min(end);
        self.buckets.range(start..end).fold(Bucket::default(), |all, bucket| all.with(*bucket))
    }
}

/// One figure of one node or container.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    rings: [Ring; 3],
    /// The newest sample, and when it was taken.
    pub newest: Option<(WallTime, f32)>,
}

impl Series {
    /// A sample of now. `share` of each level's slots is kept, in thousandths.
    pub fn sampled(&mut self, now: WallTime, value: f32, share: usize) {
        for (ring, level) in self.rings.iter_mut().zip(LEVELS) {
            ring.forget_what_is_far_ahead_of(slot(now, level.step), slots(level, share));
        }
        self.newest = Some((now, value));
        self.fill(now, Duration::ZERO, Bucket::of(value), share);
    }

    /// What was seen at an earlier time, averaged over `span`: finer levels than that have no use for it.
    pub fn fill(&mut self, at: WallTime, span: Duration, bucket: Bucket, share: usize) {
        for (ring, level) in self.rings.iter_mut().zip(LEVELS) {
            if level.step >= span {
                ring.add(slot(at, level.step), bucket, slots(level, share));
            }
        }
    }

    /// Forgets the oldest, so that only `share` thousandths of each level's slots are kept.
    pub fn cut(&mut self, share: usize) {
        for (ring, level) in self.rings.iter_mut().zip(LEVELS) {
            ring.trim(slots(level, share));
        }
    }

    /// All that was seen from `from` until before `until`, of the level that fits `step`.
    pub fn within(&self, level: usize, from: WallTime, until: WallTime) -> Bucket {
        let (Some(ring), Some(Level { step, .. })) = (self.rings.get(level), LEVELS.get(level))
        else {
            return Bucket::default();
        };
        ring.within(slot(from, *step), slot(WallTime(until.0 - 1), *step))
    }

    pub fn bytes(&self) -> usize {
        let capacity: usize = self.rings.iter().map(|ring| ring.buckets.capacity()).sum();
        super::SERIES_BYTES + capacity * BUCKET_BYTES
    }
}

/// Of a level, where only `share` thousandths may be kept.
fn slots(level: Level, share: usize) -> usize {
    (level.slots * share.min(1000) / 1000).max(1)
}

fn slot(at: WallTime, step: Duration) -> i64 {
    at.0.div_euclid(millis(step))
}

pub(super) fn millis(step: Duration) -> i64 {
    i64::try_from(step.as_millis()).unwrap_or(i64::MAX).max(1)
}

fn as_i64(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
