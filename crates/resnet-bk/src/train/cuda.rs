//! Training steps on a GPU.
//!
//! The first step of a kind is launched kernel by kernel, the second is recorded as a graph, and the
//! graph is launched from then on. A step is of the same kind as long as sizes, masks, quantizers
//! and the places of all parameters stay the same. Windows of several lengths have a graph for each.
//! Batch, learning rate, lambda and random seed are read from device memory, and losses are logged
//! there, so the host does not wait for each step. A state that is carried to the next batch is
//! copied to its place at the end of the step.

use super::step::{Optimization, StepOutcome, gradients};
use super::{Objective, decays};
use crate::batch::{Batch, Carried};
use crate::checkpoint::ModelState;
use crate::device::cuda::{Arg, Array, Graph, StepNumbers, launch};
use crate::device::{Cuda, DeviceError, catch};
use crate::model::{CarriedState, Packed};
use crate::parameters::{Moments, Parameter};
use crate::random::StepStream;
use resnet_bk_runtime::internal::architecture::Architecture;

/// Steps whose outcomes the device logs before the host reads them.
const LOGGED: usize = 64;
/// Segments of a launch, elements of a block, and flags; as in `cuda.cu`.
const SEGMENTS: usize = 56;
const CHUNK: usize = 4096;
const DECAYS: u32 = 1;
const MAY_BE_UNUSED: u32 = 2;

/// As in `cuda.cu`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Segment {
    values: u64,
    first: u64,
    second: u64,
    gradient: u64,
    mask: u64,
    steps: u64,
    average: u64,
    len: u32,
    flags: u32,
}

/// As in `cuda.cu`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Segments {
    of: [Segment; SEGMENTS],
    ends: [u32; SEGMENTS],
    count: u32,
    base: u32,
    first_block: u32,
}

impl Segments {
    fn blocks(&self) -> usize {
        self.ends[self.count as usize - 1] as usize
    }
}

/// What must be equal for recorded steps to be launched again.
#[derive(PartialEq)]
struct Kind {
    architecture: Architecture,
    places: Vec<[u64; 6]>,
}

/// Steps with windows of one length.
struct StepsOfLength {
    /// Their batch, at a fixed place in device memory.
    batch: Batch,
    /// Their graph, once it is recorded.
    graph: Option<Graph>,
}

/// Takes steps on a GPU.
pub struct CudaSteps {
    cuda: Cuda,
    /// Kind of the last step.
    kind: Option<Kind>,
    /// Steps of that kind, for each length of a window.
    of_lengths: Vec<StepsOfLength>,
    /// The state after the windows of the last step.
    carried: CarriedState,
    /// `[LOGGED, 2]`: losses and gradient norms.
    log: Array,
    pending: usize,
    /// `OptimizerState` of `cuda.cu`.
    state: Array<u32>,
}

impl CudaSteps {
    pub(super) fn new(cuda: &Cuda) -> Self {
        let (log, state) = (cuda.zeros(2 * LOGGED), cuda.zeros_of(2));
        let (carried, of_lengths) = (CarriedState::default(), Vec::new());
        Self { cuda: cuda.clone(), kind: None, of_lengths, carried, log, pending: 0, state }
    }

    pub(super) fn take(
        &mut self,
        state: &mut ModelState,
        auxiliary: &mut [Parameter],
        batch: &Batch,
        objective: &mut dyn Objective,
        optimization: &Optimization,
    ) {
        assert!(self.pending < LOGGED, "the outcomes are read before the log is full");
        self.cuda.set_gradient_precision(optimization.schedule.precision);
        self.cuda.set_step_numbers(StepNumbers {
            seed: StepStream::new(&optimization.random).seed(),
            rate: optimization.rate,
            lambda: optimization.lambda as f32,
            slot: self.pending as u32,
            average: optimization.average,
        });
        if batch.carried == Carried::Begin {
            self.carried.reset();
        }
        let kind = self.kind(state, auxiliary);
        if self.kind.as_ref() != Some(&kind) {
            // Frees the memory of the graphs before.
            self.of_lengths.clear();
            self.kind = Some(kind);
        }
        match self.staged(batch) {
            Some(mut steps) => {
                let graph = steps.graph.take().unwrap_or_else(|| {
                    let cuda = self.cuda.clone();
                    cuda.record(|| self.launch_step(&steps.batch, state, auxiliary, objective, optimization))
                });
                graph.launch();
                self.of_lengths.push(StepsOfLength { graph: Some(graph), ..steps });
            }
            None => {
                let cuda = self.cuda.clone();
                catch(|| self.launch_step(batch, state, auxiliary, objective, optimization)).unwrap_or_else(|error| {
                    cuda.trim();
                    self.name_batch_that_fits(error, batch, state, auxiliary, objective, optimization).throw()
                });
                self.of_lengths.push(StepsOfLength { batch: batch.clone(), graph: None });
            }
        }
        self.pending += 1;
    }

