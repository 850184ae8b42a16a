//! Tests of hostile and of foreign files.

mod build;
mod hostile_archives;
mod hostile_pickles;

use super::{Fault, OriginalModel, OriginalSettings, OriginalWords, file, mapping};
use build::{Tensor, archive_of, checkpoint, model_tensors, pickle_of};
use resnet_bk_runtime::internal::architecture::Causality;
use resnet_bk_runtime::internal::tensor_id::{ExpertMap, LinearPart, ModelTensor, TensorId};
use safetensors::tensor::{Dtype, TensorView};
use std::path::{Path, PathBuf};

/// A file with these bytes, and its model.
fn read(bytes: &[u8]) -> Result<OriginalModel, String> {
    read_with(bytes, &OriginalSettings::default())
}

fn read_with(bytes: &[u8], settings: &OriginalSettings) -> Result<OriginalModel, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.pt");
    std::fs::write(&path, bytes).expect("written");
    OriginalModel::read(&path, settings).map_err(|error| {
        assert_eq!(error.path, path);
        error.to_string().replace(&format!("{}: ", path.display()), "")
    })
}

/// What a file with these bytes is, without writing it.
fn in_memory(bytes: &[u8]) -> Result<(), Fault> {
    mapping::model(file::read(bytes)?, &OriginalSettings::default()).map(|_| ())
}

#[track_caller]
fn refused(bytes: &[u8], part: &str) {
    let error = read(bytes).expect_err("refused");
    assert!(error.contains(part), "{error}");
}

/// The tiny model with a tensor changed.
fn changed(name: &str, change: impl FnOnce(&mut Tensor)) -> Vec<u8> {
    let mut tensors = model_tensors();
    change(tensors.iter_mut().find(|tensor| tensor.name == name).expect("a tensor"));
    checkpoint(&tensors)
}

#[test]
fn a_torch_checkpoint_becomes_a_model() {
    let model = read(&checkpoint(&model_tensors())).expect("a model");
    let config = &model.config;
    let sizes = [config.vocab_size, config.d_model, config.n_seq, config.d_ff, config.n_layers, config.num_experts];
    assert_eq!(sizes, [3, 2, 2, 4, 1, 1]);
    assert_eq!((config.top_k, config.v_max, config.feature_clamp), (1, 3.0, 10.0));
    assert_eq!(config.causality, Causality::Bidirectional);
    let up = model.parameters.get(TensorId::expert(0, 0, ExpertMap::Up, LinearPart::Weight)).expect("a tensor");
    assert_eq!(up.spec.shape, [2, 4]);
    // [out, in] there: 0 1, 2 3, 4 5, 6 7.
    assert_eq!(up.values.to_vec(), [0.0, 2.0, 4.0, 6.0, 1.0, 3.0, 5.0, 7.0]);
}

#[test]
fn a_bare_state_dict_and_another_prefix_are_read() {
    let mut tensors = model_tensors();
    for tensor in &mut tensors {
        tensor.name = format!("module.{}", tensor.name);
    }
    let pickle = pickle_of(&tensors, None);
    read(&archive_of(&pickle, &tensors).bytes()).expect("a model");
}

#[test]
fn transposed_and_shifted_views_are_read() {
    let plain = read(&checkpoint(&model_tensors())).expect("a model");
    let viewed = changed("model.blocks.0.bk_layer.moe_ffn.experts.0.0.weight", |tensor| {
        // The same values, column by column, after two others.
        let columns = [0.0, 2.0, 4.0, 6.0, 1.0, 3.0, 5.0, 7.0];
        tensor.values = [&[9.0, 9.0][..], &columns].concat();
        (tensor.offset, tensor.strides) = (2, vec![1, 4]);
    });
    assert_eq!(plain.parameters, read(&viewed).expect("a model").parameters);
}

#[test]
fn safetensors_with_the_same_names_are_the_same_model() {
    let tensors = model_tensors();
    let values: Vec<Vec<u8>> = tensors.iter().map(Tensor::bytes).collect();
    let view = |(tensor, bytes): (&Tensor, _)| {
        let dtype = if tensor.is_complex { Dtype::C64 } else { Dtype::F32 };
        (tensor.name.clone(), TensorView::new(dtype, tensor.sizes.clone(), bytes).expect("a view"))
    };
    let views = tensors.iter().zip(values.iter().map(Vec::as_slice)).map(view);
    let bytes = safetensors::serialize(views, None).expect("a file");
    let [torch, safetensors] = [&checkpoint(&tensors), &bytes].map(|bytes| read(bytes).expect("a model"));
    assert_eq!((torch.parameters, torch.config), (safetensors.parameters, safetensors.config));
    refused(&bytes[..bytes.len() - 1], "it is not a sound safetensors file");
}

