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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Carried;
    use crate::checkpoint::ModelState;
    use crate::config::ModelConfig;
    use resnet_bk_runtime::internal::architecture::Mixer;
    use resnet_bk_runtime::internal::tokenizer::{END_OF_LINE, Pretokenizer, UNKNOWN, Vocabulary};

    #[test]
    fn a_teacher_goes_on_from_its_own_state_until_it_forgets_it() {
        let words = [UNKNOWN, END_OF_LINE].into_iter().map(str::to_owned).chain((2..50).map(|word| word.to_string()));
        let vocabulary = Arc::new(Vocabulary::new(words.collect(), Pretokenizer::Whitespace).expect("words differ"));
        for mixer in [Mixer::Diagonal, Mixer::Propagator] {
            let tiny = ModelConfig::preset("tiny").expect("a preset");
            let config = ModelConfig { mixer, positions: false, ..tiny };
            let mut teacher = Teacher::new(&ModelState::initialize(config, vocabulary.clone(), 1).parameters);
            let tokens: Vec<u32> = (0..24).map(|i| i * 7 % 50).collect();
            let mut hidden = |from: usize, to: usize, carried| {
                let ids = || tokens[from..to].to_vec().into();
                let batch = Batch { inputs: ids(), targets: ids(), batch_size: 1, n_seq: to - from, carried };
                teacher.forward(&batch).hidden.values().to_vec()
            };
            let whole = hidden(0, 24, Carried::No);
            let windows = [(0, 8, Carried::Begin), (8, 11, Carried::Continue), (11, 24, Carried::Continue)];
            let windows = windows.map(|(from, to, carried)| hidden(from, to, carried));
            assert_eq!(windows.concat(), whole, "{mixer:?}");
            let without = hidden(11, 24, Carried::No);
            assert_ne!(without, windows[2], "{mixer:?}: the state matters");
            teacher.reset_state();
            let batch = |ids: &[u32]| ids.to_vec().into();
            let batch = Batch {
                inputs: batch(&tokens[11..]),
                targets: batch(&tokens[11..]),
                batch_size: 1,
                n_seq: 13,
                carried: Carried::Continue,
            };
            assert_eq!(teacher.forward(&batch).hidden.values(), without, "{mixer:?}");
        }
    }
}
