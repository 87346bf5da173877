//! Resource limits: the table behind prlimit(2), one per process. Pure data; [`crate::Process`] has the lock.

use abi::errno::{Errno, Result};

/// "No limit".
pub const INFINITY: u64 = u64::MAX;

/// A resource that has a limit; the values are Linux's `RLIMIT_*`.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[repr(usize)]
pub enum Resource {
    /// Processor time in seconds.
    Cpu = 0,
    /// Largest file in bytes.
    FileSize = 1,
    /// Size of the data segment in bytes.
    Data = 2,
    /// Size of the stack in bytes.
    Stack = 3,
    /// Size of a core file in bytes.
    Core = 4,
    /// Resident memory; no effect on Linux either.
    ResidentSet = 5,
    /// Processes of the real user.
    Processes = 6,
    /// One more than the highest descriptor.
    OpenFiles = 7,
    /// Locked memory in bytes.
    LockedMemory = 8,
    /// Address space in bytes.
    AddressSpace = 9,
    /// File locks; no effect on Linux either.
    Locks = 10,
    /// Queued signals of the real user.
    PendingSignals = 11,
    /// Bytes in POSIX message queues.
    MessageQueue = 12,
    /// Ceiling of nice, as 20 - nice.
    Nice = 13,
    /// Ceiling of the real-time priority.
    RealTimePriority = 14,
    /// Microseconds of real-time running without a blocking call.
    RealTimeTime = 15,
}

impl Resource {
    /// How many resources there are.
    pub const COUNT: usize = 16;
    /// All of them, by number.
    pub const ALL: [Resource; Resource::COUNT] = [
        Resource::Cpu,
        Resource::FileSize,
        Resource::Data,
        Resource::Stack,
        Resource::Core,
        Resource::ResidentSet,
        Resource::Processes,
        Resource::OpenFiles,
        Resource::LockedMemory,
        Resource::AddressSpace,
        Resource::Locks,
        Resource::PendingSignals,
        Resource::MessageQueue,
        Resource::Nice,
        Resource::RealTimePriority,
        Resource::RealTimeTime,
    ];

    /// The resource with this number.
    ///
    /// # Errors
    /// EINVAL for an unknown number.
    pub fn new(number: u32) -> Result<Resource> {
        Resource::ALL.get(number as usize).copied().ok_or(Errno::EINVAL)
    }
}

/// A soft limit, which acts, and a hard one, up to which the soft one may be raised.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Limit {
    /// What acts.
    pub soft: u64,
    /// The ceiling of `soft`.
    pub hard: u64,
}

impl Limit {
    const fn both(value: u64) -> Limit {
        Limit { soft: value, hard: value }
    }
}

/// The limits of one process.
#[derive(Copy, Clone, Debug)]
pub struct Limits {
    limits: [Limit; Resource::COUNT],
}

impl Limits {
    /// What the first process has: Linux's `INIT_RLIMITS`, with `max_processes` for the per-user limits.
    pub fn initial(max_processes: u64) -> Limits {
        let mut limits = [Limit::both(INFINITY); Resource::COUNT];
        let mut set = |resource: Resource, soft, hard| limits[resource as usize] = Limit { soft, hard };
        set(Resource::Stack, 8 << 20, INFINITY);
        set(Resource::Core, 0, INFINITY);
        set(Resource::Processes, max_processes, max_processes);
        set(Resource::OpenFiles, 1024, 4096);
        set(Resource::LockedMemory, 8 << 20, 8 << 20);
        set(Resource::PendingSignals, max_processes, max_processes);
        set(Resource::MessageQueue, 819_200, 819_200);
        set(Resource::Nice, 0, 0);
        set(Resource::RealTimePriority, 0, 0);
        Limits { limits }
    }

    /// The limit of `resource`.
    pub fn get(&self, resource: Resource) -> Limit {
        self.limits[resource as usize]
    }

    /// The soft limit of `resource`.
    pub fn soft(&self, resource: Resource) -> u64 {
        self.get(resource).soft
    }

    /// Sets a limit. `privileged` callers (CAP_SYS_RESOURCE) may raise the hard limit.
    ///
    /// # Errors
    /// EINVAL: soft above hard. EPERM: raises the hard limit, or the descriptors above `max_open_files`.
    pub fn set(
        &mut self,
        resource: Resource,
        new: Limit,
        authority: Authority,
        max_open_files: u64,
    ) -> Result<Limit> {
        if new.soft > new.hard {
            return Err(Errno::EINVAL);
        }
        if resource == Resource::OpenFiles && new.hard > max_open_files {
            return Err(Errno::EPERM);
        }
        let old = self.get(resource);
        if new.hard > old.hard && authority == Authority::Ordinary {
            return Err(Errno::EPERM);
        }
        self.limits[resource as usize] = new;
        Ok(old)
    }
}

/// Whether a caller may raise hard limits.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Authority {
    /// No.
    Ordinary,
    /// It has CAP_SYS_RESOURCE.
    SystemResource,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hard_limits_only_fall_without_privilege() {
        let mut limits = Limits::initial(1000);
        let lower = Limit { soft: 10, hard: 20 };
        assert!(limits.set(Resource::OpenFiles, lower, Authority::Ordinary, 1 << 20).is_ok());
        let higher = Limit { soft: 10, hard: 30 };
        let refused = limits.set(Resource::OpenFiles, higher, Authority::Ordinary, 1 << 20);
        assert_eq!(refused, Err(Errno::EPERM));
        assert!(limits.set(Resource::OpenFiles, higher, Authority::SystemResource, 1 << 20).is_ok());
        let crossed = Limit { soft: 31, hard: 30 };
        let refused = limits.set(Resource::OpenFiles, crossed, Authority::SystemResource, 1 << 20);
        assert_eq!(refused, Err(Errno::EINVAL));
    }
}
