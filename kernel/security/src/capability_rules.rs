//! Changing capability sets: capset(2) and the capability operations of prctl(2).
//!
//! Pure functions from old [`Credentials`] to new ones. Errors: `EPERM` unless said otherwise.

use abi::errno::{Errno, Result};

use crate::{Capability, CapabilitySet, Credentials, SecureBits};

/// What capset(2) asks for.
#[derive(Clone, Copy, Debug)]
pub struct CapsetRequest {
    /// The new effective set.
    pub effective: CapabilitySet,
    /// The new permitted set.
    pub permitted: CapabilitySet,
    /// The new inheritable set.
    pub inheritable: CapabilitySet,
}

/// capset(2): nothing can be added to permitted; inheritable grows within permitted, or within the bounding set
/// for the holder of `CAP_SETPCAP`; effective stays within permitted.
pub fn set_capabilities(old: &Credentials, request: CapsetRequest) -> Result<Credentials> {
    let CapsetRequest { effective, permitted, inheritable } = request;
    let unlimited = old.has(Capability::Setpcap);
    let allowed = (unlimited || inheritable.is_subset_of(old.inheritable.union(old.permitted)))
        && inheritable.is_subset_of(old.inheritable.union(old.bounding))
        && permitted.is_subset_of(old.permitted)
        && effective.is_subset_of(permitted);
    if !allowed {
        return Err(Errno::EPERM);
    }
    let mut new = old.clone();
    new.effective = effective;
    new.permitted = permitted;
    new.inheritable = inheritable;
    new.ambient = old.ambient.intersection(permitted).intersection(inheritable);
    Ok(new)
}

/// `PR_CAPBSET_DROP`: needs `CAP_SETPCAP`.
pub fn drop_from_bounding(old: &Credentials, capability: Capability) -> Result<Credentials> {
    if !old.has(Capability::Setpcap) {
        return Err(Errno::EPERM);
    }
    let mut new = old.clone();
    new.bounding = old.bounding.without(capability);
    Ok(new)
}

/// The changes of `PR_CAP_AMBIENT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmbientChange {
    /// Adds one that is permitted and inheritable.
    Raise(Capability),
    /// Takes one away.
    Lower(Capability),
    /// Takes all away.
    ClearAll,
}

/// `PR_CAP_AMBIENT` except `IS_SET`.
pub fn change_ambient(old: &Credentials, change: AmbientChange) -> Result<Credentials> {
    let mut new = old.clone();
    match change {
        AmbientChange::ClearAll => new.ambient = CapabilitySet::EMPTY,
        AmbientChange::Lower(capability) => new.ambient = old.ambient.without(capability),
        AmbientChange::Raise(capability) => {
            let allowed = old.permitted.contains(capability)
                && old.inheritable.contains(capability)
                && !old.secure_bits.contains(SecureBits::NO_CAP_AMBIENT_RAISE);
            if !allowed {
                return Err(Errno::EPERM);
            }
            new.ambient = old.ambient.with(capability);
        }
    }
    Ok(new)
}

/// `PR_CAP_AMBIENT_IS_SET`.
pub fn ambient_contains(credentials: &Credentials, capability: Capability) -> bool {
    credentials.ambient.contains(capability)
}

/// `PR_SET_SECUREBITS`: needs `CAP_SETPCAP`; locked bits stay and locks are never opened.
pub fn set_secure_bits(old: &Credentials, bits: u64) -> Result<Credentials> {
    let wanted = u32::try_from(bits).ok().and_then(SecureBits::from_bits).ok_or(Errno::EPERM)?;
    let locks = SecureBits::NO_ROOT_LOCKED
        | SecureBits::NO_SETUID_FIXUP_LOCKED
        | SecureBits::KEEP_CAPS_LOCKED
        | SecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
    let old_locks = old.secure_bits & locks;
    let locked_flags = SecureBits::from_bits_truncate(old_locks.bits() >> 1);
    let changed = wanted ^ old.secure_bits;
    let unlocks = !wanted.contains(old_locks);
    if changed.intersects(locked_flags) || unlocks || !old.has(Capability::Setpcap) {
        return Err(Errno::EPERM);
    }
    let mut new = old.clone();
    new.secure_bits = wanted;
    Ok(new)
}

/// `PR_SET_KEEPCAPS`. `EPERM`: the bit is locked.
pub fn set_keep_capabilities(old: &Credentials, keep: bool) -> Result<Credentials> {
    if old.secure_bits.contains(SecureBits::KEEP_CAPS_LOCKED) {
        return Err(Errno::EPERM);
    }
    let mut new = old.clone();
    new.secure_bits.set(SecureBits::KEEP_CAPS, keep);
    Ok(new)
}

/// `PR_SET_NO_NEW_PRIVS`: there is no way back.
pub fn set_no_new_privileges(old: &Credentials) -> Credentials {
    let mut new = old.clone();
    new.no_new_privileges = true;
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_sets(permitted: CapabilitySet, inheritable: CapabilitySet) -> Credentials {
        let mut credentials = (*Credentials::initial()).clone();
        credentials.permitted = permitted;
        credentials.effective = permitted;
        credentials.inheritable = inheritable;
        credentials
    }

    #[test]
    fn capset_never_grows_permitted() {
        let kill = CapabilitySet::EMPTY.with(Capability::Kill);
        let old = with_sets(kill, CapabilitySet::EMPTY);
        let request = |effective, permitted, inheritable| CapsetRequest { effective, permitted, inheritable };
        let new = set_capabilities(&old, request(CapabilitySet::EMPTY, kill, kill)).unwrap();
        assert_eq!((new.effective, new.inheritable), (CapabilitySet::EMPTY, kill));
        let more = kill.with(Capability::Chown);
        assert!(set_capabilities(&old, request(kill, more, kill)).is_err());
        assert!(set_capabilities(&old, request(kill, CapabilitySet::EMPTY, kill)).is_err());
        assert!(set_capabilities(&old, request(kill, kill, more)).is_err());
    }

    #[test]
    fn ambient_follows_permitted_and_inheritable() {
        let kill = CapabilitySet::EMPTY.with(Capability::Kill);
        let old = with_sets(kill, kill);
        let raised = change_ambient(&old, AmbientChange::Raise(Capability::Kill)).unwrap();
        assert!(ambient_contains(&raised, Capability::Kill));
        let none = CapabilitySet::EMPTY;
        let request = CapsetRequest { effective: none, permitted: kill, inheritable: none };
        assert!(set_capabilities(&raised, request).unwrap().ambient.is_empty());
        assert!(change_ambient(&old, AmbientChange::Raise(Capability::Chown)).is_err());
    }

    #[test]
    fn secure_bits_lock() {
        let root = Credentials::initial();
        let locked = set_secure_bits(&root, 0b11).unwrap();
        assert!(set_secure_bits(&locked, 0b10).is_err());
        assert!(set_secure_bits(&locked, 0b01).is_err());
        assert!(set_secure_bits(&locked, 0b111).is_ok());
        assert!(set_secure_bits(&root, 1 << 20).is_err());
        let keep_locked = set_secure_bits(&root, 1 << 5).unwrap();
        assert!(set_keep_capabilities(&keep_locked, true).is_err());
        assert!(drop_from_bounding(&root, Capability::Kill).unwrap().bounding.bits() & (1 << 5) == 0);
    }
}
