//! The frozen model that a student learns from.

use crate::batch::Batch;
use crate::device::Device;
use crate::model::{LanguageModel, Leaves, Mode, Output, forward_of_step};
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
}

impl Teacher {
    /// A teacher with these parameters.
    pub fn new(parameters: &Parameters) -> Self {
        let model = LanguageModel::bind(parameters.architecture(), Gradient::Exact, &Leaves::plain(parameters));
        let head = Arc::new(model.frozen_head());
        let (architecture, device) = (parameters.architecture().clone(), parameters.device().clone());
        Self { model, head, architecture, device }
    }

    /// Forward pass on a batch, as part of a training step.
    pub fn forward(&self, batch: &Batch) -> Output {
        let forward = || self.model.forward(&batch.inputs, batch.n_seq, &mut Mode::Evaluate);
        forward_of_step(&self.architecture, &self.device, forward)
    }

    /// [`forward`](Self::forward), on a GPU beside the main stream until [`join`](Self::join).
    pub fn forward_beside(&self, batch: &Batch) -> Output {
        match &self.device {
            Device::Cpu => self.forward(batch),
            Device::Cuda(cuda) => {
                batch.inputs.on(cuda);
                cuda.fork(|| self.forward(batch))
            }
        }
    }

    /// Waits for [`forward_beside`](Self::forward_beside).
    pub fn join(&self) {
        if let Device::Cuda(cuda) = &self.device {
            cuda.join();
        }
    }

    /// The teacher's distributions as soft targets with weight `alpha`. The hard targets have
    /// weight `1 - alpha`.
    pub fn soft_targets(&self, output: &Output, temperature: f32, alpha: f32) -> SoftTargets {
        SoftTargets { hidden: output.hidden.clone().into_buffer(), head: self.head.clone(), temperature, alpha }
    }
}
