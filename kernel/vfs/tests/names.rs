//! Names over a real tmpfs on the host backend: path resolution (path_resolution(7), openat2(2)), the dentry cache against a
//! model while other threads look names up without a lock, and the descriptor table.

use abi::errno::{Errno, Result};
use abi::fcntl::{OpenFlags, ResolveFlags};
use abi::mount::MountFlags;
use proptest::prelude::*;
use security::Credentials;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tmpfs::{Flavour, TmpFs};
use vfs::mount_calls::{self, MountArguments};
use vfs::mount_tree;
use vfs::namei::{self, LookupFlags, Start};
use vfs::open::{OpenRequest, open};
use vfs::types::FileKind;
use vfs::{
    CloseOnExec, DescriptorTable, File, FsContext, FsState, LookupContext, MountNamespace, MountRequest,
    directory,
};

const HERE: Start<'static> = Start::WorkingDirectory;

/// A namespace whose root is an empty tmpfs, and who looks at it.
struct World {
    fs: Arc<FsContext>,
    credentials: Arc<Credentials>,
    /// Keeps the mounts.
    _namespace: Arc<MountNamespace>,
}

impl World {
    fn new() -> World {
        let _ = tmpfs::register();
        let credentials = Credentials::initial();
        let request = MountRequest {
            source: b"rootfs",
            flags: MountFlags::empty(),
            data: b"",
            credentials: &credentials,
            device: None,
        };
        let namespace = mount_calls::first_namespace(&*TmpFs::new(Flavour::Rootfs), &request).unwrap();
        let place = namespace.root_path().unwrap();
        let state =
            FsState { root: place.clone(), working_directory: place, umask: 0, namespace: namespace.clone() };
        World { fs: FsContext::new(state), credentials, _namespace: namespace }
    }

    fn context(&self) -> LookupContext<'_> {
        LookupContext { fs: &self.fs, credentials: &self.credentials }
    }

    fn mkdir(&self, path: &str) -> Result<()> {
        directory::create_directory(&self.context(), HERE, path.as_bytes(), 0o755).map(drop)
    }

    fn symlink(&self, text: &str, path: &str) -> Result<()> {
        directory::symlink(&self.context(), text.as_bytes(), HERE, path.as_bytes()).map(drop)
    }

    fn open(&self, path: &str, flags: OpenFlags, resolve: ResolveFlags) -> Result<Arc<File>> {
        open(&self.context(), HERE, path.as_bytes(), &OpenRequest { flags, mode: 0o644, resolve })
    }

    fn create(&self, path: &str) -> Result<()> {
        let flags = OpenFlags::CREAT | OpenFlags::EXCL | OpenFlags::RDWR;
        self.open(path, flags, ResolveFlags::empty()).map(drop)
    }

    /// Kind and inode number, by the quick way and by the slow one, which must agree.
    fn stat(&self, path: &str) -> Result<(FileKind, u64)> {
        let quick = namei::status(&self.context(), HERE, path.as_bytes(), LookupFlags::FOLLOW);
        let quick = quick.map(|status| status.inode_number);
        let slow = namei::resolve(&self.context(), HERE, path.as_bytes(), LookupFlags::FOLLOW);
        let slow = slow.map(|place| (place.inode().unwrap().kind(), place.inode().unwrap().number()));
        assert_eq!(quick, slow.map(|(_, number)| number), "{path}");
        slow
    }

    fn mount(&self, path: &str) -> Result<()> {
        let target = namei::resolve(&self.context(), HERE, path.as_bytes(), LookupFlags::FOLLOW)?;
        let (source, kind) = (&b"none"[..], &b"tmpfs"[..]);
        let arguments =
            MountArguments { source, target: &target, kind, flags: MountFlags::empty(), data: b"" };
        mount_calls::mount(&self.context(), &arguments)
    }

    fn unmount(&self, path: &str) -> Result<()> {
        let target = namei::resolve(&self.context(), HERE, path.as_bytes(), LookupFlags::FOLLOW)?;
        mount_tree::unmount(&self.context(), target, 0)
    }

    fn rename(&self, old: &str, new: &str, flags: u32) -> Result<()> {
        directory::rename(&self.context(), HERE, old.as_bytes(), HERE, new.as_bytes(), flags)
    }

    fn unlink(&self, path: &str) -> Result<()> {
        directory::unlink(&self.context(), HERE, path.as_bytes())
    }

    fn rmdir(&self, path: &str) -> Result<()> {
        directory::remove_directory(&self.context(), HERE, path.as_bytes())
    }
}

