//! `/proc/sys/net/ipv4` and `ipv6`: numbers of a namespace, and what setting a device's number does beyond that.
//!
//! Key types: [`Number`], [`Place`] (whose `conf`). `fs/proc` makes files of them. Locks: setting takes [`Rtnl`] where devices follow.

use abi::errno::{Errno, Result};
use abi::route::*;
use alloc::sync::Arc;
use machine::sync::atomic::{AtomicI32, Ordering};

use super::address::inet6;
use super::config::{v4, v6};
use super::{autoconf, device::IpDevice};
use crate::device::{NetDevice, Rtnl};
use crate::namespace::NetState;
use crate::netlink::route::netconf;

/// A number of a namespace: where it is below `/proc/sys/net`, and what it may be.
#[derive(Clone, Copy, Debug)]
pub struct Number {
    /// Folder and name.
    pub path: &'static str,
    /// At first.
    pub default: i32,
    /// The least and greatest value.
    pub range: (i32, i32),
}

const ANY: (i32, i32) = (i32::MIN, i32::MAX);
const BYTE: (i32, i32) = (0, 255);

macro_rules! numbers {
    ($($name:ident $path:literal = $default:literal $range:expr;)*) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        enum Names { $($name,)* }
        $(#[doc = concat!("`", $path, "`.")] pub const $name: usize = Names::$name as usize;)*
        /// All numbers.
        pub const NUMBERS: &[Number] = &[$(Number { path: $path, default: $default, range: $range },)*];
        /// How many there are.
        pub const COUNT: usize = NUMBERS.len();
    };
}

numbers! {
    DEFAULT_TTL "ipv4/ip_default_ttl" = 64 (1, 255);
    NONLOCAL_BIND_4 "ipv4/ip_nonlocal_bind" = 0 BYTE;
    NO_PMTU_DISCOVERY "ipv4/ip_no_pmtu_disc" = 0 BYTE;
    UNPRIVILEGED_PORT_START "ipv4/ip_unprivileged_port_start" = 1024 (0, 65_535);
    ECHO_IGNORE_ALL_4 "ipv4/icmp_echo_ignore_all" = 0 (0, 1);
    ECHO_IGNORE_BROADCASTS "ipv4/icmp_echo_ignore_broadcasts" = 1 (0, 1);
    ICMP_RATELIMIT_4 "ipv4/icmp_ratelimit" = 1000 ANY;
    ICMP_RATEMASK_4 "ipv4/icmp_ratemask" = 6168 ANY;
    ICMP_PER_SECOND "ipv4/icmp_msgs_per_sec" = 1000 (0, i32::MAX);
    ICMP_AT_ONCE "ipv4/icmp_msgs_burst" = 50 (0, i32::MAX);
    HASH_POLICY_4 "ipv4/fib_multipath_hash_policy" = 0 (0, 1);
    IGMP_MAX_MEMBERSHIPS "ipv4/igmp_max_memberships" = 20 ANY;
    IGMP_MAX_MSF "ipv4/igmp_max_msf" = 10 ANY;
    IGMP_QRV "ipv4/igmp_qrv" = 2 (1, i32::MAX);
    FRAGMENT_HIGH_4 "ipv4/ipfrag_high_thresh" = 4194304 (0, i32::MAX);
    FRAGMENT_TIME_4 "ipv4/ipfrag_time" = 30 (0, i32::MAX);
    BINDV6ONLY "ipv6/bindv6only" = 0 BYTE;
    NONLOCAL_BIND_6 "ipv6/ip_nonlocal_bind" = 0 BYTE;
    HASH_POLICY_6 "ipv6/fib_multipath_hash_policy" = 0 (0, 1);
    ICMP_RATELIMIT_6 "ipv6/icmp/ratelimit" = 100 (0, i32::MAX);
    ECHO_IGNORE_ALL_6 "ipv6/icmp/echo_ignore_all" = 0 (0, 1);
    ECHO_IGNORE_MULTICAST_6 "ipv6/icmp/echo_ignore_multicast" = 0 (0, 1);
    FRAGMENT_HIGH_6 "ipv6/ip6frag_high_thresh" = 4194304 (0, i32::MAX);
    FRAGMENT_TIME_6 "ipv6/ip6frag_time" = 60 (0, i32::MAX);
    MLD_MAX_MSF "ipv6/mld_max_msf" = 64 ANY;
    MLD_QRV "ipv6/mld_qrv" = 2 (1, i32::MAX);
}

