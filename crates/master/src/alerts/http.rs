//! Webhooks: one POST, signed where there is a key.

use hyper::{
    Uri,
    body::Bytes,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue},
};
use piccolo_core::monitoring_server::alerts::channel::{Body, Notice};

use super::{Failed, message, tls};
use crate::outbound::post::{Target, post};

pub(super) async fn send(
    notice: &Notice,
    url: &str,
    body: Body,
    key: &str,
    ca: &str,
) -> Result<(), Failed> {
    let uri: Uri =
        url.parse().map_err(|_| Failed::ForGood("its address is no address".to_owned()))?;
    let trust = if uri.scheme_str() == Some("https") { Some(tls::client(ca).await?) } else { None };
    let text = message::webhook(notice, body).to_string();
    let headers = headers(notice, &text, key)?;
    // only its status is looked at
    let status = post(Target { uri: &uri, trust }, headers, Bytes::from(text), 0).await?.status;
    match status.as_u16() {
        200..300 => Ok(()),
        // it is about what was sent, and that does not change
        400 | 410 | 413 | 415 | 422 => {
            Err(Failed::ForGood(format!("the server answered {status}")))
        }
        _ => Err(Failed::now(format!("the server answered {status}"))),
    }
}

fn headers(notice: &Notice, text: &str, key: &str) -> Result<HeaderMap, Failed> {
    let value = |text: &str| {
        HeaderValue::from_str(text).map_err(|error| Failed::ForGood(error.to_string()))
    };
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("idempotency-key", value(&notice.key)?);
    if !key.is_empty() {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key.as_bytes());
        let signature = ring::hmac::sign(&key, text.as_bytes());
        let hex = piccolo_core::hex::hex(signature.as_ref());
        headers.insert("piccolo-signature", value(&format!("sha256={hex}"))?);
    }
    Ok(headers)
}
