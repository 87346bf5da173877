//! Recovery judged by Debian's e2fsck: after a cut it makes the same blocks of our log as we do.
//!
//! A real file system is made with `mkfs.ext4`; transactions change blocks that are free in it. Where e2fsprogs is not installed the test
//! says so and does nothing.

use super::*;
use alloc::vec;
use alloc::vec::Vec;
use block::memory::MemoryDisk;
use block::simulate::{Dice, SimulatedDisk};
use block::{BlockDevice, Disk, Driver, SECTOR_SIZE};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, println};

const IMAGES: u64 = 24;
const BLOCKS: u64 = 40;

/// What a kind of file system is made with.
struct Kind {
    name: &'static str,
    arguments: &'static [&'static str],
    block_size: u32,
    checksums: bool,
    wide: bool,
}

const KINDS: [Kind; 3] = [
    Kind {
        name: "debian",
        arguments: &["-b", "1024", "-O", "metadata_csum,64bit"],
        block_size: 1024,
        checksums: true,
        wide: true,
    },
    Kind {
        name: "pages",
        arguments: &["-b", "4096", "-O", "metadata_csum,64bit"],
        block_size: 4096,
        checksums: true,
        wide: true,
    },
    Kind {
        name: "ext3",
        arguments: &["-b", "1024", "-t", "ext3", "-O", "^64bit,^metadata_csum"],
        block_size: 1024,
        checksums: false,
        wide: false,
    },
];

