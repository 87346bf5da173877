//! Changing user and group identifiers: setuid(2) and its family, setfsuid(2), setgroups(2).
//!
//! Pure functions from old [`Credentials`] to new ones; numbers are those of the caller's user namespace and
//! `None` stands for -1 ("leave it"). Errors: `EINVAL` an unmapped number, `EPERM` not allowed.
//! Neighbours: the effect of leaving or entering uid 0 on capabilities is [`fix_capabilities`].

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::errno::{Errno, Result};

use crate::namespace::{Kgid, Kuid};
use crate::{Capability, CapabilitySet, Credentials, SecureBits};

/// The most supplementary groups there can be.
pub const NGROUPS_MAX: usize = 65536;

fn kuid(old: &Credentials, uid: u32) -> Result<Kuid> {
    old.user_namespace.make_kuid(uid).ok_or(Errno::EINVAL)
}

fn kgid(old: &Credentials, gid: u32) -> Result<Kgid> {
    old.user_namespace.make_kgid(gid).ok_or(Errno::EINVAL)
}

fn optional<T>(number: Option<u32>, map: impl Fn(u32) -> Result<T>) -> Result<Option<T>> {
    number.map(map).transpose()
}

/// capabilities(7), "Effect of user ID changes on capabilities", rules 1 to 3.
pub(crate) fn fix_capabilities(old: &Credentials, new: &mut Credentials) {
    if old.secure_bits.contains(SecureBits::NO_SETUID_FIXUP) {
        return;
    }
    let Some(root) = old.root_uid() else { return };
    let was_root = [old.ruid, old.euid, old.suid].contains(&root);
    let is_root = [new.ruid, new.euid, new.suid].contains(&root);
    if was_root && !is_root {
        if !old.secure_bits.contains(SecureBits::KEEP_CAPS) {
            new.permitted = CapabilitySet::EMPTY;
            new.effective = CapabilitySet::EMPTY;
        }
        new.ambient = CapabilitySet::EMPTY;
    }
    if old.euid == root && new.euid != root {
        new.effective = CapabilitySet::EMPTY;
    }
    if old.euid != root && new.euid == root {
        new.effective = new.permitted;
    }
}

/// setuid(2): with `CAP_SETUID` all of the identifiers, else the effective one to the real or saved one.
pub fn set_uid(old: &Credentials, uid: u32) -> Result<Credentials> {
    let uid = kuid(old, uid)?;
    let mut new = old.clone();
    if old.has(Capability::Setuid) {
        new.ruid = uid;
        new.suid = uid;
    } else if uid != old.ruid && uid != old.suid {
        return Err(Errno::EPERM);
    }
    new.euid = uid;
    new.fsuid = uid;
    fix_capabilities(old, &mut new);
    Ok(new)
}

/// seteuid(3) as a call of its own: the effective user only.
pub fn set_effective_uid(old: &Credentials, uid: u32) -> Result<Credentials> {
    set_res_uid(old, None, Some(uid), None)
}

/// setreuid(2).
pub fn set_real_effective_uid(
    old: &Credentials,
    ruid: Option<u32>,
    euid: Option<u32>,
) -> Result<Credentials> {
    let (ruid, euid) = (optional(ruid, |id| kuid(old, id))?, optional(euid, |id| kuid(old, id))?);
    let privileged = old.has(Capability::Setuid);
    let mut new = old.clone();
    if let Some(ruid) = ruid {
        if !privileged && ![old.ruid, old.euid].contains(&ruid) {
            return Err(Errno::EPERM);
        }
        new.ruid = ruid;
    }
    if let Some(euid) = euid {
        if !privileged && ![old.ruid, old.euid, old.suid].contains(&euid) {
            return Err(Errno::EPERM);
        }
        new.euid = euid;
    }
    if ruid.is_some() || euid.is_some_and(|euid| euid != old.ruid) {
        new.suid = new.euid;
    }
    new.fsuid = new.euid;
    fix_capabilities(old, &mut new);
    Ok(new)
}

/// setresuid(2).
pub fn set_res_uid(
    old: &Credentials,
    ruid: Option<u32>,
    euid: Option<u32>,
    suid: Option<u32>,
) -> Result<Credentials> {
    let map = |number| optional(number, |id| kuid(old, id));
    let (ruid, euid, suid) = (map(ruid)?, map(euid)?, map(suid)?);
    let own = [old.ruid, old.euid, old.suid];
    let foreign = |id: Option<Kuid>| id.is_some_and(|id| !own.contains(&id));
    if (foreign(ruid) || foreign(euid) || foreign(suid)) && !old.has(Capability::Setuid) {
        return Err(Errno::EPERM);
    }
    let mut new = old.clone();
    new.ruid = ruid.unwrap_or(old.ruid);
    new.euid = euid.unwrap_or(old.euid);
    new.suid = suid.unwrap_or(old.suid);
    new.fsuid = new.euid;
    fix_capabilities(old, &mut new);
    Ok(new)
}

