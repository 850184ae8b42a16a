//! Transposes a square block of numbers.

use super::dispatch::InstructionSet;

/// Rows and columns of a block.
pub const SIDE: usize = 16;

/// A row of a block.
pub type Row = [f32; SIDE];

/// A square block; each row fills a cache line.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(align(64))]
pub struct Square {
    /// The rows.
    pub rows: [Row; SIDE],
}

/// `out.rows[j][i] = rows[i][j]`.
#[inline(always)]
pub fn transpose(set: InstructionSet, rows: [&Row; SIDE]) -> Square {
    match set {
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512(_) => {
            // SAFETY: the set proves that the processor has AVX-512.
            #[expect(unsafe_code, reason = "calls a function compiled for detected instructions")]
            unsafe {
                avx512::transpose(rows)
            }
        }
        _ => plain(rows),
    }
}

fn plain(rows: [&Row; SIDE]) -> Square {
    Square { rows: std::array::from_fn(|j| std::array::from_fn(|i| rows[i][j])) }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::{Row, SIDE, Square};
    use std::arch::x86_64::{
        __m512, _mm512_castpd_ps, _mm512_castps_pd, _mm512_loadu_ps, _mm512_shuffle_f32x4, _mm512_store_ps,
        _mm512_unpackhi_pd, _mm512_unpackhi_ps, _mm512_unpacklo_pd, _mm512_unpacklo_ps,
    };

    /// Interleaves pairs of rows within groups of four numbers, then pairs of pairs. Then exchanges
    /// the groups.
    #[target_feature(enable = "avx512f")]
    #[inline]
    pub fn transpose(rows: [&Row; SIDE]) -> Square {
        // SAFETY: each row has the 16 numbers that are loaded.
        #[expect(unsafe_code, reason = "loads from arrays of the register's size")]
        let rows: [__m512; 16] = std::array::from_fn(|i| unsafe { _mm512_loadu_ps(rows[i].as_ptr()) });
        let ones: [__m512; 16] = std::array::from_fn(|i| {
            let (a, b) = (rows[i & !1], rows[i | 1]);
            if i % 2 == 0 { _mm512_unpacklo_ps(a, b) } else { _mm512_unpackhi_ps(a, b) }
        });
        // `twos[4 r + c]`: column c of each group of four, rows 4 r to 4 r + 3.
        let twos: [__m512; 16] = std::array::from_fn(|i| {
            let first = (i & !3) + (i & 2) / 2;
            let (a, b) = (_mm512_castps_pd(ones[first]), _mm512_castps_pd(ones[first + 2]));
            _mm512_castpd_ps(if i % 2 == 0 { _mm512_unpacklo_pd(a, b) } else { _mm512_unpackhi_pd(a, b) })
        });
        const EVEN: i32 = 0b10_00_10_00;
        const ODD: i32 = 0b11_01_11_01;
        let mut out = Square { rows: [[0.0; SIDE]; SIDE] };
        for column in 0..4 {
            let [a, b, c, d] = [0, 4, 8, 12].map(|row| twos[row + column]);
            // Groups 0 and 2, or 1 and 3, of rows 0 to 7 and of rows 8 to 15.
            let even = (_mm512_shuffle_f32x4::<EVEN>(a, b), _mm512_shuffle_f32x4::<EVEN>(c, d));
            let odd = (_mm512_shuffle_f32x4::<ODD>(a, b), _mm512_shuffle_f32x4::<ODD>(c, d));
            let columns = [
                _mm512_shuffle_f32x4::<EVEN>(even.0, even.1),
                _mm512_shuffle_f32x4::<EVEN>(odd.0, odd.1),
                _mm512_shuffle_f32x4::<ODD>(even.0, even.1),
                _mm512_shuffle_f32x4::<ODD>(odd.0, odd.1),
            ];
            for (group, x) in columns.into_iter().enumerate() {
                // SAFETY: a row of `out` has the 16 numbers that are stored, and starts at a
                // multiple of 64 bytes.
                #[expect(unsafe_code, reason = "stores into an array of the register's size")]
                unsafe {
                    _mm512_store_ps(out.rows[4 * group + column].as_mut_ptr(), x);
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_columns() {
        let rows: [Row; SIDE] = std::array::from_fn(|i| std::array::from_fn(|j| (SIDE * i + j) as f32));
        for set in InstructionSet::available() {
            let columns = transpose(set, rows.each_ref());
            assert_eq!(columns, plain(rows.each_ref()), "{set:?}");
            assert_eq!(columns.rows[3][5], rows[5][3]);
            assert_eq!(transpose(set, columns.rows.each_ref()).rows, rows);
        }
    }
}
