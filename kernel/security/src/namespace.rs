//! User namespaces: identifier maps, nesting, and who is capable where (user_namespaces(7)).
//!
//! Key types: [`UserNamespace`], [`IdMap`], [`Kuid`], [`Kgid`]. The kernel stores `Kuid`/`Kgid` everywhere; a number
//! that user space gave or will see goes through a map. A namespace also counts what its users have made (see `kinds`).
//! Locks: the counts have a leaf spinlock, and so has the decision about setgroups(2); a map is written once.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use abi::errno::{Errno, Result};
use machine::sync::{Lazy, Once, SpinLock};

use crate::kinds::{NamespaceHead, NamespaceKind};
use crate::{Capability, Credentials};

/// What user space sees of an identifier that its namespace does not map (`/proc/sys/kernel/overflowuid`).
pub const OVERFLOW_ID: u32 = 65534;
/// Below a namespace deeper than this none can be made: `ENOSPC` (32 in Linux, which makes 33 levels).
const MAX_LEVEL: u32 = 32;
/// At most so many ranges in one map (`EINVAL`).
const MAX_RANGES: usize = 340;

/// A user identifier as the kernel keeps it: that of the initial namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash, Default)]
pub struct Kuid(pub u32);
/// A group identifier as the kernel keeps it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash, Default)]
pub struct Kgid(pub u32);

impl Kuid {
    /// The superuser of the initial namespace.
    pub const ROOT: Kuid = Kuid(0);
}
impl Kgid {
    /// Group 0 of the initial namespace.
    pub const ROOT: Kgid = Kgid(0);
}

/// `length` identifiers from `inside` of the namespace stand for those from `outside` (kernel numbers).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IdRange {
    /// First number inside the namespace.
    pub inside: u32,
    /// First number in the kernel.
    pub outside: u32,
    /// How many.
    pub length: u32,
}

/// An identifier map: ranges that overlap on neither side.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct IdMap {
    /// Sorted by `inside`.
    ranges: Vec<IdRange>,
}

impl IdMap {
    /// The map of the initial namespace: every number is itself.
    pub fn identity() -> IdMap {
        IdMap { ranges: Vec::from([IdRange { inside: 0, outside: 0, length: u32::MAX }]) }
    }

    /// A map of these ranges. `EINVAL`: none, too many, empty, wrapping or overlapping ones.
    pub fn new(mut ranges: Vec<IdRange>) -> Result<IdMap> {
        if ranges.is_empty() || ranges.len() > MAX_RANGES {
            return Err(Errno::EINVAL);
        }
        for range in &ranges {
            let fits = |start: u32| start.checked_add(range.length).is_some();
            if range.length == 0 || !fits(range.inside) || !fits(range.outside) {
                return Err(Errno::EINVAL);
            }
        }
        let overlap = |first: u32, length: u32, next: u32| first + length > next;
        ranges.sort_unstable_by_key(|range| range.outside);
        if ranges.windows(2).any(|pair| overlap(pair[0].outside, pair[0].length, pair[1].outside)) {
            return Err(Errno::EINVAL);
        }
        ranges.sort_unstable_by_key(|range| range.inside);
        if ranges.windows(2).any(|pair| overlap(pair[0].inside, pair[0].length, pair[1].inside)) {
            return Err(Errno::EINVAL);
        }
        Ok(IdMap { ranges })
    }

    /// The kernel's number of one inside the namespace.
    pub fn to_kernel(&self, inside: u32) -> Option<u32> {
        let at = self.ranges.partition_point(|range| range.inside <= inside).checked_sub(1)?;
        let range = self.ranges.get(at)?;
        let offset = inside - range.inside;
        (offset < range.length).then(|| range.outside + offset)
    }

    /// Whether `from_kernel` knows each of `length` kernel numbers from `outside` on, as one piece.
    pub fn covers(&self, outside: u32, length: u32) -> Option<u32> {
        self.ranges.iter().find_map(|range| {
            let offset = outside.checked_sub(range.outside)?;
            let fits = offset < range.length && length <= range.length - offset;
            fits.then(|| range.inside + offset)
        })
    }

    /// The kernel's number of the first of `length` numbers from `inside` on, if one piece maps them all.
    pub fn piece_to_kernel(&self, inside: u32, length: u32) -> Option<u32> {
        let at = self.ranges.partition_point(|range| range.inside <= inside).checked_sub(1)?;
        let range = self.ranges.get(at)?;
        let offset = inside - range.inside;
        let fits = offset < range.length && length <= range.length - offset;
        fits.then(|| range.outside + offset)
    }

