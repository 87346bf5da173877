//! Which ports are taken: whether a socket may have a port (bind(2), socket(7) about SO_REUSEADDR and SO_REUSEPORT).
//!
//! Key types: [`Ports`] (of one protocol in one namespace), [`Claim`] (what a socket wants), [`Held`] (what it has). Claims to a port
//! meet if their interfaces and addresses overlap and not both reuse addresses. Of those that a new one meets the latest decides, as on
//! Linux: whether both reuse ports and belong to one user. An older one that has switched that off since does not count.
//! Claims are ordered by interface, address and age, with a summary of the latest over all addresses, so that a claim to one
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

/// What a socket has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    /// What it wanted.
    pub claim: Claim,
    /// Its place among all claims by age, and how often it was replaced.
    number: Number,
}

type Number = (u64, u32);

/// The latest of some claims, as far as sharing ports is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Latest {
    number: Number,
    reuses_port: bool,
    user: u32,
}

impl Latest {
    fn merge(self, other: Latest) -> Latest {
        if self.number < other.number { other } else { self }
    }

    fn admits(&self, claim: &Claim) -> bool {
        claim.reuses_port && self.reuses_port && self.user == claim.user
    }
}

/// What claims there are, as far as sharing is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Shares {
    all: Latest,
    /// Of those that do not reuse addresses.
    strict: Option<Latest>,
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
        Shares { all: self.all.merge(other.all), strict: merge_any(self.strict, other.strict, Latest::merge) }
    }

    fn merge_any(left: Option<Shares>, right: Option<Shares>) -> Option<Shares> {
        merge_any(left, right, Shares::merge)
    }

    /// Whether one more may share with them.
    fn admits(&self, claim: &Claim) -> bool {
        let met = if claim.reuses_address { self.strict } else { Some(self.all) };
        met.is_none_or(|latest| latest.admits(claim))
    }
}

/// Whether an address is IPv4's, in the tree of what is claimed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Kind {
    device: i32,
    is_v6: bool,
}

/// One claim to one address.
struct One {
    latest: Latest,
    reuses_address: bool,
}

impl Item for One {
    type Key = Number;
    type Summary = Shares;
    fn key(&self) -> Number {
        self.latest.number
    }
    fn summary(&self) -> Shares {
        Shares { all: self.latest, strict: (!self.reuses_address).then_some(self.latest) }
    }
    fn merge(left: Shares, right: Shares) -> Shares {
        left.merge(right)
    }
}

/// All claims to one address.
struct Claimed {
    local: Local,
    claims: Tree<One>,
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
        Shares::merge_any(left, right)
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
    /// How many were granted so far.
    count: u64,
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
    pub fn claim(&mut self, port: u16, claim: &Claim) -> Result<Held> {
        let mut met = None;
        for (is_v6, local) in parts(claim.local).into_iter().flatten() {
            met = Shares::merge_any(met, self.met(port, is_v6, local, claim.device));
        }
        if met.is_some_and(|met| !met.admits(claim)) {
            return Err(Errno::EADDRINUSE);
        }
        self.count += 1;
        let held = Held { claim: *claim, number: (self.count, 0) };
        self.add_all(port, &held)?;
        Ok(held)
    }

    /// Gives up what was claimed.
    pub fn release(&mut self, port: u16, held: &Held) {
        for (is_v6, local) in parts(held.claim.local).into_iter().flatten() {
            self.subtract(port, is_v6, local, held);
        }
    }

    /// Puts another claim of the same socket in the place of one: it was connected or bound to an interface, or its options have
    /// changed, which nobody can refuse. Its age stays.
    /// `ENOMEM`.
    pub fn replace(&mut self, port: u16, old: &Held, new: &Claim) -> Result<Held> {
        let held = Held { claim: *new, number: (old.number.0, old.number.1.wrapping_add(1)) };
        self.add_all(port, &held)?;
        self.release(port, old);
        Ok(held)
    }

    /// Whether nothing is claimed.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The claims that one to this address would meet.
    fn met(&self, port: u16, is_v6: bool, local: Local, device: i32) -> Option<Shares> {
        let of = |device: i32| {
            let group = self.groups.get(&(port, Kind { device, is_v6 }));
            group.and_then(|group| met_in(group, local))
        };
        if device != 0 {
            return Shares::merge_any(of(0), of(device));
        }
        // To all interfaces: each that someone is bound to counts.
        let mut met = None;
        let mut from = (port, Kind { device: i32::MIN, is_v6: false });
        while let Some(group) = self.groups.first_from(&from).filter(|group| group.key.0 == port) {
            if group.key.1.is_v6 == is_v6 {
                met = Shares::merge_any(met, met_in(group, local));
            }
            let kind = group.key.1;
            from.1 = match kind.is_v6 {
                false => Kind { is_v6: true, ..kind },
                true if kind.device == i32::MAX => break,
                true => Kind { device: kind.device + 1, is_v6: false },
            };
        }
        met
    }

