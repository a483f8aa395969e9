//! Writes files in the format of `torch.save`, for tests.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A Python value to be pickled.
#[derive(Clone, Debug)]
pub(crate) enum Py {
    None,
    Bool(bool),
    Int(i64),
    Text(String),
    Tuple(Vec<Py>),
    Dict(Vec<(Py, Py)>),
    Global(&'static str, &'static str),
    /// A function and its arguments.
    Call(Box<Py>, Vec<Py>),
    /// An instance of a class made without arguments: the class, its entries, its attributes.
    Object(Box<Py>, Vec<(Py, Py)>, Vec<(Py, Py)>),
    Persistent(Box<Py>),
}

impl Py {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    pub(crate) fn call(module: &'static str, name: &'static str, arguments: Vec<Py>) -> Self {
        Self::Call(Box::new(Self::Global(module, name)), arguments)
    }

    pub(crate) fn sizes(sizes: &[usize]) -> Self {
        Self::Tuple(sizes.iter().map(|size| Self::Int(*size as i64)).collect())
    }

    /// The pickle, in protocol 2.
    pub(crate) fn pickle(&self) -> Vec<u8> {
        let mut bytes = b"\x80\x02".to_vec();
        self.write(&mut bytes);
        bytes.push(b'.');
        bytes
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::None => bytes.push(b'N'),
            Self::Bool(value) => bytes.push(if *value { 0x88 } else { 0x89 }),
            Self::Int(value) => match i32::try_from(*value) {
                Ok(value) => {
                    bytes.push(b'J');
                    bytes.extend(value.to_le_bytes());
                }
                Err(_) => {
                    bytes.extend([0x8a, 8]);
                    bytes.extend(value.to_le_bytes());
                }
            },
            Self::Text(text) => {
                bytes.push(b'X');
                bytes.extend((text.len() as u32).to_le_bytes());
                bytes.extend(text.as_bytes());
            }
            Self::Tuple(items) => {
                bytes.push(b'(');
                items.iter().for_each(|item| item.write(bytes));
                bytes.push(b't');
            }
            Self::Dict(entries) => {
                bytes.push(b'}');
                write_entries(entries, bytes);
            }
            Self::Global(module, name) => bytes.extend(format!("c{module}\n{name}\n").into_bytes()),
            Self::Call(function, arguments) => {
                function.write(bytes);
                Self::Tuple(arguments.clone()).write(bytes);
                bytes.push(b'R');
            }
            Self::Object(class, entries, attributes) => {
                class.write(bytes);
                bytes.extend(b")\x81");
                if !entries.is_empty() {
                    write_entries(entries, bytes);
                }
                Self::Dict(attributes.clone()).write(bytes);
                bytes.push(b'b');
            }
            Self::Persistent(key) => {
                key.write(bytes);
                bytes.push(b'Q');
            }
        }
    }
}

fn write_entries(entries: &[(Py, Py)], bytes: &mut Vec<u8>) {
    bytes.push(b'(');
    for (key, value) in entries {
        key.write(bytes);
        value.write(bytes);
    }
    bytes.push(b'u');
}

/// A tensor: its layout and the bytes of its storage.
#[derive(Clone, Debug)]
pub(crate) struct PyTensor {
    pub(crate) shape: Vec<usize>,
    pub(crate) strides: Vec<usize>,
    pub(crate) offset: usize,
    pub(crate) class: &'static str,
    /// Number of coefficients according to the pickle.
    pub(crate) len: usize,
    pub(crate) key: String,
    pub(crate) bytes: Vec<u8>,
}

impl PyTensor {
    /// A contiguous tensor in `f32`.
    pub(crate) fn new(key: usize, shape: &[usize], values: &[f32]) -> Self {
        let mut strides = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis] * shape[axis];
        }
        Self {
            shape: shape.to_vec(),
            strides,
            offset: 0,
            class: "FloatStorage",
            len: values.len(),
            key: key.to_string(),
            bytes: values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        }
    }

    pub(crate) fn to_py(&self) -> Py {
        let storage = Py::Persistent(Box::new(Py::Tuple(vec![
            Py::text("storage"),
            Py::Global("torch", self.class),
            Py::text(&self.key),
            Py::text("cpu"),
            Py::Int(self.len as i64),
        ])));
        let hooks = Py::call("collections", "OrderedDict", Vec::new());
        let (shape, strides) = (Py::sizes(&self.shape), Py::sizes(&self.strides));
        let arguments = vec![storage, Py::Int(self.offset as i64), shape, strides, Py::Bool(false), hooks];
        Py::call("torch._utils", "_rebuild_tensor_v2", arguments)
    }
}

/// Writes a pickle and the storages of tensors.
pub(crate) fn write(path: &Path, pickle: &[u8], tensors: &[PyTensor]) {
    let mut zip = ZipWriter::new(File::create(path).expect("a new file"));
    let mut entry = |name: &str, bytes: &[u8]| {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        zip.start_file(format!("checkpoint/{name}"), options).expect("an entry");
        zip.write_all(bytes).expect("written");
    };
    entry("data.pkl", pickle);
    entry("byteorder", b"little");
    let mut written = std::collections::HashSet::new();
    for tensor in tensors {
        // Tensors may share a storage.
        if written.insert(&tensor.key) {
            entry(&format!("data/{}", tensor.key), &tensor.bytes);
        }
    }
    zip.finish().expect("a whole file");
}
