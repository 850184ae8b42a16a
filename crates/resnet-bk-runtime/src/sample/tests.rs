//! Tests of sampling: observed frequencies against the expected distribution.

use super::*;

const UNKNOWN: u32 = 0;
/// `<unk>` has the largest logit, to test that it is never drawn.
const LOGITS: [f32; 6] = [9.0, 1.0, 0.0, 2.0, 2.0, -1.0];
const DRAWS: usize = 200_000;
/// Five standard deviations of a frequency of 200,000 draws: `5 sqrt(1/4 / 200,000)`.
const TOLERANCE: f64 = 0.0056;

fn sampler(temperature: f32, top_k: Option<usize>) -> Sampler {
    Sampler { temperature, top_k, seed: 7, ..Sampler::default() }
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
fn random_numbers_equal_the_published_ones() {
    let mut random = SplitMix64(1_234_567);
    assert_eq!(
        [random.next(), random.next(), random.next()],
        [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
    );
    assert!((0..1000).map(|_| random.uniform()).all(|u| (0.0..1.0).contains(&u)));
}

#[test]
fn frequencies_equal_probabilities() {
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
fn a_nucleus_is_the_fewest_tokens_that_reach_its_mass() {
    // The probabilities are exact in binary, so sums are exact.
    let probabilities = [0.5, 0.25, 0.125, 0.0625, 0.0625];
    for (mass, expected) in [(0.25, 1), (0.5, 1), (0.500_001, 2), (0.75, 2), (0.8, 3), (0.875, 3), (0.9, 4), (1.0, 5)] {
        assert_eq!(nucleus_len(&probabilities, mass), expected, "mass {mass}");
    }
    assert_eq!(nucleus_len(&[0.4, 0.4], 0.9), 2, "by rounding the sum may stay below the mass");

    let share = |candidates: &[usize]| -> f64 {
        let weight = |id: &usize| f64::from(LOGITS[*id]).exp();
        candidates.iter().map(weight).sum::<f64>() / [1, 2, 3, 4, 5].iter().map(weight).sum::<f64>()
    };
    // Words 3 and 4 have the largest logit, word 1 the next; the order of ties is by id.
    for (mass, top_k, candidates) in [
        (1e-6, None, &[3][..]),
        (share(&[3, 4]) as f32 - 1e-4, None, &[3, 4]),
        (share(&[3, 4]) as f32 + 1e-4, None, &[3, 4, 1]),
        (1.0, None, &[1, 2, 3, 4, 5]),
        // Of these three tokens, the first two have the probability 2 e / (2 e + 1) = 0.84.
        (0.83, Some(3), &[3, 4]),
        (0.85, Some(3), &[3, 4, 1]),
    ] {
        let frequencies = frequencies(Sampler { top_p: Some(mass), ..sampler(1.0, top_k) });
        let total: f64 = candidates.iter().map(|&id| f64::from(LOGITS[id]).exp()).sum();
        for (id, frequency) in frequencies.into_iter().enumerate() {
            let expected = if candidates.contains(&id) { f64::from(LOGITS[id]).exp() / total } else { 0.0 };
            assert!((frequency - expected).abs() < TOLERANCE, "mass {mass}, {id}: {frequency}, expected {expected}");
            assert!(expected > 0.0 || frequency == 0.0, "mass {mass}: {id} is no candidate");
        }
    }
}

#[test]
fn a_penalty_applies_once_to_each_repeated_token() {
    let penalized = |penalty: f32, recent: &[u32]| {
        let mut logits = [4.0, -2.0, 0.0, 1.0];
        Sampler { repetition_penalty: penalty, ..Sampler::default() }.penalize(&mut logits, recent.iter().copied());
        logits
    };
    assert_eq!(penalized(2.0, &[0, 1, 2, 0, 0]), [2.0, -4.0, 0.0, 1.0]);
    assert_eq!(penalized(1.0, &[0, 1, 2, 3]), [4.0, -2.0, 0.0, 1.0]);
    assert_eq!(penalized(2.0, &[]), [4.0, -2.0, 0.0, 1.0]);
}

#[test]
fn a_penalty_breaks_the_loops_of_greedy_decoding() {
    const WORDS: u32 = 200;
    // A toy model: the sequence 1, 2, 3, 1, ... is the most probable one, and every other token is
    // nearly as probable.
    let logits = |word: u32| -> Vec<f32> {
        (0..WORDS).map(|next| if next == word % 3 + 1 { 3.0 } else { 2.0 - next as f32 / 1e3 }).collect()
    };
    let text = |repetition_penalty: f32| {
        let sampler = Sampler { temperature: 0.0, repetition_penalty, ..Sampler::default() };
        let mut words = vec![1];
        for _ in 0..60 {
            let mut logits = logits(words[words.len() - 1]);
            sampler.penalize(&mut logits, words.iter().copied());
            words.push(sampler.draw(&logits, UNKNOWN, &mut SplitMix64(0)));
        }
        words
    };
    let repeats = |words: &[u32]| words.windows(4).filter(|window| window[0] == window[3]).count();
    assert_eq!(repeats(&text(1.0)), 58, "greedy decoding repeats a loop of three tokens");
    assert_eq!(repeats(&text(1.6)), 0);
}

#[test]
fn extreme_temperatures_and_logits_give_a_token() {
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
fn invalid_samplers_are_refused() {
    for temperature in [-1.0, -f32::MIN_POSITIVE, f32::NAN, f32::INFINITY] {
        let error = sampler(temperature, None).validate().unwrap_err();
        let expected = format!("temperature is {temperature}, but must be finite and at least 0");
        assert_eq!(error.to_string(), expected);
    }
    assert_eq!(sampler(1.0, Some(0)).validate(), Err(SampleError::TopK));
    assert_eq!(sampler(-0.0, Some(1)).validate(), Ok(()));
    for value in [0.0, -0.1, 1.000_1, f32::INFINITY] {
        let wide = Sampler { top_p: Some(value), ..Sampler::default() };
        assert_eq!(wide.validate(), Err(SampleError::TopP { value }));
    }
    assert!(Sampler { top_p: Some(f32::NAN), ..Sampler::default() }.validate().is_err());
    for value in [0.9, 0.0, -1.0, f32::INFINITY] {
        let rewarding = Sampler { repetition_penalty: value, ..Sampler::default() };
        assert_eq!(rewarding.validate(), Err(SampleError::RepetitionPenalty { value }));
    }
    assert!(Sampler { repetition_penalty: f32::NAN, ..Sampler::default() }.validate().is_err());
    assert_eq!(Sampler { top_p: Some(1.0), ..Sampler::default() }.validate(), Ok(()));
}
