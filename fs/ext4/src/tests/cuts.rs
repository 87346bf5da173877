//! The power is cut: what is found then is recovered, and is what it was after some operation, not before the last that was synced.

use super::names::Tree;
use super::{KINDS, check_with_fsck, image, length, mount_driver};
use crate::format::{ReadOnlyCompatible, superblock};
use abi::mount::MountFlags;
use alloc::sync::Arc;
use alloc::vec::Vec;
use block::simulate::{Dice, SimulatedDisk};
use std::path::Path;
use std::process::Command;
use std::string::String;
use std::{format, fs, println};

/// The tree after an operation.
struct Step {
    tree: Tree,
    /// What the disk had been asked for before the operation began, and when it was over.
    moments: (usize, usize),
    /// Everything was synced then.
    synced: bool,
}

/// Random work on a disk that notes everything.
fn work(disk: &Arc<SimulatedDisk>, sectors: usize, seed: u64, steps: usize) -> Vec<Step> {
    let root = mount_driver(disk.clone(), sectors, MountFlags::empty(), b"").unwrap();
    let (mut dice, mut tree) = (Dice::new(seed), Tree::new());
    let begun = disk.moment();
    let mut all = alloc::vec![Step { tree: tree.clone(), moments: (0, begun), synced: true }];
    for _ in 0..steps {
        let before = disk.moment();
        tree.step(&root, &mut dice).unwrap();
        let synced = dice.once_in(12);
        if synced {
            root.superblock().sync().unwrap();
        }
        all.push(Step { tree: tree.clone(), moments: (before, disk.moment()), synced });
    }
    all
}

/// Has e2fsck recover an image by itself: it may not find anything that it would have to ask about.
pub(super) fn preen(name: &str, bytes: &[u8]) {
    let path = std::env::temp_dir().join(format!("linnet-ext4-{}-{name}.preen", std::process::id()));
    fs::write(&path, bytes).unwrap();
    let run = |program: &&str| Command::new(program).args(["-fp"]).arg(&path).output().ok();
    let verdict = ["e2fsck", "/usr/sbin/e2fsck"].iter().find_map(run).expect("e2fsck comes with mke2fs");
    let said = String::from_utf8_lossy(&verdict.stdout).into_owned();
    let code = verdict.status.code();
    assert!(matches!(code, Some(0 | 1)), "{name}: {code:?} {said}\nthe image is {}", path.display());
    fs::remove_file(&path).unwrap();
}

fn superblock_is_whole(bytes: &[u8]) -> bool {
    let raw = superblock::parse(&bytes[superblock::OFFSET as usize..]).unwrap();
    superblock::check_checksum(raw, ReadOnlyCompatible::from_bits_retain(raw.feature_ro_compat.get())).is_ok()
}

/// Recovers what a cut left, and looks whether it may be so.
fn judge(name: &str, found: Vec<u8>, steps: &[Step], moment: usize) {
    let sectors = found.len() / block::SECTOR_SIZE;
    let disk = SimulatedDisk::new(found);
    let root = mount_driver(disk.clone(), sectors, MountFlags::empty(), b"").unwrap_or_else(|error| {
        let path = std::env::temp_dir().join(format!("linnet-ext4-{}-{name}.cut", std::process::id()));
        fs::write(&path, disk.image(0, 0)).unwrap();
        panic!("{name}: mounting: {}; the image is {}", error.name(), path.display());
    });
    // If something is wrong it stays mounted: unmounting waits for threads that do not run any more.
    let held = core::mem::ManuallyDrop::new(root.clone());
    let oldest = steps.iter().rposition(|step| step.synced && step.moments.1 <= moment).unwrap_or(0);
    let newest = steps.iter().rposition(|step| step.moments.0 <= moment).unwrap_or(0);
    let there = Tree::signature_of(&root);
    let same = (oldest..=newest).find(|index| steps[*index].tree.signature() == there);
    let Some(same) = same else {
        println!("{there:#?}\n{:#?}", steps[oldest].tree.signature());
        panic!("{name}: not a state between operations {oldest} and {newest}");
    };
    steps[same].tree.check_contents(&root, steps[oldest].tree.len());
    drop((root, core::mem::ManuallyDrop::into_inner(held)));
    check_with_fsck(name, &disk.contents());
}

