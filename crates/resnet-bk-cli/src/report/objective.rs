//! What the loss of a stage measures. Losses of different kinds cannot share an axis.

use resnet_bk::config::{Recipe, StageConfig, StageKind};
use resnet_bk::summary::StageSummary;

/// A kind of loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objective {
    /// `-ln p(next token)`.
    CrossEntropy,
    /// A mean of that and the KL divergence from a teacher's soft targets.
    Distillation,
}

/// The objective of each stage, by its number.
pub struct Objectives(Vec<(usize, Objective)>);

impl Objectives {
    /// What the stages of a run trained on. Pruning has soft targets where its `alpha` is above 0:
    /// that is in the recipe.
    ///
    /// A run leaves out a recipe's first stages where it is given a model, and that model brings
    /// stages of its own, so stages of the two are counted from their ends. Without a recipe
    /// pruning is taken to have no soft targets, which is the default.
    pub fn of(stages: &[StageSummary], recipe: Option<&Recipe>) -> Self {
        let alphas = recipe.iter().flat_map(|recipe| recipe.stages.iter().rev()).filter_map(|stage| match stage {
            StageConfig::Prune(prune) => Some(prune.alpha),
            StageConfig::Train(_) | StageConfig::Qat(_) | StageConfig::Distill(_) | StageConfig::Plan(_) => None,
        });
        let mut alphas = alphas.chain(std::iter::repeat(0.0));
        let objective = |stage: &StageSummary| match stage.kind {
            StageKind::Train | StageKind::Qat => Objective::CrossEntropy,
            StageKind::Distill | StageKind::Plan => Objective::Distillation,
            StageKind::Prune if alphas.next().is_some_and(|alpha| alpha > 0.0) => Objective::Distillation,
            StageKind::Prune => Objective::CrossEntropy,
        };
        Self(
            stages
                .iter()
                .rev()
                .map(objective)
                .zip(stages.iter().rev())
                .map(|(kind, stage)| (stage.stage, kind))
                .collect(),
        )
    }

    /// That of a stage, by its number.
    pub fn get(&self, number: usize) -> Objective {
        let found = self.0.iter().find(|(stage, _)| *stage == number);
        found.map_or(Objective::CrossEntropy, |&(_, objective)| objective)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::summary;
    use super::*;

    fn recipe(stages: &str) -> Recipe {
        Recipe::parse(&format!("seed = 1\n[model]\npreset = \"tiny\"\n{stages}"), "test", &[]).expect("a recipe")
    }

    fn kinds(kinds: &[StageKind]) -> Vec<StageSummary> {
        let stage = &summary().stages[0];
        let number = |(index, &kind): (usize, &StageKind)| StageSummary { stage: index + 1, kind, ..stage.clone() };
        kinds.iter().enumerate().map(number).collect()
    }

    #[test]
    fn kinds_have_their_objectives() {
        use StageKind::{Distill, Plan, Prune, Qat, Train};
        let objectives = Objectives::of(&kinds(&[Train, Qat, Prune, Distill, Plan]), None);
        let cross_entropy = (1..=5).map(|number| objectives.get(number) == Objective::CrossEntropy);
        assert_eq!(cross_entropy.collect::<Vec<_>>(), [true, true, true, false, false]);
    }

    #[test]
    fn pruning_with_soft_targets_is_known_by_the_recipe() {
        use StageKind::{Prune, Train};
        let recipe = recipe(
            "[[stage]]\nkind = \"train\"\n[[stage]]\nkind = \"prune\"\nalpha = 0.5\n[[stage]]\nkind = \"prune\"\nalpha = 0.0\n",
        );
        // The first of the run's three came with the model that it was given.
        let stages = kinds(&[Train, Prune, Prune, Prune]);
        let objectives = Objectives::of(&stages, Some(&recipe));
        assert_eq!(
            [2, 3, 4].map(|number| objectives.get(number)),
            [Objective::CrossEntropy, Objective::Distillation, Objective::CrossEntropy]
        );
    }
}
