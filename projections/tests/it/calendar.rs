//! When a schedule is meant: what is refused as one, and what a zone's gaps and doubled hours come to.

use crate::harness::{World, spec};
use crate::schedules::{TEN, define};
use jiff::Timestamp;
use ledger_core::kinds::{Misfire, Overlap, ScheduleDefined};
use ledger_projections::schedules::{CATCH_UP_MAX, Calendar, check};

#[test]
fn a_schedule_that_cannot_be_is_refused_with_its_code() {
    let world = World::studio();
    let refused = |change: &dyn Fn(&mut ScheduleDefined)| {
        let mut d = define("ten", TEN, Overlap::Allow, Misfire::Skip);
        change(&mut d);
        check(&world.state, &d, world.now).map_err(|e| e.code()).err()
    };
    assert_eq!(refused(&|_| ()), None);
    assert_eq!(
        refused(&|d| d.job = spec("nobody-declares-this")),
        None,
        "it may be declared later"
    );
    for cron in ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 0 1 1 * 1999"] {
        assert_eq!(
            refused(&|d| d.cron = cron.into()),
            Some("schedule.never"),
            "{cron}"
        );
    }
    for cron in [
        "",
        "daily",
        "60 * * * *",
        "* * * *",
        "0 0 0 0 0 0 0 0",
        &"1,".repeat(100),
    ] {
        assert_eq!(
            refused(&|d| d.cron = cron.into()),
            Some("schedule.expression"),
            "{cron}"
        );
    }
    for zone in ["", "Berlin", "Mars/Olympus", "+01:00", &"a".repeat(100)] {
        assert_eq!(
            refused(&|d| d.zone = zone.into()),
            Some("schedule.zone"),
            "{zone}"
        );
    }
    for name in ["", "Two Words", "a/b", &"a".repeat(49)] {
        assert_eq!(
            refused(&|d| d.schedule = name.into()),
            Some("schedule.name"),
            "{name}"
        );
    }
    for most in [0, CATCH_UP_MAX + 1] {
        assert_eq!(
            refused(&|d| d.misfire = Misfire::CatchUp(most)),
            Some("schedule.policy")
        );
    }
    assert_eq!(refused(&|d| d.deadline_ms = Some(1)), Some("schedule.policy"));
    assert_eq!(
        refused(&|d| d.project = Some("\n".into())),
        Some("schedule.policy")
    );
    assert_eq!(refused(&|d| d.job.not_before = Some(1)), Some("schedule.policy"));
    assert_eq!(refused(&|d| d.job.attempts_max = 0), Some("request.spec"));
    let keyed = |d: &mut ScheduleDefined| {
        d.job.concurrency_key = Some("disk".into());
        d.overlap = Overlap::Queue;
    };
    assert_eq!(refused(&keyed), Some("schedule.policy"));
}

fn times(cron: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
    let calendar = Calendar::new(cron, zone).unwrap();
    let mut at = from.parse::<Timestamp>().unwrap().as_microsecond();
    let next = || {
        at = calendar.next(at)?;
        Some(Timestamp::from_microsecond(at).unwrap().to_string())
    };
    std::iter::from_fn(next).take(count).collect()
}

#[test]
fn a_wall_time_that_does_not_exist_fires_right_after_the_gap_or_not_at_all() {
    // Berlin: 02:00 to 03:00 of 2026-03-29 is left out, at 01:00Z. New York: 02:00 to 03:00 of 2026-03-08, at 07:00Z.
    assert_eq!(
        times("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3),
        [
            "2026-03-28T01:30:00Z",
            "2026-03-29T01:00:00Z",
            "2026-03-30T00:30:00Z"
        ]
    );
    assert_eq!(
        times("30 2 * * *", "America/New_York", "2026-03-08T00:00:00Z", 2),
        ["2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"]
    );
    // With a step in the minutes: those of its times that exist.
    assert_eq!(
        times("*/30 1-3 * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 4),
        [
            "2026-03-29T00:30:00Z",
            "2026-03-29T01:00:00Z",
            "2026-03-29T01:30:00Z",
            "2026-03-29T23:00:00Z"
        ]
    );
    assert_eq!(
        times("*/30 2 * * *", "America/New_York", "2026-03-08T00:00:00Z", 1),
        ["2026-03-09T06:00:00Z"]
    );
}

#[test]
fn a_wall_time_that_comes_twice_fires_once_or_with_each_of_them() {
    // Berlin: 02:00 to 03:00 of 2026-10-25 comes twice, from 00:00Z to 02:00Z. New York: 01:00 to 02:00 of 2026-11-01.
    assert_eq!(
        times("30 2 * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", 2),
        ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
    );
    assert_eq!(
        times("30 1 * * *", "America/New_York", "2026-11-01T00:00:00Z", 2),
        ["2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"]
    );
    assert_eq!(
        times("*/30 2 * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", 4),
        [
            "2026-10-25T00:30:00Z",
            "2026-10-25T01:00:00Z",
            "2026-10-25T01:30:00Z",
            "2026-10-26T01:00:00Z"
        ]
    );
    assert_eq!(
        times("0 * * * *", "America/New_York", "2026-11-01T04:30:00Z", 3),
        [
            "2026-11-01T05:00:00Z",
            "2026-11-01T06:00:00Z",
            "2026-11-01T07:00:00Z"
        ]
    );
}
