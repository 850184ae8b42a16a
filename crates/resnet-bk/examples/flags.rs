//! Flags in a configuration: one recipe with all stages, of which flags choose some.
//!
//! ```sh
//! cargo run --release -p resnet-bk --example flags
//! ```

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use resnet_bk::config::{Recipe, StageKind};
use resnet_bk::corpus::{self, Cache};
use resnet_bk::device::Device;
use resnet_bk::observer::Silent;
use resnet_bk::pipeline::{RunRequest, run};
use resnet_bk::ranks::Ranks;

const RECIPE: &str = r#"
seed = 1
[corpus]
data_limit = 10_000
[model]
preset = "tiny"
vocab_size = 500
quantization_bits = 8
prune_threshold = 0.05
[schedule]
epochs = 1
batch_size = 16
learning_rate = 1e-2
[[stage]]
kind = "train"
[[stage]]
kind = "qat"
[[stage]]
kind = "prune"
[[stage]]
kind = "distill"
student.n_layers = 1
"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let corpus = corpus::load("embedded")?;
    let all = [StageKind::Train, StageKind::Qat, StageKind::Prune, StageKind::Distill];
    for count in 1..=all.len() {
        let mut recipe = Recipe::parse(RECIPE, "the example", &[])?;
        recipe.model.use_quantization = count > 1;
        recipe.model.use_pruning = count > 2;
        recipe.model.use_distillation = count > 3;
        let request = RunRequest {
            recipe,
            corpus: corpus.clone(),
            cache: Cache::disabled(),
            out: folder.path().join(count.to_string()),
            resume: false,
            model: None,
            baseline: None,
            device: Device::Cpu,
            ranks: Ranks::alone(),
        };
        let summary = run(&request, &mut Silent)?;
        let kinds: Vec<StageKind> = summary.stages.iter().map(|stage| stage.kind).collect();
        println!("{kinds:?}: {} bytes", summary.artifact.bytes_total);
        assert_eq!(kinds, all[..count]);
    }
    Ok(())
}
