//! `bridge`: a switch in software: frames go where their address was last heard from (bridge(8), IEEE 802.1D without its tree).
//!
//! | file | what |
//! |---|---|
//! | `port` | devices become ports and cease to be |
//! | `table`, `own` | which address is behind which port; which are the machine's own, and what ages |
//! | `vlans` | which VLANs reach which port |
//! | `forward` | the way of a frame |
//! | `options` | IFLA_INFO_DATA, IFLA_INFO_SLAVE_DATA, IFLA_PROTINFO |
//! | `attributes` | the files in `/sys` |
//! | `notify` | who hears of ports and entries |
//!
//! Key type: [`Bridge`]. Without an address or MTU of its administrator's the bridge has the least of its ports'. Spanning tree and
//! multicast snooping are not there: asking for them is refused, groups are flooded.
//! Locks: rtnl for what is configured; the table (spin), the count of live ports (spin), both leaves that packets take.

pub(crate) mod attributes;
mod forward;
pub(crate) mod notify;
pub(crate) mod options;
mod own;
pub(crate) mod port;
pub(crate) mod table;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod vlans;

pub(crate) use port::Port;

use abi::errno::Result;
use abi::link::ETH_P_8021Q;
use abi::rtnetlink as linux;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linnet_lib::netlink::Outcome;
use machine::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use machine::sync::{RcuArc, RwSpinLock, SpinLock};
use sched::timer::Timer;

use super::{
    DeviceEvent, DeviceOperations, HardwareAddress, LinkKind, LowerChange, NetDevice, NewLink, Rtnl,
    Template, change, check_ethernet_address, random_address,
};
use crate::packet::Packet;
use table::{Key, Table};
pub(crate) use vlans::Vlans;

/// The kind.
pub static KIND: LinkKind = LinkKind {
    fill: Some(options::fill),
    fill_port: Some(options::fill_port),
    change: Some(options::change),
    change_port: Some(options::change_port),
    validate: options::validate,
    attach: options::attach,
    ..LinkKind::plain("bridge", create)
};

/// Hundredths of a second, in which spanning tree's times are told.
const TICK_NS: u64 = 10_000_000;

/// A number of a bridge that its administrator sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Setting {
    ForwardDelay,
    HelloTime,
    MostAge,
    Ageing,
    Priority,
    GroupForwardMask,
    NoLinkLocalLearn,
    MostLearned,
    VlanFiltering,
    VlanProtocol,
    DefaultVlan,
}

/// What the settings are at first.
const SETTINGS: [u32; 11] = [1500, 200, 2000, 30_000, 0x8000, 0, 0, 0, 0, ETH_P_8021Q as u32, 1];

/// What a bridge's driver keeps.
pub(crate) struct Bridge {
    /// In the order of their numbers.
    pub(crate) ports: RcuArc<Vec<Arc<Port>>>,
    pub(crate) table: RwSpinLock<Table>,
    settings: [AtomicU32; SETTINGS.len()],
    /// Ports that forward.
    live: SpinLock<usize>,
    pub(crate) group_address: SpinLock<[u8; 6]>,
    has_own_address: AtomicBool,
    has_own_mtu: AtomicBool,
    /// The VLANs that the bridge itself is in.
    pub(crate) vlans: Vlans,
    /// When what aged is next removed; 0: nothing is expected to.
    next_collection: AtomicU64,
    timer: SpinLock<Option<Timer>>,
}

impl Bridge {
    fn new() -> Bridge {
        Bridge {
            ports: RcuArc::empty(),
            table: RwSpinLock::new(Table::default()),
            settings: SETTINGS.map(AtomicU32::new),
            live: SpinLock::new(0),
            group_address: SpinLock::new([0x01, 0x80, 0xc2, 0, 0, 0]),
            has_own_address: AtomicBool::new(false),
            has_own_mtu: AtomicBool::new(false),
            vlans: Vlans::new(),
            next_collection: AtomicU64::new(0),
            timer: SpinLock::new(None),
        }
    }

    /// A setting; times are in hundredths of a second.
    pub(crate) fn setting(&self, which: Setting) -> u32 {
        self.settings[which as usize].load(Ordering::Relaxed)
    }

    /// Sets one. Linux keeps times in its own ticks of 4 ms, so that of some a hundredth is lost.
    pub(crate) fn set(&self, which: Setting, value: u32) {
        let kept = match which {
            Setting::ForwardDelay | Setting::HelloTime | Setting::MostAge | Setting::Ageing => {
                (u64::from(value) * 5 / 2 * 2 / 5) as u32
            }
            _ => value,
        };
        self.settings[which as usize].store(kept, Ordering::Relaxed);
    }

    /// How long an address is known after it was last heard from.
    pub(crate) fn ageing_ns(&self) -> u64 {
        u64::from(self.setting(Setting::Ageing)) * TICK_NS
    }

