//! Libraries of CUDA for the linker that load the real ones at the first call, so that a program built against them
//! starts on a machine without CUDA.
//!
//! candle links CUDA's libraries, and a program that is linked to a library does not start without it. The archives made
//! here have the same functions. Each is a jump to an address in a table, which leads at first to code that looks the
//! function up in the library, as the dynamic linker does for functions that it binds lazily. Where there is no such
//! library or function, every call returns the library's status for that.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// A library of CUDA.
struct Library {
    /// Its name for the linker.
    name: &'static str,
    /// Its files, in the order in which they are tried.
    files: &'static [&'static str],
    /// The module of cudarc that declares its functions.
    module: &'static str,
    /// What its functions return where it is missing.
    missing: u32,
}

const LIBRARIES: [Library; 6] = [
    // CUDA_ERROR_NO_DEVICE
    Library { name: "cuda", files: &["libcuda.so.1", "libcuda.so"], module: "driver", missing: 100 },
    // CUBLAS_STATUS_NOT_INITIALIZED
    Library { name: "cublas", files: &["libcublas.so.13", "libcublas.so.12"], module: "cublas", missing: 1 },
    Library { name: "cublasLt", files: &["libcublasLt.so.13", "libcublasLt.so.12"], module: "cublaslt", missing: 1 },
    // CURAND_STATUS_NOT_INITIALIZED
    Library { name: "curand", files: &["libcurand.so.10"], module: "curand", missing: 101 },
    // ncclSystemError
    Library { name: "nccl", files: &["libnccl.so.2"], module: "nccl", missing: 2 },
    // NVRTC_ERROR_INTERNAL_ERROR
    Library { name: "nvrtc", files: &["libnvrtc.so.13", "libnvrtc.so.12"], module: "nvrtc", missing: 11 },
];

/// Makes the archives in `folder`, with a runtime library that is linked into the program.
pub(crate) fn make(root: &Path, folder: &Path) -> Result<()> {
    ensure!(
        cfg!(all(target_arch = "x86_64", target_os = "linux")),
        "programs that load CUDA when they need it are made for Linux on x86-64: install the CUDA toolkit and set CUDA_HOME"
    );
    let sources = sources_of_cudarc(root)?;
    for library in &LIBRARIES {
        let declared = sources.join(library.module).join("sys/mod.rs");
        let text = fs::read_to_string(&declared).with_context(|| format!("cannot read {}", declared.display()))?;
        let functions = functions(&text);
        ensure!(!functions.is_empty(), "expected functions in {}, found none", declared.display());
        archive(folder, library, &functions)?;
    }
    let runtime = folder.join("libcudart_static.a");
    fs::copy(&runtime, folder.join("libcudart.a")).with_context(|| format!("cannot copy {}", runtime.display()))?;
    Ok(())
}

/// The folder of the sources of cudarc.
fn sources_of_cudarc(root: &Path) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(root)
        .args(["metadata", "--format-version", "1", "--locked", "--all-features"])
        .output()
        .context("cannot run cargo")?;
    ensure!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cannot read what cargo metadata says")?;
    let packages = metadata["packages"].as_array().map_or(&[][..], Vec::as_slice);
    let manifest =
        packages.iter().find(|package| package["name"] == "cudarc").and_then(|p| p["manifest_path"].as_str());
    let manifest = Path::new(manifest.context("expected cudarc among the packages of the workspace")?);
    Ok(manifest.parent().context("a manifest is in a folder")?.join("src"))
}

/// The names of the functions that a module declares.
fn functions(text: &str) -> Vec<&str> {
    let names = text.lines().filter_map(|line| line.trim_start().strip_prefix("pub unsafe fn ")?.split('(').next());
    // Helpers of cudarc itself have no prefix of a library.
    let mut names: Vec<_> =
        names.filter(|name| ["cu", "nvrtc", "nccl"].iter().any(|prefix| name.starts_with(prefix))).collect();
    names.retain(|name| *name != "culib");
    names.sort_unstable();
    names.dedup();
    names
}