fn run(test: impl FnOnce() + Send) {
    machine::host::run(1, 1, test);
}

#[test]
fn forty_links_are_followed_and_no_more() {
    run(|| {
        let world = World::new();
        world.create("/end").unwrap();
        world.symlink("/end", "/l1").unwrap();
        for number in 2..=41 {
            world.symlink(&format!("l{}", number - 1), &format!("/l{number}")).unwrap();
        }
        assert_eq!(world.stat("/l40").unwrap().0, FileKind::Regular);
        assert_eq!(world.stat("/l41"), Err(Errno::ELOOP));
        world.symlink("self", "/self").unwrap();
        world.symlink("b", "/a").unwrap();
        world.symlink("a/", "/b").unwrap();
        for path in ["/self", "/self/x", "/a", "/a/", "/b/.."] {
            assert_eq!(world.stat(path), Err(Errno::ELOOP), "{path}");
        }
    });
}

#[test]
fn slashes_and_kinds() {
    run(|| {
        let world = World::new();
        world.mkdir("/dir").unwrap();
        world.create("/file").unwrap();
        world.symlink("dir", "/to-dir").unwrap();
        world.symlink("file", "/to-file").unwrap();
        world.symlink("nowhere", "/dangling").unwrap();
        for path in
            ["/dir", "/dir/", "//dir//", "/dir/.", "/to-dir", "/to-dir/", "/dir/../dir", "/../../dir", "dir"]
        {
            assert_eq!(world.stat(path).map(|found| found.0), Ok(FileKind::Directory), "{path}");
        }
        for path in ["/file/", "/file/.", "/file/..", "/file/x", "/to-file/", "/to-file/x"] {
            assert_eq!(world.stat(path), Err(Errno::ENOTDIR), "{path}");
        }
        for path in ["", "/dangling", "/dangling/", "/dir/x", "/dir/x/y", "/nowhere/.."] {
            assert_eq!(world.stat(path), Err(Errno::ENOENT), "{path:?}");
        }
        assert_eq!(world.mkdir("/new/"), Ok(()));
        assert_eq!(world.mkdir("/dangling"), Err(Errno::EEXIST));
        assert_eq!(world.mkdir("/dir/."), Err(Errno::EEXIST));
        assert_eq!(world.mkdir("/"), Err(Errno::EEXIST));
        assert_eq!(world.rmdir("/dir/."), Err(Errno::EINVAL));
        assert_eq!(world.rmdir("/dir/.."), Err(Errno::ENOTEMPTY));
        assert_eq!(world.rmdir("/to-dir"), Err(Errno::ENOTDIR));
        assert_eq!(world.unlink("/dir"), Err(Errno::EISDIR));
        assert_eq!(world.unlink("/file/"), Err(Errno::ENOTDIR));
        let none = ResolveFlags::empty();
        let error = |path, flags| world.open(path, flags, none).err();
        assert_eq!(error("/to-file", OpenFlags::NOFOLLOW), Some(Errno::ELOOP));
        assert_eq!(error("/to-file", OpenFlags::NOFOLLOW | OpenFlags::PATH), None);
        assert_eq!(error("/to-dir/", OpenFlags::NOFOLLOW), None);
        assert_eq!(error("/to-dir", OpenFlags::NOFOLLOW | OpenFlags::DIRECTORY), Some(Errno::ENOTDIR));
        assert_eq!(error("/file", OpenFlags::DIRECTORY), Some(Errno::ENOTDIR));
        assert_eq!(error("/dangling", OpenFlags::CREAT | OpenFlags::EXCL), Some(Errno::EEXIST));
        assert_eq!(error("/dir", OpenFlags::WRONLY), Some(Errno::EISDIR));
        // Made through the link: what the link names.
        assert_eq!(error("/dangling", OpenFlags::CREAT), None);
        assert_eq!(world.stat("/nowhere").map(|found| found.0), Ok(FileKind::Regular));
    });
}

