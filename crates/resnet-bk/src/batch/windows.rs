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
    /// If there are no lengths, or more than windows in a piece.
    pub fn carried(lengths: Vec<usize>, in_piece: usize) -> Self {
        assert!((1..=in_piece).contains(&lengths.len()), "{} lengths for {in_piece} windows", lengths.len());
        Self { lengths, in_piece }
    }

    /// Tokens of the longest window.
    pub fn longest(&self) -> usize {
        self.lengths.iter().copied().max().expect("there is a length")
    }

    /// Tokens of a window, on average.
    pub fn mean(&self) -> f64 {
        self.lengths.iter().sum::<usize>() as f64 / self.lengths.len() as f64
    }

    /// Lengths of the windows of a piece, if a batch is taken from streams of `tokens` tokens. Every
    /// piece has whole rounds of the list: as many as divide a stream into the least number of equal
    /// pieces. A stream that is shorter than a round is one piece. Empty if it has no window.
    pub(super) fn of_piece(&self, tokens: usize) -> Vec<usize> {
        let rounds = tokens / self.lengths.iter().sum::<usize>();
        if rounds > 0 {
            let pieces = rounds.div_ceil(self.in_piece / self.lengths.len());
            return self.lengths.repeat(rounds / pieces);
        }
        let mut end = 0;
        let fits = |length: &&usize| {
            end += **length;
            end <= tokens
        };
        self.lengths.iter().take_while(fits).copied().collect()
    }
}
