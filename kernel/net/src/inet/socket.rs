//! The Internet socket: one object for UDP, ping and raw sockets of both families.
//!
//! Key types: [`InetSocket`], [`Transport`] (what it speaks), [`Endpoints`] (what it is bound and connected to), [`InetNamespace`] (the
//! sockets of a namespace). Locks, outermost first: a socket's `binding` (sleeping), its cork (sleeping), then leaves: its
//! endpoints, the ports, the tables, its queues.

use abi::errno::{Errno, Result};
use abi::inet::*;
use abi::socket::{AF_INET, AF_INET6};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::net::IpAddr;
use linnet_lib::tree::{Item, Node, Tree};
use machine::memory::{try_arc, try_box};
use machine::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use machine::sync::{Mutex, Once, RwSpinLock, SpinLock};
use security::{Capability, Credentials, Kgid};

use super::address::{self, Endpoint};
use super::counters::UdpCounters;
use super::errors::Report;
use super::membership::Memberships;
use super::ports::{Held, Ports};
use super::receive::Datagram;
use super::send::Corked;
use super::settings::{Flag, Settings};
use super::table::{Group, Place, Table};
use crate::core::SocketCore;
use crate::namespace::NetNamespace;
use crate::options::Switches;
use crate::queue::ReceiveQueue;
use crate::socket::{Socket, SocketKind, SocketOperations};

/// What a socket speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// UDP.
    Udp,
    /// ICMP echo without headers (`net.ipv4.ping_group_range`).
    Ping,
    /// A protocol over IP, raw.
    Raw,
}

/// What a socket is bound and connected to.
#[derive(Clone, Copy, Debug)]
pub struct Endpoints {
    /// What it receives for.
    pub local: IpAddr,
    /// What it sends from, if that is settled.
    pub source: IpAddr,
    /// Its port, identifier or protocol; 0 for none.
    pub port: u16,
    /// Whom it is connected to.
    pub remote: Option<Endpoint>,
    /// A program chose the address, the port: disconnecting leaves them.
    pub is_address_chosen: bool,
    /// See there.
    pub is_port_chosen: bool,
    /// What it has claimed.
    pub(super) claim: Option<Held>,
    /// Where it is found.
    pub(super) place: Option<Place>,
}

/// See the module.
pub struct InetSocket {
    number: u64,
    core: Arc<SocketCore>,
    pub(super) me: Once<Weak<InetSocket>>,
    pub(super) transport: Transport,
    /// Binding, connecting, disconnecting: one at a time.
    pub(super) binding: Mutex<()>,
    endpoints: SpinLock<Endpoints>,
    group: SpinLock<Option<Arc<Group>>>,
    group_index: AtomicUsize,
    pub(super) settings: Settings,
    pub(super) queue: ReceiveQueue<Datagram>,
    pub(super) errors: ReceiveQueue<Report>,
    pub(super) cork: Mutex<Option<Corked>>,
    /// Changing its groups, one at a time.
    pub(super) memberships: Mutex<()>,
    pub(super) joined: Memberships,
}

struct Entry(Arc<InetSocket>);

impl Item for Entry {
    type Key = u64;
    type Summary = ();
    fn key(&self) -> u64 {
        self.0.number
    }
    fn summary(&self) {}
    fn merge((): (), (): ()) {}
}

/// One protocol's sockets in a namespace.
#[derive(Default)]
pub struct Family {
    /// Who gets a packet.
    pub table: Table,
    /// Who has which port.
    pub ports: SpinLock<Ports>,
}

/// The Internet sockets of a namespace.
#[derive(Default)]
pub struct InetNamespace {
    /// UDP's.
    pub udp: Family,
    /// Ping's, IPv4 and IPv6.
    pub ping: [Family; 2],
    /// Raw ones, IPv4 and IPv6.
    pub raw: [Family; 2],
    /// What UDP counts, IPv4 and IPv6.
    pub counters: [UdpCounters; 2],
    all: RwSpinLock<Tree<Entry>>,
}

impl InetNamespace {
    /// The first socket with a number from `from` on.
    pub fn next_from(&self, from: u64) -> Option<Arc<InetSocket>> {
        self.all.read().first_from(&from).map(|found| found.0.clone())
    }

    fn add(&self, socket: &Arc<InetSocket>) -> Result<()> {
        let node = try_box(Node::new(Entry(socket.clone()))).map_err(|_| Errno::ENOMEM)?;
        self.all.write().insert(node);
        Ok(())
    }

    pub(super) fn forget(&self, number: u64) {
        let gone = self.all.write().remove(&number);
        drop(gone);
    }
}

