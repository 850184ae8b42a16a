//! Host implementation; uses the runtime's routing, one token at a time.

use super::{CountRouted, GateWeights};
use crate::tape::HostOp;
use resnet_bk_runtime::internal::kernels::softmax_in_place;
use resnet_bk_runtime::internal::router;

impl HostOp<1> for GateWeights {
    fn forward(&mut self, [logits]: [&[f32]; 1]) -> Vec<f32> {
        router::gate_weights(logits, self.experts, self.top_k)
    }

    fn backward(self, [logits]: [&[f32]; 1], output: &[f32], gradient: Vec<f32>, _: [bool; 1]) -> [Vec<f32>; 1] {
        let mut dlogits = vec![0.0; logits.len()];
        let rows = logits.chunks(self.experts).zip(output.chunks(self.experts)).zip(gradient.chunks(self.experts));
        for (((logits, weights), g), d) in rows.zip(dlogits.chunks_mut(self.experts)) {
            if self.top_k == 1 {
                let chosen = weights.iter().position(|&w| w != 0.0).expect("one expert is chosen");
                d.copy_from_slice(logits);
                softmax_in_place(d);
                let p = d[chosen];
                for (i, d) in d.iter_mut().enumerate() {
                    *d = g[chosen] * p * (f32::from(u8::from(i == chosen)) - *d);
                }
            } else {
                let mean: f32 = weights.iter().zip(g).map(|(w, g)| w * g).sum();
                for (d, (w, g)) in d.iter_mut().zip(weights.iter().zip(g)) {
                    *d = w * (g - mean);
                }
            }
        }
        [dlogits]
    }
}

impl HostOp<1> for CountRouted {
    fn forward(&mut self, [weights]: [&[f32]; 1]) -> Vec<f32> {
        let mut usage = vec![0.0; self.experts];
        for row in weights.chunks(self.experts) {
            usage.iter_mut().zip(row).for_each(|(used, weight)| *used += f32::from(u8::from(*weight != 0.0)));
        }
        usage
    }

    fn backward(self, [weights]: [&[f32]; 1], _: &[f32], _: Vec<f32>, _: [bool; 1]) -> [Vec<f32>; 1] {
        [vec![0.0; weights.len()]]
    }
}