    /// Priority and address together: the bridge's identifier.
    pub(crate) fn identifier(&self, device: &NetDevice) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[..2].copy_from_slice(&(self.setting(Setting::Priority) as u16).to_be_bytes());
        // A bridge without ports and without an address of its administrator's has none to be known by.
        let has_any = self.has_own_address.load(Ordering::Relaxed)
            || self.ports.load_arc().is_some_and(|ports| !ports.is_empty());
        if has_any {
            bytes[2..].iter_mut().zip(&device.address()).for_each(|(place, byte)| *place = *byte);
        }
        bytes
    }

    /// The port of a number.
    pub(crate) fn port_numbered(&self, number: table::PortNumber) -> Option<Arc<Port>> {
        let ports = self.ports.load_arc()?;
        let place = ports.binary_search_by_key(&number, |port| port.number).ok()?;
        Some(ports[place].clone())
    }

    /// Takes address and MTU from the ports where the administrator said nothing.
    fn adopt(&self, rtnl: &Rtnl<'_>, device: &Arc<NetDevice>) {
        let ports = self.ports.load_arc();
        let ports = ports.as_ref().map_or(&[][..], |ports| ports);
        if !self.has_own_mtu.load(Ordering::Relaxed) {
            let least = ports.iter().map(|port| port.device.mtu()).min().unwrap_or(1500);
            change::store_mtu(rtnl, device, least);
        }
        if !self.has_own_address.load(Ordering::Relaxed) {
            let least = ports.iter().map(|port| port.device.address()).min();
            let address = least.unwrap_or_else(|| HardwareAddress::from_iter([0; 6]));
            if address != device.address() {
                change::store_address(rtnl, device, address);
                self.readdress(device, None);
                self.evaluate_carrier(rtnl, device);
            }
        }
    }
}

impl DeviceOperations for Bridge {
    fn transmit(&self, device: &Arc<NetDevice>, packet: Packet) {
        self.send(device, packet);
    }

    fn open(&self, _device: &Arc<NetDevice>, rtnl: &Rtnl<'_>) -> Result<()> {
        self.evaluate_all(rtnl);
        Ok(())
    }

    fn stop(&self, _device: &Arc<NetDevice>, rtnl: &Rtnl<'_>) {
        self.evaluate_all(rtnl);
    }

    fn speed(&self, _device: &NetDevice) -> Option<(i32, &'static str)> {
        let ports = self.ports.load_arc();
        let ports = ports.as_ref().map_or(&[][..], |ports| ports);
        let speed = |port: &Arc<Port>| port.device.operations().speed(&port.device).map(|(speed, _)| speed);
        Some((ports.iter().filter_map(speed).max().unwrap_or(-1), "unknown"))
    }

    fn check_address(&self, _device: &NetDevice, address: &[u8]) -> Result<()> {
        check_ethernet_address(address)
    }

    fn was_set(&self, device: &Arc<NetDevice>, event: DeviceEvent, rtnl: &Rtnl<'_>) {
        match event {
            DeviceEvent::AddressChanged => {
                self.has_own_address.store(true, Ordering::Relaxed);
                self.readdress(device, None);
                self.evaluate_carrier(rtnl, device);
            }
            DeviceEvent::MtuChanged => self.has_own_mtu.store(true, Ordering::Relaxed),
            _ => {}
        }
    }

    fn enslave(&self, rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, slave: &Arc<NetDevice>) -> Outcome<()> {
        port::enslave(rtnl, device, slave)
    }

    fn release(&self, rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, slave: &Arc<NetDevice>) {
        port::release(rtnl, device, slave);
    }

    fn lower_changed(
        &self,
        device: &Arc<NetDevice>,
        lower: &Arc<NetDevice>,
        change: LowerChange,
        rtnl: &Rtnl<'_>,
    ) {
        let Some(port) = self.port_of(lower) else { return };
        match change {
            LowerChange::Address => {
                self.readdress(device, Some(&port));
                self.adopt(rtnl, device);
            }
            LowerChange::Mtu => self.adopt(rtnl, device),
            _ => {
                port.adopt_cost();
                self.evaluate(rtnl, &port);
            }
        }
    }

    fn uninit(&self, _device: &Arc<NetDevice>, rtnl: &Rtnl<'_>) {
        port::release_all(rtnl, self);
        let timer = self.timer.lock().take();
        drop(timer);
        let old = core::mem::take(&mut *self.table.write());
        drop(old);
    }
}

/// One that is in no table yet. `ENOMEM`.
fn create(new: &NewLink<'_>) -> Outcome<Arc<NetDevice>> {
    let template = Template {
        hardware_type: linux::ARPHRD_ETHER,
        flags: linux::IFF_BROADCAST | linux::IFF_MULTICAST,
        mtu: 1500,
        mtu_range: (68, 65535),
        address: new.address.clone().unwrap_or_else(random_address),
        broadcast: HardwareAddress::from_iter([0xff; 6]),
        queues: 1,
        is_bound: true,
        kind: Some(&KIND),
    };
    let bridge = Bridge::new();
    bridge.has_own_address.store(new.address.is_some(), Ordering::Relaxed);
    bridge.has_own_mtu.store(new.attributes.has(linux::IFLA_MTU), Ordering::Relaxed);
    Ok(NetDevice::new(new.namespace, template, Box::new(bridge))?)
}
