//! The zip file that `torch.save` writes: a pickle that describes the tensors, and their bytes beside it.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read, Seek};
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

use super::pickle::{Id, Pickle, PickleError};

/// Longest pickle that is read: about 100,000 tensors. The bytes of the tensors are stored outside the pickle.
const MAX_PICKLE: u64 = 8 << 20;

/// The bytes that every zip file begins with.
const ZIP_MAGIC: &[u8] = b"PK\x03\x04";

/// The bytes that files of PyTorch before 1.6 begin with: a protocol 2 pickle that consists of one 10-byte number.
const LEGACY_MAGIC: &[u8] = b"\x80\x02\x8a\x0a";

/// An open file of `torch.save`.
#[derive(Debug)]
pub(crate) struct Archive {
    zip: ZipArchive<BufReader<File>>,
    /// The folder within the archive, with its slash.
    folder: String,
    pickle: Pickle,
    /// Length of the file, a bound on its content.
    bytes: u64,
}

/// Where a tensor is stored and how.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TensorInfo {
    pub(crate) shape: Vec<usize>,
    strides: Vec<usize>,
    /// Position of the first coefficient.
    offset: usize,
    dtype: Dtype,
    /// Name of the storage, and its number of coefficients.
    key: String,
    len: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dtype {
    F16,
    Bf16,
    F32,
    F64,
}

impl Dtype {
    fn from_storage(class: (&str, &str)) -> Option<Self> {
        match class {
            ("torch", "HalfStorage") => Some(Self::F16),
            ("torch", "BFloat16Storage") => Some(Self::Bf16),
            ("torch", "FloatStorage") => Some(Self::F32),
            ("torch", "DoubleStorage") => Some(Self::F64),
            _ => None,
        }
    }

    fn width(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// The coefficients in `bytes`, rounded to nearest.
    fn decode(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::F16 => bytes.as_chunks().0.iter().map(|word| half::f16::from_le_bytes(*word).to_f32()).collect(),
            Self::Bf16 => bytes.as_chunks().0.iter().map(|word| half::bf16::from_le_bytes(*word).to_f32()).collect(),
            Self::F32 => bytes.as_chunks().0.iter().map(|word| f32::from_le_bytes(*word)).collect(),
            Self::F64 => bytes.as_chunks().0.iter().map(|word| f64::from_le_bytes(*word) as f32).collect(),
        }
    }
}

impl Archive {
    /// Opens a file and reads its pickle.
    pub(crate) fn open(path: &Path) -> Result<Self, PytorchError> {
        let mut file = File::open(path)?;
        let bytes = file.metadata()?.len();
        let mut magic = Vec::new();
        file.by_ref().take(4).read_to_end(&mut magic)?;
        if magic == LEGACY_MAGIC {
            return Err(PytorchError::Legacy);
        }
        if !magic.starts_with(ZIP_MAGIC) {
            return Err(PytorchError::NotZip);
        }
        file.rewind()?;
        let mut zip = ZipArchive::new(BufReader::new(file))?;
        let pickles = zip.file_names().filter_map(Result::ok).filter(|name| name.ends_with("/data.pkl"));
        let name = pickles.min().ok_or(PytorchError::MissingEntry { name: "data.pkl".to_owned() })?.into_owned();
        let folder = name.strip_suffix("data.pkl").expect("the name was found by its end").to_owned();
        let order = format!("{folder}byteorder");
        // Files of PyTorch before 2.0 do not name their byte order, which is little-endian.
        if zip.index_for_name(&order).is_some() {
            let order = read_entry(&mut zip, &order, 16)?;
            if order != b"little" {
                return Err(PytorchError::ByteOrder { found: String::from_utf8_lossy(&order).into_owned() });
            }
        }
        let pickle = Pickle::read(&read_entry(&mut zip, &name, MAX_PICKLE)?)?;
        Ok(Self { zip, folder, pickle, bytes })
    }

    /// The content of the file, except the coefficients of the tensors.
    pub(crate) fn pickle(&self) -> &Pickle {
        &self.pickle
    }

