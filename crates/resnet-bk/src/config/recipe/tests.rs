//! Tests of reading recipes and of error messages.

use super::*;
use crate::config::{MagnitudePruning, Schedule};

const TEXT: &str = r#"
    seed = 1
    [model]
    preset = "tiny"
    d_model = 24
    [schedule]
    batch_size = 4
    learning_rate = 1e-3
    [[stage]]
    kind = "train"
    schedule.epochs = 2
    [[stage]]
    kind = "prune"
    schedule.learning_rate = 5e-4
    magnitude.sparsity = 0.5
    experts.milestones = [{ epoch = 0, experts = 2 }, { step = 9, experts = 1 }]
    [[stage]]
    kind = "distill"
    student.d_model = 8
"#;

#[test]
fn presets_schedules_and_assignments_are_merged() {
    let set = ["model.n_layers=3".to_owned(), "stage.0.schedule.epochs=7".to_owned(), "seed=9".to_owned()];
    let recipe = Recipe::parse(TEXT, "test", &set).unwrap();
    assert_eq!((recipe.model.d_model, recipe.model.n_layers, recipe.seed), (24, 3, 9));
    let schedules: Vec<&Schedule> = recipe.stages.iter().map(StageConfig::schedule).collect();
    assert_eq!((schedules[0].epochs, schedules[0].batch_size, schedules[0].learning_rate), (Some(7), 4, 1e-3));
    assert_eq!((schedules[1].batch_size, schedules[1].learning_rate), (4, 5e-4));
    let StageConfig::Prune(prune) = &recipe.stages[1] else { panic!("the second stage prunes") };
    assert_eq!(prune.magnitude, Some(MagnitudePruning::Sparsity(0.5)));
}

#[test]
fn a_stage_has_a_length_in_epochs_or_in_minutes() {
    let lengths = |text: &str| {
        let recipe = Recipe::parse(text, "test", &[]).unwrap();
        assert_eq!(Recipe::parse(&recipe.to_toml(), "resolved", &[]).unwrap(), recipe);
        recipe.stages.iter().map(|stage| (stage.schedule().epochs, stage.schedule().minutes)).collect::<Vec<_>>()
    };
    assert_eq!(lengths(TEXT), [(Some(2), None), (None, None), (None, None)]);
    // A stage's own length replaces the common one.
    let minutes = TEXT.replace("batch_size = 4", "batch_size = 4\n    minutes = 1.5");
    assert_eq!(lengths(&minutes), [(Some(2), None), (None, Some(1.5)), (None, Some(1.5))]);
    let epochs = TEXT.replace("batch_size = 4", "batch_size = 4\n    epochs = 4");
    let epochs = epochs.replace("schedule.epochs = 2", "schedule.minutes = 3");
    assert_eq!(lengths(&epochs), [(None, Some(3.0)), (Some(4), None), (Some(4), None)]);
}

#[test]
fn a_resolved_recipe_reads_back_as_itself() {
    let recipe = Recipe::parse(TEXT, "test", &[]).unwrap();
    assert_eq!(Recipe::parse(&recipe.to_toml(), "resolved", &[]).unwrap(), recipe);
}

#[test]
fn mistakes_are_named() {
    let fails = |set: &str, part: &str| {
        let message = Recipe::parse(TEXT, "test.toml", &[set.to_owned()]).unwrap_err().to_string();
        assert!(message.contains(part), "{set}: {message}");
    };
    fails("foo=1", "--set foo=1: foo is not a known key: there are seed, corpus, model, target, schedule, stage");
    fails("shedule.epochs=1", "--set shedule.epochs=1: shedule is not a known key");
    fails("model.d_modle=3", "--set model.d_modle=3: model.d_modle is not a known key");
    fails("stage.0.schedule.epochs=0", "[[stage]] 1 (train): epochs is 0, but must be from 1 to 1,048,576");
    fails("stage.0.schedule.minutes=5", "minutes is 5, but must be absent where `epochs` is given");
    fails("stage.1.schedule.minutes=0", "minutes is 0, but must be finite and above 0");
    fails("stage.2.schedule.restart=0.0", "restart is 0, but must be finite and above 0");
    fails("stage.2.schedule.average=1.0", "average is 1, but must be at least 0 and below 1");
    fails("stage.7.schedule.epochs=1", "stage has 3 entries");
    fails("stage.schedule=1", "stage is a list");
    fails("nonsense", "expected key=value");
    fails("model.top_k=9", "[model] top_k is 9, but must be from 1 to num_experts");
    fails("stage.0.kind=\"dance\"", "dance");
    fails("stage.2.alpha=2.0", "--set stage.2.alpha=2.0: [[stage]] 3 (distill): alpha is 2");
    fails("stage.2.student.n_layers=0", "[[stage]] 3 (distill): n_layers is 0");
    fails("stage.2.student.d_model=0", "d_model is 0");
    fails("stage.1.experts.milestones=[{epoch=1, experts=1}]", "before the stage's end");
    fails("stage.1.experts.milestones=[{epoch=0, experts=0}]", "at least top_k");
    fails("schedule.final_fraction=0.1", "schedule.final_fraction is now called min_lr_ratio");
    fails("schedule.bit_price=1e-7", "schedule.bit_price is now called lambda");
    fails("stage.1.experts.merge=true", "experts.merge is now called removal (\"drop\" or \"merge\")");
    fails("stage.1.kind=\"qat\"", "line 16: stage.1.experts is not a known key");
    fails("stage.2.model={n_layers=2}", "student is");
    fails("stage.2.schedule.weights_bytes=0", "weights_bytes is 0");
    let hasty = TEXT.replace("\"distill\"", "\"plan\"").replace("student.d_model = 8", "trial_tokens = 20");
    let error = Recipe::parse(&hasty, "test", &[]).unwrap_err().to_string();
    assert!(error.contains("trial_tokens is 20"), "{error}");
}

