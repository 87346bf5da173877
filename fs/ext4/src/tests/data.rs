//! Contents of files under random work, compared with a model, kept over mounts, and judged by e2fsck.

use super::{check_with_fsck, image, mount_disk, mount_disk_with, tree};
use crate::node::Node;
use crate::{direct, ranges, regular};
use abi::errno::{Errno, Result};
use abi::mount::MountFlags;
use alloc::sync::Arc;
use alloc::vec::Vec;
use block::memory::MemoryDisk;
use block::simulate::Dice;
use machine::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use mm::io::{SliceReader, VecWriter};
use mm::{PageCache, WriteBackMode};
use std::fs;
use std::string::String;
use vfs::{Inode, SyncKind};

/// An open file of the test, and what it should hold.
struct Subject {
    inode: Arc<Inode>,
    expected: Vec<u8>,
}

/// The longest file that the random work makes.
const LONGEST: u64 = 400_000;

impl Subject {
    fn new(root: &Arc<Inode>, name: &str, expected: Vec<u8>) -> Subject {
        Subject { inode: root.operations().lookup(root, name.as_bytes()).unwrap(), expected }
    }

    fn cache(&self) -> &Arc<PageCache> {
        self.inode.operations().page_cache().unwrap()
    }

    fn node(&self) -> &Node {
        self.inode.private::<Node>().unwrap()
    }

    fn write(&mut self, dice: &mut Dice) {
        let offset = dice.below(LONGEST * 2 / 3) as usize;
        let longest = if dice.once_in(3) { 60_000 } else { 700 };
        let length = 1 + dice.below(longest) as usize;
        let bytes: Vec<u8> = (0..length).map(|_| dice.roll() as u8).collect();
        let _change = self.inode.lock.write();
        assert_eq!(self.cache().write(offset as u64, &mut SliceReader::new(&bytes)), Ok(length));
        if self.expected.len() < offset + length {
            self.expected.resize(offset + length, 0);
        }
        self.expected[offset..offset + length].copy_from_slice(&bytes);
    }

    fn resize(&mut self, dice: &mut Dice) {
        let size = if dice.once_in(8) { 0 } else { dice.below(LONGEST) };
        let _change = self.inode.lock.write();
        regular::resize(self.node(), &self.inode, size).unwrap();
        self.expected.resize(size as usize, 0);
    }

    fn punch(&mut self, dice: &mut Dice) {
        let start = dice.below(LONGEST);
        let end = start + 1 + dice.below(90_000);
        let _change = self.inode.lock.write();
        if self.node().body().is_inline() {
            return;
        }
        ranges::punch_hole(self.node().body(), self.cache(), start..end).unwrap();
        let len = self.expected.len() as u64;
        if start < len {
            self.expected[start as usize..end.min(len) as usize].fill(0);
        }
    }

    fn allot(&mut self, dice: &mut Dice) {
        let start = dice.below(LONGEST);
        let end = start + 1 + dice.below(90_000);
        let _change = self.inode.lock.write();
        if self.node().body().has_extents() && !self.node().body().is_inline() {
            ranges::allot(self.node().body(), start..end).unwrap();
        }
    }

    /// A range in whole blocks.
    fn blocks(&self, dice: &mut Dice) -> core::ops::Range<u64> {
        let block = u64::from(self.node().body().fs.geometry.block_size);
        let start = dice.below(LONGEST / block) * block;
        let most = if dice.once_in(2) { 3 } else { 90_000 / block };
        start..start + (1 + dice.below(most)) * block
    }

    fn moves_contents(&self) -> bool {
        self.node().body().has_extents() && !self.node().body().is_inline()
    }

    fn collapse(&mut self, dice: &mut Dice) {
        let range = self.blocks(dice);
        let _change = self.inode.lock.write();
        if !self.moves_contents() {
            return;
        }
        let checked = ranges::check_collapse(self.node().body(), self.cache(), &range);
        if range.end >= self.expected.len() as u64 {
            assert_eq!(checked, Err(Errno::EINVAL));
            return;
        }
        checked.unwrap();
        ranges::collapse(self.node().body(), self.cache(), range.clone()).unwrap();
        self.expected.drain(range.start as usize..range.end as usize);
    }

