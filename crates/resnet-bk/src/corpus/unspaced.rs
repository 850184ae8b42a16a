//! Texts whose words are not separated by spaces.

use super::{CorpusError, TextSource};
use std::ops::ControlFlow;

/// Words that are looked at.
const SAMPLE: usize = 10_000;
/// Words of Japanese or Chinese that were separated have about two characters, those of Thai four.
const LONGEST: f64 = 6.0;

/// Mean number of characters of a text's words in scripts without spaces, if the text is mostly in
/// one and its words are too long to be words.
pub(crate) fn unspaced_words(text: &TextSource) -> Result<Option<f64>, CorpusError> {
    let (mut all, mut words, mut characters) = (0usize, 0usize, 0usize);
    text.for_each_line(|line| {
        for word in line.split_whitespace() {
            let of_script = word.chars().filter(|&c| is_of_unspaced_script(c)).count();
            all += 1;
            words += usize::from(of_script > 0);
            characters += of_script;
        }
        if all < SAMPLE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    let length = characters as f64 / words.max(1) as f64;
    Ok((2 * words > all && length > LONGEST).then_some(length))
}

/// Thai, Lao, Burmese, Khmer, kana and Han.
fn is_of_unspaced_script(c: char) -> bool {
    matches!(
        u32::from(c),
        0x0e00..=0x0eff
            | 0x1000..=0x109f
            | 0x1780..=0x17ff
            | 0x3040..=0x30ff
            | 0x3400..=0x9fff
            | 0xf900..=0xfaff
            | 0x20000..=0x3ffff
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_were_not_separated_are_noticed() {
        let found = |text: &str| unspaced_words(&text.to_owned().into()).expect("a text in memory");
        assert_eq!(found("The cat sat on the mat.\n\"東京\" is a city"), None);
        assert_eq!(found("犬 は 学校 で 映画 を 買い まし た 。\n私 は 東京 に いる"), None);
        assert_eq!(found("犬は学校で映画を買いました。\n私は東京にいる。"), Some(10.0));
        assert_eq!(found(""), None);
    }
}
