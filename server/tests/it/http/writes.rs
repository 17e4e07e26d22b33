//! What is handed in is durable once, however often it is said.

use super::Studio;
use ledger_server::http::wire::{AppendBody, CancelBody, ReceiptsQuery, RequestBody};
use serde_json::json;

const ID: &str = "0190a7c4-1111-7222-8333-444444444444";

#[tokio::test]
async fn asking_twice_with_one_id_is_asking_once() {
    let studio = Studio::found();
    let api = studio.api();
    let body = RequestBody {
        handler: "count".into(),
        input: Some(json!({ "path": "a.txt" })),
        id: Some(ID.into()),
        ..RequestBody::default()
    };
    let first = api.request(&body).await.unwrap().item;
    let again = api.request(&body).await.unwrap().item;
    assert_eq!((first.repeated, again.repeated), (false, true));
    assert_eq!(
        (first.job.as_str(), first.receipt.as_str()),
        (again.job.as_str(), ID)
    );
    let other = RequestBody {
        input: Some(json!({ "path": "b.txt" })),
        ..body
    };
    assert_eq!(api.request(&other).await.unwrap_err().code(), "ledger.id-taken");
    let job = api.job(&first.job).await.unwrap().item;
    assert_eq!(job.input.unwrap().json, Some(json!({ "path": "a.txt" })));
    assert_eq!(job.spec["handler"], "count");
    assert!(job.receipts.iter().any(|receipt| receipt.kind == "job.accepted"));
}

#[tokio::test]
async fn saying_twice_with_one_id_is_saying_once() {
    let studio = Studio::found();
    let api = studio.api();
    let body = AppendBody {
        kind: "x.tool-call".into(),
        subject: "chat/7".into(),
        payload: Some(json!({ "tool": "grep" })),
        id: Some(ID.into()),
        ..AppendBody::default()
    };
    let first = api.append(&body).await.unwrap().item;
    let again = api.append(&body).await.unwrap().item;
    assert_eq!((first.repeated, again.repeated), (false, true));
    assert_eq!(
        (first.receipt.log, first.receipt.seq),
        (again.receipt.log, again.receipt.seq)
    );
    let other = AppendBody {
        subject: "chat/8".into(),
        ..body
    };
    assert_eq!(api.append(&other).await.unwrap_err().code(), "ledger.id-taken");
    let query = ReceiptsQuery {
        kind: vec!["x.tool-call".into()],
        ..ReceiptsQuery::default()
    };
    assert_eq!(api.receipts(&query).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn a_job_that_is_cancelled_says_so_in_the_answer() {
    let studio = Studio::found();
    let api = studio.api();
    let body = RequestBody {
        handler: "count".into(),
        not_before: Some("2999-01-01T00:00:00Z".into()),
        ..RequestBody::default()
    };
    let job = api.request(&body).await.unwrap().item.job;
    let cancel = CancelBody {
        force: false,
        reason: "changed my mind".into(),
    };
    let cancelled = api.cancel(&job, &cancel).await.unwrap().item;
    assert_eq!(
        (cancelled.job.state.as_str(), cancelled.receipt.kind.as_str()),
        ("cancelled", "job.cancel-asked")
    );
    assert_eq!(api.cancel(ID, &cancel).await.unwrap_err().code(), "job.unknown");
}
