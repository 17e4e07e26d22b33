//! A machine of the fleet that forges: what it pushes and what it asks to be cosigned is refused, what it contradicts itself in is kept
//! as evidence, and the operator sees it quarantined.

use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign};
use ledger::core::checkpoint::Checkpoint;
use ledger::core::kinds::Role;
use ledger::core::signature::{CONTEXT_LOG, sign_seal};
use ledger::core::{
    Draft, FleetId, Kind, LogId, MachineId, PublicKey, Record, Seal, SealDigest, Signature, StatementDigest,
    Stream, Subject, TreeRoot,
};
use ledger::evidence::{ForkEvidence, ForkKind};
use ledger::verify::{Options, verify_store};
use ledger::{Ledger, OpenOptions, Paths, Receipt};
use ledger_projections::FleetState;
use ledger_server::client::{Api, ClientError, MachineSigner, Signed};
use ledger_server::config::Timing;
use ledger_server::daemon::{RunFile, run_file, run_gateway, run_node, socket};
use ledger_server::exchange::{Cosign, CosignAnswer, Push, PushAnswer, Raw, decode, encode};
use ledger_server::http::wire::{Node, NoticesQuery, WishBody};
use ledger_server::{Config, ServerError, setup};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Nothing here may take longer.
const SOON: Duration = Duration::from_secs(120);

pub(crate) type Store = Ledger<FleetState>;

/// A gateway whose daemon runs, and the store of a machine that joined it, without a daemon: the test speaks for it.
pub(crate) struct Fleet {
    pub(crate) home: tempfile::TempDir,
    pub(crate) api: Api,
    pub(crate) node: Store,
    pub(crate) signed: Signed,
    pub(crate) running: Running,
}

/// A daemon in this process.
pub(crate) struct Running {
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), ServerError>>,
}

impl Running {
    /// A gateway, as soon as it is ready.
    pub(crate) async fn gateway(dir: &Path, listen: &str) -> Self {
        let running = Self::waiting_gateway(dir, listen, 0);
        let api = Api::unix(socket(dir));
        while !api.readyz().await.is_ok_and(|said| said.ready) {
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        running
    }

    /// A gateway that waits so long for the marks of its machines.
    pub(crate) fn waiting_gateway(dir: &Path, listen: &str, heal_wait_ms: u64) -> Self {
        Self::gateway_with(dir, listen, |timing| timing.heal_wait_ms = Some(heal_wait_ms))
    }

    /// A gateway with other times.
    pub(crate) fn gateway_with(dir: &Path, listen: &str, change: impl FnOnce(&mut Timing)) -> Self {
        let (stop, mut stopped) = watch::channel(false);
        let mut config = Config {
            listen: listen.into(),
            timing: timing(),
            ..Config::default()
        };
        change(&mut config.timing);
        let path = dir.to_owned();
        let task = tokio::spawn(async move {
            run_gateway(&path, config, async move {
                drop(stopped.wait_for(|stop| *stop).await);
            })
            .await
        });
        Self { stop, task }
    }

    /// A node.
    pub(crate) fn node(dir: &Path) -> Self {
        let (stop, mut stopped) = watch::channel(false);
        let mut config = Config::load(dir, &[]).unwrap().0;
        config.timing = timing();
        let path = dir.to_owned();
        let task = tokio::spawn(async move {
            run_node(&path, config, async move {
                drop(stopped.wait_for(|stop| *stop).await);
            })
            .await
        });
        Self { stop, task }
    }

    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        self.task.await.unwrap().unwrap();
    }
}

fn timing() -> Timing {
    Timing {
        poll_ms: 100,
        beat_ms: 200,
        heal_wait_ms: Some(0),
        ..Timing::default()
    }
}

/// Where a gateway listens.
pub(crate) fn address(gateway: &Path) -> String {
    let run: RunFile = serde_json::from_slice(&std::fs::read(run_file(gateway)).unwrap()).unwrap();
    run.address.unwrap()
}

/// Lets a machine of this name join in a directory of its own.
pub(crate) async fn join(gateway: &Path, node: &Path) {
    let api = Api::unix(socket(gateway));
    let root = setup::load_root_key(gateway, None).unwrap();
    let fleet = FleetId::from_hex(&api.status().await.unwrap().item.fleet).unwrap();
    let name = MachineId::new("node").unwrap();
    let (ttl, at) = (Duration::from_secs(600), address(gateway));
    let (said, line) = setup::invitation(&root, fleet, Role::Node, Some(name.clone()), ttl, &at).unwrap();
    api.append_signed(&said).await.unwrap();
    setup::join(node, &line, &name).await.unwrap();
}

