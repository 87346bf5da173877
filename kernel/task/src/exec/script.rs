//! The first line of a script: `#!interpreter [argument]` (execve(2), "Interpreter scripts"). Pure.
//!
//! The kernel looks at the first 256 bytes of the file. The rest of the line after the interpreter is one single
//! argument, with blanks cut off at both ends. A line that does not end within those bytes is accepted only
//! when the interpreter's name surely did.

/// How many bytes of a file decide its format.
pub const HEAD_SIZE: usize = 256;

/// A parsed `#!` line.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Script<'a> {
    /// Path of the interpreter, not empty.
    pub interpreter: &'a [u8],
    /// Its one optional argument.
    pub argument: Option<&'a [u8]>,
}

/// What the head of a file says.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Parsed<'a> {
    /// No `#!`: some other format.
    NotAScript,
    /// `#!` without a usable interpreter: ENOEXEC.
    Malformed,
    /// A script.
    Script(Script<'a>),
}

const fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// Parses the first bytes of a file, at most [`HEAD_SIZE`]; fewer means that the file is that short.
pub fn parse(head: &[u8]) -> Parsed<'_> {
    let head = head.get(..HEAD_SIZE).unwrap_or(head);
    let Some(rest) = head.strip_prefix(b"#!") else { return Parsed::NotAScript };
    let complete = rest.iter().position(|&byte| byte == b'\n');
    let line = complete.map_or(rest, |end| &rest[..end]);
    let line = line.split(|&byte| byte == 0).next().unwrap_or(line);
    let ended = complete.is_some() || head.len() < HEAD_SIZE || line.len() < rest.len();
    let start = line.iter().position(|&byte| !is_blank(byte)).unwrap_or(line.len());
    let line = &line[start..];
    if line.is_empty() {
        return Parsed::Malformed;
    }
    let Some(end) = line.iter().position(|&byte| is_blank(byte)) else {
        if !ended {
            return Parsed::Malformed;
        }
        return Parsed::Script(Script { interpreter: line, argument: None });
    };
    let interpreter = &line[..end];
    let argument = line[end..].trim_ascii();
    Parsed::Script(Script { interpreter, argument: (!argument.is_empty()).then_some(argument) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn script<'a>(interpreter: &'a [u8], argument: Option<&'a [u8]>) -> Parsed<'a> {
        Parsed::Script(Script { interpreter, argument })
    }

    #[test]
    fn lines_as_linux_reads_them() {
        assert_eq!(parse(b"\x7fELF"), Parsed::NotAScript);
        assert_eq!(parse(b"#!/bin/sh\necho"), script(b"/bin/sh", None));
        assert_eq!(parse(b"#! \t/bin/sh  -e x \t\n"), script(b"/bin/sh", Some(b"-e x")));
        assert_eq!(parse(b"#!/bin/sh"), script(b"/bin/sh", None));
        assert_eq!(parse(b"#!\n/bin/sh"), Parsed::Malformed);
        assert_eq!(parse(b"#!   \n"), Parsed::Malformed);
        assert_eq!(parse(b"#!"), Parsed::Malformed);
    }

    #[test]
    fn a_name_that_is_cut_off_is_refused() {
        let mut long = std::vec![b'a'; 300];
        long[..3].copy_from_slice(b"#!/");
        assert_eq!(parse(&long), Parsed::Malformed);
        long[100] = b' ';
        let Parsed::Script(found) = parse(&long) else { panic!("not a script") };
        assert_eq!(found.interpreter.len(), 98);
        assert_eq!(found.argument.map(<[u8]>::len), Some(HEAD_SIZE - 101));
    }

    proptest! {
        /// Whatever the bytes: a script has an interpreter without blanks, from the first line, and an argument without blanks
        /// at its ends.
        #[test]
        fn survives_noise(noise in proptest::collection::vec(prop_oneof![Just(b' '), Just(b'\n'), Just(0), Just(b'/'), any::<u8>()], 0..300)) {
            prop_assert!(noise.starts_with(b"#!") || parse(&noise) == Parsed::NotAScript);
            let head = [b"#!", noise.as_slice()].concat();
            if let Parsed::Script(script) = parse(&head) {
                let line = head.split(|byte| *byte == b'\n').next().unwrap();
                prop_assert!(!script.interpreter.is_empty() && !script.interpreter.iter().any(|byte| is_blank(*byte)));
                prop_assert!(line.windows(script.interpreter.len()).any(|part| part == script.interpreter));
                prop_assert!(script.argument.is_none_or(|argument| !argument.is_empty() && argument.trim_ascii() == argument));
            }
        }
    }
}
