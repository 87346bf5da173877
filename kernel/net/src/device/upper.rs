//! What devices on one other device have in common (vlan, macvlan): carrier and MTU come from below.
//!
//! Such a device says by [`super::DeviceOperations::lower`] what it is on; its speed and IFLA_LINK follow from that. It may be in another
//! namespace than its lower device: what has to change is changed now if its namespace is locked, else soon. Locks: rtnl.

use alloc::sync::Arc;

use super::{NetDevice, Rtnl, change, registry};

/// A new device is on its lower device: its carrier and state are told from the beginning.
pub(super) fn begin(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>, lower: &NetDevice) {
    change::follow_carrier(rtnl, device, lower);
    change::update_operational_state(device);
}

/// Brings the carrier in line with the lower device's.
pub(super) fn follow_carrier(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>) {
    registry::now_or_later(rtnl, device, |rtnl, device| {
        if let Some(lower) = device.operations().lower() {
            change::follow_carrier(rtnl, device, lower);
        }
    });
}

/// Makes the MTU no larger than the lower device's.
pub(super) fn follow_mtu(rtnl: &Rtnl<'_>, device: &Arc<NetDevice>) {
    registry::now_or_later(rtnl, device, |rtnl, device| {
        let most = device.operations().lower().map_or(u32::MAX, |lower| lower.mtu());
        if device.mtu() > most {
            change::store_mtu(rtnl, device, most);
        }
    });
}
