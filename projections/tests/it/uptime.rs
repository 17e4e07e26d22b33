//! Uptime: one order, one answer, whatever the clock of whoever asks.

use crate::harness::{MINUTE, SECOND, World, machine};
use ledger_core::kinds::*;
use ledger_core::{Detail, Draft, Subject};
use ledger_projections::uptime::{Cause, SpanKind, Uptime, Window, uptime};

const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

fn said<D: Detail>(world: &mut World, detail: &D) {
    world.decide(vec![Draft::of(detail, Subject::new("node").unwrap())]);
}

fn lost(world: &mut World, from: i64) {
    let (machine, last_heard) = (machine("studio"), from);
    said(world, &NodeLost { machine, last_heard });
}

fn back(world: &mut World, first_heard: i64) {
    let machine = machine("studio");
    said(world, &NodeBack { machine, first_heard });
}

fn outage(world: &mut World, from: i64, length: i64) {
    lost(world, from);
    back(world, from + length);
}

fn absent(world: &mut World, from: i64, length: i64) {
    let until = from + length;
    said(world, &CentralAbsent { from, until });
}

fn evidence(world: &World) -> Evidence {
    let receipt = world.journal.last().unwrap();
    receipt.evidence()
}

fn asleep(world: &mut World, since: i64) {
    world.now = world.now.max(since);
    let detail = NodeAsleep {
        machine: machine("studio"),
        since,
        reason: RestReason::Sleep,
        evidence: evidence(world),
    };
    said(world, &detail);
}

fn started(world: &mut World, at: i64, boot: &str) {
    let detail = NodeAwake {
        machine: machine("studio"),
        at,
        boot: Some(Boot::of(boot)),
        slept_ms: 0,
        evidence: evidence(world),
    };
    said(world, &detail);
}

fn asked(world: &World, from: i64, until: i64) -> Uptime {
    let window = Window {
        from,
        until,
        known_until: until,
    };
    uptime(&world.state, &machine("studio"), window).unwrap()
}

fn causes(told: &Uptime) -> Vec<Cause> {
    told.away.iter().map(|span| span.cause).collect()
}

#[test]
fn a_december_with_outages_of_18_4_22_47_and_3_minutes_is_99_79_per_cent() {
    let mut world = World::studio();
    let december = world.now + HOUR;
    let minutes = [18, 4, 22, 47, 3];
    for (n, length) in (0..).zip(minutes) {
        outage(&mut world, december + (3 + 5 * n) * DAY, length * MINUTE);
    }
    // One in November and one in January do not count.
    let told = asked(&world, december, december + 31 * DAY);
    assert_eq!(told.per_cent(), "99.79 %");
    assert_eq!(told.outage_us, 94 * MINUTE);
    assert_eq!(told.up_us, 31 * DAY - 94 * MINUTE);
    let lengths: Vec<i64> = told.away.iter().map(|span| span.length_us / MINUTE).collect();
    assert_eq!(lengths, minutes);
    assert!(told.away.iter().all(|span| span.counted_us == span.length_us));
    // The same receipts, asked a year later, answer the same about that month.
    assert_eq!(asked(&world, december, december + 31 * DAY), told);
}

#[test]
fn what_nobody_watched_is_unknown_and_neither_up_nor_down() {
    let mut world = World::studio();
    let from = world.now + HOUR;
    outage(&mut world, from + HOUR, 4 * HOUR);
    absent(&mut world, from + 2 * HOUR, HOUR);
    absent(&mut world, from + 8 * HOUR, HOUR);
    let told = asked(&world, from, from + 10 * HOUR);
    assert_eq!(
        (told.up_us, told.outage_us, told.unknown_us),
        (5 * HOUR, 3 * HOUR, 2 * HOUR)
    );
    assert_eq!(told.per_cent(), "62.50 %");
    assert_eq!(
        told.unknown,
        [
            (from + 2 * HOUR, from + 3 * HOUR),
            (from + 8 * HOUR, from + 9 * HOUR)
        ]
    );
    let [only] = told.away.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!((only.length_us, only.counted_us), (4 * HOUR, 3 * HOUR));
    // For Central's own machine the same span is its outage.
    let window = Window {
        from,
        until: from + 10 * HOUR,
        known_until: from + 10 * HOUR,
    };
    let gateway = uptime(&world.state, &machine("gateway"), window).unwrap();
    assert_eq!((gateway.outage_us, gateway.unknown_us), (2 * HOUR, 0));
    assert_eq!(causes(&gateway), [Cause::CentralDown, Cause::CentralDown]);
}

