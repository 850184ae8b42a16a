//! Histograms of the codes of quantized tensors.

use resnet_bk_runtime::internal::artifact::{Artifact, SizeBreakdown, StoredTensor};
use resnet_bk_runtime::internal::tensor_spec::Role;
use serde::{Deserialize, Serialize};

/// Most counts of a histogram. With more levels, neighboring codes are counted together.
const MOST_COUNTS: usize = 255;

/// How often each code occurs in a group of tensors: those of one part with one number of levels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeHistogram {
    /// Part of the model, as in the size breakdown.
    pub part: String,
    /// Largest code.
    pub qmax: i16,
    /// Number of neighboring codes that are counted together, an odd number. The middle count is
    /// centered at code 0.
    pub codes_per_count: usize,
    /// Number of elements with each code, from the lowest code to the highest.
    pub counts: Vec<u64>,
    /// Elements with code 0.
    pub zeros: u64,
}

impl CodeHistogram {
    /// The histograms of a model, in the order of its tensors.
    pub(crate) fn of(artifact: &Artifact) -> Vec<Self> {
        let specs = artifact.architecture.tensors();
        let stored = specs.iter().filter(|spec| spec.role != Role::LogScale).zip(&artifact.tensors);
        let mut histograms: Vec<Self> = Vec::new();
        for (spec, tensor) in stored {
            let StoredTensor::Quantized(quantized) = tensor else { continue };
            let (part, qmax) = (SizeBreakdown::part(spec.role), quantized.scheme.qmax);
            let index = histograms.iter().position(|group| (group.part.as_str(), group.qmax) == (part, qmax));
            let index = index.unwrap_or_else(|| {
                histograms.push(Self::empty(part, qmax));
                histograms.len() - 1
            });
            quantized.codes.iter().for_each(|&code| histograms[index].count(code));
        }
        histograms
    }

    fn empty(part: &str, qmax: i16) -> Self {
        let levels = 2 * usize::from(qmax.unsigned_abs()) + 1;
        let codes_per_count = levels.div_ceil(MOST_COUNTS) | 1;
        // An odd number of counts, so that one is in the middle.
        let counts = levels.div_ceil(codes_per_count) | 1;
        Self { part: part.to_owned(), qmax, codes_per_count, counts: vec![0; counts], zeros: 0 }
    }

    fn count(&mut self, code: i16) {
        let middle = self.counts.len() * self.codes_per_count / 2;
        let position = (middle as i64 + i64::from(code)) as usize / self.codes_per_count;
        self.counts[position] += 1;
        self.zeros += u64::from(code == 0);
    }

    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Lowest code of each count.
    pub fn first_code(&self, index: usize) -> i64 {
        (index * self.codes_per_count) as i64 - (self.counts.len() * self.codes_per_count / 2) as i64
    }

    /// Entropy of the counts in bits per element: what a code without a context would take.
    pub fn entropy(&self) -> f64 {
        let total = self.elements().max(1) as f64;
        let shares = self.counts.iter().filter(|&&count| count > 0).map(|&count| count as f64 / total);
        shares.map(|share| -share * share.log2()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_count() {
        for (qmax, counts) in [(1, 3), (7, 15), (127, 255), (128, 87), (32_767, 255)] {
            let mut histogram = CodeHistogram::empty("experts", qmax);
            assert_eq!(histogram.counts.len(), counts, "{qmax}");
            [-qmax, 0, 0, qmax].into_iter().for_each(|code| histogram.count(code));
            let (last, middle) = (counts - 1, counts / 2);
            assert_eq!([0, middle, last].map(|index| histogram.counts[index]), [1, 2, 1], "{qmax}");
            assert_eq!((histogram.zeros, histogram.elements()), (2, 4));
            let half = (histogram.codes_per_count / 2) as i64;
            assert_eq!(histogram.first_code(middle), -half, "the middle count is centered at 0");
            assert!((histogram.entropy() - 1.5).abs() < 1e-12);
        }
    }
}
