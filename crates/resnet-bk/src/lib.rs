//! Training and compression of ResNet-BK language models.

pub mod batch;
pub mod corpus;
pub mod floors;
pub mod random;
