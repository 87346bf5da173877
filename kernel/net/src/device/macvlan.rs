//! `macvlan`: more devices on one, told apart by their addresses: private, vepa, bridge, passthru, source.
//!
//! Key types: [`Macvlan`], [`Switch`] (what receives a lower device's frames for its macvlans: found by address while they are up). A lower
//! device has a switch while it has macvlans, and gives its frames to nobody else then.
//! Locks: the switch's members (spin, leaf); rtnl of the macvlan's namespace, and `COMING` (sleeping, below it) where switches come
//! and go, because the lower device may be in another namespace.

use abi::errno::{Errno, Result};
use abi::link::*;
use abi::rtnetlink as linux;
use alloc::boxed::Box;
use alloc::sync::Arc;
use linnet_lib::netlink::{Attribute, Attributes, Builder, Outcome, Policies, Policy, Strictness};
use linnet_lib::tree::{Item, Node, Tree};
use machine::memory::{try_arc, try_box};
use machine::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use machine::sync::{Mutex, RwSpinLock, SpinLock};

use super::adjacency::{self, Role};
use super::statistics::Counted;
use super::{
    DeviceEvent, DeviceOperations, LinkKind, LowerChange, NetDevice, NewLink, ReceiveHandler, Rtnl, Template,
    change, check_ethernet_address, random_address, registry, traffic, upper, validate_ethernet,
};
use crate::netlink::route::link::Parsed;
use crate::packet::{Packet, PacketKind};

/// The kind.
pub static KIND: LinkKind = LinkKind {
    validate,
    attach,
    change: Some(change_data),
    fill: Some(fill),
    ..LinkKind::plain("macvlan", create)
};

const HEADER: usize = 14;
/// What IFLA_MACVLAN_BC_QUEUE_LEN is unless said otherwise: here the CPU's queue bounds what waits.
const QUEUE_LENGTH: u32 = 1000;
const MODES: [u32; 5] = [
    MACVLAN_MODE_PRIVATE,
    MACVLAN_MODE_VEPA,
    MACVLAN_MODE_BRIDGE,
    MACVLAN_MODE_PASSTHRU,
    MACVLAN_MODE_SOURCE,
];
/// Flags: not promiscuous with passthru; destinations are not looked for.
const FLAGS: u16 = 3;

static POLICIES: Policies = Policies {
    max: IFLA_MACVLAN_BC_CUTOFF,
    rules: &[
        (IFLA_MACVLAN_MODE, Policy::U32),
        (IFLA_MACVLAN_FLAGS, Policy::U16),
        (IFLA_MACVLAN_MACADDR_MODE, Policy::U32),
        (IFLA_MACVLAN_MACADDR, Policy::Binary(linux::MAX_ADDR_LEN)),
        (IFLA_MACVLAN_MACADDR_DATA, Policy::Nest),
        (IFLA_MACVLAN_MACADDR_COUNT, Policy::U32),
        (IFLA_MACVLAN_BC_QUEUE_LEN, Policy::U32),
    ],
};
type Data<'a> = Attributes<'a, { IFLA_MACVLAN_BC_CUTOFF as usize + 1 }>;

/// Covers which lower devices have a switch, and how many macvlans are on it.
static COMING: Mutex<()> = Mutex::new(());

struct Member {
    key: Key,
    device: Arc<NetDevice>,
}

/// Address, and number for those whose address is not looked for.
type Key = ([u8; 6], u64);

impl Item for Member {
    type Key = Key;
    type Summary = ();
    fn key(&self) -> Key {
        self.key
    }
    fn summary(&self) {}
    fn merge((): (), (): ()) {}
}

/// The macvlans of a lower device.
pub(crate) struct Switch {
    /// Those that are up.
    up: RwSpinLock<Tree<Member>>,
    /// All, up or not.
    count: AtomicU32,
    /// The only one takes everything.
    passthru: AtomicU32,
}

