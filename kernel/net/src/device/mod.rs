//! Network devices: what an interface is, and who may do what with it.
//!
//! | file | what |
//! |---|---|
//! | `name`, `table` | names; the devices of a namespace by index and name |
//! | `rtnl` | the lock under which configuration changes |
//! | `registry` | a device comes, goes, is renamed, moves to another namespace |
//! | `change`, `limits` | flags, MTU, address and the like; sizes that are only kept |
//! | `notify` | who is told |
//! | `traffic`, `taps`, `statistics`, `tag` | packets in and out, who listens, counters, VLAN tags |
//! | `ioctl`, `show` | the old calls; `/proc/net/dev` |
//! | `attributes` | the files in `/sys/class/net` |
//! | `adjacency`, `upper` | which device is on top of which; what those on one other have in common |
//! | `loopback`, `dummy`, `veth`, `bridge`, `vlan`, `macvlan`, `tun` | the devices that are software |
//!
//! Key types: [`NetDevice`], [`DeviceOperations`], [`LinkKind`].
//!
//! Contexts: everything that changes a device needs an [`Rtnl`] that covers its namespace (sleeping). Reading is free:
//! numbers are atomics, the rest is copied under the device's leaf lock. Packets go through [`traffic`] in any context.

pub(crate) mod adjacency;
pub mod attributes;
pub(crate) mod bridge;
mod change;
pub mod dummy;
pub(crate) mod ioctl;
pub(crate) mod limits;
pub mod loopback;
pub(crate) mod macvlan;
mod name;
pub mod notify;
pub mod registry;
pub mod rtnl;
pub mod show;
pub mod statistics;
mod table;
mod tag;
pub mod taps;
#[cfg(test)]
pub(crate) mod tests;
pub mod traffic;
pub mod tun;
mod upper;
pub mod veth;
pub(crate) mod vlan;

pub(crate) use change::{check_mtu, link_group_key};
pub use change::{
    count_all_multicast, count_promiscuous, set_address, set_alias, set_broadcast, set_carrier,
    set_first_flags, set_flags, set_group, set_link_mode, set_mtu, set_queue_length,
};
pub use name::{InterfaceName, parse_alternative};
pub use notify::DeviceEvent;
pub use rtnl::Rtnl;
pub use statistics::Statistics;
pub use table::DeviceTable;

use abi::errno::{Errno, Result};
use abi::rtnetlink as linux;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use core::any::Any;
use linnet_lib::netlink::{Attribute, Builder, Outcome};
use machine::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering};
use machine::sync::{RcuArc, SpinLock};

use crate::ip::device::IpDeviceState;
use crate::ip::map::RcuMap;
use crate::namespace::NetState;
use crate::netlink::route::link::Parsed;
use crate::packet::Packet;

/// A link-layer address.
pub type HardwareAddress = ArrayVec<u8, { linux::MAX_ADDR_LEN }>;

/// A text of some length that is shared.
pub type Text = Arc<Vec<u8>>;

/// Makes a text. `ENOMEM`.
pub(crate) fn text(bytes: &[u8]) -> Result<Text> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len()).map_err(|_| Errno::ENOMEM)?;
    copy.extend_from_slice(bytes);
    Ok(machine::memory::try_arc(copy)?)
}

/// A link that a request wants made, before it is in its table.
pub(crate) struct NewLink<'a> {
    /// Where it begins.
    pub(crate) namespace: &'a Arc<NetState>,
    /// IFLA_ADDRESS.
    pub(crate) address: Option<HardwareAddress>,
    /// All attributes of the request.
    pub(crate) attributes: &'a Parsed<'a>,
    /// IFLA_INFO_DATA.
    pub(crate) data: Option<Attribute<'a>>,
    /// The device below (IFLA_LINK). `EINVAL`: none is named; `ENODEV`: it is not there.
    pub(crate) lower: Result<Arc<NetDevice>>,
}

