//! Host tests: images that e2fsprogs makes are mounted, walked, read and changed, and judged by e2fsck.

mod attributes;
mod cuts;
mod data;
mod faults;
mod full;
mod journaled;
mod mutated;
mod names;
mod ranges;
mod swap;

use crate::mount::mount_device;
use crate::node::Node;
use abi::errno::{Errno, Result};
use abi::mount::MountFlags;
use alloc::sync::Arc;
use alloc::vec::Vec;
use block::memory::MemoryDisk;
use block::{BlockDevice, Disk};
use mm::io::VecWriter;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::string::String;
use vfs::{DirectoryEntry, DirectorySink, FileKind, Inode, SinkState};

/// An image of `size` with the tree below `from`, made with these options; `None` (said aloud) where there is no mke2fs.
fn image(name: &str, options: &[&str], size: &str, from: &Path) -> Option<Vec<u8>> {
    let path = std::env::temp_dir().join(std::format!("linnet-ext4-{}-{name}.img", std::process::id()));
    let _ = fs::remove_file(&path);
    let made = ["mke2fs", "/usr/sbin/mke2fs"].iter().find_map(|program| {
        Command::new(program)
            .args(["-q", "-F"])
            .args(options)
            .arg("-d")
            .args([from, &path])
            .arg(size)
            .output()
            .ok()
    });
    let Some(made) = made else {
        std::println!("skipped: mke2fs is not there");
        return None;
    };
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    Some(bytes)
}

/// What mke2fs is told for each kind of image.
const KINDS: [(&str, &[&str]); 6] = [
    ("ext4", &["-t", "ext4"]),
    ("ext4-1k", &["-t", "ext4", "-b", "1024"]),
    ("ext3", &["-t", "ext3"]),
    ("ext2", &["-t", "ext2", "-b", "1024"]),
    ("inline", &["-t", "ext4", "-O", "inline_data"]),
    ("plain", &["-t", "ext4", "-O", "^metadata_csum,^64bit,^dir_index,uninit_bg"]),
];

/// Mounts a disk; the root keeps it mounted.
fn mount_driver(
    driver: Arc<dyn block::Driver>,
    sectors: usize,
    flags: MountFlags,
    options: &[u8],
) -> Result<Arc<Inode>> {
    let disk = Disk::new("test0".into(), driver, sectors as u64, false);
    let device = BlockDevice::whole(disk, vfs::DeviceId::new(254, 0));
    mount_device("ext4", &device, flags, options, &security::Credentials::initial())
}

/// The same of a disk in memory.
fn mount_disk(disk: Arc<MemoryDisk>, flags: MountFlags) -> Result<Arc<Inode>> {
    mount_disk_with(disk, flags, b"")
}

/// The same with mount options.
fn mount_disk_with(disk: Arc<MemoryDisk>, flags: MountFlags, options: &[u8]) -> Result<Arc<Inode>> {
    let sectors = disk.contents().len() / block::SECTOR_SIZE;
    mount_driver(disk, sectors, flags, options)
}

fn mount(bytes: Vec<u8>) -> Result<Arc<Inode>> {
    mount_disk(MemoryDisk::new(bytes), MountFlags::RDONLY)
}

/// Has e2fsck look at an image, and fails if it finds anything.
fn check_with_fsck(name: &str, bytes: &[u8]) {
    const STATE: usize = 1024 + 58;
    assert_eq!(bytes[STATE..STATE + 2], [1, 0], "{name}: errors were noted, or it was not unmounted");
    let path = std::env::temp_dir().join(std::format!("linnet-ext4-{}-{name}.fsck", std::process::id()));
    fs::write(&path, bytes).unwrap();
    let judge = |program: &&str| Command::new(program).args(["-fn"]).arg(&path).output().ok();
    let verdict = ["e2fsck", "/usr/sbin/e2fsck"].iter().find_map(judge).expect("e2fsck comes with mke2fs");
    let said = String::from_utf8_lossy(&verdict.stdout).into_owned();
    assert!(verdict.status.success(), "{name}: {said}\nthe image is {}", path.display());
    fs::remove_file(&path).unwrap();
}

/// How long a random test is: short under an interpreter.
fn length(steps: usize) -> usize {
    if cfg!(miri) { steps / 100 + 1 } else { steps }
}

struct Names(Vec<(Vec<u8>, u64)>, usize);

impl DirectorySink for Names {
    fn add(&mut self, entry: &DirectoryEntry<'_>) -> Result<SinkState> {
        if self.1 == 0 {
            return Ok(SinkState::Full);
        }
        self.1 -= 1;
        self.0.push((entry.name.to_vec(), entry.next));
        Ok(SinkState::Taken)
    }
}

