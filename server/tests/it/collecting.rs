//! A gateway whose old data is put back, and a machine that offers it the end of its order from a copy that somebody changed.
//!
//! The chain does not cover the signatures of authors, so a copy with others under it continues what is here as well as the true
//! one does. Taken in as it is, it would stand there for ever without its author's word.

use crate::forging::{Fleet, Running, Store, address};
use ledger::core::{LogId, PublicKey, Record, Signature, Stream};
use ledger::verify::{Options, verify_store};
use ledger::{Ledger, OpenOptions, Paths};
use ledger_server::client::{Api, ClientError, MachineSigner, Signed};
use ledger_server::daemon::socket;
use ledger_server::exchange::{Hello, HelloAnswer, Mark, Marks, MarksAnswer, Push, PushAnswer, Raw};
use ledger_server::exchange::{decode, encode};
use ledger_server::http::wire::{AppendBody, JobsQuery, RequestBody};
use ledger_server::nightly;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Nothing here may take longer.
const SOON: Duration = Duration::from_secs(120);
/// How long the gateway waits for its node: it decides nothing before.
const HEAL_WAIT_MS: u64 = 60_000;
/// Between two looks whether something is so.
const LOOK: Duration = Duration::from_millis(25);

/// A gateway whose data is older than what its node has of it, and the node's store, for which the test speaks.
pub(crate) struct PutBack {
    pub(crate) home: tempfile::TempDir,
    running: Running,
    pub(crate) api: Api,
    pub(crate) node: Store,
    signed: Signed,
    listen: String,
    // The gateway's facts and its order, and how much of them the old data has.
    pub(crate) logs: Vec<(LogId, Mark)>,
    /// What the gateway's actor asked for behind the old data.
    pub(crate) job: String,
}

fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status();
    assert!(copied.unwrap().success());
}

fn open(dir: &Path) -> Store {
    Ledger::open(&Paths::new(dir), OpenOptions::default()).unwrap()
}

fn mark(store: &Store, log: &LogId) -> Mark {
    let head = store.head(log).unwrap();
    let (seq, seal) = (head.seq, head.seal);
    Mark { seq, seal }
}

// The same record with another signature of its author, or with none.
fn with_author(record: &Record, signature: Option<Signature>) -> Vec<u8> {
    let (said, seal) = (record.statement().clone(), *record.seal());
    let changed = Record::assemble(
        said,
        record.statement_bytes(),
        signature,
        seal,
        *record.log_signature(),
    );
    assert_eq!(
        changed.seal_digest(),
        record.seal_digest(),
        "the chain does not see it"
    );
    changed.bytes().to_vec()
}

fn problem(refused: &ClientError) -> (u16, String) {
    let problem = refused.problem().unwrap_or_else(|| panic!("{refused}"));
    (problem.status, problem.code.clone())
}

impl PutBack {
    pub(crate) async fn new() -> Self {
        Self::with(async |_: &Api, _: &Path| String::new()).await
    }

