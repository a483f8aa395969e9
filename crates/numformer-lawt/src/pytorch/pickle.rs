//! A reader of Python's pickles that builds data and calls nothing.
//!
//! A pickle is a program for a stack machine. This reader records a call as its target and arguments, and never makes
//! it. Values live in one flat list and refer to each other by index. So sharing costs nothing, cycles do no harm, and
//! memory is bounded by the length of the file and the number of its instructions.
//!
//! Reference: the opcodes as documented in Python's module `pickletools`.
//! <https://docs.python.org/3/library/pickletools.html>

use std::collections::HashMap;

/// A value of a [`Pickle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id(usize);

#[derive(Debug)]
enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    /// A skipped value: a byte string, or an integer beyond 64 bits.
    Opaque,
    /// Tuples, lists and sets.
    Sequence(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A class or function by name.
    Global {
        module: Id,
        name: Id,
    },
    /// The result of a call that was not made.
    Object {
        callable: Id,
        arguments: Id,
        state: Option<Id>,
        items: Vec<(Id, Id)>,
    },
    /// A reference to an object stored outside the pickle.
    Persistent(Id),
}

/// A pickle read as data.
#[derive(Debug)]
pub(crate) struct Pickle {
    values: Vec<Value>,
    root: Id,
}

impl Pickle {
    /// Reads the first pickle in `bytes`.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, PickleError> {
        let mut machine = Machine::new(bytes);
        let root = machine.run()?;
        Ok(Self { values: machine.values, root })
    }

    /// The value that the pickle stands for.
    pub(crate) fn root(&self) -> Id {
        self.root
    }

    pub(crate) fn as_bool(&self, id: Id) -> Option<bool> {
        match self.values[id.0] {
            Value::Bool(value) => Some(value),
            // Command lines of Python programs often have 0 and 1 for flags.
            Value::Int(0) => Some(false),
            Value::Int(1) => Some(true),
            _ => None,
        }
    }

    pub(crate) fn as_usize(&self, id: Id) -> Option<usize> {
        match self.values[id.0] {
            Value::Int(value) => value.try_into().ok(),
            _ => None,
        }
    }

    pub(crate) fn as_text(&self, id: Id) -> Option<&str> {
        match &self.values[id.0] {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn as_sequence(&self, id: Id) -> Option<&[Id]> {
        match &self.values[id.0] {
            Value::Sequence(items) => Some(items),
            _ => None,
        }
    }

    /// Module and name of a class or function.
    pub(crate) fn as_global(&self, id: Id) -> Option<(&str, &str)> {
        match self.values[id.0] {
            Value::Global { module, name } => Some((self.as_text(module)?, self.as_text(name)?)),
            _ => None,
        }
    }

    /// The target and the arguments of a call that was not made.
    pub(crate) fn as_call(&self, id: Id) -> Option<(Id, &[Id])> {
        match &self.values[id.0] {
            Value::Object { callable, arguments, .. } => Some((*callable, self.as_sequence(*arguments)?)),
            _ => None,
        }
    }

    /// The key of an object that is stored elsewhere.
    pub(crate) fn as_persistent(&self, id: Id) -> Option<Id> {
        match self.values[id.0] {
            Value::Persistent(key) => Some(key),
            _ => None,
        }
    }

    /// The entries whose key is a text, in order: of a dictionary, of an object that holds entries, such as an
    /// `OrderedDict`, or the attributes of another object, such as an `argparse.Namespace`.
    pub(crate) fn entries(&self, id: Id) -> Option<impl Iterator<Item = (&str, Id)>> {
        let entries = match &self.values[id.0] {
            Value::Dict(entries) => entries,
            Value::Object { items, .. } if !items.is_empty() => items,
            Value::Object { state: Some(state), .. } => match &self.values[state.0] {
                Value::Dict(entries) => entries,
                _ => return None,
            },
            Value::Object { items, .. } => items,
            _ => return None,
        };
        Some(entries.iter().filter_map(|(key, value)| Some((self.as_text(*key)?, *value))))
    }

    /// The value of a text key. If the key occurs more than once, the last value counts.
    pub(crate) fn entry(&self, id: Id, name: &str) -> Option<Id> {
        self.entries(id)?.filter(|(key, _)| *key == name).map(|(_, value)| value).last()
    }

    /// A short description of a value, for error messages.
    pub(crate) fn describe(&self, id: Id) -> String {
        match &self.values[id.0] {
            Value::None => "None".to_owned(),
            Value::Bool(true) => "True".to_owned(),
            Value::Bool(false) => "False".to_owned(),
            Value::Int(value) => value.to_string(),
            Value::Float(value) => value.to_string(),
            Value::Text(text) => shortened(text),
            Value::Opaque => "bytes or a large integer".to_owned(),
            Value::Sequence(items) => format!("a sequence of {}", items.len()),
            Value::Dict(entries) => format!("a dictionary of {}", entries.len()),
            Value::Global { .. } => match self.as_global(id) {
                Some((module, name)) => format!("{}.{}", shortened(module), shortened(name)),
                None => "a class".to_owned(),
            },
            Value::Object { callable, .. } => match self.as_global(*callable) {
                Some((module, name)) => format!("a {}.{}", shortened(module), shortened(name)),
                None => "an object".to_owned(),
            },
            Value::Persistent(_) => "a storage".to_owned(),
        }
    }
}

/// Keeps error messages readable for any content of a file.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// The reason that bytes cannot be read as a pickle. Positions count bytes from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PickleError {
    /// The bytes end before the pickle does.
    #[error("the pickle is cut: expected more than {length} bytes")]
    Cut {
        /// Number of bytes.
        length: usize,
    },
    /// An opcode that `torch.save` does not write.
    #[error(
        "unsupported pickle opcode 0x{opcode:02x} at byte {position}: \
         load the file in PyTorch and save it again with torch.save and its default protocol"
    )]
    Opcode {
        /// The opcode.
        opcode: u8,
        /// Position of the opcode.
        position: usize,
    },
    /// The pickle has more instructions than any checkpoint.
    #[error("the pickle has more than {limit} instructions: a checkpoint has some thousands")]
    TooLong {
        /// The maximum number of instructions that are read.
        limit: usize,
    },
    /// The pickle is inconsistent.
    #[error("the pickle is damaged at byte {position}: expected {expected}")]
    Damaged {
        /// Position of the instruction.
        position: usize,
        /// What the instruction needs.
        expected: &'static str,
    },
}

