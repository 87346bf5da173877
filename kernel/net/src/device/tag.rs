//! VLAN tags in frames (IEEE 802.1Q): four bytes between the addresses and the type.
//!
//! Frames begin at their link header here. Neighbours: `vlan` (a device for each tag), `bridge` (which ports a tag reaches). No locks.

use crate::packet::Packet;

/// Bytes of an Ethernet header without a tag.
pub(super) const HEADER: usize = 14;
/// Bytes of a tag.
pub(super) const TAG: usize = 4;
/// Bytes of the two addresses.
const ADDRESSES: usize = 12;
/// The bits of a tag's control field that are the VLAN's number.
pub(super) const NUMBER_MASK: u16 = 0x0fff;
/// Where the priority begins in it.
pub(super) const PRIORITY_SHIFT: u32 = 13;

/// The frame with a tag in it; `None` if it is no frame or without memory.
pub(super) fn insert(mut frame: Packet, protocol: u16, control: u16) -> Option<Packet> {
    let addresses: [u8; ADDRESSES] = *frame.bytes().first_chunk()?;
    if frame.len() < HEADER {
        return None;
    }
    frame.pull(ADDRESSES)?;
    let header = frame.push(ADDRESSES + TAG).ok()?;
    header.get_mut(..ADDRESSES)?.copy_from_slice(&addresses);
    header.get_mut(ADDRESSES..ADDRESSES + 2)?.copy_from_slice(&protocol.to_be_bytes());
    header.get_mut(ADDRESSES + 2..)?.copy_from_slice(&control.to_be_bytes());
    frame.mark_link_header();
    Some(frame)
}

/// The frame without its tag; `None` if it is too short to have one.
pub(super) fn remove(mut frame: Packet) -> Option<Packet> {
    let addresses: [u8; ADDRESSES] = *frame.bytes().first_chunk()?;
    frame.pull(ADDRESSES + TAG)?;
    if frame.len() < HEADER - ADDRESSES {
        return None;
    }
    frame.push(ADDRESSES).ok()?.copy_from_slice(&addresses);
    frame.mark_link_header();
    Some(frame)
}

/// The type of a frame, which is a tag's protocol if it has one, and the tag's control field.
pub(super) fn look(frame: &[u8]) -> Option<(u16, u16)> {
    let [kind_high, kind_low, rest @ ..] = frame.get(ADDRESSES..)? else { return None };
    let control = rest.first_chunk().map_or(0, |bytes| u16::from_be_bytes(*bytes));
    Some((u16::from_be_bytes([*kind_high, *kind_low]), control))
}

/// Takes the header of a frame off, which becomes a packet of its type.
pub(super) fn open(mut frame: Packet) -> Option<Packet> {
    frame.mark_link_header();
    let header = frame.pull(HEADER)?;
    frame.protocol = u16::from_be_bytes([header[12], header[13]]);
    frame.mark_network_header();
    Some(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(bytes: &[u8]) -> Packet {
        let mut packet = Packet::with_room(0, bytes.len()).unwrap();
        packet.append(bytes).unwrap();
        packet
    }

    #[test]
    fn tags_come_and_go() {
        let plain = b"aaaaaabbbbbb\x08\x00payload";
        let tagged = insert(frame(plain), 0x8100, 0x6005).unwrap();
        assert_eq!(tagged.bytes(), b"aaaaaabbbbbb\x81\x00\x60\x05\x08\x00payload");
        assert_eq!(look(tagged.bytes()), Some((0x8100, 0x6005)));
        let again = remove(tagged).unwrap();
        assert_eq!(again.bytes(), plain);
        let opened = open(again).unwrap();
        assert_eq!((opened.bytes(), opened.protocol), (&b"payload"[..], 0x0800));
        assert_eq!(opened.from_link_header(), plain);
        for length in 0..18 {
            assert!(remove(frame(&plain[..length])).is_none());
        }
        assert!(insert(frame(&plain[..13]), 0x8100, 1).is_none());
    }
}
