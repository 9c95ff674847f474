//! Where a world's decisions come from: a seed, or the bytes of a fuzzer's input.

use rand::{RngExt, SeedableRng, rngs::StdRng};

/// Decides what happens next. The same seed, or the same script, decides the same.
pub struct Fate {
    script: std::vec::IntoIter<u8>,
    rng: StdRng,
}

impl Fate {
    /// By a seed.
    pub fn seeded(seed: u64) -> Self {
        Self { script: Vec::new().into_iter(), rng: StdRng::seed_from_u64(seed) }
    }

    /// By a script, a byte for each decision; by one and the same seed when it is used up, so that the world goes on.
    pub fn scripted(script: Vec<u8>) -> Self {
        Self { script: script.into_iter(), ..Self::seeded(0) }
    }

    fn byte(&mut self) -> u8 {
        self.script.next().unwrap_or_else(|| self.rng.random())
    }

    /// True `of_256` times out of 256.
    pub fn happens(&mut self, of_256: u8) -> bool {
        self.byte() < of_256
    }

    /// Below `below`, which is not 0.
    pub fn pick(&mut self, below: usize) -> usize {
        let value = if below <= 256 {
            u32::from(self.byte())
        } else {
            u32::from_le_bytes([self.byte(), self.byte(), self.byte(), 0])
        };
        value as usize % below
    }

    /// One of these.
    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.pick(all.len())]
    }
}
