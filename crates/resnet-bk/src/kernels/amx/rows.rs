//! What happens to a block of logits: words down, tokens across. A lane is a token.
//!
//! The logits are `block[word][token] + bias[word]`. Exponentials are of base 2: `scale` is `log2(e) / tau`, shifts are
//! `scale` times a logit.

use super::{BLOCK, Block, Operand, Session};
use std::arch::x86_64::{
    __m512, __m512i, _mm512_add_epi32, _mm512_add_ps, _mm512_castps_si512, _mm512_castsi512_ps, _mm512_fmadd_ps,
    _mm512_fmsub_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_max_ps, _mm512_mul_ps, _mm512_permutex2var_epi16,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_slli_epi32, _mm512_srli_epi32, _mm512_storeu_ps,
    _mm512_storeu_si512, _mm512_sub_ps, _mm512_ternarylogic_epi32,
};

use std::f32::consts::LOG2_E;

/// One number per token of a block.
pub type Lanes = [f32; BLOCK];

/// Numbers in a register.
const WIDTH: usize = 16;

/// Running sums of a student's block of tokens, all relative to the largest logit.
#[derive(Clone, Debug)]
pub struct BothSums {
    /// Largest logit so far.
    pub largest: Lanes,
    /// `sum e^(l - largest)`.
    pub hard: Lanes,
    /// `sum e^((l - largest) / tau)`.
    pub soft: Lanes,
}

/// Shifts and weights of a mixed loss's gradient.
#[derive(Clone, Copy, Debug)]
pub struct MixedShift<'a> {
    /// `tau`.
    pub temperature: f32,
    /// `log2 sum e^l` of the student.
    pub hard: &'a Lanes,
    /// `log2 sum e^(l / tau)` of the student.
    pub student: &'a Lanes,
    /// The same of the teacher.
    pub teacher: &'a Lanes,
    /// Weight of the soft gradient.
    pub soft_weight: f32,
    /// Weight of the hard gradient.
    pub hard_weight: f32,
}

