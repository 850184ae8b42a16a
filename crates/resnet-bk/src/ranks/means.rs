//! Means of buffers over the ranks, on hosts or on GPUs.

use super::Ranks;
use crate::buffer::Buffer;

impl Ranks {
    /// Replaces numbers by their means over the ranks, elementwise, in one exchange. On every rank the
    /// buffers are where those of the others are: by MPI on hosts, by NCCL on GPUs, where the means
    /// become part of a step's graph.
    pub fn average<'a>(&self, buffers: impl IntoIterator<Item = &'a mut Buffer>) {
        if self.are_alone() {
            return;
        }
        let mut buffers: Vec<&mut Buffer> = buffers.into_iter().collect();
        if let Some(cuda) = buffers.first().and_then(|buffer| buffer.cuda()).cloned() {
            let arrays: Vec<_> = buffers.iter_mut().map(|buffer| buffer.array_mut(&cuda)).collect();
            return cuda.average(&arrays);
        }
        let mut all: Vec<f32> = buffers.iter().flat_map(|buffer| buffer.iter().copied()).collect();
        self.sum(&mut all);
        let share = 1.0 / self.count() as f32;
        all.iter_mut().for_each(|x| *x *= share);
        let mut rest = all.as_slice();
        for buffer in buffers {
            let mean = rest.split_off(..buffer.len()).expect("the sizes add up");
            buffer.copy_from_slice(mean);
        }
    }
}
