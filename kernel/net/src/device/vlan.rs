//! `vlan`: a device for the frames of another that have a tag (IEEE 802.1Q and 802.1ad).
//!
//! Key types: [`Vlan`], [`Group`] (the VLANs of a lower device, found by protocol and number). A tag is taken off before the frame is the
//! VLAN's and put on when it leaves. A VLAN may be in another namespace than what it is on, and goes with it.
//! Locks: the group (spin, leaf), a VLAN's egress map (spin, leaf); rtnl for changes.

use abi::errno::{Errno, Result};
use abi::link::*;
use abi::rtnetlink as linux;
use alloc::boxed::Box;
use alloc::sync::Arc;
use linnet_lib::netlink::{Attribute, Attributes, Builder, Failure, Outcome, Policies, Policy, Strictness};
use linnet_lib::tree::{Item, Node, Tree};
use machine::memory::try_box;
use machine::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use machine::sync::{RwSpinLock, SpinLock};
use zerocopy::{FromBytes, IntoBytes};

use super::adjacency::{self, Role};
use super::statistics::Counted;
use super::{
    ADDRESS_STOLEN, DeviceOperations, HardwareAddress, LinkKind, LowerChange, NetDevice, NewLink, Rtnl,
    Template, change, check_ethernet_address, registry, tag, traffic, upper,
};
use crate::netlink::route::link::Parsed;
use crate::packet::{Packet, PacketKind};

/// The kind.
pub static KIND: LinkKind = LinkKind {
    validate,
    attach,
    change: Some(change_data),
    fill: Some(fill),
    ..LinkKind::plain("vlan", create)
};

const KNOWN_FLAGS: u32 = VLAN_FLAG_REORDER_HDR
    | VLAN_FLAG_GVRP
    | VLAN_FLAG_LOOSE_BINDING
    | VLAN_FLAG_MVRP
    | VLAN_FLAG_BRIDGE_BINDING;

static POLICIES: Policies = Policies {
    max: IFLA_VLAN_PROTOCOL,
    rules: &[
        (IFLA_VLAN_ID, Policy::U16),
        (IFLA_VLAN_FLAGS, Policy::Unspecified(size_of::<MaskedFlags>())),
        (IFLA_VLAN_EGRESS_QOS, Policy::Nest),
        (IFLA_VLAN_INGRESS_QOS, Policy::Nest),
        (IFLA_VLAN_PROTOCOL, Policy::U16),
    ],
};
type Data<'a> = Attributes<'a, { IFLA_VLAN_PROTOCOL as usize + 1 }>;

/// Protocol and number of a VLAN.
type Tag = (u16, u16);

struct Member {
    tag: Tag,
    device: Arc<NetDevice>,
}

impl Item for Member {
    type Key = Tag;
    type Summary = ();
    fn key(&self) -> Tag {
        self.tag
    }
    fn summary(&self) {}
    fn merge((): (), (): ()) {}
}

/// The VLANs on a device.
#[derive(Default)]
pub(crate) struct Group {
    members: RwSpinLock<Tree<Member>>,
    count: AtomicUsize,
}

impl Group {
    fn find(&self, tag: Tag) -> Option<Arc<NetDevice>> {
        self.members.read().get(&tag).map(|member| member.device.clone())
    }

    fn add(&self, tag: Tag, device: &Arc<NetDevice>) -> Result<()> {
        let node = try_box(Node::new(Member { tag, device: device.clone() })).map_err(|_| Errno::ENOMEM)?;
        let mut members = self.members.write();
        if members.get(&tag).is_some() {
            return Err(Errno::EEXIST);
        }
        members.insert(node);
        self.count.store(members.len(), Ordering::Relaxed);
        Ok(())
    }

    fn remove(&self, tag: Tag) {
        let mut members = self.members.write();
        let taken = members.remove(&tag);
        self.count.store(members.len(), Ordering::Relaxed);
        drop(members);
        drop(taken);
    }
}

/// A rule of the egress map: which priority in the tag a packet's priority means.
struct Egress {
    from: u32,
    to: u32,
}

impl Item for Egress {
    type Key = u32;
    type Summary = ();
    fn key(&self) -> u32 {
        self.from
    }
    fn summary(&self) {}
    fn merge((): (), (): ()) {}
}

struct Vlan {
    lower: Arc<NetDevice>,
    tag: Tag,
    flags: AtomicU32,
    ingress: [AtomicU32; 8],
    egress: SpinLock<Tree<Egress>>,
}

impl Vlan {
    fn has(&self, flag: u32) -> bool {
        self.flags.load(Ordering::Relaxed) & flag != 0
    }

