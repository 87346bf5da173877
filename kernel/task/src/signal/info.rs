//! What a signal says about itself: the kernel's form of `siginfo_t`.
//!
//! [`SignalInfo`] is compact so that queues stay small; [`SignalInfo::to_bytes`] lays it out as the 128 bytes
//! of `siginfo_t` that programs read (sigaction(2), "The siginfo_t argument"), [`SignalInfo::from_bytes`]
//! reads what `rt_sigqueueinfo` is given. Pure data, no locks.

use super::set::Signal;
use alloc::boxed::Box;

/// `si_code` values (sigaction(2)).
pub mod code {
    /// kill(2).
    pub const SI_USER: i32 = 0;
    /// Sent by the kernel.
    pub const SI_KERNEL: i32 = 0x80;
    /// sigqueue(3).
    pub const SI_QUEUE: i32 = -1;
    /// A POSIX timer expired.
    pub const SI_TIMER: i32 = -2;
    /// A POSIX message queue changed.
    pub const SI_MESGQ: i32 = -3;
    /// Asynchronous input/output completed.
    pub const SI_ASYNCIO: i32 = -4;
    /// Queued SIGIO.
    pub const SI_SIGIO: i32 = -5;
    /// tkill(2) or tgkill(2).
    pub const SI_TKILL: i32 = -6;
    /// SIGSEGV: nothing is mapped at the address.
    pub const SEGV_MAPERR: i32 = 1;
    /// SIGSEGV: the mapping does not allow the access.
    pub const SEGV_ACCERR: i32 = 2;
    /// SIGSEGV: the rights of the page's protection key do not allow the access.
    pub const SEGV_PKUERR: i32 = 4;
    /// SIGBUS: unaligned.
    pub const BUS_ADRALN: i32 = 1;
    /// SIGBUS: no such physical address (beyond the end of the file).
    pub const BUS_ADRERR: i32 = 2;
    /// SIGILL: illegal operand.
    pub const ILL_ILLOPN: i32 = 2;
    /// SIGFPE: integer division by zero.
    pub const FPE_INTDIV: i32 = 1;
    /// SIGFPE: integer overflow.
    pub const FPE_INTOVF: i32 = 2;
    /// SIGFPE: floating-point division by zero.
    pub const FPE_FLTDIV: i32 = 3;
    /// SIGFPE: floating-point overflow.
    pub const FPE_FLTOVF: i32 = 4;
    /// SIGFPE: floating-point underflow.
    pub const FPE_FLTUND: i32 = 5;
    /// SIGFPE: inexact result.
    pub const FPE_FLTRES: i32 = 6;
    /// SIGFPE: invalid operation.
    pub const FPE_FLTINV: i32 = 7;
    /// SIGTRAP: breakpoint.
    pub const TRAP_BRKPT: i32 = 1;
    /// SIGTRAP: single step.
    pub const TRAP_TRACE: i32 = 2;
    /// SIGCHLD: the child exited.
    pub const CLD_EXITED: i32 = 1;
    /// SIGCHLD: the child was killed.
    pub const CLD_KILLED: i32 = 2;
    /// SIGCHLD: the child was killed and dumped core.
    pub const CLD_DUMPED: i32 = 3;
    /// SIGCHLD: a traced child trapped.
    pub const CLD_TRAPPED: i32 = 4;
    /// SIGCHLD: the child stopped.
    pub const CLD_STOPPED: i32 = 5;
    /// SIGCHLD: the child continued.
    pub const CLD_CONTINUED: i32 = 6;
}

/// Size of `siginfo_t` in bytes.
pub const SIGINFO_SIZE: usize = 128;

/// One instance of a signal, with its cause.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct SignalInfo {
    /// Which signal.
    pub signal: Signal,
    /// `si_errno`, nearly always 0.
    pub errno: i32,
    /// `si_code`, one of [`code`].
    pub code: i32,
    /// The fields that depend on the cause.
    pub cause: Cause,
}

/// The part of `siginfo_t` that depends on the cause.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Cause {
    /// Nothing more is known.
    None,
    /// kill(2), tgkill(2): who sent it, as the receiver's namespaces see it.
    Sender {
        /// Sender's process id.
        pid: i32,
        /// Sender's real user id.
        uid: u32,
    },
    /// sigqueue(3): sender and value.
    Queued {
        /// Sender's process id.
        pid: i32,
        /// Sender's real user id.
        uid: u32,
        /// `si_value`.
        value: u64,
    },
    /// A POSIX timer.
    Timer {
        /// Kernel id of the timer.
        id: i32,
        /// Expirations that were missed.
        overrun: i32,
        /// `sigev_value`.
        value: u64,
    },
    /// A processor exception.
    Fault {
        /// `si_addr`.
        address: u64,
    },
    /// An access that a protection key forbids.
    KeyFault {
        /// `si_addr`.
        address: u64,
        /// `si_pkey`.
        key: u32,
    },
    /// A child changed its state.
    Child {
        /// The child.
        pid: i32,
        /// Its real user id.
        uid: u32,
        /// Exit status or signal number.
        status: i32,
        /// User time in clock ticks (1/100 s).
        user_ticks: i64,
        /// System time in clock ticks.
        system_ticks: i64,
    },
    /// Input/output is possible.
    Poll {
        /// Event mask.
        band: i64,
        /// The descriptor.
        fd: i32,
    },
    /// What `rt_sigqueueinfo` was given, beyond the three first fields, unchanged.
    Raw(Box<[u8; SIGINFO_SIZE - 12]>),
}

