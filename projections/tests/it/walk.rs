//! The fold does in every state what the table says of every event, and counts what must never come.

use crate::harness::{MINUTE, World, machine, spec};
use ledger_core::kinds::*;
use ledger_core::{ContentDigest, Detail, Draft, LogId, ReceiptId, SealDigest};
use ledger_projections::queue::decide;
use ledger_projections::queue::table::{Event, Outcome, Phase, outcome};

/// A fleet with one job in a state; claimed before, where the state permits it.
fn world_in(phase: Phase) -> (World, JobId, Option<Fence>) {
    let mut world = World::studio();
    let absent = JobId(ReceiptId([7; 16]));
    match phase {
        Phase::Absent => return (world, absent, None),
        Phase::Scheduled => {
            let mut wanted = spec("render");
            wanted.not_before = Some(world.now + MINUTE);
            let job = world.submit(wanted);
            return (world, job, None);
        }
        Phase::Accepted => {
            let operator = world.nodes["gateway"].actor.clone();
            let said = Draft::of(&RequestReceived { spec: spec("render") }, absent.subject());
            let order = world.order;
            let request = world.seal(order, said, &operator);
            let request = world.take(request);
            let drafts = decide::accept_request(&world.state, &request, world.now, &world.policy).unwrap();
            world.decide(drafts[..1].to_vec());
            return (world, JobId::of_request(&operator.public(), &request.id()), None);
        }
        _ => {}
    }
    let job = world.submit(spec("render"));
    let (fence, _) = world.must_claim("studio", "render");
    let say = |world: &mut World, event| world.decide(vec![draft(event, job, fence).unwrap()]);
    match phase {
        Phase::Leased => vec![],
        Phase::Suspect => say(&mut world, Event::LeaseExpired),
        Phase::Ready => say(&mut world, Event::Requeued),
        Phase::Backoff => say(&mut world, Event::AttemptFailed),
        Phase::Parked => say(&mut world, Event::Parked),
        Phase::Succeeded => say(&mut world, Event::Succeeded),
        Phase::Cancelled => say(&mut world, Event::Cancelled),
        Phase::Expired => say(&mut world, Event::Expired),
        Phase::Held => {
            say(&mut world, Event::Requeued);
            say(&mut world, Event::Held)
        }
        Phase::Discarded => {
            say(&mut world, Event::Parked);
            say(&mut world, Event::Discarded)
        }
        Phase::Failed => {
            say(&mut world, Event::AttemptFailed);
            say(&mut world, Event::Failed)
        }
        other => panic!("{other} is made above"),
    };
    (world, job, Some(fence))
}

fn of<D: Detail>(job: JobId, detail: &D) -> Option<Draft> {
    Some(Draft::of(detail, job.subject()))
}

