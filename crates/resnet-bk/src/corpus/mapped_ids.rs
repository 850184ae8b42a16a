//! Ids in a memory-mapped file. The only `unsafe` of the corpus is here.

use memmap2::Mmap;
use std::fs::File;
use std::io;

/// The ids of a file, as 32-bit numbers in the byte order of this machine. Pages are read from the
/// disk when they are used, and the system may drop them again.
#[derive(Debug)]
pub(super) struct MappedIds {
    map: Mmap,
}

impl MappedIds {
    /// Maps a file that nobody changes: an entry of the cache, which is only ever replaced as a
    /// whole, by a rename.
    ///
    /// # Errors
    ///
    /// If the system cannot map the file, or its length is not a multiple of 4 bytes.
    #[expect(unsafe_code, reason = "a memory map is a file that another program could change")]
    pub(super) fn map(file: &File) -> io::Result<Self> {
        // SAFETY: the cache writes each file once, under a temporary name, and then renames it. No
        // program of ours changes it afterwards, so the mapped bytes stay as they are. A file that
        // is replaced or deleted stays mapped.
        let map = unsafe { Mmap::map(file)? };
        if map.len() % size_of::<u32>() != 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Self { map })
    }

    /// All ids.
    #[expect(unsafe_code, reason = "the bytes of the map are read as numbers")]
    pub(super) fn ids(&self) -> &[u32] {
        // SAFETY: a map begins at a page, which is aligned to 4 bytes. Its length was checked. Every
        // bit pattern is a number.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().cast(), self.map.len() / size_of::<u32>()) }
    }
}
