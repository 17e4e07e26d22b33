//! Machines: how much of a window they were there, and the operator's wishes about them.

use super::{SOON, Studio};
use ledger::core::kinds::{JobCancelAsked, JobId, NodeDraining, NodePulse3};
use ledger::core::{Draft, MachineId, ReceiptId, Stream, Subject};
use ledger_server::Config;
use ledger_server::client::{Api, ClientError};
use ledger_server::daemon::{run_gateway, socket};
use ledger_server::http::wire::{ReceiptsQuery, UptimeQuery, WishBody};
use std::time::Duration;

fn code(error: ClientError) -> String {
    match error {
        ClientError::Problem(problem) => problem.code,
        other => panic!("no problem: {other}"),
    }
}

fn because(reason: &str) -> WishBody {
    WishBody {
        reason: reason.into(),
    }
}

#[tokio::test]
async fn a_machine_drains_and_gets_work_again_and_each_wish_is_a_receipt() {
    let studio = Studio::found();
    let api = studio.api();
    let drained = api
        .wish("studio", "drain", &because("update"))
        .await
        .unwrap()
        .item;
    assert_eq!(
        (drained.node.status.as_str(), drained.node.held_back),
        ("draining", true)
    );
    assert_eq!(drained.node.reason.as_deref(), Some("update"));
    assert_eq!(drained.receipt.kind, "node.draining");
    let held = api
        .wish("studio", "quarantine", &because("odd"))
        .await
        .unwrap()
        .item;
    assert_eq!(
        (held.node.status.as_str(), held.node.reason.as_deref()),
        ("quarantined", Some("odd"))
    );
    let resumed = api.wish("studio", "resume", &because("")).await.unwrap().item;
    assert_eq!(
        (resumed.node.status.as_str(), resumed.node.held_back),
        ("online", false)
    );
    assert_eq!(api.nodes().await.unwrap().items[0], resumed.node);
}

#[tokio::test]
async fn a_wish_about_nobody_or_about_another_is_refused() {
    let studio = Studio::found();
    let api = studio.api();
    let refused = |result: Result<_, ClientError>| code(result.map(drop).unwrap_err());
    assert_eq!(
        refused(api.wish("nobody", "drain", &because("")).await.map(drop)),
        "machine.unknown"
    );
    assert_eq!(
        refused(
            api.wish("studio", "drain", &because(&"x".repeat(201)))
                .await
                .map(drop)
        ),
        "request.spec"
    );
    // Statements that say something else than the path asks for.
    let machine = MachineId::new("studio").unwrap();
    let subject = Subject::new("node/studio").unwrap();
    let reason = String::new();
    for draft in [
        Draft::of(&NodeDraining { machine, reason }, subject.clone()),
        Draft::of(
            &JobCancelAsked {
                job: JobId(ReceiptId([0; 16])),
                force: false,
                reason: String::new(),
            },
            subject,
        ),
    ] {
        let said = studio.machine.sign_as_actor(draft).unwrap();
        let result = api.wish_signed("studio", "resume", said.signed()).await;
        assert_eq!(refused(result.map(drop)), "request.body");
    }
    assert_eq!(api.nodes().await.unwrap().items[0].status, "online");
}

#[tokio::test]
async fn uptime_is_told_with_how_far_it_is_known() {
    let studio = Studio::found();
    let api = studio.api();
    let query = |machine: Option<&str>, since: &str| UptimeQuery {
        machine: machine.map(str::to_owned),
        since: since.to_owned(),
        until: None,
    };
    let page = api.uptime(&query(None, "2026-01-01T00:00:00Z")).await.unwrap();
    let [told] = page.items.as_slice() else {
        panic!("{page:?}")
    };
    assert_eq!(
        (told.machine.as_str(), told.outage_ms, told.away.len()),
        ("studio", 0, 0)
    );
    assert!(told.known_until <= told.until && told.from <= told.until);
    assert_eq!(page.as_of.standing, "central");
    let refused = async |query| code(api.uptime(&query).await.map(drop).unwrap_err());
    assert_eq!(
        refused(query(Some("nobody"), "2026-01-01T00:00:00Z")).await,
        "machine.unknown"
    );
    assert_eq!(refused(query(None, "yesterday")).await, "request.query");
    assert_eq!(
        refused(query(None, "2999-01-01T00:00:00Z")).await,
        "request.query"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn time_in_which_central_was_down_is_told_by_the_next_central() {
    let studio = Studio::found();
    let subject = Subject::new("node/studio").unwrap();
    let pulse = Draft::of(&NodePulse3::default(), subject);
    studio.machine.ledger.append_to(Stream::Pulse, pulse).unwrap();
    let Studio { machine, dir, .. } = studio;
    machine.ledger.clone().close().unwrap();
    drop(machine);
    let mut config = Config {
        listen: "127.0.0.1:0".into(),
        ..Config::default()
    };
    (config.timing.lost_after_ms, config.timing.heal_wait_ms) = (50, Some(0));
    // The span that is measured: longer than the silence of a lost machine.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let told = async {
        let query = ReceiptsQuery {
            kind: vec!["central.absent".into()],
            ..ReceiptsQuery::default()
        };
        let api = Api::unix(socket(dir.path()));
        loop {
            if let Ok(page) = api.receipts(&query).await
                && !page.items.is_empty()
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let query = UptimeQuery {
            since: "2026-01-01T00:00:00Z".into(),
            ..UptimeQuery::default()
        };
        let own = api.uptime(&query).await.unwrap().items.remove(0);
        assert_eq!(own.away[0].cause, "central-down", "{own:?}");
        assert!(own.outage_ms >= 100 && own.unknown_ms == 0, "{own:?}");
    };
    let running = run_gateway(dir.path(), config, told);
    tokio::time::timeout(SOON, running).await.unwrap().unwrap();
}
