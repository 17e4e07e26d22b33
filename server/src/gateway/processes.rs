//! Which processes of a machine may push: a machine that takes its own tail back bars those that ran before.
//!
//! Memory beside the state. A push of a process that is over may arrive late, after its machine asked what is here of its logs;
//! taken in then it would lengthen a log behind the head that the machine is about to name as its end. Every process says hello
//! before it pushes, so the earlier ones are known. After a restart of the gateway none of their requests is taken any more,
//! since a request is signed for one run of the gateway.

use ledger::core::MachineId;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Processes of one machine that are remembered: one that is older has long given up.
const REMEMBERED_MAX: usize = 64;

/// A process of a machine, by the random number that it drew when it began.
pub(crate) type Process = [u8; 16];

#[derive(Default)]
struct Known {
    heard: VecDeque<Process>,
    barred: VecDeque<Process>,
    // Barred, and heard since: two run at once.
    alive: VecDeque<Process>,
}

/// The processes of all machines that said hello.
#[derive(Default)]
pub(crate) struct Processes(Mutex<BTreeMap<MachineId, Known>>);

impl Processes {
    fn known(&self) -> MutexGuard<'_, BTreeMap<MachineId, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process says hello.
    pub(crate) fn hear(&self, machine: &MachineId, process: Process) {
        let mut known = self.known();
        let known = known.entry(machine.clone()).or_default();
        if known.barred.contains(&process) {
            if !known.alive.contains(&process) {
                push(&mut known.alive, process);
            }
        } else if !known.heard.contains(&process) {
            push(&mut known.heard, process);
        }
    }

    /// A process takes its machine's tail back: all that were heard before push nothing more.
    pub(crate) fn takes_back(&self, machine: &MachineId, process: Process) {
        let mut known = self.known();
        let known = known.entry(machine.clone()).or_default();
        let before: Vec<_> = known.heard.drain(..).filter(|other| *other != process).collect();
        for other in before {
            push(&mut known.barred, other);
        }
        push(&mut known.heard, process);
    }

    /// Whether what this process pushed comes too late.
    pub(crate) fn is_barred(&self, machine: &MachineId, process: &Process) -> bool {
        let known = self.known();
        known
            .get(machine)
            .is_some_and(|known| known.barred.contains(process))
    }

    /// Whether a push that comes too late tells nothing: it was under way while its machine died, and was put back.
    pub(crate) fn is_late(&self, machine: &MachineId, process: &Process) -> bool {
        let known = self.known();
        known
            .get(machine)
            .is_some_and(|known| known.barred.contains(process) && !known.alive.contains(process))
    }
}

fn push(kept: &mut VecDeque<Process>, process: Process) {
    if kept.len() >= REMEMBERED_MAX {
        kept.pop_front();
    }
    kept.push_back(process);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_ran_before_a_tail_was_taken_back_pushes_no_more_and_whoever_comes_after_does() {
        let (machine, other) = (
            MachineId::new("studio").expect("a name"),
            MachineId::new("mini").expect("a name"),
        );
        let processes = Processes::default();
        processes.hear(&machine, [1; 16]);
        processes.hear(&other, [1; 16]);
        processes.takes_back(&machine, [2; 16]);
        assert!(processes.is_late(&machine, &[1; 16]));
        // A hello of it after that lets it push as little; only it is known to run beside the other then.
        processes.hear(&machine, [1; 16]);
        assert!(!processes.is_late(&machine, &[1; 16]));
        processes.hear(&machine, [3; 16]);
        assert!(processes.is_barred(&machine, &[1; 16]));
        for (of, process) in [(&machine, [2; 16]), (&machine, [3; 16]), (&other, [1; 16])] {
            assert!(!processes.is_barred(of, &process));
        }
        for n in 4..=255 {
            processes.takes_back(&machine, [n; 16]);
        }
        assert!(!processes.is_barred(&machine, &[255; 16]) && processes.is_barred(&machine, &[254; 16]));
    }
}
