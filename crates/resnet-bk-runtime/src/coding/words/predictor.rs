//! Predicts one kind of binary decision from many contexts, as PAQ does.
//!
//! ```text
//! context -> slot: p       -> stretch ------------------------.
//!                  history -> p of that history -> stretch ---+-> weighted sum -> squash -> p
//! ```
//!
//! A slot holds what was seen in one context. Its own probability (direct) is accurate after many
//! decisions. After few decisions, the history of bits predicts better (indirect): the probability
//! of each history is learned over all slots.
//!
//! Slots are found by hashes without a check for collisions. A collision costs bits. It does not
//! affect correctness, because encoder and decoder have the same collisions.

use super::super::adaptive::AdaptiveProbability;
use super::super::logistic::{Probability, squash, stretch};
use super::super::mixer::Mixer;
use super::super::range::{BitCoder, CodingError};

/// Predicts from `N` contexts.
pub(super) struct Predictor<const N: usize> {
    slots: Vec<Slot>,
    /// Probabilities by context, then by the history of a slot.
    histories: Vec<[AdaptiveProbability; 256]>,
    /// Weights of the direct logits and of the indirect logits.
    mixers: [Mixer<N>; 2],
}

/// Statistics of one context.
#[derive(Clone, Copy)]
struct Slot {
    /// Probability in 1 / 2^16.
    p: u16,
    /// Number of decisions so far, at most [`COUNT_LIMIT`].
    count: u8,
    /// The last decisions, at most seven, the latest in the lowest bit. A leading one marks their
    /// start.
    history: u8,
}

/// Limits of the counts: of a slot, of a history.
const COUNT_LIMIT: usize = 60;
const HISTORY_COUNT_LIMIT: u32 = 250;
/// Learning rate of the mixers, in 1 / 1,024.
const RATE: i32 = 3;
/// Initial value of all weights, in 1 / 2^16.
const WEIGHT: i32 = 6000;

impl<const N: usize> Predictor<N> {
    /// A predictor with about `slots` slots of 4 bytes, at most 2^20. `sets` are the numbers of
    /// weight sets of the direct and of the indirect mixer.
    pub fn new(slots: usize, sets: [usize; 2]) -> Self {
        Self {
            slots: vec![Slot { p: 1 << 15, count: 0, history: 1 }; slots.clamp(1 << 8, 1 << 20).next_power_of_two()],
            histories: vec![std::array::from_fn(|history| AdaptiveProbability::from_history(history as u8)); N],
            mixers: sets.map(|sets| Mixer::new(sets, [WEIGHT; N])),
        }
    }

    /// Codes a decision and learns from it. `group` and `member` distinguish decisions that have
    /// the same contexts. Members of a group are below 16 and lie side by side in memory. `sets`
    /// selects the weights of both mixers.
    pub fn code<C: BitCoder>(
        &mut self,
        coder: &mut C,
        bit: bool,
        contexts: &[u32; N],
        (group, member): (u32, u32),
        sets: [usize; 2],
    ) -> Result<bool, CodingError> {
        let places = contexts.map(|context| self.place(context, group) ^ member as usize);
        let slots = places.map(|place| self.slots[place]);
        let direct = slots.map(|slot| stretch(Probability::new(slot.p.into())));
        let indirect: [i32; N] = std::array::from_fn(|i| self.histories[i][usize::from(slots[i].history)].logit());
        let p = squash(self.mixers[0].mix(sets[0], &direct) + self.mixers[1].mix(sets[1], &indirect));
        let bit = coder.code(bit, p)?;
        self.mixers[0].update(sets[0], &direct, bit, p, RATE);
        self.mixers[1].update(sets[1], &indirect, bit, p, RATE);
        for i in 0..N {
            self.histories[i][usize::from(slots[i].history)].update(bit, HISTORY_COUNT_LIMIT);
            self.slots[places[i]].update(bit);
        }
        Ok(bit)
    }

    fn place(&self, context: u32, group: u32) -> usize {
        let hash = (context ^ group.wrapping_mul(0x9e37_79b1)).wrapping_mul(0x85eb_ca6b);
        (hash ^ hash >> 15) as usize & (self.slots.len() - 1)
    }
}

impl Slot {
    fn update(&mut self, bit: bool) {
        let target = if bit { i32::from(u16::MAX) } else { 0 };
        let p = i32::from(self.p);
        self.p = (p + (((target - p) * UPDATE_RATES[usize::from(self.count)]) >> 15)) as u16;
        self.count = (self.count + 1).min(COUNT_LIMIT as u8);
        // Once there are seven decisions, the leading one stays in the highest bit.
        self.history = self.history << 1 | u8::from(bit) | self.history & 0x80;
    }
}

/// Weight of the next decision after `n` decisions: `1 / (n + 3/2)`, in 1 / 2^15.
static UPDATE_RATES: [i32; COUNT_LIMIT + 1] = {
    let mut table = [0; COUNT_LIMIT + 1];
    let mut n = 0;
    while n < table.len() {
        table[n] = (1 << 16) / (2 * n as i32 + 3);
        n += 1;
    }
    table
};

/// Hash of the parts of a context. `number` distinguishes the contexts of one decision.
pub(super) fn context(number: u32, parts: &[u64]) -> u32 {
    let start = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mix = |hash: u64, &part: &u64| {
        let hash = (hash ^ part).wrapping_mul(0xd6e8_feb8_6659_fd93);
        hash ^ hash >> 32
    };
    parts.iter().fold(start, mix) as u32
}

#[cfg(test)]
mod tests {
    use super::super::super::range::Meter;
    use super::*;

    #[test]
    fn the_mixer_learns_which_context_predicts() {
        let mut predictor = Predictor::<3>::new(1 << 12, [1, 2]);
        let mut random = 1u32;
        let mut cost = |decisions: u32| {
            let mut meter = Meter::default();
            for _ in 0..decisions {
                random = random.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
                let [noise, truth] = [random >> 28, random >> 24 & 3].map(u64::from);
                let contexts = [context(0, &[noise]), context(1, &[truth]), context(2, &[noise, random.into()])];
                predictor.code(&mut meter, truth == 2, &contexts, (0, 0), [0, truth as usize & 1]).unwrap();
            }
            meter.bits / f64::from(decisions)
        };
        cost(1000);
        let learned = cost(1000);
        assert!(learned < 0.02, "{learned} bits a decision");
    }

    #[test]
    fn slots_keep_their_last_seven_decisions() {
        let mut slot = Slot { p: 1 << 15, count: 0, history: 1 };
        let mut seen = vec![];
        for index in 0..20 {
            let marked = seen.iter().rev().take(7).rev().fold(1, |history: u8, &bit| history << 1 | u8::from(bit));
            assert_eq!(slot.history, marked);
            seen.push(index % 3 == 0);
            slot.update(index % 3 == 0);
        }
    }
}
