//! When files and file systems end: a file system on a device that notes what is called, under a scheduler with the reaper's thread.
//!
//! What is judged: an inode without a name is evicted exactly once and not before its last user is gone, one with a name is told that its
//! memory goes, neither happens where nothing may sleep, and a file system is shut down before umount(2) comes back.

use abi::errno::{Errno, Result};
use abi::fcntl::{OpenFlags, ResolveFlags};
use abi::mount::{MNT_DETACH, MountFlags};
use machine::sync::rcu;
use security::Credentials;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};
use tmpfs::{Flavour, TmpFs};
use vfs::mount_calls::{self, MountArguments};
use vfs::namei::{self, LookupFlags, Start};
use vfs::open::{OpenRequest, open};
use vfs::{
    DeviceId, File, FileKind, FileOperations, FileSystemType, FsContext, FsState, Inode, InodeAttributes,
    InodeOperations, LookupContext, MountNamespace, MountRequest, NewInode, Rename, SuperBlock,
    SuperBlockAttributes, SuperBlockOperations, SyncKind, directory, mount_tree,
};

const HERE: Start<'static> = Start::WorkingDirectory;
const ROOT: u64 = 2;

/// An inode on the "device".
struct Stored {
    kind: FileKind,
    links: u32,
    entries: BTreeMap<Vec<u8>, u64>,
}

/// The device, and what was called.
#[derive(Default)]
struct Disk {
    stored: BTreeMap<u64, Stored>,
    memory: BTreeMap<u64, Weak<Inode>>,
    calls: Vec<String>,
    next: u64,
}

type Device = Arc<Mutex<Disk>>;

struct Instance(Device);

struct Node {
    device: Device,
    number: u64,
}

fn note(device: &Device, call: String) {
    assert!(machine::preempt::may_sleep(), "{call}");
    device.lock().unwrap().calls.push(call);
}

impl SuperBlockOperations for Instance {
    fn sync(&self, _superblock: &SuperBlock) -> Result<()> {
        note(&self.0, "sync".into());
        Ok(())
    }
    fn can_freeze(&self) -> bool {
        true
    }
    fn freeze(&self, _superblock: &SuperBlock) -> Result<()> {
        note(&self.0, "freeze".into());
        Ok(())
    }
    fn thaw(&self, _superblock: &SuperBlock) -> Result<()> {
        note(&self.0, "thaw".into());
        Ok(())
    }
    fn shut_down(&self, _superblock: &SuperBlock) {
        note(&self.0, "shut down".into());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        note(&self.device, format!("drop {}", self.number));
    }
}

fn load(device: &Device, superblock: &Arc<SuperBlock>, number: u64) -> Result<Arc<Inode>> {
    let mut disk = device.lock().unwrap();
    if let Some(inode) = disk.memory.get(&number).and_then(Weak::upgrade) {
        return Ok(inode);
    }
    let stored = disk.stored.get(&number).ok_or(Errno::ESTALE)?;
    let mut attributes = InodeAttributes::new(number, stored.kind, 0o755);
    attributes.link_count = stored.links;
    let node = Node { device: device.clone(), number };
    let inode = Arc::new(Inode::new(superblock, attributes, Box::new(node)));
    disk.memory.insert(number, Arc::downgrade(&inode));
    Ok(inode)
}

impl Node {
    fn with<R>(&self, number: u64, change: impl FnOnce(&mut Stored) -> R) -> Result<R> {
        self.device.lock().unwrap().stored.get_mut(&number).map(change).ok_or(Errno::ESTALE)
    }

    fn set_links(&self, inode: &Inode, links: u32) -> Result<()> {
        inode.set_link_count(links);
        self.with(inode.number(), |stored| stored.links = links)
    }

    fn make(&self, directory: &Arc<Inode>, kind: FileKind, links: u32) -> Result<Arc<Inode>> {
        let number = {
            let mut disk = self.device.lock().unwrap();
            disk.next += 1;
            let number = disk.next;
            disk.stored.insert(number, Stored { kind, links, entries: BTreeMap::new() });
            number
        };
        load(&self.device, directory.superblock(), number)
    }

    fn remove(&self, name: &[u8], target: &Arc<Inode>) -> Result<()> {
        self.with(self.number, |stored| stored.entries.remove(name))?;
        self.set_links(target, if target.is_directory() { 0 } else { target.link_count() - 1 })
    }
}

