use super::ModelState;
use super::file::{METADATA, METADATA_CHECKSUM, OLDEST, Tensor, VERSION, assemble};
use super::*;
use crate::parameters::Moments;
use crate::random::Random;
use crate::train::EpochResult;
use resnet_bk_runtime::internal::architecture::Architecture;
use resnet_bk_runtime::internal::quantization::{LearnedScales, QuantizationPolicy};
use resnet_bk_runtime::internal::tensor_id::ModelTensor;
use resnet_bk_runtime::internal::tensor_spec::{Role, TensorSpec};
use resnet_bk_runtime::internal::tokenizer::Pretokenizer;
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

const PATH: &str = "RUN/02-distill/model.safetensors";
/// Bits to flip, one at a time. Half of them are in the header, which is smaller than the data.
const FLIPS: usize = 4_000;

/// A model in the middle of a stage with everything that a file can hold: quantizers, a removed
/// expert, masks, moments, averages and a projection.
fn checkpoint() -> Checkpoint {
    let words: Vec<String> = ["<unk>", "<eos>", "größer"].into_iter().map(str::to_owned).collect();
    let more = (0..37).map(|n| format!("w{n}"));
    let vocabulary = Vocabulary::new(words.into_iter().chain(more).collect(), Pretokenizer::Whitespace).unwrap();
    let config = ModelConfig { d_model: 8, d_ff: 6, n_layers: 2, ..ModelConfig::preset("tiny").unwrap() };
    let mut checkpoint = Checkpoint::new(ModelState::initialize(config, Arc::new(vocabulary), 1));
    let policy = QuantizationPolicy { learned: Some(LearnedScales::default()), ..QuantizationPolicy::default() };
    let parameters = checkpoint.model.parameters.clone();
    let architecture = Architecture { quantization: Some(policy), ..parameters.architecture().clone() };
    checkpoint.model.parameters = parameters.with_architecture(architecture).remove_expert(1, 0);
    checkpoint.training.progress = Some(Progress {
        epochs: vec![EpochResult { valid: 91.25, dev: Some(88.5), expert_usage: vec![vec![0.75, 0.25]] }],
        ..Progress::new(2)
    });
    let spec =
        |block| TensorSpec { id: ModelTensor::FeatureProjection(block).into(), shape: vec![2, 4], role: Role::Mixer };
    checkpoint.training.auxiliary = [0, 1].map(|block| Parameter::new(spec(block), vec![0.5; 8])).into_iter().collect();
    let mut random = Random::new(3);
    checkpoint.model.parameters.begin_average();
    for parameter in checkpoint.model.parameters.as_mut_slice() {
        parameter.average.iter_mut().for_each(|x| *x += random.uniform());
    }
    let all = checkpoint.model.parameters.as_mut_slice().iter_mut().chain(&mut checkpoint.training.auxiliary);
    for (index, parameter) in all.enumerate().filter(|(index, _)| index % 3 != 0) {
        let length = parameter.values.len();
        let mut values = || (0..length).map(|_| random.uniform()).collect::<Vec<f32>>();
        parameter.moments =
            Moments { first: values().into(), second: values().into(), steps: vec![index as f32 + 1.0].into() };
        if parameter.spec.role == Role::Expert {
            parameter.mask = Some((0..length).map(|at| at % 3 > 0).collect());
            parameter.apply_mask();
        }
    }
    checkpoint
}

fn read(bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
    Checkpoint::from_bytes(bytes, Path::new(PATH))
}

/// The error for a file whose metadata and tensors were changed before the checksums were made.
fn refusal(change: impl Fn(&mut Value, &mut Vec<Tensor>)) -> String {
    let checkpoint = checkpoint();
    let mut tensors = checkpoint.tensors();
    let mut metadata = serde_json::to_value(checkpoint.metadata(&tensors)).unwrap();
    change(&mut metadata, &mut tensors);
    for tensor in &tensors {
        metadata["checksums"][&tensor.name] = json!(crc32fast::hash(&tensor.bytes));
    }
    let names: Vec<&String> = tensors.iter().map(|tensor| &tensor.name).collect();
    metadata["checksums"].as_object_mut().unwrap().retain(|name, _| names.contains(&name));
    let error = read(&assemble(&metadata.to_string(), &tensors).unwrap()).expect_err("it was changed").to_string();
    assert!(error.contains(PATH), "{error}");
    error
}

fn tensor<'a>(tensors: &'a mut [Tensor], name: &str) -> &'a mut Tensor {
    tensors.iter_mut().find(|tensor| tensor.name == name).unwrap_or_else(|| panic!("{name}"))
}

