//! Extended attributes and what stat(2) tells, compared with a model, kept over mounts, and judged by e2fsck.

use super::{KINDS, check_with_fsck, image, length, mount_disk};
use crate::format::inode::InodeRef;
use crate::format::xattr;
use crate::node::Node;
use crate::truncate::raw_inode;
use abi::errno::Errno;
use abi::mount::MountFlags;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use block::memory::MemoryDisk;
use block::simulate::Dice;
use security::{Kgid, Kuid};
use std::{format, fs, println};
use vfs::acl::{Acl, AclKind, Entry, NO_ID, Tag};
use vfs::{AttributeChange, FileKind, Inode, NewContent, NewInode, Timestamp, XattrMode};

/// What a file should have.
#[derive(Default)]
struct Model {
    attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    change: AttributeChange,
}

fn names_of(inode: &Inode) -> Vec<Vec<u8>> {
    let all = inode.operations().list_xattrs(inode).unwrap();
    let mut names: Vec<Vec<u8>> =
        all.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect();
    names.sort();
    names
}

impl Model {
    fn compare(&self, inode: &Inode) {
        assert!(names_of(inode).iter().eq(self.attributes.keys()), "names of inode {}", inode.number());
        for (name, value) in &self.attributes {
            assert_eq!(inode.operations().get_xattr(inode, name).as_ref(), Ok(value));
        }
        let change = &self.change;
        assert!(change.mode.is_none_or(|mode| inode.permissions() == mode));
        assert!(change.uid.is_none_or(|uid| inode.uid() == uid));
        assert!(change.gid.is_none_or(|gid| inode.gid() == gid));
        assert!(change.accessed.is_none_or(|time| inode.times().accessed == time));
        assert!(change.modified.is_none_or(|time| inode.times().modified == time));
    }

    fn step(&mut self, inode: &Arc<Inode>, dice: &mut Dice, whole_seconds: bool) {
        let prefix = ["user.", "trusted.", "security."][dice.below(3) as usize];
        let mut name = format!("{prefix}{}", dice.below(12)).into_bytes();
        name.resize(name.len() + dice.below(20) as usize / 19 * 200, b'n');
        let (operations, known) = (inode.operations(), self.attributes.contains_key(&name));
        match dice.below(8) {
            0 | 1 => {
                let expected = if known { Ok(()) } else { Err(Errno::ENODATA) };
                assert_eq!(operations.remove_xattr(inode, &name), expected);
                self.attributes.remove(&name);
            }
            2 => {
                let time = |dice: &mut Dice| Timestamp {
                    seconds: dice.below(1 << 31) as i64,
                    nanoseconds: if whole_seconds { 0 } else { dice.below(1_000_000_000) as u32 },
                };
                self.change = AttributeChange {
                    mode: Some(dice.below(0o10000) as u32),
                    uid: Some(Kuid(dice.roll() as u32 >> 1)),
                    gid: Some(Kgid(dice.roll() as u32 >> 1)),
                    accessed: Some(time(dice)),
                    modified: Some(time(dice)),
                    ..AttributeChange::default()
                };
                operations.set_attributes(inode, &self.change).unwrap();
            }
            kind => {
                let most = [3, 40, 40, 300, 900][dice.below(5) as usize];
                let value = alloc::vec![dice.roll() as u8; dice.below(most) as usize];
                let mode = [XattrMode::Any, XattrMode::Create, XattrMode::Replace]
                    [if kind == 3 { 1 + dice.below(2) as usize } else { 0 }];
                match operations.set_xattr(inode, &name, &value, mode) {
                    Ok(()) => drop(self.attributes.insert(name, value)),
                    Err(Errno::EEXIST) => assert!(known && mode == XattrMode::Create),
                    Err(Errno::ENODATA) => assert!(!known && mode == XattrMode::Replace),
                    Err(error) => assert_eq!(error, Errno::ENOSPC),
                }
            }
        }
    }
}