    /// The number inside the namespace of one of the kernel's.
    pub fn from_kernel(&self, outside: u32) -> Option<u32> {
        self.ranges.iter().find_map(|range| {
            let offset = outside.checked_sub(range.outside)?;
            (offset < range.length).then(|| range.inside + offset)
        })
    }

    /// The ranges, sorted by the inside number (`/proc/PID/uid_map`).
    pub fn ranges(&self) -> &[IdRange] {
        &self.ranges
    }
}

/// A user namespace: where identifiers and capabilities have their meaning.
pub struct UserNamespace {
    head: NamespaceHead,
    parent: Option<Arc<UserNamespace>>,
    level: u32,
    owner: Kuid,
    group: Kgid,
    /// The maker had `CAP_SETFCAP` where it came from: it may map user 0 of the parent.
    parent_could_set_capabilities: bool,
    uid_map: Once<IdMap>,
    gid_map: Once<IdMap>,
    projid_map: Once<IdMap>,
    /// Whether setgroups(2) may be called; decided together with the group map.
    setgroups: SpinLock<bool>,
    /// What each user has made here; only what is not 0.
    counts: SpinLock<BTreeMap<(Kuid, NamespaceKind), u32>>,
    limits: [AtomicU32; NamespaceKind::COUNT],
}

static INITIAL: Lazy<Arc<UserNamespace>> = Lazy::new(|| {
    let namespace = UserNamespace::unmapped(NamespaceHead::initial(NamespaceKind::User), None);
    for map in [&namespace.uid_map, &namespace.gid_map, &namespace.projid_map] {
        let _ = map.set(IdMap::identity());
    }
    Arc::new(namespace)
});

/// The namespace that the machine starts in.
pub fn initial_namespace() -> &'static Arc<UserNamespace> {
    &INITIAL
}

impl UserNamespace {
    fn unmapped(head: NamespaceHead, parent: Option<(&Arc<UserNamespace>, &Credentials)>) -> UserNamespace {
        let maker = parent.map(|(_, maker)| maker);
        UserNamespace {
            head,
            parent: parent.map(|(parent, _)| parent.clone()),
            level: parent.map_or(0, |(parent, _)| parent.level + 1),
            owner: maker.map_or(Kuid::ROOT, |maker| maker.euid),
            group: maker.map_or(Kgid::ROOT, |maker| maker.egid),
            parent_could_set_capabilities: maker.is_some_and(|maker| maker.has(Capability::Setfcap)),
            uid_map: Once::new(),
            gid_map: Once::new(),
            projid_map: Once::new(),
            setgroups: SpinLock::new(parent.is_none_or(|(parent, _)| parent.setgroups_allowed())),
            counts: SpinLock::new(BTreeMap::new()),
            limits: [const { AtomicU32::new(i32::MAX as u32) }; NamespaceKind::COUNT],
        }
    }

    /// A child owned by the creator's effective identifiers; its maps are empty.
    /// `ENOSPC`: nested too deep, or too many; `EPERM`: the creator's own identifiers are not mapped.
    pub fn create(creator: &Credentials) -> Result<Arc<UserNamespace>> {
        let parent = &creator.user_namespace;
        if parent.level > MAX_LEVEL {
            return Err(Errno::ENOSPC);
        }
        // Counted before the identifiers are looked at, as Linux does.
        let head = NamespaceHead::new(NamespaceKind::User, parent, creator.euid)?;
        if parent.from_kuid(creator.euid).is_none() || parent.from_kgid(creator.egid).is_none() {
            return Err(Errno::EPERM);
        }
        Ok(Arc::new(UserNamespace::unmapped(head, Some((parent, creator)))))
    }

    /// Kind, number and owner.
    pub fn head(&self) -> &NamespaceHead {
        &self.head
    }

    /// Counts one more of `kind` made by `maker` here, and by the makers of this namespace and those above in theirs.
    pub(crate) fn charge(&self, kind: NamespaceKind, maker: Kuid) -> Result<()> {
        let (mut at, mut user) = (self, maker);
        loop {
            if !at.add_one(kind, user) {
                self.undo(kind, maker, Some(at));
                return Err(Errno::ENOSPC);
            }
            let Some(parent) = &at.parent else { return Ok(()) };
            (at, user) = (parent, at.owner);
        }
    }

    /// Takes one [`charge`](Self::charge) back.
    pub(crate) fn give_back(&self, kind: NamespaceKind, maker: Kuid) {
        self.undo(kind, maker, None);
    }

