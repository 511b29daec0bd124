//! Wall time for certificates, on boards that boot in 1970.
//!
//! A certificate is checked against a date, and many boards have no battery behind their clock. So
//! the date used here is never earlier than a *floor*: the newest moment that is known to be past.
//! The floor starts at the year of this program and is raised by what the owner stored on disk, by
//! the start of its own certificate's life, and by what a verified master said.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

/// 2026-01-01T00:00:00Z, in seconds since 1970. A clock that shows less is wrong.
pub const EARLIEST_UNIX_SECONDS: u64 = 1_767_225_600;

/// A clock with a floor, shared by everything that checks certificates in one process.
#[derive(Clone, Debug)]
pub struct Clock {
    floor: Arc<AtomicU64>,
}

impl Clock {
    /// A clock that never shows less than `floor`, in seconds since 1970.
    #[must_use]
    pub fn with_floor(floor: u64) -> Clock {
        Clock { floor: Arc::new(AtomicU64::new(floor.max(EARLIEST_UNIX_SECONDS))) }
    }

    /// Seconds since 1970: the system's time or the floor, whichever is later.
    #[must_use]
    pub fn now(&self) -> u64 {
        let system =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        system.max(self.floor())
    }

    /// The floor, in seconds since 1970: what to keep on disk.
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.floor.load(Ordering::Relaxed)
    }

    /// Learns that `moment` (seconds since 1970) is past. Never lowers the floor.
    ///
    /// Pass only what a verified peer or an own certificate says: a floor far in the future makes
    /// every certificate look expired.
    pub fn raise(&self, moment: u64) {
        self.floor.fetch_max(moment, Ordering::Relaxed);
    }
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::with_floor(EARLIEST_UNIX_SECONDS)
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.now())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2100-01-01: later than any machine that runs this test believes.
    const FAR_AHEAD: u64 = 4_102_444_800;

    #[test]
    fn a_floor_is_raised_and_never_lowered() {
        let clock = Clock::default();
        clock.raise(FAR_AHEAD);
        clock.raise(FAR_AHEAD - 1);
        assert_eq!(clock.floor(), FAR_AHEAD);
        assert_eq!(clock.now(), FAR_AHEAD);
    }

    #[test]
    fn a_floor_before_the_program_itself_is_not_believed() {
        assert_eq!(Clock::with_floor(0).floor(), EARLIEST_UNIX_SECONDS);
    }

    #[test]
    fn clones_share_one_floor() {
        let clock = Clock::default();
        clock.clone().raise(FAR_AHEAD);
        assert_eq!(clock.now(), FAR_AHEAD);
    }
}
