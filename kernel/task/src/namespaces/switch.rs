//! Moving between namespaces: what clone(2) gives a child, unshare(2), setns(2).
//!
//! Key functions: [`for_child`], [`unshare`], [`setns`]. Each builds everything new first and then switches in steps that cannot
//! fail. Only the task itself changes its set, so no lock is held between reading and replacing it.

use super::{CgroupNamespace, IpcNamespace, Namespace, Namespaces, nsfs};
use crate::pid::PidNamespace;
use crate::task::Task;
use abi::clone::CloneFlags;
use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use net::NetNamespace;
use security::{Capability, Credentials, NamespaceHead, NamespaceKind, UserNamespace};
use vfs::FsContext;

/// The flags that ask for namespaces other than the user namespace.
const SET_FLAGS: CloneFlags = CloneFlags::NEWNS
    .union(CloneFlags::NEWUTS)
    .union(CloneFlags::NEWIPC)
    .union(CloneFlags::NEWPID)
    .union(CloneFlags::NEWNET)
    .union(CloneFlags::NEWCGROUP)
    .union(CloneFlags::NEWTIME);

/// All flags that ask for namespaces.
pub const ALL_FLAGS: CloneFlags = SET_FLAGS.union(CloneFlags::NEWUSER);

/// Credentials in a new user namespace made by their owner.
///
/// # Errors
/// ENOSPC: nested too deep or too many. EPERM: the caller's root is not that of its mounts, or its ids are not mapped.
fn in_new_user_namespace(old: &Credentials, fs: &FsContext) -> Result<Credentials> {
    let state = fs.state().ok_or(Errno::EPERM)?;
    let top = state.namespace.root_path()?;
    let chrooted = !state.root.is_same(&top);
    let space = UserNamespace::create(old);
    if chrooted && space.is_ok() {
        return Err(Errno::EPERM);
    }
    Ok(security::enter_user_namespace(old, space?))
}

/// Who pays for and owns new namespaces.
struct Maker<'a> {
    credentials: &'a Credentials,
}

impl Maker<'_> {
    fn head(&self, kind: NamespaceKind) -> Result<NamespaceHead> {
        NamespaceHead::new(kind, &self.credentials.user_namespace, self.credentials.euid)
    }
}

/// A copy of `old` with what `flags` ask for made new; `fs` is moved to the new mounts.
fn copy(
    task: &Task,
    old: &Namespaces,
    flags: CloneFlags,
    credentials: &Credentials,
    fs: &FsContext,
) -> Result<Namespaces> {
    let maker = Maker { credentials };
    let mut new = old.clone();
    if flags.contains(CloneFlags::NEWNS) {
        let head = maker.head(NamespaceKind::Mount)?;
        let state = fs.state().ok_or(Errno::ENOENT)?;
        let (mut root, mut working_directory) = (state.root.clone(), state.working_directory.clone());
        new.mount = old.mount.copy(head, &mut [&mut root, &mut working_directory])?;
        let mount = new.mount.clone();
        fs.update(|state| {
            (state.root, state.working_directory, state.namespace) = (root, working_directory, mount);
        });
    }
    if flags.contains(CloneFlags::NEWUTS) {
        new.uts = old.uts.copy(maker.head(NamespaceKind::Uts)?);
    }
    if flags.contains(CloneFlags::NEWIPC) {
        new.ipc = IpcNamespace::new(maker.head(NamespaceKind::Ipc)?);
    }
    if flags.contains(CloneFlags::NEWPID) {
        let own = task.process().namespace();
        if !Arc::ptr_eq(own, &old.pid_for_children)
            || !credentials.user_namespace.is_within(own.head().owner())
        {
            return Err(Errno::EINVAL);
        }
        new.pid_for_children = PidNamespace::create(own, maker.head(NamespaceKind::Pid)?)?;
    }
    if flags.contains(CloneFlags::NEWCGROUP) {
        new.cgroup = CgroupNamespace::new(maker.head(NamespaceKind::Cgroup)?);
    }
    if flags.contains(CloneFlags::NEWNET) {
        let head = maker.head(NamespaceKind::Net)?;
        new.net = NetNamespace::create(head.owner())?;
        new.net.identify(head);
    }
    if flags.contains(CloneFlags::NEWTIME) {
        new.time_for_children = old.time.copy(maker.head(NamespaceKind::Time)?);
    }
    Ok(new)
}