/// setfsuid(2). Nothing is an error there: what is not allowed changes nothing (`None`).
pub fn set_fs_uid(old: &Credentials, uid: u32) -> Option<Credentials> {
    let uid = old.user_namespace.make_kuid(uid)?;
    if ![old.ruid, old.euid, old.suid, old.fsuid].contains(&uid) && !old.has(Capability::Setuid) {
        return None;
    }
    let mut new = old.clone();
    new.fsuid = uid;
    if let Some(root) = old.root_uid().filter(|_| !old.secure_bits.contains(SecureBits::NO_SETUID_FIXUP)) {
        if old.fsuid == root && uid != root {
            new.effective = new.effective.difference(CapabilitySet::FILE_SYSTEM);
        }
        if old.fsuid != root && uid == root {
            let raised = new.permitted.intersection(CapabilitySet::FILE_SYSTEM);
            new.effective = new.effective.union(raised);
        }
    }
    Some(new)
}

/// setgid(2): with `CAP_SETGID` all of the identifiers, else the effective one to the real or saved one.
pub fn set_gid(old: &Credentials, gid: u32) -> Result<Credentials> {
    let gid = kgid(old, gid)?;
    let mut new = old.clone();
    if old.has(Capability::Setgid) {
        new.rgid = gid;
        new.sgid = gid;
    } else if gid != old.rgid && gid != old.sgid {
        return Err(Errno::EPERM);
    }
    new.egid = gid;
    new.fsgid = gid;
    Ok(new)
}

/// setregid(2).
pub fn set_real_effective_gid(
    old: &Credentials,
    rgid: Option<u32>,
    egid: Option<u32>,
) -> Result<Credentials> {
    let (rgid, egid) = (optional(rgid, |id| kgid(old, id))?, optional(egid, |id| kgid(old, id))?);
    let privileged = old.has(Capability::Setgid);
    let mut new = old.clone();
    if let Some(rgid) = rgid {
        if !privileged && ![old.rgid, old.egid].contains(&rgid) {
            return Err(Errno::EPERM);
        }
        new.rgid = rgid;
    }
    if let Some(egid) = egid {
        if !privileged && ![old.rgid, old.egid, old.sgid].contains(&egid) {
            return Err(Errno::EPERM);
        }
        new.egid = egid;
    }
    if rgid.is_some() || egid.is_some_and(|egid| egid != old.rgid) {
        new.sgid = new.egid;
    }
    new.fsgid = new.egid;
    Ok(new)
}

/// setresgid(2).
pub fn set_res_gid(
    old: &Credentials,
    rgid: Option<u32>,
    egid: Option<u32>,
    sgid: Option<u32>,
) -> Result<Credentials> {
    let map = |number| optional(number, |id| kgid(old, id));
    let (rgid, egid, sgid) = (map(rgid)?, map(egid)?, map(sgid)?);
    let own = [old.rgid, old.egid, old.sgid];
    let foreign = |id: Option<Kgid>| id.is_some_and(|id| !own.contains(&id));
    if (foreign(rgid) || foreign(egid) || foreign(sgid)) && !old.has(Capability::Setgid) {
        return Err(Errno::EPERM);
    }
    let mut new = old.clone();
    new.rgid = rgid.unwrap_or(old.rgid);
    new.egid = egid.unwrap_or(old.egid);
    new.sgid = sgid.unwrap_or(old.sgid);
    new.fsgid = new.egid;
    Ok(new)
}

/// setfsgid(2). Nothing is an error there: what is not allowed changes nothing (`None`).
pub fn set_fs_gid(old: &Credentials, gid: u32) -> Option<Credentials> {
    let gid = old.user_namespace.make_kgid(gid)?;
    if ![old.rgid, old.egid, old.sgid, old.fsgid].contains(&gid) && !old.has(Capability::Setgid) {
        return None;
    }
    let mut new = old.clone();
    new.fsgid = gid;
    Some(new)
}

/// setgroups(2). `EPERM`: no `CAP_SETGID`, or the namespace forbids it; `EINVAL`: too many or unmapped.
pub fn set_groups(old: &Credentials, groups: &[u32]) -> Result<Credentials> {
    let namespace = &old.user_namespace;
    if !old.has(Capability::Setgid) || !namespace.setgroups_allowed() || namespace.gid_map().is_none() {
        return Err(Errno::EPERM);
    }
    if groups.len() > NGROUPS_MAX {
        return Err(Errno::EINVAL);
    }
    let mut sorted = Vec::new();
    sorted.try_reserve_exact(groups.len()).map_err(|_| Errno::ENOMEM)?;
    for gid in groups {
        sorted.push(kgid(old, *gid)?);
    }
    sorted.sort_unstable();
    let mut new = old.clone();
    new.groups = Arc::from(sorted);
    Ok(new)
}

