//! What a run's bits depend on besides its recipe and text: this build, the threads and the kind of
//! processor.

use crate::config::StageConfig;
use crate::numerics::Precision;
#[cfg(target_arch = "x86_64")]
use resnet_bk_runtime::internal::kernels::InstructionSet;
use serde::{Deserialize, Serialize};

/// Where a run was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Version of this crate.
    pub version: String,
    /// Threads that computed. The head's threads split the vocabulary, so another number gives
    /// other bits.
    pub threads: usize,
    /// Instruction set and the extensions that kernels choose by.
    pub processor: String,
    /// Number format of the head's products in training.
    pub precision: String,
}

impl Environment {
    /// Of this process, for a run of these stages.
    pub fn present(stages: &[&StageConfig]) -> Self {
        let uses_bf16 = stages.iter().any(|stage| stage.schedule().precision == Precision::Bf16);
        let precision = if uses_bf16 { Precision::Bf16 } else { Precision::Float32 };
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            threads: rayon::current_num_threads(),
            processor: processor(),
            precision: precision.unit().to_owned(),
        }
    }

    /// One sentence where a run that was trained in `self` has other bits when it goes on in
    /// `other`.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let parts = [
            ("threads", self.threads.to_string(), other.threads.to_string()),
            ("processor", self.processor.clone(), other.processor.clone()),
            ("precision", self.precision.clone(), other.precision.clone()),
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

#[cfg(target_arch = "x86_64")]
fn processor() -> String {
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

#[cfg(not(target_arch = "x86_64"))]
fn processor() -> String {
    std::env::consts::ARCH.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_what_changed() {
        let environment = |threads: usize| Environment {
            version: "1".to_owned(),
            threads,
            processor: "x86_64".to_owned(),
            precision: "float32".to_owned(),
        };
        assert_eq!(environment(2).difference(&environment(2)), None);
        let difference = environment(2).difference(&environment(4)).expect("other threads");
        assert!(difference.contains("threads 2 then, 4 now") && !difference.contains("precision"), "{difference}");
    }
}
