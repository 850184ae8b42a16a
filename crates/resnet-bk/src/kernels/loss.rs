//! Rows of the head's losses in float32: gradients in place of the logits.

use resnet_bk_runtime::internal::dispatched;
use resnet_bk_runtime::internal::kernels::{InstructionSet, exp};

/// Lanes of a row reduction.
const LANES: usize = 32;

dispatched! {
    /// Replaces logits by `weight * softmax`, given their `ln sum e^x`.
    pub fn softmax_gradient(logits: &mut [f32], normalizer: f32, weight: f32)
        = softmax_gradient_on(set) => softmax_gradient_body(logits, normalizer, weight)
}

#[inline(always)]
fn softmax_gradient_body(logits: &mut [f32], normalizer: f32, weight: f32) {
    for x in logits {
        *x = exp(*x - normalizer) * weight;
    }
}

/// Normalizers and weights of one token's mixed loss.
#[derive(Clone, Copy, Debug)]
pub struct MixedRow {
    /// `1 / tau`.
    pub inverse_temperature: f32,
    /// Of the student's logits.
    pub hard: f32,
    /// Of the student's logits over tau.
    pub student: f32,
    /// Of the teacher's logits over tau.
    pub teacher: f32,
    /// Weight of the soft gradient.
    pub soft_weight: f32,
    /// Weight of the hard gradient.
    pub hard_weight: f32,
}

dispatched! {
    /// Replaces a student's logits by `soft_weight (softmax(l / tau) - softmax(l' / tau)) +
    /// hard_weight softmax(l)`.
    pub fn mixed_gradient(logits: &mut [f32], teacher: &[f32], row: MixedRow)
        = mixed_gradient_on(set) => mixed_gradient_body(logits, teacher, row)
}

#[inline(always)]
fn mixed_gradient_body(logits: &mut [f32], teacher: &[f32], row: MixedRow) {
    for (x, t) in logits.iter_mut().zip(teacher) {
        let student = exp(*x * row.inverse_temperature - row.student);
        let teacher = exp(t * row.inverse_temperature - row.teacher);
        *x = row.soft_weight * (student - teacher) + row.hard_weight * exp(*x - row.hard);
    }
}

dispatched! {
    /// `sum_i e^(scale l'_i - shift)` of a teacher's logits `l'`, and the same with every term
    /// times `scale (l'_i - l_i)`, where `l` are the student's.
    pub fn teacher_sums(logits: &[f32], teacher: &[f32], scale: f32, shift: f32) -> [f32; 2]
        = teacher_sums_on(set) => teacher_sums_body(logits, teacher, scale, shift)
}

#[inline(always)]
fn teacher_sums_body(logits: &[f32], teacher: &[f32], scale: f32, shift: f32) -> [f32; 2] {
    let (mut sums, mut differences) = ([0.0f32; LANES], [0.0f32; LANES]);
    for (logits, teacher) in logits.chunks(LANES).zip(teacher.chunks(LANES)) {
        for (((x, t), sum), difference) in logits.iter().zip(teacher).zip(&mut sums).zip(&mut differences) {
            let p = exp(scale * t - shift);
            *sum += p;
            *difference += p * scale * (t - x);
        }
    }
    [sums, differences].map(|lanes| lanes.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{AWKWARD, equal_bits, values};
    use super::*;

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let row = MixedRow {
            inverse_temperature: 0.5,
            hard: 1.5,
            student: 1.25,
            teacher: 1.75,
            soft_weight: 0.7,
            hard_weight: 0.3,
        };
        for n in AWKWARD {
            let (logits, teacher) = (values(n, 1), values(n, 2));
            equal_bits("softmax_gradient", |set| {
                let mut out = logits.clone();
                softmax_gradient_on(set, &mut out, 1.5, 0.3);
                out
            });
            equal_bits("mixed_gradient", |set| {
                let mut out = logits.clone();
                mixed_gradient_on(set, &mut out, &teacher, row);
                out
            });
            equal_bits("teacher_sums", |set| teacher_sums_on(set, &logits, &teacher, 0.5, 0.25).to_vec());
        }
    }
}