fn archive(folder: &Path, library: &Library, functions: &[&str]) -> Result<()> {
    let name = library.name;
    let file = |suffix: &str| folder.join(format!("lazy_{name}{suffix}"));
    fs::write(file("_jumps.s"), jumps(name, functions))?;
    fs::write(file(".c"), resolver(library, functions))?;
    run(Command::new("cc").arg("-c").arg(file("_jumps.s")).arg("-o").arg(file("_jumps.o")))?;
    run(Command::new("cc").args(["-c", "-O2", "-fPIC", "-Wall"]).arg(file(".c")).arg("-o").arg(file(".o")))?;
    let archive = folder.join(format!("lib{name}.a"));
    if archive.exists() {
        fs::remove_file(&archive)?;
    }
    run(Command::new("ar").arg("rcs").arg(&archive).arg(file("_jumps.o")).arg(file(".o")))
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!("{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// A jump for each function, in the assembler of x86-64. The address of function i is in `slots[i]`; at first, that of
/// code which asks `resolve` for the function, with all registers that hold arguments kept.
fn jumps(library: &str, functions: &[&str]) -> String {
    let mut text = String::from("\t.text\n");
    for (i, function) in functions.iter().enumerate() {
        let slot = 8 * i;
        let _ = write!(
            text,
            "\t.globl {function}\n\t.type {function}, @function\n{function}:\n\tjmp *numformer_{library}_slots+{slot}(%rip)\n\
             .Lask_{i}:\n\tpush ${i}\n\tjmp .Lask\n"
        );
    }
    let general = ["rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10"];
    text += ".Lask:\n";
    for register in general {
        let _ = writeln!(text, "\tpush %{register}");
    }
    // The stack is a multiple of 16 bytes here: a return address, an index, eight registers.
    text += "\tsub $128, %rsp\n";
    for i in 0..8 {
        let _ = writeln!(text, "\tmovups %xmm{i}, {}(%rsp)", 16 * i);
    }
    // The index lies above the registers.
    let _ = write!(
        text,
        "\tmov {}(%rsp), %rdi\n\tcall numformer_{library}_resolve\n\tmov %rax, %r11\n",
        128 + 8 * general.len()
    );
    for i in 0..8 {
        let _ = writeln!(text, "\tmovups {}(%rsp), %xmm{i}", 16 * i);
    }
    text += "\tadd $128, %rsp\n";
    for register in general.iter().rev() {
        let _ = writeln!(text, "\tpop %{register}");
    }
    text += "\tadd $8, %rsp\n\tjmp *%r11\n";
    let _ = write!(
        text,
        "\t.data\n\t.align 8\n\t.globl numformer_{library}_slots\n\t.hidden numformer_{library}_slots\nnumformer_{library}_slots:\n"
    );
    for i in 0..functions.len() {
        let _ = writeln!(text, "\t.quad .Lask_{i}");
    }
    text += "\t.section .note.GNU-stack,\"\",@progbits\n";
    text
}

/// The C code that looks a function up.
fn resolver(library: &Library, functions: &[&str]) -> String {
    let Library { name, files, missing, .. } = library;
    let quoted = |names: &[&str]| names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    format!(
        "#define _GNU_SOURCE\n\
         #include <dlfcn.h>\n\
         #include <pthread.h>\n\
         #include <stddef.h>\n\
         #include <string.h>\n\
         static const char *const files[] = {{{files}}};\n\
         static const char *const names[] = {{{names}}};\n\
         extern void *numformer_{name}_slots[] __attribute__((visibility(\"hidden\")));\n\
         static void *library;\n\
         static pthread_once_t once = PTHREAD_ONCE_INIT;\n\
         static void load(void) {{\n\
         \x20 for (size_t i = 0; i < sizeof files / sizeof *files && !library; ++i) library = dlopen(files[i], RTLD_NOW | RTLD_LOCAL);\n\
         }}\n\
         static int missing(void) {{ return {missing}; }}\n\
         static const char *missing_text(void) {{ return \"the library was not found\"; }}\n\
         __attribute__((visibility(\"hidden\"))) void *numformer_{name}_resolve(size_t i) {{\n\
         \x20 pthread_once(&once, load);\n\
         \x20 void *found = library ? dlsym(library, names[i]) : NULL;\n\
         \x20 // These return a text, all others a status.\n\
         \x20 if (!found && (strstr(names[i], \"GetStatus\") || !strcmp(names[i], \"nvrtcGetErrorString\") || !strncmp(names[i], \"ncclGet\", 7) && strstr(names[i], \"Error\")))\n\
         \x20   found = (void *)missing_text;\n\
         \x20 if (!found) found = (void *)missing;\n\
         \x20 __atomic_store_n(&numformer_{name}_slots[i], found, __ATOMIC_RELEASE);\n\
         \x20 return found;\n\
         }}\n",
        files = quoted(files),
        names = quoted(functions),
    )
}

#[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
mod tests {
    use super::*;

    /// Runs a program linked to a lazy library of two functions, with the real library in a folder or without it.
    #[test]
    fn functions_are_found_at_the_first_call_or_say_that_they_are_missing() -> Result<()> {
        let folder = std::env::temp_dir().join(format!("numformer-lazy-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let library = Library { name: "probe", files: &["libnumformer_probe.so"], module: "", missing: 77 };
        archive(&folder, &library, &["cu_sum", "cu_unknown"])?;
        fs::write(
            folder.join("probe.c"),
            "double cu_sum(int a, double x, long b, long c, long d, long e, long f, float y) {\n\
             \x20 return a + b + c + d + e + f + x + y;\n}\n",
        )?;
        fs::write(
            folder.join("main.c"),
            "#include <stdio.h>\n\
             double cu_sum(int, double, long, long, long, long, long, float); int cu_unknown(void);\n\
             int status(int, double, long, long, long, long, long, float) __asm__(\"cu_sum\");\n\
             int main(int count, char **arguments) {\n\
             \x20 for (int i = 0; i < 2; ++i) {\n\
             \x20   if (count > 1) printf(\"%g \", cu_sum(1, 0.5, 2, 3, 4, 5, 6, 0.25f));\n\
             \x20   else printf(\"%d \", status(1, 0.5, 2, 3, 4, 5, 6, 0.25f));\n\
             \x20   printf(\"%d \", cu_unknown());\n\
             \x20 }\n\
             \x20 return 0;\n}\n",
        )?;
        let at = |name: &str| folder.join(name);
        run(Command::new("cc")
            .args(["-shared", "-fPIC"])
            .arg(at("probe.c"))
            .arg("-o")
            .arg(at("libnumformer_probe.so")))?;
        run(Command::new("cc").arg(at("main.c")).arg("-L").arg(&folder).arg("-lprobe").arg("-o").arg(at("main")))?;
        // The linker prefers a shared library of the same name; there is none.
        let said = |with: bool| -> Result<String> {
            let mut command = Command::new(at("main"));
            if with {
                command.arg("with").env("LD_LIBRARY_PATH", &folder);
            }
            Ok(String::from_utf8(command.output()?.stdout)?)
        };
        assert_eq!(said(true)?, "21.75 77 21.75 77 ");
        assert_eq!(said(false)?, "77 77 77 77 ");
        fs::remove_dir_all(&folder)?;
        Ok(())
    }

    #[test]
    fn functions_are_read_from_declarations() {
        let text = "pub unsafe fn cuInit(Flags: u32) -> CUresult {\n    fn cuInit(Flags: u32);\n}\npub unsafe fn is_culib_present() -> bool {\npub unsafe fn culib() -> X {\npub fn cuSafe() {}\n  pub unsafe fn nvrtcVersion(a: i32) {";
        assert_eq!(functions(text), ["cuInit", "nvrtcVersion"]);
    }
}
