//! One filter, one way to tell a receipt.

use crate::harness::{MINUTE, World, machine, spec};
use ledger_projections::timeline::{Bound, Filter, describe, merge_key};

#[test]
fn a_line_tells_who_on_which_machine_and_what() {
    let mut world = World::studio();
    world.submit(spec("render"));
    let (fence, job) = world.must_claim("studio", "render");
    world.start("studio", fence);
    world.succeed("studio", fence, job, 1);
    world.push("studio");
    let of = |kind: &str| {
        let receipt = world.journal.iter().rfind(|r| r.kind() == kind).unwrap();
        describe(receipt, &world.state)
    };
    let asked = of("request.received");
    assert_eq!(
        (asked.machine.as_str(), asked.actor.as_str()),
        ("gateway", "operator")
    );
    assert_eq!(asked.sentence, "asks for render");
    let done = of("job.succeeded");
    assert_eq!(done.actor, "gateway");
    assert!(
        done.sentence.ends_with("succeeded on studio, 1 output"),
        "{}",
        done.sentence
    );
    assert_eq!(done.outputs, [format!("jobs/{job}/")]);
    let ran = of("run.started");
    assert_eq!((ran.machine.as_str(), ran.actor.as_str()), ("studio", "studio"));
    for receipt in &world.journal {
        assert!(
            !describe(receipt, &world.state).sentence.is_empty(),
            "{} says nothing",
            receipt.kind()
        );
    }
}

#[test]
fn a_filter_restricts_by_everything_it_names() {
    let mut world = World::studio();
    world.submit(spec("render"));
    world.now += MINUTE;
    let later = world.now;
    let (fence, _) = world.must_claim("studio", "render");
    world.start("studio", fence);
    world.push("studio");
    let count = |filter: Filter| {
        world
            .journal
            .iter()
            .filter(|r| filter.matches(r, &world.state))
            .count()
    };
    assert_eq!(count(Filter::default()), world.journal.len());
    assert_eq!(
        count(Filter {
            kinds: vec!["run.*".into()],
            ..Filter::default()
        }),
        1
    );
    assert_eq!(
        count(Filter {
            actor: Some("operator".into()),
            ..Filter::default()
        }),
        1
    );
    let since = Filter {
        since: Some(Bound::Time(later)),
        ..Filter::default()
    };
    let until = Filter {
        until: Some(Bound::Time(later)),
        ..Filter::default()
    };
    assert_eq!(count(since) + count(until), world.journal.len());
    let on_studio = Filter {
        machine: Some(machine("studio")),
        kinds: vec!["run.started".into()],
        ..Filter::default()
    };
    assert_eq!(count(on_studio), 1);
    assert_eq!(
        count(Filter {
            subject: Some("job/".into()),
            ..Filter::default()
        }),
        4
    );
}

#[test]
fn merging_is_by_time_first() {
    let mut world = World::studio();
    world.submit(spec("render"));
    world.now += MINUTE;
    let (fence, _) = world.must_claim("studio", "render");
    world.start("studio", fence);
    world.push("studio");
    let mut merged = world.journal.clone();
    merged.sort_by_key(|r| merge_key(r, &world.state));
    assert!(merged.windows(2).all(|pair| pair[0].time() <= pair[1].time()));
}
