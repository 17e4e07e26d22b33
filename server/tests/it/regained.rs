//! Heartbeats that one side has pruned keep nobody from having what is left of them.

use crate::forging::{Fleet, Running, Store, address, join};
use ledger::core::{Draft, Kind, LogId, Stream, Subject, cosignature};
use ledger::verify::{Options, Report, verify_store};
use ledger::{Ledger, OpenOptions, Paths, Pruning};
use ledger_server::client::Api;
use ledger_server::daemon::socket;
use ledger_server::nightly;
use std::path::Path;
use std::time::Duration;

/// Nothing here may take longer.
const SOON: Duration = Duration::from_secs(120);

fn open(dir: &Path) -> Store {
    Ledger::open(&Paths::new(dir), OpenOptions::default()).unwrap()
}

fn beat(node: &Store, count: usize) {
    let draft = Draft::custom(Kind::new("x.pulse").unwrap(), Subject::new("beat").unwrap());
    node.append_batch(Stream::Pulse, vec![draft; count]).unwrap();
}

fn clean(dir: &Path) -> Report {
    let options = Options {
        authority: Some(nightly::authority()),
        ..Options::default()
    };
    let report = verify_store(dir, &options, &mut |_| {}).unwrap();
    assert!(report.is_clean(), "{report}");
    report
}

// Waits until a daemon has so much of a log.
async fn has(dir: &Path, log: &LogId, seq: u64) {
    let api = Api::unix(socket(dir));
    let wanted = log.to_hex();
    loop {
        if let Ok(status) = api.status().await {
            let found = status.item.logs.iter().find(|row| row.log == wanted);
            if found.is_some_and(|row| row.seq >= seq) {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_disk_is_lost_gets_back_what_is_left_of_its_pruned_heartbeats() {
    let all = async {
        let fleet = Fleet::found().await;
        let (gateway, node) = (fleet.dir("g"), fleet.dir("n"));
        let log = fleet.node.own_log(Stream::Pulse).unwrap();
        beat(&fleet.node, 60);
        fleet.push_log(log, 0, u64::MAX).await.unwrap();
        let checkpoint = fleet.node.checkpoint_for_witnesses(&log).unwrap();
        assert_eq!(fleet.cosign(&checkpoint).await.cosigned.len(), 1);
        let listen = address(&gateway).trim_start_matches("http://").to_owned();
        let (_home, running, lost) = fleet.take_apart();
        running.stop().await;
        // Thirty days later.
        let ledger = open(&gateway);
        ledger
            .prune(&Pruning::below(log, 40, "30 days"))
            .unwrap()
            .unwrap();
        let head = ledger.head(&log).unwrap();
        ledger.close().unwrap();
        lost.close().unwrap();
        std::fs::remove_dir_all(&node).unwrap();

        let running = Running::gateway(&gateway, &listen).await;
        join(&gateway, &node).await;
        let daemon = Running::node(&node);
        has(&node, &log, head.seq).await;
        daemon.stop().await;
        running.stop().await;
        let ledger = open(&node);
        assert_eq!((ledger.head(&log), ledger.first_kept(&log)), (Some(head), 40));
        assert_eq!(ledger.get(&log, 39).unwrap_err().code(), "ledger.pruned");
        assert!(ledger.get(&log, 40).unwrap().is_some());
        assert_ne!(
            ledger.own_log(Stream::Pulse),
            Some(log),
            "it is a copy, and its own begins anew"
        );
        ledger.close().unwrap();
        let report = clean(&node);
        let untold = |note: &String| note.contains("whether they were permitted nobody can say");
        assert!(
            report.notes.iter().any(untold),
            "the old key is over, and nothing pins heartbeats: {report}"
        );
        clean(&gateway);
    };
    tokio::time::timeout(SOON, all).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_lost_heartbeats_which_its_node_let_go_takes_in_what_follows() {
    let all = async {
        let fleet = Fleet::found().await;
        let (gateway, node) = (fleet.dir("g"), fleet.dir("n"));
        let log = fleet.node.own_log(Stream::Pulse).unwrap();
        beat(&fleet.node, 60);
        // All that the gateway has left of them.
        fleet.push_log(log, 0, 5).await.unwrap();
        let (_home, running, store) = fleet.take_apart();
        let checkpoint = store.checkpoint_for_witnesses(&log).unwrap();
        let witness = ledger::core::SigningKey::from_seed([6; 32]);
        let pin = ledger::core::note::VerifierKey::witness("witness.example", witness.verifier());
        let line = cosignature::line(&checkpoint, pin.name(), &witness, 1).unwrap();
        let cosigned = cosignature::add(&checkpoint, &line).unwrap();
        let wish = Pruning::below(log, 20, "30 days").cosigned(&cosigned, &[pin]);
        store.prune(&wish).unwrap().unwrap();
        let head = store.head(&log).unwrap();
        store.close().unwrap();

        let daemon = Running::node(&node);
        has(&gateway, &log, head.seq).await;
        daemon.stop().await;
        running.stop().await;
        let ledger = open(&gateway);
        assert_eq!(ledger.first_kept(&log), 20);
        assert_eq!(ledger.get(&log, 3).unwrap_err().code(), "ledger.pruned");
        assert!(ledger.get(&log, head.seq).unwrap().is_some());
        ledger.close().unwrap();
        clean(&node);
        clean(&gateway);
    };
    tokio::time::timeout(SOON, all).await.unwrap();
}
