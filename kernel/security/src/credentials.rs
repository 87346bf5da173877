//! The credentials of a task or an open file: one immutable value.
//!
//! Key types: [`Credentials`], [`SecureBits`]. Neighbours: `identity`, `capability_rules`, `exec` make new ones.

use alloc::sync::Arc;

use bitflags::bitflags;
use machine::sync::Lazy;

use crate::namespace::{Kgid, Kuid, UserNamespace, capable, initial_namespace};
use crate::{Capability, CapabilitySet};

bitflags! {
    /// The flags of capabilities(7), "The securebits flags"; a lock is the bit above its flag.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct SecureBits: u32 {
        /// Uid 0 gets no capabilities at exec.
        const NO_ROOT = 1;
        /// Locks `NO_ROOT`.
        const NO_ROOT_LOCKED = 1 << 1;
        /// Changing uids does not change capabilities.
        const NO_SETUID_FIXUP = 1 << 2;
        /// Locks `NO_SETUID_FIXUP`.
        const NO_SETUID_FIXUP_LOCKED = 1 << 3;
        /// The permitted set survives leaving uid 0; cleared by exec.
        const KEEP_CAPS = 1 << 4;
        /// Locks `KEEP_CAPS`.
        const KEEP_CAPS_LOCKED = 1 << 5;
        /// Ambient capabilities cannot be raised.
        const NO_CAP_AMBIENT_RAISE = 1 << 6;
        /// Locks `NO_CAP_AMBIENT_RAISE`.
        const NO_CAP_AMBIENT_RAISE_LOCKED = 1 << 7;
    }
}

/// Who someone is. Never changed in place: a system call makes a new value and publishes it.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Real user: who started it.
    pub ruid: Kuid,
    /// Effective user: what it may do.
    pub euid: Kuid,
    /// Saved user: what it may become.
    pub suid: Kuid,
    /// File-system user: whose files it may use.
    pub fsuid: Kuid,
    /// Real group.
    pub rgid: Kgid,
    /// Effective group.
    pub egid: Kgid,
    /// Saved group.
    pub sgid: Kgid,
    /// File-system group.
    pub fsgid: Kgid,
    /// Supplementary groups, sorted.
    pub groups: Arc<[Kgid]>,
    /// What exec passes on through files that allow it.
    pub inheritable: CapabilitySet,
    /// What may be made effective.
    pub permitted: CapabilitySet,
    /// What counts now.
    pub effective: CapabilitySet,
    /// The limit of what exec can give.
    pub bounding: CapabilitySet,
    /// What exec passes on through unprivileged files; always within permitted and inheritable.
    pub ambient: CapabilitySet,
    /// How uid 0 is treated.
    pub secure_bits: SecureBits,
    /// Exec can give nothing new (prctl(2), `PR_SET_NO_NEW_PRIVS`).
    pub no_new_privileges: bool,
    /// Where all of this has its meaning.
    pub user_namespace: Arc<UserNamespace>,
}

static INITIAL: Lazy<Arc<Credentials>> = Lazy::new(|| {
    Arc::new(Credentials {
        ruid: Kuid::ROOT,
        euid: Kuid::ROOT,
        suid: Kuid::ROOT,
        fsuid: Kuid::ROOT,
        rgid: Kgid::ROOT,
        egid: Kgid::ROOT,
        sgid: Kgid::ROOT,
        fsgid: Kgid::ROOT,
        groups: Arc::from([]),
        inheritable: CapabilitySet::EMPTY,
        permitted: CapabilitySet::FULL,
        effective: CapabilitySet::FULL,
        bounding: CapabilitySet::FULL,
        ambient: CapabilitySet::EMPTY,
        secure_bits: SecureBits::empty(),
        no_new_privileges: false,
        user_namespace: initial_namespace().clone(),
    })
});

impl Credentials {
    /// The credentials of the kernel and of the first program: root with everything.
    pub fn initial() -> Arc<Credentials> {
        INITIAL.clone()
    }

    /// Whether the file-system group or a supplementary one is `gid` (file permission checks).
    pub fn in_group(&self, gid: Kgid) -> bool {
        gid == self.fsgid || self.groups.binary_search(&gid).is_ok()
    }

    /// Whether the effective group or a supplementary one is `gid`.
    pub fn in_effective_group(&self, gid: Kgid) -> bool {
        gid == self.egid || self.groups.binary_search(&gid).is_ok()
    }

    /// Whether they have the capability in their own namespace.
    pub fn has(&self, capability: Capability) -> bool {
        self.effective.contains(capability)
    }

    /// Whether they have the capability in `namespace`.
    pub fn capable(&self, namespace: &UserNamespace, capability: Capability) -> bool {
        capable(self, namespace, capability)
    }

    /// The kernel's identifier of user 0 of their namespace.
    pub(crate) fn root_uid(&self) -> Option<Kuid> {
        self.user_namespace.make_kuid(0)
    }
}