/// The maximum number of instructions of a pickle. An instruction makes at most one value, of about eighty bytes plus
/// its text. So a damaged or malicious file cannot take much more memory than its own size.
const MAX_INSTRUCTIONS: usize = 1 << 22;

/// The stack machine.
struct Machine<'a> {
    bytes: &'a [u8],
    /// Position of the next byte.
    position: usize,
    /// Position of the current instruction.
    instruction: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Heights of the stack at the marks.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl<'a> Machine<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            position: 0,
            instruction: 0,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        }
    }

    /// Runs to the end and returns the result.
    fn run(&mut self) -> Result<Id, PickleError> {
        for _ in 0..MAX_INSTRUCTIONS {
            self.instruction = self.position;
            match self.byte()? {
                b'.' => return self.pop(),
                opcode => self.step(opcode)?,
            }
        }
        Err(PickleError::TooLong { limit: MAX_INSTRUCTIONS })
    }

    fn step(&mut self, opcode: u8) -> Result<(), PickleError> {
        match opcode {
            // PROTO and FRAME need no action: every instruction means the same in all protocols, and frames only help
            // buffering.
            0x80 => self.take(1).map(drop)?,
            0x95 => self.take(8).map(drop)?,
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'K' => {
                let value = self.little_endian(1)?;
                self.push(Value::Int(value as i64));
            }
            b'M' => {
                let value = self.little_endian(2)?;
                self.push(Value::Int(value as i64));
            }
            b'J' => {
                let value = self.little_endian(4)?;
                self.push(Value::Int(i64::from(value as u32 as i32)));
            }
            // LONG1 and LONG4.
            0x8a => self.long(1)?,
            0x8b => self.long(4)?,
            b'G' => {
                let value = f64::from_be_bytes(self.take(8)?.try_into().expect("eight bytes were taken"));
                self.push(Value::Float(value));
            }
            // SHORT_BINUNICODE, BINUNICODE, BINUNICODE8.
            0x8c => self.text(1)?,
            b'X' => self.text(4)?,
            0x8d => self.text(8)?,
            // SHORT_BINBYTES, BINBYTES, BINBYTES8.
            b'C' => self.opaque(1)?,
            b'B' => self.opaque(4)?,
            0x8e => self.opaque(8)?,
            b')' | b']' | 0x8f => self.push(Value::Sequence(Vec::new())),
            0x85..=0x87 => {
                let length = usize::from(opcode - 0x84);
                let items = self.pop_last(length)?;
                self.push(Value::Sequence(items));
            }
            // TUPLE, LIST, FROZENSET.
            b't' | b'l' | 0x91 => {
                let items = self.pop_to_mark()?;
                self.push(Value::Sequence(items));
            }
            b'}' => self.push(Value::Dict(Vec::new())),
            b'd' => {
                let entries = self.pop_entries()?;
                self.push(Value::Dict(entries));
            }
            b'a' => {
                let item = self.pop()?;
                self.extend(vec![item])?;
            }
            // APPENDS and ADDITEMS.
            b'e' | 0x90 => {
                let items = self.pop_to_mark()?;
                self.extend(items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(vec![(key, value)])?;
            }
            b'u' => {
                let entries = self.pop_entries()?;
                self.set_items(entries)?;
            }
            b'(' => self.marks.push(self.stack.len()),
            b'0' => self.pop().map(drop)?,
            b'1' => self.pop_to_mark().map(drop)?,
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'q' => self.put(1)?,
            b'r' => self.put(4)?,
            // MEMOIZE assigns the number itself.
            0x94 => {
                let top = self.top()?;
                self.memo.insert(self.memo.len() as u64, top);
            }
            b'h' => self.get(1)?,
            b'j' => self.get(4)?,
            b'c' => {
                let [module, name] = [self.line()?, self.line()?].map(|text| self.note(Value::Text(text)));
                self.push(Value::Global { module, name });
            }
            // STACK_GLOBAL.
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                if ![module, name].into_iter().all(|id| matches!(self.values[id.0], Value::Text(_))) {
                    return Err(self.damaged("two texts for the name of a class"));
                }
                self.push(Value::Global { module, name });
            }
            // REDUCE and NEWOBJ: the call is recorded.
            b'R' | 0x81 => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                self.push(Value::Object { callable, arguments, state: None, items: Vec::new() });
            }
            b'b' => {
                let found = self.pop()?;
                match self.top_value()? {
                    Value::Object { state, .. } => *state = Some(found),
                    _ => return Err(self.damaged("an object for its state")),
                }
            }
            b'Q' => {
                let key = self.pop()?;
                self.push(Value::Persistent(key));
            }
            opcode => return Err(PickleError::Opcode { opcode, position: self.instruction }),
        }
        Ok(())
    }

    fn damaged(&self, expected: &'static str) -> PickleError {
        PickleError::Damaged { position: self.instruction, expected }
    }

    /// The next `count` bytes.
    fn take(&mut self, count: u64) -> Result<&'a [u8], PickleError> {
        let rest = &self.bytes[self.position..];
        let count = usize::try_from(count).ok().filter(|count| *count <= rest.len());
        let count = count.ok_or(PickleError::Cut { length: self.bytes.len() })?;
        self.position += count;
        Ok(&rest[..count])
    }

    fn byte(&mut self) -> Result<u8, PickleError> {
        Ok(self.take(1)?[0])
    }

    /// An unsigned number of up to 8 bytes.
    fn little_endian(&mut self, width: u64) -> Result<u64, PickleError> {
        Ok(self.take(width)?.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// The bytes that follow their count, which is `width` bytes long.
    fn counted(&mut self, width: u64) -> Result<&'a [u8], PickleError> {
        let count = self.little_endian(width)?;
        self.take(count)
    }

    fn text(&mut self, width: u64) -> Result<(), PickleError> {
        let bytes = self.counted(width)?;
        let text = std::str::from_utf8(bytes).map_err(|_| self.damaged("text in UTF-8"))?;
        self.push(Value::Text(text.to_owned()));
        Ok(())
    }

    fn opaque(&mut self, width: u64) -> Result<(), PickleError> {
        self.counted(width)?;
        self.push(Value::Opaque);
        Ok(())
    }

    /// A signed integer of any length, in two's complement.
    fn long(&mut self, width: u64) -> Result<(), PickleError> {
        let bytes = self.counted(width)?;
        let sign = bytes.last().map_or(0, |last| if last & 0x80 == 0 { 0 } else { 0xff });
        self.push(if bytes.len() > 8 {
            Value::Opaque
        } else {
            let mut word = [sign; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            Value::Int(i64::from_le_bytes(word))
        });
        Ok(())
    }

    fn line(&mut self) -> Result<String, PickleError> {
        let rest = &self.bytes[self.position..];
        let end = rest.iter().position(|byte| *byte == b'\n').ok_or(PickleError::Cut { length: self.bytes.len() })?;
        self.position += end + 1;
        let line = std::str::from_utf8(&rest[..end]).map_err(|_| self.damaged("a name in UTF-8"))?;
        Ok(line.to_owned())
    }

    fn push(&mut self, value: Value) {
        let id = self.note(value);
        self.stack.push(id);
    }

    /// Stores a value that others may refer to.
    fn note(&mut self, value: Value) -> Id {
        self.values.push(value);
        Id(self.values.len() - 1)
    }

    /// Values below the last mark are out of reach.
    fn available(&self) -> usize {
        self.stack.len() - self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Id, PickleError> {
        if self.available() == 0 {
            return Err(self.damaged("a value on the stack"));
        }
        Ok(self.stack.pop().expect("a value is available"))
    }

    fn pop_last(&mut self, count: usize) -> Result<Vec<Id>, PickleError> {
        if self.available() < count {
            return Err(self.damaged("more values on the stack"));
        }
        Ok(self.stack.split_off(self.stack.len() - count))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, PickleError> {
        let mark = self.marks.pop().ok_or_else(|| self.damaged("a mark"))?;
        Ok(self.stack.split_off(mark))
    }

    fn pop_entries(&mut self) -> Result<Vec<(Id, Id)>, PickleError> {
        let items = self.pop_to_mark()?;
        match items.as_chunks::<2>() {
            (pairs, []) => Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect()),
            _ => Err(self.damaged("a value for every key")),
        }
    }

    fn top(&self) -> Result<Id, PickleError> {
        match self.available() {
            0 => Err(self.damaged("a value on the stack")),
            _ => Ok(self.stack[self.stack.len() - 1]),
        }
    }

    fn top_value(&mut self) -> Result<&mut Value, PickleError> {
        let Id(top) = self.top()?;
        Ok(&mut self.values[top])
    }

    fn extend(&mut self, new: Vec<Id>) -> Result<(), PickleError> {
        match self.top_value()? {
            Value::Sequence(items) => items.extend(new),
            // A subclass of list, whose items are not needed here.
            Value::Object { .. } => {}
            _ => return Err(self.damaged("a list to append to")),
        }
        Ok(())
    }

    fn set_items(&mut self, new: Vec<(Id, Id)>) -> Result<(), PickleError> {
        match self.top_value()? {
            Value::Dict(entries) | Value::Object { items: entries, .. } => entries.extend(new),
            _ => return Err(self.damaged("a dictionary for its entries")),
        }
        Ok(())
    }

    fn put(&mut self, width: u64) -> Result<(), PickleError> {
        let (index, top) = (self.little_endian(width)?, self.top()?);
        self.memo.insert(index, top);
        Ok(())
    }

    fn get(&mut self, width: u64) -> Result<(), PickleError> {
        let index = self.little_endian(width)?;
        let id = *self.memo.get(&index).ok_or_else(|| self.damaged("a value that was noted before"))?;
        self.stack.push(id);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
