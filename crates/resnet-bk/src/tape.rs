//! Reverse-mode differentiation by a Wengert list: operations are recorded as they run, and their
//! gradients are taken from the last one back to the first.
//!
//! ```text
//! forward    y = f(a, b)           recorded: f, what it keeps, and where a and b were recorded
//! backward   (da, db) = f'(dy)     added to what the later users of a and b have sent already
//! ```
//!
//! A [`Tensor`] is a shared buffer with a shape. It knows its place on a [`Tape`] if a gradient may
//! be asked for, and is a constant otherwise. An operation of constants is not recorded, so that
//! evaluation and training run the same code (Bartholomew-Biggs and others, "Automatic
//! differentiation of algorithms", J. Comput. Appl. Math. 124, 2000, describes the method).

use crate::buffer::Buffer;
use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An operation of `N` tensors on the host; all are row-major.
pub trait HostOp<const N: usize>: Debug + Send + 'static {
    /// Computes the output, and keeps in `self` what only the forward pass knows and the backward
    /// pass needs.
    fn forward(&mut self, inputs: [&[f32]; N]) -> Vec<f32>;

    /// Gradients of the inputs from the gradient of the output. The operation owns the latter: it
    /// may overwrite it, or return it where an input has the same gradient. Where `needed` is
    /// false, an empty vector will do.
    fn backward(self, inputs: [&[f32]; N], output: &[f32], gradient: Vec<f32>, needed: [bool; N]) -> [Vec<f32>; N];

    /// Runs the operation and records it if a gradient of an input may be asked for.
    ///
    /// # Shapes
    /// - `shape`: rows and columns of the output
    ///
    /// # Panics
    /// If the output does not fill `shape`, or inputs were recorded on different tapes.
    fn apply(mut self, inputs: [&Tensor; N], shape: [usize; 2]) -> Tensor
    where
        Self: Sized,
    {
        let output = Buffer::from(self.forward(inputs.map(Tensor::values)));
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
        let backward = move |gradient: Vec<f32>| {
            let inputs = saved.each_ref().map(Buffer::as_slice);
            self.backward(inputs, &saved_output, gradient, parents.map(|parent| parent.is_some())).into()
        };
        tape.record(output, shape, Some(Operation { parents: parents.into(), backward: Box::new(backward) }))
    }
}

/// What an operation does with the gradient of its output.
type Backward = Box<dyn FnOnce(Vec<f32>) -> Vec<Vec<f32>> + Send>;

struct Operation {
    /// Places of the inputs; `None` for constants.
    parents: Vec<Option<usize>>,
    backward: Backward,
}

/// The operations of one forward pass, in their order.
#[derive(Clone, Default)]
pub struct Tape {
    /// `None` for leaves, whose gradients are what is asked for.
    operations: Arc<Mutex<Vec<Option<Operation>>>>,
}

impl Tape {
    /// A tensor whose gradient can be asked for after the backward pass.
    ///
    /// # Panics
    /// If the buffer does not fill the shape.
    pub fn leaf(&self, buffer: Buffer, shape: [usize; 2]) -> Tensor {
        self.record(buffer, shape, None)
    }

    fn record(&self, buffer: Buffer, shape: [usize; 2], operation: Option<Operation>) -> Tensor {
        let mut operations = self.lock();
        operations.push(operation);
        let place = Place { tape: self.clone(), index: operations.len() - 1 };
        Tensor { place: Some(place), ..Tensor::constant(buffer, shape) }
    }

    /// A thread that panicked while it held the list has recorded its operation or has not.
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

/// Where a tensor was recorded.
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
    /// A tensor that no gradient is asked for.
    ///
    /// # Panics
    /// If the buffer does not fill the shape.
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

    /// The numbers, shared.
    pub fn into_buffer(self) -> Buffer {
        self.buffer
    }

    /// Gradients of this tensor's sum. The tape is empty afterwards.
    pub fn backward(&self) -> Gradients {
        let Some(Place { tape, index: last }) = &self.place else { return Gradients::default() };
        let mut operations = std::mem::take(&mut *tape.lock());
        let mut gradients: Vec<Option<Vec<f32>>> = Vec::new();
        gradients.resize_with(operations.len(), || None);
        gradients[*last] = Some(vec![1.0; self.values().len()]);
        while let Some(operation) = operations.pop() {
            let index = operations.len();
            // A leaf keeps its gradient; an operation that the result does not depend on has none.
            let Some(Operation { parents, backward }) = operation else { continue };
            let Some(gradient) = gradients[index].take() else { continue };
            for (parent, gradient) in parents.into_iter().zip(backward(gradient)) {
                let Some(parent) = parent else { continue };
                match &mut gradients[parent] {
                    Some(sum) => sum.iter_mut().zip(gradient).for_each(|(sum, x)| *sum += x),
                    none => *none = Some(gradient),
                }
            }
        }
        Gradients { of: gradients }
    }
}

/// Gradients of the leaves of a tape.
#[derive(Debug, Default)]
pub struct Gradients {
    of: Vec<Option<Vec<f32>>>,
}

impl Gradients {
    /// Takes the gradient of a leaf; `None` where the result does not depend on it.
    pub fn take(&mut self, leaf: &Tensor) -> Option<Vec<f32>> {
        let place = leaf.place.as_ref()?;
        self.of.get_mut(place.index)?.take()
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
        assert_eq!(gradients.take(&a).unwrap(), [2.0 * 2.0 * 5.0, 2.0 * 3.0 * 7.0]);
        assert_eq!(gradients.take(&b).unwrap(), [4.0, 9.0]);
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
        assert_eq!(gradients.take(&a).unwrap(), [3.0]);
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
