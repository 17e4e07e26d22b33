//! Notices, row by row: each cause is told once, and nothing that is none.

use crate::harness::{MINUTE, SECOND, World, machine, spec};
use ledger::Receipt;
use ledger_core::kinds::*;
use ledger_core::{Draft, ReceiptId, Subject};
use ledger_projections::notices::{
    Condition, Standing, Watch, conditions_due, node_back, node_lost, notices_due, told_by,
};

/// Raises what is due at a gateway that has watched all the time; the sentences.
fn told(world: &mut World) -> Vec<String> {
    told_since(world, 0)
}

/// The same at a gateway that has watched since a time.
fn told_since(world: &mut World, since: i64) -> Vec<String> {
    let watch = Watch {
        now: world.now,
        since,
    };
    let drafts = notices_due(&world.state, &watch, &world.policy);
    sentences(world, drafts)
}

fn sentences(world: &mut World, drafts: Vec<Draft>) -> Vec<String> {
    let raised = world.decide(drafts);
    let text = |receipt: &Receipt| match receipt.statement().any_detail().unwrap() {
        AnyDetail::NoticeRaised(d) => d.text,
        other => panic!("{other:?} is no notice"),
    };
    raised.iter().map(text).collect()
}

fn tick(world: &mut World) -> usize {
    told(world).len()
}

fn said(world: &World, topic: NoticeTopic) -> usize {
    world
        .state
        .notices()
        .filter(|(_, notice)| notice.topic == topic)
        .count()
}

/// The machine says that it goes away, and Central repeats it.
fn announces(world: &mut World, name: &str, reason: RestReason) {
    let seal = ledger_core::SealDigest([3; 32]);
    let asleep = NodeAsleep {
        machine: machine(name),
        since: world.now,
        reason,
        evidence: Evidence {
            log: world.order,
            seq: 1,
            seal,
        },
    };
    world.decide(vec![Draft::of(&asleep, Subject::new("node").unwrap())]);
}

/// A receipt of the machine's facts.
fn fact<D: Detail>(world: &mut World, name: &str, detail: &D) -> Receipt {
    let (log, key) = (world.nodes[name].logs[1], world.nodes[name].key.clone());
    world.seal(log, Draft::of(detail, Subject::new("node").unwrap()), &key)
}

fn service(before: ServiceState, state: ServiceState) -> NodeServiceState {
    NodeServiceState {
        service: "ollama".into(),
        check: CheckKind::Http,
        before,
        state,
        note: "connection refused".into(),
    }
}

#[test]
fn one_notice_for_an_outage_however_often_the_clock_ticks() {
    let mut world = World::studio();
    world.silence("studio");
    for _ in 0..3 {
        world.submit(spec("render"));
    }
    assert_eq!(tick(&mut world), 0, "not before notify_after");
    world.now += 2 * MINUTE;
    let mut raised = 0;
    for _ in 0..10 {
        raised += tick(&mut world);
        world.now += 30 * SECOND;
    }
    assert_eq!(raised, 1);
    let (_, notice) = world.state.notices().next().unwrap();
    assert_eq!(notice.topic, NoticeTopic::NodeOffline);
    assert_eq!(notice.text, "studio offline since 15:05 UTC, 3 jobs queued");
}

#[test]
fn back_is_told_once_after_a_stable_return_and_only_after_an_offline_notice() {
    let mut world = World::studio();
    world.silence("mini");
    world.back("mini");
    world.now += 10 * MINUTE;
    assert_eq!(tick(&mut world), 0, "nobody was told that it was away");
    world.silence("studio");
    world.now += 5 * MINUTE;
    assert_eq!(tick(&mut world), 1);
    world.back("studio");
    assert_eq!(tick(&mut world), 0, "not stable yet");
    world.now += 30 * SECOND;
    world.silence("studio");
    world.now += 5 * MINUTE;
    assert_eq!(tick(&mut world), 0, "flapping is one outage");
    world.back("studio");
    world.now += 2 * MINUTE;
    assert_eq!((tick(&mut world), tick(&mut world)), (1, 0));
    assert_eq!(world.state.notices().count(), 2);
}

#[test]
fn a_second_outage_has_its_own_notice() {
    let mut world = World::studio();
    for outage in 1..=2 {
        world.silence("studio");
        world.now += 5 * MINUTE;
        assert_eq!(tick(&mut world), 1, "outage {outage}");
        world.back("studio");
        world.now += 5 * MINUTE;
        assert_eq!(tick(&mut world), 1, "return {outage}");
    }
    assert_eq!(world.inert(), 0);
}

#[test]
fn a_machine_is_lost_once_and_back_once() {
    let mut world = World::studio();
    assert!(node_back(&world.state, &machine("studio"), 0).is_empty());
    world.silence("studio");
    assert!(node_lost(&world.state, &machine("studio"), 0).is_empty());
}

