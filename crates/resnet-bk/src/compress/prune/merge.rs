//! Merging: an expert that goes leaves its weights in the one that is most like it.
//!
//! Hidden units have no order, and `relu` lets a unit trade size between what it reads and what it
//! writes. So units are compared balanced, `|read| = |write|`, and each is matched with the most
//! similar unit of the other expert that is still free, most similar pairs first. Matched units are
//! averaged by their experts' use; a unit that writes much weighs more, for its vectors are longer.
//! The kept expert is the one of least cost, by Ward's rule (J. H. Ward, "Hierarchical grouping to
//! optimize an objective function", 1963):
//!
//! ```text
//! cost(a, b) = u_a u_b / (u_a + u_b) sum over matched units |v_a - v_b|^2      v = balanced (read, bias, write)
//! ```

use crate::compress::scale_initialization::initialize_scales_of;
use crate::parameters::{Moments, Parameter, Parameters};
use resnet_bk_runtime::internal::tensor_id::{ExpertMap, LinearPart, TensorId};

/// Share of tokens that an unused expert is taken to have, so that costs are defined.
const LEAST_USE: f64 = 1e-6;
const EXPERT: [(ExpertMap, LinearPart); 4] = [
    (ExpertMap::Up, LinearPart::Weight),
    (ExpertMap::Up, LinearPart::Bias),
    (ExpertMap::Down, LinearPart::Weight),
    (ExpertMap::Down, LinearPart::Bias),
];
const ROUTER: [LinearPart; 2] = [LinearPart::Weight, LinearPart::Bias];

/// A hidden unit, balanced: what it reads `[D]`, its bias, what it writes `[D]`.
#[derive(Clone, Debug)]
struct Unit {
    read: Vec<f32>,
    bias: f32,
    write: Vec<f32>,
    /// What its reading was multiplied by, and its writing divided by.
    scale: f32,
}

/// Folds an expert into the most similar other one of its block, which is returned. The expert
/// itself stays to be removed.
///
/// `usage` are the shares of tokens that the block's experts have. A merged unit keeps the scale of
/// the kept one; weights are held at zero where both experts hold them; learned scales are fitted
/// anew.
pub fn merge(parameters: &mut Parameters, block: usize, expert: usize, usage: &[f64]) -> usize {
    let share = |expert: usize| usage[expert].max(LEAST_USE) as f32;
    let going = units(parameters, block, expert);
    let matched = |other: usize| {
        let kept = units(parameters, block, other);
        let partners = partners(&kept, &going);
        let distance: f32 = kept.iter().zip(&partners).map(|(unit, &partner)| distance(unit, &going[partner])).sum();
        (share(expert) * share(other) / (share(expert) + share(other)) * distance, other, kept, partners)
    };
    let others = (0..usage.len()).filter(|other| *other != expert);
    let nearest = others.map(matched).min_by(|a, b| a.0.total_cmp(&b.0));
    let (_, other, kept, partners) = nearest.expect("a block that loses an expert has another");
    if usage[expert] == 0.0 {
        return other;
    }
    let weight = share(expert) / (share(expert) + share(other));
    let (f, d) = (kept.len(), kept[0].read.len());
    for tensor in EXPERT {
        // Where the going expert has its like of element `i`, and the factor that brings it to the
        // kept one's scale.
        let like = |i: usize| {
            let unit = match tensor {
                (ExpertMap::Up, LinearPart::Weight) => i % f,
                (ExpertMap::Up, LinearPart::Bias) => i,
                (ExpertMap::Down, LinearPart::Weight) => i / d,
                (ExpertMap::Down, LinearPart::Bias) => return (i, 1.0),
            };
            let partner = partners[unit];
            let factor = going[partner].scale / kept[unit].scale;
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
                let (like, factor) = like(i);
                (factor * values[like], mask.as_ref().is_none_or(|mask| mask[like]))
            },
            |_| weight,
        );
    }
    for tensor in ROUTER {
        let id = TensorId::router(block, tensor);
        let values = find(parameters, id).values.clone();
        let experts = usage.len();
        let column = |i: usize| i - i % experts + expert;
        change(parameters, id, |i| (values[column(i)], true), |i| if i % experts == other { weight } else { 0.0 });
    }
    let experts = EXPERT.map(|tensor| expert_id(block, other, tensor));
    let router = ROUTER.map(|part| TensorId::router(block, part));
    initialize_scales_of(parameters, |id| experts.contains(&id) || router.contains(&id));
    other
}

/// Moves each value by `weight(i)` of the way to its like, whose value and mask `like(i)` gives,
/// and forgets the optimizer's means.
fn change(
    parameters: &mut Parameters,
    id: TensorId,
    like: impl Fn(usize) -> (f32, bool),
    weight: impl Fn(usize) -> f32,
) {
    let parameter = parameters.get_mut(id).expect("the architecture lists it");
    for (i, value) in parameter.values.iter_mut().enumerate() {
        let (other, kept) = like(i);
        *value += weight(i) * (other - *value);
        if let Some(mask) = &mut parameter.mask {
            mask[i] |= kept;
        }
    }
    parameter.moments = Moments::default();
}

/// For each unit of `kept`, the unit of `going` that it is merged with.
fn partners(kept: &[Unit], going: &[Unit]) -> Vec<usize> {
    let mut pairs: Vec<(f32, usize, usize)> = Vec::with_capacity(kept.len() * going.len());
    for (i, a) in kept.iter().enumerate() {
        pairs.extend(going.iter().enumerate().map(|(j, b)| (distance(a, b) - size(a) - size(b), i, j)));
    }
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut partners = vec![None; kept.len()];
    let mut taken = vec![false; going.len()];
    for (_, i, j) in pairs {
        if partners[i].is_none() && !taken[j] {
            (partners[i], taken[j]) = (Some(j), true);
        }
    }
    partners.into_iter().map(|partner| partner.expect("experts of a block are equally wide")).collect()
}

