//! prctl(2) and arch_prctl(2): one thread's or process's odd settings.

use crate::decode::Context;
use abi::errno::{Errno, Result};
use abi::prctl::*;
use machine::user::UserBases;
use mm::user::UserPtr;
use security::{AmbientChange, Capability, SecureBits};

/// prctl(2). Errors: `EINVAL` for an operation there is not; else as the operation says.
pub fn prctl(context: &mut Context<'_>, operation: u32, a: u64, b: u64, c: u64, d: u64) -> Result<usize> {
    let rest_is_zero = b == 0 && c == 0 && d == 0;
    let task = context.task;
    let process = task.process();
    match operation {
        PR_SET_NAME => set_name(context, UserPtr::new(a as usize)),
        PR_GET_NAME => UserPtr::new(a as usize).write(&task.thread().name()).map(|()| 0),
        PR_SET_PDEATHSIG => {
            task.set_parent_death_signal(i32::try_from(a).map_err(|_| Errno::EINVAL)?).map(|()| 0)
        }
        PR_GET_PDEATHSIG => UserPtr::new(a as usize).write(&task.parent_death_signal()).map(|()| 0),
        PR_GET_DUMPABLE => Ok(process.dumpable() as usize),
        PR_SET_DUMPABLE if a <= 1 => {
            process.set_dumpable(a as u8);
            Ok(0)
        }
        PR_SET_CHILD_SUBREAPER => {
            process.set_child_subreaper(a != 0);
            Ok(0)
        }
        PR_GET_CHILD_SUBREAPER => {
            UserPtr::new(a as usize).write(&i32::from(process.is_child_subreaper())).map(|()| 0)
        }
        PR_SET_NO_NEW_PRIVS if a == 1 && rest_is_zero => {
            task.change_credentials(|old| Ok(security::set_no_new_privileges(old))).map(|()| 0)
        }
        PR_GET_NO_NEW_PRIVS if a == 0 && rest_is_zero => {
            Ok(usize::from(task.credentials().no_new_privileges))
        }
        PR_SET_TIMERSLACK => {
            task.set_timer_slack_ns(a);
            Ok(0)
        }
        PR_GET_TIMERSLACK => Ok(task.timer_slack_ns() as usize),
        PR_GET_TIMING => Ok(0),
        PR_SET_TIMING if a == 0 => Ok(0),
        // No thread is ever in a mode of seccomp(2).
        PR_GET_SECCOMP => Ok(0),
        PR_GET_TSC => UserPtr::new(a as usize).write(&PR_TSC_ENABLE).map(|()| 0),
        PR_SET_TSC if a == u64::from(PR_TSC_ENABLE) => Ok(0),
        PR_GET_TID_ADDRESS => UserPtr::new(a as usize).write(&task.clear_child_tid()).map(|()| 0),
        _ => memory(context, operation, [a, b, c, d]),
    }
}

/// The operations on memory. Errors: `EINVAL`, `EPERM`, `EFAULT`, `ENOMEM`.
fn memory(context: &mut Context<'_>, operation: u32, arguments: [u64; 4]) -> Result<usize> {
    let [a, b, c, d] = arguments;
    let task = context.task;
    let process = task.process();
    match operation {
        PR_SET_THP_DISABLE if b == 0 && c == 0 && d == 0 => {
            process.set_huge_pages_disabled(a != 0);
            Ok(0)
        }
        PR_GET_THP_DISABLE if arguments == [0; 4] => Ok(usize::from(process.huge_pages_disabled())),
        PR_MCE_KILL if c == 0 && d == 0 => {
            let policy = match (a as u32, b as u32) {
                (PR_MCE_KILL_CLEAR, 0) => PR_MCE_KILL_DEFAULT,
                (PR_MCE_KILL_SET, policy @ (PR_MCE_KILL_EARLY | PR_MCE_KILL_LATE | PR_MCE_KILL_DEFAULT)) => {
                    policy
                }
                _ => return Err(Errno::EINVAL),
            };
            task.set_memory_failure_policy(policy);
            Ok(0)
        }
        PR_MCE_KILL_GET if arguments == [0; 4] => Ok(task.memory_failure_policy() as usize),
        PR_GET_AUXV if c == 0 && d == 0 => {
            let vector = context.address_space()?.program_info().auxv.clone();
            let part = vector.get(..vector.len().min(b as usize)).unwrap_or_default();
            machine::user::write_bytes(a as usize, part)?;
            Ok(vector.len())
        }
        PR_SET_MM => set_program_part(context, a as u32, b, c, d),
        _ => capabilities(context, operation, a, b),
    }
}

