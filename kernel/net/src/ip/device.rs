//! What IP keeps for a device, and how it follows what happens to devices (`inetdev_event`, `addrconf_notify`, `fib_netdev_event`).
//!
//! Key types: [`IpDevice`], [`IpDeviceState`] (the field of a [`NetDevice`]: set when the device is registered in a namespace, empty
//! when it is not). Locks: changed under [`Rtnl`]; read without a lock.

use abi::errno::Result;
use abi::rtnetlink::{IFF_LOOPBACK, IFF_NOARP};
use alloc::sync::Arc;
use core::net::{IpAddr, Ipv4Addr};
use machine::memory::try_arc;
use machine::sync::RcuArc;
use machine::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::address::{Address, AddressList, inet, inet6, now_hundredths};
use super::autoconf::{self, Autoconf};
use super::config::{Settings4, Settings6, v6};
use super::map::RcuMap;
use super::multicast::Memberships;
use super::neighbour::Neighbours;
use super::reports::{Changes, Querier};
use super::route::{self, table::Entry};
use crate::device::{DeviceEvent, NetDevice, Rtnl};
use crate::netlink::route::netconf;

/// IPv4 needs packets of so many bytes.
pub const MTU_LEAST_4: u32 = 68;
/// IPv6 needs packets of so many bytes.
pub const MTU_LEAST_6: u32 = 1280;

/// What IP keeps for a device in its namespace.
pub struct IpDevice {
    /// Its IPv4 addresses.
    pub addresses4: AddressList,
    /// Its IPv6 addresses.
    pub addresses6: AddressList,
    /// Its settings of IPv4.
    pub settings4: Settings4,
    /// Its settings of IPv6.
    pub settings6: Settings6,
    /// Whether it speaks IPv4: its MTU is large enough.
    pub(crate) has4: AtomicBool,
    /// The same for IPv6.
    pub(crate) has6: AtomicBool,
    /// IFLA_INET6_FLAGS.
    pub(crate) flags6: AtomicU32,
    /// When its IPv6 settings changed.
    pub(crate) updated6: AtomicU32,
    /// The routes through it, by number.
    pub(crate) routes: RcuMap<Arc<Entry>>,
    /// Its neighbours of IPv4 and IPv6.
    neighbours: [Neighbours; 2],
    /// Its multicast groups.
    pub(crate) groups: Memberships,
    /// Of each family, what of them routers are still to be told.
    changes: [Changes; 2],
    /// Which routers of older days are there.
    pub(crate) querier: Querier,
    /// Solicitation of routers and what came of it.
    pub(crate) autoconf: Autoconf,
    /// How many messages from the link wait for a worker.
    backlog: AtomicU32,
}

/// Messages of one device that wait for a worker at most: those beyond are lost, as on a busy link.
const BACKLOG_MOST: u32 = 64;

impl IpDevice {
    fn new(device: &NetDevice) -> Result<Arc<IpDevice>> {
        let namespace = device.namespace();
        let control = &namespace.ip.control;
        let settings6 = control.default6.copy();
        if device.flags() & (IFF_LOOPBACK | IFF_NOARP) != 0 {
            settings6.put(v6::ACCEPT_DAD, -1);
        }
        if device.is_loopback() {
            settings6.put(v6::USE_TEMPADDR, -1);
        }
        settings6.put(v6::MTU, device.mtu() as i32);
        let settings4 = control.default4.copy();
        if device.is_loopback() {
            settings4.put(super::config::v4::DISABLE_XFRM, 1);
            settings4.put(super::config::v4::DISABLE_POLICY, 1);
        }
        Ok(try_arc(IpDevice {
            addresses4: AddressList::new(),
            addresses6: AddressList::new(),
            settings4,
            settings6,
            has4: AtomicBool::new(device.mtu() >= MTU_LEAST_4),
            has6: AtomicBool::new(device.mtu() >= MTU_LEAST_6),
            flags6: AtomicU32::new(0),
            updated6: AtomicU32::new(now_hundredths()),
            routes: RcuMap::new(),
            neighbours: [Neighbours::new(false)?, Neighbours::new(true)?],
            groups: Memberships::new(),
            changes: [const { Changes::new() }; 2],
            querier: Querier::new(),
            autoconf: Autoconf::new(),
            backlog: AtomicU32::new(0),
        })?)
    }

    /// The addresses of a family.
    pub fn addresses(&self, is_v6: bool) -> &AddressList {
        if is_v6 { &self.addresses6 } else { &self.addresses4 }
    }

    /// Its neighbours of a family.
    pub fn neighbours(&self, is_v6: bool) -> &Neighbours {
        &self.neighbours[usize::from(is_v6)]
    }

    /// What routers are still to be told of its groups of a family.
    pub(crate) fn changes(&self, is_v6: bool) -> &Changes {
        &self.changes[usize::from(is_v6)]
    }

    /// Whether it speaks a family.
    pub fn has(&self, is_v6: bool) -> bool {
        if is_v6 { &self.has6 } else { &self.has4 }.load(Ordering::Relaxed)
    }

    /// Somebody configures IPv4 here: from now on what is set for all new interfaces leaves this one as it is.
    pub(crate) fn touch_settings4(&self) {
        self.settings4.touch_all();
        self.neighbours(false).settings().touch_all();
    }

