//! What a summary says in one word or one sentence.

use super::Summary;

impl Summary {
    /// One sentence where the artifact predicts no better than counting words does.
    ///
    /// The n-gram baselines are looked at from the weakest on, up to the bigram: a model that does
    /// not beat the bigram count has learned nothing that a table of pairs would not tell.
    pub fn worse_than_counting(&self) -> Option<String> {
        let perplexity = self.artifact.valid_perplexity;
        let counts = [("unigram", self.ngrams.unigram), ("bigram", self.ngrams.bigram)];
        // A perplexity that is not a number beats nothing.
        let (name, count) = counts.into_iter().find(|&(_, count)| perplexity.is_nan() || perplexity >= count)?;
        // Two decimals, or as many as tell them apart.
        let digits =
            (2..6).find(|&digits| format!("{perplexity:.digits$}") != format!("{count:.digits$}")).unwrap_or(6);
        Some(format!(
            "the model predicts this text no better than counting words does: its perplexity is {perplexity:.digits$}, that of \
             {name} counts {count:.digits$}"
        ))
    }

    /// Whether the run did what it was asked for.
    pub fn succeeded(&self) -> bool {
        self.target_reached != Some(false) && self.worse_than_counting().is_none()
    }
}
