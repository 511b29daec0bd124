//! Wall time for certificates, on boards that boot in 1970.
//!
//! A certificate is checked against a date, and many boards have no battery behind their clock. So
//! the date used here is never earlier than a *floor*: the newest moment that is known to be past.
//! The floor starts at the year of this program and is raised by what the owner stored on disk, by
//! the start of its own certificate's life, and by what a verified master said. While the system's clock
//! shows less than that year, the floor goes on with it: time would stand still otherwise.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

/// 2026-01-01T00:00:00Z, in seconds since 1970. A clock that shows less is wrong.
pub const EARLIEST_UNIX_SECONDS: u64 = 1_767_225_600;

/// A clock with a floor, shared by everything that checks certificates in one process.
#[derive(Clone, Debug)]
pub struct Clock {
    floor: Arc<Mutex<Floor>>,
}

/// A moment that is known to be past, and what the system's clock showed when that was learned.
#[derive(Clone, Copy, Debug)]
struct Floor {
    moment: u64,
    learned: Duration,
}

impl Floor {
    /// A system's clock that is certainly wrong still runs: so does the floor then, or time would stand still.
    /// Below one that may be right it stays, so that a floor which is itself too late is outlived.
    fn at(self, system: Duration) -> Duration {
        let moment = Duration::from_secs(self.moment);
        let earliest = Duration::from_secs(EARLIEST_UNIX_SECONDS);
        if system < earliest {
            moment.saturating_add(system.saturating_sub(self.learned))
        } else {
            moment
        }
    }
}

impl Clock {
    /// A clock that never shows less than `floor`, in seconds since 1970.
    #[must_use]
    pub fn with_floor(floor: u64) -> Clock {
        let floor = Floor { moment: floor.max(EARLIEST_UNIX_SECONDS), learned: system() };
        Clock { floor: Arc::new(Mutex::new(floor)) }
    }

    /// Seconds since 1970: as [`Clock::time`].
    #[must_use]
    pub fn now(&self) -> u64 {
        self.time().as_secs()
    }

    /// Since 1970: the system's time or the floor, whichever is later.
    #[must_use]
    pub fn time(&self) -> Duration {
        let system = system();
        system.max(self.known().at(system))
    }

    /// The floor, in seconds since 1970: what to keep on disk.
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.known().at(system()).as_secs()
    }

    /// Learns that `moment` (seconds since 1970) is past. Never lowers the floor.
    ///
    /// Pass only what a verified peer or an own certificate says: a floor far in the future makes
    /// every certificate look expired.
    pub fn raise(&self, moment: u64) {
        let system = system();
        let mut floor = self.floor.lock().unwrap_or_else(PoisonError::into_inner);
        if Duration::from_secs(moment) > floor.at(system) {
            *floor = Floor { moment, learned: system };
        }
    }

    fn known(&self) -> Floor {
        *self.floor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn system() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
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
    fn time_does_not_stand_still_on_a_board_that_has_booted_in_1970() {
        let hour = Duration::from_secs(3600);
        let floor = Floor { moment: FAR_AHEAD, learned: hour };
        let moment = Duration::from_secs(FAR_AHEAD);
        assert_eq!(floor.at(hour), moment);
        assert_eq!(floor.at(2 * hour), moment + hour);
        assert_eq!(floor.at(Duration::ZERO), moment, "it was set back");
        // from now on the system's clock may be right, and outlives a floor that is too late
        assert_eq!(floor.at(Duration::from_secs(EARLIEST_UNIX_SECONDS)), moment);
        assert_eq!(floor.at(Duration::from_secs(FAR_AHEAD - 1)), moment);
    }

    #[test]
    fn clones_share_one_floor() {
        let clock = Clock::default();
        clock.clone().raise(FAR_AHEAD);
        assert_eq!(clock.now(), FAR_AHEAD);
    }
}
