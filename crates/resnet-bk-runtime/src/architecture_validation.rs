//! Validation of architectures: sizes within limits, lists of the right length, finite constants.
//!
//! A valid architecture can be built and run without a panic, an overflow or an excessive
//! allocation, also on 32-bit targets. [`Architecture::tensors`] is cheap for it. The configuration
//! of an untrusted file is validated before anything else.

use crate::architecture::{Architecture, Causality, Mixer};
use crate::quantization::{MAX_BITS, MIN_BITS};
use std::fmt::Display;
use std::ops::RangeInclusive;
use thiserror::Error;

/// Largest number of words of a vocabulary.
pub const MAX_VOCAB_SIZE: usize = 1 << 24;
/// Largest width of a model.
pub const MAX_D_MODEL: usize = 1 << 16;
/// Longest window, in tokens.
pub const MAX_N_SEQ: usize = 1 << 20;
/// Largest hidden width of an expert.
pub const MAX_D_FF: usize = 1 << 18;
/// Largest number of resolvent heads.
pub const MAX_HEADS: usize = 1 << 16;
/// Largest number of blocks.
pub const MAX_BLOCKS: usize = 256;
/// Largest number of experts of all blocks together. It bounds the list of tensors.
pub const MAX_EXPERTS: usize = 4096;
/// Largest number of bins of an embedding table.
pub const MAX_BINS: usize = 64;
/// Largest number of knots of the bias curve.
pub const MAX_KNOTS: usize = 4096;
/// Largest number of elements of all tensors together. In float32 they have at most 4 GiB.
pub const MAX_ELEMENTS: u64 = 1 << 30;

/// Why an architecture is not valid.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field} is {value}, but must be {allowed}")]
pub struct ArchitectureError {
    /// The field, as its path in the config: `resolvent.eta[3]`.
    pub field: String,
    /// Its value.
    pub value: String,
    /// The allowed values.
    pub allowed: String,
}

fn require(holds: bool, field: &str, value: impl Display, allowed: impl Display) -> Result<(), ArchitectureError> {
    if holds {
        return Ok(());
    }
    Err(ArchitectureError { field: field.to_owned(), value: value.to_string(), allowed: allowed.to_string() })
}

fn within<T: PartialOrd + Display>(field: &str, value: T, range: RangeInclusive<T>) -> Result<(), ArchitectureError> {
    let allowed = format!("from {} to {}", range.start(), range.end());
    require(range.contains(&value), field, value, allowed)
}

impl Architecture {
    /// Checks that the architecture can be built and run.
    ///
    /// # Errors
    /// The first field with a value that is not allowed.
    pub fn validate(&self) -> Result<(), ArchitectureError> {
        // Sampling never draws `<unk>`, so there must be another token.
        within("vocab_size", self.vocab_size, 2..=MAX_VOCAB_SIZE)?;
        within("d_model", self.d_model, 1..=MAX_D_MODEL)?;
        within("n_seq", self.n_seq, 1..=MAX_N_SEQ)?;
        within("d_ff", self.d_ff, 1..=MAX_D_FF)?;
        within("heads", self.heads, 1..=MAX_HEADS)?;
        self.validate_embedding()?;
        self.validate_experts()?;
        self.validate_resolvent()?;
        self.validate_quantization()?;
        within("number of tensor elements", self.elements(), 1..=MAX_ELEMENTS)
    }

    fn validate_embedding(&self) -> Result<(), ArchitectureError> {
        require(self.bias_knots != 1, "bias_knots", self.bias_knots, "0, or from 2 to 4096")?;
        within("bias_knots", self.bias_knots, 0..=MAX_KNOTS)?;
        let bins = &self.embedding_bins;
        if bins.is_empty() {
            return Ok(());
        }
        within("number of embedding_bins", bins.len(), 1..=MAX_BINS)?;
        require(self.tied_embeddings, "tied_embeddings", false, "true where the embedding has bins")?;
        for (index, bin) in bins.iter().enumerate() {
            within(&format!("embedding_bins[{index}].words"), bin.words, 1..=self.vocab_size)?;
            within(&format!("embedding_bins[{index}].width"), bin.width, 1..=self.d_model)?;
        }
        let words: usize = bins.iter().map(|bin| bin.words).sum();
        require(
            words == self.vocab_size,
            "words of all embedding_bins",
            words,
            format!("vocab_size, {}", self.vocab_size),
        )
    }

