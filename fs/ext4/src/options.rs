//! Mount options: what `-o` may say, and how `/proc/mounts` says it back.
//!
//! Key types: [`Options`], [`ErrorPolicy`], [`DataMode`]. Source: ext4(5). Options that tune what there is nothing to tune of here
//! (`stripe=`, `inode_readahead_blks=` …) are taken and change nothing, as they may anywhere; one that would change what a program sees and
//! is not there (quotas, `dax`) is refused. Pure, no locks.

use crate::format::Compatible;
use crate::format::superblock::RawSuperBlock;
use abi::errno::{Errno, Result};
use core::fmt::{self, Write};

/// What is done when the file system is found to contradict itself (`errors=`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorPolicy {
    /// Goes on.
    Continue,
    /// Nothing is written any more.
    ReadOnly,
    /// The machine stops.
    Panic,
}

/// How contents of files and the journal are in order (`data=`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DataMode {
    /// Contents are on the disk before what names them.
    Ordered,
    /// In no order that a program may count on (here they are ordered all the same).
    Writeback,
    /// Contents go through the journal, see `journaled`.
    Journal,
}

/// Mount options that can change with a remount.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// `errors=`.
    pub errors: ErrorPolicy,
    /// `data=`; cannot change.
    pub data: DataMode,
    /// `barrier`.
    pub barrier: bool,
    /// `discard`: what is freed is told to the device.
    pub discard: bool,
    /// `commit=`, seconds.
    pub commit_seconds: u32,
    /// `delalloc`.
    pub delayed_allocation: bool,
    /// `auto_da_alloc`: what replaces a file by renaming or truncating is written soon.
    pub write_replacements: bool,
    /// `acl`.
    pub acl: bool,
    /// `user_xattr`.
    pub user_xattr: bool,
    /// `grpid`: a new file has its directory's group.
    pub directory_group: bool,
    /// `noload`: the journal is not looked at.
    pub no_load: bool,
    /// `resuid=`: who may use the reserved blocks.
    pub reserved_uid: u32,
    /// `resgid=`.
    pub reserved_gid: u32,
    /// `minixdf`: statfs counts what the file system itself takes.
    pub count_overhead: bool,
}

/// Bits of `s_default_mount_opts`.
mod default {
    pub const DIRECTORY_GROUP: u32 = 2;
    pub const MODE: u32 = 0x60;
    pub const MODE_JOURNAL: u32 = 0x20;
    pub const MODE_WRITEBACK: u32 = 0x60;
    pub const NO_BARRIER: u32 = 0x100;
    pub const DISCARD: u32 = 0x400;
    pub const NO_DELAY: u32 = 0x800;
}

/// What is taken and changes nothing: there is nothing here that it could tune.
const IGNORED: [&str; 33] = [
    "block_validity",
    "noblock_validity",
    "debug",
    "dioread_lock",
    "dioread_nolock",
    "i_version",
    "init_itable",
    "noinit_itable",
    "inode_readahead_blks",
    "journal_checksum",
    "nojournal_checksum",
    "journal_async_commit",
    "journal_ioprio",
    "lazytime",
    "nolazytime",
    "max_batch_time",
    "min_batch_time",
    "max_dir_size_kb",
    "mb_optimize_scan",
    "mblk_io_submit",
    "nomblk_io_submit",
    "nombcache",
    "no_mbcache",
    "noquota",
    "nouid32",
    "oldalloc",
    "orlov",
    "prefetch_block_bitmaps",
    "no_prefetch_block_bitmaps",
    "reservation",
    "noreservation",
    "stripe",
    "check",
];

impl Options {
    /// What holds if nothing is said: what the superblock has, else Linux's defaults.
    pub fn defaults(raw: &RawSuperBlock) -> Options {
        let bits = raw.default_mount_opts.get();
        let data = match bits & default::MODE {
            // Without a journal the mode means nothing.
            _ if raw.feature_compat.get() & Compatible::HAS_JOURNAL.bits() == 0 => DataMode::Ordered,
            default::MODE_JOURNAL => DataMode::Journal,
            default::MODE_WRITEBACK => DataMode::Writeback,
            _ => DataMode::Ordered,
        };
        let errors = match raw.errors.get() {
            2 => ErrorPolicy::ReadOnly,
            3 => ErrorPolicy::Panic,
            _ => ErrorPolicy::Continue,
        };
        let id = |low: u16, high: u16| u32::from(high) << 16 | u32::from(low);
        Options {
            errors,
            data,
            barrier: bits & default::NO_BARRIER == 0,
            discard: bits & default::DISCARD != 0,
            commit_seconds: 5,
            delayed_allocation: bits & default::NO_DELAY == 0 && data != DataMode::Journal,
            write_replacements: true,
            acl: true,
            user_xattr: true,
            directory_group: bits & default::DIRECTORY_GROUP != 0,
            no_load: false,
            reserved_uid: id(raw.def_resuid.get(), raw.def_resuid_hi.get()),
            reserved_gid: id(raw.def_resgid.get(), raw.def_resgid_hi.get()),
            count_overhead: false,
        }
    }

    /// Changed as `data`, separated by commas, says. Errors: `EINVAL`: unknown, not supported, or a value that is none.
    pub fn parse(mut self, data: &[u8]) -> Result<Options> {
        let text = core::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
        for word in text.split(',').filter(|word| !word.is_empty()) {
            let (name, value) =
                word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
            self.set(name, value).inspect_err(|_| log::error!("ext4: bad mount option \"{word}\""))?;
        }
        if self.data == DataMode::Journal {
            if text.split(',').any(|word| word == "delalloc") {
                log::error!("ext4: data=journal and delalloc do not go together");
                return Err(Errno::EINVAL);
            }
            // What is written is in a transaction at once.
            self.delayed_allocation = false;
        }
        Ok(self)
    }