    fn insert(&mut self, dice: &mut Dice) {
        let range = self.blocks(dice);
        let _change = self.inode.lock.write();
        if !self.moves_contents() || self.expected.len() as u64 > LONGEST * 2 {
            return;
        }
        let checked = ranges::check_insert(self.node().body(), self.cache(), &range, 1 << 40);
        if range.start >= self.expected.len() as u64 {
            assert_eq!(checked, Err(Errno::EINVAL));
            return;
        }
        checked.unwrap();
        ranges::insert(self.node().body(), self.cache(), range.clone()).unwrap();
        let (start, length) = (range.start as usize, (range.end - range.start) as usize);
        self.expected.splice(start..start, core::iter::repeat_n(0, length));
    }

    /// A range in whole sectors.
    fn sectors(dice: &mut Dice) -> (u64, usize) {
        (dice.below(LONGEST / 512) * 512, 512 * (1 + dice.below(200) as usize))
    }

    fn read_directly(&self, dice: &mut Dice) {
        let (start, length) = Self::sectors(dice);
        let body = self.node().body();
        let _stays = self.inode.lock.read();
        if body.is_inline() || body.journals_data() {
            return;
        }
        let mut writer = VecWriter::new(length);
        direct::read(body, self.cache(), &mut writer, start).unwrap();
        let end = self.expected.len().min(start as usize + length);
        assert!(writer.into_bytes() == self.expected[end.min(start as usize)..end], "past the cache");
    }

    fn overwrite_directly(&mut self, dice: &mut Dice) {
        let (start, length) = Self::sectors(dice);
        let body = self.node().body();
        let _stays = self.inode.lock.read();
        if !direct::can_overwrite(body, self.cache(), start..start + length as u64).unwrap() {
            return;
        }
        let bytes: Vec<u8> = (0..length).map(|_| dice.roll() as u8).collect();
        let mut reader = SliceReader::new(&bytes);
        assert_eq!(direct::overwrite(body, self.cache(), &mut reader, start), Ok(length));
        self.expected[start as usize..start as usize + length].copy_from_slice(&bytes);
    }

    fn compare(&self) {
        let mut writer = VecWriter::new(8 << 20);
        self.cache().read(0, &mut writer).unwrap();
        let found = writer.into_bytes();
        assert_eq!(found.len(), self.expected.len());
        let differs = found.iter().zip(&self.expected).position(|(a, b)| a != b);
        assert_eq!(differs, None, "byte that differs");
    }
}

/// One step of random work.
fn step(subject: &mut Subject, dice: &mut Dice) {
    match dice.below(32) {
        0..9 => subject.write(dice),
        9 | 10 => subject.resize(dice),
        11 | 12 => subject.punch(dice),
        13 | 14 => subject.allot(dice),
        15 => {
            subject.cache().sync(0..u64::MAX).unwrap();
            subject.node().body().commit(SyncKind::All).unwrap();
        }
        16 => drop(subject.cache().start_write_back(0..u64::MAX, WriteBackMode::Background).unwrap()),
        17 => {
            subject.cache().sync(0..u64::MAX).unwrap();
            subject.cache().invalidate(0..u64::MAX);
        }
        18..21 => subject.read_directly(dice),
        21..24 => subject.overwrite_directly(dice),
        24..27 => subject.collapse(dice),
        27..30 => subject.insert(dice),
        _ => subject.compare(),
    }
}

