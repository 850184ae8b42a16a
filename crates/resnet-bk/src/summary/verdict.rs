//! Verdicts on a summary.

use super::Summary;

impl Summary {
    /// A warning if the artifact does not predict better than an n-gram baseline.
    ///
    /// Compares with the unigram, then the bigram baseline. A model that does not beat bigram
    /// counts has learned nothing beyond a table of word pairs.
    pub fn worse_than_ngrams(&self) -> Option<String> {
        let perplexity = self.artifact.valid_perplexity;
        let counts = [("unigram", self.ngrams.unigram), ("bigram", self.ngrams.bigram)];
        // A NaN perplexity beats no baseline.
        let (name, count) = counts.into_iter().find(|&(_, count)| perplexity.is_nan() || perplexity >= count)?;
        // Two decimals, or as many as make the numbers differ.
        let digits =
            (2..6).find(|&digits| format!("{perplexity:.digits$}") != format!("{count:.digits$}")).unwrap_or(6);
        Some(format!(
            "the model predicts this text no better than counting words does: its perplexity is {perplexity:.digits$}, that of \
             {name} counts {count:.digits$}"
        ))
    }

    /// Whether the run succeeded.
    pub fn succeeded(&self) -> bool {
        self.target_reached != Some(false) && self.worse_than_ngrams().is_none()
    }
}
