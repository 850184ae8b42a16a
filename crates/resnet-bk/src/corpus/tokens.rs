//! A stream of token ids that many may share.

use super::mapped_ids::MappedIds;
use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// Token ids, in memory or in a memory-mapped file of the [cache](super::Cache). A copy and a part
/// share the ids.
#[derive(Clone)]
pub struct Tokens {
    ids: Ids,
    range: Range<usize>,
}

#[derive(Clone)]
enum Ids {
    // A vector, because an `Arc<[u32]>` of it would be a copy.
    InMemory(Arc<Vec<u32>>),
    Mapped(Arc<MappedIds>),
}

impl Tokens {
    /// The ids of a file.
    pub(super) fn mapped(ids: MappedIds) -> Self {
        let range = 0..ids.ids().len();
        Self { ids: Ids::Mapped(Arc::new(ids)), range }
    }

    /// Whether the ids are in a memory-mapped file.
    pub fn are_mapped(&self) -> bool {
        matches!(self.ids, Ids::Mapped(_))
    }

    /// A part of the stream.
    ///
    /// # Panics
    ///
    /// If the range is not within the stream.
    pub fn part(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len(), "{range:?} of {} tokens", self.len());
        let start = self.range.start;
        Self { ids: self.ids.clone(), range: start + range.start..start + range.end }
    }
}

impl Deref for Tokens {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        let all = match &self.ids {
            Ids::InMemory(ids) => ids.as_slice(),
            Ids::Mapped(ids) => ids.ids(),
        };
        &all[self.range.clone()]
    }
}

impl From<Vec<u32>> for Tokens {
    fn from(ids: Vec<u32>) -> Self {
        Self { range: 0..ids.len(), ids: Ids::InMemory(Arc::new(ids)) }
    }
}

impl From<&[u32]> for Tokens {
    fn from(ids: &[u32]) -> Self {
        ids.to_vec().into()
    }
}

impl PartialEq for Tokens {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.are_mapped() { "mapped" } else { "in memory" };
        write!(f, "{} tokens, {place}", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn mapped(bytes: &[u8]) -> std::io::Result<Tokens> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("ids");
        std::fs::write(&path, bytes).expect("a file");
        MappedIds::map(&File::open(&path).expect("a file")).map(Tokens::mapped)
    }

    #[test]
    fn ids_of_a_file_equal_those_in_memory() {
        let ids: Vec<u32> = (0..5_000).map(|n| n * 857_143).collect();
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_ne_bytes()).collect();
        // The folder is deleted by now: a mapped file outlives its name.
        let mapped = mapped(&bytes).expect("mapped");
        let in_memory = Tokens::from(ids.clone());
        assert_eq!(mapped, in_memory);
        assert_eq!(mapped[..], ids[..]);
        assert!(mapped.are_mapped() && !in_memory.are_mapped());
        for tokens in [mapped, in_memory] {
            let part = tokens.part(10..4_000);
            assert_eq!(part[..], ids[10..4_000]);
            assert_eq!(part.part(5..7)[..], ids[15..17]);
            assert!(part.part(0..0).is_empty());
            assert_eq!(part.as_ptr(), tokens[10..].as_ptr(), "a part is not a copy");
        }
    }

    #[test]
    #[should_panic(expected = "3..6 of 5 tokens")]
    fn a_part_is_within_the_stream() {
        let _ = Tokens::from((0..9).collect::<Vec<u32>>()).part(2..7).part(3..6);
    }

    #[test]
    fn a_file_that_is_no_list_of_ids_is_refused() {
        assert!(mapped(&[0; 7]).is_err());
        assert_eq!(mapped(&[]).expect("no ids").len(), 0);
    }
}
