//! The REST API, `/api/v1/...` (HLD §7.1): everything that `piccolo` can ask, as JSON.
//!
//! - `asker`: who asks, and how it becomes a call of the API Server
//! - `arguments`: what a route takes besides
//! - `reads`: nodes, status, topology, events, figures
//! - `past`: the cluster at a past moment
//! - `watches`: the same as it happens
//! - `writes`, `recovery`, `access`: what changes something; `once`: what was made before
//! - `alerts`: alerts, silences, rules and channels
//! - `document`: OpenAPI, and a page for people
//! - `session`: signing in, for browsers
//! - `settings`: those of the master
//! - `tags`: what has not changed, and what has
//! - `body`: what comes along with a request
//! - `cache`: the newest list of nodes, written once
//! - `page`, `problem`: how lists and refusals look
//!
//! Routes and their document are made of the same functions: what is not in the document is not served.

mod access;
mod alerts;
mod arguments;
mod asker;
mod body;
mod cache;
mod document;
mod once;
mod page;
mod past;
mod problem;
mod reads;
mod recovery;
mod session;
mod settings;
mod tags;
mod watches;
mod writes;

use axum::{
    Extension, Json, Router,
    body::Bytes,
    handler::Handler,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::{from_fn, map_response},
    response::{IntoResponse, Response},
    routing::MethodRouter,
};
use serde::Serialize;
use utoipa_axum::{PathItemExt as _, paste};

pub(super) use self::asker::Asker;
use self::{
    arguments::{Arguments, no_params},
    body::LargeBodies,
    cache::Newest,
    once::Memory,
    problem::Problem,
};
use crate::api_server::Api;

const PREFIX: &str = "/api/v1";

/// What a route answers.
type Answer<T> = Result<Shown<T>, Problem>;

/// One list of handlers: what is served, and what the document says of it.
///
/// They are two functions, because to tell of all that takes megabytes: a master only serves.
macro_rules! api {
    ($($module:ident :: $handler:ident),+ $(,)?) => {
        fn routes() -> Router<Api> {
            let mut router = Router::new();
            $(router = paste! {
                route::<$module::[<__path_ $handler>], _>(router, $module::$handler)
            };)+
            Router::new().nest(PREFIX, router)
        }

        #[cfg(test)]
        fn described() -> utoipa::openapi::OpenApi {
            use utoipa::OpenApi as _;
            use utoipa_axum::{router::OpenApiRouter, routes};

            let v1 = OpenApiRouter::<Api>::new()$(.routes(routes!($module::$handler)))+;
            let document = document::Document::openapi();
            document::said_once(OpenApiRouter::with_openapi(document).nest(PREFIX, v1).into_openapi())
        }
    };
}

api! {
    session::sign_in,
    session::create_code,
    session::who_am_i,
    session::sign_out,
    reads::list_nodes,
    reads::get_node,
    writes::remove,
    reads::get_status,
    settings::get_settings,
    reads::get_topology,
    writes::put_topology,
    reads::list_events,
    past::get_history,
    reads::list_figures,
    reads::query_metrics,
    watches::watch_nodes,
    watches::watch_events,
    writes::approve,
    writes::reject,
    writes::set_maintenance,
    writes::label,
    writes::reset_identity,
    writes::restart_container,
    writes::check,
    writes::set_log_level,
    recovery::get_recovery,
    recovery::pause,
    recovery::resume,
    recovery::force,
    recovery::probe,
    access::list_tokens,
    access::create_token,
    access::revoke_token,
    access::list_api_tokens,
    access::create_api_token,
    access::revoke_api_token,
    access::list_users,
    access::create_user,
    access::revoke_user,
    access::list_audit,
    access::verify_audit,
    alerts::list_alerts,
    alerts::get_alert,
    alerts::acknowledge,
    alerts::acknowledge_several,
    alerts::silence,
    alerts::unsilence,
    alerts::list_rules,
    alerts::apply_rules,
    alerts::check_rules,
    alerts::delete_rule,
    alerts::list_channels,
    alerts::apply_channels,
    alerts::delete_channel,
    alerts::switch_channel,
    alerts::test_channel,
    alerts::resend_letters,
    alerts::clear_letters,
    watches::watch_alerts,
    watches::watch_logs,
}

/// What the attribute of `handler` says of where it is served, `P`, without all that it says besides. A parameter behind
/// `?` is refused where it takes none; one that takes some refuses those that it does not know by itself.
fn route<P: utoipa::Path, T: Arguments + 'static>(
    router: Router<Api>,
    handler: impl Handler<T, Api>,
) -> Router<Api> {
    let filters = P::methods().into_iter().map(|method| method.to_method_filter());
    let methods =
        filters.fold(MethodRouter::new(), |methods, filter| methods.on(filter, handler.clone()));
    let methods = if T::TAKE_PARAMS { methods } else { methods.layer(from_fn(no_params)) };
    router.route(&P::path(), methods)
}

pub(super) fn router() -> Router<Api> {
    let places = Extension(LargeBodies::default());
    let memory = Extension(Memory::default());
    let newest = Extension(Newest::default());
    routes()
        .merge(document::router())
        .layer(places)
        .layer(memory)
        .layer(newest)
        .fallback(nothing_here)
        .method_not_allowed_fallback(not_so)
        .layer(from_fn(tags::not_again))
        .layer(map_response(as_it_is_called))
}

/// No browser takes an answer for anything else than it says it is.
async fn as_it_is_called(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
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

    fn created(body: T) -> Self {
        Self { status: StatusCode::CREATED, ..Self::ok(body) }
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
        (self.status, NEVER_KEPT, self.headers, Json(self.body)).into_response()
    }
}

/// By browsers and proxies.
const NEVER_KEPT: [(header::HeaderName, HeaderValue); 1] =
    [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];

impl Shown<Bytes> {
    /// What is JSON already.
    fn written(self) -> Response {
        let kind = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        (self.status, NEVER_KEPT, kind, self.headers, self.body).into_response()
    }
}

/// It was done, and there is nothing to show for it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Done {}
