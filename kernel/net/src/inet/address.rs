//! Addresses of Internet sockets: what programs write, what is kept, what they read back.
//!
//! Key type: [`Endpoint`]. An IPv4 address is kept as one whichever family the socket is of; an AF_INET6 socket shows it mapped
//! (`::ffff:a.b.c.d`). Locks: none.

use abi::errno::{Errno, Result};
use abi::inet::{SOCKADDR_IN6_OLD, SockaddrIn, SockaddrIn6};
use abi::socket::{AF_INET, AF_INET6, AF_UNSPEC};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use zerocopy::{FromBytes, IntoBytes};

use crate::message::SocketAddress;

/// An address with a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// The address; never a mapped one.
    pub address: IpAddr,
    /// The port, host order.
    pub port: u16,
    /// The interface of a link-local address; 0 for none.
    pub scope: u32,
    /// Traffic class and flow label, host order.
    pub flow: u32,
}

impl Endpoint {
    /// An address with a port.
    pub fn new(address: IpAddr, port: u16) -> Endpoint {
        Endpoint { address, port, scope: 0, flow: 0 }
    }

    /// As a program of this family reads it.
    pub fn to_socket_address(self, family: u16) -> SocketAddress {
        let port = self.port.to_be();
        let made = match (u32::from(family), self.address) {
            (AF_INET6, address) => SocketAddress::new(
                SockaddrIn6 {
                    sin6_family: AF_INET6 as u16,
                    sin6_port: port,
                    sin6_flowinfo: self.flow.to_be(),
                    sin6_addr: octets(address),
                    sin6_scope_id: self.scope,
                }
                .as_bytes(),
            ),
            (_, IpAddr::V4(address)) => SocketAddress::new(
                SockaddrIn {
                    sin_family: AF_INET as u16,
                    sin_port: port,
                    sin_addr: address.octets(),
                    sin_zero: [0; 8],
                }
                .as_bytes(),
            ),
            // An IPv4 socket never has another's address.
            (_, IpAddr::V6(_)) => Ok(SocketAddress::NONE),
        };
        made.unwrap_or(SocketAddress::NONE)
    }
}

/// The 16 bytes of an address; an IPv4 one is mapped.
pub fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// The same as one number, for keys.
pub fn code(address: IpAddr) -> u128 {
    u128::from_be_bytes(octets(address))
}

/// The address that 16 bytes mean: a mapped one is IPv4's.
pub fn from_octets(octets: [u8; 16]) -> IpAddr {
    let address = Ipv6Addr::from(octets);
    address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4)
}

/// The unspecified address of a family.
pub fn any(family: u16) -> IpAddr {
    if u32::from(family) == AF_INET6 {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    } else {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    }
}

/// Whether an address is IPv6's link-local, unicast or multicast: it needs an interface.
pub fn needs_scope(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => {
            let first = address.segments()[0];
            first & 0xffc0 == 0xfe80 || matches!(first & 0xff0f, 0xff01 | 0xff02)
        }
    }
}

/// What a program gave as an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Given {
    /// AF_UNSPEC.
    Unspecified,
    /// An address.
    Endpoint(Endpoint),
}

/// An address for a socket of a family. `EINVAL`: too short; `EAFNOSUPPORT`: another family's.
pub fn parse(family: u16, address: &SocketAddress) -> Result<Given> {
    let bytes = address.as_bytes();
    let given = u32::from(address.family().ok_or(Errno::EINVAL)?);
    if u32::from(family) == AF_INET {
        if bytes.len() < size_of::<SockaddrIn>() {
            return Err(Errno::EINVAL);
        }
        if given == AF_UNSPEC {
            return Ok(Given::Unspecified);
        }
        return if given == AF_INET { parse_v4(bytes) } else { Err(Errno::EAFNOSUPPORT) };
    }
    match given {
        AF_UNSPEC => Ok(Given::Unspecified),
        AF_INET => parse_v4(bytes),
        AF_INET6 => parse_v6(bytes),
        _ => Err(Errno::EAFNOSUPPORT),
    }
}

fn parse_v4(bytes: &[u8]) -> Result<Given> {
    let (address, _) = SockaddrIn::read_from_prefix(bytes).map_err(|_| Errno::EINVAL)?;
    let port = u16::from_be(address.sin_port);
    Ok(Given::Endpoint(Endpoint::new(IpAddr::V4(address.sin_addr.into()), port)))
}

fn parse_v6(bytes: &[u8]) -> Result<Given> {
    if bytes.len() < SOCKADDR_IN6_OLD {
        return Err(Errno::EINVAL);
    }
    let mut whole = [0; size_of::<SockaddrIn6>()];
    whole.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
    let address = SockaddrIn6::read_from_bytes(&whole).map_err(|_| Errno::EINVAL)?;
    let found = from_octets(address.sin6_addr);
    let scope = if needs_scope(found) { address.sin6_scope_id } else { 0 };
    Ok(Given::Endpoint(Endpoint {
        address: found,
        port: u16::from_be(address.sin6_port),
        scope,
        flow: u32::from_be(address.sin6_flowinfo),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v6(text: &str) -> Endpoint {
        Endpoint::new(text.parse().unwrap(), 53)
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mapped = Endpoint::new("10.1.2.3".parse().unwrap(), 53);
        for (family, endpoint) in
            [(AF_INET, mapped), (AF_INET6, mapped), (AF_INET6, v6("::1")), (AF_INET6, v6("fe80::1"))]
        {
            let shown = endpoint.to_socket_address(family as u16);
            assert_eq!(parse(family as u16, &shown), Ok(Given::Endpoint(endpoint)));
        }
    }

    #[test]
    fn short_and_foreign_addresses_are_refused() {
        let short = SocketAddress::new(&[2, 0, 0, 53, 1, 2, 3, 4]).unwrap();
        assert_eq!(parse(AF_INET as u16, &short), Err(Errno::EINVAL));
        let foreign = SocketAddress::new(&[7; 28]).unwrap();
        assert_eq!(parse(AF_INET as u16, &foreign), Err(Errno::EAFNOSUPPORT));
        assert_eq!(parse(AF_INET6 as u16, &foreign), Err(Errno::EAFNOSUPPORT));
        assert_eq!(parse(AF_INET6 as u16, &SocketAddress::NONE), Err(Errno::EINVAL));
    }

    #[test]
    fn scopes_count_for_link_local_addresses_only() {
        assert!(needs_scope("fe80::1".parse().unwrap()) && needs_scope("ff02::1".parse().unwrap()));
        assert!(!needs_scope("2001:db8::1".parse().unwrap()) && !needs_scope("ff0e::1".parse().unwrap()));
    }
}