/// Writes attributes about a device.
type Fill = fn(&NetDevice, &mut Builder) -> Result<()>;
/// The same about a device that belongs to a master, which comes first.
type FillPort = fn(&NetDevice, &NetDevice, &mut Builder) -> Result<()>;
/// Changes a device by its IFLA_INFO_DATA.
type Change = fn(&Rtnl<'_>, &Arc<NetDevice>, Attribute<'_>) -> Outcome<()>;
/// Changes what a device is to its master, which comes first, by its IFLA_INFO_SLAVE_DATA.
type ChangePort = fn(&Rtnl<'_>, &Arc<NetDevice>, &Arc<NetDevice>, Attribute<'_>) -> Outcome<()>;

/// A kind of virtual link, as IFLA_INFO_KIND names it (`rtnl_link_ops`).
pub struct LinkKind {
    /// Its name.
    pub name: &'static str,
    /// Whether what it sends waits in a queueing discipline on Linux (no IFF_NO_QUEUE).
    pub(crate) is_queued: bool,
    /// Files of its own in its directory in `/sys`.
    pub(crate) files: &'static [attributes::Attribute],
    /// Checks a request's attributes and data before anything is done.
    pub(crate) validate: fn(&Parsed<'_>, Option<Attribute<'_>>) -> Outcome<()>,
    /// Makes one that is in no table yet.
    pub(crate) create: fn(&NewLink<'_>) -> Outcome<Arc<NetDevice>>,
    /// Does the rest once it is in its table: puts it on its lower device, sets what the request says.
    pub(crate) attach: fn(&Rtnl<'_>, &Arc<NetDevice>, &NewLink<'_>) -> Outcome<()>,
    /// Changes one; none if its data never change.
    pub(crate) change: Option<Change>,
    /// Writes its IFLA_INFO_DATA; none if it has none.
    pub(crate) fill: Option<Fill>,
    /// Changes a device that belongs to one.
    pub(crate) change_port: Option<ChangePort>,
    /// Writes IFLA_INFO_SLAVE_DATA of a device that belongs to one.
    pub(crate) fill_port: Option<FillPort>,
}

impl LinkKind {
    /// An Ethernet-like kind with nothing of its own.
    pub(crate) const fn plain(
        name: &'static str,
        create: fn(&NewLink<'_>) -> Outcome<Arc<NetDevice>>,
    ) -> LinkKind {
        LinkKind {
            name,
            is_queued: false,
            files: &[],
            validate: |attributes, _| validate_ethernet(attributes),
            create,
            attach: |_, _, _| Ok(()),
            change: None,
            fill: None,
            change_port: None,
            fill_port: None,
        }
    }
}

/// What an Ethernet-like kind demands of the address in a request.
pub(crate) fn validate_ethernet(attributes: &Parsed<'_>) -> Outcome<()> {
    match attributes.get(linux::IFLA_ADDRESS) {
        Some(address) if address.value.len() != 6 => Err(Errno::EINVAL.into()),
        Some(address) => Ok(check_ethernet_address(address.value)?),
        None => Ok(()),
    }
}

/// What a device below another tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LowerChange {
    /// It is up.
    Up,
    /// It is down.
    Down,
    /// Its carrier came or went.
    Carrier,
    /// Its MTU changed.
    Mtu,
    /// Its address changed.
    Address,
}

/// What a driver does. `transmit` runs in any context with preemption off; the others under [`Rtnl`] and may sleep.
pub trait DeviceOperations: Any + Send + Sync {
    /// Sends a packet: the driver owns it now. Counts it.
    fn transmit(&self, device: &Arc<NetDevice>, packet: Packet);
    /// The device goes up.
    fn open(&self, device: &Arc<NetDevice>, rtnl: &Rtnl<'_>) -> Result<()> {
        let _ = (device, rtnl);
        Ok(())
    }
    /// The device goes down.
    fn stop(&self, device: &Arc<NetDevice>, rtnl: &Rtnl<'_>) {
        let _ = (device, rtnl);
    }
    /// Whether this MTU can be; the range has been checked.
    fn check_mtu(&self, device: &NetDevice, mtu: u32) -> Result<()> {
        let _ = (device, mtu);
        Ok(())
    }
    /// Whether it may have this address. `EOPNOTSUPP`: it never changes.
    fn check_address(&self, device: &NetDevice, address: &[u8]) -> Result<()> {
        let _ = (device, address);
        Err(Errno::EOPNOTSUPP)
    }
    /// Whether software may say that the carrier is on or off (IFLA_CARRIER).
    fn may_change_carrier(&self) -> bool {
        false
    }
    /// Megabits in a second and `full`, `half` or `unknown`, where the driver says so.
    fn speed(&self, device: &NetDevice) -> Option<(i32, &'static str)> {
        let _ = device;
        self.lower().and_then(|lower| lower.operations().speed(lower))
    }
    /// The one device that it is on (see [`upper`]).
    fn lower(&self) -> Option<&Arc<NetDevice>> {
        None
    }
    /// The device at the other end, or below (IFLA_LINK).
    fn peer(&self) -> Option<Arc<NetDevice>> {
        self.lower().cloned()
    }
    /// Whether it goes when its peer goes, and the other way round: two ends of one thing.
    fn goes_with_peer(&self) -> bool {
        false
    }
    /// An administrator set its address or MTU (the event says which).
    fn was_set(&self, device: &Arc<NetDevice>, event: DeviceEvent, rtnl: &Rtnl<'_>) {
        let _ = (device, event, rtnl);
    }
    /// Takes another device as one of its own (IFLA_MASTER).
    fn enslave(&self, rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, slave: &Arc<NetDevice>) -> Outcome<()> {
        let _ = (rtnl, device, slave);
        Err(Errno::EOPNOTSUPP.into())
    }
    /// Lets go of one of its own.
    fn release(&self, rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, slave: &Arc<NetDevice>) {
        let _ = (rtnl, device, slave);
    }
    /// Something happened to a device below. `rtnl` may cover only the other's namespace. Thread context.
    fn lower_changed(
        &self,
        device: &Arc<NetDevice>,
        lower: &Arc<NetDevice>,
        change: LowerChange,
        rtnl: &Rtnl<'_>,
    ) {
        let _ = (device, lower, change, rtnl);
    }
    /// The device is about to go for good; lets go of others.
    fn uninit(&self, device: &Arc<NetDevice>, rtnl: &Rtnl<'_>) {
        let _ = (device, rtnl);
    }
}

/// What a device is made with.
pub struct Template {
    /// `ARPHRD_*`.
    pub hardware_type: u16,
    /// `IFF_*` at first.
    pub flags: u32,
    /// Bytes of payload.
    pub mtu: u32,
    /// The least and the greatest MTU; 0 for no limit above.
    pub mtu_range: (u32, u32),
    /// Its address at first.
    pub address: HardwareAddress,
    /// Its broadcast address.
    pub broadcast: HardwareAddress,
    /// Queues in each direction.
    pub queues: u32,
    /// It stays in its namespace (IFLA_NETNS_IMMUTABLE).
    pub is_bound: bool,
    /// What made it; `None` for hardware and the loopback.
    pub kind: Option<&'static LinkKind>,
}

/// What changes as a whole, under the device's leaf lock.
pub(crate) struct Settings {
    pub(crate) name: InterfaceName,
    pub(crate) alternatives: Vec<Text>,
    pub(crate) alias: Option<Text>,
    pub(crate) address: HardwareAddress,
    pub(crate) broadcast: HardwareAddress,
    pub(crate) namespace: Arc<NetState>,
}

/// Takes what a device receives instead of the protocols (bridge, VLAN and the like). Preemption is off.
pub trait ReceiveHandler: Send + Sync {
    /// The packet back, or none if it took it.
    fn receive(&self, device: &Arc<NetDevice>, packet: Packet) -> Option<Packet>;
}

/// An address by chance, of another device, of the administrator's choice (`NET_ADDR_*`; 0: the hardware's).
pub(crate) const ADDRESS_RANDOM: u8 = 1;
pub(crate) const ADDRESS_STOLEN: u8 = 2;
pub(crate) const ADDRESS_SET: u8 = 3;

static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

/// A network device.
pub struct NetDevice {
    pub(crate) settings: SpinLock<Settings>,
    /// A number that no other device has or will have.
    number: u64,
    pub(crate) adjacency: adjacency::Adjacency,
    /// Which port of its master it is; 0 for none.
    pub(crate) port: AtomicU32,
    pub(crate) index: AtomicI32,
    hardware_type: AtomicU32,
    header_length: usize,
    pub(crate) flags: AtomicU32,
    pub(crate) mtu: AtomicU32,
    mtu_range: (u32, u32),
    queues: u32,
    is_bound: bool,
    kind: Option<&'static LinkKind>,
    pub(crate) operational: AtomicU8,
    pub(crate) link_mode: AtomicU8,
    /// Where its address is from (`NET_ADDR_*`).
    pub(crate) address_origin: AtomicU8,
    pub(crate) carrier: AtomicBool,
    /// It has a queueing discipline (IFLA_QDISC): from when it comes up until it leaves.
    pub(crate) has_queue: AtomicBool,
    pub(crate) carrier_ups: AtomicU32,
    pub(crate) carrier_downs: AtomicU32,
    /// Who wants all packets (IFLA_PROMISCUITY), all multicast packets (IFLA_ALLMULTI).
    pub(crate) promiscuity: AtomicU32,
    pub(crate) all_multicast: AtomicU32,
    pub(crate) group: AtomicU32,
    pub(crate) queue_length: AtomicU32,
    pub(crate) registered: AtomicBool,
    pub(crate) limits: limits::Limits,
    pub(crate) statistics: Statistics,
    pub(crate) handler: RcuArc<Box<dyn ReceiveHandler>>,
    /// The VLANs on it.
    pub(crate) vlans: vlan::Group,
    /// What tells its macvlans apart.
    pub(crate) macvlans: RcuArc<macvlan::Switch>,
    pub(crate) taps: taps::Taps,
    /// The link-layer groups that the administrator has it listen to (SIOCADDMULTI), by address.
    pub(crate) link_groups: RcuMap<[u8; 6]>,
    pub(crate) ip: IpDeviceState,
    operations: Box<dyn DeviceOperations>,
}

impl NetDevice {
    /// A device that is in no table yet. `ENOMEM`.
    pub(crate) fn new(
        namespace: &Arc<NetState>,
        template: Template,
        operations: Box<dyn DeviceOperations>,
    ) -> Result<Arc<NetDevice>> {
        let settings = Settings {
            name: InterfaceName::EMPTY,
            alternatives: Vec::new(),
            alias: None,
            address: template.address,
            broadcast: template.broadcast,
            namespace: namespace.clone(),
        };
        Ok(machine::memory::try_arc(NetDevice {
            settings: SpinLock::new(settings),
            number: NEXT_NUMBER.fetch_add(1, Ordering::Relaxed),
            adjacency: adjacency::Adjacency::default(),
            port: AtomicU32::new(0),
            index: AtomicI32::new(0),
            hardware_type: AtomicU32::new(template.hardware_type.into()),
            header_length: match template.hardware_type {
                linux::ARPHRD_ETHER | linux::ARPHRD_LOOPBACK => abi::packet::ETH_HLEN,
                _ => 0,
            },
            flags: AtomicU32::new(template.flags),
            mtu: AtomicU32::new(template.mtu),
            mtu_range: template.mtu_range,
            queues: template.queues,
            is_bound: template.is_bound,
            kind: template.kind,
            operational: AtomicU8::new(linux::IF_OPER_UNKNOWN),
            link_mode: AtomicU8::new(linux::IF_LINK_MODE_DEFAULT),
            address_origin: AtomicU8::new(if template.kind.is_some() { ADDRESS_RANDOM } else { 0 }),
            carrier: AtomicBool::new(true),
            has_queue: AtomicBool::new(false),
            carrier_ups: AtomicU32::new(0),
            carrier_downs: AtomicU32::new(0),
            promiscuity: AtomicU32::new(0),
            all_multicast: AtomicU32::new(0),
            group: AtomicU32::new(0),
            queue_length: AtomicU32::new(1000),
            registered: AtomicBool::new(false),
            limits: limits::Limits::new(),
            statistics: Statistics::new()?,
            handler: RcuArc::empty(),
            vlans: vlan::Group::default(),
            macvlans: RcuArc::empty(),
            taps: taps::Taps::default(),
            link_groups: RcuMap::new(),
            ip: IpDeviceState::default(),
            operations,
        })?)
    }

