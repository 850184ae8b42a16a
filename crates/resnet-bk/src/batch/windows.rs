//! Windows in which the state goes on, and the pieces of text that they make up.

/// The windows into which a piece of text is cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Windows {
    pub(super) lengths: Vec<usize>,
    in_piece: usize,
}

impl Windows {
    /// Windows of `n_seq` tokens, each a piece of its own.
    pub fn alone(n_seq: usize) -> Self {
        Self { lengths: vec![n_seq], in_piece: 1 }
    }

    /// Pieces of at most `in_piece` windows, whose lengths go round the list.
    ///
    /// # Panics
    /// If there is no length, or no window in a piece.
    pub fn carried(lengths: Vec<usize>, in_piece: usize) -> Self {
        assert!(!lengths.is_empty() && in_piece > 0, "a piece has a window");
        Self { lengths, in_piece }
    }

    /// Tokens of the longest window.
    pub fn longest(&self) -> usize {
        self.lengths.iter().copied().max().expect("there is a length")
    }

    fn cycled(&self) -> impl Iterator<Item = usize> + '_ {
        self.lengths.iter().copied().cycle()
    }

    /// Lengths of the windows of a piece, if a batch is taken from streams of `tokens` tokens: as many
    /// windows as divide a stream into the least number of equal pieces. Empty if a stream has no
    /// window.
    pub(super) fn of_piece(&self, tokens: usize) -> Vec<usize> {
        let ends = self.cycled().scan(0, |end: &mut usize, length| {
            *end += length;
            Some(*end)
        });
        let in_stream = ends.take_while(|&end| end <= tokens).count();
        if in_stream == 0 {
            return Vec::new();
        }
        let pieces = in_stream.div_ceil(self.in_piece);
        self.cycled().take(in_stream / pieces).collect()
    }
}
