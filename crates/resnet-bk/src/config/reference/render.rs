//! The page: one table of keys for each table of a recipe.

use super::docs::Docs;
use super::trace::{Kind, is_optional, kind_at};
use crate::config::recipe::KEYS;
use crate::config::{
    CorpusConfig, DistillConfig, ModelConfig, PlanConfig, PruneConfig, QatConfig, Recipe, Schedule, StageKind, Target,
    TrainConfig,
};
use resnet_bk_runtime::internal::quantization::QuantizationPolicy;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use toml::{Table, Value};

const INTRODUCTION: &str = "\
# Recipe keys

A recipe is a TOML file. It holds every number that a run depends on, except the text itself.
This page lists every key. It is generated from the code: a test compares it with the structs
that read recipes. What the stages do, and which numbers to change first, is in
[guide.md](guide.md).

How a recipe is read:

- A key that is not on this page is an error. The message names the line and the nearest key.
- `--set key=value` on the command line sets any key, for example `--set model.d_model=32`.
  Stages are numbered from 0 here: `--set stage.0.schedule.epochs=5` sets `stage 1` of the output.
- `[schedule]` holds values for all stages. A stage's own `schedule` overrides them.
- A run writes its recipe with all values to `RUN/recipe.toml`.

In the tables, a default of `-` means that the key is not set. `range` lists the allowed values;
another value is an error.
";

/// A valid recipe with a stage of each kind. Ranges are found by changing its values.
const BASE: &str = r#"
    seed = 1
    [model]
    preset = "memory"
    [[stage]]
    kind = "train"
    [[stage]]
    kind = "qat"
    [[stage]]
    kind = "prune"
    [[stage]]
    kind = "distill"
    [[stage]]
    kind = "plan"
"#;

/// The whole page.
pub(super) fn page() -> String {
    let mut page = Page { docs: Docs::read(), text: INTRODUCTION.to_owned() };
    page.top_level();
    page.section("[corpus]", "How a text becomes tokens.");
    page.table::<CorpusConfig>("corpus", &[("default", &defaults(&CorpusConfig::default()))]);
    page.model();
    page.section(
        "[schedule] and schedule of a stage",
        "The optimizer and its learning rate. The optimizer is AdamW. One epoch is one pass over the training tokens.",
    );
    page.table::<Schedule>("schedule", &[("default", &defaults(&Schedule::default()))]);
    page.section(
        "[[stage]]",
        "The stages, in the order in which they run. `kind` is required, and decides which other keys there are. \
         `schedule` is described above.",
    );
    for kind in stage_kinds() {
        page.stage(kind);
    }
    page.section(
        "quantization of a stage",
        "The quantizers of a `qat` or `distill` stage. 32 bits keep a part in float32. Where `learned` is given, \
         only it and `activation_bits` hold. `learned = {}` takes all defaults of `learned`.",
    );
    let policy = QuantizationPolicy { learned: Some(Default::default()), ..Default::default() };
    page.table::<QuantizationPolicy>("stage.1.quantization", &[("default", &defaults(&policy))]);
    page.section(
        "[target]",
        "What a run must reach. A run that misses a target exits with code 1. Without this table nothing is checked, \
         except that the artifact beats the bigram baseline.",
    );
    page.table::<Target>("target", &[("default", &defaults(&Target::default()))]);
    page.text
}

struct Page {
    docs: Docs,
    text: String,
}

impl Page {
    fn section(&mut self, title: &str, text: &str) {
        write!(self.text, "\n## {title}\n\n{}\n", wrapped(text)).expect("a string takes all text");
    }

    fn top_level(&mut self) {
        self.section("Top level", "`seed`, `[model]` and at least one `[[stage]]` are required.");
        let Kind::Table { name, keys } = kind_at::<Recipe>(&[]) else { panic!("a recipe is a table") };
        let own = ["schedule"];
        assert!(KEYS.iter().all(|key| keys.contains(key) || own.contains(key)), "{KEYS:?} against {keys:?}");
        assert!(keys.iter().all(|key| KEYS.contains(key)), "{keys:?} against {KEYS:?}");
        self.text.push_str("\n| key | type | meaning |\n| --- | --- | --- |\n");
        for key in KEYS {
            let (kind, meaning) = match key {
                "schedule" => ("table".to_owned(), "Values of every stage's `schedule`."),
                "stage" => ("list of tables".to_owned(), self.docs.of_member(name, key)),
                _ => (self.shown::<Recipe>(&[key], &kind_at::<Recipe>(&[key])), self.docs.of_member(name, key)),
            };
            writeln!(self.text, "| `{key}` | {kind} | {} |", cell(meaning)).expect("a string takes all text");
        }
    }

