//! Rules about the text of the sources.

use super::Verdict;
use crate::util::{files_below, output, workspace};
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every file says at its top what it is.
pub fn heads() -> Result<Verdict> {
    let files = rust_files();
    let mut missing = Vec::new();
    for path in &files {
        let text = std::fs::read_to_string(path)?;
        if !text.lines().find(|line| !line.trim().is_empty()).is_some_and(|line| line.starts_with("//!")) {
            missing.push(shown(path));
        }
    }
    if missing.is_empty() {
        return Ok(Verdict::Fine(format!("{} files", files.len())));
    }
    bail!("no //! head: {}", missing.join(", "))
}

/// Only `machine` has unsafe code; says how much. Programs of the guest and of the development machine
/// (`tests/`, `bench/`, `xtask/`) are not part of the kernel and are not bound by this.
pub fn unsafe_code() -> Result<Verdict> {
    let root = workspace();
    let mut wrong = Vec::new();
    for path in rust_files() {
        let below = shown(&path);
        let is_root = below.ends_with("/src/lib.rs") || below.ends_with("/src/main.rs");
        if !is_root || ["machine/", "tests/", "bench/", "xtask/"].iter().any(|dir| below.starts_with(dir)) {
            continue;
        }
        if !std::fs::read_to_string(&path)?.lines().any(|line| line.trim() == "#![forbid(unsafe_code)]") {
            wrong.push(below);
        }
    }
    if !wrong.is_empty() {
        bail!("no #![forbid(unsafe_code)]: {}", wrong.join(", "));
    }
    let (mut lines, mut unsafe_lines) = (0, 0);
    for path in files_below(&root.join("machine"), "rs") {
        let text = std::fs::read_to_string(path)?;
        lines += text.lines().count();
        unsafe_lines += text.lines().filter(|line| has_word_unsafe(line)).count();
    }
    Ok(Verdict::Fine(format!("machine/ has {lines} lines, {unsafe_lines} of them say unsafe")))
}

/// Whether a line of code, not of comment, has the keyword.
fn has_word_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe")
}

/// Lists what is marked as missing.
pub fn stubs() -> Result<Verdict> {
    let mut found = Vec::new();
    for path in rust_files() {
        if shown(&path).starts_with("xtask/") {
            continue;
        }
        for (number, line) in std::fs::read_to_string(&path)?.lines().enumerate() {
            if line.contains("stub!(")
                && !line.trim_start().starts_with("//")
                && !line.contains("macro_rules")
            {
                found.push(format!("\n        {}:{}: {}", shown(&path), number + 1, line.trim()));
            }
        }
    }
    Ok(Verdict::Fine(format!("{} known gaps{}", found.len(), found.concat())))
}

/// No tracked file names the place where it was written.
pub fn names_of_this_machine() -> Result<Verdict> {
    let Ok(tracked) = output(Command::new("git").args(["ls-files", "-z"]).current_dir(workspace())) else {
        return Ok(Verdict::Skipped("not a git work tree".to_owned()));
    };
    let mut names = vec![workspace().to_string_lossy().into_owned()];
    for variable in ["CARGO_HOME", "RUSTUP_HOME", "HOME"] {
        // `/root` is a folder of the guest, too.
        names.extend(std::env::var(variable).ok().filter(|value| value.len() > 6));
    }
    names.extend(std::fs::read_to_string("/etc/hostname").map(|name| name.trim().to_owned()));
    names.retain(|name| name.len() > 6 && name != "localhost");
    let mut found = Vec::new();
    for file in tracked.split('\0').filter(|name| !name.is_empty()) {
        let Ok(bytes) = std::fs::read(workspace().join(file)) else { continue };
        let text = String::from_utf8_lossy(&bytes);
        found.extend(names.iter().filter(|name| text.contains(*name)).map(|name| format!("{file}: {name}")));
    }
    if found.is_empty() {
        return Ok(Verdict::Fine(String::new()));
    }
    bail!("{}", found.join(", "))
}

fn rust_files() -> Vec<PathBuf> {
    files_below(&workspace(), "rs")
}

fn shown(path: &Path) -> String {
    path.strip_prefix(workspace()).unwrap_or(path).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::has_word_unsafe;

    #[test]
    fn the_keyword_is_told_from_names_and_comments() {
        assert!(has_word_unsafe("    unsafe { f() }"));
        assert!(has_word_unsafe("#[unsafe(no_mangle)]"));
        assert!(!has_word_unsafe("#![forbid(unsafe_code)]"));
        assert!(!has_word_unsafe("// unsafe is not used"));
    }
}
