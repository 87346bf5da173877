//! The disk is full at every point: work of all kinds with so many blocks, or inodes, free at its beginning, one more each time.
//!
//! What is said to have worked is there afterwards, the rest says `ENOSPC` and has changed nothing. What write(2) accepted finds room when it is written, so
//! nothing but an operation of its own says so, and fsync(2) does not, but for one thing: writes scattered over what fallocate(2) gave, with less than ten blocks
//! left (`sync_split`), whose contents are not looked at then. Whatever happens the journal goes on, nothing else is lost, and fsck finds nothing.
//!
//! What is to be full is claimed and never used: it comes back at the end.

use super::names::new;
use super::{check_with_fsck, contents, image, mount_disk, mount_disk_with, names};
use crate::filesystem::FileSystem;
use crate::groups::Claim;
use crate::node::Node;
use crate::{ranges, regular};
use abi::errno::{Errno, Result};
use abi::mount::MountFlags;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use block::memory::MemoryDisk;
use machine::sync::atomic::Ordering;
use mm::WriteBackMode;
use mm::io::SliceReader;
use std::string::String;
use std::{format, fs, println};
use vfs::{Inode, NewContent, Rename, RenameMode, SyncKind, XattrMode};

/// What is mounted: a name, what mke2fs is told, mount options.
const KINDS: [(&str, &[&str], &str); 7] = [
    ("ext4", &["-t", "ext4"], ""),
    ("mapped", &["-t", "ext3"], ""),
    ("ext2", &["-t", "ext2"], ""),
    ("inline", &["-t", "ext4", "-O", "inline_data"], ""),
    ("journal", &["-t", "ext4"], "data=journal"),
    ("mapped-journal", &["-t", "ext3"], "data=journal"),
    ("at-once", &["-t", "ext4"], "nodelalloc"),
];

/// Bytes of a block.
const BLOCK: u64 = 1024;

/// What is short.
#[derive(Clone, Copy, Debug)]
enum Left {
    Blocks(i64),
    Inodes(i64),
    Everything,
}

struct Work {
    root: Arc<Inode>,
    fs: Arc<FileSystem>,
    /// Regular files with what they hold, and the names of everything else.
    files: BTreeMap<String, Vec<u8>>,
    others: BTreeSet<String>,
    refused: usize,
    /// What is short, and whether writing to what fallocate(2) gave was refused by fsync(2).
    left: Left,
    told: bool,
}

