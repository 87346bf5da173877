//! RTM_*LINK: interfaces, as messages (rtnetlink(7), `ifinfomsg`).
//!
//! | file | what |
//! |---|---|
//! | `describe` | an interface as a message; telling RTNLGRP_LINK |
//! | `families` | IFLA_AF_SPEC: what IP says of an interface |
//! | `get` | one, all |
//! | `new` | making one |
//! | `set` | changing, deleting, alternative names |
//!
//! Locks: [`crate::device::Rtnl`], taken by what changes something.

mod describe;
mod families;
mod get;
mod new;
mod set;

pub(crate) use describe::{announce, announce_new, describe_departure, describe_end};
pub(crate) use families::announce6;

use abi::errno::{Errno, Result};
use abi::rtnetlink::*;
use abi::socket::AF_INET6;
use alloc::sync::Arc;
use linnet_lib::netlink::{Attribute, Attributes, Failure, Outcome, Policies, Policy, Strictness};
use security::Capability;

use super::{Handler, namespace_by_descriptor, namespace_by_id, namespace_by_process};
use crate::device::{
    InterfaceName, LinkKind, NetDevice, bridge, dummy, macvlan, parse_alternative, tun, veth, vlan,
};
use crate::namespace::{NetNamespace, NetState};
use crate::netlink::request::Request;

pub(super) const HANDLERS: &[Handler] = &[
    Handler { message: RTM_NEWLINK, family: 0, act: Some(new::new), dump: None },
    Handler { message: RTM_DELLINK, family: 0, act: Some(set::delete), dump: None },
    Handler { message: RTM_GETLINK, family: 0, act: Some(get::get), dump: Some(get::dump) },
    Handler { message: RTM_GETLINK, family: AF_INET6 as u8, act: None, dump: Some(families::dump6) },
    Handler { message: RTM_SETLINK, family: 0, act: Some(set::set), dump: None },
    Handler { message: RTM_NEWLINKPROP, family: 0, act: Some(set::add_names), dump: None },
    Handler { message: RTM_DELLINKPROP, family: 0, act: Some(set::remove_names), dump: None },
];

/// Bytes of the fixed header.
const HEADER: usize = size_of::<InterfaceMessage>();
/// One more than the highest attribute.
const ATTRIBUTES: usize = IFLA_TAILROOM as usize + 1;

/// The attributes of a link, by type.
pub(crate) type Parsed<'a> = Attributes<'a, ATTRIBUTES>;

/// More than the room that Linux keeps for TCP's and lower headers (`MAX_TCP_HEADER`).
const MORE_THAN_HEADERS: Policy = Policy::U32Range(321, u32::MAX);
const REJECT: Policy = Policy::Reject("Attribute failed policy validation");

static POLICIES: Policies = Policies {
    max: IFLA_TAILROOM,
    rules: &[
        (IFLA_ADDRESS, Policy::Binary(MAX_ADDR_LEN)),
        (IFLA_BROADCAST, Policy::Binary(MAX_ADDR_LEN)),
        (IFLA_IFNAME, Policy::String(IFNAMSIZ - 1)),
        (IFLA_MTU, Policy::U32),
        (IFLA_LINK, Policy::U32),
        (IFLA_MASTER, Policy::U32),
        (IFLA_TXQLEN, Policy::U32Range(0, i32::MAX as u32)),
        (IFLA_MAP, Policy::Unspecified(size_of::<LinkMap>())),
        (IFLA_WEIGHT, Policy::U32),
        (IFLA_OPERSTATE, Policy::U8),
        (IFLA_LINKMODE, Policy::U8),
        (IFLA_LINKINFO, Policy::Nest),
        (IFLA_NET_NS_PID, Policy::U32),
        (IFLA_IFALIAS, Policy::String(IFALIASZ - 1)),
        (IFLA_VFINFO_LIST, Policy::Nest),
        (IFLA_VF_PORTS, Policy::Nest),
        (IFLA_PORT_SELF, Policy::Nest),
        (IFLA_AF_SPEC, Policy::Nest),
        (IFLA_GROUP, Policy::U32),
        (IFLA_NET_NS_FD, Policy::U32),
        (IFLA_EXT_MASK, Policy::U32),
        (IFLA_PROMISCUITY, Policy::U32),
        (IFLA_NUM_TX_QUEUES, Policy::U32),
        (IFLA_NUM_RX_QUEUES, Policy::U32),
        (IFLA_CARRIER, Policy::U8),
        (IFLA_CARRIER_CHANGES, Policy::U32),
        (IFLA_LINK_NETNSID, Policy::S32),
        (IFLA_PROTO_DOWN, Policy::U8),
        (IFLA_GSO_MAX_SEGS, Policy::U32),
        (IFLA_GSO_MAX_SIZE, MORE_THAN_HEADERS),
        (IFLA_XDP, Policy::Nest),
        (IFLA_EVENT, Policy::U32),
        (IFLA_TARGET_NETNSID, Policy::S32),
        (IFLA_CARRIER_UP_COUNT, Policy::U32),
        (IFLA_CARRIER_DOWN_COUNT, Policy::U32),
        (IFLA_NEW_IFINDEX, Policy::S32Range(1, i32::MAX)),
        (IFLA_MIN_MTU, Policy::U32),
        (IFLA_MAX_MTU, Policy::U32),
        (IFLA_PROP_LIST, Policy::Nest),
        (IFLA_ALT_IFNAME, Policy::String(ALTIFNAMSIZ - 1)),
        (IFLA_PERM_ADDRESS, REJECT),
        (IFLA_PROTO_DOWN_REASON, Policy::Nest),
        (IFLA_GRO_MAX_SIZE, Policy::U32),
        (IFLA_GSO_IPV4_MAX_SIZE, MORE_THAN_HEADERS),
        (IFLA_GRO_IPV4_MAX_SIZE, Policy::U32),
        (IFLA_TSO_MAX_SIZE, REJECT),
        (IFLA_TSO_MAX_SEGS, REJECT),
        (IFLA_ALLMULTI, REJECT),
        (IFLA_NETNS_IMMUTABLE, REJECT),
        (IFLA_HEADROOM, REJECT),
        (IFLA_TAILROOM, REJECT),
    ],
};

