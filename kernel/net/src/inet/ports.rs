//! Which ports are taken: whether a socket may have a port (bind(2), socket(7) about SO_REUSEADDR and SO_REUSEPORT).
//!
//! Key types: [`Ports`] (of one protocol in one namespace), [`Claim`] (what a socket wants or has). Two claims to a port clash if their
//! interfaces and addresses overlap, unless both may share it: both reuse addresses, or both reuse ports and belong to one
//! user. Claims are counted by interface, address and what they share, with a summary over all addresses, so that a claim to one
//! address or to all of them is decided in O(log claims) whoever else has what. A socket whose options change puts another
//! claim in the place of its own. Pure; no locks.

use core::net::IpAddr;

use abi::errno::{Errno, Result};
use linnet_lib::tree::{Item, Node, Tree};
use machine::memory::try_box;

use super::address::code;

/// Which addresses a claim is to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Local {
    /// All IPv4 addresses.
    AnyV4,
    /// All IPv6 addresses.
    AnyV6,
    /// All of both.
    Any,
    /// One (IPv4 ones as mapped).
    One(u128),
}

impl Local {
    /// Of an address; `dual`: the unspecified IPv6 one means both families'.
    pub fn of(address: IpAddr, dual: bool) -> Local {
        match address {
            IpAddr::V4(address) if address.is_unspecified() => Local::AnyV4,
            IpAddr::V6(address) if address.is_unspecified() && dual => Local::Any,
            IpAddr::V6(address) if address.is_unspecified() => Local::AnyV6,
            other => Local::One(code(other)),
        }
    }
}

/// What a socket wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// Which addresses.
    pub local: Local,
    /// On which interface; 0: all.
    pub device: i32,
    /// It reuses addresses.
    pub reuses_address: bool,
    /// It reuses ports, on behalf of this user.
    pub reuses_port: bool,
    /// Whose it is.
    pub user: u32,
}

impl Claim {
    fn manner(&self) -> Manner {
        (self.reuses_address, self.reuses_port, self.user)
    }
}

/// Some claims, as far as sharing ports is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Sharers {
    /// One of them does not reuse ports.
    without_port: bool,
    /// The least and the greatest of their users.
    users: (u32, u32),
}

impl Sharers {
    fn merge(self, other: Sharers) -> Sharers {
        Sharers {
            without_port: self.without_port || other.without_port,
            users: (self.users.0.min(other.users.0), self.users.1.max(other.users.1)),
        }
    }

    fn admit(&self, claim: &Claim) -> bool {
        claim.reuses_port && !self.without_port && self.users == (claim.user, claim.user)
    }
}

/// What claims there are, as far as sharing is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Shares {
    all: Sharers,
    /// Those that do not reuse addresses.
    strict: Option<Sharers>,
}

/// Both of what there may be one of.
fn merge_any<T>(left: Option<T>, right: Option<T>, merge: impl FnOnce(T, T) -> T) -> Option<T> {
    match (left, right) {
        (Some(left), Some(right)) => Some(merge(left, right)),
        (one, other) => one.or(other),
    }
}

impl Shares {
    fn merge(self, other: Shares) -> Shares {
        Shares {
            all: self.all.merge(other.all),
            strict: merge_any(self.strict, other.strict, Sharers::merge),
        }
    }

    /// Whether one more may share with each of them, in one way or the other.
    fn admits(&self, claim: &Claim) -> bool {
        if claim.reuses_address {
            self.strict.is_none_or(|strict| strict.admit(claim))
        } else {
            self.all.admit(claim)
        }
    }
}

/// Whether an address is IPv4's, in the tree of what is claimed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Kind {
    device: i32,
    is_v6: bool,
}

/// Whether addresses are reused, whether ports are, and whose claim it is.
type Manner = (bool, bool, u32);

/// All equal claims to one address.
struct Alike {
    manner: Manner,
    count: usize,
}

impl Item for Alike {
    type Key = Manner;
    type Summary = Shares;
    fn key(&self) -> Manner {
        self.manner
    }
    fn summary(&self) -> Shares {
        let (reuses_address, reuses_port, user) = self.manner;
        let all = Sharers { without_port: !reuses_port, users: (user, user) };
        Shares { all, strict: (!reuses_address).then_some(all) }
    }
    fn merge(left: Shares, right: Shares) -> Shares {
        left.merge(right)
    }
}

/// All claims to one address.
struct Claimed {
    local: Local,
    claims: Tree<Alike>,
}

