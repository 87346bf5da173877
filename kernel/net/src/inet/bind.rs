//! bind(2), connect(2), disconnecting, and the choice of ports.
//!
//! Locks: a socket's `binding` is held throughout.

use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use machine::sync::atomic::Ordering;
use security::Capability;

use super::address::{Endpoint, any, code, needs_scope};
use super::network::{self, AddressKind};
use super::ports::{Claim, Held, Local};
use super::settings::Flag;
use super::socket::{InetSocket, Transport};
use super::table::Place;
use crate::ip::sysctl;
use crate::options::Switches;

/// bind(2).
///
/// Errors: `EINVAL`: bound already, an IPv4 address on a socket of IPv6 only, a link-local address without an interface; `EADDRNOTAVAIL`:
/// not an own address; `EACCES`: a privileged port; `EADDRINUSE`; `ENODEV`, `ENOMEM`.
pub fn bind(socket: &Arc<InetSocket>, endpoint: &Endpoint) -> Result<()> {
    let namespace = socket.core().namespace();
    if socket.is_v6() && endpoint.address.is_ipv4() && socket.settings.has(Flag::V6_ONLY) {
        return Err(Errno::EINVAL);
    }
    let has_port = socket.transport != Transport::Raw;
    if socket.is_v6() && endpoint.address.is_ipv4() && socket.transport != Transport::Udp {
        return Err(Errno::EADDRNOTAVAIL);
    }
    if !socket.is_v6() {
        check_address(socket, endpoint)?;
    }
    let unprivileged = namespace.state().ip_number(sysctl::UNPRIVILEGED_PORT_START);
    let is_privileged = endpoint.port != 0 && i32::from(endpoint.port) < unprivileged;
    let is_udp = socket.transport == Transport::Udp;
    if is_udp && is_privileged && !socket.may(Capability::NetBindService) {
        return Err(Errno::EACCES);
    }
    let _one = socket.binding.lock();
    let before = socket.endpoints();
    if before.remote.is_some() || (has_port && before.port != 0) {
        return Err(Errno::EINVAL);
    }
    if socket.is_v6() {
        bind_scope(socket, endpoint)?;
        check_address(socket, endpoint)?;
    }
    let kind = network::kind_of(namespace.state(), endpoint.address, socket.core().options.bound_interface());
    let is_shared = matches!(kind, AddressKind::Multicast | AddressKind::Broadcast);
    let late = socket.settings.has(Flag::BIND_ADDRESS_NO_PORT) && endpoint.port == 0;
    if has_port && !late {
        take_port(socket, endpoint.address, endpoint.port)?;
    }
    socket.change_endpoints(|endpoints| {
        endpoints.local = endpoint.address;
        endpoints.source = if is_shared { any_like(endpoint.address) } else { endpoint.address };
        endpoints.is_address_chosen = !endpoint.address.is_unspecified();
        endpoints.is_port_chosen = endpoint.port != 0;
    });
    if endpoint.address.is_ipv6() && !endpoint.address.is_unspecified() {
        // It has nothing to do with IPv4 from then on, as on Linux.
        socket.settings.switch(Flag::V6_ONLY, true);
    }
    if has_port && late { Ok(()) } else { enter(socket) }
}

