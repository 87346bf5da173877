//! RTM_NEWLINK: makes an interface, or changes one that is there (`rtnl_newlink`).
//!
//! Everything a request names (namespaces, kind, the other end's attributes) is resolved before the lock; under [`Rtnl`] of all of
//! them the device is looked for, and made or changed.

use abi::errno::{Errno, Result};
use abi::netlink as linux;
use abi::rtnetlink::*;
use alloc::sync::Arc;
use linnet_lib::netlink::{
    Attribute, AttributeIter, Attributes, Failure, Outcome, Policies, Policy, Strictness, align,
};
use zerocopy::FromBytes;

use super::{
    HEADER, POLICIES, Parsed, check_unique_namespace, device_by_name, has_name, kind_named, parse, set,
    target_namespace, wanted_name,
};
use crate::device::limits::SETTABLE;
use crate::device::registry::{self, Arrival};
use crate::device::{HardwareAddress, InterfaceName, LinkKind, NetDevice, NewLink, Rtnl, rtnl, veth};
use crate::device::{set_first_flags, set_group, set_link_mode, set_queue_length};
use crate::namespace::NetNamespace;
use crate::netlink::Origin;
use crate::netlink::request::Request;

static INFO: Policies = Policies {
    max: IFLA_INFO_SLAVE_DATA,
    rules: &[
        (IFLA_INFO_KIND, Policy::String(0)),
        (IFLA_INFO_DATA, Policy::Nest),
        (IFLA_INFO_SLAVE_KIND, Policy::String(0)),
        (IFLA_INFO_SLAVE_DATA, Policy::Nest),
    ],
};

static VETH: Policies =
    Policies { max: VETH_INFO_PEER, rules: &[(VETH_INFO_PEER, Policy::Unspecified(HEADER))] };

/// What is to be made: of the request itself, or of a veth's other end.
struct Plan<'a> {
    header: InterfaceMessage,
    attributes: &'a Parsed<'a>,
    namespace: Arc<NetNamespace>,
    data: Option<Attribute<'a>>,
    lower: Result<Arc<NetDevice>>,
}

impl Plan<'_> {
    /// As the kind wants to see it.
    fn new_link(&self) -> NewLink<'_> {
        let address = self.attributes.get(IFLA_ADDRESS);
        NewLink {
            namespace: self.namespace.state(),
            address: address.and_then(|one| HardwareAddress::try_from(one.value).ok()),
            attributes: self.attributes,
            data: self.data,
            lower: self.lower.clone(),
        }
    }
}

/// What IFLA_LINKINFO says about a device that is there.
struct Info<'a> {
    kind: Option<&'static LinkKind>,
    data: Option<Attribute<'a>>,
    port_kind: Option<&'a [u8]>,
    port_data: Option<Attribute<'a>>,
}

