//! Files that stand for namespaces: what `/proc/PID/ns` leads to, ioctl_nsfs(2).
//!
//! Key functions: [`place`] (the file of a namespace, which keeps it alive while it is open or bound somewhere), [`of_file`].
//! Locks: none.

use super::Namespace;
use crate::pid::PidNamespace;
use crate::task::{Task, with_current};
use abi::errno::{Errno, Result};
use abi::fcntl::OpenFlags;
use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use security::UserNamespace;
use vfs::{CloseOnExec, File, FileOperations, Inode, InodeOperations, MountNamespace, Path, Positioning};

/// ioctl_nsfs(2): a descriptor of the owner.
const NS_GET_USERNS: u32 = 0xb701;
/// A descriptor of the parent.
const NS_GET_PARENT: u32 = 0xb702;
/// The kind, as its clone(2) flag.
const NS_GET_NSTYPE: u32 = 0xb703;
/// The user who made a user namespace.
const NS_GET_OWNER_UID: u32 = 0xb704;
/// Translation of ids between the caller's pid namespace and this one.
const NS_GET_PID_FROM_PIDNS: u32 = 0x8004_b706;
const NS_GET_TGID_FROM_PIDNS: u32 = 0x8004_b707;
const NS_GET_PID_IN_PIDNS: u32 = 0x8004_b708;
const NS_GET_TGID_IN_PIDNS: u32 = 0x8004_b709;

struct NsInode(Namespace);

impl InodeOperations for NsInode {
    fn open(&self, _inode: &Arc<Inode>, _file: &File) -> Result<Option<Arc<dyn FileOperations>>> {
        Ok(Some(Arc::new(NsFile(self.0.clone()))))
    }

    fn mount_namespace(&self) -> Option<&Arc<MountNamespace>> {
        match &self.0 {
            Namespace::Mount(namespace) => Some(namespace),
            _ => None,
        }
    }

    fn is_namespace_file(&self) -> bool {
        true
    }
}

/// An open file that stands for a namespace.
struct NsFile(Namespace);

/// The text of a namespace's link: `KIND:[NUMBER]`.
pub fn text(namespace: &Namespace) -> alloc::string::String {
    format!("{}:[{}]", namespace.kind().name(), namespace.number())
}

/// The file of a namespace.
///
/// # Errors
/// ENOMEM.
pub fn place(namespace: &Namespace) -> Result<Path> {
    let inode = Box::new(NsInode(namespace.clone()));
    vfs::anonymous::new_namespace_place(namespace.number(), &text(namespace), inode)
}

/// The namespace that an open file stands for.
///
/// # Errors
/// EINVAL: none.
pub fn of_file(file: &File) -> Result<Namespace> {
    file.operations_as::<NsFile>().map(|file| file.0.clone()).ok_or(Errno::EINVAL)
}

/// Gives the caller a descriptor of a namespace.
fn install(task: &Task, namespace: &Namespace) -> Result<usize> {
    let operations = Arc::new(NsFile(namespace.clone()));
    let file = File::new(place(namespace)?, operations, OpenFlags::RDONLY, &task.credentials());
    let limit = task.process().limits().soft(crate::limits::Resource::OpenFiles);
    task.open_files()?.install(file, CloseOnExec::Yes, limit).map(|fd| fd as usize)
}

/// The owner, if the caller is in it or below it: nobody may look above itself. EPERM.
fn visible_owner(task: &Task, namespace: &Namespace) -> Result<Arc<UserNamespace>> {
    let own = task.credentials().user_namespace.clone();
    let owner = namespace.owner().ok_or(Errno::EPERM)?;
    if owner.is_within(&own) { Ok(owner) } else { Err(Errno::EPERM) }
}

fn parent(task: &Task, namespace: &Namespace) -> Result<Namespace> {
    match namespace {
        Namespace::User(_) => visible_owner(task, namespace).map(Namespace::User),
        Namespace::Pid(space) => {
            let above = space.parent().ok_or(Errno::EPERM)?;
            let visible = above.is_within(task.process().namespace());
            visible.then(|| Namespace::Pid(above.clone())).ok_or(Errno::EPERM)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// The number that a process or thread which `from` knows by `number` has in `to`. ESRCH.
fn translate(from: &PidNamespace, to: &PidNamespace, number: i32, whole: bool) -> Result<usize> {
    let task = from.find_task(number).ok_or(Errno::ESRCH)?;
    let found = if whole { task.process().number_in(to) } else { task.pid().number_in(to) };
    if found == 0 { Err(Errno::ESRCH) } else { Ok(found as usize) }
}

impl NsFile {
    fn call(&self, task: &Task, command: u32, argument: usize) -> Result<usize> {
        let namespace = &self.0;
        match command {
            NS_GET_USERNS => install(task, &Namespace::User(visible_owner(task, namespace)?)),
            NS_GET_PARENT => install(task, &parent(task, namespace)?),
            NS_GET_NSTYPE => Ok(namespace.kind().clone_flag() as usize),
            NS_GET_OWNER_UID => {
                let Namespace::User(user) = namespace else { return Err(Errno::EINVAL) };
                let uid = task.credentials().user_namespace.from_kuid_munged(user.owner());
                machine::user::write_value(argument, &uid)?;
                Ok(0)
            }
            NS_GET_PID_FROM_PIDNS | NS_GET_TGID_FROM_PIDNS | NS_GET_PID_IN_PIDNS | NS_GET_TGID_IN_PIDNS => {
                let Namespace::Pid(space) = namespace else { return Err(Errno::EINVAL) };
                let own = task.process().namespace();
                let whole = matches!(command, NS_GET_TGID_FROM_PIDNS | NS_GET_TGID_IN_PIDNS);
                let inward = matches!(command, NS_GET_PID_IN_PIDNS | NS_GET_TGID_IN_PIDNS);
                let (from, to) = if inward { (own, space) } else { (space, own) };
                translate(from, to, argument as i32, whole)
            }
            _ => Err(Errno::ENOTTY),
        }
    }
}

impl FileOperations for NsFile {
    fn positioning(&self) -> Positioning {
        Positioning::Stream
    }

    fn ioctl(&self, _file: &File, command: u32, argument: usize) -> Result<usize> {
        with_current(|task| self.call(task, command, argument)).unwrap_or(Err(Errno::ENOTTY))
    }
}
