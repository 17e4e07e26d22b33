//! A daemon that is told to stop while machines wait for something to happen.

use crate::forging::Fleet;
use ledger::core::Stream;
use ledger_server::exchange::{Claim, ClaimAnswer, Mark, Pull, PullAnswer, decode, encode};
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
    let claim = encode(&Claim {
        incarnation: 1,
        claim: [7; 16],
        free: vec![("render".to_owned(), 1)],
        wait_ms: POLL_MS,
    });
    let asked = |n| match n % 2 {
        0 => ("pull", pull(POLL_MS)),
        _ => ("claim", claim.clone()),
    };
    let waiting: Vec<_> = (0..POLLS_OF_ONE_MAX)
        .map(|n| {
            let (signed, (op, body)) = (Arc::clone(&signed), asked(n));
            // One may be refused while the one below stands in its place for a moment.
            tokio::spawn(async move {
                loop {
                    match signed.exchange(op, body.clone(), WITHIN).await {
                        Err(e) if e.problem().is_some_and(|told| told.status == 429) => {
                            tokio::task::yield_now().await;
                        }
                        ended => break (op, ended),
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
        let (op, answer) = waiting.await.unwrap();
        let answer = answer.expect("an answer, and no broken connection");
        let nothing = match op {
            "pull" => decode(op, &answer).is_ok_and(|answer: PullAnswer| answer.records.is_empty()),
            _ => decode(op, &answer).is_ok_and(|answer: ClaimAnswer| answer.jobs.is_empty()),
        };
        assert!(nothing, "{op}");
    }
}