/// What a child starts with.
pub(crate) struct ChildSet {
    /// Its credentials.
    pub credentials: Arc<Credentials>,
    /// Its namespaces.
    pub namespaces: Arc<Namespaces>,
}

/// The credentials and namespaces of a child that clone(2) makes with `flags`; `fs` is the child's.
///
/// # Errors
/// EPERM: no CAP_SYS_ADMIN for what is asked. EINVAL, ENOSPC, ENOMEM.
pub(crate) fn for_child(task: &Task, flags: CloneFlags, fs: &FsContext) -> Result<ChildSet> {
    let mut credentials = task.credentials();
    if flags.contains(CloneFlags::NEWUSER) {
        credentials = Arc::new(in_new_user_namespace(&credentials, fs)?);
    }
    let old = task.live_namespaces()?;
    let enters_time = !flags.contains(CloneFlags::VM);
    let same_clocks = Arc::ptr_eq(&old.time, &old.time_for_children);
    if !flags.intersects(SET_FLAGS) && (!enters_time || same_clocks) {
        return Ok(ChildSet { credentials, namespaces: old });
    }
    if flags.intersects(SET_FLAGS) && !credentials.has(Capability::SysAdmin) {
        return Err(Errno::EPERM);
    }
    let mut new = copy(task, &old, flags, &credentials, fs)?;
    if enters_time {
        new.time = new.time_for_children.clone();
        new.time.fix();
    }
    Ok(ChildSet { credentials, namespaces: Arc::new(new) })
}

/// exec(2) brings a task to the clocks of its children.
pub(crate) fn enter_time_for_children(task: &Task) {
    let Ok(old) = task.live_namespaces() else { return };
    if !Arc::ptr_eq(&old.time, &old.time_for_children) {
        let mut new = (*old).clone();
        new.time = new.time_for_children.clone();
        new.time.fix();
        task.set_namespaces(Arc::new(new));
    }
}

/// What unshare(2) may be given.
const UNSHARE_FLAGS: CloneFlags = ALL_FLAGS
    .union(CloneFlags::THREAD)
    .union(CloneFlags::FS)
    .union(CloneFlags::SIGHAND)
    .union(CloneFlags::VM)
    .union(CloneFlags::FILES)
    .union(CloneFlags::SYSVSEM);

/// How many counted references a part of a task has if nobody shares it: the task's, and the looking caller's.
const OWN_REFERENCES: usize = 2;

/// What flags imply for unshare(2).
fn implied(mut flags: CloneFlags) -> CloneFlags {
    let implications = [
        (CloneFlags::NEWUSER, CloneFlags::THREAD | CloneFlags::FS),
        (CloneFlags::VM, CloneFlags::SIGHAND),
        (CloneFlags::SIGHAND, CloneFlags::THREAD),
        (CloneFlags::NEWNS, CloneFlags::FS),
        (CloneFlags::NEWIPC, CloneFlags::SYSVSEM),
    ];
    for (flag, implication) in implications {
        if flags.contains(flag) {
            flags |= implication;
        }
    }
    flags
}

/// Errors: EINVAL for what cannot be unshared from other threads or processes.
fn check_unshare(task: &Task, flags: CloneFlags) -> Result<()> {
    let process = task.process();
    let alone = process.thread_count() == 1;
    let own_handlers = Arc::strong_count(&process.handlers()) <= OWN_REFERENCES;
    let own_memory = process.space().is_none_or(|space| Arc::strong_count(&space) <= OWN_REFERENCES);
    let shared = flags.intersects(CloneFlags::THREAD | CloneFlags::SIGHAND | CloneFlags::VM) && !alone
        || flags.intersects(CloneFlags::SIGHAND | CloneFlags::VM) && !own_handlers
        || flags.contains(CloneFlags::VM) && !own_memory;
    if shared { Err(Errno::EINVAL) } else { Ok(()) }
}

