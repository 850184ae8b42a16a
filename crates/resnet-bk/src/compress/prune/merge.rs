//! Removal mode `merge`: averages a removed expert into the most similar expert of its block.
//!
//! Hidden units have no order. With `relu`, a unit also computes the same function if its input
//! weights are multiplied by a positive number and its output weights divided by it. So units are
//! first balanced, `|read| = |write|`. Each unit is then matched with the most similar free unit of
//! the other expert; the most similar pairs are matched first. Matched units are averaged with the
//! experts' usage as weights. A unit with large output weights counts more, because its balanced
//! vectors are longer.
//!
//! The expert to merge into is the one of least cost by Ward's rule (J. H. Ward, "Hierarchical
//! grouping to optimize an objective function", 1963):
//!
//! ```text
//! cost(a, b) = u_a u_b / (u_a + u_b) sum over matched units |v_a - v_b|^2
//! v = balanced (read, bias, write)      u = usage
//! ```

use crate::compress::scale_initialization::initialize_scales_of;
use crate::parameters::{Moments, Parameter, Parameters};
use resnet_bk_runtime::internal::tensor_id::{ExpertMap, LinearPart, TensorId};

/// Least usage of an expert in the cost, which is undefined if both are 0.
const MIN_USAGE: f64 = 1e-6;
const EXPERT_TENSORS: [(ExpertMap, LinearPart); 4] = [
    (ExpertMap::Up, LinearPart::Weight),
    (ExpertMap::Up, LinearPart::Bias),
    (ExpertMap::Down, LinearPart::Weight),
    (ExpertMap::Down, LinearPart::Bias),
];
const ROUTER_PARTS: [LinearPart; 2] = [LinearPart::Weight, LinearPart::Bias];

/// A balanced hidden unit: input weights `[D]`, bias, output weights `[D]`.
#[derive(Clone, Debug)]
struct Unit {
    read: Vec<f32>,
    bias: f32,
    write: Vec<f32>,
    /// Factor on the input weights; the output weights are divided by it.
    scale: f32,
}

/// Averages `expert` into the most similar other expert of its block and returns that one. The
/// caller removes `expert` itself.
///
/// `usage` holds each expert's share of tokens. A merged unit keeps the balance between input and
/// output weights that it had in the kept expert. A weight stays masked only if it is masked in
/// both experts. Learned scales are initialized again.
pub fn merge(parameters: &mut Parameters, block: usize, expert: usize, usage: &[f64]) -> usize {
    let share = |expert: usize| usage[expert].max(MIN_USAGE) as f32;
    let removed = units(parameters, block, expert);
    let matched = |other: usize| {
        let kept = units(parameters, block, other);
        let partners = match_units(&kept, &removed);
        let distance: f32 = kept.iter().zip(&partners).map(|(unit, &partner)| distance(unit, &removed[partner])).sum();
        (share(expert) * share(other) / (share(expert) + share(other)) * distance, other, kept, partners)
    };
    let others = (0..usage.len()).filter(|other| *other != expert);
    let nearest = others.map(matched).min_by(|a, b| a.0.total_cmp(&b.0));
    let (_, other, kept, partners) = nearest.expect("the caller keeps at least one other expert");
    if usage[expert] == 0.0 {
        return other;
    }
    let weight = share(expert) / (share(expert) + share(other));
    let (f, d) = (kept.len(), kept[0].read.len());
    for tensor in EXPERT_TENSORS {
        // Index in the removed expert of the match of element `i`, and the factor that rescales it
        // to the kept unit.
        let matching = |i: usize| {
            let unit = match tensor {
                (ExpertMap::Up, LinearPart::Weight) => i % f,
                (ExpertMap::Up, LinearPart::Bias) => i,
                (ExpertMap::Down, LinearPart::Weight) => i / d,
                (ExpertMap::Down, LinearPart::Bias) => return (i, 1.0),
            };
            let partner = partners[unit];
            let factor = removed[partner].scale / kept[unit].scale;
            match tensor {
                (ExpertMap::Up, LinearPart::Weight) => (i / f * f + partner, factor),
                (ExpertMap::Up, LinearPart::Bias) => (partner, factor),
                (ExpertMap::Down, _) => (partner * d + i % d, 1.0 / factor),
            }
        };
        let from = find(parameters, expert_id(block, expert, tensor));
        let (values, mask) = (from.values.clone(), from.mask.clone());
        change(
            parameters,
            expert_id(block, other, tensor),
            |i| {
                let (matching, factor) = matching(i);
                (factor * values[matching], mask.as_ref().is_none_or(|mask| mask[matching]))
            },
            |_| weight,
        );
    }
    for tensor in ROUTER_PARTS {
        let id = TensorId::router(block, tensor);
        let values = find(parameters, id).values.clone();
        let experts = usage.len();
        let column = |i: usize| i - i % experts + expert;
        change(parameters, id, |i| (values[column(i)], true), |i| if i % experts == other { weight } else { 0.0 });
    }
    let experts = EXPERT_TENSORS.map(|tensor| expert_id(block, other, tensor));
    let router = ROUTER_PARTS.map(|part| TensorId::router(block, part));
    initialize_scales_of(parameters, |id| experts.contains(&id) || router.contains(&id));
    other
}

