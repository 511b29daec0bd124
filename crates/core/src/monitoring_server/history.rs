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

/// Slots by which a ring grows at a time, at most: most nodes and all the more containers are young.
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

/// A bucket as a ring keeps it. Nearly all of what the master remembers are these, so not a byte of them is for nothing: a
/// quarter of an hour with a sample every second has 900.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[repr(Rust, packed(2))]
struct Slot {
    mean: f32,
    min: f32,
    max: f32,
    /// At most: more samples than that weigh no more.
    count: u16,
}

/// Bytes of memory that a slot takes.
pub const SLOT_BYTES: usize = size_of::<Slot>();

impl From<Bucket> for Slot {
    fn from(Bucket { mean, min, max, count }: Bucket) -> Self {
        Self { mean, min, max, count: u16::try_from(count).unwrap_or(u16::MAX) }
    }
}

impl From<Slot> for Bucket {
    fn from(Slot { mean, min, max, count }: Slot) -> Self {
        Self { mean, min, max, count: count.into() }
    }
}

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
pub(crate) struct Ring {
    /// Number of the first slot since 1970.
    first: i64,
    buckets: VecDeque<Slot>,
}

impl Ring {
    /// Adds to its slot what was seen. What lies further back than `slots` before the newest is too old.
    pub(crate) fn add(&mut self, slot: i64, bucket: Bucket, slots: usize) {
        if self.buckets.is_empty() {
            self.first = slot;
        }
        let end = self.end();
        if slot >= end + as_i64(slots) {
            self.buckets.clear();
            self.first = slot;
        }
        while self.end() <= slot {
            self.make_room();
            self.buckets.push_back(Slot::default());
        }
        let has_place = slot > end - 1 - as_i64(slots);
        while slot < self.first && has_place {
            self.make_room();
            self.buckets.push_front(Slot::default());
            self.first -= 1;
        }
        self.trim(slots);
        let index = usize::try_from(slot - self.first).ok();
        if let Some(known) = index.and_then(|index| self.buckets.get_mut(index)) {
            *known = Bucket::from(*known).with(bucket).into();
        }
    }

    pub(crate) fn first(&self) -> i64 {
        self.first
    }

    /// Behind the newest.
    pub(crate) fn end(&self) -> i64 {
        self.first.saturating_add(as_i64(self.buckets.len()))
    }

    /// In place of what is there.
    fn put(&mut self, slot: i64, bucket: Bucket, slots: usize) {
        self.add(slot, Bucket::default(), slots);
        let index = usize::try_from(slot - self.first).ok();
        if let Some(known) = index.and_then(|index| self.buckets.get_mut(index)) {
            *known = bucket.into();
        }
    }

    /// In steps that stay small: doubling would cost half of the memory for nothing.
    fn make_room(&mut self) {
        if self.buckets.len() == self.buckets.capacity() {
            self.buckets.reserve_exact(self.buckets.len().clamp(1, GROWTH));
        }
    }

    pub(crate) fn trim(&mut self, slots: usize) {
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
        if self.end() > slot.saturating_add(as_i64(slots)) {
            self.buckets.clear();
        }
    }

    /// One for each of these slots; gaps where nothing is kept.
    pub(crate) fn slots(&self, first: i64, end: i64) -> Vec<Bucket> {
        let count = usize::try_from(end.saturating_sub(first)).unwrap_or(0);
        let mut all = vec![Bucket::default(); count];
        for (slot, bucket) in self.range(first, end) {
            let place = usize::try_from(slot - first).ok().and_then(|index| all.get_mut(index));
            if let Some(place) = place {
                *place = bucket;
            }
        }
        all
    }

    /// Of these slots, as far as they are kept.
    fn range(&self, from: i64, until: i64) -> impl Iterator<Item = (i64, Bucket)> {
        let index = |slot: i64| {
            usize::try_from(slot.saturating_sub(self.first).max(0)).unwrap_or(usize::MAX)
        };
        let end = index(until).min(self.buckets.len());
        let start = index(from).min(end);
        let first = self.first.saturating_add(as_i64(start));
        (first..).zip(self.buckets.range(start..end).map(|slot| Bucket::from(*slot)))
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
        let end = slot(WallTime(until.0 - 1), *step).saturating_add(1);
        let seen = ring.range(slot(from, *step), end);
        seen.fold(Bucket::default(), |all, (_, bucket)| all.with(bucket))
    }

    /// Slot by slot, from `from` until before `until`; gaps where nothing was seen.
    pub fn slots(&self, level: usize, from: WallTime, until: WallTime) -> Vec<Bucket> {
        let (Some(ring), Some(Level { step, slots })) = (self.rings.get(level), LEVELS.get(level))
        else {
            return Vec::new();
        };
        let first = slot(from, *step);
        let end = slot(WallTime(until.0 - 1), *step).saturating_add(1);
        ring.slots(first, end.min(first.saturating_add(as_i64(*slots))))
    }

    /// What was written of a level, from `from` on, in place of what is there.
    pub(super) fn put(
        &mut self,
        level: usize,
        from: WallTime,
        buckets: impl Iterator<Item = Bucket>,
    ) {
        let (Some(ring), Some(Level { step, slots })) =
            (self.rings.get_mut(level), LEVELS.get(level))
        else {
            return;
        };
        for (slot, bucket) in (slot(from, *step)..).zip(buckets).filter(|(_, b)| !b.is_gap()) {
            ring.put(slot, bucket, *slots);
        }
    }

    /// Puts what an earlier life has seen of the same beneath what this one has.
    pub(super) fn absorb(&mut self, earlier: Self, share: usize) {
        // what is large stays where it is: this life has only begun
        let own = std::mem::replace(self, earlier);
        self.cut(share);
        self.add(&own, share);
        self.newest = own.newest;
    }

    fn add(&mut self, other: &Self, share: usize) {
        for ((ring, level), theirs) in self.rings.iter_mut().zip(LEVELS).zip(&other.rings) {
            for (slot, bucket) in theirs.range(i64::MIN, i64::MAX).filter(|(_, b)| !b.is_gap()) {
                ring.add(slot, bucket, slots(level, share));
            }
        }
    }

    /// Of the newest sample; the start of its slot where an earlier life took it.
    pub(super) fn newest_at(&self) -> WallTime {
        let of_slots = self.rings.iter().zip(LEVELS).map(|(ring, level)| {
            let last = ring.end() - 1;
            WallTime(last.saturating_mul(millis(level.step)))
        });
        let of_slots = of_slots.max().unwrap_or_default();
        self.newest.map_or(of_slots, |(at, _)| at)
    }

    pub fn bytes(&self) -> usize {
        let capacity: usize = self.rings.iter().map(|ring| ring.buckets.capacity()).sum();
        super::SERIES_BYTES + capacity * SLOT_BYTES
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

pub(crate) fn as_i64(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
