//! Terminals: serial ports, lines of the host, pseudo-terminals and devpts, on the line discipline of `linnet_lib::ldisc`.
//!
//! Key types: [`Tty`] (a terminal: line discipline, output, window size, session), [`pty::Pty`] (a pair of master and
//! slave), [`serial::SerialPort`], `hvc::HvcPort` (a line of the host's), [`console`] (which of them are consoles), [`devpts::DevPts`] (the file system), [`job::JobControl`] (what is asked of processes).
//! [`init`] registers the drivers of the character devices 4:64 (ttyS0), 5:0 (tty), 5:1 (console), 5:2 (ptmx), 136 (pts) and
//! the file system type; [`serial::input`] is what the interrupt calls for every byte.
//!
//! Locks, outermost first: the turn locks of reading, writing and draining (sleeping) → the process tree of `task` →
//! `Tty::control` → `Tty::state` (spinlocks, thread context) → `SerialPort::input` (interrupt-safe). Signals are sent, wait
//! queues woken and hardware written with none of the spinlocks held.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod baud;
pub mod console;
mod device;
pub mod devpts;
mod file;
mod hvc;
mod ioctl;
pub mod job;
pub mod pty;
mod ring;
pub mod serial;
mod settings;
mod tty;
mod turn;

pub use device::init;
pub use tty::{Blocking, Opened, Tty};

#[cfg(test)]
mod tests;
