//! Reverse-mode differentiation with a Wengert list. Operations are recorded as they run. Gradients
//! are computed from the last operation to the first.
//!
//! ```text
//! forward    y = f(a, b)           record f, its saved values, and the positions of a and b
//! backward   (da, db) = f'(dy)     add to the gradients from later uses of a and b
//! ```
//!
//! A [`Tensor`] is a shared buffer with a shape. It has a position on a [`Tape`] if it needs a
//! gradient; otherwise it is a constant. Operations on constants are not recorded, so evaluation
//! and training use the same code (method: Bartholomew-Biggs and others, "Automatic differentiation
//! of algorithms", J. Comput. Appl. Math. 124, 2000).

use crate::buffer::Buffer;
use crate::device::Cuda;
use crate::device::cuda::{Array, blocks, launch};
use std::collections::HashSet;
use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The host's implementation of an operation with `N` input tensors; all are row-major.
pub trait HostOp<const N: usize>: Debug + Send + 'static {
    /// Computes the output. Saves values for the backward pass in `self`.
    fn forward(&mut self, inputs: [&[f32]; N]) -> Vec<f32>;

    /// Gradients of the inputs from the gradient of the output. `gradient` may be overwritten, or
    /// returned for an input with the same gradient. If `needed` is false for an input, an empty
    /// vector is enough.
    fn backward(self, inputs: [&[f32]; N], output: &[f32], gradient: Vec<f32>, needed: [bool; N]) -> [Vec<f32>; N];
}

/// The implementation of an operation on an NVIDIA GPU.
pub trait CudaOp<const N: usize> {
    /// As [`HostOp::forward`].
    fn forward(&mut self, cuda: &Cuda, inputs: [&Array; N]) -> Array;

    /// As [`HostOp::backward`]. `None` for inputs that are not needed. `gradient` must not be
    /// overwritten; it may be returned for several inputs.
    fn backward(
        self,
        cuda: &Cuda,
        inputs: [&Array; N],
        output: &Array,
        gradient: Array,
        needed: [bool; N],
    ) -> [Option<Array>; N];
}

/// An operation that runs where its inputs are.
pub trait Op<const N: usize>: HostOp<N> + CudaOp<N> + Sized {
    /// Runs the operation, and records it if an input needs a gradient. It runs on a GPU if an
    /// input is there.
    ///
    /// # Shapes
    /// - `shape`: rows and columns of the output
    ///
    /// # Panics
    /// If the length of the output does not match `shape`, or inputs are on different tapes.
    fn apply(mut self, inputs: [&Tensor; N], shape: [usize; 2]) -> Tensor {
        let cuda = inputs.iter().find_map(|input| input.buffer.cuda()).cloned();
        let output = match &cuda {
            None => Buffer::from(HostOp::forward(&mut self, inputs.map(Tensor::values))),
            Some(cuda) => {
                let arrays = inputs.map(|input| input.buffer.array(cuda));
                Buffer::on(cuda, CudaOp::forward(&mut self, cuda, arrays))
            }
        };
        let Some(tape) = inputs.iter().find_map(|input| input.place.as_ref()).map(|place| &place.tape) else {
            return Tensor::constant(output, shape);
        };
        let parents = inputs.map(|input| {
            let place = input.place.as_ref()?;
            assert!(tape.is_same(&place.tape), "operations mix tensors of one tape only");
            Some(place.index)
        });
        let saved = inputs.map(|input| input.buffer.clone());
        let saved_output = output.clone();
        let backward = move |gradient: Buffer| {
            let needed = parents.map(|parent| parent.is_some());
            match &cuda {
                None => {
                    let inputs = saved.each_ref().map(Buffer::as_slice);
                    let gradients = HostOp::backward(self, inputs, &saved_output, gradient.into_vec(), needed);
                    gradients.into_iter().map(|gradient| Some(Buffer::from(gradient))).collect()
                }
                Some(cuda) => {
                    let inputs = saved.each_ref().map(|input| input.array(cuda));
                    let gradient = gradient.array(cuda).clone();
                    let gradients = CudaOp::backward(self, cuda, inputs, saved_output.array(cuda), gradient, needed);
                    gradients.into_iter().map(|gradient| gradient.map(|array| Buffer::on(cuda, array))).collect()
                }
            }
        };
        tape.record(output, shape, Some(Operation { parents: parents.into(), backward: Box::new(backward) }))
    }
}

impl<O: HostOp<N> + CudaOp<N>, const N: usize> Op<N> for O {}

/// Computes the gradients of the inputs from the gradient of the output.
type Backward = Box<dyn FnOnce(Buffer) -> Vec<Option<Buffer>> + Send>;

struct Operation {
    /// Positions of the inputs; `None` for constants.
    parents: Vec<Option<usize>>,
    backward: Backward,
}