    fn validate_experts(&self) -> Result<(), ArchitectureError> {
        within("number of blocks", self.experts.len(), 1..=MAX_BLOCKS)?;
        let mut total = 0;
        for (block, &experts) in self.experts.iter().enumerate() {
            within(&format!("experts[{block}]"), experts, 1..=MAX_EXPERTS)?;
            total += experts;
        }
        within("sum of experts", total, 1..=MAX_EXPERTS)?;
        let fewest = self.experts.iter().copied().min().unwrap_or(0);
        within("top_k", self.top_k, 1..=fewest)
    }

    fn validate_resolvent(&self) -> Result<(), ArchitectureError> {
        let causal = self.causality == Causality::Causal || self.mixer != Mixer::Propagator;
        require(causal, "causality", "bidirectional", "causal where the mixer is the propagator")?;

        let constants = &self.resolvent;
        for (field, values) in [("resolvent.diagonal", &constants.diagonal), ("resolvent.hopping", &constants.hopping)]
        {
            // The propagator computes both from its input.
            let unused = self.mixer == Mixer::Propagator && values.is_empty();
            require(unused || values.len() == self.heads, field, count(values.len()), count(self.heads))?;
            for (head, &value) in values.iter().enumerate() {
                require(value.is_finite(), &format!("{field}[{head}]"), value, "finite")?;
            }
        }

        require(constants.eta.len() == self.heads, "resolvent.eta", count(constants.eta.len()), count(self.heads))?;
        for (head, &eta) in constants.eta.iter().enumerate() {
            let field = format!("resolvent.eta[{head}]");
            // At eta = 0, the resolvent of the diagonal mixer has poles, and a learned eta has no
            // logarithm.
            let (holds, allowed) = match (self.mixer, self.learned_eta) {
                (_, true) => (eta > 0.0, "finite and above 0 where it is learned"),
                (Mixer::Diagonal, false) => (eta > 0.0, "finite and above 0 where the mixer is diagonal"),
                (Mixer::Propagator, false) => (eta >= 0.0, "finite and at least 0"),
            };
            require(eta.is_finite() && holds, &field, eta, allowed)?;
        }

        for (field, bound) in [("v_max", self.v_max), ("feature_clamp", self.feature_clamp)] {
            require(bound.is_finite() && bound >= 0.0, field, bound, "finite and at least 0")?;
        }
        Ok(())
    }

    fn validate_quantization(&self) -> Result<(), ArchitectureError> {
        let Some(policy) = &self.quantization else { return Ok(()) };
        for (field, bits) in [
            ("quantization.embedding_bits", policy.embedding_bits),
            ("quantization.expert_bits", policy.expert_bits),
            ("quantization.router_bits", policy.router_bits),
            ("quantization.mixer_bits", policy.mixer_bits),
            ("quantization.bias_bits", policy.bias_bits),
            ("quantization.activation_bits", policy.activation_bits),
        ] {
            if let Some(bits) = bits {
                within(field, bits, MIN_BITS..=MAX_BITS)?;
            }
        }
        if let Some(learned) = &policy.learned {
            require(
                !learned.embedding.is_empty(),
                "quantization.learned.embedding",
                "empty",
                "at least one number of levels",
            )?;
            let bins = learned.embedding.iter().enumerate().map(|(bin, &levels)| (format!("embedding[{bin}]"), levels));
            let parts = [
                ("projection", learned.projection),
                ("expert", learned.expert),
                ("router", learned.router),
                ("mixer", learned.mixer),
                ("bias", learned.bias),
                ("small", learned.small),
            ];
            for (part, levels) in bins.chain(parts.map(|(part, levels)| (part.to_owned(), levels))) {
                let field = format!("quantization.learned.{part}");
                require(levels >= 3 && levels % 2 == 1, &field, levels, "odd, from 3 to 65535")?;
            }
        }
        require(policy.group_size > 0, "quantization.group_size", policy.group_size, "at least 1")
    }

    /// Number of elements of all tensors. The limits on sizes and experts keep the sum below 2^57,
    /// so 64 bits suffice.
    fn elements(&self) -> u64 {
        let elements = |shape: &[usize]| shape.iter().map(|&size| size as u64).product::<u64>();
        self.tensors().iter().map(|spec| elements(&spec.shape)).sum()
    }
}

