//! The kernel's command line: what the kernel takes, and what goes to the first program (kernel-parameters.txt).
//!
//! Words are separated by blanks; double quotes keep blanks. `name=value` that nobody knows goes to the environment of
//! the first program, a word without `=` and all after `--` to its arguments; names with a dot are for modules and are dropped.

use alloc::vec::Vec;

/// Parameters that some part of the kernel reads itself.
const KNOWN: [&str; 16] = [
    "console",
    "debug",
    "earlyprintk",
    "init",
    "initrd",
    "ignore_loglevel",
    "loglevel",
    "mitigations",
    "nokaslr",
    "panic",
    "quiet",
    "rdinit",
    "reboot",
    "ro",
    "root",
    "rw",
];

/// The command line taken apart.
#[derive(Default)]
pub struct CommandLine {
    /// `init=`.
    pub init: Option<Vec<u8>>,
    /// `rdinit=`.
    pub initramfs_init: Option<Vec<u8>>,
    /// Arguments of the first program.
    pub arguments: Vec<Vec<u8>>,
    /// Its environment.
    pub environment: Vec<Vec<u8>>,
    /// What the kernel did not know.
    pub unknown: Vec<Vec<u8>>,
}

impl CommandLine {
    /// Takes `line` apart.
    pub fn parse(line: &str) -> CommandLine {
        let mut result = CommandLine::default();
        let mut for_init = false;
        for word in words(line) {
            if for_init {
                result.arguments.push(word);
            } else if word == b"--" {
                for_init = true;
            } else {
                result.take(word);
            }
        }
        result
    }

    fn take(&mut self, word: Vec<u8>) {
        let split = word.iter().position(|byte| *byte == b'=');
        let name = word.get(..split.unwrap_or(word.len())).unwrap_or_default();
        let value = split.and_then(|at| word.get(at + 1..)).unwrap_or_default();
        match name {
            b"init" => self.init = Some(value.to_vec()),
            b"rdinit" => self.initramfs_init = Some(value.to_vec()),
            name if KNOWN.iter().any(|known| known.as_bytes() == name) || name.contains(&b'.') => {}
            _ => {
                self.unknown.push(word.clone());
                if split.is_some() { self.environment.push(word) } else { self.arguments.push(word) }
            }
        }
    }
}

/// The words of a line, without their quotes.
fn words(line: &str) -> Vec<Vec<u8>> {
    let (mut all, mut word, mut quoted) = (Vec::new(), Vec::new(), false);
    for byte in line.bytes() {
        match byte {
            b'"' => quoted = !quoted,
            b' ' | b'\t' | b'\n' if !quoted => {
                if !word.is_empty() {
                    all.push(core::mem::take(&mut word));
                }
            }
            byte => word.push(byte),
        }
    }
    if !word.is_empty() {
        all.push(word);
    }
    all
}