impl InodeOperations for Node {
    fn lookup(&self, directory: &Arc<Inode>, name: &[u8]) -> Result<Arc<Inode>> {
        let number =
            self.with(self.number, |stored| stored.entries.get(name).copied())?.ok_or(Errno::ENOENT)?;
        load(&self.device, directory.superblock(), number)
    }
    fn create(&self, directory: &Arc<Inode>, name: &[u8], new: &NewInode<'_>) -> Result<Arc<Inode>> {
        let kind = new.content.kind();
        let inode = self.make(directory, kind, if kind == FileKind::Directory { 2 } else { 1 })?;
        self.with(self.number, |stored| stored.entries.insert(name.to_vec(), inode.number()))?;
        Ok(inode)
    }
    fn create_unnamed(&self, directory: &Arc<Inode>, _new: &NewInode<'_>) -> Result<Arc<Inode>> {
        self.make(directory, FileKind::Regular, 0)
    }
    fn link(&self, _directory: &Arc<Inode>, name: &[u8], target: &Arc<Inode>) -> Result<()> {
        self.with(self.number, |stored| stored.entries.insert(name.to_vec(), target.number()))?;
        self.set_links(target, target.link_count() + 1)
    }
    fn unlink(&self, _directory: &Arc<Inode>, name: &[u8], target: &Arc<Inode>) -> Result<()> {
        self.remove(name, target)
    }
    fn rmdir(&self, _directory: &Arc<Inode>, name: &[u8], target: &Arc<Inode>) -> Result<()> {
        self.remove(name, target)
    }
    fn rename(&self, rename: &Rename<'_>) -> Result<()> {
        let number = rename.inode.number();
        self.with(rename.old_directory.number(), |stored| stored.entries.remove(rename.old_name))?;
        if let Some(target) = rename.target {
            self.set_links(target, if target.is_directory() { 0 } else { target.link_count() - 1 })?;
        }
        self.with(rename.new_directory.number(), |stored| {
            stored.entries.insert(rename.new_name.to_vec(), number);
        })
    }
    fn evict(&self, inode: &Inode) {
        assert_eq!(inode.link_count(), 0);
        note(&self.device, format!("evict {}", self.number));
        let mut disk = self.device.lock().unwrap();
        disk.memory.remove(&self.number);
        assert!(disk.stored.remove(&self.number).is_some(), "evicted twice");
    }
    fn forget(&self, inode: &Inode) {
        assert_ne!(inode.link_count(), 0);
        note(&self.device, format!("forget {}", self.number));
    }
    fn times_changed(&self, _inode: &Inode) {
        note(&self.device, format!("times {}", self.number));
    }
    fn file_operations(&self) -> &dyn FileOperations {
        &Opened
    }
}

struct Opened;

impl FileOperations for Opened {
    fn read(&self, _file: &File, _to: &mut dyn mm::io::IoWriter, _offset: u64) -> Result<usize> {
        Ok(0)
    }
    fn sync(&self, _file: &File, _kind: SyncKind) -> Result<()> {
        Ok(())
    }
}

/// The type, on one device.
struct Kind(Device);

impl FileSystemType for Kind {
    fn name(&self) -> &'static str {
        "disk"
    }
    fn mount(&self, request: &MountRequest<'_>) -> Result<Arc<Inode>> {
        let attributes = SuperBlockAttributes {
            type_name: "disk",
            magic: 0,
            block_size: 4096,
            max_file_size: 1 << 40,
            time_limits: vfs::TimeLimits::NONE,
            flags: request.flags,
            device: Some(DeviceId::new(8, 1)),
        };
        let owner = request.credentials.user_namespace.clone();
        let superblock = SuperBlock::new(attributes, Box::new(Instance(self.0.clone())), owner);
        load(&self.0, &superblock, ROOT)
    }
}

/// A tmpfs with the disk on `/d`.
struct World {
    fs: Arc<FsContext>,
    credentials: Arc<Credentials>,
    device: Device,
    _namespace: Arc<MountNamespace>,
}

impl World {
    fn new() -> World {
        let _ = tmpfs::register();
        let disk = Disk { next: ROOT, ..Disk::default() };
        let device = Arc::new(Mutex::new(disk));
        let root = Stored { kind: FileKind::Directory, links: 2, entries: BTreeMap::new() };
        device.lock().unwrap().stored.insert(ROOT, root);
        vfs::register_filesystem(Arc::new(Kind(device.clone()))).unwrap();
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
        let world = World { fs: FsContext::new(state), credentials, device, _namespace: namespace };
        world.mkdir("/d").unwrap();
        world.mount(MountFlags::empty()).unwrap();
        world
    }