    /// The same with something more that is said to the gateway behind the old data; its receipt's id, if it is waited for.
    pub(crate) async fn with(say: impl AsyncFnOnce(&Api, &Path) -> String) -> Self {
        let fleet = Fleet::found().await;
        let (gateway, node, old) = (fleet.dir("g"), fleet.dir("n"), fleet.dir("old"));
        let listen = address(&gateway).trim_start_matches("http://").to_owned();
        let (home, running, store) = fleet.take_apart();
        running.stop().await;
        store.close().unwrap();
        let before = open(&gateway);
        let own = [Stream::Facts, Stream::Order].map(|stream| before.own_log(stream).unwrap());
        let logs = own.map(|log| (log, mark(&before, &log))).to_vec();
        before.close().unwrap();
        copy(&gateway, &old);

        // A job and a note, each signed by who said it, and both seen by the node.
        let running = Running::gateway(&gateway, &listen).await;
        let (api, there) = (Api::unix(socket(&gateway)), Api::unix(socket(&node)));
        let following = Running::node(&node);
        let asked = RequestBody {
            handler: "nobody-runs-it".into(),
            ..RequestBody::default()
        };
        let said = AppendBody {
            kind: "x.note".into(),
            subject: "notes".into(),
            ..AppendBody::default()
        };
        let requested = api.request(&asked).await.unwrap().item;
        let note = api.append(&said).await.unwrap().item.receipt.id;
        let more = say(&api, &gateway).await;
        for id in [&requested.receipt, &note, &more]
            .into_iter()
            .filter(|id| !id.is_empty())
        {
            while there.receipt(id).await.is_err() {
                tokio::time::sleep(LOOK).await;
            }
        }
        let central = api.nodes().await.unwrap().items;
        let central = central.iter().find(|row| row.is_central).unwrap();
        let key = PublicKey::from_hex(&central.machine_key).unwrap();
        let at = address(&gateway);
        following.stop().await;
        running.stop().await;
        std::fs::rename(&gateway, home.path().join("lost")).unwrap();
        copy(&old, &gateway);

        let running = Running::waiting_gateway(&gateway, &listen, HEAL_WAIT_MS);
        let node = open(&node);
        let signer = Arc::new(MachineSigner(node.clone()));
        let signed = Signed::new(&at, signer, Some(key)).unwrap();
        Self {
            home,
            running,
            api,
            node,
            signed,
            listen,
            logs,
            job: requested.job,
        }
    }

    /// Stops the gateway and starts it again.
    pub(crate) async fn restart(mut self) -> Self {
        self.running.stop().await;
        self.running = Running::waiting_gateway(&self.home.path().join("g"), &self.listen, HEAL_WAIT_MS);
        self
    }

    async fn ask<A: serde::Serialize + serde::de::DeserializeOwned>(
        &self,
        op: &'static str,
        body: Vec<u8>,
    ) -> Result<A, ClientError> {
        let answer = self.signed.exchange(op, body, SOON).await?;
        Ok(decode(op, &answer).unwrap())
    }

    /// What the gateway says to a machine that has this much of its order.
    pub(crate) async fn hello(&self, offered: bool) -> Result<HelloAnswer, ClientError> {
        let (order, _) = self.logs[1];
        let seen = mark(&self.node, &order);
        let proof = self.node.get(&order, seen.seq).unwrap().unwrap();
        let hello = Hello {
            process: [1; 16],
            incarnation: 1,
            logs: Vec::new(),
            order: Some((1, order, seen, proof.record.bytes().to_vec())),
            fences: Vec::new(),
            handlers: Vec::new(),
            offered,
            now: 0,
        };
        self.ask("hello", encode(&hello)).await
    }