/// unshare(2).
///
/// # Errors
/// EINVAL: unknown flags, or what cannot be unshared. EPERM: no CAP_SYS_ADMIN. ENOSPC, ENOMEM.
pub fn unshare(task: &Task, flags: u64) -> Result<()> {
    let flags = CloneFlags::from_bits(flags).filter(|flags| UNSHARE_FLAGS.contains(*flags));
    let flags = implied(flags.ok_or(Errno::EINVAL)?);
    check_unshare(task, flags)?;
    let old_fs = task.file_system()?;
    let fs = if flags.contains(CloneFlags::FS) { old_fs.fork() } else { old_fs };
    let files = if flags.contains(CloneFlags::FILES) { Some(task.open_files()?.fork()?) } else { None };
    let mut credentials = task.credentials();
    if flags.contains(CloneFlags::NEWUSER) {
        credentials = Arc::new(in_new_user_namespace(&credentials, &fs)?);
    }
    let mut namespaces = None;
    if flags.intersects(SET_FLAGS) {
        if !credentials.has(Capability::SysAdmin) {
            return Err(Errno::EPERM);
        }
        let old = task.live_namespaces()?;
        namespaces = Some(Arc::new(copy(task, &old, flags, &credentials, &fs)?));
    }
    drop(task.replace_fs(Some(fs)));
    if let Some(files) = files {
        drop(task.replace_files(Some(files)));
    }
    if let Some(namespaces) = namespaces {
        task.set_namespaces(namespaces);
    }
    if flags.contains(CloneFlags::NEWUSER) {
        task.set_credentials(credentials);
    }
    Ok(())
}

/// A move in preparation.
struct Move<'a> {
    task: &'a Task,
    namespaces: Namespaces,
    credentials: Arc<Credentials>,
    /// Root and working directory after entering other mounts.
    root: Option<vfs::Path>,
    /// Several namespaces are entered at once: the task gets a file-system context of its own first.
    several: bool,
}

impl Move<'_> {
    /// EPERM unless the task is an administrator of what owns the namespace and of its own (then) user namespace.
    fn check_administrator(&self, owner: &UserNamespace) -> Result<()> {
        let allowed = self.task.credentials().capable(owner, Capability::SysAdmin);
        if allowed && self.credentials.has(Capability::SysAdmin) { Ok(()) } else { Err(Errno::EPERM) }
    }

    fn shares_fs(&self) -> Result<bool> {
        Ok(Arc::strong_count(&self.task.file_system()?) > OWN_REFERENCES)
    }

    fn enter(&mut self, namespace: &Namespace) -> Result<()> {
        match namespace {
            Namespace::User(space) => return self.enter_user(space),
            Namespace::Mount(space) => return self.enter_mount(space),
            Namespace::Time(_) if self.task.process().thread_count() != 1 => return Err(Errno::EUSERS),
            _ => {}
        }
        let owner = namespace.owner().ok_or(Errno::EPERM)?;
        self.check_administrator(&owner)?;
        match namespace {
            Namespace::Cgroup(space) => self.namespaces.cgroup = space.clone(),
            Namespace::Ipc(space) => self.namespaces.ipc = space.clone(),
            Namespace::Net(space) => self.namespaces.net = space.clone(),
            Namespace::Uts(space) => self.namespaces.uts = space.clone(),
            Namespace::Pid(space) => {
                if !space.is_within(self.task.process().namespace()) {
                    return Err(Errno::EINVAL);
                }
                self.namespaces.pid_for_children = space.clone();
            }
            Namespace::Time(space) => {
                self.namespaces.time = space.clone();
                self.namespaces.time_for_children = space.clone();
            }
            Namespace::Mount(_) | Namespace::User(_) => {}
        }
        Ok(())
    }

    fn enter_user(&mut self, space: &Arc<UserNamespace>) -> Result<()> {
        // Entering one's own again would give capabilities back that were given up.
        if Arc::ptr_eq(space, &self.credentials.user_namespace)
            || self.task.process().thread_count() != 1
            || self.shares_fs()?
        {
            return Err(Errno::EINVAL);
        }
        if !self.task.credentials().capable(space, Capability::SysAdmin) {
            return Err(Errno::EPERM);
        }
        self.credentials = Arc::new(security::enter_user_namespace(&self.credentials, space.clone()));
        Ok(())
    }

    fn enter_mount(&mut self, space: &Arc<vfs::MountNamespace>) -> Result<()> {
        self.check_administrator(space.user_namespace())?;
        if !self.credentials.has(Capability::SysChroot) {
            return Err(Errno::EPERM);
        }
        if !self.several && self.shares_fs()? {
            return Err(Errno::EINVAL);
        }
        self.root = Some(space.root_path()?);
        self.namespaces.mount = space.clone();
        Ok(())
    }

    fn commit(self) -> Result<()> {
        let Move { task, namespaces, credentials, root, several } = self;
        if let Some(root) = root {
            let old = task.file_system()?;
            let fs = if several { old.fork() } else { old };
            let mount = namespaces.mount.clone();
            fs.update(|state| {
                (state.root, state.working_directory, state.namespace) = (root.clone(), root, mount);
            });
            drop(task.replace_fs(Some(fs)));
        }
        let clocks_change = !Arc::ptr_eq(&task.live_namespaces()?.time, &namespaces.time);
        namespaces.time.fix();
        let clocks = namespaces.time.clone();
        task.set_namespaces(Arc::new(namespaces));
        if !Arc::ptr_eq(&credentials.user_namespace, &task.credentials().user_namespace) {
            task.set_credentials(credentials);
        }
        if clocks_change && let Some(space) = task.process().space() {
            crate::vdso::follow_clocks(&space, &clocks)?;
        }
        Ok(())
    }
}

