//! AF_PACKET: sockets that see and send whole frames (packet(7)).
//!
//! | file | what |
//! |---|---|
//! | `socket` | the socket: binding, sending, receiving, memberships |
//! | `capture` | a frame that was seen: filter, address, auxiliary data |
//! | `options` | the options of SOL_PACKET |
//! | `fanout` | sockets that share what they see |
//! | `ring` | frames in memory that the program maps (PACKET_RX_RING, versions 1 to 3) |
//! | `show` | `/proc/net/packet`, `/proc/net/ptype` |
//!
//! Key types: [`PacketSocket`] (a [`crate::device::taps::Tap`]), [`PacketTable`] (those of a namespace).
//! Locks, outermost first: a socket's `rebinding` and `memberships` (sleeping; rtnl is taken under the latter), then groups (sleeping; see
//! `fanout`), then the lists of taps, a socket's ring, its queue, the table: leaves.

mod capture;
mod fanout;
mod options;
mod ring;
pub mod show;
mod socket;

pub use ring::RingShape;
pub(crate) use socket::device_event;
pub use socket::{Membership, PacketSocket, PacketTable, create};
