//! What a pass over the vocabulary sums for each token, and the loss from it.

use crate::ops::head_loss::HeadLoss;
use resnet_bk_runtime::internal::kernels::{Normalizer, exp};

/// One token's sums over words.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenSums {
    pub hard: Normalizer,
    pub student: Normalizer,
    pub teacher: Normalizer,
    /// The teacher's sum with every term times `(l' - l) / tau`.
    pub difference: f32,
    /// The target's logit; 0 where the target is not among the words.
    pub target: f32,
}

impl TokenSums {
    pub const EMPTY: Self = Self {
        hard: Normalizer::EMPTY,
        student: Normalizer::EMPTY,
        teacher: Normalizer::EMPTY,
        difference: 0.0,
        target: 0.0,
    };

    pub fn merge(&mut self, other: &Self) {
        self.hard.merge(other.hard);
        self.student.merge(other.student);
        self.merge_teacher(other.teacher, other.difference);
        self.target += other.target;
    }

    pub fn merge_teacher(&mut self, teacher: Normalizer, difference: f32) {
        let largest = self.teacher.largest.max(teacher.largest);
        let scale = |part: Normalizer| exp(part.largest - largest);
        self.difference = self.difference * scale(self.teacher) + difference * scale(teacher);
        self.teacher.merge(teacher);
    }

    /// `KL(softmax(l' / tau) || softmax(l / tau))`: the mean difference of the logits less that of
    /// the normalizers.
    pub fn divergence(&self) -> f32 {
        self.difference / self.teacher.sum - (self.teacher.ln() - self.student.ln())
    }
}

/// Sums over all of several parts of the words.
pub(super) fn merged(parts: impl IntoIterator<Item = Vec<TokenSums>>, tokens: usize) -> Vec<TokenSums> {
    let mut sums = vec![TokenSums::EMPTY; tokens];
    for part in parts {
        sums.iter_mut().zip(&part).for_each(|(sum, part)| sum.merge(part));
    }
    sums
}

/// Sum of the losses of some tokens, from their sums over all words.
pub(super) fn total_loss(loss: &HeadLoss, sums: &[TokenSums]) -> f64 {
    let hard: f64 = sums.iter().map(|sum| f64::from(sum.hard.ln() - sum.target)).sum();
    match &loss.soft {
        None => hard,
        Some(soft) => {
            let tau = f64::from(soft.temperature);
            let divergence: f64 = sums.iter().map(|sum| f64::from(sum.divergence())).sum();
            f64::from(soft.alpha) * tau * tau * divergence + f64::from(1.0 - soft.alpha) * hard
        }
    }
}
