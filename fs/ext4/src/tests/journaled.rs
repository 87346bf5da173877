//! `data=journal` and the power cut at any moment: what is found is what all files together held after some operation.

use super::cuts::preen;
use super::ranges::{Subject, contents};
use super::{KINDS, check_with_fsck, image, length, mount_driver};
use crate::node::Node;
use abi::mount::MountFlags;
use alloc::sync::Arc;
use alloc::vec::Vec;
use block::simulate::{Dice, SimulatedDisk};
use mm::WriteBackMode;
use std::{format, fs, println};

const FILES: usize = 3;
const JOURNAL: &[u8] = b"data=journal";

/// What the files held after an operation.
struct Step {
    contents: Vec<Vec<u8>>,
    /// What the disk had been asked for before the operation began, and when it was over.
    moments: (usize, usize),
    synced: bool,
}

fn name_of(file: usize) -> Vec<u8> {
    format!("file {file}").into_bytes()
}

fn work(disk: &Arc<SimulatedDisk>, sectors: usize, seed: u64, steps: usize) -> Vec<Step> {
    let root = mount_driver(disk.clone(), sectors, MountFlags::empty(), JOURNAL).unwrap();
    let mut dice = Dice::new(seed);
    let mut files: Vec<Subject> = (0..FILES).map(|file| Subject::create(&root, &name_of(file))).collect();
    root.superblock().sync().unwrap();
    let held = |files: &[Subject]| files.iter().map(|file| file.expected.clone()).collect::<Vec<_>>();
    let mut all = alloc::vec![Step { contents: held(&files), moments: (0, disk.moment()), synced: true }];
    for _ in 0..steps {
        let (subject, before) = (&mut files[dice.below(FILES as u64) as usize], disk.moment());
        let range = subject.some_blocks(&mut dice, 6);
        let moves = subject.inode.private::<Node>().unwrap().body().has_extents();
        match dice.below(8) {
            0 if moves => subject.collapse(range),
            1 if moves => subject.insert(range),
            _ => {
                // Within a page: that is all at once.
                let within = dice.below(4096);
                let bytes: Vec<u8> =
                    (within..within + 1 + dice.below(4096 - within)).map(|_| dice.roll() as u8).collect();
                subject.write((dice.below(16) * 4096 + within) as usize, &bytes);
                // As write(2) does.
                subject.cache().start_write_back(0..u64::MAX, WriteBackMode::Sync).unwrap();
            }
        }
        let synced = dice.once_in(20);
        if synced {
            subject.sync();
        }
        all.push(Step { contents: held(&files), moments: (before, disk.moment()), synced });
    }
    all
}

fn judge(name: &str, found: Vec<u8>, steps: &[Step], moment: usize) {
    let sectors = found.len() / block::SECTOR_SIZE;
    let disk = SimulatedDisk::new(found);
    let root = mount_driver(disk.clone(), sectors, MountFlags::empty(), JOURNAL).unwrap();
    // If something is wrong it stays mounted: unmounting waits for threads that do not run any more.
    let kept = core::mem::ManuallyDrop::new(root.clone());
    let oldest = steps.iter().rposition(|step| step.synced && step.moments.1 <= moment).unwrap_or(0);
    let newest = steps.iter().rposition(|step| step.moments.0 <= moment).unwrap_or(0);
    let there: Vec<Vec<u8>> = (0..FILES)
        .filter_map(|file| root.operations().lookup(&root, &name_of(file)).ok())
        .map(|inode| contents(inode.operations().page_cache().unwrap()))
        .collect();
    let begun = there.len() == FILES || moment >= steps[0].moments.1;
    let fits = steps[oldest..=newest].iter().any(|step| step.contents == there);
    assert!(fits || !begun, "{name}: not what was there between operations {oldest} and {newest}");
    drop((root, core::mem::ManuallyDrop::into_inner(kept)));
    check_with_fsck(name, &disk.contents());
}

#[test]
fn cuts_find_contents_as_they_were_at_some_moment() {
    let empty = std::env::temp_dir().join(format!("linnet-ext4-{}-journaled-cuts", std::process::id()));
    fs::create_dir_all(&empty).unwrap();
    for (kind, options) in [KINDS[0], KINDS[2], KINDS[5]] {
        let options: Vec<&str> = options.iter().copied().chain(["-b", "4096"]).collect();
        let Some(bytes) = image(&format!("journaled-cut-{kind}"), &options, "24M", &empty) else { return };
        for seed in 0..2 {
            println!("{kind} {seed}");
            let bytes = bytes.clone();
            sched::host::run(seed, 2, move || {
                let sectors = bytes.len() / block::SECTOR_SIZE;
                let disk = SimulatedDisk::new(bytes);
                let steps = work(&disk, sectors, seed, length(250));
                let (boundaries, mut dice) = (disk.boundaries(), Dice::new(seed));
                for index in 0..length(40) {
                    let moment = if dice.once_in(3) {
                        dice.below(disk.moment() as u64) as usize
                    } else {
                        boundaries[dice.below(boundaries.len() as u64) as usize]
                    };
                    let found = disk.image(moment, dice.roll());
                    let name = format!("journaled-{kind}-{seed}-{index}");
                    if index % 4 == 0 {
                        preen(&name, &found);
                    }
                    judge(&name, found, &steps, moment);
                }
            });
        }
    }
    fs::remove_dir_all(&empty).unwrap();
}
