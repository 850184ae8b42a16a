//! Single components in a training loop of one's own: a quantizer, a pruner and a distillation loss.
//!
//! The model is a table of logits, a row for each previous word. It learns from a teacher and from
//! drawn text, with 4-bit weights of which half are zero.
//!
//! ```sh
//! cargo run --release -p resnet-bk --example own_loop
//! ```

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use resnet_bk::components::{distillation_loss, prune_mask, quantize};
use resnet_bk::random::Random;

const WORDS: usize = 40;
const TOKENS: usize = 2048;
const STEPS: usize = 120;
/// Learning rate.
const RATE: f32 = 20.0;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut random = Random::new(1);
    // A few large logits in each row.
    let teacher: Vec<f32> = (0..WORDS * WORDS).map(|_| random.normal().powi(3)).collect();
    let mut weights: Vec<f32> = (0..WORDS * WORDS).map(|_| 0.1 * random.normal()).collect();
    let mut keep = vec![true; weights.len()];
    let mut losses = Vec::new();
    let mut rounded = Vec::new();
    for step in 0..STEPS {
        if step == STEPS / 2 {
            keep = prune_mask(&weights, 0.5)?;
        }
        let previous: Vec<usize> = (0..TOKENS).map(|_| random.below(WORDS as u64) as usize).collect();
        let following: Vec<u32> = previous.iter().map(|&word| draw(row(&teacher, word), &mut random)).collect();
        for (weight, keep) in weights.iter_mut().zip(&keep) {
            *weight *= f32::from(u8::from(*keep));
        }
        rounded = quantize(&weights, 4, WORDS as u32)?.dequantize();
        let logits = |table: &[f32]| previous.iter().flat_map(|&word| row(table, word)).copied().collect::<Vec<f32>>();
        let (loss, gradient) = distillation_loss(&logits(&rounded), &logits(&teacher), &following, 2.0, 0.7)?;
        losses.push(loss);
        // The straight-through estimator: rounding has the gradient of the identity.
        for (&word, gradient) in previous.iter().zip(gradient.chunks(WORDS)) {
            for (weight, gradient) in weights[word * WORDS..][..WORDS].iter_mut().zip(gradient) {
                *weight -= RATE * gradient;
            }
        }
    }
    let zeros = rounded.iter().filter(|&&weight| weight == 0.0).count() as f64 / rounded.len() as f64;
    let (first, last) = (losses[0], losses[STEPS - 1]);
    println!("loss {first:.3} at first, {last:.3} at last; {:.0} % of the weights are zero", 100.0 * zeros);
    assert!(last < 0.6 * first && zeros >= 0.5);
    Ok(())
}

fn row(table: &[f32], word: usize) -> &[f32] {
    &table[word * WORDS..][..WORDS]
}

/// Draws from the softmax of logits: adds Gumbel noise and takes the largest.
fn draw(logits: &[f32], random: &mut Random) -> u32 {
    let noisy = logits.iter().map(|logit| logit - (-random.uniform().max(f32::MIN_POSITIVE).ln()).ln());
    let noisy: Vec<f32> = noisy.collect();
    (0..WORDS).max_by(|&a, &b| noisy[a].total_cmp(&noisy[b])).expect("there are words") as u32
}
