//! Transfers that fail: every block that some work touches, in turn, once and for ever, with `errors=remount-ro` and `errors=continue`.
//!
//! The work is done once on a disk that notes what is asked of it. Then it is done again for each block that was read or written, and for each flush, with
//! just that failing. Whatever fails: the caller is told (`EIO`, and `EROFS` from then on if the file system stopped), nothing waits for ever, what is read is
//! what was written, and when the disk is whole again `fsck.ext4` makes the file system right without losing what was promised: everything that was
//! there before, and what fsync and sync said was kept. If nobody was told anything, everything is there and nothing is to be repaired.

use super::names::new;
use super::{image, mount_driver, names};
use crate::node::Node;
use abi::errno::{Errno, Result};
use abi::mount::MountFlags;
use alloc::sync::Arc;
use alloc::vec::Vec;
use block::Operation;
use block::simulate::{Fault, SimulatedDisk};
use mm::io::{SliceReader, VecWriter};
use mm::page_cache::Seen;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::string::{String, ToString};
use std::{format, fs, println};
use vfs::{Inode, NewContent, Rename, RenameMode, SyncKind, XattrMode};

/// Sectors of a block: the images have blocks of 1 KiB, and no transfer is of less.
const BLOCK: u64 = 2;
/// The longest that the work may take by the simulated clock, ns.
const LONGEST_NS: u64 = 120_000_000_000;
/// Bits of the superblock: `s_state`'s error, and `RECOVER`.
const STATE_AT: usize = 1024 + 58;
const INCOMPAT_AT: usize = 1024 + 96;

/// A file of the work, and what may be found of it when everything is over.
#[derive(Clone)]
struct Promise {
    /// All names that it has had.
    names: Vec<&'static str>,
    /// The names that it may have; `None`: it may be gone.
    may: Vec<Option<&'static str>>,
    /// What each of its bytes may be: as in one of these, which are equally long; or any beginning of it followed by zeros, if it is `torn`.
    versions: Vec<Vec<u8>>,
    torn: bool,
}

impl Promise {
    fn of(name: &'static str, bytes: Vec<u8>) -> Promise {
        Promise {
            names: alloc::vec![name],
            may: alloc::vec![Some(name)],
            versions: alloc::vec![bytes],
            torn: false,
        }
    }

    /// Everything about it is on the disk.
    fn kept(&mut self) {
        self.may.drain(..self.may.len() - 1);
        self.versions.drain(..self.versions.len() - 1);
        self.torn = false;
    }

    /// Errors: what is wrong.
    fn check(&self, root: &Arc<Inode>) -> core::result::Result<(), String> {
        let there: Vec<_> =
            self.names.iter().filter_map(|name| Some((*name, find(root, name).ok()?))).collect();
        let (name, inode) = match there.as_slice() {
            [] if self.may.contains(&None) => return Ok(()),
            [one] if self.may.contains(&Some(one.0)) => one,
            _ => {
                let found: Vec<_> = there.iter().map(|(name, _)| *name).collect();
                return Err(format!("found as {found:?}, may be {:?}", self.may));
            }
        };
        let bytes = read_whole(inode).map_err(|error| format!("{name}: {}", error.name()))?;
        let is_right = |(at, byte): (usize, &u8)| {
            self.torn && *byte == 0 || self.versions.iter().any(|version| version.get(at) == Some(byte))
        };
        let length_is_right = self.versions.iter().any(|version| version.len() == bytes.len())
            || self.torn && self.versions.iter().any(|version| version.len() > bytes.len());
        if !length_is_right {
            return Err(format!("{name} has {} bytes", bytes.len()));
        }
        match bytes.iter().enumerate().position(|byte| !is_right(byte)) {
            Some(at) => Err(format!("{name}: byte {at} was never written so")),
            None => Ok(()),
        }
    }
}

fn find(root: &Arc<Inode>, path: &str) -> Result<Arc<Inode>> {
    let mut at = root.clone();
    for name in path.split('/') {
        at = at.operations().lookup(&at, name.as_bytes())?;
    }
    Ok(at)
}

