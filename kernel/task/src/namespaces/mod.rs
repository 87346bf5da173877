//! Namespaces (namespaces(7)): the set a task is in, and one name for all kinds.
//!
//! | module | what |
//! |---|---|
//! | [`uts`], [`holders`], [`time`] | the kinds that live here; mounts are in `vfs`, pids in [`crate::pid`], users in `security`, networks in `net` |
//! | [`switch`] | clone(2), unshare(2), setns(2) |
//! | [`nsfs`] | files that stand for namespaces |
//! | [`id_maps`] | writing `/proc/PID/uid_map` and its like |
//!
//! Key types: [`Namespaces`] (Linux's `nsproxy`: a shared set, replaced as a whole; the user namespace is in the credentials),
//! [`Namespace`] (any one). Locks: those of the kinds, all leaves.

pub mod holders;
pub mod id_maps;
pub mod nsfs;
pub mod switch;
pub mod time;
pub mod uts;

use crate::pid::{self, PidNamespace};
use crate::task::Task;
use abi::errno::{Errno, Result};
use alloc::sync::Arc;
pub use holders::{CgroupNamespace, IpcNamespace};
use net::NetNamespace;
use security::{NamespaceHead, NamespaceKind, UserNamespace};
pub use time::{OffsetClock, TimeNamespace};
pub use uts::{NAME_MAX, Name, UtsNamespace};
use vfs::MountNamespace;

/// The set of namespaces a task is in.
#[derive(Clone)]
pub struct Namespaces {
    /// Mounts.
    pub mount: Arc<MountNamespace>,
    /// Process ids of the children it will make.
    pub pid_for_children: Arc<PidNamespace>,
    /// Host name.
    pub uts: Arc<UtsNamespace>,
    /// IPC objects.
    pub ipc: Arc<IpcNamespace>,
    /// Network.
    pub net: Arc<NetNamespace>,
    /// Control groups.
    pub cgroup: Arc<CgroupNamespace>,
    /// Clocks.
    pub time: Arc<TimeNamespace>,
    /// Clocks of the children it will make, and its own after exec.
    pub time_for_children: Arc<TimeNamespace>,
}

impl Namespaces {
    /// The first set, with these mounts.
    pub fn initial(mount: Arc<MountNamespace>) -> Namespaces {
        let net = NetNamespace::initial().clone();
        net.identify(NamespaceHead::initial(NamespaceKind::Net));
        Namespaces {
            mount,
            pid_for_children: pid::root().clone(),
            uts: UtsNamespace::initial().clone(),
            ipc: IpcNamespace::initial().clone(),
            net,
            cgroup: CgroupNamespace::initial().clone(),
            time: TimeNamespace::initial().clone(),
            time_for_children: TimeNamespace::initial().clone(),
        }
    }
}

/// How many namespaces a user of the machine may have: half of what there may be tasks, as on Linux.
pub(crate) fn set_first_limits() {
    let limit = u32::try_from(crate::fork::max_tasks() / 2).unwrap_or(u32::MAX);
    NamespaceKind::ALL.iter().for_each(|kind| security::initial_namespace().set_limit(*kind, limit));
}

/// Any namespace.
#[derive(Clone)]
pub enum Namespace {
    /// Control groups.
    Cgroup(Arc<CgroupNamespace>),
    /// IPC objects.
    Ipc(Arc<IpcNamespace>),
    /// Mounts.
    Mount(Arc<MountNamespace>),
    /// Network.
    Net(Arc<NetNamespace>),
    /// Process ids.
    Pid(Arc<PidNamespace>),
    /// Clocks.
    Time(Arc<TimeNamespace>),
    /// Users.
    User(Arc<UserNamespace>),
    /// Host name.
    Uts(Arc<UtsNamespace>),
}

/// A link in `/proc/PID/ns`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NamespaceLink {
    /// The namespace of this kind that a task is in.
    Own(NamespaceKind),
    /// `pid_for_children`.
    PidForChildren,
    /// `time_for_children`.
    TimeForChildren,
}