#[test]
fn names_and_paths_have_a_longest_length() {
    run(|| {
        let world = World::new();
        let name = |length| format!("/{}", "x".repeat(length));
        assert_eq!(world.create(&name(255)), Ok(()));
        assert_eq!(world.stat(&name(255)).map(|found| found.0), Ok(FileKind::Regular));
        for path in [name(256), name(300) + "/y"] {
            assert_eq!(world.stat(&path), Err(Errno::ENAMETOOLONG));
            assert_eq!(world.create(&path), Err(Errno::ENAMETOOLONG));
            assert_eq!(world.mkdir(&path), Err(Errno::ENAMETOOLONG));
        }
        assert_eq!(world.stat(&"/.".repeat(2047)).map(|found| found.0), Ok(FileKind::Directory));
        assert_eq!(world.stat(&"/.".repeat(2048)), Err(Errno::ENAMETOOLONG));
    });
}

#[test]
fn the_way_up_crosses_mounts() {
    run(|| {
        let world = World::new();
        world.mkdir("/m").unwrap();
        world.create("/m/hidden").unwrap();
        world.create("/top").unwrap();
        let below = world.stat("/m").unwrap();
        world.mount("/m").unwrap();
        assert_ne!(world.stat("/m").map(|found| found.1), Ok(0));
        assert_eq!(world.stat("/m/hidden"), Err(Errno::ENOENT));
        world.mkdir("/m/in").unwrap();
        assert_eq!(world.stat("/m/in/../../top"), world.stat("/top"));
        assert_eq!(world.stat("/m/.."), world.stat("/"));
        world.mount("/m").unwrap();
        assert_eq!(world.stat("/m/in"), Err(Errno::ENOENT));
        assert_eq!(world.stat("/m/../top"), world.stat("/top"));
        assert_eq!(world.rmdir("/m"), Err(Errno::EBUSY));
        assert_eq!(world.rename("/m", "/n", 0), Err(Errno::EBUSY));
        world.create("/m/file").unwrap();
        assert_eq!(world.rename("/m/file", "/file", 0), Err(Errno::EXDEV));
        assert_eq!(world.unmount("/m"), Ok(()));
        assert_eq!(world.stat("/m/in").map(|found| found.0), Ok(FileKind::Directory));
        assert_eq!(world.unmount("/m"), Ok(()));
        assert_eq!(world.stat("/m"), Ok(below));
        assert_eq!(world.stat("/m/hidden").map(|found| found.0), Ok(FileKind::Regular));
        assert_eq!(world.unmount("/m"), Err(Errno::EINVAL));
    });
}

/// openat2(2), with `/jail` as the start.
#[test]
fn resolution_can_be_confined() {
    run(|| {
        let world = World::new();
        for path in ["/jail", "/jail/dir", "/jail/mount", "/jail/etc"] {
            world.mkdir(path).unwrap();
        }
        world.create("/outside").unwrap();
        world.create("/jail/etc/inside").unwrap();
        world.mount("/jail/mount").unwrap();
        world.create("/jail/mount/file").unwrap();
        world.symlink("/etc/inside", "/jail/absolute").unwrap();
        world.symlink("../outside", "/jail/up").unwrap();
        world.symlink("dir/../etc/inside", "/jail/round").unwrap();
        let jail = world.open("/jail", OpenFlags::DIRECTORY, ResolveFlags::empty()).unwrap();
        let error = |path: &str, resolve| {
            let request = OpenRequest { flags: OpenFlags::empty(), mode: 0, resolve };
            open(&world.context(), Start::File(&jail), path.as_bytes(), &request).err()
        };
        let cases = [
            (ResolveFlags::BENEATH, "etc/inside", None),
            (ResolveFlags::BENEATH, "dir/../etc/inside", None),
            (ResolveFlags::BENEATH, "round", None),
            (ResolveFlags::BENEATH, "..", Some(Errno::EXDEV)),
            (ResolveFlags::BENEATH, "dir/../../jail/etc", Some(Errno::EXDEV)),
            (ResolveFlags::BENEATH, "/jail/etc", Some(Errno::EXDEV)),
            (ResolveFlags::BENEATH, "absolute", Some(Errno::EXDEV)),
            (ResolveFlags::BENEATH, "up", Some(Errno::EXDEV)),
            (ResolveFlags::IN_ROOT, "absolute", None),
            (ResolveFlags::IN_ROOT, "/etc/inside", None),
            (ResolveFlags::IN_ROOT, "../../../etc/inside", None),
            (ResolveFlags::IN_ROOT, "up", Some(Errno::ENOENT)),
            (ResolveFlags::NO_SYMLINKS, "etc/inside", None),
            (ResolveFlags::NO_SYMLINKS, "round", Some(Errno::ELOOP)),
            (ResolveFlags::NO_XDEV, "etc/inside", None),
            (ResolveFlags::NO_XDEV, "mount/file", Some(Errno::EXDEV)),
            (ResolveFlags::NO_XDEV, "mount/..", Some(Errno::EXDEV)),
            (ResolveFlags::empty(), "up", None),
        ];
        for (resolve, path, expected) in cases {
            assert_eq!(error(path, resolve), expected, "{path} {resolve:?}");
        }
    });
}

