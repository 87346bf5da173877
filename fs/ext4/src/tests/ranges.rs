//! Contents moved by whole blocks: in files of very many extents, and with the power cut at any moment.

use super::cuts::preen;
use super::{KINDS, check_with_fsck, image, length, mount_disk, mount_driver};
use crate::node::Node;
use crate::ranges;
use abi::mount::MountFlags;
use alloc::sync::Arc;
use alloc::vec::Vec;
use block::memory::MemoryDisk;
use block::simulate::{Dice, SimulatedDisk};
use core::ops::Range;
use mm::PageCache;
use mm::io::{SliceReader, VecWriter};
use std::{format, fs, println};
use vfs::{Inode, NewContent, SyncKind};

/// A file and what is in it.
pub(super) struct Subject {
    pub(super) inode: Arc<Inode>,
    pub(super) expected: Vec<u8>,
    block: u64,
}

pub(super) fn contents(cache: &PageCache) -> Vec<u8> {
    let mut writer = VecWriter::new(16 << 20);
    cache.read(0, &mut writer).unwrap();
    writer.into_bytes()
}

impl Subject {
    pub(super) fn create(root: &Arc<Inode>, name: &[u8]) -> Subject {
        let inode = root.operations().create(root, name, &super::names::new(NewContent::Regular)).unwrap();
        let block = u64::from(inode.private::<Node>().unwrap().body().fs.geometry.block_size);
        Subject { inode, expected: Vec::new(), block }
    }

    fn node(&self) -> &Node {
        self.inode.private::<Node>().unwrap()
    }

