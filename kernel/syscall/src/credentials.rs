//! Who the caller is: getuid(2), setuid(2) and their families, getgroups(2), capget(2), capset(2).
//!
//! The rules are pure functions of crate `security`; here they meet registers and the task's credentials, which are
//! replaced whole (readers use the old or the new value, never a mixture).

use crate::decode::Context;
use abi::capability::{
    _LINUX_CAPABILITY_VERSION_1, _LINUX_CAPABILITY_VERSION_2, _LINUX_CAPABILITY_VERSION_3, UserCapData,
    UserCapHeader,
};
use abi::errno::{Errno, Result};
use alloc::vec::Vec;
use mm::user::{UserPtr, UserSlice};
use security::{CapabilitySet, CapsetRequest, Credentials};

/// "Leave this one alone" in the calls that set several ids.
fn optional(id: u32) -> Option<u32> {
    (id != u32::MAX).then_some(id)
}

/// getuid(2).
pub fn getuid(context: &mut Context<'_>) -> Result<usize> {
    let credentials = context.credentials();
    Ok(credentials.user_namespace.from_kuid_munged(credentials.ruid) as usize)
}

/// geteuid(2).
pub fn geteuid(context: &mut Context<'_>) -> Result<usize> {
    let credentials = context.credentials();
    Ok(credentials.user_namespace.from_kuid_munged(credentials.euid) as usize)
}

/// getgid(2).
pub fn getgid(context: &mut Context<'_>) -> Result<usize> {
    let credentials = context.credentials();
    Ok(credentials.user_namespace.from_kgid_munged(credentials.rgid) as usize)
}

/// getegid(2).
pub fn getegid(context: &mut Context<'_>) -> Result<usize> {
    let credentials = context.credentials();
    Ok(credentials.user_namespace.from_kgid_munged(credentials.egid) as usize)
}

/// getresuid(2). Errors: `EFAULT`.
pub fn getresuid(
    context: &mut Context<'_>,
    real: UserPtr<u32>,
    effective: UserPtr<u32>,
    saved: UserPtr<u32>,
) -> Result<usize> {
    let credentials = context.credentials();
    let namespace = &credentials.user_namespace;
    real.write(&namespace.from_kuid_munged(credentials.ruid))?;
    effective.write(&namespace.from_kuid_munged(credentials.euid))?;
    saved.write(&namespace.from_kuid_munged(credentials.suid))?;
    Ok(0)
}

/// getresgid(2). Errors: `EFAULT`.
pub fn getresgid(
    context: &mut Context<'_>,
    real: UserPtr<u32>,
    effective: UserPtr<u32>,
    saved: UserPtr<u32>,
) -> Result<usize> {
    let credentials = context.credentials();
    let namespace = &credentials.user_namespace;
    real.write(&namespace.from_kgid_munged(credentials.rgid))?;
    effective.write(&namespace.from_kgid_munged(credentials.egid))?;
    saved.write(&namespace.from_kgid_munged(credentials.sgid))?;
    Ok(0)
}

/// Replaces the caller's credentials by what `change` makes of them.
fn change(context: &Context<'_>, change: impl FnOnce(&Credentials) -> Result<Credentials>) -> Result<usize> {
    context.task.change_credentials(change).map(|()| 0)
}

/// setuid(2). Errors: `EINVAL`, `EPERM`.
pub fn setuid(context: &mut Context<'_>, uid: u32) -> Result<usize> {
    change(context, |old| security::set_uid(old, uid))
}

/// setgid(2). Errors: `EINVAL`, `EPERM`.
pub fn setgid(context: &mut Context<'_>, gid: u32) -> Result<usize> {
    change(context, |old| security::set_gid(old, gid))
}

/// setreuid(2). Errors: `EINVAL`, `EPERM`.
pub fn setreuid(context: &mut Context<'_>, real: u32, effective: u32) -> Result<usize> {
    change(context, |old| security::set_real_effective_uid(old, optional(real), optional(effective)))
}

/// setregid(2). Errors: `EINVAL`, `EPERM`.
pub fn setregid(context: &mut Context<'_>, real: u32, effective: u32) -> Result<usize> {
    change(context, |old| security::set_real_effective_gid(old, optional(real), optional(effective)))
}

/// setresuid(2). Errors: `EINVAL`, `EPERM`.
pub fn setresuid(context: &mut Context<'_>, real: u32, effective: u32, saved: u32) -> Result<usize> {
    change(context, |old| security::set_res_uid(old, optional(real), optional(effective), optional(saved)))
}

/// setresgid(2). Errors: `EINVAL`, `EPERM`.
pub fn setresgid(context: &mut Context<'_>, real: u32, effective: u32, saved: u32) -> Result<usize> {
    change(context, |old| security::set_res_gid(old, optional(real), optional(effective), optional(saved)))
}

