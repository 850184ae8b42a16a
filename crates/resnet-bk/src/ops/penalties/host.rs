//! Host implementation: one token at a time, because the sums are small.

use super::{AddPenalty, EPSILON, FeatureDistance, LoadBalancing};
use crate::tape::HostOp;

/// Exponentials of a row and their sum.
fn exponentials(row: &[f32]) -> (Vec<f32>, f32) {
    let largest = row.iter().fold(f32::NEG_INFINITY, |max, &x| max.max(x));
    let exponentials: Vec<f32> = row.iter().map(|x| (x - largest).exp()).collect();
    let sum = exponentials.iter().sum();
    (exponentials, sum)
}

/// `E f_e` of every expert, from the numbers of tokens routed to them.
fn shares(usage: &[f32]) -> Vec<f32> {
    let routed: f32 = usage.iter().sum();
    usage.iter().map(|used| usage.len() as f32 * used / routed).collect()
}

/// As [`super::mean_square`].
pub(super) fn mean_square(target: &[f32]) -> f32 {
    target.iter().map(|t| t * t).sum::<f32>() / target.len() as f32
}

impl HostOp<2> for LoadBalancing {
    fn forward(&mut self, [logits, usage]: [&[f32]; 2]) -> Vec<f32> {
        let (experts, shares) = (usage.len(), shares(usage));
        let mut mean = vec![0.0; experts];
        for row in logits.chunks(experts) {
            let (exponentials, sum) = exponentials(row);
            mean.iter_mut().zip(exponentials).for_each(|(mean, e)| *mean += e / sum);
        }
        let rows = (logits.len() / experts) as f32;
        vec![mean.iter().zip(&shares).map(|(mean, share)| mean / rows * share).sum()]
    }

    fn backward(self, [logits, usage]: [&[f32]; 2], _: &[f32], gradient: Vec<f32>, _: [bool; 2]) -> [Vec<f32>; 2] {
        let experts = usage.len();
        let per_row = (1.0 / (logits.len() / experts) as f64) as f32;
        let g: Vec<f32> = shares(usage).iter().map(|share| per_row * (gradient[0] * share)).collect();
        let mut dlogits = Vec::with_capacity(logits.len());
        for row in logits.chunks(experts) {
            // The quotient rule for p = e / sum e.
            let (exponentials, sum) = exponentials(row);
            let dsum: f32 = exponentials.iter().zip(&g).map(|(e, g)| g * (-e / (sum * sum))).sum();
            dlogits.extend(exponentials.iter().zip(&g).map(|(e, g)| (g * (1.0 / sum) + dsum) * e));
        }
        [dlogits, Vec::new()]
    }
}

impl HostOp<2> for FeatureDistance {
    fn forward(&mut self, [x, target]: [&[f32]; 2]) -> Vec<f32> {
        let scale = self.mean_square[0] + EPSILON;
        let squares: f32 = x.iter().zip(target).map(|(x, t)| (x - t) * (x - t)).sum();
        vec![squares / x.len() as f32 / scale]
    }

    fn backward(self, [x, target]: [&[f32]; 2], _: &[f32], gradient: Vec<f32>, _: [bool; 2]) -> [Vec<f32>; 2] {
        let factor = 2.0 * gradient[0] / ((self.mean_square[0] + EPSILON) * x.len() as f32);
        [x.iter().zip(target).map(|(x, t)| factor * (x - t)).collect(), Vec::new()]
    }
}

impl HostOp<2> for AddPenalty {
    fn forward(&mut self, [loss, penalty]: [&[f32]; 2]) -> Vec<f32> {
        vec![loss[0] + penalty[0] * self.weight]
    }

    fn backward(self, _: [&[f32]; 2], _: &[f32], gradient: Vec<f32>, _: [bool; 2]) -> [Vec<f32>; 2] {
        let dpenalty = vec![gradient[0] * self.weight];
        [gradient, dpenalty]
    }
}