/// RTM_NEWLINK.
pub(super) fn new(request: &Request<'_>) -> Outcome<()> {
    let (header, attributes) = parse(request, Strictness::Liberal)?;
    check_unique_namespace(&attributes, false)?;
    let info = match attributes.get(IFLA_LINKINFO) {
        Some(nest) => Some(
            Attributes::<{ IFLA_INFO_SLAVE_DATA as usize + 1 }>::parse(
                nest.nested(),
                &INFO,
                Strictness::Liberal,
            )
            .map_err(|failure| Failure::from(failure.errno))?,
        ),
        None => None,
    };
    let info = info.as_ref();
    let kind = info.and_then(|info| info.get(IFLA_INFO_KIND)).map(|name| name.text());
    let kind = kind.and_then(kind_named);
    let data = info.and_then(|info| info.get(IFLA_INFO_DATA));
    let port_kind = info.and_then(|info| info.get(IFLA_INFO_SLAVE_KIND)).map(|name| name.text());
    let port_data = info.and_then(|info| info.get(IFLA_INFO_SLAVE_DATA));
    if let Some(kind) = kind {
        (kind.validate)(&attributes, data)?;
    }
    let peer = other_end(data, kind)?;
    let peer_attributes = peer.as_ref().map(|(_, attributes)| attributes);
    if let Some(attributes) = peer_attributes {
        check_unique_namespace(attributes, false)?;
        (veth::KIND.validate)(attributes, None)?;
    }
    let peer_namespace = target_namespace(request, peer_attributes.unwrap_or(&attributes))?;
    let target = target_namespace(request, &attributes)?;
    let link_namespace = link_namespace(request, &target, &attributes)?;
    let own = request.namespace().clone();
    let mut all: arrayvec::ArrayVec<&crate::namespace::NetState, 4> = arrayvec::ArrayVec::new();
    all.extend([own.state(), target.state(), peer_namespace.state()].map(|state| &**state));
    all.extend(link_namespace.iter().map(|namespace| &**namespace.state()));
    let (device, rtnl) = {
        let rtnl = Rtnl::lock_all(&all);
        let look_in = if request.has_flag(linux::NLM_F_EXCL) { &target } else { &own };
        (existing(look_in, &header, &attributes)?, rtnl)
    };
    if let Some(device) = device {
        drop(rtnl);
        let info = Info { kind, data, port_kind, port_data };
        return change(request, &device, &header, &attributes, &info, &target);
    }
    if !request.has_flag(linux::NLM_F_CREATE) {
        drop(rtnl);
        if header.ifi_index > 0 || has_name(&attributes) || !attributes.has(IFLA_GROUP) {
            return Err(Errno::ENODEV.into());
        }
        return set::change_group(request, &header, &attributes, &target);
    }
    if attributes.has(IFLA_MAP) || attributes.has(IFLA_PROTINFO) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let Some(kind) = kind else { return Err(Failure::new(Errno::EOPNOTSUPP, "Unknown device type")) };
    let below = link_namespace.as_ref().unwrap_or(&own);
    let lower = match attributes.get(IFLA_LINK) {
        Some(index) => below.devices.by_index(index.i32()).ok_or(Errno::ENODEV),
        None => Err(Errno::EINVAL),
    };
    let plan = Plan { header, attributes: &attributes, namespace: target.clone(), data, lower };
    let far = peer.as_ref().map(|(header, attributes)| Plan {
        header: *header,
        attributes,
        namespace: peer_namespace.clone(),
        data: None,
        lower: Err(Errno::EINVAL),
    });
    create(request, &rtnl, kind, &plan, far.as_ref(), &peer_namespace, link_namespace.as_ref())
}

/// The device that the request means, if it is there.
fn existing(
    namespace: &NetNamespace,
    header: &InterfaceMessage,
    attributes: &Parsed<'_>,
) -> Outcome<Option<Arc<NetDevice>>> {
    match header.ifi_index {
        index if index < 0 => Err(Failure::new(Errno::EINVAL, "ifindex can't be negative")),
        0 if has_name(attributes) => Ok(device_by_name(namespace, attributes)),
        0 => Ok(None),
        index => Ok(namespace.devices.by_index(index)),
    }
}

/// The header and attributes of a veth's other end.
fn other_end<'a>(
    data: Option<Attribute<'a>>,
    kind: Option<&LinkKind>,
) -> Outcome<Option<(InterfaceMessage, Parsed<'a>)>> {
    let (Some(data), Some(kind)) = (data, kind) else { return Ok(None) };
    if !core::ptr::eq(kind, &veth::KIND) {
        return Ok(None);
    }
    let data =
        Attributes::<{ VETH_INFO_PEER as usize + 1 }>::parse(data.nested(), &VETH, Strictness::Liberal)?;
    let Some(peer) = data.get(VETH_INFO_PEER) else { return Ok(None) };
    let (header, _) = InterfaceMessage::read_from_prefix(peer.value).map_err(|_| Errno::EINVAL)?;
    let start = align(HEADER);
    let rest = peer.value.get(start..).unwrap_or_default();
    let offset = peer.offset + linnet_lib::netlink::ATTRIBUTE_HEADER + start;
    let attributes = Attributes::parse(AttributeIter::new(rest, offset), &POLICIES, Strictness::Liberal)?;
    if header.ifi_index < 0 {
        return Err(Failure::new(Errno::EINVAL, "ifindex can't be negative"));
    }
    Ok(Some((header, attributes)))
}

