//! What all kinds of namespaces have in common: kind, number, owner, and who is charged for it.
//!
//! Key types: [`NamespaceKind`], [`NamespaceHead`] (a part of every namespace object). The number is the inode number in
//! nsfs; the initial namespaces have Linux's well-known ones, all others count up and are never used again. Each namespace
//! but the initial ones is charged to its maker in its owner, to the maker of that in the next, and so on up
//! (`/proc/sys/user`); dropping the head gives everything back. Neighbours: `namespace` keeps counts and limits.
//! Locks: none here.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use abi::errno::Result;

use crate::namespace::{Kuid, UserNamespace, initial_namespace};

/// A kind of namespace (namespaces(7)).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(usize)]
pub enum NamespaceKind {
    /// Control groups.
    Cgroup,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Mounts.
    Mount,
    /// Network.
    Net,
    /// Process ids.
    Pid,
    /// Clocks.
    Time,
    /// Users and capabilities.
    User,
    /// Host names.
    Uts,
}

impl NamespaceKind {
    /// How many kinds there are.
    pub const COUNT: usize = 8;

    /// All kinds, in the order of their names.
    pub const ALL: [NamespaceKind; Self::COUNT] = [
        NamespaceKind::Cgroup,
        NamespaceKind::Ipc,
        NamespaceKind::Mount,
        NamespaceKind::Net,
        NamespaceKind::Pid,
        NamespaceKind::Time,
        NamespaceKind::User,
        NamespaceKind::Uts,
    ];

    /// Its name in `/proc/PID/ns` and `/proc/sys/user`.
    pub const fn name(self) -> &'static str {
        match self {
            NamespaceKind::Cgroup => "cgroup",
            NamespaceKind::Ipc => "ipc",
            NamespaceKind::Mount => "mnt",
            NamespaceKind::Net => "net",
            NamespaceKind::Pid => "pid",
            NamespaceKind::Time => "time",
            NamespaceKind::User => "user",
            NamespaceKind::Uts => "uts",
        }
    }

    /// Its flag for clone(2), unshare(2), setns(2) (`NS_GET_NSTYPE`).
    pub const fn clone_flag(self) -> u32 {
        match self {
            NamespaceKind::Cgroup => abi::clone::CLONE_NEWCGROUP,
            NamespaceKind::Ipc => abi::clone::CLONE_NEWIPC,
            NamespaceKind::Mount => abi::clone::CLONE_NEWNS,
            NamespaceKind::Net => abi::clone::CLONE_NEWNET,
            NamespaceKind::Pid => abi::clone::CLONE_NEWPID,
            NamespaceKind::Time => abi::clone::CLONE_NEWTIME,
            NamespaceKind::User => abi::clone::CLONE_NEWUSER,
            NamespaceKind::Uts => abi::clone::CLONE_NEWUTS,
        }
    }

    /// The number of the initial namespace of this kind (Linux's `PROC_*_INIT_INO`; those of network and mounts since 6.18).
    const fn initial_number(self) -> u64 {
        match self {
            NamespaceKind::Ipc => 0xefff_ffff,
            NamespaceKind::Uts => 0xefff_fffe,
            NamespaceKind::User => 0xefff_fffd,
            NamespaceKind::Pid => 0xefff_fffc,
            NamespaceKind::Cgroup => 0xefff_fffb,
            NamespaceKind::Time => 0xefff_fffa,
            NamespaceKind::Net => 0xefff_fff9,
            NamespaceKind::Mount => 0xefff_fff8,
        }
    }
}

/// The first number of a namespace made later (`PROC_DYNAMIC_FIRST`).
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0xf000_0000);

/// The part of a namespace that all kinds have.
#[derive(Debug)]
pub struct NamespaceHead {
    kind: NamespaceKind,
    number: u64,
    /// The owner and whom it charges there; none for an initial namespace.
    charged: Option<(Arc<UserNamespace>, Kuid)>,
}

impl NamespaceHead {
    /// The head of the initial namespace of a kind.
    pub const fn initial(kind: NamespaceKind) -> NamespaceHead {
        NamespaceHead { kind, number: kind.initial_number(), charged: None }
    }

    /// The head of a new namespace owned by `owner` (for a user namespace: its parent) and made by `maker`.
    ///
    /// # Errors
    /// `ENOSPC`: `maker`, or the maker of a user namespace above, has as many as it may have.
    pub fn new(kind: NamespaceKind, owner: &Arc<UserNamespace>, maker: Kuid) -> Result<NamespaceHead> {
        owner.charge(kind, maker)?;
        let number = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed);
        Ok(NamespaceHead { kind, number, charged: Some((owner.clone(), maker)) })
    }

    /// Its kind.
    pub fn kind(&self) -> NamespaceKind {
        self.kind
    }

    /// Its inode number in nsfs; no other namespace has it.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The user namespace whose administrators administrate it (of a user namespace: its parent).
    pub fn owner(&self) -> &Arc<UserNamespace> {
        match &self.charged {
            Some((owner, _)) => owner,
            None => initial_namespace(),
        }
    }
}

impl Drop for NamespaceHead {
    fn drop(&mut self) {
        if let Some((owner, maker)) = &self.charged {
            owner.give_back(self.kind, *maker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Credentials;
    use abi::errno::Errno;

    #[test]
    fn every_level_counts_and_limits() {
        let mut user = (*Credentials::initial()).clone();
        user.euid = Kuid(77);
        let outer = UserNamespace::create(&user).unwrap();
        let before = outer.count(NamespaceKind::Uts, Kuid(5));
        outer.set_limit(NamespaceKind::Uts, 2);
        let first = NamespaceHead::new(NamespaceKind::Uts, &outer, Kuid(5)).unwrap();
        let second = NamespaceHead::new(NamespaceKind::Uts, &outer, Kuid(5)).unwrap();
        assert_ne!(first.number(), second.number());
        assert_eq!(NamespaceHead::new(NamespaceKind::Uts, &outer, Kuid(5)).err(), Some(Errno::ENOSPC));
        assert!(NamespaceHead::new(NamespaceKind::Uts, &outer, Kuid(6)).is_ok(), "another user");
        assert!(NamespaceHead::new(NamespaceKind::Ipc, &outer, Kuid(5)).is_ok(), "another kind");
        // What happens inside counts for the maker of the namespace outside.
        assert_eq!(initial_namespace().count(NamespaceKind::Uts, Kuid(77)), 2);
        drop((first, second));
        assert_eq!(outer.count(NamespaceKind::Uts, Kuid(5)), before);
        assert_eq!(initial_namespace().count(NamespaceKind::Uts, Kuid(77)), 0);
    }
}
