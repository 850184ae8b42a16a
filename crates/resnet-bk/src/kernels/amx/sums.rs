//! Running sums over blocks of logits, `block[word][token] + bias[word]`, and the stored
//! exponentials. Rows are words, columns are tokens; each lane is one token.
//!
//! Exponentials have base 2: `scale` is `log2(e) / tau`, shifts are `scale` times a logit.

use super::lanes::{Lanes, WIDTH, exp2, load_lanes, store_half, store_lanes};
use super::power::{power, raise, with_power};
use super::{BLOCK, Block, Session};
use std::arch::x86_64::{
    __m512, _mm512_add_ps, _mm512_fmadd_ps, _mm512_fmsub_ps, _mm512_max_ps, _mm512_mul_ps, _mm512_set1_ps,
    _mm512_sub_ps,
};
use std::f32::consts::LOG2_E;

/// Running sums of a block of tokens for the plain loss.
#[derive(Clone, Debug)]
pub struct PlainSums {
    /// Largest logit so far.
    pub largest: Lanes,
    /// `sum e^(l - largest)`, times `2^LIFT` ([`LIFT`]).
    pub sum: Lanes,
}

/// Running sums of a block of tokens for the mixed loss.
#[derive(Clone, Debug)]
pub struct MixedSums {
    /// The student's largest logit so far.
    pub largest: Lanes,
    /// `sum e^(l - largest)`, times 2 to the power of [`MixedSums::lift`].
    pub hard: Lanes,
    /// `sum e^((l - largest) / tau)`, times `2^LIFT`.
    pub soft: Lanes,
    /// The teacher's largest logit so far.
    pub teacher_largest: Lanes,
    /// `sum e^((l' - largest') / tau)`, times `2^LIFT`.
    pub teacher: Lanes,
    /// The same sum with each term multiplied by `l' - l`.
    pub difference: Lanes,
}

impl PlainSums {
    /// Sums over no words.
    pub const EMPTY: Self = Self { largest: [f32::MIN; BLOCK], sum: [0.0; BLOCK] };
}

impl MixedSums {
    /// Sums over no words.
    pub const EMPTY: Self = Self {
        largest: [f32::MIN; BLOCK],
        hard: [0.0; BLOCK],
        soft: [0.0; BLOCK],
        teacher_largest: [f32::MIN; BLOCK],
        teacher: [0.0; BLOCK],
        difference: [0.0; BLOCK],
    };

    /// Number of blocks of exponentials stored per block of logits.
    pub fn planes(temperature: f32) -> usize {
        if power(temperature) == 0 { 3 } else { 2 }
    }

    /// Binary logarithm of the factor on [`hard`](Self::hard).
    pub fn lift(temperature: f32) -> f32 {
        LIFT * power(temperature).max(1) as f32
    }
}

/// Binary logarithm of the factor on exponentials relative to the largest. With it, half-precision
/// numbers hold values down to `2^-28` at full precision.
pub const LIFT: f32 = 14.0;

/// Exponentials of a block in half precision, `[word][token]`, stored from the sums until the
/// gradients.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Exponentials {
    pub(super) values: [[[u16; WIDTH]; 2]; BLOCK],
    /// A stored number is `2^(scale l - shift)`.
    pub(super) shift: Lanes,
}

impl Exponentials {
    /// All zero.
    pub const ZERO: Self = Self { values: [[[0; WIDTH]; 2]; BLOCK], shift: [0.0; BLOCK] };
}

impl Session {
    /// Adds a block of logits to the running sum of each token.
    pub fn extend(&self, block: &Block, bias: &Lanes, sums: &mut PlainSums) {
        // SAFETY: a session exists only where AVX-512 was detected.
        #[expect(unsafe_code, reason = "calls a function compiled for detected instructions")]
        unsafe {
            extend::<false>(block, bias, sums, &mut []);
        }
    }

    /// Adds a block of logits and stores the exponentials.
    pub fn extend_and_keep(&self, block: &Block, bias: &Lanes, sums: &mut PlainSums, kept: &mut Exponentials) {
        // SAFETY: a session exists only where AVX-512 was detected.
        #[expect(unsafe_code, reason = "calls a function compiled for detected instructions")]
        unsafe {
            extend::<true>(block, bias, sums, std::slice::from_mut(kept));
        }
    }

    /// Adds a block of the student's and the teacher's logits to the sums of each token. Stores the
    /// exponentials of `l / tau` and `l' / tau`, and those of `l` unless they are powers of the
    /// first.
    ///
    /// # Panics
    /// If `kept` does not have [`MixedSums::planes`] blocks.
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

/// The largest logit of each token: of those before and this block's.
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
