//! What a machine has that its gateway has not: heartbeats alone are no backlog, and nobody is told of them.

use crate::forging::{Fleet, Running, Store, address};
use ledger::core::{Draft, Kind, LogId, Stream, Subject};
use ledger_server::client::{Api, Signed};
use ledger_server::exchange::{Hello, HelloAnswer, Mark, decode, encode};
use ledger_server::http::wire::NoticesQuery;
use std::time::Duration;

/// Nothing here may take longer.
const SOON: Duration = Duration::from_secs(120);
/// How long a backlog must not become less before it is told of.
const OUTBOX_AFTER_MS: u64 = 1000;

fn mark(node: &Store, log: &LogId) -> Option<Mark> {
    let head = node.head(log)?;
    let (seq, seal) = (head.seq, head.seal);
    Some(Mark { seq, seal })
}

// The machine says what it has, and brings nothing.
async fn hello(signed: &Signed, node: &Store) -> HelloAnswer {
    let order = node.snapshot().state.order().unwrap().log;
    let seen = mark(node, &order).unwrap();
    let proof = node.get(&order, seen.seq).unwrap().unwrap();
    let logs = [Stream::Work, Stream::Facts, Stream::Pulse];
    let logs = logs.map(|stream| node.own_log(stream).unwrap());
    let hello = Hello {
        process: [1; 16],
        incarnation: 1,
        logs: logs.map(|log| (log, mark(node, &log))).to_vec(),
        order: Some((1, order, seen, proof.record.bytes().to_vec())),
        fences: Vec::new(),
        handlers: Vec::new(),
        offered: false,
        now: 0,
    };
    let answer = signed.exchange("hello", encode(&hello), SOON).await.unwrap();
    decode("hello", &answer).unwrap()
}

async fn told(api: &Api) -> Vec<String> {
    let notices = api.notices(&NoticesQuery::default()).await.unwrap().items;
    let topics = notices.into_iter().map(|notice| notice.topic);
    topics.filter(|topic| topic == "outbox-grows").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_that_do_not_come_are_no_backlog_and_facts_that_do_not_come_are_one() {
    let all = async {
        let fleet = Fleet::found().await;
        let gateway = fleet.dir("g");
        let listen = address(&gateway).trim_start_matches("http://").to_owned();
        let Fleet {
            home: _home,
            api,
            node,
            signed,
            running,
        } = fleet;
        running.stop().await;
        let running = Running::gateway_with(&gateway, &listen, |timing| {
            timing.outbox_after_ms = OUTBOX_AFTER_MS;
        });
        while !api.readyz().await.is_ok_and(|said| said.ready) {
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        let draft = Draft::custom(Kind::new("x.pulse").unwrap(), Subject::new("beat").unwrap());
        node.append_batch(Stream::Pulse, vec![draft; 60]).unwrap();
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_millis(4 * OUTBOX_AFTER_MS) {
            let answer = hello(&signed, &node).await;
            let (_, theirs) = answer.marks[2];
            assert!(answer.synced && theirs.is_none_or(|theirs| theirs.seq < 60));
            assert!(told(&api).await.is_empty(), "it lacks heartbeats alone");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // The same of a single fact is told.
        let draft = Draft::custom(Kind::new("x.note").unwrap(), Subject::new("notes").unwrap());
        node.append(draft).unwrap();
        while told(&api).await.is_empty() {
            hello(&signed, &node).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(told(&api).await.len(), 1);
        running.stop().await;
    };
    tokio::time::timeout(SOON, all).await.unwrap();
}
