//! Where something is bounded, refused or interrupted while a branch is settled.

use super::*;
use ledger::core::kinds::{HeldReason, JobHeld};

impl Gateway {
    /// Seals what an actor says in the order, and decides nothing of it.
    async fn seal_alone(&self, said: Vec<VerifiedStatement>) {
        let sealing = self.0.ledger.submit(move |tx| -> Result<(), LedgerError> {
            for said in said {
                tx.append_signed(Stream::Order, &said)?;
            }
            Ok(())
        });
        sealing.await.unwrap();
    }

    fn says<D: Detail>(&self, detail: &D, job: &JobId) -> VerifiedStatement {
        self.0.sign_as_actor(Draft::of(detail, job.subject())).unwrap()
    }
}

#[tokio::test]
async fn what_waits_beyond_what_is_remembered_is_settled_too_and_a_large_push_proves_the_claims_of_all_its_requests()
 {
    const PAID: usize = 700;
    let dir = tempfile::tempdir().unwrap();
    let (home, old) = (dir.path().join("home"), dir.path().join("old"));
    let gateway = Gateway::found(&home).await;
    gateway.close().await;
    copy(&home, &old);
    let gateway = Gateway::open(&home);
    let [order, facts] = [Stream::Order, Stream::Facts].map(|stream| gateway.log(stream));
    let (cut, facts_cut) = (gateway.end(&order), gateway.end(&facts));
    // Kept in facts while no daemon ran; more than are remembered when something waits for each.
    let handler = |n| if n == PAID { "pay" } else { "render" };
    let said: Vec<_> = (0..AT_ONCE + 10)
        .map(|n| gateway.said(&spec(handler(n)), None))
        .collect();
    let jobs: Vec<JobId> = said.iter().map(|said| job_of(said.statement())).collect();
    let policy = gateway.0.config.policy();
    let asking = gateway.0.ledger.submit(move |tx| -> Result<(), ServerError> {
        for said in said {
            let asked = tx.append_signed(Stream::Facts, &said)?;
            let drafts = decide::accept_request(tx.state(), asked.receipt(), tx.now_us(), &policy)?;
            central::put(tx, drafts)?;
        }
        Ok(())
    });
    asking.await.unwrap();
    let cancels = jobs.iter().enumerate().filter(|(n, _)| *n != PAID);
    let cancels = cancels.map(|(_, job)| {
        let asked = JobCancelAsked {
            job: *job,
            force: false,
            reason: "not wanted".into(),
        };
        gateway.says(&asked, job)
    });
    gateway.seal_alone(cancels.collect()).await;
    let paying = gateway.claim("pay", 1).await[0];
    let tail = gateway.tail(&order, cut, gateway.end(&order));
    let requests = gateway.tail(&facts, facts_cut, gateway.end(&facts));
    gateway.close().await;

    let gateway = Gateway::put_back(&old).await;
    gateway.bring(&tail).await;
    settle(&gateway.0).await;
    assert_eq!(gateway.count("log.cited"), 0, "not all of it is remembered");
    gateway.bring(&requests).await;
    assert_eq!(gateway.standing(&paying), Standing::Released);
    assert_eq!(gateway.phase(&jobs[PAID]), Some(Phase::Held));
    settle(&gateway.0).await;
    for (n, job) in jobs.iter().enumerate().filter(|(n, _)| *n != PAID) {
        assert_eq!(gateway.phase(job), Some(Phase::Cancelled), "{n}");
    }
    settle(&gateway.0).await;
    assert_eq!(gateway.count("log.cited"), 1);
    assert_eq!(gateway.count("job.cancel-asked"), jobs.len() - 1);
    gateway.close().await;
}

#[tokio::test]
async fn what_was_refused_is_not_said_again_when_settling_ends_early_and_who_goes_away_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (home, old) = (dir.path().join("home"), dir.path().join("old"));
    let gateway = Gateway::found(&home).await;
    let job = gateway.ask("render", 1).await[0];
    gateway.close().await;
    copy(&home, &old);
    let gateway = Gateway::open(&home);
    let order = gateway.log(Stream::Order);
    let cut = gateway.end(&order);
    let released = JobReleased {
        job,
        note: String::new(),
    };
    gateway.seal_alone(vec![gateway.says(&released, &job)]).await;
    let tail = gateway.tail(&order, cut, gateway.end(&order));
    gateway.close().await;

    let gateway = Gateway::put_back(&old).await;
    settle(&gateway.0).await;
    let orphans = &gateway.0.central.orphans;
    assert!(!orphans.is_unsettled(u64::MAX));
    // The machine that brings it goes away before it has its answer.
    let run = VerifiedRun::verify(
        tail,
        gateway
            .0
            .ledger
            .snapshot()
            .logs
            .get(&order)
            .map(std::convert::AsRef::as_ref),
    );
    let studio = MachineId::new("studio").unwrap();
    tokio::select! {
        biased;
        _ = keep(&gateway.0, &studio, run.unwrap().unwrap()) => panic!("it was not durable yet"),
        () = std::future::ready(()) => {}
    }
    for _ in 0..500 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        if orphans.is_unsettled(u64::MAX) {
            break;
        }
    }
    assert!(orphans.is_unsettled(u64::MAX));
    orphans.hear(&studio, false, 0);

    // The first piece is said, and something keeps it from being cited.
    let branch = Branch::all(&gateway.0).unwrap().pop().unwrap();
    let piece = branch.piece(&gateway.0, branch.first()).unwrap();
    say_again(&gateway.0, &branch, piece.told).await.unwrap();
    let held = JobHeld {
        job,
        reason: HeldReason::ByHand,
        note: String::new(),
    };
    gateway.say(&held, &job).await;
    settle(&gateway.0).await;
    assert_eq!(gateway.count("log.cited"), 1);
    assert_eq!(gateway.phase(&job), Some(Phase::Held));
    gateway.close().await;
}