    /// Notes that its IPv6 settings changed.
    pub(crate) fn touch(&self) {
        self.updated6.store(now_hundredths(), Ordering::Relaxed);
    }
}

/// Has a worker do something about a message from the link of a device, unless there is too much of that or no memory. Any context.
pub(crate) fn later(device: &Arc<NetDevice>, act: impl FnOnce(&Arc<NetDevice>) + Send + 'static) {
    let Some(ip) = device.ip() else { return };
    if ip.backlog.fetch_add(1, Ordering::Relaxed) >= BACKLOG_MOST {
        ip.backlog.fetch_sub(1, Ordering::Relaxed);
        return;
    }
    let (device, own) = (device.clone(), ip.clone());
    let work = move || {
        act(&device);
        own.backlog.fetch_sub(1, Ordering::Relaxed);
    };
    if sched::work::queue(work).is_err() {
        ip.backlog.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The field of a [`NetDevice`].
#[derive(Default)]
pub struct IpDeviceState(RcuArc<IpDevice>);

impl NetDevice {
    /// What IP keeps for it; `None` while it is in no namespace. Any context.
    pub fn ip(&self) -> Option<Arc<IpDevice>> {
        self.ip.0.load_arc()
    }
}

/// Follows a device. `ENOMEM` for one that is new.
pub(crate) fn follow(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, event: DeviceEvent) -> Result<()> {
    if event == DeviceEvent::Registered {
        return register(device);
    }
    let Some(ip) = device.ip() else { return Ok(()) };
    match event {
        DeviceEvent::Up => up(rtnl, device, &ip),
        DeviceEvent::Down => down(rtnl, device, &ip),
        DeviceEvent::Changed => {
            if !device.has_carrier() {
                route::nexthop::device_down(&device.namespace(), device);
            }
            route::sync::carrier(device, &ip);
            autoconf::carrier(rtnl, device, &ip);
        }
        DeviceEvent::MtuChanged => mtu_changed(rtnl, device, &ip),
        DeviceEvent::NameChanged => rename(device, &ip),
        DeviceEvent::Unregistered => unregister(rtnl, device, &ip),
        DeviceEvent::Registered | DeviceEvent::GoingDown | DeviceEvent::AddressChanged => {}
    }
    Ok(())
}

fn register(device: &Arc<NetDevice>) -> Result<()> {
    let ip = IpDevice::new(device)?;
    ip.groups.begin(ip.has(true))?;
    device.ip.0.replace(Some(ip.clone()));
    netconf::announce_device(device, &ip);
    Ok(())
}

fn up(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, ip: &Arc<IpDevice>) {
    if ip.has(false) {
        if device.is_loopback() && ip.addresses4.is_empty() {
            let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
            ip.touch_settings4();
            let address = Address::new(local, 8, abi::route::RT_SCOPE_HOST, device.name());
            if let Err(failure) = inet::add(rtnl, device, address, &Default::default()) {
                log::warn!("lo has no address: {:?}", failure.errno);
            }
        }
        inet::routes_up(device, ip);
    }
    if ip.has(true) {
        autoconf::up(rtnl, device, ip);
    }
    ip.groups.up(device);
    route::sync::up(device, ip);
}

fn down(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, ip: &Arc<IpDevice>) {
    ip.groups.down();
    ip.changes.iter().for_each(Changes::clear);
    ip.neighbours.iter().for_each(|neighbours| neighbours.clear(device));
    route::nexthop::device_down(&device.namespace(), device);
    route::sync::down(device, ip);
    inet6::device_down(rtnl, device, ip, false);
}

fn mtu_changed(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, ip: &Arc<IpDevice>) {
    let mtu = device.mtu();
    if mtu < MTU_LEAST_4 && ip.has4.swap(false, Ordering::Relaxed) {
        inet::remove_all(rtnl, device, ip);
        route::sync::flush4(device, ip);
    } else if mtu >= MTU_LEAST_4 {
        ip.has4.store(true, Ordering::Relaxed);
    }
    if mtu >= MTU_LEAST_6 {
        ip.settings6.put(v6::MTU, mtu as i32);
        ip.touch();
        if !ip.has6.swap(true, Ordering::Relaxed) && device.is_up() {
            autoconf::up(rtnl, device, ip);
        }
    } else if ip.has6.swap(false, Ordering::Relaxed) {
        inet6::device_down(rtnl, device, ip, true);
    }
}

/// Labels follow the name of the device (`inetdev_changename`).
fn rename(device: &Arc<NetDevice>, ip: &IpDevice) {
    inet::rename(device, ip);
}

fn unregister(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, ip: &Arc<IpDevice>) {
    ip.autoconf.stop();
    inet6::device_down(rtnl, device, ip, true);
    inet::remove_all(rtnl, device, ip);
    ip.groups.clear();
    ip.changes.iter().for_each(Changes::clear);
    route::sync::flush4(device, ip);
    route::sync::flush6(device, ip);
    netconf::announce_end(device);
    ip.addresses4.clear();
    ip.addresses6.clear();
    ip.routes.clear();
    ip.neighbours.iter().for_each(Neighbours::clear_all);
    device.ip.0.replace(None);
}
