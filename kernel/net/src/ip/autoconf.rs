//! IPv6 addresses that make themselves: link-local ones (RFC 4862), detection of duplicates, what routers advertise.
//!
//! Key type: [`Autoconf`] (of one device). Under [`Rtnl`]; timers and messages have a worker take it. Neighbours: `address::inet6`,
//! `neighbour::discovery`. Locks: a leaf spinlock for the timer.

use abi::route::*;
use abi::rtnetlink as linux;
use alloc::sync::{Arc, Weak};
use arrayvec::ArrayVec;
use core::net::{IpAddr, Ipv6Addr};
use linnet_lib::fib::Prefix;
use linnet_lib::wire::discovery::{self, PrefixInformation, RouterAdvertisement};
use machine::sync::SpinLock;
use machine::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use sched::timer::{Timer, TimerAction, TimerCallback};

use super::address::{Address, FOREVER, inet6, lifetime};
use super::config::v6;
use super::device::{IpDevice, later};
use super::multicast;
use super::neighbour::{self, settings::which};
use super::route::change::{self, MODE_CREATE, PRIORITY_ADDRESS_6, Wanted, WantedHop};
use crate::device::{NetDevice, Rtnl, rtnl};
use crate::namespace::NetState;
use crate::netlink::Origin;
use crate::netlink::route::address::announce;

/// Bits of a network whose addresses end in an interface's identifier.
const NETWORK_BITS: u8 = 64;

/// Most prefixes of one advertisement that are looked at.
const PREFIXES_MOST: usize = 16;
/// A table with so many routes takes no new ones from routers: anybody on the link can say that they are one.
const ROUTES_MOST: usize = 4096;
const SECOND_NS: u64 = 1_000_000_000;
const MILLISECOND_NS: u64 = 1_000_000;
/// Between two questions whether an address is taken (RFC 4861's RetransTimer).
const PROBE_NS: u64 = SECOND_NS;
/// Advertisements that nobody has authenticated do not make addresses end sooner than this (RFC 4862 section 5.5.3).
const LEAST_VALID: u32 = 7200;

/// What of it a device keeps.
pub struct Autoconf {
    timer: SpinLock<Option<Timer>>,
    /// How often routers will still be asked; negative: without end.
    left: AtomicI32,
    /// When they are asked next; 0: never.
    ask_ns: AtomicU64,
    /// How long it was before the last time.
    interval_ms: AtomicU64,
    /// The device is up and protocols know it.
    is_up: AtomicBool,
}

impl Autoconf {
    pub(crate) fn new() -> Autoconf {
        Autoconf {
            timer: SpinLock::new(None),
            left: AtomicI32::new(0),
            ask_ns: AtomicU64::new(0),
            interval_ms: AtomicU64::new(0),
            is_up: AtomicBool::new(false),
        }
    }

    /// The device is down: nobody is asked any more.
    pub(crate) fn stop(&self) {
        self.is_up.store(false, Ordering::Relaxed);
        self.ask_ns.store(0, Ordering::Relaxed);
        let timer = self.timer.lock().take();
        drop(timer);
    }

    fn wake_at(&self, device: &Arc<NetDevice>, deadline_ns: u64) {
        let fresh = if self.timer.lock().is_none() {
            Timer::new(Arc::new(Expiry(Arc::downgrade(device)))).ok()
        } else {
            None
        };
        let mut timer = self.timer.lock();
        if timer.is_none() {
            *timer = fresh;
        }
        if let Some(timer) = timer.as_ref()
            && timer.deadline_ns().is_none_or(|armed| armed > deadline_ns)
        {
            timer.arm(deadline_ns);
        }
    }
}

struct Expiry(Weak<NetDevice>);

impl TimerCallback for Expiry {
    fn expire(&self, now_ns: u64) -> TimerAction {
        let Some(device) = self.0.upgrade() else { return TimerAction::Done };
        match sched::work::queue(move || with_rtnl(&device, tick)) {
            Ok(()) => TimerAction::Done,
            Err(_) => TimerAction::RearmAt(now_ns + SECOND_NS),
        }
    }
}

