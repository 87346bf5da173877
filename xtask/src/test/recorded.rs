//! Commands whose output and status are compared byte by byte with what they gave on Linux.
//!
//! A driver in the guest runs them one after the other and prints `@@begin COMMAND`, the output, `@@end STATUS`. What begins with
//! `~ ` has something in its output that differs from run to run (a time, a process id): there, digits are masked and
//! spaces are squeezed. Used by `busybox` (command lines) and `debian` (scripts).

use super::Counts;
use super::gaps::Gaps;
use crate::qemu::{End, Outcome, keep_console};
use crate::util::{say, target_sub};
use anyhow::{Context, Result};
use std::fmt::Write;
use std::path::Path;

/// One command line and what came of it.
#[derive(Clone, PartialEq, Eq)]
struct Line {
    command: String,
    /// Output and status, as in `expected.txt`.
    result: String,
}

/// Compares what a run gave with the record at `expected_path`, or makes it the record. `family` names the run in messages and
/// its files below the target folder; `wanted` says which commands were asked for.
pub fn judge(
    family: &str,
    (output, outcome): (&[u8], &Outcome),
    expected_path: &Path,
    record: bool,
    wanted: impl Fn(&str) -> bool,
) -> Result<Counts> {
    let lines = parse(&String::from_utf8_lossy(output));
    let mut counts = Counts::default();
    if outcome.end != End::Exited(0) {
        let log = keep_console(family, &outcome.console)?;
        println!("  FAIL the run itself: {:?}; the console is in {}", outcome.end, log.display());
        counts.failed += 1;
    }
    let read = || {
        let text = std::fs::read_to_string(expected_path);
        text.with_context(|| format!("reading {}", expected_path.display())).map(|text| read_shown(&text))
    };
    if record {
        // What was not asked for stays as it is recorded.
        let mut all: Vec<Line> = read().unwrap_or_default();
        all.retain(|line| !wanted(&line.command));
        let recorded = lines.len();
        all.extend(lines.iter().cloned());
        std::fs::write(expected_path, show(&all))?;
        say(format_args!("recorded {recorded} in {}", expected_path.display()));
    }
    std::fs::write(target_sub(family)?.join("actual.txt"), show(&lines))?;
    let gaps = Gaps::read(record)?;
    for line in read()?.iter().filter(|line| wanted(&line.command)) {
        let gap = format!("$ {}", line.command);
        match lines.iter().find(|actual| actual.command == line.command) {
            Some(actual) if actual == line => {
                gaps.note_pass(&gap);
                counts.passed += 1;
            }
            _ if gaps.contains(&gap) => {
                println!("  skip {gap}: a known gap");
                counts.skipped += 1;
            }
            actual => {
                counts.failed += 1;
                let actual = actual.map_or("(not reached)", |line| &line.result);
                println!(
                    "  FAIL {gap}\n    on Linux:\n{}    here:\n{}",
                    indent(&line.result),
                    indent(actual)
                );
            }
        }
    }
    println!("{family}: {counts}");
    Ok(counts)
}

/// Reads the driver's output.
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
