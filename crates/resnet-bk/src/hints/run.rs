//! What to do about a run that could not begin, go on or finish.

use super::corpus::{of_batch, of_corpus};
use super::file::of_io;
use super::model::{of_checkpoint, of_load};
use crate::device::DeviceError;
use crate::memory::MemoryError;
use crate::pipeline::RunError;
use crate::train::TrainError;

pub(super) fn of_run(error: &RunError) -> Option<String> {
    let hint = match error {
        RunError::Exists { .. } => "`--resume` goes on with that run; another --out begins a new one",
        RunError::Busy { .. } => "wait for it to end, or choose another --out",
        RunError::OtherRecipe { .. } => "choose another --out, or go on with that folder's recipe.toml and no --set",
        RunError::OtherText { .. } => "go on with the text that the run began with, or choose another --out",
        RunError::OtherModel { .. } => {
            "go on with the --model that the run began with, or without where it began with none, or choose another --out"
        }
        RunError::Unfinished { .. } => "finish that run with `--resume`, or pass the checkpoint of a finished stage",
        RunError::NoBaseline { .. } => "--baseline CHECKPOINT supplies a float model; --bytes asks for a size instead",
        RunError::OnlyTraining => {
            "add a stage of kind \"qat\", \"prune\", \"distill\" or \"plan\", or leave out --model"
        }
        RunError::NotARun { .. } => "choose a new or empty folder for --out",
        RunError::NothingToResume { .. } => "check --out, or leave out --resume to begin a run there",
        RunError::TinyHeldOut { .. } => "move more text into valid.txt",
        RunError::TinyDev { .. } => "use a longer text, or a recipe without keep_best_epoch and `plan` stages",
        RunError::OtherBaseline { .. } | RunError::QuantizedBaseline { .. } => {
            "pass the checkpoint of a `train` stage that was made with the same vocabulary"
        }
        RunError::Parity { .. } => "this is a bug of resnet-bk: please report it",
        RunError::Windows { positions, .. } => {
            return Some(format!("set model.n_seq of that stage to {positions} or fewer"));
        }
        RunError::Milestone { .. } => "place it by `epoch`, or train the stage for longer",
        RunError::Carry { .. } => {
            "set schedule.carry_windows=1 of that stage, or begin with a causal model without position embeddings"
        }
        RunError::SizeOfFloats { .. } => {
            "set quantization.learned of a qat or distill stage, or leave out schedule.weights_bytes"
        }
        RunError::NothingToCompress(_) => {
            "give a checkpoint by --model, or begin the recipe with a stage of kind \"train\""
        }
        RunError::NoStages => "let a kind of stages run: --set model.use_quantization=true",
        RunError::Artifact(_) => UNTRAINED,
        // Transparent: their own types do not show in the chain.
        RunError::Device(error) => return of_device(error),
        RunError::Memory(error) => of_memory(error),
        RunError::Corpus(error) => return of_corpus(error),
        RunError::Batch(error) => of_batch(error),
        RunError::Checkpoint(error) => of_checkpoint(error),
        RunError::Load(error) => return of_load(error).map(str::to_owned),
        RunError::Train(error) => return of_training(error),
        RunError::RanksDiffer { .. } => {
            "all processes need the same program, the same command and the same text: check what each machine has"
        }
        RunError::File { source, .. } => of_io(source),
        RunError::Ngrams(_) | RunError::Leader(_) => return None,
    };
    Some(hint.to_owned())
}

/// A model whose weights cannot be packed.
const UNTRAINED: &str =
    "its values are no trained model's: a smaller learning_rate, or a larger schedule.weights_bytes";

fn of_training(error: &TrainError) -> Option<String> {
    let hint = match error {
        TrainError::Diverged { stage, .. } | TrainError::TrialsDiverged { stage } => {
            return Some(format!(
                "a smaller step than that stage's, such as --set stage.{}.schedule.learning_rate=1e-3, where the recipe's \
                 stages are numbered from 0; or a smaller limit of the gradient: --set model.grad_clip=0.5",
                stage.saturating_sub(1)
            ));
        }
        TrainError::NothingHeldOut { .. } => "move more text into valid.txt",
        TrainError::NoBudget => {
            "--target RATIO or --bytes BYTES sets one, as target.ratio or target.bytes of the recipe"
        }
        TrainError::NoStudent { .. } => {
            "allow more (--target, --bytes; --bytes counts the whole file, its vocabulary too), \
             or ask for a smaller vocabulary: --set model.vocab_size=4000"
        }
        TrainError::Device { source, .. } => return of_device(source),
        TrainError::Artifact(_) => UNTRAINED,
        TrainError::Batch(error) => of_batch(error),
        TrainError::Checkpoint(error) => of_checkpoint(error),
        TrainError::RanksDiffer { .. } => {
            "all processes need processors of one kind; `--resume` goes on from the epoch before"
        }
        TrainError::Stopped { .. } => "`--resume` goes on from its last epoch",
        TrainError::NoDevSlice | TrainError::Leader(_) => return None,
    };
    Some(hint.to_owned())
}

pub(super) fn of_device(error: &DeviceError) -> Option<String> {
    let hint = match error {
        DeviceError::Library { provided_by, .. } => {
            return Some(format!(
                "install {provided_by}, and put its folder of libraries into LD_LIBRARY_PATH; docs/gpu.md has more; \
                 or train on the CPU: --device cpu"
            ));
        }
        DeviceError::Shared { .. } => "with --device cuda each process takes a GPU of its own",
        DeviceError::Leader(_) => return None,
        DeviceError::NoDevice { .. } => "choose another --device, or --device cpu",
        DeviceError::TooOld { .. } => "train on the CPU: --device cpu",
        DeviceError::OutOfMemory { batch, .. } => {
            let batch = batch.unwrap_or(8);
            return Some(format!(
                "a smaller batch takes less: --set schedule.batch_size={batch}; other programs may hold memory, see nvidia-smi"
            ));
        }
        DeviceError::Compilation(_) => {
            "this is a bug of resnet-bk: please report it; --device cpu trains without a GPU"
        }
        DeviceError::Call { .. } => "what is trained is saved: --resume goes on with it, --device cpu without the GPU",
    };
    Some(hint.to_owned())
}

pub(super) fn of_memory(error: &MemoryError) -> &'static str {
    match error {
        MemoryError::Stage { .. } => {
            "end other programs, or lower a size: --set model.d_model=64, --set schedule.batch_size=8"
        }
        MemoryError::Window { .. } => "a shorter text takes less; check where the model is from",
    }
}
