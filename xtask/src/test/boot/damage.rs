//! Damaged and hostile initramfs archives: the kernel unpacks what it can, says what was wrong, and then either runs the first
//! program or panics because there is none. It never dies in another way.

use super::{Boots, console_lacks};
use crate::cpio::Archive;
use crate::qemu::{End, Outcome, Vm};
use crate::root::busybox;
use anyhow::Result;
use flate2::Compression;
use flate2::write::GzEncoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use std::io::Write;

/// What a case must come to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// The first program runs and switches the machine off.
    Runs,
    /// There is no program, and the kernel says so.
    NoInit,
    /// Either of these, or a damaged program that dies: it depends on where the damage has hit.
    Either,
}

const RAN: &str = "the first program ran";
const NO_INIT: &str = "No working init found";
const INIT_DIED: &str = "Attempted to kill init";
const INIT: &str =
    "#!/bin/busybox sh\n/bin/busybox echo the first program ran\nexec /bin/busybox poweroff -f\n";

const TRUNCATED: &str = "Initramfs unpacking failed: unexpected end of data";
const CORRUPT: &str = "Initramfs unpacking failed: data is corrupt";
const CHECKSUM: &str = "Initramfs unpacking failed: checksum does not match";
const UNKNOWN: &str = "Initramfs unpacking failed: unknown format";
const BAD_NAME: &str = "Initramfs unpacking failed: bad name in archive";
const PROBLEM: &str = "Initramfs unpacking failed: ";

/// Memory of these machines; the bomb does not fit.
const MEMORY_MIB: u32 = 96;

/// Runs them all.
pub(super) fn run(boots: &mut Boots<'_>) -> Result<()> {
    let plain = root()?;
    let gzipped = gzip(&plain)?;
    let zstd = compress_to_vec(plain.as_slice(), CompressionLevel::Fastest);
    for (name, bytes) in [("plain", &plain), ("gzip", &gzipped), ("zstd", &zstd)] {
        one(boots, &format!("initramfs {name} whole"), bytes, Expected::Runs, &[" entries, "])?;
    }
    cut(boots, &plain, &gzipped, &zstd)?;
    flipped(boots, &gzipped, &zstd)?;
    headers(boots, &plain)?;
    rubbish(boots)?;
    hostile_names(boots, &plain)?;
    bomb(boots, &plain)
}

/// One boot with these bytes as they are.
fn one(boots: &mut Boots<'_>, name: &str, initrd: &[u8], expected: Expected, says: &[&str]) -> Result<()> {
    boots.test(name, |vm| {
        let vm = Vm { initrd: initrd.to_vec(), cpus: 1, memory_mib: MEMORY_MIB, ..vm };
        let outcome = vm.run_bare()?;
        Ok((verdict(&outcome, expected, says), outcome))
    })
}

fn verdict(outcome: &Outcome, expected: Expected, says: &[&str]) -> Option<String> {
    let console = String::from_utf8_lossy(&outcome.console);
    if console.contains("Oops") {
        return Some("the kernel itself crashed".to_owned());
    }
    let ran = outcome.end == End::Vanished && console.contains(RAN);
    let panicked = outcome.end == End::Panicked;
    let good = match expected {
        Expected::Runs => ran,
        Expected::NoInit => panicked && console.contains(NO_INIT),
        Expected::Either => ran || panicked && (console.contains(NO_INIT) || console.contains(INIT_DIED)),
    };
    if !good {
        return Some(format!("{:?}, first program ran: {ran}", outcome.end));
    }
    console_lacks(outcome, says)
}

