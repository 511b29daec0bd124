//! What comes along with a request: JSON, bounded in size and time.
//!
//! Whoever asks is known before the first byte of it is read, so a stranger's is never held, but for a few bytes: those
//! that open a session, or that are refused by the call with all that belongs to it.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, to_bytes},
    extract::{FromRequest, Request},
    http::{HeaderMap, StatusCode, header},
};
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use tokio::sync::Semaphore;

use super::{asker::Known, problem::Problem};
use crate::api_server::Api;

/// From the head of a request to its last byte.
const ARRIVES_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of a body that need no place among the large ones.
const SMALL_BYTES: usize = 4 * 1024;
/// Bytes of a body at most: a topology with all its configuration is smaller.
const BYTES_MAX: usize = 1024 * 1024;
/// Large bodies that are read at once.
const LARGE_AT_ONCE_MAX: usize = 8;

/// Places for large bodies.
#[derive(Debug, Clone)]
pub(super) struct LargeBodies(Arc<Semaphore>);

impl Default for LargeBodies {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LARGE_AT_ONCE_MAX)))
    }
}

/// A body of JSON.
#[derive(Debug)]
pub(super) struct Given<T>(pub(super) T);

/// A body of JSON, and SHA-256 of its bytes.
#[derive(Debug)]
pub(super) struct Digested<T>(pub(super) T, pub(super) [u8; 32]);

/// A body of JSON that may be left out.
#[derive(Debug)]
pub(super) struct Optional<T>(pub(super) T);

/// A small body of JSON, for strangers.
#[derive(Debug)]
pub(super) struct Small<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Api> for Given<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Api) -> Result<Self, Problem> {
        check_kind(request.headers())?;
        parse(&read(request).await?).map(Self)
    }
}

impl<T: DeserializeOwned> FromRequest<Api> for Digested<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Api) -> Result<Self, Problem> {
        check_kind(request.headers())?;
        let bytes = read(request).await?;
        let mut digest = [0; 32];
        digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, &bytes).as_ref());
        Ok(Self(parse(&bytes)?, digest))
    }
}

impl<T: DeserializeOwned + Default> FromRequest<Api> for Optional<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Api) -> Result<Self, Problem> {
        let kind = check_kind(request.headers());
        let bytes = read(request).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        kind?;
        parse(&bytes).map(Self)
    }
}

impl<T: DeserializeOwned> FromRequest<Api> for Small<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Api) -> Result<Self, Problem> {
        check_kind(request.headers())?;
        parse(&within(request.into_body(), SMALL_BYTES).await?).map(Self)
    }
}

fn check_kind(headers: &HeaderMap) -> Result<(), Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let essence = kind.map(|kind| kind.split(';').next().unwrap_or_default().trim());
    if essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"))
        && !headers.contains_key(header::CONTENT_ENCODING)
    {
        return Ok(());
    }
    let detail = "the body must be application/json, without a content encoding";
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "NotJson", detail))
}

async fn read(request: Request) -> Result<Vec<u8>, Problem> {
    let is_known = request.extensions().get::<Known>().is_some();
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > BYTES_MAX) {
        return Err(too_large(BYTES_MAX));
    }
    if !is_known {
        // one that says that it is larger is not waited for
        if length.is_some_and(|length| length > SMALL_BYTES) {
            return Err(stranger());
        }
        return within(request.into_body(), SMALL_BYTES).await.map_err(|_| stranger());
    }
    let places = request.extensions().get::<LargeBodies>().cloned().unwrap_or_default();
    let _place = if length.is_some_and(|length| length <= SMALL_BYTES) {
        None
    } else {
        let place = tokio::time::timeout(ARRIVES_WITHIN, places.0.acquire_owned()).await;
        Some(place.map_err(|_| {
            let detail = "the master reads as many large requests as it can";
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "Busy", detail).help("try again later")
        })?)
    };
    within(request.into_body(), BYTES_MAX).await
}

async fn within(body: Body, bytes_max: usize) -> Result<Vec<u8>, Problem> {
    match tokio::time::timeout(ARRIVES_WITHIN, to_bytes(body, bytes_max)).await {
        Ok(Ok(bytes)) => Ok(bytes.into()),
        // the connection broke, and nobody reads this; or there is too much
        Ok(Err(_)) => Err(too_large(bytes_max)),
        Err(_) => {
            let detail =
                format!("the request was not complete within {} s", ARRIVES_WITHIN.as_secs());
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "TooSlow", detail))
        }
    }
}

fn too_large(bytes_max: usize) -> Problem {
    let detail = format!("the body has more than {bytes_max} bytes");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "TooManyBytes", detail)
}

fn stranger() -> Problem {
    let detail =
        format!("who asks is not known here, and more than {SMALL_BYTES} bytes are not read");
    Problem::of_a_stranger(detail)
}

/// What is no JSON is malformed; what is JSON of another shape is understood, and cannot be done.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        Category::Data => {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "WrongShape", error.to_string())
        }
        Category::Io | Category::Syntax | Category::Eof => {
            Problem::new(StatusCode::BAD_REQUEST, "MalformedJson", error.to_string())
        }
    })
}
