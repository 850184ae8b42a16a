//! Checkpoints of the original project, and models as safetensors.

mod common;

use common::{Place, RECIPE, json, resnet_bk, stderr, stdout, text};
use safetensors::SafeTensors;
use serde_json::Value;
use std::path::PathBuf;

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../resnet-bk/tests/data/reference-checkpoint/model.pt");

/// A corpus with more different words than the fixture's model has, and a list of words.
fn place() -> (Place, PathBuf, PathBuf) {
    let place = Place::new();
    let (corpus, words) = (place.path("many"), place.path("words.txt"));
    std::fs::create_dir(&corpus).expect("a folder");
    let lines =
        |count: usize| (0..count).map(|line| format!("w{} w{} w{} .\n", line % 7, line % 90, line)).collect::<String>();
    std::fs::write(corpus.join("train.txt"), lines(900)).expect("a text");
    std::fs::write(corpus.join("valid.txt"), lines(150)).expect("a text");
    let list: String = (0..498).map(|word| format!("w{word}\n")).collect();
    std::fs::write(&words, format!("<unk>\n.\n{list}")).expect("a list");
    (place, corpus, words)
}

#[test]
fn it_is_evaluated_as_not_causal_and_cannot_generate() {
    let (_place, corpus, words) = place();
    let rebuilt = resnet_bk(&["eval", FIXTURE, "--corpus", text(&corpus)]);
    let output = stdout(&rebuilt, 0);
    assert!(output.contains("(not causal)") && output.contains("the model sees the tokens"), "{output}");
    let notes = stderr(&rebuilt);
    assert!(notes.contains("bidirectional, so it sees the tokens that it should predict"), "{notes}");
    assert!(notes.contains("rebuilt from the training text: <unk>, then the 499 most frequent words"), "{notes}");

    let listed = json(&["eval", FIXTURE, "--corpus", text(&corpus), "--vocabulary", text(&words), "--json"]);
    assert_eq!(listed["causality"], "bidirectional");
    // 150 lines of 4 words, without a token for the end of a line; the first is not predicted.
    assert_eq!(listed["tokens"], 599);

    for command in [&["generate", FIXTURE, "--prompt", "w1"][..], &["suggest", FIXTURE, "--prompt", "w1"]] {
        let refused = resnet_bk(command);
        assert_eq!(refused.status.code(), Some(2));
        assert!(stderr(&refused).contains("it can be evaluated, but it cannot generate"), "{}", stderr(&refused));
    }
}

