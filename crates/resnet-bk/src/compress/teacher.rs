//! The frozen model that a student learns from.

use crate::batch::Batch;
use crate::buffer::Buffer;
use crate::device::Device;
use crate::model::{CarriedState, LanguageModel, Leaves, Mode, Output, forward_of_step};
use crate::numerics::Gradient;
use crate::ops::{FrozenHead, SoftTargets};
use crate::parameters::Parameters;
use resnet_bk_runtime::internal::architecture::Architecture;
use std::sync::Arc;

/// A forward pass: its output, and the state after it.
type Pass<'a> = &'a dyn Fn() -> (Output, Vec<Buffer>);

/// A frozen model.
#[derive(Debug)]
pub struct Teacher {
    model: LanguageModel,
    head: Arc<FrozenHead>,
    architecture: Architecture,
    device: Device,
    /// The state that is carried to the next batch.
    carried: CarriedState,
    /// The state after the last batch, until the streams join.
    after: Vec<Buffer>,
}

impl Teacher {
    /// A teacher with these parameters.
    pub fn new(parameters: &Parameters) -> Self {
        let model = LanguageModel::bind(parameters.architecture(), Gradient::Exact, &Leaves::plain(parameters));
        let head = Arc::new(model.frozen_head());
        let (architecture, device) = (parameters.architecture().clone(), parameters.device().clone());
        Self { model, head, architecture, device, carried: CarriedState::default(), after: Vec::new() }
    }

    /// Forgets the state that is carried from batch to batch.
    pub fn reset_state(&mut self) {
        self.carried.reset();
    }

    /// Forward pass on a batch, as part of a training step. The teacher carries its own state, if the
    /// batch does.
    pub fn forward(&mut self, batch: &Batch) -> Output {
        let output = self.launch(batch, |_, pass| pass());
        self.join();
        output
    }

    /// [`forward`](Self::forward), on a GPU beside the main stream until [`join`](Self::join).
    pub fn forward_beside(&mut self, batch: &Batch) -> Output {
        self.launch(batch, |device, pass| match device {
            Device::Cpu => pass(),
            Device::Cuda(cuda) => {
                batch.inputs.on(cuda);
                cuda.fork(pass)
            }
        })
    }

    /// Waits for [`forward_beside`](Self::forward_beside). Its state takes the place of the one before.
    pub fn join(&mut self) {
        if let Device::Cuda(cuda) = &self.device {
            cuda.join();
        }
        self.carried.replace(std::mem::take(&mut self.after));
    }

    fn launch(&mut self, batch: &Batch, launch: impl FnOnce(&Device, Pass) -> (Output, Vec<Buffer>)) -> Output {
        let Self { model, architecture, device, carried, .. } = self;
        // A new state is made on the main stream.
        let before = carried.before(batch, architecture, device);
        let pass = || forward_of_step(architecture, device, || model.forward_batch(before, batch, &mut Mode::Evaluate));
        let (output, after) = launch(device, &pass);
        self.after = after;
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
