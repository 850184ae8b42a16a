//! On the host: one token after the other; the sums are small.

use super::{AddPenalty, FeatureDistance, LoadBalancing};
use crate::tape::HostOp;

/// Exponentials of a row, and their sum.
fn exponentials(row: &[f32]) -> (Vec<f32>, f32) {
    let largest = row.iter().fold(f32::NEG_INFINITY, |max, &x| max.max(x));
    let exponentials: Vec<f32> = row.iter().map(|x| (x - largest).exp()).collect();
    let sum = exponentials.iter().sum();
    (exponentials, sum)
}

impl HostOp<1> for LoadBalancing {
    fn forward(&mut self, [logits]: [&[f32]; 1]) -> Vec<f32> {
        let experts = self.shares.len();
        let mut mean = vec![0.0; experts];
        for row in logits.chunks(experts) {
            let (exponentials, sum) = exponentials(row);
            mean.iter_mut().zip(exponentials).for_each(|(mean, e)| *mean += e / sum);
        }
        let rows = (logits.len() / experts) as f32;
        vec![mean.iter().zip(&self.shares).map(|(mean, share)| mean / rows * share).sum()]
    }

    fn backward(self, [logits]: [&[f32]; 1], _: &[f32], gradient: Vec<f32>, _: [bool; 1]) -> [Vec<f32>; 1] {
        let experts = self.shares.len();
        let per_row = (1.0 / (logits.len() / experts) as f64) as f32;
        let g: Vec<f32> = self.shares.iter().map(|share| per_row * (gradient[0] * share)).collect();
        let mut dlogits = Vec::with_capacity(logits.len());
        for row in logits.chunks(experts) {
            // The quotient rule for p = e / sum e.
            let (exponentials, sum) = exponentials(row);
            let dsum: f32 = exponentials.iter().zip(&g).map(|(e, g)| g * (-e / (sum * sum))).sum();
            dlogits.extend(exponentials.iter().zip(&g).map(|(e, g)| (g * (1.0 / sum) + dsum) * e));
        }
        [dlogits]
    }
}

impl HostOp<1> for FeatureDistance {
    fn forward(&mut self, [x]: [&[f32]; 1]) -> Vec<f32> {
        let squares: f32 = x.iter().zip(&self.target).map(|(x, t)| (x - t) * (x - t)).sum();
        vec![squares / x.len() as f32 / self.scale]
    }

    fn backward(self, [x]: [&[f32]; 1], _: &[f32], gradient: Vec<f32>, _: [bool; 1]) -> [Vec<f32>; 1] {
        let factor = 2.0 * gradient[0] / (self.scale * x.len() as f32);
        [x.iter().zip(&self.target).map(|(x, t)| factor * (x - t)).collect()]
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
