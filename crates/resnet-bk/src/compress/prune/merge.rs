//! Merging: an expert that goes leaves its weights in the one that is most like it.
//!
//! Hidden units have no order, and `relu` lets a unit trade size between what it reads and what it writes. So units are compared balanced,
//! `|read| = |write|`, and each is matched with the most similar unit of the other expert that is still free, most similar pairs first.
//! Matched units are averaged by their experts' use; a unit that writes much weighs more, for its vectors are longer. The kept
//! expert is the one of least cost, by Ward's rule (J. H. Ward, "Hierarchical grouping to optimize an objective function", 1963):
//!
//! ```text
//! cost(a, b) = u_a u_b / (u_a + u_b) sum over matched units |v_a - v_b|^2      v = balanced (read, bias, write)
//! ```

use crate::parameters::Parameters;

/// Share of tokens that an unused expert is taken to have, so that averages are defined.
const LEAST_USE: f64 = 1e-6;

/// A hidden unit, balanced: what it reads `[D]`, its bias, what it writes `[D]`.
#[derive(Clone, Debug)]
struct Unit {
    read: Vec<f32>,
    bias: f32,
    write: Vec<f32>,
}

/// Folds an expert into the most similar other one of its block, which is returned. The expert itself stays to be removed.
///
/// `usage` are the shares of tokens that the block's experts have.
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
    let weight = share(expert) / (share(expert) + share(other));
    let mix = |a: f32, b: f32| a + weight * (b - a);
    let mixed: Vec<Unit> = kept
        .iter()
        .zip(&partners)
        .map(|(a, &partner)| {
            let b = &going[partner];
            let mix_all = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| mix(*a, *b)).collect();
            Unit { read: mix_all(&a.read, &b.read), bias: mix(a.bias, b.bias), write: mix_all(&a.write, &b.write) }
        })
        .collect();
    let (f, d) = (mixed.len(), mixed[0].read.len());
    let up = (0..d * f).map(|i| mixed[i % f].read[i / f]).collect();
    set(parameters, &name(block, other, "up.weight"), up);
    set(parameters, &name(block, other, "up.bias"), mixed.iter().map(|unit| unit.bias).collect());
    set(parameters, &name(block, other, "down.weight"), mixed.iter().flat_map(|unit| unit.write.clone()).collect());
    let bias = |expert: usize| values(parameters, &name(block, expert, "down.bias")).to_vec();
    let mixed_bias = bias(other).iter().zip(bias(expert)).map(|(a, b)| mix(*a, b)).collect();
    set(parameters, &name(block, other, "down.bias"), mixed_bias);
    for tensor in ["weight", "bias"] {
        let name = format!("blocks.{block}.moe.router.{tensor}");
        let mut router = values(parameters, &name).to_vec();
        router.chunks_mut(usage.len()).for_each(|row| row[other] = mix(row[other], row[expert]));
        set(parameters, &name, router);
    }
    other
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
    let up = values(parameters, &name(block, expert, "up.weight"));
    let biases = values(parameters, &name(block, expert, "up.bias"));
    let down = values(parameters, &name(block, expert, "down.weight"));
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
            }
        })
        .collect()
}

fn name(block: usize, expert: usize, tensor: &str) -> String {
    format!("blocks.{block}.moe.experts.{expert}.{tensor}")
}

fn values<'a>(parameters: &'a Parameters, name: &str) -> &'a [f32] {
    &parameters.get(name).expect("the architecture lists it").values
}

fn set(parameters: &mut Parameters, name: &str, values: Vec<f32>) {
    let found = parameters.as_mut_slice().iter_mut().find(|parameter| parameter.spec.name == name);
    let parameter = found.expect("the architecture lists it");
    parameter.values = values;
    parameter.apply_mask();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelConfig;

    fn parameters() -> Parameters {
        let config = ModelConfig { num_experts: 3, top_k: 1, ..ModelConfig::preset("tiny").unwrap() };
        Parameters::initialise(config.architecture(), 5)
    }

    /// What an expert makes of an input.
    fn output(parameters: &Parameters, expert: usize, input: &[f32]) -> Vec<f32> {
        let mut output = values(parameters, &name(0, expert, "down.bias")).to_vec();
        for unit in units(parameters, 0, expert) {
            let sum: f32 = unit.read.iter().zip(input).map(|(w, x)| w * x).sum();
            output.iter_mut().zip(&unit.write).for_each(|(y, w)| *y += w * (sum + unit.bias).max(0.0));
        }
        output
    }

    #[test]
    fn twins_in_another_order_and_scale_merge_into_themselves() {
        let mut parameters = parameters();
        let (up, bias, down) = ("up.weight", "up.bias", "down.weight");
        let f = values(&parameters, &name(0, 0, bias)).len();
        let tensor = |p: &Parameters, what: &str| values(p, &name(0, 0, what)).to_vec();
        // Expert 2 is expert 0 with its units reversed and rescaled.
        let scale = |unit: usize| 0.5 + unit as f32 / f as f32;
        let flip = |unit: usize| f - 1 - unit;
        let (a, b, c) = (tensor(&parameters, up), tensor(&parameters, bias), tensor(&parameters, down));
        let d = c.len() / f;
        set(
            &mut parameters,
            &name(0, 2, up),
            (0..a.len()).map(|i| a[i / f * f + flip(i % f)] * scale(i % f)).collect(),
        );
        set(&mut parameters, &name(0, 2, bias), (0..f).map(|i| b[flip(i)] * scale(i)).collect());
        set(
            &mut parameters,
            &name(0, 2, down),
            (0..c.len()).map(|i| c[flip(i / d) * d + i % d] / scale(i / d)).collect(),
        );
        let input: Vec<f32> = (0..d).map(|i| (i as f32 * 0.7).sin()).collect();
        let before = output(&parameters, 0, &input);
        assert_eq!(merge(&mut parameters, 0, 2, &[0.5, 0.3, 0.2]), 0);
        for (a, b) in output(&parameters, 0, &input).iter().zip(&before) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }

    #[test]
    fn an_unused_expert_leaves_nothing() {
        let mut parameters = parameters();
        let d = parameters.architecture().d_model;
        let input: Vec<f32> = (0..d).map(|i| (i as f32 * 1.3).cos()).collect();
        let before: Vec<Vec<f32>> = (0..2).map(|expert| output(&parameters, expert, &input)).collect();
        let other = merge(&mut parameters, 0, 2, &[0.6, 0.4, 0.0]);
        for (a, b) in output(&parameters, other, &input).iter().zip(&before[other]) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
    }
}
