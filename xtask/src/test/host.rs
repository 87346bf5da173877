//! `cargo test` of every crate, on this machine; the corpus of the fuzz targets; then the models of the locks under loom; `lib/` under Miri when asked for.

use super::Counts;
use crate::util::{cargo, say, target_sub, workspace};
use anyhow::{Context, Result};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// How often `--long` cuts the power under the journal's model.
const LONG_POWER_CUTS: &str = "20000";

/// Runs all of them.
pub fn run(long: bool) -> Result<Counts> {
    say("host tests");
    let mut command = cargo_test();
    command.args(["--workspace", "--exclude", "linnet", "--no-fail-fast"]);
    if long {
        command.env("LINNET_POWER_CUTS", LONG_POWER_CUTS);
    }
    let mut counts = count(&mut command)?;
    println!("host: {counts}");
    if long {
        say("the file system's long tests");
        let mut command = cargo_test();
        command.args(["--package", "linnet-ext4", "--lib", "--", "--ignored"]);
        counts += count(&mut command)?;
    }
    counts += corpus()?;
    counts += loom()?;
    println!("  skip Miri: it takes minutes; `cargo xtask test --miri`");
    counts.skipped += 1;
    Ok(counts)
}

/// What fuzzing has kept, and changes of it (`fuzz/`).
fn corpus() -> Result<Counts> {
    say("the fuzz targets over their corpus");
    let mut command = cargo_test();
    command.args(["--manifest-path", "fuzz/Cargo.toml", "--target-dir"]);
    let counts = count(command.arg(target_sub("fuzz")?))?;
    println!("fuzz: {counts}");
    Ok(counts)
}

/// Every interleaving of the machine's locks, within the bound that each model has (or `LOOM_MAX_PREEMPTIONS`).
fn loom() -> Result<Counts> {
    say("loom: every interleaving of the locks");
    let mut command = cargo_test();
    command
        .args(["--release", "--package", "linnet-loom", "--target-dir"])
        .arg(target_sub("loom")?)
        // Whole-program optimisation of so small a program costs more than it gains.
        .args(["--config", "profile.release.lto=false", "--config", "profile.release.codegen-units=16"])
        .env("RUSTFLAGS", "--cfg loom");
    let counts = count(&mut command)?;
    println!("loom: {counts}");
    Ok(counts)
}

/// `lib/` under Miri, which finds undefined behaviour also in crates from outside; skipped where no toolchain has it.
pub fn miri() -> Result<Counts> {
    say("Miri on lib/");
    let Some(toolchain) = ["", "+nightly"].into_iter().find(|toolchain| has_miri(toolchain)) else {
        println!(
            "  skip Miri: no toolchain has it (rustup toolchain install nightly --component miri,rust-src)"
        );
        return Ok(Counts { skipped: 1, ..Counts::default() });
    };
    let mut command = Command::new("cargo");
    command
        .args(Some(toolchain).filter(|toolchain| !toolchain.is_empty()))
        .args(["miri", "test", "--quiet", "--package", "linnet-lib", "--lib", "--target-dir"])
        .arg(target_sub("miri")?)
        // Miri is a thousand times slower than the processor; proptest writes down what failed in a file, which Miri forbids.
        .env("PROPTEST_CASES", "2")
        .env("MIRIFLAGS", "-Zmiri-disable-isolation")
        .env_remove("CARGO")
        .env_remove("RUSTUP_TOOLCHAIN");
    let counts = count(&mut command)?;
    println!("miri: {counts}");
    Ok(counts)
}

fn has_miri(toolchain: &str) -> bool {
    let mut command = Command::new("cargo");
    command.args(Some(toolchain).filter(|toolchain| !toolchain.is_empty())).args(["miri", "--version"]);
    let output = command.env_remove("RUSTUP_TOOLCHAIN").current_dir(workspace()).output();
    output.is_ok_and(|output| output.status.success())
}

/// A `cargo test`, with images of disks in memory where there is a folder for that.
fn cargo_test() -> Command {
    let mut command = cargo();
    command.args(["test", "--quiet"]);
    let memory = Path::new("/dev/shm");
    if std::env::var_os("TMPDIR").is_none() && memory.is_dir() {
        command.env("TMPDIR", memory);
    }
    command
}

/// Runs a `cargo test`; the counts are read from the test programs' own closing lines.
fn count(command: &mut Command) -> Result<Counts> {
    let mut child = command
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
            // One line for each program that has tests.
            let is_dots = line.bytes().all(|byte| matches!(byte, b'.' | b'i'));
            let is_noise =
                is_dots || line.starts_with("running ") || result.is_some_and(|counts| counts.none());
            if !is_noise {
                println!("  {line}");
            }
            counts += result.unwrap_or_default();
        }
    }
    if !child.wait()?.success() && counts.failed == 0 {
        counts.failed += 1;
    }
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
