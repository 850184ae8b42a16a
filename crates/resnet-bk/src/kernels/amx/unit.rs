//! The tile unit's instructions. They are assembly because the language has no stable intrinsics
//! for them.

use super::{Block, Operand};
use resnet_bk_runtime::internal::kernels::Write;
use std::arch::asm;

/// Memory operand of `ldtilecfg`: palette 1, eight tiles of 16 rows and 64 bytes.
#[repr(C, align(64))]
struct TileConfiguration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

pub fn configure() {
    let mut configuration =
        TileConfiguration { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
    configuration.row_bytes[..8].fill(64);
    configuration.rows[..8].fill(16);
    // SAFETY: an `Amx` exists, so the instruction does; the operand is 64 valid bytes. The compiler
    // keeps nothing in tiles.
    #[expect(unsafe_code, reason = "an instruction without intrinsic")]
    unsafe {
        asm!("ldtilecfg [{}]", in(reg) &raw const configuration, options(nostack, readonly));
    }
}

pub fn release() {
    // SAFETY: a session exists, so the instruction does. The compiler keeps nothing in tiles.
    #[expect(unsafe_code, reason = "an instruction without intrinsic")]
    unsafe {
        asm!("tilerelease", options(nostack, nomem));
    }
}

pub fn multiply(out: &mut Block, write: Write, left: &[Operand], right: &[Operand]) {
    // SAFETY: a session exists, so all eight tiles are configured as 16 rows of 64 bytes. Row
    // strides: 64 bytes on the left (its second 16 rows start at 1024), 128 on the right and in the
    // output (their second 16 columns start at 64, the output's second 16 rows at 2048). Every
    // access so lies inside a 2048-byte operand or the 4096-byte output; both slices hold
    // `left.len()` operands.
    #[expect(unsafe_code, reason = "instructions without intrinsics")]
    unsafe {
        asm!(
            "test {accumulate}, {accumulate}",
            "jz 2f",
            "tileloadd tmm0, [{out} + {wide}]",
            "tileloadd tmm1, [{out} + {wide} + 64]",
            "tileloadd tmm2, [{out} + {wide} + 2048]",
            "tileloadd tmm3, [{out} + {wide} + 2112]",
            "jmp 3f",
            "2:",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "3:",
            "test {blocks}, {blocks}",
            "jz 5f",
            "4:",
            "tileloadd tmm4, [{left} + {narrow}]",
            "tileloadd tmm6, [{right} + {wide}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{right} + {wide} + 64]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{left} + {narrow} + 1024]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {left}, 2048",
            "add {right}, 2048",
            "dec {blocks}",
            "jnz 4b",
            "5:",
            "tilestored [{out} + {wide}], tmm0",
            "tilestored [{out} + {wide} + 64], tmm1",
            "tilestored [{out} + {wide} + 2048], tmm2",
            "tilestored [{out} + {wide} + 2112], tmm3",
            accumulate = in(reg) u64::from(write == Write::Accumulate),
            blocks = inout(reg) left.len() => _,
            left = inout(reg) left.as_ptr() => _,
            right = inout(reg) right.as_ptr() => _,
            out = in(reg) std::ptr::from_mut(out),
            narrow = in(reg) 64usize,
            wide = in(reg) 128usize,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}

/// Blocks of an inner size of 32 or 64: the right side stays in tiles while the left side's strips
/// of 16 rows go by.
///
/// # Panics
/// If the right side has another size.
pub fn multiply_each(out: &mut [Block], left: &[Operand], right: &[Operand]) {
    assert!(matches!(right.len(), 1 | 2) && left.len() == out.len() * right.len(), "blocks of the inner size");
    if out.is_empty() {
        return;
    }
    // SAFETY: a session exists, so all eight tiles are configured as 16 rows of 64 bytes. Strides
    // and places are those of `multiply`; a strip is 16 rows, 1024 bytes on the left and 2048 in
    // the output, two strips a block. The left side advances by its whole block, 2048 bytes for
    // each block of the inner size, and holds `out.len()` of them.
    #[expect(unsafe_code, reason = "instructions without intrinsics")]
    unsafe {
        asm!(
            "tileloadd tmm4, [{right} + {wide}]",
            "tileloadd tmm5, [{right} + {wide} + 64]",
            "test {deep}, {deep}",
            "jz 2f",
            "tileloadd tmm6, [{right} + {wide} + 2048]",
            "tileloadd tmm7, [{right} + {wide} + 2112]",
            "2:",
            "mov {strips}, 2",
            "3:",
            "tileloadd tmm2, [{left} + {narrow}]",
            "tilezero tmm0",
            "tdpbf16ps tmm0, tmm2, tmm4",
            "tilezero tmm1",
            "tdpbf16ps tmm1, tmm2, tmm5",
            "test {deep}, {deep}",
            "jz 4f",
            "tileloadd tmm3, [{left} + {narrow} + 2048]",
            "tdpbf16ps tmm0, tmm3, tmm6",
            "tdpbf16ps tmm1, tmm3, tmm7",
            "4:",
            "tilestored [{out} + {wide}], tmm0",
            "tilestored [{out} + {wide} + 64], tmm1",
            "add {left}, 1024",
            "add {out}, 2048",
            "dec {strips}",
            "jnz 3b",
            "add {left}, {deep}",
            "dec {blocks}",
            "jnz 2b",
            // Bytes from the end of a block's first operand to its end.
            deep = in(reg) (right.len() - 1) * 2048,
            blocks = inout(reg) out.len() => _,
            strips = out(reg) _,
            left = inout(reg) left.as_ptr() => _,
            right = in(reg) right.as_ptr(),
            out = inout(reg) out.as_mut_ptr() => _,
            narrow = in(reg) 64usize,
            wide = in(reg) 128usize,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
