//! Run-time choice of the instruction set for bodies that the compiler vectorizes.

/// Defines `fn name(args)` that runs `body(args)` compiled for AVX-512, AVX2 or the build's own target, whichever the processor
/// has. `body` must be `#[inline(always)]`, so that each copy is compiled with its instruction set.
#[macro_export]
#[doc(hidden)]
macro_rules! dispatched {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:ident) => {
        $(#[$doc])*
        #[expect(clippy::allow_attributes, reason = "the lint below only fires for some bodies")]
        #[allow(clippy::too_many_arguments, reason = "kernels take slices and their sizes")]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
                fn avx512($($arg: $ty),*) $(-> $ret)? {
                    $body($($arg),*)
                }
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $ty),*) $(-> $ret)? {
                    $body($($arg),*)
                }
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq")
                {
                    // SAFETY: the processor has every feature that `avx512` enables.
                    #[expect(unsafe_code, reason = "calls a function compiled for detected instructions")]
                    return unsafe { avx512($($arg),*) };
                }
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has AVX2.
                    #[expect(unsafe_code, reason = "calls a function compiled for detected instructions")]
                    return unsafe { avx2($($arg),*) };
                }
            }
            $body($($arg),*)
        }
    };
}
