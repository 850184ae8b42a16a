//! The Python package `resnet_bk`: this crate is its compiled part, `resnet_bk._native`. The rest is
//! in `python/resnet_bk`.
//!
//! ```text
//! language_model.rs   using a model: LanguageModel, State, Generation
//! original.rs         checkpoints of Project ResNet-BK: OriginalModel
//! run.rs              making one: a run with events, Ctrl-C and errors of Python
//! recipe.rs corpus.rs what a run is given
//! components.rs       quantizer, pruner and distillation loss on arrays
//! array.rs error.rs   NumPy arrays; exceptions with hints
//! ```

mod array;
mod components;
mod corpus;
mod error;
mod language_model;
mod original;
mod recipe;
mod run;

use pyo3::prelude::*;

#[global_allocator]
static ALLOCATOR: resnet_bk::Allocator = resnet_bk::Allocator;

#[pymodule]
mod _native {
    #[pymodule_export]
    use super::components::{distillation_loss, prune_mask, quantize};
    #[pymodule_export]
    use super::language_model::{Generation, LanguageModel, State};
    #[pymodule_export]
    use super::original::{OriginalModel, load_original};
    #[pymodule_export]
    use super::recipe::recipe_names;
    #[pymodule_export]
    use super::run::{execute, succeeded, use_threads};
}
