//! Clocks of machines: a rate, a start, and a wall clock that may be wrong. True time is ours alone.

use piccolo_core::time::{Now, Timestamp, WallTime};

pub(crate) const SECOND: u64 = 1_000_000;
pub(crate) const MINUTE: u64 = 60 * SECOND;
/// The true wall clock when a simulation begins: 2026-11-01, in milliseconds.
const WALL_START: i64 = 1_793_491_200_000;

/// Microseconds of true time.
pub(crate) type True = u64;

#[derive(Debug, Clone)]
pub(crate) struct Clock {
    /// Local microseconds in a million true ones.
    rate: u64,
    pub(crate) booted_at: True,
    /// Of the local monotonic clock at boot.
    start: u64,
    /// Milliseconds that the wall clock is wrong by.
    pub(crate) wall_offset: i64,
}

impl Clock {
    pub(crate) fn new(rate: u64, start: u64) -> Self {
        Self { rate, booted_at: 0, start, wall_offset: 0 }
    }

    /// A new boot begins: monotonic time starts somewhere else.
    pub(crate) fn boot(&mut self, at: True, start: u64) {
        self.booted_at = at;
        self.start = start;
    }

    pub(crate) fn local(&self, at: True) -> Timestamp {
        Timestamp(self.start + at.saturating_sub(self.booted_at) * self.rate / 1_000_000)
    }

    pub(crate) fn now(&self, at: True) -> Now {
        Now { at: self.local(at), wall: WallTime(true_wall(at).0 + self.wall_offset) }
    }

    /// The first true moment at which the local clock shows `local`.
    pub(crate) fn when(&self, local: Timestamp) -> True {
        let elapsed = local.0.saturating_sub(self.start);
        self.booted_at + (elapsed * 1_000_000).div_ceil(self.rate)
    }
}

pub(crate) fn true_wall(at: True) -> WallTime {
    WallTime(WALL_START + i64::try_from(at / 1000).unwrap_or(i64::MAX))
}
