//! `cargo xtask browser-test`: checks reports as a reader sees them, in a Chromium that is installed if there is none.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;

/// Check reports in Chromium, in both themes, on a wide screen and on a phone.
///
/// Uses the Chromium in NUMFORMER_CHROMIUM or in PATH. If there is none, unpacks Debian's Chromium and its dependencies
/// under target/. Nothing outside target/ changes, and no special rights are needed. On other systems, install Chromium
/// first.
#[derive(Args)]
#[command(after_help = "Example:
  $ cargo xtask browser-test")]
pub(crate) struct Arguments {
    /// Unpack Debian's Chromium even if there is another.
    #[arg(long)]
    install: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let root = crate::root()?;
    let mut tests = Command::new("cargo");
    tests.args(["test", "--workspace", "--test", "browser"]).current_dir(root);
    if arguments.install || !is_there() {
        tests.env("NUMFORMER_CHROMIUM", installed(&root.join("target/chromium"))?);
    }
    run_command(&mut tests)
}

/// Whether the tests can find a Chromium without help.
fn is_there() -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    env::var_os("NUMFORMER_CHROMIUM").is_some()
        || env::split_paths(&path).any(|dir| names.iter().any(|name| dir.join(name).is_file()))
}

/// Unpacks Debian's Chromium in `dir`, unless that has been done, and returns the program to start.
fn installed(dir: &Path) -> Result<PathBuf> {
    let (archives, unpacked, program) = (dir.join("archives"), dir.join("root"), dir.join("chromium"));
    if program.is_file() {
        return Ok(program);
    }
    fs::create_dir_all(archives.join("partial"))?;
    // Dependencies already on the system are not downloaded, because the unpacked packages are used on the same system.
    let mut download = Command::new("apt-get");
    download.args(["install", "--download-only", "--yes", "--no-install-recommends", "--reinstall"]);
    download.args(["-o", "Debug::NoLocking=1", "-o", &format!("Dir::Cache::archives={}", archives.display())]);
    run_command(download.args(["chromium", "fonts-dejavu-core", "fontconfig-config"]))
        .context("only Debian's Chromium can be installed; on other systems, name one in NUMFORMER_CHROMIUM")?;
    for entry in fs::read_dir(&archives)? {
        let archive = entry?.path();
        if archive.extension().is_some_and(|extension| extension == "deb") {
            run_command(Command::new("dpkg-deb").arg("--extract").arg(archive).arg(&unpacked))?;
        }
    }
    // Libraries and fonts are looked up first in the unpacked packages, then in the system.
    let script = format!(
        "#!/bin/sh\n\
         root='{}'\n\
         libraries=$(printf '%s:' \"$root\"/usr/lib/*-linux-gnu \"$root\"/usr/lib/*-linux-gnu/*/ \"$root\"/lib/*-linux-gnu)\n\
         export LD_LIBRARY_PATH=\"$libraries$LD_LIBRARY_PATH\" XDG_DATA_HOME=\"$root/usr/share\"\n\
         [ -e /etc/fonts/fonts.conf ] || export FONTCONFIG_PATH=\"$root/etc/fonts\"\n\
         exec \"$root/usr/lib/chromium/chromium\" \"$@\"\n",
        unpacked.display()
    );
    fs::write(&program, script)?;
    run_command(Command::new("chmod").arg("+x").arg(&program))?;
    Ok(program)
}

fn run_command(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", command.get_program().display()))?;
    ensure!(status.success(), "{} failed: {status}", command.get_program().display());
    Ok(())
}
