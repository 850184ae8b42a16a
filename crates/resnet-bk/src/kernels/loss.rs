//! Rows of the head's losses in float32: gradients in place of the logits.

use resnet_bk_runtime::dispatched;
use resnet_bk_runtime::kernels::exp;

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
    /// Replaces a student's logits by `soft_weight (softmax(l / tau) - softmax(l' / tau)) + hard_weight softmax(l)`, and returns the
    /// row's part of `KL(softmax(l' / tau) || softmax(l / tau))`.
    pub fn mixed_gradient(logits: &mut [f32], teacher: &[f32], row: MixedRow) -> f32 = mixed_gradient_body
}

#[inline(always)]
fn mixed_gradient_body(logits: &mut [f32], teacher: &[f32], row: MixedRow) -> f32 {
    let mut divergence = [0.0f32; LANES];
    for (logits, teacher) in logits.chunks_mut(LANES).zip(teacher.chunks(LANES)) {
        for ((x, t), divergence) in logits.iter_mut().zip(teacher).zip(&mut divergence) {
            let student = *x * row.inverse_temperature - row.student;
            let teacher = t * row.inverse_temperature - row.teacher;
            let p = exp(teacher);
            *divergence += p * (teacher - student);
            *x = row.soft_weight * (exp(student) - p) + row.hard_weight * exp(*x - row.hard);
        }
    }
    divergence.iter().sum()
}
