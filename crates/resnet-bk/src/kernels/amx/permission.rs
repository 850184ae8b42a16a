//! Whether this process may use the tile unit. The build script, too, compiles this file: it tells
//! the tests whether the machine has the unit.

use std::arch::asm;
use std::arch::x86_64::{__cpuid_count, _xgetbv};

/// `arch_prctl` and its request for a register state that is too large to be given to every
/// process.
const SYS_ARCH_PRCTL: i64 = 158;
const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
/// The tile registers among the register states, and both tile states in XCR0.
const XFEATURE_XTILEDATA: u64 = 18;
const XCR0_TILES: u64 = 3 << 17;

/// Whether the processor has AMX-BF16 and the AVX-512 that goes with it, and the operating system
/// lets this process use it.
pub fn request() -> bool {
    let vectors = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("xsave");
    // Leaf 7: EDX bit 22 is AMX-BF16, bit 24 AMX-TILE. A processor with AVX-512 has the leaf.
    if !vectors || __cpuid_count(7, 0).edx & (1 << 22 | 1 << 24) != (1 << 22 | 1 << 24) {
        return false;
    }
    // SAFETY: XSAVE was detected, and a system that offers AVX-512 has enabled it.
    #[expect(unsafe_code, reason = "reads a control register")]
    let enabled = unsafe { xcr0() };
    if enabled & XCR0_TILES != XCR0_TILES {
        return false;
    }
    let mut result = SYS_ARCH_PRCTL;
    // SAFETY: the call changes nothing but which register states this process may use.
    #[expect(unsafe_code, reason = "the standard library has no such system call")]
    unsafe {
        asm!(
            "syscall",
            inout("rax") result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result == 0
}

#[expect(unsafe_code, reason = "reads a control register")]
#[target_feature(enable = "xsave")]
unsafe fn xcr0() -> u64 {
    // SAFETY: the caller has detected XSAVE.
    unsafe { _xgetbv(0) }
}
