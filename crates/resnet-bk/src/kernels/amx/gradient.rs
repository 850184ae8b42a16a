//! Gradients of the losses, made of kept exponentials: words down, tokens across. A lane is a
//! token.

use super::lanes::{Lanes, WIDTH, exp2, load, load_half, load_indices, load_lanes, store, store_words};
use super::power::{power, raise, with_power};
use super::sums::Exponentials;
use super::{BLOCK, Operand, Session};
use std::arch::x86_64::{
    __m512, _mm512_add_epi32, _mm512_add_ps, _mm512_castps_si512, _mm512_fmadd_ps, _mm512_fmsub_ps, _mm512_mul_ps,
    _mm512_permutex2var_epi16, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_srli_epi32, _mm512_sub_ps,
    _mm512_ternarylogic_epi32,
};

/// Normalizers of a block of tokens, all of base 2.
#[derive(Clone, Debug)]
pub struct TokenNormalizers {
    /// `log2 sum e^l` of the student.
    pub hard: Lanes,
    /// `log2 sum e^(l / tau)` of the student.
    pub student: Lanes,
    /// The same of the teacher.
    pub teacher: Lanes,
}

/// Temperature and weights of a mixed loss's gradient.
#[derive(Clone, Copy, Debug)]
pub struct Mixture {
    /// `tau`.
    pub temperature: f32,
    /// Weight of the soft gradient.
    pub soft_weight: f32,
    /// Weight of the hard gradient.
    pub hard_weight: f32,
}

/// Where a block of the logits' gradient goes: rounded, for both products of the backward pass, and
/// summed over tokens.
#[derive(Debug)]
pub struct GradientBlock<'a> {
    /// `[word][token]`, left side of the table's gradient.
    pub left: &'a mut Operand,
    /// Words along the inner size, right side of the hidden states' gradient.
    pub right: &'a mut Operand,
    /// Added to: sums over the tokens, in 16 lanes.
    pub bias: &'a mut [[f32; WIDTH]; BLOCK],
}

impl Session {
    /// Gradient of the plain loss: softmax.
    pub fn plain_gradient(&self, kept: &Exponentials, normalizers: &Lanes, out: &mut GradientBlock) {
        // SAFETY: a session exists only where AVX-512 was detected.
        #[expect(unsafe_code, reason = "calls a function compiled for detected instructions")]
        unsafe {
            plain_gradient(kept, normalizers, out);
        }
    }

    /// Gradient of the mixed loss.
    ///
    /// # Panics
    /// If there are not as many kept blocks as `MixedSums::planes`.
    pub fn mixed_gradient(
        &self,
        kept: &[Exponentials],
        mixture: Mixture,
        normalizers: &TokenNormalizers,
        out: &mut GradientBlock,
    ) {
        // SAFETY: a session exists only where AVX-512 was detected.
        #[expect(unsafe_code, reason = "calls a function compiled for detected instructions")]
        unsafe {
            with_power!(mixture.temperature, mixed_gradient(kept, mixture, normalizers, out));
        }
    }
}

/// What turns kept exponentials into `weight` times the probabilities.
#[inline]
#[target_feature(enable = "avx512f")]
fn factor(shift: [__m512; 2], normalizers: &Lanes, weight: f32) -> [__m512; 2] {
    let (weight, normalizers) = (_mm512_set1_ps(weight), load_lanes(normalizers));
    [0, 1].map(|half| _mm512_mul_ps(weight, exp2(_mm512_sub_ps(shift[half], normalizers[half]))))
}

