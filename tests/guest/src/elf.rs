//! Mutated ELF files: an error, a signal or a run, and nothing else.

use crate::case::{Case, Outcome, case, long_case};
use crate::sys;
use crate::{ensure, ensure_eq};
use std::os::unix::fs::PermissionsExt;

/// The cases of this file.
pub const CASES: &[Case] = &[
    case("elf_smallest_program_runs", smallest),
    case("elf_interpreter_missing", interpreter),
    long_case("elf_10000_mutants", 300, mutants),
];

/// A small generator of pseudo-random numbers (xorshift64).
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

const BASE: u64 = 0x40_0000;

/// An ELF file of one segment (and, after it, a few spare headers) that exits with 42.
fn program(headers: &[[u64; 7]]) -> Vec<u8> {
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    file.extend([2, 0, 0x3e, 0, 1, 0, 0, 0]);
    for word in [BASE + 0x1000 - 16, 64, 0] {
        file.extend(u64::to_le_bytes(word));
    }
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, headers.len() as u8, 0, 64, 0, 0, 0, 0, 0]);
    for [kind_flags, offset, address, physical, file_size, memory_size, align] in headers {
        file.extend(
            [*kind_flags, *offset, *address, *physical, *file_size, *memory_size, *align]
                .map(u64::to_le_bytes)
                .concat(),
        );
    }
    file.resize(0x1000 - 16, 0x90);
    // mov edi, 42; mov eax, 60; syscall
    file.extend([0xbf, 42, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05, 0xf4, 0xf4, 0xf4, 0xf4]);
    file
}

const LOAD: [u64; 7] = [1 | 5 << 32, 0, BASE, BASE, 0x1000, 0x3000, 0x1000];
const STACK: [u64; 7] = [0x6474_e551 | 6 << 32, 0, 0, 0, 0, 0, 16];
const DATA: [u64; 7] = [1 | 6 << 32, 0, BASE + 0x10000, 0, 0x800, 0x4000, 0x1000];

/// Writes a program, runs it, returns the wait status; an exec that fails exits with 200.
fn run(path: &str, file: &[u8]) -> Result<i32, crate::case::Failure> {
    std::fs::write(path, file).map_err(|e| e.to_string())?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).map_err(|e| e.to_string())?;
    let name = sys::c(path);
    let arguments = [name.as_ptr(), std::ptr::null()];
    let limit = libc::rlimit { rlim_cur: 1, rlim_max: 1 };
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: null-terminated arrays of C strings, and rlimits.
    sys::wait(sys::fork(|| unsafe {
        libc::setrlimit(libc::RLIMIT_CPU, &raw const limit);
        libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
        libc::execve(name.as_ptr(), arguments.as_ptr(), arguments[1..].as_ptr());
        200
    })?)
}

fn smallest() -> Outcome {
    let path = format!("{}/program", sys::folder("el")?);
    let status = run(&path, &program(&[LOAD, STACK, DATA]))?;
    ensure_eq!(status, 42 << 8);
    Ok(())
}

fn interpreter() -> Outcome {
    let path = format!("{}/program", sys::folder("ei")?);
    let mut file = program(&[[3 | 4 << 32, 0x800, BASE, 0, 11, 11, 1], LOAD]);
    file[0x800..0x80b].copy_from_slice(b"/none/such\0");
    ensure_eq!(run(&path, &file)?, 200 << 8);
    Ok(())
}

fn mutants() -> Outcome {
    let path = format!("{}/program", sys::folder("em")?);
    let original = program(&[LOAD, STACK, DATA]);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let interesting = [0, 1, 0x7f, 0x80, 0xff, 0x1000, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];
    let high =
        [u64::MAX, u64::MAX - 0xfff, 1 << 63, 0x7fff_ffff_f000, 0x8000_0000_0000, 0xffff_8000_0000_0000];
    let (mut refused, mut killed, mut ran) = (0, 0, 0);
    for round in 0..10_000 {
        let mut file = original.clone();
        for _ in 0..=random.next() % 3 {
            // Every byte of the headers has its turn as the first of a field of 1, 2, 4 or 8 bytes.
            let at = if random.next().is_multiple_of(2) { round % 232 } else { random.next() as usize % 232 };
            let value = match random.next() % 3 {
                0 => random.next(),
                1 => interesting[random.next() as usize % interesting.len()],
                _ => high[random.next() as usize % high.len()],
            };
            let bytes = 1 << (random.next() % 4);
            file[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
        }
        if random.next().is_multiple_of(20) {
            file.truncate(random.next() as usize % file.len());
        }
        let status = run(&path, &file)?;
        match status {
            _ if libc::WIFSIGNALED(status) => killed += 1,
            _ if libc::WEXITSTATUS(status) == 200 => refused += 1,
            _ if libc::WEXITSTATUS(status) == 42 => ran += 1,
            _ => ensure!(false, "mutant {round} ended with {status:#x}"),
        }
    }
    ensure!(refused > 1000 && ran > 100, "{refused} refused, {killed} killed, {ran} ran");
    Ok(())
}