    pub(super) fn outcomes(&mut self, wait: bool) -> Vec<StepOutcome> {
        if self.pending == 0 || !wait && self.pending < LOGGED {
            return Vec::new();
        }
        let log = self.cuda.download(&self.log);
        let outcome = |pair: &[f32]| StepOutcome { loss: pair[0], gradient_norm: f64::from(pair[1]) };
        log.chunks(2).take(std::mem::take(&mut self.pending)).map(outcome).collect()
    }

    /// Takes out the steps with windows as long as the batch's, with the batch at its place in device
    /// memory. `None` for the first such step.
    fn staged(&mut self, batch: &Batch) -> Option<StepsOfLength> {
        let shape = |batch: &Batch| (batch.batch_size, batch.n_seq);
        let index = self.of_lengths.iter().position(|steps| shape(&steps.batch) == shape(batch))?;
        let mut steps = self.of_lengths.swap_remove(index);
        steps.batch.inputs.replace(&self.cuda, &batch.inputs);
        steps.batch.targets.replace(&self.cuda, &batch.targets);
        Some(steps)
    }

    /// Makes sure that no one else holds the trained numbers, and lists where they are.
    fn kind(&self, state: &mut ModelState, auxiliary: &mut [Parameter]) -> Kind {
        let cuda = &self.cuda;
        let place = |parameter: &mut Parameter| {
            if !parameter.spec.is_trained() {
                return [parameter.values.array(cuda).pointer(), 0, 0, 0, 0, 0];
            }
            if parameter.moments.is_empty() {
                parameter.moments = Moments::zeros(parameter.values.len());
            }
            let Moments { first, second, steps } = &mut parameter.moments;
            let changed = [&mut parameter.values, first, second, steps];
            let [values, first, second, steps] = changed.map(|buffer| buffer.array_mut(cuda).pointer());
            let mask = parameter.mask.as_ref().map_or(0, |mask| mask.array(cuda).pointer());
            let average = match parameter.average.is_empty() {
                true => 0,
                false => parameter.average.array_mut(cuda).pointer(),
            };
            [values, first, second, steps, mask, average]
        };
        let architecture = state.parameters.architecture().clone();
        let places = state.parameters.as_mut_slice().iter_mut().chain(auxiliary).map(place).collect();
        Kind { architecture, places }
    }

    /// Adds to an error about memory how many windows fit: half as many, or a quarter, and so on.
    /// Only gradients are computed; the parameters stay as they are.
    fn name_batch_that_fits(
        &self,
        error: DeviceError,
        whole: &Batch,
        state: &ModelState,
        auxiliary: &[Parameter],
        objective: &mut dyn Objective,
        optimization: &Optimization,
    ) -> DeviceError {
        let DeviceError::OutOfMemory { needed, free, total, held, .. } = error else { return error };
        if !state.parameters.ranks().are_alone() {
            // The others may be elsewhere.
            return error;
        }
        let halves = std::iter::successors(Some(whole.batch_size / 2), |size| Some(size / 2));
        let batch = halves.take_while(|&size| size > 0).find(|&size| {
            let part = |ids: &[u32]| ids[..size * whole.n_seq].to_vec().into();
            let smaller =
                Batch { inputs: part(&whole.inputs), targets: part(&whole.targets), batch_size: size, ..*whole };
            let fits = catch(|| {
                let carried = &mut CarriedState::default();
                drop(gradients(state, auxiliary, &smaller, carried, objective, optimization));
            })
            .is_ok();
            self.cuda.trim();
            fits
        });
        DeviceError::OutOfMemory { needed, free, total, held, batch }
    }

