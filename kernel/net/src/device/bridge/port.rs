//! A bridge's port: a device that gives its frames to the bridge; how one becomes it and ceases to be it (`br_add_if`).
//!
//! Key type: [`Port`]. Its numbers are atomics that the way of a frame reads. It holds its device and its bridge, and its device
//! holds it as the receiver of its frames: [`release`] undoes both.
//! Locks: rtnl for coming and going; the bridge's count of live ports (spin) for the state.

use abi::errno::{Errno, Result};
use abi::link as linux;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use linnet_lib::netlink::{Failure, Outcome};
use machine::memory::{try_arc, try_box};
use machine::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

use super::forward::Ingress;
use super::table::{EXTERNAL, PortNumber, STATIC};
use super::{Bridge, Vlans, notify};
use crate::device::adjacency::{self, Role};
use crate::device::{NetDevice, ReceiveHandler, Rtnl, change, check_ethernet_address};

/// How many ports a bridge has at most (`BR_MAX_PORTS`).
const PORTS_MAX: PortNumber = 1023;
/// Bits of a port's number in its identifier; its priority is above.
const NUMBER_BITS: u32 = 10;

/// What it costs to send through a device, by its speed (`port_cost`, IEEE 802.1D-1998 table 8-5).
fn cost_of(device: &NetDevice) -> u32 {
    match device.operations().speed(device) {
        Some((..100, _)) | None => 100,
        Some((100..1000, _)) => 19,
        Some((1000..10_000, _)) => 4,
        Some((10_000, _)) => 2,
        Some(_) => 1,
    }
}

/// A port.
pub(crate) struct Port {
    /// Its device.
    pub(crate) device: Arc<NetDevice>,
    /// The bridge's device.
    pub(crate) bridge: Arc<NetDevice>,
    /// From 1.
    pub(crate) number: PortNumber,
    state: AtomicU8,
    /// A bit for each IFLA_BRPORT_* that is on or off.
    flags: AtomicU64,
    cost: AtomicU32,
    /// The administrator said what it costs.
    has_own_cost: AtomicBool,
    priority: AtomicU32,
    group_forward_mask: AtomicU32,
    /// The VLANs that it is in.
    pub(crate) vlans: Vlans,
    gone: AtomicBool,
}

impl Port {
    fn new(bridge: &Arc<NetDevice>, device: &Arc<NetDevice>, number: PortNumber) -> Port {
        let flags = [
            linux::IFLA_BRPORT_LEARNING,
            linux::IFLA_BRPORT_UNICAST_FLOOD,
            linux::IFLA_BRPORT_MCAST_FLOOD,
            linux::IFLA_BRPORT_BCAST_FLOOD,
        ];
        Port {
            device: device.clone(),
            bridge: bridge.clone(),
            number,
            state: AtomicU8::new(linux::BR_STATE_DISABLED),
            flags: AtomicU64::new(flags.iter().fold(0, |bits, flag| bits | 1 << flag)),
            cost: AtomicU32::new(cost_of(device)),
            has_own_cost: AtomicBool::new(false),
            priority: AtomicU32::new(0x8000 >> NUMBER_BITS),
            group_forward_mask: AtomicU32::new(0),
            vlans: Vlans::new(),
            gone: AtomicBool::new(false),
        }
    }

    /// What the bridge's driver keeps.
    pub(crate) fn bridge_operations(&self) -> Option<&Bridge> {
        self.bridge.operations_as()
    }
    /// BR_STATE_*.
    pub(crate) fn state(&self) -> u8 {
        self.state.load(Ordering::Relaxed)
    }
    /// Whether something (IFLA_BRPORT_*) is on.
    pub(crate) fn has(&self, flag: u16) -> bool {
        self.flags.load(Ordering::Relaxed) & 1 << flag != 0
    }
    /// Turns something on or off.
    pub(super) fn set(&self, flag: u16, on: bool) {
        if on {
            self.flags.fetch_or(1 << flag, Ordering::Relaxed);
        } else {
            self.flags.fetch_and(!(1 << flag), Ordering::Relaxed);
        }
    }
    /// What it costs to send through it.
    pub(crate) fn cost(&self) -> u32 {
        self.cost.load(Ordering::Relaxed)
    }
    pub(super) fn set_cost(&self, cost: u32) {
        self.has_own_cost.store(true, Ordering::Relaxed);
        self.cost.store(cost, Ordering::Relaxed);
    }
    /// The device may be as fast as before or not.
    pub(super) fn adopt_cost(&self) {
        if !self.has_own_cost.load(Ordering::Relaxed) && self.is_able() {
            self.cost.store(cost_of(&self.device), Ordering::Relaxed);
        }
    }
    /// Whether its device is up and has carrier.
    pub(super) fn is_able(&self) -> bool {
        self.device.is_up() && self.device.has_carrier()
    }
    /// Its priority.
    pub(crate) fn priority(&self) -> u32 {
        self.priority.load(Ordering::Relaxed)
    }
    pub(super) fn set_priority(&self, priority: u32) {
        self.priority.store(priority, Ordering::Relaxed);
    }
    /// Priority and number together.
    pub(crate) fn identifier(&self) -> u16 {
        (self.priority() << NUMBER_BITS) as u16 | self.number
    }
    /// Which addresses that bridges keep to themselves go through this one.
    pub(crate) fn group_forward_mask(&self) -> u32 {
        self.group_forward_mask.load(Ordering::Relaxed)
    }
    pub(super) fn set_group_forward_mask(&self, mask: u32) {
        self.group_forward_mask.store(mask, Ordering::Relaxed);
    }
    /// Whether it is no port any more.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }
}