    /// Adds a claim for each family that it concerns. `ENOMEM`: nothing was added.
    fn add_all(&mut self, port: u16, held: &Held) -> Result<()> {
        let parts = parts(held.claim.local);
        for (done, (is_v6, local)) in parts.into_iter().flatten().enumerate() {
            if let Err(error) = self.add(port, is_v6, local, held) {
                for (is_v6, local) in parts.into_iter().flatten().take(done) {
                    self.subtract(port, is_v6, local, held);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn add(&mut self, port: u16, is_v6: bool, local: Local, held: &Held) -> Result<()> {
        let Held { claim, number } = *held;
        let key = (port, Kind { device: claim.device, is_v6 });
        let latest = Latest { number, reuses_port: claim.reuses_port, user: claim.user };
        let one = One { latest, reuses_address: claim.reuses_address };
        let one = try_box(Node::new(one)).map_err(|_| Errno::ENOMEM)?;
        let place = try_box(Node::new(Claimed { local, claims: Tree::new() })).map_err(|_| Errno::ENOMEM)?;
        let mut group = match self.groups.remove(&key) {
            Some(group) => group,
            None => try_box(Node::new(Group { key, places: Tree::new() })).map_err(|_| Errno::ENOMEM)?,
        };
        let mut place = group.places.remove(&local).unwrap_or(place);
        place.claims.insert(one);
        group.places.insert(place);
        self.groups.insert(group);
        Ok(())
    }

    fn subtract(&mut self, port: u16, is_v6: bool, local: Local, held: &Held) {
        let key = (port, Kind { device: held.claim.device, is_v6 });
        let Some(mut group) = self.groups.remove(&key) else { return };
        if let Some(mut place) = group.places.remove(&local) {
            drop(place.claims.remove(&held.number));
            if !place.claims.is_empty() {
                group.places.insert(place);
            }
        }
        if !group.places.is_empty() {
            self.groups.insert(group);
        }
    }
}

/// The claims of a group that one to this address would meet.
fn met_in(group: &Group, local: Local) -> Option<Shares> {
    if !matches!(local, Local::One(_)) {
        return group.places.summary().flatten();
    }
    let at = |place: &Local| group.places.get(place).and_then(Item::summary);
    let places = [local, Local::AnyV4, Local::AnyV6];
    places.iter().fold(None, |met, place| Shares::merge_any(met, at(place)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// Whether one counts for the other.
    fn meets(one: &Claim, other: &Claim) -> bool {
        let devices = one.device == 0 || other.device == 0 || one.device == other.device;
        let families = |local| parts(local).map(|part| part.is_some());
        let (a, b) = (families(one.local), families(other.local));
        let family = (a[0] && b[0]) || (a[1] && b[1]);
        let is_wild = |local| !matches!(local, Local::One(_));
        let addresses = is_wild(one.local) || is_wild(other.local) || one.local == other.local;
        let by_address = one.reuses_address && other.reuses_address;
        devices && family && addresses && !by_address
    }

    /// What Linux does: looks at everyone, the latest first, until one counts.
    fn clashes(held: &[(u16, Held)], port: u16, claim: &Claim) -> bool {
        let latest = held.iter().rev().find(|(other, held)| *other == port && meets(&held.claim, claim));
        latest.is_some_and(|(_, Held { claim: other, .. })| {
            !(other.reuses_port && claim.reuses_port && other.user == claim.user)
        })
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
            let mut held: Vec<(u16, Held)> = Vec::new();
            for (claim, port, act) in steps {
                if act == Act::Replace && !held.is_empty() {
                    // Options of a socket change, whomever it shares its port with.
                    let place = usize::from(port) % held.len();
                    let (port, old) = held[place];
                    let new = Claim { local: old.claim.local, device: old.claim.device, ..claim };
                    held[place].1 = ports.replace(port, &old, &new).unwrap();
                    continue;
                }
                if act == Act::Release && !held.is_empty() {
                    let (port, claim) = held.remove(usize::from(port) % held.len());
                    ports.release(port, &claim);
                    continue;
                }
                let clash = clashes(&held, port, &claim);
                let granted = ports.claim(port, &claim);
                prop_assert_eq!(granted.err(), clash.then_some(Errno::EADDRINUSE));
                held.extend(granted.map(|granted| (port, granted)));
            }
            for (port, claim) in held {
                ports.release(port, &claim);
            }
            prop_assert!(ports.is_empty());
        }
    }
}
