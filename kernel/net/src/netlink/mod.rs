//! AF_NETLINK: how programs ask and change the network, and hear of changes (netlink(7)).
//!
//! | file | what |
//! |---|---|
//! | `socket` | the socket: binding, options, sending, receiving |
//! | `table` | who has which port and listens to which group; multicast |
//! | `request` | messages to the kernel: the loop over a datagram, acknowledgements, dumps |
//! | `route` | NETLINK_ROUTE: links and ids of namespaces; other subsystems add their handlers to its table |
//! | `generic` | NETLINK_GENERIC and its controller |
//! | `diag` | NETLINK_SOCK_DIAG: lists of sockets |
//! | `uevent` | NETLINK_KOBJECT_UEVENT: devices come and go |
//!
//! Locks, in order: a socket's request lock (sleeping, held while its requests are handled), rtnl, a holder's delivery of
//! ids, a namespace's tables (spin), a socket's queue (spin, leaf).

pub mod diag;
pub mod generic;
pub mod request;
pub mod route;
pub mod show;
pub mod socket;
pub mod table;
pub mod uevent;

pub use request::{Dumper, Request};
pub use socket::NetlinkSocket;
pub use table::{Announcement, NetlinkTable};

use abi::errno::{Errno, Result};
use abi::netlink as linux;

/// Which request a change comes from, for those who are told of the change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The asker's port; 0 for none.
    pub port: u32,
    /// Its number for the request.
    pub sequence: u32,
    /// It wants a copy (NLM_F_ECHO).
    pub echo: bool,
}

/// A netlink protocol there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// NETLINK_*.
    pub number: u8,
    /// How many multicast groups it has.
    pub groups: u32,
    /// Whether anyone may listen to groups.
    pub open_to_listen: bool,
    /// Whether anyone may send to others than the kernel.
    pub open_to_send: bool,
    /// Whether the kernel answers.
    pub has_kernel: bool,
}

pub(crate) const PROTOCOLS: &[Protocol] = &[
    Protocol {
        number: linux::NETLINK_ROUTE as u8,
        groups: route::GROUPS,
        open_to_listen: true,
        open_to_send: false,
        has_kernel: true,
    },
    Protocol {
        number: linux::NETLINK_USERSOCK as u8,
        groups: 32,
        open_to_listen: false,
        open_to_send: true,
        has_kernel: false,
    },
    Protocol {
        number: linux::NETLINK_SOCK_DIAG as u8,
        groups: diag::GROUPS,
        open_to_listen: true,
        open_to_send: false,
        has_kernel: true,
    },
    Protocol {
        number: linux::NETLINK_KOBJECT_UEVENT as u8,
        groups: 32,
        open_to_listen: true,
        open_to_send: false,
        has_kernel: true,
    },
    Protocol {
        number: linux::NETLINK_GENERIC as u8,
        groups: generic::GROUPS,
        open_to_listen: true,
        open_to_send: false,
        has_kernel: true,
    },
];

/// The protocol with this number. `EPROTONOSUPPORT`.
pub(crate) fn protocol(number: i32) -> Result<&'static Protocol> {
    PROTOCOLS.iter().find(|known| i32::from(known.number) == number).ok_or(Errno::EPROTONOSUPPORT)
}
