//! Each nominal time of a schedule is fired, missed or skipped, once, whatever happens in between.

use crate::harness::{MINUTE, SECOND, World, spec};
use ledger::Receipt;
use ledger_core::kinds::{
    AnyDetail, JobId, JobSpec, Misfire, Overlap, RequestReceived, ScheduleDefined, ScheduleRemoved,
    TickSkipped,
};
use ledger_core::{Detail, Draft, Subject};
use ledger_projections::queue::{Phase, decide};
use ledger_projections::schedules::{
    Calendar, FiredBefore, Input, OPEN_MAX, Plan, Timetable, check_removal, fired_before, plan, tick,
};

pub(crate) const HOUR: i64 = 60 * MINUTE;

pub(crate) fn define(name: &str, cron: &str, overlap: Overlap, misfire: Misfire) -> ScheduleDefined {
    ScheduleDefined {
        schedule: name.into(),
        cron: cron.into(),
        zone: "UTC".into(),
        overlap,
        misfire,
        job: spec("tidy"),
        deadline_ms: None,
        project: None,
    }
}

/// The operator says something about a schedule; what was due before is decided first, as the server's commit does.
pub(crate) fn say<D: Detail>(world: &mut World, detail: &D) {
    look(world);
    let operator = world.nodes["gateway"].actor.clone();
    let draft = Draft::of(detail, Subject::new("schedule").unwrap());
    let receipt = world.seal(world.order, draft, &operator);
    world.take(receipt);
}

/// Central looks once at every schedule; tells what it wrote.
pub(crate) fn look(world: &mut World) -> Vec<Receipt> {
    let mut timetable = Timetable::default();
    timetable.follow(&world.state);
    let mut written = Vec::new();
    for name in timetable.due(world.now) {
        let row = world.state.schedule(&name).unwrap();
        let Plan { missed, ticks, .. } = plan(row, world.now);
        assert!(missed.is_some() || !ticks.is_empty(), "what is due is decided");
        let draft = plan(row, world.now).missed_draft(row);
        written.extend(world.decide(draft.into_iter().collect()));
        for one in ticks {
            let input = match row_input(world, &name) {
                None => Input::None,
                Some(bytes) => Input::Bytes {
                    bytes,
                    secret: [4; 32],
                },
            };
            let drafts = tick(&world.state, &name, one, &input, world.now).unwrap();
            for receipt in world.decide(drafts) {
                if receipt.kind() == RequestReceived::KIND {
                    written.extend(world.accept(&receipt));
                }
                written.push(receipt);
            }
        }
    }
    written
}

fn row_input(world: &World, name: &str) -> Option<Vec<u8>> {
    let row = world.state.schedule(name).unwrap();
    row.definition.job.input.as_ref().map(|_| b"{\"n\":1}".to_vec())
}

/// What the order says became of each nominal time of a schedule, a missed one for each that its receipt stands for.
pub(crate) fn told(world: &World, name: &str, cron: &str, zone: &str) -> Vec<(i64, &'static str)> {
    let calendar = Calendar::new(cron, zone).unwrap();
    let mut told = Vec::new();
    for receipt in world.journal.iter().filter(|r| r.log() == world.order) {
        match receipt.statement().any_detail() {
            Ok(AnyDetail::ScheduleFired(d)) if d.schedule == name => told.push((d.nominal, "fired")),
            Ok(AnyDetail::ScheduleSkipped(d)) if d.schedule == name => told.push((d.nominal, "skipped")),
            Ok(AnyDetail::ScheduleMissed(d)) if d.schedule == name => {
                let mut at = d.first - 1;
                let before = told.len();
                while let Some(next) = calendar.next(at).filter(|next| *next <= d.last) {
                    told.push((next, "missed"));
                    at = next;
                }
                assert_eq!(told.len() - before, usize::try_from(d.count).unwrap());
            }
            _ => {}
        }
    }
    told
}

fn words(world: &World, name: &str, cron: &str) -> Vec<&'static str> {
    told(world, name, cron, "UTC")
        .into_iter()
        .map(|(_, what)| what)
        .collect()
}

