//! Seeded random numbers: SplitMix64 (Steele, Lea, Flood 2014).
//!
//! ```text
//! state += 0x9E3779B97F4A7C15        output = mix(state)
//! mix(z):  z ^= z >> 30;  z *= 0xBF58476D1CE4E5B9
//!          z ^= z >> 27;  z *= 0x94D049BB133111EB;  z ^= z >> 31
//! ```
//!
//! Implemented here, because a run must draw the same numbers on every platform and with every
//! version of a dependency. [`Random::keyed`] derives a stream from the purpose of its numbers,
//! such as (seed, epoch) or (seed, step, layer). So resuming needs no saved state, and streams do
//! not depend on how much other streams were used.

const INCREMENT: u64 = 0x9E37_79B9_7F4A_7C15;

/// A stream of random numbers. Not cryptographically secure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The stream of a key. Keys with different parts, order or length have unrelated streams.
    pub fn keyed(key: &[u64]) -> Self {
        let state =
            key.iter().fold(mix(key.len() as u64), |state, &part| mix(state.wrapping_add(INCREMENT) ^ mix(part)));
        Self { state }
    }

    /// 64 uniform bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(INCREMENT);
        mix(self.state)
    }

    /// Uniform in `[0, 1)`, a multiple of 2^-24.
    pub fn uniform(&mut self) -> f32 {
        uniform(self.next_u64())
    }

    /// Uniform in `0..bound`, without bias (Lemire 2019).
    ///
    /// # Panics
    ///
    /// If `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "no number is below 0");
        // The first 2^64 mod bound low halves would introduce a bias.
        let excess = bound.wrapping_neg() % bound;
        loop {
            let product = u128::from(self.next_u64()) * u128::from(bound);
            if product as u64 >= excess {
                return (product >> 64) as u64;
            }
        }
    }

    /// Standard normal, by Box and Muller: `sqrt(-2 ln u) cos(2 pi v)`. The magnitude is at most
    /// 8.6.
    pub fn normal(&mut self) -> f32 {
        // 53 bits, shifted by half a unit, because the logarithm is undefined at 0.
        let mut uniform = || ((self.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        let radius = (-2.0 * uniform().ln()).sqrt();
        (radius * (std::f64::consts::TAU * uniform()).cos()) as f32
    }

    /// Shuffles `items` uniformly (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

/// The numbers of a training step, in order. What is taken is not drawn yet: a place in the stream
/// determines the numbers, so that host and GPU draw the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepStream {
    seed: u64,
    next: u64,
}

/// A place in a [`StepStream`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    seed: u64,
    first: u64,
}

impl StepStream {
    /// The numbers that `random` would give.
    pub fn new(random: &Random) -> Self {
        Self { seed: random.state, next: 0 }
    }

    /// Seed of the stream.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Takes the next `count` numbers.
    pub fn take(&mut self, count: u64) -> Draw {
        self.next += count;
        Draw { seed: self.seed, first: self.next - count }
    }
}

impl Draw {
    /// Number `index` from here.
    pub fn word(self, index: u64) -> u64 {
        stream_word(self.seed, self.first + index)
    }

    /// Number `index` from here, uniform in `[0, 1)`, as [`Random::uniform`].
    pub fn uniform(self, index: u64) -> f32 {
        uniform(self.word(index))
    }

    /// The place `count` numbers further on.
    pub fn skip(self, count: u64) -> Self {
        Self { first: self.first + count, ..self }
    }

    /// Index of the first number in the stream.
    pub fn first(self) -> u64 {
        self.first
    }
}

/// The upper 24 bits as a number in `[0, 1)`.
fn uniform(bits: u64) -> f32 {
    (bits >> 40) as f32 / (1u32 << 24) as f32
}

/// Output `index`, from 0, of the stream of [`Random::new`] with `seed`.
#[inline(always)]
pub fn stream_word(seed: u64, index: u64) -> u64 {
    mix(seed.wrapping_add(INCREMENT.wrapping_mul(index.wrapping_add(1))))
}