/// All of a file: what a read did not reach is asked for again, and then has to fail.
fn read_whole(inode: &Inode) -> Result<Vec<u8>> {
    let cache = inode.operations().page_cache().ok_or(Errno::EIO)?;
    let mut writer = VecWriter::new(1 << 20);
    let mut at = 0;
    loop {
        match cache.read(at, &mut writer)? {
            0 => return Ok(writer.into_bytes()),
            count => at += count as u64,
        }
    }
}

/// Writes all of it; what a write did not reach is tried again, and then has to fail.
fn write(inode: &Inode, bytes: &[u8]) -> Result<()> {
    let cache = inode.operations().page_cache().ok_or(Errno::EIO)?;
    let _change = inode.lock.write();
    let mut done = 0;
    while done < bytes.len() {
        done += cache.write(done as u64, &mut SliceReader::new(&bytes[done..]))?;
    }
    Ok(())
}

fn bytes_of(seed: u32, length: usize) -> Vec<u8> {
    // Never zero: what was not written can be told from what was.
    (0..length as u32).map(|at| (at.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 24) as u8 | 1).collect()
}

/// What is on the image at first.
const OLD: [(&str, u32, usize); 4] =
    [("old/a", 1, 5000), ("old/gone", 2, 3000), ("old/moved", 3, 2000), ("old/large", 4, 60_000)];
/// Names of a directory with an index.
const MANY: usize = 150;