impl Item for Claimed {
    type Key = Local;
    type Summary = Option<Shares>;
    fn key(&self) -> Local {
        self.local
    }
    fn summary(&self) -> Option<Shares> {
        self.claims.summary()
    }
    fn merge(left: Option<Shares>, right: Option<Shares>) -> Option<Shares> {
        merge_any(left, right, Shares::merge)
    }
}

/// The claims to one port on one interface, of one family.
struct Group {
    key: (u16, Kind),
    places: Tree<Claimed>,
}

impl Item for Group {
    type Key = (u16, Kind);
    type Summary = ();
    fn key(&self) -> (u16, Kind) {
        self.key
    }
    fn summary(&self) {}
    fn merge((): (), (): ()) {}
}

/// See the module.
#[derive(Default)]
pub struct Ports {
    groups: Tree<Group>,
}

/// The families that a claim concerns, each with what it claims there.
fn parts(local: Local) -> [Option<(bool, Local)>; 2] {
    const V4_MAPPED: u128 = 0xffff;
    match local {
        Local::AnyV4 => [Some((false, Local::AnyV4)), None],
        Local::AnyV6 => [None, Some((true, Local::AnyV6))],
        Local::Any => [Some((false, Local::AnyV4)), Some((true, Local::AnyV6))],
        Local::One(code) if code >> 32 == V4_MAPPED => [Some((false, local)), None],
        Local::One(_) => [None, Some((true, local))],
    }
}

