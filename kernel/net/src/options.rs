//! The options of `SOL_SOCKET` that every socket has: setsockopt(2), getsockopt(2), socket(7).
//!
//! Key type: [`Options`]: plain atomics, so that paths which look at them take no lock. [`set`] and [`get`] are the two calls.
//! What only one family knows is asked of the family when these answer `ENOPROTOOPT`. Locks: none.

use abi::errno::{Errno, Result};
use abi::socket::*;
use abi::time::{NSEC_PER_SEC, Timeval};
use bitflags::bitflags;
use machine::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use security::{Capability, Credentials, UserNamespace};
use zerocopy::{FromBytes, IntoBytes};

use crate::core::SocketCore;
use crate::socket::SocketKind;
use crate::{filter, sysctl};

bitflags! {
    /// The options that are on or off.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Switches: u32 {
        /// `SO_REUSEADDR`.
        const REUSEADDR = 1;
        /// `SO_REUSEPORT`.
        const REUSEPORT = 1 << 1;
        /// `SO_KEEPALIVE`.
        const KEEPALIVE = 1 << 2;
        /// `SO_BROADCAST`.
        const BROADCAST = 1 << 3;
        /// `SO_OOBINLINE`.
        const OOBINLINE = 1 << 4;
        /// `SO_DONTROUTE`.
        const DONTROUTE = 1 << 5;
        /// `SO_DEBUG`.
        const DEBUG = 1 << 6;
        /// `SO_LINGER` is on.
        const LINGER = 1 << 7;
        /// `SO_PASSCRED`.
        const PASSCRED = 1 << 8;
        /// `SO_PASSPIDFD`.
        const PASSPIDFD = 1 << 9;
        /// `SO_PASSRIGHTS` was switched off.
        const NO_RIGHTS = 1 << 10;
        /// `SO_PASSSEC`.
        const PASSSEC = 1 << 11;
        /// `SO_TIMESTAMP` or `SO_TIMESTAMPNS`.
        const TIMESTAMP = 1 << 12;
        /// The time is in nanoseconds.
        const TIMESTAMP_NS = 1 << 13;
        /// The time is in the new layout (the same on 64-bit machines, but another number).
        const TIMESTAMP_NEW = 1 << 14;
        /// `SO_RXQ_OVFL`.
        const RXQ_OVFL = 1 << 15;
        /// `SO_LOCK_FILTER`.
        const LOCK_FILTER = 1 << 16;
        /// `SO_NO_CHECK`.
        const NO_CHECK = 1 << 17;
        /// `SO_SELECT_ERR_QUEUE`.
        const SELECT_ERR_QUEUE = 1 << 18;
        /// `SO_RCVMARK`.
        const RCVMARK = 1 << 19;
        /// `SO_RCVPRIORITY`.
        const RCVPRIORITY = 1 << 20;
        /// A program set the send buffer (`SO_BUF_LOCK`).
        const SNDBUF_LOCK = 1 << 21;
        /// A program set the receive buffer.
        const RCVBUF_LOCK = 1 << 22;
        /// `FIOASYNC`: signals are sent when it becomes ready.
        const ASYNC = 1 << 23;
    }
}

/// The values of one socket.
pub struct Options {
    switches: AtomicU32,
    send_buffer: AtomicUsize,
    receive_buffer: AtomicUsize,
    receive_low_water: AtomicI32,
    /// Nanoseconds; 0 means for ever.
    receive_timeout_ns: AtomicU64,
    send_timeout_ns: AtomicU64,
    linger_seconds: AtomicU32,
    priority: AtomicI32,
    mark: AtomicU32,
    bound_interface: AtomicI32,
    peek_offset: AtomicI32,
}

