//! A machine tells which handlers it runs; what changed goes into the order, and what waited for it becomes ready.

use super::dependencies::held;
use super::{DUE_MAX, OrderDraft, ready, routing, subject_of, working_machine};
use crate::FleetState;
use crate::queue::{Dependency, Handler, JobState, Phase, Refusal};
use ledger_core::kinds::{HandlerDeclared, HandlerWithdrawn, HeldReason, ParkedReason, ReadyReason};
use ledger_core::limits::{LABELS_MAX, NAME_BYTES_MAX};
use ledger_core::{Draft, MachineId};

/// Handlers that one machine may declare.
pub const HANDLERS_MAX: usize = 256;

/// The drafts that bring the order from what a machine declared before to `declared`, and jobs that were parked for want
/// of a handler into the queue. Nothing when nothing changed.
///
/// # Errors
/// [`Refusal::MachineUnknown`], [`Refusal::MachineRetired`], or [`Refusal::Declaration`] naming the one that is wrong.
pub fn handler_declared(
    state: &FleetState,
    machine: &MachineId,
    declared: &[HandlerDeclared],
) -> Result<Vec<OrderDraft>, Refusal> {
    working_machine(state, machine)?;
    check(machine, declared)?;
    let mut drafts = Vec::new();
    let mut changed = Vec::new();
    for new in declared {
        let row = Handler {
            class: new.class,
            labels: new.labels.clone(),
            slots: new.slots,
        };
        if state.handler(machine, &new.handler) != Some(&row) {
            drafts.push(Draft::of(new, subject_of("handler", &new.handler)));
            changed.push(new);
        }
    }
    for ((of, handler), _) in state.handlers().filter(|((of, _), _)| of == machine) {
        if !declared.iter().any(|new| new.handler == *handler) {
            let withdrawn = HandlerWithdrawn {
                machine: of.clone(),
                handler: handler.clone(),
            };
            drafts.push(Draft::of(&withdrawn, subject_of("handler", handler)));
        }
    }
    if changed.is_empty() {
        return Ok(drafts);
    }
    // The ticker releases what is beyond the bound.
    for job in state.jobs_in(Phase::Parked).take(DUE_MAX) {
        let served = changed
            .iter()
            .any(|new| new.handler == job.spec.handler && routing::fits(&job.spec, machine, &new.labels));
        // What has a time of its own is released by the ticker when that has come.
        if served
            && job.spec.not_before.is_none()
            && job.state == JobState::Parked(ParkedReason::UnknownHandler)
        {
            let waits = state.queue().dependencies(&job.spec) != Dependency::Met;
            drafts.push(if waits {
                held(&job.id, HeldReason::Dependencies, "")
            } else {
                ready(&job.id, ReadyReason::HandlerDeclared, Some(job.request))
            });
        }
    }
    Ok(drafts)
}

fn check(machine: &MachineId, declared: &[HandlerDeclared]) -> Result<(), Refusal> {
    let name =
        |text: &str| !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control);
    let wrong = |handler: &str, why: String| {
        Err(Refusal::Declaration {
            handler: handler.to_owned(),
            why,
        })
    };
    if declared.len() > HANDLERS_MAX {
        return wrong(
            "",
            format!(
                "at most {HANDLERS_MAX} handlers are expected, {} found",
                declared.len()
            ),
        );
    }
    for (i, new) in declared.iter().enumerate() {
        if !name(&new.handler) {
            return wrong(
                &new.handler,
                format!("a name of 1 to {NAME_BYTES_MAX} bytes is expected"),
            );
        }
        if new.machine != *machine {
            return wrong(
                &new.handler,
                format!("it names machine {}, not {machine}", new.machine),
            );
        }
        if new.labels.len() > LABELS_MAX || !new.labels.iter().all(|label| name(label)) {
            return wrong(
                &new.handler,
                format!("at most {LABELS_MAX} labels of 1 to {NAME_BYTES_MAX} bytes"),
            );
        }
        if new.slots == 0 {
            return wrong(&new.handler, "at least one slot is expected".to_owned());
        }
        if declared[..i].iter().any(|before| before.handler == new.handler) {
            return wrong(&new.handler, "it is declared twice".to_owned());
        }
    }
    Ok(())
}
