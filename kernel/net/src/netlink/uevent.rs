//! NETLINK_KOBJECT_UEVENT: programs that manage devices hear of those that come and go: of network devices each in its namespace, of all
//! others ([`announce_other`]) in the initial one.
//!
//! Messages are text: `ACTION@PATH`, then `KEY=VALUE`, each ended by a zero (udev reads them). Locks: none.

use abi::netlink::NETLINK_KOBJECT_UEVENT;
use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::sync::atomic::{AtomicU64, Ordering};

use super::{Announcement, Origin};
use crate::NetNamespace;
use crate::device::{InterfaceName, NetDevice};
use crate::namespace::NetState;

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
    /// Something about it has changed, or an administrator wants it looked at again.
    Change,
    /// A driver serves it.
    Bind,
    /// No driver serves it any more.
    Unbind,
}

impl Action {
    fn word(self) -> &'static str {
        match self {
            Action::Add => "add",
            Action::Remove => "remove",
            Action::Move => "move",
            Action::Change => "change",
            Action::Bind => "bind",
            Action::Unbind => "unbind",
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

/// Tells of a device that is not of the network, to who listens in the initial namespace. `path` is its place below `/sys`, `lines` are more
/// lines `KEY=VALUE`. Thread context; no spin lock held.
pub fn announce_other(action: Action, path: &str, subsystem: &str, lines: &str) {
    let mut fields = Vec::new();
    if fields.try_reserve(1 + lines.lines().count()).is_ok() {
        fields.push(("SUBSYSTEM", subsystem.as_bytes()));
        fields.extend(
            lines.lines().filter_map(|line| line.split_once('=')).map(|(key, value)| (key, value.as_bytes())),
        );
        tell(NetNamespace::initial().state(), action, path.as_bytes(), &fields);
    }
}

fn send(device: &Arc<NetDevice>, action: Action, old: Option<&InterfaceName>) {
    const FOLDER: &[u8] = b"/devices/virtual/net/";
    let name = device.name();
    let path = [FOLDER, name.as_bytes()].concat();
    let old = old.map(|old| [FOLDER, old.as_bytes()].concat());
    let index = alloc::format!("{}", device.index());
    let mut fields = alloc::vec![("SUBSYSTEM", b"net".as_slice())];
    fields.extend(device_type(device).map(|kind| ("DEVTYPE", kind.as_bytes())));
    fields.extend(old.as_ref().map(|old| ("DEVPATH_OLD", old.as_slice())));
    fields.extend([("INTERFACE", name.as_bytes()), ("IFINDEX", index.as_bytes())]);
    tell(&device.namespace(), action, &path, &fields);
}

/// Writes the message and gives it to the listeners.
fn tell(namespace: &NetState, action: Action, path: &[u8], fields: &[(&str, &[u8])]) {
    let sequence = SEQUENCE.fetch_add(1, Ordering::Relaxed) + 1;
    if !namespace.netlink.has_listeners(NETLINK_KOBJECT_UEVENT as u8, KERNEL) {
        return;
    }
    let word = action.word();
    let mut bytes = Vec::new();
    let mut write = |parts: &[&[u8]]| {
        let length = parts.iter().map(|part| part.len()).sum::<usize>() + 1;
        if bytes.try_reserve(length).is_ok() {
            parts.iter().for_each(|part| bytes.extend_from_slice(part));
            bytes.push(0);
        }
    };
    write(&[word.as_bytes(), b"@", path]);
    write(&[b"ACTION=", word.as_bytes()]);
    write(&[b"DEVPATH=", path]);
    for (key, value) in fields {
        write(&[key.as_bytes(), b"=", value]);
    }
    write(&[b"SEQNUM=", alloc::format!("{sequence}").as_bytes()]);
    let announcement = Announcement {
        protocol: NETLINK_KOBJECT_UEVENT as u8,
        group: KERNEL,
        bytes,
        origin: Origin::default(),
    };
    announcement.send(namespace);
}