#[test]
fn behind_what_is_known_of_the_order_nothing_is_claimed() {
    let mut world = World::studio();
    let from = world.now + HOUR;
    lost(&mut world, from + 9 * HOUR);
    let window = Window {
        from,
        until: from + 20 * HOUR,
        known_until: from + 10 * HOUR,
    };
    let told = uptime(&world.state, &machine("studio"), window).unwrap();
    assert_eq!(
        (told.up_us, told.outage_us, told.unknown_us),
        (9 * HOUR, HOUR, 10 * HOUR)
    );
    assert_eq!(told.away[0].until, None);
    let never = Window {
        from: from + 11 * HOUR,
        ..window
    };
    let told = uptime(&world.state, &machine("studio"), never).unwrap();
    assert_eq!(
        (told.per_cent_hundredths(), told.per_cent()),
        (None, "unknown".to_owned())
    );
    assert!(uptime(&world.state, &machine("nobody"), window).is_none());
}

#[test]
fn sleep_that_was_announced_is_no_outage() {
    let mut world = World::studio();
    let from = world.now + HOUR;
    asleep(&mut world, from + HOUR);
    outage(&mut world, from + HOUR, 8 * HOUR);
    outage(&mut world, from + 10 * HOUR, HOUR);
    let told = asked(&world, from, from + 12 * HOUR);
    assert_eq!(
        (told.asleep_us, told.outage_us, told.up_us),
        (8 * HOUR, HOUR, 3 * HOUR)
    );
    assert_eq!(told.per_cent(), "75.00 %");
    let kinds: Vec<(SpanKind, i64)> = told
        .away
        .iter()
        .map(|span| (span.kind, span.counted_us))
        .collect();
    assert!(kinds.contains(&(SpanKind::Asleep, 8 * HOUR)) && kinds.contains(&(SpanKind::Outage, HOUR)));
}

#[test]
fn the_seconds_around_an_announced_sleep_are_no_outage() {
    let mut world = World::studio();
    let from = world.now + HOUR;
    started(&mut world, from, "first");
    // Last heard before its clock says that it stopped; its start is told before Central notes that it is back.
    asleep(&mut world, from + HOUR + 2 * SECOND);
    lost(&mut world, from + HOUR);
    started(&mut world, from + 2 * HOUR, "first");
    back(&mut world, from + 2 * HOUR + 3 * SECOND);
    // The word came only afterwards, with the machine: while it counted as lost, and after that.
    lost(&mut world, from + 4 * HOUR);
    asleep(&mut world, from + 4 * HOUR + SECOND);
    started(&mut world, from + 5 * HOUR, "first");
    back(&mut world, from + 5 * HOUR + 3 * SECOND);
    outage(&mut world, from + 6 * HOUR, HOUR);
    asleep(&mut world, from + 6 * HOUR + SECOND);
    started(&mut world, from + 7 * HOUR - SECOND, "first");
    let told = asked(&world, from, from + 10 * HOUR);
    assert_eq!((told.outage_us, told.per_cent().as_str()), (0, "100.00 %"));
    let asleep: Vec<i64> = told.away.iter().map(|span| span.length_us / SECOND).collect();
    assert_eq!(asleep, [3598, 3600, 3600]);
}

#[test]
fn a_stop_announced_right_after_an_outage_explains_the_next_one_and_not_that() {
    let mut world = World::studio();
    let from = world.now + HOUR;
    outage(&mut world, from + HOUR, HOUR);
    asleep(&mut world, from + 2 * HOUR + 30 * SECOND);
    lost(&mut world, from + 2 * HOUR + 31 * SECOND);
    back(&mut world, from + 3 * HOUR);
    let told = asked(&world, from, from + 4 * HOUR);
    let kinds: Vec<SpanKind> = told.away.iter().map(|span| span.kind).collect();
    assert_eq!(
        (kinds.as_slice(), told.outage_us),
        (&[SpanKind::Outage, SpanKind::Asleep][..], HOUR)
    );
}

