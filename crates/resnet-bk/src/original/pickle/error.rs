//! Errors of pickles.

use crate::original::tensor::ViewError;
use std::fmt;
use thiserror::Error;

/// A pickle that is not a checkpoint.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("byte {at} of its pickle: {fault}")]
pub struct PickleError {
    /// Place of the opcode in the pickle, from 0.
    pub at: usize,
    /// What is wrong.
    pub fault: PickleFault,
}

/// What is wrong with an opcode.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum PickleFault {
    /// The pickle ends within an opcode, or before STOP.
    #[error("the pickle is cut short")]
    CutShort,
    /// There is something after STOP.
    #[error("the pickle goes on after its end")]
    GoesOn,
    /// An opcode that a checkpoint does not need.
    #[error("opcode {} is not one of a checkpoint", Opcode(*.0))]
    Opcode(u8),
    /// Another protocol.
    #[error("the pickle has protocol {0}, but torch writes protocol 2")]
    Protocol(u8),
    /// A global that a checkpoint does not need.
    #[error("global {0:?} is not one of a checkpoint; nothing of it was run")]
    Global(String),
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    Text,
    /// An integer has more than 64 bits.
    #[error("an integer has {0} bytes, more than 8")]
    LongInteger(u8),
    /// An opcode needs other values than those on the stack.
    #[error("{0}")]
    Operand(&'static str),
    /// The memo has no such number.
    #[error("the memo has no number {0}")]
    Memo(u32),
    /// The file has no such storage.
    #[error("there is no storage {0:?} in the file")]
    NoStorage(String),
    /// A storage has another length.
    #[error("storage {key:?} has {found} bytes, but its {elements} elements take {size} bytes each")]
    StorageLength {
        /// Its key.
        key: String,
        /// Its length in bytes.
        found: usize,
        /// Its number of elements.
        elements: i64,
        /// Bytes of an element.
        size: usize,
    },
    /// A tensor does not fit its storage.
    #[error("a tensor does not fit its storage: {0}")]
    View(#[from] ViewError),
}

/// An opcode with its name in pickletools.
struct Opcode(u8);

impl fmt::Display for Opcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            b'P' => "PERSID",
            b'i' => "INST",
            b'o' => "OBJ",
            b'0' => "POP",
            b'1' => "POP_MARK",
            b'2' => "DUP",
            0x81 => "NEWOBJ",
            0x82 => "EXT1",
            0x83 => "EXT2",
            0x84 => "EXT4",
            0x92 => "NEWOBJ_EX",
            0x93 => "STACK_GLOBAL",
            _ => return write!(f, "{:#04x}", self.0),
        };
        write!(f, "{name} ({:#04x})", self.0)
    }
}
