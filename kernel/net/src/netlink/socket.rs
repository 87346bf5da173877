//! The netlink socket: port, groups, options, what it sends and receives.
//!
//! Key types: [`NetlinkSocket`] (shared by the descriptor's [`crate::Socket`] and the tables), [`Datagram`]. Messages to the kernel are
//! handled while they are sent, answers wait in the socket's queue, dumps go on as the queue is read.
//! Locks: `requests` (sleeping: one request at a time), `dump` (sleeping), `groups` (sleeping, before the tables'), the queue.

use abi::errno::{Errno, Result};
use abi::netlink as linux;
use abi::poll::PollEvents;
use abi::socket::{AF_NETLINK, AF_UNSPEC, SOL_NETLINK};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::memory::try_arc;
use machine::sync::Mutex;
use machine::sync::SpinLock;
use machine::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use security::{Capability, Credentials};
use vfs::PollTable;
use zerocopy::{FromBytes, IntoBytes};

use super::request::{self, RunningDump};
use super::{Protocol, protocol};
use crate::account::{self, ReceiveCharge};
use crate::core::SocketCore;
use crate::message::{
    ControlMessage, Identity, MessageFlags, ReceiveMessage, SendMessage, Sender, SocketAddress,
};
use crate::namespace::NetNamespace;
use crate::queue::{Message, ReceiveQueue};
use crate::socket::{Socket, SocketKind, SocketOperations};

/// Where ports that the kernel chooses count down from if the process's number is taken.
const FIRST_CHOSEN: i32 = -4097;
/// How large the pieces of a dump may become (a reader with a large buffer gets large pieces).
pub(super) const DUMP_MAX: usize = 32 << 10;

/// A message in a socket's queue.
pub struct Datagram {
    bytes: Arc<Vec<u8>>,
    /// The sender's port; 0 is the kernel.
    port: u32,
    /// The group it was sent to; 0 for none.
    group: u32,
    /// The id of the namespace it is from, if that is not the receiver's.
    nsid: Option<i32>,
    identity: Identity,
    charge: Option<ReceiveCharge>,
}

impl Message for Datagram {
    fn length(&self) -> usize {
        self.bytes.len()
    }
}

impl Datagram {
    /// From the kernel.
    pub fn from_kernel(bytes: Arc<Vec<u8>>, group: u32, nsid: Option<i32>) -> Datagram {
        Datagram { bytes, port: 0, group, nsid, identity: Sender::kernel().identity(), charge: None }
    }
}

/// An option of SOL_NETLINK that is on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Toggle {
    /// NETLINK_PKTINFO.
    PacketInfo = 1,
    /// NETLINK_BROADCAST_ERROR.
    BroadcastError = 2,
    /// NETLINK_NO_ENOBUFS.
    NoEnobufs = 4,
    /// NETLINK_LISTEN_ALL_NSID.
    ListenAllNsid = 8,
    /// NETLINK_CAP_ACK.
    CapAck = 16,
    /// NETLINK_EXT_ACK.
    ExtAck = 32,
    /// NETLINK_GET_STRICT_CHK.
    StrictCheck = 64,
}

impl Toggle {
    fn of(name: i32) -> Option<Toggle> {
        Some(match name {
            linux::NETLINK_PKTINFO => Toggle::PacketInfo,
            linux::NETLINK_BROADCAST_ERROR => Toggle::BroadcastError,
            linux::NETLINK_NO_ENOBUFS => Toggle::NoEnobufs,
            linux::NETLINK_LISTEN_ALL_NSID => Toggle::ListenAllNsid,
            linux::NETLINK_CAP_ACK => Toggle::CapAck,
            linux::NETLINK_EXT_ACK => Toggle::ExtAck,
            linux::NETLINK_GET_STRICT_CHK => Toggle::StrictCheck,
            _ => return None,
        })
    }
}

