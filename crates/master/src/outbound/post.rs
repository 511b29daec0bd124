//! One POST on one connection. Redirections are not followed: the body would go where nobody said that it should.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::future::{Either, select};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, StatusCode, Uri,
    body::Bytes,
    header::{HOST, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::{Failed, tls};

/// Bytes of the head of an answer at most.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Where to, and whom to believe there.
pub(crate) struct Target<'a> {
    pub(crate) uri: &'a Uri,
    /// `None`: in the clear.
    pub(crate) trust: Option<Arc<ClientConfig>>,
}

#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    /// When it is to be tried again, where the server says so in seconds.
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Bytes,
}

/// `answer_bytes_max`: of the answer's body; where it is 0, that is not read.
pub(crate) async fn post(
    target: Target<'_>,
    mut headers: HeaderMap,
    body: Bytes,
    answer_bytes_max: usize,
) -> Result<Answered, Failed> {
    let uri = target.uri;
    let host = uri.host().ok_or_else(|| Failed::ForGood("its address has no host".to_owned()))?;
    let host = host.trim_matches(['[', ']']);
    let port = uri.port_u16().unwrap_or(if target.trust.is_some() { 443 } else { 80 });
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() =
        path.parse().map_err(|_| Failed::ForGood("its path is none".to_owned()))?;
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    // what is before an @ is for us, and not for the server's log
    let named = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let named = HeaderValue::from_str(named).map_err(|error| Failed::ForGood(error.to_string()))?;
    headers.insert(HOST, named);
    let agent = concat!("piccolo/", env!("CARGO_PKG_VERSION"));
    headers.insert(USER_AGENT, HeaderValue::from_static(agent));
    *request.headers_mut() = headers;
    let stream = TcpStream::connect((host, port))
        .await
        .map_err(|error| Failed::now(format!("no connection to {host}:{port}: {error}")))?;
    match target.trust {
        None => exchange(stream, request, answer_bytes_max).await,
        Some(trust) => {
            exchange(tls::wrap(stream, host, trust).await?, request, answer_bytes_max).await
        }
    }
}

async fn exchange<S>(
    stream: S,
    request: Request<Full<Bytes>>,
    answer_bytes_max: usize,
) -> Result<Answered, Failed>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = hyper::client::conn::http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX);
    let (mut sender, connection) =
        builder.handshake(TokioIo::new(stream)).await.map_err(Failed::now)?;
    let answered = async {
        let response = sender.send_request(request).await;
        let response = response.map_err(|error| Failed::now(format!("no answer: {error}")))?;
        let (head, body) = response.into_parts();
        let mut read = Bytes::new();
        if answer_bytes_max > 0 {
            let all = Limited::new(body, answer_bytes_max).collect().await;
            let all = all.map_err(|error| Failed::now(format!("no whole answer: {error}")))?;
            read = all.to_bytes();
        }
        let seconds = head.headers.get(RETRY_AFTER).and_then(|after| after.to_str().ok());
        let seconds = seconds.and_then(|after| after.trim().parse().ok());
        let retry_after = seconds.map(Duration::from_secs);
        Ok(Answered { status: head.status, retry_after, body: read })
    };
    // the connection moves what the request waits for; a server may end it together with its answer
    match select(pin!(answered), pin!(connection)).await {
        Either::Left((answered, _)) => answered,
        Either::Right((_, answered)) => answered.await,
    }
}
