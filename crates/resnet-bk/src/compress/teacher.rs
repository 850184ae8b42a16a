//! The frozen model that a student learns from.

use crate::batch::Batch;
use crate::device::Device;
use crate::model::{CarriedState, LanguageModel, Leaves, Mode, Output, forward_of_step};
use crate::numerics::Gradient;
use crate::ops::{FrozenHead, SoftTargets};
use crate::parameters::Parameters;
use resnet_bk_runtime::internal::architecture::Architecture;
use std::sync::Arc;

/// A frozen model.
#[derive(Debug)]
pub struct Teacher {
    model: LanguageModel,
    head: Arc<FrozenHead>,
    architecture: Architecture,
    device: Device,
    /// The state after the windows of the last batch.
    carried: CarriedState,
}

impl Teacher {
    /// A teacher with these parameters.
    pub fn new(parameters: &Parameters) -> Self {
        let model = LanguageModel::bind(parameters.architecture(), Gradient::Exact, &Leaves::plain(parameters));
        let head = Arc::new(model.frozen_head());
        let (architecture, device) = (parameters.architecture().clone(), parameters.device().clone());
        Self { model, head, architecture, device, carried: CarriedState::default() }
    }

    /// Forgets the state that is carried from batch to batch.
    pub fn reset_state(&mut self) {
        self.carried.reset();
    }

    /// Forward pass on a batch, as part of a training step. The teacher carries its own state, if the
    /// batch does.
    pub fn forward(&mut self, batch: &Batch) -> Output {
        let before = self.carried.before(batch, &self.architecture, &self.device);
        let forward = || self.model.forward_batch(before, batch, &mut Mode::Evaluate);
        let (output, after) = forward_of_step(&self.architecture, &self.device, forward);
        self.carried.replace(after);
        output
    }

    /// The teacher's distributions as soft targets with weight `alpha`. The hard targets have
    /// weight `1 - alpha`.
    pub fn soft_targets(&self, output: &Output, temperature: f32, alpha: f32) -> SoftTargets {
        SoftTargets { hidden: output.hidden.clone().into_buffer(), head: self.head.clone(), temperature, alpha }
    }
}
