//! The numbers of a run's events, for programs that draw curves.
//!
//! ```text
//! name   KIND/KEY, KIND/KEY/NAME, ...   kind of the stage, then the path of the number in the event's JSON
//! step   the optimizer step over all stages of the run, from 0
//! ```
//!
//! `resnet_bk.tracking` of the Python package follows the same rule.

use super::Event;
use serde_json::Value;

/// Keys that say when something was.
const PLACE: [&str; 9] =
    ["event", "stage", "kind", "step", "epoch", "first_step", "epochs", "steps_per_epoch", "minutes"];

/// Counts the steps of a run and takes the numbers from its events.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    stage: usize,
    kind: String,
    /// Steps of the stages before this one.
    before: usize,
    /// Steps up to now, over all stages.
    steps: usize,
    /// The step of the last event.
    at: usize,
}

impl Numbers {
    /// The state after the events of a `metrics.jsonl`. Lines that are no events are skipped.
    pub fn after(log: &str) -> Self {
        let mut numbers = Self::default();
        let events = log.lines().filter_map(|line| serde_json::from_str::<Event>(line).ok());
        events.for_each(|event| numbers.count(&event));
        numbers
    }

    /// The step over all stages of the last counted event.
    pub fn step(&self) -> usize {
        self.at
    }

    /// Counts an event.
    pub fn count(&mut self, event: &Event) {
        match event {
            Event::StageStarted { stage, kind, first_step, .. } => {
                // A resumed stage begins where it began before.
                if *stage != self.stage {
                    self.before = self.steps;
                }
                (self.stage, self.kind) = (*stage, kind.to_string());
                self.steps = self.before + first_step;
                self.at = self.steps;
            }
            Event::Step { step, .. } => {
                self.at = self.before + step;
                self.steps = self.at + 1;
            }
            _ => {}
        }
    }

    /// The finite numbers of an event that was just counted, with their names. Other events have none:
    /// their numbers are no curves, or are the last ones of curves.
    pub fn of(&self, event: &Event) -> Vec<(String, f64)> {
        if !is_on_curves(event) {
            return Vec::new();
        }
        let Ok(Value::Object(fields)) = serde_json::to_value(event) else { return Vec::new() };
        let mut numbers = Vec::new();
        for (key, value) in fields.iter().filter(|(key, _)| !PLACE.contains(&key.as_str())) {
            add(&mut numbers, format!("{}/{key}", self.kind), value);
        }
        numbers
    }
}

fn is_on_curves(event: &Event) -> bool {
    use Event::{EpochEnded, ModelMeasured, SizeMeasured, StageStarted, Step};
    matches!(event, StageStarted { .. } | Step { .. } | EpochEnded { .. } | ModelMeasured { .. } | SizeMeasured { .. })
}

fn add(numbers: &mut Vec<(String, f64)>, name: String, value: &Value) {
    match value {
        Value::Number(number) => numbers.extend(number.as_f64().map(|number| (name, number))),
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(index, value)| add(numbers, format!("{name}/{index}"), value));
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| add(numbers, format!("{name}/{key}"), value));
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::StageKind;

    pub fn started(stage: usize, first_step: usize) -> Event {
        let kind = if stage == 1 { StageKind::Train } else { StageKind::Qat };
        Event::StageStarted { stage, kind, epochs: 2, minutes: None, steps_per_epoch: 2, first_step, parameters: 9 }
    }

    pub fn step(stage: usize, step: usize, loss: f64) -> Event {
        Event::Step { stage, step, loss, learning_rate: 0.25, gradient_norm: 1.0, tokens_per_second: 10.0 }
    }

    /// Name and step of the loss of each step.
    fn losses(events: &[Event], mut numbers: Numbers) -> Vec<(String, usize)> {
        let mut found = Vec::new();
        for event in events {
            numbers.count(event);
            let loss = numbers.of(event).into_iter().find(|(name, _)| name.ends_with("/loss"));
            found.extend(loss.map(|(name, _)| (name, numbers.step())));
        }
        found
    }

    #[test]
    fn steps_are_counted_over_all_stages() {
        let events = [started(1, 0), step(1, 0, 3.0), step(1, 1, 2.0), started(2, 0), step(2, 0, 1.0)];
        let expected = [("train/loss", 0), ("train/loss", 1), ("qat/loss", 2)];
        assert_eq!(losses(&events, Numbers::default()), expected.map(|(name, step)| (name.to_owned(), step)));
    }

    #[test]
    fn a_resumed_run_counts_on() {
        let events = [started(1, 0), step(1, 0, 3.0), step(1, 1, 2.0), started(2, 0), step(2, 0, 1.0), step(2, 1, 1.0)];
        let lines = events.map(|event| serde_json::to_string(&event).expect("JSON") + "\n").concat();
        // The third step of stage 2 was lost with its epoch, and so was the end of the line.
        let numbers = Numbers::after(&format!("{lines}{{\"event\":\"st"));
        let resumed = [started(2, 1), step(2, 1, 0.5), started(3, 0), step(3, 0, 0.1)];
        assert_eq!(losses(&resumed, numbers), [("qat/loss".to_owned(), 3), ("qat/loss".to_owned(), 4)]);
    }

    #[test]
    fn nested_numbers_are_named_by_their_path() {
        let mut numbers = Numbers::default();
        numbers.count(&started(1, 0));
        let event = Event::ModelMeasured {
            stage: 1,
            epoch: 1,
            sparsity: 0.5,
            experts: vec![2],
            expert_usage: vec![vec![0.25, f64::NAN]],
            scales: [("head".to_owned(), 0.125)].into(),
            lambda: 0.0,
        };
        let expected = [
            ("train/expert_usage/0/0", 0.25),
            ("train/experts/0", 2.0),
            ("train/lambda", 0.0),
            ("train/scales/head", 0.125),
            ("train/sparsity", 0.5),
        ];
        let mut found = numbers.of(&event);
        found.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value)));
    }
}