    fn context(&self) -> LookupContext<'_> {
        LookupContext { fs: &self.fs, credentials: &self.credentials }
    }
    fn place(&self, path: &str) -> Result<vfs::Path> {
        namei::resolve(&self.context(), HERE, path.as_bytes(), LookupFlags::FOLLOW)
    }
    fn mount(&self, flags: MountFlags) -> Result<()> {
        let target = self.place("/d")?;
        let arguments = MountArguments { source: b"none", target: &target, kind: b"disk", flags, data: b"" };
        mount_calls::mount(&self.context(), &arguments)
    }
    fn unmount(&self, flags: u32) -> Result<()> {
        mount_tree::unmount(&self.context(), self.place("/d")?, flags)
    }
    fn mkdir(&self, path: &str) -> Result<()> {
        directory::create_directory(&self.context(), HERE, path.as_bytes(), 0o755).map(drop)
    }
    fn rmdir(&self, path: &str) -> Result<()> {
        directory::remove_directory(&self.context(), HERE, path.as_bytes())
    }
    fn unlink(&self, path: &str) -> Result<()> {
        directory::unlink(&self.context(), HERE, path.as_bytes())
    }
    fn rename(&self, old: &str, new: &str) -> Result<()> {
        directory::rename(&self.context(), HERE, old.as_bytes(), HERE, new.as_bytes(), 0)
    }
    fn open(&self, path: &str, flags: OpenFlags) -> Result<Arc<File>> {
        let request = OpenRequest { flags, mode: 0o644, resolve: ResolveFlags::empty() };
        open(&self.context(), HERE, path.as_bytes(), &request)
    }
    fn create(&self, path: &str) -> Arc<File> {
        self.open(path, OpenFlags::CREAT | OpenFlags::RDWR).unwrap()
    }
    fn number(&self, path: &str) -> u64 {
        self.place(path).unwrap().inode().unwrap().number()
    }
    /// What was called since the last time, once all that was queued is done.
    fn calls(&self) -> Vec<String> {
        for _ in 0..3 {
            rcu::barrier();
            sched::sleep_until(machine::time::now_ns() + 1_000_000, machine::sync::WaitKind::Uninterruptible)
                .unwrap();
        }
        std::mem::take(&mut self.device.lock().unwrap().calls)
    }
    fn evictions(&self) -> Vec<String> {
        self.calls().into_iter().filter(|call| call.starts_with("evict")).collect()
    }
}

fn run(test: impl FnOnce(World) + Send + 'static) {
    sched::host::run(1, 2, move || {
        vfs::reaper::start().unwrap();
        test(World::new());
    });
}

#[test]
fn an_unlinked_file_goes_with_its_last_user() {
    run(|world| {
        let nobody: [String; 0] = [];
        // Nobody has it open: it is gone when unlink comes back.
        drop(world.create("/d/a"));
        let number = world.number("/d/a");
        world.unlink("/d/a").unwrap();
        assert!(world.device.lock().unwrap().calls.contains(&format!("evict {number}")));
        world.calls();
        // A description, a handle on the place.
        for flags in [OpenFlags::RDWR, OpenFlags::PATH] {
            drop(world.create("/d/a"));
            let number = world.number("/d/a");
            let user = world.open("/d/a", flags).unwrap();
            let other = world.open("/d/a", OpenFlags::empty()).unwrap();
            world.unlink("/d/a").unwrap();
            assert_eq!(world.evictions(), nobody);
            drop(other);
            assert_eq!(world.evictions(), nobody);
            drop(user);
            assert_eq!(world.evictions(), [format!("evict {number}")]);
        }
        // Another name.
        drop(world.create("/d/a"));
        let number = world.number("/d/a");
        let old = world.place("/d/a").unwrap();
        directory::link(&world.context(), &old, HERE, b"/d/b").unwrap();
        drop(old);
        world.unlink("/d/a").unwrap();
        assert_eq!(world.evictions(), nobody);
        drop(world.create("/d/c"));
        world.rename("/d/c", "/d/b").unwrap();
        assert_eq!(world.evictions(), [format!("evict {number}")]);
    });
}

