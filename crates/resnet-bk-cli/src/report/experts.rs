//! Heat maps of expert usage: one row per block, one column per expert, before pruning and after.
//!
//! Removal renumbers the experts of a block. The map after pruning has the columns of the map before
//! it, so that an expert stays in its column.

use super::html::escape;
use resnet_bk::summary::{Removal, StageSummary, Summary};
use std::fmt::Write as _;

/// An expert of a block, by its number in the model before pruning.
#[derive(Clone, Debug, PartialEq)]
enum Expert {
    /// Share of the held-out tokens that are routed to it.
    Used(f64),
    /// It was dropped.
    Removed,
    /// It was merged into this one.
    Merged(usize),
}

/// A heat map: its heading, and the experts of each block.
struct Map {
    heading: String,
    blocks: Vec<Vec<Expert>>,
}

/// The heat maps. Empty if the summary has no usage, or if no block has several experts.
pub fn render(summary: &Summary) -> String {
    let maps = maps(summary);
    let has_choice = maps.iter().flat_map(|map| &map.blocks).any(|block| block.len() > 1);
    if !has_choice {
        return String::new();
    }
    let mut html =
        "<h2>Which experts are used</h2>\n<p>Share of the held-out tokens that the router sends to each expert. \
                    Blocks and experts are numbered from 0.</p>\n<div class=\"maps\">\n"
            .to_owned();
    maps.iter().for_each(|map| html += &table(map));
    html + "</div>\n"
}

fn maps(summary: &Summary) -> Vec<Map> {
    let stages: Vec<&StageSummary> = summary.stages.iter().filter(|stage| !stage.expert_usage.is_empty()).collect();
    let name = |stage: &StageSummary| format!("{} {}", stage.stage, stage.kind);
    let used = |stage: &StageSummary| stage.expert_usage.iter().map(|block| plain(block)).collect::<Vec<_>>();
    let last = stages.last().map(|last| Map { heading: format!("after {}", name(last)), blocks: used(last) });
    let Some(first_removal) = summary.removals.first().map(|removal| removal.stage) else {
        return last.into_iter().collect();
    };
    let before = stages.iter().copied().rfind(|stage| stage.stage < first_removal);
    // Until a stage begins with a new model, experts are those of the model before pruning.
    let after = before.and_then(|before| {
        let same_model = stages.iter().copied().filter(|stage| stage.stage > before.stage);
        same_model.take_while(|stage| !stage.fresh_model).last().map(|after| (before, after))
    });
    let Some((before, after)) = after else { return last.into_iter().collect() };
    let Some(blocks) = with_removals(before, after, &summary.removals) else { return last.into_iter().collect() };
    let heading = |when: &str, stage: &StageSummary| format!("{when} pruning ({})", name(stage));
    let mut maps = vec![
        Map { heading: heading("before", before), blocks: used(before) },
        Map { heading: heading("after", after), blocks },
    ];
    // A student has experts of its own.
    if stages.last().is_some_and(|last| last.stage != after.stage) {
        maps.extend(last);
    }
    maps
}

fn plain(block: &[f64]) -> Vec<Expert> {
    block.iter().map(|&share| Expert::Used(share)).collect()
}

/// The experts of each block after removals, in the columns of the model before them. `None` if the
/// removals do not lead from one model to the other.
fn with_removals(before: &StageSummary, after: &StageSummary, removals: &[Removal]) -> Option<Vec<Vec<Expert>>> {
    let block = |(index, (old, new)): (usize, (&Vec<f64>, &Vec<f64>))| {
        let mut experts = vec![Expert::Removed; old.len()];
        let mut left: Vec<usize> = (0..old.len()).collect();
        for stage in before.stage + 1..=after.stage {
            // Removals have the numbers of the beginning of their stage.
            let numbered = left.clone();
            for removal in removals.iter().filter(|removal| (removal.stage, removal.block) == (stage, index)) {
                let removed = *numbered.get(removal.expert)?;
                if let Some(into) = removal.merged_into {
                    experts[removed] = Expert::Merged(*numbered.get(into)?);
                }
                left.retain(|&expert| expert != removed);
            }
        }
        left.iter().zip(new).for_each(|(&expert, &share)| experts[expert] = Expert::Used(share));
        (left.len() == new.len()).then_some(experts)
    };
    (before.expert_usage.len() == after.expert_usage.len())
        .then(|| before.expert_usage.iter().zip(&after.expert_usage).enumerate().map(block).collect())?
}