/// The header and the attributes of a request.
fn parse<'a>(request: &Request<'a>, strictness: Strictness) -> Outcome<(InterfaceMessage, Parsed<'a>)> {
    let attributes = request.parse(HEADER, &POLICIES, strictness)?;
    Ok((request.message.fixed().unwrap_or_default(), attributes))
}

/// A request names one namespace at most; `by_id`: by an id only.
fn check_unique_namespace(attributes: &Parsed<'_>, by_id: bool) -> Outcome<()> {
    if by_id {
        let other = attributes.get(IFLA_NET_NS_PID).or(attributes.get(IFLA_NET_NS_FD));
        return match other {
            Some(_) => Err(Failure::new(Errno::EOPNOTSUPP, "specified netns attribute not supported")),
            None => Ok(()),
        };
    }
    let ways = [IFLA_NET_NS_PID, IFLA_NET_NS_FD, IFLA_TARGET_NETNSID];
    if ways.iter().filter(|kind| attributes.has(**kind)).count() > 1 {
        return Err(Failure::new(Errno::EINVAL, "multiple netns identifying attributes specified"));
    }
    Ok(())
}

/// The namespace that the attributes name, or none. `EBADF`, `EINVAL`, `ESRCH`.
fn named_namespace(request: &Request<'_>, attributes: &Parsed<'_>) -> Outcome<Option<Arc<NetNamespace>>> {
    if let Some(process) = attributes.get(IFLA_NET_NS_PID) {
        return Ok(Some(namespace_by_process(process.i32())?));
    }
    if let Some(descriptor) = attributes.get(IFLA_NET_NS_FD) {
        return Ok(Some(namespace_by_descriptor(descriptor.i32())?));
    }
    if let Some(id) = attributes.get(IFLA_TARGET_NETNSID) {
        let found = request.namespace().ids.peer(id.i32()).and_then(|state| state.live());
        return Ok(Some(found.ok_or(Errno::EINVAL)?));
    }
    Ok(None)
}

/// The namespace that a link shall be in: the asker's or the one named, which it may administrate. `EPERM`.
fn target_namespace(request: &Request<'_>, attributes: &Parsed<'_>) -> Outcome<Arc<NetNamespace>> {
    let found = named_namespace(request, attributes)?.unwrap_or_else(|| request.namespace().clone());
    if !request.is_capable(found.owner(), Capability::NetAdmin) {
        return Err(Errno::EPERM.into());
    }
    Ok(found)
}

/// The device that a request names by its name or another.
fn device_by_name(namespace: &NetState, attributes: &Parsed<'_>) -> Option<Arc<NetDevice>> {
    let name = attributes.get(IFLA_IFNAME).or(attributes.get(IFLA_ALT_IFNAME))?;
    namespace.devices.by_name(name.text())
}

/// Whether a request names a device by a name.
fn has_name(attributes: &Parsed<'_>) -> bool {
    attributes.has(IFLA_IFNAME) || attributes.has(IFLA_ALT_IFNAME)
}

/// The device that a request is about. `EINVAL`: it names none; `ENODEV`.
fn find(namespace: &NetState, header: &InterfaceMessage, attributes: &Parsed<'_>) -> Result<Arc<NetDevice>> {
    if header.ifi_index > 0 {
        return namespace.devices.by_index(header.ifi_index).ok_or(Errno::ENODEV);
    }
    if !has_name(attributes) {
        return Err(Errno::EINVAL);
    }
    device_by_name(namespace, attributes).ok_or(Errno::ENODEV)
}

const KINDS: &[&LinkKind] =
    &[&dummy::KIND, &veth::KIND, &bridge::KIND, &vlan::KIND, &macvlan::KIND, &tun::KIND];

/// The kind of this name.
fn kind_named(name: &[u8]) -> Option<&'static LinkKind> {
    KINDS.iter().copied().find(|kind| kind.name.as_bytes() == name)
}

/// The wanted name of a request.
fn wanted_name(attributes: &Parsed<'_>) -> Result<Option<InterfaceName>> {
    attributes
        .get(IFLA_IFNAME)
        .filter(|name| !name.text().is_empty())
        .map(|name| InterfaceName::new(name.text()))
        .transpose()
}

/// An alternative name in a list. `ERANGE`: it is too long; `EINVAL`.
fn alternative<'a>(attribute: &Attribute<'a>) -> Outcome<&'a [u8]> {
    let text = attribute.text();
    if text.len() > ALTIFNAMSIZ - 1 {
        let failure = Failure::new(Errno::ERANGE, "Attribute failed policy validation").at(attribute);
        return Err(Failure { policy: Some(Policy::String(ALTIFNAMSIZ - 1)), ..failure });
    }
    Ok(parse_alternative(text)?)
}
