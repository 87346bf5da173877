//! Which crate may use which, and which crates from outside there are.
//!
//! An arrow must point to a strictly lower layer, so a crate in `fs/` or `drivers/` can use neither `syscall`
//! nor a sibling. Everything may use `abi`; `abi` and `lib` use nothing of ours (but `lib` may use `abi`).

use super::{Verdict, members, metadata};
use crate::util::workspace;
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;

/// The height of a folder's crate, 0 at the bottom.
fn layer(folder: &str) -> Option<u32> {
    Some(match folder {
        "abi" => 0,
        "lib" | "machine/loom" => 1,
        "machine" => 2,
        "kernel/security" | "kernel/sched" | "kernel/trace" | "kernel/device" | "kernel/channel" => 3,
        "kernel/mm" => 4,
        "kernel/vfs" => 5,
        "kernel/ipc" | "kernel/net" | "kernel/block" => 6,
        "kernel/task" => 7,
        "kernel/syscall" => 8,
        "image" => 9,
        _ if folder.starts_with("fs/") || folder.starts_with("drivers/") => 8,
        _ => return None,
    })
}

/// Fails on an arrow that does not point down.
pub fn arrows() -> Result<Verdict> {
    let metadata = metadata()?;
    let members = members(&metadata);
    let mut wrong = Vec::new();
    let mut count = 0;
    for (name, folder, package) in &members {
        if folder == "xtask" {
            continue;
        }
        let from = layer(folder).with_context(|| format!("{folder} has no layer in check/layers.rs"))?;
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            // A dev-dependency cannot reach the kernel; tests may put crates together as they like.
            if dependency["kind"] == "dev" {
                continue;
            }
            let Some((_, used, _)) = members.iter().find(|(name, _, _)| dependency["name"] == name.as_str())
            else {
                continue;
            };
            count += 1;
            if layer(used).is_none_or(|to| to >= from) {
                wrong.push(format!("{name} uses {used}"));
            }
        }
    }
    if wrong.is_empty() {
        return Ok(Verdict::Fine(format!("{count} arrows point down")));
    }
    bail!("{}", wrong.join(", "))
}

/// Every crate from outside that one of ours names must be explained in `docs/dependencies.md`.
pub fn dependencies_listed() -> Result<Verdict> {
    let text = std::fs::read_to_string(workspace().join("docs/dependencies.md"))?;
    let metadata = metadata()?;
    let members = members(&metadata);
    let mut used = BTreeSet::new();
    for (_, _, package) in &members {
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            if let (Some(name), false) = (dependency["name"].as_str(), dependency["source"].is_null()) {
                used.insert(name.to_owned());
            }
        }
    }
    let missing: Vec<_> =
        used.iter().filter(|name| !text.contains(&format!("| `{name}` |"))).cloned().collect();
    if missing.is_empty() {
        return Ok(Verdict::Fine(format!("{} crates from outside", used.len())));
    }
    bail!("docs/dependencies.md does not say what for: {}", missing.join(", "))
}

/// Licences that a program under MIT or Apache-2.0 can be made with.
const ALLOWED: [&str; 12] = [
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "Unlicense",
    "CC0-1.0",
    "Unicode-3.0",
    "BSL-1.0",
];

/// Every package of `Cargo.lock` comes from crates.io under a licence of the list.
pub fn licences() -> Result<Verdict> {
    let metadata = metadata()?;
    let mut wrong = Vec::new();
    let mut count = 0;
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let Some(source) = package["source"].as_str() else { continue };
        count += 1;
        let name = package["name"].as_str().unwrap_or_default();
        if source != "registry+https://github.com/rust-lang/crates.io-index" {
            wrong.push(format!("{name} is from {source}"));
        }
        let licence = package["license"].as_str().unwrap_or_default();
        if !is_allowed(licence) {
            wrong.push(format!("{name} has the licence {licence:?}"));
        }
    }
    if wrong.is_empty() {
        return Ok(Verdict::Fine(format!("{count} packages")));
    }
    bail!("{}", wrong.join(", "))
}

/// Evaluates an SPDX expression without nested parentheses: AND of ORs, or OR of ANDs.
fn is_allowed(expression: &str) -> bool {
    let text = expression.replace('/', " OR ");
    if let Some(inner) = text.split_once('(').and_then(|(before, rest)| {
        let (inside, after) = rest.split_once(')')?;
        let value = if is_allowed(inside) { "MIT" } else { "not-allowed" };
        Some(format!("{before}{value}{after}"))
    }) {
        return is_allowed(&inner);
    }
    text.split(" OR ").any(|side| side.split(" AND ").all(|one| ALLOWED.contains(&one.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licence_expressions() {
        assert!(is_allowed("MIT OR Apache-2.0"));
        assert!(is_allowed("MIT/Apache-2.0"));
        assert!(is_allowed("(MIT OR Apache-2.0) AND Unicode-3.0"));
        assert!(is_allowed("GPL-3.0 OR MIT"));
        assert!(!is_allowed("GPL-3.0"));
        assert!(!is_allowed("MIT AND GPL-2.0"));
        assert!(!is_allowed(""));
    }

    #[test]
    fn siblings_are_on_one_layer() {
        assert_eq!(layer("fs/tmpfs"), layer("drivers/tty"));
        assert_eq!(layer("fs/tmpfs"), layer("kernel/syscall"));
        assert!(layer("somewhere").is_none());
    }
}