impl Work {
    /// Whether an operation worked; if not, it was for want of room.
    fn did<T>(&mut self, what: &str, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                assert_eq!(error, Errno::ENOSPC, "{what}");
                self.refused += 1;
                None
            }
        }
    }

    fn find(&self, name: &str) -> Arc<Inode> {
        self.root.operations().lookup(&self.root, name.as_bytes()).unwrap()
    }

    fn make(&mut self, name: &str, content: NewContent<'_>) -> Option<Arc<Inode>> {
        let is_file = matches!(content, NewContent::Regular);
        let made = self.root.operations().create(&self.root, name.as_bytes(), &new(content));
        let inode = self.did("create", made)?;
        if is_file {
            self.files.insert(name.into(), Vec::new());
        } else {
            self.others.insert(name.into());
        }
        Some(inode)
    }

    /// Writes as `RegularFile::write` does; what was accepted has to be there.
    fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Option<()> {
        let inode = self.find(name);
        let body = inode.private::<Node>().unwrap().body();
        let cache = inode.operations().page_cache().unwrap();
        let _change = inode.lock.write();
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let count = self.did("write", cache.write(at, &mut SliceReader::new(&bytes[done..])))?;
            let held = self.files.get_mut(name).unwrap();
            held.resize(held.len().max(at as usize + count), 0);
            held[at as usize..at as usize + count].copy_from_slice(&bytes[done..done + count]);
            let range = at..at + count as u64;
            if body.journals_data() {
                cache.start_write_back(range, WriteBackMode::Sync).unwrap();
            } else if !self.fs.options.read().delayed_allocation {
                cache.start_write_back(range, WriteBackMode::Background).unwrap();
            }
            done += count;
        }
        Some(())
    }

    fn sync(&mut self, name: &str) {
        let inode = self.find(name);
        let written = inode.operations().page_cache().unwrap().sync(0..u64::MAX);
        assert_eq!(written, Ok(()), "what was written to {name} finds no room");
        assert_eq!(inode.private::<Node>().unwrap().body().commit(SyncKind::All), Ok(()), "{name}");
    }

    /// Blocks that are written between others that are not take extents, and their tree may need room that the pool has, but here the pool has been
    /// taken away too: then fsync(2) says so.
    fn sync_split(&mut self) {
        /// No tree of the work has more nodes.
        const NODES: i64 = 10;
        let inode = self.find("split");
        let written = inode.operations().page_cache().unwrap().sync(0..u64::MAX);
        if self.did("fsync", written).is_none() {
            assert!(matches!(self.left, Left::Blocks(0..NODES)), "the pool has room for the tree");
            self.told = true;
        }
    }

    /// Changes a range of a file that has extents.
    fn change(&mut self, name: &str, how: &str, range: core::ops::Range<u64>) {
        let inode = self.find(name);
        let body = inode.private::<Node>().unwrap().body();
        let cache = inode.operations().page_cache().unwrap();
        let _change = inode.lock.write();
        if body.is_inline() && self.did("moving out", regular::move_out(body)).is_none() {
            return;
        }
        if !body.has_extents() && how != "punch" {
            return;
        }
        let (start, end) = (range.start as usize, range.end as usize);
        let size = self.files[name].len();
        let result = match how {
            "allot" => ranges::allot(body, range),
            "punch" => ranges::punch_hole(body, cache, range),
            "collapse" if end < size => ranges::collapse(body, cache, range),
            "insert" if start < size => ranges::insert(body, cache, range),
            _ => return,
        };
        if self.did(how, result).is_none() {
            return;
        }
        let held = self.files.get_mut(name).unwrap();
        match how {
            "punch" => held[start.min(size)..end.min(size)].fill(0),
            "collapse" => drop(held.drain(start..end)),
            "insert" => drop(held.splice(start..start, core::iter::repeat_n(0, end - start))),
            _ => {}
        }
    }

    fn resize(&mut self, name: &str, size: usize) {
        let inode = self.find(name);
        let _change = inode.lock.write();
        let resized = regular::resize(inode.private::<Node>().unwrap(), &inode, size as u64);
        if self.did("truncate", resized).is_some() {
            self.files.get_mut(name).unwrap().resize(size, 0);
        }
    }

    fn rename(&mut self, old: &str, name: &str) {
        if !self.files.contains_key(old) {
            return;
        }
        let inode = self.find(old);
        let target = self.files.contains_key(name).then(|| self.find(name));
        let renamed = self.root.operations().rename(&Rename {
            old_directory: &self.root,
            old_name: old.as_bytes(),
            inode: &inode,
            new_directory: &self.root,
            new_name: name.as_bytes(),
            target: target.as_ref(),
            mode: RenameMode::Replace,
        });
        if self.did("rename", renamed).is_some() {
            let held = self.files.remove(old).unwrap();
            self.files.insert(name.into(), held);
        }
    }

    fn link(&mut self, old: &str, name: &str) {
        let linked = self.root.operations().link(&self.root, name.as_bytes(), &self.find(old));
        if self.did("link", linked).is_some() {
            let held = self.files[old].clone();
            self.files.insert(name.into(), held);
        }
    }

    fn remove(&mut self, name: &str) {
        let inode = self.find(name);
        self.root.operations().unlink(&self.root, name.as_bytes(), &inode).unwrap();
        self.files.remove(name);
    }

    /// What is there before it becomes narrow.
    fn prepare(&mut self) {
        for name in ["a", "b", "split", "moved", "sparse"] {
            self.make(name, NewContent::Regular).unwrap();
        }
        self.write("a", 0, &[1; 9000]).unwrap();
        self.write("b", 0, &[2; 40]).unwrap();
        self.write("moved", 0, &[3; 20 * BLOCK as usize]).unwrap();
        self.change("split", "allot", 0..300 * BLOCK);
        self.resize("split", 300 * BLOCK as usize);
        self.root.superblock().sync().unwrap();
        assert_eq!(self.refused, 0);
    }

    /// All kinds of work.
    fn run(&mut self) {
        self.write("b", 100, &[4; 400]);
        self.names();
        self.blocks();
        for block in (1..300).step_by(2) {
            self.write("split", block * BLOCK, &[7; BLOCK as usize]);
        }
        self.sync_split();
        self.attributes();
        for name in ["sparse", "a"] {
            self.remove(name);
        }
        // What was freed can be used again.
        if self.make("after", NewContent::Regular).is_some() {
            self.write("after", 0, &[8; 3000]);
        }
    }

    fn names(&mut self) {
        for number in 0..30 {
            let name = format!("{number} {}", "n".repeat(100));
            let made = self.make(&name, NewContent::Regular);
            if made.is_some() && number % 3 == 0 {
                self.write(&name, 0, &[number; 2500]);
            }
            if made.is_some() && number % 6 == 0 {
                self.sync(&name);
            }
        }
        for number in 0..3 {
            self.make(&format!("directory {number}"), NewContent::Directory);
            self.make(&format!("link {number}"), NewContent::Symlink(&[b'l'; 300]));
            self.make(&format!("short link {number}"), NewContent::Symlink(&[b'l'; 30]));
            self.link("b", &format!("{number} {}", "h".repeat(200)));
        }
        self.rename("moved", &"m".repeat(250));
        self.rename(&"m".repeat(250), "moved");
    }

    fn blocks(&mut self) {
        for number in 0..20 {
            let at = self.files["a"].len() as u64;
            self.write("a", at, &[10 + number; 1000]);
        }
        // Each with a block of pointers of its own, if it has such; nothing is written before the end.
        for number in 0..40 {
            self.write("sparse", number * 300 * BLOCK, &[9]);
        }
        self.sync("sparse");
        for (how, range) in [("punch", 3..5), ("collapse", 6..8), ("insert", 2..4), ("allot", 30..60)] {
            self.change("moved", how, range.start * BLOCK..range.end * BLOCK);
        }
        self.resize("moved", 7777);
        self.resize("moved", 77_777);
        self.write("moved", 70_000, &[11; 300]);
    }

    fn attributes(&mut self) {
        let names: Vec<String> = self.files.keys().chain(&self.others).take(20).cloned().collect();
        for name in names {
            let inode = self.find(&name);
            let set = inode.operations().set_xattr(&inode, b"user.some", &[5; 500], XattrMode::Any);
            if self.did("setxattr", set).is_some() {
                assert_eq!(inode.operations().get_xattr(&inode, b"user.some"), Ok(alloc::vec![5; 500]));
            }
        }
    }

    /// Takes blocks away; they come back when the claims are dropped.
    fn take(&mut self, left: Left) -> Vec<Claim> {
        let mut claims = Vec::new();
        match left {
            Left::Everything => {}
            Left::Blocks(blocks) => loop {
                let more = self.fs.free_blocks.load(Ordering::Relaxed) - blocks;
                if more <= 0 {
                    break;
                }
                claims.push(self.fs.claim(0, more as u32).unwrap());
            },
            Left::Inodes(inodes) => {
                while self.fs.free_inodes.load(Ordering::Relaxed) > inodes {
                    let name = format!("fifo {}", self.others.len());
                    self.make(&name, NewContent::Fifo).unwrap();
                }
            }
        }
        claims
    }

    /// What is in memory and on the disk agrees.
    fn check_counts(&self) {
        let fs = &self.fs;
        assert!(fs.journal().unwrap().aborted().is_none(), "the journal was aborted");
        assert_eq!(fs.delayed_blocks.load(Ordering::Relaxed), 0, "room is still reserved");
        let on_disk: i64 = fs.groups.iter().map(|group| i64::from(group.descriptor().free_blocks)).sum();
        assert_eq!(
            fs.free_blocks.load(Ordering::Relaxed),
            on_disk,
            "blocks that are lost until it is mounted again"
        );
    }

    fn check(&self) {
        let mut listed = names(&self.root, 50).unwrap();
        listed.retain(|name| name != b"lost+found");
        listed.sort();
        let mut expected: Vec<Vec<u8>> =
            self.files.keys().chain(&self.others).map(|name| name.clone().into_bytes()).collect();
        expected.sort();
        assert_eq!(listed, expected);
        for (name, held) in &self.files {
            let found = contents(&self.find(name)).unwrap();
            if found != *held && !(self.told && name == "split") {
                let at = found.iter().zip(held).position(|(found, held)| found != held);
                panic!("{name}: {} bytes, not {}; they differ at {at:?}", found.len(), held.len());
            }
        }
    }
}

