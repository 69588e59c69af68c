//! The random numbers behind masks and pairs: the same on every machine, and for ever.

/// SplitMix64 (Steele, Lea, Flood 2014).
pub struct Random(u64);

impl Random {
    /// A stream of its own for each number under a seed.
    pub fn new(seed: u64, stream: u64) -> Self {
        let first = Self(seed).next();
        Self(Self(first.wrapping_add(stream)).next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`, 0 for 0; uneven by less than `end / 2⁶⁴`.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }

    /// Puts `count` items, chosen at random, to the front.
    ///
    /// # Panics
    ///
    /// If there are fewer.
    pub fn choose<'i, T>(&mut self, items: &'i mut [T], count: usize) -> &'i mut [T] {
        for at in 0..count {
            let other = at + self.below(items.len() - at);
            items.swap(at, other);
        }
        &mut items[..count]
    }
}