/// Moves each value by `weight(i)` of the way to its match and clears the optimizer moments.
/// `matching(i)` returns the match's value and mask.
fn change(
    parameters: &mut Parameters,
    id: TensorId,
    matching: impl Fn(usize) -> (f32, bool),
    weight: impl Fn(usize) -> f32,
) {
    let parameter = parameters.get_mut(id).expect("the tensor is in the architecture");
    for (i, value) in parameter.values.iter_mut().enumerate() {
        let (other, kept) = matching(i);
        *value += weight(i) * (other - *value);
        if let Some(mask) = &mut parameter.mask {
            mask[i] |= kept;
        }
    }
    parameter.moments = Moments::default();
}

/// For each unit of `kept`, the unit of `removed` to merge with.
fn match_units(kept: &[Unit], removed: &[Unit]) -> Vec<usize> {
    let mut pairs: Vec<(f32, usize, usize)> = Vec::with_capacity(kept.len() * removed.len());
    for (i, a) in kept.iter().enumerate() {
        pairs.extend(
            removed.iter().enumerate().map(|(j, b)| (distance(a, b) - squared_norm(a) - squared_norm(b), i, j)),
        );
    }
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut partners = vec![None; kept.len()];
    let mut taken = vec![false; removed.len()];
    for (_, i, j) in pairs {
        if partners[i].is_none() && !taken[j] {
            (partners[i], taken[j]) = (Some(j), true);
        }
    }
    partners.into_iter().map(|partner| partner.expect("experts of a block are equally wide")).collect()
}

fn squared_norm(unit: &Unit) -> f32 {
    unit.read.iter().chain(&unit.write).map(|x| x * x).sum::<f32>() + unit.bias * unit.bias
}

fn distance(a: &Unit, b: &Unit) -> f32 {
    let squares = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
    squares(&a.read, &b.read) + squares(&a.write, &b.write) + (a.bias - b.bias) * (a.bias - b.bias)
}

/// The balanced hidden units of an expert.
fn units(parameters: &Parameters, block: usize, expert: usize) -> Vec<Unit> {
    let [up, biases, down, _] =
        EXPERT_TENSORS.map(|tensor| find(parameters, expert_id(block, expert, tensor)).values.as_slice());
    let f = biases.len();
    let norm = |values: &[f32]| values.iter().map(|x| x * x).sum::<f32>().sqrt();
    biases
        .iter()
        .zip(down.chunks(down.len() / f))
        .enumerate()
        .map(|(unit, (bias, write))| {
            let read: Vec<f32> = up.iter().skip(unit).step_by(f).copied().collect();
            let (reads, writes) = (norm(&read), norm(write));
            let scale = if reads > 0.0 && writes > 0.0 { (writes / reads).sqrt() } else { 1.0 };
            Unit {
                read: read.iter().map(|x| scale * x).collect(),
                bias: scale * bias,
                write: write.iter().map(|x| x / scale).collect(),
                scale,
            }
        })
        .collect()
}

