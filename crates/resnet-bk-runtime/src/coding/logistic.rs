//! Probabilities and their logits, in integers.
//!
//! ```text
//! squash(x)  = 1 / (1 + e^-x)           logit -> probability
//! stretch(p) = ln(p / (1 - p))          probability -> logit
//! ```
//!
//! A probability is in 1 / 2^16, a logit in 1 / 256 and within ±[`MAX_LOGIT`]. Both tables are
//! computed by the compiler, in integers too.

/// The probability of a decision in 1 / 2^16, never 0 nor 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probability(u16);

impl Probability {
    /// The unit that probabilities are counted in.
    pub const ONE: u32 = 1 << 16;
    /// The least: 2^-12. What is certain costs 1 / 2,839 bit because of it.
    pub const MIN: Self = Self(16);
    /// The greatest.
    pub const MAX: Self = Self((Self::ONE - 16) as u16);
    /// One half.
    pub const EVEN: Self = Self(1 << 15);

    /// `value / 2^16`, moved into the range.
    pub fn new(value: u32) -> Self {
        Self(value.clamp(Self::MIN.get(), Self::MAX.get()) as u16)
    }

    /// In 1 / 2^16.
    pub const fn get(self) -> u32 {
        self.0 as u32
    }
}

/// The greatest logit, in 1 / 256: squashed, it is [`Probability::MAX`] but for a sixth.
pub(super) const MAX_LOGIT: i32 = 2047;

/// The probability of a logit in 1 / 256; beyond ±[`MAX_LOGIT`] it is that of the end.
pub(super) fn squash(logit: i32) -> Probability {
    let value = u32::from(SQUASH[logit.unsigned_abs().min(MAX_LOGIT as u32) as usize]);
    Probability(if logit < 0 { Probability::ONE - value } else { value } as u16)
}

/// The logit of a probability, in 1 / 256.
pub(super) fn stretch(p: Probability) -> i32 {
    i32::from(STRETCH[usize::from(p.0 >> STRETCH_SHIFT)])
}

/// Probabilities of the logits from 0 on.
static SQUASH: [u16; MAX_LOGIT as usize + 1] = squash_table();

/// Logits of probabilities, from 1 / 2^13 on in steps of 1 / 2^12.
static STRETCH: [i16; 1 << (16 - STRETCH_SHIFT)] = stretch_table();
const STRETCH_SHIFT: u32 = 4;

const fn squash_table() -> [u16; MAX_LOGIT as usize + 1] {
    // e^(-1/256) and 1 in 1 / 2^63.
    const STEP: u128 = 0x7f80_3fea_affe_ef1c;
    const UNIT: u128 = 1 << 63;
    let mut table = [0; MAX_LOGIT as usize + 1];
    let (mut power, mut logit) = (UNIT, 0);
    while logit < table.len() {
        table[logit] = ((Probability::ONE as u128 * UNIT + (UNIT + power) / 2) / (UNIT + power)) as u16;
        power = (power * STEP) >> 63;
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
    fn squash_is_its_formula() {
        for logit in -3000..3000 {
            let x = f64::from(logit.clamp(-MAX_LOGIT, MAX_LOGIT)) / 256.0;
            let expected = 65536.0 / (1.0 + (-x).exp());
            let found = f64::from(squash(logit).get());
            assert!((found - expected).abs() <= 0.51, "squash({logit}) is {found}, not {expected}");
        }
    }

    #[test]
    fn stretch_is_its_formula_at_the_middle_of_each_step() {
        for p in Probability::MIN.get()..=Probability::MAX.get() {
            let middle = f64::from(p >> 4 << 4 | 8) / 65536.0;
            let expected = (256.0 * (middle / (1.0 - middle)).ln()).clamp(-2047.0, 2047.0);
            let found = f64::from(stretch(Probability::new(p)));
            // Near the ends one unit of the probability is several of the logit.
            let tolerance = 1.0 + 256.0 / (65536.0 * middle * (1.0 - middle));
            assert!((found - expected).abs() <= tolerance, "stretch({p}) is {found}, not {expected}");
        }
    }

    #[test]
    fn probabilities_are_never_certain() {
        assert_eq!(Probability::new(0), Probability::MIN);
        assert_eq!(Probability::new(u32::MAX), Probability::MAX);
        assert!(squash(i32::MIN) >= Probability::MIN && squash(i32::MAX) <= Probability::MAX);
    }
}