/// What the model knows of a name: a file with its number, or a directory.
#[derive(Clone, Debug, PartialEq)]
enum Node {
    File(u64),
    Directory(u64, BTreeMap<String, Node>),
}

impl Node {
    fn number(&self) -> u64 {
        match self {
            Node::File(number) | Node::Directory(number, _) => *number,
        }
    }
    fn kind(&self) -> FileKind {
        match self {
            Node::File(_) => FileKind::Regular,
            Node::Directory(..) => FileKind::Directory,
        }
    }
}

/// The tree as it should be.
struct Model(Node);

type Names = Vec<String>;

impl Model {
    fn find(&self, names: &[String]) -> Result<&Node> {
        names.iter().try_fold(&self.0, |at, name| match at {
            Node::Directory(_, entries) => entries.get(name).ok_or(Errno::ENOENT),
            Node::File(_) => Err(Errno::ENOTDIR),
        })
    }

    fn entries(&mut self, names: &[String]) -> Result<&mut BTreeMap<String, Node>> {
        let mut at = &mut self.0;
        for name in names {
            match at {
                Node::Directory(_, entries) => at = entries.get_mut(name).ok_or(Errno::ENOENT)?,
                Node::File(_) => return Err(Errno::ENOTDIR),
            }
        }
        match at {
            Node::Directory(_, entries) => Ok(entries),
            Node::File(_) => Err(Errno::ENOTDIR),
        }
    }

    fn add(&mut self, path: &Names, node: Node) -> Result<()> {
        let (name, parent) = path.split_last().ok_or(Errno::EEXIST)?;
        let entries = self.entries(parent)?;
        if entries.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        entries.insert(name.clone(), node);
        Ok(())
    }

    fn remove(&mut self, path: &Names, kind: FileKind) -> Result<()> {
        let (name, parent) = path.split_last().ok_or(Errno::EBUSY)?;
        let entries = self.entries(parent)?;
        match (entries.get(name).ok_or(Errno::ENOENT)?, kind) {
            (Node::Directory(_, inner), FileKind::Directory) if !inner.is_empty() => {
                return Err(Errno::ENOTEMPTY);
            }
            (Node::Directory(..), FileKind::Regular) => return Err(Errno::EISDIR),
            (Node::File(_), FileKind::Directory) => return Err(Errno::ENOTDIR),
            _ => {}
        }
        entries.remove(name);
        Ok(())
    }