impl Options {
    pub(crate) fn new() -> Options {
        Options {
            switches: AtomicU32::new(0),
            send_buffer: AtomicUsize::new(sysctl::SEND_BUFFER_DEFAULT.get()),
            receive_buffer: AtomicUsize::new(sysctl::RECEIVE_BUFFER_DEFAULT.get()),
            receive_low_water: AtomicI32::new(1),
            receive_timeout_ns: AtomicU64::new(0),
            send_timeout_ns: AtomicU64::new(0),
            linger_seconds: AtomicU32::new(0),
            priority: AtomicI32::new(0),
            mark: AtomicU32::new(0),
            bound_interface: AtomicI32::new(0),
            peek_offset: AtomicI32::new(-1),
        }
    }

    /// Whether all of these are on.
    #[inline]
    pub fn has(&self, switch: Switches) -> bool {
        self.switches.load(Ordering::Relaxed) & switch.bits() == switch.bits()
    }

    /// Switches on or off.
    pub fn switch(&self, switch: Switches, on: bool) {
        if on {
            self.switches.fetch_or(switch.bits(), Ordering::Relaxed);
        } else {
            self.switches.fetch_and(!switch.bits(), Ordering::Relaxed);
        }
    }

    /// `SO_SNDBUF` as it counts: bytes with overhead.
    pub fn send_buffer(&self) -> usize {
        self.send_buffer.load(Ordering::Relaxed)
    }

    /// `SO_RCVBUF` as it counts.
    pub fn receive_buffer(&self) -> usize {
        self.receive_buffer.load(Ordering::Relaxed)
    }

    /// Sets the send buffer itself: a family with a default of its own.
    pub fn set_send_buffer(&self, bytes: usize) {
        self.send_buffer.store(bytes, Ordering::Relaxed);
    }

    /// Sets the receive buffer itself.
    pub fn set_receive_buffer(&self, bytes: usize) {
        self.receive_buffer.store(bytes, Ordering::Relaxed);
    }

    /// How many bytes a stream's read waits for (`SO_RCVLOWAT`), of `wanted`; `wanted` itself with `MSG_WAITALL`.
    pub fn receive_target(&self, wait_all: bool, wanted: usize) -> usize {
        if wait_all {
            return wanted;
        }
        let low = self.receive_low_water.load(Ordering::Relaxed).max(0) as usize;
        low.min(wanted).max(1)
    }

    /// When a receive that starts now gives up (`SO_RCVTIMEO`); `None`: never.
    pub fn receive_deadline(&self) -> Option<u64> {
        deadline(&self.receive_timeout_ns)
    }

    /// When a send (or connect) that starts now gives up (`SO_SNDTIMEO`).
    pub fn send_deadline(&self) -> Option<u64> {
        deadline(&self.send_timeout_ns)
    }

    /// `SO_LINGER`: seconds, if it is on.
    pub fn linger_seconds(&self) -> Option<u32> {
        self.has(Switches::LINGER).then(|| self.linger_seconds.load(Ordering::Relaxed))
    }

    /// `SO_PRIORITY`.
    pub fn priority(&self) -> i32 {
        self.priority.load(Ordering::Relaxed)
    }

    /// `SO_MARK`.
    pub fn mark(&self) -> u32 {
        self.mark.load(Ordering::Relaxed)
    }

    /// The interface index it is bound to (`SO_BINDTODEVICE`, `SO_BINDTOIFINDEX`), 0 for any.
    pub fn bound_interface(&self) -> i32 {
        self.bound_interface.load(Ordering::Relaxed)
    }

    /// Binds to an interface index that exists, or to none (0).
    pub fn bind_to_interface(&self, index: i32) {
        self.bound_interface.store(index, Ordering::Relaxed);
    }

    /// `SO_PEEK_OFF`: where a peek starts; negative: always at the first byte.
    pub fn peek_offset(&self) -> i32 {
        self.peek_offset.load(Ordering::Relaxed)
    }

    /// `count` bytes were looked at: the next peek starts behind them.
    pub fn note_peeked(&self, count: usize) {
        self.move_peek_offset(|offset| offset.saturating_add(count.min(i32::MAX as usize) as i32));
    }