/// See the module.
pub struct NetlinkSocket {
    number: u64,
    core: Arc<SocketCore>,
    protocol: &'static Protocol,
    /// Who made it.
    opener: Sender,
    port: AtomicU32,
    bound: AtomicBool,
    toggles: AtomicU32,
    /// Its groups, ascending.
    groups: Mutex<Vec<u32>>,
    queue: ReceiveQueue<Datagram>,
    /// It lost messages and has not emptied its queue since.
    congested: AtomicBool,
    /// Port and group that it is connected to.
    destination: SpinLock<(u32, u32)>,
    pub(super) requests: Mutex<()>,
    pub(super) dump: Mutex<Option<RunningDump>>,
    /// The largest buffer that was read into.
    read_size: AtomicUsize,
}

/// socket(2) of this family. `EPROTONOSUPPORT`, `ESOCKTNOSUPPORT`, `ENOMEM`.
pub(crate) fn create(
    kind: SocketKind,
    number: i32,
    namespace: &Arc<NetNamespace>,
    credentials: &Credentials,
) -> Result<Arc<Socket>> {
    if !matches!(kind, SocketKind::Raw | SocketKind::Datagram) {
        return Err(Errno::ESOCKTNOSUPPORT);
    }
    let protocol = protocol(number)?;
    let core = SocketCore::new(AF_NETLINK as u16, kind, number, namespace.clone(), credentials)?;
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let inner = try_arc(NetlinkSocket {
        number: NEXT.fetch_add(1, Ordering::Relaxed),
        core: core.clone(),
        protocol,
        opener: Sender::current(),
        port: AtomicU32::new(0),
        bound: AtomicBool::new(false),
        toggles: AtomicU32::new(0),
        groups: Mutex::new(Vec::new()),
        queue: ReceiveQueue::new(),
        congested: AtomicBool::new(false),
        destination: SpinLock::new((0, 0)),
        requests: Mutex::new(()),
        dump: Mutex::new(None),
        read_size: AtomicUsize::new(0),
    })?;
    let operations = machine::memory::try_box(Operations(inner)).map_err(|_| Errno::ENOMEM)?;
    Socket::new(core, operations as Box<dyn SocketOperations>)
}

