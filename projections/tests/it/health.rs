//! The view of the machines: the order's word beside the latest gauges.

use crate::harness::{MINUTE, SECOND, World, machine, spec};
use ledger_core::kinds::{
    Evidence, NodeAsleep, NodeDraining, NodePulse3, NodeQuarantined, NodeResumed, NodeRetired, RestReason,
    Role,
};
use ledger_core::{Detail, Draft, Subject};
use ledger_projections::health::{
    Gauges, HealthState, NodeView, STATES, Sign, check_wish, held_back, markdown, nodes,
};

fn view(world: &World, name: &str) -> NodeView {
    let heard_at = world.now - 5 * SECOND;
    let gauges = |id: &ledger_core::MachineId| {
        (id.as_str() == "mini").then(|| Gauges {
            pulse: NodePulse3::default(),
            heard_at,
        })
    };
    nodes(&world.state, world.now, 30 * SECOND, gauges)
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
        (studio.state.as_str(), studio.jobs.as_slice(), studio.queued),
        ("offline", &[job][..], 1)
    );
    assert_eq!(studio.silent_us, Some(MINUTE));
    assert_eq!(studio.handlers, ["pay", "render", "tidy"]);
    let mini = view(&world, "mini");
    assert_eq!(
        (mini.state.as_str(), mini.silent_us, mini.queued),
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
    assert_eq!(view(&world, "studio").state.as_str(), "retired");
}

fn say<D: Detail>(world: &mut World, detail: &D) {
    world.decide(vec![Draft::of(detail, Subject::new("node").unwrap())]);
}

fn evidence(world: &World) -> Evidence {
    world.journal.last().unwrap().evidence()
}

const SIGNS: [Sign; 6] = [
    Sign::Retired,
    Sign::Quarantined,
    Sign::Asleep,
    Sign::Lost,
    Sign::Draining,
    Sign::Silent,
];

#[test]
fn every_combination_of_signs_is_one_state_and_the_first_row_wins() {
    assert_eq!(STATES.len(), SIGNS.len() + 1);
    for (row, sign) in STATES.iter().zip(SIGNS) {
        assert_eq!(row.when, Some(sign));
        assert_eq!(row.state.row(), row);
    }
    assert_eq!(
        STATES.last().map(|row| (row.when, row.state)),
        Some((None, HealthState::Online))
    );
    for stands in 0..1u8 << SIGNS.len() {
        let is = |sign: Sign| {
            let bit = SIGNS.iter().position(|other| *other == sign).unwrap();
            stands & (1 << bit) != 0
        };
        let first = usize::try_from(stands.trailing_zeros()).unwrap().min(SIGNS.len());
        assert_eq!(HealthState::of(is), STATES[first].state);
    }
}

#[test]
fn a_machine_passes_through_all_its_states() {
    let mut world = World::studio();
    let state = |world: &World, name: &str| view(world, name).state;
    assert_eq!(state(&world, "mini"), HealthState::Online);
    world.now += MINUTE;
    let late = nodes(&world.state, world.now, 30 * SECOND, |_| {
        Some(Gauges {
            pulse: NodePulse3::default(),
            heard_at: world.now - 30 * SECOND,
        })
    });
    assert!(late.iter().all(|node| node.state == HealthState::Late));
    let (mini, reason) = (machine("mini"), "Umbau".to_owned());
    say(
        &mut world,
        &NodeDraining {
            machine: mini.clone(),
            reason: reason.clone(),
        },
    );
    let seen = view(&world, "mini");
    assert_eq!(
        (seen.state, seen.reason.as_deref()),
        (HealthState::Draining, Some("Umbau"))
    );
    assert!(seen.held_back);
    world.silence("mini");
    assert_eq!(state(&world, "mini"), HealthState::Offline);
    let asleep = NodeAsleep {
        machine: mini.clone(),
        since: world.now - MINUTE,
        reason: RestReason::Stop,
        evidence: evidence(&world),
    };
    say(&mut world, &asleep);
    let seen = view(&world, "mini");
    assert_eq!(
        (seen.state, seen.since),
        (HealthState::Asleep, world.now - MINUTE)
    );
    say(
        &mut world,
        &NodeQuarantined {
            machine: mini.clone(),
            reason: reason.clone(),
        },
    );
    assert_eq!(state(&world, "mini"), HealthState::Quarantined);
    world.back("mini");
    assert_eq!(state(&world, "mini"), HealthState::Quarantined);
    say(
        &mut world,
        &NodeResumed {
            machine: mini.clone(),
            reason: reason.clone(),
        },
    );
    assert_eq!(
        (state(&world, "mini"), held_back(&world.state, &mini)),
        (HealthState::Online, None)
    );
    world.rooted(&NodeRetired {
        machine: mini.clone(),
        reason,
    });
    assert_eq!(state(&world, "mini"), HealthState::Retired);
    // What is said of a machine that nobody waits for changes nothing.
    let inert = world.inert();
    say(
        &mut world,
        &NodeDraining {
            machine: mini.clone(),
            reason: String::new(),
        },
    );
    say(
        &mut world,
        &NodeDraining {
            machine: machine("nobody"),
            reason: String::new(),
        },
    );
    assert_eq!((world.inert(), held_back(&world.state, &mini)), (inert + 2, None));
}

#[test]
fn a_draining_machine_claims_nothing_and_what_it_runs_goes_on() {
    let mut world = World::studio();
    world.submit(spec("render"));
    let (fence, job) = world.must_claim("studio", "render");
    let studio = machine("studio");
    say(
        &mut world,
        &NodeDraining {
            machine: studio.clone(),
            reason: "update".into(),
        },
    );
    world.submit(spec("render"));
    assert!(
        world.claim("studio", "render").is_none(),
        "no work while it drains"
    );
    let row = world.state.job(&job).unwrap();
    assert_eq!(row.lease().map(|lease| lease.fence), Some(fence));
    say(
        &mut world,
        &NodeResumed {
            machine: studio,
            reason: String::new(),
        },
    );
    assert!(world.claim("studio", "render").is_some());
}

#[test]
fn a_wish_about_a_machine_is_refused_by_name() {
    let mut world = World::studio();
    let wish = |world: &World, name: &str, reason: &str| {
        check_wish(&world.state, &machine(name), reason).map_err(|refusal| refusal.code())
    };
    assert_eq!(wish(&world, "studio", "update"), Ok(()));
    assert_eq!(wish(&world, "nobody", ""), Err("machine.unknown"));
    assert_eq!(wish(&world, "studio", &"x".repeat(201)), Err("request.spec"));
    world.rooted(&NodeRetired {
        machine: machine("studio"),
        reason: "sold".into(),
    });
    assert_eq!(wish(&world, "studio", ""), Err("machine.retired"));
}

/// `UPDATE=1 cargo test -p ledger-projections` writes the table into the document.
#[test]
fn the_document_shows_the_states_of_a_machine() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/NODES.md");
    let text = std::fs::read_to_string(path).expect("docs/NODES.md is there");
    let (begin, end) = ("<!-- states: begin -->\n", "<!-- states: end -->");
    let from = text.find(begin).expect("the table's beginning is marked") + begin.len();
    let to = text.find(end).expect("the table's end is marked");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, format!("{}{}{}", &text[..from], markdown(), &text[to..])).unwrap();
        return;
    }
    let told = "run with UPDATE=1 to write the table into docs/NODES.md";
    assert_eq!(&text[from..to], markdown(), "{told}");
}