#[test]
fn a_written_checkpoint_reads_back() {
    let written = checkpoint();
    let found = read(&written.to_bytes().unwrap()).unwrap();
    assert_eq!(found.model.parameters, written.model.parameters);
    assert_eq!(found.model.vocabulary, written.model.vocabulary);
    assert_eq!(
        (found.model.config, found.training.progress),
        (written.model.config.clone(), written.training.progress.clone())
    );
    // The role of an auxiliary parameter is not written.
    assert_eq!(found.training.auxiliary, written.training.auxiliary);
    assert_eq!(read(&written.to_bytes().unwrap()).unwrap().to_bytes().unwrap(), written.to_bytes().unwrap());

    let averages: Vec<_> = written.model.parameters.averaged().iter().cloned().collect();
    let mut done = written;
    done.finish_stage();
    assert!(done.model.parameters.iter().eq(&averages), "a finished stage keeps the averaged weights");
    let found = read(&done.to_bytes().unwrap()).unwrap();
    assert_eq!(
        (found.model.parameters, found.training.auxiliary, found.training.progress),
        (done.model.parameters, vec![], None)
    );
}

#[test]
fn every_flipped_bit_is_refused() {
    let bytes = checkpoint().to_bytes().unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let (_, places) = SafeTensors::read_metadata(&bytes).unwrap();
    let tensor_at = |byte: usize| {
        let holds = |(_, info): &(String, &safetensors::tensor::TensorInfo)| {
            (info.data_offsets.0..info.data_offsets.1).contains(&(byte - header))
        };
        places.tensors().into_iter().find(holds).map(|(name, _)| name).expect("every byte belongs to a tensor")
    };
    let mut random = Random::new(7);
    let lengths = 0..8 * 8;
    let in_header = (0..FLIPS / 2).map(|_| random.below(8 * header as u64) as usize).collect::<Vec<_>>();
    let data = 8 * (bytes.len() - header) as u64;
    let in_data = (0..FLIPS / 2).map(|_| 8 * header + random.below(data) as usize).collect::<Vec<_>>();
    for bit in lengths.chain(in_header).chain(in_data) {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let error = match read(&damaged) {
            Ok(_) => panic!("bit {bit} of {}, header {header}, is not noticed", 8 * bytes.len()),
            Err(error) => error.to_string(),
        };
        assert!(error.contains(PATH), "bit {bit}: {error}");
        if bit / 8 >= header {
            let name = tensor_at(bit / 8);
            let part = if name == METADATA_CHECKSUM { "the metadata".to_owned() } else { format!("tensor {name}") };
            assert_eq!(error, format!("{PATH} is damaged: the checksum of {part} does not match"));
        }
    }
}