    fn rename(&mut self, old: &Names, new: &Names) -> Result<()> {
        let (old_name, old_parent) = old.split_last().ok_or(Errno::EBUSY)?;
        self.entries(old_parent)?;
        let (new_name, new_parent) = new.split_last().ok_or(Errno::EBUSY)?;
        self.entries(new_parent)?;
        let moved = self.find(old)?.clone();
        if new.starts_with(old) && new != old && moved.kind() == FileKind::Directory {
            return Err(Errno::EINVAL);
        }
        if old.starts_with(new) && new != old {
            return Err(Errno::ENOTEMPTY);
        }
        if new == old {
            return Ok(());
        }
        match (moved.kind(), self.find(new)) {
            (FileKind::Directory, Ok(Node::File(_))) => return Err(Errno::ENOTDIR),
            (FileKind::Regular, Ok(Node::Directory(..))) => return Err(Errno::EISDIR),
            (_, Ok(Node::Directory(_, inner))) if !inner.is_empty() => return Err(Errno::ENOTEMPTY),
            _ => {}
        }
        self.entries(old_parent)?.remove(old_name);
        self.entries(new_parent)?.insert(new_name.clone(), moved);
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Change {
    Create(Names),
    Mkdir(Names),
    Unlink(Names),
    Rmdir(Names),
    Rename(Names, Names),
    Look(Names),
}

fn names() -> impl Strategy<Value = Names> {
    proptest::collection::vec(prop_oneof!["a", "b", "c", "d"], 1..4)
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        2 => names().prop_map(Change::Create),
        3 => names().prop_map(Change::Mkdir),
        1 => names().prop_map(Change::Unlink),
        1 => names().prop_map(Change::Rmdir),
        3 => (names(), names()).prop_map(|(old, new)| Change::Rename(old, new)),
        2 => names().prop_map(Change::Look),
    ]
}

fn text(names: &Names) -> String {
    format!("/{}", names.join("/"))
}

/// Makes the change in both; both must answer the same.
fn apply(world: &World, model: &mut Model, change: &Change) {
    match change {
        Change::Create(path) => {
            let made = world.create(&text(path));
            let number = world.stat(&text(path)).map_or(0, |found| found.1);
            assert_eq!(made, model.add(path, Node::File(number)), "{change:?}");
        }
        Change::Mkdir(path) => {
            let made = world.mkdir(&text(path));
            let number = world.stat(&text(path)).map_or(0, |found| found.1);
            assert_eq!(made, model.add(path, Node::Directory(number, BTreeMap::new())), "{change:?}");
        }
        Change::Unlink(path) => {
            assert_eq!(world.unlink(&text(path)), model.remove(path, FileKind::Regular), "{change:?}");
        }
        Change::Rmdir(path) => {
            assert_eq!(world.rmdir(&text(path)), model.remove(path, FileKind::Directory), "{change:?}");
        }
        Change::Rename(old, new) => {
            assert_eq!(world.rename(&text(old), &text(new), 0), model.rename(old, new), "{change:?}");
        }
        Change::Look(path) => {
            let expected = model.find(path).map(|node| (node.kind(), node.number()));
            assert_eq!(world.stat(&text(path)), expected, "{change:?}");
        }
    }
}

/// Every name of the model is found, and none beside them.
fn compare(world: &World, node: &Node, path: &str) {
    assert_eq!(world.stat(&format!("{path}/.")).is_ok(), node.kind() == FileKind::Directory, "{path}");
    let Node::Directory(_, entries) = node else { return };
    for name in ["a", "b", "c", "d"] {
        let path = format!("{path}/{name}");
        let expected = entries.get(name).map(|node| (node.kind(), node.number())).ok_or(Errno::ENOENT);
        assert_eq!(world.stat(&path), expected, "{path}");
        if let Some(inner) = entries.get(name) {
            compare(world, inner, &path);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Random changes with lookups in between agree with the model.
    #[test]
    fn the_cache_agrees_with_the_model(changes in proptest::collection::vec(change(), 1..80)) {
        run(|| {
            let world = World::new();
            let root = world.stat("/").unwrap().1;
            let mut model = Model(Node::Directory(root, BTreeMap::new()));
            for change in &changes {
                apply(&world, &mut model, change);
            }
            compare(&world, &model.0, "");
        });
    }
}

/// Other threads walk without locks while names change around what they look for: what is always there is always found,
/// what moves is found as itself or not at all.
#[test]
fn lookups_during_changes_find_what_is_there() {
    run(|| {
        let world = World::new();
        for path in ["/stay", "/stay/in", "/one", "/one/sub", "/other"] {
            world.mkdir(path).unwrap();
        }
        world.create("/stay/in/file").unwrap();
        world.create("/one/sub/moving").unwrap();
        let fixed = world.stat("/stay/in/file").unwrap();
        let moving = world.stat("/one/sub/moving").unwrap();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut found = 0u32;
                    while !over.load(Ordering::Relaxed) {
                        let look = |path: &str| {
                            let status =
                                namei::status(&world.context(), HERE, path.as_bytes(), LookupFlags::FOLLOW);
                            status.map(|status| status.inode_number)
                        };
                        assert_eq!(look("/stay/in/file"), Ok(fixed.1));
                        assert_eq!(look("/stay/in/../in/./file"), Ok(fixed.1));
                        for path in ["/one/sub/moving", "/other/dir/moving"] {
                            match look(path) {
                                Ok(number) => assert_eq!(number, moving.1),
                                Err(error) => assert_eq!(error, Errno::ENOENT),
                            }
                            found += 1;
                        }
                        assert_eq!(look("/stay/gone/x").err(), Some(Errno::ENOENT));
                    }
                    assert!(found > 0);
                });
            }
            for round in 0..3000 {
                world.rename("/one/sub", "/other/dir", 0).unwrap();
                world.create("/stay/in/short-lived").unwrap();
                if round % 8 == 0 {
                    world.mount("/other").unwrap();
                    assert_eq!(world.stat("/other/dir"), Err(Errno::ENOENT));
                    // A walker may just be there.
                    while world.unmount("/other") == Err(Errno::EBUSY) {
                        std::thread::yield_now();
                    }
                }
                world.unlink("/stay/in/short-lived").unwrap();
                world.rename("/other/dir", "/one/sub", 0).unwrap();
            }
            over.store(true, Ordering::Relaxed);
        });
        assert_eq!(world.stat("/one/sub/moving"), Ok(moving));
    });
}