    /// `count` bytes were taken.
    pub fn note_read(&self, count: usize) {
        self.move_peek_offset(|offset| offset.saturating_sub(count.min(i32::MAX as usize) as i32).max(0));
    }

    fn move_peek_offset(&self, change: impl Fn(i32) -> i32) {
        let _ = self.peek_offset.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |offset| {
            (offset >= 0).then(|| change(offset))
        });
    }
}

fn deadline(timeout_ns: &AtomicU64) -> Option<u64> {
    match timeout_ns.load(Ordering::Relaxed) {
        0 => None,
        // A timeout that is over at once: the wait ends, but it is a wait (EINTR, not ERESTARTSYS).
        u64::MAX => Some(0),
        timeout_ns => Some(machine::time::now_ns().saturating_add(timeout_ns)),
    }
}

/// The number at the start of an option's value. `EINVAL`: too short.
fn number(value: &[u8]) -> Result<i32> {
    value.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes)).ok_or(Errno::EINVAL)
}

/// `EPERM` unless they administrate the namespace's networks.
fn check_admin(core: &SocketCore, who: &Credentials) -> Result<()> {
    if capable(core.namespace().owner(), who, Capability::NetAdmin) { Ok(()) } else { Err(Errno::EPERM) }
}

/// `EPERM` unless they may send raw packets there, or administrate.
fn check_raw_or_admin(core: &SocketCore, who: &Credentials) -> Result<()> {
    let owner = core.namespace().owner();
    let may = capable(owner, who, Capability::NetRaw) || capable(owner, who, Capability::NetAdmin);
    if may { Ok(()) } else { Err(Errno::EPERM) }
}

fn capable(namespace: &UserNamespace, who: &Credentials, capability: Capability) -> bool {
    who.capable(namespace, capability)
}

/// The switch behind an option that needs nothing but being on or off.
fn plain_switch(name: u32) -> Option<Switches> {
    Some(match name {
        SO_REUSEADDR => Switches::REUSEADDR,
        SO_KEEPALIVE => Switches::KEEPALIVE,
        SO_BROADCAST => Switches::BROADCAST,
        SO_OOBINLINE => Switches::OOBINLINE,
        SO_DONTROUTE => Switches::DONTROUTE,
        SO_NO_CHECK => Switches::NO_CHECK,
        SO_RXQ_OVFL => Switches::RXQ_OVFL,
        SO_SELECT_ERR_QUEUE => Switches::SELECT_ERR_QUEUE,
        SO_RCVPRIORITY => Switches::RCVPRIORITY,
        _ => return None,
    })
}

/// The switches of credentials that only UNIX sockets (and some of them netlink) have.
fn pass_switch(name: u32) -> Option<Switches> {
    Some(match name {
        SO_PASSCRED => Switches::PASSCRED,
        SO_PASSPIDFD => Switches::PASSPIDFD,
        SO_PASSSEC => Switches::PASSSEC,
        SO_PASSRIGHTS => Switches::NO_RIGHTS,
        _ => return None,
    })
}

/// Whether the family may pass credentials (`sk_may_scm_recv`).
fn may_pass(core: &SocketCore, name: u32) -> bool {
    let family = u32::from(core.family());
    match name {
        SO_PASSCRED => matches!(family, AF_UNIX | AF_NETLINK | AF_BLUETOOTH),
        SO_PASSSEC => matches!(family, AF_UNIX | AF_NETLINK | AF_BLUETOOTH),
        _ => family == AF_UNIX,
    }
}