impl SignalInfo {
    /// A signal the kernel itself sends, with `SI_KERNEL`.
    pub const fn from_kernel(signal: Signal) -> SignalInfo {
        SignalInfo { signal, errno: 0, code: code::SI_KERNEL, cause: Cause::Sender { pid: 0, uid: 0 } }
    }

    /// kill(2) by `pid`.
    pub const fn from_user(signal: Signal, pid: i32, uid: u32) -> SignalInfo {
        SignalInfo { signal, errno: 0, code: code::SI_USER, cause: Cause::Sender { pid, uid } }
    }

    /// A processor exception at `address`.
    pub const fn from_fault(signal: Signal, code: i32, address: u64) -> SignalInfo {
        SignalInfo { signal, errno: 0, code, cause: Cause::Fault { address } }
    }

    /// Whether a process sent it (`SI_USER` or any negative code), not the kernel.
    pub const fn is_from_user(&self) -> bool {
        self.code <= 0
    }

    /// The 128 bytes of `siginfo_t`. On 64-bit machines the union starts at offset 16.
    pub fn to_bytes(&self) -> [u8; SIGINFO_SIZE] {
        let mut out = [0u8; SIGINFO_SIZE];
        let mut put = |offset: usize, bytes: &[u8]| {
            if let Some(slot) = out.get_mut(offset..offset + bytes.len()) {
                slot.copy_from_slice(bytes);
            }
        };
        put(0, &self.signal.number().to_le_bytes());
        put(4, &self.errno.to_le_bytes());
        put(8, &self.code.to_le_bytes());
        match &self.cause {
            Cause::None => {}
            Cause::Sender { pid, uid } => {
                put(16, &pid.to_le_bytes());
                put(20, &uid.to_le_bytes());
            }
            Cause::Queued { pid, uid, value } => {
                put(16, &pid.to_le_bytes());
                put(20, &uid.to_le_bytes());
                put(24, &value.to_le_bytes());
            }
            Cause::Timer { id, overrun, value } => {
                put(16, &id.to_le_bytes());
                put(20, &overrun.to_le_bytes());
                put(24, &value.to_le_bytes());
            }
            Cause::Fault { address } => put(16, &address.to_le_bytes()),
            Cause::KeyFault { address, key } => {
                put(16, &address.to_le_bytes());
                put(32, &key.to_le_bytes());
            }
            Cause::Child { pid, uid, status, user_ticks, system_ticks } => {
                put(16, &pid.to_le_bytes());
                put(20, &uid.to_le_bytes());
                put(24, &status.to_le_bytes());
                put(32, &user_ticks.to_le_bytes());
                put(40, &system_ticks.to_le_bytes());
            }
            Cause::Poll { band, fd } => {
                put(16, &band.to_le_bytes());
                put(24, &fd.to_le_bytes());
            }
            Cause::Raw(rest) => put(12, rest.as_slice()),
        }
        out
    }

    /// Reads what `rt_sigqueueinfo` was given; the signal number comes from the call's own argument.
    pub fn from_bytes(signal: Signal, bytes: &[u8; SIGINFO_SIZE]) -> SignalInfo {
        let word = |offset: usize| {
            let mut raw = [0u8; 4];
            raw.copy_from_slice(&bytes[offset..offset + 4]);
            i32::from_le_bytes(raw)
        };
        let mut value = [0u8; 8];
        value.copy_from_slice(&bytes[24..32]);
        let errno = word(4);
        let code = word(8);
        let plain = bytes[12..16].iter().chain(&bytes[32..]).all(|&byte| byte == 0);
        let cause = if plain {
            Cause::Queued { pid: word(16), uid: word(20) as u32, value: u64::from_le_bytes(value) }
        } else {
            let mut rest = [0u8; SIGINFO_SIZE - 12];
            rest.copy_from_slice(&bytes[12..]);
            Cause::Raw(Box::new(rest))
        };
        SignalInfo { signal, errno, code, cause }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn child_fields_are_where_programs_look() {
        let info = SignalInfo {
            signal: Signal::SIGCHLD,
            errno: 0,
            code: code::CLD_EXITED,
            cause: Cause::Child { pid: 42, uid: 1000, status: 3, user_ticks: 7, system_ticks: 9 },
        };
        let bytes = info.to_bytes();
        assert_eq!(bytes[0], 17);
        assert_eq!(bytes[8], 1);
        assert_eq!(bytes[16], 42);
        assert_eq!(bytes[24], 3);
        assert_eq!(bytes[32], 7);
        assert_eq!(bytes[40], 9);
    }

    #[test]
    fn queued_information_survives_the_round_trip() {
        let mut bytes = [0u8; SIGINFO_SIZE];
        bytes[0] = 40;
        bytes[8..12].copy_from_slice(&code::SI_QUEUE.to_le_bytes());
        bytes[16] = 5;
        bytes[24] = 99;
        let signal = Signal::new(40).unwrap();
        let info = SignalInfo::from_bytes(signal, &bytes);
        assert_eq!(info.to_bytes(), bytes);
        assert!(matches!(info.cause, Cause::Queued { value: 99, .. }));
        bytes[100] = 1;
        let info = SignalInfo::from_bytes(signal, &bytes);
        assert!(matches!(info.cause, Cause::Raw(_)));
        assert_eq!(info.to_bytes(), bytes);
    }
}
