//! `cargo xtask search`: looks for counterexamples to the properties that the tests check.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::root;

/// Look for counterexamples to the properties of all crates, with fresh seeds and many more cases than in the tests.
///
/// Runs all property tests in rounds until the time is over, each round with its own seed. The last round is cut short.
/// A failure is reported with the command that reproduces it.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How long to search.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// The seed of the first round; later rounds count up from it. By default, it comes from the clock.
    #[arg(long)]
    seed: Option<u64>,
    /// The maximum number of rounds.
    #[arg(long)]
    rounds: Option<u64>,
    /// The number of cases in a round, as a multiple of that in the tests.
    #[arg(long, default_value_t = 20)]
    factor: u32,
    /// Search only the properties of this package.
    #[arg(long)]
    package: Option<String>,
    /// Search only properties whose names contain this.
    filter: Option<String>,
}

/// A test executable, and the properties to run in it.
struct Properties {
    package: String,
    target: String,
    executable: PathBuf,
    directory: PathBuf,
    names: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut executables = executables(arguments)?;
    ensure!(!executables.is_empty(), "no property test matches");
    // The executables are copied, so that builds of the workspace do not change them in the meantime.
    let copies = root()?.join("target/search");
    fs::create_dir_all(&copies).with_context(|| format!("cannot make {}", copies.display()))?;
    for Properties { executable, .. } in &mut executables {
        let copy = copies.join(executable.file_name().context("an executable has a name")?);
        fs::copy(&*executable, &copy).with_context(|| format!("cannot copy {}", executable.display()))?;
        *executable = copy;
    }
    let start = Instant::now();
    let end = start + Duration::from_secs(60 * arguments.minutes);
    let first = match arguments.seed {
        Some(seed) => seed,
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
    };
    let mut failures = 0;
    for seed in first..first.saturating_add(arguments.rounds.unwrap_or(u64::MAX)) {
        for properties in &executables {
            if Instant::now() >= end {
                return report(start, failures);
            }
            failures += usize::from(!holds(properties, seed, arguments.factor)?);
        }
        println!("seed {seed}: tried every property, {} minutes passed", start.elapsed().as_secs() / 60);
    }
    report(start, failures)
}

fn report(start: Instant, failures: usize) -> Result<()> {
    println!("searched for {:.1} minutes", start.elapsed().as_secs_f64() / 60.0);
    ensure!(failures == 0, "{failures} runs failed");
    Ok(())
}

/// Runs properties with this seed, and prints the output of a failure.
fn holds(properties: &Properties, seed: u64, factor: u32) -> Result<bool> {
    let Properties { package, target, executable, directory, names } = properties;
    let output = Command::new(executable)
        .args(names)
        .current_dir(directory)
        .env("PROPTEST_RNG_SEED", seed.to_string())
        .env("NUMFORMER_CASES_FACTOR", factor.to_string())
        .env("RUST_BACKTRACE", "0")
        .output()
        .with_context(|| format!("cannot run {}", executable.display()))?;
    if !output.status.success() {
        println!("{package}, {target}: failed\n{}", String::from_utf8_lossy(&output.stdout));
        println!(
            "again with: cargo xtask search --seed {seed} --rounds 1 --factor {factor} --package {package}\n\
             A file in proptest-regressions keeps the case for the tests: commit it with what mends it.\n"
        );
    }
    Ok(output.status.success())
}

