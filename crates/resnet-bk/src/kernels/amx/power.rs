//! Temperatures at which a logit's exponential is a low power of that of the logit over the
//! temperature.

use std::arch::x86_64::{__m512, _mm512_mul_ps};

/// The temperature, if the exponential of a logit is a low power of that of the logit over the
/// temperature; else 0.
pub(super) fn power(temperature: f32) -> u32 {
    if (1.0..=4.0).contains(&temperature) && temperature.fract() == 0.0 { temperature as u32 } else { 0 }
}

/// `x^POWER`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn raise<const POWER: u32>(x: __m512) -> __m512 {
    let square = _mm512_mul_ps(x, x);
    match POWER {
        1 => x,
        2 => square,
        3 => _mm512_mul_ps(square, x),
        4 => _mm512_mul_ps(square, square),
        _ => unreachable!("other temperatures take an exponential of their own"),
    }
}

/// Calls a function with the temperature's [`power`] as its constant.
macro_rules! with_power {
    ($temperature:expr, $function:ident($($argument:expr),*)) => {
        match power($temperature) {
            1 => $function::<1>($($argument),*),
            2 => $function::<2>($($argument),*),
            3 => $function::<3>($($argument),*),
            4 => $function::<4>($($argument),*),
            _ => $function::<0>($($argument),*),
        }
    };
}

pub(super) use with_power;