    fn launch_step(
        &mut self,
        batch: &Batch,
        state: &ModelState,
        auxiliary: &[Parameter],
        objective: &mut dyn Objective,
        optimization: &Optimization,
    ) {
        let (loss, gradients) = gradients(state, auxiliary, batch, &mut self.carried, objective, optimization);
        let cuda = &self.cuda;
        let with_gradient = state.parameters.iter().chain(auxiliary).filter_map(|parameter| {
            let gradient = gradients.get(&parameter.spec.id)?;
            Some(self.segment(parameter, gradient.array(cuda)))
        });
        let launches = launches(&with_gradient.collect::<Vec<Segment>>());
        let segments: usize = launches.iter().map(|launch| launch.count as usize).sum();
        let blocks: usize = launches.iter().map(Segments::blocks).sum();
        let (partial, nonzero) = (cuda.array_of::<f64>(blocks), cuda.zeros_of::<u32>(segments));
        for launch in &launches {
            launch!(cuda, "gradient_squares", launch.blocks(), 256, Arg::by_value(launch), &partial, &nonzero);
        }
        let (loss, clip) = (loss.buffer().array(cuda), state.config.grad_clip);
        let step = cuda.step_numbers();
        launch!(cuda, "gradient_norm", 1usize, 1024, &partial, blocks, loss, clip, &self.state, &self.log, step);
        let schedule = optimization.schedule;
        for launch in &launches {
            launch!(
                cuda,
                "adamw",
                launch.blocks(),
                256,
                Arg::by_value(launch),
                &nonzero,
                &self.state,
                step,
                Arg::double(schedule.beta1),
                Arg::double(schedule.beta2),
                Arg::double(schedule.weight_decay)
            );
            launch!(cuda, "count_steps", 1usize, SEGMENTS, Arg::by_value(launch), &nonzero, &self.state);
        }
    }

    fn segment(&self, parameter: &Parameter, gradient: &Array) -> Segment {
        let cuda = &self.cuda;
        let pointer = |buffer: &crate::Buffer| buffer.array(cuda).pointer();
        let Moments { first, second, steps } = &parameter.moments;
        let decays = if decays(parameter.spec.role) { DECAYS } else { 0 };
        // The gradient of an expert without tokens is zero, and counts as none.
        let packed = Packed::holding(parameter.spec.id.tensor()).is_some();
        Segment {
            values: pointer(&parameter.values),
            first: pointer(first),
            second: pointer(second),
            gradient: gradient.pointer(),
            mask: parameter.mask.as_ref().map_or(0, |mask| mask.array(cuda).pointer()),
            steps: pointer(steps),
            average: if parameter.average.is_empty() { 0 } else { pointer(&parameter.average) },
            len: gradient.len() as u32,
            flags: decays | if packed { MAY_BE_UNUSED } else { 0 },
        }
    }
}

/// Groups segments by launch.
fn launches(segments: &[Segment]) -> Vec<Segments> {
    let (mut base, mut first_block) = (0, 0);
    let launch = |segments: &[Segment]| {
        let mut launch = Segments {
            of: [Segment::default(); SEGMENTS],
            ends: [0; SEGMENTS],
            count: segments.len() as u32,
            base,
            first_block,
        };
        let mut end = 0;
        for (index, segment) in segments.iter().enumerate() {
            end += segment.len.div_ceil(CHUNK as u32);
            (launch.of[index], launch.ends[index]) = (*segment, end);
        }
        base += segments.len() as u32;
        first_block += end;
        launch
    };
    segments.chunks(SEGMENTS).map(launch).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chunk_of_every_segment_has_a_block() {
        let segments: Vec<Segment> = (1..=130).map(|i| Segment { len: 100 * i, ..Segment::default() }).collect();
        let launches = launches(&segments);
        assert_eq!(launches.iter().map(|launch| launch.count).collect::<Vec<u32>>(), [56, 56, 18]);
        let blocks: usize = segments.iter().map(|segment| (segment.len as usize).div_ceil(CHUNK)).sum();
        assert_eq!(launches.iter().map(Segments::blocks).sum::<usize>(), blocks);
        assert_eq!((launches[2].base, launches[2].first_block as usize), (112, blocks - launches[2].blocks()));
    }
}