    fn undo(&self, kind: NamespaceKind, maker: Kuid, until: Option<&UserNamespace>) {
        let (mut at, mut user) = (self, maker);
        while !until.is_some_and(|until| core::ptr::eq(at, until)) {
            at.remove_one(kind, user);
            let Some(parent) = &at.parent else { return };
            (at, user) = (parent, at.owner);
        }
    }

    fn add_one(&self, kind: NamespaceKind, user: Kuid) -> bool {
        let limit = self.limit(kind);
        let mut counts = self.counts.lock();
        let before = counts.get(&(user, kind)).copied().unwrap_or(0);
        if before >= limit {
            return false;
        }
        counts.insert((user, kind), before + 1);
        true
    }

    fn remove_one(&self, kind: NamespaceKind, user: Kuid) {
        let mut counts = self.counts.lock();
        match counts.get_mut(&(user, kind)) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                counts.remove(&(user, kind));
            }
        }
    }

    /// How many of a kind `user` has made here.
    pub fn count(&self, kind: NamespaceKind, user: Kuid) -> u32 {
        self.counts.lock().get(&(user, kind)).copied().unwrap_or(0)
    }

    /// How many of a kind each user may have here (`/proc/sys/user/max_*_namespaces`).
    pub fn limit(&self, kind: NamespaceKind) -> u32 {
        self.limits.get(kind as usize).map_or(0, |limit| limit.load(Ordering::Relaxed))
    }

    /// Sets [`limit`](Self::limit).
    pub fn set_limit(&self, kind: NamespaceKind, limit: u32) {
        if let Some(place) = self.limits.get(kind as usize) {
            place.store(limit, Ordering::Relaxed);
        }
    }

    /// Whether the maker had `CAP_SETFCAP` in the parent (user_namespaces(7), mapping user 0 of the parent).
    pub fn parent_could_set_capabilities(&self) -> bool {
        self.parent_could_set_capabilities
    }

    /// Whether it is `ancestor` or below it.
    pub fn is_within(&self, ancestor: &UserNamespace) -> bool {
        let mut at = self;
        while at.level > ancestor.level {
            let Some(parent) = &at.parent else { return false };
            at = parent;
        }
        core::ptr::eq(at, ancestor)
    }

    /// The enclosing namespace; none for the initial one.
    pub fn parent(&self) -> Option<&Arc<UserNamespace>> {
        self.parent.as_ref()
    }

    /// Nesting depth; 0 is the initial namespace.
    pub fn level(&self) -> u32 {
        self.level
    }

    /// The user who made it, capable of everything in it from the parent.
    pub fn owner(&self) -> Kuid {
        self.owner
    }

    /// The group of the maker.
    pub fn group(&self) -> Kgid {
        self.group
    }

    /// The user map, once written.
    pub fn uid_map(&self) -> Option<&IdMap> {
        self.uid_map.get()
    }

    /// The group map, once written.
    pub fn gid_map(&self) -> Option<&IdMap> {
        self.gid_map.get()
    }

    /// Writes the user map (kernel numbers outside). `EPERM`: it has been written before.
    pub fn set_uid_map(&self, map: IdMap) -> Result<()> {
        set_once(&self.uid_map, map)
    }

    /// Writes the group map (kernel numbers outside). `EPERM`: it has been written before.
    pub fn set_gid_map(&self, map: IdMap) -> Result<()> {
        let _setgroups = self.setgroups.lock();
        set_once(&self.gid_map, map)
    }

    /// The project map, once written.
    pub fn projid_map(&self) -> Option<&IdMap> {
        self.projid_map.get()
    }

    /// Writes the project map (kernel numbers outside). `EPERM`: it has been written before.
    pub fn set_projid_map(&self, map: IdMap) -> Result<()> {
        set_once(&self.projid_map, map)
    }

    /// Whether setgroups(2) may be called here (`/proc/PID/setgroups`).
    pub fn setgroups_allowed(&self) -> bool {
        *self.setgroups.lock()
    }

    /// Allows or forbids setgroups(2). `EPERM`: it is forbidden already, or the group map is written.
    pub fn set_setgroups(&self, allow: bool) -> Result<()> {
        let mut allowed = self.setgroups.lock();
        match (allow, *allowed) {
            (true, true) => {}
            (true, false) => return Err(Errno::EPERM),
            (false, _) if self.gid_map.get().is_some() => return Err(Errno::EPERM),
            (false, _) => *allowed = false,
        }
        Ok(())
    }

    /// The kernel's identifier for a number that user space gave.
    pub fn make_kuid(&self, uid: u32) -> Option<Kuid> {
        self.uid_map.get()?.to_kernel(uid).map(Kuid)
    }

    /// The kernel's identifier for a number that user space gave.
    pub fn make_kgid(&self, gid: u32) -> Option<Kgid> {
        self.gid_map.get()?.to_kernel(gid).map(Kgid)
    }

    /// The number that user space here knows the user by, if there is one.
    pub fn from_kuid(&self, uid: Kuid) -> Option<u32> {
        self.uid_map.get()?.from_kernel(uid.0)
    }

    /// The number that user space here knows the group by, if there is one.
    pub fn from_kgid(&self, gid: Kgid) -> Option<u32> {
        self.gid_map.get()?.from_kernel(gid.0)
    }

    /// As [`from_kuid`](Self::from_kuid), with the overflow number for those it does not know.
    pub fn from_kuid_munged(&self, uid: Kuid) -> u32 {
        self.from_kuid(uid).unwrap_or(OVERFLOW_ID)
    }

    /// As [`from_kgid`](Self::from_kgid), with the overflow number for those it does not know.
    pub fn from_kgid_munged(&self, gid: Kgid) -> u32 {
        self.from_kgid(gid).unwrap_or(OVERFLOW_ID)
    }
}

