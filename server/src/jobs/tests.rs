//! A claim of what this machine does not declare, given by a real gateway.

use super::*;
use crate::config::{Config, Timing};
use crate::daemon::run_gateway_with;
use crate::exchange::Claim;
use crate::gateway::central::put;
use crate::gateway::claim_now;
use crate::gateway::exchange::take_in_now;
use crate::gateway::records::read_run;
use crate::setup;
use ledger::core::kinds::{AnyDetail, HandlerDeclared, JobSpec, RequestReceived, Role};
use ledger::core::{MachineId, Subject};
use ledger::intake::VerifiedRun;
use ledger_projections::queue::{Phase, decide};
use tokio::sync::oneshot;

/// Nothing here may take longer.
const SOON: Duration = Duration::from_secs(120);

fn request(handler: &str) -> Draft {
    let spec = JobSpec {
        handler: handler.into(),
        machine: None,
        labels: Vec::new(),
        priority: 0,
        attempts_max: 3,
        not_before: None,
        deadline: None,
        unique_key: None,
        concurrency_key: None,
        depends_on: Vec::new(),
        hold_on_failed_dependency: false,
        retry_of: None,
        input: None,
    };
    Draft::of(
        &RequestReceived { spec },
        Subject::new("request").expect("a subject"),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_of_a_handler_that_is_not_declared_here_runs_nothing_and_its_job_fails_for_good() {
    let all = async {
        let home = tempfile::tempdir().expect("a folder");
        let (gateway, dir) = (home.path().join("g"), home.path().join("n"));
        setup::init(&gateway, &MachineId::new("gateway").expect("a name")).expect("a fleet");
        let ((tell, told), (stop, stopped)) = (oneshot::channel(), oneshot::channel::<()>());
        let config = Config {
            listen: "127.0.0.1:0".into(),
            timing: Timing {
                heal_wait_ms: Some(0),
                ..Timing::default()
            },
            ..Config::default()
        };
        let at = gateway.clone();
        let running = tokio::spawn(async move {
            let ready = move |machine: &Arc<Machine>, address: &str| {
                drop(tell.send((Arc::clone(machine), address.to_owned())));
            };
            run_gateway_with(&at, config, ready, async move { drop(stopped.await) }).await
        });
        let (central, address) = told.await.expect("it runs");
        central.central.wait_until_serving().await.expect("it decides");
        let name = MachineId::new("studio").expect("a name");
        let root = setup::load_root_key(&gateway, None).expect("the root key");
        let fleet = central.ledger.context().fleet;
        let named = Some(name.clone());
        let (said, line) =
            setup::invitation(&root, fleet, Role::Node, named, SOON, &address).expect("a line");
        let said = said.verify().expect("its signature");
        central.append(said).await.expect("the invitation");
        setup::join(&dir, &line, &name).await.expect("it joins");

        // Central takes it for a machine that has the handler.
        let declared = HandlerDeclared {
            machine: name.clone(),
            handler: "ghost".into(),
            class: Class::Light,
            labels: Vec::new(),
            slots: 1,
        };
        let of = name.clone();
        let declaring = central.ledger.submit(move |tx| -> Result<(), ServerError> {
            let drafts = decide::handler_declared(tx.state(), &of, &[declared])?;
            put(tx, drafts)?;
            Ok(())
        });
        declaring.await.expect("a declaration");
        let said = central.sign_as_actor(request("ghost")).expect("a request");
        let job = central.request(said).await.expect("a job").job;
        let claim = Claim {
            claim: [1; 16],
            incarnation: 1,
            free: vec![("ghost".into(), 1)],
            wait_ms: 0,
        };
        let mut given = claim_now(&central, &name, &claim, None).await.expect("a claim");
        assert_eq!(given.len(), 1);

        let node = Machine::open(&dir, Config::default()).expect("its store");
        let jobs = Jobs::new(Arc::clone(&node), PathBuf::from("/nowhere/ledger"));
        jobs.take(given.remove(0)).await;
        while jobs.is_busy() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // It says so in a receipt, and nothing was begun.
        let work = node.ledger.own_log(Stream::Work).expect("its work");
        let receipts = node.ledger.range(&work, 1, u64::MAX);
        let receipts: Vec<_> = receipts.map(|receipt| receipt.expect("a receipt")).collect();
        let [refused] = &receipts[..] else {
            panic!("{receipts:?}");
        };
        let Ok(AnyDetail::RunFailed(said)) = refused.statement().any_detail() else {
            panic!("{refused:?}");
        };
        assert_eq!(
            (said.job, said.error, said.permanent),
            (job, ErrorClass::Undeclared, true)
        );
        assert!(!node.ledger.paths().data().join("runs").exists());

        // There are attempts left, and none is made: it would fail there again.
        let (records, _) = read_run(&node, &work, 0).expect("its work");
        let raw = records.into_iter().map(|raw| (raw.record, raw.payload)).collect();
        let known = central.ledger.snapshot().logs.get(&work).cloned();
        let run = VerifiedRun::verify(raw, known.as_deref())
            .expect("a run")
            .expect("records");
        assert_eq!(take_in_now(&central, run, &name).expect("it is taken in"), 1);
        let snapshot = central.ledger.snapshot();
        let phase = snapshot.state.job(&job).map(|job| job.phase());
        assert_eq!(phase, Some(Phase::Failed));
        drop(snapshot);
        drop(stop);
        running.await.expect("it ends").expect("well");
    };
    tokio::time::timeout(SOON, all).await.expect("in time");
}
