//! Full-jitter back-off, saturating and capped. Its randomness comes from a seed, so it replays.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(250);
/// Doublings after which the cap is reached whatever it is.
const DOUBLINGS_MAX: u32 = 20;

#[derive(Debug, Clone)]
pub(super) struct Backoff {
    state: u64,
    attempts: u32,
    cap: Duration,
}

impl Backoff {
    pub(super) fn new(seed: u64, cap: Duration) -> Self {
        Self { state: seed, attempts: 0, cap }
    }

    pub(super) fn reset(&mut self) {
        self.attempts = 0;
    }

    /// Anything from zero to the present bound.
    pub(super) fn next(&mut self) -> Duration {
        let bound = FIRST.saturating_mul(1 << self.attempts.min(DOUBLINGS_MAX)).min(self.cap);
        self.attempts = self.attempts.saturating_add(1);
        self.between(Duration::ZERO, bound)
    }

    pub(super) fn between(&mut self, low: Duration, high: Duration) -> Duration {
        let range = u64::try_from(high.saturating_sub(low).as_micros()).unwrap_or(u64::MAX);
        low + Duration::from_micros(self.random() % range.saturating_add(1).max(1))
    }

    /// SplitMix64.
    pub(super) fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_to_the_cap_and_never_overflows() {
        let cap = Duration::from_secs(3);
        let mut backoff = Backoff::new(7, cap);
        let mut largest = Duration::ZERO;
        for attempt in 0..10_000u32 {
            let bound = FIRST.saturating_mul(1 << attempt.min(DOUBLINGS_MAX)).min(cap);
            let delay = backoff.next();
            assert!(delay <= bound, "attempt {attempt}: {delay:?}");
            largest = largest.max(delay);
        }
        assert!(largest > cap * 9 / 10, "the jitter is full: {largest:?}");
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
