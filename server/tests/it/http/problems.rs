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
    let cases: [Case<'_>; 16] = [
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
            "/v1/receipts",
            json,
            &large,
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