#[test]
fn errors_in_assignments_name_the_assignment() {
    let fails = |set: &str, message: &str| {
        let error = Recipe::parse(TEXT, "test.toml", &[set.to_owned()]).unwrap_err().to_string();
        assert_eq!(error, format!("--set {set}: {message}"));
    };
    fails("model.d_model=abc", "must be a whole number, but is the text \"abc\"");
    fails("model.d_model=16.0", "must be a whole number, but is 16.0");
    fails("model.d_model=-16", "must be at least 0, but is -16");
    fails("model.positions=True", "must be true or false, but is the text \"True\"");
    fails("model.preset=tinyy", "model.preset must be one of seed, memory, tiny, but is the text \"tinyy\"");
    fails("model.preset=3", "must be one of seed, memory, tiny, but is 3");
    fails("model=3", "must be a table of values, but is 3");
    fails("modle.d_model=3", "modle is not a known key");
    fails(
        "seed=99999999999999999999",
        "99999999999999999999 is too large: the largest whole number is 9,223,372,036,854,775,807",
    );
    fails("seed=-1", "must be at least 0, but is -1");
    fails("shedule.epochs=3", "shedule is not a known key");
    fails("schedule=3", "must be a table of values, but is 3");
    fails("schedule.epochs=two", "must be a whole number, but is the text \"two\"");
    fails("schedule.epcohs=2", "schedule.epcohs is not a known key");
    fails("stage.1.schedule=3", "must be a table of values, but is 3");
    fails("stage.1.schedule.learning_rate=fast", "must be a number, but is the text \"fast\"");
    fails("stage.1.experts.milestones.0.epoch=x", "must be a whole number, but is the text \"x\"");
    fails("stage.0.knid=train", "stage.0.knid is not a known key");
    fails("stage=[]", "the recipe has no [[stage]]");
    fails("stage.0=3", "stage is a list: its entries are stage.0 to stage.2");
    fails("model..d_model=3", "the key is empty, or a part of it is");
    fails("model.n_layers=0", "[model] n_layers is 0, but must be from 1 to 256");
    fails("model.eta=[1.0]", "[model] eta is 1 values, but must be 2 values");
    fails("model.a0=nan", "[model] a0[0] is NaN, but must be finite");
    fails("model.num_experts=99999", "[model] num_experts is 99999, but must be from 1 to 4096");
    fails("schedule.learning_rate=inf", "[[stage]] 1 (train): learning_rate is inf, but must be finite and above 0");
}

#[test]
fn a_value_of_a_preset_is_refused_where_another_key_forbids_it() {
    let text = "seed = 1\n[model]\npreset = \"memory\"\n[[stage]]\nkind = \"train\"\n";
    let error = Recipe::parse(text, "test.toml", &["model.learned_eta=true".to_owned()]).unwrap_err().to_string();
    let expected =
        "--set model.learned_eta=true: [model] eta[0] is 0, but must be finite and above 0 where it is learned";
    assert_eq!(error, expected);
}

#[test]
fn errors_keep_the_nearest_name() {
    let near = |set: &str| match Recipe::parse(TEXT, "test.toml", &[set.to_owned()]) {
        Err(RecipeError::Value { near, .. }) => near,
        other => panic!("{set}: {other:?}"),
    };
    for (set, meant) in [
        ("model.d_modle=3", "d_model"),
        ("model.preset=tinyy", "tiny"),
        ("model.mixer=propagate", "propagator"),
        ("shedule.epochs=3", "schedule"),
        ("schedule.epcohs=2", "epochs"),
        ("stage.0.knid=train", "kind"),
    ] {
        assert_eq!(near(set).as_deref(), Some(meant), "{set}");
    }
    assert_eq!(near("foo=1"), None);
}

