//! Checks that a checkpoint's configuration and its architecture describe the same model.
//!
//! The configuration describes the model at its start, the architecture its current state.
//! Quantization adds a policy and pruning removes experts. Everything else must be equal.

use crate::config::{ConfigError, ModelConfig};
use resnet_bk_runtime::internal::architecture::Architecture;
use serde_json::Value;
use thiserror::Error;

/// A difference between the two.
#[derive(Debug, PartialEq, Error)]
pub(super) enum Disagreement {
    #[error("its configuration has {config} for {field}, its architecture {architecture}")]
    Field { field: String, config: String, architecture: String },
    #[error("block {block} has {experts} experts, but was begun with {most}")]
    Experts { block: usize, experts: usize, most: usize },
    #[error("its configuration is not valid: {0}")]
    Config(#[from] ConfigError),
}

/// Compares a configuration with a valid architecture.
pub(super) fn check_agreement(config: &ModelConfig, architecture: &Architecture) -> Result<(), Disagreement> {
    // First the sizes that the architecture allocates memory by.
    for (field, config, architecture) in
        [("n_layers", config.n_layers, architecture.n_layers()), ("heads", config.heads, architecture.heads)]
    {
        if config != architecture {
            let (config, architecture) = (config.to_string(), architecture.to_string());
            return Err(Disagreement::Field { field: field.to_owned(), config, architecture });
        }
    }
    let most = config.num_experts;
    if let Some((block, &experts)) = architecture.experts.iter().enumerate().find(|&(_, &experts)| experts > most) {
        return Err(Disagreement::Experts { block, experts, most });
    }
    let initial = Architecture {
        experts: architecture.experts.clone(),
        quantization: architecture.quantization.clone(),
        ..config.architecture()
    };
    if initial != *architecture {
        let [initial, current] = [&initial, architecture].map(|one| serde_json::to_value(one).expect("plain data"));
        let fields = initial.as_object().into_iter().chain(current.as_object()).flatten().map(|(field, _)| field);
        let differs = |field: &&String| initial.get(field) != current.get(field);
        let field = fields.clone().find(differs).expect("they differ in a field").clone();
        let of = |one: &Value| one.get(&field).map_or("nothing".to_owned(), Value::to_string);
        let (config, architecture) = (of(&initial), of(&current));
        return Err(Disagreement::Field { field, config, architecture });
    }
    Ok(config.validate()?)
}