    /// The packet with the tag in it; `None` if it is no frame or without memory.
    fn tagged(&self, packet: Packet) -> Option<Packet> {
        let priority = self.egress.lock().get(&packet.priority).map_or(0, |rule| rule.to as u16 & 7);
        tag::insert(packet, self.tag.0, self.tag.1 | priority << tag::PRIORITY_SHIFT)
    }
}

/// The packet without its tag; its bytes begin at the network header as before.
fn untagged(mut packet: Packet) -> Option<Packet> {
    packet.rewind_to_link_header();
    tag::open(tag::remove(packet)?)
}

/// The control field of a packet's tag, at which its bytes begin.
fn control_of(packet: &Packet) -> Option<u16> {
    packet.bytes().first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

/// A packet with a tag that nobody has taken so far: without its tag if that was a priority only, else for somebody else.
pub(super) fn leftover(mut packet: Packet) -> Option<Packet> {
    if control_of(&packet)? & tag::NUMBER_MASK == 0 {
        return untagged(packet);
    }
    packet.kind = PacketKind::OtherHost;
    Some(packet)
}

/// A packet with a tag came in at a device: to its VLAN if there is one. The packet back if there is none.
pub(super) fn receive(device: &Arc<NetDevice>, packet: Packet) -> Option<Packet> {
    let control = control_of(&packet)?;
    let found = match device.vlans.count.load(Ordering::Relaxed) {
        0 => None,
        _ => device.vlans.find((packet.protocol, control & tag::NUMBER_MASK)),
    };
    let Some(upper) = found else { return Some(packet) };
    let vlan = upper.operations_as::<Vlan>()?;
    if !upper.is_up() {
        return None;
    }
    let priority = vlan.ingress[usize::from(control >> tag::PRIORITY_SHIFT)].load(Ordering::Relaxed);
    let mut packet = untagged(packet)?;
    packet.priority = priority;
    if packet.kind == PacketKind::OtherHost
        && packet.from_link_header().first_chunk::<6>().is_some_and(|to| upper.address().as_slice() == to)
    {
        packet.kind = PacketKind::Host;
    }
    upper.statistics.count(Counted::Received, packet.len() + tag::HEADER);
    if packet.kind == PacketKind::Multicast {
        upper.statistics.count(Counted::Multicast, 0);
    }
    traffic::receive(&upper, packet);
    None
}

impl DeviceOperations for Vlan {
    fn transmit(&self, device: &Arc<NetDevice>, packet: Packet) {
        let length = packet.len();
        match self.tagged(packet).filter(|_| self.lower.is_up()) {
            Some(packet) => {
                device.statistics.count(Counted::Sent, length);
                traffic::pass_on(&self.lower, packet);
            }
            None => device.statistics.count(Counted::SendDropped, length),
        }
    }

    fn open(&self, device: &Arc<NetDevice>, rtnl: &Rtnl<'_>) -> Result<()> {
        if !self.lower.is_up() && !self.has(VLAN_FLAG_LOOSE_BINDING) {
            return Err(Errno::ENETDOWN);
        }
        change::follow_carrier(rtnl, device, &self.lower);
        Ok(())
    }

    fn stop(&self, device: &Arc<NetDevice>, rtnl: &Rtnl<'_>) {
        change::carrier_off(rtnl, device);
    }

    fn check_mtu(&self, _device: &NetDevice, mtu: u32) -> Result<()> {
        if mtu > self.lower.mtu() { Err(Errno::ERANGE) } else { Ok(()) }
    }

    fn check_address(&self, _device: &NetDevice, address: &[u8]) -> Result<()> {
        check_ethernet_address(address)
    }

    fn lower(&self) -> Option<&Arc<NetDevice>> {
        Some(&self.lower)
    }

    fn lower_changed(
        &self,
        device: &Arc<NetDevice>,
        _lower: &Arc<NetDevice>,
        what: LowerChange,
        rtnl: &Rtnl<'_>,
    ) {
        let is_loose = self.has(VLAN_FLAG_LOOSE_BINDING);
        let stolen = device.address_origin.load(Ordering::Relaxed) == ADDRESS_STOLEN;
        match what {
            LowerChange::Up if !is_loose => registry::now_or_later(rtnl, device, |rtnl, device| {
                if let Some(lower) = device.peer().filter(|lower| lower.is_up()) {
                    change::follow_carrier(rtnl, device, &lower);
                    let _ = change::set_flags(rtnl, device, device.flags() | linux::IFF_UP);
                }
            }),
            LowerChange::Down if !is_loose => {
                registry::now_or_later(rtnl, device, |rtnl, device| {
                    if device.peer().is_some_and(|lower| !lower.is_up()) {
                        change::close(rtnl, device);
                    }
                });
                upper::follow_carrier(rtnl, device);
            }
            LowerChange::Mtu => upper::follow_mtu(rtnl, device),
            LowerChange::Address if stolen => {
                registry::now_or_later(rtnl, device, |rtnl, device| {
                    if let Some(lower) = device.peer() {
                        change::store_address(rtnl, device, lower.address());
                    }
                });
            }
            _ => upper::follow_carrier(rtnl, device),
        }
    }

    fn uninit(&self, device: &Arc<NetDevice>, _rtnl: &Rtnl<'_>) {
        let is_there = self.lower.vlans.find(self.tag).is_some_and(|found| Arc::ptr_eq(&found, device));
        if is_there {
            self.lower.vlans.remove(self.tag);
            adjacency::unlink(device, &self.lower);
        }
    }
}

fn fail<T>(errno: Errno, text: &'static str) -> Outcome<T> {
    Err(Failure::new(errno, text))
}

/// VLAN protocol of a request.
fn protocol(data: &Data<'_>) -> u16 {
    data.get(IFLA_VLAN_PROTOCOL).map_or(ETH_P_8021Q, |value| u16::from_be_bytes(value.u16().to_ne_bytes()))
}

fn validate(attributes: &Parsed<'_>, data: Option<Attribute<'_>>) -> Outcome<()> {
    if let Some(address) = attributes.get(linux::IFLA_ADDRESS) {
        if address.value.len() != 6 {
            return fail(Errno::EINVAL, "8021q: Invalid link address");
        }
        if check_ethernet_address(address.value).is_err() {
            return fail(Errno::EADDRNOTAVAIL, "8021q: Invalid link address");
        }
    }
    let Some(data) = data else { return fail(Errno::EINVAL, "8021q: VLAN properties not specified") };
    let data = Data::parse(data.nested(), &POLICIES, Strictness::Liberal)?;
    if ![ETH_P_8021Q, ETH_P_8021AD].contains(&protocol(&data)) {
        return fail(Errno::EPROTONOSUPPORT, "8021q: Invalid VLAN protocol");
    }
    if data.get(IFLA_VLAN_ID).is_some_and(|number| number.u16() >= tag::NUMBER_MASK) {
        return fail(Errno::ERANGE, "8021q: Invalid VLAN id");
    }
    if let Some(flags) = data.get(IFLA_VLAN_FLAGS)
        && let Ok((flags, _)) = MaskedFlags::read_from_prefix(flags.value)
        && flags.flags & flags.mask & !KNOWN_FLAGS != 0
    {
        return fail(Errno::EINVAL, "8021q: Invalid VLAN flags");
    }
    let maps = [
        (IFLA_VLAN_INGRESS_QOS, "8021q: Invalid ingress QOS map"),
        (IFLA_VLAN_EGRESS_QOS, "8021q: Invalid egress QOS map"),
    ];
    for (kind, text) in maps {
        let rules = data.get(kind).map(|nest| nest.nested());
        let is_short = |rule: Attribute<'_>| rule.value.len() < size_of::<PriorityMapping>();
        if rules.is_some_and(|mut rules| rules.any(is_short)) {
            return fail(Errno::ERANGE, text);
        }
    }
    Ok(())
}

fn create(new: &NewLink<'_>) -> Outcome<Arc<NetDevice>> {
    // Checked by `validate`, which demands it.
    let data = new.data.ok_or(Errno::EINVAL)?;
    let data = Data::parse(data.nested(), &POLICIES, Strictness::Liberal)?;
    let Some(number) = data.get(IFLA_VLAN_ID) else {
        return fail(Errno::EINVAL, "8021q: VLAN id not specified");
    };
    let lower = match &new.lower {
        Ok(lower) => lower.clone(),
        Err(Errno::ENODEV) => return fail(Errno::ENODEV, "8021q: link does not exist"),
        Err(_) => return fail(Errno::EINVAL, "8021q: link not specified"),
    };
    let tag = (protocol(&data), number.u16());
    if !lower.is_ethernet() {
        return fail(Errno::EOPNOTSUPP, "8021q: VLANs not supported on device");
    }
    if lower.vlans.find(tag).is_some() {
        return fail(Errno::EEXIST, "8021q: VLAN device already exists");
    }
    if new.attributes.get(linux::IFLA_MTU).is_some_and(|mtu| mtu.u32() > lower.mtu()) {
        return Err(Errno::EINVAL.into());
    }
    let kept = linux::IFF_BROADCAST | linux::IFF_MULTICAST | linux::IFF_NOARP | linux::IFF_POINTOPOINT;
    let template = Template {
        hardware_type: linux::ARPHRD_ETHER,
        flags: lower.flags() & kept,
        mtu: lower.mtu(),
        mtu_range: (0, 65535),
        address: new.address.clone().unwrap_or_else(|| lower.address()),
        broadcast: HardwareAddress::from_iter([0xff; 6]),
        queues: 1,
        is_bound: false,
        kind: Some(&KIND),
    };
    let vlan = Vlan {
        lower,
        tag,
        flags: AtomicU32::new(VLAN_FLAG_REORDER_HDR),
        ingress: core::array::from_fn(|_| AtomicU32::new(0)),
        egress: SpinLock::new(Tree::new()),
    };
    let most = vlan.lower.limits.most();
    let device = NetDevice::new(new.namespace, template, Box::new(vlan))?;
    device.limits.set_most(most);
    device.address_origin.store(ADDRESS_STOLEN, Ordering::Relaxed);
    device.carrier.store(false, Ordering::Relaxed);
    Ok(device)
}

fn attach(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, new: &NewLink<'_>) -> Outcome<()> {
    let vlan = device.operations_as::<Vlan>().ok_or(Errno::EINVAL)?;
    if let Some(data) = new.data {
        change_data(rtnl, device, data)?;
    }
    adjacency::link(rtnl, device, &vlan.lower, Role::Upper)?;
    if let Err(error) = vlan.lower.vlans.add(vlan.tag, device) {
        adjacency::unlink(device, &vlan.lower);
        return Err(error.into());
    }
    upper::begin(rtnl, device, &vlan.lower);
    Ok(())
}

/// Flags and maps; the number and the protocol stay what they are.
fn change_data(_rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, data: Attribute<'_>) -> Outcome<()> {
    let vlan = device.operations_as::<Vlan>().ok_or(Errno::EOPNOTSUPP)?;
    let data = Data::parse(data.nested(), &POLICIES, Strictness::Liberal)?;
    if let Some(flags) = data.get(IFLA_VLAN_FLAGS)
        && let Ok((flags, _)) = MaskedFlags::read_from_prefix(flags.value)
    {
        if flags.mask & !KNOWN_FLAGS != 0 {
            return Err(Errno::EINVAL.into());
        }
        let old = vlan.flags.load(Ordering::Relaxed);
        vlan.flags.store(old & !flags.mask | flags.flags & flags.mask, Ordering::Relaxed);
    }
    let rules = |kind| data.get(kind).into_iter().flat_map(|nest: Attribute<'_>| nest.nested());
    let mapping =
        |rule: Attribute<'_>| PriorityMapping::read_from_prefix(rule.value).ok().map(|found| found.0);
    for rule in rules(IFLA_VLAN_INGRESS_QOS).filter_map(mapping) {
        vlan.ingress[rule.from as usize & 7].store(rule.to, Ordering::Relaxed);
    }
    for rule in rules(IFLA_VLAN_EGRESS_QOS).filter_map(mapping) {
        let node = try_box(Node::new(Egress { from: rule.from, to: rule.to })).map_err(|_| Errno::ENOMEM)?;
        let mut egress = vlan.egress.lock();
        let old = egress.remove(&rule.from);
        egress.insert(node);
        drop(egress);
        drop(old);
    }
    Ok(())
}

fn fill(device: &NetDevice, out: &mut Builder) -> Result<()> {
    let Some(vlan) = device.operations_as::<Vlan>() else { return Ok(()) };
    out.attribute(IFLA_VLAN_PROTOCOL, &vlan.tag.0.to_be_bytes())?;
    out.u16(IFLA_VLAN_ID, vlan.tag.1)?;
    let flags = vlan.flags.load(Ordering::Relaxed);
    if flags != 0 {
        out.attribute(IFLA_VLAN_FLAGS, MaskedFlags { flags, mask: u32::MAX }.as_bytes())?;
    }
    let rules = (0..).zip(&vlan.ingress).map(|(from, to)| (from, to.load(Ordering::Relaxed)));
    let mut rules = rules.filter(|(_, to)| *to != 0).peekable();
    if rules.peek().is_some() {
        let nest = out.nest(IFLA_VLAN_INGRESS_QOS)?;
        for (from, to) in rules {
            out.attribute(IFLA_VLAN_QOS_MAPPING, PriorityMapping { from, to }.as_bytes())?;
        }
        out.end_nest(nest);
    }
    if vlan.egress.lock().is_empty() {
        return Ok(());
    }
    let nest = out.nest(IFLA_VLAN_EGRESS_QOS)?;
    let mut next = Some(0);
    while let Some(from) = next {
        let rule = vlan.egress.lock().first_from(&from).map(|rule| (rule.from, rule.to));
        let Some((from, to)) = rule else { break };
        if to & 7 != 0 {
            out.attribute(IFLA_VLAN_QOS_MAPPING, PriorityMapping { from, to: to & 7 }.as_bytes())?;
        }
        next = from.checked_add(1);
    }
    out.end_nest(nest);
    Ok(())
}