#[test]
fn attributes_agree_with_a_model() {
    let empty = std::env::temp_dir().join(format!("linnet-ext4-{}-attributes", std::process::id()));
    fs::create_dir_all(&empty).unwrap();
    for (kind, options) in KINDS {
        let Some(bytes) = image(&format!("attributes-{kind}"), options, "16M", &empty) else { return };
        // Inodes of 128 bytes have no room for the rest.
        let small = kind == "ext2" || kind == "ext3";
        sched::host::run(1, 2, move || {
            println!("{kind}");
            let disk = MemoryDisk::new(bytes);
            let mut dice = Dice::new(3);
            let mut models: Vec<Model> = (0..20).map(|_| Model::default()).collect();
            let name = |number: usize| format!("file {number}").into_bytes();
            for round in 0..3 {
                let root = mount_disk(disk.clone(), MountFlags::empty()).unwrap();
                let contents = [
                    NewContent::Regular,
                    NewContent::Directory,
                    NewContent::Symlink(b"to"),
                    NewContent::Fifo,
                ];
                if round == 0 {
                    for number in 0..models.len() {
                        let new = super::names::new(contents[number % contents.len()]);
                        root.operations().create(&root, &name(number), &new).unwrap();
                    }
                }
                let find = |number: usize| root.operations().lookup(&root, &name(number)).unwrap();
                for (number, model) in models.iter().enumerate() {
                    model.compare(&find(number));
                }
                for _ in 0..length(800) {
                    let number = dice.below(models.len() as u64) as usize;
                    let inode = find(number);
                    models[number].step(&inode, &mut dice, small);
                    models[number].compare(&inode);
                }
                drop(root);
                check_with_fsck(&format!("attributes-{kind}-{round}"), &disk.contents());
            }
        });
    }
    fs::remove_dir_all(&empty).unwrap();
}

/// The block with the attributes of an inode, and how many share it.
fn block_of(inode: &Inode) -> (u64, u32) {
    let body = inode.private::<Node>().unwrap().body();
    let raw = raw_inode(&body.fs, body.number).unwrap();
    let block = InodeRef(&raw).xattr_block().unwrap();
    let shared =
        if block == 0 { 0 } else { xattr::references(&body.fs.read_block(block).unwrap().read()).unwrap() };
    (block, shared)
}

/// Lets `other` have the block of `first`, as Linux does where the attributes are the same.
fn share(first: &Inode, other: &Inode) {
    let (from, to) = (first.private::<Node>().unwrap().body(), other.private::<Node>().unwrap().body());
    let (fs, (block, count)) = (&from.fs, block_of(first));
    let mut handle = fs.start(4).unwrap();
    let buffer = fs.read_block(block).unwrap();
    handle
        .modify(&buffer, |bytes| {
            xattr::set_references(bytes, count + 1).unwrap();
            xattr::seal(bytes, fs.geometry.checksum_seed, block).unwrap();
        })
        .unwrap();
    let mut map = to.map.write();
    map.sectors += to.sectors_of(1);
    to.write_map(&mut handle, &map).unwrap();
    fs.change_inode(&mut handle, to.number, |raw| raw.set_xattr_block(block)).unwrap();
}

