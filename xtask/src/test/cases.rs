//! The cases of `tests/guest`: one static program, run in the guest, one line for each case.

use super::Counts;
use crate::qemu::{End, Input, Vm, keep_console};
use crate::util::{say, workspace};
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

const PROGRAM: &str = "/usr/bin/guest-tests";
/// For all cases together.
const LIMIT: Duration = Duration::from_secs(900);

/// Runs the cases whose name contains a filter; `record` keeps the names of those that pass.
pub fn run(vm: &Vm, filter: &[String], record: bool) -> Result<Counts> {
    let program = crate::guest::build("tests/guest", "guest-tests")?;
    say("guest tests");
    let passed_on_linux = if record { None } else { Some(read_record()?) };
    let files = [(PROGRAM.to_owned(), 0o755, program)];
    let mut counts = Counts::default();
    let mut passed = BTreeSet::new();
    let mut rest = String::new();
    let mut words = vec![PROGRAM.to_owned()];
    words.extend(filter.iter().cloned());
    let mut vm = vm.clone();
    vm.timeout = Some(LIMIT);
    let outcome = vm.run_command(&words, &files, Input::Null, &mut |bytes| {
        rest.push_str(&String::from_utf8_lossy(bytes));
        while let Some((line, after)) = rest.split_once('\n') {
            judge(line, passed_on_linux.as_ref(), &mut counts, &mut passed);
            rest = after.to_owned();
        }
        Ok(())
    })?;
    if !matches!(outcome.end, End::Exited(0 | 1)) {
        let log = keep_console("guest-tests", &outcome.console)?;
        println!("  FAIL the run itself: {:?}; the console is in {}", outcome.end, log.display());
        counts.failed += 1;
    }
    if let Some(names) = passed_on_linux.filter(|_| filter.is_empty()) {
        let missing = names.iter().filter(|name| !passed.contains(*name)).count() as u64;
        println!("  {missing} of the {} cases that pass on Linux did not pass here", names.len());
    }
    if record && filter.is_empty() {
        let text = passed.iter().fold(String::new(), |text, name| text + name + "\n");
        std::fs::write(record_path(), text)?;
        say(format_args!("recorded {} cases in {}", passed.len(), record_path().display()));
    }
    println!("guest: {counts}");
    Ok(counts)
}

/// Reads one line of the guest's report.
fn judge(
    line: &str,
    on_linux: Option<&BTreeSet<String>>,
    counts: &mut Counts,
    passed: &mut BTreeSet<String>,
) {
    let Some((verdict, rest)) = line.split_once(' ') else { return println!("  {line}") };
    let name = rest.split(':').next().unwrap_or(rest);
    match verdict {
        "ok" if on_linux.is_some_and(|names| !names.contains(name)) => {
            println!(
                "  FAIL {name}: not in linux-passed.txt, so it proves nothing (cargo xtask test --record-linux)"
            );
            counts.failed += 1;
        }
        "ok" => {
            passed.insert(name.to_owned());
            counts.passed += 1;
        }
        "skip" => {
            println!("  {line}");
            counts.skipped += 1;
        }
        "FAIL" => {
            println!("  {line}");
            counts.failed += 1;
        }
        _ => println!("  {line}"),
    }
}

fn record_path() -> PathBuf {
    workspace().join("tests/guest/linux-passed.txt")
}

fn read_record() -> Result<BTreeSet<String>> {
    let path = record_path();
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(text.lines().map(str::to_owned).collect())
}
