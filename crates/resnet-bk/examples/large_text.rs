//! Start-up time and memory with a text of the size of WikiText-103.
//!
//! ```sh
//! cargo run --release -p resnet-bk --example large_text            # 103,227,021 tokens, 0.5 GB
//! cargo run --release -p resnet-bk --example large_text 3000000    # fewer tokens
//! ```
//!
//! Generates the text in a temporary folder, with a cache folder beside it, and starts a run three
//! times, each in a process of its own: without the cache, with an empty one, and with a full one.
//! Each start ends at the first training step. Then it counts the n-gram baselines, capped as a run
//! does and of all tokens. Memory is the peak of the process, as Linux counts it (`VmHWM`), pages
//! of mapped files included; on other systems it is not known.
//!
//! The text: words are independent, with the probability of rank r in proportion to
//! `ln(1 + 1 / r)`, close to Zipf's law. Every word of the vocabulary occurs.

#![expect(clippy::print_stdout, reason = "a program for the terminal")]

use resnet_bk::config::Recipe;
use resnet_bk::corpus::{Cache, encode, load};
use resnet_bk::device::Device;
use resnet_bk::ngram::NgramBaselines;
use resnet_bk::observer::{Event, Observer, Silent};
use resnet_bk::pipeline::{RunRequest, run};
use resnet_bk::random::Random;
use resnet_bk::ranks::Ranks;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

/// Tokens of WikiText-103's training text in the published protocol, an `<eos>` for each line.
const TOKENS: usize = 103_227_021;
/// Its words, `<unk>` and `<eos>` included.
const VOCABULARY: u64 = 267_735;
/// Tokens of its validation text.
const HELD_OUT: usize = 217_646;
/// Words of a line are drawn from 1 to twice as many: 1.8 million lines of 56.3 words on average.
const LINE: u64 = 56;
/// Tokens that a run's n-gram baselines count by default.
const COUNTED: usize = 20_000_000;

const RECIPE: &str = "
seed = 1
corpus.protocol = \"published\"
[model]
preset = \"tiny\"
d_model = 8
n_seq = 128
[[stage]]
kind = \"train\"
";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => measure(TOKENS),
        ["start", folder, cache] => start(Path::new(folder), cache),
        ["count", folder, most] => count(Path::new(folder), most.parse()?),
        [tokens] => measure(tokens.parse()?),
        _ => Err("pass the number of tokens, or nothing".into()),
    }
}

/// Generates the text and starts the other processes.
fn measure(tokens: usize) -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let begun = Instant::now();
    let corpus = folder.path().join("corpus");
    fs::create_dir(&corpus)?;
    let bytes = write_text(&corpus.join("train.txt"), tokens, VOCABULARY - 2, 1)?;
    write_text(&corpus.join("valid.txt"), HELD_OUT.min(tokens / 10), 0, 2)?;
    println!("{tokens} tokens, {bytes} bytes, generated in {:.1} s", begun.elapsed().as_secs_f64());
    let child = |arguments: &[&str]| -> Result<(), Box<dyn std::error::Error>> {
        let status = Command::new(std::env::current_exe()?)
            .arg(arguments[0])
            .arg(folder.path())
            .args(&arguments[1..])
            .status()?;
        if status.success() { Ok(()) } else { Err(format!("{arguments:?}: {status}").into()) }
    };
    child(&["start", "without"])?;
    child(&["start", "empty"])?;
    child(&["start", "full"])?;
    child(&["count", &COUNTED.to_string()])?;
    child(&["count", &tokens.to_string()])
}

/// Writes lines of random words. The first `listed` tokens are all words, once each.
fn write_text(path: &Path, tokens: usize, listed: u64, seed: u64) -> io::Result<u64> {
    let mut random = Random::new(seed);
    let mut all: Vec<u64> = (0..listed).collect();
    random.shuffle(&mut all);
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut word = String::new();
    let mut left = tokens;
    while left > 0 {
        // The end of the line is a token too.
        let words = (random.below(2 * LINE) as usize + 1).min(left - 1);
        for _ in 0..words {
            let rank = all.pop().unwrap_or_else(|| draw(&mut random));
            spell(rank, &mut word);
            file.write_all(word.as_bytes())?;
        }
        file.write_all(b"\n")?;
        left -= words + 1;
    }
    let file = file.into_inner()?;
    // A text that was modified just now is not kept in the cache.
    file.set_modified(SystemTime::now() - Duration::from_secs(60))?;
    Ok(file.metadata()?.len())
}

