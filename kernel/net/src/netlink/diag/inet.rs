//! Internet sockets for sock_diag(7): UDP and raw ones. There are no streams, of which a list is empty.
//!
//! Filters that ss(8) gives (INET_DIAG_REQ_BYTECODE) are checked before they are run: jumps go forward and end at the end. Locks: none
//! held; goes from socket to socket by number.

use abi::diag::*;
use abi::errno::{Errno, Result};
use abi::inet::{IPPROTO_RAW, IPPROTO_TCP, IPPROTO_UDP};
use abi::socket::{AF_INET, AF_INET6, AF_UNSPEC};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;
use linnet_lib::netlink::{Attributes, Builder, Outcome, Policies, Policy, Strictness};
use machine::sync::atomic::Ordering;
use security::{Capability, UserNamespace};
use zerocopy::{FromBytes, IntoBytes};

use super::{
    ANSWER, Dump, Listing, begin, check_cookie, cookie, is_destruction, is_dump, put_memory, shutdown_bits,
    state,
};
use crate::inet::address::{code, from_octets, octets};
use crate::inet::settings::Flag;
use crate::inet::table::Wanted;
use crate::inet::{InetSocket, Transport, raw, udp};
use crate::namespace::NetNamespace;
use crate::netlink::request::{Handled, Reply, Request, begin_dump, boxed};

const HEADER: usize = size_of::<InetDiagReq>();

static POLICIES: Policies = Policies {
    max: INET_DIAG_REQ_PROTOCOL,
    rules: &[(INET_DIAG_REQ_BYTECODE, Policy::Binary(0)), (INET_DIAG_REQ_PROTOCOL, Policy::U32)],
};

type Parsed<'a> = Attributes<'a, { INET_DIAG_REQ_PROTOCOL as usize + 1 }>;

/// Lists sockets, describes one, or aborts one.
/// `EINVAL`: too short, a bad filter; `ENOENT`: a protocol that is not listed, no such socket; `ESTALE`; `EPERM`: aborting without CAP_NET_ADMIN.
pub(super) fn handle(request: &Request<'_>) -> Outcome<Handled> {
    let wanted: InetDiagReq = request.message.fixed().ok_or(Errno::EINVAL)?;
    let parsed: Parsed<'_> = request.parse(HEADER, &POLICIES, Strictness::Liberal)?;
    let protocol = parsed.get(INET_DIAG_REQ_PROTOCOL).map_or(u32::from(wanted.sdiag_protocol), |it| it.u32());
    let describe = Describe {
        extensions: wanted.idiag_ext,
        sees_mark: request.may(Capability::NetAdmin),
        viewer: request.sender.credentials.user_namespace.clone(),
    };
    if is_dump(request) && !is_destruction(request) {
        let filter = match parsed.get(INET_DIAG_REQ_BYTECODE) {
            Some(attribute) => Some(Filter::new(attribute.value)?),
            None => None,
        };
        return begin_dump(request, || {
            let transport = transport_of(protocol)?;
            let namespace = request.namespace().clone();
            boxed(Dump::new(InetListing { namespace, transport, wanted, filter, describe, from: 0 }))
        });
    }
    let transport = transport_of(protocol)?.ok_or(Errno::ENOENT)?;
    let socket = find(request, transport, &wanted).ok_or(Errno::ENOENT)?;
    check_cookie(socket.core(), wanted.id.idiag_cookie)?;
    if is_destruction(request) {
        if !request.may(Capability::NetAdmin) {
            return Err(Errno::EPERM.into());
        }
        crate::inet::abort(&socket)?;
        return Ok(Handled::Done);
    }
    let mut out = Builder::new(ANSWER);
    let reply = Reply { sequence: request.message.header.nlmsg_seq, port: request.socket.port(), flags: 0 };
    describe.write(&socket, &mut out, &reply)?;
    request.answer(out);
    Ok(Handled::Done)
}

/// Which sockets a protocol's are; none for streams, of which there are none. `ENOENT`: not listed.
fn transport_of(protocol: u32) -> Result<Option<Transport>> {
    match u8::try_from(protocol).map_err(|_| Errno::ENOENT)? {
        IPPROTO_TCP => Ok(None),
        IPPROTO_UDP => Ok(Some(Transport::Udp)),
        IPPROTO_RAW => Ok(Some(Transport::Raw)),
        _ => Err(Errno::ENOENT),
    }
}