/// The order in which several namespaces are entered: the user namespace first, because it gives rights over the others.
const ENTER_ORDER: [NamespaceKind; NamespaceKind::COUNT] = [
    NamespaceKind::User,
    NamespaceKind::Mount,
    NamespaceKind::Uts,
    NamespaceKind::Ipc,
    NamespaceKind::Pid,
    NamespaceKind::Cgroup,
    NamespaceKind::Net,
    NamespaceKind::Time,
];

/// setns(2): `descriptor` is a file of nsfs, and `flags` 0 or its kind; or a pidfd, and `flags` say what of that process's to enter.
///
/// # Errors
/// EBADF. EINVAL: wrong kind or flags, the caller's own user namespace, shared state, a pid namespace that is not below. EPERM.
/// ESRCH: the process has ended. EUSERS: several threads and a time namespace.
pub fn setns(task: &Task, descriptor: i32, flags: u64) -> Result<()> {
    let file = task.open_files()?.get(descriptor)?;
    let mut entering = Move {
        task,
        namespaces: (*task.live_namespaces()?).clone(),
        credentials: task.credentials(),
        root: None,
        several: flags.count_ones() > 1,
    };
    if let Ok(namespace) = nsfs::of_file(&file) {
        if flags != 0 && flags != u64::from(namespace.kind().clone_flag()) {
            return Err(Errno::EINVAL);
        }
        entering.enter(&namespace)?;
        return entering.commit();
    }
    let pid = crate::pidfd::pid_of(&file).map_err(|_| Errno::EINVAL)?;
    let wanted = CloneFlags::from_bits(flags).filter(|flags| ALL_FLAGS.contains(*flags) && !flags.is_empty());
    let wanted = wanted.ok_or(Errno::EINVAL)?;
    let target = pid.process().and_then(|process| process.leader()).ok_or(Errno::ESRCH)?;
    crate::pidfd::may_trace(task, &target)?;
    for kind in ENTER_ORDER {
        if wanted.bits() & u64::from(kind.clone_flag()) == 0 {
            continue;
        }
        let link = super::NamespaceLink::Own(kind);
        entering.enter(&Namespace::of_task(&target, link).map_err(|_| Errno::ESRCH)?)?;
    }
    entering.commit()
}
