//! Append-only files that survive a full disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use numformer_store::files::is_full_disk;

/// A file that is only appended to. While the disk is full, new data waits in memory.
#[derive(Debug)]
pub(crate) struct AppendedFile {
    path: PathBuf,
    file: Option<File>,
    waiting: Vec<u8>,
}

impl AppendedFile {
    /// A file at `path`. [`open`](Self::open) creates or opens it.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, file: None, waiting: Vec::new() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the file at its end.
    pub(crate) fn open(&mut self) -> io::Result<()> {
        self.waiting.clear();
        self.file = Some(OpenOptions::new().create(true).append(true).open(&self.path)?);
        Ok(())
    }

    /// Appends to the file. While the disk is full, keeps the bytes in memory. Does nothing before the file is opened.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        self.waiting.extend_from_slice(bytes);
        while !self.waiting.is_empty() {
            match file.write(&self.waiting) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                // A part may fit even if the whole does not.
                Ok(written) => drop(self.waiting.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_full_disk(&error) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes the waiting data and syncs the file, so that a crash loses nothing. Fails if there is no room.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.write(&[])?;
        if !self.waiting.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.as_ref().map_or(Ok(()), File::sync_data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_stands_in_order_across_openings() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("log");
        for part in ["a", "b"] {
            let mut file = AppendedFile::new(path.clone());
            file.write(b"before it is opened").expect("nothing");
            file.open().expect("opened");
            file.write(part.as_bytes()).expect("written");
            file.sync().expect("synced");
        }
        assert_eq!(std::fs::read(&path).expect("the file"), b"ab");
    }

    /// Linux has a device that is always full.
    #[cfg(target_os = "linux")]
    #[test]
    fn what_finds_no_room_waits() {
        let mut file = AppendedFile::new("/dev/full".into());
        file.open().expect("opened");
        file.write(b"first ").expect("waits");
        file.write(b"second").expect("waits");
        assert_eq!(file.waiting, b"first second");
        assert!(is_full_disk(&file.sync().expect_err("full")));
    }
}