impl NamespaceLink {
    /// All links by name, in Linux's order.
    pub const ALL: [(&'static str, NamespaceLink); 10] = [
        ("net", NamespaceLink::Own(NamespaceKind::Net)),
        ("uts", NamespaceLink::Own(NamespaceKind::Uts)),
        ("ipc", NamespaceLink::Own(NamespaceKind::Ipc)),
        ("pid", NamespaceLink::Own(NamespaceKind::Pid)),
        ("pid_for_children", NamespaceLink::PidForChildren),
        ("user", NamespaceLink::Own(NamespaceKind::User)),
        ("mnt", NamespaceLink::Own(NamespaceKind::Mount)),
        ("cgroup", NamespaceLink::Own(NamespaceKind::Cgroup)),
        ("time", NamespaceLink::Own(NamespaceKind::Time)),
        ("time_for_children", NamespaceLink::TimeForChildren),
    ];
}

impl Namespace {
    /// The one that a link of a task's leads to.
    ///
    /// # Errors
    /// ENOENT: the task has ended, or its pid namespace for children has no process yet.
    pub fn of_task(task: &Task, link: NamespaceLink) -> Result<Namespace> {
        let kind = match link {
            NamespaceLink::Own(NamespaceKind::User) => {
                return Ok(Namespace::User(task.credentials().user_namespace.clone()));
            }
            NamespaceLink::Own(NamespaceKind::Pid) => {
                return Ok(Namespace::Pid(task.process().namespace().clone()));
            }
            NamespaceLink::Own(kind) => kind,
            NamespaceLink::PidForChildren => NamespaceKind::Pid,
            NamespaceLink::TimeForChildren => {
                return Ok(Namespace::Time(task.live_namespaces()?.time_for_children.clone()));
            }
        };
        let set = task.live_namespaces()?;
        Ok(match kind {
            NamespaceKind::Cgroup => Namespace::Cgroup(set.cgroup.clone()),
            NamespaceKind::Ipc => Namespace::Ipc(set.ipc.clone()),
            NamespaceKind::Mount => Namespace::Mount(set.mount.clone()),
            NamespaceKind::Net => Namespace::Net(set.net.clone()),
            NamespaceKind::Time => Namespace::Time(set.time.clone()),
            NamespaceKind::Uts => Namespace::Uts(set.uts.clone()),
            // For children: a namespace without its first process cannot be entered (pid_namespaces(7)).
            NamespaceKind::Pid | NamespaceKind::User => {
                let space = &set.pid_for_children;
                space.has_init().then(|| Namespace::Pid(space.clone())).ok_or(Errno::ENOENT)?
            }
        })
    }

    /// Kind, number and owner.
    fn head(&self) -> Option<&NamespaceHead> {
        Some(match self {
            Namespace::Cgroup(namespace) => namespace.head(),
            Namespace::Ipc(namespace) => namespace.head(),
            Namespace::Mount(namespace) => namespace.head(),
            Namespace::Net(namespace) => return namespace.head(),
            Namespace::Pid(namespace) => namespace.head(),
            Namespace::Time(namespace) => namespace.head(),
            Namespace::User(namespace) => namespace.head(),
            Namespace::Uts(namespace) => namespace.head(),
        })
    }

    /// Its kind.
    pub fn kind(&self) -> NamespaceKind {
        self.head().map_or(NamespaceKind::Net, NamespaceHead::kind)
    }

    /// Its inode number in nsfs.
    pub fn number(&self) -> u64 {
        self.head().map_or(0, NamespaceHead::number)
    }

    /// The user namespace that owns it; of a user namespace its parent, and nothing for the first.
    pub fn owner(&self) -> Option<Arc<UserNamespace>> {
        match self {
            Namespace::User(namespace) => namespace.parent().cloned(),
            Namespace::Net(namespace) => Some(namespace.owner().clone()),
            _ => self.head().map(|head| head.owner().clone()),
        }
    }

    /// Whether both are the same one.
    pub fn is_same(&self, other: &Namespace) -> bool {
        self.kind() == other.kind() && self.number() == other.number()
    }
}
