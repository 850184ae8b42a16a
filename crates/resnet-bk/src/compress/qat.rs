//! Quantization-aware training: quantizers go in before the first step, then the model trains
//! through them.

use super::calibration::calibrate;
use super::cross_entropy::CrossEntropy;
use super::scale_initialization::{fit_curve, initialize_scales};
use super::stage::{RunStage, StageContext};
use crate::batch::Batch;
use crate::checkpoint::{Checkpoint, ModelState};
use crate::config::QatConfig;
use crate::model::{LanguageModel, Leaves, Output};
use crate::observer::Event;
use crate::tape::Tensor;
use crate::train::{Objective, StepContext, TrainError, Trained, train};
use resnet_bk_runtime::internal::architecture::Architecture;
use resnet_bk_runtime::internal::quantization::{MAX_BITS, QuantizationPolicy};

/// The stage's objective.
#[derive(Clone, Debug)]
pub struct QuantizationAware<'a> {
    /// Its settings.
    pub config: &'a QatConfig,
    /// The run's seed, for the calibration sample.
    pub seed: u64,
}

impl Objective for QuantizationAware<'_> {
    fn before_step(&mut self, model: &mut ModelState, context: &mut StepContext) {
        if context.step == 0 {
            quantize(model, self.config, self.seed, context);
        }
    }

    fn loss(&mut self, model: &LanguageModel, output: &Output, leaves: &Leaves, batch: &Batch) -> Tensor {
        CrossEntropy { precision: self.config.schedule.precision }.loss(model, output, leaves, batch)
    }
}

impl RunStage for QatConfig {
    fn run(&self, checkpoint: &mut Checkpoint, context: StageContext) -> Result<Trained, TrainError> {
        let StageContext { stage, streams, observer, .. } = context;
        let mut objective = QuantizationAware { config: self, seed: stage.seed };
        train(checkpoint, stage, streams, &mut objective, observer)
    }
}

/// Puts quantizers into a model: weights by the policy, activations by calibration.
pub fn quantize(model: &mut ModelState, config: &QatConfig, seed: u64, context: &mut StepContext) {
    let policy = config.quantization.clone().unwrap_or_else(|| default_policy(model.config.quantization_bits));
    let activation_bits = policy.activation_bits;
    // Quantized weights first: they shape the activations that are calibrated. Old steps go,
    // whatever they were.
    let weights = Architecture {
        quantization: Some(QuantizationPolicy { activation_bits: None, ..policy }),
        ..model.parameters.architecture().clone()
    };
    let mut parameters = model.parameters.clone().with_architecture(weights);
    fit_curve(&mut parameters);
    initialize_scales(&mut parameters);
    let mut calibration_samples = 0;
    if let Some(bits) = activation_bits {
        (parameters, calibration_samples) =
            calibrate(parameters, &context.streams.train, config.calibration_samples, bits, seed);
    }
    model.parameters = parameters;
    model.compression.quantization = Some(config.clone());
    context.observer.event(&Event::Quantized { stage: context.stage, calibration_samples });
}

/// The policy of a configuration that only says the tables' bits; 32 keeps them in float.
fn default_policy(table_bits: u8) -> QuantizationPolicy {
    QuantizationPolicy {
        embedding_bits: (table_bits <= MAX_BITS).then_some(table_bits),
        ..QuantizationPolicy::default()
    }
}
