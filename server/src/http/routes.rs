//! The one table of routes: handlers, their documents, and the gate before all of them.
//!
//! Contract: what is routed is in the API's description, because both come from this table. Every path and method that is
//! not here is a problem too.

use super::problem::Problem;
use super::wire;
use super::{
    Api, Door, appends, costs, erase, events, export, fleet, gate, handlers, health, import, jobs, nodes,
    notices, proofs, receipts, reply, requests, rest, retention, schedules, status, steer, tiles, vault,
    verify,
};
use crate::machine::Machine;
use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use http::{HeaderValue, StatusCode};
use std::sync::Arc;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "ledger",
        description = "Receipts, jobs, machines and files of one fleet. Every answer says as of which receipt it is. On the \
                       network a request is signed by a known key (RFC 9421), or bears a token and reads.",
    ),
    components(schemas(wire::Problem)),
    tags(
        (name = "receipts", description = "What happened"),
        (name = "jobs", description = "What was asked, and what became of it"),
        (name = "schedules", description = "What is asked for again and again"),
        (name = "nodes", description = "The machines"),
        (name = "vault", description = "The durable files"),
        (name = "status", description = "The answering machine"),
        (name = "fleet", description = "Between machines"),
    )
)]
struct Description;

/// At every door.
fn common() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(receipts::list, appends::append))
        .routes(routes!(receipts::show))
        .routes(routes!(events::tail))
        .routes(routes!(jobs::list))
        .routes(routes!(jobs::show))
        .routes(routes!(jobs::evidence))
        .routes(routes!(requests::ask))
        .routes(routes!(requests::cancel))
        .routes(routes!(steer::hold))
        .routes(routes!(steer::release))
        .routes(routes!(steer::discard))
        .routes(routes!(steer::retry))
        .routes(routes!(handlers::list))
        .routes(routes!(handlers::pause))
        .routes(routes!(handlers::resume))
        .routes(routes!(handlers::limits, handlers::limit))
        .routes(routes!(costs::show))
        .routes(routes!(schedules::list, schedules::define))
        .routes(routes!(schedules::show, schedules::remove))
        .routes(routes!(nodes::list))
        .routes(routes!(nodes::uptime))
        .routes(routes!(nodes::drain))
        .routes(routes!(nodes::resume))
        .routes(routes!(nodes::quarantine))
        .routes(routes!(notices::list))
        .routes(routes!(notices::acknowledge))
        .routes(routes!(retention::show, retention::set))
        .routes(routes!(vault::list))
        .routes(routes!(status::show))
        .routes(routes!(tiles::checkpoint))
        .routes(routes!(tiles::tile))
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
        .routes(routes!(health::boot))
        .routes(routes!(description))
}

/// At the local door alone.
fn local() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(handlers::drain))
        .routes(routes!(vault::scan))
        .routes(routes!(export::export))
        .routes(routes!(import::import))
        .routes(routes!(erase::erase))
        .routes(routes!(verify::verify))
        .routes(routes!(rest::rest))
        .routes(routes!(retention::run))
        .routes(routes!(proofs::prove))
        .routes(routes!(proofs::publish))
        .routes(routes!(proofs::keys))
}

/// At the network door alone.
fn network() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(fleet::exchanged))
}

/// The API of one machine behind one door.
pub fn router(machine: Arc<Machine>, door: Door) -> Router {
    let api = Api::new(machine, door);
    let own = match door {
        Door::Local => local(),
        Door::Network => network(),
    };
    let (router, _) = common().merge(own).split_for_parts();
    router
        .fallback(async || no_such_path())
        .method_not_allowed_fallback(async || no_such_method())
        .layer(from_fn_with_state(Arc::clone(&api), gate::gate))
        .with_state(api)
}

/// The description of the whole API (OpenAPI 3.1), all doors together, as JSON.
pub fn openapi_json() -> String {
    let api = common().merge(local()).merge(network()).into_openapi();
    api.to_pretty_json().expect("a description is JSON")
}

/// The API's description.
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "openapi", tag = "status",
    responses((status = 200, description = "OpenAPI 3.1", body = serde_json::Value))
)]
async fn description() -> Response {
    let mut response = reply::json(StatusCode::OK, &());
    *response.body_mut() = openapi_json().into();
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

fn no_such_path() -> Problem {
    Problem::unknown(
        "request.path",
        "expected a path of this API, found another",
        "look at /openapi.json",
    )
}

fn no_such_method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "request.method",
        "expected a method that this path has, found another",
        "look at the Allow header, or at /openapi.json",
    )
}