impl Bridge {
    /// The port of a device.
    pub(crate) fn port_of(&self, device: &NetDevice) -> Option<Arc<Port>> {
        let number = device.port.load(Ordering::Relaxed) as PortNumber;
        let ports = self.ports.load_arc()?;
        let place = ports.binary_search_by_key(&number, |port| port.number).ok()?;
        Some(ports[place].clone()).filter(|port| core::ptr::eq(&*port.device, device))
    }

    /// Brings a port's state in line with what its device and the bridge are.
    pub(super) fn evaluate(&self, rtnl: &Rtnl<'_>, port: &Arc<Port>) {
        let after = {
            let mut live = self.live.lock();
            let able = !port.is_gone() && port.bridge.is_up() && port.is_able();
            let before = port.state();
            let after = match (able, before) {
                (true, linux::BR_STATE_DISABLED) => linux::BR_STATE_FORWARDING,
                (true, before) => before,
                (false, _) => linux::BR_STATE_DISABLED,
            };
            if before == after {
                None
            } else {
                *live += usize::from(after == linux::BR_STATE_FORWARDING);
                *live -= usize::from(before == linux::BR_STATE_FORWARDING);
                port.state.store(after, Ordering::Relaxed);
                Some(after)
            }
        };
        let Some(after) = after else { return };
        if after == linux::BR_STATE_DISABLED {
            self.forget(port, |view| view.flags & (STATIC | EXTERNAL) == 0);
        }
        notify::port(port, abi::rtnetlink::RTM_NEWLINK);
        self.evaluate_carrier(rtnl, &port.bridge);
    }

    /// Sets a port's state as the administrator says. `EINVAL`: there is no such; `ENETDOWN`: its device is down, or has no carrier
    /// and shall be more than disabled.
    pub(super) fn set_state(&self, rtnl: &Rtnl<'_>, port: &Arc<Port>, state: u8) -> Result<()> {
        if state > linux::BR_STATE_BLOCKING {
            return Err(Errno::EINVAL);
        }
        if !port.device.is_up() || !port.device.has_carrier() && state != linux::BR_STATE_DISABLED {
            return Err(Errno::ENETDOWN);
        }
        {
            let mut live = self.live.lock();
            *live += usize::from(state == linux::BR_STATE_FORWARDING);
            *live -= usize::from(port.state() == linux::BR_STATE_FORWARDING);
            port.state.store(state, Ordering::Relaxed);
        }
        self.evaluate_carrier(rtnl, &port.bridge);
        Ok(())
    }

    /// Brings all ports' states in line.
    pub(super) fn evaluate_all(&self, rtnl: &Rtnl<'_>) {
        if let Some(ports) = self.ports.load_arc() {
            ports.iter().for_each(|port| self.evaluate(rtnl, port));
        }
    }

    /// The bridge has carrier while a port forwards.
    pub(super) fn evaluate_carrier(&self, rtnl: &Rtnl<'_>, bridge: &Arc<NetDevice>) {
        let live = *self.live.lock() > 0;
        if live { change::carrier_on(rtnl, bridge) } else { change::carrier_off(rtnl, bridge) }
    }

    fn free_number(ports: &[Arc<Port>]) -> Option<PortNumber> {
        let gap = ports.iter().zip(1..).find(|(port, number)| port.number != *number);
        gap.map(|(_, number)| number)
            .or_else(|| Some(ports.len() as PortNumber + 1))
            .filter(|number| *number <= PORTS_MAX)
    }

    /// The list with one more port or one less. `None` without memory.
    fn list_with(
        &self,
        added: Option<&Arc<Port>>,
        removed: Option<&Arc<Port>>,
    ) -> Option<Arc<Vec<Arc<Port>>>> {
        let old = self.ports.load_arc();
        let old = old.as_ref().map_or(&[][..], |ports| ports);
        let mut list = Vec::new();
        list.try_reserve_exact(old.len() + 1).ok()?;
        let stays =
            |port: &&Arc<Port>| !port.is_gone() && !removed.is_some_and(|gone| Arc::ptr_eq(gone, port));
        list.extend(old.iter().filter(stays).cloned());
        if let Some(added) = added {
            let place = list.partition_point(|port| port.number < added.number);
            list.insert(place, added.clone());
        }
        try_arc(list).ok()
    }
}