fn jobs_of(world: &World, name: &str) -> Vec<JobId> {
    let fired = world
        .journal
        .iter()
        .filter_map(|r| match r.statement().any_detail() {
            Ok(AnyDetail::ScheduleFired(d)) if d.schedule == name => Some(d.job),
            _ => None,
        });
    fired.collect()
}

/// A world at the full hour, and a schedule that fires every ten minutes.
fn every_ten(overlap: Overlap, misfire: Misfire) -> World {
    let mut world = World::studio();
    world.now = (world.now / HOUR + 1) * HOUR;
    say(&mut world, &define("ten", TEN, overlap, misfire));
    world
}

pub(crate) const TEN: &str = "*/10 * * * *";

pub(crate) fn end_all(world: &mut World) {
    while let Some((fence, job)) = world.claim("gateway", "tidy") {
        world.start("gateway", fence);
        world.succeed("gateway", fence, job, 1);
        world.push("gateway");
    }
}

#[test]
fn a_tick_makes_an_ordinary_job_whose_cause_is_the_tick() {
    let mut world = every_ten(Overlap::Allow, Misfire::Skip);
    let mut nightly = define("nightly", TEN, Overlap::Allow, Misfire::Skip);
    nightly.deadline_ms = Some(60_000);
    nightly.project = Some("site".into());
    nightly.job = JobSpec {
        priority: 7,
        labels: vec!["gpu".into()],
        handler: "render".into(),
        ..spec("render")
    };
    say(&mut world, &nightly);
    world.now += 10 * MINUTE + 2 * SECOND;
    let written = look(&mut world);
    let [job] = jobs_of(&world, "nightly")[..] else {
        panic!("one job")
    };
    let row = world.state.job(&job).unwrap();
    assert_eq!(row.phase(), Phase::Ready);
    assert_eq!((row.spec.priority, row.spec.handler.as_str()), (7, "render"));
    assert_eq!(row.spec.deadline, Some(world.now + MINUTE));
    assert_eq!(row.requester, world.gateway_key().public());
    let fired =
        |r: &&Receipt| matches!(r.statement().any_detail(), Ok(AnyDetail::ScheduleFired(d)) if d.job == job);
    let fired = written.iter().find(fired).unwrap();
    assert_eq!(
        fired.statement().cause,
        Some(world.state.schedule("nightly").unwrap().defined)
    );
    let request = written.iter().find(|r| r.id() == row.request).unwrap();
    assert_eq!(request.statement().cause, Some(fired.id()), "the tick led to it");
    assert_eq!(request.statement().subject.as_str(), "project/site");
    assert_eq!(world.must_claim("studio", "render").1, job);
    assert!(look(&mut world).is_empty(), "nothing fires twice");
    assert_eq!(world.inert(), 0);
}

#[test]
fn the_same_tick_decided_again_is_the_same_receipt_and_inert_when_folded() {
    let mut world = every_ten(Overlap::Allow, Misfire::Skip);
    world.now += 10 * MINUTE;
    let before = world.state.clone();
    look(&mut world);
    let first = jobs_of(&world, "ten");
    let row = before.schedule("ten").unwrap();
    let ticks = plan(row, world.now).ticks;
    let again = tick(&before, "ten", ticks[0], &Input::None, world.now).unwrap();
    let kept = world
        .journal
        .iter()
        .find(|r| r.kind() == "schedule.fired")
        .unwrap()
        .id();
    assert_eq!(
        again[0].id,
        Some(kept),
        "the id derives from schedule and nominal time"
    );
    assert!(
        tick(&world.state, "ten", ticks[0], &Input::None, world.now)
            .unwrap()
            .is_empty()
    );
    world.decide(again);
    assert_eq!(world.inert(), 1, "the fold takes no second one either");
    assert_eq!(world.state.schedule("ten").unwrap().fired, 1);
    assert_eq!(first.len(), 1);
}

