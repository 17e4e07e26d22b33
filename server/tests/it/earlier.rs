//! A gateway whose old data is put back, from before a machine of it began new logs because its own old data had been put back.

use crate::forging::{Fleet, Running, Store, address};
use ledger::core::Stream;
use ledger::{Ledger, OpenOptions, Paths};
use ledger_server::client::Api;
use ledger_server::daemon::socket;
use ledger_server::http::wire::AppendBody;
use std::path::Path;
use std::time::Duration;

/// Between two looks whether something is so.
const LOOK: Duration = Duration::from_millis(25);
/// How long the gateway waits for its node, which is there.
const HEAL_WAIT_MS: u64 = 60_000;

fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status();
    assert!(copied.unwrap().success());
}

fn put_back(old: &Path, dir: &Path) {
    std::fs::rename(dir, old.with_extension("lost")).unwrap();
    copy(old, dir);
}

// Says something on the node; its receipt's id, as soon as the gateway has it.
async fn note(node: &Path, gateway: &Path) -> String {
    let (here, there) = (Api::unix(socket(node)), Api::unix(socket(gateway)));
    let said = AppendBody {
        kind: "x.note".into(),
        subject: "notes".into(),
        ..AppendBody::default()
    };
    let id = loop {
        match here.append(&said).await {
            Ok(said) => break said.item.receipt.id,
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    };
    arrives(&id, &there).await;
    id
}

async fn arrives(id: &str, gateway: &Api) {
    while gateway.receipt(id).await.is_err() {
        tokio::time::sleep(LOOK).await;
    }
}

#[tokio::test]
async fn a_gateway_put_back_to_before_a_machine_began_new_logs_gets_the_earlier_ones_first() {
    let told = async {
        let fleet = Fleet::found().await;
        let (gateway, node) = (fleet.dir("g"), fleet.dir("n"));
        let (old_gateway, old_node) = (fleet.dir("old-g"), fleet.dir("old-n"));
        let listen = address(&gateway).trim_start_matches("http://").to_owned();
        let (_home, running, store) = fleet.take_apart();
        store.close().unwrap();
        copy(&node, &old_node);
        running.stop().await;
        copy(&gateway, &old_gateway);
        let running = Running::gateway(&gateway, &listen).await;

        // The node tells something, and then its old data is put back: it goes on in new logs.
        let following = Running::node(&node);
        let first = note(&node, &gateway).await;
        following.stop().await;
        put_back(&old_node, &node);
        let following = Running::node(&node);
        let second = note(&node, &gateway).await;
        following.stop().await;
        running.stop().await;
        let store: Store = Ledger::open(&Paths::new(&node), OpenOptions::default()).unwrap();
        let facts = store.own_log(Stream::Facts).unwrap();
        let incarnation = store.snapshot().logs[&facts].genesis().incarnation;
        assert_eq!(incarnation, 2);
        store.close().unwrap();

        // The gateway's old data knows neither of them, nor the node's new logs.
        put_back(&old_gateway, &gateway);
        let running = Running::waiting_gateway(&gateway, &listen, HEAL_WAIT_MS);
        let following = Running::node(&node);
        let api = Api::unix(socket(&gateway));
        for id in [&first, &second] {
            arrives(id, &api).await;
        }
        note(&node, &gateway).await;
        following.stop().await;
        running.stop().await;
    };
    tokio::time::timeout(Duration::from_secs(120), told)
        .await
        .expect("the gateway has all of it again within two minutes");
}
