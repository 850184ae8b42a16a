//! Tests of the public interface: its parts agree with each other and with the command line.

use resnet_bk_runtime::{Error, GenerateOptions, Generation, LanguageModel, State, TokenScore};

const ARTIFACT: &[u8] = include_bytes!("data/tiny-english.rbk");
const SENTENCES: &str = include_str!("data/sentences.txt");
/// The perplexity that `resnet-bk eval` reports; see data/README.md.
const PERPLEXITY: f64 = 40.27258588883563;
/// Machines differ in the order of summation of the head's products, in single precision.
const TOLERANCE: f64 = 1e-5;

fn model() -> LanguageModel {
    LanguageModel::from_bytes(ARTIFACT).unwrap()
}

fn log_probabilities(scores: &[TokenScore]) -> Vec<f64> {
    scores.iter().map(|score| f64::from(score.log_probability)).collect()
}

#[test]
fn perplexity_equals_resnet_bk_eval() {
    let perplexity = model().perplexity(SENTENCES).unwrap();
    assert!((perplexity / PERPLEXITY - 1.0).abs() < TOLERANCE, "{perplexity}, expected {PERPLEXITY}");
}

#[test]
fn perplexity_within_a_window_equals_the_log_probabilities() {
    let model = model();
    let text: String = SENTENCES.lines().take(5).collect::<Vec<_>>().join("\n");
    let scores = log_probabilities(&model.log_probabilities(&text).unwrap());
    assert!(scores.len() <= model.window() + 1, "{} tokens", scores.len());
    let mean = scores[1..].iter().sum::<f64>() / (scores.len() - 1) as f64;
    let perplexity = model.perplexity(&text).unwrap();
    assert!((perplexity / (-mean).exp() - 1.0).abs() < TOLERANCE, "{perplexity}, expected {}", (-mean).exp());
}

#[test]
fn log_probabilities_equal_those_of_suggestions() {
    let model = model();
    // Longer than a window and than a chunk.
    let text = SENTENCES.repeat(3);
    let scores = model.log_probabilities(&text).unwrap();
    assert!(scores.len() > 300);
    let mut state = model.state().unwrap();
    for (index, score) in scores.iter().enumerate() {
        if score.token == "<eos>" {
            state.end_line();
            continue;
        }
        let all = state.suggest(usize::MAX);
        let found = all.iter().find(|suggestion| suggestion.word == score.token).unwrap();
        let expected = f64::from(found.probability).ln();
        let difference = f64::from(score.log_probability) - expected;
        assert!(difference.abs() < TOLERANCE * expected.abs().max(1.0), "token {index}, {score:?}: {expected}");
        state.push(&score.token);
    }
}

#[test]
fn tokens_are_words_marks_and_ends_of_lines() {
    let tokens = |text: &str| -> Vec<String> {
        model().log_probabilities(text).unwrap().into_iter().map(|score| score.token).collect()
    };
    assert_eq!(tokens("I want\n\nto xyzzy."), ["I", "want", "<eos>", "to", "<unk>", ".", "<eos>"]);
    assert_eq!(tokens(" \n\n"), [""; 0]);
}

#[test]
fn a_state_equals_the_text_that_was_pushed() {
    let model = model();
    let mut state = model.state().unwrap();
    assert_eq!(state.suggest(7), model.suggest("", 7).unwrap());
    let mut text = String::new();
    for line in SENTENCES.lines().filter(|line| !line.is_empty()) {
        for word in line.split(' ') {
            state.push(word);
            text.push_str(word);
            assert_eq!(state.suggest(7), model.suggest(&text, 7).unwrap(), "{text}");
            text.push(' ');
        }
        let options = GenerateOptions::default().max_tokens(5).repetition_penalty(1.5);
        let pieces = |generation: Generation| generation.collect::<Vec<_>>();
        assert_eq!(pieces(state.generate(options).unwrap()), pieces(model.generate(&text, options).unwrap()));
        state.end_line();
        text.push('\n');
    }
    assert_eq!(state.tokens(), model.log_probabilities(&text).unwrap().len());
    let before = state.clone();
    state.push("");
    state.push(" \n \n");
    assert_eq!((state.tokens(), state.suggest(3)), (before.tokens(), before.suggest(3)));
}

