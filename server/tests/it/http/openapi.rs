//! The API's description is a golden file: a change of the API is seen in review. `UPDATE=1` writes it anew.

use ledger_server::http::openapi_json;
use std::collections::BTreeSet;
use std::path::Path;

#[test]
fn the_description_is_the_golden_file_and_names_every_route() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/openapi.json");
    let found = format!("{}\n", openapi_json());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    assert_eq!(
        found,
        std::fs::read_to_string(&path).unwrap(),
        "run with UPDATE=1 when the change is meant"
    );
    let description: serde_json::Value = serde_json::from_str(&found).unwrap();
    let (mut routes, mut names) = (BTreeSet::new(), BTreeSet::new());
    for (path, methods) in description["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            assert!(
                operation["responses"]
                    .as_object()
                    .is_some_and(|responses| !responses.is_empty())
            );
            assert!(
                names.insert(operation["operationId"].as_str().unwrap().to_owned()),
                "each name once"
            );
            routes.insert(format!("{method} {path}"));
        }
    }
    let expected = [
        "delete /v1/schedules/{name}",
        "get /healthz",
        "get /openapi.json",
        "get /readyz",
        "get /v1/boot",
        "get /v1/costs",
        "get /v1/events",
        "get /v1/handlers",
        "get /v1/jobs",
        "get /v1/jobs/{id}",
        "get /v1/jobs/{id}/evidence",
        "get /v1/keys",
        "get /v1/limits",
        "get /v1/logs/{log}/checkpoint",
        "get /v1/logs/{log}/tile/{*name}",
        "get /v1/nodes",
        "get /v1/notices",
        "get /v1/receipts",
        "get /v1/receipts/{id}",
        "get /v1/retention",
        "get /v1/schedules",
        "get /v1/schedules/{name}",
        "get /v1/status",
        "get /v1/uptime",
        "get /v1/vault",
        "post /v1/export",
        "post /v1/fleet/{op}",
        "post /v1/handlers/{handler}/drain",
        "post /v1/handlers/{handler}/pause",
        "post /v1/handlers/{handler}/resume",
        "post /v1/import",
        "post /v1/jobs/{id}/cancel",
        "post /v1/jobs/{id}/discard",
        "post /v1/jobs/{id}/hold",
        "post /v1/jobs/{id}/release",
        "post /v1/jobs/{id}/retry",
        "post /v1/limits",
        "post /v1/nodes/{machine}/drain",
        "post /v1/nodes/{machine}/quarantine",
        "post /v1/nodes/{machine}/resume",
        "post /v1/notices/{id}/acknowledge",
        "post /v1/prove",
        "post /v1/publish",
        "post /v1/receipts",
        "post /v1/receipts/{id}/erase",
        "post /v1/requests",
        "post /v1/rest",
        "post /v1/retention",
        "post /v1/retention/run",
        "post /v1/schedules",
        "post /v1/vault/scan",
        "post /v1/verify",
    ];
    assert_eq!(routes, expected.map(str::to_owned).into());
}