    /// Length of the file.
    pub(crate) fn len_bytes(&self) -> u64 {
        self.bytes
    }

    /// The tensor that a value of the pickle stands for.
    pub(crate) fn tensor(&self, id: Id) -> Result<TensorInfo, TensorError> {
        let pickle = &self.pickle;
        let none = || TensorError::NotATensor { found: pickle.describe(id) };
        let (callable, mut arguments) = pickle.as_call(id).ok_or_else(none)?;
        let mut function = pickle.as_global(callable).ok_or_else(none)?;
        // A trained parameter wraps its tensor.
        if function == ("torch._utils", "_rebuild_parameter") {
            let (callable, inner) = arguments.first().and_then(|id| pickle.as_call(*id)).ok_or_else(none)?;
            (function, arguments) = (pickle.as_global(callable).ok_or_else(none)?, inner);
        }
        if !matches!(function, ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2")) {
            return Err(none());
        }
        let [storage, offset, shape, strides, ..] = arguments else { return Err(none()) };
        let storage = pickle.as_persistent(*storage).and_then(|key| pickle.as_sequence(key)).ok_or_else(none)?;
        // The items are: a name for the kind of object, its class, its key, its device, its number of coefficients.
        let [_, class, key, _, len, ..] = storage else { return Err(none()) };
        let (class, key) = pickle.as_global(*class).zip(pickle.as_text(*key)).ok_or_else(none)?;
        let dtype = Dtype::from_storage(class)
            .ok_or_else(|| TensorError::Dtype { found: format!("{}.{}", class.0, class.1) })?;
        let sizes = |id: Id| -> Option<Vec<usize>> {
            pickle.as_sequence(id)?.iter().map(|size| pickle.as_usize(*size)).collect()
        };
        let (shape, strides) = sizes(*shape).zip(sizes(*strides)).ok_or_else(none)?;
        let (offset, len) = pickle.as_usize(*offset).zip(pickle.as_usize(*len)).ok_or_else(none)?;
        let info = TensorInfo { shape, strides, offset, dtype, key: key.to_owned(), len };
        if !info.is_inside_storage() {
            return Err(TensorError::OutsideStorage { shape: info.shape, strides: info.strides, offset, len });
        }
        Ok(info)
    }

    /// The coefficients of a tensor, row-major.
    pub(crate) fn read(&mut self, tensor: &TensorInfo) -> Result<Vec<f32>, TensorError> {
        let name = format!("{}data/{}", self.folder, tensor.key);
        let expected = tensor.len.checked_mul(tensor.dtype.width()).filter(|bytes| *bytes as u64 <= self.bytes);
        let cut = || TensorError::Cut { name: name.clone(), len: tensor.len };
        let expected = expected.ok_or_else(cut)?;
        let bytes = read_entry(&mut self.zip, &name, expected as u64)
            .map_err(|source| TensorError::Entry { source: Box::new(source) })?;
        if bytes.len() != expected {
            return Err(cut());
        }
        let storage = tensor.dtype.decode(&bytes);
        Ok(tensor.gather(&storage))
    }
}

impl TensorInfo {
    /// Number of coefficients.
    pub(crate) fn element_count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether every coefficient lies in the storage, and there are no more coefficients than the storage has. A tensor
    /// that repeats its storage could have any size.
    fn is_inside_storage(&self) -> bool {
        let count = self.shape.iter().try_fold(1usize, |count, size| count.checked_mul(*size));
        let last = self.shape.iter().zip(&self.strides).try_fold(self.offset, |last, (size, stride)| {
            last.checked_add(size.saturating_sub(1).checked_mul(*stride)?)
        });
        self.shape.len() == self.strides.len()
            && count.is_some_and(|count| count <= self.len && (count == 0 || last.is_some_and(|last| last < self.len)))
    }

