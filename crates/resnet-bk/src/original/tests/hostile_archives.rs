//! Archives that were not written by torch, or were changed.

use super::build::{Archive, archive_of, checkpoint, model_tensors, pickle_of};
use super::{in_memory, read, refused};

fn archive() -> Archive {
    let tensors = model_tensors();
    archive_of(&pickle_of(&tensors, Some("model_state_dict")), &tensors)
}

#[track_caller]
fn refused_after(change: impl FnOnce(&mut Archive), part: &str) {
    let mut archive = archive();
    change(&mut archive);
    refused(&archive.bytes(), part);
}

#[test]
fn entries_must_be_as_torch_writes_them() {
    refused_after(|a| a.entries[2].method = 8, "entry \"m/data/0\" is compressed (method 8)");
    refused_after(|a| a.entries[2].flags = 1, "entry \"m/data/0\" is encrypted");
    refused_after(|a| a.entries[2].checksum ^= 1, "entry \"m/data/0\" is damaged: its checksum does not match");
    refused_after(|a| a.entries[2].size = u32::MAX, "4 GiB or more");
    refused_after(|a| a.entries[2].size = u32::MAX - 1, "there is no data of an entry of a zip archive at byte ");
    refused_after(|a| a.entries[2].at = Some(u32::MAX - 1), "there is no header of an entry of a zip archive");
    refused_after(|a| a.entries[2].local_name = "m/data/x".to_owned(), "header of the entry that the directory names");
    refused_after(|a| a.count = Some(u16::MAX), "4 GiB or more");
    refused_after(|a| a.count = Some(u16::MAX - 1), "there is no directory entry of a zip archive");
}

#[test]
fn two_entries_cannot_have_one_name_or_share_bytes() {
    refused_after(|a| a.entries.push(a.entries[0].clone()), "entry \"m/data.pkl\" is there twice");
    // A bomb: an entry whose data are those of others.
    let bomb = |a: &mut Archive| {
        let after: usize = a.entries[2..].iter().map(|entry| 33 + entry.local_name.len() + entry.data.len()).sum();
        a.entries[2].size = (after - 33 - a.entries[2].local_name.len()) as u32;
    };
    refused_after(bomb, "entries \"m/data/0\" and \"m/data/1\" share bytes");
}

#[test]
fn names_that_lead_out_of_their_folder_are_refused() {
    for name in ["../../m", "/etc/passwd", "m//x", "m/./x", "m/../x", "m\\x", "m/x/", "m/\0", ""] {
        let mut archive = archive();
        archive.add(name, b"x");
        refused(&archive.bytes(), "has a name that leads out of its folder");
    }
}

#[test]
fn an_archive_must_hold_one_checkpoint_with_little_endian_numbers() {
    refused_after(|a| a.entries.retain(|entry| entry.name != "m/data.pkl"), "has 0 entries NAME/data.pkl");
    refused_after(|a| a.add("n/data.pkl", b"."), "has 2 entries NAME/data.pkl");
    let big = |a: &mut Archive| {
        a.entries.retain(|entry| entry.name != "m/byteorder");
        a.add("m/byteorder", b"big");
    };
    refused_after(big, "its numbers are big-endian");
    refused_after(|a| a.entries.retain(|entry| entry.name != "m/data/3"), "there is no storage \"3\" in the file");
}

#[test]
fn every_cut_and_every_changed_byte_gives_an_error_or_the_model() {
    let bytes = checkpoint(&model_tensors());
    for length in 0..bytes.len() {
        let error = in_memory(&bytes[..length]).expect_err("cut short").to_string();
        assert!(error.contains("no end record"), "{length} bytes: {error}");
    }
    for index in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[index] ^= flip;
            // Some bytes, such as dates, are not read.
            let _ = in_memory(&changed);
        }
    }
    let comment = [&bytes[..bytes.len() - 2], &4u16.to_le_bytes(), b"note"].concat();
    read(&comment).expect("a comment does no harm");
}