/// Blocks or inodes that the work takes, and how often it was refused.
fn one(kind: &str, bytes: &[u8], options: &str, left: Left) -> (i64, usize) {
    let disk = MemoryDisk::new(bytes.to_vec());
    let root = mount_disk_with(disk.clone(), MountFlags::empty(), options.as_bytes()).unwrap();
    // If something is wrong it stays mounted: unmounting waits for threads that do not run any more.
    let mounted = core::mem::ManuallyDrop::new(root.clone());
    let fs = root.private::<Node>().unwrap().body().fs.clone();
    let mut work =
        Work { root, fs, files: BTreeMap::new(), others: BTreeSet::new(), refused: 0, left, told: false };
    work.prepare();
    let claims = work.take(left);
    let free = |work: &Work| match left {
        Left::Inodes(_) => work.fs.free_inodes.load(Ordering::Relaxed),
        _ => work.fs.free_blocks.load(Ordering::Relaxed),
    };
    let before = free(&work);
    work.run();
    let superblock = work.root.superblock().clone();
    assert!(superblock.sync().is_ok() || work.told);
    let taken = before - free(&work);
    drop(claims);
    work.fs.journal().unwrap().force_commit().unwrap();
    work.check_counts();
    work.check();
    let Work { root, fs, files, others, refused, told, .. } = work;
    drop((root, fs, superblock, core::mem::ManuallyDrop::into_inner(mounted)));
    check_with_fsck(&format!("full-{kind}"), &disk.contents());
    let root = mount_disk(disk, MountFlags::RDONLY).unwrap();
    let mounted = core::mem::ManuallyDrop::new(root.clone());
    let fs = root.private::<Node>().unwrap().body().fs.clone();
    let work = Work { root, fs, files, others, refused, left, told };
    work.check();
    drop((work, core::mem::ManuallyDrop::into_inner(mounted)));
    (taken, refused)
}