/// The credentials of someone who enters a user namespace: all capabilities in it, nothing that exec would pass on, no secure bits.
pub fn enter_user_namespace(old: &Credentials, namespace: Arc<crate::UserNamespace>) -> Credentials {
    Credentials {
        inheritable: CapabilitySet::EMPTY,
        permitted: CapabilitySet::FULL,
        effective: CapabilitySet::FULL,
        bounding: CapabilitySet::FULL,
        ambient: CapabilitySet::EMPTY,
        secure_bits: SecureBits::empty(),
        user_namespace: namespace,
        ..old.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: u32) -> Credentials {
        set_uid(&set_gid(&Credentials::initial(), uid).unwrap(), uid).unwrap()
    }

    #[test]
    fn root_drops_everything_for_good() {
        let new = user(1000);
        assert_eq!(
            (new.ruid, new.euid, new.suid, new.fsuid),
            (Kuid(1000), Kuid(1000), Kuid(1000), Kuid(1000))
        );
        assert!(new.permitted.is_empty() && new.effective.is_empty());
        assert_eq!(set_uid(&new, 0).err(), Some(Errno::EPERM));
        assert_eq!(set_gid(&new, 0).err(), Some(Errno::EPERM));
    }

    #[test]
    fn effective_only_can_come_back() {
        let lowered = set_effective_uid(&Credentials::initial(), 1000).unwrap();
        assert!(lowered.effective.is_empty());
        assert_eq!(lowered.permitted, CapabilitySet::FULL);
        let back = set_effective_uid(&lowered, 0).unwrap();
        assert_eq!(back.effective, CapabilitySet::FULL);
    }

    #[test]
    fn keep_caps_keeps_permitted_only() {
        let mut root = (*Credentials::initial()).clone();
        root.secure_bits |= SecureBits::KEEP_CAPS;
        let new = set_uid(&root, 5).unwrap();
        assert_eq!(new.permitted, CapabilitySet::FULL);
        assert!(new.effective.is_empty());
    }

    #[test]
    fn setreuid_swaps_and_sets_the_saved_id() {
        let mut old = user(1000);
        old.euid = Kuid(2000);
        old.suid = Kuid(2000);
        let new = set_real_effective_uid(&old, Some(2000), Some(1000)).unwrap();
        assert_eq!((new.ruid, new.euid, new.suid), (Kuid(2000), Kuid(1000), Kuid(1000)));
        assert_eq!(set_real_effective_uid(&old, Some(7), None).err(), Some(Errno::EPERM));
        let same = set_real_effective_uid(&old, None, Some(1000)).unwrap();
        assert_eq!(same.suid, Kuid(2000));
    }

    #[test]
    fn setresuid_permutes_only_own_ids() {
        let mut old = user(1);
        old.euid = Kuid(2);
        old.suid = Kuid(3);
        let new = set_res_uid(&old, Some(3), Some(1), Some(2)).unwrap();
        assert_eq!((new.ruid, new.euid, new.suid, new.fsuid), (Kuid(3), Kuid(1), Kuid(2), Kuid(1)));
        assert_eq!(set_res_uid(&old, None, None, Some(9)).err(), Some(Errno::EPERM));
        assert_eq!(set_res_gid(&old, Some(9), None, None).err(), Some(Errno::EPERM));
    }

    #[test]
    fn setfsuid_moves_file_capabilities() {
        let root = Credentials::initial();
        let new = set_fs_uid(&root, 1000).unwrap();
        assert!(!new.has(Capability::DacOverride) && new.has(Capability::SysAdmin));
        assert!(set_fs_uid(&new, 0).unwrap().has(Capability::DacOverride));
        assert!(set_fs_uid(&user(1000), 0).is_none());
        assert!(set_fs_gid(&user(1000), 0).is_none());
    }

    #[test]
    fn groups_are_sorted_and_found() {
        let new = set_groups(&Credentials::initial(), &[30, 10, 20]).unwrap();
        assert_eq!(&*new.groups, &[Kgid(10), Kgid(20), Kgid(30)]);
        assert!(new.in_group(Kgid(20)) && new.in_group(Kgid(0)) && !new.in_group(Kgid(11)));
        assert_eq!(set_groups(&user(1), &[]).err(), Some(Errno::EPERM));
        assert_eq!(set_groups(&new, &[u32::MAX]).err(), Some(Errno::EINVAL));
    }
}
