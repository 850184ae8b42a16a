//! Compares every operation on a GPU with the same operation on the host.
//!
//! Each case runs an operation on leaves with the same values on both devices, and compares the
//! output and the gradients of all leaves: the largest difference, relative to the largest
//! magnitude of what is compared.

mod steps;

pub use steps::check_steps;

use super::cuda::StepNumbers;
use super::{Cuda, Device};
use crate::buffer::Buffer;
use crate::numerics::{Gradient, Precision};
use crate::ops::{self, Carry, DropoutMask, EmbeddingDropout, FrozenHead, HeadLoss, ResolventOp, SoftTargets};
use crate::random::{Draw, Random, StepStream};
use crate::tape::{Tape, Tensor};
use crate::token_ids::TokenIds;
use resnet_bk_runtime::internal::architecture::Causality;
use resnet_bk_runtime::internal::embedding::{EmbeddingBin, TableLayout};
use serde::Serialize;
use std::sync::Arc;

/// Largest relative difference of float32 results.
pub const TOLERANCE: f64 = 1e-4;
/// Seed of the random streams.
const SEED: u64 = 11;

/// A compared result.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Operation and sizes.
    pub case: String,
    /// `output`, or the number of the input whose gradient it is.
    pub result: String,
    /// Largest difference, relative to the largest magnitude.
    pub error: f64,
    /// Largest difference that is accepted.
    pub tolerance: f64,
}

impl Comparison {
    /// Whether the difference is accepted.
    pub fn is_ok(&self) -> bool {
        self.error <= self.tolerance
    }
}

type Run = Box<dyn Fn(&[Tensor]) -> Tensor>;

struct Case {
    name: String,
    /// Values, shape, and whether a gradient is wanted.
    inputs: Vec<(Vec<f32>, [usize; 2], bool)>,
    run: Run,
    tolerance: f64,
}

/// Compares all operations.
pub fn check_operations(cuda: &Cuda) -> Vec<Comparison> {
    cuda.set_gradient_precision(Precision::Float32);
    cuda.set_step_numbers(StepNumbers { seed: SEED, ..StepNumbers::default() });
    cases().iter().flat_map(|case| compare(cuda, case)).collect()
}

fn compare(cuda: &Cuda, case: &Case) -> Vec<Comparison> {
    let run = |device: &Device| {
        let tape = Tape::default();
        let tensor = |(values, shape, wanted): &(Vec<f32>, [usize; 2], bool)| {
            let buffer = Buffer::from(values.clone()).to_device(device);
            if *wanted { tape.leaf(buffer, *shape) } else { Tensor::constant(buffer, *shape) }
        };
        let inputs: Vec<Tensor> = case.inputs.iter().map(tensor).collect();
        let output = (case.run)(&inputs);
        let weights = numbers(output.buffer().len(), 99, 1.0);
        let mut gradients = output.backward_from(Buffer::from(weights).to_device(device));
        let gradients: Vec<Option<Vec<f32>>> =
            inputs.iter().map(|input| gradients.take(input).map(Buffer::into_vec)).collect();
        (output.values().to_vec(), gradients)
    };
    let (expected, expected_gradients) = run(&Device::Cpu);
    let (found, gradients) = run(&Device::Cuda(cuda.clone()));
    let comparison =
        |result: String, error| Comparison { case: case.name.clone(), result, error, tolerance: case.tolerance };
    let mut comparisons = vec![comparison("output".to_owned(), difference(&expected, &found))];
    for (index, (expected, found)) in expected_gradients.iter().zip(&gradients).enumerate() {
        if !case.inputs[index].2 {
            continue;
        }
        let error = match (expected, found) {
            (Some(expected), Some(found)) => difference(expected, found),
            (None, None) => 0.0,
            _ => f64::INFINITY,
        };
        comparisons.push(comparison(format!("gradient of input {index}"), error));
    }
    comparisons
}

