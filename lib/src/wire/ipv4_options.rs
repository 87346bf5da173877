//! The options of IPv4's header (RFC 791 section 3.1): what a program asks for (IP_OPTIONS in ip(7)), what packets have of it, and what is
//! noted in those that come.
//!
//! Key types: [`Asked`]; [`Surroundings`] (what is to be noted). Recorded routes and timestamps name a place for the next note;
//! whoever handles the packet fills it in and moves the place on.

use super::{WireError, WireResult};
use arrayvec::ArrayVec;
use core::net::Ipv4Addr;

/// Bytes of all options at most.
pub const MOST: usize = 40;
/// So many bytes.
pub type Bytes = ArrayVec<u8, MOST>;

const END: u8 = 0;
const FILLER: u8 = 1;
const RECORD: u8 = 7;
const STAMP: u8 = 68;
const LOOSE: u8 = 131;
const LABEL: u8 = 134;
const STRICT: u8 = 137;
const ALERT: u8 = 148;

/// The least place of a note in a route, and in timestamps.
const ROUTE_FIRST: usize = 4;
const STAMP_FIRST: usize = 5;
/// Only times; each with an address; only of the addresses that are there already.
const TIMES: u8 = 0;
const WITH_ADDRESSES: u8 = 1;
const OF_ADDRESSES: u8 = 3;

/// What is noted in a packet, and for whom.
pub struct Surroundings<'a> {
    /// The address to be noted.
    pub own: Ipv4Addr,
    /// Milliseconds since midnight, universal time.
    pub time_ms: u32,
    /// Whether an address is someone else's.
    pub is_elsewhere: &'a dyn Fn(Ipv4Addr) -> bool,
}

/// Options that a program wants in its packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    given: Bytes,
    sent: Bytes,
    notes: Notes,
    /// A source route: where the packet goes first, and where its destination is written.
    route: Option<(Ipv4Addr, usize)>,
}

/// Places in the options that are to be filled in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Notes {
    route: Option<usize>,
    stamp_address: Option<usize>,
    time: Option<usize>,
}

impl Notes {
    fn fill(&self, options: &mut [u8], around: &Surroundings<'_>) {
        let mut put = |place: Option<usize>, word: [u8; 4]| {
            if let Some(place) = place.and_then(|place| options.get_mut(place..place + 4)) {
                place.copy_from_slice(&word);
            }
        };
        put(self.route, around.own.octets());
        put(self.stamp_address, around.own.octets());
        put(self.time, around.time_ms.to_be_bytes());
    }
}

/// The options in these bytes, each with its place, up to their end. An error: a length is wrong.
fn each(options: &[u8]) -> impl Iterator<Item = WireResult<(usize, usize)>> + '_ {
    let mut at = 0;
    core::iter::from_fn(move || {
        while options.get(at) == Some(&FILLER) {
            at += 1;
        }
        let rest = options.get(at..)?;
        if rest.first().is_none_or(|kind| *kind == END) {
            return None;
        }
        let length = rest.get(1).map_or(0, |length| usize::from(*length));
        let place = at;
        at = if length < 2 || length > rest.len() { options.len() } else { at + length };
        Some(if at - place == length && length >= 2 { Ok((place, length)) } else { Err(WireError::Bad) })
    })
}

/// Finds the places for notes and moves those for the next ones on. `may_any`: also what nobody here knows may be there.
fn take_places(
    options: &mut [u8],
    is_elsewhere: &dyn Fn(Ipv4Addr) -> bool,
    may_any: bool,
) -> WireResult<Notes> {
    let mut notes = Notes::default();
    let mut seen = [false; 3];
    let mut at = 0;
    loop {
        let next = each(options.get(at..).unwrap_or_default()).next();
        let Some(found) = next else { return Ok(notes) };
        let (offset, length) = found?;
        at += offset;
        let option = options.get_mut(at..at + length).ok_or(WireError::Bad)?;
        let kind = option[0];
        let known = match kind {
            LOOSE | STRICT => Some(0),
            RECORD => Some(1),
            STAMP => Some(2),
            _ => None,
        };
        if let Some(known) = known
            && core::mem::replace(&mut seen[known], true)
        {
            return Err(WireError::Bad);
        }
        match kind {
            LOOSE | STRICT if !may_any || length < 3 || usize::from(option[2]) < ROUTE_FIRST => {
                return Err(WireError::Bad);
            }
            LOOSE | STRICT => {}
            RECORD => notes.route = place_in_route(option)?.map(|place| at + place),
            STAMP => {
                let (address, time) = places_of_stamp(option, is_elsewhere, may_any)?;
                (notes.stamp_address, notes.time) = (address.map(|it| at + it), time.map(|it| at + it));
            }
            ALERT if length < 4 => return Err(WireError::Bad),
            ALERT => {}
            // Nobody here knows what labels mean (as where Linux has no CIPSO domain).
            LABEL => return Err(WireError::Bad),
            _ if !may_any => return Err(WireError::Bad),
            _ => {}
        }
        at += length;
    }
}