/// One end of what an identity describes.
fn end(family: u8, words: &[u8; 16], port: u16) -> (IpAddr, u16) {
    let [a, b, c, d, ..] = *words;
    let address = match u32::from(family) {
        AF_INET => IpAddr::from([a, b, c, d]),
        _ => from_octets(*words),
    };
    (address, u16::from_be(port))
}

/// The socket that a request for one describes: that which a packet between its ends would be for. Who asks for a description of a UDP
/// socket gives the sender of that packet first, as Linux has had it from the start (`udp_dump_one`); who aborts one, its own end.
fn find(request: &Request<'_>, transport: Transport, wanted: &InetDiagReq) -> Option<Arc<InetSocket>> {
    let id = &wanted.id;
    let source = end(wanted.sdiag_family, &id.idiag_src, id.idiag_sport);
    let destination = end(wanted.sdiag_family, &id.idiag_dst, id.idiag_dport);
    let (net, device) = (request.namespace().state(), id.idiag_if as i32);
    if transport == Transport::Raw {
        return raw::find(net, wanted.pad, source.0, destination.0, device);
    }
    let is_swapped = !is_destruction(request);
    let ((local, port), (remote, remote_port)) =
        if is_swapped { (destination, source) } else { (source, destination) };
    udp::find(net, &Wanted { local, port, remote, remote_port, device })
}

fn state_of(socket: &InetSocket) -> u8 {
    if socket.endpoints().remote.is_some() { state::ESTABLISHED } else { state::CLOSE }
}

/// An address as an identity has it: IPv4's in the first word.
fn words(address: IpAddr, is_v6: bool) -> [u8; 16] {
    match address {
        IpAddr::V4(address) if !is_v6 => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&address.octets());
            bytes
        }
        address => octets(address),
    }
}

fn identity(socket: &InetSocket) -> InetDiagSockid {
    let endpoints = socket.endpoints();
    let is_v6 = socket.is_v6();
    let any = crate::inet::address::any(socket.core().family());
    let (remote, port) = endpoints.remote.map_or((any, 0), |remote| (remote.address, remote.port));
    let is_any = |address: IpAddr| address.is_unspecified();
    InetDiagSockid {
        idiag_sport: endpoints.port.to_be(),
        idiag_dport: port.to_be(),
        idiag_src: if is_any(endpoints.local) { [0; 16] } else { words(endpoints.local, is_v6) },
        idiag_dst: if is_any(remote) { [0; 16] } else { words(remote, is_v6) },
        idiag_if: socket.core().options.bound_interface() as u32,
        idiag_cookie: cookie(socket.core()),
    }
}

struct InetListing {
    namespace: Arc<NetNamespace>,
    transport: Option<Transport>,
    wanted: InetDiagReq,
    filter: Option<Filter>,
    describe: Describe,
    from: u64,
}

impl InetListing {
    fn is_wanted(&self, socket: &InetSocket) -> bool {
        let wanted = &self.wanted;
        let family = u32::from(wanted.sdiag_family);
        let (sport, dport) = (wanted.id.idiag_sport, wanted.id.idiag_dport);
        let id = identity(socket);
        Some(socket.transport()) == self.transport
            && id.idiag_sport != 0
            && (family == AF_UNSPEC || family == u32::from(socket.core().family()))
            && wanted.idiag_states & 1 << state_of(socket) != 0
            && (sport == 0 || sport == id.idiag_sport)
            && (dport == 0 || dport == id.idiag_dport)
            && self.filter.as_ref().is_none_or(|filter| filter.admits(socket))
    }
}

impl Listing for InetListing {
    type Socket = Arc<InetSocket>;

    fn next(&mut self) -> Option<Arc<InetSocket>> {
        self.transport?;
        loop {
            let socket = self.namespace.inet().next_from(self.from)?;
            self.from = socket.number() + 1;
            if self.is_wanted(&socket) {
                return Some(socket);
            }
        }
    }

    fn write(&self, socket: &Arc<InetSocket>, out: &mut Builder, reply: &Reply) -> Result<()> {
        self.describe.write(socket, out, reply)
    }
}

/// What is told, and to whom.
struct Describe {
    extensions: u8,
    sees_mark: bool,
    viewer: Arc<UserNamespace>,
}

