//! The REST API, `/api/v1/...` (HLD §7.1): everything that `piccolo` can ask, as JSON.
//!
//! - `asker`: who asks, and how it becomes a call of the API Server
//! - `reads`: nodes, status, topology, events, figures
//! - `page`, `problem`: how lists and refusals look
//!
//! Routes and their document are made of the same functions: what is not in the document is not served.

mod asker;
mod page;
mod problem;
mod reads;

use axum::{
    Json, Router,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::problem::Problem;
use crate::api_server::Api;

/// What a route answers.
type Answer<T> = Result<Shown<T>, Problem>;

#[derive(OpenApi)]
#[openapi(info(
    title = "PICCOLO",
    description = "Clusters of embedded boards: nodes, containers, events and recovery."
))]
struct Document;

/// The routes, and what the document says of them.
fn api() -> OpenApiRouter<Api> {
    let v1 = OpenApiRouter::new()
        .routes(routes!(reads::list_nodes))
        .routes(routes!(reads::get_node))
        .routes(routes!(reads::get_status))
        .routes(routes!(reads::get_topology))
        .routes(routes!(reads::list_events))
        .routes(routes!(reads::list_figures))
        .routes(routes!(reads::query_metrics));
    OpenApiRouter::with_openapi(Document::openapi()).nest("/api/v1", v1)
}

pub(super) fn router() -> Router<Api> {
    let (router, _) = api().split_for_parts();
    router.fallback(nothing_here).method_not_allowed_fallback(not_so)
}

async fn nothing_here() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "NoSuchPath", "there is nothing here")
        .help("GET /api/v1/openapi.json has every path")
}

/// The router adds which methods there are.
async fn not_so() -> Problem {
    let detail = "this path does not take that method";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", detail)
}

/// An answer that was carried out.
#[derive(Debug)]
struct Shown<T> {
    status: StatusCode,
    headers: HeaderMap,
    body: T,
}

impl<T> Shown<T> {
    fn ok(body: T) -> Self {
        Self { status: StatusCode::OK, headers: HeaderMap::new(), body }
    }

    /// Which state of the thing this is, for `If-Match`.
    fn tagged(mut self, revision: u64) -> Self {
        if let Ok(tag) = HeaderValue::try_from(format!("\"{revision}\"")) {
            self.headers.insert(header::ETAG, tag);
        }
        self
    }
}

impl<T: Serialize> IntoResponse for Shown<T> {
    fn into_response(self) -> Response {
        let never_kept = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
        (self.status, never_kept, self.headers, Json(self.body)).into_response()
    }
}
