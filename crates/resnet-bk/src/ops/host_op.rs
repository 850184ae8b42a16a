//! The bridge between Burn's autodiff and plain slices.

use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};

use burn_backend::tensor::FloatTensor;
use burn_flex::{Flex, FlexTensor};
use burn_tensor::{Tensor, TensorData};
use std::fmt::Debug;
use std::sync::Arc;

/// An operation of `N` float tensors, all contiguous and row-major.
pub trait HostOp<const N: usize>: Debug + Send + Sync + 'static {
    /// Computes the output, and keeps in `self` what only the forward pass knows and the backward pass needs.
    fn forward(&mut self, inputs: [&[f32]; N]) -> Vec<f32>;

    /// Gradients of the inputs from the gradient of the output. Where `needed` is false, an empty vector will do.
    fn backward(&self, inputs: [&[f32]; N], output: &[f32], gradient: &[f32], needed: [bool; N]) -> [Vec<f32>; N];

    /// Runs the operation and, if an input is tracked, records its backward.
    ///
    /// # Panics
    /// If the output does not fill `shape`, or a tensor is not float32 on the CPU backend.
    fn apply<const D: usize>(mut self, inputs: [Input; N], shape: [usize; D]) -> Tensor<D>
    where
        Self: Sized,
    {
        let tracked = inputs.iter().any(|input| matches!(input, Input::Tracked(_)));
        let values: [FlexTensor; N] = inputs.each_ref().map(Input::values);
        let output = self.forward(values.each_ref().map(slice));
        let output = FlexTensor::from_data(TensorData::new(output, shape));
        if !tracked {
            return Tensor::from_primitive::<Flex>(output);
        }
        let nodes = inputs.map(Input::into_tracked).map(|tensor| tensor.node());
        let tensor = match Recorded::<Self, N>::new().prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let state = Arc::new(Saved { op: self, inputs: values, output: output.clone() });
                prepared.finish(State(state), output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        };
        Tensor::from_primitive::<Autodiff<Flex>>(tensor)
    }
}

/// A tensor of any rank on its way into a [`HostOp`].
#[derive(Debug)]
pub enum Input {
    /// Part of an autodiff graph.
    Tracked(FloatTensor<Autodiff<Flex>>),
    /// Plain values.
    Plain(FlexTensor),
}

impl<const D: usize> From<&Tensor<D>> for Input {
    fn from(tensor: &Tensor<D>) -> Self {
        match tensor.clone().try_into_primitive::<Autodiff<Flex>>() {
            Ok(tracked) => Self::Tracked(tracked),
            Err(_) => Self::Plain(tensor.clone().try_into_primitive::<Flex>().expect("a tensor on the flex backend")),
        }
    }
}

impl Input {
    fn values(&self) -> FlexTensor {
        match self {
            Self::Tracked(tensor) => tensor.primitive().to_contiguous(),
            Self::Plain(tensor) => tensor.to_contiguous(),
        }
    }

    fn into_tracked(self) -> FloatTensor<Autodiff<Flex>> {
        match self {
            Self::Tracked(tensor) => tensor,
            Self::Plain(tensor) => FloatTensor::<Autodiff<Flex>>::new(tensor),
        }
    }
}

fn slice(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice::<f32>().expect("contiguous float32 values")
}

#[derive(Debug)]
struct Saved<O, const N: usize> {
    op: O,
    inputs: [FlexTensor; N],
    output: FlexTensor,
}

#[derive(Debug)]
struct State<O, const N: usize>(Arc<Saved<O, N>>);

// Derived, it would ask for `O: Clone`, which the shared pointer does not need.
impl<O, const N: usize> Clone for State<O, N> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

#[derive(Debug)]
struct Recorded<O, const N: usize>(std::marker::PhantomData<O>);

impl<O, const N: usize> Recorded<O, N> {
    fn new() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<O: HostOp<N>, const N: usize> Backward<Flex, N> for Recorded<O, N> {
    type State = State<O, N>;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let saved = &ops.state.0;
        let gradient = grads.consume::<Flex>(&ops.node).to_contiguous();
        let needed = ops.parents.each_ref().map(Option::is_some);
        let results =
            saved.op.backward(saved.inputs.each_ref().map(slice), slice(&saved.output), slice(&gradient), needed);
        for ((parent, result), input) in ops.parents.into_iter().zip(results).zip(&saved.inputs) {
            if let Some(node) = parent {
                let shape = input.layout().shape().clone();
                grads.register::<Flex>(node.id, FlexTensor::from_data(TensorData::new(result, shape)));
            }
        }
    }
}
