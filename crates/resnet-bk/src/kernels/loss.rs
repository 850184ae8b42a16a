//! Rows of the head's losses in float32: gradients in place of the logits.

use resnet_bk_runtime::internal::dispatched;
use resnet_bk_runtime::internal::kernels::exp;

/// Lanes of a row reduction.
const LANES: usize = 32;

dispatched! {
    /// Replaces logits by `weight * softmax`, given their `ln sum e^x`.
    pub fn softmax_gradient(logits: &mut [f32], normalizer: f32, weight: f32) = softmax_gradient_body
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
    /// Replaces a student's logits by `soft_weight (softmax(l / tau) - softmax(l' / tau)) + hard_weight softmax(l)`.
    pub fn mixed_gradient(logits: &mut [f32], teacher: &[f32], row: MixedRow) = mixed_gradient_body
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
    /// `sum_i e^(scale l'_i - shift)` of a teacher's logits `l'`, and the same with every term times `scale (l'_i - l_i)`, where `l` are the
    /// student's.
    pub fn teacher_sums(logits: &[f32], teacher: &[f32], scale: f32, shift: f32) -> [f32; 2] = teacher_sums_body
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
