//! Running sums over blocks of logits, `block[word][token] + bias[word]`, and the exponentials kept
//! of them: words down, tokens across. A lane is a token.
//!
//! Exponentials are of base 2: `scale` is `log2(e) / tau`, shifts are `scale` times a logit.

use super::lanes::{Lanes, WIDTH, exp2, load_lanes, store_half, store_lanes};
use super::power::{power, raise, with_power};
use super::{BLOCK, Block, Session};
use std::arch::x86_64::{
    __m512, _mm512_add_ps, _mm512_fmadd_ps, _mm512_fmsub_ps, _mm512_max_ps, _mm512_mul_ps, _mm512_set1_ps,
    _mm512_sub_ps,
};
use std::f32::consts::LOG2_E;

/// A plain loss's running sums of a block of tokens.
#[derive(Clone, Debug)]
pub struct PlainSums {
    /// Largest logit so far.
    pub largest: Lanes,
    /// `sum e^(l - largest)`, lifted by [`LIFT`].
    pub sum: Lanes,
}

/// A mixed loss's running sums of a block of tokens.
#[derive(Clone, Debug)]
pub struct MixedSums {
    /// The student's largest logit so far.
    pub largest: Lanes,
    /// `sum e^(l - largest)`, lifted by [`MixedSums::lift`].
    pub hard: Lanes,
    /// `sum e^((l - largest) / tau)`, lifted by [`LIFT`].
    pub soft: Lanes,
    /// The teacher's largest logit so far.
    pub teacher_largest: Lanes,
    /// `sum e^((l' - largest') / tau)`, lifted by [`LIFT`].
    pub teacher: Lanes,
    /// The same with every term times `l' - l`.
    pub difference: Lanes,
}

impl PlainSums {
    /// Of no words.
    pub const EMPTY: Self = Self { largest: [f32::MIN; BLOCK], sum: [0.0; BLOCK] };
}

impl MixedSums {
    /// Of no words.
    pub const EMPTY: Self = Self {
        largest: [f32::MIN; BLOCK],
        hard: [0.0; BLOCK],
        soft: [0.0; BLOCK],
        teacher_largest: [f32::MIN; BLOCK],
        teacher: [0.0; BLOCK],
        difference: [0.0; BLOCK],
    };

    /// Blocks of exponentials that are kept for a block of logits.
    pub fn planes(temperature: f32) -> usize {
        if power(temperature) == 0 { 3 } else { 2 }
    }

    /// Logarithm to base 2 of what [`hard`](Self::hard) is multiplied with.
    pub fn lift(temperature: f32) -> f32 {
        LIFT * power(temperature).max(1) as f32
    }
}

/// Logarithm to base 2 of what exponentials relative to the largest are multiplied with, so that
/// half-precision numbers hold those down to `2^-28` with all their bits.
pub const LIFT: f32 = 14.0;

/// A block's exponentials in half precision, `[word][token]`, kept from the sums to the gradients.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Exponentials {
    pub(super) values: [[[u16; WIDTH]; 2]; BLOCK],
    /// A number is `2^(scale l - shift)`.
    pub(super) shift: Lanes,
}

impl Exponentials {
    /// All zero.
    pub const ZERO: Self = Self { values: [[[0; WIDTH]; 2]; BLOCK], shift: [0.0; BLOCK] };
}

impl Session {
    /// Takes a block of logits into every token's running sum.
    pub fn extend(&self, block: &Block, bias: &Lanes, sums: &mut PlainSums) {
        // SAFETY: a session exists only where AVX-512 was detected.
        #[expect(unsafe_code, reason = "calls a function compiled for detected instructions")]
        unsafe {
            extend::<false>(block, bias, sums, &mut []);
        }
    }

    /// The same, and keeps the exponentials.
    pub fn extend_and_keep(&self, block: &Block, bias: &Lanes, sums: &mut PlainSums, kept: &mut Exponentials) {
        // SAFETY: a session exists only where AVX-512 was detected.
        #[expect(unsafe_code, reason = "calls a function compiled for detected instructions")]
        unsafe {
            extend::<true>(block, bias, sums, std::slice::from_mut(kept));
        }
    }

    /// Takes a block of logits of student and teacher into every token's sums, and keeps the
    /// exponentials of `l / tau` and `l' / tau`; those of `l` too where they are no low power of
    /// the first.
    ///
    /// # Panics
    /// If there is no room for as many as [`MixedSums::planes`].
    pub fn extend_mixed(
        &self,
        student: (&Block, &Lanes),
        teacher: (&Block, &Lanes),
        temperature: f32,
        sums: &mut MixedSums,
        kept: &mut [Exponentials],
    ) {
        // SAFETY: a session exists only where AVX-512 was detected.
        #[expect(unsafe_code, reason = "calls a function compiled for detected instructions")]
        unsafe {
            with_power!(temperature, extend_mixed(student, teacher, temperature, sums, kept));
        }
    }
}

/// Largest of a token's logits, from those so far and a block's.
#[inline]
#[target_feature(enable = "avx512f")]
fn largest(block: &Block, bias: &Lanes, so_far: [__m512; 2]) -> [__m512; 2] {
    let mut top = so_far;
    for (row, bias) in block.0.iter().zip(bias) {
        let bias = _mm512_set1_ps(*bias);
        for (top, x) in top.iter_mut().zip(load_lanes(row)) {
            *top = _mm512_max_ps(*top, _mm512_add_ps(x, bias));
        }
    }
    top
}

