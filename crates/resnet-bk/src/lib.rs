//! Training and compression of ResNet-BK language models.
//!
//! ```text
//! corpus -> tokenizer -> batches -> model -> training stages -> artifact -> runtime -> report
//! ```

pub mod batch;
pub mod bench;
mod buffer;
pub mod checkpoint;
pub mod components;
pub mod compress;
pub mod config;
pub mod corpus;
pub mod device;
pub mod environment;
pub mod evaluate;
pub mod export;
pub mod hints;
pub mod import;
mod kernels;
mod mask;
pub mod memory;
pub mod model;
pub mod ngram;
pub mod numerics;
pub mod observer;
pub mod ops;
pub mod original;
pub mod parameters;
pub mod pipeline;
pub mod plain_files;
pub mod post_training;
pub mod random;
pub mod ranks;
mod spelling;
pub mod summary;
pub mod tape;
pub mod threads;
mod token_ids;
pub mod train;

pub use buffer::Buffer;
pub use kernels::Allocator;
pub use mask::Mask;
pub use token_ids::TokenIds;