impl NetlinkSocket {
    /// A number that no other socket has or will have.
    pub fn number(&self) -> u64 {
        self.number
    }
    /// What it talks to.
    pub fn protocol(&self) -> &'static Protocol {
        self.protocol
    }
    /// Its port; 0 before it has one.
    pub fn port(&self) -> u32 {
        self.port.load(Ordering::Acquire)
    }
    /// Where it was made.
    pub fn namespace(&self) -> &Arc<NetNamespace> {
        self.core.namespace()
    }
    /// Who made it.
    pub fn opener(&self) -> &Sender {
        &self.opener
    }
    /// What every socket has.
    pub fn core(&self) -> &Arc<SocketCore> {
        &self.core
    }
    /// Whether an option is on.
    pub fn has(&self, toggle: Toggle) -> bool {
        self.toggles.load(Ordering::Relaxed) & toggle as u32 != 0
    }
    /// Its first 32 groups as bits.
    pub fn group_mask(&self) -> u32 {
        self.groups.lock().iter().filter(|group| **group <= 32).fold(0, |mask, group| mask | 1 << (group - 1))
    }
    /// Port and group that it is connected to; zeros if it is not.
    pub fn connected_to(&self) -> (u32, u32) {
        *self.destination.lock()
    }
    /// Whether it is being told a list.
    pub fn is_dumping(&self) -> bool {
        // Who asks through the socket itself holds its dump.
        self.dump.try_lock().is_none_or(|dump| dump.is_some())
    }
    /// All its groups as bits, in words of 64; none if it has no group. `ENOMEM`.
    pub fn group_words(&self) -> Result<Option<Vec<u64>>> {
        let groups = self.groups.lock();
        if groups.is_empty() {
            return Ok(None);
        }
        let count = self.protocol.groups.max(32).div_ceil(64) as usize;
        let mut words = Vec::new();
        words.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
        words.resize(count, 0_u64);
        for group in groups.iter() {
            let bit = *group as usize - 1;
            if let Some(word) = words.get_mut(bit / 64) {
                *word |= 1 << (bit % 64);
            }
        }
        Ok(Some(words))
    }
    /// How large the pieces of its dumps may be.
    pub(super) fn dump_size(&self, least: usize) -> usize {
        self.read_size.load(Ordering::Relaxed).clamp(least, DUMP_MAX.max(least))
    }

    /// Queues a message. `ENOBUFS`: its buffer is full (or no memory is left).
    fn deliver(&self, mut datagram: Datagram) -> Result<()> {
        let cost = account::datagram_cost(datagram.bytes.len());
        if self.congested.load(Ordering::Acquire) {
            self.core.count_drop();
            return Err(Errno::ENOBUFS);
        }
        datagram.charge = Some(ReceiveCharge::try_new(&self.core, cost).ok_or(Errno::ENOBUFS)?);
        let datagram = try_arc(datagram)?;
        self.queue.push(datagram, |_| Ok(())).map_err(|_| Errno::ENOBUFS)?;
        self.core.wake_readers();
        Ok(())
    }

    /// Queues a message; if there is no room the socket is told that it lost one.
    pub(super) fn deliver_or_overrun(&self, datagram: Datagram) {
        if self.deliver(datagram).is_err() {
            self.overrun();
        }
    }

    /// It lost a message: the next call says `ENOBUFS`, unless it does not want to know.
    pub(super) fn overrun(&self) {
        if self.has(Toggle::NoEnobufs) {
            return;
        }
        if !self.congested.swap(true, Ordering::AcqRel) {
            self.core.set_error(Errno::ENOBUFS);
            self.core.wake_all();
        }
    }

    /// Answers: queues bytes of the kernel's.
    pub(super) fn answer(&self, bytes: Vec<u8>) {
        match try_arc(bytes) {
            Ok(bytes) => self.deliver_or_overrun(Datagram::from_kernel(bytes, 0, None)),
            Err(_) => self.overrun(),
        }
    }

    /// Whether a dump may go on: half the buffer is free.
    pub(super) fn has_dump_room(&self) -> bool {
        self.core.receive_charged() * 2 <= self.core.options.receive_buffer()
    }

    /// Gives it a port of the kernel's choice: the process's number if that is free. `ENOMEM`, `EADDRINUSE`.
    fn bind_somewhere(self: &Arc<Self>) -> Result<()> {
        let process = Sender::current().process.map_or(0, |process| process.number());
        let mut port = process;
        let mut next = None;
        loop {
            match self.bind_to(port as u32) {
                Err(Errno::EADDRINUSE) => {}
                other => return other,
            }
            let first = || FIRST_CHOSEN - (machine::random::next_u64() & 0xffff) as i32;
            port = next.unwrap_or_else(first);
            next = Some(if port > i32::MIN { port - 1 } else { FIRST_CHOSEN });
        }
    }

    /// Gives it a port. `EADDRINUSE`: another has it.
    fn bind_to(self: &Arc<Self>, port: u32) -> Result<()> {
        if self.bound.load(Ordering::Acquire) {
            return if self.port() == port { Ok(()) } else { Err(Errno::EBUSY) };
        }
        self.namespace().netlink.bind(port, self)?;
        self.port.store(port, Ordering::Release);
        self.bound.store(true, Ordering::Release);
        Ok(())
    }

    /// Ensures that it has a port.
    fn ensure_bound(self: &Arc<Self>) -> Result<()> {
        if self.bound.load(Ordering::Acquire) { Ok(()) } else { self.bind_somewhere() }
    }

    fn may(&self, open: bool) -> bool {
        let owner = self.namespace().owner();
        open || self.opener.credentials.capable(owner, Capability::NetAdmin)
            && Sender::current().credentials.capable(owner, Capability::NetAdmin)
    }

    fn join(self: &Arc<Self>, group: u32) -> Result<()> {
        let mut groups = self.groups.lock();
        let Err(place) = groups.binary_search(&group) else { return Ok(()) };
        groups.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        self.namespace().netlink.join(self, group, self.has(Toggle::ListenAllNsid))?;
        groups.insert(place, group);
        Ok(())
    }

    fn leave(&self, group: u32) {
        let mut groups = self.groups.lock();
        if let Ok(place) = groups.binary_search(&group) {
            self.namespace().netlink.leave(self, group, false);
            groups.remove(place);
        }
    }

    /// Makes its first 32 groups those of a mask (bind(2)).
    fn set_mask(self: &Arc<Self>, mask: u32) -> Result<()> {
        for group in 1..=32.min(self.protocol.groups) {
            if mask & 1 << (group - 1) != 0 {
                self.join(group)?;
            } else {
                self.leave(group);
            }
        }
        Ok(())
    }

    fn listen_everywhere(self: &Arc<Self>, on: bool) -> Result<()> {
        let groups = self.groups.lock();
        for group in groups.iter() {
            if on {
                self.namespace().netlink.join(self, *group, true)?;
            } else {
                self.namespace().netlink.leave(self, *group, true);
            }
        }
        Ok(())
    }

    fn set(self: &Arc<Self>, name: i32, value: u32) -> Result<()> {
        match name {
            linux::NETLINK_ADD_MEMBERSHIP | linux::NETLINK_DROP_MEMBERSHIP => {
                if !self.may(self.protocol.open_to_listen) {
                    return Err(Errno::EPERM);
                }
                if value == 0 || value > self.protocol.groups {
                    return Err(Errno::EINVAL);
                }
                if name == linux::NETLINK_ADD_MEMBERSHIP {
                    return self.join(value);
                }
                self.leave(value);
                Ok(())
            }
            _ => {
                let toggle = Toggle::of(name).ok_or(Errno::ENOPROTOOPT)?;
                if toggle == Toggle::ListenAllNsid {
                    let owner = self.namespace().owner();
                    if !Sender::current().credentials.capable(owner, Capability::NetBroadcast) {
                        return Err(Errno::EPERM);
                    }
                    self.listen_everywhere(value != 0)?;
                }
                if value != 0 {
                    self.toggles.fetch_or(toggle as u32, Ordering::Relaxed);
                } else {
                    self.toggles.fetch_and(!(toggle as u32), Ordering::Relaxed);
                }
                if toggle == Toggle::NoEnobufs && value != 0 {
                    self.congested.store(false, Ordering::Release);
                    self.core.wake_writers();
                }
                Ok(())
            }
        }
    }

    /// A message to another program: to a port and to a group.
    fn send_to_programs(&self, bytes: &Arc<Vec<u8>>, to: (u32, u32), sender: &Sender) -> Result<()> {
        let datagram = |group| Datagram {
            bytes: bytes.clone(),
            port: self.port(),
            group,
            nsid: None,
            identity: sender.identity(),
            charge: None,
        };
        let (port, group) = to;
        let table = &self.namespace().netlink;
        if group != 0 {
            table.each_member(self.protocol.number, group, |socket| {
                if socket.number() != self.number && socket.port() != port {
                    socket.deliver_or_overrun(datagram(group));
                }
            });
        }
        let receiver = table.at_port(self.protocol.number, port).ok_or(Errno::ECONNREFUSED)?;
        let connected = receiver.destination.lock().0;
        if connected != 0 && connected != self.port() {
            return Err(Errno::ECONNREFUSED);
        }
        receiver
            .deliver(datagram(group))
            .map_err(|error| if error == Errno::ENOBUFS { Errno::EAGAIN } else { error })
    }
}

