//! Who is told when a device changes.
//!
//! Key type: [`DeviceEvent`]. The list of listeners is constant: protocols of this crate add their function to it. All are
//! called under [`Rtnl`], in the order of the list, and may sleep. Locks: none.

use abi::errno::Result;
use alloc::sync::Arc;

use super::{NetDevice, Rtnl};

/// What happened to a device (`NETDEV_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceEvent {
    /// It is in its table. A listener that cannot follow refuses it.
    Registered,
    /// It is up.
    Up,
    /// It is about to go down.
    GoingDown,
    /// It is down.
    Down,
    /// Its flags, operational state or another of its settings changed.
    Changed,
    /// Its MTU changed.
    MtuChanged,
    /// Its address changed.
    AddressChanged,
    /// Its name changed.
    NameChanged,
    /// It is out of its table: let go of it now. Also when it moves to another namespace.
    Unregistered,
}

type Listener = fn(&Rtnl<'_>, &Arc<NetDevice>, DeviceEvent) -> Result<()>;

/// In the order in which they are told.
const LISTENERS: &[Listener] =
    &[crate::ip::device::follow, super::taps::device_event, crate::packet_socket::device_event];

/// Tells everyone. Only [`DeviceEvent::Registered`] can be refused.
pub(super) fn notify(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, event: DeviceEvent) -> Result<()> {
    LISTENERS.iter().try_for_each(|listener| listener(rtnl, device, event))
}
