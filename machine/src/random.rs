//! Random bytes: a ChaCha20 generator per kernel, seeded at boot.
//!
//! After each request the key is replaced by fresh output ("fast key erasure"), so that what was given out cannot be
//! computed from what is in memory later. Reference: RFC 8439. Locks: [`STATE`] (leaf, interrupts off).

use crate::sync::IrqSpinLock;

struct State {
    key: [u32; 8],
    seeded: bool,
}

static STATE: IrqSpinLock<State> = IrqSpinLock::new(State { key: [0; 8], seeded: false });

fn quarter(x: &mut [u32; 16], a: usize, b: usize, c: usize, d: usize) {
    x[a] = x[a].wrapping_add(x[b]);
    x[d] = (x[d] ^ x[a]).rotate_left(16);
    x[c] = x[c].wrapping_add(x[d]);
    x[b] = (x[b] ^ x[c]).rotate_left(12);
    x[a] = x[a].wrapping_add(x[b]);
    x[d] = (x[d] ^ x[a]).rotate_left(8);
    x[c] = x[c].wrapping_add(x[d]);
    x[b] = (x[b] ^ x[c]).rotate_left(7);
}

/// The ChaCha20 block function.
fn block(key: &[u32; 8], counter: u32, nonce: [u32; 3]) -> [u8; 64] {
    let mut start = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    start[4..12].copy_from_slice(key);
    start[12] = counter;
    start[13..].copy_from_slice(&nonce);
    let mut x = start;
    for _ in 0..10 {
        quarter(&mut x, 0, 4, 8, 12);
        quarter(&mut x, 1, 5, 9, 13);
        quarter(&mut x, 2, 6, 10, 14);
        quarter(&mut x, 3, 7, 11, 15);
        quarter(&mut x, 0, 5, 10, 15);
        quarter(&mut x, 1, 6, 11, 12);
        quarter(&mut x, 2, 7, 8, 13);
        quarter(&mut x, 3, 4, 9, 14);
    }
    let mut bytes = [0; 64];
    for (place, (word, first)) in bytes.chunks_exact_mut(4).zip(x.iter().zip(start)) {
        place.copy_from_slice(&word.wrapping_add(first).to_le_bytes());
    }
    bytes
}

impl State {
    fn absorb(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(32) {
            for (index, &byte) in chunk.iter().enumerate() {
                self.key[index / 4] ^= u32::from(byte) << (index % 4 * 8);
            }
            self.rekey();
        }
    }

    fn rekey(&mut self) {
        let fresh = block(&self.key, u32::MAX, [0; 3]);
        for (word, bytes) in self.key.iter_mut().zip(fresh.chunks_exact(4)) {
            *word = bytes.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte));
        }
    }

    /// A key for one request; the generator goes on with another.
    fn take_key(&mut self) -> [u32; 8] {
        if !self.seeded {
            self.seeded = true;
            self.absorb(&crate::boot::entropy_seed());
        }
        let key = self.key;
        self.rekey();
        key
    }
}

/// Fills the buffer with unpredictable bytes. Any context.
pub fn fill(buffer: &mut [u8]) {
    let key = STATE.lock().take_key();
    for (counter, chunk) in buffer.chunks_mut(64).enumerate() {
        let counter = counter as u64;
        let bytes = block(&key, counter as u32, [(counter >> 32) as u32, 1, 0]);
        chunk.copy_from_slice(&bytes[..chunk.len()]);
    }
}

/// An unpredictable number.
pub fn next_u64() -> u64 {
    let mut bytes = [0; 8];
    fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// Stirs bytes into the generator (writes to `/dev/urandom`, the program loader, devices).
pub fn add_entropy(bytes: &[u8]) {
    STATE.lock().absorb(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_is_rfc_8439() {
        let key = core::array::from_fn(|i| {
            let i = i as u32 * 4;
            i | (i + 1) << 8 | (i + 2) << 16 | (i + 3) << 24
        });
        let bytes = block(&key, 1, [0x0900_0000, 0x4a00_0000, 0]);
        assert_eq!(bytes[..8], [0x10, 0xf1, 0xe7, 0xe4, 0xd1, 0x3b, 0x59, 0x15]);
    }

    #[test]
    fn output_differs() {
        assert_ne!(next_u64(), next_u64());
    }
}