impl Switch {
    fn find(&self, address: &[u8; 6]) -> Option<Arc<NetDevice>> {
        let up = self.up.read();
        up.first_from(&(*address, 0))
            .filter(|found| found.key.0 == *address)
            .map(|found| found.device.clone())
    }

    fn next_from(&self, key: &Key) -> Option<(Key, Arc<NetDevice>)> {
        self.up.read().first_from(key).map(|found| (found.key, found.device.clone()))
    }

    /// Gives a copy to every member of one of these modes but one.
    fn broadcast(&self, packet: &Packet, modes: u32, but: Option<&Arc<NetDevice>>) {
        let mut from = ([0; 6], 0);
        while let Some((key, device)) = self.next_from(&from) {
            from = (key.0, key.1 + 1);
            let mode = device.operations_as::<Macvlan>().map_or(0, Macvlan::mode);
            if mode & modes != 0 && !but.is_some_and(|but| Arc::ptr_eq(but, &device)) {
                deliver(&device, packet.clone(), packet.kind);
            }
        }
    }
}

/// Gives a frame, whose bytes begin at its network header, to a macvlan.
fn deliver(device: &Arc<NetDevice>, mut packet: Packet, kind: PacketKind) {
    packet.kind = kind;
    device.statistics.count(Counted::Received, packet.len() + HEADER);
    if kind == PacketKind::Multicast {
        device.statistics.count(Counted::Multicast, 0);
    }
    traffic::receive(device, packet);
}

impl ReceiveHandler for Arc<Switch> {
    fn receive(&self, _device: &Arc<NetDevice>, packet: Packet) -> Option<Packet> {
        let (destination, rest) = packet.from_link_header().split_first_chunk::<6>()?;
        let source: [u8; 6] = *rest.first_chunk()?;
        if destination[0] & 1 != 0 {
            let sender = self.find(&source);
            let mode = sender.as_ref().and_then(|sender| sender.operations_as()).map(Macvlan::mode);
            let modes = match mode {
                None => {
                    MACVLAN_MODE_PRIVATE | MACVLAN_MODE_VEPA | MACVLAN_MODE_PASSTHRU | MACVLAN_MODE_BRIDGE
                }
                Some(MACVLAN_MODE_VEPA) => MACVLAN_MODE_VEPA | MACVLAN_MODE_BRIDGE,
                // Those in bridge mode have seen it when it was sent.
                Some(MACVLAN_MODE_BRIDGE) => MACVLAN_MODE_VEPA,
                // It came back to who sent it.
                Some(_) => 0,
            };
            self.broadcast(&packet, modes, sender.as_ref());
            return Some(packet);
        }
        let found = match self.passthru.load(Ordering::Relaxed) {
            0 => self.find(destination),
            _ => self.next_from(&([0; 6], 0)).map(|(_, device)| device),
        };
        match found.filter(|found| {
            found.operations_as::<Macvlan>().is_some_and(|one| one.mode() != MACVLAN_MODE_SOURCE)
        }) {
            Some(found) => {
                deliver(&found, packet, PacketKind::Host);
                None
            }
            None => Some(packet),
        }
    }
}

struct Macvlan {
    lower: Arc<NetDevice>,
    switch: Arc<Switch>,
    mode: AtomicU32,
    flags: AtomicU32,
    /// What the switch finds it by while it is up.
    key: SpinLock<Option<Key>>,
    /// It counts as one of the switch's.
    attached: AtomicBool,
}

impl Macvlan {
    fn mode(&self) -> u32 {
        self.mode.load(Ordering::Relaxed)
    }

    fn key(device: &NetDevice) -> Option<Key> {
        Some((<[u8; 6]>::try_from(device.address().as_slice()).ok()?, device.number()))
    }

    /// Whether another that is up, or the lower device, has an address.
    fn is_taken(&self, address: &[u8]) -> bool {
        let Ok(address) = <[u8; 6]>::try_from(address) else { return false };
        self.lower.address().as_slice() == address || self.switch.find(&address).is_some()
    }
}

