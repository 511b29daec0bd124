//! What there is to ask, for programs (OpenAPI 3.1) and for people: a page that draws it, with nothing from elsewhere.
//!
//! Open to everybody who can connect: it says what every PICCOLO of this version can do, and nothing of this cluster.

use std::sync::OnceLock;

use axum::{
    Router,
    body::Bytes,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
    routing::get,
};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        OpenApi as Described,
        security::{
            ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
        },
    },
};

use super::asker::COOKIE;
use crate::api_server::Api;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "PICCOLO",
        description = "Clusters of embedded boards: nodes, containers, events and recovery. Whoever asks shows an API \
                       token, the cookie of a session, or a client certificate."
    ),
    modifiers(&Security)
)]
pub(super) struct Document;

struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut Described) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let cookie = ApiKey::Cookie(ApiKeyValue::new(COOKIE));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("api_token", SecurityScheme::Http(bearer));
        components.add_security_scheme("session", SecurityScheme::ApiKey(cookie));
        let any = ["api_token", "session"];
        let any = any.map(|scheme| SecurityRequirement::new(scheme, Vec::<String>::new()));
        document.security = Some(any.to_vec());
    }
}

pub(super) fn router() -> Router<Api> {
    Router::new()
        .route("/api/v1/openapi.json", get(document))
        .route("/api/docs", get(page))
        .route("/api/docs/page.css", get(style))
        .route("/api/docs/page.js", get(script))
}

/// Made when somebody first wants it.
async fn document() -> Response {
    static DOCUMENT: OnceLock<Bytes> = OnceLock::new();
    let made = || super::api().into_openapi().to_json().unwrap_or_default().into();
    fixed("application/json", DOCUMENT.get_or_init(made).clone())
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
