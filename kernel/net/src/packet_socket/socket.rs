//! The packet socket: what it is bound to, sending, receiving, memberships.
//!
//! Key types: [`PacketSocket`], [`PacketTable`]. A socket with a protocol is a tap of its interface or of its namespace while that
//! is up. Devices are known weakly and by index: a socket never keeps one.
//! Locks: see the module's head.

use abi::errno::{Errno, Result};
use abi::packet::*;
use abi::poll::PollEvents;
use abi::socket::{AF_PACKET, SIOCINQ, SIOCOUTQ, SOL_PACKET};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use linnet_lib::tree::{Item, Node, Tree};
use machine::memory::{try_arc, try_box};
use machine::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use machine::sync::{Mutex, Once, RwSpinLock, SpinLock};
use mm::user::UserPtr;
use security::{Capability, Credentials};
use vfs::{File, PollTable};
use zerocopy::{FromBytes, IntoBytes};

use super::capture::{Captured, View, share};
use super::fanout::{self, Group, Groups};
use super::options::Switch;
use super::ring::Ring;
use crate::account::{self, ReceiveCharge, SendCharge};
use crate::core::SocketCore;
use crate::device::taps::{Direction, Tap};
use crate::device::{self, DeviceEvent, NetDevice, rtnl, traffic};
use crate::message::{Ancillary, ControlMessage, MessageFlags, ReceiveMessage, SendMessage, SocketAddress};
use crate::namespace::NetNamespace;
use crate::options::Switches;
use crate::packet::{HEAD_ROOM, Packet, PacketKind};
use crate::queue::ReceiveQueue;
use crate::socket::{Socket, SocketKind, SocketOperations};

/// What it is bound to.
#[derive(Default)]
pub(super) struct Binding {
    /// Host order; 0: it gets nothing.
    pub(super) protocol: u16,
    /// 0: all; -1: to one that is gone.
    pub(super) index: i32,
    device: Weak<NetDevice>,
    /// It is a tap now.
    pub(super) running: bool,
}

/// One of PACKET_ADD_MEMBERSHIP.
pub struct Membership {
    /// Interface.
    pub index: i32,
    /// PACKET_MR_*.
    pub kind: u16,
    /// How often it was asked for.
    pub count: u32,
    /// The address.
    pub address: [u8; 8],
    /// Bytes of it.
    pub length: u16,
    device: Weak<NetDevice>,
}

/// See the module.
pub struct PacketSocket {
    number: u64,
    pub(super) core: Arc<SocketCore>,
    me: Once<Weak<PacketSocket>>,
    /// Changes of the binding, one at a time.
    rebinding: Mutex<()>,
    pub(super) binding: SpinLock<Binding>,
    pub(super) memberships: Mutex<Vec<Membership>>,
    queue: ReceiveQueue<Captured>,
    pub(super) switches: AtomicU32,
    /// Frames seen and dropped since PACKET_STATISTICS was last asked for.
    pub(super) packets: AtomicU32,
    pub(super) drops: AtomicU32,
    pub(super) version: AtomicU32,
    pub(super) reserve: AtomicU32,
    pub(super) ring: SpinLock<Option<Arc<Ring>>>,
    pub(super) has_ring: AtomicBool,
    /// Setting up a ring, one at a time.
    pub(super) ring_change: Mutex<()>,
    /// Whom it shares with.
    group: SpinLock<Option<Arc<Group>>>,
}

struct Entry(Arc<PacketSocket>);

impl Item for Entry {
    type Key = u64;
    type Summary = ();
    fn key(&self) -> u64 {
        self.0.number
    }
    fn summary(&self) {}
    fn merge((): (), (): ()) {}
}

/// The packet sockets of a namespace, for those who list them.
#[derive(Default)]
pub struct PacketTable {
    all: RwSpinLock<Tree<Entry>>,
    groups: Groups,
}

impl PacketTable {
    /// The first with a number from `from` on.
    pub fn next_from(&self, from: u64) -> Option<Arc<PacketSocket>> {
        self.all.read().first_from(&from).map(|found| found.0.clone())
    }

    fn add(&self, socket: &Arc<PacketSocket>) -> Result<()> {
        let node = try_box(Node::new(Entry(socket.clone()))).map_err(|_| Errno::ENOMEM)?;
        self.all.write().insert(node);
        Ok(())
    }