impl DeviceOperations for Macvlan {
    fn transmit(&self, device: &Arc<NetDevice>, mut packet: Packet) {
        let length = packet.len();
        let Some(destination) = packet.bytes().first_chunk::<6>().copied().filter(|_| length >= HEADER)
        else {
            device.statistics.count(Counted::SendDropped, length);
            return;
        };
        device.statistics.count(Counted::Sent, length);
        if self.mode() == MACVLAN_MODE_BRIDGE {
            let is_group = destination[0] & 1 != 0;
            let to = if is_group { None } else { self.switch.find(&destination) };
            let to = to.filter(|to| {
                to.operations_as::<Macvlan>().is_some_and(|one| one.mode() == MACVLAN_MODE_BRIDGE)
            });
            if is_group || to.is_some() {
                let mut copy = packet.clone();
                copy.mark_link_header();
                let kind = super::veth::kind_of(copy.bytes(), &self.lower);
                copy.protocol = super::veth::protocol_of(copy.bytes());
                if copy.pull(HEADER).is_none() {
                    return;
                }
                copy.mark_network_header();
                copy.kind = kind;
                copy.leave_namespace();
                match &to {
                    Some(to) => return deliver(to, copy, PacketKind::Host),
                    None => self.switch.broadcast(&copy, MACVLAN_MODE_BRIDGE, Some(device)),
                }
            }
        }
        if self.lower.is_up() {
            packet.mark_link_header();
            traffic::pass_on(&self.lower, packet);
        }
    }

    fn open(&self, device: &Arc<NetDevice>, rtnl: &Rtnl<'_>) -> Result<()> {
        let is_passthru = self.mode() == MACVLAN_MODE_PASSTHRU;
        if !is_passthru && self.is_taken(&device.address()) {
            return Err(Errno::EADDRINUSE);
        }
        let key = Macvlan::key(device).ok_or(Errno::EINVAL)?;
        let node = try_box(Node::new(Member { key, device: device.clone() })).map_err(|_| Errno::ENOMEM)?;
        if is_passthru && self.flags.load(Ordering::Relaxed) & 1 == 0 {
            change::count_promiscuous(rtnl, &self.lower, true);
        }
        *self.key.lock() = Some(key);
        self.switch.up.write().insert(node);
        change::follow_carrier(rtnl, device, &self.lower);
        Ok(())
    }

    fn stop(&self, _device: &Arc<NetDevice>, rtnl: &Rtnl<'_>) {
        let key = self.key.lock().take();
        let taken = key.and_then(|key| self.switch.up.write().remove(&key));
        if taken.is_some()
            && self.mode() == MACVLAN_MODE_PASSTHRU
            && self.flags.load(Ordering::Relaxed) & 1 == 0
        {
            change::count_promiscuous(rtnl, &self.lower, false);
        }
    }

    /// While it is up it is found by its address. With passthru the lower device has the same.
    fn was_set(&self, device: &Arc<NetDevice>, event: DeviceEvent, rtnl: &Rtnl<'_>) {
        if event != DeviceEvent::AddressChanged {
            return;
        }
        let old = *self.key.lock();
        if let (Some(old), Some(new)) = (old, Macvlan::key(device)) {
            let mut up = self.switch.up.write();
            if let Some(mut node) = up.remove(&old) {
                node.key = new;
                up.insert(node);
            }
            drop(up);
            *self.key.lock() = Some(new);
        }
        if self.mode() == MACVLAN_MODE_PASSTHRU && self.lower.address() != device.address() {
            let _ = change::set_address(rtnl, &self.lower, &device.address());
        }
    }

    fn check_mtu(&self, _device: &NetDevice, mtu: u32) -> Result<()> {
        if mtu > self.lower.mtu() { Err(Errno::EINVAL) } else { Ok(()) }
    }