/// What a port's device must be.
fn check(device: &Arc<NetDevice>) -> Outcome<()> {
    if !device.is_ethernet() || check_ethernet_address(&device.address()).is_err() {
        return Err(Errno::EINVAL.into());
    }
    if device.operations_as::<Bridge>().is_some() {
        return Err(Failure::new(Errno::ELOOP, "Can not enslave a bridge to a bridge"));
    }
    if device.adjacency.master().is_some() || !device.handler.is_none() {
        return Err(Errno::EBUSY.into());
    }
    Ok(())
}

/// Makes a device a port.
///
/// # Errors
/// `EINVAL`: it is no Ethernet device; `ELOOP`: it is a bridge; `EBUSY`: it belongs to something else; `EXFULL`: too many ports;
/// `EMLINK`, `ENOMEM`.
pub(super) fn enslave(
    rtnl: &Rtnl<'_>,
    bridge_device: &Arc<NetDevice>,
    device: &Arc<NetDevice>,
) -> Outcome<()> {
    let Some(bridge) = bridge_device.operations_as::<Bridge>() else { return Err(Errno::EOPNOTSUPP.into()) };
    check(device)?;
    let old = bridge.ports.load_arc();
    let number = Bridge::free_number(old.as_ref().map_or(&[], |ports| ports)).ok_or(Errno::EXFULL)?;
    let port = try_arc(Port::new(bridge_device, device, number)).map_err(|_| Errno::ENOMEM)?;
    let boxed = try_box(Ingress(port.clone())).map_err(|_| Errno::ENOMEM)?;
    let handler = try_arc(boxed as Box<dyn ReceiveHandler>).map_err(|_| Errno::ENOMEM)?;
    let list = bridge.list_with(Some(&port), None).ok_or(Errno::ENOMEM)?;
    adjacency::link(rtnl, bridge_device, device, Role::Master)?;
    device.port.store(number.into(), Ordering::Relaxed);
    bridge.ports.replace(Some(list));
    device.set_receive_handler(rtnl, Some(handler));
    change::count_all_multicast(rtnl, device, true);
    change::count_promiscuous(rtnl, device, true);
    bridge.add_own(bridge_device, Some(&port), 0);
    bridge.join_default(bridge_device, Some(&port));
    bridge.adopt(rtnl, bridge_device);
    bridge.evaluate(rtnl, &port);
    notify::port(&port, abi::rtnetlink::RTM_NEWLINK);
    Ok(())
}

/// Makes a device no port any more. Without memory for a shorter list it stays on the list, disabled, until the list next changes.
pub(super) fn release(rtnl: &Rtnl<'_>, bridge_device: &Arc<NetDevice>, device: &Arc<NetDevice>) {
    let Some(bridge) = bridge_device.operations_as::<Bridge>() else { return };
    let Some(port) = bridge.port_of(device) else { return };
    let list = bridge.list_with(None, Some(&port));
    detach(rtnl, bridge, &port);
    if let Some(list) = list {
        bridge.ports.replace(Some(list));
    }
    // An address that was the port's may be the bridge's too.
    bridge.readdress(bridge_device, None);
    bridge.adopt(rtnl, bridge_device);
}

/// All that ties a port to its bridge but the bridge's list.
fn detach(rtnl: &Rtnl<'_>, bridge: &Bridge, port: &Arc<Port>) {
    let device = &port.device;
    device.set_receive_handler(rtnl, None);
    {
        // Whoever learns has the table's lock and looks at this under it.
        let _table = bridge.table.write();
        port.gone.store(true, Ordering::Release);
    }
    bridge.evaluate(rtnl, port);
    bridge.evaluate_carrier(rtnl, &port.bridge);
    notify::port(port, abi::rtnetlink::RTM_DELLINK);
    bridge.forget(port, |_| true);
    change::count_promiscuous(rtnl, device, false);
    change::count_all_multicast(rtnl, device, false);
    device.port.store(0, Ordering::Relaxed);
    adjacency::unlink(&port.bridge, device);
}

/// The bridge goes: no device is its port any more.
pub(super) fn release_all(rtnl: &Rtnl<'_>, bridge: &Bridge) {
    let Some(ports) = bridge.ports.load_arc() else { return };
    for port in ports.iter() {
        detach(rtnl, bridge, port);
        crate::netlink::route::link::announce(&port.device, 0);
    }
    bridge.ports.replace(None);
}
