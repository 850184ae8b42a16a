//! Estimates the memory of a run and compares it with the available memory. Sizes that are too
//! large are refused with their names, before an allocation fails.
//!
//! ```text
//! step    20 P + 8 P_teacher + 4 N L A + head    bytes; 4 P more with averaged weights
//! saving  36 P                                   bytes: values, moments, and the file; 12 P more
//! A       diagonal 4 D + k F + 3 H + E           floats per token in a block
//!         propagator 6 D + k F + 9 H + E
//! head    2 G V  (twice with a teacher)          logits of a group, in half precision
//! window  4 n (3 D + k F + 4 H)                  bytes of a block evaluating n tokens
//! ```
//!
//! P is the number of parameters; each has a value, a copy on the tape, a gradient and two moments.
//! N is the number of tokens in a batch, L of blocks, D the width, F the width of an expert, k the
//! experts per token, H the number of heads, E of experts, V of words, and G = 256 tokens.
//! Temporary buffers of kernels are not counted, so a run may need half as much again. Everything
//! counted is in memory at the same time.

use crate::config::{ModelConfig, Schedule, StageConfig, StageKind};
use resnet_bk_runtime::internal::architecture::{Architecture, Mixer};
use std::fs;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Tokens of a group in the head's loss.
const GROUP: u64 = 256;
/// A size is named if halving it saves at least this share of the memory.
const WORTH_NAMING: f64 = 0.1;

/// A run that needs more memory than is available.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MemoryError {
    /// A stage needs too much memory.
    #[error(
        "stage {stage} ({kind}) needs at least {} bytes of memory, but {} are available: it grows most with {sizes}",
        grouped(*needed), grouped(*available)
    )]
    Stage {
        /// Number of the stage among those that run, from 1.
        stage: usize,
        /// Kind of the stage.
        kind: StageKind,
        /// Needed bytes.
        needed: u64,
        /// Available bytes.
        available: u64,
        /// The sizes that use most of the memory, with their values.
        sizes: String,
    },
    /// A window of a text needs too much memory.
    #[error(
        "evaluating windows of {window} tokens needs at least {} bytes of memory, but {} are available: the model has {heads} heads and width {width}",
        grouped(*needed), grouped(*available)
    )]
    Window {
        /// Tokens of a window.
        window: usize,
        /// Needed bytes.
        needed: u64,
        /// Available bytes.
        available: u64,
        /// Resolvent heads.
        heads: usize,
        /// Model width.
        width: usize,
    },
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).expect("digits")).collect();
    groups.join(",")
}

/// A product that saturates.
fn product(factors: &[u64]) -> u64 {
    factors.iter().fold(1, |product, &factor| product.saturating_mul(factor))
}

fn sum(terms: &[u64]) -> u64 {
    terms.iter().fold(0, |sum, &term| sum.saturating_add(term))
}

/// Least memory of training, in bytes.
pub fn training_bytes(model: &ModelConfig, teacher: Option<&ModelConfig>, schedule: &Schedule) -> u64 {
    let count = |model: &ModelConfig| model.architecture().parameter_count() as u64;
    let parameters = count(model);
    let [d, f, h, e, k] = [model.d_model, model.d_ff, model.heads, model.num_experts, model.top_k].map(|n| n as u64);
    let kept = match model.mixer {
        Mixer::Diagonal => sum(&[4 * d, product(&[k, f]), 3 * h, e]),
        Mixer::Propagator => sum(&[6 * d, product(&[k, f]), 9 * h, e]),
    };
    let window = schedule.windows(model.n_seq).longest();
    let activations = product(&[4, schedule.batch_size as u64, window as u64, model.n_layers as u64, kept]);
    let heads = if teacher.is_some() { 2 } else { 1 };
    let averages = if schedule.average > 0.0 { 1 } else { 0 };
    let step = sum(&[
        product(&[20 + 4 * averages, parameters]),
        product(&[8, teacher.map_or(0, count)]),
        activations,
        product(&[2, heads, GROUP, model.vocab_size as u64]),
    ]);
    step.max(product(&[36 + 12 * averages, parameters]))
}

/// Least memory of evaluating a text, in bytes, with one window per thread.
pub fn evaluation_bytes(architecture: &Architecture, tokens: usize, threads: usize) -> u64 {
    let Architecture { n_seq, d_model, d_ff, heads, top_k, .. } = *architecture;
    let windows = tokens.div_ceil(n_seq).min(threads);
    let widths = sum(&[3 * d_model as u64, product(&[top_k as u64, d_ff as u64]), 4 * heads as u64]);
    product(&[4, windows as u64, tokens.min(n_seq) as u64, widths])
}