    fn check_address(&self, device: &NetDevice, address: &[u8]) -> Result<()> {
        check_ethernet_address(address)?;
        if device.address().as_slice() == address {
            return Ok(());
        }
        if self.mode() == MACVLAN_MODE_PASSTHRU {
            return self.lower.operations().check_address(&self.lower, address);
        }
        if device.is_up() && self.is_taken(address) { Err(Errno::EADDRINUSE) } else { Ok(()) }
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
        match what {
            LowerChange::Mtu => upper::follow_mtu(rtnl, device),
            LowerChange::Address if self.mode() == MACVLAN_MODE_PASSTHRU => {
                registry::now_or_later(rtnl, device, |rtnl, device| {
                    let address = device.peer().map(|lower| lower.address());
                    if let Some(address) = address.filter(|address| *address != device.address()) {
                        change::store_address(rtnl, device, address);
                    }
                });
            }
            _ => upper::follow_carrier(rtnl, device),
        }
    }

    fn uninit(&self, device: &Arc<NetDevice>, _rtnl: &Rtnl<'_>) {
        if !self.attached.swap(false, Ordering::Relaxed) {
            return;
        }
        adjacency::unlink(device, &self.lower);
        let _coming = COMING.lock();
        self.switch.passthru.store(0, Ordering::Relaxed);
        if self.switch.count.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.lower.handler.replace(None);
            self.lower.macvlans.replace(None);
        }
    }
}

fn validate(attributes: &Parsed<'_>, data: Option<Attribute<'_>>) -> Outcome<()> {
    validate_ethernet(attributes)?;
    let Some(data) = data else { return Ok(()) };
    let data = Data::parse(data.nested(), &POLICIES, Strictness::Liberal)?;
    if data.get(IFLA_MACVLAN_FLAGS).is_some_and(|flags| flags.u16() & !FLAGS != 0) {
        return Err(Errno::EINVAL.into());
    }
    if data.get(IFLA_MACVLAN_MODE).is_some_and(|mode| !MODES.contains(&mode.u32())) {
        return Err(Errno::EINVAL.into());
    }
    // Lists of source addresses are not there.
    if data.has(IFLA_MACVLAN_MACADDR_MODE) {
        return Err(Errno::EOPNOTSUPP.into());
    }
    Ok(())
}

/// The switch of a lower device, made now if it has none. `EINVAL`: it is no Ethernet device; `EBUSY`: its frames go elsewhere.
fn switch_of(lower: &Arc<NetDevice>) -> Result<Arc<Switch>> {
    if let Some(switch) = lower.macvlans.load_arc() {
        return Ok(switch);
    }
    if !lower.is_ethernet() {
        return Err(Errno::EINVAL);
    }
    if !lower.handler.is_none() {
        return Err(Errno::EBUSY);
    }
    let switch = try_arc(Switch {
        up: RwSpinLock::new(Tree::new()),
        count: AtomicU32::new(0),
        passthru: AtomicU32::new(0),
    })?;
    Ok(switch)
}