/// A root with BusyBox, a console and a first program that says so and ends the machine.
fn root() -> Result<Vec<u8>> {
    let mut archive = Archive::new();
    for folder in ["bin", "dev"] {
        archive.directory(folder, 0o755);
    }
    archive.character_device("dev/console", 0o600, 5, 1);
    archive.file("bin/busybox", 0o755, &std::fs::read(busybox::program()?)?);
    archive.file("init", 0o755, INIT.as_bytes());
    Ok(archive.finish())
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

fn cut(boots: &mut Boots<'_>, plain: &[u8], gzipped: &[u8], zstd: &[u8]) -> Result<()> {
    use Expected::{NoInit, Runs};
    let mut case = |name: &str, bytes: &[u8], length: usize, expected, says: &str| {
        one(boots, &format!("initramfs {name}"), &bytes[..length], expected, &[says])
    };
    case("plain cut in the first header", plain, 50, NoInit, TRUNCATED)?;
    case("plain cut in the first name", plain, 112, NoInit, TRUNCATED)?;
    case("plain cut in half", plain, plain.len() / 2, NoInit, TRUNCATED)?;
    case("gzip cut in its header", gzipped, 7, NoInit, PROBLEM)?;
    case("gzip cut in half", gzipped, gzipped.len() / 2, NoInit, TRUNCATED)?;
    case("gzip without its checksum", gzipped, gzipped.len() - 8, Runs, TRUNCATED)?;
    case("zstd cut in its header", zstd, 5, NoInit, PROBLEM)?;
    case("zstd cut in half", zstd, zstd.len() / 2, NoInit, TRUNCATED)
}

/// One bit of the compressed data turned over, at several places.
fn flipped(boots: &mut Boots<'_>, gzipped: &[u8], zstd: &[u8]) -> Result<()> {
    for (name, bytes) in [("gzip", gzipped), ("zstd", zstd)] {
        for eighth in 1..8 {
            let place = bytes.len() * eighth / 8;
            let mut damaged = bytes.to_vec();
            damaged[place] ^= 1 << (eighth % 8);
            let name = format!("initramfs {name} bit turned at {eighth} eighths");
            one(boots, &name, &damaged, Expected::Either, &[PROBLEM])?;
        }
    }
    let mut damaged = gzipped.to_vec();
    let checksum = damaged.len() - 8;
    damaged[checksum] ^= 1;
    one(boots, "initramfs gzip with a wrong checksum", &damaged, Expected::Runs, &[CHECKSUM])
}

/// Fields of the first header that say what cannot be: the offset of each in the header, and its new text.
fn headers(boots: &mut Boots<'_>, plain: &[u8]) -> Result<()> {
    for (name, offset, text, says) in [
        ("magic of another format", 0, "070707", CORRUPT),
        ("a digit that is none", 60, "g", CORRUPT),
        ("a type that is none", 14, "0000F1A4", CORRUPT),
        ("a body larger than all", 54, "FFFFFFFF", TRUNCATED),
        ("a name of no bytes", 94, "00000000", BAD_NAME),
        ("a name larger than all", 94, "FFFFFFFF", BAD_NAME),
        ("a name without an end", 94, "00000003", BAD_NAME),
    ] {
        let mut damaged = plain.to_vec();
        damaged[offset..offset + text.len()].copy_from_slice(text.as_bytes());
        one(boots, &format!("initramfs header with {name}"), &damaged, Expected::NoInit, &[says])?;
    }
    Ok(())
}

fn rubbish(boots: &mut Boots<'_>) -> Result<()> {
    let mut state = 1u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let random: Vec<u8> = std::iter::once(0xaa).chain((0..65536).map(|_| noise())).collect();
    let mut random_gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    random_gzip.extend_from_slice(&random[..4096]);
    let mut random_zstd = vec![0x28, 0xb5, 0x2f, 0xfd];
    random_zstd.extend_from_slice(&random[..4096]);
    one(boots, "initramfs of one byte", &[1], Expected::NoInit, &[UNKNOWN])?;
    one(boots, "initramfs of zeros", &[0; 4096], Expected::NoInit, &["0 entries"])?;
    one(boots, "initramfs of noise", &random, Expected::NoInit, &[UNKNOWN])?;
    one(boots, "initramfs of noise as gzip", &random_gzip, Expected::NoInit, &[PROBLEM])?;
    one(boots, "initramfs of noise as zstd", &random_zstd, Expected::NoInit, &[PROBLEM])
}

/// An archive with names nobody should use, and a good one after it, which must still work.
fn hostile_names(boots: &mut Boots<'_>, plain: &[u8]) -> Result<()> {
    let long = "n".repeat(300);
    let path = "d/".repeat(2000);
    let mut archive = Archive::new();
    for name in [
        "..",
        "../../up",
        "a/../../b",
        "/",
        "//",
        ".",
        "no/such/folder/x",
        "no/\u{1b}[2J\r\nforged",
        &long,
        &path,
    ] {
        archive.file(name, 0o644, b"hostile");
    }
    for (name, target) in [("loop", "loop"), ("bin", "/nowhere"), ("dev", "dev/dev")] {
        archive.symlink(name, target);
    }
    archive.file("loop/x", 0o644, b"hostile");
    archive.file("init/x", 0o644, b"hostile");
    archive.directory("init", 0o000);
    archive.character_device("mem", 0o666, u32::MAX, u32::MAX);
    let mut bytes = archive.finish();
    bytes.extend_from_slice(plain);
    one(
        boots,
        "initramfs with hostile names",
        &bytes,
        Expected::Runs,
        &["initramfs: ..: EINVAL", "no/\\x1b[2J\\r\\nforged: ENOENT"],
    )
}

/// A small archive with more in it than there is memory.
fn bomb(boots: &mut Boots<'_>, plain: &[u8]) -> Result<()> {
    let mut archive = Archive::new();
    archive.file("bomb", 0o644, &vec![0; 4 * MEMORY_MIB as usize * 1024 * 1024]);
    let mut bytes = archive.finish();
    bytes.extend_from_slice(plain);
    one(
        boots,
        "initramfs larger than memory",
        &gzip(&bytes)?,
        Expected::NoInit,
        &["Initramfs unpacking failed: out of memory"],
    )
}