/// A netlink address: port and group mask. `EINVAL`.
fn parse(address: &SocketAddress) -> Result<(u32, u32)> {
    let (address, _) =
        linux::SocketAddressNetlink::read_from_prefix(address.as_bytes()).map_err(|_| Errno::EINVAL)?;
    if u32::from(address.nl_family) != AF_NETLINK {
        return Err(Errno::EINVAL);
    }
    Ok((address.nl_pid, address.nl_groups))
}

fn address(port: u32, groups: u32) -> Result<SocketAddress> {
    let address = linux::SocketAddressNetlink {
        nl_family: AF_NETLINK as u16,
        nl_pad: 0,
        nl_pid: port,
        nl_groups: groups,
    };
    SocketAddress::new(address.as_bytes())
}

/// The mask of a group, if it is one of the first 32.
fn mask_of(group: u32) -> u32 {
    if (1..=32).contains(&group) { 1 << (group - 1) } else { 0 }
}

/// The socket of one descriptor.
struct Operations(Arc<NetlinkSocket>);

impl Operations {
    /// The next message, without taking it; waits for one if it may.
    fn first(&self, message: &ReceiveMessage<'_>) -> Result<Arc<Datagram>> {
        let inner = &self.0;
        let look = || {
            let error = inner.core.check_error();
            match (error, inner.queue.get(0)) {
                (Err(error), _) => Some(Err(error)),
                (Ok(()), Some(first)) => Some(Ok(first)),
                (Ok(()), None) => inner.core.is_receive_shut().then_some(Err(Errno::EAGAIN)),
            }
        };
        if message.is_nonblocking() {
            return look().unwrap_or(Err(Errno::EAGAIN));
        }
        let deadline = inner.core.options.receive_deadline();
        inner.core.wait_exclusive(inner.core.readable(), deadline, look)?
    }