/// setsockopt(2) on `SOL_SOCKET`. `value` is what the program gave, cut to a sane length.
///
/// Errors: `EINVAL`, `EDOM`, `EPERM`, `EACCES`, `EOPNOTSUPP`, `ENODEV`, `EBUSY`, `EFAULT`; `ENOPROTOOPT`: not one of these.
pub fn set(core: &SocketCore, name: i32, value: &[u8], who: &Credentials) -> Result<()> {
    let name = name as u32;
    if name == SO_BINDTODEVICE {
        return bind_to_device(core, value, who);
    }
    let given = number(value)?;
    let on = given != 0;
    let options = &core.options;
    if let Some(switch) = plain_switch(name) {
        options.switch(switch, on);
        return Ok(());
    }
    if let Some(switch) = pass_switch(name) {
        if !may_pass(core, name) {
            return Err(Errno::EOPNOTSUPP);
        }
        options.switch(switch, on != (switch == Switches::NO_RIGHTS));
        return Ok(());
    }
    match name {
        SO_TYPE | SO_PROTOCOL | SO_DOMAIN | SO_ERROR => return Err(Errno::ENOPROTOOPT),
        SO_DEBUG if on && !who.has(Capability::NetAdmin) => return Err(Errno::EACCES),
        SO_DEBUG => options.switch(Switches::DEBUG, on),
        SO_REUSEPORT => {
            let inet = matches!(u32::from(core.family()), AF_INET | AF_INET6);
            if on && !inet {
                return Err(Errno::EOPNOTSUPP);
            }
            options.switch(Switches::REUSEPORT, on);
        }
        SO_SNDBUF | SO_SNDBUFFORCE | SO_RCVBUF | SO_RCVBUFFORCE => set_buffer(core, name, given, who)?,
        SO_BUF_LOCK => set_buffer_lock(options, given)?,
        SO_RCVLOWAT => {
            let low = if given < 0 { i32::MAX } else { given.max(1) };
            options.receive_low_water.store(low, Ordering::Relaxed);
        }
        SO_PEEK_OFF => set_peek_offset(core, given)?,
        SO_LINGER => set_linger(options, value)?,
        SO_RCVTIMEO_OLD | SO_RCVTIMEO_NEW => set_timeout(&options.receive_timeout_ns, value)?,
        SO_SNDTIMEO_OLD | SO_SNDTIMEO_NEW => set_timeout(&options.send_timeout_ns, value)?,
        SO_PRIORITY => {
            if !(0..=6).contains(&given) {
                check_raw_or_admin(core, who)?;
            }
            options.priority.store(given, Ordering::Relaxed);
        }
        SO_MARK => {
            check_raw_or_admin(core, who)?;
            options.mark.store(given as u32, Ordering::Relaxed);
        }
        SO_RCVMARK => {
            check_raw_or_admin(core, who)?;
            options.switch(Switches::RCVMARK, on);
        }
        SO_TIMESTAMP_OLD | SO_TIMESTAMP_NEW | SO_TIMESTAMPNS_OLD | SO_TIMESTAMPNS_NEW => {
            set_timestamps(options, name, on);
        }
        SO_BINDTOIFINDEX => bind_to_index(core, given, who)?,
        SO_ATTACH_FILTER => filter::attach(core, value)?,
        SO_DETACH_FILTER => filter::detach(core)?,
        SO_LOCK_FILTER => {
            if options.has(Switches::LOCK_FILTER) && !on {
                return Err(Errno::EPERM);
            }
            options.switch(Switches::LOCK_FILTER, on);
        }
        _ => return Err(Errno::ENOPROTOOPT),
    }
    Ok(())
}

fn set_buffer(core: &SocketCore, name: u32, given: i32, who: &Credentials) -> Result<()> {
    let options = &core.options;
    let forced = matches!(name, SO_SNDBUFFORCE | SO_RCVBUFFORCE);
    if forced {
        check_admin(core, who)?;
    }
    let sends = matches!(name, SO_SNDBUF | SO_SNDBUFFORCE);
    let limit = if sends { &sysctl::SEND_BUFFER_MAX } else { &sysctl::RECEIVE_BUFFER_MAX };
    // Not forced, a negative number is a very large one.
    let asked = if forced { given.max(0) as usize } else { (given as u32 as usize).min(limit.get()) };
    // Doubled, because the overhead counts too; as much as fits an int.
    let doubled = asked.min(i32::MAX as usize / 2) * 2;
    if sends {
        options.send_buffer.store(doubled.max(sysctl::SEND_BUFFER_MIN), Ordering::Relaxed);
        options.switch(Switches::SNDBUF_LOCK, true);
        core.wake_writers();
    } else {
        options.receive_buffer.store(doubled.max(sysctl::RECEIVE_BUFFER_MIN), Ordering::Relaxed);
        options.switch(Switches::RCVBUF_LOCK, true);
    }
    Ok(())
}

