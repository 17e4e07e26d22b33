//! Promises that were once broken: each is a fault that a reading of the code found, and stays as a test.

use ledger::core::digest::commitment;
use ledger::core::kinds::{Credential, InputRef, JobSpec, RequestReceived, Role};
use ledger::core::{Draft, Kind, MachineId, SigningKey, Subject};
use ledger_projections::queue::Phase;
use ledger_server::{Config, Machine, setup};
use std::sync::Arc;

fn spec(handler: &str) -> JobSpec {
    JobSpec {
        handler: handler.into(),
        machine: None,
        labels: Vec::new(),
        priority: 0,
        attempts_max: 1,
        not_before: None,
        deadline: None,
        unique_key: None,
        concurrency_key: None,
        depends_on: Vec::new(),
        hold_on_failed_dependency: false,
        retry_of: None,
        input: None,
    }
}

fn gateway(dir: &std::path::Path) -> Arc<Machine> {
    setup::init(dir, &MachineId::new("central").unwrap()).unwrap();
    Machine::open(dir, Config::default()).unwrap()
}

fn request(spec: JobSpec) -> Draft {
    Draft::of(&RequestReceived { spec }, Subject::new("request").unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_said_again_gets_the_first_answer_even_with_a_unique_key() {
    let dir = tempfile::tempdir().unwrap();
    let machine = gateway(&dir.path().join("g"));
    let said = machine
        .sign_as_actor(request(JobSpec {
            unique_key: Some("only-one".into()),
            not_before: None,
            ..spec("x")
        }))
        .unwrap();
    let first = machine.request(said.clone()).await.unwrap();
    let again = machine
        .request(said)
        .await
        .expect("the same statement again is a repetition");
    assert!(again.repeated && again.job == first.job);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_input_can_never_be_given_becomes_no_job() {
    let dir = tempfile::tempdir().unwrap();
    let machine = gateway(&dir.path().join("g"));
    let input = InputRef {
        commitment: commitment(&[1; 32], b"{}"),
        bytes: 2,
    };
    let said = machine
        .sign_as_actor(request(JobSpec {
            input: Some(input),
            ..spec("x")
        }))
        .unwrap();
    let answer = machine.request(said).await;
    let snapshot = machine.ledger.snapshot();
    let jobs: Vec<_> = snapshot.state.jobs().map(|job| job.phase()).collect();
    assert!(answer.is_err() && jobs.is_empty(), "{answer:?} {jobs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_writes_nothing_into_the_order() {
    let dir = tempfile::tempdir().unwrap();
    let machine = gateway(&dir.path().join("g"));
    let root = setup::load_root_key(&dir.path().join("g"), None).unwrap();
    let fleet = machine.ledger.context().fleet;
    let reader = SigningKey::from_seed([9; 32]);
    let granted = setup::grant(
        &root,
        fleet,
        Credential::Key(reader.public()),
        "reader",
        Role::Reader,
        None,
    )
    .unwrap();
    machine.append(granted.verify().unwrap()).await.unwrap();
    let draft = Draft::custom(Kind::new("job.bogus").unwrap(), Subject::new("job/x").unwrap());
    let said = setup::sign(&reader, fleet, draft).unwrap().verify().unwrap();
    let answer = machine.append(said).await;
    assert!(
        answer.is_err(),
        "{:?}",
        answer.map(|a| (a.receipt.kind().to_owned(), a.receipt.log(), a.receipt.seq()))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_parked_for_want_of_a_handler_keeps_its_not_before() {
    use ledger::core::Stream;
    use ledger::core::kinds::{Class, HandlerDeclared};
    use ledger_projections::queue::decide;
    let dir = tempfile::tempdir().unwrap();
    let machine = gateway(&dir.path().join("g"));
    let later = machine.now_us() + 3_600_000_000;
    let said = machine
        .sign_as_actor(request(JobSpec {
            not_before: Some(later),
            ..spec("later")
        }))
        .unwrap();
    let answer = machine.request(said).await.unwrap();
    let own = machine.id().clone();
    machine
        .ledger
        .submit(move |tx| -> Result<(), ledger_server::ServerError> {
            let declared = HandlerDeclared {
                machine: own.clone(),
                handler: "later".into(),
                class: Class::Light,
                labels: vec![],
                slots: 1,
            };
            for draft in decide::handler_declared(tx.state(), &own, &[declared])? {
                tx.append(Stream::Order, draft)?;
            }
            Ok(())
        })
        .await
        .unwrap();
    let snapshot = machine.ledger.snapshot();
    let phase = snapshot.state.job(&answer.job).unwrap().phase();
    assert_ne!(phase, Phase::Ready, "an hour too early");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_with_a_time_is_never_forgotten_when_the_wall_clock_steps_back() {
    use ledger::clock::Clock;
    use ledger::core::Stream;
    use ledger::core::kinds::{Class, HandlerDeclared};
    use ledger::{Ledger, OpenOptions, Paths};
    use ledger_projections::{FleetState, queue::Policy, queue::decide};
    use std::sync::atomic::{AtomicI64, Ordering};
    #[derive(Clone)]
    struct Stepping(Arc<AtomicI64>);
    impl Clock for Stepping {
        fn now_us(&self) -> i64 {
            self.0.load(Ordering::SeqCst)
        }
    }
    let dir = tempfile::tempdir().unwrap();
    setup::init(&dir.path().join("g"), &MachineId::new("central").unwrap()).unwrap();
    let start = ledger::clock::SystemClock.now_us();
    let clock = Stepping(Arc::new(AtomicI64::new(start + 30_000_000)));
    let options = OpenOptions::default().clock(clock.clone());
    let ledger: Ledger<FleetState> = Ledger::open(&Paths::new(dir.path().join("g")), options).unwrap();
    let own = ledger.context().machine.clone();
    let declared = HandlerDeclared {
        machine: own.clone(),
        handler: "x".into(),
        class: Class::Light,
        labels: vec![],
        slots: 1,
    };
    let declare = move |tx: &mut ledger::Tx<'_, FleetState>| -> Result<(), ledger_server::ServerError> {
        for draft in decide::handler_declared(tx.state(), &own, &[declared])? {
            tx.append(Stream::Order, draft)?;
        }
        Ok(())
    };
    ledger.submit(declare).await.unwrap();
    // NTP corrects the clock by 30 seconds.
    clock.0.store(start, Ordering::SeqCst);
    let entropy = ledger::clock::SystemEntropy;
    let said = ledger
        .sign_as_actor(
            request(JobSpec {
                not_before: Some(start + 5_000_000),
                ..spec("x")
            }),
            &entropy,
        )
        .unwrap();
    let job = ledger::core::kinds::JobId::of_request(&said.statement().author, &said.statement().id);
    ledger
        .submit(move |tx| -> Result<(), ledger_server::ServerError> {
            let appended = tx.append_signed(Stream::Order, &said)?;
            for draft in
                decide::accept_request(tx.state(), appended.receipt(), tx.now_us(), &Policy::default())?
            {
                tx.append(Stream::Order, draft)?;
            }
            Ok(())
        })
        .await
        .unwrap();
    clock.0.store(start + 3_600_000_000, Ordering::SeqCst);
    ledger
        .submit(move |tx| -> Result<(), ledger_server::ServerError> {
            for draft in decide::due(tx.state(), tx.now_us(), &ledger_projections::Policy::default()) {
                tx.append(Stream::Order, draft)?;
            }
            Ok(())
        })
        .await
        .unwrap();
    let phase = ledger.snapshot().state.job(&job).unwrap().phase();
    assert_eq!(phase, Phase::Ready, "an hour after its time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_cannot_be_taken_keeps_no_other_job_from_running() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("g");
    let machine = gateway(&home);
    let input = InputRef {
        commitment: commitment(&[1; 32], b"{}"),
        bytes: 2,
    };
    let bad = machine
        .sign_as_actor(request(JobSpec {
            input: Some(input),
            ..spec("x")
        }))
        .unwrap();
    assert!(
        machine.request(bad).await.is_err(),
        "its input could never be given"
    );
    let mut jobs = Vec::new();
    for _ in 0..3 {
        let said = machine.sign_as_actor(request(spec("x"))).unwrap();
        jobs.push(machine.request(said).await.unwrap().job);
    }
    let ledger = machine.ledger.clone();
    drop(machine);
    ledger.close().unwrap();
    std::fs::write(
        Config::path(&home),
        "listen = \"127.0.0.1:0\"\n[timing]\nbeat_ms = 100\nterm_ms = 500\nlost_after_ms = 500\n\
         [[handler]]\nname = \"x\"\nargv = [\"true\"]\nclass = \"light\"\nslots = 8\n",
    )
    .unwrap();
    let (config, _) = Config::load(&home, &[]).unwrap();
    // Twelve terms.
    ledger_server::daemon::run_gateway(
        &home,
        config,
        tokio::time::sleep(std::time::Duration::from_secs(6)),
    )
    .await
    .unwrap();
    let machine = Machine::open(&home, Config::default()).unwrap();
    let snapshot = machine.ledger.snapshot();
    let stuck: Vec<_> = jobs
        .iter()
        .map(|id| snapshot.state.job(id).unwrap())
        .filter(|job| job.lease().is_some_and(|lease| !lease.started))
        .map(|job| (job.id, job.phase()))
        .collect();
    assert!(
        stuck.is_empty(),
        "claimed twelve terms ago, never started, never given back: {stuck:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_comes_by_the_door_of_receipts_becomes_a_job_or_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let machine = gateway(&dir.path().join("g"));
    let said = machine.sign_as_actor(request(spec("x"))).unwrap();
    let appended = machine.append(said.clone()).await;
    let jobs = machine.ledger.snapshot().state.jobs().count();
    let asked = machine.request(said).await;
    assert!(
        appended.is_err() || jobs == 1,
        "sealed as {:?}, jobs {jobs}; asked again: {asked:?}",
        appended.map(|a| (a.receipt.log(), a.receipt.seq()))
    );
}
