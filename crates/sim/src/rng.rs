//! Randomness from a seed: SplitMix64, forked per purpose so that one more draw here moves nothing there.

#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        // one step, so that neighbouring seeds are strangers
        let mut rng = Self(seed);
        let state = rng.next();
        Self(state)
    }

    /// A stream of its own for `purpose`.
    pub(crate) fn fork(&self, purpose: &str) -> Self {
        let mixed = purpose.bytes().fold(self.0, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3).rotate_left(17)
        });
        Self::new(mixed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From zero, `bound` excluded; zero where there is no choice.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        if bound <= 1 { 0 } else { self.next() % bound }
    }

    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.index(from.len()))
    }

    /// Somewhere between the two, small values as likely as large ones.
    pub(crate) fn scale(&mut self, low: u64, high: u64) -> u64 {
        let doublings = (high / low.max(1)).max(1).ilog2();
        let low = low << self.below(u64::from(doublings) + 1);
        self.between(low, (low * 2).min(high).max(low))
    }
}
