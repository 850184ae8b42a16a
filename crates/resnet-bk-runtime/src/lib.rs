//! Everything that must exist to *run* a ResNet-BK language model: the `.rbk` artifact, the resolvent scan, the forward
//! pass and the sampler. No training framework is needed, and none is a dependency.

pub mod architecture;
pub mod architecture_validation;
pub mod artifact;
pub mod coding;
pub mod embedding;
pub mod head;
pub mod kernels;
pub mod model;
pub mod quantization;
pub mod rank_curve;
pub mod replace_file;
pub mod resolvent;
pub mod router;
pub mod sample;
pub mod tensor_id;
pub mod tensor_spec;
pub mod tokenizer;