/// A bijection of 64 bits: on average, every input bit changes half of the output bits.
#[inline(always)]
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_gives_the_numbers_of_its_place() {
        let mut random = Random::keyed(&[7]);
        let mut stream = StepStream::new(&random);
        stream.take(3);
        let draw = stream.take(2);
        let numbers: Vec<u64> = (0..5).map(|_| random.next_u64()).collect();
        assert_eq!([draw.word(0), draw.skip(1).word(0)], numbers[3..]);
        assert_eq!(Random::keyed(&[7]).uniform(), StepStream::new(&Random::keyed(&[7])).take(1).uniform(0));
    }

    #[test]
    fn a_stream_allows_random_access() {
        let mut random = Random::new(42);
        for index in 0..10 {
            assert_eq!(random.next_u64(), stream_word(42, index));
        }
    }

    const DRAWS: usize = 200_000;
    /// Five standard errors of the mean of `DRAWS` draws with unit variance.
    const FIVE_SIGMA: f64 = 5.0 / 447.2;

    #[test]
    fn matches_the_published_stream() {
        // First outputs of the reference implementation for seed 1234567.
        let mut random = Random::new(1_234_567);
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([(); 3].map(|()| random.next_u64()), expected);
    }

    #[test]
    fn uniform_is_uniform_in_the_half_open_interval() {
        let mut random = Random::new(7);
        let mut counts = [0usize; 16];
        for _ in 0..DRAWS {
            let value = random.uniform();
            assert!((0.0..1.0).contains(&value), "{value}");
            counts[(value * 16.0) as usize] += 1;
        }
        // Chi-squared with 15 degrees of freedom exceeds 44 once in 10,000 seeds.
        let expected = DRAWS as f64 / 16.0;
        let chi_squared: f64 = counts.iter().map(|&n| (n as f64 - expected).powi(2) / expected).sum();
        assert!(chi_squared < 44.0, "{chi_squared}");
    }

    #[test]
    fn normal_has_the_moments_of_a_standard_normal() {
        let mut random = Random::new(11);
        let draws: Vec<f64> = (0..DRAWS).map(|_| f64::from(random.normal())).collect();
        let moment = |power: i32| draws.iter().map(|x| x.powi(power)).sum::<f64>() / DRAWS as f64;
        assert!(moment(1).abs() < FIVE_SIGMA, "{}", moment(1));
        // The variances of x^2, x^3 and x^4 are 2, 15 and 96.
        assert!((moment(2) - 1.0).abs() < FIVE_SIGMA * 2f64.sqrt(), "{}", moment(2));
        assert!(moment(3).abs() < FIVE_SIGMA * 15f64.sqrt(), "{}", moment(3));
        assert!((moment(4) - 3.0).abs() < FIVE_SIGMA * 96f64.sqrt(), "{}", moment(4));
        let beyond_two = draws.iter().filter(|x| x.abs() > 2.0).count() as f64 / DRAWS as f64;
        assert!((beyond_two - 0.0455).abs() < 0.003, "{beyond_two}");
    }

    #[test]
    fn below_reaches_every_number_evenly() {
        let mut random = Random::new(3);
        let mut counts = [0usize; 7];
        for _ in 0..70_000 {
            counts[random.below(7) as usize] += 1;
        }
        assert!(counts.iter().all(|&n| n.abs_diff(10_000) < 500), "{counts:?}");
        assert_eq!(random.below(1), 0);
        // Half of all draws fall into the rejected part for this bound.
        assert!((0..100).all(|_| random.below((1 << 63) + 1) <= 1 << 63));
    }

    #[test]
    fn shuffle_gives_every_order_equally_often() {
        let mut random = Random::new(5);
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..24_000 {
            let mut items = [0, 1, 2, 3];
            random.shuffle(&mut items);
            *counts.entry(items).or_insert(0usize) += 1;
        }
        assert_eq!(counts.len(), 24);
        assert!(counts.values().all(|&n| n.abs_diff(1_000) < 160), "{counts:?}");
        random.shuffle::<u8>(&mut []);
    }

    #[test]
    fn keys_that_differ_have_streams_that_differ() {
        let keys: [&[u64]; 8] = [&[], &[0], &[0, 0], &[1, 2], &[2, 1], &[1, 2, 0], &[3], &[u64::MAX, 1]];
        let firsts = keys.map(|key| Random::keyed(key).next_u64());
        let distinct: std::collections::BTreeSet<u64> = firsts.into_iter().collect();
        assert_eq!(distinct.len(), keys.len());
        assert_eq!(Random::keyed(&[1, 2]), Random::keyed(&[1, 2]));
    }

    #[test]
    fn neighboring_keys_are_uncorrelated() {
        // Counter-style use: one draw from each of many streams must look like many draws from one.
        let mean: f64 = (0..DRAWS as u64).map(|step| f64::from(Random::keyed(&[42, step]).normal())).sum::<f64>();
        assert!((mean / DRAWS as f64).abs() < FIVE_SIGMA);
        let flips: u32 = (0..1_000u64)
            .map(|k| (Random::keyed(&[k, 0]).next_u64() ^ Random::keyed(&[k ^ 1, 0]).next_u64()).count_ones())
            .sum();
        assert!(flips.abs_diff(32_000) < 700, "{flips}");
    }
}