fn create(new: &NewLink<'_>) -> Outcome<Arc<NetDevice>> {
    let mut lower = new.lower.clone()?;
    // On top of another macvlan it is on that one's lower device.
    if let Some(below) = lower.operations_as::<Macvlan>() {
        lower = below.lower.clone();
    }
    let data = new.data.map(|data| Data::parse(data.nested(), &POLICIES, Strictness::Liberal)).transpose()?;
    let get = |kind| data.as_ref().and_then(|data: &Data<'_>| data.get(kind));
    let mode = get(IFLA_MACVLAN_MODE).map_or(MACVLAN_MODE_VEPA, |mode| mode.u32());
    let flags = get(IFLA_MACVLAN_FLAGS).map_or(0, |flags| flags.u16());
    if new.attributes.get(linux::IFLA_MTU).is_some_and(|mtu| mtu.u32() > lower.mtu()) {
        return Err(Errno::EINVAL.into());
    }
    let switch = switch_of(&lower)?;
    let others = switch.count.load(Ordering::Relaxed) > 0;
    if switch.passthru.load(Ordering::Relaxed) != 0 || mode == MACVLAN_MODE_PASSTHRU && others {
        return Err(Errno::EINVAL.into());
    }
    let address = match mode {
        MACVLAN_MODE_PASSTHRU => lower.address(),
        _ => new.address.clone().unwrap_or_else(random_address),
    };
    let template = Template {
        hardware_type: linux::ARPHRD_ETHER,
        flags: linux::IFF_BROADCAST | linux::IFF_MULTICAST,
        mtu: lower.mtu(),
        mtu_range: (68, lower.mtu_range().1),
        address,
        broadcast: lower.broadcast(),
        queues: 1,
        is_bound: false,
        kind: Some(&KIND),
    };
    let macvlan = Macvlan {
        lower,
        switch,
        mode: AtomicU32::new(mode),
        flags: AtomicU32::new(flags.into()),
        key: SpinLock::new(None),
        attached: AtomicBool::new(false),
    };
    let most = macvlan.lower.limits.most();
    let device = NetDevice::new(new.namespace, template, Box::new(macvlan))?;
    device.limits.set_most(most);
    Ok(device)
}

fn attach(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, _new: &NewLink<'_>) -> Outcome<()> {
    let macvlan = device.operations_as::<Macvlan>().ok_or(Errno::EINVAL)?;
    let lower = &macvlan.lower;
    {
        let _coming = COMING.lock();
        match lower.macvlans.load_arc() {
            Some(switch) if !Arc::ptr_eq(&switch, &macvlan.switch) => return Err(Errno::EBUSY.into()),
            Some(_) => {}
            None if !lower.handler.is_none() => return Err(Errno::EBUSY.into()),
            None => {
                let boxed = try_box(macvlan.switch.clone()).map_err(|_| Errno::ENOMEM)?;
                let handler = try_arc(boxed as Box<dyn ReceiveHandler>).map_err(|_| Errno::ENOMEM)?;
                lower.macvlans.replace(Some(macvlan.switch.clone()));
                lower.handler.replace(Some(handler));
            }
        }
        macvlan.switch.count.fetch_add(1, Ordering::Relaxed);
        let is_passthru = macvlan.mode() == MACVLAN_MODE_PASSTHRU;
        macvlan.switch.passthru.store(is_passthru.into(), Ordering::Relaxed);
        // From here on `uninit` has something to undo.
        macvlan.attached.store(true, Ordering::Relaxed);
    }
    adjacency::link(rtnl, device, lower, Role::Upper)?;
    upper::begin(rtnl, device, lower);
    Ok(())
}

fn change_data(_rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, data: Attribute<'_>) -> Outcome<()> {
    let macvlan = device.operations_as::<Macvlan>().ok_or(Errno::EOPNOTSUPP)?;
    let data = Data::parse(data.nested(), &POLICIES, Strictness::Liberal)?;
    if let Some(mode) = data.get(IFLA_MACVLAN_MODE) {
        let passthru = |mode| mode == MACVLAN_MODE_PASSTHRU;
        if passthru(mode.u32()) != passthru(macvlan.mode()) {
            return Err(Errno::EINVAL.into());
        }
        macvlan.mode.store(mode.u32(), Ordering::Relaxed);
    }
    if let Some(flags) = data.get(IFLA_MACVLAN_FLAGS) {
        macvlan.flags.store(flags.u16().into(), Ordering::Relaxed);
    }
    Ok(())
}

fn fill(device: &NetDevice, out: &mut Builder) -> Result<()> {
    let Some(macvlan) = device.operations_as::<Macvlan>() else { return Ok(()) };
    out.u32(IFLA_MACVLAN_MODE, macvlan.mode())?;
    out.u16(IFLA_MACVLAN_FLAGS, macvlan.flags.load(Ordering::Relaxed) as u16)?;
    out.u32(IFLA_MACVLAN_MACADDR_COUNT, 0)?;
    out.u32(IFLA_MACVLAN_BC_QUEUE_LEN, QUEUE_LENGTH)?;
    out.u32(IFLA_MACVLAN_BC_QUEUE_LEN_USED, QUEUE_LENGTH)
}