#[derive(Clone, Debug)]
enum DescriptorStep {
    Install,
    Close(i32),
    DuplicateTo(i32, i32),
    DuplicateFrom(i32, u32),
}

fn descriptor_step() -> impl Strategy<Value = DescriptorStep> {
    prop_oneof![
        3 => Just(DescriptorStep::Install),
        2 => (0..90i32).prop_map(DescriptorStep::Close),
        1 => (0..40i32, 0..90i32).prop_map(|(old, new)| DescriptorStep::DuplicateTo(old, new)),
        1 => (0..40i32, 0..90u32).prop_map(|(old, minimum)| DescriptorStep::DuplicateFrom(old, minimum)),
    ]
}

const LIMIT: u64 = 80;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The lowest free number is given out, always (open(2)); the model is a set of numbers.
    #[test]
    fn descriptors_agree_with_a_set(steps in proptest::collection::vec(descriptor_step(), 1..200)) {
        run(|| {
            let world = World::new();
            world.create("/file").unwrap();
            let file = world.open("/file", OpenFlags::empty(), ResolveFlags::empty()).unwrap();
            let table = DescriptorTable::new();
            let mut model: BTreeSet<i32> = BTreeSet::new();
            let lowest = |model: &BTreeSet<i32>, from: i32| {
                (from..LIMIT as i32).find(|number| !model.contains(number)).ok_or(Errno::EMFILE)
            };
            for step in &steps {
                let (actual, expected) = match *step {
                    DescriptorStep::Install => {
                        (table.install(file.clone(), CloseOnExec::No, LIMIT), lowest(&model, 0))
                    }
                    DescriptorStep::Close(number) => {
                        let had = model.remove(&number);
                        (table.close(number).map(|()| -1), if had { Ok(-1) } else { Err(Errno::EBADF) })
                    }
                    DescriptorStep::DuplicateTo(old, new) if old != new => {
                        let good = model.contains(&old) && (new as u64) < LIMIT;
                        let done = table.duplicate_to(old, new, LIMIT, CloseOnExec::Yes);
                        (done, if good { Ok(new) } else { Err(Errno::EBADF) })
                    }
                    DescriptorStep::DuplicateTo(..) => continue,
                    DescriptorStep::DuplicateFrom(old, minimum) => {
                        let expected = match model.contains(&old) {
                            false => Err(Errno::EBADF),
                            true if u64::from(minimum) >= LIMIT => Err(Errno::EINVAL),
                            true => lowest(&model, minimum as i32),
                        };
                        (table.duplicate(old, minimum, LIMIT, CloseOnExec::No), expected)
                    }
                };
                assert_eq!(actual, expected, "{step:?}");
                model.extend(actual.ok().filter(|number| *number >= 0));
                assert_eq!(table.count(), model.len());
            }
            for number in 0..90 {
                assert_eq!(table.get(number).is_ok(), model.contains(&number), "{number}");
            }
        });
    }
}