#[test]
fn generation_streams_readable_text() {
    let model = model();
    let options = GenerateOptions::default().max_tokens(60).seed(9);
    let pieces: Vec<String> = model.generate("He said, \"I ", options).unwrap().collect();
    assert_eq!(pieces.len(), 60);
    assert!(pieces.iter().all(|piece| !piece.is_empty()));
    let text = format!("He said, \"I{}", pieces.concat());
    let has_open_quotation = |line: &str| line.matches('"').count() % 2 == 1;
    for line in text.lines().filter(|line| !has_open_quotation(line)) {
        assert!(!line.starts_with(' ') && !line.contains("  ") && !line.contains(" ,"), "{line:?}");
    }
    let again: Vec<String> = model.generate("He said, \"I", options).unwrap().take(10).collect();
    assert_eq!(again, pieces[..10], "white space at the end of a prompt has no effect");
    let other: Vec<String> = model.generate("He said, \"I", options.seed(10)).unwrap().collect();
    assert_ne!(other, pieces);
    assert_eq!(model.generate("", options.max_tokens(0)).unwrap().next(), None);
}

#[test]
fn probabilities_with_a_prefix_are_conditional_on_it() {
    let state = {
        let mut state = model().state().unwrap();
        state.push("He went to");
        state
    };
    let all = state.suggest(usize::MAX);
    assert_eq!(all.len(), model().vocabulary_size() - 2);
    let begins: Vec<_> = all.iter().filter(|suggestion| suggestion.word.starts_with("sc")).collect();
    let total: f32 = begins.iter().map(|suggestion| suggestion.probability).sum();
    let with_prefix = state.suggest_with_prefix("sc", usize::MAX);
    assert!(begins.len() > 1 && with_prefix.len() == begins.len());
    for (suggestion, expected) in with_prefix.iter().zip(begins) {
        assert_eq!(suggestion.word, expected.word);
        assert!((suggestion.probability - expected.probability / total).abs() < 1e-5, "{suggestion:?}");
    }
    assert_eq!(state.suggest_with_prefix("sc", 1), with_prefix[..1]);
    assert_eq!(state.suggest_with_prefix("", usize::MAX).len(), all.len());
    for none in ["xyzzy", " ", "<unk>", "<eos>", "🦀"] {
        assert_eq!(state.suggest_with_prefix(none, 5), []);
    }
}

#[test]
fn options_outside_their_range_are_refused_with_their_values() {
    let message_of = |options: GenerateOptions| {
        let error = model().generate("I", options).unwrap_err();
        assert!(matches!(error, Error::InvalidOption(_)), "{error}");
        error.to_string()
    };
    let options = GenerateOptions::default();
    assert_eq!(message_of(options.temperature(f32::NAN)), "temperature is NaN, but must be finite and at least 0");
    assert_eq!(message_of(options.top_k(0)), "top_k is 0, but must be at least 1");
    assert_eq!(message_of(options.top_p(1.5)), "top_p is 1.5, but must be above 0 and at most 1");
    assert_eq!(
        message_of(options.repetition_penalty(0.5)),
        "repetition_penalty is 0.5, but must be finite and at least 1"
    );
}

#[test]
fn texts_without_a_perplexity_are_refused() {
    for text in ["", "\n \n"] {
        let error = model().perplexity(text).unwrap_err();
        assert!(matches!(error, Error::TextTooShort { tokens: 0, needed: 2 }), "{error}");
    }
    assert!(model().perplexity("I").unwrap() > 1.0);
}

#[test]
fn errors_of_reading_name_the_file() {
    let error = LanguageModel::open("tests/data/missing.rbk").unwrap_err();
    assert_eq!(error.to_string(), "cannot read tests/data/missing.rbk");
    assert!(matches!(LanguageModel::open("tests"), Err(Error::Read { .. })));
    let Err(Error::InvalidArtifact(error)) = LanguageModel::open("tests/data/README.md") else { panic!("accepted") };
    assert!(error.to_string().ends_with("which looks like text"), "{error}");
    assert_eq!(error.newer_format(), None);
}

#[test]
fn models_and_states_can_be_sent_to_threads() {
    fn check<T: Send + Sync + Clone + 'static>(_: &T) {}
    let model = model();
    let state = model.state().unwrap();
    check(&model);
    check::<State>(&state);
    check(&state.generate(GenerateOptions::default()).unwrap());
    let expected = model.suggest("I want", 4).unwrap();
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let model = model.clone();
            std::thread::spawn(move || model.suggest("I want", 4).unwrap())
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), expected);
    }
}

#[test]
fn debug_output_is_short() {
    let state = model().state().unwrap();
    for shown in [format!("{:?}", model()), format!("{state:?}")] {
        assert!(shown.len() < 300, "{shown}");
    }
}
