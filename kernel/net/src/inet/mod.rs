//! Sockets of the Internet families AF_INET and AF_INET6: UDP, echo and raw (ip(7), ipv6(7), udp(7), icmp(7), raw(7)).
//!
//! | file | what |
//! |---|---|
//! | `socket` | the socket; the sockets of a namespace |
//! | `operations`, `options`, `settings` | the calls on a descriptor; what can be set |
//! | `address`, `ports`, `table` | addresses; who may have a port; who gets a packet |
//! | `bind` | bind, connect, disconnect, the choice of ports |
//! | `send`, `receive`, `errors` | messages out and in; errors that come back |
//! | `udp`, `ping`, `raw` | the protocols |
//! | `membership` | multicast groups |
//! | `network` | what is asked of the layer below |
//! | `show`, `sockstat` | tables below `/proc/net` |
//!
//! Streams (TCP) will be one more protocol here; until then such sockets are `ESOCKTNOSUPPORT`. Locks: see `socket`.

pub mod address;
mod bind;
pub mod counters;
mod errors;
mod membership;
mod network;
mod operations;
mod options;
pub mod ping;
mod ports;
pub mod raw;
mod receive;
mod send;
pub mod settings;
pub mod show;
pub mod socket;
pub mod sockstat;
pub mod table;
#[cfg(test)]
mod tests;
pub mod udp;

pub use bind::abort;
pub use socket::{InetNamespace, InetSocket, Transport, create};
