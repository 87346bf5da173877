//! The scenes of `tests/terminal`: someone at the serial console types, and sees byte for byte what Linux showed.
//!
//! A scene is `NAME.scene`; `NAME.expected` is the transcript that `--record-linux` made of it: all that came out of the
//! console from the first prompt to the last thing waited for. One machine per scene, so that none sees another's
//! jobs. Each line of a scene is a step ([`Step`]); what is sent next is sent only after what was waited for has
//! come, so that a transcript does not depend on speed.
//!
//! ```text
//! # a comment
//! type TEXT       the bytes; escapes: ^C ^[ ^^ \r \n \\
//! enter TEXT      the same and the Enter key
//! wait TEXT       until TEXT (same escapes) has come, counted from the last thing waited for
//! prompt          until the shell's prompt has come
//! pause MS        for a program to be at work; for what the transcript must not depend on
//! # console hvc0  on the first line: the console is virtio-console's (and Linux is Debian's ordinary kernel)
//! hide, show      what comes between does not go into the transcript
//! mask digits     from here on numbers are written as N and blanks are squeezed; `mask off` ends it
//! ```

use super::Counts;
use crate::kernel::Profile;
use crate::linux::Flavour;
use crate::qemu::{Console, ConsoleLine, Vm};
use crate::root::Root;
use crate::run::{Kernel, machine_with};
use crate::util::{say, target_sub, workspace};
use anyhow::{Context, Result, bail};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const FOLDER: &str = "tests/terminal";
/// How long to wait for a text; only a failing scene waits that long.
const LIMIT: Duration = Duration::from_secs(60);
const PROMPT: &str = "# ";

/// One line of a scene.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Send(Vec<u8>),
    Wait(Vec<u8>),
    Pause(Duration),
    Show(Shown),
}

/// How output goes into the transcript.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Exactly,
    Masked,
    Not,
}

/// Runs the scenes whose name contains one of `filter` (all if there is none); `record` makes their transcripts the
/// expected ones.
pub fn run(vm: &Vm, kernel: &Kernel, filter: &[String], record: bool) -> Result<Counts> {
    say("scenes at the terminal");
    let gaps = super::gaps::Gaps::read(record)?;
    let mut counts = Counts::default();
    for path in scenes()? {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if !filter.is_empty() && !filter.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        let steps = parse(&text).with_context(|| format!("{}", path.display()))?;
        let vm = if text.starts_with("# console hvc0\n") { with_virtio(vm, kernel)? } else { vm.clone() };
        let (transcript, missing) = play(&vm, &steps)?;
        std::fs::write(target_sub("terminal")?.join(format!("{name}.actual")), &transcript)?;
        let expected = path.with_extension("expected");
        match judge(&expected, &transcript, missing, record)? {
            None => {
                gaps.note_pass(&format!("terminal {name}"));
                counts.passed += 1;
            }
            Some(_) if gaps.contains(&format!("terminal {name}")) => {
                println!("  skip terminal {name}: a known gap");
                counts.skipped += 1;
            }
            Some(why) => {
                println!("  FAIL terminal {name}: {why}");
                counts.failed += 1;
            }
        }
    }
    println!("terminal: {counts}");
    Ok(counts)
}

/// The same machine with the other console.
fn with_virtio(vm: &Vm, kernel: &Kernel) -> Result<Vm> {
    let mut vm = Vm { console: ConsoleLine::Virtio, ..vm.clone() };
    if *kernel == Kernel::Linux {
        let linux = machine_with(kernel, Profile::Release, &Root::Busybox, Flavour::Generic)?;
        (vm.kernel, vm.initrd) = (linux.kernel, linux.initrd);
    }
    Ok(vm)
}

fn scenes() -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(workspace().join(FOLDER)).context("reading tests/terminal")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "scene") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// What is wrong with a transcript; recording keeps one that waited for nothing in vain.
fn judge(expected: &Path, transcript: &str, missing: Option<String>, record: bool) -> Result<Option<String>> {
    if let Some(missing) = missing {
        let end: Vec<&str> = transcript.lines().rev().take(6).collect();
        let end = end.into_iter().rev().collect::<Vec<_>>().join("\n    ");
        return Ok(Some(format!("waited in vain for {missing}; the last lines:\n    {end}")));
    }
    if record {
        std::fs::write(expected, transcript)?;
        return Ok(None);
    }
    let Ok(expected) = std::fs::read_to_string(expected) else {
        return Ok(Some("not recorded on Linux yet".to_owned()));
    };
    Ok((expected != transcript).then(|| first_difference(&expected, transcript)))
}

fn first_difference(expected: &str, actual: &str) -> String {
    let same = expected.lines().zip(actual.lines()).take_while(|(one, other)| one == other).count();
    let line = |text: &str| text.lines().nth(same).unwrap_or("(the end)").to_owned();
    format!("line {}\n    on Linux: {}\n    here:     {}", same + 1, line(expected), line(actual))
}

