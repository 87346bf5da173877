//! Arguments and environment of a new program, and the picture of them on its first stack.
//!
//! [`Strings`] holds the collected strings within the limits of execve(2) ("Limits on size of arguments and
//! environment": a quarter of the stack limit, at most 6 MiB; 128 KiB for one string). [`StackImage`]
//! lays out what a program finds above its stack pointer: argc, the pointers, the auxiliary vector, the strings.
//! Pure; exec copies the result into the new address space.

use abi::errno::{Errno, Result};
use alloc::vec::Vec;

/// Longest single string, with its final zero.
pub const MAX_STRING: usize = 32 * 4096;
/// Most bytes of strings and pointers, whatever the stack limit.
pub const MAX_TOTAL: usize = 6 << 20;
/// What is allowed even with a tiny stack limit.
pub const MIN_TOTAL: usize = 32 * 4096;

/// A list of zero-terminated strings in one buffer.
#[derive(Default, Clone, Debug)]
pub struct Strings {
    bytes: Vec<u8>,
    count: usize,
}

impl Strings {
    /// An empty list.
    pub const fn new() -> Strings {
        Strings { bytes: Vec::new(), count: 0 }
    }

    /// Number of strings.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no string.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The strings, each with its final zero, one after the other.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What the list takes of the limit: bytes and one pointer for each string.
    pub fn cost(&self) -> usize {
        self.bytes.len() + self.count * size_of::<u64>()
    }

    /// Adds a string given without its final zero.
    ///
    /// # Errors
    /// E2BIG: longer than [`MAX_STRING`]. ENOMEM.
    pub fn push(&mut self, string: &[u8]) -> Result<()> {
        if string.len() >= MAX_STRING {
            return Err(Errno::E2BIG);
        }
        self.bytes.try_reserve(string.len() + 1).map_err(|_| Errno::ENOMEM)?;
        self.bytes.extend_from_slice(string);
        self.bytes.push(0);
        self.count += 1;
        Ok(())
    }

    /// The strings without their zeros.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes.as_slice();
        core::iter::from_fn(move || {
            let end = rest.iter().position(|&byte| byte == 0)?;
            let (string, after) = rest.split_at(end);
            rest = after.get(1..).unwrap_or(&[]);
            Some(string)
        })
    }

    /// Replaces the first `count` strings by `new`: what `#!` does to argv.
    ///
    /// # Errors
    /// E2BIG, ENOMEM.
    pub fn replace_first(&mut self, count: usize, new: &[&[u8]]) -> Result<()> {
        let mut list = Strings::new();
        for string in new {
            list.push(string)?;
        }
        for string in self.iter().skip(count) {
            list.push(string)?;
        }
        *self = list;
        Ok(())
    }
}

/// The most that arguments and environment may take together with a stack limit of `stack_limit` bytes.
pub fn total_limit(stack_limit: u64) -> usize {
    let quarter = usize::try_from(stack_limit / 4).unwrap_or(usize::MAX);
    quarter.clamp(MIN_TOTAL, MAX_TOTAL)
}

/// What goes to the top of a new stack.
#[derive(Debug)]
pub struct StackImage {
    /// The bytes; they end at `top` and start at `stack_pointer`.
    pub bytes: Vec<u8>,
    /// Address of the first byte: the new stack pointer, 16-byte aligned, argc at it.
    pub stack_pointer: u64,
    /// First byte of the first argument, for `/proc/PID/cmdline`.
    pub arguments_start: u64,
    /// After the last argument's zero; the environment starts there.
    pub arguments_end: u64,
    /// After the last environment string's zero.
    pub environment_end: u64,
}

/// What [`StackImage::build`] needs beside the strings.
#[derive(Debug)]
pub struct StackContents<'a> {
    /// Path the program was started by (`AT_EXECFN`).
    pub program_path: &'a [u8],
    /// argv.
    pub arguments: &'a Strings,
    /// envp.
    pub environment: &'a Strings,
    /// `AT_RANDOM`.
    pub random: [u8; 16],
    /// Auxiliary vector without the entries that point into the stack and without its end.
    pub auxiliary: &'a [(u64, u64)],
    /// Bytes of random padding below the strings, a multiple of 16.
    pub padding: usize,
}

const AT_NULL: u64 = 0;
const AT_PLATFORM: u64 = 15;
const AT_RANDOM: u64 = 25;
const AT_EXECFN: u64 = 31;
const PLATFORM: &[u8] = b"x86_64\0";

impl StackImage {
    /// Lays the stack out so that it ends at `top` (the address after the last byte of the stack).
    ///
    /// From the top down: eight zero bytes, the program's path, environment strings, argument strings, padding,
    /// the platform string, the random bytes, then aligned to 16: auxiliary vector, envp, argv, argc.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn build(top: u64, contents: &StackContents<'_>) -> Result<StackImage> {
        let path_at = top - 8 - (contents.program_path.len() as u64 + 1);
        let environment_at = path_at - contents.environment.bytes().len() as u64;
        let arguments_at = environment_at - contents.arguments.bytes().len() as u64;
        let platform_at = arguments_at - contents.padding as u64 - PLATFORM.len() as u64;
        let random_at = (platform_at & !15) - 16;
        let vector_entries = contents.auxiliary.len() + 4;
        let words = 1 + contents.arguments.len() + 1 + contents.environment.len() + 1 + 2 * vector_entries;
        let stack_pointer = (random_at - words as u64 * 8) & !15;