fn set_buffer_lock(options: &Options, given: i32) -> Result<()> {
    let given = given as u32;
    if given & !SOCK_BUF_LOCK_MASK != 0 {
        return Err(Errno::EINVAL);
    }
    options.switch(Switches::SNDBUF_LOCK, given & SOCK_SNDBUF_LOCK != 0);
    options.switch(Switches::RCVBUF_LOCK, given & SOCK_RCVBUF_LOCK != 0);
    Ok(())
}

fn set_peek_offset(core: &SocketCore, given: i32) -> Result<()> {
    if !matches!(u32::from(core.family()), AF_UNIX | AF_INET | AF_INET6) {
        return Err(Errno::EOPNOTSUPP);
    }
    core.options.peek_offset.store(given, Ordering::Relaxed);
    Ok(())
}

fn set_linger(options: &Options, value: &[u8]) -> Result<()> {
    let (linger, _) = Linger::read_from_prefix(value).map_err(|_| Errno::EINVAL)?;
    if linger.l_onoff != 0 {
        options.linger_seconds.store(linger.l_linger as u32, Ordering::Relaxed);
    }
    options.switch(Switches::LINGER, linger.l_onoff != 0);
    Ok(())
}

/// `EINVAL`: too short; `EDOM`: a second of microseconds or more.
fn set_timeout(place: &AtomicU64, value: &[u8]) -> Result<()> {
    let (time, _) = Timeval::read_from_prefix(value).map_err(|_| Errno::EINVAL)?;
    if !(0..1_000_000).contains(&time.tv_usec) {
        return Err(Errno::EDOM);
    }
    let timeout_ns = match u64::try_from(time.tv_sec) {
        // Negative: it is over at once.
        Err(_) => u64::MAX,
        Ok(seconds) => {
            let ns = seconds.saturating_mul(NSEC_PER_SEC).saturating_add(time.tv_usec as u64 * 1000);
            // So long that it is for ever.
            if ns > i64::MAX as u64 { 0 } else { ns }
        }
    };
    place.store(timeout_ns, Ordering::Relaxed);
    Ok(())
}

fn set_timestamps(options: &Options, name: u32, on: bool) {
    options.switch(Switches::TIMESTAMP | Switches::TIMESTAMP_NS | Switches::TIMESTAMP_NEW, false);
    if on {
        options.switch(Switches::TIMESTAMP, true);
        options.switch(Switches::TIMESTAMP_NS, name == SO_TIMESTAMPNS_OLD || name == SO_TIMESTAMPNS_NEW);
        options.switch(Switches::TIMESTAMP_NEW, name == SO_TIMESTAMP_NEW || name == SO_TIMESTAMPNS_NEW);
    }
}

/// Bytes of an interface's name with its zero (`IFNAMSIZ`).
const NAME_SIZE: usize = 16;

/// `SO_BINDTODEVICE`: a name, an empty one for none. `EPERM`: bound before, without `CAP_NET_RAW`; `ENODEV`.
fn bind_to_device(core: &SocketCore, value: &[u8], who: &Credentials) -> Result<()> {
    let name = value.get(..value.len().min(NAME_SIZE - 1)).unwrap_or_default();
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    let index =
        if name.is_empty() { 0 } else { core.namespace().interface_index(name).ok_or(Errno::ENODEV)? };
    bind_to_index(core, index, who)
}

fn bind_to_index(core: &SocketCore, index: i32, who: &Credentials) -> Result<()> {
    let bound = core.options.bound_interface() != 0;
    if bound && !capable(core.namespace().owner(), who, Capability::NetRaw) {
        return Err(Errno::EPERM);
    }
    if index < 0 {
        return Err(Errno::EINVAL);
    }
    core.options.bind_to_interface(index);
    Ok(())
}

