//! Which socket families there are: socket(2) finds the maker of a family's sockets here.
//!
//! Locks: none; the table is constant. A family adds its arm to [`create`].

use abi::errno::{Errno, Result};
use abi::socket::{AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNIX};
use alloc::sync::Arc;
use security::Credentials;

use crate::namespace::NetNamespace;
use crate::socket::{Socket, SocketKind};

/// A new socket. `EAFNOSUPPORT`: no such family; `EPROTONOSUPPORT`, `ESOCKTNOSUPPORT`: not of that kind; `EPERM`, `ENOMEM`.
pub fn create(
    family: i32,
    kind: SocketKind,
    protocol: i32,
    namespace: &Arc<NetNamespace>,
    credentials: &Credentials,
) -> Result<Arc<Socket>> {
    match family as u32 {
        AF_UNIX => crate::unix::create(kind, protocol, namespace, credentials),
        AF_NETLINK => crate::netlink::socket::create(kind, protocol, namespace, credentials),
        AF_INET | AF_INET6 => crate::inet::create(family as u32, kind, protocol, namespace, credentials),
        AF_PACKET => crate::packet_socket::create(kind, protocol, namespace, credentials),
        _ => Err(Errno::EAFNOSUPPORT),
    }
}
