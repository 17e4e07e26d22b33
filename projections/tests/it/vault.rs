//! The Vault's index follows what the order pins, publishes outputs with their job's success, and waits visibly.

use crate::harness::{MemoryRows, World, spec};
use ledger::{Receipt, State, StateContext};
use ledger_core::kinds::{ArtifactRecorded, ArtifactRemoved, ArtifactStaged, Fence, JobId};
use ledger_core::{ContentDigest, Draft, LogId, Subject, digest};
use ledger_projections::FleetState;
use ledger_projections::projection::{Halt, ReceiptSource, SourceError};
use ledger_projections::runner::Runner;
use ledger_projections::vault::Vault;

fn file(path: &str, content: u8) -> Draft {
    let recorded = ArtifactRecorded {
        path: path.into(),
        blake3: ContentDigest([content; 32]),
        size: 5,
        before: None,
    };
    Draft::of(&recorded, Subject::new("vault").unwrap())
}

fn facts(world: &mut World, name: &str, draft: Draft) -> Receipt {
    let (key, log) = (world.nodes[name].key.clone(), world.nodes[name].logs[1]);
    world.seal(log, draft, &key)
}

fn stage(world: &mut World, name: &str, fence: Fence, job: JobId, path: &str) {
    let staged = ArtifactStaged {
        job,
        fence,
        path_digest: digest::path_digest(path),
        path: path.into(),
        blake3: ContentDigest([7; 32]),
        size: 3,
    };
    world.work(name, &staged);
}

fn caught_up(world: &World, rows: &MemoryRows) -> Runner<Vault> {
    let mut runner = Runner::open(rows).unwrap();
    while !runner.advance(&world.state, world, rows, 7).unwrap().caught_up {
        assert_eq!(runner.halted(), None);
    }
    runner
}

fn paths(runner: &Runner<Vault>) -> Vec<String> {
    runner
        .projection()
        .files("")
        .map(|(path, _)| path.clone())
        .collect()
}

#[test]
fn files_appear_when_the_order_pins_them_and_go_when_removed() {
    let mut world = World::studio();
    let rows = MemoryRows::default();
    let a = facts(&mut world, "studio", file("a.txt", 1));
    let b = facts(&mut world, "studio", file("b.txt", 2));
    world.take(a.clone());
    world.take(b.clone());
    assert_eq!(
        paths(&caught_up(&world, &rows)),
        Vec::<String>::new(),
        "kept, not pinned yet"
    );
    world.decide(ledger_projections::pin(&[range(&a, &b)]));
    assert_eq!(paths(&caught_up(&world, &rows)), ["a.txt", "b.txt"]);
    let removed = ArtifactRemoved {
        path: "a.txt".into(),
        before: ContentDigest([1; 32]),
    };
    let gone = facts(
        &mut world,
        "studio",
        Draft::of(&removed, Subject::new("vault").unwrap()),
    );
    world.push_one("studio", gone);
    assert_eq!(paths(&caught_up(&world, &rows)), ["b.txt"]);
}

#[test]
fn what_only_an_orphan_branch_pinned_goes_when_the_cut_of_its_epoch_is_known() {
    let mut now = World::studio();
    let mut then = now.clone();
    let rows = MemoryRows::default();
    let only_there = facts(&mut then, "studio", file("a.txt", 1));
    then.push_one("studio", only_there);
    assert_eq!(paths(&caught_up(&then, &rows)), ["a.txt"]);
    let shared = now.journal.len();
    now.next_epoch();
    let kept = facts(&mut now, "mini", file("b.txt", 2));
    now.push_one("mini", kept);
    for receipt in &now.journal[shared..] {
        then.take(receipt.clone());
    }
    assert_eq!(paths(&caught_up(&then, &rows)), ["b.txt"]);
    let anew = caught_up(&now, &MemoryRows::default());
    assert_eq!(caught_up(&then, &rows).digest(), anew.digest());
}

fn range(first: &Receipt, last: &Receipt) -> ledger_core::kinds::PinnedRange {
    ledger_core::kinds::PinnedRange {
        log: first.log(),
        first: first.seq(),
        last: last.seq(),
        seal: last.seal_digest(),
        root: None,
    }
}

#[test]
fn outputs_join_at_their_jobs_success_and_a_zombies_never_do() {
    let mut world = World::studio();
    let rows = MemoryRows::default();
    world.submit(spec("tidy"));
    let (old, job) = world.must_claim("gateway", "tidy");
    world.start("gateway", old);
    stage(&mut world, "gateway", old, job, "zombie.txt");
    world.push("gateway");
    world.expire(job, old);
    let (new, _) = world.must_claim("gateway", "tidy");
    world.start("gateway", new);
    stage(&mut world, "gateway", new, job, "out.txt");
    world.push("gateway");
    assert_eq!(
        paths(&caught_up(&world, &rows)),
        Vec::<String>::new(),
        "staged only"
    );
    world.succeed("gateway", new, job, 1);
    world.push("gateway");
    world.succeed("gateway", old, job, 2);
    world.push("gateway");
    let runner = caught_up(&world, &rows);
    assert_eq!(paths(&runner), [format!("jobs/{job}/out.txt")]);
}

