//! Tests of suggestions and of text generation.

mod common;

use common::{D_MODEL, Fixture, VOCAB_SIZE, fixtures, propagator, vocabulary};
use resnet_bk_runtime::internal::model::{Model, ModelError};
use resnet_bk_runtime::internal::sample::{PENALTY_WINDOW, SampleError, Sampler, generate, suggest};
use resnet_bk_runtime::internal::tensor_id::{ModelTensor, TensorId};
use resnet_bk_runtime::internal::tokenizer::END_OF_LINE;

const PROMPT: &str = "w3 w17 nonsense w40";
const GREEDY: Sampler = Sampler { temperature: 0.0, top_k: None, top_p: None, repetition_penalty: 1.0, seed: 0 };

fn models() -> impl Iterator<Item = Model> {
    fixtures().into_iter().filter(Fixture::is_causal).map(|fixture| fixture.model())
}

/// Probabilities of the next token after `tokens`, from the whole sequence at once and in double
/// precision.
fn probabilities(model: &Model, tokens: &[u32]) -> Vec<f64> {
    let hidden = model.hidden(tokens, &mut model.start());
    let mut logits = vec![0.0; VOCAB_SIZE];
    model.head().logits(&hidden[hidden.len() - D_MODEL..], &mut logits);
    let weights: Vec<f64> = logits.iter().map(|&x| f64::from(x).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / total).collect()
}

fn text(model: &Model, prompt: &str, sampler: Sampler, tokens: usize) -> Vec<u32> {
    generate(model, &vocabulary(), prompt, sampler).unwrap().take(tokens).collect()
}

#[test]
fn suggestions_are_the_most_probable_words_of_the_full_distribution() {
    let vocabulary = vocabulary();
    for model in models() {
        let expected = probabilities(&model, &vocabulary.encode_prompt(PROMPT));
        let all = suggest(&model, &vocabulary, PROMPT, usize::MAX).unwrap();
        assert_eq!(all.len(), VOCAB_SIZE - 2, "every word but <unk> and <eos>");
        for suggestion in &all {
            let id = vocabulary.id(&suggestion.word);
            assert!(![vocabulary.unknown(), vocabulary.start()].contains(&id), "{}", suggestion.word);
            assert!((f64::from(suggestion.probability) - expected[id as usize]).abs() < 1e-6);
        }
        assert!(all.is_sorted_by(|a, b| a.probability >= b.probability));
        let listed: f64 = all.iter().map(|suggestion| f64::from(suggestion.probability)).sum();
        assert!(
            (listed + expected[0] + expected[1] - 1.0).abs() < 1e-5,
            "including the two that are omitted, all sum to 1"
        );
        assert_eq!(suggest(&model, &vocabulary, PROMPT, 5).unwrap(), all[..5]);
        assert_eq!(suggest(&model, &vocabulary, PROMPT, 0).unwrap(), []);
    }
}

#[test]
fn suggestions_serialize_as_word_and_probability() {
    let suggestion = suggest(&Fixture::new(propagator()).model(), &vocabulary(), "w2", 1).unwrap().remove(0);
    let json = serde_json::to_value(&suggestion).unwrap();
    let keys: Vec<_> = json.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["probability", "word"]);
}

#[test]
fn generation_is_reproducible_from_its_seed() {
    for model in models() {
        // A high temperature: a random model with tied embeddings repeats each word almost
        // certainly.
        let sampler = Sampler { temperature: 8.0, top_k: Some(20), seed: 42, ..Sampler::default() };
        let first = text(&model, PROMPT, sampler, 30);
        assert_eq!(first.len(), 30);
        assert_eq!(text(&model, PROMPT, sampler, 30), first);
        assert_eq!(text(&model, PROMPT, sampler, 10), first[..10]);
        assert_ne!(text(&model, PROMPT, Sampler { seed: 43, ..sampler }, 30), first);
    }
}

