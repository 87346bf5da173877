//! The kernel's command line: what the kernel takes, and what goes to the first program (kernel-parameters.txt).
//!
//! Words are separated by blanks; double quotes keep blanks. `name=value` that nobody knows goes to the environment of
//! the first program, a word without `=` and all after `--` to its arguments; names with a dot are for modules and are dropped.

use alloc::string::String;
use alloc::vec::Vec;

/// Parameters that some part of the kernel reads itself.
const KNOWN: [&str; 20] = [
    "console",
    "debug",
    "earlyprintk",
    "init",
    "initrd",
    "ignore_loglevel",
    "loglevel",
    "mitigations",
    "nokaslr",
    "oops",
    "panic",
    "quiet",
    "rdinit",
    "reboot",
    "ro",
    "root",
    "rootflags",
    "rootfstype",
    "rootwait",
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
    /// How many of `arguments` are parameters that the kernel did not know (the others came after `--`).
    unknown_arguments: usize,
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
            b"init" => self.init = Some(self.program(value)),
            b"rdinit" => self.initramfs_init = Some(self.program(value)),
            name if KNOWN.iter().any(|known| known.as_bytes() == name) || name.contains(&b'.') => {}
            _ if split.is_some() => self.environment.push(word),
            _ => {
                self.arguments.push(word);
                self.unknown_arguments += 1;
            }
        }
    }

    /// A program named on the line starts anew: arguments before it were for the default one (as Linux does it).
    fn program(&mut self, path: &[u8]) -> Vec<u8> {
        self.arguments.clear();
        self.unknown_arguments = 0;
        path.to_vec()
    }

    /// What the kernel did not know, for the log; `None` if it knew everything.
    pub fn unknown_words(&self) -> Option<String> {
        let words = self.arguments.iter().take(self.unknown_arguments).chain(&self.environment);
        let mut text = String::new();
        for word in words {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(&String::from_utf8_lossy(word));
        }
        (!text.is_empty()).then_some(text)
    }
}

/// The consoles that `console=` names, of the kinds that there can be here (serial ports and lines of the host), in order and without their options.
/// Allocates nothing.
pub fn consoles(line: &str) -> impl Iterator<Item = &str> {
    let own = line.split_ascii_whitespace().take_while(|word| *word != "--");
    let names = own.filter_map(|word| word.strip_prefix("console=")?.split(',').next());
    names.filter(|name| {
        ["ttyS", "hvc"].iter().any(|kind| {
            let number = name.strip_prefix(kind);
            number.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
        })
    })
}

/// Whether `word` stands in the kernel's part of the line, alone.
pub fn has_word(line: &str, word: &str) -> bool {
    words(line).iter().take_while(|other| *other != b"--").any(|other| other == word.as_bytes())
}

/// The value of a parameter of the kernel, the last one if there are several.
pub fn value(line: &str, name: &str) -> Option<Vec<u8>> {
    let own = words(line).into_iter().take_while(|other| *other != b"--");
    own.filter_map(|word| Some(word.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?.to_vec())).last()
}

/// Which of two words comes last, if any does: `true` for the first of them.
pub fn last_of(line: &str, one: &str, other: &str) -> Option<bool> {
    let own = words(line).into_iter().take_while(|word| *word != b"--");
    own.filter_map(|word| {
        let is_one = word == one.as_bytes();
        (is_one || word == other.as_bytes()).then_some(is_one)
    })
    .last()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consoles_are_named_in_order() {
        let names = |line| consoles(line).collect::<Vec<_>>();
        assert_eq!(
            names("quiet console=tty0 console=ttyS0,115200n8 console=hvc0 -- console=hvc1"),
            ["ttyS0", "hvc0"]
        );
        assert!(names("console= console=ttyS console=hvcx console xconsole=hvc0").is_empty());
    }
    use alloc::vec;
    use proptest::prelude::*;

    fn list(items: &[&str]) -> Vec<Vec<u8>> {
        items.iter().map(|item| item.as_bytes().to_vec()).collect()
    }

    /// The same line on Debian's Linux gave init these arguments and this environment, and this message.
    #[test]
    fn unknown_words_go_to_init_as_on_linux() {
        let line = CommandLine::parse(
            r#"console=ttyS0 quiet foo=bar baz quux.param=1 "a b=c d" x="y z" word -- arg1 "arg 2""#,
        );
        assert_eq!(line.arguments, list(&["baz", "word", "arg1", "arg 2"]));
        assert_eq!(line.environment, list(&["foo=bar", "a b=c d", "x=y z"]));
        assert_eq!(line.unknown_words().as_deref(), Some("baz word foo=bar a b=c d x=y z"));
    }

    #[test]
    fn known_words_stay_in_the_kernel() {
        let line = CommandLine::parse("console=ttyS0 panic=-1 nokaslr ro root=/dev/sda1 quiet -- only");
        assert_eq!(line.arguments, list(&["only"]));
        assert_eq!(line.environment, Vec::<Vec<u8>>::new());
        assert_eq!(line.unknown_words(), None);
    }

    #[test]
    fn a_named_program_forgets_the_arguments_before_it() {
        let line = CommandLine::parse("auto single=1 init=/bin/sh -x");
        assert_eq!(line.init.as_deref(), Some(&b"/bin/sh"[..]));
        assert_eq!(line.arguments, list(&["-x"]));
        assert_eq!(line.environment, list(&["single=1"]));
    }

    #[test]
    fn words_are_found_only_before_the_dashes() {
        assert!(has_word("a linnet.provoke b", "linnet.provoke"));
        assert!(!has_word("a linnet.provoked -- linnet.provoke", "linnet.provoke"));
    }

    #[test]
    fn values_are_the_last_ones() {
        let line = "root=/dev/vda ro root=UUID=a=b rw -- root=/dev/vdb ro";
        assert_eq!(value(line, "root").as_deref(), Some(&b"UUID=a=b"[..]));
        assert_eq!(value(line, "rootfstype"), None);
        assert_eq!(last_of(line, "rw", "ro"), Some(true));
        assert_eq!(last_of("", "rw", "ro"), None);
    }

    #[test]
    fn odd_lines_are_taken_apart_without_a_panic() {
        for line in
            ["", " ", "\"", "\"\"", "=", "==", "--", "-- --", "init", "init=", "a\"b c\"d", "é=ü ñ", "\t\n"]
        {
            let parsed = CommandLine::parse(line);
            assert!(parsed.arguments.len() + parsed.environment.len() <= 2, "{line:?}");
        }
        assert_eq!(CommandLine::parse("a\"b c\"d").arguments, vec![b"ab cd".to_vec()]);
    }

    proptest! {
        /// Every word goes somewhere or is dropped, none is made up, and a second reading of what is left is the same.
        #[test]
        fn survives_noise(line in "[ a-c=\".\\-\t]{0,60}|\\PC{0,60}") {
            let parsed = CommandLine::parse(&line);
            prop_assert!(parsed.arguments.len() + parsed.environment.len() <= words(&line).len());
            prop_assert!(parsed.environment.iter().all(|word| word.contains(&b'=')));
            let text = parsed.unknown_words();
            prop_assert_eq!(text.is_none(), parsed.unknown_arguments == 0 && parsed.environment.is_empty());
            let _ = has_word(&line, "a");
        }
    }
}