    /// A number that no other device has or will have.
    pub fn number(&self) -> u64 {
        self.number
    }
    /// Its name now.
    pub fn name(&self) -> InterfaceName {
        self.settings.lock().name
    }
    /// Its index now: it changes only if it moves to a namespace where the index is taken.
    pub fn index(&self) -> i32 {
        self.index.load(Ordering::Relaxed)
    }
    /// Where it is.
    pub fn namespace(&self) -> Arc<NetState> {
        self.settings.lock().namespace.clone()
    }
    /// `ARPHRD_*`.
    pub fn hardware_type(&self) -> u16 {
        self.hardware_type.load(Ordering::Relaxed) as u16
    }
    /// Says that it is of another type, with as long an address of zeros (TUNSETLINK). Its packets stay as they are.
    pub(crate) fn set_hardware_type(&self, kind: u16, address_length: usize) {
        self.hardware_type.store(kind.into(), Ordering::Relaxed);
        let zeros = |length| core::iter::repeat_n(0, length).collect();
        let mut settings = self.settings.lock();
        (settings.address, settings.broadcast) = (zeros(address_length), zeros(address_length));
    }
    /// Whether its packets are Ethernet frames.
    pub(crate) fn is_ethernet(&self) -> bool {
        self.hardware_type() == linux::ARPHRD_ETHER && self.header_length == abi::packet::ETH_HLEN
    }
    /// What kind of virtual link it is.
    pub fn kind(&self) -> Option<&'static LinkKind> {
        self.kind
    }
    /// Whether it stays in its namespace.
    pub fn is_bound(&self) -> bool {
        self.is_bound
    }
    /// Whether it is up.
    pub fn is_up(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & linux::IFF_UP != 0
    }
    /// Whether it is a loopback.
    pub fn is_loopback(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & linux::IFF_LOOPBACK != 0
    }
    /// Whether it can send now.
    pub fn has_carrier(&self) -> bool {
        self.carrier.load(Ordering::Relaxed)
    }
    /// The flags as programs see them (`dev_get_flags`).
    pub fn flags(&self) -> u32 {
        let mut flags = self.flags.load(Ordering::Relaxed);
        if self.is_up() {
            let state = self.operational.load(Ordering::Relaxed);
            if state == linux::IF_OPER_UP || state == linux::IF_OPER_UNKNOWN {
                flags |= linux::IFF_RUNNING;
            }
            if self.has_carrier() {
                flags |= linux::IFF_LOWER_UP;
            }
        }
        flags
    }
    /// IFLA_OPERSTATE.
    pub fn operational_state(&self) -> u8 {
        if self.is_up() { self.operational.load(Ordering::Relaxed) } else { linux::IF_OPER_DOWN }
    }
    /// Bytes of payload that a packet may have.
    pub fn mtu(&self) -> u32 {
        self.mtu.load(Ordering::Relaxed)
    }
    /// The least and the greatest MTU; 0 for no limit above.
    pub fn mtu_range(&self) -> (u32, u32) {
        self.mtu_range
    }
    /// Queues in each direction.
    pub fn queues(&self) -> u32 {
        self.queues
    }
    /// Bytes of the header that its packets begin with.
    pub fn header_length(&self) -> usize {
        self.header_length
    }
    /// Its link-layer address.
    pub fn address(&self) -> HardwareAddress {
        self.settings.lock().address.clone()
    }
    /// Its broadcast address.
    pub fn broadcast(&self) -> HardwareAddress {
        self.settings.lock().broadcast.clone()
    }
    /// What the administrator calls it (IFLA_IFALIAS).
    pub fn alias(&self) -> Option<Text> {
        self.settings.lock().alias.clone()
    }
    /// Its other names. `ENOMEM`.
    pub fn alternatives(&self) -> Result<Vec<Text>> {
        let settings = self.settings.lock();
        let mut names = Vec::new();
        names.try_reserve_exact(settings.alternatives.len()).map_err(|_| Errno::ENOMEM)?;
        names.extend(settings.alternatives.iter().cloned());
        Ok(names)
    }
    /// Whether it is in a table.
    pub fn is_registered(&self) -> bool {
        self.registered.load(Ordering::Acquire)
    }
    /// Its counters.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }
    /// Who listens to it.
    pub fn taps(&self) -> &taps::Taps {
        &self.taps
    }
    /// What its driver does.
    pub fn operations(&self) -> &dyn DeviceOperations {
        &*self.operations
    }
    /// What its driver keeps, if it is this type.
    pub fn operations_as<T: DeviceOperations>(&self) -> Option<&T> {
        let any: &dyn Any = &*self.operations;
        any.downcast_ref()
    }
    /// The device it belongs to.
    pub fn master(&self) -> Option<Arc<NetDevice>> {
        self.adjacency.master()
    }
    /// The first device on top of it, or below it, whose [`NetDevice::number`] is from `from` on.
    pub fn next_neighbour(&self, is_above: bool, from: u64) -> Option<Arc<NetDevice>> {
        if is_above { self.adjacency.next_upper(from) } else { self.adjacency.next_lower(from) }
    }
    /// The device it sends through or to (IFLA_LINK).
    pub fn peer(&self) -> Option<Arc<NetDevice>> {
        self.operations.peer()
    }
    /// Who gets what it receives before the protocols do.
    pub fn set_receive_handler(&self, rtnl: &Rtnl<'_>, handler: Option<Arc<Box<dyn ReceiveHandler>>>) {
        rtnl.assert_covers(self);
        self.handler.replace(handler);
    }
    /// One of its numbers.
    pub(crate) fn gauge(&self, which: Gauge) -> u32 {
        match which {
            Gauge::Promiscuity => &self.promiscuity,
            Gauge::AllMulticast => &self.all_multicast,
            Gauge::Group => &self.group,
            Gauge::QueueLength => &self.queue_length,
            Gauge::CarrierUps => &self.carrier_ups,
            Gauge::CarrierDowns => &self.carrier_downs,
        }
        .load(Ordering::Relaxed)
    }
}

/// A number of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gauge {
    /// How many want all packets.
    Promiscuity,
    /// How many want all multicast packets.
    AllMulticast,
    /// The group that the administrator put it in.
    Group,
    /// IFLA_TXQLEN.
    QueueLength,
    /// How often the carrier came.
    CarrierUps,
    /// How often it went.
    CarrierDowns,
}

/// A random Ethernet address: unicast, locally administered.
pub(crate) fn random_address() -> HardwareAddress {
    let mut bytes = [0u8; 6];
    machine::random::fill(&mut bytes);
    bytes[0] = bytes[0] & 0xfe | 0x02;
    bytes.into_iter().collect()
}

/// What an Ethernet device may be called at its link layer: unicast and not zero.
pub(crate) fn check_ethernet_address(address: &[u8]) -> Result<()> {
    let is_zero = address.iter().all(|byte| *byte == 0);
    let is_multicast = address.first().is_some_and(|byte| byte & 1 != 0);
    if address.len() != 6 || is_zero || is_multicast { Err(Errno::EADDRNOTAVAIL) } else { Ok(()) }
}

/// Something that a request about a device can fail with, text and all.
pub type DeviceResult<T> = Outcome<T>;
