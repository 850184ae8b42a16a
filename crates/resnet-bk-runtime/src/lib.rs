//! Everything that must exist to *run* a ResNet-BK language model: the `.rbk` artifact, the resolvent scan, the forward
//! pass and the sampler. No training framework is needed, and none is a dependency.

pub mod architecture;
pub mod quantization;
pub mod tokenizer;
