//! Names under random work, compared with a model, kept over mounts, and judged by e2fsck.

use super::{KINDS, check_with_fsck, image, length, mount_disk, names};
use abi::errno::{Errno, Result};
use abi::mount::MountFlags;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use block::memory::MemoryDisk;
use block::simulate::Dice;
use mm::io::{SliceReader, VecWriter};
use security::{Kgid, Kuid};
use std::string::String;
use std::{format, fs, println};
use vfs::{DeviceId, FileKind, Inode, NewContent, NewInode, Rename, RenameMode};

/// What a file should be.
#[derive(Clone)]
enum Model {
    Directory(BTreeMap<Vec<u8>, usize>),
    Regular(Vec<u8>),
    Symlink(Vec<u8>),
    Fifo,
}

/// The tree that should be there: files by number, the root is 0. What has no name is still there.
#[derive(Clone)]
pub(super) struct Tree {
    files: Vec<(Model, u32)>,
}

pub(super) fn new(content: NewContent<'_>) -> NewInode<'_> {
    NewInode::new(content, 0o755, Kuid(1000), Kgid(1_000_000))
}

fn child(directory: &Arc<Inode>, name: &[u8]) -> Arc<Inode> {
    directory.operations().lookup(directory, name).unwrap()
}

impl Tree {
    pub(super) fn new() -> Tree {
        Tree { files: alloc::vec![(Model::Directory(BTreeMap::new()), 2)] }
    }

    fn entries(&mut self, directory: usize) -> &mut BTreeMap<Vec<u8>, usize> {
        match &mut self.files[directory].0 {
            Model::Directory(entries) => entries,
            _ => panic!("no directory"),
        }
    }

    /// A directory by chance, with its inode.
    fn walk(&mut self, root: &Arc<Inode>, dice: &mut Dice) -> (usize, Arc<Inode>, Vec<usize>) {
        let (mut at, mut inode, mut way) = (0, root.clone(), alloc::vec![0]);
        while !dice.once_in(3) {
            let files = self.files.clone();
            let below: Vec<(Vec<u8>, usize)> = self
                .entries(at)
                .iter()
                .filter(|(_, id)| matches!(files[**id].0, Model::Directory(_)))
                .map(|(name, id)| (name.clone(), *id))
                .collect();
            if below.is_empty() {
                break;
            }
            let (name, id) = &below[dice.below(below.len() as u64) as usize];
            inode = child(&inode, name);
            at = *id;
            way.push(at);
        }
        (at, inode, way)
    }

    fn some_name(&mut self, directory: usize, dice: &mut Dice) -> Option<(Vec<u8>, usize)> {
        let entries = self.entries(directory);
        let which = dice.below(entries.len().max(1) as u64) as usize;
        entries.iter().nth(which).map(|(name, id)| (name.clone(), *id))
    }

    fn fresh_name(&mut self, directory: usize, dice: &mut Dice) -> Vec<u8> {
        loop {
            let mut name = format!("{:x}", dice.below(1 << 20)).into_bytes();
            let most = if dice.once_in(20) { 255 } else { 40 };
            name.resize(name.len().max(dice.below(most) as usize), b'x');
            if !self.entries(directory).contains_key(&name) {
                return name;
            }
        }
    }

    fn create(&mut self, root: &Arc<Inode>, dice: &mut Dice) -> Result<()> {
        let (at, directory, _) = self.walk(root, dice);
        let name = self.fresh_name(at, dice);
        let longest = if dice.once_in(4) { 900 } else { 70 };
        let text = alloc::vec![b'l'; 1 + dice.below(longest) as usize];
        let (content, model) = match dice.below(8) {
            0 | 1 => (NewContent::Directory, Model::Directory(BTreeMap::new())),
            2 => (NewContent::Symlink(&text), Model::Symlink(text.clone())),
            3 => (NewContent::Fifo, Model::Fifo),
            _ => (NewContent::Regular, Model::Regular(Vec::new())),
        };
        let inode = directory.operations().create(&directory, &name, &new(content))?;
        assert_eq!(inode.kind(), content.kind());
        let links = inode.link_count();
        let mut model = model;
        if let (Model::Regular(bytes), Some(cache)) = (&mut model, inode.operations().page_cache()) {
            bytes.resize(dice.below(6000) as usize, dice.roll() as u8);
            let _change = inode.lock.write();
            assert_eq!(cache.write(0, &mut SliceReader::new(bytes)), Ok(bytes.len()));
        }
        let id = self.files.len();
        if matches!(model, Model::Directory(_)) {
            self.files[at].1 += 1;
        }
        self.files.push((model, links));
        self.entries(at).insert(name, id);
        Ok(())
    }

    fn link(&mut self, root: &Arc<Inode>, dice: &mut Dice) -> Result<()> {
        let (from, source, _) = self.walk(root, dice);
        let Some((name, id)) = self.some_name(from, dice) else { return Ok(()) };
        if matches!(self.files[id].0, Model::Directory(_)) {
            return Ok(());
        }
        let (at, directory, _) = self.walk(root, dice);
        let fresh = self.fresh_name(at, dice);
        directory.operations().link(&directory, &fresh, &child(&source, &name))?;
        self.files[id].1 += 1;
        self.entries(at).insert(fresh, id);
        Ok(())
    }

    fn remove(&mut self, root: &Arc<Inode>, dice: &mut Dice) -> Result<()> {
        let (at, directory, _) = self.walk(root, dice);
        let Some((name, id)) = self.some_name(at, dice) else { return Ok(()) };
        let target = child(&directory, &name);
        if let Model::Directory(entries) = &self.files[id].0 {
            let result = directory.operations().rmdir(&directory, &name, &target);
            if !entries.is_empty() {
                assert_eq!(result, Err(Errno::ENOTEMPTY));
                return Ok(());
            }
            result?;
            self.files[at].1 -= 1;
        } else {
            directory.operations().unlink(&directory, &name, &target)?;
        }
        self.files[id].1 -= 1;
        self.entries(at).remove(&name);
        Ok(())
    }

    fn rename(&mut self, root: &Arc<Inode>, dice: &mut Dice) -> Result<()> {
        let (from, old_directory, _) = self.walk(root, dice);
        let Some((old_name, id)) = self.some_name(from, dice) else { return Ok(()) };
        let (to, new_directory, way) = self.walk(root, dice);
        let in_the_way = if dice.once_in(2) { self.some_name(to, dice) } else { None };
        let is_directory = |model: &Model| matches!(model, Model::Directory(_));
        let moved_directory = is_directory(&self.files[id].0);
        if way.contains(&id) || in_the_way.as_ref().is_some_and(|(_, target)| *target == id) {
            return Ok(());
        }
        let target = in_the_way.as_ref().map(|(_, target)| *target);
        let fits = target.is_none_or(|target| {
            is_directory(&self.files[target].0) == moved_directory
                && !matches!(&self.files[target].0, Model::Directory(entries) if !entries.is_empty())
        });
        if !fits {
            return Ok(());
        }
        let new_name = in_the_way.map_or_else(|| self.fresh_name(to, dice), |(name, _)| name);
        let inode = child(&old_directory, &old_name);
        let target_inode = target.map(|_| child(&new_directory, &new_name));
        new_directory.operations().rename(&Rename {
            old_directory: &old_directory,
            old_name: &old_name,
            inode: &inode,
            new_directory: &new_directory,
            new_name: &new_name,
            target: target_inode.as_ref(),
            mode: RenameMode::Replace,
        })?;
        self.entries(from).remove(&old_name);
        self.entries(to).insert(new_name, id);
        if let Some(target) = target {
            self.files[target].1 -= 1;
            if moved_directory {
                self.files[to].1 -= 1;
            }
        }
        if moved_directory {
            self.files[from].1 -= 1;
            self.files[to].1 += 1;
        }
        Ok(())
    }

    /// Two names change places.
    fn exchange(&mut self, root: &Arc<Inode>, dice: &mut Dice) -> Result<()> {
        let (from, old_directory, old_way) = self.walk(root, dice);
        let Some((old_name, id)) = self.some_name(from, dice) else { return Ok(()) };
        let (to, new_directory, new_way) = self.walk(root, dice);
        let Some((new_name, other)) = self.some_name(to, dice) else { return Ok(()) };
        if id == other || new_way.contains(&id) || old_way.contains(&other) {
            return Ok(());
        }
        let (inode, target) = (child(&old_directory, &old_name), child(&new_directory, &new_name));
        new_directory.operations().rename(&Rename {
            old_directory: &old_directory,
            old_name: &old_name,
            inode: &inode,
            new_directory: &new_directory,
            new_name: &new_name,
            target: Some(&target),
            mode: RenameMode::Exchange,
        })?;
        self.entries(from).insert(old_name, other);
        self.entries(to).insert(new_name, id);
        for (moved, left, entered) in [(id, from, to), (other, to, from)] {
            if matches!(self.files[moved].0, Model::Directory(_)) {
                self.files[left].1 -= 1;
                self.files[entered].1 += 1;
            }
        }
        Ok(())
    }

    /// A file is made without a name (`O_TMPFILE`), and gets one after all, or not.
    fn create_unnamed(&mut self, root: &Arc<Inode>, dice: &mut Dice) -> Result<()> {
        let (at, directory, _) = self.walk(root, dice);
        let inode = directory.operations().create_unnamed(&directory, &new(NewContent::Regular))?;
        assert_eq!(inode.link_count(), 0);
        let bytes = alloc::vec![dice.roll() as u8; dice.below(6000) as usize];
        {
            let _change = inode.lock.write();
            let cache = inode.operations().page_cache().unwrap();
            assert_eq!(cache.write(0, &mut SliceReader::new(&bytes)), Ok(bytes.len()));
        }
        if dice.once_in(3) {
            return Ok(());
        }
        let name = self.fresh_name(at, dice);
        directory.operations().link(&directory, &name, &inode)?;
        let id = self.files.len();
        self.files.push((Model::Regular(bytes), 1));
        self.entries(at).insert(name, id);
        Ok(())
    }

    /// How many files were ever made.
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// All paths with their kinds and links.
    pub(super) fn signature(&self) -> Vec<String> {
        let mut lines = Vec::new();
        self.describe(0, String::new(), &mut lines);
        lines
    }

    fn describe(&self, id: usize, path: String, lines: &mut Vec<String>) {
        let (model, links) = &self.files[id];
        let kind = match model {
            Model::Directory(_) => FileKind::Directory,
            Model::Regular(_) => FileKind::Regular,
            Model::Symlink(_) => FileKind::Symlink,
            Model::Fifo => FileKind::Fifo,
        };
        lines.push(format!("{path} {kind:?} {}", links + u32::from(id == 0)));
        if let Model::Directory(entries) = model {
            for (name, id) in entries {
                self.describe(*id, format!("{path}/{}", String::from_utf8_lossy(name)), lines);
            }
        }
    }

    /// The same of a tree that is there.
    pub(super) fn signature_of(root: &Arc<Inode>) -> Vec<String> {
        fn describe(inode: &Arc<Inode>, path: String, lines: &mut Vec<String>) {
            lines.push(format!("{path} {:?} {}", inode.kind(), inode.link_count()));
            if inode.is_directory() {
                let mut listed = names(inode, 50).unwrap();
                listed.sort();
                for name in listed.iter().filter(|name| *name != b"lost+found") {
                    let path = format!("{path}/{}", String::from_utf8_lossy(name));
                    describe(&child(inode, name), path, lines);
                }
            }
        }
        let mut lines = Vec::new();
        describe(root, String::new(), &mut lines);
        lines
    }

    /// Contents after a cut: of files older than number `synced` all, of others what was written, or zeros, or nothing yet.
    pub(super) fn check_contents(&self, root: &Arc<Inode>, synced: usize) {
        let mut left = alloc::vec![(0, root.clone())];
        while let Some((id, inode)) = left.pop() {
            match &self.files[id].0 {
                Model::Directory(entries) => {
                    left.extend(entries.iter().map(|(name, id)| (*id, child(&inode, name))));
                }
                Model::Regular(bytes) => {
                    let mut writer = VecWriter::new(1 << 16);
                    inode.operations().page_cache().unwrap().read(0, &mut writer).unwrap();
                    let found = writer.into_bytes();
                    let fine = found.len() <= bytes.len()
                        && found.iter().zip(bytes).all(|(found, byte)| found == byte || *found == 0);
                    assert!(fine, "inode {} has what was never written to it", inode.number());
                    assert!(id >= synced || found == *bytes, "inode {} lost what was synced", inode.number());
                }
                Model::Symlink(text) => assert_eq!(inode.operations().link_text().unwrap(), text),
                Model::Fifo => {}
            }
        }
    }

    pub(super) fn step(&mut self, root: &Arc<Inode>, dice: &mut Dice) -> Result<()> {
        match dice.below(14) {
            0..6 => self.create(root, dice),
            6 => self.link(root, dice),
            7..9 => self.remove(root, dice),
            9 => self.exchange(root, dice),
            10 => self.create_unnamed(root, dice),
            _ => self.rename(root, dice),
        }
    }

    /// Compares a directory, and all below it.
    pub(super) fn compare(&self, id: usize, inode: &Arc<Inode>) {
        let (model, links) = &self.files[id];
        match model {
            Model::Directory(entries) => {
                assert_eq!(inode.kind(), FileKind::Directory);
                let mut listed = names(inode, 11).unwrap();
                listed.retain(|name| name != b"lost+found");
                listed.sort();
                assert!(listed.iter().eq(entries.keys()), "names of inode {}", inode.number());
                let root_has_one_more = u32::from(id == 0);
                assert_eq!(inode.link_count(), links + root_has_one_more);
                for (name, id) in entries {
                    self.compare(*id, &child(inode, name));
                }
            }
            Model::Regular(bytes) => {
                let mut writer = VecWriter::new(1 << 16);
                inode.operations().page_cache().unwrap().read(0, &mut writer).unwrap();
                assert!(writer.into_bytes() == *bytes, "contents of inode {}", inode.number());
                assert_eq!(inode.link_count(), *links);
            }
            Model::Symlink(text) => assert_eq!(inode.operations().link_text().unwrap(), text),
            Model::Fifo => assert_eq!(inode.kind(), FileKind::Fifo),
        }
    }
}

#[test]
fn names_agree_with_a_model() {
    let empty = std::env::temp_dir().join(format!("linnet-ext4-{}-empty", std::process::id()));
    fs::create_dir_all(&empty).unwrap();
    for (kind, options) in KINDS {
        let Some(bytes) = image(&format!("names-{kind}"), options, "32M", &empty) else { return };
        sched::host::run(1, 2, move || {
            println!("{kind}");
            let disk = MemoryDisk::new(bytes);
            let (mut dice, mut tree) = (Dice::new(5), Tree::new());
            for round in 0..3 {
                let root = mount_disk(disk.clone(), MountFlags::empty()).unwrap();
                tree.compare(0, &root);
                for _ in 0..length(700) {
                    tree.step(&root, &mut dice).unwrap();
                }
                tree.compare(0, &root);
                drop(root);
                check_with_fsck(&format!("names-{kind}-{round}"), &disk.contents());
            }
        });
    }
    fs::remove_dir_all(&empty).unwrap();
}

#[test]
fn a_directory_of_many_names() {
    let empty = std::env::temp_dir().join(format!("linnet-ext4-{}-none", std::process::id()));
    fs::create_dir_all(&empty).unwrap();
    for (kind, options) in [KINDS[0], KINDS[1]] {
        let with_inodes: Vec<&str> = options.iter().copied().chain(["-N", "40000"]).collect();
        let Some(bytes) = image(&format!("many-{kind}"), &with_inodes, "64M", &empty) else { return };
        sched::host::run(1, 2, move || {
            let disk = MemoryDisk::new(bytes);
            let count = length(20_000);
            let root = mount_disk(disk.clone(), MountFlags::empty()).unwrap();
            let directory = root.operations().create(&root, b"d", &new(NewContent::Directory)).unwrap();
            let name = |number: usize| format!("file number {number} of many").into_bytes();
            for number in 0..count {
                let fifo = NewContent::Device(FileKind::CharDevice, DeviceId::new(1, 3));
                directory.operations().create(&directory, &name(number), &new(fifo)).unwrap();
            }
            assert_eq!(names(&directory, 100).unwrap().len(), count);
            drop((directory, root));
            check_with_fsck(&format!("many-{kind}"), &disk.contents());
            let root = mount_disk(disk.clone(), MountFlags::empty()).unwrap();
            let directory = child(&root, b"d");
            for number in (0..count).filter(|number| number % 7 != 0) {
                let inode = child(&directory, &name(number));
                directory.operations().unlink(&directory, &name(number), &inode).unwrap();
            }
            assert_eq!(names(&directory, 100).unwrap().len(), count.div_ceil(7));
            drop((directory, root));
            check_with_fsck(&format!("fewer-{kind}"), &disk.contents());
        });
    }
    fs::remove_dir_all(&empty).unwrap();
}

#[test]
fn a_file_has_so_many_names_and_no_more() {
    let empty = std::env::temp_dir().join(format!("linnet-ext4-{}-links", std::process::id()));
    fs::create_dir_all(&empty).unwrap();
    let Some(bytes) = image("links", KINDS[0].1, "32M", &empty) else { return };
    sched::host::run(1, 2, move || {
        let disk = MemoryDisk::new(bytes);
        let root = mount_disk(disk.clone(), MountFlags::empty()).unwrap();
        let file = root.operations().create(&root, b"0", &new(NewContent::Regular)).unwrap();
        let most = crate::format::inode::LINK_MAX as usize;
        let count = length(most);
        for number in 1..count {
            root.operations().link(&root, format!("{number}").as_bytes(), &file).unwrap();
        }
        assert_eq!(file.link_count() as usize, count);
        if count == most {
            assert_eq!(root.operations().link(&root, b"more", &file), Err(Errno::EMLINK));
            root.operations().unlink(&root, b"1", &file).unwrap();
            root.operations().link(&root, b"more", &file).unwrap();
        }
        drop((file, root));
        check_with_fsck("links", &disk.contents());
    });
    fs::remove_dir_all(&empty).unwrap();
}
