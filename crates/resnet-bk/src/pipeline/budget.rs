//! The budget of a planner: bytes of weights that a target allows for the student.
//!
//! ```text
//! budget = min(float32 bytes of the baseline / ratio,
//!              bytes of the file - bytes of everything but the weights)
//! ```

use super::outline::StageOutline;
use super::{Run, RunError};
use crate::checkpoint::ModelState;
use crate::compress::RunStage;
use crate::config::{Against, ModelConfig};
use crate::export::pack;

/// Extra bytes of a student's config over its teacher's, because it lists bins and levels.
const CONFIG_ROOM: u64 = 600;

impl Run<'_> {
    /// Largest weights section in bytes that meets the target.
    pub(super) fn budget(&self) -> Result<Option<u64>, RunError> {
        let baseline = self.candidates.of(self.request.recipe.target.against, &self.checkpoint.history.stages);
        self.budget_of(baseline.map(|baseline| baseline.weights_bytes), &self.checkpoint.model)
    }

    /// Checks, before any training, that a student can fit the budget. `teacher` is the model that
    /// it will be distilled from. Returns the budget. `to_come` holds the float32 bytes of the models that are trained
    /// before it.
    pub(super) fn check_budget(
        &self,
        stage: &dyn RunStage,
        teacher: &ModelConfig,
        to_come: &[u64],
    ) -> Result<Option<u64>, RunError> {
        let target = self.request.recipe.target;
        if target.ratio.is_some() && self.expected_baseline(to_come).is_none() {
            return Err(RunError::NoBaseline { against: target.against });
        }
        let budget = self.expected_budget(teacher, to_come)?;
        if let Some(budget) = budget {
            stage.check_budget(teacher, self.checkpoint.model.vocabulary.len(), budget)?;
        }
        Ok(budget)
    }

    /// Float32 bytes of the baseline, before any training, if there will be one.
    fn expected_baseline(&self, to_come: &[u64]) -> Option<u64> {
        let against = self.request.recipe.target.against;
        let known = self.candidates.float32_bytes(against, &self.checkpoint.history.stages);
        let mut all = known.into_iter().chain(to_come.iter().copied());
        // The best model is not known yet. Assume the largest one, which gives the largest budget.
        match against {
            Against::Baseline => all.next(),
            Against::Best => all.max(),
        }
    }

    /// The budget as far as it is known before any training; arguments as in [`Self::check_budget`].
    pub(super) fn expected_budget(&self, teacher: &ModelConfig, to_come: &[u64]) -> Result<Option<u64>, RunError> {
        let baseline = self.expected_baseline(to_come);
        if *teacher == self.checkpoint.model.config {
            return self.budget_of(baseline, &self.checkpoint.model);
        }
        let vocabulary = self.checkpoint.model.vocabulary.clone();
        let untrained = ModelState::initialize(teacher.clone(), vocabulary, self.request.recipe.seed);
        self.budget_of(baseline, &untrained)
    }

    /// A warning if the last stage that steers its size aims for more than the target allows.
    pub(super) fn size_beyond_target(&self, outline: &[StageOutline]) -> Result<Option<String>, RunError> {
        let steered = |stage: &&StageOutline| stage.config.schedule().weights_bytes.is_some();
        let Some(stage) = outline.iter().rfind(steered) else { return Ok(None) };
        let bytes = stage.config.schedule().weights_bytes.unwrap_or(0);
        let trained: Vec<u64> = outline.iter().filter_map(StageOutline::trained_bytes).collect();
        let allowed = self.expected_budget(&stage.after, &trained)?.filter(|&allowed| allowed < bytes);
        Ok(allowed.map(|allowed| {
            format!(
                "the {} stage aims for {bytes} bytes of weights, but the target allows {allowed}: \
                 lower its schedule.weights_bytes, or ask for less",
                stage.config.kind(),
            )
        }))
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
