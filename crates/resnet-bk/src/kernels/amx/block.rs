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

/// A row-major float32 matrix on its way into operands.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// `[rows, width]`.
    pub values: &'a [f32],
    /// Columns.
    pub width: usize,
    /// What every number is multiplied with.
    pub scale: f32,
    /// Which part of every number is taken.
    pub part: Part,
}

/// A part of a float32 number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The nearest bf16.
    High,
    /// The bf16 nearest to what that leaves.
    Low,
}

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

    /// Rounds the block of a matrix that begins at `row`, `column`; zeros where it reaches past the
    /// matrix.
    pub fn pack(&mut self, source: Source, corner: (usize, usize), layout: Layout) {
        let scale = source.scale;
        match source.part {
            Part::High => self.pack_with(source, corner, layout, |x| round(x * scale)),
            Part::Low => self.pack_with(source, corner, layout, |x| round(x * scale - widen(round(x * scale)))),
        }
    }

    #[inline(always)]
    fn pack_with(
        &mut self,
        Source { values, width, .. }: Source,
        (row, column): (usize, usize),
        layout: Layout,
        round: impl Fn(f32) -> u16,
    ) {
        let rows = (values.len() / width).saturating_sub(row).min(BLOCK);
        let columns = width.saturating_sub(column).min(BLOCK);
        if rows < BLOCK || columns < BLOCK {
            self.0.fill(0);
        }
        for r in 0..rows {
            let source = &values[(row + r) * width + column..][..columns];
            match layout {
                Layout::Left => {
                    let out = &mut self.0[r * BLOCK..][..columns];
                    out.iter_mut().zip(source).for_each(|(out, x)| *out = round(*x));
                }
                Layout::LeftTransposed => {
                    source.iter().enumerate().for_each(|(c, x)| self.0[c * BLOCK + r] = round(*x));
                }
                Layout::Right => {
                    let out = &mut self.0[r / 2 * 2 * BLOCK..][..2 * BLOCK];
                    source.iter().enumerate().for_each(|(c, x)| out[2 * c + r % 2] = round(*x));
                }
                Layout::RightTransposed => source.iter().enumerate().for_each(|(c, x)| {
                    self.0[c / 2 * 2 * BLOCK + 2 * r + c % 2] = round(*x);
                }),
            }
        }
    }
}

fn widen(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The nearest bf16, ties to even, of a finite number.
#[inline(always)]
fn round(x: f32) -> u16 {
    let bits = x.to_bits();
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}