    fn gather(&self, storage: &[f32]) -> Vec<f32> {
        let count = self.element_count();
        let mut values = Vec::with_capacity(count);
        let mut place = vec![0; self.shape.len()];
        for _ in 0..count {
            let at: usize = place.iter().zip(&self.strides).map(|(index, stride)| index * stride).sum();
            values.push(storage[self.offset + at]);
            // Moves to the next position. The last index runs fastest.
            for (index, size) in place.iter_mut().zip(&self.shape).rev() {
                *index += 1;
                if *index < *size {
                    break;
                }
                *index = 0;
            }
        }
        values
    }
}

/// Reads an entry of at most `limit` bytes.
fn read_entry(zip: &mut ZipArchive<BufReader<File>>, name: &str, limit: u64) -> Result<Vec<u8>, PytorchError> {
    let entry = zip.by_name(name).map_err(|error| match error {
        ZipError::FileNotFound => PytorchError::MissingEntry { name: name.to_owned() },
        error => error.into(),
    })?;
    if entry.size() > limit {
        return Err(PytorchError::LongEntry { name: name.to_owned(), limit, found: entry.size() });
    }
    let mut bytes = Vec::new();
    // The file only claims this size, so reading always stops at the limit.
    match entry.take(limit + 1).read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        // The zip reader returns these errors for a wrong checksum and for an entry that ends early.
        Err(error) if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
            Err(PytorchError::Damaged { reason: format!("entry `{name}`: {error}") })
        }
        Err(error) => Err(error.into()),
    }
}

/// The reason that a file cannot be read as one of `torch.save`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PytorchError {
    /// The file cannot be read.
    #[error("cannot read the file")]
    Io(#[from] io::Error),
    /// The file is something else.
    #[error("expected a zip file as torch.save writes it")]
    NotZip,
    /// The file has the format of old PyTorch versions.
    #[error(
        "the file is in the format of PyTorch before 1.6: load it with torch.load and save it again with torch.save"
    )]
    Legacy,
    /// The file is truncated or damaged.
    #[error("the file is damaged or incomplete, copy it again: {reason}")]
    Damaged {
        /// What is wrong.
        reason: String,
    },
    /// The file is a zip file that `torch.save` did not write.
    #[error("expected stored entries as torch.save writes them, without compression or encryption: {reason}")]
    NotStored {
        /// What was found.
        reason: String,
    },
    /// A part of the file is missing.
    #[error("the file has no entry `{name}`: expected a checkpoint written by torch.save")]
    MissingEntry {
        /// Its name.
        name: String,
    },
    /// A part is longer than it should be.
    #[error("entry `{name}`: expected at most {limit} bytes, found {found}")]
    LongEntry {
        /// Its name.
        name: String,
        /// Maximum number of bytes.
        limit: u64,
        /// Actual number of bytes.
        found: u64,
    },
    /// The file was written on a machine with another byte order.
    #[error("expected the byte order `little`, found `{found}`: save the file again on a little-endian machine")]
    ByteOrder {
        /// The byte order found.
        found: String,
    },
    /// The description of the content cannot be read.
    #[error(transparent)]
    Pickle(#[from] PickleError),
}

impl From<ZipError> for PytorchError {
    fn from(error: ZipError) -> Self {
        match error {
            ZipError::Io(source) => Self::Io(source),
            ZipError::UnsupportedArchive(_) | ZipError::CompressionMethodNotSupported(_) => {
                Self::NotStored { reason: error.to_string() }
            }
            error => Self::Damaged { reason: error.to_string() },
        }
    }
}