/// IFLA_LINK_NETNSID: where the device below is. `EINVAL`, `EPERM`.
fn link_namespace(
    request: &Request<'_>,
    target: &NetNamespace,
    attributes: &Parsed<'_>,
) -> Outcome<Option<Arc<NetNamespace>>> {
    let Some(id) = attributes.get(IFLA_LINK_NETNSID) else { return Ok(None) };
    let found = target.ids.peer(id.i32()).and_then(|state| state.live());
    let found = found.ok_or(Failure::new(Errno::EINVAL, "Unknown network namespace id"))?;
    if !request.is_capable(found.owner(), security::Capability::NetAdmin) {
        return Err(Errno::EPERM.into());
    }
    Ok(Some(found))
}

/// The device is there: the request changes it.
fn change(
    request: &Request<'_>,
    device: &Arc<NetDevice>,
    header: &InterfaceMessage,
    attributes: &Parsed<'_>,
    info: &Info<'_>,
    target: &Arc<NetNamespace>,
) -> Outcome<()> {
    if request.has_flag(linux::NLM_F_EXCL) {
        return Err(Errno::EEXIST.into());
    }
    if request.has_flag(linux::NLM_F_REPLACE) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    if let Some(data) = info.data {
        let own = device.kind().filter(|own| info.kind.is_some_and(|kind| core::ptr::eq(*own, kind)));
        let change = own.and_then(|own| own.change).ok_or(Errno::EOPNOTSUPP)?;
        let result: Option<Outcome<()>> = rtnl::with_pair(device, &[], |rtnl| {
            change(rtnl, device, data)?;
            super::announce(device, 0);
            Ok(())
        });
        result.unwrap_or(Err(Errno::ENODEV.into()))?;
    }
    if let Some(data) = info.port_data {
        change_port(device, info.port_kind, data)?;
    }
    set::change(request, device, header, attributes, target)
}

/// Changes what a device is to its master. `EOPNOTSUPP`: it has none, or none of the kind that the request means.
fn change_port(device: &Arc<NetDevice>, kind: Option<&[u8]>, data: Attribute<'_>) -> Outcome<()> {
    let result = rtnl::with_pair(device, &[], |rtnl| {
        let master = device.adjacency.master().ok_or(Errno::EOPNOTSUPP)?;
        let own = master.kind().filter(|own| kind == Some(own.name.as_bytes()));
        let change = own.and_then(|own| own.change_port).ok_or(Errno::EOPNOTSUPP)?;
        change(rtnl, &master, device, data)?;
        super::announce(device, 0);
        Ok(())
    });
    result.unwrap_or(Err(Errno::ENODEV.into()))
}

/// A device in no table, as a plan wants it.
fn build(kind: &LinkKind, plan: &Plan<'_>) -> Outcome<Arc<NetDevice>> {
    let attributes = plan.attributes;
    for queues in [IFLA_NUM_TX_QUEUES, IFLA_NUM_RX_QUEUES] {
        if let Some(count) = attributes.get(queues)
            && !(1..=4096).contains(&count.u32())
        {
            let text = if queues == IFLA_NUM_TX_QUEUES {
                "Invalid number of transmit queues"
            } else {
                "Invalid number of receive queues"
            };
            return Err(Failure::new(Errno::EINVAL, text));
        }
    }
    let device = (kind.create)(&plan.new_link())?;
    for (limit, _) in SETTABLE {
        attributes.get(limit).map_or(Ok(()), |value| device.limits.check(limit, value.u32()))?;
    }
    let relaxed = machine::sync::atomic::Ordering::Relaxed;
    if attributes.has(IFLA_ADDRESS) {
        device.address_origin.store(crate::device::ADDRESS_SET, relaxed);
    }
    set::set_limits(&device, attributes);
    if let Some(mtu) = attributes.get(IFLA_MTU) {
        crate::device::check_mtu(&device, mtu.u32())?;
        device.mtu.store(mtu.u32(), relaxed);
    }
    if let Some(broadcast) = attributes.get(IFLA_BROADCAST)
        && let Ok(broadcast) = HardwareAddress::try_from(broadcast.value)
    {
        device.settings.lock().broadcast = broadcast;
    }
    Ok(device)
}

