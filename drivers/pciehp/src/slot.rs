//! What becomes of a slot when somebody pushes its button, or a card comes or goes.
//!
//! Key types: [`Slot`] (the state, without any hardware), [`Port`] (what it does with the hardware). Whoever pushes the button has five
//! seconds to think better of it, in which the light blinks; then the card's drivers let go and the slot's power is switched off. A card that comes
//! is switched on at once; one that is torn out was in use, and what was under way fails.
//! Reference: PCI Express Base Specification 5.0, 6.7.1. Locks: none; its owner has one.

use crate::registers::{Events, Light};
use abi::errno::Result;

/// How long the light blinks.
pub const TIME_TO_CANCEL_NS: u64 = 5_000_000_000;

/// The hardware of a slot and what hangs on it. All may sleep.
pub trait Port {
    /// Whether a card is in the slot.
    fn is_occupied(&self) -> bool;
    /// Sets the lights.
    fn set_lights(&self, power: Light, attention: Light);
    /// Switches the power on and waits until the card answers. Errors: `EIO`: it does not; `ENODEV`: the slot's latch is open.
    fn connect(&self) -> Result<()>;
    /// Switches the power off, and forgets the events of that.
    fn disconnect(&self);
    /// Makes the card's functions known. Errors: `ENODEV`: there are none.
    fn add(&self) -> Result<()>;
    /// Ends the service of the card's functions and forgets them.
    fn remove(&self);
    /// Tells the administrator.
    fn tell(&self, what: &str);
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Off,
    On,
    /// It goes on, or off, at this time of [`machine::time::now_ns`], unless the button is pushed again.
    BlinkingOn(u64),
    BlinkingOff(u64),
}

/// A slot.
pub struct Slot(State);

impl Slot {
    /// One whose card works, or that is off.
    pub fn new(is_on: bool) -> Slot {
        Slot(if is_on { State::On } else { State::Off })
    }

    /// When it wants [`Slot::expire`] to be called.
    pub fn deadline(&self) -> Option<u64> {
        match self.0 {
            State::BlinkingOn(deadline) | State::BlinkingOff(deadline) => Some(deadline),
            State::On | State::Off => None,
        }
    }

    /// Something has happened.
    pub fn handle(&mut self, port: &impl Port, events: Events, now_ns: u64) {
        if events.contains(Events::BUTTON) {
            self.push_button(port, now_ns);
        }
        if events.contains(Events::POWER_FAULT) {
            port.tell("power fault");
            port.set_lights(Light::Off, Light::On);
        }
        if events.intersects(Events::PRESENCE | Events::LINK) {
            self.look(port);
        }
    }

    /// The time is over, if it is.
    pub fn expire(&mut self, port: &impl Port, now_ns: u64) {
        match self.0 {
            State::BlinkingOff(deadline) if deadline <= now_ns => self.switch_off(port),
            State::BlinkingOn(deadline) if deadline <= now_ns => self.switch_on(port),
            _ => {}
        }
    }

    fn push_button(&mut self, port: &impl Port, now_ns: u64) {
        let deadline = now_ns.saturating_add(TIME_TO_CANCEL_NS);
        let (next, power, told) = match self.0 {
            State::On => {
                (State::BlinkingOff(deadline), Light::Blinking, "button pushed: switched off in 5 seconds")
            }
            State::Off => {
                (State::BlinkingOn(deadline), Light::Blinking, "button pushed: switched on in 5 seconds")
            }
            State::BlinkingOff(_) => (State::On, Light::On, "button pushed again: stays on"),
            State::BlinkingOn(_) => (State::Off, Light::Off, "button pushed again: stays off"),
        };
        self.0 = next;
        port.set_lights(power, Light::Off);
        port.tell(told);
    }