#[test]
fn sleep_too_short_to_be_missed_ends_with_the_waking() {
    let mut world = World::studio();
    let from = world.now + HOUR;
    started(&mut world, from, "first");
    asleep(&mut world, from + HOUR);
    started(&mut world, from + HOUR + 20 * SECOND, "first");
    let told = asked(&world, from, from + 2 * HOUR);
    assert_eq!((told.asleep_us, told.outage_us), (20 * SECOND, 0));
    assert_eq!(told.per_cent(), "100.00 %");
}

#[test]
fn the_cause_of_an_outage_is_what_the_machine_tells_of_its_starts() {
    let mut world = World::studio();
    let from = world.now + HOUR;
    started(&mut world, from, "first");
    // The system rebooted: told before Central says that it is back, or after.
    lost(&mut world, from + HOUR);
    started(&mut world, from + 2 * HOUR, "second");
    back(&mut world, from + 2 * HOUR + SECOND);
    outage(&mut world, from + 4 * HOUR, HOUR);
    started(&mut world, from + 5 * HOUR - SECOND, "second");
    // Nothing started: it ran on and was not reached.
    outage(&mut world, from + 8 * HOUR, HOUR);
    let slept = NodeAwake {
        machine: machine("studio"),
        at: from + 12 * HOUR,
        boot: None,
        slept_ms: 3_600_000,
        evidence: evidence(&world),
    };
    outage(&mut world, from + 11 * HOUR, HOUR);
    said(&mut world, &slept);
    lost(&mut world, from + 14 * HOUR);
    let told = asked(&world, from, from + 15 * HOUR);
    assert_eq!(
        causes(&told),
        [
            Cause::Reboot,
            Cause::Restart,
            Cause::Unreachable,
            Cause::Slept,
            Cause::Unknown
        ]
    );
}

#[test]
fn a_window_counts_from_the_joining_and_not_what_was_retired() {
    let mut world = World::studio();
    let joined_at = world.state.machine(&machine("studio")).unwrap().joined_at;
    let told = asked(&world, joined_at - 10 * DAY, joined_at + DAY);
    assert_eq!((told.from, told.up_us), (joined_at, DAY));
    world.now += DAY;
    world.rooted(&NodeRetired {
        machine: machine("studio"),
        reason: "sold".into(),
    });
    let told = asked(&world, joined_at, joined_at + 10 * DAY);
    assert_eq!(told.per_cent(), "100.00 %");
    assert!(told.retired_us > 8 * DAY && told.up_us < 2 * DAY);
}

#[test]
fn an_outage_however_short_is_never_rounded_away() {
    let mut world = World::studio();
    let from = world.now + HOUR;
    outage(&mut world, from + DAY, MINUTE);
    assert_eq!(asked(&world, from, from + 90 * DAY).per_cent(), "99.99 %");
    assert_eq!(
        asked(&world, from + 2 * DAY, from + 90 * DAY).per_cent(),
        "100.00 %"
    );
}

#[test]
fn doubled_and_contradicting_words_never_count_twice() {
    let mut world = World::studio();
    let from = world.now + HOUR;
    lost(&mut world, from + HOUR);
    lost(&mut world, from);
    back(&mut world, from + 3 * HOUR);
    back(&mut world, from + 9 * HOUR);
    // A silence that is said to begin within the one before.
    outage(&mut world, from + 2 * HOUR, 2 * HOUR);
    absent(&mut world, from + 6 * HOUR, 2 * HOUR);
    absent(&mut world, from + 7 * HOUR, 2 * HOUR);
    let inert = world.inert();
    absent(&mut world, from + 7 * HOUR, -HOUR);
    assert_eq!(world.inert(), inert + 1);
    let told = asked(&world, from, from + 10 * HOUR);
    assert_eq!(
        (told.outage_us, told.unknown_us, told.up_us),
        (3 * HOUR, 3 * HOUR, 4 * HOUR)
    );
    assert_eq!(told.unknown, [(from + 6 * HOUR, from + 9 * HOUR)]);
}

#[test]
fn the_tables_of_uptime_are_the_same_from_their_rows() {
    let mut world = World::studio();
    world.check_every_prefix = true;
    let from = world.now + HOUR;
    outage(&mut world, from, HOUR);
    asleep(&mut world, from + 2 * HOUR);
    started(&mut world, from + 3 * HOUR, "first");
    absent(&mut world, from + 4 * HOUR, HOUR);
}