/// What the order says for an event; nothing for events that have no kind yet.
fn draft(event: Event, job: JobId, fence: Fence) -> Option<Draft> {
    let evidence = Evidence {
        log: LogId([1; 32]),
        seq: 1,
        seal: SealDigest([2; 32]),
    };
    let (costs, outputs) = (Costs::default(), Outputs::default());
    match event {
        // A job is accepted once, and giving a claim back is a `job.requeued`.
        Event::Yielded | Event::Accepted => None,
        Event::Held => of(
            job,
            &JobHeld {
                job,
                reason: HeldReason::ByHand,
                note: String::new(),
            },
        ),
        Event::Released => of(
            job,
            &JobReleased {
                job,
                note: String::new(),
            },
        ),
        Event::Discarded => of(
            job,
            &JobDiscarded {
                job,
                reason: DiscardReason::ByHand,
                retried_as: None,
                note: String::new(),
            },
        ),
        Event::Ready => of(
            job,
            &JobReady {
                job,
                reason: ReadyReason::Released,
            },
        ),
        Event::Claimed => of(
            job,
            &JobClaimed {
                job,
                claim: [99; 16],
                machine: machine("mini"),
                incarnation: 1,
                class: Class::Heavy,
                attempt: 1,
                term_ms: 1,
                progress: None,
            },
        ),
        Event::Started => of(job, &JobStarted { job, fence, evidence }),
        Event::Checkpointed => of(job, &JobCheckpointed { job, fence, evidence }),
        Event::LeaseExpired => of(
            job,
            &JobLeaseExpired {
                job,
                fence,
                failover_at: None,
            },
        ),
        Event::Resumed => of(job, &JobResumed { job, fence }),
        Event::Requeued => of(
            job,
            &JobRequeued {
                job,
                fence,
                reason: RequeueReason::NeverStarted,
                evidence: None,
            },
        ),
        Event::FailedOver => of(
            job,
            &JobFailedOver {
                job,
                fence,
                excluded: machine("studio"),
            },
        ),
        Event::AttemptFailed => of(
            job,
            &JobAttemptFailed {
                job,
                fence,
                attempt: 1,
                error: ErrorClass::Signal,
                permanent: false,
                retry_at: None,
                costs,
                evidence,
            },
        ),
        Event::Succeeded => of(
            job,
            &JobSucceeded {
                job,
                fence,
                machine: machine("studio"),
                verdict: SuccessVerdict::OnTime,
                result: ContentDigest([3; 32]),
                outputs,
                costs,
                evidence,
            },
        ),
        Event::Failed => of(
            job,
            &JobFailed {
                job,
                fence: Some(fence),
                error: ErrorClass::Signal,
                evidence: None,
            },
        ),
        Event::CancelAsked => of(
            job,
            &JobCancelAsked {
                job,
                force: false,
                reason: String::new(),
            },
        ),
        Event::Cancelled => of(
            job,
            &JobCancelled {
                job,
                fence: None,
                evidence: None,
            },
        ),
        Event::Expired => of(job, &JobExpired { job, fence: None }),
        Event::Parked => of(
            job,
            &JobParked {
                job,
                reason: ParkedReason::LossesUsedUp,
                fence: Some(fence),
            },
        ),
        Event::ResultConflict => of(
            job,
            &JobResultConflict {
                job,
                fence,
                outputs,
                evidence,
            },
        ),
        Event::LateResult => of(
            job,
            &JobLateResult {
                job,
                fence,
                verdict: LateVerdict::Stale,
                evidence,
            },
        ),
    }
}

#[test]
fn the_fold_does_in_every_cell_what_the_table_says() {
    let stranger = Fence {
        epoch: 1,
        seq: 999,
        digest: [9; 16],
    };
    let mut cells = 0;
    for phase in Phase::ALL {
        for event in Event::ALL {
            let (mut world, job, fence) = world_in(phase);
            let Some(draft) = draft(event, job, fence.unwrap_or(stranger)) else {
                continue;
            };
            let before = world.state.job(&job).cloned();
            assert_eq!(before.as_ref().map_or(Phase::Absent, |job| job.phase()), phase);
            let inert = world.inert();
            world.decide(vec![draft]);
            let after = world.state.job(&job).cloned();
            let counted = world.inert() - inert;
            // A success without any claim names one that was never given.
            let nameless = fence.is_none() && event == Event::Succeeded;
            match outcome(phase, event) {
                Outcome::To(to) if !nameless => {
                    assert_eq!((after.unwrap().phase(), counted), (to, 0), "{phase} {event:?}");
                }
                Outcome::Stay => {
                    assert_eq!((after.unwrap().phase(), counted), (phase, 0), "{phase} {event:?}");
                }
                Outcome::Note => assert_eq!((after, counted), (before, 0), "{phase} {event:?}"),
                Outcome::Never | Outcome::To(_) => {
                    assert_eq!((after, counted), (before, 1), "{phase} {event:?}");
                }
            }
            cells += 1;
        }
    }
    assert_eq!(
        cells,
        14 * 20,
        "14 states, 20 events that have a kind of their own and may come twice"
    );
}

#[test]
fn an_event_under_a_claim_that_is_not_in_force_changes_nothing() {
    let events = [
        Event::Started,
        Event::Checkpointed,
        Event::LeaseExpired,
        Event::Requeued,
        Event::FailedOver,
        Event::AttemptFailed,
        Event::Parked,
        Event::Succeeded,
        Event::Resumed,
    ];
    for phase in [Phase::Leased, Phase::Suspect] {
        for event in events {
            let (mut world, job, fence) = world_in(phase);
            let other = Fence {
                digest: [9; 16],
                ..fence.unwrap()
            };
            let before = world.state.job(&job).cloned();
            world.decide(vec![draft(event, job, other).unwrap()]);
            assert_eq!(world.state.job(&job).cloned(), before, "{phase} {event:?}");
            assert_eq!(world.inert(), 1, "{phase} {event:?}");
        }
    }
}
