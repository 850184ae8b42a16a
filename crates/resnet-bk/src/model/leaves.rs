//! Burn tensors of a model's parameters, and their gradients.

use crate::ops::fake_quantize_weight;
use crate::parameters::{Parameter, Parameters};
use burn_tensor::{Device, Gradients, Tensor, TensorData};
use resnet_bk_runtime::quantization::Scheme;
use std::collections::HashMap;

/// One tensor per parameter, tracked for a training step or plain for an evaluation.
#[derive(Debug)]
pub struct Leaves {
    device: Device,
    list: Vec<Leaf>,
    index: HashMap<String, usize>,
}

#[derive(Debug)]
struct Leaf {
    tensor: Ranked,
    scheme: Option<Scheme>,
}

#[derive(Debug)]
enum Ranked {
    Vector(Tensor<1>),
    Matrix(Tensor<2>),
}

impl Leaves {
    /// Leaves whose gradients can be asked for after a backward pass.
    pub fn tracked(parameters: &Parameters) -> Self {
        Self::new(parameters, Device::flex().autodiff(), true)
    }

    /// Plain tensors for evaluation.
    pub fn plain(parameters: &Parameters) -> Self {
        Self::new(parameters, Device::flex(), false)
    }

    fn new(parameters: &Parameters, device: Device, tracked: bool) -> Self {
        let mut leaves = Self { list: Vec::new(), index: HashMap::new(), device };
        for parameter in parameters.iter() {
            leaves.push(parameter, parameters.architecture().scheme(&parameter.spec), tracked);
        }
        leaves
    }

    /// Adds a leaf that is not part of the model, such as a projection that only a loss uses.
    pub fn push_auxiliary(&mut self, parameter: &Parameter) {
        self.push(parameter, None, true);
    }

    fn push(&mut self, parameter: &Parameter, scheme: Option<Scheme>, tracked: bool) {
        let spec = &parameter.spec;
        let data = parameter.values.clone();
        let tracked = tracked && spec.is_trained();
        let tensor = match *spec.shape.as_slice() {
            [n] => {
                let tensor = Tensor::<1>::from_data(TensorData::new(data, [n]), &self.device);
                Ranked::Vector(if tracked { tensor.require_grad() } else { tensor })
            }
            [rows, columns] => {
                let tensor = Tensor::<2>::from_data(TensorData::new(data, [rows, columns]), &self.device);
                Ranked::Matrix(if tracked { tensor.require_grad() } else { tensor })
            }
            _ => unreachable!("the tensor list holds vectors and matrices"),
        };
        self.index.insert(spec.name.clone(), self.list.len());
        self.list.push(Leaf { tensor, scheme });
    }

    fn leaf(&self, name: &str) -> &Leaf {
        &self.list[self.index[name]]
    }

    /// A vector, rounded by its quantizer if it has one.
    ///
    /// # Panics
    /// If there is no vector of this name.
    pub fn vector(&self, name: &str) -> Tensor<1> {
        match self.leaf(name) {
            Leaf { tensor: Ranked::Vector(tensor), scheme: Some(scheme) } => fake_quantize_weight(tensor, *scheme),
            Leaf { tensor: Ranked::Vector(tensor), scheme: None } => tensor.clone(),
            _ => unreachable!("{name} is a vector"),
        }
    }

    /// A matrix, rounded by its quantizer if it has one.
    ///
    /// # Panics
    /// If there is no matrix of this name.
    pub fn matrix(&self, name: &str) -> Tensor<2> {
        match self.leaf(name) {
            Leaf { tensor: Ranked::Matrix(tensor), scheme: Some(scheme) } => fake_quantize_weight(tensor, *scheme),
            Leaf { tensor: Ranked::Matrix(tensor), scheme: None } => tensor.clone(),
            _ => unreachable!("{name} is a matrix"),
        }
    }

    /// The values of a constant vector.
    pub fn constants(&self, name: &str) -> Vec<f32> {
        self.vector(name).into_data().try_into_vec::<f32>().expect("float32 values")
    }

    /// A vector of given values on the leaves' device.
    pub fn constant(&self, values: &[f32]) -> Tensor<1> {
        Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), &self.device)
    }

    /// Gradients in the order of the leaves; `None` where the loss does not depend on one.
    pub fn gradients(&self, mut gradients: Gradients) -> Vec<Option<Vec<f32>>> {
        let values = |data: Option<TensorData>| data.map(|d| d.try_into_vec::<f32>().expect("float32 gradients"));
        self.list
            .iter()
            .map(|leaf| match &leaf.tensor {
                Ranked::Vector(tensor) => values(tensor.grad_remove(&mut gradients).map(Tensor::into_data)),
                Ranked::Matrix(tensor) => values(tensor.grad_remove(&mut gradients).map(Tensor::into_data)),
            })
            .collect()
    }
}