impl Describe {
    fn write(&self, socket: &Arc<InetSocket>, out: &mut Builder, reply: &Reply) -> Result<()> {
        let core = socket.core();
        let settings = socket.settings();
        let mark = begin(out, reply)?;
        let header = InetDiagMsg {
            idiag_family: core.family() as u8,
            idiag_state: state_of(socket),
            idiag_timer: 0,
            idiag_retrans: 0,
            id: identity(socket),
            idiag_expires: 0,
            idiag_rqueue: socket.receive_queue() as u32,
            idiag_wqueue: core.send_charged() as u32,
            idiag_uid: super::owner(&self.viewer, core),
            idiag_inode: core.inode_number() as u32,
        };
        out.fixed(header.as_bytes())?;
        out.u8(INET_DIAG_SHUTDOWN, shutdown_bits(core))?;
        let shows = |attribute: u16| self.extensions & 1 << (attribute - 1) != 0;
        if shows(INET_DIAG_TOS) {
            out.u8(INET_DIAG_TOS, settings.tos.load(Ordering::Relaxed) as u8)?;
        }
        if socket.is_v6() {
            if shows(INET_DIAG_TCLASS) {
                out.u8(INET_DIAG_TCLASS, settings.traffic_class.load(Ordering::Relaxed) as u8)?;
            }
            if state_of(socket) == state::CLOSE {
                out.u8(INET_DIAG_SKV6ONLY, u8::from(settings.has(Flag::V6_ONLY)))?;
            }
        }
        if self.sees_mark {
            out.u32(INET_DIAG_MARK, core.options.mark())?;
        }
        if shows(INET_DIAG_MEMINFO) {
            let memory = [core.receive_charged() as u32, 0, 0, core.send_charged() as u32];
            out.attribute(INET_DIAG_MEMINFO, memory.as_bytes())?;
        }
        if shows(INET_DIAG_SKMEMINFO) {
            put_memory(out, INET_DIAG_SKMEMINFO, core)?;
        }
        out.attribute(INET_DIAG_SOCKOPT, &self.options(socket))?;
        if socket.transport() == Transport::Raw {
            out.u8(INET_DIAG_PROTOCOL, socket.protocol())?;
        }
        out.end(mark);
        Ok(())
    }

    /// `struct inet_diag_sockopt`.
    fn options(&self, socket: &InetSocket) -> [u8; 2] {
        let settings = socket.settings();
        let flags = [
            (Flag::RECEIVE_ERRORS, 1),
            (Flag::FREE_BIND, 1 << 2),
            (Flag::HEADER_INCLUDED, 1 << 3),
            (Flag::MULTICAST_LOOP, 1 << 4),
            (Flag::TRANSPARENT, 1 << 5),
            (Flag::MULTICAST_ALL, 1 << 6),
            (Flag::NO_DEFRAGMENTING, 1 << 7),
        ];
        let first = flags.iter().filter(|(flag, _)| settings.has(*flag)).fold(0, |all, (_, bit)| all | bit);
        let second = u8::from(settings.has(Flag::BIND_ADDRESS_NO_PORT))
            | u8::from(settings.has(Flag::RECEIVE_ERRORS_4884)) << 1;
        [first, second]
    }
}

/// A filter: commands that compare a socket and jump forward.
struct Filter(Vec<u8>);

/// One command.
struct Command<'a> {
    code: u8,
    yes: usize,
    no: usize,
    rest: &'a [u8],
}

const COMMAND: usize = 4;

fn command(text: &[u8], at: usize) -> Option<Command<'_>> {
    let rest = text.get(at..)?;
    let head: &[u8; COMMAND] = rest.first_chunk()?;
    let no = usize::from(u16::from_ne_bytes([head[2], head[3]]));
    Some(Command { code: head[0], yes: usize::from(head[1]), no, rest: rest.get(COMMAND..)? })
}

impl Filter {
    /// Checks a filter. `EINVAL`: none at all, a command that is none, a jump that does not go forward to one.
    fn new(text: &[u8]) -> Result<Filter> {
        if text.is_empty() {
            return Err(Errno::EINVAL);
        }
        let mut at = 0;
        while at < text.len() {
            let one = command(text, at).ok_or(Errno::EINVAL)?;
            let needed = match one.code {
                INET_DIAG_BC_NOP | INET_DIAG_BC_JMP | INET_DIAG_BC_AUTO => 0,
                INET_DIAG_BC_S_GE
                | INET_DIAG_BC_S_LE
                | INET_DIAG_BC_D_GE
                | INET_DIAG_BC_D_LE
                | INET_DIAG_BC_S_EQ
                | INET_DIAG_BC_D_EQ
                | INET_DIAG_BC_DEV_COND => 4,
                INET_DIAG_BC_MARK_COND => 8,
                INET_DIAG_BC_S_COND | INET_DIAG_BC_D_COND => host_length(one.rest)?,
                _ => return Err(Errno::EINVAL),
            };
            let left = text.len() - at;
            let is_aligned = one.yes.is_multiple_of(4) && one.no.is_multiple_of(4);
            // A jump may go to the end, or (that is "no") four bytes beyond it.
            let fits = one.yes >= COMMAND + needed && one.yes <= left && one.no <= left + COMMAND;
            let forward = one.code == INET_DIAG_BC_NOP || one.no >= COMMAND;
            if !is_aligned || !fits || !forward {
                return Err(Errno::EINVAL);
            }
            at += one.yes;
        }
        let mut copy = Vec::new();
        copy.try_reserve_exact(text.len()).map_err(|_| Errno::ENOMEM)?;
        copy.extend_from_slice(text);
        Ok(Filter(copy))
    }

