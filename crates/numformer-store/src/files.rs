//! File writing that leaves either the old file or the new one after a crash.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Replaces the content of `path` with `bytes`. Writes a file beside it, syncs it and renames it.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("partial");
    write_synced(&temporary, bytes)?;
    fs::rename(&temporary, path)?;
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// Writes `bytes` to a new file and waits for the disk.
pub fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Whether the disk is full or the user's quota is used up.
pub fn is_full_disk(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Makes a directory and its parents, so that they are still there after a crash.
pub fn create_durably(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().unwrap_or(Path::new("."));
    if !parent.as_os_str().is_empty() {
        create_durably(parent)?;
    }
    match fs::create_dir(dir) {
        // Another process was first.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
        made => made?,
    }
    sync_dir(parent)
}

/// Makes renames inside `dir` durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    // An empty path is the current directory.
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    // Only Unix can open a directory; elsewhere renames are durable without it.
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_made_with_those_they_lie_in() {
        let dir = tempfile::tempdir().expect("dir");
        let inner = dir.path().join("a/b/c");
        create_durably(&inner).expect("made");
        create_durably(&inner).expect("there already");
        assert!(inner.is_dir());
        let file = dir.path().join("file");
        write_synced(&file, b"no directory").expect("written");
        assert!(create_durably(&file.join("d")).is_err());
        assert!(create_durably(&file).is_err());
    }
}
