//! Random choices of a plan.

pub(crate) use generator::Random;

#[path = "../../src/relay/tests/random.rs"]
mod generator;

impl Random {
    pub const fn new(seed: u64) -> Self {
        Self(seed ^ 0x5851_F42D_4C95_7F2D)
    }

    /// A new generator for a part of what `self` decides. How many numbers that part uses does not affect the rest.
    pub const fn fork(&mut self) -> Self {
        Self(self.next())
    }

    /// A number from `start` to `end`, both included.
    pub fn between(&mut self, start: u64, end: u64) -> u64 {
        start + self.next() % (end - start + 1)
    }

    /// True with this probability, per mille.
    pub const fn per_mille(&mut self, chance: u32) -> bool {
        self.next() % 1000 < chance as u64
    }

    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// An index into `weights`. Each is as likely as its weight.
    pub fn weighted(&mut self, weights: &[u32]) -> usize {
        let mut left = self.next() % weights.iter().map(|&weight| u64::from(weight)).sum::<u64>();
        for (index, &weight) in weights.iter().enumerate() {
            if left < u64::from(weight) {
                return index;
            }
            left -= u64::from(weight);
        }
        unreachable!("less than their sum")
    }

    /// One of the values in `rows`. Each is as likely as the weight before it.
    pub fn among<T: Copy>(&mut self, rows: &[(u32, T)]) -> T {
        let weights: Vec<u32> = rows.iter().map(|&(weight, _)| weight).collect();
        rows[self.weighted(&weights)].1
    }

    /// A length: mostly short, often at a boundary, and sometimes any number up to `max`.
    pub fn length(&mut self, max: usize) -> usize {
        const BORDERS: [usize; 14] =
            [0, 1, 124, 125, 126, 127, 16_383, 16_384, 16_385, 65_535, 65_536, 131_071, 131_072, 131_073];
        const SHORT_END: usize = 200;
        const MIDDLING_END: usize = 5_000;
        #[derive(Clone, Copy)]
        enum Length {
            Short,
            Border,
            Middling,
            Any,
        }
        const LENGTHS: [(u32, Length); 4] =
            [(5, Length::Short), (1, Length::Border), (1, Length::Middling), (1, Length::Any)];
        let length = match self.among(&LENGTHS) {
            Length::Short => self.below(SHORT_END),
            Length::Border => self.pick(&BORDERS),
            Length::Middling => self.below(MIDDLING_END),
            Length::Any => self.below(max + 1),
        };
        length.min(max)
    }
}