/// Does something about a device under its lock, unless it is gone.
fn with_rtnl(device: &Arc<NetDevice>, act: impl FnOnce(&Rtnl<'_>, &Arc<NetDevice>, &Arc<IpDevice>)) {
    let _ = rtnl::with_pair(device, &[], |rtnl| {
        if let Some(ip) = device.ip() {
            act(rtnl, device, &ip);
        }
    });
}

/// Does what is due: asks once more, or finds that nobody answered.
fn tick(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, ip: &Arc<IpDevice>) {
    rtnl.assert_covers(device);
    let net = device.namespace();
    let now = machine::time::now_ns();
    for address in ip.addresses6.iter() {
        let IpAddr::V6(local) = address.local else { continue };
        if !address.has(IFA_F_TENTATIVE) || address.probe_ns == 0 {
            continue;
        }
        if address.probe_ns > now {
            ip.autoconf.wake_at(device, address.probe_ns);
        } else if address.probes == 0 {
            inet6::complete(&net, device, ip, &address);
        } else {
            let next = Address { probes: address.probes - 1, probe_ns: now + PROBE_NS, ..(*address).clone() };
            let _ = inet6::replace(&net, ip, next);
            neighbour::discovery::probe(device, local);
            ip.autoconf.wake_at(device, now + PROBE_NS);
        }
    }
    let ask_ns = ip.autoconf.ask_ns.load(Ordering::Relaxed);
    if ask_ns > now {
        ip.autoconf.wake_at(device, ask_ns);
    } else if ask_ns != 0 {
        ask_routers(device, ip);
    }
}

/// Asks the routers on a link to tell of themselves (RFC 4861 section 6.3.7, RFC 7559), and when to ask again.
fn ask_routers(device: &Arc<NetDevice>, ip: &IpDevice) {
    let settings = &ip.settings6;
    let left = ip.autoconf.left.load(Ordering::Relaxed);
    if left == 0 || ip.flags6.load(Ordering::Relaxed) & IF_RA_RCVD != 0 {
        ip.autoconf.ask_ns.store(0, Ordering::Relaxed);
        return;
    }
    if left > 0 {
        ip.autoconf.left.store(left - 1, Ordering::Relaxed);
    }
    ip.flags6.fetch_or(IF_RS_SENT, Ordering::Relaxed);
    neighbour::discovery::ask_routers(device);
    let last = ip.autoconf.interval_ms.load(Ordering::Relaxed);
    let base = settings.get(v6::ROUTER_SOLICITATION_INTERVAL).max(1) as u64;
    let most = settings.get(v6::ROUTER_SOLICITATION_MAX_INTERVAL).max(1) as u64;
    let next = if last == 0 { base } else { (2 * last).min(most) };
    ip.autoconf.interval_ms.store(next, Ordering::Relaxed);
    let at = machine::time::now_ns() + next * MILLISECOND_NS;
    ip.autoconf.ask_ns.store(at, Ordering::Relaxed);
    ip.autoconf.wake_at(device, at);
}

/// Whether what routers say counts on a device (`ipv6_accept_ra`).
fn accepts(ip: &IpDevice) -> bool {
    let accept = ip.settings6.get(v6::ACCEPT_RA);
    if ip.settings6.is_on(v6::FORWARDING) { accept == 2 } else { accept != 0 }
}

/// An address is ours: with the first link-local one routers are asked (`addrconf_dad_completed`).
pub(crate) fn completed(device: &Arc<NetDevice>, ip: &IpDevice, address: &Address) {
    let IpAddr::V6(local) = address.local else { return };
    let solicitations = ip.settings6.get(v6::ROUTER_SOLICITATIONS);
    let asks = local.is_unicast_link_local()
        && !device.is_loopback()
        && device.is_up()
        && accepts(ip)
        && solicitations != 0
        && ip.flags6.load(Ordering::Relaxed) & IF_RS_SENT == 0;
    if asks {
        ip.autoconf.left.store(solicitations, Ordering::Relaxed);
        ip.autoconf.interval_ms.store(0, Ordering::Relaxed);
        ask_routers(device, ip);
    }
}

/// The identifier of an interface from its Ethernet address (RFC 4291, appendix A).
pub(crate) fn identifier(device: &NetDevice) -> Option<u64> {
    let address = device.address();
    let bytes: [u8; 6] = address.as_slice().try_into().ok()?;
    if device.hardware_type() != linux::ARPHRD_ETHER {
        return None;
    }
    let [a, b, c, d, e, f] = bytes;
    Some(u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]))
}

