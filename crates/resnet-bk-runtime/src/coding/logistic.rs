//! Probabilities and their logits, in integers.
//!
//! ```text
//! squash(x)  = 1 / (1 + e^-x)           logit -> probability
//! stretch(p) = ln(p / (1 - p))          probability -> logit
//! ```
//!
//! Probabilities are in units of 1 / 2^16. Logits are in units of 1 / 256 and lie within
//! ±[`MAX_LOGIT`]. Both tables are computed at compile time, in integers. The names are those of
//! PAQ.

/// The probability of a binary decision in 1 / 2^16. It is never 0 or 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probability(u16);

impl Probability {
    /// Probability 1 in 1 / 2^16, the unit of [`get`](Self::get).
    pub const ONE: u32 = 1 << 16;
    /// Smallest probability: 2^-12. Because of this bound, a certain decision costs 1 / 2,839 bit.
    pub const MIN: Self = Self(16);
    /// Largest probability: 1 - 2^-12.
    pub const MAX: Self = Self((Self::ONE - 16) as u16);
    /// One half.
    pub const EVEN: Self = Self(1 << 15);

    /// `value / 2^16`, clamped to [`MIN`](Self::MIN) and [`MAX`](Self::MAX).
    pub fn new(value: u32) -> Self {
        Self(value.clamp(Self::MIN.get(), Self::MAX.get()) as u16)
    }

    /// The probability in 1 / 2^16.
    pub const fn get(self) -> u32 {
        self.0 as u32
    }
}

/// Largest logit, in 1 / 256. Its probability is 65,514 / 2^16, slightly below
/// [`Probability::MAX`].
pub(super) const MAX_LOGIT: i32 = 2047;

/// The probability of a logit in 1 / 256. The logit is clamped to ±[`MAX_LOGIT`].
pub(super) fn squash(logit: i32) -> Probability {
    // Both signs are in the table: a branch on the sign would often be predicted wrongly.
    Probability(SQUASH[(logit.clamp(-MAX_LOGIT, MAX_LOGIT) + MAX_LOGIT) as usize])
}

/// The logit of a probability, in 1 / 256. It is constant over 2^4 neighboring probabilities.
pub(super) fn stretch(p: Probability) -> i32 {
    i32::from(STRETCH[usize::from(p.0 >> STRETCH_SHIFT)])
}

/// Probabilities of the logits from -[`MAX_LOGIT`] to [`MAX_LOGIT`].
static SQUASH: [u16; 2 * MAX_LOGIT as usize + 1] = {
    let positive = squash_table();
    let mut table = [0; 2 * MAX_LOGIT as usize + 1];
    let mut logit = 0;
    while logit < positive.len() {
        table[MAX_LOGIT as usize - logit] = (Probability::ONE - positive[logit] as u32) as u16;
        table[MAX_LOGIT as usize + logit] = positive[logit];
        logit += 1;
    }
    table
};

/// Logits of the probabilities `(i + 1/2) / 2^12`.
static STRETCH: [i16; 1 << (16 - STRETCH_SHIFT)] = stretch_table();
const STRETCH_SHIFT: u32 = 4;

/// Probabilities of the logits from 0 to [`MAX_LOGIT`].
const fn squash_table() -> [u16; MAX_LOGIT as usize + 1] {
    // `e^(-1/256)` and 1, in 1 / 2^63.
    const RATIO: u128 = 0x7f80_3fea_affe_ef1c;
    const UNIT: u128 = 1 << 63;
    let mut table = [0; MAX_LOGIT as usize + 1];
    let (mut power, mut logit) = (UNIT, 0);
    while logit < table.len() {
        table[logit] = ((Probability::ONE as u128 * UNIT + (UNIT + power) / 2) / (UNIT + power)) as u16;
        power = (power * RATIO) >> 63;
        logit += 1;
    }
    table
}

const fn stretch_table() -> [i16; 1 << (16 - STRETCH_SHIFT)] {
    let squash = squash_table();
    let mut table = [0; 1 << (16 - STRETCH_SHIFT)];
    let half = table.len() / 2;
    let (mut index, mut logit) = (0, 0);
    while index < half {
        let p = ((half + index) as u16) << STRETCH_SHIFT | 1 << (STRETCH_SHIFT - 1);
        while logit < MAX_LOGIT && squash[logit as usize] < p {
            logit += 1;
        }
        table[half + index] = logit as i16;
        table[half - 1 - index] = -logit as i16;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squash_equals_its_formula() {
        for logit in -3000..3000 {
            let x = f64::from(logit.clamp(-MAX_LOGIT, MAX_LOGIT)) / 256.0;
            let expected = 65536.0 / (1.0 + (-x).exp());
            let found = f64::from(squash(logit).get());
            assert!((found - expected).abs() <= 0.51, "squash({logit}) is {found}, not {expected}");
        }
    }

    #[test]
    fn stretch_equals_its_formula_at_the_middle_of_each_interval() {
        for p in Probability::MIN.get()..=Probability::MAX.get() {
            let middle = f64::from(p >> 4 << 4 | 8) / 65536.0;
            let expected = (256.0 * (middle / (1.0 - middle)).ln()).clamp(-2047.0, 2047.0);
            let found = f64::from(stretch(Probability::new(p)));
            // Near 0 and 1, one unit of the probability is several units of the logit.
            let tolerance = 1.0 + 256.0 / (65536.0 * middle * (1.0 - middle));
            assert!((found - expected).abs() <= tolerance, "stretch({p}) is {found}, not {expected}");
        }
    }

    #[test]
    fn probabilities_are_never_0_or_1() {
        assert_eq!(Probability::new(0), Probability::MIN);
        assert_eq!(Probability::new(u32::MAX), Probability::MAX);
        assert!(squash(i32::MIN) >= Probability::MIN && squash(i32::MAX) <= Probability::MAX);
    }
}