/// Where a block of the logits' gradient goes: rounded, for both products of the backward pass, and summed over tokens.
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
    /// Takes a block of logits into every token's running `sum 2^(scale (l - largest))`.
    pub fn extend_sums(&self, block: &Block, bias: &Lanes, scale: f32, largest: &mut Lanes, sums: &mut Lanes) {
        // SAFETY: a session exists only where AVX-512 was detected.
        #[expect(unsafe_code, reason = "calls a function compiled for detected instructions")]
        unsafe {
            extend_sums(block, bias, scale, largest, sums);
        }
    }

    /// Takes a block of logits into both of every token's sums.
    pub fn extend_both(&self, block: &Block, bias: &Lanes, temperature: f32, sums: &mut BothSums) {
        // SAFETY: a session exists only where AVX-512 was detected.
        #[expect(unsafe_code, reason = "calls a function compiled for detected instructions")]
        unsafe {
            match power(temperature) {
                1 => extend_both::<1>(block, bias, temperature, sums),
                2 => extend_both::<2>(block, bias, temperature, sums),
                3 => extend_both::<3>(block, bias, temperature, sums),
                4 => extend_both::<4>(block, bias, temperature, sums),
                _ => extend_both::<0>(block, bias, temperature, sums),
            }
        }
    }

    /// Gradient of the plain loss: `2^(scale l - shift)`.
    pub fn softmax_block(&self, block: &Block, bias: &Lanes, scale: f32, shift: &Lanes, out: &mut GradientBlock) {
        // SAFETY: a session exists only where AVX-512 was detected.
        #[expect(unsafe_code, reason = "calls a function compiled for detected instructions")]
        unsafe {
            softmax_block(block, bias, scale, shift, out);
        }
    }

    /// Gradient of the mixed loss, from logits and biases of student and teacher; adds every token's part of the divergence,
    /// in bits.
    pub fn mixed_block(
        &self,
        student: (&Block, &Lanes),
        teacher: (&Block, &Lanes),
        shift: MixedShift,
        out: &mut GradientBlock,
        divergence: &mut Lanes,
    ) {
        // SAFETY: a session exists only where AVX-512 was detected.
        #[expect(unsafe_code, reason = "calls a function compiled for detected instructions")]
        unsafe {
            match power(shift.temperature) {
                1 => mixed_block::<1>(student, teacher, shift, out, divergence),
                2 => mixed_block::<2>(student, teacher, shift, out, divergence),
                3 => mixed_block::<3>(student, teacher, shift, out, divergence),
                4 => mixed_block::<4>(student, teacher, shift, out, divergence),
                _ => mixed_block::<0>(student, teacher, shift, out, divergence),
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn extend_sums(block: &Block, bias: &Lanes, scale: f32, largest: &mut Lanes, sums: &mut Lanes) {
    let old: [__m512; 2] = load_lanes(largest);
    let mut top = old;
    for (row, bias) in block.0.iter().zip(bias) {
        let bias = _mm512_set1_ps(*bias);
        for (top, x) in top.iter_mut().zip(load_lanes(row)) {
            *top = _mm512_max_ps(*top, _mm512_add_ps(x, bias));
        }
    }
    let scale = _mm512_set1_ps(scale);
    let shift = top.map(|top| _mm512_mul_ps(top, scale));
    let mut total = load_lanes(sums);
    for (half, total) in total.iter_mut().enumerate() {
        *total = _mm512_mul_ps(*total, exp2(_mm512_mul_ps(_mm512_sub_ps(old[half], top[half]), scale)));
    }
    for (row, bias) in block.0.iter().zip(bias) {
        let bias = _mm512_set1_ps(*bias);
        for (half, x) in load_lanes(row).into_iter().enumerate() {
            let x = _mm512_fmsub_ps(_mm512_add_ps(x, bias), scale, shift[half]);
            total[half] = _mm512_add_ps(total[half], exp2(x));
        }
    }
    store_lanes(top, largest);
    store_lanes(total, sums);
}

/// The temperature, if the exponential of a logit is a low power of that of the logit over the temperature; else 0.
fn power(temperature: f32) -> u32 {
    if (1.0..=4.0).contains(&temperature) && temperature.fract() == 0.0 { temperature as u32 } else { 0 }
}

/// `x^POWER`.
#[inline]
#[target_feature(enable = "avx512f")]
fn raise<const POWER: u32>(x: __m512) -> __m512 {
    let square = _mm512_mul_ps(x, x);
    match POWER {
        1 => x,
        2 => square,
        3 => _mm512_mul_ps(square, x),
        4 => _mm512_mul_ps(square, square),
        _ => unreachable!("other temperatures take an exponential of their own"),
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn extend_both<const POWER: u32>(block: &Block, bias: &Lanes, temperature: f32, sums: &mut BothSums) {
    let old: [__m512; 2] = load_lanes(&sums.largest);
    let mut top = old;
    for (row, bias) in block.0.iter().zip(bias) {
        let bias = _mm512_set1_ps(*bias);
        for (top, x) in top.iter_mut().zip(load_lanes(row)) {
            *top = _mm512_max_ps(*top, _mm512_add_ps(x, bias));
        }
    }
    let (hard_scale, soft_scale) = (_mm512_set1_ps(LOG2_E), _mm512_set1_ps(LOG2_E / temperature));
    let hard_shift = top.map(|top| _mm512_mul_ps(top, hard_scale));
    let soft_shift = top.map(|top| _mm512_mul_ps(top, soft_scale));
    let (mut hard, mut soft) = (load_lanes(&sums.hard), load_lanes(&sums.soft));
    for half in 0..2 {
        let fall = _mm512_sub_ps(old[half], top[half]);
        hard[half] = _mm512_mul_ps(hard[half], exp2(_mm512_mul_ps(fall, hard_scale)));
        soft[half] = _mm512_mul_ps(soft[half], exp2(_mm512_mul_ps(fall, soft_scale)));
    }
    for (row, bias) in block.0.iter().zip(bias) {
        let bias = _mm512_set1_ps(*bias);
        for (half, x) in load_lanes(row).into_iter().enumerate() {
            let logit = _mm512_add_ps(x, bias);
            let e = exp2(_mm512_fmsub_ps(logit, soft_scale, soft_shift[half]));
            soft[half] = _mm512_add_ps(soft[half], e);
            let e = match POWER {
                0 => exp2(_mm512_fmsub_ps(logit, hard_scale, hard_shift[half])),
                _ => raise::<POWER>(e),
            };
            hard[half] = _mm512_add_ps(hard[half], e);
        }
    }
    store_lanes(top, &mut sums.largest);
    store_lanes(hard, &mut sums.hard);
    store_lanes(soft, &mut sums.soft);
}

#[target_feature(enable = "avx512f,avx512bw")]
fn softmax_block(block: &Block, bias: &Lanes, scale: f32, shift: &Lanes, out: &mut GradientBlock) {
    let scale = _mm512_set1_ps(scale);
    let shift = load_lanes(shift);
    for pair in 0..BLOCK / 2 {
        let mut gradient = [[_mm512_setzero_ps(); 2]; 2];
        for (word, gradient) in gradient.iter_mut().enumerate() {
            let bias = _mm512_set1_ps(bias[2 * pair + word]);
            for (half, x) in load_lanes(&block.0[2 * pair + word]).into_iter().enumerate() {
                gradient[half] = exp2(_mm512_fmsub_ps(_mm512_add_ps(x, bias), scale, shift[half]));
            }
        }
        store_gradient(out, pair, gradient);
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn mixed_block<const POWER: u32>(
    (block, bias): (&Block, &Lanes),
    (teacher, teacher_bias): (&Block, &Lanes),
    shift: MixedShift,
    out: &mut GradientBlock,
    divergence: &mut Lanes,
) {
    let [hard_scale, soft_scale, hard_weight, soft_weight] =
        [LOG2_E, LOG2_E / shift.temperature, shift.hard_weight, shift.soft_weight].map(|x| _mm512_set1_ps(x));
    let [hard_shift, student_shift, teacher_shift] = [shift.hard, shift.student, shift.teacher].map(|x| load_lanes(x));
    // The hard weight, times what takes a power of the soft probability to the hard one.
    let mut hard_factor = [hard_weight; 2];
    if POWER > 0 {
        for half in 0..2 {
            let power = _mm512_set1_ps(shift.temperature);
            let exponent = _mm512_fmsub_ps(power, student_shift[half], hard_shift[half]);
            hard_factor[half] = _mm512_mul_ps(hard_weight, exp2(exponent));
        }
    }
    let mut total = load_lanes(divergence);
    for pair in 0..BLOCK / 2 {
        let mut gradient = [[_mm512_setzero_ps(); 2]; 2];
        for (word, gradient) in gradient.iter_mut().enumerate() {
            let index = 2 * pair + word;
            let (bias, teacher_bias) = (_mm512_set1_ps(bias[index]), _mm512_set1_ps(teacher_bias[index]));
            let rows = load_lanes(&block.0[index]).into_iter().zip(load_lanes(&teacher.0[index]));
            for (half, (x, y)) in rows.enumerate() {
                let logit = _mm512_add_ps(x, bias);
                let student = _mm512_fmsub_ps(logit, soft_scale, student_shift[half]);
                let teacher = _mm512_fmsub_ps(_mm512_add_ps(y, teacher_bias), soft_scale, teacher_shift[half]);
                let (p, q) = (exp2(teacher), exp2(student));
                total[half] = _mm512_fmadd_ps(p, _mm512_sub_ps(teacher, student), total[half]);
                let soft = _mm512_mul_ps(soft_weight, _mm512_sub_ps(q, p));
                let hard = match POWER {
                    0 => exp2(_mm512_fmsub_ps(logit, hard_scale, hard_shift[half])),
                    _ => raise::<POWER>(q),
                };
                gradient[half] = _mm512_fmadd_ps(hard_factor[half], hard, soft);
            }
        }
        store_gradient(out, pair, gradient);
    }
    store_lanes(total, divergence);
}

/// `2^x` for `x <= 127`, relative error below 2e-7; below `x = -125` it stays at `2^-125`.
#[inline]
#[target_feature(enable = "avx512f")]
fn exp2(x: __m512) -> __m512 {
    /// Adding it rounds to the nearest integer: 1.5 * 2^23.
    const ROUND: f32 = 12_582_912.0;
    /// Interpolates `2^r` at the Chebyshev nodes of `[-1/2, 1/2]`.
    const COEFFICIENTS: [f32; 5] = [9.676_032e-3, 5.550_357e-2, 2.402_210_8e-1, 6.931_472e-1, 1.0];
    // In this order a NaN stays one.
    let x = _mm512_max_ps(_mm512_set1_ps(-125.0), x);
    let rounded = _mm512_add_ps(x, _mm512_set1_ps(ROUND));
    let r = _mm512_sub_ps(x, _mm512_sub_ps(rounded, _mm512_set1_ps(ROUND)));
    let mut p = _mm512_set1_ps(1.339_086_3e-3);
    for c in COEFFICIENTS {
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c));
    }
    // The low bits of `rounded` hold the integer: they go to the exponent.
    let exponent = _mm512_slli_epi32::<23>(_mm512_castps_si512(rounded));
    _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), exponent))
}

/// Stores the gradients of words `2 pair` and `2 pair + 1`, each two registers of tokens, rounded to bf16 (halves up).
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

#[inline]
#[target_feature(enable = "avx512f")]
fn load_lanes(lanes: &Lanes) -> [__m512; 2] {
    let (halves, _) = lanes.as_chunks::<WIDTH>();
    [load(&halves[0]), load(&halves[1])]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_lanes(values: [__m512; 2], lanes: &mut Lanes) {
    let (halves, _) = lanes.as_chunks_mut::<WIDTH>();
    for (value, half) in values.into_iter().zip(halves) {
        store(value, half);
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(values: &[f32; WIDTH]) -> __m512 {
    // SAFETY: 64 valid bytes; no alignment is asked for.
    #[expect(unsafe_code, reason = "loads a register")]
    unsafe {
        _mm512_loadu_ps(values.as_ptr())
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(value: __m512, out: &mut [f32; WIDTH]) {
    // SAFETY: 64 valid bytes; no alignment is asked for.
    #[expect(unsafe_code, reason = "stores a register")]
    unsafe {
        _mm512_storeu_ps(out.as_mut_ptr(), value);
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_indices(indices: &[u16; BLOCK]) -> __m512i {
    // SAFETY: 64 valid bytes; no alignment is asked for.
    #[expect(unsafe_code, reason = "loads a register")]
    unsafe {
        _mm512_loadu_si512(indices.as_ptr().cast())
    }
}

/// Stores 32 numbers from `place` on.
#[inline]
#[target_feature(enable = "avx512f")]
fn store_words(value: __m512i, out: &mut [u16; BLOCK * BLOCK], place: usize) {
    let out: &mut [u16] = &mut out[place..place + BLOCK];
    // SAFETY: the slice has 64 bytes; no alignment is asked for.
    #[expect(unsafe_code, reason = "stores a register")]
    unsafe {
        _mm512_storeu_si512(out.as_mut_ptr().cast(), value);
    }
}