/// A device that speaks IPv6 is up (`addrconf_notify`, `addrconf_dev_config`).
pub(crate) fn up(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, ip: &Arc<IpDevice>) {
    if inet6::is_disabled(ip) {
        return;
    }
    ip.autoconf.is_up.store(true, Ordering::Relaxed);
    let is_ready = ip.flags6.load(Ordering::Relaxed) & IF_READY != 0;
    if is_ready || (!device.has_carrier() && !device.is_loopback()) {
        return;
    }
    ip.flags6.fetch_or(IF_READY, Ordering::Relaxed);
    // Those that were given while it was down, or are kept.
    let net = device.namespace();
    for address in ip.addresses6.iter() {
        if !address.has(IFA_F_NOPREFIXROUTE) && address.peer == address.local {
            inet6::network_route(&net, device, &address, true);
        }
        if address.has(IFA_F_TENTATIVE) || !inet6::has_own_route(&net, device, &address) {
            begin_detection(rtnl, device, &address);
        }
    }
    if device.is_loopback() {
        return loopback(rtnl, device);
    }
    multicast_route(device);
    if ip.settings6.get(v6::ADDR_GEN_MODE) != IN6_ADDR_GEN_MODE_NONE
        && let Some(identifier) = identifier(device)
    {
        link_local(rtnl, device, identifier);
    }
}

/// The loopback has the address of this machine to itself, which needs no route to a network (`init_loopback`).
fn loopback(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>) {
    let mut address = Address::new(Ipv6Addr::LOCALHOST.into(), 128, RT_SCOPE_HOST, device.name());
    address.protocol = IFAPROT_KERNEL_LO;
    if let Ok(address) = inet6::place(rtnl, device, address) {
        begin_detection(rtnl, device, &address);
    }
}

/// Packets to groups go out through the device (`addrconf_add_mroute`).
fn multicast_route(device: &Arc<NetDevice>) {
    let net = device.namespace();
    let wanted = Wanted {
        table: RT_TABLE_LOCAL,
        kind: RTN_MULTICAST,
        priority: PRIORITY_ADDRESS_6,
        flags: RTF_UP,
        hop: WantedHop { index: device.index(), ..WantedHop::default() },
        ..Wanted::to(true, super::address::network_of(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0).into(), 8))
    };
    let _ = change::add(&net, &wanted, MODE_CREATE, &Origin::default());
}

fn link_local(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, identifier: u64) {
    let base = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0).to_bits();
    let local = IpAddr::V6(Ipv6Addr::from_bits(base | u128::from(identifier)));
    let mut address = Address::new(local, NETWORK_BITS, RT_SCOPE_LINK, device.name());
    address.protocol = IFAPROT_KERNEL_LL;
    if let Ok(address) = inet6::place(rtnl, device, address) {
        inet6::network_route(&device.namespace(), device, &address, true);
        begin_detection(rtnl, device, &address);
    }
}