/// Largest difference over the largest expected magnitude; infinite if a length or a number is
/// wrong.
fn difference(expected: &[f32], found: &[f32]) -> f64 {
    if expected.len() != found.len() || found.iter().any(|x| !x.is_finite()) {
        return f64::INFINITY;
    }
    let largest = expected.iter().fold(0.0f64, |max, x| max.max(f64::from(x.abs())));
    let most = expected.iter().zip(found).fold(0.0f64, |max, (a, b)| max.max((f64::from(*a) - f64::from(*b)).abs()));
    if most == 0.0 { 0.0 } else { most / largest.max(1e-30) }
}

/// Normal numbers times `scale`.
fn numbers(n: usize, salt: u64, scale: f32) -> Vec<f32> {
    let mut random = Random::new(salt);
    (0..n).map(|_| scale * random.normal()).collect()
}

fn draw(index: u64) -> Draw {
    let mut stream = StepStream::new(&Random::new(SEED));
    stream.take(index);
    stream.take(1)
}

fn ids(n: usize, words: usize, salt: u64) -> TokenIds {
    let mut random = Random::new(salt);
    // Some words often, most of them rarely.
    let mut id = || (random.uniform() * random.uniform() * random.uniform() * words as f32) as u32;
    (0..n).map(|_| id()).collect::<Vec<u32>>().into()
}

/// Collects cases.
#[derive(Default)]
struct Cases(Vec<Case>);

impl Cases {
    /// Adds a case whose inputs are all leaves of normal numbers.
    fn add(&mut self, name: String, shapes: &[[usize; 2]], run: impl Fn(&[Tensor]) -> Tensor + 'static) {
        let input =
            |(salt, shape): (usize, &[usize; 2])| (numbers(shape[0] * shape[1], salt as u64 + 1, 1.0), *shape, true);
        self.add_with(name, shapes.iter().enumerate().map(input).collect(), run);
    }

    fn add_with(
        &mut self,
        name: String,
        inputs: Vec<(Vec<f32>, [usize; 2], bool)>,
        run: impl Fn(&[Tensor]) -> Tensor + 'static,
    ) {
        self.0.push(Case { name, inputs, run: Box::new(run), tolerance: TOLERANCE });
    }

