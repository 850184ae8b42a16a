//! Reads a model to go on with: the reverse of [`crate::export`].
//!
//! A checkpoint is taken as it is. An artifact has no history, no masks and no text: its decoded
//! values become the parameters of a float model. So a teacher can be shipped as a small file.

use crate::checkpoint::{Checkpoint, Compression, ModelState};
use crate::config::{ModelConfig, PerHead};
use crate::export::{LoadError, is_artifact};
use crate::original::{Fault, is_torch};
use crate::parameters::{Parameter, Parameters};
use resnet_bk_runtime::internal::architecture::Architecture;
use resnet_bk_runtime::internal::artifact::Artifact;
use std::path::Path;
use std::sync::Arc;

/// Reads the bytes of a checkpoint or of an artifact. `path` names the file in errors.
///
/// # Errors
/// [`LoadError::Checkpoint`] and [`LoadError::Artifact`]; [`LoadError::Original`] for a torch file, which
/// has no vocabulary.
pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Checkpoint, LoadError> {
    if is_torch(bytes) {
        return Err(Fault::NoVocabulary.at(path).into());
    }
    if !is_artifact(bytes) {
        return Ok(Checkpoint::from_bytes(bytes, path)?);
    }
    let artifact = Artifact::from_bytes(bytes);
    Ok(Checkpoint::new(decoded(artifact.map_err(|source| LoadError::Artifact { path: path.to_owned(), source })?)))
}

/// The float model with the decoded values of an artifact.
fn decoded(artifact: Artifact) -> ModelState {
    let mut values = artifact.values();
    let architecture = Architecture { quantization: None, ..artifact.architecture };
    let parameters = Parameters::from_found(architecture, |spec| {
        values.remove(&spec.id).map(|values| Parameter::new(spec.clone(), values))
    });
    let parameters = parameters.expect("an artifact has every tensor of its architecture");
    ModelState {
        config: config_of(parameters.architecture()),
        parameters,
        vocabulary: Arc::new(artifact.vocabulary),
        compression: Compression::default(),
    }
}

/// The configuration of a float model of this architecture. What an architecture does not know, such
/// as dropout, is as in the `seed` preset.
fn config_of(architecture: &Architecture) -> ModelConfig {
    let per_head = |values: &[f32]| match values {
        [first, rest @ ..] if rest.iter().all(|value| value == first) => PerHead::All(*first),
        _ => PerHead::Each(values.to_vec()),
    };
    let Architecture { resolvent, experts, .. } = architecture;
    ModelConfig {
        vocab_size: architecture.vocab_size,
        d_model: architecture.d_model,
        n_layers: architecture.n_layers(),
        n_seq: architecture.n_seq,
        num_experts: experts.iter().copied().max().expect("a model has a block"),
        top_k: architecture.top_k,
        d_ff: architecture.d_ff,
        mixer: architecture.mixer,
        causality: architecture.causality,
        heads: architecture.heads,
        a0: per_head(&resolvent.diagonal),
        s: per_head(&resolvent.hopping),
        eta: per_head(&resolvent.eta),
        learned_eta: architecture.learned_eta,
        v_max: architecture.v_max,
        feature_clamp: architecture.feature_clamp,
        positions: architecture.positions,
        tied_embeddings: architecture.tied_embeddings,
        embedding_bins: architecture.embedding_bins.clone(),
        bias_knots: architecture.bias_knots,
        ..ModelConfig::preset("seed").expect("a preset")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::{int8, pack};
    use resnet_bk_runtime::internal::embedding::EmbeddingBin;
    use resnet_bk_runtime::internal::tokenizer::{Pretokenizer, Vocabulary};

    fn model(change: impl Fn(&mut ModelConfig)) -> ModelState {
        let words = ["<unk>", "<eos>"].into_iter().map(str::to_owned).chain((0..30).map(|word| format!("w{word}")));
        let vocabulary = Vocabulary::new(words.collect(), Pretokenizer::Words).expect("the words differ");
        let mut config = ModelConfig::preset("tiny").expect("a preset");
        change(&mut config);
        ModelState::initialize(config, Arc::new(vocabulary), 3)
    }

    fn read_again(artifact: &Artifact) -> ModelState {
        let bytes = artifact.to_bytes().expect("packed");
        from_bytes(&bytes, Path::new("model.rbk")).expect("an artifact").model
    }

    #[test]
    fn an_artifact_of_a_float_model_is_the_same_model() {
        let binned = |config: &mut ModelConfig| {
            *config = ModelConfig { vocab_size: 32, bias_knots: 4, n_seq: 8, ..ModelConfig::preset("memory").unwrap() };
            config.embedding_bins = vec![EmbeddingBin { words: 8, width: 64 }, EmbeddingBin { words: 24, width: 9 }];
        };
        let per_head = |config: &mut ModelConfig| {
            config.eta = PerHead::Each(vec![0.5, 2.0]);
            config.learned_eta = true;
        };
        for before in [model(|_| {}), model(binned), model(per_head)] {
            let after = read_again(&pack(&before).expect("packed"));
            assert_eq!(after.parameters, before.parameters);
            assert_eq!(after.vocabulary, before.vocabulary);
            let expected = ModelConfig { vocab_size: 32, ..before.config.clone() };
            assert_eq!(after.config.with_settings_of(&expected), expected);
        }
    }

    #[test]
    fn a_torch_file_is_refused_for_its_missing_vocabulary() {
        let refused = from_bytes(b"PK\x03\x04", Path::new("model.pt")).expect_err("no vocabulary");
        assert!(
            refused.to_string().contains("model.pt: a checkpoint of Project ResNet-BK has no vocabulary"),
            "{refused}"
        );
    }

    #[test]
    fn an_artifact_in_int8_is_a_float_model_of_rounded_values() {
        let before = model(|_| {});
        let artifact = int8(&pack(&before).expect("packed")).expect("rounded");
        let after = read_again(&artifact);
        assert!(after.parameters.architecture().quantization.is_none());
        let values = artifact.values();
        assert_ne!(after.parameters, before.parameters);
        for (after, before) in after.parameters.iter().zip(before.parameters.iter()) {
            assert_eq!(after.values.as_slice(), values[&after.spec.id]);
            let largest = before.values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            // Half of a scale, which is rounded to half precision.
            let tolerance = 0.51 * largest / 127.0;
            let near = after.values.iter().zip(before.values.iter()).all(|(a, b)| (a - b).abs() <= tolerance);
            assert!(near, "{}", after.spec.id);
        }
        // A model in int8 takes about a byte a weight, here with scales and float vectors.
        let bytes =
            artifact.weights_bytes().expect("packed") as f64 / after.parameters.architecture().parameter_count() as f64;
        assert!((0.7..1.6).contains(&bytes), "{bytes} bytes a weight");
    }
}