#[test]
fn an_announced_stop_or_sleep_is_no_outage_to_tell() {
    for reason in [RestReason::Sleep, RestReason::Stop] {
        let mut world = World::studio();
        world.now += 10 * MINUTE;
        announces(&mut world, "studio", reason);
        world.now += 2 * MINUTE;
        world.silence("studio");
        world.now += 600 * MINUTE;
        assert_eq!(told(&mut world), [""; 0], "{reason:?}");
        world.back("studio");
        world.now += 5 * MINUTE;
        assert_eq!(told(&mut world), [""; 0], "its return neither");
        // The next silence, unannounced, is told as ever.
        world.silence("studio");
        world.now += 5 * MINUTE;
        assert_eq!(tick(&mut world), 1);
    }
}

#[test]
fn a_restart_gives_every_machine_its_full_time_and_repeats_nothing() {
    let mut world = World::studio();
    for name in ["studio", "mini"] {
        world.silence(name);
    }
    world.now += 60 * MINUTE;
    let restarted = world.now;
    assert_eq!(
        told_since(&mut world, restarted),
        [""; 0],
        "nobody listened for an hour"
    );
    world.now += 119 * SECOND;
    assert_eq!(told_since(&mut world, restarted), [""; 0]);
    world.now += SECOND;
    assert_eq!(told_since(&mut world, restarted).len(), 2, "both at their time");
    let again = world.now;
    for _ in 0..10 {
        world.now += MINUTE;
        assert_eq!(
            told_since(&mut world, again),
            [""; 0],
            "told before the second restart"
        );
    }
}

#[test]
fn a_machine_that_flaps_is_told_once_in_a_window_and_its_end_as_ever() {
    let mut world = World::studio();
    world.now += 120 * MINUTE;
    let mut all = Vec::new();
    for _ in 0..12 {
        world.silence("studio");
        world.now += 2 * MINUTE;
        all.extend(told(&mut world));
        world.back("studio");
        world.now += 3 * MINUTE;
        all.extend(told(&mut world));
    }
    // Two outages are two; from the third on it flaps, for an hour, of which each half is told.
    let flaps: Vec<bool> = all.iter().map(|text| text.contains("flaps")).collect();
    assert_eq!(flaps, [false, false, false, false, true, true], "{all:?}");
    assert!(all[4].starts_with("studio flaps: 3 outages since "), "{}", all[4]);
    // It stays away: told when the window holds this outage alone, and then its return.
    world.silence("studio");
    let mut later = Vec::new();
    for _ in 0..40 {
        world.now += MINUTE;
        later.extend(told(&mut world));
    }
    let offline: Vec<_> = later.iter().filter(|text| text.contains("offline")).collect();
    assert_eq!(offline.len(), 1, "{later:?}");
    world.back("studio");
    world.now += 5 * MINUTE;
    assert_eq!(tick(&mut world), 1);
}

#[test]
fn the_return_tells_what_the_machine_made_up_for() {
    let mut world = World::studio();
    let job = world.submit(spec("render"));
    let (fence, of) = world.claim("studio", "render").unwrap();
    assert_eq!(of, job);
    world.start("studio", fence);
    world.silence("studio");
    world.now += 5 * MINUTE;
    assert_eq!(tick(&mut world), 1);
    world.succeed("studio", fence, job, 1);
    world.back("studio");
    world.hello("studio");
    world.now += 2 * MINUTE;
    let told = told(&mut world);
    let pushed = 2;
    let want = format!(", brought {pushed} receipts and 1 result");
    assert!(told.len() == 1 && told[0].ends_with(&want), "{told:?}");
}

#[test]
fn a_quarantine_is_told_once_and_a_second_one_again() {
    let mut world = World::studio();
    for reason in ["its chain is bad", "once more"] {
        world.now += MINUTE;
        let held = NodeQuarantined {
            machine: machine("mini"),
            reason: reason.into(),
        };
        world.decide(vec![Draft::of(&held, Subject::new("node").unwrap())]);
        assert_eq!(told(&mut world), [format!("mini is quarantined: {reason}")]);
        assert_eq!(tick(&mut world), 0);
    }
}

#[test]
fn a_failed_verification_is_told_and_a_clean_one_is_not() {
    let mut world = World::studio();
    let mut done = VerifyCompleted {
        full: true,
        payloads: 0,
        erased: 0,
        elapsed_ms: 7,
        receipts: 9,
        logs: 3,
        findings: 0,
        integrity: Verdict::Clean,
        signatures: Verdict::Clean,
        authority: Verdict::Clean,
        completeness: Verdict::Clean,
        freshness: Verdict::Clean,
    };
    let clean = fact(&mut world, "mini", &done);
    assert!(told_by(&world.state, &clean, &machine("mini"), &world.policy).is_empty());
    (done.findings, done.integrity) = (2, Verdict::Found);
    let found = fact(&mut world, "mini", &done);
    for want in [1, 0] {
        let drafts = told_by(&world.state, &found, &machine("mini"), &world.policy);
        assert_eq!(sentences(&mut world, drafts).len(), want);
    }
}