#[test]
fn what_is_not_the_original_model_is_refused_with_the_tensor() {
    let without = |name: &str| {
        let tensors: Vec<Tensor> = model_tensors().into_iter().filter(|tensor| tensor.name != name).collect();
        checkpoint(&tensors)
    };
    refused(&without("model.token_embedding.weight"), "it has no tensor `token_embedding.weight`");
    refused(&without("model.lm_head.bias"), "tensor model.lm_head.bias is missing");
    let mut more = model_tensors();
    more.push(Tensor::new("model.blocks.0.bk_layer.gamma", &[], &[0.0]));
    refused(&checkpoint(&more), "tensor model.blocks.0.bk_layer.gamma belongs to no part of the model");
    let scale =
        changed("model.blocks.0.bk_layer.bk_scale", |scale| *scale = Tensor::new(&scale.name, &[2], &[1.0, 1.0]));
    refused(&scale, "bk_scale has the sizes [2], but must have [1]");
    let nan = changed("model.lm_head.bias", |bias| bias.values[1] = f32::NAN);
    refused(&nan, "tensor model.lm_head.bias has a non-finite value at 1");
    let uneven = changed("model.blocks.0.bk_layer.h0_diag_base", |base| base.values[1] = -1.0);
    refused(&uneven, "h0_diag_base has the value -1 somewhere and -2 elsewhere");
    let real = changed("model.blocks.0.bk_layer.z", |z| *z = Tensor::new(&z.name, &[], &[1.0]));
    refused(&real, "z is of float32 with the sizes [], but must be of one complex64 number");
    let integers = changed("model.lm_head.bias", |bias| bias.class = "IntStorage");
    refused(&integers, "lm_head.bias is of elements of 4 bytes");
    let settings = OriginalSettings { top_k: Some(2), ..OriginalSettings::default() };
    let error = read_with(&checkpoint(&model_tensors()), &settings).expect_err("one expert");
    assert!(error.contains("top_k is 2, but must be from 1 to num_experts"), "{error}");
}

#[test]
fn the_real_part_of_the_shift_is_taken_off_the_diagonal() {
    let shifted = changed("model.blocks.0.bk_layer.z", |z| z.values = vec![0.5, 2.0]);
    let architecture = read(&shifted).expect("a model").config.architecture();
    assert_eq!((architecture.resolvent.diagonal, architecture.resolvent.eta), (vec![-2.5], vec![2.0]));
}

/// A file of words.
fn words(lines: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("words.txt");
    std::fs::write(&path, lines).expect("written");
    (folder, path)
}

#[test]
fn the_row_of_unknown_words_becomes_the_first() {
    let model = read(&checkpoint(&model_tensors())).expect("a model");
    let rows = |model: &crate::parameters::Parameters, table| model.get(table).expect("a table").values.to_vec();
    let (_folder, path) = words("<pad>\r\n<unk>\r\nthe\r\n");
    let state = model.clone().with_words(OriginalWords::File(&path)).expect("a vocabulary");
    assert_eq!(state.vocabulary.words(), ["<unk>", "<pad>", "the"]);
    assert_eq!(state.vocabulary.end_of_line(), None);
    for (table, width) in [(ModelTensor::Embedding, 2), (ModelTensor::Head, 2), (ModelTensor::HeadBias, 1)] {
        let (before, after) = (rows(&model.parameters, table), rows(&state.parameters, table));
        assert_eq!(after[..width], before[width..2 * width]);
        assert_eq!(after[width..2 * width], before[..width]);
        assert_eq!(after[2 * width..], before[2 * width..]);
    }
}

#[test]
fn vocabularies_that_do_not_fit_are_refused() {
    let model = read(&checkpoint(&model_tensors())).expect("a model");
    let refused = |words: OriginalWords| model.clone().with_words(words).expect_err("refused");
    for (lines, part) in [
        ("<unk>\nthe\n", "the vocabulary has 2 words, but the model 3"),
        ("the\na\nof\n", "none of its words is \"<unk>\""),
        ("<unk>\na\na\n", "its words are no vocabulary: word \"a\" has two ids, 1 and 2"),
    ] {
        let (_folder, path) = words(lines);
        let error = refused(OriginalWords::File(&path));
        assert_eq!(error.path, path);
        assert!(error.to_string().contains(part), "{error}");
    }
    let error = refused(OriginalWords::TrainingText(&"a a a".into()));
    assert!(matches!(*error.fault, Fault::VocabularySize { found: 2, expected: 3 }), "{error}");
    assert!(matches!(*refused(OriginalWords::File(Path::new("missing"))).fault, Fault::Read(_)));
}