/// The unspecified address of the same family as an address.
fn any_like(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

/// A link-local address needs an interface, which the socket is bound to from then on. `EINVAL`, `ENODEV`.
fn bind_scope(socket: &InetSocket, endpoint: &Endpoint) -> Result<()> {
    if !needs_scope(endpoint.address) {
        return Ok(());
    }
    let options = &socket.core().options;
    if endpoint.scope != 0 {
        options.bind_to_interface(endpoint.scope as i32);
    }
    match options.bound_interface() {
        0 => Err(Errno::EINVAL),
        index => socket.core().namespace().devices().by_index(index).map(drop).ok_or(Errno::ENODEV),
    }
}

/// `EADDRNOTAVAIL`: an address that is not one of the machine's, unless the socket may have any.
fn check_address(socket: &InetSocket, endpoint: &Endpoint) -> Result<()> {
    let state = socket.core().namespace().state();
    let kind = network::kind_of(state, endpoint.address, socket.core().options.bound_interface());
    let may_any = socket.settings.has_any(Flag::FREE_BIND | Flag::TRANSPARENT)
        || network::allows_foreign_binding(state, endpoint.address);
    if kind != AddressKind::Other || may_any { Ok(()) } else { Err(Errno::EADDRNOTAVAIL) }
}

/// What the socket claims when it is at this address.
fn claim_of(socket: &InetSocket, address: IpAddr) -> Claim {
    let options = &socket.core().options;
    let dual = socket.is_v6() && !socket.settings.has(Flag::V6_ONLY);
    // Identifiers of echo requests are for all addresses.
    let local = match (socket.transport, socket.is_v6()) {
        (Transport::Ping, true) => Local::AnyV6,
        (Transport::Ping, false) => Local::AnyV4,
        _ => Local::of(address, dual),
    };
    Claim {
        local,
        device: if socket.transport == Transport::Ping { 0 } else { options.bound_interface() },
        reuses_address: options.has(Switches::REUSEADDR),
        reuses_port: options.has(Switches::REUSEPORT),
        user: socket.core().owner().0,
    }
}

/// Takes a port, this one or if it is 0 a free one. `EADDRINUSE`, `ENOMEM`.
fn take_port(socket: &InetSocket, address: IpAddr, port: u16) -> Result<()> {
    let claim = claim_of(socket, address);
    let (taken, held) = if port != 0 {
        (port, socket.family().ports.lock().claim(port, &claim)?)
    } else {
        take_free_port(socket, &claim)?
    };
    socket.change_endpoints(|endpoints| (endpoints.port, endpoints.claim) = (taken, Some(held)));
    Ok(())
}

fn take_free_port(socket: &InetSocket, claim: &Claim) -> Result<(u16, Held)> {
    let namespace = socket.core().namespace();
    let (mut low, mut high) = match socket.transport {
        Transport::Udp => namespace.state().local_ports(),
        _ => (1, u16::MAX),
    };
    let own = socket.settings.port_range.load(Ordering::Relaxed);
    let (own_low, own_high) = (own as u16, (own >> 16) as u16);
    if own_low > low && own_low <= high {
        low = own_low;
    }
    if own_high != 0 && own_high >= low && own_high < high {
        high = own_high;
    }
    // Given out by itself a port is shared with nobody.
    let alone = Claim { reuses_address: false, reuses_port: false, ..*claim };
    let count = u32::from(high - low) + 1;
    let start = (machine::random::next_u64() % u64::from(count)) as u32;
    for step in 0..count {
        let port = low + ((start + step) % count) as u16;
        let mut ports = socket.family().ports.lock();
        if let Ok(held) = ports.claim(port, &alone) {
            return Ok((port, ports.replace(port, &held, claim)?));
        }
    }
    Err(Errno::EADDRINUSE)
}

/// Enters a socket into the table at what its endpoints say, after taking it out of where it was. `ENOMEM`.
fn enter(socket: &Arc<InetSocket>) -> Result<()> {
    leave(socket);
    let endpoints = socket.endpoints();
    if endpoints.port == 0 {
        return Ok(());
    }
    let dual = socket.is_v6() && !socket.settings.has(Flag::V6_ONLY) && socket.transport != Transport::Raw;
    let remote = match socket.transport {
        Transport::Udp => endpoints.remote.map(|remote| (code(remote.address), remote.port)),
        // Echoes are found by identifier; raw sockets are all looked at.
        _ => None,
    };
    let place = Place {
        port: endpoints.port,
        local: Local::of(endpoints.local, dual),
        device: socket.core().options.bound_interface(),
        remote,
    };
    let reuses = socket.transport == Transport::Udp
        && socket.core().options.has(Switches::REUSEPORT)
        && remote.is_none();
    socket.family().table.add(place, socket, reuses)?;
    socket.change_endpoints(|endpoints| endpoints.place = Some(place));
    renew_claim(socket)
}

/// Has a socket claim what its endpoints and options say now. `ENOMEM`.
fn renew_claim(socket: &Arc<InetSocket>) -> Result<()> {
    let endpoints = socket.endpoints();
    let claim = claim_of(socket, endpoints.local);
    if let Some(old) = endpoints.claim.filter(|old| old.claim != claim) {
        let held = socket.family().ports.lock().replace(endpoints.port, &old, &claim)?;
        socket.change_endpoints(|endpoints| endpoints.claim = Some(held));
    }
    Ok(())
}

/// Takes a socket out of the table.
fn leave(socket: &Arc<InetSocket>) {
    let mut place = None;
    socket.change_endpoints(|endpoints| place = endpoints.place.take());
    if let Some(place) = place {
        socket.family().table.remove(place, socket);
    }
}

/// A raw socket is found by its protocol from the start. `ENOMEM`.
pub(super) fn enter_raw(socket: &Arc<InetSocket>, protocol: u16) -> Result<()> {
    socket.change_endpoints(|endpoints| endpoints.port = protocol);
    enter(socket)
}

/// The interface that a socket is bound to or whether it shares its port has changed: others may be refused what they were not,
/// and it may be found elsewhere now. `ENOMEM`.
pub fn options_changed(socket: &Arc<InetSocket>) -> Result<()> {
    let _one = socket.binding.lock();
    let endpoints = socket.endpoints();
    let Some(place) = endpoints.place else { return Ok(()) };
    let options = &socket.core().options;
    let had_port = endpoints.claim.is_some_and(|held| held.claim.reuses_port);
    let stays = place.device == options.bound_interface()
        && (socket.transport != Transport::Udp || had_port == options.has(Switches::REUSEPORT));
    if stays { renew_claim(socket) } else { enter(socket) }
}

/// Gives a socket a port if it has none (`inet_autobind`). `EAGAIN`: none is free; `ENOMEM`.
pub fn ensure_bound(socket: &Arc<InetSocket>) -> Result<()> {
    if socket.endpoints().port != 0 {
        return Ok(());
    }
    let _one = socket.binding.lock();
    ensure_bound_locked(socket)
}

fn ensure_bound_locked(socket: &Arc<InetSocket>) -> Result<()> {
    let endpoints = socket.endpoints();
    if endpoints.port != 0 {
        return Ok(());
    }
    let taken = take_port(socket, endpoints.local, 0);
    taken.map_err(|error| if error == Errno::EADDRINUSE { Errno::EAGAIN } else { error })?;
    enter(socket)
}

/// connect(2): where to send, and whom to receive from.
///
/// Errors: `ENETUNREACH` and the like of routing; `EACCES`: broadcast without SO_BROADCAST; `EAFNOSUPPORT`; `EAGAIN`, `ENOMEM`.
pub fn connect(socket: &Arc<InetSocket>, wanted: &Endpoint) -> Result<()> {
    let _one = socket.binding.lock();
    if socket.transport != Transport::Raw {
        ensure_bound_locked(socket)?;
    }
    let endpoints = socket.endpoints();
    let mut remote = *wanted;
    if remote.address.is_ipv4() && socket.is_v6() {
        if socket.settings.has(Flag::V6_ONLY) {
            return Err(Errno::ENETUNREACH);
        }
        // An address of one family cannot talk to the other.
        if endpoints.local.is_ipv6() && !endpoints.local.is_unspecified() {
            return Err(Errno::EINVAL);
        }
    }
    if remote.address == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        remote.address = match endpoints.local {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        };
    }
    if needs_scope(remote.address) {
        bind_scope(socket, &remote)?;
    }
    let way = network::Way::find(socket, &network::Aim::connecting(socket, &remote))?;
    if way.is_broadcast() && !socket.core().options.has(Switches::BROADCAST) {
        return Err(Errno::EACCES);
    }
    if remote.address.is_unspecified() {
        remote.address = way.destination();
    }
    let source = way.source();
    socket.change_endpoints(|endpoints| {
        if endpoints.source.is_unspecified() {
            endpoints.source = source;
        }
        if endpoints.local.is_unspecified() {
            endpoints.local = source;
        }
        endpoints.remote = Some(remote);
    });
    enter(socket)
}