#[test]
fn the_input_of_a_schedule_is_the_payload_of_each_request() {
    let mut world = every_ten(Overlap::Allow, Misfire::Skip);
    let mut with_input = define("ten", TEN, Overlap::Allow, Misfire::Skip);
    with_input.job.input = Some(ledger_core::kinds::InputRef {
        commitment: ledger_core::Commitment([1; 32]),
        bytes: 7,
    });
    say(&mut world, &with_input);
    world.now += 10 * MINUTE;
    let written = look(&mut world);
    let request = written
        .iter()
        .find(|r| r.kind() == RequestReceived::KIND)
        .unwrap();
    let said = request.statement();
    let job = world.state.job(&jobs_of(&world, "ten")[0]).unwrap();
    assert!(decide::names_its_payload(&job.spec, said) && said.payload.is_some());
    world.now += 10 * MINUTE;
    let row = world.state.schedule("ten").unwrap();
    let next = plan(row, world.now).ticks[0];
    let drafts = tick(&world.state, "ten", next, &Input::Erased, world.now).unwrap();
    world.decide(drafts);
    let skipped = world.state.schedule("ten").unwrap().last_skipped.unwrap();
    assert_eq!(skipped.reason, TickSkipped::InputErased);
}

#[test]
fn row_misfire_skip_misses_everything_but_what_is_still_on_time() {
    let mut world = every_ten(Overlap::Allow, Misfire::Skip);
    world.now += 35 * MINUTE;
    look(&mut world);
    assert_eq!(
        words(&world, "ten", TEN),
        ["missed"; 3],
        "five minutes late is too late"
    );
    world.now += 16 * MINUTE;
    look(&mut world);
    assert_eq!(
        words(&world, "ten", TEN)[3..],
        ["missed", "fired"],
        "one minute late is on time"
    );
    let last = world.state.schedule("ten").unwrap().last_fired.unwrap();
    assert!(!last.misfired);
}

#[test]
fn row_misfire_run_once_fires_the_last_for_all() {
    let mut world = every_ten(Overlap::Allow, Misfire::RunOnce);
    world.now += 35 * MINUTE;
    look(&mut world);
    assert_eq!(words(&world, "ten", TEN), ["missed", "missed", "fired"]);
    assert!(world.state.schedule("ten").unwrap().last_fired.unwrap().misfired);
}

#[test]
fn row_misfire_catch_up_fires_the_last_so_many() {
    let mut world = every_ten(Overlap::Allow, Misfire::CatchUp(2));
    world.now += 55 * MINUTE;
    look(&mut world);
    assert_eq!(
        words(&world, "ten", TEN),
        ["missed", "missed", "missed", "fired", "fired"]
    );
    assert_eq!(world.state.schedule("ten").unwrap().missed, 3);
}

#[test]
fn what_is_caught_up_with_comes_in_portions() {
    let mut world = every_ten(Overlap::Allow, Misfire::CatchUp(40));
    world.now += 500 * MINUTE;
    look(&mut world);
    assert_eq!(world.state.schedule("ten").unwrap().fired, 16);
    while !look(&mut world).is_empty() {}
    let row = world.state.schedule("ten").unwrap();
    assert_eq!((row.missed, row.fired), (10, 40));
}

#[test]
fn row_overlap_allow_fires_beside_what_runs_until_too_many_wait() {
    let mut world = every_ten(Overlap::Allow, Misfire::Skip);
    for _ in 0..=OPEN_MAX {
        world.now += 10 * MINUTE;
        look(&mut world);
    }
    let told = words(&world, "ten", TEN);
    assert_eq!(told[..OPEN_MAX], ["fired"; OPEN_MAX]);
    assert_eq!(
        told[OPEN_MAX..],
        ["skipped"],
        "a backlog does not grow without end"
    );
    let row = world.state.schedule("ten").unwrap();
    assert_eq!(row.last_skipped.unwrap().reason, TickSkipped::Backlog);
    end_all(&mut world);
    world.now += 10 * MINUTE;
    look(&mut world);
    assert_eq!(words(&world, "ten", TEN).last(), Some(&"fired"));
}