impl Fleet {
    pub(crate) async fn found() -> Self {
        let home = tempfile::tempdir().unwrap();
        let (gateway, node) = (home.path().join("g"), home.path().join("n"));
        setup::init(&gateway, &MachineId::new("gateway").unwrap()).unwrap();
        let running = Running::gateway(&gateway, "127.0.0.1:0").await;
        join(&gateway, &node).await;
        let api = Api::unix(socket(&gateway));
        let node: Store = Ledger::open(&Paths::new(&node), OpenOptions::default()).unwrap();
        let central = api.nodes().await.unwrap().items;
        let central = central.iter().find(|row| row.is_central).unwrap();
        let key = PublicKey::from_hex(&central.machine_key).unwrap();
        let signer = Arc::new(MachineSigner(node.clone()));
        let signed = Signed::new(&address(&gateway), signer, Some(key)).unwrap();
        Self {
            home,
            api,
            node,
            signed,
            running,
        }
    }

    /// The directory of a machine.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Leaves the daemon and the stores to the test.
    pub(crate) fn take_apart(self) -> (tempfile::TempDir, Running, Store) {
        (self.home, self.running, self.node)
    }

    fn log(&self) -> LogId {
        self.node.own_log(Stream::Facts).unwrap()
    }

    fn say(&self, text: &str) -> Receipt {
        let draft = Draft::custom(Kind::new("x.note").unwrap(), Subject::new("notes").unwrap());
        let draft = draft.payload("text/plain", text.as_bytes().to_vec()).unwrap();
        self.node.append(draft).unwrap()
    }

    async fn ask<A: serde::Serialize + serde::de::DeserializeOwned>(
        &self,
        op: &'static str,
        body: Vec<u8>,
    ) -> Result<A, ClientError> {
        let answer = self.signed.exchange(op, body, SOON).await?;
        Ok(decode(op, &answer).unwrap())
    }

    async fn push_as_it_is(&self, records: Vec<Raw>) -> Result<u64, ClientError> {
        self.push_of(self.log(), records).await
    }

    async fn push_of(&self, log: LogId, records: Vec<Raw>) -> Result<u64, ClientError> {
        let push = Push {
            process: [1; 16],
            log,
            records,
        };
        let answer: PushAnswer = self.ask("push", encode(&push)).await?;
        Ok(answer.mark.seq)
    }

    // Everything honest from a seq on.
    async fn push_from(&self, seq: u64) -> Result<u64, ClientError> {
        self.push_log(self.log(), seq, u64::MAX).await
    }

    /// The same of any log, up to a seq.
    pub(crate) async fn push_log(&self, log: LogId, seq: u64, last: u64) -> Result<u64, ClientError> {
        let receipts = self.node.range(&log, seq, last);
        let records = receipts.map(|receipt| {
            let receipt = receipt.unwrap();
            let payload = self.node.payload(&receipt).unwrap().present();
            raw(&receipt.record, payload)
        });
        self.push_of(log, records.collect()).await
    }

    pub(crate) async fn cosign(&self, checkpoint: &str) -> CosignAnswer {
        let asked = Cosign {
            checkpoints: vec![checkpoint.to_owned()],
            cosigned: Vec::new(),
        };
        self.ask("cosign", encode(&asked)).await.unwrap()
    }

    async fn shown(&self) -> Node {
        let nodes = self.api.nodes().await.unwrap().items;
        nodes.into_iter().find(|node| node.machine == "node").unwrap()
    }

    // What the operator sees when it is quarantined, and that a notice says the same.
    async fn quarantined(&self) -> String {
        let shown = self.shown().await;
        assert_eq!((shown.status.as_str(), shown.held_back), ("quarantined", true));
        let why = shown.reason.unwrap();
        let notices = self.api.notices(&NoticesQuery::default()).await.unwrap().items;
        // Both end where a note does.
        let told = |text: &str| {
            text.strip_prefix("node is quarantined: ")
                .is_some_and(|said| why.starts_with(said))
        };
        assert!(
            notices.iter().any(|notice| told(&notice.text)),
            "{why} {notices:?}"
        );
        why
    }

    async fn resume(&self) {
        let body = WishBody {
            reason: "looked at it".into(),
        };
        self.api.wish("node", "resume", &body).await.unwrap();
        assert!(!self.shown().await.held_back);
    }