#[test]
fn a_removed_directory_goes_with_its_last_user() {
    run(|world| {
        world.mkdir("/d/a").unwrap();
        let number = world.number("/d/a");
        world.rmdir("/d/a").unwrap();
        assert_eq!(world.evictions(), [format!("evict {number}")]);
        // A description.
        world.mkdir("/d/a").unwrap();
        let number = world.number("/d/a");
        let user = world.open("/d/a", OpenFlags::DIRECTORY).unwrap();
        world.mkdir("/d/b").unwrap();
        world.rename("/d/b", "/d/a").unwrap();
        assert_eq!(world.evictions(), [""; 0]);
        drop(user);
        assert_eq!(world.evictions(), [format!("evict {number}")]);
        // A working directory, shared by a fork.
        let number = world.number("/d/a");
        let place = world.place("/d/a").unwrap();
        let fork = world.fs.fork();
        fork.update(|state| state.working_directory = place);
        let again = fork.fork();
        world.rmdir("/d/a").unwrap();
        drop(fork);
        assert_eq!(world.evictions(), [""; 0]);
        let inside = LookupContext { fs: &again, credentials: &world.credentials };
        assert_eq!(directory::create_directory(&inside, HERE, b"x", 0o755).err(), Some(Errno::ENOENT));
        assert_eq!(namei::resolve(&inside, HERE, b"x", LookupFlags::FOLLOW).err(), Some(Errno::ENOENT));
        drop(again);
        assert_eq!(world.evictions(), [format!("evict {number}")]);
    });
}

#[test]
fn a_place_found_before_the_file_went_cannot_change_it() {
    run(|world| {
        drop(world.create("/d/a"));
        let place = world.place("/d/a").unwrap();
        world.unlink("/d/a").unwrap();
        assert_eq!(place.status().unwrap().link_count, 0);
        let error = vfs::attributes::change_mode(&place, 0o600, &world.credentials).err();
        assert_eq!(error, Some(Errno::ENOENT));
        let error = vfs::open::open_path(&place, OpenFlags::RDWR, &world.context()).err();
        assert_eq!(error, Some(Errno::ENOENT));
        drop(place);
        assert_eq!(world.calls().iter().filter(|call| call.starts_with("evict")).count(), 1);
    });
}

#[test]
fn a_file_made_without_a_name_is_evicted_unless_it_gets_one() {
    run(|world| {
        let file = world.open("/d", OpenFlags::TMPFILE | OpenFlags::DIRECTORY | OpenFlags::RDWR).unwrap();
        let number = file.inode().unwrap().number();
        drop(file);
        assert_eq!(world.evictions(), [format!("evict {number}")]);
        let file = world.open("/d", OpenFlags::TMPFILE | OpenFlags::DIRECTORY | OpenFlags::RDWR).unwrap();
        directory::link(&world.context(), file.path(), HERE, b"/d/named").unwrap();
        drop(file);
        assert_eq!(world.evictions(), [""; 0]);
        assert!(world.place("/d/named").is_ok());
    });
}

#[test]
fn what_leaves_memory_is_told_and_comes_back() {
    run(|world| {
        drop(world.create("/d/a"));
        let number = world.number("/d/a");
        world.calls();
        // The first look takes away that it was used lately.
        for _ in 0..2 {
            vfs::dentry::shrink_all();
            rcu::barrier();
        }
        assert_eq!(world.calls(), [format!("forget {number}"), format!("drop {number}")]);
        assert_eq!(world.number("/d/a"), number);
        world.unlink("/d/a").unwrap();
        assert_eq!(world.evictions(), [format!("evict {number}")]);
    });
}

#[test]
fn umount_comes_back_when_the_file_system_is_shut_down() {
    run(|world| {
        for path in ["/d/a", "/d/a/b", "/d/a/b/c"] {
            world.mkdir(path).unwrap();
        }
        drop(world.create("/d/a/b/c/file"));
        let _ = world.place("/d/a/absent").err();
        let open = world.open("/d/a/b/c/file", OpenFlags::empty()).unwrap();
        assert_eq!(world.unmount(0), Err(Errno::EBUSY));
        drop(open);
        world.unmount(0).unwrap();
        let calls = world.device.lock().unwrap().calls.clone();
        assert_eq!(calls.iter().filter(|call| call.starts_with("forget")).count(), 5, "{calls:?}");
        assert_eq!(calls.last().map(String::as_str), Some("shut down"), "{calls:?}");
        assert_eq!(calls.iter().filter(|call| *call == "sync").count(), 1);
        world.calls();
        // One that is in use when it is taken off ends with its last user.
        world.mount(MountFlags::empty()).unwrap();
        let open = world.open("/d/a/b/c/file", OpenFlags::RDWR).unwrap();
        world.unlink("/d/a/b/c/file").unwrap();
        let number = open.inode().unwrap().number();
        world.unmount(MNT_DETACH).unwrap();
        assert!(!world.calls().iter().any(|call| call == "shut down"));
        drop(open);
        let mut calls = Vec::new();
        // The reaper's thread waits for some grace periods.
        while calls.last().map(String::as_str) != Some("shut down") && calls.len() < 100 {
            calls.extend(world.calls());
        }
        assert!(calls.contains(&format!("evict {number}")), "{calls:?}");
        assert_eq!(calls.last().map(String::as_str), Some("shut down"), "{calls:?}");
    });
}