    /// The card or its link have come or gone. One that worked has gone in any case, even if one is there now.
    fn look(&mut self, port: &impl Port) {
        if matches!(self.0, State::On | State::BlinkingOff(_)) {
            port.tell("the card has gone");
            self.switch_off(port);
        }
        if port.is_occupied() {
            port.tell("there is a card");
            self.switch_on(port);
        } else if self.0 != State::Off {
            // It was to be switched on, and has gone before.
            self.0 = State::Off;
            port.set_lights(Light::Off, Light::Off);
        }
    }

    fn switch_off(&mut self, port: &impl Port) {
        port.remove();
        port.disconnect();
        port.set_lights(Light::Off, Light::Off);
        self.0 = State::Off;
    }

    fn switch_on(&mut self, port: &impl Port) {
        port.set_lights(Light::Blinking, Light::Off);
        let done = if port.is_occupied() { port.connect().and_then(|()| port.add()) } else { Ok(()) };
        match done {
            Ok(()) if port.is_occupied() => {
                port.set_lights(Light::On, Light::Off);
                self.0 = State::On;
            }
            failed => {
                if failed.is_err() {
                    port.tell("the card does not work");
                }
                port.remove();
                port.disconnect();
                let attention = if failed.is_err() { Light::On } else { Light::Off };
                port.set_lights(Light::Off, attention);
                self.0 = State::Off;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::errno::Errno;
    use core::cell::{Cell, RefCell};
    use std::string::{String, ToString};
    use std::vec::Vec;

    /// A port that notes what is done.
    #[derive(Default)]
    struct Fake {
        occupied: Cell<bool>,
        broken: Cell<bool>,
        done: RefCell<Vec<String>>,
    }

    impl Fake {
        fn with_card() -> Fake {
            Fake { occupied: Cell::new(true), ..Fake::default() }
        }

        /// What was done since the last time.
        fn done(&self) -> Vec<String> {
            core::mem::take(&mut *self.done.borrow_mut())
        }

        fn note(&self, what: &str) {
            self.done.borrow_mut().push(what.to_string());
        }
    }

    impl Port for Fake {
        fn is_occupied(&self) -> bool {
            self.occupied.get()
        }
        fn set_lights(&self, power: Light, attention: Light) {
            self.note(&std::format!("{power:?} {attention:?}"));
        }
        fn connect(&self) -> Result<()> {
            self.note("connect");
            if self.broken.get() { Err(Errno::EIO) } else { Ok(()) }
        }
        fn disconnect(&self) {
            self.note("disconnect");
        }
        fn add(&self) -> Result<()> {
            self.note("add");
            Ok(())
        }
        fn remove(&self) {
            self.note("remove");
        }
        fn tell(&self, _what: &str) {}
    }

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_button_takes_a_card_out_after_five_seconds() {
        let (port, mut slot) = (Fake::with_card(), Slot::new(true));
        slot.handle(&port, Events::BUTTON, SECOND);
        assert_eq!(port.done(), ["Blinking Off"]);
        assert_eq!(slot.deadline(), Some(6 * SECOND));
        slot.expire(&port, 6 * SECOND - 1);
        assert!(port.done().is_empty(), "too early");
        slot.expire(&port, 6 * SECOND);
        assert_eq!(port.done(), ["remove", "disconnect", "Off Off"]);
        assert_eq!(slot.deadline(), None);
        slot.expire(&port, 20 * SECOND);
        assert!(port.done().is_empty(), "once");
        port.occupied.set(false);
        slot.handle(&port, Events::PRESENCE, 21 * SECOND);
        assert!(port.done().is_empty(), "it was off: nothing is to be done when the card is taken");
    }

    #[test]
    fn the_button_again_and_nothing_happens() {
        let (port, mut slot) = (Fake::with_card(), Slot::new(true));
        slot.handle(&port, Events::BUTTON, 0);
        slot.handle(&port, Events::BUTTON, 4 * SECOND);
        assert_eq!(port.done(), ["Blinking Off", "On Off"]);
        assert_eq!(slot.deadline(), None);
        slot.expire(&port, 10 * SECOND);
        assert!(port.done().is_empty());
        // And the other way round.
        let mut slot = Slot::new(false);
        slot.handle(&port, Events::BUTTON, 0);
        slot.handle(&port, Events::BUTTON, SECOND);
        assert_eq!(
            (port.done(), slot.deadline()),
            (["Blinking Off", "Off Off"].map(String::from).to_vec(), None)
        );
    }

    #[test]
    fn a_third_push_begins_anew() {
        let (port, mut slot) = (Fake::with_card(), Slot::new(true));
        for second in 0..3 {
            slot.handle(&port, Events::BUTTON, second * SECOND);
        }
        assert_eq!(slot.deadline(), Some(7 * SECOND));
        port.done();
        slot.expire(&port, 5 * SECOND);
        assert!(port.done().is_empty(), "the first push does not count any more");
        slot.expire(&port, 7 * SECOND);
        assert_eq!(port.done(), ["remove", "disconnect", "Off Off"]);
    }

    #[test]
    fn a_card_that_comes_is_switched_on_at_once() {
        let (port, mut slot) = (Fake::with_card(), Slot::new(false));
        slot.handle(&port, Events::PRESENCE, 0);
        assert_eq!(port.done(), ["Blinking Off", "connect", "add", "On Off"]);
        // QEMU tells of both at once.
        let mut slot = Slot::new(false);
        slot.handle(&port, Events::PRESENCE | Events::BUTTON, 0);
        assert_eq!(port.done(), ["Blinking Off", "Blinking Off", "connect", "add", "On Off"]);
        assert_eq!(slot.deadline(), None);
    }

    #[test]
    fn a_card_that_is_torn_out_is_removed_at_once() {
        for pushed_before in [false, true] {
            let (port, mut slot) = (Fake::with_card(), Slot::new(true));
            if pushed_before {
                slot.handle(&port, Events::BUTTON, 0);
                port.done();
            }
            port.occupied.set(false);
            slot.handle(&port, Events::PRESENCE | Events::LINK, SECOND);
            assert_eq!(port.done(), ["remove", "disconnect", "Off Off"]);
            assert_eq!(slot.deadline(), None, "the push is forgotten");
        }
    }

    #[test]
    fn another_card_in_its_place_is_a_new_one() {
        let (port, mut slot) = (Fake::with_card(), Slot::new(true));
        slot.handle(&port, Events::LINK, 0);
        let done = port.done();
        assert_eq!(done, ["remove", "disconnect", "Off Off", "Blinking Off", "connect", "add", "On Off"]);
    }

    #[test]
    fn a_card_that_does_not_work_stays_off_and_is_shown() {
        let (port, mut slot) = (Fake::with_card(), Slot::new(false));
        port.broken.set(true);
        slot.handle(&port, Events::PRESENCE, 0);
        assert_eq!(port.done(), ["Blinking Off", "connect", "remove", "disconnect", "Off On"]);
        port.broken.set(false);
        slot.handle(&port, Events::BUTTON, 0);
        slot.expire(&port, TIME_TO_CANCEL_NS);
        assert_eq!(port.done().last().map(String::as_str), Some("On Off"), "another try");
    }

    #[test]
    fn an_empty_slot_cannot_be_switched_on() {
        let (port, mut slot) = (Fake::default(), Slot::new(false));
        slot.handle(&port, Events::BUTTON, 0);
        slot.expire(&port, TIME_TO_CANCEL_NS);
        assert_eq!(port.done(), ["Blinking Off", "Blinking Off", "remove", "disconnect", "Off Off"]);
        slot.handle(&port, Events::BUTTON, 0);
        slot.handle(&port, Events::PRESENCE, SECOND);
        assert_eq!(port.done(), ["Blinking Off", "Off Off"], "a card that came and went");
    }
}