#[test]
fn errors_in_the_file_name_the_line() {
    let fails = |from: &str, to: &str, message: &str| {
        let text = TEXT.replacen(from, to, 1);
        assert_ne!(text, TEXT);
        assert_eq!(Recipe::parse(&text, "test.toml", &[]).unwrap_err().to_string(), message);
    };
    fails(
        "d_model = 24",
        "d_model = \"24\"",
        "test.toml line 5: model.d_model must be a whole number, but is the text \"24\"",
    );
    fails("d_model = 24", "d_modle = 24", "test.toml line 5: model.d_modle is not a known key");
    fails(
        "batch_size = 4",
        "batch_size = 4.5",
        "test.toml line 7: schedule.batch_size must be a whole number, but is 4.5",
    );
    fails(
        "batch_size = 4",
        "batch_size = 0",
        "test.toml line 7: [[stage]] 1 (train): batch_size is 0, but must be from 1 to 1,048,576",
    );
    fails("seed = 1", "", "test.toml: seed is missing");
    fails("kind = \"train\"", "", "test.toml line 9: stage.0.kind is missing");
    fails(
        "seed = 1",
        "seed = 99999999999999999999",
        "test.toml line 2: 99999999999999999999 is too large: the largest whole number is 9,223,372,036,854,775,807",
    );
}

#[test]
fn targets_follow_the_same_rules_everywhere() {
    let set = |set: &str| Recipe::parse(TEXT, "test.toml", &[set.to_owned()]);
    for (wrong, message) in [
        ("target.ratio=0", "[target] ratio is 0, but must be finite and above 0"),
        ("target.ratio=-3", "[target] ratio is -3, but must be finite and above 0"),
        ("target.ratio=inf", "[target] ratio is inf, but must be finite and above 0"),
        ("target.ratio=nan", "[target] ratio is NaN, but must be finite and above 0"),
        ("target.max_loss=15", "target.max_loss is 15, but must be a share: 15 would be 1500 %"),
        ("target.max_loss=-0.1", "target.max_loss is -0.1, but must be a share"),
        ("target.max_loss=nan", "target.max_loss is nan, but must be a share"),
        ("target.bytes=0", "[target] bytes is 0, but must be from 1 to 9,223,372,036,854,775,807"),
        ("target.bytes=-5", "must be at least 0, but is -5"),
    ] {
        assert_eq!(set(wrong).unwrap_err().to_string(), format!("--set {wrong}: {message}"));
    }
    let in_file = format!("{TEXT}[target]\nratio = 0\n");
    let error = Recipe::parse(&in_file, "test.toml", &[]).unwrap_err().to_string();
    assert!(error.ends_with("[target] ratio is 0, but must be finite and above 0"), "{error}");
    assert!(error.starts_with("test.toml line "), "{error}");
    for (written, loss) in [("0.15", 0.15), ("15%", 0.15), ("1", 1.0), ("250%", 2.5)] {
        let recipe = set(&format!("target.max_loss={written}")).unwrap();
        assert_eq!(recipe.target.max_loss, Some(loss));
        assert_eq!(Recipe::parse(&recipe.to_toml(), "resolved", &[]).unwrap(), recipe, "{written}");
    }
}

#[test]
fn impossible_sizes_are_refused_before_allocation() {
    for set in [
        "model.heads=1000000000000",
        "model.n_layers=1000000000000",
        "model.d_model=9223372036854775807",
        "model.n_seq=9223372036854775807",
        "model.vocab_size=9223372036854775807",
        "model.num_experts=9223372036854775807",
        "stage.0.schedule.batch_size=9223372036854775807",
        "stage.0.schedule.epochs=9223372036854775807",
        "stage.2.student.heads=1000000000000",
        "stage.2.student.n_layers=1000000000000",
    ] {
        let error = Recipe::parse(TEXT, "test.toml", &[set.to_owned()]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("--set {set}: ")), "{error}");
    }
}

#[test]
fn a_stage_can_have_its_own_model() {
    let set = ["stage.0.model={preset=\"memory\", heads=4}".to_owned(), "stage.1.kind=\"train\"".to_owned()];
    let text = TEXT.replace("magnitude.sparsity = 0.5", "").replace("experts.milestones", "#");
    let text = text.replace("student.d_model = 8", "model.n_layers = 5\nquantization.learned.expert = 3");
    let recipe = Recipe::parse(&text, "test", &set).unwrap();
    let mut model = recipe.model.clone();
    let mut after = |stage: &StageConfig| {
        model = stage.model_after(&model);
        (model.d_model, model.heads, model.n_layers)
    };
    assert_eq!(after(&recipe.stages[0]), (64, 4, 3));
    assert_eq!(after(&recipe.stages[1]), (64, 4, 3));
    assert_eq!(after(&recipe.stages[2]), (24, recipe.model.heads, 5));
    assert_eq!([0, 1, 2].map(|stage| recipe.stages[stage].has_own_model()), [true, false, true]);
    let StageConfig::Distill(distill) = &recipe.stages[2] else { panic!("the third stage distills") };
    assert_eq!(distill.quantization.as_ref().unwrap().learned.as_ref().unwrap().expert, 3);
}
