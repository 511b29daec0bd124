//! What there is to ask, for programs (OpenAPI 3.1) and for people: a page that draws it, with nothing from elsewhere.
//!
//! Open to everybody who can connect: it says what every PICCOLO of this version can do, and nothing of this cluster.
//!
//! The document is made of the code by a test, which also notices when it is not up to date: to make it takes 4 MiB that
//! an allocator would keep, and who changes the API sees in a diff what becomes of it.

#[cfg(test)]
mod made;

use axum::{
    Router,
    body::Bytes,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};

#[cfg(test)]
pub(super) use self::made::{Document, said_once};
use crate::api_server::Api;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Up to date by `UPDATE=1 cargo test -p piccolo-master the_document`.
const DOCUMENT: &str = include_str!("openapi.json");

pub(super) fn router() -> Router<Api> {
    Router::new()
        .route("/api/v1/openapi.json", get(document))
        .route("/api/docs", get(page))
        .route("/api/docs/page.css", get(style))
        .route("/api/docs/page.js", get(script))
}

async fn document() -> Response {
    fixed("application/json", Bytes::from_static(DOCUMENT.as_bytes()))
}

async fn page() -> Response {
    fixed("text/html; charset=utf-8", Bytes::from_static(include_bytes!("docs/page.html")))
}

async fn style() -> Response {
    fixed("text/css; charset=utf-8", Bytes::from_static(include_bytes!("docs/page.css")))
}

async fn script() -> Response {
    let text = Bytes::from_static(include_bytes!("docs/page.js"));
    fixed("text/javascript; charset=utf-8", text)
}

fn fixed(kind: &'static str, body: Bytes) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers.map(|(name, value)| (name, HeaderValue::from_static(value))), body).into_response()
}
