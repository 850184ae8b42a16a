//! `resnet-bk bench`: speed of training on this machine, compared with the machine's limits.

use crate::failure::Failure;
use crate::observers::ProgressMode;
use crate::printer::{Printer, Table, grouped};
use crate::{Outcome, arguments, device};
use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use resnet_bk::bench::{
    KernelReport, LENGTHS, ScalingCase, StepReport, Stretches, bench_kernels, bench_scaling, bench_step, has_steps,
    step_recipe,
};
use resnet_bk::config::Recipe;
use resnet_bk::device::check::{Comparison, TOLERANCE, check_operations, check_steps};
use resnet_bk::device::{Device, DeviceChoice, catch};
use resnet_bk::numerics;
use resnet_bk::ranks::Ranks;
use resnet_bk_runtime::internal::architecture::Mixer;
use std::path::PathBuf;

/// Measure training on this machine
///
/// Times are medians. Nothing else should run meanwhile; compare numbers of one run only.
#[derive(Args)]
pub struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// The head's losses and the resolvent, beside the machine's float32 rate and memory bandwidth
    Kernel {
        #[command(flatten)]
        options: Options,
    },
    /// Whole training steps of a preset or of a recipe's stage, on random tokens
    Step {
        /// The model: seed, memory or tiny
        #[arg(long, default_value = "seed")]
        preset: String,
        /// A recipe, instead of a preset
        #[arg(long, value_name = "FILE", conflicts_with_all = ["preset", "precision"])]
        recipe: Option<PathBuf>,
        /// Number of the recipe's stage, from 1. Earlier stages do not run
        #[arg(long, default_value_t = 1, requires = "recipe", value_parser = arguments::count)]
        stage: usize,
        /// Change a value of the recipe
        #[arg(long, value_name = "KEY=VALUE", requires = "recipe")]
        set: Vec<String>,
        /// Number format of the head's products
        #[arg(long, value_enum, default_value_t = Precision::Bf16)]
        precision: Precision,
        /// Where to train: auto, cpu, cuda or cuda:N
        #[arg(long, default_value = "auto")]
        device: DeviceChoice,
        /// Also time each kernel of a step on a GPU
        #[arg(long)]
        kernels: bool,
        #[command(flatten)]
        options: Options,
    },
    /// Time and memory of a block against the length of the sequence, forward and backward
    Scaling {
        /// Lengths of the sequence, in tokens, with commas between them
        #[arg(long, value_delimiter = ',', default_values_t = LENGTHS, value_parser = arguments::count)]
        lengths: Vec<usize>,
        /// Where: auto, cpu, cuda or cuda:N
        #[arg(long, default_value = "auto")]
        device: DeviceChoice,
        #[command(flatten)]
        options: Options,
    },
    /// Compare every operation on a GPU with the same operation on the CPU
    Device {
        /// The GPU: cuda or cuda:N
        #[arg(long, default_value = "cuda")]
        device: DeviceChoice,
        /// Compare; exits with 1 if a result differs by more than rounding
        #[arg(long, required = true)]
        check: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct Options {
    /// Timed runs of each thing
    #[arg(long, default_value_t = 20, value_parser = arguments::runs, allow_negative_numbers = true)]
    runs: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Precision {
    /// bf16 where the processor multiplies it in hardware, else float32
    Bf16,
    /// float32
    Float32,
}

/// Measures and prints the result.
pub fn run(arguments: &Bench, ranks: &Ranks, printer: &mut Printer) -> Result<Outcome> {
    if !ranks.are_alone() && !matches!(arguments.what, What::Step { .. }) {
        return Err(Failure::new("only `bench step` is for several processes", "start it without mpirun").into());
    }
    match &arguments.what {
        What::Kernel { options } => {
            let report = bench_kernels(options.runs);
            if options.json { printer.json(&report)? } else { print_kernels(&report, printer)? }
        }
        What::Step { preset, recipe, stage, set, precision, device, kernels, options } => {
            let precision = match precision {
                Precision::Bf16 => numerics::Precision::Bf16,
                Precision::Float32 => numerics::Precision::Float32,
            };
            let recipe = match recipe {
                Some(path) => Recipe::read(path, set)?,
                None => Recipe::parse(&step_recipe(preset, precision), "the preset's recipe", &[])?,
            };
            if !recipe.stages.get(stage - 1).is_some_and(has_steps) {
                let hint = format!("the recipe has {}; a plan's cannot be timed", recipe.stages.len());
                return Err(Failure::new(format!("there are no steps of stage {stage} to time"), hint).into());
            }
            let device = device::open_on(ranks, *device, ProgressMode::Lines)?;
            let report = bench_step(&recipe, *stage, &device, ranks, options.runs, *kernels)?;
            match ranks.leads() {
                true if options.json => printer.json(&report)?,
                true => print_step(&report, printer)?,
                false => {}
            }
        }
        What::Scaling { lengths, device, options } => {
            let device = device::open(*device)?;
            for mixer in [Mixer::Diagonal, Mixer::Propagator] {
                let cases = bench_scaling(mixer, lengths, &device, options.runs)?;
                print_scaling(&cases, options.json, printer)?;
            }
        }
        What::Device { device, json, .. } => return check_device(*device, *json, printer),
    }
    Ok(Outcome::Done)
}

fn check_device(choice: DeviceChoice, json: bool, printer: &mut Printer) -> Result<Outcome> {
    let device = device::open(choice)?;
    let Device::Cuda(cuda) = &device else {
        return Err(Failure::new("there is no GPU to check", "pass --device cuda:N").into());
    };
    let comparisons = catch(|| [check_operations(cuda), check_steps(cuda)].concat())?;
    let is_ok = comparisons.iter().all(Comparison::is_ok);
    if json {
        printer.json(&comparisons)?;
    } else {
        for wrong in comparisons.iter().filter(|comparison| !comparison.is_ok()) {
            let Comparison { case, result, error, tolerance } = wrong;
            printer.line(format_args!("{case}: {result} differs by {error:.1e}, more than {tolerance:.0e}"))?;
        }
        let largest = comparisons.iter().filter(|c| c.tolerance <= TOLERANCE).map(|c| c.error).fold(0.0, f64::max);
        let wrong = comparisons.iter().filter(|comparison| !comparison.is_ok()).count();
        printer.line(format_args!(
            "{} results compared, {wrong} wrong; largest relative difference of float32 results {largest:.1e}",
            comparisons.len(),
        ))?;
    }
    Ok(if is_ok { Outcome::Done } else { Outcome::TargetMissed })
}

fn print_kernels(report: &KernelReport, printer: &mut Printer) -> Result<()> {
    printer.line(format_args!("{} threads; float32 products {:.0} GFLOP/s", report.threads, report.sgemm_gflops))?;
    printer.line("")?;
    let mut table =
        Table::new(["loss of the head", "products", "tokens", "width", "words", "ms", "floor ms", "over floor"]);
    for case in &report.head {
        table.row([
            case.loss.to_owned(),
            case.head_products.to_owned(),
            grouped(case.tokens as u64),
            case.width.to_string(),
            grouped(case.words as u64),
            format!("{:.1}", case.time.median_ms),
            format!("{:.1}", case.float32_floor_ms),
            format!("{:.2}", case.over_floor),
        ]);
    }
    printer.line(&table)?;
    printer.line("")?;
    let mut table =
        Table::new(["resolvent", "batch", "heads", "length", "ms", "ns per element", "copy GB/s", "of the copy's"]);
    for case in &report.resolvent {
        table.row([
            match case.stretches {
                Stretches::Allowed => "causal".to_owned(),
                Stretches::Never => "causal, never cut".to_owned(),
            },
            case.batch.to_string(),
            case.heads.to_string(),
            grouped(case.length as u64),
            format!("{:.3}", case.time.median_ms),
            format!("{:.3}", case.ns_per_element),
            format!("{:.1}", case.copy_gbps),
            format!("{:.2}", case.share_of_copy),
        ]);
    }
    printer.line(&table)?;
    Ok(())
}

/// Prints a line for each length; with `json`, an object a line, as `benches/peers` reads them.
fn print_scaling(cases: &[ScalingCase], json: bool, printer: &mut Printer) -> Result<()> {
    if json {
        for case in cases {
            printer.line(serde_json::to_string(case)?)?;
        }
        return Ok(());
    }
    let mut table = Table::new(["mixer", "length", "batch", "ms", "ns per token", "bytes per token"]);
    for case in cases {
        table.row([
            format!("{:?}", case.mixer).to_lowercase(),
            grouped(case.length as u64),
            case.batch.to_string(),
            format!("{:.3}", case.time.median_ms),
            format!("{:.1}", case.ns_per_token),
            case.bytes_per_token.map_or("unknown".to_owned(), |bytes| grouped(bytes as u64)),
        ]);
    }
    printer.line(&table)?;
    Ok(())
}

fn print_step(report: &StepReport, printer: &mut Printer) -> Result<()> {
    let rows = [
        ("model", format!("{} parameters, in a {} stage", grouped(report.parameters as u64), report.kind)),
        (
            "batch",
            match report.processes {
                1 => format!("{} windows of {} tokens", report.batch_size, report.n_seq),
                n => format!("{} windows of {} tokens on each of {n} processes", report.batch_size, report.n_seq),
            },
        ),
        ("device", report.device.clone()),
        ("head products", report.head_products.to_owned()),
        (
            "step",
            format!(
                "{:.2} ms (median of {}, fastest {:.2})",
                report.step.median_ms, report.step.runs, report.step.fastest_ms
            ),
        ),
        ("tokens", format!("{} a second", grouped(report.tokens_per_second as u64))),
        (
            "peak memory",
            report.peak_memory.map_or("unknown".to_owned(), |bytes| format!("{:.0} MB", bytes as f64 / 1e6)),
        ),
        (
            "device memory",
            report.peak_device_memory.map_or("none".to_owned(), |bytes| format!("{:.0} MB", bytes as f64 / 1e6)),
        ),
    ];
    for (name, value) in rows {
        printer.line(format_args!("{name:<13}  {value}"))?;
    }
    if report.kernels.is_empty() {
        return Ok(());
    }
    printer.line("")?;
    let mut table = Table::new(["kernel", "launches", "ms"]);
    for kernel in &report.kernels {
        let launches = kernel.launches.to_string();
        table.row([kernel.name.clone(), launches, format!("{:.4}", kernel.milliseconds)]);
    }
    printer.line(&table)?;
    Ok(())
}