/// The operations of one forward pass, in order.
#[derive(Clone, Default)]
pub struct Tape {
    /// `None` for leaves, whose gradients are the result.
    operations: Arc<Mutex<Vec<Option<Operation>>>>,
}

impl Tape {
    /// A tensor whose gradient is computed by the backward pass.
    ///
    /// # Panics
    /// If the length of the buffer does not match the shape.
    pub fn leaf(&self, buffer: Buffer, shape: [usize; 2]) -> Tensor {
        self.record(buffer, shape, None)
    }

    fn record(&self, buffer: Buffer, shape: [usize; 2], operation: Option<Operation>) -> Tensor {
        let mut operations = self.lock();
        operations.push(operation);
        let place = Place { tape: self.clone(), index: operations.len() - 1 };
        Tensor { place: Some(place), ..Tensor::constant(buffer, shape) }
    }

    /// If a thread panicked while it held the lock, the list is still consistent: the operation is
    /// recorded or not.
    fn lock(&self) -> MutexGuard<'_, Vec<Option<Operation>>> {
        self.operations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.operations, &other.operations)
    }
}

impl Debug for Tape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tape of {} operations", self.lock().len())
    }
}

/// Position of a recorded tensor.
#[derive(Clone, Debug)]
struct Place {
    tape: Tape,
    index: usize,
}

/// A matrix of float32 numbers, row-major. A vector is a single row.
#[derive(Clone, Debug)]
pub struct Tensor {
    buffer: Buffer,
    shape: [usize; 2],
    place: Option<Place>,
}

impl Tensor {
    /// A tensor without a gradient.
    ///
    /// # Panics
    /// If the length of the buffer does not match the shape.
    pub fn constant(buffer: Buffer, shape: [usize; 2]) -> Self {
        assert_eq!(buffer.len(), shape[0] * shape[1], "numbers of a tensor {shape:?}");
        Self { buffer, shape, place: None }
    }

    /// Rows and columns.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.shape[0]
    }

    /// Number of columns; the length of a vector.
    pub fn columns(&self) -> usize {
        self.shape[1]
    }

    /// The numbers.
    pub fn values(&self) -> &[f32] {
        &self.buffer
    }

    /// The numbers as a shared buffer.
    pub fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    /// The numbers as a shared buffer.
    pub fn into_buffer(self) -> Buffer {
        self.buffer
    }

    /// The same numbers without a gradient.
    pub fn detached(&self) -> Self {
        Self::constant(self.buffer.clone(), self.shape)
    }

    /// Gradients of the sum of this tensor's elements. Clears the tape.
    pub fn backward(&self) -> Gradients {
        let ones = match self.buffer.cuda() {
            None => Buffer::from(vec![1.0; self.buffer.len()]),
            Some(cuda) => {
                let ones = cuda.array(self.buffer.len());
                launch!(cuda, "fill", blocks(ones.len()), 256, &ones, 1.0, ones.len());
                Buffer::on(cuda, ones)
            }
        };
        self.backward_from(ones)
    }

    /// Gradients of the leaves from the gradient of this tensor. Clears the tape.
    ///
    /// # Panics
    /// If the gradient has another length.
    pub fn backward_from(&self, gradient: Buffer) -> Gradients {
        assert_eq!(gradient.len(), self.buffer.len(), "numbers of a gradient");
        let Some(Place { tape, index: last }) = &self.place else { return Gradients::default() };
        let mut operations = std::mem::take(&mut *tape.lock());
        let mut gradients: Vec<Option<Buffer>> = Vec::new();
        gradients.resize_with(operations.len(), || None);
        gradients[*last] = Some(gradient);
        while let Some(operation) = operations.pop() {
            let index = operations.len();
            // Keep the gradient of a leaf. Skip operations that the result does not depend on.
            let Some(Operation { parents, backward }) = operation else { continue };
            let Some(gradient) = gradients[index].take() else { continue };
            join_for(&gradient);
            for (parent, gradient) in parents.into_iter().zip(backward(gradient)) {
                let (Some(parent), Some(gradient)) = (parent, gradient) else { continue };
                match &mut gradients[parent] {
                    Some(sum) => add_to(sum, gradient),
                    none => *none = Some(gradient),
                }
            }
        }
        if let Some(cuda) = self.buffer.cuda() {
            cuda.join();
        }
        Gradients { of: gradients }
    }
}

/// Waits for work beside the main stream of a GPU that makes this gradient.
fn join_for(gradient: &Buffer) {
    if let Some(cuda) = gradient.cuda() {
        cuda.join_for(gradient.array(cuda));
    }
}

