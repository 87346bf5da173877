//! System V IPC (sysvipc(7)): what all kinds of its objects have in common, and what an IPC namespace holds.
//!
//! Key types: [`Objects`] (of one IPC namespace), [`Access`] (owner and mode of one object), [`Caller`]. Neighbours: [`table`] (ids and
//! keys), [`msg`] (message queues), [`shm`] (shared memory); `task` keeps the objects in its IPC namespace, so that they end with it.
//! Locks: a table's spinlock and an object's spinlock, both leaves: neither is taken under the other.

pub mod msg;
pub mod shm;
pub mod table;

use abi::errno::{Errno, Result};
use abi::ipc::Ipc64Perm;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use msg::MessageQueue;
use security::{Capability, Credentials, Kgid, Kuid, UserNamespace};
use shm::Segments;
use table::Table;

/// A process as its numbers, each with the number of the pid namespace that gave it: what is left to show when it has ended.
pub type ProcessNumbers = Vec<(u64, i32)>;

/// Who calls.
pub struct Caller<'a> {
    /// Its rights.
    pub credentials: &'a Credentials,
    /// The user namespace that owns the IPC namespace.
    pub owner: &'a UserNamespace,
}

/// A limit that `/proc/sys/kernel` shows, an `int`.
pub struct Setting(AtomicU32);

impl Setting {
    const fn new(value: u32) -> Setting {
        Setting(AtomicU32::new(value))
    }

    /// What it is.
    pub fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets it. Errors: `EINVAL` above `most`.
    pub fn set(&self, value: u32, most: u32) -> Result<()> {
        if value > most {
            return Err(Errno::EINVAL);
        }
        self.0.store(value, Ordering::Relaxed);
        Ok(())
    }
}

/// What an IPC namespace holds. Dropping it drops all of it.
pub struct Objects {
    /// Message queues.
    pub messages: Table<MessageQueue>,
    /// Most bytes of a message (`msgmax`).
    pub message_size: Setting,
    /// Most bytes of a new queue (`msgmnb`).
    pub queue_bytes: Setting,
    /// Most queues (`msgmni`).
    pub queues: Setting,
    /// Shared memory.
    pub segments: Segments,
    /// Most segments (`shmmni`).
    pub segment_count: Setting,
}

impl Default for Objects {
    fn default() -> Objects {
        Objects {
            messages: Table::new(),
            message_size: Setting::new(8192),
            queue_bytes: Setting::new(16384),
            queues: Setting::new(32000),
            segments: Segments::default(),
            segment_count: Setting::new(4096),
        }
    }
}

/// Owner, maker and mode of an object.
#[derive(Clone)]
pub struct Access {
    /// The key, 0 for none.
    pub key: i32,
    /// Owner.
    pub uid: Kuid,
    /// Owner's group.
    pub gid: Kgid,
    /// Maker.
    pub creator_uid: Kuid,
    /// Maker's group.
    pub creator_gid: Kgid,
    /// Nine bits.
    pub mode: u32,
}

impl Access {
    /// Of an object that the caller makes.
    pub fn new(key: i32, flags: u32, caller: &Caller<'_>) -> Access {
        let (uid, gid) = (caller.credentials.euid, caller.credentials.egid);
        Access { key, uid, gid, creator_uid: uid, creator_gid: gid, mode: flags & 0o777 }
    }

    /// Whether the caller may do what the bits of `wanted` say; which three of the nine they are in does not matter, as on Linux.
    /// Errors: `EACCES`.
    pub fn check(&self, caller: &Caller<'_>, wanted: u32) -> Result<()> {
        let credentials = caller.credentials;
        let wanted = wanted >> 6 | wanted >> 3 | wanted;
        let granted = if credentials.euid == self.uid || credentials.euid == self.creator_uid {
            self.mode >> 6
        } else if credentials.in_group(self.gid) || credentials.in_group(self.creator_gid) {
            self.mode >> 3
        } else {
            self.mode
        };
        if wanted & !granted & 7 == 0 || credentials.capable(caller.owner, Capability::IpcOwner) {
            return Ok(());
        }
        Err(Errno::EACCES)
    }

    /// Whether the caller may change or remove it. Errors: `EPERM`.
    pub fn check_owner(&self, caller: &Caller<'_>) -> Result<()> {
        let euid = caller.credentials.euid;
        let owner = euid == self.uid || euid == self.creator_uid;
        if owner || caller.credentials.capable(caller.owner, Capability::SysAdmin) {
            return Ok(());
        }
        Err(Errno::EPERM)
    }

    /// Takes owner and mode from what the caller passed. Errors: `EINVAL` for ids that are not mapped.
    pub fn set(&mut self, caller: &Caller<'_>, from: &Ipc64Perm) -> Result<()> {
        let namespace = &caller.credentials.user_namespace;
        let uid = namespace.make_kuid(from.uid).ok_or(Errno::EINVAL)?;
        let gid = namespace.make_kgid(from.gid).ok_or(Errno::EINVAL)?;
        (self.uid, self.gid) = (uid, gid);
        self.mode = from.mode & 0o777;
        Ok(())
    }

    /// As the caller sees it.
    pub fn show(&self, credentials: &Credentials, id: u32) -> Ipc64Perm {
        let namespace = &credentials.user_namespace;
        Ipc64Perm {
            key: self.key,
            uid: namespace.from_kuid_munged(self.uid),
            gid: namespace.from_kgid_munged(self.gid),
            cuid: namespace.from_kuid_munged(self.creator_uid),
            cgid: namespace.from_kgid_munged(self.creator_gid),
            mode: self.mode,
            seq: (id >> table::INDEX_BITS) as u16,
            pad2: 0,
            pad3: 0,
            unused: [0; 2],
        }
    }
}

/// An object of a [`Table`].
pub trait Object {
    /// Its id.
    fn id(&self) -> u32;
    /// Who may use it, as it is now.
    fn access(&self) -> Access;
    /// Ends it: it is in no table any more. Wakes whoever waits.
    fn end(&self);
}

/// Removes an object if the caller may. Errors: `EINVAL`: there is none; `EPERM`; `EIDRM`: somebody else was quicker.
pub fn remove<T: Object>(table: &Table<T>, id: i32, caller: &Caller<'_>) -> Result<()> {
    let object: Arc<T> = table.find(id)?;
    object.access().check_owner(caller)?;
    if !table.take(&object) {
        return Err(Errno::EIDRM);
    }
    object.end();
    Ok(())
}

/// Seconds of the epoch.
fn now_s() -> i64 {
    (sched::clock::realtime_ns() / 1_000_000_000) as i64
}
