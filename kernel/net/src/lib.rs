//! Networks: sockets, the protocols behind them, and the state of each network namespace.
//!
//! [`namespace`] (a network namespace: everything below hangs on one), [`socket`] (the layer between descriptors and
//! families), [`message`] (what is sent and received), [`family`] (which families there are). Each file says its locks.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod family;
pub mod message;
pub mod namespace;
pub mod socket;

pub use message::{Ancillary, MessageFlags, ReceiveMessage, SendMessage, SocketAddress};
pub use namespace::NetNamespace;
pub use socket::{Socket, SocketOperations};