/// Threads look descriptors up while others close and open them: what is found is a file, and none is lost.
#[test]
fn descriptors_are_found_while_others_change() {
    run(|| {
        let world = World::new();
        world.create("/file").unwrap();
        let file = world.open("/file", OpenFlags::empty(), ResolveFlags::empty()).unwrap();
        let table = DescriptorTable::new();
        let kept = table.install(file.clone(), CloseOnExec::No, 1024).unwrap();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        assert!(Arc::ptr_eq(&table.get(kept).unwrap(), &file));
                        for number in 0..70 {
                            assert!(
                                table.get(number).is_ok_and(|found| Arc::ptr_eq(&found, &file))
                                    || number != kept
                            );
                        }
                    }
                });
            }
            for _ in 0..500 {
                let opened: Vec<i32> =
                    (0..70).map(|_| table.install(file.clone(), CloseOnExec::No, 1024).unwrap()).collect();
                assert_eq!(opened, (1..71).collect::<Vec<i32>>());
                opened.iter().for_each(|number| table.close(*number).unwrap());
            }
            over.store(true, Ordering::Relaxed);
        });
        assert_eq!(table.count(), 1);
        drop(table);
    });
}

/// The same on the simulated machine, where a seed chooses when a walker is overtaken.
fn walkers_and_a_mover() {
    let world = Arc::new(World::new());
    for path in ["/stay", "/stay/in", "/one", "/one/sub", "/other"] {
        world.mkdir(path).unwrap();
    }
    world.create("/stay/in/file").unwrap();
    world.create("/one/sub/moving").unwrap();
    let fixed = world.stat("/stay/in/file").unwrap().1;
    let moving = world.stat("/one/sub/moving").unwrap().1;
    let crew = sched::host::Crew::new();
    for _ in 0..2 {
        let world = world.clone();
        crew.spawn("walker", move || {
            for _ in 0..30 {
                let look = |path: &str| {
                    let status = namei::status(&world.context(), HERE, path.as_bytes(), LookupFlags::FOLLOW);
                    status.map(|status| status.inode_number)
                };
                assert_eq!(look("/stay/in/file"), Ok(fixed));
                for path in ["/one/sub/moving", "/other/dir/moving"] {
                    assert!([Ok(moving), Err(Errno::ENOENT)].contains(&look(path)), "{path}");
                }
                assert!(matches!(look("/stay/in/short"), Ok(_) | Err(Errno::ENOENT)));
                sched::yield_now();
            }
        });
    }
    for name in ["short", "brief"] {
        let world = world.clone();
        crew.spawn("maker", move || {
            for _ in 0..12 {
                world.create(&format!("/stay/in/{name}")).unwrap();
                world.rename(&format!("/stay/in/{name}"), &format!("/stay/{name}"), 0).unwrap();
                world.unlink(&format!("/stay/{name}")).unwrap();
            }
        });
    }
    for _ in 0..12 {
        world.rename("/one/sub", "/other/dir", 0).unwrap();
        sched::yield_now();
        world.rename("/other/dir", "/one/sub", 0).unwrap();
    }
    crew.join();
    assert_eq!(world.stat("/one/sub/moving").map(|found| found.1), Ok(moving));
    for path in ["/stay/short", "/stay/in/short", "/stay/in/brief", "/other/dir"] {
        assert_eq!(world.stat(path), Err(Errno::ENOENT));
    }
}

#[test]
fn walkers_overtaken_anywhere_find_what_is_there() {
    sched::host::run_seeds(15, 4, walkers_and_a_mover);
}

#[test]
fn a_seed_repeats_with_names() {
    sched::host::repeats(4, 4, walkers_and_a_mover);
}

/// Two directories are moved into each other at once: one of them wins, and there is never a circle.
#[test]
fn directories_do_not_swallow_each_other() {
    sched::host::run_seeds(15, 3, || {
        let world = Arc::new(World::new());
        world.mkdir("/a").unwrap();
        world.mkdir("/b").unwrap();
        let crew = sched::host::Crew::new();
        let won = Arc::new(std::sync::atomic::AtomicU32::new(0));
        for (from, to) in [("/a", "/b/a"), ("/b", "/a/b")] {
            let (world, won) = (world.clone(), won.clone());
            crew.spawn("mover", move || match world.rename(from, to, 0) {
                Ok(()) => drop(won.fetch_add(1, Ordering::Relaxed)),
                // The other had moved before the walk, or after it.
                Err(errno) => assert!([Errno::ENOENT, Errno::EINVAL].contains(&errno), "{errno:?}"),
            });
        }
        crew.join();
        assert_eq!(won.load(Ordering::Relaxed), 1);
        assert!(world.stat("/a/b").is_ok() != world.stat("/b/a").is_ok());
    });
}
