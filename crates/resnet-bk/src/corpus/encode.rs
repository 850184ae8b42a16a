//! A text as tokens.

use super::cache::IdsWriter;
use super::fingerprint::WordsHash;
use super::{Cache, CorpusError, Key, TextFingerprint, TextSource, Tokens};
use crate::observer::Observer;
use resnet_bk_runtime::internal::tokenizer::{BlankLines, Vocabulary};
use std::io;
use std::ops::ControlFlow;

/// The tokens of a text, with figures that need a pass over all of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// The tokens.
    pub tokens: Tokens,
    /// Number of `<unk>` among them.
    pub unknown: usize,
    /// Hash of the words, for a fingerprint.
    pub(crate) words_sha256: String,
}

impl Encoded {
    /// Share of the tokens that are `<unk>`.
    pub fn unknown_share(&self) -> f64 {
        self.unknown as f64 / self.tokens.len().max(1) as f64
    }
}

/// The first `limit` tokens of a text, all of them for `None`: those of [`Vocabulary::encode`].
///
/// The tokens of a text on disk are written to the cache and mapped into memory. If they are there
/// already, the text is not read.
///
/// # Errors
///
/// If the text cannot be read. Failures of the cache are warnings; the tokens are then in memory.
pub fn encode(
    text: &TextSource,
    vocabulary: &Vocabulary,
    limit: Option<usize>,
    cache: &Cache,
    observer: &mut dyn Observer,
) -> Result<Encoded, CorpusError> {
    let cache = cache.for_texts(&[text]);
    if cache.folder().is_none() {
        return encode_in_memory(text, vocabulary, limit);
    }
    let key = key(text, vocabulary, limit);
    if let Some((entry, tokens)) = cache.tokens(&key) {
        return Ok(Encoded { tokens, unknown: entry.unknown, words_sha256: entry.words_sha256 });
    }
    // The text's errors are errors, those of the cache warnings.
    let mut of_text = Ok(());
    let kept = cache.keep(observer, |folder| {
        let mut writer = IdsWriter::create(folder, &key)?;
        let mut of_cache = Ok(());
        let walked = walk(text, vocabulary, limit, |id| {
            of_cache = writer.push(id);
            if of_cache.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        of_cache?;
        match walked {
            Ok(totals) => writer.finish(folder, &key, totals).map(Some),
            Err(error) => {
                of_text = Err(error);
                io::Result::Ok(None)
            }
        }
    });
    of_text?;
    match kept.flatten() {
        Some((entry, tokens)) => Ok(Encoded { tokens, unknown: entry.unknown, words_sha256: entry.words_sha256 }),
        None => encode_in_memory(text, vocabulary, limit),
    }
}

fn key(text: &TextSource, vocabulary: &Vocabulary, limit: Option<usize>) -> Key {
    let TextFingerprint { vocabulary, tokenizer, .. } =
        TextFingerprint::of_hashes(String::new(), String::new(), vocabulary);
    let text = text.identity();
    Key::new("tokens", &format!("limit {limit:?}, vocabulary {vocabulary}, tokenizer {tokenizer}, of {text}"))
}

fn encode_in_memory(text: &TextSource, vocabulary: &Vocabulary, limit: Option<usize>) -> Result<Encoded, CorpusError> {
    let mut ids = Vec::new();
    let (_, unknown, words_sha256) = walk(text, vocabulary, limit, |id| {
        ids.push(id);
        ControlFlow::Continue(())
    })?;
    Ok(Encoded { tokens: ids.into(), unknown, words_sha256 })
}

/// Calls `visit` with the id of every token. Returns the number of tokens and of `<unk>` among
/// them, and the hash of their words.
fn walk(
    text: &TextSource,
    vocabulary: &Vocabulary,
    limit: Option<usize>,
    mut visit: impl FnMut(u32) -> ControlFlow<()>,
) -> Result<(usize, usize, String), CorpusError> {
    let limit = limit.unwrap_or(usize::MAX);
    let (mut tokens, mut unknown, mut hash) = (0, 0, WordsHash::default());
    let mut take = |id: u32| {
        if tokens == limit {
            return ControlFlow::Break(());
        }
        tokens += 1;
        unknown += usize::from(id == vocabulary.unknown());
        hash.push(vocabulary.word(id));
        visit(id)
    };
    text.for_each_line(|line| {
        let mut kept = vocabulary.blank_lines() == BlankLines::Kept;
        for word in vocabulary.pretokenizer().split(line) {
            kept = true;
            take(vocabulary.id(word))?;
        }
        let end = vocabulary.end_of_line().filter(|_| kept);
        end.map_or(ControlFlow::Continue(()), &mut take)
    })?;
    Ok((tokens, unknown, hash.finish()))
}