    fn tell_about(&self, datagram: &Datagram, message: &mut ReceiveMessage<'_>) -> Result<()> {
        let mut add = |kind: i32, bytes: &[u8]| -> Result<()> {
            let mut data = Vec::new();
            data.try_reserve_exact(bytes.len()).map_err(|_| Errno::ENOMEM)?;
            data.extend_from_slice(bytes);
            message.ancillary.others.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            message.ancillary.others.push(ControlMessage { level: SOL_NETLINK as i32, kind, data });
            Ok(())
        };
        if self.0.has(Toggle::PacketInfo) {
            add(linux::NETLINK_PKTINFO, &datagram.group.to_ne_bytes())?;
        }
        if self.0.has(Toggle::ListenAllNsid)
            && let Some(id) = datagram.nsid
        {
            add(linux::NETLINK_LISTEN_ALL_NSID, &id.to_ne_bytes())?;
        }
        message.ancillary.sender = Some(datagram.identity.clone());
        Ok(())
    }
}

impl SocketOperations for Operations {
    fn bind(&self, _socket: &Socket, address: &SocketAddress) -> Result<()> {
        let (port, mask) = parse(address)?;
        let inner = &self.0;
        if mask != 0 && !inner.may(inner.protocol.open_to_listen) {
            return Err(Errno::EPERM);
        }
        if inner.bound.load(Ordering::Acquire) && port != inner.port() {
            return Err(Errno::EINVAL);
        }
        if !inner.bound.load(Ordering::Acquire) {
            if port != 0 { inner.bind_to(port) } else { inner.bind_somewhere() }?;
        }
        inner.set_mask(mask)
    }

    fn connect(&self, _socket: &Socket, address: &SocketAddress, _nonblocking: bool) -> Result<()> {
        if address.family() == Some(AF_UNSPEC as u16) {
            *self.0.destination.lock() = (0, 0);
            return Ok(());
        }
        let (port, mask) = parse(address)?;
        if (port != 0 || mask != 0) && !self.0.may(self.0.protocol.open_to_send) {
            return Err(Errno::EPERM);
        }
        self.0.ensure_bound()?;
        *self.0.destination.lock() = (port, group_of(mask));
        Ok(())
    }

    fn local_address(&self, _socket: &Socket) -> Result<SocketAddress> {
        address(self.0.port(), self.0.group_mask())
    }

    fn peer_address(&self, _socket: &Socket) -> Result<SocketAddress> {
        let (port, group) = *self.0.destination.lock();
        address(port, mask_of(group))
    }