impl core::fmt::Debug for UserNamespace {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("UserNamespace").field("level", &self.level).field("owner", &self.owner).finish()
    }
}

fn set_once(cell: &Once<IdMap>, map: IdMap) -> Result<()> {
    cell.set(map).map_err(|_| Errno::EPERM)
}

/// Whether the credentials have the capability in `namespace` (user_namespaces(7), "Capabilities"): by their
/// effective set if it is theirs or below theirs, or by being the owner of one on the way up to theirs.
pub fn capable(credentials: &Credentials, namespace: &UserNamespace, capability: Capability) -> bool {
    let own = &credentials.user_namespace;
    let mut at = namespace;
    loop {
        if core::ptr::eq(at, Arc::as_ptr(own)) {
            return credentials.effective.contains(capability);
        }
        if at.level <= own.level {
            return false;
        }
        let Some(parent) = at.parent.as_ref() else { return false };
        if Arc::ptr_eq(parent, own) && at.owner == credentials.euid {
            return true;
        }
        at = parent;
    }
}

/// Whether the credentials have the capability in the initial namespace (what `capable()` means in Linux).
pub fn capable_anywhere_above(credentials: &Credentials, capability: Capability) -> bool {
    credentials.user_namespace.level == 0 && credentials.effective.contains(capability)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_translate_both_ways() {
        let map = IdMap::new(Vec::from([
            IdRange { inside: 0, outside: 100_000, length: 1000 },
            IdRange { inside: 5000, outside: 1000, length: 1 },
        ]))
        .unwrap();
        assert_eq!(map.to_kernel(0), Some(100_000));
        assert_eq!(map.to_kernel(999), Some(100_999));
        assert_eq!(map.to_kernel(1000), None);
        assert_eq!(map.from_kernel(1000), Some(5000));
        assert_eq!(map.from_kernel(1001), None);
    }

    #[test]
    fn bad_maps_are_refused() {
        let range = |inside, outside, length| IdRange { inside, outside, length };
        for bad in [
            Vec::new(),
            Vec::from([range(0, 0, 0)]),
            Vec::from([range(0, u32::MAX, 2)]),
            Vec::from([range(0, 0, 10), range(9, 100, 1)]),
            Vec::from([range(0, 0, 10), range(20, 9, 1)]),
        ] {
            assert_eq!(IdMap::new(bad), Err(Errno::EINVAL));
        }
    }

    #[test]
    fn owner_is_capable_in_the_child_only() {
        let root = Credentials::initial();
        let mut user = (*root).clone();
        user.euid = Kuid(1000);
        user.effective = crate::CapabilitySet::EMPTY;
        let child = UserNamespace::create(&user).unwrap();
        assert!(capable(&user, &child, Capability::SysAdmin));
        assert!(!capable(&user, initial_namespace(), Capability::SysAdmin));
        assert!(capable(&root, &child, Capability::SysAdmin));
        let mut inside = (*root).clone();
        inside.user_namespace = child.clone();
        assert!(capable(&inside, &child, Capability::SysAdmin));
        assert!(!capable(&inside, initial_namespace(), Capability::SysAdmin));
        assert!(!capable_anywhere_above(&inside, Capability::SysAdmin));
        assert_eq!(child.from_kuid_munged(Kuid(1)), OVERFLOW_ID);
        child.set_uid_map(IdMap::identity()).unwrap();
        assert_eq!(child.set_uid_map(IdMap::identity()), Err(Errno::EPERM));
    }
}
