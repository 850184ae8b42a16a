//! Registers of 16 numbers; each lane is one token.

use super::BLOCK;
use std::arch::x86_64::{
    __m512, __m512i, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT, _mm256_loadu_si256, _mm256_storeu_si256,
    _mm512_add_epi32, _mm512_add_ps, _mm512_castps_si512, _mm512_castsi512_ps, _mm512_cvtph_ps, _mm512_cvtps_ph,
    _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_max_ps, _mm512_set1_ps, _mm512_slli_epi32,
    _mm512_storeu_ps, _mm512_storeu_si512, _mm512_sub_ps,
};

/// One number per token of a block.
pub type Lanes = [f32; BLOCK];

/// Numbers in a register.
pub(super) const WIDTH: usize = 16;

/// `2^x` for `x <= 127` with relative error below 2e-7; for `x < -125` the result is `2^-125`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn exp2(x: __m512) -> __m512 {
    /// Adding this rounds to the nearest integer: 1.5 * 2^23.
    const ROUND: f32 = 12_582_912.0;
    /// Polynomial that interpolates `2^r` at the Chebyshev nodes of `[-1/2, 1/2]`.
    const COEFFICIENTS: [f32; 5] = [9.676_032e-3, 5.550_357e-2, 2.402_210_8e-1, 6.931_472e-1, 1.0];
    // With this order of operands, NaN stays NaN.
    let x = _mm512_max_ps(_mm512_set1_ps(-125.0), x);
    let rounded = _mm512_add_ps(x, _mm512_set1_ps(ROUND));
    let r = _mm512_sub_ps(x, _mm512_sub_ps(rounded, _mm512_set1_ps(ROUND)));
    let mut p = _mm512_set1_ps(1.339_086_3e-3);
    for c in COEFFICIENTS {
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c));
    }
    // The low bits of `rounded` hold the integer; shift them into the exponent.
    let exponent = _mm512_slli_epi32::<23>(_mm512_castps_si512(rounded));
    _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), exponent))
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load_lanes(lanes: &Lanes) -> [__m512; 2] {
    let (halves, _) = lanes.as_chunks::<WIDTH>();
    [load(&halves[0]), load(&halves[1])]
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store_lanes(values: [__m512; 2], lanes: &mut Lanes) {
    let (halves, _) = lanes.as_chunks_mut::<WIDTH>();
    for (value, half) in values.into_iter().zip(halves) {
        store(value, half);
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load(values: &[f32; WIDTH]) -> __m512 {
    // SAFETY: 64 valid bytes; the instruction needs no alignment.
    #[expect(unsafe_code, reason = "loads a register")]
    unsafe {
        _mm512_loadu_ps(values.as_ptr())
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store(value: __m512, out: &mut [f32; WIDTH]) {
    // SAFETY: 64 valid bytes; the instruction needs no alignment.
    #[expect(unsafe_code, reason = "stores a register")]
    unsafe {
        _mm512_storeu_ps(out.as_mut_ptr(), value);
    }
}

/// Rounds to half precision.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store_half(value: __m512, out: &mut [u16; WIDTH]) {
    let halves = _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(value);
    // SAFETY: 32 valid bytes; the instruction needs no alignment.
    #[expect(unsafe_code, reason = "stores a register")]
    unsafe {
        _mm256_storeu_si256(out.as_mut_ptr().cast(), halves);
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load_half(values: &[u16; WIDTH]) -> __m512 {
    // SAFETY: 32 valid bytes; the instruction needs no alignment.
    #[expect(unsafe_code, reason = "loads a register")]
    let halves = unsafe { _mm256_loadu_si256(values.as_ptr().cast()) };
    _mm512_cvtph_ps(halves)
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load_indices(indices: &[u16; BLOCK]) -> __m512i {
    // SAFETY: 64 valid bytes; the instruction needs no alignment.
    #[expect(unsafe_code, reason = "loads a register")]
    unsafe {
        _mm512_loadu_si512(indices.as_ptr().cast())
    }
}

/// Stores 32 numbers at `place`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store_words(value: __m512i, out: &mut [u16; BLOCK * BLOCK], place: usize) {
    let out: &mut [u16] = &mut out[place..place + BLOCK];
    // SAFETY: the slice has 64 bytes; the instruction needs no alignment.
    #[expect(unsafe_code, reason = "stores a register")]
    unsafe {
        _mm512_storeu_si512(out.as_mut_ptr().cast(), value);
    }
}