    fn send(&self, _socket: &Socket, message: &mut SendMessage<'_>) -> Result<usize> {
        if message.flags.contains(MessageFlags::OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        let length = message.data.remaining();
        if length == 0 {
            return Err(Errno::ENODATA);
        }
        let to = if message.address.is_none() {
            *self.0.destination.lock()
        } else {
            let (port, mask) = parse(&message.address)?;
            if (port != 0 || mask != 0) && !self.0.may(self.0.protocol.open_to_send) {
                return Err(Errno::EPERM);
            }
            (port, group_of(mask))
        };
        self.0.ensure_bound()?;
        if length > self.0.core.options.send_buffer().saturating_sub(32) {
            return Err(Errno::EMSGSIZE);
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(length).map_err(|_| Errno::ENOBUFS)?;
        bytes.resize(length, 0);
        message.data.read_exact(&mut bytes)?;
        if to == (0, 0) {
            if !self.0.protocol.has_kernel {
                return Err(Errno::ECONNREFUSED);
            }
            request::handle(&self.0, &bytes, &Sender::current());
            return Ok(length);
        }
        self.0.send_to_programs(&try_arc(bytes)?, to, &Sender::current())?;
        Ok(length)
    }

    fn receive(&self, _socket: &Socket, message: &mut ReceiveMessage<'_>) -> Result<usize> {
        if message.flags.contains(MessageFlags::OOB) {
            return Err(Errno::EOPNOTSUPP);
        }
        let inner = &self.0;
        inner.read_size.fetch_max(message.data.remaining(), Ordering::Relaxed);
        let peek = message.flags.contains(MessageFlags::PEEK);
        let datagram = loop {
            let first = self.first(message)?;
            // Another reader may have been faster.
            if peek || inner.queue.pop_if_first(&first) {
                break first;
            }
        };
        let copied =
            if message.data.remaining() == 0 { 0 } else { message.data.write_bytes(&datagram.bytes)? };
        if copied < datagram.bytes.len() {
            message.answer_flags |= MessageFlags::TRUNC;
        }
        message.address = address(datagram.port, mask_of(datagram.group))?;
        self.tell_about(&datagram, message)?;
        let length = datagram.bytes.len();
        drop(datagram);
        if inner.queue.is_empty() {
            inner.congested.store(false, Ordering::Release);
        }
        request::continue_dump(inner);
        Ok(if message.flags.contains(MessageFlags::TRUNC) { length } else { copied })
    }

    fn set_option(&self, _socket: &Socket, level: i32, name: i32, value: &[u8]) -> Result<()> {
        if level != SOL_NETLINK as i32 {
            return Err(Errno::ENOPROTOOPT);
        }
        // Less than a number counts as zero.
        let value = value.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
        self.0.set(name, value)
    }

    fn get_option(&self, _socket: &Socket, level: i32, name: i32, value: &mut [u8]) -> Result<usize> {
        if level != SOL_NETLINK as i32 {
            return Err(Errno::ENOPROTOOPT);
        }
        if name == linux::NETLINK_LIST_MEMBERSHIPS {
            let words = self.0.protocol.groups.div_ceil(32) as usize;
            let groups = self.0.groups.lock();
            for (index, place) in value.chunks_exact_mut(4).take(words).enumerate() {
                let bits = groups.iter().filter(|group| (**group - 1) as usize / 32 == index);
                let word = bits.fold(0u32, |word, group| word | 1 << ((group - 1) % 32));
                place.copy_from_slice(&word.to_ne_bytes());
            }
            return Ok(words * 4);
        }
        let toggle = Toggle::of(name).ok_or(Errno::ENOPROTOOPT)?;
        let place = value.get_mut(..4).ok_or(Errno::EINVAL)?;
        place.copy_from_slice(&u32::from(self.0.has(toggle)).to_ne_bytes());
        Ok(4)
    }

    fn poll(&self, _socket: &Socket, table: &mut PollTable<'_>) -> PollEvents {
        let core = &self.0.core;
        table.register(core.readable());
        table.register(core.writable());
        let mut events = PollEvents::WRITABLE;
        if !self.0.queue.is_empty() {
            events |= PollEvents::READABLE;
        }
        if core.has_error() {
            events |= PollEvents::ERR;
        }
        events
    }

    fn release(&self, _socket: &Socket) {
        let inner = &self.0;
        let table = &inner.namespace().netlink;
        let groups = core::mem::take(&mut *inner.groups.lock());
        groups.iter().for_each(|group| table.leave(inner, *group, false));
        if inner.bound.load(Ordering::Acquire) {
            table.unbind(inner.protocol.number, inner.port());
        }
        let waiting = inner.queue.close();
        drop(waiting);
        let dump = inner.dump.lock().take();
        drop(dump);
    }
}

/// The lowest group of a mask; 0 for none.
fn group_of(mask: u32) -> u32 {
    if mask == 0 { 0 } else { mask.trailing_zeros() + 1 }
}
