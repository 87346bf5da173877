//! A network namespace: the root of all network state (network_namespaces(7)).
//!
//! Key types: [`NetNamespace`] (a reference that keeps one alive: sockets, tasks, nsfs files, tun descriptors, open `/proc/PID/net` files
//! hold an `Arc` of it) and [`NetState`] (what is in one). Devices, ids and packets hold the state only: it stays as
//! long as someone looks at it, while the namespace dies with its last reference (see [`crate::lifetime`]).
//! Nothing in this crate is global that Linux has per namespace. State is built when it is first used, so that a namespace
//! with nothing but a loopback device costs no more.
//! Locks: each part says its own; `rtnl` (sleeping) is the outermost of the network's, see [`crate::device::rtnl`].

use abi::errno::{Errno, Result};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use core::ops::Deref;
use linnet_lib::tree::Node;
use machine::memory::{try_arc, try_box};
use machine::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use machine::sync::{Lazy, Mutex, Once};
use security::{NamespaceHead, UserNamespace};

use crate::device::{self, DeviceTable};
use crate::ids;
use crate::inet::InetNamespace;
use crate::ip::IpState;
use crate::lifetime::{self, Grave};
use crate::netlink::NetlinkTable;
use crate::packet_socket::PacketTable;
use crate::unix::UnixNamespace;

/// `SO_NETNS_COOKIE` of the initial namespace; the others count up from it.
const FIRST_COOKIE: u64 = 1;

static NEXT_COOKIE: AtomicU64 = AtomicU64::new(FIRST_COOKIE);
static INITIAL: Lazy<Arc<NetNamespace>> =
    Lazy::new(|| match NetNamespace::build(security::initial_namespace()) {
        Ok(namespace) => namespace,
        Err(error) => panic!("no initial network namespace: {error}"),
    });

/// Keeps a network namespace alive. It gives what is in it by dereference.
pub struct NetNamespace {
    state: Arc<NetState>,
    /// What the namespace is remembered by when this, the last reference, is gone; made early, so that dying needs no memory.
    grave: Option<Box<Node<Grave>>>,
}

/// What is in a network namespace.
pub struct NetState {
    cookie: u64,
    owner: Arc<UserNamespace>,
    live: Once<Weak<NetNamespace>>,
    pub(crate) ids: ids::Sides<NetState>,
    pub(crate) rtnl: Mutex<()>,
    pub(crate) devices: DeviceTable,
    pub(crate) netlink: NetlinkTable,
    unix: UnixNamespace,
    packet_sockets: PacketTable,
    inet: InetNamespace,
    pub(crate) ip: IpState,
    /// Sockets of all families.
    sockets: AtomicUsize,
    /// What it has in common with other kinds; set by who makes it known to programs.
    head: Once<NamespaceHead>,
}

impl NetNamespace {
    fn build(owner: &Arc<UserNamespace>) -> Result<Arc<NetNamespace>> {
        let cookie = NEXT_COOKIE.fetch_add(1, Ordering::Relaxed);
        let state = try_arc(NetState {
            cookie,
            owner: owner.clone(),
            live: Once::new(),
            ids: ids::Sides::new(cookie),
            rtnl: Mutex::new(()),
            devices: DeviceTable::new(),
            netlink: NetlinkTable::new(),
            unix: UnixNamespace::new(),
            packet_sockets: PacketTable::default(),
            inet: InetNamespace::default(),
            ip: IpState::new(),
            sockets: AtomicUsize::new(0),
            head: Once::new(),
        })?;
        let grave = try_box(Node::new(Grave::new(state.clone()))).map_err(|_| Errno::ENOMEM)?;
        device::loopback::create(&state)?;
        lifetime::count_birth();
        let namespace = try_arc(NetNamespace { state: state.clone(), grave: Some(grave) })?;
        let _ = state.live.set(Arc::downgrade(&namespace));
        Ok(namespace)
    }

    /// The one the machine starts in.
    pub fn initial() -> &'static Arc<NetNamespace> {
        &INITIAL
    }

    /// A new one, owned by `owner`; the caller has checked CAP_SYS_ADMIN there and the limit. If many are dying it waits until
    /// some are gone, so that memory cannot run out by making them faster than they go. Sleeps.
    ///
    /// # Errors
    /// `ENOMEM`; `EINTR`: killed while waiting.
    pub fn create(owner: &Arc<UserNamespace>) -> Result<Arc<NetNamespace>> {
        lifetime::wait_for_room()?;
        NetNamespace::build(owner)
    }

    /// What is in it.
    pub fn state(&self) -> &Arc<NetState> {
        &self.state
    }
}

impl Deref for NetNamespace {
    type Target = NetState;
    fn deref(&self) -> &NetState {
        &self.state
    }
}

impl Drop for NetNamespace {
    /// Any context.
    fn drop(&mut self) {
        if let Some(grave) = self.grave.take() {
            lifetime::bury(grave);
        }
    }
}

impl NetState {
    /// The user namespace whose administrators administrate it.
    pub fn owner(&self) -> &Arc<UserNamespace> {
        &self.owner
    }

    /// Gives it its kind, number and owner as programs see them; only the first counts.
    pub fn identify(&self, head: NamespaceHead) {
        let _ = self.head.set(head);
    }

    /// Kind, number and owner, once it is known to programs.
    pub fn head(&self) -> Option<&NamespaceHead> {
        self.head.get()
    }

    /// A number that no other has or will have (`SO_NETNS_COOKIE`).
    pub fn cookie(&self) -> u64 {
        self.cookie
    }

    /// Keeps it alive; `None` if it is dying.
    pub fn live(&self) -> Option<Arc<NetNamespace>> {
        self.live.get()?.upgrade()
    }

    /// Whether it is the one the machine started in.
    pub fn is_initial(&self) -> bool {
        self.cookie == FIRST_COOKIE
    }

    /// Its UNIX sockets.
    pub fn unix(&self) -> &UnixNamespace {
        &self.unix
    }

    /// Its packet sockets.
    pub fn packet_sockets(&self) -> &PacketTable {
        &self.packet_sockets
    }

    /// Its Internet sockets.
    pub fn inet(&self) -> &InetNamespace {
        &self.inet
    }

    /// Its devices.
    pub fn devices(&self) -> &DeviceTable {
        &self.devices
    }

    /// The index of the interface with this name.
    pub fn interface_index(&self, name: &[u8]) -> Option<i32> {
        self.devices.by_name(name).map(|device| device.index())
    }

    /// How many sockets there are in it, of all families.
    pub fn socket_count(&self) -> usize {
        self.sockets.load(Ordering::Relaxed)
    }

    /// Notes that there is one more, or with `usize::MAX` one less.
    pub(crate) fn count_socket(&self, step: usize) {
        self.sockets.fetch_add(step, Ordering::Relaxed);
    }

    /// Lets go of everything in it that is not an id. Thread context, no lock held.
    pub(crate) fn tear_down(self: &Arc<Self>) {
        self.ip.clear();
        device::registry::tear_down(self);
        self.ip.clear();
    }
}