/// The tree that images are made from.
fn tree(name: &str) -> PathBuf {
    let root = std::env::temp_dir().join(format!("linnet-ext4-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&root);
    fs::create_dir_all(root.join("old/many")).unwrap();
    for (path, seed, length) in OLD {
        fs::write(root.join(path), bytes_of(seed, length)).unwrap();
    }
    for number in 0..MANY {
        fs::write(root.join(format!("old/many/a name of some length {number}")), "").unwrap();
    }
    std::os::unix::fs::symlink("long/".repeat(40), root.join("old/link")).unwrap();
    root
}

/// A description of an open file, as far as errors of write-back go.
struct Open {
    inode: Arc<Inode>,
    seen: Seen,
}

impl Open {
    fn new(inode: &Arc<Inode>) -> Open {
        let seen = Seen::new();
        if let Some(errors) = inode.operations().page_cache().and_then(|cache| cache.errors()) {
            errors.sample(&seen);
        }
        Open { inode: inode.clone(), seen }
    }

    /// What `vfs::File::sync` does.
    fn sync(&self) -> Result<()> {
        let cache = self.inode.operations().page_cache().ok_or(Errno::EINVAL)?;
        let written = cache.sync(0..u64::MAX);
        let kept = commit(&self.inode);
        let seen = cache.error_since(&self.seen);
        written.and(kept).and(seen)
    }
}

fn commit(inode: &Inode) -> Result<()> {
    inode.private::<Node>().ok_or(Errno::EINVAL)?.body().commit(SyncKind::All)
}

/// The work, and what it was told.
struct Work {
    root: Arc<Inode>,
    heard: Vec<(&'static str, Errno)>,
    files: Vec<Promise>,
    wrong: Vec<String>,
    flushes_fail: bool,
}

impl Work {
    fn hear<T>(&mut self, what: &'static str, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.heard.push((what, error))).ok()
    }

    fn file(&mut self, name: &str) -> Option<&mut Promise> {
        self.files.iter_mut().find(|file| file.names.contains(&name))
    }

    /// Reads everything that was there.
    fn read_all(&mut self) {
        for (path, seed, length) in OLD {
            let read = find(&self.root, path).and_then(|inode| read_whole(&inode));
            if let Some(bytes) = self.hear("read", read)
                && bytes != bytes_of(seed, length)
            {
                self.wrong.push(format!("{path} is read otherwise than it was written"));
            }
        }
        let listed = find(&self.root, "old/many").and_then(|many| names(&many, 7));
        if self.hear("list", listed).is_some_and(|listed| listed.len() != MANY) {
            self.wrong.push("names are missing in a list that did not fail".to_string());
        }
        let found = find(&self.root, "old/many/a name of some length 77");
        self.hear("look up", found);
        let link = find(&self.root, "old/link");
        self.hear("read a link", link);
    }

    /// Writes a new file and syncs it through two descriptions.
    fn write_new(&mut self) -> Option<()> {
        let old = find(&self.root, "old");
        let old = self.hear("look up", old)?;
        let made = old.operations().create(&old, b"sub", &new(NewContent::Directory));
        let sub = self.hear("mkdir", made)?;
        let made = sub.operations().create(&sub, b"one", &new(NewContent::Regular));
        let file = self.hear("create", made)?;
        let bytes = bytes_of(9, 9000);
        let mut promise = Promise::of("old/sub/one", bytes.clone());
        promise.may = alloc::vec![None, Some("old/sub/one")];
        promise.torn = true;
        self.files.push(promise);
        let (first, second) = (Open::new(&file), Open::new(&file));
        let written = write(&file, &bytes);
        self.hear("write", written)?;
        self.sync_twice(&first, &second, "old/sub/one");
        Some(())
    }

    /// A failed write is told to both, once to each.
    fn sync_twice(&mut self, first: &Open, second: &Open, name: &str) {
        let synced = first.sync();
        if synced.is_ok()
            && let Some(file) = self.file(name)
        {
            file.kept();
        }
        let again = (second.sync(), first.sync());
        let stopped = first.inode.private::<Node>().is_none_or(is_stopped);
        let told = match (synced, again.0, again.1) {
            // A flush that failed is told to who asked for it.
            _ if stopped || self.flushes_fail => true,
            (Ok(()), ..) => true, // What failed later is another matter.
            (Err(error), second, third) => second == Err(error) && third == Ok(()),
        };
        if !told {
            self.wrong.push(format!("fsync of {name} said {synced:?}, then {again:?}"));
        }
        self.hear("fsync", synced);
        self.hear("fsync by another", again.0);
        self.hear("fsync again", again.1);
    }

    fn overwrite(&mut self) -> Option<()> {
        let found = find(&self.root, "old/a");
        let file = self.hear("look up", found)?;
        let (first, second) = (Open::new(&file), Open::new(&file));
        let bytes = bytes_of(77, 5000);
        self.file("old/a")?.versions.push(bytes.clone());
        let written = write(&file, &bytes);
        self.hear("write", written)?;
        self.sync_twice(&first, &second, "old/a");
        let set = file.operations().set_xattr(&file, b"user.long", &[7; 500], XattrMode::Any);
        self.hear("setxattr", set);
        Some(())
    }

    fn change_names(&mut self) -> Option<()> {
        let old = find(&self.root, "old");
        let old = self.hear("look up", old)?;
        let found = find(&self.root, "old/gone");
        if let Some(gone) = self.hear("look up", found) {
            self.file("old/gone")?.may.push(None);
            let removed = old.operations().unlink(&old, b"gone", &gone);
            self.hear("unlink", removed);
        }
        let found = find(&self.root, "old/moved");
        if let Some(inode) = self.hear("look up", found) {
            let file = self.file("old/moved")?;
            file.names.push("old/many/moved");
            file.may.push(Some("old/many/moved"));
            let found = find(&self.root, "old/many");
            let many = self.hear("look up", found)?;
            let renamed = many.operations().rename(&Rename {
                old_directory: &old,
                old_name: b"moved",
                inode: &inode,
                new_directory: &many,
                new_name: b"moved",
                target: None,
                mode: RenameMode::Replace,
            });
            self.hear("rename", renamed)?;
            let kept = commit(&many);
            if self.hear("fsync of a directory", kept).is_some() {
                self.file("old/moved")?.kept();
            }
        }
        Some(())
    }

    /// What is not synced by itself, then all of it.
    fn write_more(&mut self) -> Option<()> {
        let old = find(&self.root, "old");
        let old = self.hear("look up", old)?;
        let made = old.operations().create(&old, b"more", &new(NewContent::Regular));
        let file = self.hear("create", made)?;
        let bytes = bytes_of(5, 20_000);
        let mut promise = Promise::of("old/more", bytes.clone());
        promise.may = alloc::vec![None, Some("old/more")];
        promise.torn = true;
        self.files.push(promise);
        let written = write(&file, &bytes);
        self.hear("write", written);
        Some(())
    }

    fn sync_all(&mut self) {
        let superblock = self.root.superblock().clone();
        let seen = Seen::new();
        let synced = superblock.sync();
        let told = superblock.errors().check_and_advance(&seen);
        let before = self.heard.len();
        self.hear("sync", synced.and(told));
        if before == 0 && self.heard.is_empty() {
            self.files.iter_mut().for_each(Promise::kept);
        }
    }

    /// A file system that stopped says so to whoever wants to change something.
    fn probe(&mut self) {
        let node = self.root.private::<Node>().unwrap();
        let stopped = is_stopped(node);
        let made = self.root.operations().create(&self.root, b"probe", &new(NewContent::Fifo));
        if stopped && made.as_ref().err() != Some(&Errno::EROFS) {
            self.wrong.push(format!("creating on a file system that stopped: {:?}", made.map(drop)));
        } else if stopped && !self.root.superblock().is_read_only() {
            self.wrong.push("it stopped and does not look read-only".to_string());
        } else {
            self.hear("create", made);
        }
    }
}

/// Nothing is written any more.
fn is_stopped(node: &Node) -> bool {
    let fs = &node.body().fs;
    fs.is_read_only() || fs.journal().is_ok_and(|journal| journal.aborted().is_some())
}

fn before() -> Vec<Promise> {
    OLD.into_iter().map(|(path, seed, length)| Promise::of(path, bytes_of(seed, length))).collect()
}

/// Does the work; what came of it.
fn work(
    disk: &Arc<SimulatedDisk>,
    sectors: usize,
    options: &str,
    flushes_fail: bool,
) -> (Vec<(&'static str, Errno)>, Vec<Promise>, Vec<String>) {
    let root = match mount_driver(disk.clone(), sectors, MountFlags::empty(), options.as_bytes()) {
        Ok(root) => root,
        Err(error) => return (alloc::vec![("mount", error)], before(), Vec::new()),
    };
    let mut work = Work { root, heard: Vec::new(), files: before(), wrong: Vec::new(), flushes_fail };
    work.read_all();
    let _ = (work.write_new(), work.overwrite(), work.change_names(), work.write_more());
    work.sync_all();
    work.probe();
    let Work { root, heard, files, wrong, .. } = work;
    drop(root);
    (heard, files, wrong)
}

/// Runs e2fsck; its status and what it said.
fn fsck(path: &Path, how: &str) -> (Option<i32>, String) {
    let run = |program: &&str| Command::new(program).arg(how).arg(path).output().ok();
    let verdict = ["e2fsck", "/usr/sbin/e2fsck"].iter().find_map(run).expect("e2fsck comes with mke2fs");
    (verdict.status.code(), String::from_utf8_lossy(&verdict.stdout).into_owned())
}

/// Looks at what a disk that is whole again has. Errors: what is wrong.
fn judge(found: Vec<u8>, files: &[Promise], nobody_heard: bool) -> core::result::Result<(), String> {
    let path = std::env::temp_dir().join(format!("linnet-ext4-{}.faults", std::process::id()));
    let was_ended = found[STATE_AT] & 2 == 0 && found[INCOMPAT_AT] & 4 == 0;
    fs::write(&path, found).unwrap();
    if nobody_heard && was_ended {
        let (code, said) = fsck(&path, "-fn");
        if code != Some(0) {
            return Err(format!("nobody was told of what fsck finds: {said}"));
        }
    }
    let (code, said) = fsck(&path, "-fy");
    if !matches!(code, Some(0 | 1)) {
        return Err(format!("fsck -fy: {code:?} {said}"));
    }
    if said.contains("lost+found") || said.contains("salvage") {
        return Err(format!("fsck -fy found something lost: {said}"));
    }
    let (code, said) = fsck(&path, "-fn");
    if code != Some(0) {
        return Err(format!("fsck after fsck: {code:?} {said}"));
    }
    let repaired = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let sectors = repaired.len() / block::SECTOR_SIZE;
    let root = mount_driver(SimulatedDisk::new(repaired), sectors, MountFlags::RDONLY, b"")
        .map_err(|error| format!("mount after fsck: {}", error.name()))?;
    files.iter().try_for_each(|file| file.check(&root))
}

/// One fault. Errors: what is wrong.
fn one(bytes: &[u8], fault: &Fault, options: &str) -> core::result::Result<bool, String> {
    let disk = SimulatedDisk::new(bytes.to_vec());
    disk.fail(fault.clone());
    let begun = machine::time::now_ns();
    let (heard, files, wrong) =
        work(&disk, bytes.len() / block::SECTOR_SIZE, options, fault.operation == Operation::Flush);
    disk.heal();
    let said = |what: String| format!("{what}\n    heard: {heard:?}");
    let took = machine::time::now_ns() - begun;
    if took > LONGEST_NS {
        return Err(said(format!("it took {} s", took / 1_000_000_000)));
    }
    if let Some(wrong) = wrong.first() {
        return Err(said(wrong.clone()));
    }
    if let Some((what, error)) = heard.iter().find(|(_, error)| !matches!(*error, Errno::EIO | Errno::EROFS))
    {
        return Err(said(format!("{what} said {}", error.name())));
    }
    judge(disk.contents(), &files, heard.is_empty()).map_err(said)?;
    Ok(!heard.is_empty())
}

/// All faults that can come of the work on an image, or one of `share`.
fn all_of(kind: &str, bytes: &[u8], options: &str, share: usize) {
    let disk = SimulatedDisk::new(bytes.to_vec());
    let (heard, files, wrong) = work(&disk, bytes.len() / block::SECTOR_SIZE, options, false);
    assert!(heard.is_empty() && wrong.is_empty(), "without a fault: {heard:?} {wrong:?}");
    judge(disk.contents(), &files, true).unwrap();
    let mut faults = Vec::new();
    for times in [1, u64::MAX] {
        for operation in [Operation::Read, Operation::Write] {
            let blocks: std::collections::BTreeSet<u64> =
                disk.touched(operation).into_iter().map(|sector| sector / BLOCK * BLOCK).collect();
            faults.extend(blocks.into_iter().map(|sector| Fault {
                operation,
                sectors: sector..sector + BLOCK,
                after: 0,
                times,
                error: Errno::EIO,
            }));
        }
        faults.extend((0..disk.flushes()).map(|after| Fault {
            operation: Operation::Flush,
            sectors: 0..u64::MAX,
            after,
            times,
            error: Errno::EIO,
        }));
    }
    let (mut tried, mut told, mut wrong) = (0, 0, Vec::new());
    for fault in faults.iter().skip(share / 2).step_by(share) {
        let name = format!("{kind} {options} {:?} of {:?} {}", fault.operation, fault.sectors, fault.times);
        tried += 1;
        match one(bytes, fault, options) {
            Ok(heard) => told += usize::from(heard),
            Err(what) => wrong.push(format!("{name}, after {}: {what}", fault.after)),
        }
    }
    println!("{kind} {options}: {tried} of {} faults, {told} told", faults.len());
    assert!(told > 0 || share > 1, "no fault was ever told");
    assert!(wrong.is_empty(), "{} of {tried}:\n{}", wrong.len(), wrong.join("\n"));
}

const KINDS: [(&str, &[&str]); 3] = [
    ("ext4", &["-t", "ext4", "-b", "1024"]),
    ("mapped", &["-t", "ext3", "-b", "1024"]),
    ("inline", &["-t", "ext4", "-b", "1024", "-O", "inline_data"]),
];

/// One fault of so many is tried by default.
const SHARE: usize = 23;

fn every(share: usize) {
    let tree = tree(&format!("faults-{share}"));
    for (kind, options) in KINDS {
        let options: Vec<&str> =
            options.iter().copied().chain(["-J", "size=1", "-N", "256", "-m", "0"]).collect();
        let Some(bytes) = image(&format!("faults-{kind}-{share}"), &options, "4M", &tree) else { return };
        for policy in ["errors=remount-ro", "errors=continue"] {
            let bytes = bytes.clone();
            sched::host::run(1, 2, move || all_of(kind, &bytes, policy, share));
        }
    }
    fs::remove_dir_all(&tree).unwrap();
}

#[test]
fn failing_transfers_are_told_and_lose_nothing() {
    every(SHARE);
}

/// All of them: `cargo xtask test --long`.
#[test]
#[ignore = "long: run by `cargo xtask test --long`"]
fn every_failing_transfer_is_told_and_loses_nothing() {
    every(1);
}