#[test]
fn outputs_are_published_even_when_the_pin_that_covers_them_comes_later() {
    let mut world = World::studio();
    let rows = MemoryRows::default();
    world.submit(spec("tidy"));
    let (fence, job) = world.must_claim("gateway", "tidy");
    world.start("gateway", fence);
    stage(&mut world, "gateway", fence, job, "out.txt");
    world.succeed("gateway", fence, job, 1);
    // As in a batch of the gateway's own: judged first, pinned at its end.
    let reports: Vec<Receipt> = world.nodes.get_mut("gateway").unwrap().outbox.drain(..).collect();
    for report in &reports {
        let report = world.take(report.clone());
        world.judge("gateway", &report);
    }
    world.decide(ledger_projections::pin(&[range(&reports[0], &reports[2])]));
    assert_eq!(paths(&caught_up(&world, &rows)), [format!("jobs/{job}/out.txt")]);
}

/// A store that lacks one log.
struct Without<'a>(&'a World, LogId);

impl ReceiptSource for Without<'_> {
    fn range(&self, log: &LogId, first: u64, last: u64) -> Result<Vec<Receipt>, SourceError> {
        if *log == self.1 {
            Ok(Vec::new())
        } else {
            self.0.range(log, first, last)
        }
    }
}

#[test]
fn a_missing_range_makes_it_wait_visibly_and_go_on_when_it_is_there() {
    let mut world = World::studio();
    let rows = MemoryRows::default();
    let a = facts(&mut world, "studio", file("a.txt", 1));
    world.push_one("studio", a.clone());
    let b = facts(&mut world, "mini", file("b.txt", 1));
    world.push_one("mini", b);
    let mut runner: Runner<Vault> = Runner::open(&rows).unwrap();
    let blind = Without(&world, a.log());
    let progress = runner.advance(&world.state, &blind, &rows, 1000).unwrap();
    assert!(!progress.caught_up);
    assert!(matches!(runner.halted(), Some(Halt::Missing { log, .. }) if *log == a.log()));
    assert_eq!(
        paths(&runner),
        Vec::<String>::new(),
        "nothing behind the gap is shown"
    );
    let progress = runner.advance(&world.state, &world, &rows, 1000).unwrap();
    assert!(progress.caught_up && runner.halted().is_none());
    assert_eq!(paths(&runner), ["a.txt", "b.txt"]);
}

#[test]
fn what_was_kept_is_what_folding_anew_gives_at_every_step() {
    let mut world = World::studio();
    let rows = MemoryRows::default();
    for n in 0..20 {
        let recorded = facts(&mut world, "studio", file(&format!("f{}.txt", n % 7), n));
        world.push_one("studio", recorded);
        let along = caught_up(&world, &rows);
        let kept: Runner<Vault> = Runner::open(&rows).unwrap();
        assert_eq!(
            (kept.projection(), kept.cursor(), kept.digest()),
            (along.projection(), along.cursor(), along.digest())
        );
        let anew = caught_up(&world, &MemoryRows::default());
        assert_eq!(
            (anew.projection(), anew.digest()),
            (along.projection(), along.digest())
        );
    }
}

#[test]
fn a_step_that_cannot_be_kept_did_not_happen() {
    let mut world = World::studio();
    let rows = MemoryRows::default();
    let a = facts(&mut world, "studio", file("a.txt", 1));
    world.push_one("studio", a);
    let mut runner: Runner<Vault> = Runner::open(&rows).unwrap();
    *rows.fails.lock().unwrap() = true;
    runner.advance(&world.state, &world, &rows, 1000).unwrap_err();
    assert!(runner.cursor().is_none() && runner.projection().is_empty());
    *rows.fails.lock().unwrap() = false;
    assert!(
        runner
            .advance(&world.state, &world, &rows, 1000)
            .unwrap()
            .caught_up
    );
    assert_eq!(paths(&runner), ["a.txt"]);
}

#[test]
fn a_store_without_an_order_folds_its_own_facts_at_once() {
    let mut world = World::founded();
    let (key, log) = (world.nodes["gateway"].key.clone(), world.nodes["gateway"].logs[1]);
    let recorded = world.seal(log, file("lone.txt", 1), &key);
    world.take(recorded);
    let context: StateContext = world.context.clone();
    let mut lone = FleetState::empty(&context);
    for receipt in world.journal.iter().filter(|r| r.log() == log) {
        lone.fold(receipt, &mut ledger::Changes::discarding());
    }
    assert!(lone.order().is_none());
    let rows = MemoryRows::default();
    let mut runner: Runner<Vault> = Runner::open(&rows).unwrap();
    assert!(runner.advance(&lone, &world, &rows, 1000).unwrap().caught_up);
    assert_eq!(paths(&runner), ["lone.txt"]);
}

#[test]
fn rows_in_the_derived_store_come_back() {
    use ledger::derived::Derived;
    use ledger_projections::rows::DerivedRows;
    let mut world = World::studio();
    let a = facts(&mut world, "studio", file("a.txt", 1));
    world.push_one("studio", a);
    let folder = tempfile::tempdir().unwrap();
    let rows = DerivedRows::new(Derived::open(&folder.path().join("derived")).unwrap());
    let mut runner: Runner<Vault> = Runner::open(&rows).unwrap();
    while !runner.advance(&world.state, &world, &rows, 3).unwrap().caught_up {}
    let kept: Runner<Vault> = Runner::open(&rows).unwrap();
    assert_eq!(kept.projection(), runner.projection());
    assert_eq!((kept.cursor(), kept.digest()), (runner.cursor(), runner.digest()));
}
