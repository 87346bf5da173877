//! Bugs on purpose: what the kernel does when it is wrong can be tested only by being wrong.
//!
//! Key type: [`Bug`]. Only who holds the [`PowerToken`] may provoke one; `image` lends it to a device that exists only with
//! `linnet.provoke` on the command line. The counterpart of Linux's `lkdtm`. No locks but one that is held on purpose.

use crate::power::PowerToken;
use crate::sync::SpinLock;

/// What to do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A panic of Rust code that holds nothing.
    Panic,
    /// A panic of Rust code that holds a spin lock.
    PanicLocked,
    /// A read near address 0.
    ReadNull,
    /// An instruction that is none.
    Invalid,
    /// A write to the kernel's code.
    WriteText,
    /// A write to the kernel's constants.
    WriteConstant,
    /// A jump into the kernel's variables.
    RunData,
    /// A jump into the heap.
    RunHeap,
    /// A read of a user's page without saying so (SMAP).
    ReadUser,
    /// A jump into a user's page (SMEP).
    RunUser,
    /// Recursion without end.
    StackOverflow,
    /// An exception with no stack to report it on.
    DoubleFault,
    /// An interrupt that cannot be masked. Comes back.
    Nmi,
}

/// All of them by name.
const NAMES: [(&str, Bug); 13] = [
    ("panic", Bug::Panic),
    ("panic-locked", Bug::PanicLocked),
    ("read-null", Bug::ReadNull),
    ("invalid", Bug::Invalid),
    ("write-text", Bug::WriteText),
    ("write-constant", Bug::WriteConstant),
    ("run-data", Bug::RunData),
    ("run-heap", Bug::RunHeap),
    ("read-user", Bug::ReadUser),
    ("run-user", Bug::RunUser),
    ("stack-overflow", Bug::StackOverflow),
    ("double-fault", Bug::DoubleFault),
    ("nmi", Bug::Nmi),
];

impl Bug {
    /// The bug of this name.
    pub fn from_name(name: &str) -> Option<Bug> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, bug)| *bug)
    }
}

/// Does it, on the running thread. If it comes back, the machine has let it pass.
pub fn provoke(bug: Bug, token: &PowerToken) {
    static HELD: SpinLock<u32> = SpinLock::new(0);
    let _ = token;
    match bug {
        Bug::Panic => panic!("provoked"),
        Bug::PanicLocked => {
            let _held = HELD.lock();
            panic!("provoked with a lock held");
        }
        other => crate::arch::provoke(other),
    }
}
