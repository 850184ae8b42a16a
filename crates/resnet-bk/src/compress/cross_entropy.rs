//! Plain training: the loss of the next token.

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

/// Sets the stream of random numbers of a fresh model apart from the others of the seed.
const FRESH: u64 = 0xf5e54;

/// The stage's objective.
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropy {
    /// Number format of the head's products.
    pub precision: Precision,
}

impl Objective for CrossEntropy {
    fn loss(&mut self, model: &LanguageModel, output: &Output, _: &Leaves, batch: &Batch) -> Tensor {
        let loss = HeadLoss { targets: batch.targets.as_slice().into(), soft: None, precision: self.precision };
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
