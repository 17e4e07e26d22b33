//! A daemon that is told to stop while machines wait for something to happen.

use crate::forging::Fleet;
use ledger::core::Stream;
use ledger_server::exchange::{Mark, Pull, PullAnswer, decode, encode};
use ledger_server::http::limits::POLLS_OF_ONE_MAX;
use std::sync::Arc;
use std::time::Duration;

// Longer than a stopping daemon leaves a request, so that an answer is no end of its own time.
const POLL_MS: u32 = 60_000;
const WITHIN: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_something_to_happen_is_answered_when_the_daemon_stops() {
    let fleet = Fleet::found().await;
    let log = fleet.node.own_log(Stream::Facts).unwrap();
    let head = fleet.node.head(&log).unwrap();
    fleet.push_log(log, 0, head.seq).await.unwrap();
    let after = Some(Mark {
        seq: head.seq,
        seal: head.seal,
    });
    let pull = move |wait_ms| encode(&Pull { log, after, wait_ms });
    let Fleet {
        signed,
        running,
        home: _home,
        node: _node,
        ..
    } = fleet;
    let signed = Arc::new(signed);
    let waiting: Vec<_> = (0..POLLS_OF_ONE_MAX)
        .map(|_| {
            let signed = Arc::clone(&signed);
            // One may be refused while the one below stands in its place for a moment.
            tokio::spawn(async move {
                loop {
                    match signed.exchange("pull", pull(POLL_MS), WITHIN).await {
                        Err(e) if e.problem().is_some_and(|told| told.status == 429) => {
                            tokio::task::yield_now().await;
                        }
                        ended => break ended,
                    }
                }
            })
        })
        .collect();
    // One too many is refused: all the others wait there.
    let all_wait = tokio::time::timeout(WITHIN, async {
        while signed.exchange("pull", pull(0), WITHIN).await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
    all_wait.await.expect("they are taken in");
    running.stop().await;
    for waiting in waiting {
        let answer = waiting
            .await
            .unwrap()
            .expect("an answer, and no broken connection");
        let answer: PullAnswer = decode("pull", &answer).unwrap();
        assert!(answer.records.is_empty() && answer.complete);
    }
}
