//! Writing the maps of a user namespace: `/proc/PID/uid_map`, `gid_map`, `projid_map` (user_namespaces(7)).
//!
//! Key function: [`write()`]. Who opened the file counts as well as who writes, so that a program with privileges cannot be made to
//! write for somebody else. Locks: those of the namespace; a map is written once.

use abi::errno::{Errno, Result};
use alloc::vec::Vec;
use security::{Capability, Credentials, IdMap, IdRange, UserNamespace};

/// Which map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapKind {
    /// Users.
    Users,
    /// Groups.
    Groups,
    /// Projects.
    Projects,
}

impl MapKind {
    /// The map of a namespace, if it has been written.
    pub fn of(self, namespace: &UserNamespace) -> Option<&IdMap> {
        match self {
            MapKind::Users => namespace.uid_map(),
            MapKind::Groups => namespace.gid_map(),
            MapKind::Projects => namespace.projid_map(),
        }
    }

    /// What allows any map.
    fn capability(self) -> Option<Capability> {
        match self {
            MapKind::Users => Some(Capability::Setuid),
            MapKind::Groups => Some(Capability::Setgid),
            MapKind::Projects => None,
        }
    }

    fn set(self, namespace: &UserNamespace, map: IdMap) -> Result<()> {
        match self {
            MapKind::Users => namespace.set_uid_map(map),
            MapKind::Groups => namespace.set_gid_map(map),
            MapKind::Projects => namespace.set_projid_map(map),
        }
    }
}

/// The lines of a map: first number inside, first number in the parent, count. EINVAL.
fn parse(input: &[u8]) -> Result<Vec<IdRange>> {
    let text = core::str::from_utf8(input).map_err(|_| Errno::EINVAL)?;
    let mut ranges = Vec::new();
    // A newline at the very end is none between lines.
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        let mut words = line.split_ascii_whitespace();
        let number = |word: Option<&str>| word.and_then(|word| word.parse().ok()).ok_or(Errno::EINVAL);
        let inside: u32 = number(words.next())?;
        let (outside, length) = (number(words.next())?, number(words.next())?);
        if words.next().is_some() || inside == u32::MAX || outside == u32::MAX {
            return Err(Errno::EINVAL);
        }
        ranges.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        ranges.push(IdRange { inside, outside, length });
    }
    // Checks everything that does not depend on the parent.
    IdMap::new(ranges.clone())?;
    Ok(ranges)
}

/// Mapping user 0 of the parent would let the namespace give files capabilities that count there.
fn may_map_root(namespace: &UserNamespace, parent: &UserNamespace, opener: &Credentials) -> bool {
    if core::ptr::eq(&*opener.user_namespace, namespace) {
        namespace.parent_could_set_capabilities()
    } else {
        opener.capable(parent, Capability::Setfcap)
    }
}

fn is_permitted(
    kind: MapKind,
    namespace: &UserNamespace,
    parent: &UserNamespace,
    ranges: &[IdRange],
    who: (&Credentials, &Credentials),
) -> bool {
    let (writer, opener) = who;
    let maps_root = ranges.iter().any(|range| range.outside == 0);
    if kind == MapKind::Users && maps_root && !may_map_root(namespace, parent, opener) {
        return false;
    }
    if let [IdRange { outside, length: 1, .. }] = ranges
        && namespace.owner() == opener.euid
    {
        // One's own number, and nothing else, needs no privilege.
        let own = match kind {
            MapKind::Users => parent.make_kuid(*outside) == Some(opener.euid),
            MapKind::Groups => {
                !namespace.setgroups_allowed() && parent.make_kgid(*outside) == Some(opener.egid)
            }
            MapKind::Projects => false,
        };
        if own {
            return true;
        }
    }
    kind.capability().is_none_or(|needed| writer.capable(parent, needed) && opener.capable(parent, needed))
}

/// Writes a map: `writer` writes to a file that `opener` opened.
///
/// # Errors
/// EPERM: it is written already, or user_namespaces(7) does not allow this. EINVAL: not a map. ENOMEM.
pub fn write(
    kind: MapKind,
    namespace: &UserNamespace,
    input: &[u8],
    writer: &Credentials,
    opener: &Credentials,
) -> Result<()> {
    let parent = namespace.parent().ok_or(Errno::EPERM)?;
    let from = &*opener.user_namespace;
    if !core::ptr::eq(from, namespace) && !core::ptr::eq(from, &**parent) {
        return Err(Errno::EPERM);
    }
    if input.len() >= machine::PAGE_SIZE {
        return Err(Errno::EINVAL);
    }
    if kind.of(namespace).is_some() {
        return Err(Errno::EPERM);
    }
    if kind.capability().is_some() && !opener.capable(namespace, Capability::SysAdmin) {
        return Err(Errno::EPERM);
    }
    let mut ranges = parse(input)?;
    if !is_permitted(kind, namespace, parent, &ranges, (writer, opener)) {
        return Err(Errno::EPERM);
    }
    let above = kind.of(parent).ok_or(Errno::EPERM)?;
    for range in &mut ranges {
        range.outside = above.piece_to_kernel(range.outside, range.length).ok_or(Errno::EPERM)?;
    }
    kind.set(namespace, IdMap::new(ranges)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use security::{CapabilitySet, Kgid, Kuid};

    fn user(id: u32) -> Credentials {
        let mut user = (*Credentials::initial()).clone();
        (user.ruid, user.euid, user.fsuid) = (Kuid(id), Kuid(id), Kuid(id));
        (user.rgid, user.egid, user.fsgid) = (Kgid(id), Kgid(id), Kgid(id));
        (user.permitted, user.effective) = (CapabilitySet::EMPTY, CapabilitySet::EMPTY);
        user
    }

    #[test]
    fn a_user_maps_itself_only() {
        let outside = user(1000);
        let space = UserNamespace::create(&outside).unwrap();
        let mut inside = user(1000);
        (inside.effective, inside.user_namespace) = (CapabilitySet::FULL, space.clone());
        let users = |text: &[u8]| write(MapKind::Users, &space, text, &inside, &inside);
        assert_eq!(users(b"0 1001 1"), Err(Errno::EPERM));
        assert_eq!(users(b"0 1000 2"), Err(Errno::EPERM));
        assert_eq!(users(b"0 0 1"), Err(Errno::EPERM));
        assert_eq!(users(b"0 1000"), Err(Errno::EINVAL));
        assert_eq!(users(b"0 1000 1\n"), Ok(()));
        assert_eq!(users(b"0 1000 1"), Err(Errno::EPERM));
        let groups = |text: &[u8]| write(MapKind::Groups, &space, text, &inside, &inside);
        assert_eq!(groups(b"0 1000 1"), Err(Errno::EPERM));
        space.set_setgroups(false).unwrap();
        assert_eq!(groups(b"0 1000 1"), Ok(()));
    }

    #[test]
    fn an_administrator_maps_what_the_parent_has() {
        let root = Credentials::initial();
        let space = UserNamespace::create(&root).unwrap();
        let text = b"0 100000 1000\n2000 5 1\n";
        assert_eq!(write(MapKind::Users, &space, text, &root, &root), Ok(()));
        assert_eq!(space.make_kuid(7), Some(Kuid(100_007)));
        assert_eq!(space.make_kuid(2000), Some(Kuid(5)));
        assert_eq!(parse(b"0 0 1\n\n5 5 1"), Err(Errno::EINVAL));
        assert_eq!(parse(b""), Err(Errno::EINVAL));
        assert_eq!(parse(b"1 2 x"), Err(Errno::EINVAL));
    }
}