/// A rank from 0: (V + 1)^u - 1 for a uniform u.
fn draw(random: &mut Random) -> u64 {
    let words = VOCABULARY - 2;
    let uniform = (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    (((words + 1) as f64).powf(uniform) as u64 - 1).min(words - 1)
}

/// Writes the word of a rank, in syllables of two letters, with a space after it.
fn spell(mut rank: u64, word: &mut String) {
    const CONSONANTS: &[u8] = b"bdfgklmnpr";
    const VOWELS: &[u8] = b"aeiou";
    word.clear();
    loop {
        let syllable = (rank % 50) as usize;
        word.push(char::from(CONSONANTS[syllable / 5]));
        word.push(char::from(VOWELS[syllable % 5]));
        if rank < 50 {
            break;
        }
        rank = rank / 50 - 1;
    }
    word.push(' ');
}

/// Starts a run and ends the process at its first step.
fn start(folder: &Path, state: &str) -> Result<(), Box<dyn std::error::Error>> {
    let begun = Instant::now();
    let cache = if state == "without" { Cache::disabled() } else { Cache::at(folder.join("cache")) };
    let corpus = load(&folder.join("corpus").display().to_string())?;
    let recipe = Recipe::parse(RECIPE, "the recipe", &[])?;
    let out = folder.join(format!("run-{state}"));
    let request = RunRequest {
        recipe,
        corpus,
        cache,
        out,
        resume: false,
        model: None,
        baseline: None,
        device: Device::Cpu,
        ranks: Ranks::alone(),
    };
    run(&request, &mut FirstStep { begun, state: state.to_owned() })?;
    Err("the run has no step".into())
}

/// Prints times and memory, then ends the process.
struct FirstStep {
    begun: Instant,
    state: String,
}

impl Observer for FirstStep {
    fn event(&mut self, event: &Event) {
        let seconds = self.begun.elapsed().as_secs_f64();
        match event {
            Event::StageStarted { .. } => {
                println!("cache {}: ready to train after {seconds:.2} s, {}", self.state, memory())
            }
            Event::Step { .. } => {
                println!("cache {}: first step done after {seconds:.2} s, {}", self.state, memory());
                std::process::exit(0);
            }
            Event::Warning { message } => println!("warning: {message}"),
            _ => {}
        }
    }
}

/// Counts the n-gram baselines of the kept tokens.
fn count(folder: &Path, most: usize) -> Result<(), Box<dyn std::error::Error>> {
    let cache = Cache::at(folder.join("cache"));
    let corpus = load(&folder.join("corpus").display().to_string())?;
    let (protocol, split) = (Recipe::parse(RECIPE, "the recipe", &[])?.corpus.protocol, corpus.pretokenizer);
    let vocabulary = resnet_bk::corpus::cached_vocabulary(
        &corpus.train,
        protocol.vocab_size(0),
        split,
        protocol.blank_lines(),
        &cache,
        &mut Silent,
    )?;
    let [train, valid] =
        [&corpus.train, &corpus.valid].map(|text| encode(text, &vocabulary, None, &cache, &mut Silent));
    let (train, valid) = (train?.tokens, valid?.tokens);
    let begun = Instant::now();
    let NgramBaselines { unigram, bigram, trigram, .. } =
        NgramBaselines::measure_first(&train, most, &valid, vocabulary.len())?;
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "n-grams of {most} tokens: {seconds:.1} s, {}; perplexities {unigram:.1}, {bigram:.1}, {trigram:.1}",
        memory()
    );
    Ok(())
}

/// Peak memory of this process.
fn memory() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    match ["VmHWM:", "RssAnon:", "RssFile:"].map(field) {
        [Some(peak), Some(own), Some(mapped)] => {
            format!("peak memory {} MB (now {} MB own, {} MB of files)", peak / 1_000, own / 1_000, mapped / 1_000)
        }
        _ => "memory unknown".to_owned(),
    }
}