    /// Accepts a larger difference in the last case.
    fn tolerate(&mut self, tolerance: f64) {
        if let Some(case) = self.0.last_mut() {
            case.tolerance = tolerance;
        }
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Cases::default();
    elementwise(&mut cases);
    rows(&mut cases);
    experts(&mut cases);
    tables(&mut cases);
    mixers(&mut cases);
    heads(&mut cases);
    cases.0
}

fn elementwise(cases: &mut Cases) {
    for n in [1, 3, 255, 256, 257, 4_099] {
        let shape = [1, n];
        cases.add(format!("exp {n}"), &[shape], |x| ops::exp(&x[0]));
        cases.add(format!("clamp {n}"), &[shape], |x| ops::clamp(&x[0], 0.7));
        cases.add(format!("silu_gate {n}"), &[shape; 2], |x| ops::silu_gate(&x[0], &x[1]));
        cases.add(format!("add_gumbel {n}"), &[shape], |x| ops::add_gumbel(&x[0], 0.5, draw(3)));
        let mask = Some(DropoutMask::new(0.3, draw(2)).at(7));
        cases.add(format!("dropout {n}"), &[shape], move |x| ops::dropout(&x[0], mask));
        for mask in [None, mask] {
            let dropped = if mask.is_some() { "dropout" } else { "no dropout" };
            cases
                .add(format!("add_dropped {n}, {dropped}"), &[shape; 2], move |x| ops::add_dropped(&x[0], &x[1], mask));
        }
    }
    for (rows, channels) in [(1, 1), (5, 3), (129, 48)] {
        for scales in [1, channels] {
            let run = move |x: &[Tensor]| {
                ops::fake_quantize_activation(&x[0], (0..scales).map(|c| 0.013 + 0.001 * c as f32).collect(), 8)
            };
            cases.add(format!("fake_quantize {rows} x {channels}, {scales} scales"), &[[rows, channels]], run);
        }
    }
    cases.add("add_penalty".to_owned(), &[[1, 1]; 2], |x| ops::add_penalty(&x[0], &x[1], 0.3));
}

fn rows(cases: &mut Cases) {
    for (n, input, output) in [(1, 1, 1), (7, 3, 5), (257, 64, 33), (640, 48, 4)] {
        let shapes = [[n, input], [input, output], [1, output]];
        let name = format!("{n} x {input} x {output}");
        cases.add(format!("linear {name}"), &shapes, |x| ops::linear(&x[0], &x[1], &x[2]));
        cases.add(format!("project {name}"), &shapes[..2], |x| ops::project(&x[0], &x[1]));
        let wide = [n, output];
        let shapes = [wide, wide, [n, input], [input, output], [1, output], [1, 1]];
        cases.add(format!("mix_features {name}"), &shapes, |x| {
            ops::mix_features(&x[0], &x[1], &x[2], (&x[3], &x[4]), &x[5])
        });
    }
    for (n, width) in [(1, 2), (5, 31), (33, 64), (300, 100), (2, 768)] {
        let shapes = [[n, width], [1, width], [1, width]];
        cases.add(format!("layer_norm {n} x {width}"), &shapes, |x| ops::layer_norm(&x[0], &x[1], &x[2]));
        cases.add(format!("rms_norm {n} x {width}"), &shapes[..2], |x| ops::rms_norm(&x[0], &x[1]));
    }
    for n in [1, 70, 5_000] {
        let inputs = |salt| vec![(numbers(n, salt, 1.0), [1, n], true), (numbers(n, salt + 1, 1.0), [1, n], false)];
        cases.add_with(format!("feature_distance {n}"), inputs(5), |x| {
            ops::feature_distance(&x[0], &x[1], ops::mean_square(&x[1]))
        });
    }
}

fn experts(cases: &mut Cases) {
    for (n, experts) in [(1, 1), (9, 2), (300, 4), (65, 8)] {
        for top_k in [1, 2, experts] {
            if top_k <= experts {
                cases.add(format!("gate_weights {n} x {experts}, top {top_k}"), &[[n, experts]], move |x| {
                    ops::gate_weights(&x[0], top_k)
                });
            }
        }
        let usage = (0..experts).map(|e| (e * e) as f32 + 1.0).collect();
        let inputs = vec![(numbers(n * experts, 3, 1.0), [n, experts], true), (usage, [1, experts], false)];
        cases.add_with(format!("load_balancing {n} x {experts}"), inputs, |x| ops::load_balancing(&x[0], &x[1]));
        for (width, hidden) in [(3, 5), (16, 40)] {
            for mask in [None, Some(DropoutMask::new(0.3, draw(4)).at(7))] {
                let top_k = experts.min(2);
                let packed = experts * (2 * width * hidden + hidden + width);
                let dropped = if mask.is_some() { "dropout" } else { "no dropout" };
                let name = format!("experts {n} x {width} x {hidden}, {top_k} of {experts}, {dropped}");
                cases.add(name, &[[n, width], [n, experts], [1, packed]], move |x| {
                    ops::experts(&x[0], &ops::gate_weights(&x[1], top_k), &x[2], mask)
                });
            }
        }
    }
}

/// A table in three bins, the last ones narrower than the model.
fn binned(words: usize, d_model: usize) -> TableLayout {
    let bin = |words, width| EmbeddingBin { words, width };
    let (first, second) = (words / 8, words / 3);
    TableLayout {
        bins: vec![bin(first, d_model), bin(second, d_model / 2), bin(words - first - second, d_model / 4)],
        d_model,
    }
}

fn tables(cases: &mut Cases) {
    for (words, d_model, sequences, length) in [(9, 4, 2, 3), (100, 12, 3, 50), (1_003, 64, 4, 33)] {
        for layout in [TableLayout::full(words, d_model), binned(words, d_model)] {
            let [elements, of_words] = [draw(0), draw(1)].map(|draw| Some(DropoutMask::new(0.3, draw).at(7)));
            for (dropped, dropout) in [
                ("no dropout", EmbeddingDropout::default()),
                ("dropout", EmbeddingDropout { words: None, elements }),
                ("dropout of words", EmbeddingDropout { words: of_words, elements: None }),
                ("both dropouts", EmbeddingDropout { words: of_words, elements }),
            ] {
                let tokens = ids(sequences * length, words, 8);
                let bins = layout.bins.len();
                let name = format!("embed {words} words x {d_model}, {bins} bins, {sequences} x {length}, {dropped}");
                let shapes = [[1, layout.len()], [length + 2, d_model]];
                let (layout, without) = (layout.clone(), (layout.clone(), tokens.clone()));
                cases.add(format!("{name}, positions"), &shapes, move |x| {
                    ops::embed(tokens.clone(), length, &layout, &x[0], Some(&x[1]), dropout)
                });
                cases.add(name, &shapes[..1], move |x| {
                    ops::embed(without.1.clone(), length, &without.0, &x[0], None, dropout)
                });
            }
        }
    }
    for (words, knots) in [(1, 2), (9, 3), (5_000, 17)] {
        cases.add(format!("head_bias {words} words, {knots} knots"), &[[1, words], [1, knots]], |x| {
            ops::head_bias(&x[0], &x[1])
        });
    }
}

fn mixers(cases: &mut Cases) {
    let sizes = [(1, 1, 1), (2, 3, 17), (3, 33, 128), (1, 5, 1_000), (2, 3, 1_501), (1, 1, 20_011)];
    for (sequences, heads, length) in sizes {
        let name = format!("{sequences} x {heads} heads x {length}");
        let n = sequences * length;
        for causality in [Causality::Causal, Causality::Bidirectional] {
            for gradient in [Gradient::Exact, Gradient::Blended(0.4)] {
                let eta: Vec<f32> = (0..heads).map(|h| 0.6 + 0.01 * h as f32).collect();
                let inputs = vec![(numbers(n * heads, 1, 1.0), [n, heads], true), (eta, [1, heads], true)];
                cases.add_with(format!("resolvent {name}, {causality:?}, {gradient:?}"), inputs, move |x| {
                    let op = ResolventOp {
                        diagonal: (0..heads).map(|h| -2.0 + 0.05 * h as f32).collect(),
                        hopping: (0..heads).map(|h| 0.8 + 0.01 * h as f32).collect(),
                        length,
                        causality,
                        gradient,
                        carry: None,
                    };
                    ops::resolvent(op, &x[0], &x[1])
                });
            }
        }
        carried_mixers(cases, &name, [sequences, heads, length]);
        let inputs = vec![
            (numbers(n * heads, 1, 2.0), [n, heads], true),
            (numbers(n * heads, 2, 2.0), [n, heads], true),
            (numbers(2 * n * heads, 3, 1.0), [n, 2 * heads], true),
            ((0..heads).map(|h| 0.1 * h as f32).collect(), [1, heads], true),
        ];
        cases.add_with(format!("propagator {name}"), inputs, move |x| {
            ops::propagator(&x[0], &x[1], &x[2], &x[3], length, None)
        });
    }
}

/// Mixers that go on from a state: what they make, and the state after it.
fn carried_mixers(cases: &mut Cases, name: &str, [sequences, heads, length]: [usize; 3]) {
    let (n, state) = (sequences * length, sequences * 2 * heads);
    let resolvent = move |x: &[Tensor]| {
        let carry = Carry::new(numbers(state, 9, 0.5).into());
        let op = ResolventOp {
            diagonal: vec![-2.0; heads],
            hopping: vec![0.9; heads],
            length,
            causality: Causality::Causal,
            gradient: Gradient::Exact,
            carry: Some(carry.clone()),
        };
        [ops::resolvent(op, &x[0], &x[1]), Tensor::constant(carry.after(), [1, state])]
    };
    let propagator = move |x: &[Tensor]| {
        // A ratio is real and from 0 to 1 without a shift, and its imaginary part is small with one.
        let ratios = numbers(state, 9, 0.3).iter().map(|x| x.abs()).collect();
        let carry = Carry::new([ratios, numbers(state, 8, 1.0)].concat().into());
        let waves = ops::propagator(&x[0], &x[1], &x[2], &x[3], length, Some(&carry));
        [waves, Tensor::constant(carry.after(), [1, 2 * state])]
    };
    let inputs = vec![(numbers(n * heads, 1, 1.0), [n, heads], true), (vec![0.7; heads], [1, heads], true)];
    let wide = vec![
        (numbers(n * heads, 1, 2.0), [n, heads], true),
        (numbers(n * heads, 2, 2.0), [n, heads], true),
        (numbers(2 * n * heads, 3, 1.0), [n, 2 * heads], true),
        ((0..heads).map(|h| 0.2 + 0.1 * h as f32).collect(), [1, heads], true),
    ];
    for (index, result) in ["", ", state after it"].into_iter().enumerate() {
        let take = move |both: [Tensor; 2]| both.into_iter().nth(index).expect("an output and a state");
        let (resolvent, propagator) = (resolvent, propagator);
        cases.add_with(format!("resolvent {name}, from a state{result}"), inputs.clone(), move |x| take(resolvent(x)));
        cases.add_with(format!("propagator {name}, from a state{result}"), wide.clone(), move |x| take(propagator(x)));
    }
}

fn heads(cases: &mut Cases) {
    for (n, words, width) in [(1, 3, 4), (7, 100, 8), (130, 1_003, 32)] {
        for layout in [TableLayout::full(words, width), binned(words, width)] {
            if layout.bins.iter().any(|bin| bin.words == 0) {
                continue;
            }
            for precision in [Precision::Float32, Precision::Bf16] {
                for soft in [false, true] {
                    let (layout, targets) = (layout.clone(), ids(n, words, 9));
                    let (bins, len) = (layout.bins.len(), layout.len());
                    let kind = if soft { "soft and hard targets" } else { "hard targets" };
                    let name = format!("head_loss {n} x {words} words x {width}, {bins} bins, {kind}, {precision:?}");
                    let teacher = binned(words.max(32), 12);
                    let teacher = if words < 32 { TableLayout::full(words, 12) } else { teacher };
                    let soft = soft.then(|| SoftTargets {
                        hidden: numbers(n * 12, 20, 1.0).into(),
                        head: Arc::new(FrozenHead {
                            table: numbers(teacher.len(), 21, 0.5).into(),
                            bias: numbers(words, 22, 0.5).into(),
                            layout: teacher,
                        }),
                        temperature: 2.0,
                        alpha: 0.7,
                    });
                    let inputs = vec![
                        (numbers(n * width, 1, 1.0), [n, width], true),
                        (numbers(len, 2, 0.3), [1, len], true),
                        (numbers(words, 3, 1.0), [1, words], true),
                    ];
                    let loss = HeadLoss { targets, soft, precision };
                    cases.add_with(name, inputs, move |x| ops::head_loss(loss.clone(), &layout, &x[0], &x[1], &x[2]));
                    if precision == Precision::Bf16 {
                        // The host's factors are bf16 too or float32, by its processor.
                        cases.tolerate(2e-2);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_relative_and_a_wrong_number_is_infinite() {
        assert_eq!(difference(&[1.0, -4.0], &[1.0, -4.0]), 0.0);
        assert_eq!(difference(&[1.0, -4.0], &[2.0, -4.0]), 0.25);
        assert_eq!(difference(&[1.0], &[f32::NAN]), f64::INFINITY);
        assert_eq!(difference(&[1.0], &[]), f64::INFINITY);
    }

    #[test]
    #[cfg_attr(not(has_gpu), ignore = "needs an NVIDIA GPU")]
    fn every_operation_equals_its_host_twin() {
        let cuda = Cuda::open(0).unwrap();
        let wrong: Vec<Comparison> = check_operations(&cuda).into_iter().filter(|result| !result.is_ok()).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    #[cfg_attr(not(has_gpu), ignore = "needs an NVIDIA GPU")]
    fn steps_of_every_stage_equal_those_on_the_host() {
        let cuda = Cuda::open(0).unwrap();
        let wrong: Vec<Comparison> = check_steps(&cuda).into_iter().filter(|result| !result.is_ok()).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