#[test]
fn read_only_is_refused_while_something_is_to_be_written() {
    run(|world| {
        let remount = |flags| world.mount(flags | MountFlags::REMOUNT);
        let writer = world.create("/d/a");
        assert_eq!(remount(MountFlags::RDONLY), Err(Errno::EBUSY));
        drop(writer);
        let reader = world.open("/d/a", OpenFlags::empty()).unwrap();
        world.unlink("/d/a").unwrap();
        assert_eq!(remount(MountFlags::RDONLY), Err(Errno::EBUSY));
        assert_eq!(world.mkdir("/d/still-writable"), Ok(()));
        drop(reader);
        world.calls();
        assert_eq!(remount(MountFlags::RDONLY), Ok(()));
        assert!(world.calls().contains(&"sync".into()));
        assert_eq!(world.mkdir("/d/x"), Err(Errno::EROFS));
        assert_eq!(remount(MountFlags::empty()), Ok(()));
        assert_eq!(world.mkdir("/d/x"), Ok(()));
    });
}

#[test]
fn a_frozen_file_system_is_changed_by_nobody() {
    run(|world| {
        let file = world.create("/d/a");
        let superblock = file.inode().unwrap().superblock().clone();
        assert_eq!(superblock.thaw(), Err(Errno::EINVAL));
        world.calls();
        superblock.freeze().unwrap();
        assert_eq!(world.calls(), ["sync", "freeze"]);
        assert_eq!(superblock.freeze(), Err(Errno::EBUSY));
        let world = Arc::new(world);
        let done = Arc::new(Mutex::new(Vec::new()));
        let crew = sched::host::Crew::new();
        for number in 0..4 {
            let (world, done, file) = (world.clone(), done.clone(), file.clone());
            crew.spawn("changer", move || {
                match number {
                    0 => world.mkdir("/d/b").unwrap(),
                    1 => world.unlink("/d/a").unwrap(),
                    2 => {
                        let _ = vfs::attributes::truncate_file(&file, 5);
                    }
                    _ => {
                        let _ = file.write_at(&mut mm::io::SliceReader::new(b"x"), 0);
                    }
                }
                done.lock().unwrap().push(number);
            });
        }
        // Who only looks does not wait, and is not noted.
        assert!(world.place("/d/a").is_ok());
        let mut bytes = [0; 4];
        file.read(&mut mm::io::SliceWriter::new(&mut bytes)).unwrap();
        assert_eq!(world.calls(), [""; 0]);
        assert!(done.lock().unwrap().is_empty());
        superblock.thaw().unwrap();
        crew.join();
        assert_eq!(done.lock().unwrap().len(), 4);
        // One that is frozen when it is taken off is thawed to be shut down.
        superblock.freeze().unwrap();
        drop(superblock);
        world.calls();
        drop(file);
        assert_eq!(world.calls(), [""; 0]);
        world.unmount(0).unwrap();
        let calls = world.calls();
        assert_eq!(calls.first().map(String::as_str), Some("thaw"));
        assert!(calls.contains(&"evict 3".into()), "{calls:?}");
        assert_eq!(calls.last().map(String::as_str), Some("shut down"));
    });
}

#[test]
fn reads_tell_of_access_times() {
    run(|world| {
        let file = world.create("/d/a");
        let number = file.inode().unwrap().number();
        world.calls();
        let mut bytes = [0; 4];
        file.read(&mut mm::io::SliceWriter::new(&mut bytes)).unwrap();
        file.read(&mut mm::io::SliceWriter::new(&mut bytes)).unwrap();
        // Relative access times: only the first read after a change.
        assert_eq!(world.calls(), [format!("times {number}")]);
    });
}
