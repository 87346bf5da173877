//! What execve(2) does to credentials: set-user-ID and set-group-ID files, file capabilities, ambient ones.
//!
//! Key types: [`ExecFile`] (what the file asks for), [`ExecOutcome`]. The formulas are those of capabilities(7),
//! "Transformation of capabilities during execve()". A caller on a nosuid mount leaves the requests empty.

use abi::errno::{Errno, Result};

use crate::namespace::{Kgid, Kuid};
use crate::{CapabilitySet, Credentials, SecureBits};

/// The capabilities in a file's `security.capability` attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileCapabilities {
    /// Given within the bounding set.
    pub permitted: CapabilitySet,
    /// Given as far as the process has them inheritable.
    pub inheritable: CapabilitySet,
    /// Whether what is permitted afterwards is effective at once.
    pub effective: bool,
    /// The root of the user namespace that the attribute counts in (version 3 only).
    pub root_id: Option<u32>,
}

/// What the file to run asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExecFile {
    /// Its owner if it is set-user-ID.
    pub set_uid: Option<Kuid>,
    /// Its group if it is set-group-ID (and group-executable).
    pub set_gid: Option<Kgid>,
    /// Its capabilities.
    pub capabilities: Option<FileCapabilities>,
}

/// The result of the transition.
#[derive(Clone, Debug)]
pub struct ExecOutcome {
    /// The new credentials.
    pub credentials: Credentials,
    /// `AT_SECURE`: the program must not trust its environment.
    pub secure: bool,
    /// An identifier or the permitted set changed, so that the process is no longer dumpable.
    pub privileges_changed: bool,
}

/// The credentials after exec of `file`. `EPERM`: the file's capabilities are forced effective but the bounding
/// set does not let all of them through.
pub fn exec_transition(old: &Credentials, file: &ExecFile) -> Result<ExecOutcome> {
    let file = if old.no_new_privileges { ExecFile::default() } else { *file };
    let mut new = old.clone();
    if let Some(uid) = file.set_uid.filter(|uid| old.user_namespace.from_kuid(*uid).is_some()) {
        new.euid = uid;
    }
    if let Some(gid) = file.set_gid.filter(|gid| old.user_namespace.from_kgid(*gid).is_some()) {
        new.egid = gid;
    }
    let ids_changed = new.euid != old.ruid || new.egid != old.rgid;
    let gained_ids = new.euid != old.euid || new.egid != old.egid;
    let root_privileged = transform(old, &mut new, &file, gained_ids)?;
    if old.no_new_privileges && new.euid != old.ruid {
        (new.euid, new.egid) = (old.ruid, old.rgid);
    }
    (new.suid, new.fsuid, new.sgid, new.fsgid) = (new.euid, new.euid, new.egid, new.egid);
    new.secure_bits.remove(SecureBits::KEEP_CAPS);
    let grew = !new.permitted.is_subset_of(new.ambient);
    let capabilities_gained = !root_privileged && (file.capabilities.is_some_and(|c| c.effective) || grew);
    let real_user_is_root = Some(new.ruid) == old.root_uid();
    Ok(ExecOutcome {
        secure: ids_changed || (!real_user_is_root && capabilities_gained),
        privileges_changed: gained_ids || !new.permitted.is_subset_of(old.permitted),
        credentials: new,
    })
}

/// Applies the formulas; says whether uid 0 alone gave the capabilities.
fn transform(old: &Credentials, new: &mut Credentials, file: &ExecFile, gained_ids: bool) -> Result<bool> {
    let mut granted = file.capabilities;
    let mut by_root = false;
    let root = old.root_uid();
    if root.is_some() && !old.secure_bits.contains(SecureBits::NO_ROOT) {
        let (real_root, effective_root) = (Some(new.ruid) == root, Some(new.euid) == root);
        // A set-user-ID-root file that has capabilities of its own gives only those (capabilities(7)).
        let file_rules = granted.is_some() && !real_root && effective_root;
        if (real_root || effective_root) && !file_rules {
            by_root = true;
            let full = CapabilitySet::FULL;
            let effective = effective_root || granted.is_some_and(|c| c.effective);
            granted = Some(FileCapabilities { permitted: full, inheritable: full, effective, root_id: None });
        }
    }
    let file_is_privileged = gained_ids || file.capabilities.is_some();
    new.ambient = if file_is_privileged { CapabilitySet::EMPTY } else { old.ambient };
    let (permitted, inheritable, effective) = match granted {
        Some(c) => (c.permitted, c.inheritable, c.effective),
        None => (CapabilitySet::EMPTY, CapabilitySet::EMPTY, false),
    };
    let from_file = old.inheritable.intersection(inheritable).union(permitted.intersection(old.bounding));
    if effective && !by_root && !permitted.is_subset_of(from_file) {
        return Err(Errno::EPERM);
    }
    let kept = if old.no_new_privileges { from_file.intersection(old.permitted) } else { from_file };
    new.permitted = kept.union(new.ambient);
    new.effective = if effective { new.permitted } else { new.ambient };
    Ok(by_root)
}

