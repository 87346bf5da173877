//! Transcripts: long series of system calls (`tests/guest/src/transcript/`), each section's lines compared byte by byte
//! with what the same program noted on Linux (`tests/transcripts/linux.txt`).

use super::Counts;
use super::gaps::Gaps;
use crate::qemu::{End, Input, Vm, keep_console};
use crate::util::{say, target_sub, workspace};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::time::Duration;

const PROGRAM: &str = "/usr/bin/guest-tests";
const LIMIT: Duration = Duration::from_secs(600);
const RECORD: &str = "tests/transcripts/linux.txt";
/// So many lines of a section that differ are shown.
const SHOWN: usize = 12;

/// A section's lines, by its name.
type Sections = BTreeMap<String, Vec<String>>;

/// Runs the sections whose name contains a filter; `record` keeps what came out as the truth.
pub fn run(vm: &Vm, filter: &[String], record: bool) -> Result<Counts> {
    say("transcripts");
    let program = crate::guest::build("tests/guest", "guest-tests")?;
    let mut counts = Counts::default();
    let actual = on_guest(vm, filter, &program, &mut counts)?;
    let path = workspace().join(RECORD);
    if record {
        // What differs from run to run is no truth.
        let again = on_guest(vm, filter, &program, &mut counts)?;
        if let Some((name, _)) = actual.iter().find(|(name, lines)| again.get(*name) != Some(lines)) {
            bail!("{name} is different in each run:\n{}", differences(&actual[name], &again[name]));
        }
        let mut all = std::fs::read_to_string(&path).map(|text| parse(&text)).unwrap_or_default();
        all.extend(actual.clone());
        std::fs::write(&path, show(&all))?;
        say(format_args!("recorded {} sections in {RECORD}", actual.len()));
    }
    let expected = parse(&std::fs::read_to_string(&path).with_context(|| format!("reading {RECORD}"))?);
    std::fs::write(target_sub("transcripts")?.join("actual.txt"), show(&actual))?;
    let gaps = Gaps::read(record)?;
    let wanted = |name: &String| filter.is_empty() || filter.iter().any(|part| name.contains(part.as_str()));
    for (name, lines) in expected.iter().filter(|(name, _)| wanted(name)) {
        match actual.get(name) {
            Some(here) if here == lines => {
                gaps.note_pass(name);
                counts.passed += 1;
            }
            _ if gaps.contains(name) => {
                println!("  skip {name}: a known gap");
                counts.skipped += 1;
            }
            Some(here) => {
                counts.failed += 1;
                println!("  FAIL {name}:\n{}", differences(lines, here));
            }
            None => {
                counts.failed += 1;
                println!("  FAIL {name}: not reached");
            }
        }
    }
    for name in actual.keys().filter(|name| !expected.contains_key(*name)) {
        println!("  skip {name}: not recorded on Linux yet");
        counts.skipped += 1;
    }
    println!("transcripts: {counts}");
    Ok(counts)
}

fn on_guest(vm: &Vm, filter: &[String], program: &[u8], counts: &mut Counts) -> Result<Sections> {
    let files = [(PROGRAM.to_owned(), 0o755, program.to_vec())];
    let words: Vec<String> =
        [PROGRAM, "--transcripts"].map(str::to_owned).into_iter().chain(filter.iter().cloned()).collect();
    let mut vm = vm.clone();
    vm.timeout = Some(LIMIT);
    let mut output = Vec::new();
    let outcome = vm.run_command(&words, &files, Input::Null, &mut |bytes| {
        output.extend_from_slice(bytes);
        Ok(())
    })?;
    if outcome.end != End::Exited(0) {
        let log = keep_console("transcripts", &outcome.console)?;
        println!("  FAIL the run itself: {:?}; the console is in {}", outcome.end, log.display());
        counts.failed += 1;
    }
    Ok(parse(&String::from_utf8_lossy(&output)))
}

fn parse(text: &str) -> Sections {
    let mut sections = Sections::new();
    for piece in text.split("## ").skip(1) {
        let (name, rest) = piece.split_once('\n').unwrap_or((piece, ""));
        let lines = rest.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
        sections.insert(name.trim().to_owned(), lines);
    }
    sections
}

fn show(sections: &Sections) -> String {
    sections
        .iter()
        .fold(String::new(), |text, (name, lines)| text + "## " + name + "\n" + &lines.join("\n") + "\n\n")
}

/// The first lines that differ, with their numbers.
fn differences(linux: &[String], here: &[String]) -> String {
    let mut text = String::new();
    let mut shown = 0;
    for index in 0..linux.len().max(here.len()) {
        let (on_linux, on_this) = (linux.get(index), here.get(index));
        if on_linux == on_this {
            continue;
        }
        shown += 1;
        if shown > SHOWN {
            text += "    and more\n";
            break;
        }
        let or_none = |line: Option<&String>| line.map_or("(nothing)", |line| line.as_str()).to_owned();
        text +=
            &format!("    {:3} Linux {}\n        here  {}\n", index + 1, or_none(on_linux), or_none(on_this));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_read_again() {
        let sections = parse("## a\none = 1\ntwo\n\n## b\nthree\n");
        assert_eq!(sections["a"], ["one = 1", "two"]);
        assert_eq!(parse(&show(&sections)), sections);
    }
}