/// The reason that a tensor cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    /// The value is not a tensor, or is a tensor of an unknown kind.
    #[error("expected a dense tensor, found {found}")]
    NotATensor {
        /// A short description of the value.
        found: String,
    },
    /// The coefficients are not floating-point numbers.
    #[error("expected coefficients in f16, bf16, f32 or f64, found {found}")]
    Dtype {
        /// The class of the storage.
        found: String,
    },
    /// The shape reaches beyond the storage, or repeats it.
    #[error("shape {shape:?} with strides {strides:?} from {offset} on does not fit a storage of {len} coefficients")]
    OutsideStorage {
        /// The shape.
        shape: Vec<usize>,
        /// The strides, in coefficients.
        strides: Vec<usize>,
        /// Position of the first coefficient in the storage.
        offset: usize,
        /// Number of coefficients stored.
        len: usize,
    },
    /// The storage is shorter than it claims.
    #[error("entry `{name}` is cut: expected {len} coefficients")]
    Cut {
        /// The entry of the file.
        name: String,
        /// Number of coefficients that the storage should have.
        len: usize,
    },
    /// The storage cannot be read.
    #[error("cannot read the coefficients")]
    Entry {
        /// Cause.
        source: Box<PytorchError>,
    },
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::pytorch::testing::{Py, PyTensor, write};

    struct Dir(tempfile::TempDir);

    impl Dir {
        fn new() -> Self {
            Self(tempfile::tempdir().expect("dir"))
        }

        fn file(&self) -> PathBuf {
            self.0.path().join("file.pth")
        }

        /// Saves one tensor and reads it.
        fn round_trip(&self, tensor: &PyTensor) -> Result<Vec<f32>, TensorError> {
            write(&self.file(), &tensor.to_py().pickle(), std::slice::from_ref(tensor));
            let mut archive = Archive::open(&self.file()).expect("a file of torch.save");
            let info = archive.tensor(archive.pickle().root())?;
            assert_eq!(info.shape, tensor.shape);
            archive.read(&info)
        }

        fn error(&self, content: &[u8]) -> String {
            fs::write(self.file(), content).expect("written");
            Archive::open(&self.file()).expect_err("no file of torch.save").to_string()
        }
    }

    /// 0, 1, 2, ... in a matrix of 2 rows and 3 columns.
    fn counting() -> PyTensor {
        PyTensor::new(0, &[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    }

    #[test]
    fn tensors_of_any_layout_are_read() {
        let dir = Dir::new();
        let read = |tensor: &PyTensor| dir.round_trip(tensor).expect("a tensor");
        let contiguous = counting();
        assert_eq!(read(&contiguous), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let transposed = PyTensor { shape: vec![3, 2], strides: vec![1, 3], ..counting() };
        assert_eq!(read(&transposed), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        let column = PyTensor { shape: vec![2], strides: vec![3], offset: 2, ..counting() };
        assert_eq!(read(&column), [2.0, 5.0]);
        let scalar = PyTensor { shape: vec![], strides: vec![], offset: 4, ..counting() };
        assert_eq!(read(&scalar), [4.0]);
        let empty = PyTensor { shape: vec![0, 3], strides: vec![3, 1], ..counting() };
        assert!(read(&empty).is_empty());
    }

    #[test]
    fn all_floating_point_types_become_f32() {
        let dir = Dir::new();
        let numbers = [1.5f32, -0.25];
        let halves: Vec<u8> = numbers.iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect();
        let brains: Vec<u8> = numbers.iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()).collect();
        let doubles: Vec<u8> = numbers.iter().flat_map(|x| f64::from(*x).to_le_bytes()).collect();
        for (class, bytes) in [("HalfStorage", halves), ("BFloat16Storage", brains), ("DoubleStorage", doubles)] {
            let tensor = PyTensor { class, bytes, ..PyTensor::new(0, &[2], &numbers) };
            assert_eq!(dir.round_trip(&tensor).expect("a tensor"), numbers);
        }
        let integers = PyTensor { class: "LongStorage", bytes: vec![0; 16], ..PyTensor::new(0, &[2], &numbers) };
        let error = dir.round_trip(&integers).expect_err("integers").to_string();
        assert_eq!(error, "expected coefficients in f16, bf16, f32 or f64, found torch.LongStorage");
    }

    #[test]
    fn parameters_are_tensors_and_other_calls_are_not() {
        let dir = Dir::new();
        let parameter = Py::call("torch._utils", "_rebuild_parameter", vec![counting().to_py(), Py::Bool(true)]);
        write(&dir.file(), &parameter.pickle(), &[counting()]);
        let archive = Archive::open(&dir.file()).expect("a file");
        assert_eq!(archive.tensor(archive.pickle().root()).expect("a tensor").shape, [2, 3]);

        let other = Py::call("os", "system", vec![Py::text("true")]);
        write(&dir.file(), &other.pickle(), &[]);
        let archive = Archive::open(&dir.file()).expect("a file");
        let error = archive.tensor(archive.pickle().root()).expect_err("a call").to_string();
        assert_eq!(error, "expected a dense tensor, found a os.system");
    }

    #[test]
    fn layouts_beyond_the_storage_are_refused() {
        let dir = Dir::new();
        let refused = |tensor: PyTensor| {
            let error = dir.round_trip(&tensor).expect_err("beyond the storage");
            assert!(matches!(error, TensorError::OutsideStorage { .. }), "{error}");
        };
        refused(PyTensor { offset: 1, ..counting() });
        refused(PyTensor { strides: vec![4, 1], ..counting() });
        refused(PyTensor { strides: vec![3], ..counting() });
        // Stride 0 repeats the storage: a small file would fill the memory.
        refused(PyTensor { shape: vec![1 << 40, 3], strides: vec![0, 1], ..counting() });
        refused(PyTensor { shape: vec![1 << 40, 1 << 40], strides: vec![1 << 40, 1 << 40], ..counting() });
        let claimed = PyTensor { shape: vec![1 << 40], strides: vec![1], len: 1 << 40, ..counting() };
        let error = dir.round_trip(&claimed).expect_err("a claim").to_string();
        assert_eq!(error, "entry `checkpoint/data/0` is cut: expected 1099511627776 coefficients");
        let cut = PyTensor { bytes: vec![0; 20], ..counting() };
        assert!(matches!(dir.round_trip(&cut), Err(TensorError::Cut { .. })));
    }

    #[test]
    fn files_of_other_kinds_are_named() {
        let dir = Dir::new();
        assert_eq!(dir.error(b""), "expected a zip file as torch.save writes it");
        assert_eq!(dir.error(b"hello"), "expected a zip file as torch.save writes it");
        // The beginning of a file of torch.save before 1.6.
        let legacy = dir.error(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.");
        assert!(legacy.contains("PyTorch before 1.6") && legacy.contains("torch.save"), "{legacy}");
        let mut zip = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        zip.start_file("hello.txt", zip::write::SimpleFileOptions::default()).expect("an entry");
        let zip = zip.finish().expect("a zip file").into_inner();
        assert_eq!(dir.error(&zip), "the file has no entry `data.pkl`: expected a checkpoint written by torch.save");

        write(&dir.file(), &counting().to_py().pickle(), &[counting()]);
        let whole = fs::read(dir.file()).expect("the file");
        for length in [4, 100, whole.len() / 2, whole.len() - 1] {
            let error = dir.error(&whole[..length]);
            assert!(error.starts_with("the file is damaged or incomplete, copy it again"), "{length}: {error}");
        }
        // A changed byte in the pickle, which begins with its protocol.
        let place = whole.windows(2).position(|bytes| bytes == b"\x80\x02").expect("the pickle");
        let mut changed = whole.clone();
        changed[place + 5] ^= 1;
        let error = dir.error(&changed);
        assert!(error.contains("damaged") && error.contains("checksum"), "{error}");
        assert!(Archive::open(&dir.0.path().join("missing.pth")).is_err());
    }

    #[test]
    fn a_long_pickle_is_refused_before_it_is_read() {
        let dir = Dir::new();
        let text = Py::Text("x".repeat(MAX_PICKLE as usize));
        write(&dir.file(), &text.pickle(), &[]);
        let error = Archive::open(&dir.file()).expect_err("too long").to_string();
        assert!(error.starts_with("entry `checkpoint/data.pkl`: expected at most 8388608 bytes"), "{error}");
    }
}