    fn remove(&self, number: u64) {
        let taken = self.all.write().remove(&number);
        drop(taken);
    }
}

/// A number that no socket and no group has or will have.
pub(super) fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// socket(2) of this family. `protocol` is in network order. `EPERM`: no CAP_NET_RAW; `ESOCKTNOSUPPORT`; `ENOMEM`.
pub fn create(
    kind: SocketKind,
    protocol: i32,
    namespace: &Arc<NetNamespace>,
    who: &Credentials,
) -> Result<Arc<Socket>> {
    if !who.capable(namespace.owner(), Capability::NetRaw) {
        return Err(Errno::EPERM);
    }
    if !matches!(kind, SocketKind::Raw | SocketKind::Datagram) {
        return Err(Errno::ESOCKTNOSUPPORT);
    }
    let core = SocketCore::new(AF_PACKET as u16, kind, 0, namespace.clone(), who)?;
    let socket = try_arc(PacketSocket {
        number: next_number(),
        core: core.clone(),
        me: Once::new(),
        rebinding: Mutex::new(()),
        binding: SpinLock::new(Binding { protocol: u16::from_be(protocol as u16), ..Binding::default() }),
        memberships: Mutex::new(Vec::new()),
        queue: ReceiveQueue::new(),
        switches: AtomicU32::new(0),
        packets: AtomicU32::new(0),
        drops: AtomicU32::new(0),
        version: AtomicU32::new(TPACKET_V1),
        reserve: AtomicU32::new(0),
        ring: SpinLock::new(None),
        has_ring: AtomicBool::new(false),
        ring_change: Mutex::new(()),
        group: SpinLock::new(None),
    })?;
    let _ = socket.me.set(Arc::downgrade(&socket));
    let operations = try_box(Operations(socket.clone())).map_err(|_| Errno::ENOMEM)?;
    let made = Socket::new(core, operations as Box<dyn SocketOperations>)?;
    namespace.packet_sockets().add(&socket)?;
    socket.listen()?;
    Ok(made)
}

impl PacketSocket {
    /// A number that no other socket has or will have.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What every socket has.
    pub fn core(&self) -> &Arc<SocketCore> {
        &self.core
    }

    /// Protocol (host order), interface, and whether it listens now.
    pub fn bound_to(&self) -> (u16, i32, bool) {
        let binding = self.binding.lock();
        (binding.protocol, binding.index, binding.running)
    }

    /// Calls with what it is a member of.
    pub fn with_memberships<R>(&self, look: impl FnOnce(&[Membership]) -> R) -> R {
        look(&self.memberships.lock())
    }

    /// PACKET_VERSION and PACKET_RESERVE.
    pub fn ring_settings(&self) -> (u32, u32) {
        (self.version.load(Ordering::Relaxed), self.reserve.load(Ordering::Relaxed))
    }

    /// The shape of its ring, if it has one.
    pub fn ring_shape(&self) -> Option<super::RingShape> {
        self.ring.lock().as_ref().map(|ring| ring.shape())
    }

    /// Whether PACKET_AUXDATA is on; whether PACKET_ORIGDEV is.
    pub fn told(&self) -> (bool, bool) {
        (self.has(Switch::Auxdata), self.has(Switch::OriginalDevice))
    }

    /// Whether PACKET_LOSS is on.
    pub fn loses(&self) -> bool {
        self.has(Switch::Loss)
    }

    pub(super) fn has(&self, switch: Switch) -> bool {
        self.switches.load(Ordering::Relaxed) & switch as u32 != 0
    }

    /// The group that it is in.
    pub(super) fn group(&self) -> Option<Arc<Group>> {
        self.group.lock().clone()
    }

    pub(super) fn set_group(&self, group: Option<Arc<Group>>) -> Option<Arc<Group>> {
        core::mem::replace(&mut *self.group.lock(), group)
    }

    /// PACKET_FANOUT. Errors: as [`fanout::join`].
    pub(super) fn join(&self, wanted: &fanout::Wanted) -> Result<()> {
        let _one = self.rebinding.lock();
        let listens = self.bound_to().2;
        self.stop_listening();
        let joined = fanout::join(self, &self.core.namespace().packet_sockets().groups, wanted);
        if listens { self.listen().and(joined) } else { joined }
    }