/// Every point, or one of `share`.
fn every(share: usize) {
    let empty = std::env::temp_dir().join(format!("linnet-ext4-{}-full-{share}", std::process::id()));
    fs::create_dir_all(&empty).unwrap();
    for (kind, options, mount_options) in KINDS {
        let mut options: Vec<&str> = options.to_vec();
        options.extend(["-b", "1024", "-N", "96", "-m", "0"]);
        if kind != "ext2" {
            options.extend(["-J", "size=1"]);
        }
        let Some(bytes) = image(&format!("full-{kind}-{share}"), &options, "4M", &empty) else { return };
        sched::host::run(1, 2, move || {
            let (blocks, refused) = one(kind, &bytes, mount_options, Left::Everything);
            assert_eq!(refused, 0, "with room for everything");
            let pool = bytes.len() as i64 / BLOCK as i64 / 50;
            // More than it keeps: what is freed comes back later.
            let most = blocks + pool + 300;
            println!("{kind}: up to {most} blocks");
            let points = (0..most).map(Left::Blocks).chain((0..45).map(Left::Inodes));
            let (mut tried, mut narrow) = (0, 0);
            for left in points.skip(share / 2).step_by(share) {
                if std::env::var_os("LINNET_EACH").is_some() {
                    println!("{kind} {left:?}");
                }
                let (_, refused) = one(kind, &bytes, mount_options, left);
                tried += 1;
                narrow += usize::from(refused > 0);
            }
            println!("{kind}: {tried} points, {narrow} too narrow");
            assert!(narrow > 0, "narrow points are tried");
        });
    }
    fs::remove_dir_all(&empty).unwrap();
}

/// One point of so many is tried by default.
const SHARE: usize = 41;

#[test]
fn a_full_disk_says_so_and_loses_nothing() {
    every(SHARE);
}

/// All of them: `cargo xtask test --long`.
#[test]
#[ignore = "long: run by `cargo xtask test --long`"]
fn a_disk_full_at_every_point_says_so_and_loses_nothing() {
    every(1);
}
