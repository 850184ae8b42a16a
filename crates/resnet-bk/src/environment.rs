//! The environment of a run: everything besides recipe and text that its bits depend on. That is
//! the build, the number of processes and threads, and the type of processor.

use crate::config::StageConfig;
use crate::device::Device;
use crate::numerics::Precision;
use crate::ranks::Ranks;
#[cfg(target_arch = "x86_64")]
use resnet_bk_runtime::internal::kernels::InstructionSet;
use serde::{Deserialize, Serialize};

/// The environment of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Version of this crate.
    pub version: String,
    /// Number of threads. The head's threads split the vocabulary, so results with another number
    /// differ in their last bits.
    pub threads: usize,
    /// Instruction set and the extensions that kernels use.
    pub processor: String,
    /// Number format of the head's products in training.
    pub precision: String,
    /// The GPU, if the run trains on one.
    #[serde(default)]
    pub gpu: Option<String>,
    /// Number of processes that train together. Each has batches of the recipe's size.
    #[serde(default = "one")]
    pub processes: usize,
}

impl Environment {
    /// The environment of this process, for a run with these stages.
    pub fn current(stages: &[&StageConfig], device: &Device, ranks: &Ranks) -> Self {
        let uses_bf16 = stages.iter().any(|stage| stage.schedule().precision == Precision::Bf16);
        let precision = if uses_bf16 { Precision::Bf16 } else { Precision::Float32 };
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            threads: rayon::current_num_threads(),
            processor: processor(),
            precision: precision.unit(device).to_owned(),
            gpu: device.cuda().map(|cuda| cuda.name().to_owned()),
            processes: ranks.count(),
        }
    }

    /// A warning if a run from `self` is resumed in `other` and its bits will differ.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let parts = [
            ("processes", self.processes.to_string(), other.processes.to_string()),
            ("threads", self.threads.to_string(), other.threads.to_string()),
            ("processor", self.processor.clone(), other.processor.clone()),
            ("precision", self.precision.clone(), other.precision.clone()),
            ("device", on(&self.gpu), on(&other.gpu)),
            ("version", self.version.clone(), other.version.clone()),
        ];
        let changed: Vec<String> = parts
            .into_iter()
            .filter(|(_, before, after)| before != after)
            .map(|(name, before, after)| format!("{name} {before} then, {after} now"))
            .collect();
        (!changed.is_empty()).then(|| {
            format!(
                "this run was gone on with elsewhere ({}): its bits differ from an uninterrupted one's",
                changed.join("; ")
            )
        })
    }
}

/// Number of processes in files that do not say it.
fn one() -> usize {
    1
}

/// The device in words.
fn on(gpu: &Option<String>) -> String {
    gpu.clone().unwrap_or_else(|| "cpu".to_owned())
}

/// Instruction set of this processor, and the extensions that kernels use.
#[cfg(target_arch = "x86_64")]
pub fn processor() -> String {
    let mut extensions = Vec::new();
    extensions.extend(InstructionSet::available().filter_map(|set| match set {
        InstructionSet::Portable => None,
        InstructionSet::Avx2(_) => Some("AVX2"),
        InstructionSet::Avx512(_) => Some("AVX-512"),
    }));
    #[cfg(target_os = "linux")]
    if crate::kernels::amx::Amx::detect().is_some() {
        extensions.push("AMX");
    }
    if extensions.is_empty() { "x86_64".to_owned() } else { format!("x86_64 with {}", extensions.join(", ")) }
}

/// Instruction set of this processor.
#[cfg(not(target_arch = "x86_64"))]
pub fn processor() -> String {
    std::env::consts::ARCH.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_the_changed_fields() {
        let environment = |threads: usize| Environment {
            version: "1".to_owned(),
            threads,
            processor: "x86_64".to_owned(),
            precision: "float32".to_owned(),
            gpu: None,
            processes: 1,
        };
        assert_eq!(environment(2).difference(&environment(2)), None);
        let difference = environment(2).difference(&environment(4)).expect("other threads");
        assert!(difference.contains("threads 2 then, 4 now") && !difference.contains("precision"), "{difference}");
    }
}
