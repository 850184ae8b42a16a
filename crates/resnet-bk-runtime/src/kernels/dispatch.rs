//! Instruction sets that kernels are compiled for, and their selection at run time.

/// An instruction set of this machine. A value proves that the machine has it: values beyond the
/// target of the build come from [`detect`](Self::detect) or [`available`](Self::available) only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstructionSet {
    /// The instructions that the build targets.
    Portable,
    /// AVX2.
    Avx2(Detected),
    /// AVX-512 with its F, BW, VL and DQ extensions.
    Avx512(Detected),
}

/// Proof that the processor has the instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detected(());

impl InstructionSet {
    /// The best instruction set of this machine. The standard library caches the detection, so a
    /// call costs a few loads.
    #[inline]
    pub fn detect() -> Self {
        avx512().or_else(avx2).unwrap_or(Self::Portable)
    }

    /// All instruction sets of this machine, the best one last.
    pub fn available() -> impl Iterator<Item = Self> {
        [Some(Self::Portable), avx2(), avx512()].into_iter().flatten()
    }
}

#[inline]
fn avx2() -> Option<InstructionSet> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        return Some(InstructionSet::Avx2(Detected(())));
    }
    None
}

#[inline]
fn avx512() -> Option<InstructionSet> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
    {
        return Some(InstructionSet::Avx512(Detected(())));
    }
    None
}

/// Defines two functions. `fn name(args)` runs `body` with the best instruction set of the machine,
/// `fn name_on(set, args)` with a given one. The module must import [`InstructionSet`]. Functions
/// that `body` calls must be `#[inline(always)]`, so that each copy is compiled with its
/// instruction set.
///
/// ```text
/// pub fn name(args) -> result = name_on(set) => body
/// ```
#[macro_export]
#[doc(hidden)]
macro_rules! dispatched {
    (
        $(#[$doc:meta])*
        $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $name_on:ident($set:ident) => $body:expr
    ) => {
        $(#[$doc])*
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            $name_on(InstructionSet::detect(), $($arg),*)
        }

        fn $name_on($set: InstructionSet, $($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
                fn avx512($set: InstructionSet, $($arg: $ty),*) $(-> $ret)? {
                    let _ = $set;
                    $body
                }
                #[target_feature(enable = "avx2")]
                fn avx2($set: InstructionSet, $($arg: $ty),*) $(-> $ret)? {
                    let _ = $set;
                    $body
                }
                match $set {
                    InstructionSet::Portable => {}
                    InstructionSet::Avx2(proof) => {
                        // SAFETY: the set proves that the processor has AVX2.
                        #[expect(unsafe_code, reason = "calls a function compiled for detected instructions")]
                        return unsafe { avx2(InstructionSet::Avx2(proof), $($arg),*) };
                    }
                    InstructionSet::Avx512(proof) => {
                        // SAFETY: the set proves that the processor has every feature that `avx512`
                        // enables.
                        #[expect(unsafe_code, reason = "calls a function compiled for detected instructions")]
                        return unsafe { avx512(InstructionSet::Avx512(proof), $($arg),*) };
                    }
                }
            }
            let _ = $set;
            $body
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_sets_start_with_portable_and_end_with_the_best() {
        assert_eq!(InstructionSet::available().next(), Some(InstructionSet::Portable));
        assert_eq!(InstructionSet::available().last(), Some(InstructionSet::detect()));
    }
}