/// Checks that every stage fits in the available memory. `first` is the model before the first
/// stage. If the available memory is unknown, every stage fits.
///
/// # Errors
/// The first stage that does not fit.
pub fn check_stages(stages: &[&StageConfig], first: &ModelConfig) -> Result<(), MemoryError> {
    available().map_or(Ok(()), |available| fit_stages(stages, first, available))
}

fn fit_stages(stages: &[&StageConfig], first: &ModelConfig, available: u64) -> Result<(), MemoryError> {
    let mut model = first.clone();
    for (index, stage) in stages.iter().enumerate() {
        // The vocabulary is that of the text, whatever size a stage's model has.
        let after = ModelConfig { vocab_size: first.vocab_size, ..stage.model_after(&model) };
        let teacher = (stage.kind() != StageKind::Train).then_some(&model);
        let needed = training_bytes(&after, teacher, stage.schedule());
        if needed > available {
            let sizes = sizes(&after, teacher, stage.schedule(), needed);
            return Err(MemoryError::Stage { stage: index + 1, kind: stage.kind(), needed, available, sizes });
        }
        model = after;
    }
    Ok(())
}

/// The sizes that use most of the memory: those whose halving saves most.
fn sizes(model: &ModelConfig, teacher: Option<&ModelConfig>, schedule: &Schedule, needed: u64) -> String {
    let half = |change: fn(&mut ModelConfig)| {
        let mut smaller = model.clone();
        change(&mut smaller);
        training_bytes(&smaller, teacher, schedule)
    };
    let batch_size = schedule.batch_size;
    let half_batch = Schedule { batch_size: batch_size.div_ceil(2), ..schedule.clone() };
    let lengths = schedule.window_lengths.iter().map(|length| length.div_ceil(2)).collect();
    let half_lengths = Schedule { window_lengths: lengths, ..schedule.clone() };
    let longest = schedule.windows(model.n_seq).longest();
    let halved = [
        ("vocab_size", model.vocab_size, half(|model| model.vocab_size = model.vocab_size.div_ceil(2))),
        ("d_model", model.d_model, half(|model| model.d_model = model.d_model.div_ceil(2))),
        ("d_ff", model.d_ff, half(|model| model.d_ff = model.d_ff.div_ceil(2))),
        ("heads", model.heads, half(|model| model.heads = model.heads.div_ceil(2))),
        ("num_experts", model.num_experts, half(|model| model.num_experts = model.num_experts.div_ceil(2))),
        ("n_layers", model.n_layers, half(|model| model.n_layers = model.n_layers.div_ceil(2))),
        ("n_seq", model.n_seq, half(|model| model.n_seq = model.n_seq.div_ceil(2))),
        ("schedule.batch_size", batch_size, training_bytes(model, teacher, &half_batch)),
        ("schedule.window_lengths", longest, training_bytes(model, teacher, &half_lengths)),
    ];
    let mut named: Vec<(f64, String)> = halved
        .into_iter()
        .map(|(name, value, bytes)| (1.0 - bytes as f64 / needed as f64, format!("{name} ({})", grouped(value as u64))))
        .filter(|(saved, _)| *saved >= WORTH_NAMING)
        .collect();
    named.sort_by(|a, b| b.0.total_cmp(&a.0));
    let named: Vec<String> = named.into_iter().map(|(_, name)| name).collect();
    if named.is_empty() { "the sizes of the model".to_owned() } else { named.join(", ") }
}

/// Checks that windows of a text fit in the available memory.
///
/// # Errors
/// [`MemoryError::Window`].
pub fn check_evaluation(architecture: &Architecture, tokens: usize, threads: usize) -> Result<(), MemoryError> {
    let needed = evaluation_bytes(architecture, tokens, threads);
    match available() {
        Some(available) if needed > available => Err(MemoryError::Window {
            window: tokens.min(architecture.n_seq),
            needed,
            available,
            heads: architecture.heads,
            width: architecture.d_model,
        }),
        _ => Ok(()),
    }
}

/// Memory in bytes that this process can still allocate, limited by machine and control groups.
/// `None` if the system does not report it.
pub fn available() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| of_meminfo(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").ok();
    let group = groups.and_then(|groups| of_groups(&groups, Path::new("/sys/fs/cgroup")));
    [machine, group].into_iter().flatten().min()
}

fn of_meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// The least memory that the process's control groups and their parents leave. `groups` is the
/// content of `/proc/self/cgroup`.
fn of_groups(groups: &str, root: &Path) -> Option<u64> {
    let left = groups.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let (root, names) = match controllers {
            "" => (root.to_owned(), ["memory.max", "memory.current", "inactive_file"]),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (root.join("memory"), ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"])
            }
            _ => return None,
        };
        let group = root.join(path.trim_start_matches('/'));
        group
            .ancestors()
            .take_while(|folder| folder.starts_with(&root))
            .filter_map(|group| available_in(group, names))
            .min()
    });
    left.min()
}

