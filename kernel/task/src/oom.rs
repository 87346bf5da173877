//! The candidates of the out-of-memory killer, and the kill itself.
//!
//! The memory manager decides by badness; [`Victims`] tells it who there is and sends SIGKILL. Called without locks of this crate.

use crate::pid;
use crate::process::Process;
use crate::signal::send::to_process;
use crate::signal::{Signal, SignalInfo};
use crate::task::with_current;
use mm::oom::{OomCandidate, OomReport, OomState, OomVictims};

/// The processes, for the memory manager.
pub struct Victims;

/// oom_score_adj that exempts a process.
const NEVER: i32 = -1000;

fn state_of(process: &Process) -> OomState {
    if process.is_init() || process.oom_score_adjustment() <= NEVER {
        OomState::Unkillable
    } else if process.group_exit().is_some() {
        OomState::Dying
    } else {
        OomState::Killable
    }
}

fn candidate(process: &Process) -> Option<OomCandidate> {
    Some(OomCandidate {
        id: u64::from(process.number()),
        address_space: process.space()?,
        score_adjust: process.oom_score_adjustment(),
        state: state_of(process),
    })
}

impl OomVictims for Victims {
    fn for_each(&self, visit: &mut dyn FnMut(OomCandidate)) {
        let mut from = 1;
        while let Some((number, process)) = pid::root().next_process(from) {
            from = number + 1;
            if let Some(candidate) = candidate(&process) {
                visit(candidate);
            }
        }
    }

    fn kill(&self, id: u64, report: &OomReport) {
        let Some(process) = i32::try_from(id).ok().and_then(|id| pid::root().find_process(id)) else {
            return;
        };
        let name = process.name();
        let length = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
        let name = core::str::from_utf8(name.get(..length).unwrap_or(&[])).unwrap_or("?");
        log::error!("Out of memory: Killed process {id} ({name}) {report:?}");
        let _ = to_process(&process, SignalInfo::from_kernel(Signal::SIGKILL));
    }

    fn current(&self) -> Option<OomCandidate> {
        with_current(|task| candidate(task.process())).flatten()
    }

    fn current_is_dying(&self) -> bool {
        with_current(|task| task.process().group_exit().is_some()).unwrap_or(false)
    }
}
