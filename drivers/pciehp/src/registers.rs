//! A port's registers of its slot and link, in its configuration space (PCI Express Base Specification 5.0, 7.5.3).
//!
//! Key types: [`Registers`], [`Events`], [`Light`]. Locks: the control register's (a leaf).

use abi::errno::{Errno, Result};
use alloc::sync::Arc;
use bitflags::bitflags;
use device::pci::{CAPABILITY_EXPRESS, Function};
use machine::sync::{SpinLock, WaitKind, WaitQueue};

/// Places in the capability.
mod place {
    pub const FLAGS: usize = 0x02;
    pub const LINK_ABILITIES: usize = 0x0c;
    pub const LINK_STATUS: usize = 0x12;
    pub const ABILITIES: usize = 0x14;
    pub const CONTROL: usize = 0x18;
    pub const STATUS: usize = 0x1a;
}

/// There is a slot behind the port; the kind of port; which of its messages tells of events.
const HAS_SLOT: u16 = 1 << 8;
const KIND_SHIFT: u16 = 4;
const ROOT_PORT: u16 = 4;
const DOWNSTREAM_PORT: u16 = 6;
const MESSAGE_SHIFT: u16 = 9;
const MESSAGE_MASK: u16 = 0x1f;
const LINK_TELLS_ACTIVE: u32 = 1 << 20;
const LINK_ACTIVE: u16 = 1 << 13;
/// What the control register tells the slot to do.
const NOTIFY: u16 = 1 << 5;
const ATTENTION_SHIFT: u16 = 6;
const POWER_SHIFT: u16 = 8;
const POWER_OFF: u16 = 1 << 10;
/// The slot's state.
const COMMAND_COMPLETED: u16 = 1 << 4;
const LATCH_OPEN: u16 = 1 << 5;
const OCCUPIED: u16 = 1 << 6;
/// How long the slot may take to do what it was told.
const COMMAND_NS: u64 = 1_000_000_000;

bitflags! {
    /// What a slot can do, of its abilities register.
    #[derive(Clone, Copy)]
    struct Abilities: u32 {
        const BUTTON = 1;
        const POWER = 1 << 1;
        const LATCH = 1 << 2;
        const ATTENTION_LIGHT = 1 << 3;
        const POWER_LIGHT = 1 << 4;
        const HOT_PLUG = 1 << 6;
        /// It does at once what it is told.
        const NO_COMMAND_COMPLETED = 1 << 18;
        const _ = !0;
    }
}

bitflags! {
    /// What can happen to a slot. The bits are those of the status register and of the control register that asks for an interrupt then, but for
    /// the link's.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Events: u16 {
        /// Somebody has pushed its button.
        const BUTTON = 1;
        /// Its power has failed.
        const POWER_FAULT = 1 << 1;
        /// A card has come or gone.
        const PRESENCE = 1 << 3;
        /// The link has come or gone.
        const LINK = 1 << 8;
    }
}

/// Asks for an interrupt when the link has changed.
const NOTIFY_LINK: u16 = 1 << 12;

/// What a light can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Light {
    On = 1,
    Blinking = 2,
    Off = 3,
}

/// Lets other threads run for a while. Thread context.
pub fn sleep(duration_ns: u64) {
    let nobody = WaitQueue::new();
    let end = machine::time::now_ns().saturating_add(duration_ns);
    let _ = nobody.wait_until(WaitKind::Uninterruptible, Some(end), || None::<()>);
}

/// Looks every few milliseconds whether something is so, for so long at most. Says whether it was. Thread context.
pub fn wait_for(patience_ns: u64, mut is_so: impl FnMut() -> bool) -> bool {
    const STEP_NS: u64 = 5_000_000;
    let deadline = machine::time::now_ns().saturating_add(patience_ns);
    while !is_so() {
        if machine::time::now_ns() >= deadline {
            return false;
        }
        sleep(STEP_NS);
    }
    true
}

/// The registers of a port with a slot.
pub struct Registers {
    function: Arc<Function>,
    capability: usize,
    abilities: Abilities,
    control: SpinLock<()>,
}

impl Registers {
    /// Those of a function, if it is a port with a slot that cards can be plugged into while the machine runs.
    pub fn find(function: &Arc<Function>) -> Option<Registers> {
        let capability = function.capabilities(CAPABILITY_EXPRESS).next()?;
        let flags = function.read::<u16>(capability + place::FLAGS);
        let kind = flags >> KIND_SHIFT & 0xf;
        let abilities = Abilities::from_bits_retain(function.read(capability + place::ABILITIES));
        let is_port = flags & HAS_SLOT != 0 && matches!(kind, ROOT_PORT | DOWNSTREAM_PORT);
        (is_port && abilities.contains(Abilities::HOT_PLUG)).then(|| Registers {
            function: function.clone(),
            capability,
            abilities,
            control: SpinLock::new(()),
        })
    }