/// The numbers as they are at first.
pub(crate) fn defaults() -> [AtomicI32; COUNT] {
    core::array::from_fn(|which| AtomicI32::new(NUMBERS[which].default))
}

impl NetState {
    /// One of the numbers of [`NUMBERS`].
    pub fn ip_number(&self, which: usize) -> i32 {
        self.ip.control.numbers.get(which).map_or(0, |number| number.load(Ordering::Relaxed))
    }

    /// Sets one. `EINVAL`: out of its range.
    pub fn set_ip_number(&self, which: usize, value: i32) -> Result<()> {
        let number = NUMBERS.get(which).ok_or(Errno::EINVAL)?;
        if value < number.range.0 || value > number.range.1 {
            return Err(Errno::EINVAL);
        }
        self.ip.control.numbers[which].store(value, Ordering::Relaxed);
        Ok(())
    }

    /// `ip_local_port_range`: the first and the last port that is given without being asked for.
    pub fn local_ports(&self) -> (u16, u16) {
        let ports = self.ip.control.ports.lock();
        (*ports.start(), *ports.end())
    }

    /// Sets it. `EINVAL`: none is between them, or there are privileged ones.
    pub fn set_local_ports(&self, first: u16, last: u16) -> Result<()> {
        if first == 0 || first > last || i32::from(first) < self.ip_number(UNPRIVILEGED_PORT_START) {
            return Err(Errno::EINVAL);
        }
        *self.ip.control.ports.lock() = first..=last;
        Ok(())
    }

    /// `ping_group_range`: which kernel groups may have ICMP sockets; none if the first is above the last.
    pub fn ping_groups(&self) -> (u32, u32) {
        *self.ip.control.ping_groups.lock()
    }

    /// Sets it.
    pub fn set_ping_groups(&self, first: u32, last: u32) {
        *self.ip.control.ping_groups.lock() = (first, last);
    }
}

/// Whose settings.
#[derive(Clone)]
pub enum Place {
    /// `conf/all`.
    All,
    /// `conf/default`.
    Default,
    /// Those of a device.
    Device(Arc<NetDevice>, Arc<IpDevice>),
}

impl Place {
    /// The one with this name in a namespace.
    pub fn named(net: &NetState, name: &[u8]) -> Option<Place> {
        match name {
            b"all" => Some(Place::All),
            b"default" => Some(Place::Default),
            name => {
                let device = net.devices().by_name(name).filter(|device| device.name().as_bytes() == name)?;
                let ip = device.ip()?;
                Some(Place::Device(device, ip))
            }
        }
    }

    /// A setting.
    pub fn get(&self, net: &NetState, is_v6: bool, which: usize) -> i32 {
        let control = &net.ip.control;
        match (self, is_v6) {
            (Place::All, false) => control.all4.get(which),
            (Place::Default, false) => control.default4.get(which),
            (Place::Device(_, ip), false) => ip.settings4.get(which),
            (Place::All, true) => control.all6.get(which),
            (Place::Default, true) => control.default6.get(which),
            (Place::Device(_, ip), true) => ip.settings6.get(which),
        }
    }

    /// Sets it, with what follows from that. `EINVAL`: it may not be that; `EPERM`: nobody may.
    pub fn set(&self, net: &Arc<NetState>, is_v6: bool, which: usize, value: i32) -> Result<()> {
        if is_v6 { self.set6(net, which, value) } else { self.set4(net, which, value) }
    }

    /// What netlink calls it.
    fn index(&self) -> i32 {
        match self {
            Place::All => NETCONFA_IFINDEX_ALL,
            Place::Default => NETCONFA_IFINDEX_DEFAULT,
            Place::Device(device, _) => device.index(),
        }
    }