    /// Whether it lets a socket through: it ends exactly at its end.
    fn admits(&self, socket: &InetSocket) -> bool {
        let mut at = 0;
        // Each step goes forward, so that there are no more than there are commands.
        while at < self.0.len() {
            let Some(one) = command(&self.0, at) else { return false };
            let holds = holds(&one, socket);
            let step = if holds { one.yes } else { one.no };
            if step == 0 {
                return false;
            }
            at += step;
        }
        at == self.0.len()
    }
}

/// Bytes of a `struct inet_diag_hostcond` with its address. `EINVAL`.
fn host_length(rest: &[u8]) -> Result<usize> {
    const CONDITION: usize = 8;
    let head: &[u8; CONDITION] = rest.first_chunk().ok_or(Errno::EINVAL)?;
    let (family, prefix) = (u32::from(head[0]), usize::from(head[1]));
    let address = match family {
        AF_UNSPEC => 0,
        AF_INET => 4,
        AF_INET6 => 16,
        _ => return Err(Errno::EINVAL),
    };
    if prefix > address * 8 || rest.len() < CONDITION + address {
        return Err(Errno::EINVAL);
    }
    Ok(CONDITION + address)
}

fn holds(one: &Command<'_>, socket: &InetSocket) -> bool {
    let endpoints = socket.endpoints();
    let sport = endpoints.port;
    let dport = endpoints.remote.map_or(0, |remote| remote.port);
    // A comparison with a port has it in the command behind.
    let port = one.rest.get(2..4).map_or(0, |bytes| u16::from_ne_bytes([bytes[0], bytes[1]]));
    let words = || <[u32; 2]>::read_from_prefix(one.rest).map(|(words, _)| words).unwrap_or_default();
    match one.code {
        INET_DIAG_BC_NOP => true,
        INET_DIAG_BC_S_GE => sport >= port,
        INET_DIAG_BC_S_LE => sport <= port,
        INET_DIAG_BC_D_GE => dport >= port,
        INET_DIAG_BC_D_LE => dport <= port,
        INET_DIAG_BC_S_EQ => sport == port,
        INET_DIAG_BC_D_EQ => dport == port,
        // Whether it has a port that it did not choose.
        INET_DIAG_BC_AUTO => !endpoints.is_port_chosen,
        INET_DIAG_BC_S_COND => host_matches(one.rest, endpoints.local, sport),
        INET_DIAG_BC_D_COND => {
            let any = crate::inet::address::any(socket.core().family());
            host_matches(one.rest, endpoints.remote.map_or(any, |remote| remote.address), dport)
        }
        INET_DIAG_BC_DEV_COND => {
            let index = one.rest.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
            index == socket.core().options.bound_interface() as u32
        }
        INET_DIAG_BC_MARK_COND => {
            let [mark, mask] = words();
            socket.core().options.mark() & mask == mark
        }
        _ => false,
    }
}

/// Whether an address and port meet a `struct inet_diag_hostcond`.
fn host_matches(rest: &[u8], address: IpAddr, port: u16) -> bool {
    let Some(head) = rest.first_chunk::<8>() else { return false };
    let wanted_port = i32::from_ne_bytes([head[4], head[5], head[6], head[7]]);
    if wanted_port != -1 && wanted_port != i32::from(port) {
        return false;
    }
    let prefix = u32::from(head[1]);
    if prefix == 0 {
        return true;
    }
    let bytes = rest.get(8..).unwrap_or_default();
    let (wanted, prefix) = match (u32::from(head[0]), bytes.first_chunk::<4>(), bytes.first_chunk::<16>()) {
        (AF_INET, Some(v4), _) => (code(IpAddr::from(*v4)), prefix + 96),
        (AF_INET6, _, Some(v6)) => (u128::from_be_bytes(*v6), prefix),
        _ => return true,
    };
    let shift = 128_u32.saturating_sub(prefix).min(127);
    (wanted ^ code(address)) >> shift == 0
}