/// Builds the tests as the test command does, and finds the executables that have properties.
fn executables(arguments: &Arguments) -> Result<Vec<Properties>> {
    /// A line of cargo's output.
    #[derive(Deserialize)]
    struct Message {
        package_id: Option<String>,
        manifest_path: Option<PathBuf>,
        target: Option<Target>,
        executable: Option<PathBuf>,
        profile: Option<Profile>,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
        src_path: PathBuf,
    }
    #[derive(Deserialize)]
    struct Profile {
        test: bool,
    }

    let output = Command::new(env!("CARGO"))
        .args(["test", "--workspace", "--no-run", "--quiet", "--message-format", "json-render-diagnostics"])
        .current_dir(root()?)
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    ensure!(output.status.success(), "the tests do not build");
    let mut found = Vec::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let message: Message = serde_json::from_str(line).with_context(|| format!("not a message of cargo: {line}"))?;
        let Message {
            package_id: Some(id),
            manifest_path: Some(manifest),
            target: Some(target),
            executable: Some(executable),
            profile,
        } = message
        else {
            continue;
        };
        let directory = manifest.parent().context("a manifest has a directory")?.to_owned();
        let package = package_name(&id).with_context(|| format!("not the id of a package: {id}"))?.to_owned();
        if !profile.is_some_and(|profile| profile.test)
            || arguments.package.as_ref().is_some_and(|wanted| *wanted != package)
        {
            continue;
        }
        // A library has its properties in all files beside its root, a test in its own file.
        let is_library = target.src_path.file_name().is_some_and(|name| name == "lib.rs" || name == "main.rs");
        let sources = if is_library { rust_files(&directory.join("src"))? } else { vec![target.src_path] };
        let mut names = Vec::new();
        for source in sources {
            let text = fs::read_to_string(&source).with_context(|| format!("cannot read {}", source.display()))?;
            names.extend(property_names(&text).map(str::to_owned));
        }
        names.retain(|name| arguments.filter.as_ref().is_none_or(|wanted| name.contains(wanted)));
        if !names.is_empty() {
            found.push(Properties { package, target: target.name, executable, directory, names });
        }
    }
    Ok(found)
}

/// The name in an id such as `path+file:///checkout/crates/xtask#0.1.0` or `path+file:///checkout#numformer@0.1.0`.
fn package_name(id: &str) -> Option<&str> {
    let (path, version) = id.split_once('#')?;
    version.split_once('@').map(|(name, _)| name).or_else(|| path.rsplit('/').next())
}

/// The Rust files in a directory and below.
fn rust_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

/// The names of the tests in the blocks of proptest's macro.
fn property_names(source: &str) -> impl Iterator<Item = &str> {
    let mut end_of_block = None;
    source.lines().filter_map(move |line| {
        let indent = line.len() - line.trim_start().len();
        if line.trim() == "proptest! {" {
            end_of_block = Some(indent);
        } else if end_of_block == Some(indent) && line.trim() == "}" {
            end_of_block = None;
        } else if end_of_block.is_some_and(|outer| indent == outer + 4) {
            return line.trim_start().strip_prefix("fn ").and_then(|rest| rest.split('(').next());
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_known_by_their_names() {
        assert_eq!(package_name("path+file:///a/crates/numformer-ops#0.1.0"), Some("numformer-ops"));
        assert_eq!(package_name("path+file:///a/main#numformer@0.1.0"), Some("numformer"));
        assert_eq!(package_name("numformer"), None);
    }

    #[test]
    fn names_are_those_inside_the_macro() {
        let source = "
mod tests {
    fn before() {}
    proptest! {
        #![proptest_config(cases(3))]

        #[test]
        fn first(x in 0..3) {
            fn inner() {}
        }

        #[test]
        fn second(
            x in 0..3,
        ) {}
    }
    fn after() {}
}";
        assert_eq!(property_names(source).collect::<Vec<_>>(), ["first", "second"]);
    }

    /// A property without this configuration would try other cases on each run.
    #[test]
    fn every_property_has_the_common_configuration() {
        let root = root().expect("the workspace");
        let files = ["crates", "tests", "examples", "benches"]
            .map(|directory| rust_files(&root.join(directory)).expect("files"));
        let mut blocks = 0;
        for file in files.concat().iter().filter(|file| !file.ends_with("xtask/src/search.rs")) {
            let source = fs::read_to_string(file).expect("a file");
            let mut lines = source.lines().map(|line| line.trim().trim_start_matches("/// ").trim());
            while let Some(line) = lines.next() {
                if line == "proptest! {" {
                    blocks += 1;
                    let next = lines.next().unwrap_or_default();
                    assert!(next.starts_with("#![proptest_config(cases("), "{}: {next}", file.display());
                }
            }
        }
        assert!(blocks > 20, "{blocks}");
    }
}
