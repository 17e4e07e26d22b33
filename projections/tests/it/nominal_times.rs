//! Every nominal time gets exactly one receipt, whatever is defined, however Central looks.

use crate::harness::{SECOND, World};
use crate::schedules::{HOUR, define, end_all, look, say, told};
use ledger_core::kinds::{AnyDetail, Misfire, Overlap, ScheduleDefined, ScheduleRemoved};
use ledger_projections::schedules::Calendar;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Somebody defines or removes one, or Central looks.
pub(crate) fn step(world: &mut World, choice: u8) {
    let name = ["a", "b"][usize::from(choice % 2)];
    let (overlap, misfire) = policy(choice / 2);
    match choice % 5 {
        0 => say(
            world,
            &define(name, CRONS[usize::from(choice) % CRONS.len()], overlap, misfire),
        ),
        1 if world.state.schedule(name).is_some() => {
            let removed = ScheduleRemoved {
                schedule: name.into(),
                reason: String::new(),
            };
            say(world, &removed);
        }
        _ => drop(look(world)),
    }
}

#[test]
fn a_week_of_seconds_is_told_in_few_receipts_and_fires_nothing_in_a_burst() {
    let mut world = World::studio();
    say(
        &mut world,
        &define("s", "* * * * * *", Overlap::Allow, Misfire::RunOnce),
    );
    world.now += 2 * HOUR;
    let mut looks = 0;
    while world.state.schedule("s").unwrap().decided_until < world.now / SECOND * SECOND {
        look(&mut world);
        looks += 1;
        assert!(looks < 20, "7,200 times, a thousand a look");
    }
    let row = world.state.schedule("s").unwrap();
    assert_eq!((row.fired, row.skipped), (1, 0));
    assert_eq!(row.missed + row.fired, 7200);
    assert_eq!(world.inert(), 0);
}

const CRONS: [&str; 7] = [
    "*/7 * * * *",
    "0 */3 * * *",
    "30 2 * * *",
    "15,45 9-17 * * MON-FRI",
    "*/20 * * * * *",
    "0 12 1 * *",
    "59 23 31 12 *",
];
const ZONES: [&str; 4] = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"];

fn policy(choice: u8) -> (Overlap, Misfire) {
    let overlap = [Overlap::Allow, Overlap::Forbid, Overlap::Queue, Overlap::Replace];
    let misfire = [
        Misfire::Skip,
        Misfire::RunOnce,
        Misfire::CatchUp(u16::from(choice % 5) + 1),
    ];
    (
        overlap[usize::from(choice % 4)],
        misfire[usize::from(choice / 4 % 3)],
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_nominal_time_gets_exactly_one_of_fired_missed_and_skipped(
        schedules in prop::collection::vec((0..CRONS.len(), 0..ZONES.len(), any::<u8>()), 1..4),
        steps in prop::collection::vec((0..5_u8, any::<u16>()), 1..40),
        begin in 0..400_i64,
    ) {
        let mut world = World::studio();
        world.now += begin * 24 * HOUR;
        let mut begun = BTreeMap::new();
        for (n, (cron, zone, choice)) in schedules.iter().enumerate() {
            let (overlap, misfire) = policy(*choice);
            let name = format!("s{n}");
            let zone = ZONES[*zone];
            say(&mut world, &ScheduleDefined { zone: zone.into(), ..define(&name, CRONS[*cron], overlap, misfire) });
            begun.insert(name.clone(), (world.state.schedule(&name).unwrap().defined_at, CRONS[*cron], zone));
        }
        for (what, choice) in steps {
            // Looks come close together, far apart, and not at all for a while; jobs end now and then.
            world.now += match what {
                0 => i64::from(choice) * SECOND / 64,
                1 => i64::from(choice) * SECOND,
                2 => i64::from(choice % 100) * HOUR,
                _ => i64::from(choice % 90) * SECOND,
            };
            if what == 3 {
                end_all(&mut world);
            } else {
                let written = look(&mut world);
                let on_time = written.iter().filter(|r| {
                    matches!(r.statement().any_detail(), Ok(AnyDetail::ScheduleFired(d)) if !d.misfired)
                });
                prop_assert!(on_time.count() <= schedules.len(), "no burst");
            }
        }
        for _ in 0..10_000 {
            if look(&mut world).is_empty() {
                break;
            }
        }
        for (name, (from, cron, zone)) in begun {
            let calendar = Calendar::new(cron, zone).unwrap();
            let mut wanted = Vec::new();
            let mut at = from;
            while let Some(next) = calendar.next(at).filter(|next| *next <= world.now) {
                wanted.push(next);
                at = next;
            }
            let told: Vec<i64> = told(&world, &name, cron, zone).into_iter().map(|(at, _)| at).collect();
            prop_assert_eq!(told, wanted, "{} {}", cron, zone);
        }
        prop_assert_eq!(world.inert(), 0);
    }
}
