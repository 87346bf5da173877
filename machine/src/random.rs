//! Random bytes: a ChaCha20 generator per kernel, seeded at boot.

/// Fills the buffer with unpredictable bytes. Any context.
pub fn fill(buffer: &mut [u8]) {
    let _ = buffer;
    todo!()
}

/// An unpredictable number.
pub fn next_u64() -> u64 {
    let mut bytes = [0; 8];
    fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// Stirs bytes into the generator (writes to `/dev/urandom`, the program loader, devices).
pub fn add_entropy(bytes: &[u8]) {
    let _ = bytes;
    todo!()
}