    fn model(&mut self) {
        self.section(
            "[model] and model of a stage",
            "Sizes of the model. `preset` names a set of values that the other keys override: `seed`, `memory` or \
             `tiny`. Without a preset every key of `[model]` is required, except `embedding_bins`, \
             `bias_knots`, `word_dropout`, `head_dropout` and \
             `weight_dropout`. \
             In a stage's own `model`, a key that is not given has the value of the recipe's `[model]`, unless \
             the stage names a preset. A `plan` stage chooses the sizes itself.",
        );
        let presets = ModelConfig::PRESETS.map(|name| defaults(&ModelConfig::preset(name).expect("a preset")));
        let columns: Vec<(&str, &Table)> = ModelConfig::PRESETS.into_iter().zip(&presets).collect();
        self.table::<ModelConfig>("model", &columns);
        let names = ModelConfig::PRESETS.map(|name| format!("`\"{name}\"`")).join(" or ");
        let cells = " - |".repeat(columns.len());
        writeln!(
            self.text,
            "| `preset` | {names} |{cells}  | The values of a column above, for all keys that are not given. |"
        )
        .expect("a string takes all text");
    }

    fn stage(&mut self, kind: StageKind) {
        let prefix = format!("stage.{}", stage_kinds().position(|other| other == kind).expect("one of the kinds"));
        let meaning = self.docs.of_member("StageConfig", &kind.to_string()).to_owned();
        write!(self.text, "\n### kind = \"{kind}\"\n\n{}\n", wrapped(&meaning)).expect("a string takes all text");
        match kind {
            StageKind::Train => self.table::<TrainConfig>(&prefix, &[("default", &defaults(&TrainConfig::default()))]),
            StageKind::Qat => self.table::<QatConfig>(&prefix, &[("default", &defaults(&QatConfig::default()))]),
            StageKind::Prune => self.table::<PruneConfig>(&prefix, &[("default", &defaults(&PruneConfig::default()))]),
            StageKind::Distill => {
                self.table::<DistillConfig>(&prefix, &[("default", &defaults(&DistillConfig::default()))]);
            }
            StageKind::Plan => self.table::<PlanConfig>(&prefix, &[("default", &defaults(&PlanConfig::default()))]),
        }
    }

    /// All keys of a table and of its subtables.
    fn table<T: DeserializeOwned>(&mut self, prefix: &str, columns: &[(&str, &Table)]) {
        self.text.push_str("\n| key | type |");
        columns.iter().for_each(|(title, _)| write!(self.text, " {title} |").expect("a string takes all text"));
        writeln!(self.text, " range | meaning |\n| --- |{} --- | --- | --- |", " --- |".repeat(columns.len()))
            .expect("a string takes all text");
        self.rows::<T>(prefix, &[], columns);
    }

    fn rows<T: DeserializeOwned>(&mut self, prefix: &str, path: &[&str], columns: &[(&str, &Table)]) {
        let Kind::Table { name, keys } = kind_at::<T>(path) else { panic!("{path:?} is no table") };
        for key in keys {
            let path = [path, &[key]].concat();
            let kind = kind_at::<T>(&path);
            let inner = match &kind {
                // These have their own sections.
                Kind::Table { name: "Schedule" | "ModelConfig" | "QuantizationPolicy", .. } => None,
                Kind::Table { .. } => Some(path.clone()),
                Kind::List => Some([&path[..], &["[]"]].concat()),
                _ => None,
            };
            let inner = inner.filter(|inner| matches!(kind_at::<T>(inner), Kind::Table { .. }));
            let shown_key = path.join(".").replace(".[]", "[]");
            write!(self.text, "| `{shown_key}` | {} |", self.shown::<T>(&path, &kind)).expect("a string");
            for (_, values) in columns {
                // Tables have no defaults; their keys do.
                let value = if matches!(kind, Kind::Table { .. }) { None } else { at(values, &path) };
                // A flag that is off may be missing in a written recipe.
                let absent = if kind == Kind::Flag && !is_optional::<T>(&path) { "false" } else { "-" };
                write!(self.text, " {} |", value.map_or(absent.to_owned(), shown_value)).expect("a string");
            }
            let range = range(&format!("{prefix}.{}", path.join(".")), &kind);
            let meaning = cell(self.docs.of_member(name, key));
            writeln!(self.text, " {} | {meaning}{} |", cell(&range), self.names(&kind)).expect("a string");
            if let Some(inner) = inner {
                self.rows::<T>(prefix, &inner, columns);
            }
        }
    }