    fn evidence(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(self.home.path().join("g/evidence"));
        let files = files.into_iter().flatten().map(|file| file.unwrap().path());
        let mut files: Vec<PathBuf> = files.collect();
        files.sort();
        files
    }

    // Stops the daemon; what its store's verification finds.
    async fn stop(self) -> Vec<(&'static str, Option<u64>)> {
        let dir = self.dir("g");
        self.running.stop().await;
        let report = verify_store(&dir, &Options::default(), &mut |_| {}).unwrap();
        report
            .findings
            .iter()
            .map(|found| (found.code, found.seq))
            .collect()
    }
}

fn raw(record: &Record, payload: Option<ledger::core::Payload>) -> Raw {
    Raw {
        record: record.bytes().to_vec(),
        payload,
    }
}

fn code(refused: &ClientError) -> String {
    refused
        .problem()
        .map(|problem| problem.code.clone())
        .unwrap_or_default()
}

// The same statement in another seal, signed by the key of the log's machine.
fn sealed_anew(node: &Store, record: &Record, seal: Seal) -> Record {
    let signature = sign_seal(&node.keyring().machine, &seal.digest());
    Record::assemble(
        record.statement().clone(),
        record.statement_bytes(),
        record.author_signature().copied(),
        seal,
        signature,
    )
}

