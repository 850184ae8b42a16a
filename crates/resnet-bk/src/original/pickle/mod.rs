//! Reads the pickle of a torch checkpoint without running anything of it.
//!
//! A pickle is a program for a stack machine. Python's machine imports and calls whatever the program
//! names. This one knows the opcodes that torch writes (protocol 2), and of globals only those that
//! make up a checkpoint: dictionaries, storages and the function that makes a tensor of a storage.
//! Everything else is an error with its name and place.
//!
//! ```text
//! GLOBAL  push a known global            REDUCE  OrderedDict() or a tensor, from (storage, offset, sizes, strides, ...)
//! PUT     memo[n] = top of the stack     BINPERSID  the storage of ("storage", class, key, device, elements)
//! GET     push memo[n]                   BUILD  drop the attributes of an OrderedDict
//! ```
//!
//! Objects with parts lie in a list and are named by their index, so a dictionary may hold itself:
//! nothing here walks over parts. An opcode makes at most one value, so memory is in proportion to
//! the pickle.
//!
//! Source: CPython, Lib/pickletools.py, which describes every opcode.

mod error;

pub use error::{PickleError, PickleFault};

use super::tensor::{Storage, StorageKind, TensorView};
use std::collections::HashMap;

/// Most dimensions of a tensor.
const MAX_DIMENSIONS: usize = 8;

/// A known global.
#[derive(Clone, Copy, Debug)]
enum Global {
    OrderedDict,
    RebuildTensor,
    Storage(StorageKind),
}

/// A value on the stack.
#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    /// None, a boolean or a floating-point number: no part of a model's weights.
    Plain,
    Integer(i64),
    Text(&'a str),
    Global(Global),
    /// Index of an [`Object`].
    Object(usize),
}

/// A value with parts.
#[derive(Debug)]
enum Object<'a> {
    Tuple(Vec<Value<'a>>),
    /// A list. Nothing of a model is in one.
    List,
    Dictionary(Vec<(Value<'a>, Value<'a>)>),
    Storage(Storage<'a>),
    Tensor(TensorView<'a>),
}

/// The tensors of a checkpoint with their names, in the order of the file.
///
/// They are those of the dictionary `model_state_dict` where the checkpoint has one, else those of the
/// checkpoint itself. Entries that are not tensors are left out. `storage` returns the bytes of the
/// storage with the given key.
///
/// # Errors
/// [`PickleError`].
pub(super) fn read_state_dict<'a>(
    pickle: &'a [u8],
    storage: impl Fn(&str) -> Option<&'a [u8]>,
) -> Result<Vec<(&'a str, TensorView<'a>)>, PickleError> {
    let mut machine = Machine {
        pickle,
        at: 0,
        storage,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        objects: Vec::new(),
    };
    let mut started = 0;
    let result = machine.run(&mut started).map_err(|fault| PickleError { at: started, fault })?;
    let entries = |value| match value {
        Value::Object(index) => match &machine.objects[index] {
            Object::Dictionary(entries) => Some(entries.as_slice()),
            _ => None,
        },
        _ => None,
    };
    let whole = entries(result).unwrap_or_default();
    let weights = whole.iter().find(|(key, _)| matches!(key, Value::Text("model_state_dict")));
    let weights = weights.and_then(|&(_, value)| entries(value)).unwrap_or(whole);
    let tensor = |&(key, value): &(Value<'a>, Value<'a>)| match (key, value) {
        (Value::Text(name), Value::Object(index)) => match &machine.objects[index] {
            Object::Tensor(tensor) => Some((name, tensor.clone())),
            _ => None,
        },
        _ => None,
    };
    Ok(weights.iter().filter_map(tensor).collect())
}

struct Machine<'a, F> {
    pickle: &'a [u8],
    /// Place of the next byte.
    at: usize,
    storage: F,
    stack: Vec<Value<'a>>,
    /// Lengths of the stack at each MARK.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    objects: Vec<Object<'a>>,
}

