//! Names of UNIX sockets: paths, abstract names, and the tables that find a socket by them (unix(7)).
//!
//! Key types: [`UnixName`] (a name as programs write it), [`UnixNamespace`] (what a network namespace keeps: its abstract names
//! and all its sockets, both made when they are first used). A path's socket hangs on its inode.
//! Locks: one leaf spinlock for each shard of a table.

use abi::errno::{Errno, Result};
use abi::socket::{AF_UNIX, UNIX_PATH_MAX};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use machine::sync::atomic::{AtomicUsize, Ordering};
use machine::sync::{Once, SpinLock};
use vfs::namei::{LookupFlags, Start};
use vfs::types::DeviceId;
use vfs::{AccessMask, LookupContext, Path};

use super::UnixSocket;
use crate::message::{self, Sender, SocketAddress};

/// Bytes before `sun_path`.
const FAMILY_SIZE: usize = 2;

/// A name that programs gave.
pub enum UnixName<'a> {
    /// `sun_path` is empty: the kernel shall choose (only bind(2) takes that).
    Unnamed,
    /// A path.
    Path(&'a [u8]),
    /// A name that begins with NUL.
    Abstract(&'a [u8]),
}

impl UnixName<'_> {
    /// The name in an address. `EINVAL`: not a `struct sockaddr_un`.
    pub fn parse(address: &SocketAddress) -> Result<UnixName<'_>> {
        let bytes = address.as_bytes();
        let family = address.family().map(u32::from);
        if family != Some(AF_UNIX) || bytes.len() > FAMILY_SIZE + UNIX_PATH_MAX {
            return Err(Errno::EINVAL);
        }
        let path = bytes.get(FAMILY_SIZE..).unwrap_or_default();
        Ok(match path.first() {
            None => UnixName::Unnamed,
            Some(0) => UnixName::Abstract(path),
            Some(_) => UnixName::Path(path.split(|byte| *byte == 0).next().unwrap_or_default()),
        })
    }
}

/// The address of a bound socket, as getsockname(2) gives it.
pub struct UnixAddress {
    /// The whole `struct sockaddr_un`.
    pub address: SocketAddress,
    /// Where it is, for a path.
    pub path: Option<Path>,
}

impl UnixAddress {
    fn new(name: &[u8], path: Option<Path>) -> Result<Arc<UnixAddress>> {
        let mut bytes = [0_u8; FAMILY_SIZE + UNIX_PATH_MAX + 1];
        let end = FAMILY_SIZE + name.len();
        let family = (AF_UNIX as u16).to_ne_bytes();
        bytes.get_mut(..FAMILY_SIZE).unwrap_or_default().copy_from_slice(&family);
        bytes.get_mut(FAMILY_SIZE..end).ok_or(Errno::EINVAL)?.copy_from_slice(name);
        // A path's NUL counts.
        let length = end + usize::from(path.is_some());
        let address = SocketAddress::new(bytes.get(..length).unwrap_or_default())?;
        Ok(machine::memory::try_arc(UnixAddress { address, path })?)
    }

    /// The name, with the NUL of an abstract one.
    pub fn name(&self) -> &[u8] {
        let name = self.address.as_bytes().get(FAMILY_SIZE..).unwrap_or_default();
        if self.path.is_some() { name.strip_suffix(b"\0").unwrap_or(name) } else { name }
    }
}

/// The address of a socket that has none.
pub fn unnamed() -> SocketAddress {
    SocketAddress::new(&(AF_UNIX as u16).to_ne_bytes()).unwrap_or(SocketAddress::NONE)
}

/// What a path's inode keeps.
struct Bound(SpinLock<Weak<UnixSocket>>);

const SHARDS: usize = 64;

#[derive(Default)]
struct Shard {
    /// Abstract names, by socket type and name.
    names: BTreeMap<(i32, Box<[u8]>), Weak<UnixSocket>>,
    /// Sockets by number.
    sockets: BTreeMap<u64, Weak<UnixSocket>>,
}

/// What a network namespace has for UNIX sockets.
pub struct UnixNamespace {
    shards: Once<Box<[SpinLock<Shard>]>>,
    /// `net.unix.max_dgram_qlen`.
    queue_length: AtomicUsize,
}

impl Default for UnixNamespace {
    fn default() -> Self {
        UnixNamespace::new()
    }
}

/// Where a list of a namespace's sockets goes on.
#[derive(Clone, Copy, Default)]
pub struct UnixCursor {
    shard: usize,
    number: u64,
}

/// How many datagrams wait for a socket at most, unless a program sets it otherwise.
const QUEUE_LENGTH: usize = 10;

