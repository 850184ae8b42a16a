//! Calibration: scales of the activation quantizers, measured on training text.
//!
//! ```text
//! potential   one scale per block       scale   = max |v| / qmax
//! features    one scale per channel     scale_c = max |f_c| / qmax
//! ```
//!
//! Real and imaginary parts of the features are separate channels.

use crate::model::{LanguageModel, Leaves, Mode};
use crate::numerics::Gradient;
use crate::parameters::Parameters;
use crate::random::Random;
use resnet_bk_runtime::internal::quantization::q_max;
use resnet_bk_runtime::internal::tensor_id::{BlockTensor, ModelTensor};

/// Windows of one forward pass.
const WINDOWS: usize = 16;

/// Adds calibrated activation quantizers of `bits` bits to a model. The weights may already be
/// quantized.
///
/// Measures the activations on `samples` randomly drawn windows of `tokens`, or on all windows if
/// there are fewer. Returns the quantized parameters and the number of windows used.
pub fn calibrate(parameters: Parameters, tokens: &[u32], samples: usize, bits: u8, seed: u64) -> (Parameters, usize) {
    let architecture = parameters.architecture().clone();
    let (heads, length) = (architecture.heads, architecture.n_seq.min(tokens.len()));
    let mut starts: Vec<usize> = (0..tokens.len() / length).map(|window| window * length).collect();
    Random::keyed(&[seed, CALIBRATION]).shuffle(&mut starts);
    starts.truncate(samples);
    let leaves = Leaves::plain(&parameters);
    let model = LanguageModel::bind(&architecture, Gradient::Exact, &leaves);
    let mut largest = vec![(0.0f32, vec![0.0f32; 2 * heads]); architecture.n_layers()];
    // The groups are dealt over the ranks. A largest value does not depend on who finds it.
    let ranks = parameters.ranks();
    for group in starts.chunks(WINDOWS).skip(ranks.rank()).step_by(ranks.count()) {
        let inputs: Vec<u32> = group.iter().flat_map(|&start| &tokens[start..start + length]).copied().collect();
        let output = model.forward(&inputs.into(), length, &mut Mode::Evaluate);
        for (layer, (potential, features)) in output.layers.into_iter().zip(&mut largest) {
            *potential = layer.potential.values().iter().fold(*potential, |max, v| max.max(v.abs()));
            for row in layer.features.values().chunks(features.len()) {
                for (max, f) in features.iter_mut().zip(row) {
                    *max = max.max(f.abs());
                }
            }
        }
    }
    let mut all: Vec<f32> = largest.iter().flat_map(|(v, f)| std::iter::once(v).chain(f)).copied().collect();
    ranks.max(&mut all);
    let mut policy = architecture.quantization.clone().expect("a quantized model is calibrated");
    policy.activation_bits = Some(bits);
    let quantized =
        resnet_bk_runtime::internal::architecture::Architecture { quantization: Some(policy), ..architecture };
    let mut parameters = parameters.with_architecture(quantized);
    let qmax = f32::from(q_max(bits));
    for (block, largest) in all.chunks(1 + 2 * heads).enumerate() {
        let (potential, features) = largest.split_first().expect("a block has a potential");
        let mut set = |tensor, values: Vec<f32>| {
            let parameter = parameters.get_mut(ModelTensor::Block(block, tensor));
            parameter.expect("a quantized architecture has its scales").values = values.into();
        };
        set(BlockTensor::PotentialScale, vec![potential / qmax]);
        set(BlockTensor::FeatureScales, features.iter().map(|max| max / qmax).collect());
    }
    (parameters, starts.len())
}

/// Key of the random stream that draws the windows.
const CALIBRATION: u64 = 0xca11b;
