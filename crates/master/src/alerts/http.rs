//! Webhooks: one POST on one connection, signed where there is a key. Redirections are not followed: the body would
//! go where nobody said that it should.

use std::pin::pin;

use futures_util::future::{Either, select};
use http_body_util::Full;
use hyper::{
    Method, Request, Uri,
    body::Bytes,
    header::{CONTENT_TYPE, HOST, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use piccolo_core::monitoring_server::alerts::channel::{Body, Notice};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::{Failed, message, tls};

/// Bytes of a server's buffer at most: only its status is read.
const HEAD_BYTES_MAX: usize = 16 * 1024;

pub(super) async fn send(
    notice: &Notice,
    url: &str,
    body: Body,
    key: &str,
    ca: &str,
) -> Result<(), Failed> {
    let uri: Uri =
        url.parse().map_err(|_| Failed::ForGood("its address is no address".to_owned()))?;
    let host = uri.host().ok_or_else(|| Failed::ForGood("its address has no host".to_owned()))?;
    let host = host.trim_matches(['[', ']']);
    let is_tls = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let request = request(notice, &uri, body, key)?;
    let stream = TcpStream::connect((host, port))
        .await
        .map_err(|error| Failed::now(format!("no connection to {host}:{port}: {error}")))?;
    if !is_tls {
        return exchange(stream, request).await;
    }
    exchange(tls::wrap(stream, host, ca).await?, request).await
}

fn request(
    notice: &Notice,
    uri: &Uri,
    body: Body,
    key: &str,
) -> Result<Request<Full<Bytes>>, Failed> {
    let text = message::webhook(notice, body).to_string();
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    // what is before an @ is for us, and not for the server's log
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(HOST, host)
        .header(USER_AGENT, concat!("piccolo/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, "application/json")
        .header("idempotency-key", &notice.key);
    if !key.is_empty() {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key.as_bytes());
        let signature = ring::hmac::sign(&key, text.as_bytes());
        let hex = piccolo_core::hex::hex(signature.as_ref());
        request = request.header("piccolo-signature", format!("sha256={hex}"));
    }
    request.body(Full::new(Bytes::from(text))).map_err(|error| Failed::ForGood(error.to_string()))
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<(), Failed>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = hyper::client::conn::http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX);
    let (mut sender, connection) =
        builder.handshake(TokioIo::new(stream)).await.map_err(Failed::now)?;
    // the connection moves what the request waits for; a server may end it together with its answer
    let (answered, connection) = (pin!(sender.send_request(request)), pin!(connection));
    let response = match select(answered, connection).await {
        Either::Left((response, _)) => response,
        Either::Right((_, answered)) => answered.await,
    };
    let response = response.map_err(|error| Failed::now(format!("no answer: {error}")))?;
    let status = response.status();
    match status.as_u16() {
        200..300 => Ok(()),
        // it is about what was sent, and that does not change
        400 | 410 | 413 | 415 | 422 => {
            Err(Failed::ForGood(format!("the server answered {status}")))
        }
        _ => Err(Failed::now(format!("the server answered {status}"))),
    }
}