    /// Becomes a tap of what it is bound to, if it has a protocol, alone or with its group. `ENOMEM`.
    fn listen(&self) -> Result<()> {
        let Some(me) = self.me.get().and_then(Weak::upgrade) else { return Ok(()) };
        let group = self.group();
        let _change = group.as_ref().map(|group| group.change.lock());
        let (protocol, device) = {
            let mut binding = self.binding.lock();
            if binding.protocol == 0 || binding.index < 0 || binding.running {
                return Ok(());
            }
            binding.running = true;
            (binding.protocol, (binding.index > 0).then(|| binding.device.upgrade()))
        };
        let add = |tap: Arc<dyn Tap>| match &device {
            Some(Some(device)) => device.taps().add(protocol, tap),
            Some(None) => Err(Errno::ENODEV),
            None => self.core.namespace().devices().taps().add_everywhere(protocol, tap),
        };
        let added = match &group {
            None => add(me),
            Some(group) => {
                group.add(me).and_then(|is_first| if is_first { add(group.clone()) } else { Ok(()) })
            }
        };
        if added.is_err() {
            group.iter().for_each(|group| _ = group.remove(self));
            self.binding.lock().running = false;
        }
        added
    }

    /// Stops being one.
    fn stop_listening(&self) {
        let group = self.group();
        let _change = group.as_ref().map(|group| group.change.lock());
        let (protocol, device) = {
            let mut binding = self.binding.lock();
            if !core::mem::take(&mut binding.running) {
                return;
            }
            (binding.protocol, (binding.index > 0).then(|| binding.device.upgrade()))
        };
        let number = match &group {
            None => self.number,
            Some(group) if group.remove(self) => group.number(),
            // Others listen.
            Some(_) => return,
        };
        match device {
            Some(Some(device)) => drop(device.taps().remove(protocol, number)),
            Some(None) => {}
            None => self.core.namespace().devices().taps().remove_everywhere(protocol, number),
        }
    }

    /// Whether a good part of its buffer, or a slot of its ring, is free (`packet_rcv_has_room`).
    pub(super) fn has_much_room(&self) -> bool {
        if self.has_ring.load(Ordering::Acquire)
            && let Some(ring) = self.ring.lock().clone()
        {
            return ring.has_room();
        }
        let limit = self.core.options.receive_buffer();
        self.core.receive_charged() + limit / 4 < limit
    }

    fn bind(&self, address: &SockaddrLl) -> Result<()> {
        let _one = self.rebinding.lock();
        if self.group().is_some() {
            return Err(Errno::EINVAL);
        }
        let device = match address.sll_ifindex {
            0 => None,
            index => Some(self.core.namespace().devices().by_index(index).ok_or(Errno::ENODEV)?),
        };
        self.stop_listening();
        let is_up = device.as_ref().is_none_or(|device| device.is_up());
        {
            let mut binding = self.binding.lock();
            if address.sll_protocol != 0 {
                binding.protocol = u16::from_be(address.sll_protocol);
            }
            binding.index = address.sll_ifindex;
            binding.device = device.as_ref().map(Arc::downgrade).unwrap_or_default();
            if binding.protocol == 0 {
                return Ok(());
            }
        }
        if is_up {
            return self.listen();
        }
        self.core.set_error(Errno::ENETDOWN);
        self.core.wake_all();
        Ok(())
    }

    /// Adds or ends a membership. `EINVAL`, `ENODEV`, `ENOMEM`; ending one that is not there is no error.
    pub(super) fn change_membership(&self, wanted: &PacketMreq, add: bool) -> Result<()> {
        let mut list = self.memberships.lock();
        let is_it = |one: &Membership| {
            let same_address = one.length == wanted.mr_alen
                && one
                    .address
                    .iter()
                    .zip(&wanted.mr_address)
                    .take(usize::from(one.length))
                    .all(|(a, b)| a == b);
            one.index == wanted.mr_ifindex && one.kind == wanted.mr_type && same_address
        };
        let place = list.iter().position(is_it);
        if !add {
            let Some(place) = place else { return Ok(()) };
            if let Some(one) = list.get_mut(place) {
                one.count -= 1;
                if one.count > 0 {
                    return Ok(());
                }
            }
            let gone = list.swap_remove(place);
            apply(&gone, false);
            return Ok(());
        }
        let device = self.core.namespace().devices().by_index(wanted.mr_ifindex).ok_or(Errno::ENODEV)?;
        let length = device.address().len();
        if usize::from(wanted.mr_alen) > length || wanted.mr_alen > 8 {
            return Err(Errno::EINVAL);
        }
        if let Some(one) = place.and_then(|place| list.get_mut(place)) {
            one.count += 1;
            return Ok(());
        }
        if matches!(wanted.mr_type, PACKET_MR_MULTICAST | PACKET_MR_UNICAST)
            && usize::from(wanted.mr_alen) != length
        {
            return Err(Errno::EINVAL);
        }
        // What one socket may hold is bounded as its options are.
        let used = list.len() * size_of::<Membership>();
        if used >= crate::sysctl::OPTION_MEMORY_MAX.get() {
            return Err(Errno::ENOBUFS);
        }
        list.try_reserve(1).map_err(|_| Errno::ENOBUFS)?;
        let one = Membership {
            index: wanted.mr_ifindex,
            kind: wanted.mr_type,
            count: 1,
            address: wanted.mr_address,
            length: wanted.mr_alen,
            device: Arc::downgrade(&device),
        };
        apply(&one, true);
        list.push(one);
        Ok(())
    }