fn place_in_route(option: &mut [u8]) -> WireResult<Option<usize>> {
    let place = option.get(2).map_or(0, |place| usize::from(*place));
    if place < ROUTE_FIRST {
        return Err(WireError::Bad);
    }
    if place > option.len() {
        return Ok(None);
    }
    if place + 3 > option.len() {
        return Err(WireError::Bad);
    }
    option[2] += 4;
    Ok(Some(place - 1))
}

type StampPlaces = (Option<usize>, Option<usize>);

fn places_of_stamp(
    option: &mut [u8],
    is_elsewhere: &dyn Fn(Ipv4Addr) -> bool,
    may_any: bool,
) -> WireResult<StampPlaces> {
    const OVERFLOWS_MOST: u8 = 15;
    let [_, _, next, how, ..] = *option else { return Err(WireError::Bad) };
    let (place, length) = (usize::from(next), option.len());
    if place < STAMP_FIRST {
        return Err(WireError::Bad);
    }
    let how_many = if how & 15 == TIMES { 4 } else { 8 };
    if place > length {
        // Who found no place is counted, as far as that goes.
        return match (how & 15 == OF_ADDRESSES, how >> 4) {
            (false, OVERFLOWS_MOST) => Err(WireError::Bad),
            _ => Ok((None, None)),
        };
    }
    if place + 3 > length || (how & 15 != TIMES && place + 7 > length) {
        return Err(WireError::Bad);
    }
    let found = match how & 15 {
        TIMES => (None, Some(place - 1)),
        WITH_ADDRESSES => (Some(place - 1), Some(place + 3)),
        OF_ADDRESSES => {
            let chunk = option.get(place - 1..).and_then(|rest| rest.first_chunk::<4>());
            let address = Ipv4Addr::from(*chunk.ok_or(WireError::Bad)?);
            if is_elsewhere(address) {
                return Ok((None, None));
            }
            (None, Some(place + 3))
        }
        _ if may_any => return Ok((None, None)),
        _ => return Err(WireError::Bad),
    };
    option[2] += how_many;
    Ok(found)
}

impl Asked {
    /// What these bytes ask for; `None` if there are none. `may_any`: also source routes, and options that nobody here knows.
    /// [`WireError::Bad`]: a wrong length or place, one twice; [`WireError::Short`]: too many.
    pub fn new(
        given: &[u8],
        may_any: bool,
        is_elsewhere: &dyn Fn(Ipv4Addr) -> bool,
    ) -> WireResult<Option<Asked>> {
        if given.is_empty() {
            return Ok(None);
        }
        let mut bytes = Bytes::new();
        bytes.try_extend_from_slice(given).map_err(|_| WireError::Short)?;
        while bytes.len() % 4 != 0 {
            bytes.try_push(END).map_err(|_| WireError::Short)?;
        }
        clear_behind_end(&mut bytes);
        let mut sent = bytes.clone();
        let notes = take_places(&mut sent, is_elsewhere, may_any)?;
        let route = take_route(&mut sent)?;
        // What will be noted is not the program's.
        let blank = Surroundings { own: Ipv4Addr::UNSPECIFIED, time_ms: 0, is_elsewhere: &|_| false };
        notes.fill(&mut bytes, &blank);
        Ok(Some(Asked { given: bytes, sent, notes, route }))
    }

    /// As a program reads them back.
    pub fn as_given(&self) -> &[u8] {
        &self.given
    }

    /// How many bytes they have in a packet.
    pub fn length(&self) -> usize {
        self.sent.len()
    }

    /// Where packets go first, if that is not where they go.
    pub fn first_hop(&self) -> Option<Ipv4Addr> {
        self.route.map(|(hop, _)| hop)
    }

    /// As a packet to `destination` has them.
    pub fn fill(&self, destination: Ipv4Addr, around: &Surroundings<'_>) -> Bytes {
        let mut bytes = self.sent.clone();
        self.notes.fill(&mut bytes, around);
        if let Some((_, at)) = self.route
            && let Some(place) = bytes.get_mut(at..at + 4)
        {
            place.copy_from_slice(&destination.octets());
        }
        bytes
    }
}

fn clear_behind_end(bytes: &mut [u8]) {
    let mut last = 0;
    for found in each(bytes) {
        match found {
            Ok((at, length)) => last = at + length,
            Err(_) => return,
        }
    }
    let rest = bytes.get_mut(last..).unwrap_or_default();
    let end = rest.iter().position(|byte| *byte == END).unwrap_or(rest.len());
    rest[end..].fill(END);
}