/// Begins to ask whether somebody else has an address, or finds that nobody needs to be asked (`addrconf_dad_begin`).
pub(crate) fn begin_detection(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, address: &Arc<Address>) {
    rtnl.assert_covers(device);
    let Some(ip) = device.ip() else { return };
    let net = device.namespace();
    multicast::join_solicited(device, &ip, address);
    let checks = net.ip.control.all6.get(v6::ACCEPT_DAD) >= 1 || ip.settings6.get(v6::ACCEPT_DAD) >= 1;
    let is_alone = device.flags() & (linux::IFF_NOARP | linux::IFF_LOOPBACK) != 0;
    if is_alone || !checks || address.has(IFA_F_NODAD) || !address.has(IFA_F_TENTATIVE) {
        return inet6::complete(&net, device, &ip, address);
    }
    if ip.flags6.load(Ordering::Relaxed) & IF_READY == 0 {
        return;
    }
    // Not all at once when a link comes up (RFC 4862 section 5.4.2).
    let most = ip.settings6.get(v6::ROUTER_SOLICITATION_DELAY).max(1) as u64;
    let mut bytes = [0; 8];
    machine::random::fill(&mut bytes);
    let delay = u64::from_ne_bytes(bytes) % most * MILLISECOND_NS;
    let probes = u8::try_from(ip.settings6.get(v6::DAD_TRANSMITS)).unwrap_or(0);
    let probe_ns = machine::time::now_ns() + delay;
    if inet6::replace(&net, &ip, Address { probes, probe_ns, ..(**address).clone() }).is_ok() {
        ip.autoconf.wake_at(device, probe_ns);
    }
}

/// A device that is up has a carrier now.
pub(crate) fn carrier(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, ip: &Arc<IpDevice>) {
    if ip.autoconf.is_up.load(Ordering::Relaxed) && device.has_carrier() {
        up(rtnl, device, ip);
    }
}

/// What a router says, kept until a worker looks at it.
struct Told {
    router: Ipv6Addr,
    hop_limit: u8,
    is_managed: bool,
    has_other: bool,
    preference: u8,
    lifetime: u16,
    mtu: Option<u32>,
    reachable_ms: u32,
    retransmit_ms: u32,
    prefixes: ArrayVec<PrefixInformation, PREFIXES_MOST>,
}

/// A router says what the link is like; whether that counts. Preemption is off.
pub(crate) fn hear_router(device: &Arc<NetDevice>, router: Ipv6Addr, told: &RouterAdvertisement<'_>) -> bool {
    let Some(ip) = device.ip().filter(|ip| accepts(ip)) else { return false };
    if i32::from(told.hop_limit) != 0
        && i32::from(told.hop_limit) < ip.settings6.get(v6::ACCEPT_RA_MIN_HOP_LIMIT)
    {
        return false;
    }
    let is_own = super::address::inet6::owner(&device.namespace(), router, device.index()).is_some();
    if is_own && !ip.settings6.is_on(v6::ACCEPT_RA_FROM_LOCAL) {
        return false;
    }
    let mut heard = Told {
        router,
        hop_limit: told.hop_limit,
        is_managed: told.is_managed,
        has_other: told.has_other,
        preference: told.preference,
        lifetime: told.lifetime,
        mtu: None,
        reachable_ms: told.reachable_ms,
        retransmit_ms: told.retransmit_ms,
        prefixes: ArrayVec::new(),
    };
    for option in discovery::options(told.options) {
        let Ok(option) = option else { return false };
        match option.kind {
            discovery::PREFIX => {
                if let Ok(prefix) = PrefixInformation::read(&option) {
                    let _ = heard.prefixes.try_push(prefix);
                }
            }
            discovery::MTU => {
                let bytes = option.bytes.get(4..8).and_then(|bytes| bytes.first_chunk());
                heard.mtu = bytes.map(|bytes| u32::from_be_bytes(*bytes));
            }
            _ => {}
        }
    }
    later(device, move |device| with_rtnl(device, |rtnl, device, ip| believe(rtnl, device, ip, &heard)));
    true
}