#[test]
fn a_service_that_goes_down_is_told_and_not_again_after_each_start_of_its_machine() {
    use ServiceState::{Down, Unknown, Up};
    let mut world = World::studio();
    let tell = |world: &mut World, before, state| {
        let receipt = fact(world, "studio", &service(before, state));
        let drafts = told_by(&world.state, &receipt, &machine("studio"), &world.policy);
        world.now += MINUTE;
        sentences(world, drafts)
    };
    assert_eq!(tell(&mut world, Unknown, Up), [""; 0]);
    assert_eq!(
        tell(&mut world, Up, Down),
        ["ollama on studio is down (http): connection refused"]
    );
    assert_eq!(tell(&mut world, Unknown, Down), [""; 0], "a restart");
    assert_eq!(tell(&mut world, Down, Up), [""; 0]);
    assert_eq!(tell(&mut world, Up, Down).len(), 1, "another outage");
    world.now += 25 * 60 * MINUTE;
    assert_eq!(tell(&mut world, Unknown, Down).len(), 1, "still so a day later");
}

#[test]
fn a_condition_is_told_once_and_once_more_when_it_still_stands_a_day_later() {
    let mut world = World::studio();
    let reserve = Standing {
        machine: machine("mini"),
        condition: Condition::DiskReserve {
            free: 100 << 20,
            reserve: 1 << 30,
        },
    };
    let since = world.now;
    let outbox = Standing {
        machine: machine("studio"),
        condition: Condition::OutboxGrows {
            receipts: 1_234,
            since,
        },
    };
    let stands = [reserve, outbox];
    let mut all = Vec::new();
    for _ in 0..49 {
        let drafts = conditions_due(&world.state, &stands, world.now, &world.policy);
        all.extend(sentences(&mut world, drafts));
        world.now += 30 * MINUTE;
    }
    assert_eq!(all.len(), 4, "{all:?}");
    assert_eq!(
        all[0],
        "mini has 100 MiB free, 1024 MiB are to stay free: it takes no new work until there is room"
    );
    assert!(all[1].contains("1234 receipts are not here"), "{}", all[1]);
    assert_eq!(said(&world, NoticeTopic::DiskReserve), 2);
    let nobody = [Standing {
        machine: machine("nobody"),
        ..stands[0].clone()
    }];
    assert!(conditions_due(&world.state, &nobody, world.now, &world.policy).is_empty());
}

#[test]
fn a_notice_is_open_until_every_sink_that_was_tried_took_it_or_somebody_has_seen_it() {
    let mut world = World::studio();
    world.check_every_prefix = true;
    let open = |world: &World| world.state.open_notices().map(|(id, _)| *id).collect::<Vec<_>>();
    let raise = |world: &mut World| -> ReceiptId {
        world.silence("studio");
        world.now += 5 * MINUTE;
        assert_eq!(tick(world), 1);
        let (id, _) = world.state.open_notices().next().unwrap();
        *id
    };
    let word = |world: &mut World, notice: ReceiptId, sink: &str, attempt: u16, error: Option<&str>| {
        let (destination, subject) = (sink.to_owned(), Subject::new("notice").unwrap());
        let draft = match error {
            None => Draft::of(
                &NoticeDelivered {
                    notice,
                    destination,
                    attempt,
                },
                subject,
            ),
            Some(error) => Draft::of(
                &NoticeUndelivered {
                    notice,
                    destination,
                    attempt,
                    error: error.into(),
                },
                subject,
            ),
        };
        world.decide(vec![draft]);
    };
    let first = raise(&mut world);
    word(&mut world, first, "webhook example", 1, Some("answered 503"));
    word(&mut world, first, "log", 1, None);
    assert_eq!(open(&world), [first]);
    let notice = world.state.notice(&first).unwrap();
    assert!(notice.is_undelivered());
    let failed = notice.delivery("webhook example").unwrap();
    assert_eq!(
        (failed.attempts, failed.error.as_deref()),
        (1, Some("answered 503"))
    );
    word(&mut world, first, "webhook example", 2, None);
    assert!(open(&world).is_empty() && !world.state.notice(&first).unwrap().is_undelivered());
    world.back("studio");
    world.now += 5 * MINUTE;
    assert_eq!(tick(&mut world), 1);
    let (back, _) = world.state.open_notices().next().unwrap();
    let back = *back;
    word(&mut world, back, "webhook example", 10, Some("no connection"));
    word(&mut world, back, "log", 1, None);
    let operator = world.nodes["gateway"].actor.clone();
    let seen = NoticeAcknowledged {
        notice: back,
        note: String::new(),
    };
    for inert in [0, 1] {
        let before = world.inert();
        let draft = Draft::of(&seen, Subject::new("notice").unwrap());
        let receipt = world.seal(world.order, draft, &operator);
        world.take(receipt);
        assert_eq!((open(&world).len(), world.inert() - before), (0, inert));
    }
}