impl Ports {
    /// Claims a port. `EADDRINUSE`: others have it; `ENOMEM`.
    pub fn claim(&mut self, port: u16, claim: &Claim) -> Result<()> {
        let parts = parts(claim.local);
        for (is_v6, local) in parts.into_iter().flatten() {
            if !self.admits(port, is_v6, local, claim) {
                return Err(Errno::EADDRINUSE);
            }
        }
        for (done, (is_v6, local)) in parts.into_iter().flatten().enumerate() {
            if let Err(error) = self.add(port, is_v6, local, claim) {
                for (is_v6, local) in parts.into_iter().flatten().take(done) {
                    self.subtract(port, is_v6, local, claim);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Gives a claim up that was granted.
    pub fn release(&mut self, port: u16, claim: &Claim) {
        for (is_v6, local) in parts(claim.local).into_iter().flatten() {
            self.subtract(port, is_v6, local, claim);
        }
    }

    /// Puts another claim of the same socket in the place of one: it was connected or bound to an interface, or its options have
    /// changed, which nobody can refuse.
    /// `ENOMEM`.
    pub fn replace(&mut self, port: u16, old: &Claim, new: &Claim) -> Result<()> {
        for (is_v6, local) in parts(new.local).into_iter().flatten() {
            self.add(port, is_v6, local, new)?;
        }
        self.release(port, old);
        Ok(())
    }

    /// Whether nothing is claimed.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    fn admits(&self, port: u16, is_v6: bool, local: Local, claim: &Claim) -> bool {
        let admitted = |device: i32| match self.groups.get(&(port, Kind { device, is_v6 })) {
            Some(group) => group_admits(group, local, claim),
            None => true,
        };
        if claim.device != 0 {
            return admitted(0) && admitted(claim.device);
        }
        // To all interfaces: each that someone is bound to counts.
        let mut from = (port, Kind { device: i32::MIN, is_v6: false });
        while let Some(group) = self.groups.first_from(&from).filter(|group| group.key.0 == port) {
            if group.key.1.is_v6 == is_v6 && !group_admits(group, local, claim) {
                return false;
            }
            let kind = group.key.1;
            from.1 = match kind.is_v6 {
                false => Kind { is_v6: true, ..kind },
                true if kind.device == i32::MAX => break,
                true => Kind { device: kind.device + 1, is_v6: false },
            };
        }
        true
    }

    fn add(&mut self, port: u16, is_v6: bool, local: Local, claim: &Claim) -> Result<()> {
        let key = (port, Kind { device: claim.device, is_v6 });
        let manner = claim.manner();
        let one = try_box(Node::new(Alike { manner, count: 1 })).map_err(|_| Errno::ENOMEM)?;
        let place = try_box(Node::new(Claimed { local, claims: Tree::new() })).map_err(|_| Errno::ENOMEM)?;
        let mut group = match self.groups.remove(&key) {
            Some(group) => group,
            None => try_box(Node::new(Group { key, places: Tree::new() })).map_err(|_| Errno::ENOMEM)?,
        };
        let mut place = group.places.remove(&local).unwrap_or(place);
        match place.claims.get_mut(&manner) {
            Some(alike) => alike.count += 1,
            None => place.claims.insert(one),
        }
        group.places.insert(place);
        self.groups.insert(group);
        Ok(())
    }

    fn subtract(&mut self, port: u16, is_v6: bool, local: Local, claim: &Claim) {
        let key = (port, Kind { device: claim.device, is_v6 });
        let manner = claim.manner();
        let Some(mut group) = self.groups.remove(&key) else { return };
        if let Some(mut place) = group.places.remove(&local) {
            match place.claims.get_mut(&manner) {
                Some(alike) if alike.count > 1 => alike.count -= 1,
                _ => drop(place.claims.remove(&manner)),
            }
            if !place.claims.is_empty() {
                group.places.insert(place);
            }
        }
        if !group.places.is_empty() {
            self.groups.insert(group);
        }
    }
}

fn group_admits(group: &Group, local: Local, claim: &Claim) -> bool {
    let admits = |shares: Option<Shares>| shares.is_none_or(|shares| shares.admits(claim));
    if !matches!(local, Local::One(_)) {
        return admits(group.places.summary().flatten());
    }
    let place_is_free = |place: &Local| admits(group.places.get(place).and_then(Item::summary));
    place_is_free(&local) && place_is_free(&Local::AnyV4) && place_is_free(&Local::AnyV6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// What Linux does: looks at everyone.
    fn clashes(one: &Claim, other: &Claim) -> bool {
        let devices = one.device == 0 || other.device == 0 || one.device == other.device;
        let families = |local| parts(local).map(|part| part.is_some());
        let (a, b) = (families(one.local), families(other.local));
        let family = (a[0] && b[0]) || (a[1] && b[1]);
        let is_wild = |local| !matches!(local, Local::One(_));
        let addresses = is_wild(one.local) || is_wild(other.local) || one.local == other.local;
        let by_address = one.reuses_address && other.reuses_address;
        let by_port = one.reuses_port && other.reuses_port && one.user == other.user;
        devices && family && addresses && !by_address && !by_port
    }

    fn claims() -> impl Strategy<Value = Claim> {
        let local = prop_oneof![
            Just(Local::AnyV4),
            Just(Local::AnyV6),
            Just(Local::Any),
            (0..3_u128).prop_map(|low| Local::One(0xffff_0000_0001 + low)),
            (1..3_u128).prop_map(Local::One),
        ];
        (local, 0..3_i32, any::<bool>(), any::<bool>(), 0..2_u32).prop_map(
            |(local, device, reuses_address, reuses_port, user)| Claim {
                local,
                device,
                reuses_address,
                reuses_port,
                user,
            },
        )
    }

    #[derive(Clone, Copy, PartialEq, Debug)]
    enum Act {
        Claim,
        Release,
        Replace,
    }

    fn acts() -> impl Strategy<Value = Act> {
        prop_oneof![Just(Act::Claim), Just(Act::Release), Just(Act::Replace)]
    }

    proptest! {
        #[test]
        fn as_if_everyone_were_looked_at(steps in prop::collection::vec((claims(), 1..3_u16, acts()), 1..60)) {
            let mut ports = Ports::default();
            let mut held: Vec<(u16, Claim)> = Vec::new();
            for (claim, port, act) in steps {
                if act == Act::Replace && !held.is_empty() {
                    // Options of a socket change, whomever it shares its port with.
                    let place = usize::from(port) % held.len();
                    let (port, old) = held[place];
                    let new = Claim { local: old.local, device: old.device, ..claim };
                    prop_assert_eq!(ports.replace(port, &old, &new), Ok(()));
                    held[place].1 = new;
                    continue;
                }
                if act == Act::Release && !held.is_empty() {
                    let (port, claim) = held.remove(usize::from(port) % held.len());
                    ports.release(port, &claim);
                    continue;
                }
                let clash = held.iter().any(|(other, held)| *other == port && clashes(held, &claim));
                let granted = ports.claim(port, &claim);
                prop_assert_eq!(granted, if clash { Err(Errno::EADDRINUSE) } else { Ok(()) });
                if granted.is_ok() {
                    held.push((port, claim));
                }
            }
            for (port, claim) in held {
                ports.release(port, &claim);
            }
            prop_assert!(ports.is_empty());
        }
    }
}