/// Reads the value of a `security.capability` attribute. `EINVAL`: not one of versions 1 to 3.
pub fn parse_file_capabilities(value: &[u8]) -> Result<FileCapabilities> {
    let word = |index: usize| -> Option<u32> {
        let bytes = value.get(index * 4..index * 4 + 4)?;
        bytes.try_into().ok().map(u32::from_le_bytes)
    };
    let magic = word(0).ok_or(Errno::EINVAL)?;
    let pairs = match (magic & 0xff00_0000, value.len()) {
        (0x0100_0000, 12) => 1,
        (0x0200_0000, 20) | (0x0300_0000, 24) => 2,
        _ => return Err(Errno::EINVAL),
    };
    let set = |offset: usize| -> Result<CapabilitySet> {
        let low = word(1 + offset).ok_or(Errno::EINVAL)?;
        let high = if pairs == 2 { word(3 + offset).ok_or(Errno::EINVAL)? } else { 0 };
        Ok(CapabilitySet::from_bits(u64::from(low) | u64::from(high) << 32))
    };
    let root_id = if value.len() == 24 { word(5) } else { None };
    Ok(FileCapabilities { permitted: set(0)?, inheritable: set(1)?, effective: magic & 1 != 0, root_id })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AmbientChange, Capability, change_ambient, set_uid};
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn user() -> Credentials {
        set_uid(&Credentials::initial(), 1000).unwrap()
    }

    #[test]
    fn plain_files_change_nothing() {
        let root = exec_transition(&Credentials::initial(), &ExecFile::default()).unwrap();
        assert_eq!(root.credentials.effective, CapabilitySet::FULL);
        assert!(!root.secure && !root.privileges_changed);
        let plain = exec_transition(&user(), &ExecFile::default()).unwrap();
        assert!(plain.credentials.permitted.is_empty() && !plain.secure);
    }

    #[test]
    fn set_user_id_root_gives_all_and_is_secure() {
        let file = ExecFile { set_uid: Some(Kuid::ROOT), ..ExecFile::default() };
        let outcome = exec_transition(&user(), &file).unwrap();
        assert_eq!(outcome.credentials.euid, Kuid::ROOT);
        assert_eq!(outcome.credentials.suid, Kuid::ROOT);
        assert_eq!(outcome.credentials.ruid, Kuid(1000));
        assert_eq!(outcome.credentials.effective, CapabilitySet::FULL);
        assert!(outcome.secure && outcome.privileges_changed);
        let mut restricted = user();
        restricted.no_new_privileges = true;
        assert_eq!(exec_transition(&restricted, &file).unwrap().credentials.euid, Kuid(1000));
    }

    #[test]
    fn without_new_privileges_root_keeps_what_it_has() {
        let mut root = Credentials::initial().as_ref().clone();
        let kill = CapabilitySet::EMPTY.with(Capability::Kill);
        (root.permitted, root.effective) = (kill, CapabilitySet::EMPTY);
        let outcome = exec_transition(&root, &ExecFile::default()).unwrap();
        assert_eq!(outcome.credentials.effective, CapabilitySet::FULL);
        root.no_new_privileges = true;
        let outcome = exec_transition(&root, &ExecFile::default()).unwrap();
        assert_eq!((outcome.credentials.permitted, outcome.credentials.effective), (kill, kill));
        root.ruid = Kuid(1000);
        let outcome = exec_transition(&root, &ExecFile::default()).unwrap();
        assert_eq!(outcome.credentials.euid, Kuid(1000));
    }

    #[test]
    fn file_capabilities_respect_the_bounding_set() {
        let kill = CapabilitySet::EMPTY.with(Capability::Kill);
        let caps = FileCapabilities {
            permitted: kill,
            inheritable: CapabilitySet::EMPTY,
            effective: true,
            root_id: None,
        };
        let file = ExecFile { capabilities: Some(caps), ..ExecFile::default() };
        let outcome = exec_transition(&user(), &file).unwrap();
        assert_eq!(outcome.credentials.effective, kill);
        assert!(outcome.secure);
        let mut bounded = user();
        bounded.bounding = CapabilitySet::EMPTY;
        assert_eq!(exec_transition(&bounded, &file).err(), Some(Errno::EPERM));
    }

    #[test]
    fn ambient_survives_plain_files_only() {
        let kill = CapabilitySet::EMPTY.with(Capability::Kill);
        let mut holder = user();
        (holder.permitted, holder.inheritable) = (kill, kill);
        let holder = change_ambient(&holder, AmbientChange::Raise(Capability::Kill)).unwrap();
        let outcome = exec_transition(&holder, &ExecFile::default()).unwrap();
        assert_eq!(outcome.credentials.effective, kill);
        assert!(!outcome.secure);
        let file = ExecFile { set_gid: Some(Kgid(7)), ..ExecFile::default() };
        let outcome = exec_transition(&holder, &file).unwrap();
        assert!(outcome.credentials.ambient.is_empty() && outcome.credentials.permitted.is_empty());
    }

    #[test]
    fn attribute_versions() {
        let mut value = Vec::new();
        for word in [0x0200_0001u32, 1 << 5, 0, 1 << 7, 0] {
            value.extend_from_slice(&word.to_le_bytes());
        }
        let caps = parse_file_capabilities(&value).unwrap();
        assert!(caps.effective && caps.permitted.contains(Capability::Kill));
        assert!(caps.permitted.contains(Capability::Bpf));
        for cut in 0..value.len() {
            assert!(parse_file_capabilities(&value[..cut]).is_err());
        }
    }

    proptest! {
        #[test]
        fn file_capabilities_survive_noise(version in 0u8..5, mut value in prop::collection::vec(any::<u8>(), 0..32)) {
            if let Some(byte) = value.get_mut(3) {
                *byte = version;
            }
            let parsed = parse_file_capabilities(&value);
            prop_assert_eq!(parsed.is_ok(), matches!((version, value.len()), (1, 12) | (2, 20) | (3, 24)));
        }
    }
}