impl<'a, F: Fn(&str) -> Option<&'a [u8]>> Machine<'a, F> {
    /// Runs to STOP and returns the value. `started` is the place of the opcode that runs.
    fn run(&mut self, started: &mut usize) -> Result<Value<'a>, PickleFault> {
        loop {
            *started = self.at;
            match self.byte()? {
                b'.' => break,
                opcode => self.step(opcode)?,
            }
        }
        let result = self.pop()?;
        if self.at == self.pickle.len() { Ok(result) } else { Err(PickleFault::GoesOn) }
    }

    fn step(&mut self, opcode: u8) -> Result<(), PickleFault> {
        let value = match opcode {
            // PROTO
            0x80 => {
                return match self.byte()? {
                    2 => Ok(()),
                    other => Err(PickleFault::Protocol(other)),
                };
            }
            b'(' => {
                self.marks.push(self.stack.len());
                return Ok(());
            }
            // BINPUT, LONG_BINPUT
            b'q' => return self.byte().and_then(|number| self.put(u32::from(number))),
            b'r' => return self.long().and_then(|number| self.put(number)),
            // APPEND, APPENDS: the parts of lists are not kept.
            b'a' => {
                self.pop()?;
                return self.list();
            }
            b'e' => {
                self.pop_to_mark()?;
                return self.list();
            }
            // SETITEM, SETITEMS
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.dictionary()?.push((key, value));
                return Ok(());
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                let (pairs, []) = items.as_chunks::<2>() else {
                    return Err(PickleFault::Operand("a key of a dictionary has no value"));
                };
                self.dictionary()?.extend(pairs.iter().map(|&[key, value]| (key, value)));
                return Ok(());
            }
            // BUILD: attributes of a dictionary, which torch gives to a state_dict.
            b'b' => {
                self.pop()?;
                return self.dictionary().map(|_| ());
            }
            b'N' | 0x88 | 0x89 => Value::Plain,
            // BINFLOAT
            b'G' => self.take(8).map(|_| Value::Plain)?,
            // BININT1, BININT2, BININT, LONG1
            b'K' => Value::Integer(self.byte()?.into()),
            b'M' => Value::Integer(u16::from_le_bytes(self.array()?).into()),
            b'J' => Value::Integer(i32::from_le_bytes(self.array()?).into()),
            0x8a => self.long_integer()?,
            // BINUNICODE
            b'X' => {
                let length = self.long()? as usize;
                Value::Text(text(self.take(length)?)?)
            }
            // BINGET, LONG_BINGET
            b'h' => self.byte().and_then(|number| self.get(number.into()))?,
            b'j' => self.long().and_then(|number| self.get(number))?,
            b'}' => self.object(Object::Dictionary(Vec::new())),
            b']' => self.object(Object::List),
            // EMPTY_TUPLE, TUPLE1, TUPLE2, TUPLE3, TUPLE
            b')' => self.object(Object::Tuple(Vec::new())),
            0x85..=0x87 => self.short_tuple(usize::from(opcode - 0x84))?,
            b't' => {
                let parts = self.pop_to_mark()?;
                self.object(Object::Tuple(parts))
            }
            b'c' => self.global()?,
            b'R' => self.reduce()?,
            b'Q' => self.persistent()?,
            other => return Err(PickleFault::Opcode(other)),
        };
        self.stack.push(value);
        Ok(())
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], PickleFault> {
        let bytes = self.pickle[self.at..].get(..length).ok_or(PickleFault::CutShort)?;
        self.at += length;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleFault> {
        Ok(*self.take(N)?.first_chunk().expect("N bytes"))
    }

    fn byte(&mut self) -> Result<u8, PickleFault> {
        self.array().map(|[byte]| byte)
    }

    fn long(&mut self) -> Result<u32, PickleFault> {
        self.array().map(u32::from_le_bytes)
    }

    /// An integer of up to 8 bytes in two's complement.
    fn long_integer(&mut self) -> Result<Value<'a>, PickleFault> {
        let length = self.byte()?;
        if length > 8 {
            return Err(PickleFault::LongInteger(length));
        }
        let bytes = self.take(usize::from(length))?;
        let sign = if bytes.last().is_some_and(|&last| last >= 0x80) { 0xff } else { 0 };
        let mut all = [sign; 8];
        all[..bytes.len()].copy_from_slice(bytes);
        Ok(Value::Integer(i64::from_le_bytes(all)))
    }

    fn line(&mut self) -> Result<&'a str, PickleFault> {
        let length = self.pickle[self.at..].iter().position(|&byte| byte == b'\n').ok_or(PickleFault::CutShort)?;
        let line = text(self.take(length)?)?;
        self.at += 1;
        Ok(line)
    }

    fn object(&mut self, object: Object<'a>) -> Value<'a> {
        self.objects.push(object);
        Value::Object(self.objects.len() - 1)
    }

    fn pop(&mut self) -> Result<Value<'a>, PickleFault> {
        // Values below a mark belong to what comes after it.
        let least = self.marks.last().copied().unwrap_or(0);
        let value = if self.stack.len() > least { self.stack.pop() } else { None };
        value.ok_or(PickleFault::Operand("the stack has too few values"))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value<'a>>, PickleFault> {
        let start = self.marks.pop().ok_or(PickleFault::Operand("there is no mark on the stack"))?;
        Ok(self.stack.split_off(start))
    }

    fn top(&mut self) -> Result<Value<'a>, PickleFault> {
        let value = self.pop()?;
        self.stack.push(value);
        Ok(value)
    }

    fn put(&mut self, number: u32) -> Result<(), PickleFault> {
        let value = self.top()?;
        self.memo.insert(number, value);
        Ok(())
    }

    fn get(&self, number: u32) -> Result<Value<'a>, PickleFault> {
        self.memo.get(&number).copied().ok_or(PickleFault::Memo(number))
    }

    /// Checks that the top of the stack is a list.
    fn list(&mut self) -> Result<(), PickleFault> {
        match self.top()? {
            Value::Object(index) if matches!(self.objects[index], Object::List) => Ok(()),
            _ => Err(PickleFault::Operand("what is appended to is not a list")),
        }
    }

    /// The dictionary on top of the stack.
    fn dictionary(&mut self) -> Result<&mut Vec<(Value<'a>, Value<'a>)>, PickleFault> {
        if let Value::Object(index) = self.top()?
            && let Object::Dictionary(entries) = &mut self.objects[index]
        {
            return Ok(entries);
        }
        Err(PickleFault::Operand("what is filled is not a dictionary"))
    }

    /// The parts of a tuple.
    fn tuple(&self, value: Value<'a>) -> Result<&[Value<'a>], PickleFault> {
        if let Value::Object(index) = value
            && let Object::Tuple(parts) = &self.objects[index]
        {
            return Ok(parts);
        }
        Err(PickleFault::Operand("arguments, sizes and strides must be tuples"))
    }

    fn short_tuple(&mut self, length: usize) -> Result<Value<'a>, PickleFault> {
        let mut parts = (0..length).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
        parts.reverse();
        Ok(self.object(Object::Tuple(parts)))
    }

    fn global(&mut self) -> Result<Value<'a>, PickleFault> {
        let (module, name) = (self.line()?, self.line()?);
        let storage = || StorageKind::of_class(name).filter(|_| module == "torch").map(Global::Storage);
        let known = match (module, name) {
            ("collections", "OrderedDict") => Some(Global::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Some(Global::RebuildTensor),
            _ => storage(),
        };
        known.map(Value::Global).ok_or_else(|| PickleFault::Global(format!("{module}.{name}")))
    }

    /// `OrderedDict()`, or a tensor.
    fn reduce(&mut self) -> Result<Value<'a>, PickleFault> {
        let (arguments, callable) = (self.pop()?, self.pop()?);
        let arguments = self.tuple(arguments)?;
        let object = match (callable, arguments) {
            (Value::Global(Global::OrderedDict), []) => Object::Dictionary(Vec::new()),
            (Value::Global(Global::RebuildTensor), &[storage, Value::Integer(offset), sizes, strides, ..]) => {
                Object::Tensor(self.tensor(storage, offset, sizes, strides)?)
            }
            _ => return Err(PickleFault::Operand("a known global is called with other arguments than torch's")),
        };
        Ok(self.object(object))
    }

    fn tensor(
        &self,
        storage: Value<'a>,
        offset: i64,
        sizes: Value<'a>,
        strides: Value<'a>,
    ) -> Result<TensorView<'a>, PickleFault> {
        let storage = match storage {
            Value::Object(index) => match &self.objects[index] {
                Object::Storage(storage) => Some(*storage),
                _ => None,
            },
            _ => None,
        };
        let storage = storage.ok_or(PickleFault::Operand("a tensor is made of something that is no storage"))?;
        let size = |value: &Value| match value {
            Value::Integer(size) => usize::try_from(*size).ok(),
            _ => None,
        };
        let sizes_of = |value| {
            // A tuple can be used many times, so a long one must not be copied.
            let parts = self.tuple(value)?;
            let parts = (parts.len() <= MAX_DIMENSIONS).then(|| parts.iter().map(size).collect::<Option<Vec<usize>>>());
            parts.ok_or(PickleFault::Operand("a tensor has more than 8 dimensions"))
        };
        let (Ok(offset), Some(sizes), Some(strides)) = (usize::try_from(offset), sizes_of(sizes)?, sizes_of(strides)?)
        else {
            return Err(PickleFault::Operand("offset, sizes and strides of a tensor must be numbers from 0 on"));
        };
        Ok(TensorView::new(storage, offset, sizes, strides)?)
    }

    /// The storage of `("storage", class, key, device, elements)`.
    fn persistent(&mut self) -> Result<Value<'a>, PickleFault> {
        let id = self.pop()?;
        let &[
            Value::Text("storage"),
            Value::Global(Global::Storage(kind)),
            Value::Text(key),
            Value::Text(_),
            Value::Integer(elements),
        ] = self.tuple(id)?
        else {
            return Err(PickleFault::Operand("a persistent id is not that of a storage"));
        };
        let bytes = (self.storage)(key).ok_or_else(|| PickleFault::NoStorage(key.to_owned()))?;
        let expected = usize::try_from(elements).ok().and_then(|elements| elements.checked_mul(kind.bytes()));
        if expected != Some(bytes.len()) {
            let (found, size) = (bytes.len(), kind.bytes());
            return Err(PickleFault::StorageLength { key: key.to_owned(), found, elements, size });
        }
        Ok(self.object(Object::Storage(Storage { kind, bytes })))
    }
}

fn text(bytes: &[u8]) -> Result<&str, PickleFault> {
    std::str::from_utf8(bytes).map_err(|_| PickleFault::Text)
}