fn expert_id(block: usize, expert: usize, (map, part): (ExpertMap, LinearPart)) -> TensorId {
    TensorId::expert(block, expert, map, part)
}

fn find(parameters: &Parameters, id: TensorId) -> &Parameter {
    parameters.get(id).expect("the tensor is in the architecture")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelConfig;
    use crate::random::Random;
    use resnet_bk_runtime::internal::architecture::Architecture;
    use resnet_bk_runtime::internal::quantization::{LearnedScales, QuantizationPolicy};
    use resnet_bk_runtime::internal::tensor_id::{BlockTensor, ModelTensor};

    /// One block with three experts; the biases are random too.
    fn parameters() -> Parameters {
        let config = ModelConfig { num_experts: 3, top_k: 1, ..ModelConfig::preset("tiny").unwrap() };
        let mut parameters = Parameters::initialize(config.architecture(), 5);
        let mut random = Random::new(7);
        for parameter in parameters.as_mut_slice() {
            let ModelTensor::Block(_, tensor) = parameter.spec.id.tensor() else { continue };
            if let BlockTensor::Router(LinearPart::Bias) | BlockTensor::Expert(_, _, LinearPart::Bias) = tensor {
                parameter.values.iter_mut().for_each(|x| *x = 0.3 * random.normal());
            }
        }
        parameters
    }

    fn values(parameters: &Parameters, id: TensorId) -> Vec<f32> {
        find(parameters, id).values.to_vec()
    }

    fn set(parameters: &mut Parameters, id: TensorId, values: Vec<f32>) {
        parameters.get_mut(id).unwrap().values = values.into();
    }

    /// Output of an expert, computed from the definition.
    fn output(parameters: &Parameters, expert: usize, input: &[f32]) -> Vec<f32> {
        let [up, up_bias, down, mut output] =
            EXPERT_TENSORS.map(|tensor| values(parameters, expert_id(0, expert, tensor)));
        let (f, d) = (up_bias.len(), input.len());
        for unit in 0..f {
            let sum: f32 = (0..d).map(|i| up[i * f + unit] * input[i]).sum();
            let active = (sum + up_bias[unit]).max(0.0);
            (0..d).for_each(|i| output[i] += active * down[unit * d + i]);
        }
        output
    }

    fn input(parameters: &Parameters) -> Vec<f32> {
        (0..parameters.architecture().d_model).map(|i| (i as f32 * 0.7).sin()).collect()
    }

    /// Makes expert 2 the same function as expert 0, with its units reversed and rescaled.
    fn make_permuted_copy(parameters: &mut Parameters) {
        let [up, up_bias, down, down_bias] = EXPERT_TENSORS.map(|tensor| values(parameters, expert_id(0, 0, tensor)));
        let (f, d) = (up_bias.len(), down_bias.len());
        let scale = |unit: usize| 0.5 + unit as f32 / f as f32;
        let flip = |unit: usize| f - 1 - unit;
        let copy = [
            (0..d * f).map(|i| up[i / f * f + flip(i % f)] * scale(i % f)).collect(),
            (0..f).map(|i| up_bias[flip(i)] * scale(i)).collect(),
            (0..f * d).map(|i| down[flip(i / d) * d + i % d] / scale(i / d)).collect(),
            down_bias,
        ];
        for (tensor, values) in EXPERT_TENSORS.into_iter().zip(copy) {
            set(parameters, expert_id(0, 2, tensor), values);
        }
    }

    #[test]
    fn a_permuted_rescaled_copy_merges_without_change() {
        let mut parameters = parameters();
        make_permuted_copy(&mut parameters);
        let input = input(&parameters);
        let before = output(&parameters, 0, &input);
        assert_eq!(output(&parameters, 2, &input).len(), before.len());
        assert_eq!(merge(&mut parameters, 0, 2, &[0.5, 0.3, 0.2]), 0);
        for (a, b) in output(&parameters, 0, &input).iter().zip(&before) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }

    #[test]
    fn merging_an_unused_expert_changes_nothing() {
        let mut parameters = parameters();
        let before = parameters.clone();
        merge(&mut parameters, 0, 2, &[0.6, 0.4, 0.0]);
        assert_eq!(parameters, before);
    }

    #[test]
    fn experts_and_router_columns_are_averaged_by_use() {
        let mut parameters = parameters();
        make_permuted_copy(&mut parameters);
        let bias = expert_id(0, 2, (ExpertMap::Down, LinearPart::Bias));
        let shifted = values(&parameters, bias).iter().map(|x| x + 1.0).collect();
        set(&mut parameters, bias, shifted);
        let input = input(&parameters);
        let (kept, removed) = (output(&parameters, 0, &input), output(&parameters, 2, &input));
        let router = values(&parameters, TensorId::router(0, LinearPart::Weight));
        merge(&mut parameters, 0, 2, &[0.6, 0.2, 0.2]);
        for ((merged, kept), removed) in output(&parameters, 0, &input).iter().zip(&kept).zip(&removed) {
            assert!((merged - (0.75 * kept + 0.25 * removed)).abs() < 1e-5);
        }
        for (merged, row) in
            values(&parameters, TensorId::router(0, LinearPart::Weight)).chunks(3).zip(router.chunks(3))
        {
            assert!((merged[0] - (0.75 * row[0] + 0.25 * row[2])).abs() < 1e-6);
            assert_eq!(merged[1..], row[1..]);
        }
    }

    #[test]
    fn a_weight_stays_masked_only_if_both_experts_mask_it() {
        let mut parameters = parameters();
        make_permuted_copy(&mut parameters);
        let [kept, removed] = [0, 2].map(|expert| expert_id(0, expert, (ExpertMap::Down, LinearPart::Bias)));
        let d = parameters.architecture().d_model;
        for parameter in parameters.as_mut_slice() {
            if parameter.spec.id == kept || parameter.spec.id == removed {
                let first = usize::from(parameter.spec.id == removed);
                parameter.mask = Some((0..d).map(|i| i > first).collect());
                parameter.apply_mask();
            }
        }
        merge(&mut parameters, 0, 2, &[0.5, 0.3, 0.2]);
        assert_eq!(find(&parameters, kept).mask.as_ref().unwrap()[..3], [false, true, true]);
    }

    #[test]
    fn learned_scales_fit_the_merged_expert() {
        let policy = QuantizationPolicy {
            learned: Some(LearnedScales { expert: 15, ..LearnedScales::default() }),
            activation_bits: None,
            ..QuantizationPolicy::default()
        };
        let float = parameters();
        let architecture = Architecture { quantization: Some(policy), ..float.architecture().clone() };
        let mut parameters = float.with_architecture(architecture);
        initialize_scales_of(&mut parameters, |_| true);
        merge(&mut parameters, 0, 2, &[0.4, 0.3, 0.3]);
        for tensor in [(ExpertMap::Up, LinearPart::Weight), (ExpertMap::Down, LinearPart::Weight)] {
            for expert in 0..2 {
                let parameter = find(&parameters, expert_id(0, expert, tensor));
                let square = |values: &[f32]| values.iter().map(|x| x * x).sum::<f32>();
                let rounded = parameters.rounded(parameter);
                let errors: Vec<f32> = rounded.iter().zip(parameter.values.iter()).map(|(a, b)| a - b).collect();
                let error = square(&errors) / square(&parameter.values);
                assert!(error < 0.01, "{}: {error}", parameter.spec.id);
            }
        }
    }
}
