//! What a namespace has for IP besides its devices: settings, tables, rules.
//!
//! Key type: [`Control`]. Tables are made when something is put into them; a namespace with nothing but a loopback that is down
//! has none. Locks: each part says its own.

use core::ops::RangeInclusive;
use machine::sync::SpinLock;
use machine::sync::atomic::{AtomicI32, AtomicU64};

use super::address::inet6::Owners;
use super::config::{Settings4, Settings6, v4, v6};
use super::neighbour::proxy::Proxies;
use super::route::cache::PathMtus;
use super::route::nexthop::NextHops;
use super::route::rule::Rules;
use super::route::table::Tables;

/// The control plane of a namespace.
pub struct Control {
    /// `conf/all` of IPv4.
    pub all4: Settings4,
    /// `conf/default` of IPv4.
    pub default4: Settings4,
    /// `conf/all` of IPv6.
    pub all6: Settings6,
    /// `conf/default` of IPv6.
    pub default6: Settings6,
    /// Numbers of the namespace; see [`super::sysctl`].
    pub(crate) numbers: [AtomicI32; super::sysctl::COUNT],
    /// `ip_local_port_range`.
    pub(crate) ports: SpinLock<RangeInclusive<u16>>,
    /// `ping_group_range`: kernel groups; empty at first.
    pub(crate) ping_groups: SpinLock<(u32, u32)>,
    /// Routing tables of IPv4.
    pub(crate) tables4: Tables,
    /// Routing tables of IPv6.
    pub(crate) tables6: Tables,
    /// Rules of IPv4.
    pub(crate) rules4: Rules,
    /// Rules of IPv6.
    pub(crate) rules6: Rules,
    /// Next hops that routes name by number.
    pub(crate) nexthops: NextHops,
    /// Who has which IPv6 address.
    pub(crate) owners6: Owners,
    /// What paths are known to be narrower than their first link.
    pub(crate) paths: PathMtus,
    /// Addresses of each family that are answered for on all interfaces.
    proxies: [Proxies; 2],
    /// When addresses end.
    pub(crate) deadlines: super::address::lifetime::Deadlines,
    /// Counts routes, to tell them apart.
    pub(crate) next_route: AtomicU64,
    /// Moves with every change of what dumps show.
    pub(crate) generation: machine::sync::atomic::AtomicU32,
    /// Moves with every change that routing depends on: who keeps a route looks again.
    pub(crate) routing: AtomicU64,
}

impl Control {
    pub(crate) fn new() -> Control {
        let all4 = Settings4::new(v4::DEFAULTS);
        all4.put(v4::ACCEPT_SOURCE_ROUTE, 0);
        let all6 = Settings6::new(v6::DEFAULTS);
        all6.put(v6::ACCEPT_DAD, 0);
        Control {
            all4,
            default4: Settings4::new(v4::DEFAULTS),
            all6,
            default6: Settings6::new(v6::DEFAULTS),
            numbers: super::sysctl::defaults(),
            ports: SpinLock::new(32_768..=60_999),
            ping_groups: SpinLock::new((1, 0)),
            tables4: Tables::new(),
            tables6: Tables::new(),
            rules4: Rules::new(false),
            rules6: Rules::new(true),
            nexthops: NextHops::new(),
            owners6: Owners::new(),
            paths: PathMtus::new(),
            proxies: [const { Proxies::new() }; 2],
            deadlines: super::address::lifetime::Deadlines::new(),
            next_route: AtomicU64::new(1),
            generation: machine::sync::atomic::AtomicU32::new(0),
            routing: AtomicU64::new(0),
        }
    }

    /// The tables of a family.
    pub(crate) fn tables(&self, is_v6: bool) -> &Tables {
        if is_v6 { &self.tables6 } else { &self.tables4 }
    }

    /// The rules of a family.
    pub(crate) fn rules(&self, is_v6: bool) -> &Rules {
        if is_v6 { &self.rules6 } else { &self.rules4 }
    }

    /// Addresses of a family that are answered for on all interfaces.
    pub(crate) fn proxies(&self, is_v6: bool) -> &Proxies {
        &self.proxies[usize::from(is_v6)]
    }

    /// Lets go of all routes at once.
    pub(crate) fn clear(&self) {
        self.tables4.clear();
        self.tables6.clear();
        self.nexthops.clear();
        self.owners6.clear();
        self.paths.clear();
        self.proxies.iter().for_each(Proxies::clear);
        self.deadlines.stop();
    }
}