/// `PR_SET_MM`: tells where a part of the program is, for `/proc` to show. Errors: `EINVAL`, `EPERM`, `EFAULT`.
fn set_program_part(context: &Context<'_>, part: u32, address: u64, c: u64, d: u64) -> Result<usize> {
    let with_length = matches!(part, PR_SET_MM_AUXV | PR_SET_MM_MAP | PR_SET_MM_MAP_SIZE);
    if d != 0 || c != 0 && !with_length {
        return Err(Errno::EINVAL);
    }
    if part == PR_SET_MM_MAP_SIZE {
        let size = size_of::<PrctlMmMap>() as u32;
        return UserPtr::new(address as usize).write(&size).map(|()| 0);
    }
    context.require(Capability::SysResource)?;
    let place = address as usize;
    if !(mm::MMAP_MINIMUM_ADDRESS..machine::USER_END).contains(&place) {
        return Err(Errno::EINVAL);
    }
    let space = context.address_space()?;
    let mut info = (*space.program_info()).clone();
    let field = match part {
        PR_SET_MM_START_CODE => &mut info.start_code,
        PR_SET_MM_END_CODE => &mut info.end_code,
        PR_SET_MM_START_DATA => &mut info.start_data,
        PR_SET_MM_END_DATA => &mut info.end_data,
        PR_SET_MM_START_STACK => &mut info.start_stack,
        PR_SET_MM_ARG_START => &mut info.arg_start,
        PR_SET_MM_ARG_END => &mut info.arg_end,
        PR_SET_MM_ENV_START => &mut info.env_start,
        PR_SET_MM_ENV_END => &mut info.env_end,
        _ => return Err(Errno::EINVAL),
    };
    *field = place;
    if info.start_code >= info.end_code || info.start_data > info.end_data {
        return Err(Errno::EINVAL);
    }
    if info.arg_start > info.arg_end || info.env_start > info.env_end || space.find_vma(place).is_none() {
        return Err(Errno::EINVAL);
    }
    space.set_program_info(info);
    Ok(0)
}

/// The operations on capabilities and ids. Errors: `EINVAL`, `EPERM`.
fn capabilities(context: &mut Context<'_>, operation: u32, a: u64, b: u64) -> Result<usize> {
    let task = context.task;
    let numbered = |number| Capability::from_number(number).ok_or(Errno::EINVAL);
    match operation {
        PR_CAPBSET_READ => Ok(usize::from(task.credentials().bounding.contains(numbered(a)?))),
        PR_CAPBSET_DROP => {
            let capability = numbered(a)?;
            task.change_credentials(|old| security::drop_from_bounding(old, capability)).map(|()| 0)
        }
        PR_GET_SECUREBITS => Ok(task.credentials().secure_bits.bits() as usize),
        PR_SET_SECUREBITS => task.change_credentials(|old| security::set_secure_bits(old, a)).map(|()| 0),
        PR_GET_KEEPCAPS => Ok(usize::from(task.credentials().secure_bits.contains(SecureBits::KEEP_CAPS))),
        PR_SET_KEEPCAPS if a <= 1 => {
            task.change_credentials(|old| security::set_keep_capabilities(old, a == 1)).map(|()| 0)
        }
        PR_CAP_AMBIENT => match a as u32 {
            PR_CAP_AMBIENT_IS_SET => {
                Ok(usize::from(security::ambient_contains(&task.credentials(), numbered(b)?)))
            }
            PR_CAP_AMBIENT_RAISE => ambient(context, AmbientChange::Raise(numbered(b)?)),
            PR_CAP_AMBIENT_LOWER => ambient(context, AmbientChange::Lower(numbered(b)?)),
            PR_CAP_AMBIENT_CLEAR_ALL if b == 0 => ambient(context, AmbientChange::ClearAll),
            _ => Err(Errno::EINVAL),
        },
        _ => Err(Errno::EINVAL),
    }
}

fn ambient(context: &Context<'_>, change: AmbientChange) -> Result<usize> {
    context.task.change_credentials(|old| security::change_ambient(old, change)).map(|()| 0)
}

/// `PR_SET_NAME`: up to 15 bytes of a string. Errors: `EFAULT`.
fn set_name(context: &Context<'_>, name: UserPtr<u8>) -> Result<usize> {
    let mut bytes = [0_u8; 15];
    let mut len = 0;
    for (index, place) in bytes.iter_mut().enumerate() {
        *place = name.element(index).read()?;
        if *place == 0 {
            break;
        }
        len = index + 1;
    }
    context.task.thread().set_name(bytes.get(..len).unwrap_or_default());
    Ok(0)
}

/// arch_prctl(2): the segment bases, and what the processor's extras are. Errors: `EINVAL`, `EPERM` for an address programs
/// cannot have, `EFAULT`, `ENODEV` for CPUID that cannot be forbidden, `EOPNOTSUPP` without shadow stacks.
pub fn arch_prctl(context: &mut Context<'_>, operation: u32, address: u64) -> Result<usize> {
    let kernel = context.task.thread().kernel().ok_or(Errno::ESRCH)?;
    let set_bases = |bases| kernel.set_bases(bases).map(|()| 0).map_err(|_| Errno::EPERM);
    match operation {
        ARCH_SET_FS => set_bases(UserBases { fs: address, ..kernel.bases() }),
        ARCH_SET_GS => set_bases(UserBases { gs: address, ..kernel.bases() }),
        ARCH_GET_FS => UserPtr::new(address as usize).write(&kernel.bases().fs).map(|()| 0),
        ARCH_GET_GS => UserPtr::new(address as usize).write(&kernel.bases().gs).map(|()| 0),
        ARCH_GET_CPUID => Ok(1),
        ARCH_SET_CPUID => Err(Errno::ENODEV),
        // Every component there is may be used by everybody.
        ARCH_GET_XCOMP_SUPP | ARCH_GET_XCOMP_PERM => {
            UserPtr::new(address as usize).write(&machine::thread::state_components()).map(|()| 0)
        }
        ARCH_SHSTK_STATUS => UserPtr::new(address as usize).write(&0_u64).map(|()| 0),
        ARCH_SHSTK_ENABLE | ARCH_SHSTK_DISABLE => Err(Errno::EOPNOTSUPP),
        _ => Err(Errno::EINVAL),
    }
}