/// Memory left in a control group: its limit minus the used memory. Unused pages of the file cache
/// are reclaimable, so they do not count as used.
fn available_in(group: &Path, [limit, used, reclaimable]: [&str; 3]) -> Option<u64> {
    let number = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    // `max` is not a number and means no limit.
    let (limit, used) = (number(group.join(limit))?, number(group.join(used))?);
    let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let reclaimable = stat.lines().find_map(|line| line.strip_prefix(reclaimable)?.trim().parse().ok()).unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(reclaimable)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DistillConfig, TrainConfig};

    const GIGABYTE: u64 = 1 << 30;

    fn train(batch_size: usize) -> StageConfig {
        StageConfig::Train(TrainConfig { schedule: Schedule { batch_size, ..Schedule::default() }, model: None })
    }

    fn refused(change: fn(&mut ModelConfig), batch_size: usize) -> String {
        let mut model = ModelConfig::preset("seed").expect("a preset");
        change(&mut model);
        model.validate().expect("within the limits of a model");
        fit_stages(&[&train(batch_size)], &model, 8 * GIGABYTE).expect_err("too large").to_string()
    }

    #[test]
    fn presets_fit_and_large_sizes_are_named_in_errors() {
        for preset in ["seed", "memory", "tiny"] {
            let model = ModelConfig::preset(preset).expect("a preset");
            assert_eq!(
                fit_stages(&[&train(20), &StageConfig::Distill(DistillConfig::default())], &model, GIGABYTE),
                Ok(())
            );
        }
        let heads = refused(|model| (model.heads, model.n_layers) = (1 << 10, 256), 20);
        assert!(heads.starts_with("stage 1 (train) needs at least "), "{heads}");
        assert!(heads.contains(" bytes of memory, but 8,589,934,592 are available: it grows most with "), "{heads}");
        assert!(heads.contains("n_layers (256), n_seq (128), schedule.batch_size (20), heads (1,024)"), "{heads}");
        assert!(
            refused(|model| (model.d_model, model.vocab_size) = (1 << 11, 1 << 16), 20).contains("d_model (2,048)")
        );
        assert!(refused(|model| model.vocab_size = 1 << 22, 20).contains("vocab_size (4,194,304)"));
        assert!(refused(|model| model.n_layers = 256, 1 << 12).contains("schedule.batch_size (4,096)"));
        assert!(refused(|model| model.n_seq = 1 << 20, 20).contains("n_seq (1,048,576)"));
    }

    #[test]
    fn a_later_stage_is_checked_with_its_own_model_and_no_product_overflows() {
        let seed = ModelConfig::preset("seed").expect("a preset");
        let student = ModelConfig { heads: 1 << 16, n_layers: 256, n_seq: 1 << 20, ..seed.clone() };
        let distill = DistillConfig {
            model: Some(student),
            schedule: Schedule { batch_size: 1 << 20, ..Schedule::default() },
            ..DistillConfig::default()
        };
        let error = fit_stages(&[&train(20), &StageConfig::Distill(distill)], &seed, GIGABYTE).expect_err("too large");
        assert!(matches!(error, MemoryError::Stage { stage: 2, needed: u64::MAX, .. }), "{error}");
    }

    #[test]
    fn a_window_is_at_most_as_long_as_its_text() {
        let seed = ModelConfig::preset("seed").expect("a preset");
        let long = ModelConfig { n_seq: 1 << 20, ..seed.clone() }.architecture();
        assert_eq!(evaluation_bytes(&long, 1_000, 2), 4 * 1_000 * (3 * 64 + 128 + 4));
        assert_eq!(evaluation_bytes(&seed.architecture(), 1_000, 2), 4 * 2 * 128 * (3 * 64 + 128 + 4));
    }

    #[test]
    fn available_memory_is_the_least_of_machine_and_control_groups() {
        assert_eq!(of_meminfo("MemTotal: 9 kB\nMemAvailable:    2048 kB\n"), Some(2048 * 1024));
        assert_eq!(of_meminfo("MemTotal: 9 kB\n"), None);
        let root = tempfile::tempdir().expect("a folder");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(path, text).expect("written");
        };
        assert_eq!(of_groups("0::/a/b\n", root.path()), None);
        write("a/memory.max", "1000\n");
        write("a/memory.current", "700\n");
        write("a/memory.stat", "anon 5\ninactive_file 100\n");
        write("a/b/memory.max", "max\n");
        write("a/b/memory.current", "600\n");
        assert_eq!(of_groups("0::/a/b\n", root.path()), Some(400));
        write("memory/c/memory.limit_in_bytes", "500\n");
        write("memory/c/memory.usage_in_bytes", "450\n");
        assert_eq!(of_groups("3:cpu,memory:/c\n1:name=systemd:/a\n", root.path()), Some(50));
        assert_eq!(of_groups("0::/a/b\n3:memory:/c\n", root.path()), Some(50));
    }
}
