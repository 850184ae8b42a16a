//! Training and compression of ResNet-BK language models.

pub mod model;
pub mod ops;
pub mod parameters;
pub mod random;
