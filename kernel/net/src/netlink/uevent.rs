//! NETLINK_KOBJECT_UEVENT: programs that manage devices hear of network devices that come and go, each in its namespace.
//!
//! Messages are text: `ACTION@PATH`, then `KEY=VALUE`, each ended by a zero (udev reads them). Locks: none.

use abi::netlink::NETLINK_KOBJECT_UEVENT;
use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::sync::atomic::{AtomicU64, Ordering};

use super::{Announcement, Origin};
use crate::device::{InterfaceName, NetDevice};

/// The group that the kernel speaks to.
const KERNEL: u32 = 1;
static SEQUENCE: AtomicU64 = AtomicU64::new(0);

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It came.
    Add,
    /// It went.
    Remove,
    /// It has another name.
    Move,
    /// An administrator wants it looked at again.
    Change,
}

impl Action {
    fn word(self) -> &'static str {
        match self {
            Action::Add => "add",
            Action::Remove => "remove",
            Action::Move => "move",
            Action::Change => "change",
        }
    }

    /// The action that a program asks to have told. A move has nothing to move from.
    pub(crate) fn named(word: &[u8]) -> Option<Action> {
        [Action::Add, Action::Remove, Action::Change]
            .into_iter()
            .find(|action| action.word().as_bytes() == word)
    }
}

/// What type of device the name of its kind says (`DEVTYPE`): not all have one.
pub(crate) fn device_type(device: &NetDevice) -> Option<&'static str> {
    device.kind().map(|kind| kind.name).filter(|name| ["bridge", "vlan", "macvlan"].contains(name))
}

/// Tells of a device. Lost without memory, as the listeners expect.
pub(crate) fn announce(device: &Arc<NetDevice>, action: Action) {
    send(device, action, None);
}

/// Tells of a new name.
pub(crate) fn announce_move(device: &Arc<NetDevice>, old: &InterfaceName) {
    send(device, Action::Move, Some(old));
}

fn send(device: &Arc<NetDevice>, action: Action, old: Option<&InterfaceName>) {
    let sequence = SEQUENCE.fetch_add(1, Ordering::Relaxed) + 1;
    let namespace = device.namespace();
    if !namespace.netlink.has_listeners(NETLINK_KOBJECT_UEVENT as u8, KERNEL) {
        return;
    }
    let name = device.name();
    let word = action.word();
    let mut bytes = Vec::new();
    let mut write = |parts: &[&[u8]]| {
        let length = parts.iter().map(|part| part.len()).sum::<usize>() + 1;
        if bytes.try_reserve(length).is_ok() {
            parts.iter().for_each(|part| bytes.extend_from_slice(part));
            bytes.push(0);
        }
    };
    const PATH: &[u8] = b"/devices/virtual/net/";
    write(&[word.as_bytes(), b"@", PATH, name.as_bytes()]);
    write(&[b"ACTION=", word.as_bytes()]);
    write(&[b"DEVPATH=", PATH, name.as_bytes()]);
    write(&[b"SUBSYSTEM=net"]);
    if let Some(kind) = device_type(device) {
        write(&[b"DEVTYPE=", kind.as_bytes()]);
    }
    if let Some(old) = old {
        write(&[b"DEVPATH_OLD=", PATH, old.as_bytes()]);
    }
    write(&[b"INTERFACE=", name.as_bytes()]);
    write(&[b"IFINDEX=", alloc::format!("{}", device.index()).as_bytes()]);
    write(&[b"SEQNUM=", alloc::format!("{sequence}").as_bytes()]);
    let announcement = Announcement {
        protocol: NETLINK_KOBJECT_UEVENT as u8,
        group: KERNEL,
        bytes,
        origin: Origin::default(),
    };
    announcement.send(&namespace);
}
