//! Images with damage: whatever they have, they are refused, read in part or found to be wrong, and nothing panics or goes on for ever.
//!
//! An image is made with something of everything, some of its metadata is changed at random, and it is mounted, walked and changed. Half of the
//! images have no checksums of metadata, and the superblock's is put right, so that damage gets behind the checks. A thread of the host watches
//! that they come to an end.

use super::{image, length, mount_disk, mount_disk_with, names};
use crate::format::superblock::{OFFSET, RawSuperBlock, SIZE, seal};
use abi::errno::Result;
use abi::mount::MountFlags;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use block::memory::MemoryDisk;
use block::simulate::Dice;
use core::ops::Range;
use mm::io::{SliceReader, VecWriter};
use security::{Kgid, Kuid};
use std::path::Path;
use std::string::String;
use std::time::Duration;
use std::{format, fs, println};
use vfs::{AttributeChange, DeviceId, FileKind, Inode, NewContent, NewInode, Rename, RenameMode, XattrMode};

/// How many images are used by one machine.
const BATCH: u64 = 10;
/// How long that may take, seconds: a hundred times what it does.
const PATIENCE: u64 = 240;
const BLOCK: usize = 1024;

fn new(content: NewContent<'_>) -> NewInode<'_> {
    NewInode::new(content, 0o755, Kuid(1), Kgid(2))
}

fn write(inode: &Inode, offset: u64, bytes: &[u8]) -> Result<()> {
    let Some(cache) = inode.operations().page_cache() else { return Ok(()) };
    let _change = inode.lock.write();
    cache.write(offset, &mut SliceReader::new(bytes)).map(drop)
}

/// Fills an image with something of everything.
fn fill(bytes: Vec<u8>) -> Vec<u8> {
    let disk = MemoryDisk::new(bytes);
    let root = mount_disk(disk.clone(), MountFlags::empty()).unwrap();
    let many = root.operations().create(&root, b"many", &new(NewContent::Directory)).unwrap();
    for number in 0..400 {
        let name = format!("a name of some length {number}");
        let inode = many.operations().create(&many, name.as_bytes(), &new(NewContent::Fifo)).unwrap();
        inode.operations().set_xattr(&inode, b"trusted.short", b"value", XattrMode::Any).unwrap();
    }
    let few = root.operations().create(&root, b"few", &new(NewContent::Directory)).unwrap();
    for (name, pieces) in [(&b"sparse"[..], 20), (b"other", 3), (b"third", 1)] {
        let file = few.operations().create(&few, name, &new(NewContent::Regular)).unwrap();
        for piece in 0..pieces {
            write(&file, piece * 50_000, b"some bytes").unwrap();
        }
        file.operations().set_xattr(&file, b"user.long", &[7; 500], XattrMode::Any).unwrap();
    }
    let text = [b'x'; 300];
    root.operations().create(&root, b"long link", &new(NewContent::Symlink(&text))).unwrap();
    root.operations().create(&root, b"link", &new(NewContent::Symlink(b"few/other"))).unwrap();
    drop((many, few, root));
    disk.contents()
}

/// Changes some of what is not zero.
fn damage(bytes: &mut [u8], dice: &mut Dice) {
    let used: Vec<usize> = (0..bytes.len() / BLOCK)
        .filter(|block| bytes[block * BLOCK..][..BLOCK].iter().any(|byte| *byte != 0))
        .collect();
    // One kind of block more often than others: the superblock, descriptors and the first inodes are near the beginning.
    let place = |dice: &mut Dice, bytes: &[u8]| {
        let among = if dice.once_in(3) { used.len().min(24) } else { used.len() };
        let start = used[dice.below(among as u64) as usize] * BLOCK;
        let at = start + dice.below(BLOCK as u64 / 4) as usize * 4;
        let next = (at..start + BLOCK).find(|at| bytes[*at] != 0).unwrap_or(at) & !3;
        if dice.once_in(4) { at } else { next }
    };
    for _ in 0..=dice.below(8) {
        let at = place(dice, bytes);
        let small = dice.below(300) as u32;
        let value = match dice.below(9) {
            0 => 0,
            1 => u32::MAX,
            2 => 1 << dice.below(32),
            3 | 4 => small,
            5 => {
                let from = place(dice, bytes);
                bytes.copy_within(from..from + 4, at);
                continue;
            }
            6 => {
                bytes[at + dice.below(4) as usize] ^= 1 << dice.below(8);
                continue;
            }
            7 => {
                let (from, to) = (place(dice, bytes) / BLOCK * BLOCK, at / BLOCK * BLOCK);
                bytes.copy_within(from..from + BLOCK, to);
                continue;
            }
            _ => dice.roll() as u32,
        };
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    let place = &mut bytes[OFFSET as usize..][..SIZE];
    if let Ok(raw) = crate::format::at_mut::<RawSuperBlock>(place, 0) {
        seal(raw);
    }
}

/// Looks at everything that can be reached, as far as it goes; gives some of it.
fn walk(root: &Arc<Inode>) -> Vec<(Arc<Inode>, Vec<u8>, Arc<Inode>)> {
    let mut seen = BTreeSet::from([root.number()]);
    let (mut left, mut found) = (VecDeque::from([root.clone()]), Vec::new());
    while let Some(directory) = left.pop_front() {
        for name in names(&directory, 40).unwrap_or_default().into_iter().take(1000) {
            let Ok(inode) = directory.operations().lookup(&directory, &name) else { continue };
            if !seen.insert(inode.number()) {
                continue;
            }
            look(&inode);
            if inode.is_directory() {
                left.push_back(inode.clone());
            }
            if found.len() < 40 || inode.is_directory() || inode.page_cache_size() > 0 {
                found.push((directory.clone(), name, inode));
            }
        }
    }
    found
}

/// The size of what has pages.
trait PageCacheSize {
    fn page_cache_size(&self) -> u64;
}

impl PageCacheSize for Arc<Inode> {
    fn page_cache_size(&self) -> u64 {
        self.operations().page_cache().map_or(0, |cache| cache.size())
    }
}

fn look(inode: &Arc<Inode>) {
    let operations = inode.operations();
    let _ = (operations.link_text(), operations.list_xattrs(inode), inode.status());
    for name in [&b"trusted.short"[..], b"user.long", b"user.none"] {
        let _ = operations.get_xattr(inode, name);
    }
    if let Some(cache) = operations.page_cache() {
        for offset in [0, cache.size() / 2, cache.size().saturating_sub(5000)] {
            let _ = cache.read(offset, &mut VecWriter::new(20_000));
        }
    }
}

/// A few changes of everything.
fn change(root: &Arc<Inode>, found: &[(Arc<Inode>, Vec<u8>, Arc<Inode>)], dice: &mut Dice) {
    for number in 0..30 {
        let directories: Vec<_> = found.iter().filter(|one| one.2.is_directory()).map(|one| &one.2).collect();
        let directory = directories.get(dice.below(8) as usize).map_or(root, |directory| directory);
        let name = format!("made {number} and a long name of nothing else {}", dice.below(1 << 30));
        let name = name.as_bytes();
        let content = [
            NewContent::Regular,
            NewContent::Directory,
            NewContent::Symlink(&[b'y'; 100]),
            NewContent::Device(FileKind::CharDevice, DeviceId::new(1, 3)),
        ][dice.below(4) as usize];
        if let Ok(inode) = directory.operations().create(directory, name, &new(content)) {
            let _ = write(&inode, dice.below(100_000), &[1; 3000]);
        }
        let Some((parent, old, inode)) = found.get(dice.below(found.len().max(1) as u64) as usize) else {
            continue;
        };
        let operations = inode.operations();
        // Any error will do.
        let _: Result<()> = match dice.below(6) {
            0 => write(inode, dice.below(1 << 20), &[2; 5000]),
            1 => {
                let size = Some(dice.below(1 << 20));
                let _change = inode.lock.write();
                operations.set_attributes(inode, &AttributeChange { size, ..AttributeChange::default() })
            }
            2 => operations.set_xattr(inode, b"user.new", &[3; 300], XattrMode::Any),
            3 => operations.remove_xattr(inode, b"user.long"),
            _ if inode.link_count() == 0 => Ok(()),
            4 if inode.is_directory() => parent.operations().rmdir(parent, old, inode),
            4 => parent.operations().unlink(parent, old, inode),
            _ if inode.is_directory() || directory.operations().lookup(directory, name).is_ok() => Ok(()),
            _ => directory.operations().rename(&Rename {
                old_directory: parent,
                old_name: old,
                inode,
                new_directory: directory,
                new_name: name,
                target: None,
                mode: RenameMode::Replace,
            }),
        };
    }
}

/// Uses a damaged image in every way; says whether it could be mounted.
fn use_image(bytes: Vec<u8>, dice: &mut Dice) -> bool {
    let disk = MemoryDisk::new(bytes);
    let flags = if dice.once_in(6) { MountFlags::RDONLY } else { MountFlags::empty() };
    // Not what the image says, which may be to panic.
    let options = if dice.once_in(2) { &b"errors=continue"[..] } else { b"errors=remount-ro" };
    let Ok(root) = mount_disk_with(disk, flags, options) else { return false };
    let found = walk(&root);
    change(&root, &found, dice);
    let _ = root.superblock().sync();
    drop(found);
    let _ = walk(&root);
    true
}

/// Ends the process if it is still there after a while: a loop without an end cannot be stopped otherwise.
fn watch(seeds: Range<u64>) {
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(PATIENCE));
        std::eprintln!(
            "one of the damaged images {seeds:?} is used for {PATIENCE} seconds: a loop without an end"
        );
        std::process::abort();
    });
}