impl UnixNamespace {
    /// One without sockets.
    pub const fn new() -> UnixNamespace {
        UnixNamespace { shards: Once::new(), queue_length: AtomicUsize::new(QUEUE_LENGTH) }
    }

    /// `net.unix.max_dgram_qlen`.
    pub fn queue_length(&self) -> usize {
        self.queue_length.load(Ordering::Relaxed)
    }

    /// Sets it, for sockets made from now on. `EINVAL`: beyond an `int`.
    pub fn set_queue_length(&self, length: usize) -> Result<()> {
        if length > i32::MAX as usize {
            return Err(Errno::EINVAL);
        }
        self.queue_length.store(length, Ordering::Relaxed);
        Ok(())
    }

    fn shard(&self, place: usize) -> Result<&SpinLock<Shard>> {
        if self.shards.get().is_none() {
            let mut shards = Vec::new();
            shards.try_reserve_exact(SHARDS).map_err(|_| Errno::ENOMEM)?;
            shards.resize_with(SHARDS, || SpinLock::new(Shard::default()));
            self.shards.get_or_init(|| shards.into_boxed_slice());
        }
        self.shards.get().and_then(|shards| shards.get(place % SHARDS)).ok_or(Errno::ENOMEM)
    }

    /// Enters a new socket.
    pub fn register(&self, socket: &Arc<UnixSocket>) -> Result<()> {
        let shard = self.shard(socket.number() as usize)?;
        shard.lock().sockets.insert(socket.number(), Arc::downgrade(socket));
        Ok(())
    }

    /// Removes a socket that is closed, and its abstract name.
    pub fn unregister(&self, socket: &UnixSocket, address: Option<&UnixAddress>) {
        if let Ok(shard) = self.shard(socket.number() as usize) {
            let gone = shard.lock().sockets.remove(&socket.number());
            drop(gone);
        }
        if let Some(address) = address.filter(|address| address.path.is_none())
            && let Ok(shard) = self.shard(name_shard(address.name()))
        {
            let key = (socket.core().kind().number(), Box::from(address.name()));
            let mut shard = shard.lock();
            // A connection has its listener's address, but is not who is found under it.
            let is_own = |found: &Weak<UnixSocket>| core::ptr::eq(found.as_ptr(), socket);
            let gone =
                if shard.names.get(&key).is_some_and(is_own) { shard.names.remove(&key) } else { None };
            drop(shard);
            drop(gone);
        }
    }

    /// The socket with this abstract name. `ECONNREFUSED`: there is none.
    fn find_abstract(&self, name: &[u8], kind: i32) -> Result<Arc<UnixSocket>> {
        let key = (kind, Box::from(name));
        let found = self.shard(name_shard(name))?.lock().names.get(&key).and_then(Weak::upgrade);
        found.ok_or(Errno::ECONNREFUSED)
    }

    /// Gives a socket an abstract name. `EADDRINUSE`.
    fn bind_abstract(&self, socket: &Arc<UnixSocket>, name: &[u8]) -> Result<Arc<UnixAddress>> {
        let address = UnixAddress::new(name, None)?;
        let key = (socket.core().kind().number(), Box::from(name));
        let mut shard = self.shard(name_shard(name))?.lock();
        if shard.names.get(&key).is_some_and(|other| other.strong_count() > 0) {
            return Err(Errno::EADDRINUSE);
        }
        let old = shard.names.insert(key, Arc::downgrade(socket));
        drop(shard);
        drop(old);
        Ok(address)
    }

    /// The next socket that lives; moves the cursor behind it.
    pub fn next(&self, cursor: &mut UnixCursor) -> Option<Arc<UnixSocket>> {
        let shards = self.shards.get()?;
        while let Some(shard) = shards.get(cursor.shard) {
            let shard = shard.lock();
            let found = shard.sockets.range(cursor.number..).next();
            let Some((number, socket)) = found.map(|(number, socket)| (*number, socket.upgrade())) else {
                *cursor = UnixCursor { shard: cursor.shard + 1, number: 0 };
                continue;
            };
            drop(shard);
            cursor.number = number + 1;
            if socket.is_some() {
                return socket;
            }
        }
        None
    }

    /// Calls with each socket that lives, in no order that means anything.
    pub fn for_each(&self, mut visit: impl FnMut(&Arc<UnixSocket>)) {
        for shard in self.shards.get().into_iter().flatten() {
            let mut from = 0;
            // One at a time, so that the lock is held for one search.
            loop {
                let next = shard
                    .lock()
                    .sockets
                    .range(from..)
                    .next()
                    .map(|(number, socket)| (*number, socket.clone()));
                let Some((number, socket)) = next else { break };
                from = number + 1;
                if let Some(socket) = socket.upgrade() {
                    visit(&socket);
                }
            }
        }
    }
}