    fn set(&mut self, name: &str, value: Option<&str>) -> Result<()> {
        match (name, value) {
            ("errors", Some("continue")) => self.errors = ErrorPolicy::Continue,
            ("errors", Some("remount-ro")) => self.errors = ErrorPolicy::ReadOnly,
            ("errors", Some("panic")) => self.errors = ErrorPolicy::Panic,
            ("data", Some("ordered")) => self.data = DataMode::Ordered,
            ("data", Some("writeback")) => self.data = DataMode::Writeback,
            ("data", Some("journal")) => self.data = DataMode::Journal,
            ("commit", Some(value)) => self.commit_seconds = number(value)?,
            ("resuid", Some(value)) => self.reserved_uid = number(value)?,
            ("resgid", Some(value)) => self.reserved_gid = number(value)?,
            ("barrier", Some(value)) => self.barrier = number(value)? != 0,
            ("auto_da_alloc", Some(value)) => self.write_replacements = number(value)? != 0,
            ("sb", Some("1")) => {}
            (name, None) => return self.set_flag(name),
            (name, Some(_)) if IGNORED.contains(&name) => {}
            _ => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    fn set_flag(&mut self, name: &str) -> Result<()> {
        let (flag, value) = match name {
            "barrier" => (&mut self.barrier, true),
            "nobarrier" => (&mut self.barrier, false),
            "discard" => (&mut self.discard, true),
            "nodiscard" => (&mut self.discard, false),
            "delalloc" => (&mut self.delayed_allocation, true),
            "nodelalloc" => (&mut self.delayed_allocation, false),
            "auto_da_alloc" => (&mut self.write_replacements, true),
            "noauto_da_alloc" => (&mut self.write_replacements, false),
            "acl" => (&mut self.acl, true),
            "noacl" => (&mut self.acl, false),
            "user_xattr" => (&mut self.user_xattr, true),
            "nouser_xattr" => (&mut self.user_xattr, false),
            "grpid" | "bsdgroups" => (&mut self.directory_group, true),
            "nogrpid" | "sysvgroups" => (&mut self.directory_group, false),
            "noload" | "norecovery" => (&mut self.no_load, true),
            "minixdf" => (&mut self.count_overhead, true),
            "bsddf" => (&mut self.count_overhead, false),
            name if IGNORED.contains(&name) => return Ok(()),
            _ => return Err(Errno::EINVAL),
        };
        *flag = value;
        Ok(())
    }

    /// What differs from `usual`, each preceded by a comma.
    pub fn show(&self, usual: &Options, out: &mut dyn Write) -> fmt::Result {
        let flags = [
            (self.barrier, usual.barrier, "barrier", "nobarrier"),
            (self.discard, usual.discard, "discard", "nodiscard"),
            (self.delayed_allocation, usual.delayed_allocation, "delalloc", "nodelalloc"),
            (self.write_replacements, usual.write_replacements, "auto_da_alloc", "noauto_da_alloc"),
            (self.acl, usual.acl, "acl", "noacl"),
            (self.user_xattr, usual.user_xattr, "user_xattr", "nouser_xattr"),
            (self.directory_group, usual.directory_group, "grpid", "nogrpid"),
            (self.no_load, usual.no_load, "norecovery", ""),
            (self.count_overhead, usual.count_overhead, "minixdf", "bsddf"),
        ];
        if self.errors != usual.errors {
            let name = match self.errors {
                ErrorPolicy::Continue => "continue",
                ErrorPolicy::ReadOnly => "remount-ro",
                ErrorPolicy::Panic => "panic",
            };
            write!(out, ",errors={name}")?;
        }
        for (value, usual, on, off) in flags {
            if value != usual {
                write!(out, ",{}", if value { on } else { off })?;
            }
        }
        if self.commit_seconds != usual.commit_seconds {
            write!(out, ",commit={}", self.commit_seconds)?;
        }
        if self.reserved_uid != usual.reserved_uid {
            write!(out, ",resuid={}", self.reserved_uid)?;
        }
        if self.reserved_gid != usual.reserved_gid {
            write!(out, ",resgid={}", self.reserved_gid)?;
        }
        if self.data != usual.data {
            let name = match self.data {
                DataMode::Ordered => "ordered",
                DataMode::Writeback => "writeback",
                DataMode::Journal => "journal",
            };
            write!(out, ",data={name}")?;
        }
        Ok(())
    }
}

fn number(text: &str) -> Result<u32> {
    text.parse().map_err(|_| Errno::EINVAL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;
    use zerocopy::FromZeros;

    #[test]
    fn what_is_said_is_shown() {
        let usual = Options::defaults(&RawSuperBlock::new_zeroed());
        let text = "errors=remount-ro,nobarrier,discard,nodelalloc,commit=30,resuid=7,stripe=4,noinit_itable";
        let options = usual.parse(text.as_bytes()).unwrap();
        let mut shown = String::new();
        options.show(&usual, &mut shown).unwrap();
        assert_eq!(shown, ",errors=remount-ro,nobarrier,discard,nodelalloc,commit=30,resuid=7");
        assert_eq!(usual.parse(b",,").unwrap(), usual);
        let mut shown = String::new();
        usual.parse(b"data=journal").unwrap().show(&usual, &mut shown).unwrap();
        assert_eq!(shown, ",nodelalloc,data=journal");
        for bad in [
            "data=journal,delalloc",
            "data=all",
            "errors=maybe",
            "usrquota",
            "commit=x",
            "stripes=3",
            "barrier=",
            "\u{e9}",
        ] {
            assert_eq!(usual.parse(bad.as_bytes()), Err(Errno::EINVAL), "{bad}");
        }
    }
}