/// Does what a router says (`ndisc_router_discovery`).
fn believe(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, ip: &Arc<IpDevice>, heard: &Told) {
    if ip.flags6.load(Ordering::Relaxed) & IF_READY == 0 {
        return;
    }
    let mut flags = IF_RA_RCVD;
    if heard.is_managed {
        flags |= IF_RA_MANAGED;
    }
    if heard.has_other {
        flags |= IF_RA_OTHERCONF;
    }
    let before = ip.flags6.fetch_or(flags, Ordering::Relaxed);
    let gone = (IF_RA_MANAGED | IF_RA_OTHERCONF) & !flags;
    ip.flags6.fetch_and(!gone, Ordering::Relaxed);
    ip.autoconf.ask_ns.store(0, Ordering::Relaxed);
    if ip.settings6.is_on(v6::ACCEPT_RA_DEFRTR) {
        default_route(device, ip, heard);
    }
    believe_times(ip, heard);
    if heard.hop_limit != 0 {
        ip.settings6.put(v6::HOP_LIMIT, heard.hop_limit.into());
    }
    if ip.settings6.is_on(v6::ACCEPT_RA_PINFO) {
        for prefix in &heard.prefixes {
            believe_prefix(rtnl, device, ip, prefix);
        }
    }
    let most = device.mtu();
    if let Some(mtu) = heard.mtu.filter(|mtu| (super::device::MTU_LEAST_6..=most).contains(mtu))
        && ip.settings6.is_on(v6::ACCEPT_RA_MTU)
    {
        ip.settings6.put(v6::MTU, mtu as i32);
        super::route::changed(&device.namespace());
    }
    if before & flags != flags {
        ip.touch();
        crate::netlink::route::link::announce6(&device.namespace(), device, ip);
    }
}

/// How neighbours are to be asked on the link (RFC 4861 section 6.3.4).
fn believe_times(ip: &IpDevice, heard: &Told) {
    let settings = ip.neighbours(true).settings();
    let number = |milliseconds| i32::try_from(milliseconds).ok().filter(|number| *number != 0);
    if let Some(retransmit) = number(heard.retransmit_ms) {
        settings.choose(which::RETRANSMIT, retransmit);
    }
    if let Some(reachable) =
        number(heard.reachable_ms).filter(|ms| *ms != settings.get(which::BASE_REACHABLE))
    {
        settings.choose(which::BASE_REACHABLE, reachable);
        settings.choose(which::STALE, reachable.saturating_mul(3));
    }
}

/// Adds, renews or takes out the default route through a router.
fn default_route(device: &Arc<NetDevice>, ip: &IpDevice, heard: &Told) {
    let net = device.namespace();
    let mut metrics = [0; super::route::table::METRICS];
    metrics[usize::from(RTAX_HOPLIMIT)] = heard.hop_limit.into();
    let takes_preference = ip.settings6.is_on(v6::ACCEPT_RA_RTR_PREF) && heard.preference != 2;
    let wanted = Wanted {
        protocol: RTPROT_RA,
        flags: RTF_ADDRCONF | RTF_DEFAULT,
        priority: ip.settings6.get(v6::RA_DEFRTR_METRIC) as u32,
        hop: WantedHop { index: device.index(), gateway: Some(heard.router.into()), ..WantedHop::default() },
        metrics: (heard.hop_limit != 0).then_some(metrics),
        preference: if takes_preference { heard.preference } else { ICMPV6_ROUTER_PREF_MEDIUM },
        expires: Some(heard.lifetime.into()),
        ..Wanted::to(true, Prefix::new(0, 0))
    };
    renew(&net, &wanted, heard.lifetime.into());
}

/// Puts a route in the place of the same one with another time; with none it goes.
fn renew(net: &Arc<NetState>, wanted: &Wanted, left: u32) {
    let origin = Origin::default();
    let was_there = change::delete(net, &Wanted { metrics: None, ..wanted.clone() }, &origin).is_ok();
    let main = net.ip.control.tables(true).get(wanted.table);
    if !was_there && main.is_some_and(|main| main.len() >= ROUTES_MOST) {
        return;
    }
    if left != 0 && change::add(net, wanted, MODE_CREATE, &origin).is_ok() && left != FOREVER {
        lifetime::watch_at(net, machine::time::now_ns() + u64::from(left) * SECOND_NS);
    }
}

