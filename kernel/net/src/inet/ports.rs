//! Which ports are taken: whether a socket may have a port (bind(2), socket(7) about SO_REUSEADDR and SO_REUSEPORT).
//!
//! Key types: [`Ports`] (of one protocol in one namespace), [`Claim`] (what a socket wants or has). Two claims to a port clash if their
//! interfaces and addresses overlap, unless both may share it: both reuse addresses, or both reuse ports and belong to one
//! user. Claims are counted by interface and address, with a summary over all addresses, so that a claim to one
//! address or to all of them is decided in O(log claims) whoever else has what. What a claim may share is what the socket's
//! options were when it was bound. Pure; no locks.

use core::net::IpAddr;

use abi::errno::{Errno, Result};
use alloc::boxed::Box;
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

/// What claims there are, as far as sharing is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Shares {
    without_address: bool,
    without_port: bool,
    users: (u32, u32),
}

impl Shares {
    fn of(claim: &Claim) -> Shares {
        Shares {
            without_address: !claim.reuses_address,
            without_port: !claim.reuses_port,
            users: (claim.user, claim.user),
        }
    }

    fn merge(self, other: Shares) -> Shares {
        Shares {
            without_address: self.without_address || other.without_address,
            without_port: self.without_port || other.without_port,
            users: (self.users.0.min(other.users.0), self.users.1.max(other.users.1)),
        }
    }

    /// Whether one more may share with all of them.
    fn admits(&self, claim: &Claim) -> bool {
        let by_address = claim.reuses_address && !self.without_address;
        let by_port = claim.reuses_port && !self.without_port && self.users == (claim.user, claim.user);
        by_address || by_port
    }
}

/// Whether an address is IPv4's, in the tree of what is claimed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Kind {
    device: i32,
    is_v6: bool,
}

/// All equal claims to one address.
struct Claimed {
    local: Local,
    shares: Shares,
    count: usize,
}

impl Item for Claimed {
    type Key = Local;
    type Summary = Shares;
    fn key(&self) -> Local {
        self.local
    }
    fn summary(&self) -> Shares {
        self.shares
    }
    fn merge(left: Shares, right: Shares) -> Shares {
        left.merge(right)
    }
}

/// The claims to one port on one interface, of one family.
struct Group {
    key: (u16, Kind),
    claims: Tree<Claimed>,
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

    /// Puts another claim of the same socket in the place of one: it was connected or bound to an interface, which nobody can refuse.
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
        let fresh = try_box(Node::new(Claimed { local, shares: Shares::of(claim), count: 1 }))
            .map_err(|_| Errno::ENOMEM)?;
        let mut group = match self.groups.remove(&key) {
            Some(group) => group,
            None => try_box(Node::new(Group { key, claims: Tree::new() })).map_err(|_| Errno::ENOMEM)?,
        };
        let merged = match group.claims.remove(&local) {
            Some(old) => renew(old, |old| Claimed {
                local,
                shares: old.shares.merge(Shares::of(claim)),
                count: old.count + 1,
            }),
            None => fresh,
        };
        group.claims.insert(merged);
        self.groups.insert(group);
        Ok(())
    }

    fn subtract(&mut self, port: u16, is_v6: bool, local: Local, claim: &Claim) {
        let key = (port, Kind { device: claim.device, is_v6 });
        let Some(mut group) = self.groups.remove(&key) else { return };
        if let Some(old) = group.claims.remove(&local)
            && old.count > 1
        {
            group.claims.insert(renew(old, |old| Claimed { count: old.count - 1, ..*old }));
        }
        if !group.claims.is_empty() {
            self.groups.insert(group);
        }
    }
}

/// A node with another item in it, in the same memory.
fn renew(mut node: Box<Node<Claimed>>, change: impl FnOnce(&Claimed) -> Claimed) -> Box<Node<Claimed>> {
    *node = Node::new(change(&node));
    node
}

fn group_admits(group: &Group, local: Local, claim: &Claim) -> bool {
    let wild = |local| match local {
        Local::One(_) => None,
        wild => Some(wild),
    };
    if wild(local).is_some() {
        return group.claims.summary().is_none_or(|all| all.admits(claim));
    }
    let place_is_free = |place: &Local| group.claims.get(place).is_none_or(|one| one.shares.admits(claim));
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

    proptest! {
        #[test]
        fn as_if_everyone_were_looked_at(steps in prop::collection::vec((claims(), 1..3_u16, any::<bool>()), 1..60)) {
            let mut ports = Ports::default();
            let mut held: Vec<(u16, Claim)> = Vec::new();
            for (claim, port, release) in steps {
                if release && !held.is_empty() {
                    let (port, claim) = held.remove(usize::from(port) % held.len());
                    ports.release(port, &claim);
                    continue;
                }
                let clash = held.iter().any(|(other, held)| *other == port && clashes(held, &claim));
                let granted = ports.claim(port, &claim);
                // Who shares one address in different ways may be refused although the last obstacle is gone.
                if clash {
                    prop_assert_eq!(granted, Err(Errno::EADDRINUSE));
                } else if let Err(error) = granted {
                    prop_assert_eq!(error, Errno::EADDRINUSE);
                    let shared = held.iter().any(|(other, held)| {
                        *other == port && (held.reuses_address || held.reuses_port)
                    });
                    prop_assert!(shared);
                }
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
