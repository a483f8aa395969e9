//! Files that are either complete or absent.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// The time between two checks for a signal.
const POLL: Duration = Duration::from_millis(20);

/// A file that is written beside its final path, and renamed when it is finished. If it is dropped before that, it is
/// removed. It is also removed when Ctrl-C or SIGTERM ends the process.
pub(crate) struct PartialFile {
    partial: PathBuf,
    path: PathBuf,
    file: File,
}

impl PartialFile {
    /// Begins a file that [`finish`](Self::finish) puts at `path`. A file that is there now stays until then.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let context = || format!("cannot write {}", path.display());
        let name = path.file_name().with_context(|| format!("expected a file name, found {}", path.display()))?;
        // Follows a link, so that the link itself stays.
        let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        ensure!(!target.is_dir(), "cannot write {}: it is a directory", path.display());
        let name = target.file_name().unwrap_or(name).to_string_lossy();
        let partial = target.with_file_name(format!(".{name}.{}.partial", process::id()));
        remove_at_signals(&partial).with_context(context)?;
        let file = File::create(&partial).with_context(context)?;
        Ok(Self { partial, path: target, file })
    }

    /// The file to write to.
    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Renames the file to its final path.
    pub(crate) fn finish(self) -> Result<()> {
        let finished = self.file.sync_all().and_then(|()| fs::rename(&self.partial, &self.path));
        finished.with_context(|| format!("cannot write {}", self.path.display()))
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        // A renamed file is no longer there to remove. An error is ignored, because nothing better can be done.
        let _ = fs::remove_file(&self.partial);
    }
}

/// The files to remove before a signal ends the process. The thread that does so starts with the first file.
static BEGUN: Mutex<Option<Vec<PathBuf>>> = Mutex::new(None);

/// Makes sure that this file is removed before a signal ends the process.
fn remove_at_signals(partial: &Path) -> io::Result<()> {
    let mut begun = BEGUN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(begun) = &mut *begun {
        begun.push(partial.to_owned());
        return Ok(());
    }
    let come = Arc::new(AtomicUsize::new(0));
    for signal in [SIGINT, SIGTERM] {
        flag::register_usize(signal, Arc::clone(&come), signal as usize)?;
    }
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        loop {
            thread::sleep(POLL);
            let signal = come.load(Ordering::Relaxed);
            if signal != 0 {
                // The lock is held until the process ends, so that no other file is begun.
                let begun = BEGUN.lock().unwrap_or_else(PoisonError::into_inner);
                for partial in begun.iter().flatten() {
                    let _ = fs::remove_file(partial);
                }
                // The exit code follows the convention of shells.
                process::exit(128 + signal as i32);
            }
        }
    })?;
    *begun = Some(vec![partial.to_owned()]);
    Ok(())
}
