//! The resolvent of a tridiagonal matrix, computed by recurrences in O(T).
//!
//! `G(z) = (A - zI)^-1` with `z = i eta`. Left and right Schur complements:
//!
//! ```text
//! left   g_t = 1 / (a_t - z - s^2 g_{t-1})      g_0 = 0        last diagonal entry of the leading t x t block
//! right  h_t = 1 / (a_t - z - s^2 h_{t+1})      h_{T+1} = 0
//! whole  G_tt = 1 / (a_t - z - s^2 g_{t-1} - s^2 h_{t+1})
//! ```
//!
//! The recurrences compute ratios of determinants. The ratios stay bounded (`|g_t| <= 1 / eta`),
//! while the determinants overflow.
//!
//! The propagator is the last row of the resolvent of the leading block, applied to a source `u`.
//! The off-diagonal entry between `t - 1` and `t` is `-s_t`:
//!
//! ```text
//! s_t = sigmoid(hopping_t)      a_t = 1 + s_t^2 + softplus(barrier_t)      w_t = (1 - s_t) u_t
//! g_t = 1 / (a_t - z - s_t^2 g_{t-1})      psi_t = g_t (w_t + s_t psi_{t-1})
//! ```
//!
//! With `eta = 0`, the barrier keeps `0 < g_t <= 1`, so there are no poles. Complex rows are stored
//! as `[Re of all H heads, Im of all H heads]`.

use crate::kernels::lanes::Strips;
use crate::kernels::{self, left_ratios, reciprocal};

/// Matrix constants of the diagonal mixer, one value per head.
pub use crate::kernels::{Chain, PropagatorInput};

impl Chain<'_> {
    /// Number of resolvent heads `H`.
    pub fn heads(&self) -> usize {
        self.eta.len()
    }

    /// Causal features: the left ratios `g_t` of one sequence, continuing from `state`.
    ///
    /// # Shapes
    /// - `potential`: `[T, H]`
    /// - `state`: `[2H]`, the last ratio, zeros at the start of a sequence; updated
    /// - `features`: `[T, 2H]`, overwritten
    pub fn left(&self, potential: &[f32], state: &mut [f32], features: &mut [f32]) {
        let strips = Strips { length: potential.len() / self.heads(), heads: self.heads() };
        left_ratios(potential, strips, *self, state, features);
        if let Some(last) = features.chunks_exact(state.len()).next_back() {
            state.copy_from_slice(last);
        }
    }

    /// The right ratios `h_t` of one whole sequence. Shapes: `potential` `[T, H]`, `ratios` `[T,
    /// 2H]`, overwritten.
    pub fn right(&self, potential: &[f32], ratios: &mut [f32]) {
        let heads = self.heads();
        let mut state = vec![0.0; 2 * heads];
        for (v, row) in potential.chunks(heads).zip(ratios.chunks_mut(2 * heads)).rev() {
            self.advance(v, &mut state);
            row.copy_from_slice(&state);
        }
    }

    /// Bidirectional features: the diagonal `G_tt` of one whole sequence.
    ///
    /// # Shapes
    /// - `potential`: `[T, H]`
    /// - `features`: `[T, 2H]`, overwritten
    pub fn whole(&self, potential: &[f32], features: &mut [f32]) {
        let heads = self.heads();
        self.right(potential, features);
        let mut left = vec![0.0; 2 * heads];
        let mut blocked = vec![0.0; 2 * heads];
        let mut rows = potential.chunks(heads).zip(features.chunks_mut(2 * heads)).peekable();
        while let Some((v, row)) = rows.next() {
            // The right ratio of the next position is in the next row, which is not overwritten
            // yet.
            for (j, blocked) in blocked.iter_mut().enumerate() {
                *blocked = left[j] + rows.peek().map_or(0.0, |(_, next)| next[j]);
            }
            self.advance(v, &mut left);
            self.advance(v, &mut blocked);
            row.copy_from_slice(&blocked);
        }
    }

    /// `state = 1 / (a0 + v - i eta - s^2 state)` for every head.
    #[inline(always)]
    fn advance(&self, potential: &[f32], state: &mut [f32]) {
        let (re, im) = state.split_at_mut(self.heads());
        for h in 0..self.heads() {
            let s2 = self.hopping[h] * self.hopping[h];
            (re[h], im[h]) = reciprocal(self.diagonal[h] + potential[h] - s2 * re[h], -self.eta[h] - s2 * im[h]);
        }
    }
}

/// The state of a propagator between tokens, for all heads.
#[derive(Clone, Debug, PartialEq)]
pub struct PropagatorState {
    /// Last ratio `g`, `[2H]`.
    pub ratio: Vec<f32>,
    /// Last wave `psi`, `[2H]`.
    pub wave: Vec<f32>,
}

impl PropagatorState {
    /// The state before the first token.
    pub fn new(heads: usize) -> Self {
        Self { ratio: vec![0.0; 2 * heads], wave: vec![0.0; 2 * heads] }
    }
}

/// Computes the waves `psi_t` of one sequence, continuing from `state`.
///
/// # Shapes
/// - `waves`: `[T, 2H]`, overwritten
/// - `ratios`: `[T, 2H]`, overwritten with `g_t`, which the backward pass needs
pub fn propagate(input: PropagatorInput, state: &mut PropagatorState, waves: &mut [f32], ratios: &mut [f32]) {
    kernels::propagate(input, &mut state.ratio, &mut state.wave, waves, ratios);
}

#[cfg(test)]
mod tests;
