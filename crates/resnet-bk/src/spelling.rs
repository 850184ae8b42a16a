//! Which known name was probably meant.

/// The known name that is most like `word`; `None` where a third of the longer one, or more, would
/// have to be edited.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.to_lowercase().chars().collect();
    let distance = |name: &str| {
        let name: Vec<char> = name.chars().collect();
        (edit_distance(&word, &name), word.len().max(name.len()))
    };
    let near = known.into_iter().map(|name| (distance(name), name)).filter(|((edits, longer), _)| edits * 3 <= *longer);
    near.min_by_key(|((edits, _), _)| *edits).map(|(_, name)| name)
}

/// Insertions, deletions, substitutions and exchanges of neighbours from `a` to `b` (Damerau and
/// Levenshtein, optimal string alignment).
pub(crate) fn edit_distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut next = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let substituted = row[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            next[j] = substituted.min(row[j] + 1).min(next[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                next[j] = next[j].min(before[j - 2] + 1);
            }
        }
        (before, row) = (row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distance_counts_edits() {
        let distance = |a: &str, b: &str| edit_distance(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>());
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("same", "same"), 0);
        assert_eq!(distance("modle", "model"), 1);
        assert_eq!(distance("ab", "ba"), 1);
    }

    #[test]
    fn the_nearest_name_is_near() {
        let known = ["d_model", "d_ff", "dropout", "top_k"];
        assert_eq!(nearest("d_modle", known), Some("d_model"));
        assert_eq!(nearest("D_Model", known), Some("d_model"));
        assert_eq!(nearest("width", known), None);
        assert_eq!(nearest("x", []), None);
    }
}
