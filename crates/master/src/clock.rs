//! Both clocks of the master, read once per input.
//!
//! The monotonic one counts the time that a machine sleeps: after a suspend the agents have really been silent.
//! The wall clock never shows less than the floor that certificates are checked with.

use std::time::Duration;

use piccolo_core::time::{Now, Timestamp, WallTime};
use piccolo_rpc::tls::clock::Clock;
use rustix::time::{ClockId, clock_gettime};

#[derive(Debug, Clone)]
pub(crate) struct MasterClock {
    /// Of this process, so that timestamps are small and never zero at the start of the machine.
    started: Duration,
    wall: Clock,
}

impl MasterClock {
    pub(crate) fn new(wall: Clock) -> Self {
        Self { started: since_boot(), wall }
    }

    pub(crate) fn now(&self) -> Now {
        let at = since_boot().saturating_sub(self.started);
        // a second's start, so that nothing has happened at zero
        let at = Timestamp::from_millis(1000) + at;
        Now { at, wall: self.wall_time() }
    }

    /// Seconds since 1970, for certificates.
    pub(crate) fn seconds(&self) -> u64 {
        self.wall.now()
    }

    fn wall_time(&self) -> WallTime {
        WallTime(i64::try_from(self.wall.time().as_millis()).unwrap_or(i64::MAX))
    }
}

/// Time since the machine booted, its sleep included.
fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}