/// Spreads names over the shards (FNV-1a); which shard it is costs an attacker no more than a longer search in one tree.
fn name_shard(name: &[u8]) -> usize {
    let hash = name.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    (hash >> 32) as usize
}

/// Calls with what paths mean to the calling task. `ENOENT` on a kernel thread.
fn with_lookup<R>(call: impl FnOnce(&LookupContext<'_>) -> Result<R>) -> Result<R> {
    let fs = message::caller().and_then(|caller| caller.file_system()).ok_or(Errno::ENOENT)?;
    let credentials = Sender::current().credentials;
    call(&LookupContext { fs: &fs, credentials: &credentials })
}

/// The socket that an address names, of the given type.
///
/// Errors: `EINVAL`: not an address to send to; those of path lookup; `EACCES`: the file may not be written;
/// `ECONNREFUSED`: nobody is bound there; `EPROTOTYPE`: a socket of another type.
pub fn find(socket: &UnixSocket, address: &SocketAddress) -> Result<Arc<UnixSocket>> {
    let kind = socket.core().kind();
    match UnixName::parse(address)? {
        UnixName::Unnamed => Err(Errno::EINVAL),
        UnixName::Abstract(name) => socket.core().namespace().unix().find_abstract(name, kind.number()),
        UnixName::Path(path) => {
            let found = with_lookup(|context| {
                let place = vfs::namei::resolve(context, Start::WorkingDirectory, path, LookupFlags::FOLLOW)?;
                vfs::permission::check_path(&place, context.credentials, AccessMask::WRITE)?;
                let inode = place.inode()?;
                let bound = inode.attached_if_any().and_then(|bound| bound.downcast_ref::<Bound>());
                let found = bound.and_then(|bound| bound.0.lock().upgrade());
                vfs::attributes::touch_accessed(&place);
                found.filter(|found| !found.is_dead()).ok_or(Errno::ECONNREFUSED)
            })?;
            if found.core().kind() != kind { Err(Errno::EPROTOTYPE) } else { Ok(found) }
        }
    }
}

/// Binds a socket, whose lock for that is held, to a path. `EADDRINUSE`, and those of mknod(2); `EINVAL`: it is bound already, which
/// as on Linux is found out after the name was made.
pub fn bind_path(socket: &Arc<UnixSocket>, path: &[u8]) -> Result<Arc<UnixAddress>> {
    with_lookup(|context| {
        let mode = abi::stat::S_IFSOCK | 0o777;
        let start = Start::WorkingDirectory;
        let made = vfs::directory::make_node(context, start, path, mode, DeviceId::default());
        let place = made.map_err(|error| if error == Errno::EEXIST { Errno::EADDRINUSE } else { error })?;
        if socket.address().is_some() {
            vfs::directory::unlink(context, start, path)?;
            return Err(Errno::EINVAL);
        }
        let address = UnixAddress::new(path, Some(place.clone()))?;
        let make = || -> Arc<dyn Any + Send + Sync> { Arc::new(Bound(SpinLock::new(Weak::new()))) };
        if let Some(bound) = place.inode()?.attached(make).downcast_ref::<Bound>() {
            let old = core::mem::replace(&mut *bound.0.lock(), Arc::downgrade(socket));
            drop(old);
        }
        Ok(address)
    })
}

/// Binds a socket to an abstract name. `EADDRINUSE`.
pub fn bind_abstract(socket: &Arc<UnixSocket>, name: &[u8]) -> Result<Arc<UnixAddress>> {
    socket.core().namespace().unix().bind_abstract(socket, name)
}

/// Binds a socket to a free abstract name of five hexadecimal digits. `ENOSPC`: none of many was free.
pub fn bind_free(socket: &Arc<UnixSocket>) -> Result<Arc<UnixAddress>> {
    const ALL: u32 = 1 << 20;
    let mut bytes = [0; 4];
    machine::random::fill(&mut bytes);
    let start = u32::from_ne_bytes(bytes);
    for step in 0..ALL {
        let number = start.wrapping_add(step) % ALL;
        let name = alloc::format!("\0{number:05x}");
        match bind_abstract(socket, name.as_bytes()) {
            Err(Errno::EADDRINUSE) => {}
            other => return other,
        }
    }
    Err(Errno::ENOSPC)
}
