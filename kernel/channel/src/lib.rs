//! Channels to servers outside the machine: a message goes out, an answer comes back, and neither end knows the other.
//!
//! Key types: [`Channel`] (what a driver implements), [`Exchange`] (what its user does: one message and the room for its answer),
//! [`Piece`] (a part of either). A driver [registers](register) a channel under the name that the server gave it; a file system
//! [claims](claim) it by that name. What the bytes mean only the user knows: the driver carries them.
//!
//! An exchange owns its memory and the channel holds the exchange until the server has answered or the device is reset, whatever becomes of whoever
//! waits: who gives up just lets go of its own reference.
//!
//! What carries bytes instead of messages, and has a terminal at its end, is a [`mod@line`].
//!
//! Neighbours: `drivers/virtio-9p` below the users as a device, `fs/9p` above; `machine` for memory. Locks: the list of channels, a leaf usable in
//! any context.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod line;

use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::memory::Frame;
use machine::sync::atomic::{AtomicBool, Ordering};
use machine::sync::{IrqSpinLock, WaitQueue};

/// Part of a message or of the room for an answer: bytes within one page.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The page.
    pub frame: Frame,
    /// Where in it.
    pub offset: u32,
    /// Bytes, at least one.
    pub length: u32,
}

/// One message and its answer.
pub trait Exchange: Send + Sync {
    /// The message.
    fn message(&self) -> &[Piece];
    /// The room for the answer, which the server writes from its start.
    fn answer(&self) -> &[Piece];
    /// The server has written so many bytes of the answer, never more than there is room; or the device is gone (`EIO`). Called once, in any context.
    fn complete(&self, result: Result<u32>);
}

/// Why a channel does not take an exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// There are too many under way: wait at [`Channel::room`] and try again.
    Full,
    /// The device is gone, or the exchange has too many pieces for it.
    Never,
}

/// A way to a server.
pub trait Channel: Send + Sync {
    /// How many pieces an exchange may have, message and answer together.
    fn max_pieces(&self) -> usize;
    /// Sends the message of an exchange. Any context; does not wait.
    fn submit(&self, exchange: Arc<dyn Exchange>) -> core::result::Result<(), Refusal>;
    /// Woken when there is room again, and when the device goes.
    fn room(&self) -> &WaitQueue;
}

/// A channel and whether somebody has it.
struct Known {
    name: Vec<u8>,
    channel: Arc<dyn Channel>,
    claimed: AtomicBool,
}

/// As many as there are devices.
static CHANNELS: IrqSpinLock<Vec<Arc<Known>>> = IrqSpinLock::new(Vec::new());

/// A channel can be found as long as this lives.
pub struct Registration(Arc<Known>);

/// A channel that is its holder's alone, until this is dropped.
pub struct Claim(Arc<Known>);

/// Makes a channel known. Several may have one name: the first that nobody has is found. Thread context. Errors: `ENOMEM`.
pub fn register(name: &[u8], channel: Arc<dyn Channel>) -> Result<Registration> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(name.len()).map_err(|_| Errno::ENOMEM)?;
    copy.extend_from_slice(name);
    let known = Arc::new(Known { name: copy, channel, claimed: AtomicBool::new(false) });
    let mut channels = CHANNELS.lock();
    channels.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    channels.push(known.clone());
    Ok(Registration(known))
}

impl Drop for Registration {
    fn drop(&mut self) {
        CHANNELS.lock().retain(|known| !Arc::ptr_eq(known, &self.0));
    }
}

/// Takes a channel. Errors: `ENOENT`: there is none of that name; `EBUSY`: others have it.
pub fn claim(name: &[u8]) -> Result<Claim> {
    let mut error = Errno::ENOENT;
    for known in CHANNELS.lock().iter().filter(|known| known.name == name) {
        if !known.claimed.swap(true, Ordering::AcqRel) {
            return Ok(Claim(known.clone()));
        }
        error = Errno::EBUSY;
    }
    Err(error)
}

impl Claim {
    /// The channel.
    pub fn channel(&self) -> &Arc<dyn Channel> {
        &self.0.channel
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.claimed.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nowhere(WaitQueue);

    impl Channel for Nowhere {
        fn max_pieces(&self) -> usize {
            2
        }
        fn submit(&self, _exchange: Arc<dyn Exchange>) -> core::result::Result<(), Refusal> {
            Err(Refusal::Never)
        }
        fn room(&self) -> &WaitQueue {
            &self.0
        }
    }

    #[test]
    fn a_channel_is_found_by_name_and_has_one_user() {
        let new = || Arc::new(Nowhere(WaitQueue::new()));
        assert_eq!(claim(b"one").err(), Some(Errno::ENOENT));
        let first = register(b"one", new()).unwrap();
        let other = register(b"other", new()).unwrap();
        let claimed = claim(b"one").unwrap();
        assert_eq!(claim(b"one").err(), Some(Errno::EBUSY));
        let second = register(b"one", new()).unwrap();
        let also = claim(b"one").unwrap();
        assert!(!Arc::ptr_eq(claimed.channel(), also.channel()));
        drop((claimed, other));
        assert!(claim(b"one").is_ok());
        drop((first, second));
        assert_eq!(claim(b"one").err(), Some(Errno::ENOENT));
    }
}