#[test]
fn row_overlap_forbid_skips_while_the_earlier_run_is_not_over() {
    let mut world = every_ten(Overlap::Forbid, Misfire::CatchUp(3));
    world.now += 10 * MINUTE;
    look(&mut world);
    world.now += 10 * MINUTE;
    look(&mut world);
    assert_eq!(words(&world, "ten", TEN), ["fired", "skipped"]);
    let row = world.state.schedule("ten").unwrap();
    let first = jobs_of(&world, "ten")[0];
    assert_eq!(
        row.last_skipped.unwrap().job,
        Some(first),
        "it says what is in the way"
    );
    end_all(&mut world);
    world.now += 30 * MINUTE;
    look(&mut world);
    // Caught up with in one commit: the second and third see the first.
    assert_eq!(words(&world, "ten", TEN)[2..], ["fired", "skipped", "skipped"]);
}

#[test]
fn row_overlap_queue_runs_one_after_the_other() {
    let mut world = every_ten(Overlap::Queue, Misfire::CatchUp(3));
    world.now += 30 * MINUTE;
    look(&mut world);
    let jobs = jobs_of(&world, "ten");
    assert_eq!(jobs.len(), 3);
    let (fence, first) = world.must_claim("gateway", "tidy");
    assert_eq!(first, jobs[0]);
    assert!(
        world.claim("gateway", "tidy").is_none(),
        "the second waits for the first"
    );
    world.start("gateway", fence);
    world.succeed("gateway", fence, first, 1);
    world.push("gateway");
    assert_eq!(world.must_claim("gateway", "tidy").1, jobs[1]);
}

#[test]
fn row_overlap_replace_cancels_and_waits_until_that_is_confirmed() {
    let mut world = every_ten(Overlap::Replace, Misfire::Skip);
    world.now += 10 * MINUTE;
    look(&mut world);
    let (fence, first) = world.must_claim("gateway", "tidy");
    world.start("gateway", fence);
    world.push("gateway");
    world.now += 10 * MINUTE;
    look(&mut world);
    let second = jobs_of(&world, "ten")[1];
    assert!(world.state.job(&first).unwrap().cancel_asked);
    assert!(world.claim("gateway", "tidy").is_none(), "two never run at once");
    world.now += 10 * MINUTE;
    look(&mut world);
    assert_eq!(
        world.state.job(&second).unwrap().phase(),
        Phase::Cancelled,
        "it had not begun"
    );
    world.fail(
        "gateway",
        fence,
        first,
        ledger_core::kinds::ErrorClass::Cancelled,
        false,
    );
    world.push("gateway");
    assert_eq!(world.state.job(&first).unwrap().phase(), Phase::Cancelled);
    assert_eq!(world.must_claim("gateway", "tidy").1, jobs_of(&world, "ten")[2]);
    assert_eq!(world.inert(), 0);
}

#[test]
fn a_dead_letter_does_not_stand_in_the_way() {
    let mut world = every_ten(Overlap::Forbid, Misfire::Skip);
    let mut unknown = define("lost", TEN, Overlap::Forbid, Misfire::Skip);
    unknown.job = spec("nobody-declares-this");
    say(&mut world, &unknown);
    for _ in 0..2 {
        world.now += 10 * MINUTE;
        look(&mut world);
    }
    assert_eq!(words(&world, "lost", TEN), ["fired", "fired"]);
    for job in jobs_of(&world, "lost") {
        assert_eq!(world.state.job(&job).unwrap().phase(), Phase::Parked);
    }
}