#[tokio::test]
async fn steps_that_are_more_together_than_a_commit_takes_are_decided_in_several() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let gateway = Gateway::found(&home).await;
    let facts = gateway.log(Stream::Facts);
    let before = gateway.end(&facts);
    // 18 MiB; a commit has room for 16.
    let large: Vec<Draft> = (0..288u16)
        .map(|n| {
            let subject = Subject::new("project/site").unwrap();
            let draft = Draft::of(&RequestReceived { spec: spec("render") }, subject);
            draft
                .payload("text/plain", [n.to_be_bytes(); 32 * 1024].concat())
                .unwrap()
        })
        .collect();
    let deciding = in_parts(&gateway.0, large, |tx, _, large| {
        for draft in large {
            tx.append(Stream::Facts, draft.clone())?;
        }
        Ok(())
    });
    deciding.await.unwrap();
    assert_eq!(gateway.end(&facts), before + 288);
    gateway.close().await;
}

#[tokio::test]
async fn a_cut_in_the_middle_of_a_commit_loses_neither_a_request_nor_a_tick() {
    let dir = tempfile::tempdir().unwrap();
    let (home, old) = (dir.path().join("home"), dir.path().join("old"));
    let gateway = Gateway::found(&home).await;
    gateway.define("nightly", Misfire::RunOnce).await;
    gateway.close().await;
    copy(&home, &old);
    let gateway = Gateway::open(&home);
    let order = gateway.log(Stream::Order);
    let cut = gateway.end(&order);
    gateway.fire("nightly").await;
    let (job, _) = gateway.fired("nightly");
    let mut tail = gateway.tail(&order, cut, gateway.end(&order));
    gateway.close().await;
    // Another copy ends behind the tick, in front of its request.
    let is_fired = |(record, _): &(Vec<u8>, Option<Payload>)| {
        let record = ledger::core::Record::parse(record).unwrap();
        let detail = record.statement().any_detail();
        matches!(detail, Ok(ledger::core::kinds::AnyDetail::ScheduleFired(fired)) if fired.job == job)
    };
    let at = tail.iter().position(is_fired).unwrap();
    let beyond = tail.split_off(at + 1);
    let behind = Machine::open_behind(&old, Config::default()).unwrap();
    let chain = behind.ledger.snapshot().logs.get(&order).cloned();
    let run = VerifiedRun::verify(tail, chain.as_deref()).unwrap().unwrap();
    let taking = behind.ledger.submit(move |tx| tx.intake(&run).map(drop));
    taking.await.unwrap();
    let gateway = Gateway::go_on(behind, &old).await;
    gateway.bring(&beyond).await;
    settle(&gateway.0).await;
    assert_eq!(gateway.phase(&job), Some(Phase::Ready));

    // The copy ends behind a request, in front of its job.
    let asked = gateway.said(&spec("render"), None);
    let job = job_of(asked.statement());
    gateway.seal_alone(vec![asked]).await;
    assert_eq!(gateway.phase(&job), None);
    gateway.close().await;
    let gateway = Gateway::put_back(&old).await;
    assert_eq!(gateway.phase(&job), Some(Phase::Ready));
    gateway.close().await;
}

#[tokio::test]
async fn what_its_author_erases_once_a_branch_is_settled_is_gone_there_too() {
    let dir = tempfile::tempdir().unwrap();
    let (home, old) = (dir.path().join("home"), dir.path().join("old"));
    let gateway = Gateway::found(&home).await;
    gateway.close().await;
    copy(&home, &old);
    let gateway = Gateway::open(&home);
    let order = gateway.log(Stream::Order);
    let cut = gateway.end(&order);
    let request = gateway.said(&spec("render"), Some(SECRET));
    let id = request.statement().id;
    gateway.0.request(request).await.unwrap();
    let tail = gateway.tail(&order, cut, gateway.end(&order));
    gateway.close().await;

    let gateway = Gateway::put_back(&old).await;
    gateway.bring(&tail).await;
    settle(&gateway.0).await;
    assert_eq!(gateway.count("log.cited"), 1);
    let sealed = gateway.0.ledger.find(&id).unwrap();
    let own = gateway.log(Stream::Order);
    let again = sealed.iter().find(|sealed| sealed.log() == own).unwrap();
    let draft = ledger::erase::draft(again, "they asked for it").unwrap();
    let said = gateway.0.sign_as_actor(draft).unwrap();
    assert!(holds(&old, SECRET));
    gateway.0.append(said).await.unwrap();
    assert!(!holds(&old, SECRET));
    gateway.close().await;
}