/// All names, listed `piece` at a time.
fn names(directory: &Inode, piece: usize) -> Result<Vec<Vec<u8>>> {
    let body = directory.private::<Node>().ok_or(Errno::EIO)?.body();
    let (mut position, mut all) = (2, Vec::new());
    loop {
        let mut sink = Names(Vec::new(), piece);
        let next = crate::directory::list::list(body, &mut sink, position)?;
        if sink.0.is_empty() || all.len() > 100_000 {
            return Ok(all);
        }
        all.extend(sink.0.into_iter().map(|(name, _)| name));
        position = next;
    }
}

fn contents(inode: &Inode) -> Result<Vec<u8>> {
    let mut writer = VecWriter::new(8 << 20);
    inode.operations().page_cache().ok_or(Errno::EIO)?.read(0, &mut writer)?;
    Ok(writer.into_bytes())
}

/// Compares a directory with one of the host.
fn compare(directory: &Arc<Inode>, with: &Path) {
    let mut expected: Vec<Vec<u8>> =
        fs::read_dir(with).unwrap().map(|entry| entry.unwrap().file_name().into_encoded_bytes()).collect();
    expected.sort();
    let mut listed = names(directory, 7).unwrap();
    listed.sort();
    listed.retain(|name| name != b"lost+found");
    assert_eq!(listed, expected);
    for name in expected {
        let inode = directory.operations().lookup(directory, &name).unwrap();
        let path = with.join(core::str::from_utf8(&name).unwrap());
        match inode.kind() {
            FileKind::Directory => compare(&inode, &path),
            FileKind::Regular => assert!(contents(&inode).unwrap() == fs::read(&path).unwrap(), "{path:?}"),
            FileKind::Symlink => {
                let target = fs::read_link(&path).unwrap();
                assert_eq!(inode.operations().link_text().unwrap(), target.as_os_str().as_encoded_bytes());
            }
            _ => {}
        }
    }
    assert_eq!(directory.operations().lookup(directory, b"not there").err(), Some(Errno::ENOENT));
}

/// A tree with what differs in the format: many names, a large file, a sparse one, short and long links.
fn tree(name: &str) -> PathBuf {
    let root = std::env::temp_dir().join(std::format!("linnet-ext4-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&root);
    fs::create_dir_all(root.join("many")).unwrap();
    for number in 0..600 {
        fs::write(root.join(std::format!("many/a-name-of-some-length-{number}")), std::format!("{number}\n"))
            .unwrap();
    }
    let large: Vec<u8> =
        (0..3_000_001_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(root.join("large"), large).unwrap();
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, b"end", 1_000_000).unwrap();
    std::os::unix::fs::symlink("short", root.join("link")).unwrap();
    std::os::unix::fs::symlink("long/".repeat(40), root.join("long link")).unwrap();
    fs::write(root.join("tiny"), b"tiny").unwrap();
    root
}

#[test]
fn images_of_mke2fs_are_read() {
    let root = tree("read");
    for (name, options) in KINDS {
        let Some(bytes) = image(name, options, "32M", &root) else { return };
        std::println!("{name}");
        let tree = root.clone();
        sched::host::run(1, 2, move || compare(&mount(bytes).unwrap(), &tree));
    }
    fs::remove_dir_all(&root).unwrap();
}

#[test]
fn metadata_is_let_go_of_and_read_again() {
    let root = tree("shrunk");
    let Some(bytes) = image("shrunk", &["-t", "ext4"], "32M", &root) else { return };
    let tree = root.clone();
    sched::host::run(1, 2, move || {
        let mounted = mount(bytes).unwrap();
        let fs = mounted.private::<Node>().unwrap().body().fs.clone();
        compare(&mounted, &tree);
        let (kept, reads) = (fs.buffers.cached(), fs.buffers.reads());
        assert!(mm::reclaim::drop_objects() as u64 > kept / 2, "of {kept} blocks");
        assert!(fs.buffers.cached() < kept / 2);
        compare(&mounted, &tree);
        assert!(fs.buffers.reads() > reads);
    });
    fs::remove_dir_all(&root).unwrap();
}

#[test]
fn unknown_features_are_refused() {
    let empty = std::env::temp_dir().join(std::format!("linnet-ext4-{}-refused", std::process::id()));
    fs::create_dir_all(&empty).unwrap();
    for (feature, read_only_too) in [("ea_inode", true), ("encrypt", true), ("verity", false)] {
        let Some(bytes) = image(feature, &["-t", "ext4", "-O", feature], "16M", &empty) else { return };
        sched::host::run(1, 2, move || {
            let writing = mount_disk(MemoryDisk::new(bytes.clone()), MountFlags::empty());
            assert!(writing.is_err(), "{feature} is written");
            assert_eq!(mount(bytes).is_err(), read_only_too, "{feature}");
        });
    }
    fs::remove_dir_all(&empty).unwrap();
}