/// Adds a gradient to the sum of those before.
fn add_to(sum: &mut Buffer, gradient: Buffer) {
    match gradient.cuda().cloned() {
        None => sum.iter_mut().zip(gradient.iter()).for_each(|(sum, x)| *sum += x),
        Some(cuda) => {
            join_for(sum);
            join_for(&gradient);
            let (before, gradient) = (sum.array(&cuda).clone(), gradient.array(&cuda));
            let n = before.len();
            let total = cuda.array(n);
            launch!(cuda, "add", blocks(n), 256, &before, gradient, &total, n);
            *sum = Buffer::on(&cuda, total);
        }
    }
}

/// Gradients of the leaves of a tape.
#[derive(Debug, Default)]
pub struct Gradients {
    of: Vec<Option<Buffer>>,
}

impl Gradients {
    /// Takes the gradient of a leaf. `None` if the result does not depend on it.
    pub fn take(&mut self, leaf: &Tensor) -> Option<Buffer> {
        let place = leaf.place.as_ref()?;
        self.of.get_mut(place.index)?.take()
    }

    /// The gradients of these leaves, in the order of recording. Leaves on which the result does not
    /// depend have none.
    pub fn of_leaves<'a>(&mut self, leaves: impl Iterator<Item = &'a Tensor>) -> Vec<&mut Buffer> {
        let places: HashSet<usize> = leaves.filter_map(|leaf| Some(leaf.place.as_ref()?.index)).collect();
        let all = self.of.iter_mut().enumerate();
        all.filter(|(index, _)| places.contains(index)).filter_map(|(_, gradient)| gradient.as_mut()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a * b`, elementwise.
    #[derive(Debug)]
    struct Multiply;

    impl HostOp<2> for Multiply {
        fn forward(&mut self, [a, b]: [&[f32]; 2]) -> Vec<f32> {
            a.iter().zip(b).map(|(a, b)| a * b).collect()
        }

        fn backward(self, [a, b]: [&[f32]; 2], _: &[f32], g: Vec<f32>, needed: [bool; 2]) -> [Vec<f32>; 2] {
            let times = |x: &[f32]| x.iter().zip(&g).map(|(x, g)| x * g).collect::<Vec<f32>>();
            [if needed[0] { times(b) } else { Vec::new() }, if needed[1] { times(a) } else { Vec::new() }]
        }
    }

    impl CudaOp<2> for Multiply {
        fn forward(&mut self, _: &Cuda, _: [&Array; 2]) -> Array {
            unreachable!("the tests have no GPU")
        }

        fn backward(self, _: &Cuda, _: [&Array; 2], _: &Array, _: Array, _: [bool; 2]) -> [Option<Array>; 2] {
            unreachable!("the tests have no GPU")
        }
    }

    fn leaf(tape: &Tape, values: &[f32]) -> Tensor {
        tape.leaf(values.to_vec().into(), [1, values.len()])
    }

    #[test]
    fn gradients_of_all_users_are_added() {
        let tape = Tape::default();
        let (a, b) = (leaf(&tape, &[2.0, 3.0]), leaf(&tape, &[5.0, 7.0]));
        let square = Multiply.apply([&a, &a], [1, 2]);
        let result = Multiply.apply([&square, &b], [1, 2]);
        assert_eq!(result.values(), [20.0, 63.0]);
        let mut gradients = result.backward();
        assert_eq!(gradients.take(&a).unwrap().as_slice(), [2.0 * 2.0 * 5.0, 2.0 * 3.0 * 7.0]);
        assert_eq!(gradients.take(&b).unwrap().as_slice(), [4.0, 9.0]);
        assert!(gradients.take(&b).is_none(), "a gradient is taken once");
    }

    #[test]
    fn constants_and_unused_leaves_have_no_gradient() {
        let tape = Tape::default();
        let (a, unused) = (leaf(&tape, &[2.0]), leaf(&tape, &[1.0]));
        let constant = Tensor::constant(vec![3.0].into(), [1, 1]);
        let aside = Multiply.apply([&unused, &a], [1, 1]);
        let result = Multiply.apply([&a, &constant], [1, 1]);
        let mut gradients = result.backward();
        assert_eq!(gradients.take(&a).unwrap().as_slice(), [3.0]);
        assert!(gradients.take(&unused).is_none() && gradients.take(&constant).is_none());
        assert_eq!(aside.values(), [2.0]);
        let alone = Multiply.apply([&constant, &constant], [1, 1]);
        assert!(alone.place.is_none(), "an operation of constants is not recorded");
    }

    #[test]
    #[should_panic(expected = "one tape only")]
    fn tensors_of_different_tapes_do_not_mix() {
        let (a, b) = (leaf(&Tape::default(), &[1.0]), leaf(&Tape::default(), &[1.0]));
        Multiply.apply([&a, &b], [1, 1]);
    }
}
