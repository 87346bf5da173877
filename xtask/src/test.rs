//! `cargo xtask test`: host tests, then guest tests. Ends with `N passed, N failed, N skipped`.

use crate::util::{cargo, say, workspace};
use anyhow::{Context, Result};
use clap::Args;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

/// What `cargo xtask test` takes.
#[derive(Args)]
pub struct TestArguments {}

/// How many tests ended how.
#[derive(Clone, Copy, Default)]
pub struct Counts {
    /// As they should.
    pub passed: u64,
    /// Otherwise.
    pub failed: u64,
    /// Not run, for a reason that was told.
    pub skipped: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(to, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// `cargo xtask test`.
pub fn command(_arguments: &TestArguments) -> Result<u8> {
    let mut all = Counts::default();
    all += host()?;
    println!("{all}");
    Ok(u8::from(all.failed > 0))
}

/// `cargo test` of every crate; the counts are read from the test programs' own closing lines.
fn host() -> Result<Counts> {
    say("host tests");
    let mut child = cargo()
        .args(["test", "--quiet", "--workspace", "--exclude", "linnet", "--no-fail-fast"])
        .current_dir(workspace())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting cargo test")?;
    let mut counts = Counts::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            counts += closing_line(&line).unwrap_or_default();
            println!("  {line}");
        }
    }
    if !child.wait()?.success() && counts.failed == 0 {
        counts.failed += 1;
    }
    println!("host: {counts}");
    Ok(counts)
}

/// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
fn closing_line(line: &str) -> Option<Counts> {
    let rest = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let mut counts = Counts::default();
    for part in rest.split("; ") {
        let (number, what) = part.split_once(' ')?;
        let Ok(number) = number.parse() else { continue };
        match what {
            "passed" => counts.passed = number,
            "failed" => counts.failed = number,
            "ignored" => counts.skipped = number,
            _ => {}
        }
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_come_from_the_closing_line() {
        let line = "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        let counts = closing_line(line).unwrap_or_default();
        assert_eq!((counts.passed, counts.failed, counts.skipped), (3, 2, 1));
        assert!(closing_line("running 3 tests").is_none());
    }
}
