//! The 41 capabilities of capabilities(7) and sets of them.
//!
//! Key types: [`Capability`], [`CapabilitySet`]. Neighbours: `capability_rules` (who may change sets).

macro_rules! capabilities {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// One capability; the number is the bit in the sets that user space sees.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
        #[repr(u8)]
        #[allow(missing_docs)]
        pub enum Capability { $($(#[$doc])* $name = $number,)* }

        impl Capability {
            /// Every capability, by number.
            pub const ALL: &'static [Capability] = &[$(Capability::$name,)*];
        }
    };
}

capabilities! {
    Chown = 0, DacOverride = 1, DacReadSearch = 2, Fowner = 3, Fsetid = 4, Kill = 5, Setgid = 6, Setuid = 7,
    Setpcap = 8, LinuxImmutable = 9, NetBindService = 10, NetBroadcast = 11, NetAdmin = 12, NetRaw = 13,
    IpcLock = 14, IpcOwner = 15, SysModule = 16, SysRawio = 17, SysChroot = 18, SysPtrace = 19, SysPacct = 20,
    SysAdmin = 21, SysBoot = 22, SysNice = 23, SysResource = 24, SysTime = 25, SysTtyConfig = 26, Mknod = 27,
    Lease = 28, AuditWrite = 29, AuditControl = 30, Setfcap = 31, MacOverride = 32, MacAdmin = 33, Syslog = 34,
    WakeAlarm = 35, BlockSuspend = 36, AuditRead = 37, Perfmon = 38, Bpf = 39, CheckpointRestore = 40,
}

impl Capability {
    /// The capability of that number, or nothing beyond the last (`EINVAL` at the callers).
    pub fn from_number(number: u64) -> Option<Capability> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }
}

/// A set of capabilities: a 64-bit mask.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    /// No capability.
    pub const EMPTY: CapabilitySet = CapabilitySet(0);
    /// Every capability that exists.
    pub const FULL: CapabilitySet = CapabilitySet((1 << Capability::ALL.len()) - 1);

    /// What capabilities(7) calls the file-system capabilities: they follow the file-system uid.
    pub const FILE_SYSTEM: CapabilitySet = CapabilitySet::EMPTY
        .with(Capability::Chown)
        .with(Capability::DacOverride)
        .with(Capability::DacReadSearch)
        .with(Capability::Fowner)
        .with(Capability::Fsetid)
        .with(Capability::LinuxImmutable)
        .with(Capability::MacOverride)
        .with(Capability::Mknod);

    /// A set from user space; bits of capabilities that do not exist are dropped, as Linux does.
    pub const fn from_bits(bits: u64) -> CapabilitySet {
        CapabilitySet(bits & Self::FULL.0)
    }

    /// The mask as user space sees it.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// This set and one more.
    pub const fn with(self, capability: Capability) -> CapabilitySet {
        CapabilitySet(self.0 | (1 << capability as u8))
    }

    /// This set without one.
    pub const fn without(self, capability: Capability) -> CapabilitySet {
        CapabilitySet(self.0 & !(1 << capability as u8))
    }

    /// Whether the capability is in the set.
    pub const fn contains(self, capability: Capability) -> bool {
        self.0 & (1 << capability as u8) != 0
    }

    /// Members of either.
    pub const fn union(self, other: CapabilitySet) -> CapabilitySet {
        CapabilitySet(self.0 | other.0)
    }

    /// Members of both.
    pub const fn intersection(self, other: CapabilitySet) -> CapabilitySet {
        CapabilitySet(self.0 & other.0)
    }

    /// Members of this one that are not in the other.
    pub const fn difference(self, other: CapabilitySet) -> CapabilitySet {
        CapabilitySet(self.0 & !other.0)
    }

    /// Whether every member is in the other.
    pub const fn is_subset_of(self, other: CapabilitySet) -> bool {
        self.0 & !other.0 == 0
    }

    /// Whether it has no member.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_and_known() {
        assert_eq!(Capability::ALL.len(), 41);
        for (number, capability) in Capability::ALL.iter().enumerate() {
            assert_eq!(*capability as usize, number);
        }
        assert_eq!(Capability::from_number(21), Some(Capability::SysAdmin));
        assert_eq!(Capability::from_number(41), None);
        assert_eq!(CapabilitySet::FULL.bits(), 0x1ff_ffff_ffff);
    }

    #[test]
    fn set_algebra() {
        let set = CapabilitySet::EMPTY.with(Capability::Kill).with(Capability::Bpf);
        assert!(set.contains(Capability::Kill) && !set.contains(Capability::Chown));
        assert!(set.without(Capability::Kill).is_subset_of(set));
        assert!(set.difference(set).is_empty());
        assert_eq!(CapabilitySet::from_bits(u64::MAX), CapabilitySet::FULL);
    }
}