#[test]
fn a_new_definition_goes_on_from_where_the_old_one_was_decided_and_a_removed_one_fires_no_more() {
    let mut world = every_ten(Overlap::Allow, Misfire::Skip);
    world.now += 10 * MINUTE + SECOND;
    say(
        &mut world,
        &define("ten", "* * * * *", Overlap::Allow, Misfire::Skip),
    );
    assert_eq!(
        words(&world, "ten", TEN),
        ["fired"],
        "what was due before came first"
    );
    world.now += MINUTE;
    look(&mut world);
    let row = world.state.schedule("ten").unwrap();
    assert_eq!((row.fired, row.missed, row.skipped), (2, 0, 0));
    let removed = ScheduleRemoved {
        schedule: "ten".into(),
        reason: "no more".into(),
    };
    say(&mut world, &removed);
    world.now += HOUR;
    assert!(look(&mut world).is_empty() && world.state.schedules().next().is_none());
    let gone = check_removal(&world.state, "ten", "").unwrap_err();
    assert_eq!(gone.code(), "schedule.unknown");
}

#[test]
fn a_definition_that_keeps_its_calendar_leaves_no_gap_though_its_own_time_is_ahead_of_the_clock() {
    let mut world = World::studio();
    let cron = "*/5 * * * *";
    let defined = define("nightly", cron, Overlap::Allow, Misfire::Skip);
    say(&mut world, &defined);
    let nominal = Calendar::new(cron, "UTC").unwrap().next(world.now).unwrap();
    // A machine whose clock is ahead takes the times of the order with it.
    world.now = nominal + 20 * SECOND;
    world.submit(spec("other"));
    world.now = nominal - 30 * SECOND;
    let mut job = spec("tidy");
    job.priority = 3;
    say(
        &mut world,
        &ScheduleDefined {
            job,
            ..defined.clone()
        },
    );
    let ahead = world.state.schedule("nightly").unwrap().defined_at;
    assert!(ahead > nominal, "the order's times are ahead");
    world.now = nominal + SECOND;
    look(&mut world);
    assert_eq!(told(&world, "nightly", cron, "UTC"), [(nominal, "fired")]);
    // Another calendar counts from its own time on.
    let other = "*/10 * * * * *";
    say(
        &mut world,
        &ScheduleDefined {
            cron: other.into(),
            ..defined
        },
    );
    let until = world.state.schedule("nightly").unwrap().decided_until;
    assert!(until > world.now, "what lies before its own time fires nothing");
}

#[test]
fn row_fired_before_waits_for_a_time_of_its_own_alone_and_asks_again_for_what_stands_alone() {
    use FiredBefore::{AskedAgain, PassedOver, Undecided};
    for overlap in [Overlap::Allow, Overlap::Forbid, Overlap::Queue, Overlap::Replace] {
        for misfire in [Misfire::Skip, Misfire::RunOnce, Misfire::CatchUp(1)] {
            let mut world = every_ten(overlap, misfire);
            let hour = world.now;
            let becomes =
                |world: &World, nominal, claimed| fired_before(&world.state, "ten", nominal, claimed);
            assert_eq!(becomes(&world, hour + 10 * MINUTE, false), Undecided);
            assert_eq!(becomes(&world, hour + 10 * MINUTE, true), Undecided);
            // What another definition fired for is never decided by this one.
            assert_eq!(becomes(&world, hour + 15 * MINUTE, false), PassedOver);
            assert_eq!(becomes(&world, hour + 15 * MINUTE, true), AskedAgain);

            world.now += HOUR + 5 * MINUTE;
            look(&mut world);
            let alone = misfire == Misfire::Skip && matches!(overlap, Overlap::Allow | Overlap::Queue);
            for past in [10, 20] {
                let expected = if alone { AskedAgain } else { PassedOver };
                let found = becomes(&world, hour + past * MINUTE, false);
                assert_eq!(found, expected, "{overlap:?} {misfire:?}");
                assert_eq!(becomes(&world, hour + past * MINUTE, true), AskedAgain);
            }
            assert_eq!(becomes(&world, hour + 15 * MINUTE, false), PassedOver);
            // It was decided under another policy, and nobody knows whether a later tick fired for it.
            say(&mut world, &define("ten", TEN, Overlap::Allow, Misfire::Skip));
            assert_eq!(becomes(&world, hour + 10 * MINUTE, false), PassedOver);
            assert_eq!(becomes(&world, hour + 10 * MINUTE, true), AskedAgain);
        }
    }
}
