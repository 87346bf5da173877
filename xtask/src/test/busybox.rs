//! The command lines of `tests/busybox/commands`, compared byte by byte with what they gave on Linux.
//!
//! Every line is run by a fresh shell in one working folder; its output and status are recorded. A line that
//! begins with `~ ` has something in its output that differs from run to run (a time, a process id): there,
//! digits are masked and spaces are squeezed.

use super::Counts;
use crate::qemu::{End, Input, Vm, keep_console};
use crate::util::{say, target_sub, workspace};
use anyhow::{Context, Result};
use std::fmt::Write;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(600);
const FOLDER: &str = "tests/busybox";

/// One command line and what came of it.
#[derive(PartialEq, Eq)]
struct Line {
    command: String,
    /// Output and status, as in `expected.txt`.
    result: String,
}

/// Runs all lines; `record` makes their results the expected ones.
pub fn run(vm: &Vm, record: bool) -> Result<Counts> {
    let folder = workspace().join(FOLDER);
    let commands = std::fs::read(folder.join("commands")).context("reading the command lines")?;
    let driver = std::fs::read(folder.join("driver")).context("reading the driver")?;
    say("BusyBox command lines");
    let files = [
        ("/busybox-test/commands".to_owned(), 0o644, commands),
        ("/busybox-test/driver".to_owned(), 0o755, driver),
    ];
    let mut output = Vec::new();
    let mut vm = vm.clone();
    vm.timeout = Some(LIMIT);
    let outcome =
        vm.run_command(&["/busybox-test/driver".to_owned()], &files, Input::Null, &mut |bytes| {
            output.extend_from_slice(bytes);
            Ok(())
        })?;
    let lines = parse(&String::from_utf8_lossy(&output));
    let mut counts = Counts::default();
    if outcome.end != End::Exited(0) {
        let log = keep_console("busybox", &outcome.console)?;
        println!("  FAIL the run itself: {:?}; the console is in {}", outcome.end, log.display());
        counts.failed += 1;
    }
    let expected_path = folder.join("expected.txt");
    if record {
        std::fs::write(&expected_path, show(&lines))?;
        say(format_args!("recorded {} lines in {}", lines.len(), expected_path.display()));
    }
    let expected =
        read_shown(&std::fs::read_to_string(&expected_path).context("reading tests/busybox/expected.txt")?);
    std::fs::write(target_sub("busybox")?.join("actual.txt"), show(&lines))?;
    for (index, line) in expected.iter().enumerate() {
        match lines.get(index) {
            Some(actual) if actual == line => counts.passed += 1,
            actual => {
                counts.failed += 1;
                let actual = actual.map_or("(not reached)", |line| &line.result);
                println!(
                    "  FAIL $ {}\n    on Linux:\n{}    here:\n{}",
                    line.command,
                    indent(&line.result),
                    indent(actual)
                );
            }
        }
    }
    println!("busybox: {counts}");
    Ok(counts)
}

/// Reads the driver's output: `@@begin COMMAND`, the output, `@@end STATUS`.
fn parse(output: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    for piece in output.split("@@begin ").skip(1) {
        let (command, rest) = piece.split_once('\n').unwrap_or((piece, ""));
        let (text, status) = rest.rsplit_once("\n@@end ").unwrap_or((rest, "none"));
        let masks = command.starts_with("~ ");
        let mut result = String::new();
        for line in text.lines() {
            let line = if masks { mask(line) } else { visible(line) };
            let _ = writeln!(result, "{line}");
        }
        let _ = writeln!(result, "= {}", status.trim());
        lines.push(Line { command: command.to_owned(), result });
    }
    lines
}

/// Digits become N, runs of blanks one blank.
fn mask(line: &str) -> String {
    let mut masked = String::new();
    for c in line.trim_end().chars() {
        let c = match c {
            '0'..='9' => 'N',
            '\t' => ' ',
            other => other,
        };
        if !((c == 'N' || c == ' ') && masked.ends_with(c)) {
            masked.push(c);
        }
    }
    masked
}

/// What is not printable is written as an escape, so that the record is a text file.
fn visible(line: &str) -> String {
    line.chars().fold(String::new(), |mut text, c| {
        if c.is_control() && c != '\t' {
            let _ = write!(text, "\\x{:02x}", c as u32);
        } else {
            text.push(c);
        }
        text
    })
}

fn show(lines: &[Line]) -> String {
    lines.iter().fold(String::new(), |text, line| text + "$ " + &line.command + "\n" + &indent(&line.result))
}

fn indent(text: &str) -> String {
    text.lines().fold(String::new(), |all, line| all + "    " + line + "\n")
}

fn read_shown(text: &str) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            lines.push(Line { command: command.to_owned(), result: String::new() });
        } else if let Some(last) = lines.last_mut() {
            last.result.push_str(line.get(4..).unwrap_or_default());
            last.result.push('\n');
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_read_again() {
        let lines = parse("@@begin echo a\na\n\n@@end 0\n@@begin ~ ps\n  12  34\n\n@@end 1\n");
        assert_eq!(lines[0].result, "a\n= 0\n");
        assert_eq!(lines[1].result, " N N\n= 1\n");
        assert!(read_shown(&show(&lines)) == lines);
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(visible("a\x1b[0m\tb"), "a\\x1b[0m\tb");
    }
}