    /// The function that it is.
    pub fn function(&self) -> &Arc<Function> {
        &self.function
    }

    /// Which of the function's messages tells of events.
    pub fn message(&self) -> usize {
        usize::from(self.function.read::<u16>(self.capability + place::FLAGS) >> MESSAGE_SHIFT & MESSAGE_MASK)
    }

    fn status(&self) -> u16 {
        self.function.read(self.capability + place::STATUS)
    }

    /// What has happened since the last time. Any context.
    pub fn take_events(&self) -> Events {
        let status = self.status();
        if status == u16::MAX {
            // The port itself is not there any more.
            return Events::empty();
        }
        let events = Events::from_bits_truncate(status);
        if !events.is_empty() {
            self.function.write(self.capability + place::STATUS, events.bits());
        }
        events
    }

    /// Changes the control register and waits until the slot has done so. Thread context.
    fn change_control(&self, clear: u16, set: u16) {
        let at = self.capability + place::CONTROL;
        let changed = {
            let _guard = self.control.lock();
            let before = self.function.read::<u16>(at);
            let after = before & !clear | set;
            if after != before {
                self.function.write(self.capability + place::STATUS, COMMAND_COMPLETED);
                self.function.write(at, after);
            }
            after != before
        };
        if changed && !self.abilities.contains(Abilities::NO_COMMAND_COMPLETED) {
            let completed = || self.status() & COMMAND_COMPLETED != 0;
            if !wait_for(COMMAND_NS, completed) {
                log::warn!("pcieport {}: the slot does not do what it is told", self.function.name());
            }
        }
    }

    /// Has events sent as interrupts. Thread context.
    pub fn start_notifying(&self) {
        let asked = (Events::BUTTON | Events::POWER_FAULT | Events::PRESENCE).bits();
        self.change_control(0, NOTIFY | NOTIFY_LINK | asked);
    }

    /// Ends that. Thread context.
    pub fn stop_notifying(&self) {
        self.change_control(NOTIFY, 0);
    }

    /// Sets the lights that the slot has. Thread context.
    pub fn set_lights(&self, power: Light, attention: Light) {
        let (mut clear, mut set) = (0, 0);
        for (ability, light, shift) in [
            (Abilities::POWER_LIGHT, power, POWER_SHIFT),
            (Abilities::ATTENTION_LIGHT, attention, ATTENTION_SHIFT),
        ] {
            if self.abilities.contains(ability) {
                clear |= 3 << shift;
                set |= (light as u16) << shift;
            }
        }
        self.change_control(clear, set);
    }

    /// Whether the power can be switched.
    pub fn has_power_switch(&self) -> bool {
        self.abilities.contains(Abilities::POWER)
    }

    /// Whether it is on.
    pub fn is_powered(&self) -> bool {
        let control = self.function.read::<u16>(self.capability + place::CONTROL);
        !self.has_power_switch() || control & POWER_OFF == 0
    }

    /// Switches it. Thread context.
    pub fn switch_power(&self, on: Switch) {
        if self.has_power_switch() {
            let (clear, set) = if on == Switch::On { (POWER_OFF, 0) } else { (0, POWER_OFF) };
            self.change_control(clear, set);
        }
    }

    /// Whether a card is in the slot.
    pub fn is_occupied(&self) -> bool {
        let status = self.status();
        status != u16::MAX && status & OCCUPIED != 0
    }

    /// Errors: `ENODEV`: the slot has a latch, and it is open.
    pub fn check_latch(&self) -> Result<()> {
        let open = self.abilities.contains(Abilities::LATCH) && self.status() & LATCH_OPEN != 0;
        if open { Err(Errno::ENODEV) } else { Ok(()) }
    }

    /// Whether the link works; `None`: the port does not tell.
    pub fn link_is_active(&self) -> Option<bool> {
        let tells =
            self.function.read::<u32>(self.capability + place::LINK_ABILITIES) & LINK_TELLS_ACTIVE != 0;
        let status = self.function.read::<u16>(self.capability + place::LINK_STATUS);
        tells.then_some(status & LINK_ACTIVE != 0 && status != u16::MAX)
    }
}

/// A switch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Switch {
    On,
    Off,
}
