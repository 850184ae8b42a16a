//! Snapshots of help and error texts. `INSTA_UPDATE=always cargo test -p resnet-bk-cli --test text`
//! updates them.

use std::process::Command;

/// The command, its output and its exit code.
fn transcript(arguments: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_resnet-bk"))
        .args(arguments.split_whitespace())
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"))
        .output()
        .expect("the command runs");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).expect("UTF-8")).concat();
    let code = output.status.code().expect("an exit code");
    // Clap uses the file name as the program name.
    format!("$ resnet-bk {arguments}\n{}\n\nexit code {code}\n", text.replace("resnet-bk.exe", "resnet-bk").trim_end())
}

fn transcripts(commands: &[&str]) -> String {
    commands.iter().map(|arguments| transcript(arguments)).collect::<Vec<_>>().join("\n")
}

#[test]
fn help() {
    insta::assert_snapshot!(transcripts(&[
        "--help",
        "train --help",
        "compress --help",
        "eval --help",
        "generate --help",
        "suggest --help",
        "score --help",
        "inspect --help",
        "export --help",
        "report --help",
        "runs --help",
        "completions --help",
        "man --help",
        "bench --help",
        "bench kernel --help",
        "bench step --help",
    ]));
}

#[test]
fn errors_of_recipes_and_corpora() {
    insta::assert_snapshot!(transcripts(&[
        "compress --recipe missing.toml --corpus embedded --out run-of-nothing",
        "compress --recipe broken.toml --corpus embedded --out run-of-nothing",
        "compress --recipe tiny.toml --corpus embedded --out run-of-nothing --set model.d_modle=3",
        "compress --recipe tiny.toml --corpus embedded --out run-of-nothing --set stage.0.schedule.epochs=0",
        "compress --recipe tiny.toml --corpus embedded --out run-of-nothing --set nonsense",
        "compress --recipe tiny.toml --corpus embedded --out run-of-nothing --set model.d_model=abc",
        "compress --recipe tiny.toml --corpus embedded --out run-of-nothing --set seed=99999999999999999999",
        "compress --recipe tiny.toml --corpus embedded --out run-of-nothing --set target.max_loss=15",
        "compress --recipe wrong_type.toml --corpus embedded --out run-of-nothing",
        "compress --recipe tiny.toml --corpus embedded --out run-of-nothing --max-loss 15",
        "compress --recipe tiny.toml --corpus embedded --out run-of-nothing --model missing.safetensors",
        "compress --recipe tiny.toml --corpus wikitext2 --out run-of-nothing",
        "compress --recipe tiny.toml --corpus embedded --out tiny.toml",
        "train --recipe tiny.toml --corpus run --out run-of-nothing",
    ]));
}

#[test]
fn errors_of_models_and_runs() {
    insta::assert_snapshot!(transcripts(&[
        "eval missing.rbk --corpus embedded",
        "eval missing.rbk",
        "inspect run",
        "inspect tiny.toml",
        "generate missing.rbk --prompt the --temperature -1",
        "generate missing.rbk --prompt the --top-p 1.5",
        "generate missing.rbk --prompt the --tokens 0",
        "inspect missing.rbk --threads 0",
        "suggest missing.rbk --prompt the",
        "suggest missing --prompt the",
        "inspect tiny.toml --card",
        "generate ../../../resnet-bk/tests/data/reference-checkpoint/model.pt --prompt the",
        "eval ../../../resnet-bk/tests/data/reference-checkpoint/model.pt --text tiny.toml",
        "inspect tiny.pt",
        "export demo",
        "export demo --out x.rbk --safetensors x.safetensors",
        "export demo --safetensors x.safetensors --int8",
        "export demo --safetensors x.safetensors --set model.top_k=2",
        "export missing.rbk --out tiny.toml",
        "export missing.rbk --safetensors config.json",
        "report missing",
        "report .",
        "report damaged",
        "report",
        "report --compare run --out compared.html",
        "report --compare run damaged",
        "report --compare run missing --out compared.html",
    ]));
}
