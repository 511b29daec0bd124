//! The web console (HLD §14.3): files of `console/dist`, in the executable, for everybody.
//!
//! They hold no secret: what they show comes from `/api/v1`, which asks who calls. Whoever could change what they do is kept
//! out by the policy that goes with each: scripts and styles from this origin alone, nothing inline, no frame. Each file is
//! compressed once, when it is first asked for, and has a tag, so that a browser fetches it once.

use std::{io::Write as _, sync::OnceLock};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use flate2::{Compression, write::GzEncoder};
use piccolo_core::hex;
use ring::digest;

#[cfg(test)]
mod tests;

struct File {
    path: &'static str,
    kind: &'static str,
    content: &'static [u8],
    served: OnceLock<Served>,
}

struct Served {
    tag: HeaderValue,
    compressed: Bytes,
}

macro_rules! file {
    ($path:literal, $name:literal, $kind:literal) => {
        File {
            path: $path,
            kind: $kind,
            content: include_bytes!(concat!("../../../../console/dist/", $name)),
            served: OnceLock::new(),
        }
    };
}

static FILES: [File; 4] = [
    file!("/", "index.html", "text/html; charset=utf-8"),
    file!("/console.js", "console.js", "text/javascript; charset=utf-8"),
    file!("/console.css", "console.css", "text/css; charset=utf-8"),
    file!("/icon.svg", "icon.svg", "image/svg+xml"),
];

const HEADERS: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
         connect-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    // asked for again each time, and answered by "not modified" while the master is the same
    (header::CACHE_CONTROL, "no-cache"),
];

/// A route for each file.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES.iter().fold(Router::new(), |router, file| {
        router.route(file.path, get(move |headers: HeaderMap| async move { file.answer(&headers) }))
    })
}

impl File {
    fn answer(&self, asked: &HeaderMap) -> Response {
        let served = self.served.get_or_init(|| Served::new(self.content));
        let mut answer = if names(asked, &header::IF_NONE_MATCH, served.tag.as_bytes()) {
            StatusCode::NOT_MODIFIED.into_response()
        } else if names(asked, &header::ACCEPT_ENCODING, b"gzip") {
            ([(header::CONTENT_ENCODING, "gzip")], served.compressed.clone()).into_response()
        } else {
            Bytes::from_static(self.content).into_response()
        };
        let headers = answer.headers_mut();
        for (name, value) in HEADERS {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind));
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        headers.insert(header::ETAG, served.tag.clone());
        answer
    }
}

impl Served {
    fn new(content: &'static [u8]) -> Self {
        let hash = digest::digest(&digest::SHA256, content);
        let tag = format!("W/\"{}\"", hex::hex(&hash.as_ref()[..8]));
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        // writing to memory does not fail
        encoder.write_all(content).ok();
        let compressed = encoder.finish().unwrap_or_default();
        Self {
            tag: HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("W/\"\"")),
            compressed: compressed.into(),
        }
    }
}

/// Whether a header that is a list has `value` in it; of an encoding's preference only "not at all" counts.
fn names(headers: &HeaderMap, header: &HeaderName, value: &[u8]) -> bool {
    let lists = headers.get_all(header).iter();
    let mut entries = lists.flat_map(|list| list.as_bytes().split(|byte| *byte == b','));
    entries.any(|entry| {
        let mut parts = entry.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let is_named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(value));
        is_named && !parts.any(|part| part == b"q=0" || part == b"q=0.0")
    })
}