#[test]
fn a_shorter_or_longer_file_is_refused() {
    let bytes = checkpoint().to_bytes().unwrap();
    for length in (0..bytes.len()).step_by(97).chain([bytes.len() - 1]) {
        assert!(read(&bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
    }
    assert!(read(&[bytes.as_slice(), &[0]].concat()).is_err());
}

#[test]
fn masks_and_moments_of_wrong_size_or_type_are_refused() {
    const EXPERT: &str = "blocks.0.moe.experts.0.up.weight";
    // Remove rows: the length then fits the type but not the model.
    let shorter = |name: &str, width: usize| {
        refusal(|_, tensors| {
            let tensor = tensor(tensors, name);
            tensor.shape[0] -= 1;
            tensor.bytes.truncate(tensor.shape.iter().product::<usize>() * width);
        })
    };
    for (name, width) in [("mask/", 1), ("first/", 4), ("second/", 4), ("", 4)] {
        let name = format!("{name}{EXPERT}");
        assert!(shorter(&name, width).contains(&format!("tensor {name} is ")), "{}", shorter(&name, width));
    }
    let turned = refusal(|_, tensors| tensor(tensors, EXPERT).shape.reverse());
    assert!(turned.contains("is F32 [6, 8], but must be F32 [8, 6]"), "{turned}");
    let steps = format!("steps/{EXPERT}");
    let retyped = refusal(|_, tensors| tensor(tensors, &steps).dtype = Dtype::I64);
    assert!(retyped.contains(&format!("tensor {steps} is I64 [1], but must be U64 [1]")), "{retyped}");
    let two = refusal(|_, tensors| {
        let tensor = tensor(tensors, &steps);
        (tensor.shape, tensor.bytes) = (vec![2], vec![1; 16]);
    });
    assert!(two.contains(&steps), "{two}");
    let invalid = refusal(|_, tensors| tensor(tensors, &format!("mask/{EXPERT}")).bytes[5] = 2);
    assert!(invalid.contains(&format!("mask/{EXPERT} is neither 0 nor 1")), "{invalid}");
    for part in ["first", "second", "steps"] {
        let without = refusal(|_, tensors| tensors.retain(|tensor| tensor.name != format!("{part}/{EXPERT}")));
        assert!(without.contains("a part of its moments") && without.contains(EXPERT), "{without}");
    }
    let infinite = refusal(|_, tensors| {
        tensor(tensors, &format!("first/{EXPERT}")).bytes[8..12].copy_from_slice(&f32::INFINITY.to_le_bytes());
    });
    assert!(infinite.contains("non-finite value at 2"), "{infinite}");
}

#[test]
fn unknown_tensors_are_refused() {
    for name in [
        "blocks.7.norm.gamma",
        "mask/norm.nothing",
        "first/nothing",
        "first/auxiliary/nothing",
        "average/nothing",
        "bias",
    ] {
        let error = refusal(|_, tensors| {
            let (name, bytes) = (name.to_owned(), vec![0; 4]);
            tensors.push(Tensor { name, dtype: Dtype::F32, shape: vec![1], bytes });
        });
        assert!(error.contains(&format!("tensor {name} belongs to no part of the model")), "{error}");
    }
    // A finished stage has no moments and no auxiliary parameters.
    let error = refusal(|metadata, _| metadata["progress"] = Value::Null);
    assert!(error.contains("belongs to no part of the model"), "{error}");
    let error = refusal(|_, tensors| tensors.retain(|tensor| tensor.name != "norm.gamma"));
    assert!(error.contains("norm.gamma"), "{error}");
}

#[test]
fn configuration_and_architecture_must_agree() {
    for (field, value) in [
        ("vocab_size", json!(41)),
        ("d_model", json!(16)),
        ("n_seq", json!(32)),
        ("d_ff", json!(8)),
        ("n_layers", json!(3)),
        ("heads", json!(4)),
        ("top_k", json!(2)),
        ("causality", json!("bidirectional")),
        ("positions", json!(false)),
        ("tied_embeddings", json!(true)),
        ("bias_knots", json!(3)),
        ("learned_eta", json!(true)),
        ("v_max", json!(2.5)),
        ("feature_clamp", json!(9.0)),
        ("mixer", json!("propagator")),
    ] {
        let error = refusal(|metadata, _| metadata["config"][field] = value.clone());
        let expected = format!("its configuration has {value} for {field}, its architecture ");
        assert!(error.contains(&expected), "{field}: {error}");
    }
    let error = refusal(|metadata, _| metadata["config"]["embedding_bins"] = json!([{"words": 40, "width": 2}]));
    assert!(error.contains("for embedding_bins, its architecture nothing"), "{error}");
    let error = refusal(|metadata, _| metadata["config"]["eta"] = json!(0.5));
    assert!(error.contains("for resolvent"), "{error}");
    // Pruning can only lower the number of experts below the configuration's.
    let error = refusal(|metadata, _| metadata["config"]["num_experts"] = json!(1));
    assert!(error.contains("block 0 has 2 experts, but was begun with 1"), "{error}");
    let error = refusal(|metadata, _| metadata["config"]["dropout"] = json!(1.5));
    assert!(error.contains("its configuration is not valid: dropout is 1.5"), "{error}");
}

#[test]
fn older_and_newer_versions_are_refused_with_their_number() {
    // A file of version 1 had no checksums.
    let checkpoint = checkpoint();
    let tensors = checkpoint.tensors();
    let mut metadata = serde_json::to_value(checkpoint.metadata(&tensors)).unwrap();
    metadata["version"] = json!(1);
    metadata.as_object_mut().unwrap().remove("checksums");
    let without_checksum = |json: &str| {
        let bytes = assemble(json, &tensors).unwrap();
        let all = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = all.iter().filter(|(name, _)| *name != METADATA_CHECKSUM);
        let entries = [(METADATA.to_owned(), json.to_owned())];
        safetensors::serialize(tensors, Some(entries.into_iter().collect())).unwrap()
    };
    let error = read(&without_checksum(&metadata.to_string())).unwrap_err();
    assert!(matches!(error, CheckpointError::Older { version: 1, supported: OLDEST, .. }), "{error}");
    assert_eq!(
        error.to_string(),
        format!(
            "{PATH} was written by an older resnet-bk: its version is 1, the oldest that this one reads is {OLDEST}"
        )
    );
    let error = refusal(|metadata, _| metadata["version"] = json!(OLDEST - 1));
    assert!(error.contains("the oldest that this one reads is"), "{error}");
    let error = refusal(|metadata, _| metadata["version"] = json!(VERSION + 1));
    let told = format!("newer resnet-bk: its version is {}, this one reads version {VERSION}", VERSION + 1);
    assert!(error.ends_with(&told), "{error}");
    let json = serde_json::to_string(&checkpoint.metadata(&tensors)).unwrap();
    let error = read(&without_checksum(&json)).unwrap_err().to_string();
    assert!(error.ends_with("its metadata has no checksum"), "{error}");
}

/// A file of version 3 has no averages and fewer keys.
#[test]
fn a_checkpoint_of_the_oldest_version_is_read() {
    let mut expected = checkpoint();
    expected.model.parameters.drop_average();
    let tensors = expected.tensors();
    let mut metadata = serde_json::to_value(expected.metadata(&tensors)).unwrap();
    metadata["version"] = json!(OLDEST);
    for (table, keys) in [
        ("config", &["word_dropout", "head_dropout", "weight_dropout"][..]),
        ("progress", &["averaged_steps", "planned_epochs"]),
    ] {
        keys.iter().for_each(|key| drop(metadata[table].as_object_mut().unwrap().remove(*key).expect("a new key")));
    }
    let found = read(&assemble(&metadata.to_string(), &tensors).unwrap()).unwrap();
    assert_eq!(found.model.parameters, expected.model.parameters);
    assert_eq!((found.model.config, found.training.progress), (expected.model.config, expected.training.progress));
}