/// What a program of e2fsprogs says.
fn output(program: &str, arguments: &[&str], image: &Path) -> String {
    let path = Path::new("/usr/sbin").join(program);
    let output = Command::new(path).args(arguments).arg(image).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code().is_some_and(|code| code < 2), "{program}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn numbers(text: &str) -> Vec<u64> {
    text.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// A file system with a journal that is to be recovered and empty; the journal's blocks, and some that are free.
fn make(kind: &Kind, image: &Path) -> (JournalMap, Vec<u64>) {
    let size = 12 << 20;
    fs::write(image, vec![0; size]).unwrap();
    let journal = if kind.block_size == 4096 { "size=4" } else { "size=1" };
    let mut arguments = vec!["-q", "-F", "-J", journal];
    arguments.extend(kind.arguments);
    output("mkfs.ext4", &arguments, image);
    output("debugfs", &["-w", "-R", "feature needs_recovery"], image);
    let blocks = numbers(&output("debugfs", &["-R", "blocks <8>"], image));
    let blocks_of_file = if kind.block_size == 4096 { 1024 } else { (1 << 20) / u64::from(kind.block_size) };
    // An indirect tree's own blocks are listed too; they come before what they map.
    let tree: Vec<u64> = tree_blocks(image, blocks.len() as u64 > blocks_of_file);
    let mut map = JournalMap::new();
    blocks.iter().filter(|block| !tree.contains(block)).for_each(|block| map.push(1, *block).unwrap());
    assert_eq!(u64::from(map.blocks()), blocks_of_file);
    let free = output("debugfs", &["-R", "ffb 40 2000"], image);
    let free = numbers(free.split(':').next_back().unwrap());
    assert_eq!(free.len() as u64, BLOCKS);
    (map, free)
}

/// The blocks of the journal's tree: those that `stat` names in brackets.
fn tree_blocks(image: &Path, there_are: bool) -> Vec<u64> {
    if !there_are {
        return Vec::new();
    }
    let text = output("debugfs", &["-R", "stat <8>"], image);
    // "(IND):462,"
    let words = text.split_ascii_whitespace().filter(|word| word.contains("IND):"));
    words.filter_map(|word| word.split_once("):")?.1.trim_end_matches(',').parse().ok()).collect()
}

fn buffers(driver: Arc<dyn Driver>, bytes: usize, block_size: u32) -> Arc<Buffers> {
    let disk = Disk::new("cut0".into(), driver, (bytes / SECTOR_SIZE) as u64, false);
    Buffers::new(BlockDevice::whole(disk, vfs::DeviceId::new(254, 0)), block_size).unwrap()
}

/// Runs transactions on an image; writes images as cuts leave them, and what we recover of each.
fn work(kind: &Kind, directory: &Path, map: &JournalMap, free: &[u64], image: Vec<u8>) {
    let bytes = image.len();
    let disk = SimulatedDisk::new(image);
    let buffers_of_disk = buffers(disk.clone(), bytes, kind.block_size);
    let (checksums, wide) = (kind.checksums, kind.wide);
    let options = JournalOptions { checksums, wide, ..JournalOptions::default() };
    let journal = Journal::open(buffers_of_disk.clone(), map.clone(), options).unwrap();
    let mut dice = Dice::new(5);
    let mut dead = vec![false; free.len()];
    for operation in 0u64..900 {
        let mut handle = journal.start(8).unwrap();
        for _ in 0..=dice.below(6) {
            let index = dice.below(BLOCKS) as usize;
            let buffer = if dead[index] {
                handle.create(free[index]).unwrap()
            } else {
                buffers_of_disk.read(free[index]).unwrap()
            };
            handle.modify(&buffer, |bytes| bytes.fill(operation as u8)).unwrap();
            // Sometimes it begins as the journal's own blocks do.
            if dice.once_in(4) {
                handle.modify(&buffer, |bytes| format::put(bytes, 0, &format::MAGIC.to_be_bytes())).unwrap();
            }
            dead[index] = dice.once_in(8);
            if dead[index] {
                handle.forget(free[index]).unwrap();
            }
        }
        let tid = handle.tid();
        drop(handle);
        if dice.once_in(6) {
            journal.commit_and_wait(tid).unwrap();
        }
    }
    journal.force_commit().unwrap();
    for seed in 0..IMAGES {
        let image = disk.image(dice.below(disk.moment() as u64 + 1) as usize, seed);
        fs::write(directory.join(std::format!("{}-{seed}-cut", kind.name)), &image).unwrap();
        let memory = MemoryDisk::new(image);
        let buffers = buffers(memory.clone(), bytes, kind.block_size);
        let log = Log::open(&buffers, map.clone(), true).unwrap();
        recovery::recover(&buffers, &log).unwrap();
        fs::write(directory.join(std::format!("{}-{seed}-ours", kind.name)), memory.contents()).unwrap();
    }
}

fn judge(kind: &Kind, directory: &Path, free: &[u64]) {
    let size = kind.block_size as usize;
    let mut differ_from_cut = 0;
    for seed in 0..IMAGES {
        let cut: PathBuf = directory.join(std::format!("{}-{seed}-cut", kind.name));
        let before = fs::read(&cut).unwrap();
        let copy = directory.join(std::format!("{}-{seed}-theirs", kind.name));
        fs::write(&copy, &before).unwrap();
        output("e2fsck", &["-y", "-E", "journal_only"], &copy);
        let theirs = fs::read(&copy).unwrap();
        let ours = fs::read(directory.join(std::format!("{}-{seed}-ours", kind.name))).unwrap();
        for block in free {
            let at = *block as usize * size;
            assert!(
                theirs[at..at + size] == ours[at..at + size],
                "{} {seed}: block {block} differs",
                kind.name
            );
            differ_from_cut += usize::from(before[at..at + size] != ours[at..at + size]);
        }
    }
    println!("{}: {IMAGES} images, {differ_from_cut} blocks replayed", kind.name);
    assert!(differ_from_cut > 100, "{}: only {differ_from_cut} blocks were replayed", kind.name);
}

#[test]
fn e2fsck_recovers_the_same() {
    if !["mkfs.ext4", "e2fsck", "debugfs"].iter().all(|program| Path::new("/usr/sbin").join(program).exists())
    {
        println!("e2fsprogs is not installed: nothing is judged");
        return;
    }
    let directory = std::env::temp_dir().join("linnet-journal-judged");
    fs::create_dir_all(&directory).unwrap();
    // What runs on the simulated machine is done in a process of its own; the files are what comes back.
    let mut made = Vec::new();
    for kind in &KINDS {
        let path = directory.join(kind.name);
        let (map, free) = make(kind, &path);
        made.push((map, free, fs::read(&path).unwrap()));
    }
    let free: Vec<Vec<u64>> = made.iter().map(|(_, free, _)| free.clone()).collect();
    let place = directory.clone();
    sched::host::run(1, 2, move || {
        for (kind, (map, free, image)) in KINDS.iter().zip(made) {
            work(kind, &place, &map, &free, image);
        }
    });
    for (kind, free) in KINDS.iter().zip(&free) {
        judge(kind, &directory, free);
    }
}