#[target_feature(enable = "avx512f,avx512bw")]
fn plain_gradient(kept: &Exponentials, normalizers: &Lanes, out: &mut GradientBlock) {
    let factor = factor(load_lanes(&kept.shift), normalizers, 1.0);
    for pair in 0..BLOCK / 2 {
        let mut gradient = [[_mm512_setzero_ps(); 2]; 2];
        for (word, gradient) in gradient.iter_mut().enumerate() {
            for half in 0..2 {
                gradient[half] = _mm512_mul_ps(factor[half], load_half(&kept.values[2 * pair + word][half]));
            }
        }
        store_gradient(out, pair, gradient);
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn mixed_gradient<const POWER: u32>(
    kept: &[Exponentials],
    mixture: Mixture,
    normalizers: &TokenNormalizers,
    out: &mut GradientBlock,
) {
    let (kept, rest) = kept.split_first_chunk::<2>().expect("student and teacher");
    let student_shift = load_lanes(&kept[0].shift);
    let student = factor(student_shift, &normalizers.student, mixture.soft_weight);
    let teacher = factor(load_lanes(&kept[1].shift), &normalizers.teacher, mixture.soft_weight);
    let power = _mm512_set1_ps(mixture.temperature);
    let hard_shift =
        if POWER == 0 { load_lanes(&rest[0].shift) } else { student_shift.map(|x| _mm512_mul_ps(x, power)) };
    let hard = factor(hard_shift, &normalizers.hard, mixture.hard_weight);
    for pair in 0..BLOCK / 2 {
        let mut gradient = [[_mm512_setzero_ps(); 2]; 2];
        for (word, gradient) in gradient.iter_mut().enumerate() {
            let word = 2 * pair + word;
            for half in 0..2 {
                let q = load_half(&kept[0].values[word][half]);
                let p = load_half(&kept[1].values[word][half]);
                let e = if POWER == 0 { load_half(&rest[0].values[word][half]) } else { raise::<POWER>(q) };
                let soft = _mm512_fmsub_ps(student[half], q, _mm512_mul_ps(teacher[half], p));
                gradient[half] = _mm512_fmadd_ps(hard[half], e, soft);
            }
        }
        store_gradient(out, pair, gradient);
    }
}

/// Stores the gradients of words `2 pair` and `2 pair + 1`, each two registers of tokens, rounded
/// to bf16 (halves up).
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn store_gradient(out: &mut GradientBlock, pair: usize, [even, odd]: [[__m512; 2]; 2]) {
    // a & 0xffff0000 | b
    const SELECT_HIGH: i32 = 0b1110_1010;
    let half = _mm512_set1_epi32(0x8000);
    let high = _mm512_set1_epi32(0xffff_0000u32 as i32);
    let mut pairs = [half; 2];
    for (index, pair) in pairs.iter_mut().enumerate() {
        let low = _mm512_srli_epi32::<16>(_mm512_add_epi32(_mm512_castps_si512(even[index]), half));
        let odd = _mm512_add_epi32(_mm512_castps_si512(odd[index]), half);
        *pair = _mm512_ternarylogic_epi32::<SELECT_HIGH>(odd, high, low);
    }
    let [evens, odds] = [0, 1].map(|first| load_indices(&DEINTERLEAVE[first]));
    let rows = [evens, odds].map(|indices| _mm512_permutex2var_epi16(pairs[0], indices, pairs[1]));
    let place = 2 * BLOCK * pair;
    for (index, (pairs, row)) in pairs.into_iter().zip(rows).enumerate() {
        store_words(pairs, &mut out.right.0, place + BLOCK * index);
        store_words(row, &mut out.left.0, place + BLOCK * index);
    }
    for (word, gradient) in [even, odd].into_iter().enumerate() {
        let bias = &mut out.bias[2 * pair + word];
        let sum = _mm512_add_ps(load(bias), _mm512_add_ps(gradient[0], gradient[1]));
        store(sum, bias);
    }
}

/// Places of the even, and of the odd, halves of 32 pairs.
const DEINTERLEAVE: [[u16; BLOCK]; 2] = {
    let mut indices = [[0; BLOCK]; 2];
    let mut i = 0;
    while i < BLOCK {
        indices[0][i] = 2 * i as u16;
        indices[1][i] = 2 * i as u16 + 1;
        i += 1;
    }
    indices
};