/// connect(2) to AF_UNSPEC: as it was before it was connected. A raw socket loses its protocol as others a port that they did not choose,
/// and receives nothing from then on, as on Linux.
pub fn disconnect(socket: &Arc<InetSocket>) -> Result<()> {
    let _one = socket.binding.lock();
    let mut freed = None;
    let family = socket.core().family();
    let was_connected = socket.endpoints().remote.is_some();
    if was_connected {
        socket.core().options.bind_to_interface(0);
    }
    leave(socket);
    socket.change_endpoints(|endpoints| {
        endpoints.remote = None;
        if !endpoints.is_address_chosen {
            (endpoints.local, endpoints.source) = (any(family), any(family));
        }
        if !endpoints.is_port_chosen {
            freed = endpoints.claim.take().map(|held| (endpoints.port, held));
            endpoints.port = 0;
        }
    });
    if let Some((port, held)) = freed {
        socket.family().ports.lock().release(port, &held);
    }
    enter(socket)
}

/// Somebody ends what a socket does (SOCK_DESTROY in sock_diag(7), `udp_abort`): its program is told by `ECONNABORTED`.
pub fn abort(socket: &Arc<InetSocket>) -> Result<()> {
    socket.core().set_error(Errno::ECONNABORTED);
    socket.core().wake_all();
    disconnect(socket)
}

/// The socket is closed: nobody finds it and its port is free.
pub fn close(socket: &Arc<InetSocket>) {
    let _one = socket.binding.lock();
    leave(socket);
    let mut freed = None;
    socket.change_endpoints(|endpoints| {
        freed = endpoints.claim.take().map(|held| (endpoints.port, held));
        endpoints.port = 0;
    });
    if let Some((port, held)) = freed {
        socket.family().ports.lock().release(port, &held);
    }
}