fn size(unit: &Unit) -> f32 {
    unit.read.iter().chain(&unit.write).map(|x| x * x).sum::<f32>() + unit.bias * unit.bias
}

fn distance(a: &Unit, b: &Unit) -> f32 {
    let squares = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
    squares(&a.read, &b.read) + squares(&a.write, &b.write) + (a.bias - b.bias) * (a.bias - b.bias)
}

/// The hidden units of an expert, balanced.
fn units(parameters: &Parameters, block: usize, expert: usize) -> Vec<Unit> {
    let [up, biases, down, _] =
        EXPERT.map(|tensor| find(parameters, expert_id(block, expert, tensor)).values.as_slice());
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
    parameters.get(id).expect("the architecture lists it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelConfig;
    use crate::random::Random;
    use resnet_bk_runtime::internal::architecture::Architecture;
    use resnet_bk_runtime::internal::quantization::{LearnedScales, QuantizationPolicy};
    use resnet_bk_runtime::internal::tensor_id::{BlockTensor, ModelTensor};

    /// One block of three experts, biases included drawn at random.
    fn parameters() -> Parameters {
        let config = ModelConfig { num_experts: 3, top_k: 1, ..ModelConfig::preset("tiny").unwrap() };
        let mut parameters = Parameters::initialise(config.architecture(), 5);
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

    /// What an expert makes of an input, by the definition.
    fn output(parameters: &Parameters, expert: usize, input: &[f32]) -> Vec<f32> {
        let [up, up_bias, down, mut output] = EXPERT.map(|tensor| values(parameters, expert_id(0, expert, tensor)));
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
    fn make_twin(parameters: &mut Parameters) {
        let [up, up_bias, down, down_bias] = EXPERT.map(|tensor| values(parameters, expert_id(0, 0, tensor)));
        let (f, d) = (up_bias.len(), down_bias.len());
        let scale = |unit: usize| 0.5 + unit as f32 / f as f32;
        let flip = |unit: usize| f - 1 - unit;
        let twin = [
            (0..d * f).map(|i| up[i / f * f + flip(i % f)] * scale(i % f)).collect(),
            (0..f).map(|i| up_bias[flip(i)] * scale(i)).collect(),
            (0..f * d).map(|i| down[flip(i / d) * d + i % d] / scale(i / d)).collect(),
            down_bias,
        ];
        for (tensor, values) in EXPERT.into_iter().zip(twin) {
            set(parameters, expert_id(0, 2, tensor), values);
        }
    }

    #[test]
    fn twins_in_another_order_and_scale_merge_into_themselves() {
        let mut parameters = parameters();
        make_twin(&mut parameters);
        let input = input(&parameters);
        let before = output(&parameters, 0, &input);
        assert_eq!(output(&parameters, 2, &input).len(), before.len());
        assert_eq!(merge(&mut parameters, 0, 2, &[0.5, 0.3, 0.2]), 0);
        for (a, b) in output(&parameters, 0, &input).iter().zip(&before) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }

    #[test]
    fn an_unused_expert_leaves_nothing() {
        let mut parameters = parameters();
        let before = parameters.clone();
        merge(&mut parameters, 0, 2, &[0.6, 0.4, 0.0]);
        assert_eq!(parameters, before);
    }

    #[test]
    fn experts_and_router_columns_are_averaged_by_use() {
        let mut parameters = parameters();
        make_twin(&mut parameters);
        let bias = expert_id(0, 2, (ExpertMap::Down, LinearPart::Bias));
        let shifted = values(&parameters, bias).iter().map(|x| x + 1.0).collect();
        set(&mut parameters, bias, shifted);
        let input = input(&parameters);
        let (kept, going) = (output(&parameters, 0, &input), output(&parameters, 2, &input));
        let router = values(&parameters, TensorId::router(0, LinearPart::Weight));
        merge(&mut parameters, 0, 2, &[0.6, 0.2, 0.2]);
        for ((merged, kept), going) in output(&parameters, 0, &input).iter().zip(&kept).zip(&going) {
            assert!((merged - (0.75 * kept + 0.25 * going)).abs() < 1e-5);
        }
        for (merged, row) in
            values(&parameters, TensorId::router(0, LinearPart::Weight)).chunks(3).zip(router.chunks(3))
        {
            assert!((merged[0] - (0.75 * row[0] + 0.25 * row[2])).abs() < 1e-6);
            assert_eq!(merged[1..], row[1..]);
        }
    }

    #[test]
    fn a_weight_stays_masked_only_where_both_are() {
        let mut parameters = parameters();
        make_twin(&mut parameters);
        let [kept, going] = [0, 2].map(|expert| expert_id(0, expert, (ExpertMap::Down, LinearPart::Bias)));
        let d = parameters.architecture().d_model;
        for parameter in parameters.as_mut_slice() {
            if parameter.spec.id == kept || parameter.spec.id == going {
                let first = usize::from(parameter.spec.id == going);
                parameter.mask = Some((0..d).map(|i| i > first).collect());
                parameter.apply_mask();
            }
        }
        merge(&mut parameters, 0, 2, &[0.5, 0.3, 0.2]);
        assert_eq!(find(&parameters, kept).mask.as_ref().unwrap()[..3], [false, true, true]);
    }

    #[test]
    fn trained_steps_fit_the_merged_expert() {
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
