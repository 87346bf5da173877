//! Which VLANs a port, or the bridge itself, belongs to, and what that means to frames (IEEE 802.1Q, `br_vlan.c`).
//!
//! Key types: [`Vlans`] (of one port or of the bridge: members, which of them leave without a tag, the one of frames that come without
//! one), [`Lane`] (the VLAN a frame is in on its way through a bridge that filters). A new port is in the bridge's default VLAN.
//! The forwarding database has an entry for each VLAN.
//! Locks: rtnl for changes; frames read atomics.

use abi::errno::{Errno, Result};
use abi::link::*;
use alloc::sync::Arc;
use machine::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::table::{BY_USER, EXTERNAL, LOCAL, STATIC};
use super::{Bridge, Port, Setting};
use crate::device::{NetDevice, Rtnl, tag};
use crate::packet::Packet;

/// One more than the highest number; it and 0 name no VLAN.
pub(crate) const NUMBER_MAX: u16 = 4095;
const WORDS: usize = 64;

/// A set of VLANs.
struct Set([AtomicU64; WORDS]);

impl Set {
    fn new() -> Set {
        Set(core::array::from_fn(|_| AtomicU64::new(0)))
    }

    fn word(&self, number: u16) -> Option<(&AtomicU64, u64)> {
        Some((self.0.get(usize::from(number) / 64)?, 1 << (number % 64)))
    }

    fn has(&self, number: u16) -> bool {
        self.word(number).is_some_and(|(word, bit)| word.load(Ordering::Relaxed) & bit != 0)
    }

    fn put(&self, number: u16, on: bool) {
        let Some((word, bit)) = self.word(number) else { return };
        if on {
            word.fetch_or(bit, Ordering::Relaxed);
        } else {
            word.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    /// The first one from a number on.
    fn next_from(&self, number: u16) -> Option<u16> {
        let first = usize::from(number) / 64;
        (first..WORDS).find_map(|place| {
            let mut bits = self.0[place].load(Ordering::Relaxed);
            if place == first {
                bits &= u64::MAX << (number % 64);
            }
            (bits != 0).then(|| place as u16 * 64 + bits.trailing_zeros() as u16)
        })
    }
}

/// See the module.
pub(crate) struct Vlans {
    members: Set,
    untagged: Set,
    /// 0: frames without a tag are in none.
    default: AtomicU32,
}

impl Vlans {
    pub(super) fn new() -> Vlans {
        Vlans { members: Set::new(), untagged: Set::new(), default: AtomicU32::new(0) }
    }

    /// Whether it belongs to a VLAN.
    pub(crate) fn has(&self, number: u16) -> bool {
        self.members.has(number)
    }

    /// Whether that one's frames leave without a tag.
    fn is_untagged(&self, number: u16) -> bool {
        self.untagged.has(number)
    }

    /// Where frames without a tag are (its PVID).
    fn default(&self) -> Option<u16> {
        Some(self.default.load(Ordering::Relaxed) as u16).filter(|number| *number != 0)
    }

    /// The first VLAN from a number on that it belongs to, and its BRIDGE_VLAN_INFO_*.
    pub(crate) fn next_from(&self, number: u16) -> Option<(u16, u16)> {
        let number = self.members.next_from(number)?;
        let mut flags = 0;
        if self.default() == Some(number) {
            flags |= BRIDGE_VLAN_INFO_PVID;
        }
        if self.is_untagged(number) {
            flags |= BRIDGE_VLAN_INFO_UNTAGGED;
        }
        Some((number, flags))
    }

    /// The VLANs that follow each other from a number on and are alike: first, last, flags. The default one is alone.
    pub(crate) fn next_range(&self, number: u16) -> Option<(u16, u16, u16)> {
        let (first, flags) = self.next_from(number)?;
        let mut last = first;
        while self.next_from(last + 1) == Some((last + 1, flags)) {
            last += 1;
        }
        Some((first, last, flags))
    }

    /// Adds one or changes what it is; whether anything changed.
    fn put(&self, number: u16, flags: u16) -> bool {
        let before = self.next_from(number).filter(|(found, _)| *found == number);
        if flags & BRIDGE_VLAN_INFO_PVID != 0 {
            self.default.store(number.into(), Ordering::Relaxed);
        } else if self.default() == Some(number) {
            self.default.store(0, Ordering::Relaxed);
        }
        self.untagged.put(number, flags & BRIDGE_VLAN_INFO_UNTAGGED != 0);
        self.members.put(number, true);
        before != self.next_from(number)
    }

    fn take(&self, number: u16) -> bool {
        let was_there = self.has(number);
        self.members.put(number, false);
        self.untagged.put(number, false);
        if self.default() == Some(number) {
            self.default.store(0, Ordering::Relaxed);
        }
        was_there
    }
}

/// Where a frame is on its way through a bridge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Lane {
    /// Its VLAN; 0 where the bridge does not filter.
    pub(super) vlan: u16,
    /// The protocol of the bridge's tags.
    protocol: u16,
    /// The control field of the tag that is in the frame.
    control: Option<u16>,
}

impl Lane {
    /// Whether a frame may leave at what is in these VLANs.
    pub(super) fn reaches(&self, vlans: &Vlans) -> bool {
        self.vlan == 0 || vlans.has(self.vlan)
    }

