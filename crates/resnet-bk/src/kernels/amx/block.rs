//! Blocks of 32 x 32 numbers.

use super::BLOCK;

/// Float32 sums, row by row.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Block(pub [[f32; BLOCK]; BLOCK]);

impl Block {
    /// All zero.
    pub const ZERO: Self = Self([[0.0; BLOCK]; BLOCK]);

    /// Copies the block into a row-major matrix, as much of it as fits.
    ///
    /// # Shapes
    /// - `out`: `[rows, width]`; the block begins at `row`, `column`
    pub fn store(&self, out: &mut [f32], width: usize, (row, column): (usize, usize)) {
        let columns = width.saturating_sub(column).min(BLOCK);
        for (out, block) in out[row * width..].chunks_mut(width).zip(&self.0) {
            out[column..column + columns].copy_from_slice(&block[..columns]);
        }
    }

    /// Copies the transposed block, scaled, into a row-major matrix, as much of it as fits.
    ///
    /// # Shapes
    /// - `out`: `[rows, width]`; the transposed block begins at `row`, `column`
    pub fn store_transposed(&self, out: &mut [f32], width: usize, (row, column): (usize, usize), scale: f32) {
        let columns = width.saturating_sub(column).min(BLOCK);
        for (r, out) in out[row * width..].chunks_mut(width).take(BLOCK).enumerate() {
            for (out, block) in out[column..column + columns].iter_mut().zip(&self.0) {
                *out = block[r] * scale;
            }
        }
    }
}

/// bf16 numbers in one of the two layouts of the module's picture.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Operand(pub(super) [u16; BLOCK * BLOCK]);

/// How a source matrix becomes an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Left side, the source's columns along the inner size.
    Left,
    /// Left side, the source's rows along the inner size.
    LeftTransposed,
    /// Right side, the source's rows along the inner size.
    Right,
    /// Right side, the source's columns along the inner size.
    RightTransposed,
}

impl Operand {
    /// All zero.
    pub const ZERO: Self = Self([0; BLOCK * BLOCK]);

    /// Rounds a block of a row-major matrix, scaled; zeros where the block reaches past the matrix.
    ///
    /// # Shapes
    /// - `source`: `[rows, width]`; the block begins at `row`, `column`
    pub fn pack(&mut self, source: &[f32], width: usize, (row, column): (usize, usize), scale: f32, layout: Layout) {
        let rows = (source.len() / width).saturating_sub(row).min(BLOCK);
        let columns = width.saturating_sub(column).min(BLOCK);
        if rows < BLOCK || columns < BLOCK {
            self.0.fill(0);
        }
        for r in 0..rows {
            let source = &source[(row + r) * width + column..][..columns];
            match layout {
                Layout::Left => {
                    let out = &mut self.0[r * BLOCK..][..columns];
                    out.iter_mut().zip(source).for_each(|(out, x)| *out = round(x * scale));
                }
                Layout::LeftTransposed => {
                    source.iter().enumerate().for_each(|(c, x)| self.0[c * BLOCK + r] = round(x * scale));
                }
                Layout::Right => {
                    let out = &mut self.0[r / 2 * 2 * BLOCK..][..2 * BLOCK];
                    source.iter().enumerate().for_each(|(c, x)| out[2 * c + r % 2] = round(x * scale));
                }
                Layout::RightTransposed => source.iter().enumerate().for_each(|(c, x)| {
                    self.0[c / 2 * 2 * BLOCK + 2 * r + c % 2] = round(x * scale);
                }),
            }
        }
    }
}

/// The nearest bf16, ties to even, of a finite number.
#[inline(always)]
fn round(x: f32) -> u16 {
    let bits = x.to_bits();
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}
