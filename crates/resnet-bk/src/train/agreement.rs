//! Checks that all ranks have equal weights: every rank compares a checksum with rank 0's.

use super::TrainError;
use crate::checkpoint::Checkpoint;
use crate::parameters::Parameter;

/// Compares the weights of all ranks after an epoch, counted from 1.
///
/// # Errors
/// [`TrainError::RanksDiffer`], on every rank.
pub(super) fn check(checkpoint: &Checkpoint, stage: usize, epoch: usize) -> Result<(), TrainError> {
    let parameters = &checkpoint.model.parameters;
    if parameters.ranks().are_alone() {
        return Ok(());
    }
    let all = parameters.iter().chain(&checkpoint.training.auxiliary);
    let different = parameters.ranks().different(checksum(all).to_ne_bytes().to_vec());
    if different.is_empty() { Ok(()) } else { Err(TrainError::RanksDiffer { stage, epoch, ranks: different }) }
}

/// CRC-32 of values, masks, moments and averages.
fn checksum<'a>(parameters: impl Iterator<Item = &'a Parameter>) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    let mut bytes = Vec::new();
    for Parameter { spec, values, mask, moments, average } in parameters {
        bytes.clear();
        bytes.extend(spec.id.to_string().into_bytes());
        for buffer in [values, &moments.first, &moments.second, &moments.steps, average] {
            bytes.extend(buffer.iter().flat_map(|x| x.to_ne_bytes()));
        }
        bytes.extend(mask.iter().flat_map(|mask| mask.iter().map(|&keep| u8::from(keep))));
        hasher.update(&bytes);
    }
    hasher.finalize()
}
