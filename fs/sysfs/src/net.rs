//! Network devices in `/sys`: `class/net` and `devices/virtual/net`, as the network namespace of whoever mounted sees them.
//!
//! Key types: [`View`] (a tree with one directory more at some place), [`Devices`] (the devices of a namespace). A node knows its device
//! weakly and is valid while the device has its name in that namespace. What the files say is `net::device::attributes`.
//! Locks: none of its own.

use abi::errno::{Errno, Result};
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use machine::sync::Lazy;
use net::device::attributes::{self, Attribute};
use net::device::{InterfaceName, NetDevice};
use net::namespace::NetState;
use vfs::pseudo::{Directory, Lister, Node};
use vfs::{AccessMask, FileKind, NameCaching};

use crate::folder::Folder;

/// A directory with one entry of its own in front of those of another, which has none of that name.
struct View {
    below: Arc<Folder>,
    name: &'static str,
    node: Node,
}

impl Directory for View {
    fn lookup(&self, name: &[u8]) -> Result<Node> {
        if name == self.name.as_bytes() { Ok(self.node.clone()) } else { self.below.lookup(name) }
    }

    fn list(&self, cursor: u64, take: Lister<'_>) -> Result<()> {
        if cursor == 0 && !take(self.name.as_bytes(), self.node.kind(), self.node.number(), 1) {
            return Ok(());
        }
        let own = self.name.as_bytes();
        // The folder's cursors, one further.
        self.below.list(cursor.saturating_sub(1), &mut |name, kind, inode, next| {
            name == own || take(name, kind, inode, next + 1)
        })
    }

    fn caching(&self) -> NameCaching {
        NameCaching::Checked
    }
}

fn directory(directory: impl Directory + 'static) -> Node {
    Node::directory(Arc::new(directory)).mode(0o755)
}

