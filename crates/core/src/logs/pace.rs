//! How many lines an agent reads for somebody: a board that logs without end must not spend itself on being read.
//! What is there already is read no faster than that, and waits; what comes while a reader follows cannot wait, and
//! is left out and counted.

use std::time::Duration;

use crate::time::Timestamp;

/// How many lines. A longer one than [`LINE_BYTES`] counts as several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// In the long run; 1 at least.
    pub per_second: u64,
    /// In a moment.
    pub burst: u64,
}

/// Of one stream.
const READING: Rate = Rate { per_second: 2_000, burst: 10_000 };
const LINE_BYTES: usize = 256;
const MICROS: u64 = 1_000_000;

/// The budget of one stream.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    rate: Rate,
    /// In millionths of a line.
    left: u64,
    at: Timestamp,
}

impl Pace {
    pub fn new(now: Timestamp) -> Self {
        Self::of(READING, now)
    }

    pub fn of(rate: Rate, now: Timestamp) -> Self {
        Self { rate, left: rate.burst * MICROS, at: now }
    }

    /// Takes a line of so many bytes; otherwise says how long it would have to wait.
    ///
    /// # Errors
    /// The time until there is room for it.
    pub fn take(&mut self, now: Timestamp, bytes: usize) -> Result<(), Duration> {
        let micros = u64::try_from(now.since(self.at).as_micros()).unwrap_or(u64::MAX);
        let filled = self.left.saturating_add(micros.saturating_mul(self.rate.per_second));
        self.left = filled.min(self.rate.burst * MICROS);
        self.at = now;
        let lines = u64::try_from(bytes.div_ceil(LINE_BYTES)).unwrap_or(u64::MAX).max(1);
        let cost = lines.min(self.rate.burst) * MICROS;
        if let Some(left) = self.left.checked_sub(cost) {
            self.left = left;
            return Ok(());
        }
        Err(Duration::from_micros((cost - self.left).div_ceil(self.rate.per_second)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_so_many_a_second() {
        let mut pace = Pace::new(Timestamp(0));
        let burst = (0..20_000).filter(|_| pace.take(Timestamp(0), 10).is_ok()).count();
        assert_eq!(burst, 10_000);
        assert_eq!(pace.take(Timestamp(0), 10), Err(Duration::from_micros(500)));
        let second = Timestamp(1_000_000);
        let next = (0..20_000).filter(|_| pace.take(second, 10).is_ok()).count();
        assert_eq!(next, 2_000);
    }

    #[test]
    fn a_long_line_counts_as_several_and_never_waits_for_ever() {
        let mut pace = Pace::new(Timestamp(0));
        let long = (0..20_000).filter(|_| pace.take(Timestamp(0), 2_560).is_ok()).count();
        assert_eq!(long, 1_000);
        let wait = pace.take(Timestamp(0), usize::MAX).unwrap_err();
        assert_eq!(pace.take(Timestamp(0) + wait, usize::MAX), Ok(()));
    }
}
