//! Memory accounting: what a socket has sent or is to receive counts against its buffer sizes (`SO_SNDBUF`, `SO_RCVBUF`).
//!
//! Key types: [`SendCharge`], [`ReceiveCharge`]: bytes that are given back when they are dropped. What a message costs is what it
//! costs on Linux ([`cost`]), so that a buffer of a size holds here what it holds there: socket buffers have a header and
//! a tail, and their memory comes in powers of two. Locks: none, atomics.

use alloc::sync::Arc;
use machine::PAGE_SIZE;
use machine::sync::atomic::Ordering;

use crate::core::SocketCore;

/// Bytes of Linux's `struct sk_buff` in its cache.
const HEADER: usize = 256;
/// Bytes of `struct skb_shared_info`, at the end of the data.
const TAIL: usize = 320;
/// What fits linearly into one page beside the tail (`SKB_MAX_HEAD(0)`).
pub const LINEAR_PAGE: usize = PAGE_SIZE - TAIL;
/// What is made linear at most (`SKB_MAX_ALLOC`); the rest of a message is in pages.
pub const LINEAR_MAX: usize = 4 * PAGE_SIZE - TAIL;
/// The largest piece that pages are taken in (`PAGE_ALLOC_COSTLY_ORDER`).
pub const PIECE: usize = 8 * PAGE_SIZE;

/// What a message costs with `linear` bytes in one piece of memory and `paged` bytes in pages.
pub fn cost(linear: usize, paged: usize) -> usize {
    let head = (linear.next_multiple_of(64) + TAIL).next_power_of_two();
    let whole = paged / PIECE * PIECE;
    let rest = paged - whole;
    // The pieces of what is left: powers of two of pages, largest first, the last one page.
    HEADER + head + whole + rest.next_multiple_of(PAGE_SIZE)
}

/// What a datagram of `length` bytes costs: linear as far as that goes.
pub fn datagram_cost(length: usize) -> usize {
    let paged = length.saturating_sub(LINEAR_MAX).next_multiple_of(PAGE_SIZE).min(length);
    cost(length - paged, paged)
}

/// What a packet with `headers` bytes of headers and `data` bytes behind them costs (`__ip_append_data`): linear if that fits, else its data is
/// in pages and counts as it is.
pub fn packet_cost(headers: usize, data: usize) -> usize {
    /// The link's header, and what aligns it.
    const ROOM: usize = 31;
    /// What the cache for small heads gives (`SKB_SMALL_HEAD_CACHE_SIZE`).
    const SMALL: usize = 640;
    let head = |bytes: usize| match (bytes + ROOM).next_multiple_of(64) + TAIL {
        small if small <= SMALL => HEADER + SMALL,
        large => HEADER + large.next_power_of_two(),
    };
    if headers + data + ROOM < LINEAR_MAX { head(headers + data) } else { head(headers) + data }
}

/// Bytes charged to a sender until they are taken by the receiver, or dropped.
pub struct SendCharge {
    core: Arc<SocketCore>,
    bytes: usize,
}

impl SendCharge {
    /// Charges, whatever the limit: the caller has waited for [`has_send_room`].
    pub fn new(core: &Arc<SocketCore>, bytes: usize) -> SendCharge {
        core.send_charged.fetch_add(bytes, Ordering::AcqRel);
        SendCharge { core: core.clone(), bytes }
    }

    /// Who is charged.
    pub fn core(&self) -> &Arc<SocketCore> {
        &self.core
    }

    /// How much.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for SendCharge {
    fn drop(&mut self) {
        self.core.send_charged.fetch_sub(self.bytes, Ordering::AcqRel);
        // Not before a good part is free, so that the writer is not woken for each message.
        if is_writable(&self.core) {
            self.core.wake_writers();
        }
    }
}

/// Whether one more message may be sent: Linux lets the last one go over the limit.
pub fn has_send_room(core: &SocketCore) -> bool {
    core.send_charged() < core.options.send_buffer()
}

/// Whether poll calls it writable: a quarter at most is in use (`unix_writable`).
pub fn is_writable(core: &SocketCore) -> bool {
    core.send_charged() * 4 <= core.options.send_buffer()
}

/// Bytes charged to a receiver until it has read them.
pub struct ReceiveCharge {
    core: Arc<SocketCore>,
    bytes: usize,
}

impl ReceiveCharge {
    /// Charges if the receiver's buffer is not over its limit yet; else counts a drop and gives none.
    pub fn try_new(core: &Arc<SocketCore>, bytes: usize) -> Option<ReceiveCharge> {
        if core.receive_charged() >= core.options.receive_buffer() {
            core.count_drop();
            return None;
        }
        Some(ReceiveCharge::new(core, bytes))
    }

    /// Charges if that stays within the limit of the receiver's buffer, or if nothing waits there (`__udp_enqueue_schedule_skb`); else
    /// counts a drop and gives none.
    pub fn try_within(core: &Arc<SocketCore>, bytes: usize) -> Option<ReceiveCharge> {
        let waits = core.receive_charged();
        if waits > 0 && waits + bytes > core.options.receive_buffer() {
            core.count_drop();
            return None;
        }
        Some(ReceiveCharge::new(core, bytes))
    }

    fn new(core: &Arc<SocketCore>, bytes: usize) -> ReceiveCharge {
        core.receive_charged.fetch_add(bytes, Ordering::AcqRel);
        ReceiveCharge { core: core.clone(), bytes }
    }

    /// How much.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for ReceiveCharge {
    fn drop(&mut self) {
        self.core.receive_charged.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_cost_what_they_cost_on_linux() {
        let of = |data| packet_cost(28, data);
        assert_eq!([0, 250, 300, 600, 700].map(of), [896, 896, 1280, 1280, 2304]);
        assert_eq!([4000, 8000, 16_000, 20_000, 60_000].map(of), [8448, 16_640, 16_640, 20_896, 60_896]);
        assert_eq!((packet_cost(48, 250), packet_cost(48, 16_000)), (1280, 16_896));
    }

    #[test]
    fn costs_are_those_of_linux() {
        assert_eq!(cost(1, 0), 768);
        assert_eq!(cost(100, 0), 768);
        assert_eq!(cost(193, 0), 256 + 1024);
        assert_eq!(cost(4096, 0), 256 + 8192);
        // A stream's largest piece: a page and 32 KiB.
        assert_eq!(cost(LINEAR_PAGE, PIECE), 256 + 4096 + 32_768);
        assert_eq!(datagram_cost(20_000), 256 + cost(20_000 - 4096, 0) - 256 + 4096);
    }
}
