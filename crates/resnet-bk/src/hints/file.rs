//! What to do where the system does not let a file be read or written.

use std::io::{self, ErrorKind};

/// For any error of the system that no other type explains.
pub(super) fn of_io(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound => "check the path, and that files can be made there",
        ErrorKind::PermissionDenied => "check the permissions of the file and of its folders, or choose another path",
        ErrorKind::ReadOnlyFilesystem => "choose a path on a disk that can be written to",
        ErrorKind::NotADirectory => "a part of the path is a file: check the path",
        ErrorKind::AlreadyExists => "a file has the name of a folder in this path: choose another path",
        ErrorKind::IsADirectory => "the path is that of a folder: add the name of a file",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            "make room, or choose a path on another disk"
        }
        ErrorKind::InvalidInput | ErrorKind::InvalidFilename => "choose a shorter path of ordinary characters",
        _ if is_not_utf8(error) => "the file is not UTF-8: check the path, or convert it",
        _ => "check the path and its permissions, and that the disk has room",
    }
}

/// Whether a file was read as text and is none.
pub(super) fn is_not_utf8(error: &io::Error) -> bool {
    error.kind() == ErrorKind::InvalidData && error.to_string().contains("UTF-8")
}