/// Uses the image with the damage of each of these seeds.
fn damaged(kind: &str, options: &[&str], seeds: Range<u64>, empty: &Path) -> Option<()> {
    let options: Vec<&str> = options.iter().copied().chain(["-J", "size=1", "-N", "1024"]).collect();
    let bytes = image(&format!("damaged-{kind}"), &options, "4M", empty)?;
    let path = empty.with_extension(kind);
    let filled = path.clone();
    sched::host::run(1, 2, move || fs::write(filled, fill(bytes)).unwrap());
    // The test is done by a program of its own; in the one that began it there is no file.
    let Ok(filled) = fs::read(&path) else { return Some(()) };
    fs::remove_file(&path).unwrap();
    let filled = Arc::new(filled);
    for first in seeds.clone().step_by(BATCH as usize) {
        let (kind, filled) = (String::from(kind), filled.clone());
        let batch = first..seeds.end.min(first + BATCH);
        sched::host::run(first, 2, move || {
            watch(batch.clone());
            let mut mounted = 0;
            for seed in batch.clone() {
                println!("{kind} {seed}");
                let (mut bytes, mut dice) = (Vec::clone(&filled), Dice::new(seed));
                damage(&mut bytes, &mut dice);
                mounted += u32::from(use_image(bytes, &mut dice));
            }
            println!("{kind} {batch:?}: {mounted} mounted");
            assert!(mounted > 0 || cfg!(miri), "the damage is so large that nothing is tested");
        });
    }
    Some(())
}

const KINDS: [(&str, &[&str]); 4] = [
    ("unchecked", &["-t", "ext4", "-b", "1024", "-O", "^metadata_csum"]),
    ("checked", &["-t", "ext4", "-b", "1024"]),
    ("mapped", &["-t", "ext3", "-b", "1024"]),
    ("inline", &["-t", "ext4", "-b", "1024", "-O", "inline_data,^metadata_csum"]),
];

fn all(seeds: Range<u64>) {
    let empty =
        std::env::temp_dir().join(format!("linnet-ext4-{}-damaged-{}", std::process::id(), seeds.start));
    fs::create_dir_all(&empty).unwrap();
    for (kind, options) in KINDS {
        if damaged(kind, options, seeds.clone(), &empty).is_none() {
            break;
        }
    }
    fs::remove_dir_all(&empty).unwrap();
}

#[test]
fn damaged_images_hurt_nobody() {
    all(0..length(50) as u64);
}

/// Thousands of images: `cargo xtask test --long`.
#[test]
#[ignore = "long: run by `cargo xtask test --long`"]
fn many_damaged_images_hurt_nobody() {
    all(1000..3500);
}
