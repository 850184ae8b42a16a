//! Draws against the distribution they stand for.

use super::*;

const UNKNOWN: u32 = 0;
/// `<unk>` has the largest logit of all: it must not be drawn even so.
const LOGITS: [f32; 6] = [9.0, 1.0, 0.0, 2.0, 2.0, -1.0];
const DRAWS: usize = 200_000;
/// Five standard deviations of a frequency of 200,000 draws: `5 sqrt(1/4 / 200,000)`.
const TOLERANCE: f64 = 0.0056;

fn sampler(temperature: f32, top_k: Option<usize>) -> Sampler {
    Sampler { temperature, top_k, seed: 7 }
}

fn frequencies(sampler: Sampler) -> [f64; 6] {
    let mut random = SplitMix64(sampler.seed);
    let mut frequencies = [0.0; 6];
    for _ in 0..DRAWS {
        frequencies[sampler.draw(&LOGITS, UNKNOWN, &mut random) as usize] += 1.0 / DRAWS as f64;
    }
    frequencies
}

#[test]
fn random_numbers_are_those_published() {
    let mut random = SplitMix64(1_234_567);
    assert_eq!(
        [random.next(), random.next(), random.next()],
        [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
    );
    assert!((0..1000).map(|_| random.uniform()).all(|u| (0.0..1.0).contains(&u)));
}

#[test]
fn words_are_drawn_as_often_as_they_are_probable() {
    for (temperature, top_k, candidates) in [
        (1.0, None, &[1, 2, 3, 4, 5][..]),
        (0.5, None, &[1, 2, 3, 4, 5]),
        (2.0, Some(3), &[3, 4, 1]),
        (1.0, Some(1), &[3]),
        (1.0, Some(1000), &[1, 2, 3, 4, 5]),
    ] {
        let frequencies = frequencies(sampler(temperature, top_k));
        let weight = |id: usize| (f64::from(LOGITS[id]) / f64::from(temperature)).exp();
        let total: f64 = candidates.iter().map(|&id| weight(id)).sum();
        for (id, frequency) in frequencies.into_iter().enumerate() {
            let expected = if candidates.contains(&id) { weight(id) / total } else { 0.0 };
            assert!((frequency - expected).abs() < TOLERANCE, "{id}: {frequency}, expected {expected}");
            assert!(expected > 0.0 || frequency == 0.0, "{id} is no candidate");
        }
    }
}

#[test]
fn extreme_temperatures_and_logits_draw_a_word() {
    let mut random = SplitMix64(3);
    for temperature in [0.0, f32::from_bits(1), f32::MIN_POSITIVE] {
        for _ in 0..100 {
            let token = sampler(temperature, None).draw(&[5.0, 1.0, f32::MIN, 3e38, -2.0], UNKNOWN, &mut random);
            assert_eq!(token, 3, "temperature {temperature}");
        }
    }
    let hot = frequencies(sampler(f32::MAX, None));
    assert!(hot[1..].iter().all(|frequency| (frequency - 0.2).abs() < TOLERANCE), "{hot:?}");
}

#[test]
fn greedy_ties_go_to_the_lower_id() {
    assert_eq!(sampler(0.0, None).draw(&LOGITS, UNKNOWN, &mut SplitMix64(0)), 3);
}

#[test]
fn the_largest_are_sorted_and_ties_go_by_id() {
    let values = [0.3, 0.1, 0.3, 0.5, 0.1];
    for (count, expected) in [(0, &[][..]), (1, &[3]), (2, &[3, 0]), (3, &[3, 0, 2]), (9, &[3, 0, 2, 1, 4])] {
        assert_eq!(largest(&values, vec![4, 1, 0, 3, 2], count), expected);
    }
    assert_eq!(largest(&[], vec![], 3), [0u32; 0]);
}

#[test]
fn samplers_that_draw_nothing_are_refused() {
    for temperature in [-1.0, -f32::MIN_POSITIVE, f32::NAN, f32::INFINITY] {
        let error = sampler(temperature, None).validate().unwrap_err();
        let expected = format!("temperature is {temperature}, but must be finite and at least 0");
        assert_eq!(error.to_string(), expected);
    }
    assert_eq!(sampler(1.0, Some(0)).validate(), Err(SampleError::TopK));
    assert_eq!(sampler(-0.0, Some(1)).validate(), Ok(()));
}