    pub(super) fn cache(&self) -> &Arc<PageCache> {
        self.inode.operations().page_cache().unwrap()
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let _change = self.inode.lock.write();
        assert_eq!(self.cache().write(offset as u64, &mut SliceReader::new(bytes)), Ok(bytes.len()));
        self.expected.resize(self.expected.len().max(offset + bytes.len()), 0);
        self.expected[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    pub(super) fn sync(&self) {
        self.cache().sync(0..u64::MAX).unwrap();
        self.node().body().commit(SyncKind::All).unwrap();
    }

    /// Some blocks that begin before the end.
    pub(super) fn some_blocks(&self, dice: &mut Dice, most: u64) -> Range<u64> {
        let start = dice.below((self.expected.len() as u64).div_ceil(self.block).max(1));
        start * self.block..(start + 1 + dice.below(most)) * self.block
    }

    pub(super) fn collapse(&mut self, range: Range<u64>) {
        let _change = self.inode.lock.write();
        if range.end < self.expected.len() as u64 {
            ranges::collapse(self.node().body(), self.cache(), range.clone()).unwrap();
            self.expected.drain(range.start as usize..range.end as usize);
        }
    }

    pub(super) fn insert(&mut self, range: Range<u64>) {
        let _change = self.inode.lock.write();
        if range.start < self.expected.len() as u64 {
            ranges::insert(self.node().body(), self.cache(), range.clone()).unwrap();
            let (start, length) = (range.start as usize, (range.end - range.start) as usize);
            self.expected.splice(start..start, core::iter::repeat_n(0, length));
        }
    }
}

#[test]
fn files_of_many_extents_are_moved() {
    let empty = std::env::temp_dir().join(format!("linnet-ext4-{}-extents", std::process::id()));
    fs::create_dir_all(&empty).unwrap();
    for (kind, options) in [KINDS[0], KINDS[1]] {
        let Some(bytes) = image(&format!("extents-{kind}"), options, "48M", &empty) else { return };
        sched::host::run(3, 2, move || {
            let disk = MemoryDisk::new(bytes);
            let root = mount_disk(disk.clone(), MountFlags::empty()).unwrap();
            let held = core::mem::ManuallyDrop::new(root.clone());
            let (mut subject, mut dice) = (Subject::create(&root, b"many"), Dice::new(11));
            // From the end, every other block: each an extent of its own.
            let count = length(2500);
            for number in (0..count).rev() {
                let bytes = alloc::vec![1 + number as u8 % 250; subject.block as usize];
                subject.write(number * 2 * subject.block as usize, &bytes);
            }
            subject.sync();
            for _ in 0..length(120) {
                let most = if dice.once_in(4) { 300 } else { 3 };
                let range = subject.some_blocks(&mut dice, most);
                if dice.once_in(2) {
                    subject.collapse(range)
                } else {
                    subject.insert(range)
                }
                if dice.once_in(8) {
                    subject.write(dice.below(1 << 20) as usize, b"something new");
                }
            }
            assert!(contents(subject.cache()) == subject.expected);
            subject.sync();
            subject.cache().invalidate(0..u64::MAX);
            assert!(contents(subject.cache()) == subject.expected);
            drop((subject, root, core::mem::ManuallyDrop::into_inner(held)));
            check_with_fsck(&format!("extents-{kind}"), &disk.contents());
        });
    }
    fs::remove_dir_all(&empty).unwrap();
}

/// What a file held after an operation.
struct Version {
    file: usize,
    /// What the disk had been asked for before the operation began, and when it was over.
    moments: (usize, usize),
    /// `None`: it was written over, which is not done all at once.
    contents: Option<Vec<u8>>,
    synced: bool,
}

const FILES: usize = 3;

fn name_of(file: usize) -> Vec<u8> {
    format!("file {file}").into_bytes()
}

/// Moves contents of some files, syncs now and then, and notes what they held when.
fn work(disk: &Arc<SimulatedDisk>, sectors: usize, seed: u64, steps: usize) -> Vec<Version> {
    let root = mount_driver(disk.clone(), sectors, MountFlags::empty(), b"").unwrap();
    let mut dice = Dice::new(seed);
    let mut files: Vec<Subject> = (0..FILES).map(|file| Subject::create(&root, &name_of(file))).collect();
    root.superblock().sync().unwrap();
    let begun = disk.moment();
    let first = |file| Version { file, moments: (0, begun), contents: Some(Vec::new()), synced: true };
    let mut versions: Vec<Version> = (0..FILES).map(first).collect();
    for _ in 0..steps {
        let file = dice.below(FILES as u64) as usize;
        let (subject, before) = (&mut files[file], disk.moment());
        let range = subject.some_blocks(&mut dice, 6);
        let writes = subject.expected.len() < 20_000 || dice.once_in(5);
        match dice.once_in(2) {
            _ if writes => {
                let bytes: Vec<u8> = (0..1 + dice.below(30_000)).map(|_| dice.roll() as u8).collect();
                subject.write(dice.below(60_000) as usize, &bytes);
            }
            true => subject.collapse(range),
            false => subject.insert(range),
        }
        let synced = writes || dice.once_in(4);
        // While it is written and until it is synced anything may be there.
        if writes {
            let moments = (before, disk.moment());
            versions.push(Version { file, moments, contents: None, synced: false });
        }
        if synced {
            subject.sync();
        }
        let contents = Some(subject.expected.clone());
        versions.push(Version { file, moments: (before, disk.moment()), contents, synced });
    }
    versions
}

fn judge(name: &str, found: Vec<u8>, versions: &[Version], moment: usize) {
    let sectors = found.len() / block::SECTOR_SIZE;
    let disk = SimulatedDisk::new(found);
    let root = mount_driver(disk.clone(), sectors, MountFlags::empty(), b"").unwrap();
    // If something is wrong it stays mounted: unmounting waits for threads that do not run any more.
    let held = core::mem::ManuallyDrop::new(root.clone());
    for file in 0..FILES {
        let mine: Vec<&Version> = versions.iter().filter(|version| version.file == file).collect();
        let oldest = mine.iter().rposition(|one| one.synced && one.moments.1 <= moment).unwrap_or(0);
        let newest = mine.iter().rposition(|one| one.moments.0 <= moment).unwrap_or(0);
        let may_be = &mine[oldest..=newest];
        // Before the first sync of all there may be no file yet.
        let Ok(inode) = root.operations().lookup(&root, &name_of(file)) else {
            assert!(moment < versions[0].moments.1, "{name}: file {file} is gone");
            continue;
        };
        let there = contents(inode.operations().page_cache().unwrap());
        let fits = may_be.iter().any(|one| one.contents.as_ref().is_none_or(|bytes| *bytes == there));
        assert!(fits, "{name}: file {file} holds none of {} versions", may_be.len());
    }
    drop((root, core::mem::ManuallyDrop::into_inner(held)));
    check_with_fsck(name, &disk.contents());
}

#[test]
fn cuts_find_contents_moved_or_not() {
    let empty = std::env::temp_dir().join(format!("linnet-ext4-{}-moved", std::process::id()));
    fs::create_dir_all(&empty).unwrap();
    for (kind, options) in [KINDS[0], KINDS[1], KINDS[5]] {
        let Some(bytes) = image(&format!("moved-{kind}"), options, "16M", &empty) else { return };
        println!("{kind}");
        sched::host::run(9, 2, move || {
            let sectors = bytes.len() / block::SECTOR_SIZE;
            let disk = SimulatedDisk::new(bytes);
            let versions = work(&disk, sectors, 9, length(120));
            let (boundaries, mut dice) = (disk.boundaries(), Dice::new(9));
            for index in 0..length(60) {
                let moment = if dice.once_in(3) {
                    dice.below(disk.moment() as u64) as usize
                } else {
                    boundaries[dice.below(boundaries.len() as u64) as usize]
                };
                let found = disk.image(moment, dice.roll());
                let name = format!("moved-{kind}-{index}");
                if index % 4 == 0 {
                    preen(&name, &found);
                }
                judge(&name, found, &versions, moment);
            }
        });
    }
    fs::remove_dir_all(&empty).unwrap();
}