/// What is set of a new device once it is in its table.
fn configure(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, plan: &Plan<'_>, origin: &Origin) -> Outcome<()> {
    let attributes = plan.attributes;
    if let Some(length) = attributes.get(IFLA_TXQLEN) {
        set_queue_length(rtnl, device, length.u32())?;
    }
    if let Some(group) = attributes.get(IFLA_GROUP) {
        set_group(rtnl, device, group.u32());
    }
    if let Some(mode) = attributes.get(IFLA_LINKMODE) {
        set_link_mode(rtnl, device, mode.u8());
    }
    let header = &plan.header;
    let introduce = || super::announce_new(device, u32::MAX, origin);
    if header.ifi_flags == 0 && header.ifi_change == 0 {
        introduce();
        return Ok(());
    }
    set_first_flags(rtnl, device, set::combine_flags(device, header), introduce)
}

fn index_of(plan: &Plan<'_>) -> Option<i32> {
    Some(plan.header.ifi_index).filter(|index| *index > 0)
}

fn default_name(kind: &LinkKind) -> Result<InterfaceName> {
    InterfaceName::new(alloc::format!("{}%d", kind.name).as_bytes())
}

/// Makes the device, for a veth both. What was made before something failed goes again.
fn create(
    request: &Request<'_>,
    rtnl: &Rtnl<'_>,
    kind: &'static LinkKind,
    plan: &Plan<'_>,
    far: Option<&Plan<'_>>,
    far_namespace: &Arc<NetNamespace>,
    link_namespace: Option<&Arc<NetNamespace>>,
) -> Outcome<()> {
    let origin = request.origin();
    let quiet = Origin::default();
    let first = Plan {
        namespace: link_namespace.unwrap_or(&plan.namespace).clone(),
        lower: plan.lower.clone(),
        ..*plan
    };
    let device = build(kind, &first)?;
    let name = wanted_name(plan.attributes)?.map_or_else(|| default_name(kind), Ok)?;
    let mut made: arrayvec::ArrayVec<Arc<NetDevice>, 2> = arrayvec::ArrayVec::new();
    let result = (|| {
        if core::ptr::eq(kind, &veth::KIND) {
            // Without attributes of its own the other end gets those of this one, but for name and index.
            let same = Plan {
                header: InterfaceMessage::default(),
                attributes: plan.attributes,
                namespace: far_namespace.clone(),
                data: None,
                lower: Err(Errno::EINVAL),
            };
            let other = build(kind, far.unwrap_or(&same))?;
            let far_name = far.map_or(Ok(None), |far| wanted_name(far.attributes))?;
            let far_name = far_name.map_or_else(|| default_name(kind), Ok)?;
            // As on Linux its index counts if this one's is given too.
            let far_index = index_of(plan).and_then(|_| far.and_then(index_of));
            registry::register(rtnl, &other, far_name, far_index)?;
            made.push(other.clone());
            veth::without_carrier(&other);
            // As on Linux the other end is announced before it has a peer, so that this gives no id.
            configure(rtnl, &other, far.unwrap_or(&same), &quiet)?;
            registry::register(rtnl, &device, name, index_of(plan))?;
            made.push(device.clone());
            veth::without_carrier(&device);
            veth::join(&device, &other);
        } else {
            registry::register(rtnl, &device, name, index_of(plan))?;
            made.push(device.clone());
        }
        (kind.attach)(rtnl, &device, &first.new_link())?;
        configure(rtnl, &device, plan, &origin)?;
        if link_namespace.is_some() {
            let arrival = Arrival { namespace: plan.namespace.state(), fallback: Some(name), index: None };
            registry::move_to(rtnl, &device, &arrival)?;
        }
        if let Some(master) = plan.attributes.get(IFLA_MASTER) {
            set::set_master(rtnl, &device, master.i32())?;
            super::announce(&device, 0);
        }
        Ok(())
    })();
    if result.is_err() {
        registry::unregister(rtnl, &made, &quiet);
    }
    result
}
