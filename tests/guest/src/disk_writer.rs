//! The writer whose machine is killed (`xtask/src/test/disks/power.rs`).
//!
//! `--disk-writer write FOLDER SEED FIRST` does one step after the other, numbered from FIRST, and prints `kept NUMBER` when `fsync` has
//! promised a step; `--disk-writer check FOLDER SEED LAST` finds out whether the steps up to LAST are as they were promised. What a step
//! leaves follows from the seed and its number, so nothing but these numbers need be remembered.
//! `--disk-writer failing FILE OFFSET` writes where the disk is known to fail.

use crate::disk_tree::Random;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A step's file goes away so many steps later, so that the disk does not fill up.
const LIFETIME: u64 = 100;
/// The writer may be so many steps further than the last one that was heard of.
const AHEAD: u64 = 40;

/// Runs one of the commands; the result is the program's exit status.
pub fn command(arguments: &[String]) -> i32 {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse().unwrap_or(0);
    let result = match words.as_slice() {
        ["write", folder, seed, first] => write(Path::new(folder), number(seed), number(first)),
        ["check", folder, seed, last] => check(Path::new(folder), number(seed), number(last)),
        ["failing", path, offset] => failing(Path::new(path), number(offset)),
        _ => Err(io::Error::other("write FOLDER SEED FIRST, check FOLDER SEED LAST, or failing FILE OFFSET")),
    };
    match result {
        Ok(()) => 0,
        Err(error) => {
            println!("disk-writer {}: {error}", words.join(" "));
            1
        }
    }
}

/// Writes where the disk fails: `fsync` must say EIO once to each descriptor that was open then, and to none that comes later.
fn failing(path: &Path, offset: u64) -> io::Result<()> {
    let open = || File::options().read(true).write(true).open(path);
    let (first, second) = (open()?, open()?);
    first.write_all_at(&[b'w'; 4096], offset)?;
    let code = |file: &File| file.sync_all().err().and_then(|error| error.raw_os_error()).unwrap_or(0);
    let seen = [code(&first), code(&first), code(&second), code(&second), code(&open()?)];
    if seen == [libc::EIO, 0, libc::EIO, 0, 0] {
        return Ok(());
    }
    Err(io::Error::other(format!("fsync of two descriptors, twice each, and of a third: {seen:?}")))
}

/// What a step does with its file before it is synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// It is made, written and synced.
    Plain,
    /// It is written under another name, synced and renamed over an older version; then its folder is synced.
    Replaced,
    /// It is written in two pieces, synced after each; the first is longer than what stays.
    Truncated,
    /// It is allocated first.
    Allocated,
}

/// How a step is done and what is in its file in the end.
fn step(seed: u64, number: u64) -> (Way, Vec<u8>) {
    let mut random = Random::new(seed ^ number.wrapping_mul(0x5851_f42d_4c95_7f2d));
    let way = [Way::Plain, Way::Replaced, Way::Truncated, Way::Allocated][random.below(4) as usize];
    let limit = [10, 200, 5000, 60_000][random.below(4) as usize];
    let length = 1 + random.below(limit) as usize;
    (way, random.bytes(length))
}

fn path_of(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("d{}", number % 7)).join(format!("f{number}"))
}

fn write(folder: &Path, seed: u64, first: u64) -> io::Result<()> {
    for index in 0..7 {
        fs::create_dir_all(folder.join(format!("d{index}")))?;
    }
    File::open(folder)?.sync_all()?;
    for number in first.. {
        let (way, bytes) = step(seed, number);
        let path = path_of(folder, number);
        one(way, &path, &bytes)?;
        File::open(path.parent().unwrap_or(folder))?.sync_all()?;
        println!("kept {number}");
        io::stdout().flush()?;
        // Waits until it has left the machine; what is no terminal has nothing to wait for.
        // SAFETY: a plain call with a number.
        unsafe { libc::tcdrain(1) };
        // Something goes on beside it that nobody is promised.
        fs::write(folder.join("noise"), &bytes)?;
        if let Some(old) = number.checked_sub(LIFETIME) {
            let _ = fs::remove_file(path_of(folder, old));
        }
    }
    Ok(())
}

fn one(way: Way, path: &Path, bytes: &[u8]) -> io::Result<()> {
    match way {
        Way::Plain => {
            let file = File::create(path)?;
            file.write_all_at(bytes, 0)?;
            file.sync_all()
        }
        Way::Replaced => {
            fs::write(path, b"an older version")?;
            let other = path.with_extension("new");
            let file = File::create(&other)?;
            file.write_all_at(bytes, 0)?;
            file.sync_data()?;
            fs::rename(&other, path)
        }
        Way::Truncated => {
            let file = File::create(path)?;
            file.write_all_at(&[b'x'; 70_000], 0)?;
            file.sync_all()?;
            file.set_len(0)?;
            file.write_all_at(bytes, 0)?;
            file.sync_all()
        }
        Way::Allocated => {
            let file = File::create(path)?;
            // SAFETY: a plain call with numbers. A file system without extents refuses; then the file is written all the same.
            unsafe { libc::fallocate(std::os::fd::AsRawFd::as_raw_fd(&file), 0, 0, bytes.len() as i64) };
            file.write_all_at(bytes, 0)?;
            file.sync_all()
        }
    }
}

/// Every step up to `last` that no later one may have removed.
fn check(folder: &Path, seed: u64, last: u64) -> io::Result<()> {
    let oldest = (last + AHEAD).saturating_sub(LIFETIME).max(1);
    for number in oldest..=last {
        let (way, bytes) = step(seed, number);
        let path = path_of(folder, number);
        let wrong = |what: String| io::Error::other(format!("step {number} ({way:?}): {what}"));
        let found = fs::read(&path).map_err(|error| wrong(error.to_string()))?;
        if found != bytes {
            let same = found.iter().zip(&bytes).take_while(|(a, b)| a == b).count();
            return Err(wrong(format!(
                "{} bytes for {}, different from {same} on",
                found.len(),
                bytes.len()
            )));
        }
    }
    println!("all there from {oldest} to {last}");
    Ok(())
}
