//! The whole pipeline in one call: train, prune, quantize, pack, measure. A few seconds.
//!
//! ```sh
//! cargo run --release -p resnet-bk --example pipeline
//! ```

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use resnet_bk::config::Recipe;
use resnet_bk::corpus::{self, Cache};
use resnet_bk::device::Device;
use resnet_bk::observer::Silent;
use resnet_bk::pipeline::{ARTIFACT, RunRequest, run};
use resnet_bk::ranks::Ranks;
use resnet_bk_runtime::LanguageModel;

const RECIPE: &str = r#"
seed = 1
[corpus]
data_limit = 30_000
[model]
preset = "memory"
vocab_size = 1000
d_model = 32
heads = 32
n_layers = 1
n_seq = 32
[schedule]
epochs = 2
batch_size = 16
learning_rate = 1e-2
[[stage]]
kind = "train"
[[stage]]
kind = "prune"
magnitude.sparsity = 0.2
[[stage]]
kind = "qat"
"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let request = RunRequest {
        recipe: Recipe::parse(RECIPE, "the example", &[])?,
        corpus: corpus::load("embedded")?,
        cache: Cache::disabled(),
        out: folder.path().join("run"),
        resume: false,
        model: None,
        baseline: None,
        device: Device::Cpu,
        ranks: Ranks::alone(),
    };
    let summary = run(&request, &mut Silent)?;
    for stage in &summary.stages {
        println!("{}: {} bytes, perplexity {:.1}", stage.kind, stage.weights_bytes, stage.valid_perplexity);
    }
    let model = LanguageModel::open(request.out.join(ARTIFACT))?;
    println!("suggestions: {:?}", model.suggest("I don't know", 3)?);
    assert!(3 * summary.artifact.bytes_weights < summary.stages[0].weights_bytes);
    Ok(())
}