fn work(
    disk: &Arc<MemoryDisk>,
    options: &[u8],
    expected: &mut [(String, Vec<u8>)],
    dice: &mut Dice,
    steps: usize,
) -> Result<()> {
    let root = mount_disk_with(disk.clone(), MountFlags::empty(), options)?;
    let held = core::mem::ManuallyDrop::new(root.clone());
    let mut subjects: Vec<Subject> =
        expected.iter().map(|(name, bytes)| Subject::new(&root, name, bytes.clone())).collect();
    for subject in &subjects {
        subject.compare();
    }
    for _ in 0..steps {
        let which = dice.below(subjects.len() as u64) as usize;
        step(&mut subjects[which], dice);
    }
    for (subject, (_, bytes)) in subjects.into_iter().zip(expected) {
        subject.compare();
        *bytes = subject.expected;
    }
    drop(core::mem::ManuallyDrop::into_inner(held));
    Ok(())
}

#[test]
fn contents_agree_with_a_model() {
    agree("data", b"");
}

/// With contents in the journal; each second mount has them on the disk only.
#[test]
fn journaled_contents_agree_with_a_model() {
    agree("journaled", b"data=journal");
}

fn agree(name: &'static str, mount_options: &'static [u8]) {
    let root = tree(name);
    for (kind, options) in super::KINDS {
        if kind == "ext2" && !mount_options.is_empty() {
            continue;
        }
        let Some(bytes) = image(&std::format!("{name}-{kind}"), options, "32M", &root) else { return };
        let names = ["tiny", "large", "sparse"];
        let read = |name: &&str| ((*name).into(), fs::read(root.join(name)).unwrap());
        let mut expected: Vec<(String, Vec<u8>)> = names.iter().map(read).collect();
        let steps = super::length(400);
        sched::host::run(1, 2, move || {
            std::println!("{kind}");
            let disk = MemoryDisk::new(bytes);
            let mut dice = Dice::new(7);
            for round in 0..3 {
                let mount_options = if round == 1 { b"" } else { mount_options };
                work(&disk, mount_options, &mut expected, &mut dice, steps).unwrap();
                check_with_fsck(&std::format!("{name}-{kind}-{round}"), &disk.contents());
            }
        });
    }
    fs::remove_dir_all(&root).unwrap();
}

/// A file that fills what is free, over many groups, comes and goes.
#[test]
fn a_full_disk_is_empty_again() {
    let root = tree("full");
    for (kind, options) in super::KINDS {
        let Some(bytes) = image(&std::format!("full-{kind}"), options, "48M", &root) else { return };
        sched::host::run(1, 2, move || {
            std::println!("{kind}");
            let disk = MemoryDisk::new(bytes);
            let root = mount_disk(disk.clone(), MountFlags::empty()).unwrap();
            let subject = Subject::new(&root, "tiny", Vec::new());
            let free = || root.superblock().statfs().unwrap().f_bfree;
            let before = free();
            let piece = alloc::vec![7; 1 << 20];
            for round in 0..3 {
                let mut written = 0;
                let _change = subject.inode.lock.write();
                let error = loop {
                    match subject.cache().write(written, &mut SliceReader::new(&piece)) {
                        Ok(count) => written += count as u64,
                        Err(error) => break error,
                    }
                };
                assert_eq!(error, Errno::ENOSPC);
                assert!(written > 20 << 20, "round {round}: only {written} bytes found room");
                subject.cache().sync(0..u64::MAX).unwrap();
                regular::resize(subject.node(), &subject.inode, 0).unwrap();
                assert!(free().abs_diff(before) <= 8, "{} blocks free, {before} before", free());
            }
            drop((subject, root));
            check_with_fsck(&std::format!("full-{kind}"), &disk.contents());
        });
    }
    fs::remove_dir_all(&root).unwrap();
}

