//! Commands that messages suggest to the user.

use std::path::Path;

/// A command on a path, quoted for a shell.
pub(crate) fn command(words: &[&str], path: &Path) -> String {
    let path = path.to_string_lossy();
    // A path that begins with a dash would be read as an option.
    let path = if path.starts_with('-') { format!("./{path}") } else { path.into_owned() };
    // Only a zero byte cannot be quoted, and a path has none.
    let quoted = shlex::try_quote(&path).map_or_else(|_| path.clone(), |quoted| quoted.into_owned());
    format!("{} {quoted}", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_the_path_as_one_word() {
        let paths = [
            "runs/transpose-3x3-seed0",
            "läufe mit Leerzeichen/x",
            "it's",
            "a\"b",
            "$HOME",
            "a;b",
            "`ls`",
            "a\\b",
            "a\nb",
            "*",
            "~",
            "!!",
            "#",
        ];
        for path in paths {
            let command = command(&["numformer", "resume"], Path::new(path));
            assert_eq!(shlex::split(&command).expect(path), ["numformer", "resume", path], "{command}");
        }
        // A path is quoted only if it needs to be.
        assert_eq!(command(&["numformer", "resume"], Path::new("runs/a-0")), "numformer resume runs/a-0");
        assert_eq!(command(&["numformer", "resume"], Path::new("--json")), "numformer resume ./--json");
    }
}