    /// The frame, which begins at its link header, as it leaves where `vlans` says how. `None`: it may not leave there.
    pub(super) fn fit(&self, vlans: &Vlans, frame: Packet) -> Option<Packet> {
        if self.vlan == 0 {
            return Some(frame);
        }
        if !self.reaches(vlans) {
            return None;
        }
        match (self.control, vlans.is_untagged(self.vlan)) {
            (None, true) => Some(frame),
            (Some(_), true) => tag::remove(frame),
            (None, false) => tag::insert(frame, self.protocol, self.vlan),
            // A tag that had a priority only.
            (Some(control), false) if control & tag::NUMBER_MASK == 0 => {
                tag::insert(tag::remove(frame)?, self.protocol, control | self.vlan)
            }
            (Some(_), false) => Some(frame),
        }
    }
}

impl Bridge {
    /// Whether frames keep to their VLANs.
    pub(super) fn filters(&self) -> bool {
        self.setting(Setting::VlanFiltering) != 0
    }

    /// In which VLAN a frame comes in; `None`: in none that it may come in by (`br_allowed_ingress`).
    pub(super) fn lane(&self, vlans: &Vlans, frame: &[u8]) -> Option<Lane> {
        let protocol = self.setting(Setting::VlanProtocol) as u16;
        if !self.filters() {
            return Some(Lane { vlan: 0, protocol, control: None });
        }
        let (kind, control) = tag::look(frame)?;
        let control = (kind == protocol).then_some(control);
        let vlan = match control.map_or(0, |control| control & tag::NUMBER_MASK) {
            0 => vlans.default()?,
            vlan => vlan,
        };
        vlans.has(vlan).then_some(Lane { vlan, protocol, control })
    }

    /// Adds a VLAN to a port or to the bridge itself; whether that is news. The machine's own addresses are in it too.
    pub(crate) fn add_vlan(
        &self,
        device: &Arc<NetDevice>,
        port: Option<&Arc<Port>>,
        number: u16,
        flags: u16,
    ) -> bool {
        let vlans = port.map_or(&self.vlans, |port| &port.vlans);
        let changed = vlans.put(number, flags);
        if changed {
            self.add_own(device, port, number);
        }
        changed
    }

    /// Takes a VLAN away; whether it was there. What was learned in it there is forgotten, and that the own address is in it.
    pub(crate) fn remove_vlan(&self, device: &Arc<NetDevice>, port: Option<&Arc<Port>>, number: u16) -> bool {
        let vlans = port.map_or(&self.vlans, |port| &port.vlans);
        let was_there = vlans.take(number);
        if was_there {
            self.forget_at(device, port, |view| {
                let is_own = view.flags & LOCAL != 0 && view.flags & BY_USER == 0;
                view.key.vlan == number && (is_own || view.flags & (STATIC | EXTERNAL) == 0)
            });
        }
        was_there
    }