#[test]
fn greedy_equals_the_argmax_of_the_whole_sequence() {
    for model in models() {
        let mut tokens = vocabulary().encode_prompt(PROMPT);
        for token in text(&model, PROMPT, GREEDY, 20) {
            let p = probabilities(&model, &tokens);
            let argmax = (1..VOCAB_SIZE).max_by(|&a, &b| p[a].total_cmp(&p[b])).unwrap();
            assert_eq!(token, argmax as u32);
            tokens.push(token);
        }
        let only_one = Sampler { temperature: 3.0, top_k: Some(1), seed: 9, ..Sampler::default() };
        assert_eq!(text(&model, PROMPT, only_one, 20), text(&model, PROMPT, GREEDY, 20));
    }
}

#[test]
fn a_penalty_applies_to_the_last_tokens_of_prompt_and_text() {
    let vocabulary = vocabulary();
    // A prompt longer than the penalty window. Its first words are outside the window; its last
    // words are not repeated.
    let prompt = format!("w40 w41 {} w4 w5", "w2 w3 ".repeat(PENALTY_WINDOW / 2));
    for model in models() {
        let sampler = Sampler { repetition_penalty: 1.5, ..GREEDY };
        let mut tokens = vocabulary.encode_prompt(&prompt);
        for token in text(&model, &prompt, sampler, 30) {
            let hidden = model.hidden(&tokens, &mut model.start());
            let mut logits = vec![0.0; VOCAB_SIZE];
            model.head().logits(&hidden[hidden.len() - D_MODEL..], &mut logits);
            let recent = &tokens[tokens.len() - PENALTY_WINDOW..];
            for (_, logit) in logits.iter_mut().enumerate().filter(|(id, _)| recent.contains(&(*id as u32))) {
                *logit = if *logit > 0.0 { *logit / 1.5 } else { *logit * 1.5 };
            }
            let argmax = (1..VOCAB_SIZE).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
            assert_eq!(token, argmax as u32);
            tokens.push(token);
        }
    }
}

#[test]
fn unknown_is_never_generated() {
    let mut fixture = Fixture::new(propagator());
    fixture.values.get_mut(&TensorId::Values(ModelTensor::HeadBias)).unwrap()[0] = 50.0;
    let model = fixture.model();
    assert!(probabilities(&model, &[1])[0] > 0.999, "the model predicts <unk> almost certainly");
    for temperature in [0.0, 0.7, 100.0] {
        let tokens = text(&model, "", Sampler { temperature, seed: 5, ..Sampler::default() }, 200);
        assert!(tokens.iter().all(|&token| token != 0), "temperature {temperature}");
    }
}

#[test]
fn an_empty_prompt_starts_a_line() {
    let vocabulary = vocabulary();
    let model = Fixture::new(propagator()).model();
    let line_start = probabilities(&model, &[vocabulary.start()]);
    // This pretokenizer splits at white space only, so `<eos>` can be written in the text.
    let from_line_start = text(&model, END_OF_LINE, GREEDY, 8);
    for prompt in ["", " \n\n "] {
        let first = &suggest(&model, &vocabulary, prompt, 1).unwrap()[0];
        assert!((f64::from(first.probability) - line_start[vocabulary.id(&first.word) as usize]).abs() < 1e-6);
        assert_eq!(text(&model, prompt, GREEDY, 8), from_line_start);
    }
}

#[test]
fn bidirectional_models_and_invalid_samplers_are_refused() {
    let vocabulary = vocabulary();
    let bidirectional = fixtures().into_iter().find(|fixture| !fixture.is_causal()).unwrap().model();
    assert_eq!(suggest(&bidirectional, &vocabulary, PROMPT, 3), Err(ModelError::NotCausal));
    let refused = |model: &Model, sampler| generate(model, &vocabulary, PROMPT, sampler).err().unwrap();
    assert_eq!(refused(&bidirectional, GREEDY), SampleError::Model(ModelError::NotCausal));
    let model = Fixture::new(propagator()).model();
    let cold = Sampler { temperature: -1.0, ..GREEDY };
    assert_eq!(refused(&model, cold), SampleError::Temperature { value: -1.0 });
    assert_eq!(refused(&model, Sampler { top_k: Some(0), ..GREEDY }), SampleError::TopK);
}