/// setfsuid(2): the previous id, whatever came of it.
pub fn setfsuid(context: &mut Context<'_>, uid: u32) -> Result<usize> {
    let old = context.credentials();
    if let Some(new) = security::set_fs_uid(&old, uid) {
        context.task.change_credentials(|_| Ok(new))?;
    }
    Ok(old.user_namespace.from_kuid_munged(old.fsuid) as usize)
}

/// setfsgid(2): the previous id, whatever came of it.
pub fn setfsgid(context: &mut Context<'_>, gid: u32) -> Result<usize> {
    let old = context.credentials();
    if let Some(new) = security::set_fs_gid(&old, gid) {
        context.task.change_credentials(|_| Ok(new))?;
    }
    Ok(old.user_namespace.from_kgid_munged(old.fsgid) as usize)
}

/// getgroups(2). Errors: `EINVAL` if there are more than `size`, `EFAULT`.
pub fn getgroups(context: &mut Context<'_>, size: i32, list: UserPtr<u32>) -> Result<usize> {
    let size = usize::try_from(size).map_err(|_| Errno::EINVAL)?;
    let credentials = context.credentials();
    let count = credentials.groups.len();
    if size == 0 {
        return Ok(count);
    }
    if count > size {
        return Err(Errno::EINVAL);
    }
    for (index, gid) in credentials.groups.iter().enumerate() {
        list.element(index).write(&credentials.user_namespace.from_kgid_munged(*gid))?;
    }
    Ok(count)
}

/// setgroups(2). Errors: `EINVAL`, `EPERM`, `EFAULT`, `ENOMEM`.
pub fn setgroups(context: &mut Context<'_>, size: u32, list: UserPtr<u32>) -> Result<usize> {
    if !context.credentials().has(security::Capability::Setgid) {
        return Err(Errno::EPERM);
    }
    let size = size as usize;
    if size > security::NGROUPS_MAX {
        return Err(Errno::EINVAL);
    }
    let groups: Vec<u32> = UserSlice::new(list, size).read_to_vec()?;
    change(context, |old| security::set_groups(old, &groups))
}

/// How many 32-bit words per set the header's version has. An unknown version is answered by the newest, in the header.
///
/// Errors: `EINVAL` for an unknown version, `EFAULT`.
fn words_of(header: UserPtr<UserCapHeader>) -> Result<(UserCapHeader, usize)> {
    let mut value = header.read()?;
    match value.version {
        _LINUX_CAPABILITY_VERSION_1 => Ok((value, 1)),
        _LINUX_CAPABILITY_VERSION_2 | _LINUX_CAPABILITY_VERSION_3 => Ok((value, 2)),
        _ => {
            value.version = _LINUX_CAPABILITY_VERSION_3;
            header.write(&value)?;
            Err(Errno::EINVAL)
        }
    }
}

/// capget(2). Errors: `EINVAL`, `ESRCH`, `EFAULT`.
pub fn capget(
    context: &mut Context<'_>,
    header: UserPtr<UserCapHeader>,
    data: UserPtr<UserCapData>,
) -> Result<usize> {
    let (value, words) = match words_of(header) {
        Err(Errno::EINVAL) if data.is_null() => return Ok(0),
        other => other?,
    };
    if value.pid < 0 {
        return Err(Errno::EINVAL);
    }
    let credentials = match value.pid {
        0 => context.credentials(),
        pid => context.find_task(pid)?.credentials(),
    };
    if data.is_null() {
        return Ok(0);
    }
    for word in 0..words {
        let part = |set: CapabilitySet| (set.bits() >> (32 * word)) as u32;
        data.element(word).write(&UserCapData {
            effective: part(credentials.effective),
            permitted: part(credentials.permitted),
            inheritable: part(credentials.inheritable),
        })?;
    }
    Ok(0)
}

/// capset(2), for the calling thread only. Errors: `EINVAL`, `EPERM`, `EFAULT`.
pub fn capset(
    context: &mut Context<'_>,
    header: UserPtr<UserCapHeader>,
    data: UserPtr<UserCapData>,
) -> Result<usize> {
    let (value, words) = words_of(header)?;
    if value.pid != 0 && value.pid != context.task.tid_for_user() {
        return Err(Errno::EPERM);
    }
    let mut sets = [0_u64; 3];
    for word in 0..words {
        let part = data.element(word).read()?;
        for (set, bits) in sets.iter_mut().zip([part.effective, part.permitted, part.inheritable]) {
            *set |= u64::from(bits) << (32 * word);
        }
    }
    let [effective, permitted, inheritable] = sets.map(CapabilitySet::from_bits);
    change(context, |old| {
        security::set_capabilities(old, CapsetRequest { effective, permitted, inheritable })
    })
}