        let size = usize::try_from(top - stack_pointer).map_err(|_| Errno::ENOMEM)?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(size).map_err(|_| Errno::ENOMEM)?;
        push_word(&mut bytes, contents.arguments.len() as u64);
        push_pointers(&mut bytes, contents.arguments, arguments_at);
        push_pointers(&mut bytes, contents.environment, environment_at);
        let own = [(AT_RANDOM, random_at), (AT_EXECFN, path_at), (AT_PLATFORM, platform_at), (AT_NULL, 0)];
        for (key, value) in contents.auxiliary.iter().chain(&own) {
            push_word(&mut bytes, *key);
            push_word(&mut bytes, *value);
        }
        let mut put_at = |address: u64, string: &[u8]| {
            bytes.resize((address - stack_pointer) as usize, 0);
            bytes.extend_from_slice(string);
        };
        put_at(random_at, &contents.random);
        put_at(platform_at, PLATFORM);
        put_at(arguments_at, contents.arguments.bytes());
        put_at(environment_at, contents.environment.bytes());
        put_at(path_at, contents.program_path);
        bytes.resize(size, 0);
        Ok(StackImage {
            bytes,
            stack_pointer,
            arguments_start: arguments_at,
            arguments_end: environment_at,
            environment_end: path_at,
        })
    }
}

fn push_word(bytes: &mut Vec<u8>, word: u64) {
    bytes.extend_from_slice(&word.to_le_bytes());
}

/// The addresses of the strings, which start at `at`, and a final null.
fn push_pointers(bytes: &mut Vec<u8>, strings: &Strings, at: u64) {
    let mut address = at;
    for string in strings.iter() {
        push_word(bytes, address);
        address += string.len() as u64 + 1;
    }
    push_word(bytes, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(image: &StackImage, address: u64) -> u64 {
        let at = (address - image.stack_pointer) as usize;
        u64::from_le_bytes(image.bytes[at..at + 8].try_into().unwrap())
    }

    fn string(image: &StackImage, address: u64) -> &[u8] {
        let rest = &image.bytes[(address - image.stack_pointer) as usize..];
        rest.split(|&b| b == 0).next().unwrap()
    }

    #[test]
    fn a_program_finds_everything() {
        let mut arguments = Strings::new();
        let mut environment = Strings::new();
        arguments.push(b"ls").unwrap();
        arguments.push(b"").unwrap();
        arguments.push(b"-l").unwrap();
        environment.push(b"HOME=/").unwrap();
        let contents = StackContents {
            program_path: b"/bin/ls",
            arguments: &arguments,
            environment: &environment,
            random: [7; 16],
            auxiliary: &[(6, 4096)],
            padding: 32,
        };
        let image = StackImage::build(0x7fff_ffff_f000, &contents).unwrap();
        let sp = image.stack_pointer;
        assert_eq!(sp % 16, 0);
        assert_eq!(sp + image.bytes.len() as u64, 0x7fff_ffff_f000);
        assert_eq!(word(&image, sp), 3);
        assert_eq!(string(&image, word(&image, sp + 8)), b"ls");
        assert_eq!(string(&image, word(&image, sp + 16)), b"");
        assert_eq!(string(&image, word(&image, sp + 24)), b"-l");
        assert_eq!(word(&image, sp + 32), 0);
        assert_eq!(string(&image, word(&image, sp + 40)), b"HOME=/");
        assert_eq!(word(&image, sp + 48), 0);
        assert_eq!((word(&image, sp + 56), word(&image, sp + 64)), (6, 4096));
        let mut at = sp + 56;
        let mut seen = std::collections::BTreeMap::new();
        while word(&image, at) != AT_NULL {
            seen.insert(word(&image, at), word(&image, at + 8));
            at += 16;
        }
        assert_eq!(string(&image, seen[&AT_EXECFN]), b"/bin/ls");
        assert_eq!(string(&image, seen[&AT_PLATFORM]), b"x86_64");
        assert_eq!(word(&image, seen[&AT_RANDOM]), u64::from_ne_bytes([7; 8]));
        assert_eq!(image.arguments_end - image.arguments_start, 7);
    }

    #[test]
    fn limits() {
        assert_eq!(total_limit(8 << 20), 2 << 20);
        assert_eq!(total_limit(0), MIN_TOTAL);
        assert_eq!(total_limit(u64::MAX), MAX_TOTAL);
        let mut strings = Strings::new();
        assert_eq!(strings.push(&std::vec![b'x'; MAX_STRING]), Err(Errno::E2BIG));
        assert!(strings.push(&std::vec![b'x'; MAX_STRING - 1]).is_ok());
    }

    #[test]
    fn a_script_replaces_its_first_argument() {
        let mut strings = Strings::new();
        strings.push(b"x").unwrap();
        strings.push(b"y").unwrap();
        strings.replace_first(1, &[b"/bin/sh", b"-e", b"/tmp/x"]).unwrap();
        let all: std::vec::Vec<_> = strings.iter().collect();
        assert_eq!(all, [&b"/bin/sh"[..], b"-e", b"/tmp/x", b"y"]);
    }
}