fn count(values: usize) -> String {
    format!("{values} values")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::ResolventConstants;
    use crate::quantization::QuantizationPolicy;

    fn valid() -> Architecture {
        Architecture {
            vocab_size: 30,
            d_model: 8,
            n_seq: 16,
            d_ff: 12,
            experts: vec![2, 3],
            top_k: 2,
            mixer: Mixer::Diagonal,
            causality: Causality::Bidirectional,
            heads: 2,
            positions: true,
            tied_embeddings: false,
            embedding_bins: vec![],
            bias_knots: 0,
            resolvent: ResolventConstants { diagonal: vec![-2.0; 2], hopping: vec![1.0; 2], eta: vec![1.0; 2] },
            learned_eta: false,
            v_max: 3.0,
            feature_clamp: 10.0,
            quantization: Some(QuantizationPolicy::default()),
        }
    }

    fn propagator() -> Architecture {
        let resolvent = ResolventConstants { diagonal: vec![], hopping: vec![], eta: vec![0.0; 2] };
        Architecture { mixer: Mixer::Propagator, causality: Causality::Causal, resolvent, ..valid() }
    }

    fn policy(architecture: &mut Architecture) -> &mut QuantizationPolicy {
        architecture.quantization.as_mut().unwrap()
    }

    #[test]
    fn valid_architectures_are_accepted() {
        assert_eq!(valid().validate(), Ok(()));
        assert_eq!(propagator().validate(), Ok(()));
        assert_eq!(Architecture { quantization: None, ..valid() }.validate(), Ok(()));
    }

    #[test]
    fn every_fault_is_refused_with_its_field() {
        type Fault = fn(&mut Architecture);
        let faults: [(&str, Fault); 26] = [
            ("vocab_size", |a| a.vocab_size = 1),
            ("vocab_size", |a| a.vocab_size = 1 << 60),
            ("d_model", |a| a.d_model = 0),
            ("d_model", |a| a.d_model = usize::MAX),
            ("n_seq", |a| a.n_seq = 0),
            ("d_ff", |a| a.d_ff = 0),
            ("heads", |a| a.heads = 0),
            ("number of blocks", |a| a.experts.clear()),
            ("number of blocks", |a| a.experts = vec![1; 1000]),
            ("experts[1]", |a| a.experts[1] = 0),
            ("experts[0]", |a| a.experts[0] = usize::MAX),
            ("sum of experts", |a| a.experts = vec![MAX_EXPERTS; 2]),
            ("top_k", |a| a.top_k = 0),
            ("top_k", |a| a.top_k = 3),
            ("resolvent.diagonal", |a| a.resolvent.diagonal.clear()),
            ("resolvent.hopping", |a| a.resolvent.hopping.push(1.0)),
            ("resolvent.hopping[1]", |a| a.resolvent.hopping[1] = f32::NAN),
            ("resolvent.eta", |a| a.resolvent.eta = vec![1.0; 3]),
            ("resolvent.eta[0]", |a| a.resolvent.eta[0] = 0.0),
            ("v_max", |a| a.v_max = f32::INFINITY),
            ("feature_clamp", |a| a.feature_clamp = -1.0),
            ("number of tensor elements", |a| (a.vocab_size, a.d_model) = (MAX_VOCAB_SIZE, MAX_D_MODEL)),
            ("quantization.embedding_bits", |a| policy(a).embedding_bits = Some(1)),
            ("quantization.bias_bits", |a| policy(a).bias_bits = Some(0)),
            ("quantization.activation_bits", |a| policy(a).activation_bits = Some(17)),
            ("quantization.group_size", |a| policy(a).group_size = 0),
        ];
        for (field, fault) in faults {
            let mut architecture = valid();
            fault(&mut architecture);
            assert_eq!(architecture.validate().unwrap_err().field, field);
        }
    }

    #[test]
    fn the_propagator_is_causal_and_a_learned_eta_is_positive() {
        let bidirectional = Architecture { causality: Causality::Bidirectional, ..propagator() };
        assert_eq!(bidirectional.validate().unwrap_err().field, "causality");
        let learned = Architecture { learned_eta: true, ..propagator() };
        assert_eq!(learned.validate().unwrap_err().field, "resolvent.eta[0]");
    }

    #[test]
    fn the_message_has_field_value_and_range() {
        let error = Architecture { top_k: 3, ..valid() }.validate().unwrap_err();
        assert_eq!(error.to_string(), "top_k is 3, but must be from 1 to 2");
        let error = Architecture { heads: 3, ..valid() }.validate().unwrap_err();
        assert_eq!(error.to_string(), "resolvent.diagonal is 2 values, but must be 3 values");
    }
}
