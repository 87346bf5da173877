//! The cases of `tests/guest`: one static program, run in the guest, one line for each case.
//!
//! When the kernel dies, the case that ran is blamed, and a new machine goes on with the cases after it.

use super::Counts;
use super::gaps::Gaps;
use crate::qemu::{End, Input, Vm, keep_console};
use crate::util::{say, workspace};
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

const PROGRAM: &str = "/usr/bin/guest-tests";
/// For all cases together, and with the long ones.
const LIMIT: Duration = Duration::from_secs(900);
const LONG_LIMIT: Duration = Duration::from_secs(6 * 3600);
/// A kernel that dies more often is not worth the time.
const MOST_BOOTS: usize = 8;

/// Runs the cases whose name contains a filter; `record` keeps the names of those that pass. The options are the program's.
pub fn run(vm: &Vm, filter: &[String], options: &[String], record: bool) -> Result<Counts> {
    let program = crate::guest::build("tests/guest", "guest-tests")?;
    say("guest tests");
    let on_linux = if record { None } else { Some(read_record()?) };
    let files = [(PROGRAM.to_owned(), 0o755, program)];
    let mut vm = vm.clone();
    vm.timeout = Some(if options.iter().any(|word| word == "--long") { LONG_LIMIT } else { LIMIT });
    let mut report = Report {
        gaps: Gaps::read(record)?,
        on_linux,
        counts: Counts::default(),
        passed: BTreeSet::new(),
        done: BTreeSet::new(),
        running: None,
    };
    let mut wanted = filter.to_vec();
    for boot in 1..=MOST_BOOTS {
        let mut rest = String::new();
        let words: Vec<String> = [&[PROGRAM.to_owned()], options, wanted.as_slice()].concat();
        let outcome = vm.run_command(&words, &files, Input::Null, &mut |bytes| {
            rest.push_str(&String::from_utf8_lossy(bytes));
            while let Some((line, after)) = rest.split_once('\n') {
                report.read(line.trim_end());
                rest = after.to_owned();
            }
            Ok(())
        })?;
        if matches!(outcome.end, End::Exited(0 | 1)) {
            break;
        }
        let log = keep_console(&format!("guest-tests-{boot}"), &outcome.console)?;
        let why = format!("the machine ended: {:?}; its console is in {}", outcome.end, log.display());
        let Some(blamed) = report.running.take() else {
            println!("  FAIL the run itself: {why}");
            report.counts.failed += 1;
            break;
        };
        report.failed(&blamed, &why);
        let all = report.on_linux.clone().unwrap_or_default();
        let matches =
            |name: &String| filter.is_empty() || filter.iter().any(|part| name.contains(part.as_str()));
        wanted = all
            .iter()
            .filter(|name| matches(name) && !report.done.contains(*name))
            .map(|name| format!("={name}"))
            .collect();
        if wanted.is_empty() {
            break;
        }
        if boot == MOST_BOOTS {
            println!("  FAIL {} cases were not reached", wanted.len());
            report.counts.failed += wanted.len() as u64;
        }
    }
    if record {
        keep_record(&report)?;
    }
    println!("guest: {}", report.counts);
    Ok(report.counts)
}

/// What has been said about the cases so far.
struct Report {
    gaps: Gaps,
    on_linux: Option<BTreeSet<String>>,
    counts: Counts,
    passed: BTreeSet<String>,
    done: BTreeSet<String>,
    running: Option<String>,
}

impl Report {
    /// Reads one line of the guest's report.
    fn read(&mut self, line: &str) {
        let (verdict, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (name, why) = rest.split_once(": ").unwrap_or((rest, ""));
        match verdict {
            "run" => {
                self.running = Some(name.to_owned());
                return;
            }
            "ok" | "skip" | "FAIL" if self.running.as_deref() == Some(name) => {}
            _ => return println!("  {line}"),
        }
        self.running = None;
        self.done.insert(name.to_owned());
        match verdict {
            "ok" if self.on_linux.as_ref().is_some_and(|names| !names.contains(name)) => {
                println!(
                    "  FAIL {name}: not in linux-passed.txt, so it proves nothing (test --record-linux)"
                );
                self.counts.failed += 1;
            }
            "ok" => {
                self.gaps.note_pass(name);
                self.passed.insert(name.to_owned());
                self.counts.passed += 1;
            }
            "skip" => {
                println!("  {line}");
                self.counts.skipped += 1;
            }
            _ => self.failed(name, why),
        }
    }

    fn failed(&mut self, name: &str, why: &str) {
        self.done.insert(name.to_owned());
        if self.gaps.contains(name) {
            println!("  skip {name}: a known gap ({why})");
            self.counts.skipped += 1;
        } else {
            println!("  FAIL {name}: {why}");
            self.counts.failed += 1;
        }
    }
}

/// Writes what passed on Linux. A case that did not run (a filter, a long one) keeps its line.
fn keep_record(report: &Report) -> Result<()> {
    let mut names = read_record()?;
    names.retain(|name| !report.done.contains(name));
    names.extend(report.passed.iter().cloned());
    let text = names.iter().fold(String::new(), |text, name| text + name + "\n");
    std::fs::write(record_path(), text)?;
    say(format_args!("recorded {} cases in {}", report.passed.len(), record_path().display()));
    Ok(())
}

fn record_path() -> PathBuf {
    workspace().join("tests/guest/linux-passed.txt")
}

fn read_record() -> Result<BTreeSet<String>> {
    let path = record_path();
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(text.lines().map(str::to_owned).collect())
}