    fn set4(&self, net: &Arc<NetState>, which: usize, value: i32) -> Result<()> {
        if which == v4::MC_FORWARDING {
            return Err(Errno::EPERM);
        }
        let rtnl = Rtnl::lock(net);
        let before = self.get(net, false, which);
        match self {
            Place::All if which == v4::FORWARDING => {
                forward_all(&rtnl, net, value);
                return Ok(());
            }
            Place::All => net.ip.control.all4.set(which, value),
            Place::Default => {
                net.ip.control.default4.set(which, value);
                each_device(net, |_, ip| ip.settings4.follow(which, value));
            }
            Place::Device(_, ip) => ip.settings4.set(which, value),
        }
        if before != value {
            netconf::announce_setting(net, self.index(), false, which);
            super::route::changed(net);
        }
        Ok(())
    }

    fn set6(&self, net: &Arc<NetState>, which: usize, value: i32) -> Result<()> {
        let is_wrong = match which {
            v6::MTU => value < super::device::MTU_LEAST_6 as i32,
            v6::HOP_LIMIT => !(1..=255).contains(&value),
            v6::ADDR_GEN_MODE => !(0..=IN6_ADDR_GEN_MODE_RANDOM).contains(&value),
            _ => false,
        };
        if is_wrong {
            return Err(Errno::EINVAL);
        }
        let rtnl = Rtnl::lock(net);
        let control = &net.ip.control;
        let before = self.get(net, true, which);
        let spreads = matches!(which, v6::FORWARDING | v6::DISABLE_IPV6);
        match self {
            Place::All => {
                control.all6.set(which, value);
                if spreads {
                    control.default6.set(which, value);
                    each_device(net, |device, ip| change6(&rtnl, device, ip, which, value));
                }
            }
            Place::Default => control.default6.set(which, value),
            Place::Device(device, ip) => {
                if which == v6::MTU && value > device.mtu() as i32 {
                    return Err(Errno::EINVAL);
                }
                change6(&rtnl, device, ip, which, value);
            }
        }
        if before != value {
            netconf::announce_setting(net, self.index(), true, which);
        }
        Ok(())
    }
}

/// Calls `act` with each device of a namespace.
fn each_device(net: &NetState, mut act: impl FnMut(&Arc<NetDevice>, &Arc<IpDevice>)) {
    let mut next = 0;
    while let Some(device) = net.devices().next_from(next) {
        next = device.index().wrapping_add(1);
        if let Some(ip) = device.ip() {
            act(&device, &ip);
        }
    }
}

/// `ip_forward`: all devices follow, and hosts that forward believe no redirects (`inet_forward_change`).
fn forward_all(rtnl: &Rtnl<'_>, net: &Arc<NetState>, value: i32) {
    let _ = rtnl;
    let control = &net.ip.control;
    let before = control.all4.get(v4::FORWARDING);
    control.all4.put(v4::FORWARDING, value);
    if before == value {
        return;
    }
    control.all4.put(v4::ACCEPT_REDIRECTS, i32::from(value == 0));
    control.default4.put(v4::FORWARDING, value);
    netconf::announce_setting(net, NETCONFA_IFINDEX_ALL, false, v4::FORWARDING);
    netconf::announce_setting(net, NETCONFA_IFINDEX_DEFAULT, false, v4::FORWARDING);
    each_device(net, |device, ip| {
        if ip.settings4.get(v4::FORWARDING) != value {
            ip.settings4.put(v4::FORWARDING, value);
            netconf::announce_setting(net, device.index(), false, v4::FORWARDING);
        }
    });
    super::route::changed(net);
}

/// Sets one of a device's IPv6 settings, with what follows.
fn change6(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, ip: &Arc<IpDevice>, which: usize, value: i32) {
    let before = ip.settings6.get(which);
    ip.settings6.set(which, value);
    ip.touch();
    if which == v6::ADDR_GEN_MODE || which == v6::MTU {
        crate::netlink::route::link::announce6(&device.namespace(), device, ip);
    }
    if which == v6::DISABLE_IPV6 && (before == 0) != (value == 0) {
        if value != 0 {
            inet6::device_down(rtnl, device, ip, false);
        } else if device.is_up() && ip.has(true) {
            autoconf::up(rtnl, device, ip);
        }
    }
    if which == v6::FORWARDING {
        super::route::changed(&device.namespace());
    }
}
