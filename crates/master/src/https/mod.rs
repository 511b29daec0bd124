//! The HTTPS port: the console and `/healthz` for everybody, `/metrics` for those who may read (HLD §9.1.3), and the REST API
//! in `v1`.

use std::time::Duration;

use axum::{
    Extension, Router,
    extract::State,
    http::{StatusCode, header},
    middleware::from_fn,
    response::{IntoResponse, Response},
    routing::get,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use piccolo_core::api_server::{Call, Code};
use piccolo_rpc::tls::acceptor::Incoming;

use crate::{
    api_server::{
        Api, CONNECTION_WINDOW_BYTES, HEAD_BYTES_MAX, PING_EVERY, PING_WITHIN,
        RESETS_FOR_ERRORS_MAX, RESETS_WAITING_MAX, STREAM_WINDOW_BYTES, STREAMS_PER_CONNECTION_MAX,
    },
    metrics,
    state_manager::CallError,
};

mod console;
mod rest;
mod v1;

/// For the head of a request.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);

/// Serves until `stop` is over.
pub(crate) async fn serve(api: Api, mut incoming: Incoming, stop: impl Future<Output = ()>) {
    let app = Router::new()
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics_page))
        .merge(v1::router())
        .merge(console::routes())
        .layer(from_fn(rest::read_away))
        .with_state(api);
    tokio::pin!(stop);
    loop {
        let connection = tokio::select! {
            () = &mut stop => return,
            connection = incoming.accept() => connection,
        };
        let Some(connection) = connection else { return };
        let service = app.clone().layer(Extension(connection.peer().clone()));
        tokio::spawn(async move {
            let mut server = auto::Builder::new(TokioExecutor::new());
            server
                .http1()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADERS_WITHIN)
                .max_buf_size(HEAD_BYTES_MAX as usize);
            server
                .http2()
                .timer(TokioTimer::new())
                .initial_stream_window_size(STREAM_WINDOW_BYTES)
                .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
                .max_header_list_size(HEAD_BYTES_MAX)
                .max_pending_accept_reset_streams(RESETS_WAITING_MAX)
                .max_local_error_reset_streams(RESETS_FOR_ERRORS_MAX)
                .keep_alive_interval(PING_EVERY)
                .keep_alive_timeout(PING_WITHIN);
            let service = TowerToHyperService::new(service);
            // whatever went wrong, the client knows it better
            server.serve_connection(TokioIo::new(connection), service).await.ok();
        });
    }
}

/// Alive, and able to take what it is told.
async fn healthz(State(api): State<Api>) -> Response {
    match api.health.get() {
        ok if ok == "ok" => "ok\n".into_response(),
        // the reason is for those with a certificate: piccolo status
        _ => (StatusCode::SERVICE_UNAVAILABLE, "the store is away\n").into_response(),
    }
}

async fn metrics_page(State(api): State<Api>, asker: v1::Asker) -> Response {
    match api.state.check(asker.by, Call::Metrics).await {
        Ok(()) => {
            let kind = (header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
            ([kind], metrics::page(&api)).into_response()
        }
        Err(CallError::Refused(refusal)) => {
            let code = match refusal.code {
                Code::Unauthenticated => StatusCode::UNAUTHORIZED,
                Code::InvalidArgument
                | Code::PermissionDenied
                | Code::NotFound
                | Code::AlreadyExists
                | Code::FailedPrecondition
                | Code::Aborted
                | Code::ResourceExhausted
                | Code::Unavailable => StatusCode::FORBIDDEN,
            };
            (code, format!("{}\n", refusal.message)).into_response()
        }
        Err(error @ (CallError::Deadline(_) | CallError::Stopping)) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response()
        }
    }
}
