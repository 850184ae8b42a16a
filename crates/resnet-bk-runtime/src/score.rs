//! Perplexity and log probabilities of a text.
//!
//! ```text
//! perplexity          exp( -1/N sum ln p(w_t | w_<t) )     every token but the first; windows of
//!                                                          n_seq, with the state reset at each
//! log probabilities   ln p(w_t | w_1 ... w_{t-1})          every token; the state is not reset;
//!                                                          the first token follows a line break
//! ```
//!
//! Both process a window or a chunk of the text at once. The head computes the logits of a part of
//! the vocabulary at a time.

use crate::model::{Model, State};
#[cfg(feature = "rayon")]
use rayon::prelude::*;

/// Number of tokens that are processed at once where there are no windows.
pub(crate) const CHUNK: usize = 256;
/// Number of windows whose hidden states are kept at once where the state is not reset.
const STREAMED_WINDOWS: usize = 64;

/// Consecutive windows as (inputs, targets). Every token but the first is a target exactly once.
///
/// Both slices have `n_seq` tokens; those of the last window have 1 to `n_seq`. Fewer than two
/// tokens give no window.
///
/// # Panics
/// If `n_seq` is 0.
pub fn windows(tokens: &[u32], n_seq: usize) -> impl ExactSizeIterator<Item = (&[u32], &[u32])> {
    let predicted = tokens.len().saturating_sub(1);
    tokens[..predicted].chunks(n_seq).zip(tokens[tokens.len() - predicted..].chunks(n_seq))
}

/// Sum of `-ln p` over the targets of all [`windows`], in nats. With the feature `rayon`, windows
/// run on all threads of the current pool. The sum has the same bits without it.
///
/// # Panics
/// If a token is not in the vocabulary.
pub fn nats(model: &Model, tokens: &[u32]) -> f64 {
    let windows = windows(tokens, model.architecture().n_seq).collect::<Vec<_>>();
    let nats = side_by_side(&windows).map(|(inputs, targets)| window_nats(model, inputs, targets, &mut model.start()));
    nats.collect::<Vec<f64>>().iter().sum()
}

/// As [`nats`], keeping the state between windows. The hidden states are computed one window after
/// another, then the logits of several windows side by side.
///
/// # Panics
/// If a token is not in the vocabulary.
pub fn streaming_nats(model: &Model, tokens: &[u32]) -> f64 {
    let windows = windows(tokens, model.architecture().n_seq);
    streamed(model, windows, |hidden, targets| target_nats(model, hidden, targets)).iter().sum()
}

/// `of_window(hidden states, targets)` of each window, with the state kept between windows.
fn streamed<'a, T: Send>(
    model: &Model,
    windows: impl Iterator<Item = (&'a [u32], &'a [u32])>,
    of_window: impl Fn(&[f32], &[u32]) -> T + Sync,
) -> Vec<T> {
    let windows = windows.collect::<Vec<_>>();
    let mut state = model.start();
    let mut results = Vec::with_capacity(windows.len());
    for group in windows.chunks(STREAMED_WINDOWS) {
        let hidden: Vec<(Vec<f32>, &[u32])> =
            group.iter().map(|(inputs, targets)| (model.hidden(inputs, &mut state), *targets)).collect();
        let of_group = side_by_side(&hidden).map(|(hidden, targets)| of_window(hidden, targets));
        results.extend(of_group.collect::<Vec<T>>());
    }
    results
}

#[cfg(feature = "rayon")]
fn side_by_side<T: Sync>(items: &[T]) -> rayon::slice::Iter<'_, T> {
    items.par_iter()
}

#[cfg(not(feature = "rayon"))]
fn side_by_side<T>(items: &[T]) -> std::slice::Iter<'_, T> {
    items.iter()
}

/// Sum of `-ln p` over the targets of one window, in nats, continuing from `state`.
///
/// # Panics
/// If a token is not in the vocabulary, or the numbers of inputs and targets differ.
pub fn window_nats(model: &Model, inputs: &[u32], targets: &[u32], state: &mut State) -> f64 {
    target_nats(model, &model.hidden(inputs, state), targets)
}

/// Sum of `-ln p` over the targets of one window with the given hidden states, in nats.
fn target_nats(model: &Model, hidden: &[f32], targets: &[u32]) -> f64 {
    model.head().negative_log_likelihoods(hidden, targets).iter().map(|&x| f64::from(x)).sum()
}

/// `ln p` of every token after the tokens before it, in nats, by a causal model. The first token
/// follows `before`. As in [`streaming_nats`], the logits of several windows are computed side by
/// side.
///
/// # Shapes
/// - `tokens`: `[n]`
/// - returns `[n]`
///
/// # Panics
/// If a token is not in the vocabulary.
pub fn log_probabilities(model: &Model, before: u32, tokens: &[u32]) -> Vec<f32> {
    let losses = |hidden: &[f32], targets: &[u32]| model.head().negative_log_likelihoods(hidden, targets);
    let first = tokens.first().map(|first| losses(&model.hidden(&[before], &mut model.start()), &[*first]));
    let others = streamed(model, windows(tokens, CHUNK), losses);
    first.iter().chain(&others).flatten().map(|loss| -loss).collect()
}

/// The [`log_probabilities`] of each of several texts. With the feature `rayon`, texts run on all
/// threads of the current pool.
///
/// # Panics
/// If a token is not in the vocabulary.
pub fn log_probabilities_of_each(model: &Model, before: u32, texts: &[Vec<u32>]) -> Vec<Vec<f32>> {
    side_by_side(texts).map(|tokens| log_probabilities(model, before, tokens)).collect()
}

#[cfg(test)]
mod tests {
    use super::windows;

    #[test]
    fn windows_predict_every_token_but_the_first_once() {
        for length in 0..12u32 {
            let tokens: Vec<u32> = (0..length).collect();
            for n_seq in 1..6 {
                let targets: Vec<u32> = windows(&tokens, n_seq).flat_map(|window| window.1).copied().collect();
                assert_eq!(targets, tokens.get(1..).unwrap_or_default());
                for (inputs, targets) in windows(&tokens, n_seq) {
                    assert!((1..=n_seq).contains(&inputs.len()) && inputs.len() == targets.len());
                    assert!(inputs.iter().zip(targets).all(|(input, target)| input + 1 == *target));
                }
            }
        }
    }
}