#[target_feature(enable = "avx512f,avx512bw")]
fn extend<const KEEP: bool>(block: &Block, bias: &Lanes, sums: &mut PlainSums, kept: &mut [Exponentials]) {
    let old = load_lanes(&sums.largest);
    let top = largest(block, bias, old);
    let (scale, lift) = (_mm512_set1_ps(LOG2_E), _mm512_set1_ps(LIFT));
    let shift = top.map(|top| _mm512_fmsub_ps(top, scale, lift));
    let mut total = load_lanes(&sums.sum);
    for half in 0..2 {
        let fall = _mm512_sub_ps(old[half], top[half]);
        total[half] = _mm512_mul_ps(total[half], exp2(_mm512_mul_ps(fall, scale)));
    }
    for (word, (row, bias)) in block.0.iter().zip(bias).enumerate() {
        let bias = _mm512_set1_ps(*bias);
        for (half, x) in load_lanes(row).into_iter().enumerate() {
            let e = exp2(_mm512_fmsub_ps(_mm512_add_ps(x, bias), scale, shift[half]));
            total[half] = _mm512_add_ps(total[half], e);
            if KEEP {
                store_half(e, &mut kept[0].values[word][half]);
            }
        }
    }
    store_lanes(top, &mut sums.largest);
    store_lanes(total, &mut sums.sum);
    if KEEP {
        store_lanes(shift, &mut kept[0].shift);
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn extend_mixed<const POWER: u32>(
    (block, bias): (&Block, &Lanes),
    (teacher_block, teacher_bias): (&Block, &Lanes),
    temperature: f32,
    sums: &mut MixedSums,
    kept: &mut [Exponentials],
) {
    let (kept, rest) = kept.split_first_chunk_mut::<2>().expect("room for student and teacher");
    let old = load_lanes(&sums.largest);
    let old_teacher = load_lanes(&sums.teacher_largest);
    let top = largest(block, bias, old);
    let top_teacher = largest(teacher_block, teacher_bias, old_teacher);
    let [hard_scale, scale, lift] = [LOG2_E, LOG2_E / temperature, LIFT].map(|x| _mm512_set1_ps(x));
    let shift = top.map(|top| _mm512_fmsub_ps(top, scale, lift));
    let teacher_shift = top_teacher.map(|top| _mm512_fmsub_ps(top, scale, lift));
    let hard_shift = top.map(|top| _mm512_fmsub_ps(top, hard_scale, lift));
    let [mut hard, mut soft, mut teacher, mut difference] =
        [&sums.hard, &sums.soft, &sums.teacher, &sums.difference].map(|lanes| load_lanes(lanes));
    for half in 0..2 {
        let fall = _mm512_sub_ps(old[half], top[half]);
        hard[half] = _mm512_mul_ps(hard[half], exp2(_mm512_mul_ps(fall, hard_scale)));
        soft[half] = _mm512_mul_ps(soft[half], exp2(_mm512_mul_ps(fall, scale)));
        let fall = exp2(_mm512_mul_ps(_mm512_sub_ps(old_teacher[half], top_teacher[half]), scale));
        teacher[half] = _mm512_mul_ps(teacher[half], fall);
        difference[half] = _mm512_mul_ps(difference[half], fall);
    }
    for word in 0..BLOCK {
        let (bias, teacher_bias) = (_mm512_set1_ps(bias[word]), _mm512_set1_ps(teacher_bias[word]));
        let rows = load_lanes(&block.0[word]).into_iter().zip(load_lanes(&teacher_block.0[word]));
        for (half, (x, y)) in rows.enumerate() {
            let (logit, teacher_logit) = (_mm512_add_ps(x, bias), _mm512_add_ps(y, teacher_bias));
            let q = exp2(_mm512_fmsub_ps(logit, scale, shift[half]));
            let p = exp2(_mm512_fmsub_ps(teacher_logit, scale, teacher_shift[half]));
            soft[half] = _mm512_add_ps(soft[half], q);
            teacher[half] = _mm512_add_ps(teacher[half], p);
            difference[half] = _mm512_fmadd_ps(p, _mm512_sub_ps(teacher_logit, logit), difference[half]);
            store_half(q, &mut kept[0].values[word][half]);
            store_half(p, &mut kept[1].values[word][half]);
            let e = match POWER {
                0 => exp2(_mm512_fmsub_ps(logit, hard_scale, hard_shift[half])),
                _ => raise::<POWER>(q),
            };
            hard[half] = _mm512_add_ps(hard[half], e);
            if POWER == 0 {
                store_half(e, &mut rest[0].values[word][half]);
            }
        }
    }
    store_lanes(top, &mut sums.largest);
    store_lanes(top_teacher, &mut sums.teacher_largest);
    store_lanes(hard, &mut sums.hard);
    store_lanes(soft, &mut sums.soft);
    store_lanes(teacher, &mut sums.teacher);
    store_lanes(difference, &mut sums.difference);
    store_lanes(shift, &mut kept[0].shift);
    store_lanes(teacher_shift, &mut kept[1].shift);
    if POWER == 0 {
        store_lanes(hard_shift, &mut rest[0].shift);
    }
}