fn cut(kind: &str, options: &[&str], seed: u64, steps: usize, cuts: usize, empty: &Path) -> Option<()> {
    let bytes = image(&format!("cuts-{kind}-{seed}"), options, "16M", empty)?;
    let kind = String::from(kind);
    sched::host::run(seed, 2, move || {
        let sectors = bytes.len() / block::SECTOR_SIZE;
        let disk = SimulatedDisk::new(bytes);
        let steps = work(&disk, sectors, seed, steps);
        let boundaries = disk.boundaries();
        let mut dice = Dice::new(seed);
        for index in 0..cuts {
            let moment = if dice.once_in(3) {
                dice.below(disk.moment() as u64) as usize
            } else {
                boundaries[dice.below(boundaries.len() as u64) as usize]
            };
            let found = disk.image(moment, dice.roll());
            let name = format!("cuts-{kind}-{seed}-{index}");
            // e2fsck gives a torn superblock up.
            if index % 4 == 0 && superblock_is_whole(&found) {
                preen(&name, &found);
            }
            judge(&name, found, &steps, moment);
        }
    });
    Some(())
}

#[test]
fn cuts_leave_what_was_synced() {
    let empty = std::env::temp_dir().join(format!("linnet-ext4-{}-cuts", std::process::id()));
    fs::create_dir_all(&empty).unwrap();
    // What has no journal is not whole after a cut.
    for (kind, options) in KINDS.into_iter().filter(|(kind, _)| *kind != "ext2") {
        for seed in 0..2 {
            if cut(kind, options, seed, length(250), length(32), &empty).is_none() {
                return;
            }
        }
    }
    fs::remove_dir_all(&empty).unwrap();
}

/// Thousands of cuts: `cargo xtask test --long`.
#[test]
#[ignore = "long: run by `cargo xtask test --long`"]
fn many_cuts_leave_what_was_synced() {
    let empty = std::env::temp_dir().join(format!("linnet-ext4-{}-many-cuts", std::process::id()));
    fs::create_dir_all(&empty).unwrap();
    for (kind, options) in KINDS.into_iter().filter(|(kind, _)| *kind != "ext2") {
        for seed in 100..150 {
            if cut(kind, options, seed, 300, 80, &empty).is_none() {
                return;
            }
        }
    }
    fs::remove_dir_all(&empty).unwrap();
}

/// Its second sector is older than its first: that is seen, and the journal brings the rest in order.
#[test]
fn a_torn_superblock_is_mended() {
    let empty = std::env::temp_dir().join(format!("linnet-ext4-{}-torn", std::process::id()));
    fs::create_dir_all(&empty).unwrap();
    for (kind, options) in [KINDS[0], KINDS[1]] {
        // Blocks of 4 KiB have more than one group from 128 MiB on.
        let small: Vec<&str> = options.iter().copied().chain(["-g", "2048"]).collect();
        let Some(bytes) = image(&format!("torn-{kind}"), &small, "24M", &empty) else { return };
        sched::host::run(1, 2, move || {
            let sectors = bytes.len() / block::SECTOR_SIZE;
            let disk = SimulatedDisk::new(bytes);
            let steps = work(&disk, sectors, 5, 40);
            let moment = steps.last().unwrap().moments.1;
            let in_use = disk.image(moment, 1);
            for at in [0x30, 0xe8] {
                let mut torn = in_use.clone();
                torn[superblock::OFFSET as usize + at] ^= 1;
                judge(&format!("torn-{kind}-{at:x}"), torn, &steps, moment);
            }
        });
    }
    fs::remove_dir_all(&empty).unwrap();
}
