//! Blocks of 32 x 32 numbers.

use super::BLOCK;

/// Float32 sums, row by row.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Block(pub [[f32; BLOCK]; BLOCK]);

impl Block {
    /// All zero.
    pub const ZERO: Self = Self([[0.0; BLOCK]; BLOCK]);

    /// Copies the block into a row-major matrix. Rows and columns outside the matrix are skipped.
    ///
    /// # Shapes
    /// - `out`: `[rows, width]`; the block begins at `row`, `column`
    pub fn store(&self, out: &mut [f32], width: usize, (row, column): (usize, usize)) {
        let columns = width.saturating_sub(column).min(BLOCK);
        for (out, block) in out[row * width..].chunks_mut(width).zip(&self.0) {
            out[column..column + columns].copy_from_slice(&block[..columns]);
        }
    }

    /// Copies the transposed and scaled block into a row-major matrix. Rows and columns outside the
    /// matrix are skipped.
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

/// bf16 numbers in the left or right layout of the module's picture.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Operand(pub(super) [u16; BLOCK * BLOCK]);

/// A row-major float32 matrix to convert into operands.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// `[rows, width]`.
    pub values: &'a [f32],
    /// Columns.
    pub width: usize,
    /// Factor on every number.
    pub scale: f32,
    /// Which part of every number to convert.
    pub part: Part,
}

/// A part of a float32 number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The nearest bf16.
    High,
    /// The bf16 nearest to the remainder.
    Low,
}

/// Layout of the operand, and the direction of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Left operand; the source's columns are the inner dimension.
    Left,
    /// Left operand; the source's rows are the inner dimension.
    LeftTransposed,
    /// Right operand; the source's rows are the inner dimension.
    Right,
    /// Right operand; the source's columns are the inner dimension.
    RightTransposed,
}

impl Operand {
    /// All zero.
    pub const ZERO: Self = Self([0; BLOCK * BLOCK]);

    /// Converts the block of a matrix that begins at `row`, `column`. Elements outside the matrix
    /// are zero.
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

/// The bf16 nearest to a finite number; ties go to even.
#[inline(always)]
fn round(x: f32) -> u16 {
    let bits = x.to_bits();
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}
