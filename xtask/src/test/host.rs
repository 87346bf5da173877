//! `cargo test` of every crate, on this machine.

use super::Counts;
use crate::util::{cargo, say, workspace};
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

/// Runs them; the counts are read from the test programs' own closing lines.
pub fn run() -> Result<Counts> {
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
            let result = closing_line(&line);
            // The many programs without a test are not worth a line.
            let is_noise =
                line.is_empty() || line == "running 0 tests" || result.is_some_and(|counts| counts.none());
            if !is_noise {
                println!("  {line}");
            }
            counts += result.unwrap_or_default();
        }
    }
    if !child.wait()?.success() && counts.failed == 0 {
        counts.failed += 1;
    }
    println!("host: {counts}");
    Ok(counts)
}

impl Counts {
    fn none(self) -> bool {
        self.passed + self.failed + self.skipped == 0
    }
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
    use super::closing_line;

    #[test]
    fn counts_come_from_the_closing_line() {
        let line = "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        let counts = closing_line(line).unwrap_or_default();
        assert_eq!((counts.passed, counts.failed, counts.skipped), (3, 2, 1));
        assert!(closing_line("running 3 tests").is_none());
    }
}