    fn receive_ready(&self) {
        self.core.wake_readers();
    }

    /// Puts a frame into the ring or the queue.
    fn keep(&self, view: &View<'_>, length: usize) {
        let time_ns = sched::clock::realtime_ns();
        if self.has_ring.load(Ordering::Acquire) {
            let ring = self.ring.lock().clone();
            if let Some(ring) = ring {
                return self.keep_in_ring(&ring, view, length, time_ns);
            }
        }
        let cost = account::datagram_cost(view.bytes().len());
        let charged = ReceiveCharge::try_new(&self.core, cost);
        let queued = charged.and_then(|charge| share(view.capture(length, time_ns, charge)));
        match queued.map(|captured| self.queue.push(captured, |_| Ok(()))) {
            Some(Ok(())) => {
                self.packets.fetch_add(1, Ordering::Relaxed);
                self.receive_ready();
            }
            _ => {
                self.packets.fetch_add(1, Ordering::Relaxed);
                self.drops.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn keep_in_ring(&self, ring: &Arc<Ring>, view: &View<'_>, length: usize, time_ns: u64) {
        self.packets.fetch_add(1, Ordering::Relaxed);
        let is_losing = self.drops.load(Ordering::Relaxed) > 0;
        match ring.keep(view, length, time_ns, is_losing) {
            Some(true) => self.receive_ready(),
            Some(false) => {}
            None => {
                self.drops.fetch_add(1, Ordering::Relaxed);
                self.core.count_drop();
                self.receive_ready();
            }
        }
    }

    pub(super) fn is_own(&self, packet: &Packet) -> bool {
        let charge = packet.charge.as_ref().and_then(|charge| charge.downcast_ref::<SendCharge>());
        charge.is_some_and(|charge| Arc::ptr_eq(charge.core(), &self.core))
    }
}

/// Tells the device of a membership that came or went. What the device has no filter for is only noted.
fn apply(one: &Membership, add: bool) {
    let Some(device) = one.device.upgrade() else { return };
    if !matches!(one.kind, PACKET_MR_PROMISC | PACKET_MR_ALLMULTI) {
        return;
    }
    let _ = rtnl::with_pair(&device, &[], |rtnl| match one.kind {
        PACKET_MR_PROMISC => device::count_promiscuous(rtnl, &device, add),
        _ => device::count_all_multicast(rtnl, &device, add),
    });
}

impl Tap for PacketSocket {
    fn number(&self) -> u64 {
        self.number
    }

    fn take(&self, device: &Arc<NetDevice>, packet: &Packet, direction: Direction) {
        let outgoing = direction == Direction::Out;
        if outgoing && (self.has(Switch::IgnoreOutgoing) || self.is_own(packet)) {
            return;
        }
        let view = View::new(device, packet, direction, self.core.kind());
        let length = view.bytes().len();
        let length = match self.core.filter() {
            Some(filter) => match filter.run(&view) {
                0 => return,
                kept => kept.min(length),
            },
            None => length,
        };
        self.keep(&view, length);
    }

    fn notify(&self, _device: &Arc<NetDevice>, event: DeviceEvent) {
        if !matches!(event, DeviceEvent::Down | DeviceEvent::Unregistered) {
            return;
        }
        let bound = self.binding.lock().index > 0;
        if !bound {
            return;
        }
        self.stop_listening();
        if event == DeviceEvent::Unregistered {
            let mut binding = self.binding.lock();
            (binding.index, binding.device) = (-1, Weak::new());
        }
        self.core.set_error(Errno::ENETDOWN);
        self.core.wake_all();
    }
}

/// A device changed: sockets that are bound to it and do not listen, because it was down, do so again or lose it.
pub(crate) fn device_event(
    _rtnl: &device::Rtnl<'_>,
    device: &Arc<NetDevice>,
    event: DeviceEvent,
) -> Result<()> {
    if !matches!(event, DeviceEvent::Up | DeviceEvent::Unregistered) {
        return Ok(());
    }
    let state = device.namespace();
    let mut from = 0;
    while let Some(socket) = state.packet_sockets().next_from(from) {
        from = socket.number + 1;
        let is_bound = {
            let binding = socket.binding.lock();
            !binding.running && core::ptr::eq(binding.device.as_ptr(), Arc::as_ptr(device))
        };
        if is_bound && event == DeviceEvent::Up {
            // Without memory it stays as if the device were down.
            let _ = socket.listen();
        } else if is_bound {
            let mut binding = socket.binding.lock();
            (binding.index, binding.device) = (-1, Weak::new());
        }
    }
    Ok(())
}

/// An address to bind or send to. `EINVAL`.
fn parse(address: &SocketAddress) -> Result<SockaddrLl> {
    let bytes = address.as_bytes();
    if bytes.len() < size_of::<SockaddrLl>() {
        return Err(Errno::EINVAL);
    }
    let (address, _) = SockaddrLl::read_from_prefix(bytes).map_err(|_| Errno::EINVAL)?;
    if u32::from(address.sll_family) != AF_PACKET {
        return Err(Errno::EINVAL);
    }
    Ok(address)
}

/// Where to send: device, protocol (host order), link-layer address.
struct Target {
    device: Arc<NetDevice>,
    protocol: u16,
    to: [u8; 8],
    has_address: bool,
}

struct Operations(Arc<PacketSocket>);

impl Operations {
    fn target(&self, address: &SocketAddress) -> Result<Target> {
        let socket = &self.0;
        if address.is_none() {
            let binding = socket.binding.lock();
            let device = binding.device.upgrade().ok_or(Errno::ENXIO)?;
            return Ok(Target { device, protocol: binding.protocol, to: [0; 8], has_address: false });
        }
        let bytes = address.as_bytes();
        if bytes.len() < SOCKADDR_LL_HEADER {
            return Err(Errno::EINVAL);
        }
        let mut whole = [0; size_of::<SockaddrLl>()];
        whole.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
        let given = SockaddrLl::read_from_bytes(&whole).map_err(|_| Errno::EINVAL)?;
        if bytes.len() < usize::from(given.sll_halen) + SOCKADDR_LL_HEADER {
            return Err(Errno::EINVAL);
        }
        let devices = socket.core.namespace().devices();
        let device = devices.by_index(given.sll_ifindex).ok_or(Errno::ENXIO)?;
        let needed = device.address().len();
        let is_datagram = socket.core.kind() == SocketKind::Datagram;
        if is_datagram && bytes.len() < needed + SOCKADDR_LL_HEADER {
            return Err(Errno::EINVAL);
        }
        Ok(Target {
            device,
            protocol: u16::from_be(given.sll_protocol),
            to: given.sll_addr,
            has_address: true,
        })
    }

    fn wait_for_room(&self, message: &SendMessage<'_>) -> Result<()> {
        let core = &self.0.core;
        if account::has_send_room(core) {
            return Ok(());
        }
        if message.is_nonblocking() {
            return Err(Errno::EAGAIN);
        }
        let room = || account::has_send_room(core).then_some(());
        core.wait(core.writable(), core.options.send_deadline(), room)
    }

    fn first(&self, message: &ReceiveMessage<'_>) -> Result<Arc<Captured>> {
        let socket = &self.0;
        let look = || match (socket.core.check_error(), socket.queue.get(0)) {
            (Err(error), _) => Some(Err(error)),
            (Ok(()), Some(first)) => Some(Ok(first)),
            (Ok(()), None) => None,
        };
        if message.is_nonblocking() {
            return look().unwrap_or(Err(Errno::EAGAIN));
        }
        let deadline = socket.core.options.receive_deadline();
        socket.core.wait_exclusive(socket.core.readable(), deadline, look)?
    }
}

/// The link-layer header in front of a datagram (`dev_hard_header`).
fn add_header(target: &Target, packet: &mut Packet) -> Result<()> {
    let device = &target.device;
    if device.header_length() == 0 {
        return Ok(());
    }
    let source = device.address();
    let place = packet.push(ETH_HLEN)?;
    let (to, rest) = place.split_at_mut(6);
    let (from, protocol) = rest.split_at_mut(6);
    if target.has_address && !device.is_loopback() {
        to.copy_from_slice(&target.to[..6]);
    } else {
        to.fill(0);
    }
    from.fill(0);
    from.iter_mut().zip(&source).for_each(|(place, byte)| *place = *byte);
    protocol.copy_from_slice(&target.protocol.to_be_bytes());
    Ok(())
}

impl SocketOperations for Operations {
    fn bind(&self, _socket: &Socket, address: &SocketAddress) -> Result<()> {
        self.0.bind(&parse(address)?)
    }

    fn local_address(&self, _socket: &Socket) -> Result<SocketAddress> {
        let (protocol, index, device) = {
            let binding = self.0.binding.lock();
            (binding.protocol, binding.index, binding.device.upgrade())
        };
        let mut address = SockaddrLl {
            sll_family: AF_PACKET as u16,
            sll_protocol: protocol.to_be(),
            sll_ifindex: index,
            ..SockaddrLl::default()
        };
        if let Some(device) = device {
            let own = device.address();
            address.sll_hatype = device.hardware_type();
            address.sll_halen = own.len() as u8;
            address.sll_addr.iter_mut().zip(&own).for_each(|(place, byte)| *place = *byte);
        }
        let length = SOCKADDR_LL_HEADER + usize::from(address.sll_halen).min(8);
        SocketAddress::new(address.as_bytes().get(..length).unwrap_or_default())
    }

    fn send(&self, _socket: &Socket, message: &mut SendMessage<'_>) -> Result<usize> {
        let socket = &self.0;
        let target = self.target(&message.address)?;
        if !target.device.is_up() {
            return Err(Errno::ENETDOWN);
        }
        let core = &socket.core;
        let length = message.data.remaining();
        let is_raw = core.kind() == SocketKind::Raw;
        let header = target.device.header_length();
        let reserve = if is_raw { header } else { 0 };
        let most = target.device.mtu() as usize + reserve;
        // A VLAN tag more is let through where the frame turns out to have one.
        if length > most + 4 {
            return Err(Errno::EMSGSIZE);
        }
        self.wait_for_room(message)?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(length).map_err(|_| Errno::ENOBUFS)?;
        bytes.resize(length, 0);
        message.data.read_exact(&mut bytes)?;
        let own_protocol = bytes.get(12..14).map_or(0, |field| u16::from_be_bytes([field[0], field[1]]));
        if is_raw && length < header {
            return Err(Errno::EINVAL);
        }
        if length > most && !(is_raw && own_protocol == ETH_P_8021Q) {
            return Err(Errno::EMSGSIZE);
        }
        let mut packet = Packet::with_room(HEAD_ROOM, length)?;
        packet.append(&bytes)?;
        packet.mark_network_header();
        if !is_raw {
            add_header(&target, &mut packet)?;
        }
        let is_from_header = is_raw && header == ETH_HLEN && matches!(target.protocol, 0 | ETH_P_ALL);
        packet.protocol = if is_from_header { own_protocol } else { target.protocol };
        packet.kind = PacketKind::Outgoing;
        packet.device = Some(target.device.clone());
        (packet.mark, packet.priority) = (core.options.mark(), core.options.priority() as u32);
        packet.charge = Some(try_arc(SendCharge::new(core, account::datagram_cost(length)))?);
        traffic::transmit(&target.device, packet)?;
        Ok(length)
    }

    fn receive(&self, _socket: &Socket, message: &mut ReceiveMessage<'_>) -> Result<usize> {
        let allowed = MessageFlags::PEEK
            | MessageFlags::DONTWAIT
            | MessageFlags::TRUNC
            | MessageFlags::CMSG_CLOEXEC
            | MessageFlags::ERRQUEUE;
        if !allowed.contains(message.flags & MessageFlags::from_bits_retain(!abi::socket::MSG_WAITFORONE)) {
            return Err(Errno::EINVAL);
        }
        if message.flags.contains(MessageFlags::ERRQUEUE) {
            // No transmit timestamps are made, so that there is never one.
            return Err(Errno::EAGAIN);
        }
        let peek = message.flags.contains(MessageFlags::PEEK);
        let captured = loop {
            let first = self.first(message)?;
            if peek || self.0.queue.pop_if_first(&first) {
                break first;
            }
        };
        let bytes = captured.bytes();
        let wanted = bytes.len().min(message.data.remaining());
        if wanted > 0 && message.data.write_bytes(&bytes[..wanted])? < wanted {
            return Err(Errno::EFAULT);
        }
        if wanted < bytes.len() {
            message.answer_flags |= MessageFlags::TRUNC;
        }
        message.address = captured.socket_address();
        crate::timestamp::add(&self.0.core, captured.time_ns, &mut message.ancillary)?;
        if self.0.core.options.has(Switches::RXQ_OVFL) {
            let drops = self.0.core.drops();
            add(&mut message.ancillary, abi::socket::SOL_SOCKET, abi::socket::SO_RXQ_OVFL, drops.as_bytes())?;
        }
        if self.0.has(Switch::Auxdata) {
            let auxiliary = captured.auxiliary();
            add(&mut message.ancillary, SOL_PACKET, PACKET_AUXDATA as u32, auxiliary.as_bytes())?;
        }
        Ok(if message.flags.contains(MessageFlags::TRUNC) { bytes.len() } else { wanted })
    }

    fn set_option(&self, socket: &Socket, level: i32, name: i32, value: &[u8]) -> Result<()> {
        if level as u32 != SOL_PACKET {
            return Err(Errno::ENOPROTOOPT);
        }
        super::options::set(&self.0, socket, name, value)
    }

    fn get_option(&self, _socket: &Socket, level: i32, name: i32, value: &mut [u8]) -> Result<usize> {
        if level as u32 != SOL_PACKET {
            return Err(Errno::ENOPROTOOPT);
        }
        super::options::get(&self.0, name, value)
    }

    fn ioctl(&self, _socket: &Socket, command: u32, argument: usize) -> Result<usize> {
        let value = match command {
            SIOCOUTQ => self.0.core.send_charged() as i32,
            SIOCINQ => self.0.queue.first_length() as i32,
            _ => return crate::ip::ioctl::inet(self.0.core.namespace(), command, argument),
        };
        UserPtr::new(argument).write(&value)?;
        Ok(0)
    }

    fn map(&self, _socket: &Socket, _file: &Arc<File>) -> Result<Arc<dyn mm::MappedFile>> {
        let ring = self.0.ring.lock().clone().ok_or(Errno::EINVAL)?;
        ring.mapping(self.0.core.inode_number())
    }

    fn poll(&self, _socket: &Socket, table: &mut PollTable<'_>) -> PollEvents {
        let core = &self.0.core;
        table.register(core.readable());
        table.register(core.writable());
        let mut events = PollEvents::empty();
        let ring = self.0.ring.lock().clone();
        if !self.0.queue.is_empty() || ring.is_some_and(|ring| ring.is_readable()) {
            events |= PollEvents::READABLE;
        }
        if account::is_writable(core) {
            events |= PollEvents::WRITABLE | PollEvents::WRBAND;
        }
        if core.has_error() {
            events |= PollEvents::ERR;
        }
        events
    }

    fn release(&self, _socket: &Socket) {
        let socket = &self.0;
        socket.stop_listening();
        fanout::leave(socket, &socket.core.namespace().packet_sockets().groups);
        socket.core.namespace().packet_sockets().remove(socket.number);
        let memberships = core::mem::take(&mut *socket.memberships.lock());
        memberships.iter().for_each(|one| apply(one, false));
        drop(socket.queue.close());
        socket.has_ring.store(false, Ordering::Release);
        let ring = socket.ring.lock().take();
        drop(ring);
    }
}

impl Drop for Operations {
    /// A socket that never got a descriptor is closed here.
    fn drop(&mut self) {
        self.0.stop_listening();
        self.0.core.namespace().packet_sockets().remove(self.0.number);
    }
}

fn add(ancillary: &mut Ancillary, level: u32, kind: u32, bytes: &[u8]) -> Result<()> {
    let mut data = Vec::new();
    data.try_reserve_exact(bytes.len()).map_err(|_| Errno::ENOMEM)?;
    data.extend_from_slice(bytes);
    ancillary.others.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    ancillary.others.push(ControlMessage { level: level as i32, kind: kind as i32, data });
    Ok(())
}
