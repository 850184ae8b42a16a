//! Gradients of layer normalization and RMS normalization.
//!
//! With `x^ = (x - mean) r` and `u = dL/dy * gamma`:
//!
//! ```text
//! layer norm   dx = r (u - mean(u) - x^ mean(u x^))        RMS norm   dx = r (u - x^ mean(u x^))
//! ```

use resnet_bk_runtime::internal::dispatched;
use resnet_bk_runtime::internal::kernels::{InstructionSet, inverse_rms, moments};

/// Lanes of a row's sums.
const LANES: usize = 16;

dispatched! {
    /// Gradient of layer normalization; those of gain and shift are added to.
    ///
    /// # Shapes
    /// - `x`, `gradient`, `dx`: `[n, D]`
    /// - `gamma`, `dgamma`, `dbeta`: `[D]`
    pub fn layer_norm_backward(
        x: &[f32],
        gamma: &[f32],
        gradient: &[f32],
        dx: &mut [f32],
        dgamma: &mut [f32],
        dbeta: &mut [f32],
    ) = layer_norm_backward_on(set) => layer_norm_backward_body(x, gamma, gradient, dx, dgamma, dbeta)
}

#[inline(always)]
fn layer_norm_backward_body(
    x: &[f32],
    gamma: &[f32],
    gradient: &[f32],
    dx: &mut [f32],
    dgamma: &mut [f32],
    dbeta: &mut [f32],
) {
    let width = gamma.len();
    for ((x, g), dx) in x.chunks_exact(width).zip(gradient.chunks_exact(width)).zip(dx.chunks_exact_mut(width)) {
        let (mean, r) = moments(x);
        row_backward::<true>(x, (mean, r), gamma, g, dx, dgamma);
        for (dbeta, g) in dbeta.iter_mut().zip(g) {
            *dbeta += g;
        }
    }
}

dispatched! {
    /// Gradient of RMS normalization; that of the gain is added to. Shapes as for
    /// [`layer_norm_backward`].
    pub fn rms_norm_backward(x: &[f32], gamma: &[f32], gradient: &[f32], dx: &mut [f32], dgamma: &mut [f32])
        = rms_norm_backward_on(set) => rms_norm_backward_body(x, gamma, gradient, dx, dgamma)
}

#[inline(always)]
fn rms_norm_backward_body(x: &[f32], gamma: &[f32], gradient: &[f32], dx: &mut [f32], dgamma: &mut [f32]) {
    let width = gamma.len();
    for ((x, g), dx) in x.chunks_exact(width).zip(gradient.chunks_exact(width)).zip(dx.chunks_exact_mut(width)) {
        row_backward::<false>(x, (0.0, inverse_rms(x)), gamma, g, dx, dgamma);
    }
}

/// One row of either; `CENTRED` where the mean was taken off.
#[inline(always)]
fn row_backward<const CENTRED: bool>(
    x: &[f32],
    (mean, r): (f32, f32),
    gamma: &[f32],
    gradient: &[f32],
    dx: &mut [f32],
    dgamma: &mut [f32],
) {
    let n = x.len() as f32;
    let (mut sums, mut products) = ([0.0f32; LANES], [0.0f32; LANES]);
    let columns = x.chunks(LANES).zip(gradient.chunks(LANES)).zip(gamma.chunks(LANES).zip(dgamma.chunks_mut(LANES)));
    for ((x, gradient), (gamma, dgamma)) in columns {
        for lane in 0..x.len() {
            let (normed, u) = ((x[lane] - mean) * r, gradient[lane] * gamma[lane]);
            sums[lane] += u;
            products[lane] += u * normed;
            dgamma[lane] += gradient[lane] * normed;
        }
    }
    let shift = if CENTRED { sums.iter().sum::<f32>() / n } else { 0.0 };
    let slope = products.iter().sum::<f32>() / n;
    for (((dx, x), gradient), gamma) in dx.iter_mut().zip(x).zip(gradient).zip(gamma) {
        *dx = r * (gradient * gamma - shift - (x - mean) * r * slope);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{AWKWARD, equal_bits, values};
    use super::*;

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        for width in AWKWARD.into_iter().filter(|width| *width > 0) {
            for rows in [0, 1, 3] {
                let (x, gamma, gradient) = (values(rows * width, 1), values(width, 2), values(rows * width, 3));
                equal_bits("layer_norm_backward", |set| {
                    let mut dx = vec![f32::NAN; x.len()];
                    let (mut dgamma, mut dbeta) = (values(width, 4), values(width, 5));
                    layer_norm_backward_on(set, &x, &gamma, &gradient, &mut dx, &mut dgamma, &mut dbeta);
                    [dx, dgamma, dbeta].concat()
                });
                equal_bits("rms_norm_backward", |set| {
                    let mut dx = vec![f32::NAN; x.len()];
                    let mut dgamma = values(width, 4);
                    rms_norm_backward_on(set, &x, &gamma, &gradient, &mut dx, &mut dgamma);
                    [dx, dgamma].concat()
                });
            }
        }
    }
}
