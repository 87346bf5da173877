//! Networks: sockets, the protocols behind them, and the state of each network namespace.
//!
//! | module | what |
//! |---|---|
//! | [`namespace`] | a network namespace: everything below hangs on one |
//! | [`socket`], [`mod@core`] | the layer between descriptors and families; what every socket has |
//! | [`options`], [`filter`], [`sysctl`] | `SOL_SOCKET`, packet filters, limits |
//! | [`message`], [`account`], [`queue`], [`timestamp`] | what is sent and received; what it costs; where it waits; when it came |
//! | [`family`], [`unix`], [`inet`] | which families there are; sockets within the machine; those of the Internet |
//! | [`ids`], [`lifetime`] | what namespaces call each other; how they end |
//! | [`device`], [`packet`], [`packet_socket`] | interfaces, what goes through them, sockets that see it all |
//! | [`ip`] | addresses, routes, and what goes through them |
//! | [`netlink`] | how programs see and change all that |
//!
//! Each file says its locks.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod account;
pub mod core;
pub mod device;
pub mod family;
pub mod file;
pub mod filter;
pub mod ids;
pub mod inet;
pub mod ip;
pub mod lifetime;
pub mod message;
pub mod namespace;
pub mod netlink;
pub mod options;
pub mod packet;
pub mod packet_socket;
pub mod queue;
pub mod socket;
pub mod sync;
pub mod sysctl;
pub mod timestamp;
pub mod unix;

pub use crate::core::SocketCore;
pub use message::{Ancillary, Identity, MessageFlags, ReceiveMessage, SendMessage, Sender, SocketAddress};
pub use namespace::NetNamespace;
pub use socket::{Socket, SocketKind, SocketOperations};