/// What ioctl(2) tells of a file, while the file system is frozen as well.
#[test]
fn extents_flags_labels_and_freezing() {
    let root = tree("control");
    for (kind, options) in super::KINDS {
        let Some(bytes) = image(&std::format!("control-{kind}"), options, "32M", &root) else { return };
        sched::host::run(1, 2, move || {
            std::println!("{kind}");
            let disk = MemoryDisk::new(bytes);
            let root = mount_disk(disk.clone(), MountFlags::empty()).unwrap();
            // If something is wrong it stays mounted: unmounting waits for threads that do not run any more.
            let held = core::mem::ManuallyDrop::new(root.clone());
            let subject = Subject::new(&root, "sparse", Vec::new());
            let mut told = Vec::new();
            let mut sink = |extent: &vfs::FileExtent| {
                told.push(*extent);
                Ok(vfs::SinkState::Taken)
            };
            subject.inode.operations().extents(&subject.inode, 0..u64::MAX >> 1, &mut sink).unwrap();
            // mke2fs -d writes the first block too.
            let (last, before) = told.split_last().unwrap();
            assert!(before.len() < 2 && before.iter().all(|extent| extent.flags == 0), "{told:?}");
            assert_eq!(last.flags, abi::fs::FIEMAP_EXTENT_LAST);
            assert!((last.logical..last.logical + last.length).contains(&1_000_000));
            let place = last.physical + (1_000_000 - last.logical);
            assert_eq!(&disk.contents()[place as usize..place as usize + 3], b"end");
            let superblock = root.superblock();
            superblock.operations().set_label(superblock, b"a label").unwrap();
            assert_eq!(superblock.operations().label(superblock).unwrap(), b"a label");
            let told = superblock.operations().trim(superblock, 0..u64::MAX >> 1, 0).unwrap();
            assert!(told > 10 << 20, "{told}");
            superblock.sync().unwrap();
            superblock.operations().freeze(superblock).unwrap();
            check_with_fsck(&std::format!("frozen-{kind}"), &disk.contents());
            superblock.operations().thaw(superblock).unwrap();
            drop((subject, root, core::mem::ManuallyDrop::into_inner(held)));
            check_with_fsck(&std::format!("control-{kind}"), &disk.contents());
        });
    }
    fs::remove_dir_all(&root).unwrap();
}

/// Contents are moved while others read them, as fast as they can and with nothing kept in memory: nobody waits for ever.
#[test]
fn ranges_change_under_readers() {
    let root = tree("readers");
    for (kind, options) in [super::KINDS[0], super::KINDS[1]] {
        let Some(bytes) = image(&std::format!("readers-{kind}"), options, "32M", &root) else { return };
        let large = fs::read(root.join("large")).unwrap();
        for seed in 0..4 {
            let (bytes, large) = (bytes.clone(), large.clone());
            sched::host::run(seed, 4, move || {
                let disk = MemoryDisk::new(bytes);
                let root = mount_disk(disk.clone(), MountFlags::empty()).unwrap();
                let mut subject = Subject::new(&root, "large", large);
                let (over, left) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
                for reader in 0..3 {
                    let (over, left, inode) = (over.clone(), left.clone(), subject.inode.clone());
                    left.fetch_add(1, Ordering::Relaxed);
                    let options = sched::SpawnOptions::default();
                    let read = move || {
                        let mut dice = Dice::new(reader);
                        let cache = inode.operations().page_cache().unwrap().clone();
                        while !over.load(Ordering::Relaxed) {
                            let mut writer = VecWriter::new(20_000);
                            cache.read(dice.below(LONGEST), &mut writer).unwrap();
                            cache.invalidate(0..u64::MAX);
                        }
                        drop((cache, inode));
                        left.fetch_sub(1, Ordering::Relaxed);
                    };
                    sched::spawn("reader", options, read).unwrap();
                }
                let mut dice = Dice::new(seed);
                for _ in 0..super::length(60) {
                    match dice.below(4) {
                        0 => subject.collapse(&mut dice),
                        1 => subject.insert(&mut dice),
                        2 => subject.punch(&mut dice),
                        _ => subject.write(&mut dice),
                    }
                }
                over.store(true, Ordering::Relaxed);
                while left.load(Ordering::Relaxed) > 0 {
                    let soon = machine::time::now_ns() + 1_000_000;
                    let _ = sched::sleep_until(soon, machine::sync::WaitKind::Uninterruptible);
                }
                subject.compare();
                drop((subject, root));
                check_with_fsck(&std::format!("readers-{kind}-{seed}"), &disk.contents());
            });
        }
    }
    fs::remove_dir_all(&root).unwrap();
}
