//! Notices are raised exactly once.

use crate::harness::{MINUTE, SECOND, World, spec};
use ledger_core::kinds::NoticeTopic;
use ledger_projections::notices::notices_due;

fn tick(world: &mut World) -> usize {
    let drafts = notices_due(&world.state, world.now, &world.policy);
    world.decide(drafts).len()
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
    use crate::harness::machine;
    use ledger_projections::notices::{node_back, node_lost};
    let mut world = World::studio();
    assert!(node_back(&world.state, &machine("studio"), 0).is_empty());
    world.silence("studio");
    assert!(node_lost(&world.state, &machine("studio"), 0).is_empty());
}