/// A prefix of the link: a route to it, and an address in it (`addrconf_prefix_rcv`).
fn believe_prefix(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, ip: &Arc<IpDevice>, told: &PrefixInformation) {
    let is_wrong =
        told.prefix.is_multicast() || told.prefix.is_unicast_link_local() || told.preferred > told.valid;
    if is_wrong {
        return;
    }
    let network = super::address::network_of(told.prefix.into(), told.length);
    if told.is_on_link {
        let wanted = Wanted {
            flags: RTF_ADDRCONF | RTF_PREFIX_RT,
            priority: PRIORITY_ADDRESS_6,
            hop: WantedHop { index: device.index(), ..WantedHop::default() },
            expires: (told.valid != FOREVER).then_some(told.valid),
            ..Wanted::to(true, network)
        };
        renew(&device.namespace(), &wanted, told.valid);
    }
    if told.is_autonomous
        && told.length == NETWORK_BITS
        && ip.settings6.is_on(v6::AUTOCONF)
        && let Some(identifier) = identifier(device)
    {
        let local = Ipv6Addr::from_bits(network.key | u128::from(identifier));
        believe_address(rtnl, device, ip, local, told);
    }
}

/// An address that follows from a prefix: made, or its time renewed.
fn believe_address(
    rtnl: &Rtnl<'_>,
    device: &Arc<NetDevice>,
    ip: &Arc<IpDevice>,
    local: Ipv6Addr,
    told: &PrefixInformation,
) {
    let net = device.namespace();
    match ip.addresses6.get(local.into()) {
        None => {
            let most = usize::try_from(ip.settings6.get(v6::MAX_ADDRESSES)).unwrap_or(0);
            let is_full = most != 0 && ip.addresses6.len() >= most;
            if told.valid == 0 || is_full {
                return;
            }
            let mut address = Address::new(local.into(), NETWORK_BITS, RT_SCOPE_UNIVERSE, device.name());
            address.set_lifetimes(told.valid, told.preferred);
            address.flags = address.flags & !IFA_F_PERMANENT | IFA_F_MANAGETEMPADDR;
            address.protocol = IFAPROT_KERNEL_RA;
            if let Ok(address) = inet6::place(rtnl, device, address) {
                begin_detection(rtnl, device, &address);
                lifetime::watch(&net, &address);
            }
        }
        Some(known) if !known.has(IFA_F_PERMANENT) => {
            let left = known.remaining().1;
            let valid = if told.valid > LEAST_VALID || told.valid > left {
                told.valid
            } else if left <= LEAST_VALID {
                left
            } else {
                LEAST_VALID
            };
            let mut renewed = (*known).clone();
            let kept = renewed.flags & !(IFA_F_DEPRECATED | IFA_F_PERMANENT);
            renewed.set_lifetimes(valid, told.preferred.min(valid));
            renewed.flags = kept | renewed.flags & IFA_F_DEPRECATED;
            if let Ok(renewed) = inet6::replace(&net, ip, renewed) {
                lifetime::watch(&net, &renewed);
                announce(&net, linux::RTM_NEWADDR, device, &renewed, &Origin::default());
            }
        }
        Some(_) => {}
    }
}

/// Somebody else has an address that is to be ours. Preemption is off.
pub(crate) fn is_taken(device: &Arc<NetDevice>, address: Ipv6Addr) {
    later(device, move |device| with_rtnl(device, |rtnl, device, ip| give_up(rtnl, device, ip, address)));
}

/// An address is a duplicate (`addrconf_dad_failure`).
fn give_up(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, ip: &Arc<IpDevice>, local: Ipv6Addr) {
    let found = ip.addresses6.get(local.into()).filter(|found| found.has(IFA_F_TENTATIVE));
    let Some(address) = found.filter(|found| !found.has(IFA_F_DADFAILED)) else { return };
    log::info!("IPv6 duplicate address {local} detected on {}", device.name());
    if !address.has(IFA_F_PERMANENT) {
        return inet6::remove(rtnl, device, &address, &Origin::default());
    }
    let flags = address.flags | IFA_F_DADFAILED;
    let net = device.namespace();
    if let Ok(failed) = inet6::replace(&net, ip, Address { flags, probe_ns: 0, ..(*address).clone() }) {
        announce(&net, linux::RTM_NEWADDR, device, &failed, &Origin::default());
    }
}