/// What `socket` with these arguments speaks, and its protocol. Linux's order of errors.
fn choose(family: u32, kind: SocketKind, protocol: i32) -> Result<(Transport, u16)> {
    const PROTOCOL_MAX: i32 = 263;
    if !(0..PROTOCOL_MAX).contains(&protocol) {
        return Err(Errno::EINVAL);
    }
    let echo = i32::from(if family == AF_INET { IPPROTO_ICMP } else { IPPROTO_ICMPV6 });
    match kind {
        SocketKind::Datagram if protocol == 0 || protocol == i32::from(IPPROTO_UDP) => {
            Ok((Transport::Udp, u16::from(IPPROTO_UDP)))
        }
        SocketKind::Datagram if protocol == echo => Ok((Transport::Ping, echo as u16)),
        // Above 255 there are sockets although no packet can be of such a protocol.
        SocketKind::Raw if protocol != 0 => Ok((Transport::Raw, protocol as u16)),
        SocketKind::Datagram | SocketKind::Raw => Err(Errno::EPROTONOSUPPORT),
        // Streams are not there yet: as where no such protocol is registered.
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}

/// socket(2) of both families. `EINVAL`, `EPROTONOSUPPORT`, `ESOCKTNOSUPPORT`; `EPERM`: raw without CAP_NET_RAW; `EACCES`: ping by a
/// group that may not; `ENOMEM`.
pub fn create(
    family: u32,
    kind: SocketKind,
    protocol: i32,
    namespace: &Arc<NetNamespace>,
    who: &Credentials,
) -> Result<Arc<Socket>> {
    let (transport, number) = choose(family, kind, protocol)?;
    match transport {
        Transport::Raw if !who.capable(namespace.owner(), Capability::NetRaw) => return Err(Errno::EPERM),
        Transport::Ping if !may_ping(namespace, who) => return Err(Errno::EACCES),
        _ => {}
    }
    let core = SocketCore::new(family as u16, kind, i32::from(number), namespace.clone(), who)?;
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let any = address::any(family as u16);
    let is_icmp6 = transport == Transport::Raw && family == AF_INET6 && number == u16::from(IPPROTO_ICMPV6);
    let socket = try_arc(InetSocket {
        number: NEXT.fetch_add(1, Ordering::Relaxed),
        core: core.clone(),
        me: Once::new(),
        transport,
        binding: Mutex::new(()),
        endpoints: SpinLock::new(Endpoints {
            local: any,
            source: any,
            port: 0,
            remote: None,
            is_address_chosen: false,
            is_port_chosen: false,
            claim: None,
            place: None,
        }),
        group: SpinLock::new(None),
        group_index: AtomicUsize::new(0),
        settings: Settings::new(family == AF_INET6, is_icmp6),
        queue: ReceiveQueue::new(),
        errors: ReceiveQueue::new(),
        cork: Mutex::new(None),
        memberships: Mutex::new(()),
        joined: Memberships::default(),
    })?;
    let _ = socket.me.set(Arc::downgrade(&socket));
    if transport == Transport::Raw && number == u16::from(IPPROTO_RAW) {
        socket.settings.switch(Flag::HEADER_INCLUDED, true);
    }
    // Identifiers and protocols are shared by those who do not say otherwise (`INET_PROTOSW_REUSE`).
    core.options.switch(Switches::REUSEADDR, transport != Transport::Udp);
    socket.settings.switch(Flag::V6_ONLY, transport == Transport::Ping && family == AF_INET6);
    let operations =
        try_box(super::operations::Operations::new(socket.clone())).map_err(|_| Errno::ENOMEM)?;
    let made = Socket::new(core, operations as alloc::boxed::Box<dyn SocketOperations>)?;
    namespace.inet().add(&socket)?;
    if transport == Transport::Raw {
        super::bind::enter_raw(&socket, number)?;
    }
    Ok(made)
}

/// Whether one of the groups of who asks is in `ping_group_range`.
fn may_ping(namespace: &NetNamespace, who: &Credentials) -> bool {
    let (low, high) = namespace.state().ping_groups();
    let inside = |group: &Kgid| (low..=high).contains(&group.0);
    inside(&who.egid) || who.groups.iter().any(inside)
}

impl InetSocket {
    /// A number that no other socket has or will have.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What every socket has.
    pub fn core(&self) -> &Arc<SocketCore> {
        &self.core
    }

    /// What it speaks.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Its protocol over IP.
    pub fn protocol(&self) -> u8 {
        self.core.protocol() as u8
    }

    /// Whether it is of AF_INET6.
    pub fn is_v6(&self) -> bool {
        u32::from(self.core.family()) == AF_INET6
    }

    /// Its options.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What it is bound and connected to.
    pub fn endpoints(&self) -> Endpoints {
        *self.endpoints.lock()
    }

    /// Changes that; the caller holds `binding`.
    pub(super) fn change_endpoints(&self, change: impl FnOnce(&mut Endpoints)) {
        change(&mut self.endpoints.lock());
    }

    /// Where its like are kept.
    pub(super) fn family(&self) -> &Family {
        let all = self.core.namespace().state().inet();
        match self.transport {
            Transport::Udp => &all.udp,
            Transport::Ping => &all.ping[usize::from(self.is_v6())],
            Transport::Raw => &all.raw[usize::from(self.is_v6())],
        }
    }

    /// Bytes that wait to be read, as the tables of sockets tell it.
    pub fn receive_queue(&self) -> usize {
        self.core.receive_charged()
    }

    pub(super) fn set_group(&self, group: Option<Arc<Group>>) -> Option<Arc<Group>> {
        core::mem::replace(&mut *self.group.lock(), group)
    }

    pub(super) fn group_index(&self) -> usize {
        self.group_index.load(Ordering::Relaxed)
    }

    pub(super) fn set_group_index(&self, index: usize) {
        self.group_index.store(index, Ordering::Relaxed);
    }

    /// Whether a capability of the namespace's owner is had by who calls.
    pub(super) fn may(&self, capability: Capability) -> bool {
        let who = crate::message::Sender::current().credentials;
        who.capable(self.core.namespace().owner(), capability)
    }
}

/// Bytes on the heap. `ENOMEM`.
pub(super) fn copy(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(bytes.len()).map_err(|_| Errno::ENOMEM)?;
    copy.extend_from_slice(bytes);
    Ok(copy)
}
