//! How many bytes of weights a target leaves to the student of a planner.
//!
//! ```text
//! budget = min(float32 bytes of the baseline / ratio, bytes of the file - bytes of all but its weights)
//! ```

use super::{Run, RunError};
use crate::checkpoint::ModelState;
use crate::compress::RunStage;
use crate::config::{Against, ModelConfig};
use crate::export::pack;

/// Bytes by which a student's config may be longer than its teacher's: it names its bins and
/// levels.
const CONFIG_ROOM: u64 = 600;

impl Run<'_> {
    /// Most bytes of the weights section that the target leaves.
    pub(super) fn budget(&self) -> Result<Option<u64>, RunError> {
        let baseline = self.candidates.of(self.request.recipe.target.against, &self.checkpoint.history.stages);
        self.budget_of(baseline.map(|baseline| baseline.weights_bytes), &self.checkpoint.model)
    }

    /// Checks, before anything is trained, that there is a student within the budget. `teacher` is
    /// the model that it will learn from, and `to_come` are the float32 bytes of the models that
    /// are trained until then.
    pub(super) fn check_budget(
        &self,
        stage: &dyn RunStage,
        teacher: &ModelConfig,
        to_come: &[u64],
    ) -> Result<(), RunError> {
        let against = self.request.recipe.target.against;
        let known = self.candidates.float32_bytes(against, &self.checkpoint.history.stages);
        let mut all = known.into_iter().chain(to_come.iter().copied());
        // Which model will be the best one is not known yet: the largest one leaves the most.
        let baseline = match against {
            Against::Baseline => all.next(),
            Against::Best => all.max(),
        };
        let target = self.request.recipe.target;
        if target.ratio.is_some() && baseline.is_none() {
            return Err(RunError::NoBaseline { against });
        }
        let vocabulary = &self.checkpoint.model.vocabulary;
        let budget = if *teacher == self.checkpoint.model.config {
            self.budget_of(baseline, &self.checkpoint.model)?
        } else {
            let untrained = ModelState::initialise(teacher.clone(), vocabulary.clone(), self.request.recipe.seed);
            self.budget_of(baseline, &untrained)?
        };
        match budget {
            Some(budget) => Ok(stage.check_budget(teacher, vocabulary.len(), budget)?),
            None => Ok(()),
        }
    }

    fn budget_of(&self, baseline: Option<u64>, teacher: &ModelState) -> Result<Option<u64>, RunError> {
        let target = self.request.recipe.target;
        let by_ratio = target.ratio.zip(baseline).map(|(ratio, baseline)| (baseline as f64 / ratio) as u64);
        let by_bytes = match target.bytes {
            Some(bytes) => {
                let size_breakdown = pack(teacher)?.size_breakdown()?;
                Some(bytes.saturating_sub(size_breakdown.total_bytes() - size_breakdown.weights_bytes() + CONFIG_ROOM))
            }
            None => None,
        };
        Ok(by_ratio.into_iter().chain(by_bytes).min())
    }
}