#[test]
fn settings_and_words_are_asked_for() {
    let (place, corpus, words) = place();
    let valid = corpus.join("valid.txt");
    let refused = |arguments: &[&str], parts: &[&str]| {
        let output = resnet_bk(arguments);
        let errors = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{errors}");
        for part in parts {
            assert!(errors.contains(part), "{errors}");
        }
    };
    refused(
        &["eval", FIXTURE, "--text", text(&valid)],
        &["has no vocabulary", "hint: pass its words with --vocabulary"],
    );
    let with_words = ["eval", FIXTURE, "--text", text(&valid), "--vocabulary", text(&words)];
    let with = |more: &[&'static str]| [&with_words[..], more].concat();
    refused(&with(&["--set", "model.top_k=4"]), &["top_k is 4, but must be from 1 to num_experts"]);
    refused(&with(&["--set", "model.d_model=4"]), &["there are only the keys model.top_k"]);
    refused(&with(&["--set", "model.v_max=big"]), &["the value must be a number"]);
    let perplexity = |more: &[&'static str]| json(&[&with(more)[..], &["--json"]].concat())["perplexity"].as_f64();
    assert_ne!(perplexity(&[]), perplexity(&["--set", "model.top_k=2"]));
    assert_ne!(perplexity(&[]), perplexity(&["--set", "model.feature_clamp=0.1"]));

    let small = place.path("corpus");
    refused(&["eval", FIXTURE, "--corpus", text(&small)], &["the vocabulary has 22 words, but the model 500"]);
    let run = place.path("run");
    let arguments = ["--recipe", RECIPE, "--corpus", text(&small), "--out", text(&run), "--vocabulary", text(&words)];
    refused(&[&["compress"][..], &arguments].concat(), &["--vocabulary is for a model.pt of Project ResNet-BK"]);

    // A pickle that would run code. The archive's checksums are those of what is in it.
    let hostile = place.path("hostile.pt");
    std::fs::write(&hostile, hostile_archive()).expect("written");
    let parts = ["hostile.pt: byte 2 of its pickle: global \"posix.system\" is not one of a checkpoint", "hint: "];
    refused(&["eval", text(&hostile), "--corpus", text(&corpus)], &parts);
}

/// An archive whose pickle calls `os.system`.
fn hostile_archive() -> Vec<u8> {
    let (name, pickle) = (b"m/data.pkl", b"\x80\x02cposix\nsystem\nX\x02\0\0\0ls\x85R.");
    let lengths = [&(pickle.len() as u32).to_le_bytes()[..], &(pickle.len() as u32).to_le_bytes()].concat();
    let crc = crc32fast::hash(pickle);
    let local = [b"PK\x03\x04", &[0; 22][..], &[name.len() as u8, 0, 0, 0], name, pickle].concat();
    let central =
        [b"PK\x01\x02", &[0; 12][..], &crc.to_le_bytes(), &lengths, &[name.len() as u8, 0], &[0; 16], name].concat();
    let places = [&(central.len() as u32).to_le_bytes()[..], &(local.len() as u32).to_le_bytes()].concat();
    [&local[..], &central, b"PK\x05\x06\0\0\0\0\x01\0\x01\0", &places, &[0; 2]].concat()
}

#[test]
fn it_is_compressed_and_packed_like_any_other() {
    let (place, corpus, words) = place();
    let run = place.path("run");
    let arguments =
        ["compress", "--recipe", RECIPE, "--corpus", text(&corpus), "--model", FIXTURE, "--vocabulary", text(&words)];
    let output = resnet_bk(&[&arguments[..], &["--out", text(&run)]].concat());
    // Random weights do not beat the n-grams in a few steps, so 1 is fine too.
    assert!(output.status.code().is_some_and(|code| code < 2), "{}", stderr(&output));
    let summary: Value =
        serde_json::from_str(&std::fs::read_to_string(run.join("summary.json")).expect("a summary")).expect("JSON");
    assert_eq!(summary["causality"], "bidirectional");
    let first = &summary["baselines"]["first"];
    assert!(first.to_string().contains("model.pt"), "{first}");
    let model = run.join("model.rbk");
    let evaluation = json(&["eval", text(&model), "--corpus", text(&corpus), "--json"]);
    assert_eq!(evaluation["perplexity"], summary["artifact"]["valid_perplexity"]);

    // Resumed with other words, it would be another model.
    let other = place.path("other.txt");
    let list = std::fs::read_to_string(&words).expect("a list").replace("w497\n", "x497\n");
    std::fs::write(&other, list).expect("written");
    let resumed = |words: &PathBuf| {
        let arguments = [&arguments[..arguments.len() - 1], &[text(words), "--out", text(&run), "--resume"]].concat();
        resnet_bk(&arguments)
    };
    assert!(stderr(&resumed(&other)).contains("began with another model"), "{}", stderr(&resumed(&other)));
    assert_eq!(resumed(&words).status.code(), output.status.code());
}

#[test]
fn a_model_is_exported_as_safetensors_with_config_and_words() {
    let (place, _, words) = place();
    let out = place.path("plain/model.safetensors");
    let arguments = ["export", FIXTURE, "--safetensors", text(&out), "--vocabulary", text(&words)];
    stdout(&resnet_bk(&arguments), 0);
    let bytes = std::fs::read(&out).expect("a file");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let up = file.tensor("blocks.1.moe.experts.2.up.weight").expect("a tensor");
    assert_eq!((up.shape(), up.dtype()), (&[32, 64][..], safetensors::Dtype::F32));
    let config = std::fs::read_to_string(out.with_file_name("config.json")).expect("a file");
    let config: Value = serde_json::from_str(&config).expect("JSON");
    assert_eq!((&config["architecture"]["vocab_size"], &config["pretokenizer"]), (&500.into(), &"whitespace".into()));
    let exported = std::fs::read_to_string(out.with_file_name("vocabulary.txt")).expect("a file");
    assert_eq!(exported, std::fs::read_to_string(&words).expect("a list"));
    // A float model is exported as it is: its embedding is that of the checkpoint.
    let torch = std::fs::read(FIXTURE).expect("a file");
    let embedding = file.tensor("embedding.weight").expect("a tensor").data();
    assert!(torch.windows(embedding.len()).any(|part| part == embedding));

    // It can also be packed; what is packed, and a shipped model, can be exported in turn.
    let packed = place.path("packed.rbk");
    let pack = ["export", FIXTURE, "--vocabulary", text(&words), "--out", text(&packed), "--int8"];
    let sizes = stdout(&resnet_bk(&pack), 0);
    assert!(sizes.contains(" of them weights"), "{sizes}");
    for (model, folder) in [(text(&packed), "packed"), ("demo", "shipped")] {
        let out = place.path(folder).join("model.safetensors");
        stdout(&resnet_bk(&["export", model, "--safetensors", text(&out)]), 0);
        let bytes = std::fs::read(&out).expect("a file");
        let decoded = SafeTensors::deserialize(&bytes).expect("safetensors");
        // Rounded values are not those of the checkpoint.
        assert_ne!(decoded.tensor("embedding.weight").expect("a tensor").data(), embedding);
    }

    let again = resnet_bk(&arguments);
    assert_eq!(again.status.code(), Some(2));
    assert!(stderr(&again).contains("exists, and export replaces no file"), "{}", stderr(&again));
}