    /// Says hello until the gateway answers like that; between two openings of its store it answers nothing.
    pub(crate) async fn hello_until(&self, offered: bool, is_so: impl Fn(&HelloAnswer) -> bool) {
        while !self.hello(offered).await.is_ok_and(|answer| is_so(&answer)) {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Pushes what may be another machine's.
    pub(crate) async fn push(&self, log: LogId, records: Vec<Raw>) -> Result<PushAnswer, ClientError> {
        let process = [1; 16];
        let push = Push {
            process,
            log,
            records,
        };
        self.ask("push", encode(&push)).await
    }

    /// Everything of a log from a seq on, with what somebody made of each record that its author signed.
    pub(crate) fn raw(
        &self,
        log: LogId,
        first: u64,
        change: impl Fn(&Record, Signature) -> Vec<u8>,
    ) -> Vec<Raw> {
        let raw = self.node.range(&log, first, u64::MAX).map(|receipt| {
            let receipt = receipt.unwrap();
            let payload = self.node.payload(&receipt).unwrap().present();
            let record = match receipt.record.author_signature() {
                Some(signature) => change(&receipt.record, *signature),
                None => receipt.record.bytes().to_vec(),
            };
            Raw { record, payload }
        });
        raw.collect()
    }

    // No copy with another signature is taken in, and the true one is.
    async fn only_the_true_copy_is_taken_in(&self) {
        for (log, before) in self.logs.clone() {
            let flipped = |record: &Record, mut signature: Signature| {
                signature.0[7] ^= 1;
                with_author(record, Some(signature))
            };
            let strangers = |record: &Record, _| {
                let key = ledger::core::SigningKey::from_seed([9; 32]);
                let digest = record.statement_digest();
                with_author(
                    record,
                    Some(ledger::core::signature::sign_statement(&key, &digest)),
                )
            };
            let removed = |record: &Record, _| with_author(record, None);
            let forbidden = (403, "auth.forbidden".to_owned());
            let lost = before.seq + 1;
            let honest = self.raw(log, lost, |record, _| record.bytes().to_vec());
            for (changed, expected) in [
                (self.raw(log, lost, flipped), Some(&forbidden)),
                (self.raw(log, lost, strangers), Some(&forbidden)),
                (self.raw(log, lost, removed), None),
            ] {
                assert_ne!(changed, honest, "its author signed something in it");
                let refused = problem(&self.push(log, changed).await.unwrap_err());
                assert!(
                    expected.is_none_or(|expected| *expected == refused),
                    "{refused:?}"
                );
                let asked = Marks {
                    taking_back: None,
                    logs: vec![log],
                };
                let marks: MarksAnswer = self.ask("marks", encode(&asked)).await.unwrap();
                assert_eq!(marks.others, [(log, Some(before))], "nothing of it: {refused:?}");
            }
            let answer = self.push(log, honest).await.unwrap();
            assert_eq!(answer.mark, mark(&self.node, &log));
        }
    }

    /// What is kept in the end is what was said, byte for byte, and holds.
    pub(crate) async fn stop(self) {
        for stream in [Stream::Work, Stream::Facts] {
            // What the old data lacks of the node's own.
            let log = self.node.own_log(stream).unwrap();
            self.push(log, self.raw(log, 0, |record, _| record.bytes().to_vec()))
                .await
                .unwrap();
        }
        while !self.api.readyz().await.is_ok_and(|said| said.ready) {
            tokio::time::sleep(LOOK).await;
        }
        let listed = self.api.jobs(&JobsQuery::default()).await.unwrap().items;
        assert!(listed.iter().any(|job| job.id == self.job), "{listed:?}");
        self.running.stop().await;
        let dir = self.home.path().join("g");
        let gateway = open(&dir);
        for (log, before) in &self.logs {
            for receipt in self.node.range(log, before.seq, u64::MAX) {
                let receipt = receipt.unwrap();
                let here = gateway.get(log, receipt.seq()).unwrap().unwrap();
                assert_eq!(here.record.bytes(), receipt.record.bytes());
            }
        }
        gateway.close().unwrap();
        let options = Options {
            authority: Some(nightly::authority()),
            ..Options::default()
        };
        let report = verify_store(&dir, &options, &mut |_| {}).unwrap();
        assert!(report.is_clean(), "{report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_collects_its_tail_takes_no_copy_of_it_with_other_signatures_of_its_authors() {
    let all = async {
        let fleet = PutBack::new().await;
        fleet.hello_until(false, |answer| answer.collecting).await;
        fleet.only_the_true_copy_is_taken_in().await;
        fleet
            .hello_until(true, |answer| !answer.healing && answer.epoch == 2)
            .await;
        fleet.stop().await;
    };
    tokio::time::timeout(SOON, all).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_came_behind_a_cut_no_copy_with_other_signatures_of_its_authors_is_kept() {
    let all = async {
        let fleet = PutBack::new().await;
        // It offers nothing while it is asked, so the epoch ends where the old data does.
        fleet.hello_until(false, |answer| answer.collecting).await;
        fleet
            .hello_until(true, |answer| answer.orphan && !answer.healing)
            .await;
        fleet.only_the_true_copy_is_taken_in().await;
        fleet.hello_until(false, |answer| !answer.orphan).await;
        fleet.stop().await;
    };
    tokio::time::timeout(SOON, all).await.unwrap();
}