/// The first hop of a source route, with the others moved to the front and the place of the destination behind them.
fn take_route(options: &mut [u8]) -> WireResult<Option<(Ipv4Addr, usize)>> {
    let mut found = None;
    for one in each(options) {
        let (at, length) = one?;
        if matches!(options[at], LOOSE | STRICT) {
            found = Some((at, length));
        }
    }
    let Some((at, length)) = found else { return Ok(None) };
    let option = &mut options[at..at + length];
    if usize::from(option[2]) != ROUTE_FIRST || length < 7 || (length - 3) % 4 != 0 {
        return Err(WireError::Bad);
    }
    let hop = Ipv4Addr::new(option[3], option[4], option[5], option[6]);
    option.copy_within(7.., 3);
    Ok(Some((hop, at + length - 4)))
}

/// Notes in the options of a packet that came what they ask for; whether that changed them. [`WireError::Bad`]: they are wrong.
pub fn note(options: &mut [u8], around: &Surroundings<'_>) -> WireResult<bool> {
    let notes = take_places(options, around.is_elsewhere, true)?;
    notes.fill(options, around);
    Ok(notes != Notes::default())
}

/// The options of an answer to a packet with these: its recorded route and timestamps go on (RFC 1122 section 3.2.2.6).
pub fn answer(options: &[u8], is_elsewhere: &dyn Fn(Ipv4Addr) -> bool) -> Option<Asked> {
    let mut kept = Bytes::new();
    for (at, length) in each(options).map_while(WireResult::ok) {
        if matches!(options[at], RECORD | STAMP) {
            kept.try_extend_from_slice(&options[at..at + length]).ok()?;
        }
    }
    Asked::new(&kept, true, is_elsewhere).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const AROUND: Surroundings<'static> = Surroundings { own: OWN, time_ms: 7, is_elsewhere: &|_| false };

    fn asked(given: &[u8]) -> WireResult<Option<Asked>> {
        Asked::new(given, false, &|_| false)
    }

    #[test]
    fn a_route_is_recorded_there_and_back() {
        let given = [7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0];
        let there = asked(&given).unwrap().unwrap();
        assert_eq!(there.as_given(), [7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let mut sent = there.fill(Ipv4Addr::new(10, 0, 0, 2), &AROUND);
        assert_eq!(sent[..], [7, 11, 8, 10, 0, 0, 1, 0, 0, 0, 0, 0]);
        let far = Surroundings { own: Ipv4Addr::new(10, 0, 0, 2), ..AROUND };
        assert_eq!(note(&mut sent, &far), Ok(true));
        assert_eq!(sent[..], [7, 11, 12, 10, 0, 0, 1, 10, 0, 0, 2, 0]);
        // It is full: whoever comes next notes nothing.
        assert_eq!(note(&mut sent, &far), Ok(false));
        assert_eq!(answer(&sent, &|_| false).unwrap().fill(OWN, &far)[..], sent[..]);
    }

    #[test]
    fn a_source_route_goes_to_its_first_hop() {
        let given = [131, 11, 4, 10, 0, 0, 9, 10, 0, 0, 8];
        assert_eq!(asked(&given), Err(WireError::Bad));
        let asked = Asked::new(&given, true, &|_| false).unwrap().unwrap();
        assert_eq!(asked.first_hop(), Some(Ipv4Addr::new(10, 0, 0, 9)));
        let sent = asked.fill(Ipv4Addr::new(10, 0, 0, 7), &AROUND);
        assert_eq!(sent[..], [131, 11, 4, 10, 0, 0, 8, 10, 0, 0, 7, 0]);
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for wrong in [
            &[7][..],
            &[7, 2],
            &[7, 7, 3, 0, 0, 0, 0],
            &[7, 7, 5, 0, 0, 0, 0],
            &[7, 3, 4, 7, 3, 4],
            &[99, 4, 0, 0],
        ] {
            assert_eq!(asked(wrong), Err(WireError::Bad), "{wrong:?}");
        }
        assert_eq!(asked(&[1; 41]), Err(WireError::Short));
        assert_eq!(asked(&[]), Ok(None));
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(0_u8..150, 0..44), may_any: bool) {
            if let Ok(Some(asked)) = Asked::new(&bytes, may_any, &|address| address.octets()[0] < 9) {
                prop_assert!(asked.length() % 4 == 0 && asked.length() <= MOST);
                let mut sent: Vec<u8> = asked.fill(OWN, &AROUND).to_vec();
                // What is sent can be received.
                prop_assert!(note(&mut sent, &AROUND).is_ok());
            }
            let mut bytes = bytes;
            let _ = note(&mut bytes, &AROUND);
            let _ = answer(&bytes, &|_| false);
        }
    }
}