    /// A new port, or the new bridge itself, is in the default VLAN.
    pub(super) fn join_default(&self, device: &Arc<NetDevice>, port: Option<&Arc<Port>>) {
        let default = self.setting(Setting::DefaultVlan) as u16;
        if default != 0 {
            self.add_vlan(device, port, default, BRIDGE_VLAN_INFO_PVID | BRIDGE_VLAN_INFO_UNTAGGED);
        }
    }

    /// Gives the bridge another default VLAN: who was in the old one by default is in the new one. `EINVAL`: there is no such.
    pub(super) fn set_default_vlan(&self, rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, new: u16) -> Result<()> {
        rtnl.assert_covers(device);
        let old = self.setting(Setting::DefaultVlan) as u16;
        if new >= NUMBER_MAX {
            return Err(Errno::EINVAL);
        }
        if new == old {
            return Ok(());
        }
        let ports = self.ports.load_arc();
        let ports = ports.as_ref().map_or(&[][..], |ports| ports);
        let all = core::iter::once(None).chain(ports.iter().map(Some));
        for port in all {
            let vlans = port.map_or(&self.vlans, |port| &port.vlans);
            let is_default = old != 0 && vlans.default() == Some(old) && vlans.is_untagged(old);
            if old != 0 && !is_default || new != 0 && vlans.has(new) {
                continue;
            }
            if new != 0 {
                self.add_vlan(device, port, new, BRIDGE_VLAN_INFO_PVID | BRIDGE_VLAN_INFO_UNTAGGED);
            }
            if old != 0 {
                self.remove_vlan(device, port, old);
            }
        }
        self.set(Setting::DefaultVlan, new.into());
        Ok(())
    }
}

/// The protocol of tags. `EPROTONOSUPPORT`.
pub(super) fn check_protocol(protocol: u16) -> Result<()> {
    if [ETH_P_8021Q, ETH_P_8021AD].contains(&protocol) { Ok(()) } else { Err(Errno::EPROTONOSUPPORT) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    proptest! {
        #[test]
        fn it_is_a_set_with_flags(steps in proptest::collection::vec((1..200u16, 0..4u16, any::<bool>()), 0..100)) {
            let vlans = Vlans::new();
            let mut model = BTreeMap::new();
            let mut default = None;
            for (number, bits, adds) in steps {
                if adds {
                    let untagged = bits & 1 != 0;
                    let flags = if untagged { BRIDGE_VLAN_INFO_UNTAGGED } else { 0 }
                        | if bits & 2 != 0 { BRIDGE_VLAN_INFO_PVID } else { 0 };
                    let was = (model.get(&number).copied(), default);
                    if bits & 2 != 0 { default = Some(number) } else if default == Some(number) { default = None }
                    model.insert(number, untagged);
                    let is_default = |default| default == Some(number);
                    let news = was.0 != Some(untagged) || is_default(was.1) != is_default(default);
                    prop_assert_eq!(vlans.put(number, flags), news);
                } else {
                    if default == Some(number) { default = None }
                    prop_assert_eq!(vlans.take(number), model.remove(&number).is_some());
                }
                prop_assert_eq!(vlans.default(), default);
            }
            let mut all = Vec::new();
            let mut at = 0;
            while let Some((first, last, flags)) = vlans.next_range(at) {
                prop_assert!(first == last || flags & BRIDGE_VLAN_INFO_PVID == 0);
                all.extend((first..=last).map(|number| (number, flags & BRIDGE_VLAN_INFO_UNTAGGED != 0)));
                at = last + 1;
            }
            prop_assert_eq!(all, model.into_iter().collect::<Vec<_>>());
        }
    }
}
