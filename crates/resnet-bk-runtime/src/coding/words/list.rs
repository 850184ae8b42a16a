//! A list of words in one buffer of bytes.

/// Words one after another, with the position where each ends.
#[derive(Default)]
pub(super) struct WordList {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl WordList {
    pub fn push(&mut self, word: &[u8]) {
        self.bytes.extend_from_slice(word);
        self.ends.push(self.bytes.len());
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The word at index `at`, or `None` past the end.
    pub fn get(&self, at: usize) -> Option<&[u8]> {
        let end = *self.ends.get(at)?;
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        Some(&self.bytes[start..end])
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map_while(|at| self.get(at))
    }

    /// Index of `word` in `start..` of a sorted list.
    pub fn find(&self, start: usize, word: &[u8]) -> Option<usize> {
        let (mut low, mut high) = (start, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.get(middle)? < word {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        (self.get(low)? == word).then_some(low)
    }
}

impl<'a> FromIterator<&'a [u8]> for WordList {
    fn from_iter<I: IntoIterator<Item = &'a [u8]>>(words: I) -> Self {
        let mut list = Self::default();
        words.into_iter().for_each(|word| list.push(word));
        list
    }
}
