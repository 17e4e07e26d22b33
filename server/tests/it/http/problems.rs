//! Every refusal is a problem with a stable code and something to do.

use super::{Studio, plain};
use axum::body::Body;
use http::{Method, Request};
use http_body_util::BodyExt;
use ledger_server::http::wire::Problem;
use ledger_server::http::{Door, router};
use std::sync::Arc;
use tower::ServiceExt;

/// Method, target, media type, body; status and code of the problem.
type Case<'a> = (Method, &'a str, Option<&'a str>, &'a str, u16, &'a str);

#[tokio::test]
async fn each_bad_request_has_its_own_problem() {
    let studio = Studio::found();
    let app = router(Arc::clone(&studio.machine), Door::Local);
    let json = Some("application/json");
    let large = "x".repeat(128 * 1024 + 1);
    let huge = "x".repeat(10 * 1024 * 1024);
    let cases: [Case<'_>; 18] = [
        (Method::GET, "/nowhere", None, "", 404, "request.path"),
        (Method::DELETE, "/v1/jobs", None, "", 405, "request.method"),
        (
            Method::GET,
            "/v1/receipts?kinds=a",
            None,
            "",
            400,
            "request.query",
        ),
        (
            Method::GET,
            "/v1/receipts?limit=0",
            None,
            "",
            400,
            "request.query",
        ),
        (
            Method::GET,
            "/v1/receipts?limit=1001",
            None,
            "",
            400,
            "request.query",
        ),
        (
            Method::GET,
            "/v1/receipts?since=tomorrow",
            None,
            "",
            400,
            "request.query",
        ),
        (
            Method::GET,
            "/v1/receipts?cursor=AQ",
            None,
            "",
            400,
            "request.query",
        ),
        (Method::GET, "/v1/receipts/12", None, "", 400, "request.id"),
        (
            Method::GET,
            "/v1/receipts/0190a7c4-0000-7000-8000-000000000000",
            None,
            "",
            404,
            "receipt.unknown",
        ),
        (
            Method::GET,
            "/v1/jobs/0190a7c4-0000-7000-8000-000000000000",
            None,
            "",
            404,
            "job.unknown",
        ),
        (Method::GET, "/v1/jobs?state=done", None, "", 400, "request.query"),
        (
            Method::POST,
            "/v1/requests",
            None,
            "{}",
            415,
            "request.media-type",
        ),
        (Method::POST, "/v1/requests", json, "{", 422, "request.body"),
        (
            Method::POST,
            "/v1/requests",
            json,
            "{\"handler\":\"a\",\"colour\":1}",
            422,
            "request.body",
        ),
        (
            Method::POST,
            "/v1/receipts",
            json,
            "{\"kind\":\"job.ready\"}",
            422,
            "request.body",
        ),
        (
            Method::POST,
            "/v1/requests",
            json,
            "{\"handler\":\"a\",\"handler\":\"b\"}",
            422,
            "request.body",
        ),
        (
            Method::POST,
            "/v1/receipts",
            json,
            &large,
            413,
            "request.too-large",
        ),
        (
            Method::POST,
            "/v1/requests",
            json,
            &huge,
            413,
            "request.too-large",
        ),
    ];
    for (method, target, media, body, status, code) in cases {
        let mut request = Request::builder().method(&method).uri(target);
        if let Some(media) = media {
            request = request.header("content-type", media);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        let what = format!("{method} {target}");
        assert_eq!(response.status(), status, "{what}");
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json",
            "{what}"
        );
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let problem: Problem = serde_json::from_slice(&bytes).unwrap();
        assert_eq!((problem.status, problem.code.as_str()), (status, code), "{what}");
        assert!(
            !problem.detail.is_empty() && !problem.what_to_do.is_empty(),
            "{what}"
        );
        assert_eq!(problem.kind, format!("urn:ledger:problem:{code}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_host_name_gets_nothing_and_open_paths_tell_nothing() {
    let studio = Studio::found();
    let door = studio.listen().await;
    let rebound = plain()
        .get(format!("{}/healthz", door.base))
        .header("host", "evil.example")
        .send()
        .await
        .unwrap();
    assert_eq!(rebound.status(), 421);
    let problem: Problem = serde_json::from_slice(&rebound.bytes().await.unwrap()).unwrap();
    assert_eq!(problem.code, "request.host");
    let context = studio.machine.ledger.context();
    for path in ["/healthz", "/readyz", "/v1/boot", "/openapi.json"] {
        let open = plain().get(format!("{}{path}", door.base)).send().await.unwrap();
        assert_eq!(open.status(), 200, "{path}");
        assert!(!open.headers().contains_key("access-control-allow-origin"));
        let text = open.text().await.unwrap();
        for secret in [
            context.fleet.to_hex(),
            context.machine_key.to_hex(),
            context.machine.to_string(),
        ] {
            assert!(!text.contains(&format!("\"{secret}\"")), "{path}");
        }
    }
    door.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_ten_mebibytes_is_refused_by_its_length_and_leaves_nothing() {
    let studio = Studio::found();
    let door = studio.listen().await;
    let before = studio.machine.ledger.snapshot().end;
    // To somebody unknown the door is shut before it looks at the size; a join, which anybody may send, is bounded.
    for (path, status) in [("/v1/requests", 401), ("/v1/fleet/join", 413)] {
        let body = vec![b'x'; 10 * 1024 * 1024];
        let sent = plain()
            .post(format!("{}{path}", door.base))
            .body(body)
            .send()
            .await;
        // The answer may come while the body is still on its way; then the connection ends under the sender.
        if let Ok(answer) = sent {
            assert_eq!(answer.status(), status, "{path}");
        }
    }
    assert_eq!(studio.machine.ledger.snapshot().end, before);
    assert!(
        plain()
            .get(format!("{}/healthz", door.base))
            .send()
            .await
            .unwrap()
            .status()
            == 200
    );
    door.close().await;
}

#[tokio::test]
async fn a_last_event_id_that_is_none_is_an_error_and_no_new_beginning() {
    let studio = Studio::found();
    let app = router(Arc::clone(&studio.machine), Door::Local);
    let tail = |ids: &[&[u8]]| {
        let mut request = Request::builder().uri("/v1/events");
        for id in ids {
            let value = http::HeaderValue::from_bytes(id).unwrap();
            request = request.header("last-event-id", value);
        }
        app.clone().oneshot(request.body(Body::empty()).unwrap())
    };
    let bad: [&[&[u8]]; 4] = [&[b"!"], &[b"AQ"], &[b"\xff"], &[b"start", b"start"]];
    for ids in bad {
        let response = tail(ids).await.unwrap();
        assert_eq!(response.status(), 400, "{ids:?}");
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let problem: Problem = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(problem.code, "request.query", "{ids:?}");
    }
    assert_eq!(tail(&[b"start"]).await.unwrap().status(), 200);
}