/// Boots, plays the scene, and returns the transcript and what was waited for in vain.
fn play(vm: &Vm, steps: &[Step]) -> Result<(String, Option<String>)> {
    let mut player = Player {
        console: vm.start_with_console()?,
        received: Vec::new(),
        matched: 0,
        shown: Shown::Not,
        transcript: String::new(),
    };
    if !player.wait(PROMPT.as_bytes())? {
        return Ok((visible(&player.received), Some("the first prompt".to_owned())));
    }
    player.shown = Shown::Exactly;
    for step in steps {
        match step {
            Step::Send(bytes) => player.console.send(bytes)?,
            Step::Pause(time) => std::thread::sleep(*time),
            Step::Show(shown) => player.shown = *shown,
            Step::Wait(text) => {
                if !player.wait(text)? {
                    player.shown = Shown::Exactly;
                    player.note(player.received.len());
                    return Ok((player.transcript, Some(visible(text))));
                }
            }
        }
    }
    Ok((player.transcript, None))
}

/// One scene being played.
struct Player {
    console: Console,
    received: Vec<u8>,
    /// Up to where `received` has been waited for and noted.
    matched: usize,
    shown: Shown,
    transcript: String,
}

impl Player {
    /// Waits for `text`, and notes all up to its end.
    fn wait(&mut self, text: &[u8]) -> Result<bool> {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(at) = find(&self.received[self.matched..], text) {
                self.note(self.matched + at + text.len());
                return Ok(true);
            }
            let now = Instant::now();
            if now >= deadline || !self.console.receive(&mut self.received, deadline - now)? {
                return Ok(false);
            }
        }
    }

    /// Puts the received bytes up to `end` into the transcript.
    fn note(&mut self, end: usize) {
        // The shell asks a terminal where its cursor is only when no key is waiting: that depends on speed.
        let text = visible(&self.received[self.matched..end]).replace("\\x1b[6n", "");
        self.matched = end;
        match self.shown {
            Shown::Exactly => self.transcript.push_str(&text),
            Shown::Masked => self.transcript.push_str(&mask(&text)),
            Shown::Not => {}
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// Bytes as text, one line for each newline; all but printable ASCII is escaped.
fn visible(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        match byte {
            b'\n' => text.push_str("\\n\n"),
            b'\r' => text.push_str("\\r"),
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(*byte)),
            other => {
                let _ = write!(text, "\\x{other:02x}");
            }
        }
        text
    })
}

/// Numbers become N, runs of blanks one blank.
fn mask(text: &str) -> String {
    let mut masked = String::new();
    for c in text.chars() {
        let c = if c.is_ascii_digit() { 'N' } else { c };
        if !((c == 'N' || c == ' ') && masked.ends_with(c)) {
            masked.push(c);
        }
    }
    masked
}

fn parse(text: &str) -> Result<Vec<Step>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines.map(|(index, line)| step(line).with_context(|| format!("line {}", index + 1))).collect()
}

fn step(line: &str) -> Result<Step> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    Ok(match (word, rest) {
        ("type", text) => Step::Send(unescape(text)?),
        ("enter", text) => Step::Send([unescape(text)?, vec![b'\r']].concat()),
        ("wait", text) if !text.is_empty() => Step::Wait(unescape(text)?),
        ("prompt", "") => Step::Wait(PROMPT.as_bytes().to_vec()),
        ("pause", ms) => Step::Pause(Duration::from_millis(ms.parse()?)),
        ("hide", "") => Step::Show(Shown::Not),
        ("show" | "mask", "" | "off") => Step::Show(Shown::Exactly),
        ("mask", "digits") => Step::Show(Shown::Masked),
        _ => bail!("{line:?} is no step"),
    })
}

/// `^C` is Control-C, `^[` Escape, `^?` Delete, `^^` a caret; `\r`, `\n`, `\\`, `\xNN` as in a string.
fn unescape(text: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let escaped = match byte {
            b'^' | b'\\' => rest.next().with_context(|| format!("{text:?} ends in an escape"))?,
            _ => 0,
        };
        bytes.push(match (byte, escaped) {
            (b'^', b'^') => b'^',
            (b'^', key @ b'?'..=b'_') => key ^ 0x40,
            (b'\\', b'r') => b'\r',
            (b'\\', b'n') => b'\n',
            (b'\\', b'\\') => b'\\',
            (b'\\', b'x') => {
                let digits: String = rest.by_ref().take(2).map(char::from).collect();
                u8::from_str_radix(&digits, 16)?
            }
            (b'^' | b'\\', _) => bail!("{text:?}: an unknown escape"),
            (plain, _) => plain,
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scene_is_read() -> Result<()> {
        let steps =
            parse("# hello\nenter cat\n\ntype a^C^[\\x41\nwait \\r\\n\nprompt\nmask digits\npause 5\n")?;
        let expected = [
            Step::Send(b"cat\r".to_vec()),
            Step::Send(b"a\x03\x1bA".to_vec()),
            Step::Wait(b"\r\n".to_vec()),
            Step::Wait(b"# ".to_vec()),
            Step::Show(Shown::Masked),
            Step::Pause(Duration::from_millis(5)),
        ];
        assert_eq!(steps, expected);
        assert!(parse("walk away").is_err() && parse("type ^").is_err() && parse("wait").is_err());
        Ok(())
    }

    #[test]
    fn a_transcript_is_text_that_says_every_byte() {
        assert_eq!(visible(b"a\\\r\n\x1b[J\xff"), "a\\\\\\r\\n\n\\x1b[J\\xff");
        assert_eq!(mask("[12]   pid 345"), "[N] pid N");
    }
}
