//! The model that another one learns from; it does not change.

use crate::batch::Batch;
use crate::model::{LanguageModel, Leaves, Mode, Output};
use crate::numerics::Gradient;
use crate::ops::{FrozenHead, SoftTargets};
use crate::parameters::Parameters;
use std::sync::Arc;

/// A frozen model.
#[derive(Debug)]
pub struct Teacher {
    model: LanguageModel,
    head: Arc<FrozenHead>,
}

impl Teacher {
    /// Of these values.
    pub fn new(parameters: &Parameters) -> Self {
        let model = LanguageModel::bind(parameters.architecture(), Gradient::Exact, &Leaves::plain(parameters));
        let head = Arc::new(model.frozen_head());
        Self { model, head }
    }

    /// What it makes of a batch.
    pub fn forward(&self, batch: &Batch) -> Output {
        self.model.forward(&batch.inputs, batch.n_seq, &mut Mode::Evaluate)
    }

    /// Its distributions as targets. `alpha` is their weight; the hard targets have the rest.
    pub fn soft_targets(&self, output: &Output, temperature: f32, alpha: f32) -> SoftTargets {
        SoftTargets { hidden: output.hidden.clone().into_buffer(), head: self.head.clone(), temperature, alpha }
    }
}