// The same seal, signed once more by the same key with another nonce.
fn signed_anew(dir: &Path, record: &Record) -> Record {
    let file = std::fs::read_to_string(Paths::new(dir).keys().join("machine.key")).unwrap();
    let seed = data_encoding::HEXLOWER
        .decode(file.lines().nth(1).unwrap().as_bytes())
        .unwrap();
    let seed: [u8; 32] = seed.try_into().unwrap();
    let mut secret = ExpandedSecretKey::from(&seed);
    secret.hash_prefix[0] ^= 1;
    let key = ed25519_dalek::SigningKey::from_bytes(&seed).verifying_key();
    let mut message = CONTEXT_LOG.as_bytes().to_vec();
    message.push(0);
    message.extend_from_slice(&record.seal_digest().0);
    let mut again = record.clone();
    let signature = raw_sign::<sha2::Sha512>(&secret, &message, &key);
    again.set_log_signature(Signature(signature.to_bytes()));
    again
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_pushes_what_does_not_hold_is_quarantined_and_nothing_of_it_is_taken_in() {
    let all = async {
        let fleet = Fleet::found().await;
        fleet.say("one");
        let tip = fleet.push_from(0).await.unwrap();
        let honest = fleet.say("two");
        let payload = fleet.node.payload(&honest).unwrap().present();
        let record = &*honest.record;
        let seal = *record.seal();
        let with = |seal: Seal| sealed_anew(&fleet.node, record, seal);
        let mut tampered = record.clone();
        let mut signature = record.log_signature().0;
        signature[40] ^= 1;
        tampered.set_log_signature(Signature(signature));
        let other = fleet.say("three");
        let other_payload = fleet.node.payload(&other).unwrap().present();
        for (expected, forged, payload) in [
            ("chain.log-signature", tampered, payload.clone()),
            (
                "chain.prev",
                with(Seal {
                    prev: SealDigest([1; 32]),
                    ..seal
                }),
                payload.clone(),
            ),
            (
                "record.statement-mismatch",
                with(Seal {
                    statement: StatementDigest([1; 32]),
                    ..seal
                }),
                payload.clone(),
            ),
            ("statement.payload", record.clone(), other_payload),
        ] {
            let refused = fleet
                .push_as_it_is(vec![raw(&forged, payload)])
                .await
                .unwrap_err();
            assert_eq!(code(&refused), expected, "{refused}");
            let why = fleet.quarantined().await;
            let told = format!("it pushed what does not hold [{expected}]: ");
            assert!(why.starts_with(&told), "{why}");
            fleet.resume().await;
        }
        // What one side does not know of the other yet tells nothing about a machine.
        let refused = fleet.push_from(tip + 2).await.unwrap_err();
        assert_eq!(code(&refused), "chain.seq", "{refused}");
        assert!(!fleet.shown().await.held_back);
        assert_eq!(
            fleet.push_from(tip).await.unwrap(),
            tip + 2,
            "what is honest is taken in as before"
        );
        assert!(fleet.evidence().is_empty());
        assert_eq!(fleet.stop().await, []);
    };
    tokio::time::timeout(SOON, all).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_seal_signed_in_two_ways_is_a_fork() {
    let all = async {
        let fleet = Fleet::found().await;
        let said = fleet.say("one");
        fleet.push_from(0).await.unwrap();
        let again = signed_anew(&fleet.home.path().join("n"), &said.record);
        assert_ne!(again.bytes(), said.record.bytes());
        let refused = fleet.push_as_it_is(vec![raw(&again, None)]).await.unwrap_err();
        assert_eq!(code(&refused), "ledger.fork", "{refused}");
        let why = fleet.quarantined().await;
        assert!(
            why.contains("two records of its facts log that cannot both be"),
            "{why}"
        );
        let files = fleet.evidence();
        let text = std::fs::read_to_string(&files[0]).unwrap();
        let pin = fleet.node.verifier_key(&fleet.log()).unwrap();
        let proven = ForkEvidence::parse(&text).unwrap().check_pinned(&[pin]).unwrap();
        assert_eq!((proven.kind, proven.seq), (ForkKind::Records, said.seq()));
        assert_eq!(fleet.stop().await, [("fork.evidence", Some(1))]);
    };
    tokio::time::timeout(SOON, all).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_roots_over_one_size_are_kept_as_evidence_and_quarantine_the_machine() {
    let all = async {
        let fleet = Fleet::found().await;
        fleet.say("one");
        fleet.push_from(0).await.unwrap();
        let log = fleet.log();
        let checkpoint = fleet.node.checkpoint_for_witnesses(&log).unwrap();
        assert_eq!(fleet.cosign(&checkpoint).await.cosigned.len(), 1);

        // Of another size nothing is proven: it is refused, and that is all.
        let said = Checkpoint::read_unverified(&checkpoint).unwrap();
        let key = fleet.node.keyring().checkpoint(Stream::Facts);
        let root = TreeRoot([9; 32]);
        let ahead = Checkpoint {
            tree_size: said.tree_size + 1,
            root,
            ..said
        };
        fleet.say("two");
        fleet.push_from(said.tree_size).await.unwrap();
        let answer = fleet.cosign(&ahead.sign(key)).await;
        assert_eq!((answer.cosigned.len(), answer.refused.len()), (0, 1));
        assert!(fleet.evidence().is_empty() && !fleet.shown().await.held_back);

        let other = Checkpoint { root, ..said };
        let answer = fleet.cosign(&other.sign(key)).await;
        assert_eq!((answer.cosigned.len(), answer.refused.len()), (0, 1));
        let why = fleet.quarantined().await;
        assert!(
            why.contains("two roots of its facts log over the same 2 receipts"),
            "{why}"
        );
        let files = fleet.evidence();
        let name = format!("fork-{}-1-roots.fork", log.short());
        assert_eq!(files.len(), 1);
        assert_eq!(files[0].file_name().unwrap().to_str(), Some(name.as_str()));
        let text = std::fs::read_to_string(&files[0]).unwrap();
        let pin = fleet.node.verifier_key(&log).unwrap();
        let evidence = ForkEvidence::parse(&text).unwrap();
        let proven = evidence.check_pinned(std::slice::from_ref(&pin)).unwrap();
        assert_eq!((proven.kind, proven.seq, proven.log), (ForkKind::Roots, 1, log));
        // The same again makes no second file, and the honest one is cosigned as before.
        fleet.resume().await;
        fleet.cosign(&other.sign(key)).await;
        assert_eq!(fleet.evidence(), files);
        let honest = fleet.node.checkpoint_for_witnesses(&log).unwrap();
        assert_eq!(fleet.cosign(&honest).await.cosigned.len(), 1);

        // Two that can both be prove nothing, and no character may differ.
        let same = ForkEvidence {
            other: evidence.one.clone(),
            ..evidence.clone()
        };
        assert_eq!(same.check().unwrap_err().code(), "evidence.no-fork");
        let later = ForkEvidence {
            other: honest.into_bytes(),
            ..evidence.clone()
        };
        assert_eq!(later.check().unwrap_err().code(), "evidence.no-fork");
        let stranger = ForkEvidence {
            other: other
                .sign(&ledger::core::SigningKey::from_seed([5; 32]))
                .into_bytes(),
            ..evidence.clone()
        };
        assert!(stranger.check().is_err());
        let mut changed = evidence.clone();
        let at = changed.other.len() / 2;
        changed.other[at] ^= 1;
        assert!(changed.check().is_err());
        assert_eq!(
            evidence.check_pinned(&[]).unwrap_err().code(),
            "evidence.not-pinned"
        );
        assert_eq!(fleet.stop().await, [("fork.evidence", Some(1))]);
    };
    tokio::time::timeout(SOON, all).await.unwrap();
}
