//! Writing files so that a crash leaves the old one or the new one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Replaces `path` by `bytes`: written beside it, synced, renamed.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("partial");
    write_synced(&temporary, bytes)?;
    fs::rename(&temporary, path)?;
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// Writes `bytes` to a new file and waits for the disk.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Whether there is no room left, on the disk or for the user.
pub(crate) fn is_full_disk(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Makes renames inside `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    // An empty path is the current directory.
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    // Only Unix can open a directory; elsewhere renames are durable without it.
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}