#[test]
fn shared_blocks_are_left_to_the_others() {
    let empty = std::env::temp_dir().join(format!("linnet-ext4-{}-shared", std::process::id()));
    fs::create_dir_all(&empty).unwrap();
    let Some(bytes) = image("shared", &["-t", "ext4", "-b", "4096"], "16M", &empty) else { return };
    sched::host::run(1, 2, move || {
        let disk = MemoryDisk::new(bytes);
        let root = mount_disk(disk.clone(), MountFlags::empty()).unwrap();
        let files: Vec<Arc<Inode>> = [&b"a"[..], b"b", b"c"]
            .iter()
            .map(|name| {
                let new = super::names::new(NewContent::Regular);
                root.operations().create(&root, name, &new).unwrap()
            })
            .collect();
        let [a, b, c] = files.as_slice() else { panic!("three files") };
        a.operations().set_xattr(a, b"user.large", &[1; 2000], XattrMode::Any).unwrap();
        share(a, b);
        share(a, c);
        assert_eq!(block_of(c), (block_of(a).0, 3));
        b.operations().set_xattr(b, b"user.large", &[2; 2000], XattrMode::Any).unwrap();
        assert_ne!(block_of(b).0, block_of(a).0);
        assert_eq!((block_of(a).1, block_of(b).1), (2, 1));
        let value = |inode: &Arc<Inode>| inode.operations().get_xattr(inode, b"user.large").unwrap();
        assert_eq!(
            (value(a), value(b), value(c)),
            (alloc::vec![1; 2000], alloc::vec![2; 2000], alloc::vec![1; 2000])
        );
        root.operations().unlink(&root, b"c", c).unwrap();
        assert_eq!(c.kind(), FileKind::Regular);
        drop(files);
        let a = root.operations().lookup(&root, b"a").unwrap();
        assert_eq!(block_of(&a).1, 1);
        drop((a, root));
        check_with_fsck("shared", &disk.contents());
    });
    fs::remove_dir_all(&empty).unwrap();
}

/// A list with one named user more than the mode says.
fn list(permissions: u16) -> Arc<Acl> {
    let entry = |tag, permissions, id| Entry { tag, permissions, id };
    let entries = alloc::vec![
        entry(Tag::Owner, 7, NO_ID),
        entry(Tag::User, permissions, 70_000),
        entry(Tag::OwnerGroup, 5, NO_ID),
        entry(Tag::Mask, 7, NO_ID),
        entry(Tag::Other, 1, NO_ID),
    ];
    Arc::new(Acl::new(entries).unwrap())
}

#[test]
fn access_control_lists_are_kept() {
    let empty = std::env::temp_dir().join(format!("linnet-ext4-{}-lists", std::process::id()));
    fs::create_dir_all(&empty).unwrap();
    for (kind, options) in KINDS {
        let Some(bytes) = image(&format!("lists-{kind}"), options, "16M", &empty) else { return };
        sched::host::run(1, 2, move || {
            let disk = MemoryDisk::new(bytes);
            let root = mount_disk(disk.clone(), MountFlags::empty()).unwrap();
            let (access, default) = (list(6), list(3));
            let new = super::names::new(NewContent::Directory);
            let new = NewInode { access_list: Some(&access), default_list: Some(&default), ..new };
            let made = root.operations().create(&root, b"made", &new).unwrap();
            let changed =
                root.operations().create(&root, b"changed", &super::names::new(NewContent::Regular)).unwrap();
            let mode = AttributeChange { mode: Some(0o640), ..AttributeChange::default() };
            changed.operations().set_acl(&changed, AclKind::Access, Some(&access), &mode).unwrap();
            assert!(names_of(&changed).is_empty(), "lists are the VFS's to show");
            drop((made, changed, root));
            check_with_fsck(&format!("lists-{kind}"), &disk.contents());
            let root = mount_disk(disk.clone(), MountFlags::empty()).unwrap();
            let find = |name: &[u8]| root.operations().lookup(&root, name).unwrap();
            let (made, changed) = (find(b"made"), find(b"changed"));
            assert_eq!(made.acl(AclKind::Access), Some(access.clone()));
            assert_eq!(made.acl(AclKind::Default), Some(default));
            assert_eq!((changed.acl(AclKind::Access), changed.permissions()), (Some(access), 0o640));
            changed.operations().set_acl(&changed, AclKind::Access, None, &mode).unwrap();
            drop((made, changed));
            let changed = find(b"changed");
            assert_eq!(changed.acl(AclKind::Access), None);
            drop((changed, root));
            check_with_fsck(&format!("lists-{kind}-fewer"), &disk.contents());
        });
    }
    fs::remove_dir_all(&empty).unwrap();
}
