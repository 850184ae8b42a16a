//! Whether a checkpoint's configuration and its architecture speak of one model.
//!
//! A configuration says how a model was begun, an architecture what it is now. Quantization adds a
//! policy, and pruning takes experts away; all else must be equal.

use crate::config::{ConfigError, ModelConfig};
use resnet_bk_runtime::internal::architecture::Architecture;
use serde_json::Value;
use thiserror::Error;

/// What the two do not agree on.
#[derive(Debug, PartialEq, Error)]
pub(super) enum Disagreement {
    #[error("its configuration has {config} for {field}, its architecture {architecture}")]
    Field { field: String, config: String, architecture: String },
    #[error("block {block} has {experts} experts, but was begun with {most}")]
    Experts { block: usize, experts: usize, most: usize },
    #[error("its configuration is not valid: {0}")]
    Config(#[from] ConfigError),
}

/// Compares them. The architecture is a valid one.
pub(super) fn check_agreement(config: &ModelConfig, architecture: &Architecture) -> Result<(), Disagreement> {
    // First what an architecture allocates by.
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
    let begun = Architecture {
        experts: architecture.experts.clone(),
        quantization: architecture.quantization.clone(),
        ..config.architecture()
    };
    if begun != *architecture {
        let [begun, present] = [&begun, architecture].map(|one| serde_json::to_value(one).expect("plain data"));
        let fields = begun.as_object().into_iter().chain(present.as_object()).flatten().map(|(field, _)| field);
        let differs = |field: &&String| begun.get(field) != present.get(field);
        let field = fields.clone().find(differs).expect("they differ in a field").clone();
        let of = |one: &Value| one.get(&field).map_or("nothing".to_owned(), Value::to_string);
        let (config, architecture) = (of(&begun), of(&present));
        return Err(Disagreement::Field { field, config, architecture });
    }
    Ok(config.validate()?)
}
