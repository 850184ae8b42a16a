//! The bidirectional form of one sequence, backwards: two passes, one along the sequence and one
//! against it.

use super::{multiply, square};
use resnet_bk_runtime::internal::resolvent::Chain;

/// Gradients of potential and eta of one sequence. Shapes: `v`, `dv` `[T, H]`, `dv` overwritten;
/// `features`, `gradient` `[T, 2H]`; returns `[H]`.
pub fn backward(chain: Chain, v: &[f32], features: &[f32], gradient: &[f32], dv: &mut [f32]) -> Vec<f32> {
    let heads = chain.heads();
    let (mut left, mut right) = (vec![0.0; features.len()], vec![0.0; features.len()]);
    chain.left(v, &mut vec![0.0; 2 * heads], &mut left);
    chain.right(v, &mut right);
    let mut deta = vec![0.0; heads];
    let at = |row: &[f32], h: usize| (row[h], row[heads + h]);
    for h in 0..heads {
        let s2 = chain.hopping[h] * chain.hopping[h];
        let w = |t: usize| {
            let (g, u) = (at(&features[2 * heads * t..], h), at(&gradient[2 * heads * t..], h));
            multiply((u.0, -u.1), square(g))
        };
        // A minus w: what the earlier positions send.
        let mut sent = (0.0, 0.0);
        for t in 0..dv.len() / heads {
            dv[heads * t + h] = -sent.0;
            deta[h] -= sent.1;
            let a = (w(t).0 + sent.0, w(t).1 + sent.1);
            // A_{t+1} takes s^2 h_{t+1}^2 A_t.
            if let Some(next) = right.get(2 * heads * (t + 1)..).filter(|rest| !rest.is_empty()) {
                let x = multiply(square(at(next, h)), a);
                sent = (s2 * x.0, s2 * x.1);
            }
        }
        let mut b = (0.0, 0.0);
        for t in (0..dv.len() / heads).rev() {
            // B_t takes s^2 g_t^2 B_{t+1}.
            let x = multiply(square(at(&left[2 * heads * t..], h)), b);
            b = (w(t).0 + s2 * x.0, w(t).1 + s2 * x.1);
            dv[heads * t + h] -= b.0;
            deta[h] -= b.1;
        }
    }
    deta
}