/// The tree at `path` below `top` with `node` in it.
fn with(top: &Arc<Folder>, path: &[&'static str], node: Node) -> Result<Node> {
    let Some((first, rest)) = path.split_first() else { return Ok(node) };
    let inner = match rest {
        [] => node,
        rest => with(&top.folder(first)?, rest, node)?,
    };
    Ok(directory(View { below: top.clone(), name: first, node: inner }))
}

/// The top of the tree as a namespace sees it. Errors: `EEXIST`.
pub(crate) fn tree_of(namespace: &Arc<NetState>) -> Result<Node> {
    let top = crate::tree();
    let devices = directory(Devices { namespace: namespace.clone(), links: false });
    let class = directory(Devices { namespace: namespace.clone(), links: true });
    // Two paths from one top: the one view lies over the other.
    let virtual_devices = with(&top.folder("devices")?, &["virtual", "net"], devices)?;
    let classes = directory(View { below: top.folder("class")?, name: "net", node: class });
    Ok(directory(Top { below: top.clone(), own: [("class", classes), ("devices", virtual_devices)] }))
}

/// The top with two entries in place of the folder's own.
struct Top {
    below: Arc<Folder>,
    own: [(&'static str, Node); 2],
}

impl Directory for Top {
    fn lookup(&self, name: &[u8]) -> Result<Node> {
        match self.own.iter().find(|(own, _)| own.as_bytes() == name) {
            Some((_, node)) => Ok(node.clone()),
            None => self.below.lookup(name),
        }
    }

    fn list(&self, cursor: u64, take: Lister<'_>) -> Result<()> {
        self.below.list(cursor, take)
    }

    fn caching(&self) -> NameCaching {
        NameCaching::Checked
    }
}

/// The devices of a namespace by name: themselves, or links to them from `class/net`.
struct Devices {
    namespace: Arc<NetState>,
    links: bool,
}

/// Whether a device has a name in a namespace. Any context.
fn is_there(device: &Weak<NetDevice>, name: &InterfaceName, namespace: &Weak<NetState>) -> bool {
    let Some(device) = device.upgrade() else { return false };
    device.is_registered()
        && device.name() == *name
        && core::ptr::eq(Arc::as_ptr(&device.namespace()), namespace.as_ptr())
}

impl Directory for Devices {
    fn lookup(&self, name: &[u8]) -> Result<Node> {
        let device = self.namespace.devices().by_name(name).ok_or(Errno::ENOENT)?;
        let own = device.name();
        // Other names of a device lead to none here.
        if own.as_bytes() != name {
            return Err(Errno::ENOENT);
        }
        let (weak, namespace) = (Arc::downgrade(&device), Arc::downgrade(&self.namespace));
        let node = if self.links {
            Node::symlink(&format!("../../devices/virtual/net/{own}"))
        } else {
            directory(Device(weak.clone()))
        };
        Ok(node.valid_while(move || is_there(&weak, &own, &namespace)))
    }

    fn list(&self, cursor: u64, take: Lister<'_>) -> Result<()> {
        let mut from = i32::try_from(cursor).unwrap_or(i32::MAX);
        while let Some(device) = self.namespace.devices().next_from(from) {
            let kind = if self.links { FileKind::Symlink } else { FileKind::Directory };
            let Some(next) = device.index().checked_add(1) else { break };
            if !take(device.name().as_bytes(), kind, device.number() + (1 << 40), next as u64) {
                break;
            }
            from = next;
        }
        Ok(())
    }

    fn caching(&self) -> NameCaching {
        NameCaching::Checked
    }
}

/// The directory of a device.
struct Device(Weak<NetDevice>);

fn alive(device: &Weak<NetDevice>) -> Result<Arc<NetDevice>> {
    device.upgrade().filter(|device| device.is_registered()).ok_or(Errno::ENODEV)
}

/// The file of an attribute of a device.
fn file(device: &Weak<NetDevice>, attribute: &'static Attribute) -> Node {
    let readable = if attribute.read.is_some() { 0o444 } else { 0 };
    let (from, to) = (device.clone(), device.clone());
    let read = move |out: &mut vfs::pseudo::Text| match attribute.read {
        Some(read) => read(&*alive(&from)?, out),
        None => Err(Errno::EIO),
    };
    match attribute.store {
        Some(store) => {
            Node::writable_text(readable | 0o200, read, move |text: &[u8]| store(&alive(&to)?, text))
        }
        // Nobody may write, whatever its capabilities are.
        None => Node::text_with(readable, read).allow(|_, mask| {
            let refused = AccessMask::WRITE | AccessMask::EXECUTE;
            if mask.intersects(refused) { Err(Errno::EACCES) } else { Ok(()) }
        }),
    }
}

/// A fixed list of nodes.
type Named = alloc::vec::Vec<(String, Node)>;

impl Device {
    /// What is in the directory besides the files.
    fn parts(&self, device: &Arc<NetDevice>) -> Named {
        let table = |table: &'static [Attribute]| directory(Files(self.0.clone(), table));
        let mut parts = Named::new();
        let mut add = |name: &str, node: Node| parts.push((String::from(name), node));
        add("statistics", table(attributes::STATISTICS));
        add("queues", directory(Queues(self.0.clone())));
        add("subsystem", Node::symlink("../../../../class/net"));
        if attributes::is_bridge(device) {
            add("bridge", table(attributes::BRIDGE));
            add("brif", directory(Ports(self.0.clone())));
        }
        if let Some(master) = device.master() {
            add("master", Node::symlink(&format!("../{}", master.name())));
            if attributes::is_bridge(&master) {
                add("brport", directory(Port(self.0.clone())));
            }
        }
        parts
    }

    /// The links to the devices above and below.
    fn neighbour(device: &NetDevice, name: &str) -> Option<Node> {
        let (is_above, other) = match name.strip_prefix("upper_") {
            Some(other) => (true, other),
            None => (false, name.strip_prefix("lower_")?),
        };
        each_neighbour(device, is_above).find(|found| found.name().as_bytes() == other.as_bytes())?;
        Some(Node::symlink(&format!("../{other}")))
    }
}

/// The devices above or below one that are in its namespace.
fn each_neighbour(device: &NetDevice, is_above: bool) -> impl Iterator<Item = Arc<NetDevice>> {
    let namespace = device.namespace();
    let mut from = 0;
    core::iter::from_fn(move || {
        let found = device.next_neighbour(is_above, from)?;
        from = found.number() + 1;
        Some(found)
    })
    .filter(move |found| Arc::ptr_eq(&found.namespace(), &namespace))
}

/// Hands over what comes after the first `cursor` of a list.
fn list_all(all: impl Iterator<Item = (String, FileKind)>, cursor: u64, take: Lister<'_>) -> Result<()> {
    for (place, (name, kind)) in all.enumerate().skip(cursor as usize) {
        let next = place as u64 + 1;
        if !take(name.as_bytes(), kind, next, next) {
            break;
        }
    }
    Ok(())
}

impl Directory for Device {
    fn lookup(&self, name: &[u8]) -> Result<Node> {
        let device = alive(&self.0).map_err(|_| Errno::ENOENT)?;
        let name = core::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        let mut files = attributes::DEVICE.iter().chain(attributes::of_kind(&device));
        if let Some(attribute) = files.find(|attribute| attribute.name == name) {
            return Ok(file(&self.0, attribute));
        }
        let found = self.parts(&device).into_iter().find(|(own, _)| own == name).map(|(_, node)| node);
        let node = found.or_else(|| Device::neighbour(&device, name)).ok_or(Errno::ENOENT)?;
        // Masters and neighbours come and go.
        let weak = self.0.clone();
        let was = device.master().map(|master| master.number());
        let is_link = node.kind() == FileKind::Symlink && name != "subsystem";
        Ok(node.valid_while(move || {
            let now = weak.upgrade().map(|device| device.master().map(|master| master.number()));
            now == Some(was) && !is_link
        }))
    }

    fn list(&self, cursor: u64, take: Lister<'_>) -> Result<()> {
        let device = alive(&self.0)?;
        let files = attributes::DEVICE.iter().chain(attributes::of_kind(&device));
        let files = files.map(|file| (String::from(file.name), FileKind::Regular));
        let parts = self.parts(&device).into_iter().map(|(name, node)| (name, node.kind()));
        let link = |prefix: &'static str| {
            move |found: Arc<NetDevice>| (format!("{prefix}{}", found.name()), FileKind::Symlink)
        };
        let above = each_neighbour(&device, true).map(link("upper_"));
        let below = each_neighbour(&device, false).map(link("lower_"));
        list_all(files.chain(parts).chain(above).chain(below), cursor, take)
    }

    fn caching(&self) -> NameCaching {
        NameCaching::Checked
    }
}

/// A directory of files alone.
struct Files(Weak<NetDevice>, &'static [Attribute]);

impl Directory for Files {
    fn lookup(&self, name: &[u8]) -> Result<Node> {
        let found = self.1.iter().find(|attribute| attribute.name.as_bytes() == name);
        found.map(|attribute| file(&self.0, attribute)).ok_or(Errno::ENOENT)
    }

    fn list(&self, cursor: u64, take: Lister<'_>) -> Result<()> {
        list_all(self.1.iter().map(|file| (String::from(file.name), FileKind::Regular)), cursor, take)
    }
}

/// `queues`: a directory for each queue; none has anything to tell.
struct Queues(Weak<NetDevice>);

static EMPTY: Lazy<Arc<Folder>> = Lazy::new(Folder::new);

impl Queues {
    fn names(&self) -> Result<impl Iterator<Item = String>> {
        let count = alive(&self.0)?.queues();
        let name = |direction: &'static str| move |number| format!("{direction}-{number}");
        Ok((0..count).map(name("rx")).chain((0..count).map(name("tx"))))
    }
}

impl Directory for Queues {
    fn lookup(&self, name: &[u8]) -> Result<Node> {
        let found = self.names()?.any(|own| own.as_bytes() == name);
        if found { Ok(EMPTY.node()) } else { Err(Errno::ENOENT) }
    }

    fn list(&self, cursor: u64, take: Lister<'_>) -> Result<()> {
        list_all(self.names()?.map(|name| (name, FileKind::Directory)), cursor, take)
    }
}

/// `brif`: links to a bridge's ports.
struct Ports(Weak<NetDevice>);

impl Directory for Ports {
    fn lookup(&self, name: &[u8]) -> Result<Node> {
        let bridge = alive(&self.0)?;
        let mut ports = each_neighbour(&bridge, false);
        let port = ports.find(|port| port.name().as_bytes() == name).ok_or(Errno::ENOENT)?;
        Ok(Node::symlink(&format!("../../{}/brport", port.name())).valid_while(|| false))
    }

    fn list(&self, cursor: u64, take: Lister<'_>) -> Result<()> {
        let bridge = alive(&self.0)?;
        let ports = each_neighbour(&bridge, false);
        list_all(ports.map(|port| (format!("{}", port.name()), FileKind::Symlink)), cursor, take)
    }

    fn caching(&self) -> NameCaching {
        NameCaching::Checked
    }
}

/// `brport`: a port's files, and a link to its bridge.
struct Port(Weak<NetDevice>);

impl Directory for Port {
    fn lookup(&self, name: &[u8]) -> Result<Node> {
        if name != b"bridge" {
            return Files(self.0.clone(), attributes::PORT).lookup(name);
        }
        let master = alive(&self.0)?.master().ok_or(Errno::ENOENT)?;
        Ok(Node::symlink(&format!("../../{}", master.name())).valid_while(|| false))
    }

    fn list(&self, cursor: u64, take: Lister<'_>) -> Result<()> {
        let files = attributes::PORT.iter().map(|file| (String::from(file.name), FileKind::Regular));
        let bridge = core::iter::once((String::from("bridge"), FileKind::Symlink));
        list_all(files.chain(bridge), cursor, take)
    }

    fn caching(&self) -> NameCaching {
        NameCaching::Checked
    }
}
