//! The view of the machines: the order's word beside the latest gauges.

use crate::harness::{MINUTE, SECOND, World, machine, spec};
use ledger_core::kinds::{NodePulse, NodeRetired, Role};
use ledger_projections::health::{Gauges, NodeView, nodes};

fn view(world: &World, name: &str) -> NodeView {
    let heard_at = world.now - 5 * SECOND;
    let gauges = |id: &ledger_core::MachineId| {
        (id.as_str() == "mini").then(|| Gauges {
            pulse: NodePulse::default(),
            heard_at,
        })
    };
    nodes(&world.state, world.now, gauges)
        .into_iter()
        .find(|node| node.machine == machine(name))
        .unwrap()
}

#[test]
fn a_machine_is_shown_with_its_jobs_its_backlog_and_its_silence() {
    let mut world = World::studio();
    world.submit(spec("render"));
    let (_, job) = world.must_claim("studio", "render");
    world.silence("studio");
    world.submit(spec("render"));
    world.submit(spec("tidy"));
    let studio = view(&world, "studio");
    assert_eq!(
        (studio.status, studio.jobs.as_slice(), studio.queued),
        ("offline", &[job][..], 1)
    );
    assert_eq!(studio.silent_us, Some(MINUTE));
    assert_eq!(studio.handlers, ["pay", "render", "tidy"]);
    let mini = view(&world, "mini");
    assert_eq!(
        (mini.status, mini.silent_us, mini.queued),
        ("online", Some(5 * SECOND), 0)
    );
    let gateway = view(&world, "gateway");
    assert_eq!(
        (gateway.role, gateway.central, gateway.queued),
        (Role::Central, true, 1)
    );
    world.rooted(&NodeRetired {
        machine: machine("studio"),
        reason: "sold".into(),
    });
    assert_eq!(view(&world, "studio").status, "retired");
}
