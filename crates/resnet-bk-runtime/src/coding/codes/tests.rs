//! Coded matrices round-trip. They cost about their entropy, or less where contexts help.

use super::super::range::Encoder;
use super::*;
use proptest::prelude::*;

fn encoded(codes: &[i16], columns: usize, qmax: i16) -> Vec<u8> {
    let mut encoder = Encoder::new();
    encode_codes(codes, columns, qmax, &mut encoder);
    encoder.finish()
}

fn assert_round_trip(codes: &[i16], columns: usize, qmax: i16) {
    let bytes = encoded(codes, columns, qmax);
    let mut decoder = Decoder::new(&bytes).unwrap();
    let decoded = decode_codes(codes.len(), columns, qmax, &mut decoder).unwrap();
    assert_eq!(decoded, codes, "{columns} columns within ±{qmax}");
    assert_eq!(decoder.finish(), Ok(()));
}

/// Uniform numbers in 0..1.
struct Uniform(u64);

impl Uniform {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let mixed = (self.0 ^ self.0 >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
        ((mixed >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    fn gaussian(&mut self) -> f64 {
        (-2.0 * self.next().ln()).sqrt() * (std::f64::consts::TAU * self.next()).cos()
    }

    fn laplacian(&mut self) -> f64 {
        let (u, sign) = (self.next(), self.next());
        if sign < 0.5 { u.ln() } else { -u.ln() }
    }
}

/// Empirical entropy of the codes, in bits: the cost of the best code without contexts whose
/// distribution is known for free.
fn entropy(codes: &[i16]) -> f64 {
    let mut counts = std::collections::HashMap::new();
    codes.iter().for_each(|code| *counts.entry(code).or_insert(0u32) += 1);
    counts.values().map(|&n| -f64::from(n) * (f64::from(n) / codes.len() as f64).log2()).sum()
}

fn quantize(value: f64, qmax: i16) -> i16 {
    (value.round() as i16).clamp(-qmax, qmax)
}

/// Bits of the coded matrix divided by the empirical entropy.
fn ratio(codes: &[i16], columns: usize, qmax: i16) -> f64 {
    8.0 * encoded(codes, columns, qmax).len() as f64 / entropy(codes)
}

#[test]
fn codes_without_structure_cost_their_entropy() {
    // The empirical entropy of 2,000 codes of 255 levels is 1.2 % too low: (254 / 2) / ln 2 bits.
    for (qmax, few, many) in
        [(1, 1.015, 1.002), (2, 1.02, 1.002), (4, 1.02, 1.002), (7, 1.02, 1.002), (127, 1.035, 1.004)]
    {
        for (len, columns, bound) in [(2_000, 10, few), (2_000, 64, few), (200_000, 10, many), (200_000, 64, many)] {
            let mut random = Uniform(qmax as u64 + len as u64 + columns as u64);
            let scale = if qmax == 1 { 1.0 } else { f64::from(qmax) / 2.5 };
            let gaussian: Vec<i16> = (0..len).map(|_| quantize(scale * random.gaussian(), qmax)).collect();
            let laplacian: Vec<i16> = (0..len).map(|_| quantize(0.6 * scale * random.laplacian(), qmax)).collect();
            for codes in [gaussian, laplacian] {
                let ratio = ratio(&codes, columns, qmax);
                assert!(ratio < bound, "{len} codes within ±{qmax}: {ratio} of the entropy");
            }
        }
    }
}

/// Codes of Laplacian numbers, and their cost in bits where all scales are known. The scale changes
/// between columns, and falls by 2^-3 from the first row to the last.
fn scaled(rows: usize, columns: usize, qmax: i16, by_row: bool, by_column: bool) -> (Vec<i16>, f64) {
    let mut random = Uniform(7);
    let column_scales: Vec<f64> = (0..columns).map(|_| (0.7 * random.gaussian()).exp()).collect();
    let mut known = 0.0;
    let mut code = |index: usize| {
        let row_scale = (2.0 - 3.0 * (index / columns) as f64 / rows as f64).exp2() / 1.5;
        let scale = f64::from(qmax) / 4.0
            * if by_row { row_scale } else { 1.0 }
            * if by_column { column_scales[index % columns] } else { 1.0 };
        let code = quantize(scale * random.laplacian(), qmax);
        known += laplacian_bits(code, scale, qmax);
        code
    };
    ((0..rows * columns).map(&mut code).collect(), known)
}

/// `-log2` of the probability that a Laplacian of the given scale is rounded to `code`.
fn laplacian_bits(code: i16, scale: f64, qmax: i16) -> f64 {
    let below = |x: f64| if x < 0.0 { 0.5 * (x / scale).exp() } else { 1.0 - 0.5 * (-x / scale).exp() };
    let low = if code == -qmax { 0.0 } else { below(f64::from(code) - 0.5) };
    let high = if code == qmax { 1.0 } else { below(f64::from(code) + 0.5) };
    -(high - low).max(1e-12).log2()
}

#[test]
fn scales_of_rows_and_columns_are_learned() {
    for qmax in [1, 2, 4, 7, 127] {
        for (rows, columns, bound) in [(200, 10, 1.1), (2_000, 64, 1.015), (10_000, 10, 1.01)] {
            for (by_row, by_column) in [(true, false), (false, true), (true, true)] {
                let (codes, known) = scaled(rows, columns, qmax, by_row, by_column);
                let bits = 8.0 * encoded(&codes, columns, qmax).len() as f64;
                let case = format!("{rows} x {columns} within ±{qmax}, by row {by_row}, by column {by_column}");
                assert!(bits < bound * known, "{case}: {} of the cost with known scales", bits / known);
                let few = rows == 200 && qmax == 127;
                assert!(few || bits < 0.99 * entropy(&codes), "{case}: {} of the entropy", bits / entropy(&codes));
            }
        }
    }
}

#[test]
fn awkward_sizes_round_trip() {
    for qmax in [1, 2, 6, 7, 8, 9, 10, 127, 128, 32_766, 32_767] {
        for len in [0, 1, 2, 15, 16, 17, 33, 200] {
            for columns in [1, 3, 16, 1000] {
                for value in [0, qmax, -qmax] {
                    assert_round_trip(&vec![value; len], columns, qmax);
                }
                let span = 2 * i64::from(qmax) + 1;
                let codes: Vec<i16> =
                    (0..len as i64).map(|i| ((i * 7919 + i * i * 31) % span - i64::from(qmax)) as i16).collect();
                assert_round_trip(&codes, columns, qmax);
            }
        }
    }
    assert!(encoded(&[], 5, 3).is_empty());
}

#[test]
fn more_codes_than_the_bytes_can_hold_are_refused() {
    for len in [1_000, usize::MAX / 2] {
        let mut decoder = Decoder::new(b"some bytes").unwrap();
        assert_eq!(decode_codes(len, 8, 7, &mut decoder), Err(CodingError::Truncated));
    }
}

proptest! {
    #[test]
    fn any_codes_round_trip(
        codes in proptest::collection::vec(any::<i16>(), 0..300), columns in 1usize..40, qmax in 1i16..=i16::MAX,
    ) {
        let codes: Vec<i16> = codes.into_iter().map(|code| (i32::from(code) % (i32::from(qmax) + 1)) as i16).collect();
        assert_round_trip(&codes, columns, qmax);
    }

    #[test]
    fn garbage_decodes_to_codes_within_qmax(
        bytes in proptest::collection::vec(any::<u8>(), 0..60), columns in 1usize..40, qmax in 1i16..=i16::MAX,
    ) {
        let mut decoder = Decoder::new(&bytes).unwrap();
        if let Ok(codes) = decode_codes(30, columns, qmax, &mut decoder) {
            prop_assert!(codes.iter().all(|code| code.unsigned_abs() <= qmax.unsigned_abs()));
        }
    }
}
