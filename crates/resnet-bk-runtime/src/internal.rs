//! The internals of the library, for `resnet-bk`, which trains models with the same arithmetic.
//!
//! This module is outside semantic versioning: anything in it may change in any version. A crate
//! that uses it must depend on one exact version.

macro_rules! modules {
    ($($module:ident),* $(,)?) => {
        $(pub mod $module {
            pub use crate::$module::*;
        })*
    };
}

modules!(
    architecture,
    architecture_validation,
    artifact,
    coding,
    embedding,
    head,
    kernels,
    model,
    router,
    quantization,
    rank_curve,
    resolvent,
    sample,
    score,
    tensor_id,
    tensor_spec,
    tokenizer,
);

#[cfg(feature = "writer")]
modules!(replace_file);

pub use crate::dispatched;
