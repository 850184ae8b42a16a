//! Plain training: cross-entropy of the next token.

use super::stage::{RunStage, StageContext};
use crate::batch::Batch;
use crate::checkpoint::Checkpoint;
use crate::config::TrainConfig;
use crate::model::{LanguageModel, Leaves, Output};
use crate::numerics::Precision;
use crate::ops::HeadLoss;
use crate::random::Random;
use crate::tape::Tensor;
use crate::train::{Objective, TrainError, Trained, train};

/// Key of the random stream that initializes a new model.
const FRESH: u64 = 0xf5e54;

/// Objective of a `train` stage.
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropy {
    /// Number format of the matrix products in the head.
    pub precision: Precision,
}

impl Objective for CrossEntropy {
    fn loss(&mut self, model: &LanguageModel, output: &Output, _: &Leaves, batch: &Batch) -> Tensor {
        let loss = HeadLoss { targets: batch.targets.clone(), soft: None, precision: self.precision };
        model.head_loss(loss, &output.hidden)
    }
}

impl RunStage for TrainConfig {
    fn run(&self, checkpoint: &mut Checkpoint, context: StageContext) -> Result<Trained, TrainError> {
        let StageContext { stage, streams, observer, .. } = context;
        if let (Some(model), None) = (&self.model, &checkpoint.training.progress) {
            let seed = Random::keyed(&[stage.seed, stage.number as u64, FRESH]).next_u64();
            checkpoint.model.replace(model.clone(), seed);
        }
        train(checkpoint, stage, streams, &mut CrossEntropy { precision: self.schedule.precision }, observer)
    }
}