/// An answer of getsockopt(2): up to so many bytes.
pub struct Answer {
    bytes: [u8; 64],
    length: usize,
}

impl Answer {
    fn of<T: IntoBytes + zerocopy::Immutable>(value: &T) -> Answer {
        let mut answer = Answer { bytes: [0; 64], length: 0 };
        let value = value.as_bytes();
        if let Some(place) = answer.bytes.get_mut(..value.len()) {
            place.copy_from_slice(value);
            answer.length = value.len();
        }
        answer
    }

    /// The answer as a slice.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// getsockopt(2) on `SOL_SOCKET` into room for `room` bytes; what is longer is cut by the caller.
///
/// Errors: `EINVAL`: an option that is not cut does not fit; `ENOPROTOOPT`: not one of these.
pub fn get(core: &SocketCore, name: i32, room: usize) -> Result<Answer> {
    let name = name as u32;
    let options = &core.options;
    if let Some(switch) = plain_switch(name) {
        return Ok(Answer::of(&i32::from(options.has(switch))));
    }
    if let Some(switch) = pass_switch(name) {
        if !may_pass(core, name) {
            return Err(Errno::EOPNOTSUPP);
        }
        return Ok(Answer::of(&i32::from(options.has(switch) != (switch == Switches::NO_RIGHTS))));
    }
    let value = match name {
        SO_TYPE => core.kind().number(),
        SO_DOMAIN => i32::from(core.family()),
        SO_PROTOCOL => core.protocol(),
        SO_ERROR => core.take_error(),
        SO_ACCEPTCONN => i32::from(core.is_listening()),
        SO_DEBUG => i32::from(options.has(Switches::DEBUG)),
        SO_REUSEPORT => i32::from(options.has(Switches::REUSEPORT)),
        SO_SNDBUF => options.send_buffer() as i32,
        SO_RCVBUF => options.receive_buffer() as i32,
        SO_BUF_LOCK => {
            let bit = |switch, value: u32| if options.has(switch) { value } else { 0 };
            (bit(Switches::SNDBUF_LOCK, SOCK_SNDBUF_LOCK) | bit(Switches::RCVBUF_LOCK, SOCK_RCVBUF_LOCK))
                as i32
        }
        SO_RCVLOWAT => options.receive_low_water.load(Ordering::Relaxed),
        SO_SNDLOWAT => 1,
        SO_PRIORITY => options.priority(),
        SO_MARK => options.mark() as i32,
        SO_RCVMARK => i32::from(options.has(Switches::RCVMARK)),
        SO_LOCK_FILTER => i32::from(options.has(Switches::LOCK_FILTER)),
        SO_BINDTOIFINDEX => options.bound_interface(),
        SO_BPF_EXTENSIONS => linnet_lib::bpf::ANCILLARY_MAX as i32,
        SO_PEEK_OFF if matches!(u32::from(core.family()), AF_UNIX | AF_INET | AF_INET6) => {
            options.peek_offset()
        }
        SO_PEEK_OFF => return Err(Errno::EOPNOTSUPP),
        SO_TIMESTAMP_OLD | SO_TIMESTAMP_NEW | SO_TIMESTAMPNS_OLD | SO_TIMESTAMPNS_NEW => {
            i32::from(timestamps_are(options, name))
        }
        _ => return get_structure(core, name, room),
    };
    Ok(Answer::of(&value))
}

fn timestamps_are(options: &Options, name: u32) -> bool {
    options.has(Switches::TIMESTAMP)
        && options.has(Switches::TIMESTAMP_NS) == matches!(name, SO_TIMESTAMPNS_OLD | SO_TIMESTAMPNS_NEW)
        && options.has(Switches::TIMESTAMP_NEW) == matches!(name, SO_TIMESTAMP_NEW | SO_TIMESTAMPNS_NEW)
}

/// The options whose value is more than an `int`.
fn get_structure(core: &SocketCore, name: u32, room: usize) -> Result<Answer> {
    let options = &core.options;
    let whole = |needed: usize| if room < needed { Err(Errno::EINVAL) } else { Ok(()) };
    Ok(match name {
        SO_LINGER => Answer::of(&Linger {
            l_onoff: i32::from(options.has(Switches::LINGER)),
            l_linger: options.linger_seconds.load(Ordering::Relaxed) as i32,
        }),
        SO_RCVTIMEO_OLD | SO_RCVTIMEO_NEW => Answer::of(&timeout_of(&options.receive_timeout_ns)),
        SO_SNDTIMEO_OLD | SO_SNDTIMEO_NEW => Answer::of(&timeout_of(&options.send_timeout_ns)),
        SO_COOKIE => {
            whole(8)?;
            Answer::of(&core.cookie())
        }
        SO_NETNS_COOKIE => {
            whole(8)?;
            Answer::of(&core.namespace().cookie())
        }
        SO_MEMINFO => Answer::of(&memory_info(core)),
        SO_BINDTODEVICE => bound_name(core, room)?,
        _ => return Err(Errno::ENOPROTOOPT),
    })
}

/// The name of the interface that the socket is bound to, nothing if it is to none. `EINVAL`: no room for every name; `ENODEV`: it
/// is gone.
fn bound_name(core: &SocketCore, room: usize) -> Result<Answer> {
    let index = core.options.bound_interface();
    if index == 0 {
        return Ok(Answer { bytes: [0; 64], length: 0 });
    }
    if room < NAME_SIZE {
        return Err(Errno::EINVAL);
    }
    let device = core.namespace().devices().by_index(index).ok_or(Errno::ENODEV)?;
    let mut name = [0; NAME_SIZE];
    let length = device.name().as_bytes().len();
    name.iter_mut().zip(device.name().as_bytes()).for_each(|(place, byte)| *place = *byte);
    Ok(Answer { length: length + 1, ..Answer::of(&name) })
}

fn timeout_of(place: &AtomicU64) -> Timeval {
    match place.load(Ordering::Relaxed) {
        u64::MAX => Timeval::default(),
        timeout_ns => Timeval::from_nanoseconds(timeout_ns),
    }
}

/// `SO_MEMINFO`: receive charged, its limit, send charged, its limit, forward allocation, write queue, options, backlog, drops.
pub(crate) fn memory_info(core: &SocketCore) -> [u32; SK_MEMINFO_VARS] {
    let options = &core.options;
    [
        core.receive_charged() as u32,
        options.receive_buffer() as u32,
        core.send_charged() as u32,
        options.send_buffer() as u32,
        0,
        0,
        core.filter().map_or(0, |filter| filter.memory() as u32),
        0,
        core.drops(),
    ]
}

impl SocketKind {
    /// The number of `SO_TYPE`.
    pub fn number(self) -> i32 {
        match self {
            SocketKind::Stream => SOCK_STREAM as i32,
            SocketKind::Datagram => SOCK_DGRAM as i32,
            SocketKind::Raw => SOCK_RAW as i32,
            SocketKind::ReliableDatagram => SOCK_RDM as i32,
            SocketKind::SequencedPacket => SOCK_SEQPACKET as i32,
            SocketKind::Other(number) => i32::from(number),
        }
    }

    /// The kind with this number. `EINVAL`: none can have it.
    pub fn from_number(number: u32) -> Result<SocketKind> {
        Ok(match number {
            SOCK_STREAM => SocketKind::Stream,
            SOCK_DGRAM => SocketKind::Datagram,
            SOCK_RAW => SocketKind::Raw,
            SOCK_RDM => SocketKind::ReliableDatagram,
            SOCK_SEQPACKET => SocketKind::SequencedPacket,
            other if other < SOCK_MAX => SocketKind::Other(other as u8),
            _ => return Err(Errno::EINVAL),
        })
    }
}