fn table(map: &Map) -> String {
    let columns = map.blocks.iter().map(Vec::len).max().unwrap_or(0);
    let mut html = format!(
        "<div class=\"wide\" tabindex=\"0\"><table class=\"heat\">\n<caption>{}</caption>\n<tr><th class=\"words\">block</th>",
        escape(&map.heading)
    );
    (0..columns).for_each(|expert| {
        let _ = write!(html, "<th scope=\"col\">expert {expert}</th>");
    });
    html += "</tr>\n";
    for (index, block) in map.blocks.iter().enumerate() {
        let _ = write!(html, "<tr><th scope=\"row\" class=\"words\">{index}</th>");
        for column in 0..columns {
            let _ = match block.get(column) {
                Some(Expert::Used(share)) => {
                    let share = share.clamp(0.0, 1.0);
                    write!(html, "<td style=\"--used:{0:.0}%\">{0:.1}&nbsp;%</td>", 100.0 * share)
                }
                Some(Expert::Removed) => write!(html, "<td class=\"gone\">removed</td>"),
                Some(Expert::Merged(into)) => write!(html, "<td class=\"gone\">into {into}</td>"),
                None => write!(html, "<td></td>"),
            };
        }
        html += "</tr>\n";
    }
    html + "</table></div>\n"
}

#[cfg(test)]
mod tests {
    use super::super::tests::summary;
    use super::*;

    /// A run whose block 0 loses experts 1 and then 2 (merged into number 0) in one stage.
    fn pruned() -> Summary {
        let mut summary = summary();
        summary.stages.truncate(3);
        summary.stages[1].expert_usage = vec![vec![0.4, 0.1, 0.2, 0.3], vec![0.5, 0.5]];
        summary.stages[2].expert_usage = vec![vec![0.6, 0.4], vec![0.7, 0.3]];
        let removal = |expert: usize, merged_into: Option<usize>| Removal {
            stage: 3,
            step: 0,
            block: 0,
            expert,
            usage: 0.1,
            merged_into,
            reason: "rarely used".to_owned(),
        };
        summary.removals = vec![removal(1, None), removal(2, Some(0))];
        summary
    }

    #[test]
    fn experts_stay_in_their_columns() {
        let maps = maps(&pruned());
        assert_eq!(
            maps.iter().map(|map| map.heading.as_str()).collect::<Vec<_>>(),
            ["before pruning (2 qat)", "after pruning (3 prune)"]
        );
        let after = [Expert::Used(0.6), Expert::Removed, Expert::Merged(0), Expert::Used(0.4)];
        assert_eq!(maps[1].blocks, [after.to_vec(), vec![Expert::Used(0.7), Expert::Used(0.3)]]);
        let html = render(&pruned());
        assert!(html.contains("<td style=\"--used:60%\">60.0&nbsp;%</td>") && html.contains(">into 0</td>"), "{html}");
    }

    #[test]
    fn a_later_stage_numbers_the_experts_that_are_left() {
        let mut twice = pruned();
        twice.stages.push(StageSummary { stage: 4, ..twice.stages[2].clone() });
        twice.stages[3].expert_usage[0] = vec![1.0];
        twice.removals.push(Removal { stage: 4, expert: 1, merged_into: Some(0), ..twice.removals[0].clone() });
        let maps = maps(&twice);
        assert_eq!(maps[1].blocks[0], [Expert::Used(1.0), Expert::Removed, Expert::Merged(0), Expert::Merged(0)]);
    }

    #[test]
    fn a_student_and_runs_without_usage_have_their_own_maps() {
        assert_eq!(render(&summary()), "", "a summary of an older version");
        let mut student = pruned();
        let last =
            StageSummary { stage: 4, fresh_model: true, expert_usage: vec![vec![1.0]], ..student.stages[2].clone() };
        student.stages.push(last);
        assert_eq!(maps(&student).len(), 3);
        student.removals[1].expert = 7;
        assert_eq!(maps(&student).len(), 1, "removals that do not lead from one model to the other");
    }
}