    /// Name of a kind of values.
    fn shown<T: DeserializeOwned>(&self, path: &[&str], kind: &Kind) -> String {
        match kind {
            Kind::Flag => "true or false".to_owned(),
            Kind::Whole => "whole number".to_owned(),
            Kind::Number => "number".to_owned(),
            Kind::Text => "text".to_owned(),
            Kind::Table { .. } => "table".to_owned(),
            Kind::Alone => "name".to_owned(),
            Kind::Described(words) => words.clone(),
            Kind::List => {
                format!("list of {}s", self.shown::<T>(path, &kind_at::<T>(&[path, &["[]"]].concat())))
            }
            Kind::OneOf { names, .. } => {
                let shown = names.iter().map(|name| match kind_at::<T>(&[path, &[name]].concat()) {
                    Kind::Alone => format!("`\"{name}\"`"),
                    value => format!("`{{ {name} = {} }}`", self.shown::<T>(path, &value)),
                });
                shown.collect::<Vec<_>>().join(" or ")
            }
        }
    }

    /// The names of an enumeration with their meanings.
    fn names(&self, kind: &Kind) -> String {
        let Kind::OneOf { name, names } = kind else { return String::new() };
        let meaning = |member: &&str| format!(" `{member}`: {}", cell(self.docs.of_member(name, member)));
        names.iter().map(meaning).collect()
    }
}

/// The kinds of stages, in the order of [`BASE`].
fn stage_kinds() -> impl Iterator<Item = StageKind> {
    let Kind::OneOf { names, .. } = kind_at::<StageKind>(&[]) else { panic!("kinds are names") };
    let kind = |&name: &&str| StageKind::deserialize(Value::from(name)).expect("a kind");
    names.iter().map(kind)
}

fn defaults<T: Serialize>(value: &T) -> Table {
    Table::try_from(value).expect("a table")
}

fn at<'a>(table: &'a Table, path: &[&str]) -> Option<&'a Value> {
    let (key, rest) = path.split_first()?;
    match (table.get(*key)?, rest) {
        (value, []) => Some(value),
        (Value::Table(inner), rest) => at(inner, rest),
        _ => None,
    }
}

fn shown_value(value: &Value) -> String {
    match value {
        // Print single-precision numbers with their own digits.
        Value::Float(number) if f64::from(*number as f32) == *number => format!("{:?}", *number as f32),
        Value::Float(number) => format!("{number:?}"),
        value => with_separators(&value.to_string()),
    }
}

/// The range of a key, from the error messages for wrong values.
fn range(key: &str, kind: &Kind) -> String {
    let wrong: &[&str] = match kind {
        _ if key.contains("[]") => &[],
        Kind::Whole => &["0", "1", "5", "9223372036854775807"],
        Kind::Number | Kind::Described(_) => &["-1.0", "0.0", "1.0", "2.0", "inf", "nan"],
        Kind::List => &["[]", "[2]"],
        _ => &[],
    };
    let mut found: Vec<String> = Vec::new();
    for value in wrong {
        let Err(error) = Recipe::parse(BASE, "base", &[format!("{key}={value}")]) else { continue };
        let error = error.to_string();
        let name = key.rsplit('.').next().unwrap_or(key);
        let Some((place, allowed)) = error.split_once("but must be ") else { continue };
        // Skip other keys that become invalid too; they have their own rows.
        let allowed = with_separators(allowed.split(": ").next().unwrap_or(allowed));
        let is_this = [format!("{name} is "), format!("{name}[")];
        if is_this.iter().any(|name| place.contains(name)) && !found.contains(&allowed) {
            found.push(allowed);
        }
    }
    // Two messages may describe what is below the least value.
    let ranges: Vec<String> =
        found.iter().filter_map(|range| range.strip_prefix("from ")?.split(' ').next().map(str::to_owned)).collect();
    found
        .retain(|range| range.strip_prefix("at least ").is_none_or(|least| !ranges.iter().any(|range| range == least)));
    if key.ends_with("_bits")
        && found.iter().any(|range| range.starts_with("from "))
        && Recipe::parse(BASE, "base", &[format!("{key}=32")]).is_ok()
    {
        found.push("or 32".to_owned());
    }
    found.join("; ")
}

/// Adds separators to whole numbers in a text: 65536 becomes 65,536.
fn with_separators(text: &str) -> String {
    let mut out = String::new();
    let mut digits = String::new();
    for c in text.chars().chain([' ']) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        let length = digits.len();
        for (place, digit) in digits.drain(..).enumerate() {
            if place > 0 && (length - place).is_multiple_of(3) {
                out.push(',');
            }
            out.push(digit);
        }
        out.push(c);
    }
    out.trim_end().to_owned()
}

/// Escapes text for a table cell: removes links into the code and escapes `|`.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace("[`", "`").replace("`]", "`")
}

fn wrapped(text: &str) -> String {
    let mut out = String::new();
    let mut width = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if width > 0 && width + 1 + length > 100 {
            out.push('\n');
            width = 0;
        } else if width > 0 {
            out.push(' ');
            width += 1;
        }
        out.push_str(word);
        width += length;
    }
    out
}
