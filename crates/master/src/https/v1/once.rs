//! A request that makes something, and may have been made before: its answer was lost, or somebody pressed twice.
//!
//! The key is the caller's own (`Idempotency-Key`). With the same body the same answer comes again, for ten minutes; with
//! another body it is a mistake. What was refused is not remembered: it has changed nothing.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    body::Bytes,
    extract::FromRequestParts,
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse as _, Response},
};
use serde::Serialize;
use tokio::time::Instant;

use super::{Answer, problem::Problem};
use crate::api_server::Api;

/// For so long an answer comes again.
const KEPT_FOR: Duration = Duration::from_secs(600);
/// Answers that are kept; the oldest goes.
const KEPT_MAX: usize = 256;
/// Bytes of an answer that is kept; a larger one is carried out again.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a key.
const KEY_BYTES_MAX: usize = 128;

/// What was made, by whom and under which key.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory(Arc<Mutex<VecDeque<Entry>>>);

#[derive(Debug, Clone)]
struct Entry {
    key: Key,
    digest: [u8; 32],
    at: Instant,
    /// `None` while it is under way.
    answer: Option<(StatusCode, Bytes)>,
}

/// Who, where, and the caller's own word.
type Key = (String, String, String);

/// Of one request.
#[derive(Debug)]
pub(super) struct Once {
    memory: Memory,
    path: String,
    key: Option<String>,
}

impl FromRequestParts<Api> for Once {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Problem> {
        let memory = parts.extensions.get::<Memory>().cloned().unwrap_or_default();
        let path = parts.uri.path().to_owned();
        let Some(key) = parts.headers.get("idempotency-key") else {
            return Ok(Self { memory, path, key: None });
        };
        let key = key.to_str().ok().filter(|key| !key.is_empty() && key.len() <= KEY_BYTES_MAX);
        let detail = format!("Idempotency-Key: must have 1 to {KEY_BYTES_MAX} visible characters");
        let bad = || Problem::new(StatusCode::BAD_REQUEST, "InvalidField", detail);
        let key = Some(key.ok_or_else(bad)?.to_owned());
        Ok(Self { memory, path, key })
    }
}

impl Once {
    /// Carries it out, unless it was before.
    pub(super) async fn carry_out<T: Serialize>(
        self,
        who: String,
        digest: [u8; 32],
        make: impl Future<Output = Answer<T>>,
    ) -> Result<Response, Problem> {
        let Some(key) = self.key else { return Ok(make.await?.into_response()) };
        let key = (who, self.path, key);
        if let Some(kept) = self.memory.begin(&key, digest)? {
            return Ok(shown(kept, true));
        }
        // forgotten again if the caller goes away, or is refused
        let mut under_way = UnderWay { memory: &self.memory, key: &key, done: false };
        let made = make.await?;
        let status = made.status;
        let body = Bytes::from(serde_json::to_vec(&made.body).unwrap_or_default());
        under_way.done = body.len() <= ANSWER_BYTES_MAX;
        if under_way.done {
            self.memory.keep(&key, (status, body.clone()));
        }
        drop(under_way);
        Ok(shown((status, body), false))
    }
}

fn shown((status, body): (StatusCode, Bytes), again: bool) -> Response {
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if again {
        headers.insert("idempotent-replayed", HeaderValue::from_static("true"));
    }
    response
}

struct UnderWay<'a> {
    memory: &'a Memory,
    key: &'a Key,
    done: bool,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.memory.lock().retain(|entry| entry.key != *self.key);
        }
    }
}

impl Memory {
    /// What came of it before; `None` where it is to be carried out now.
    fn begin(&self, key: &Key, digest: [u8; 32]) -> Result<Option<(StatusCode, Bytes)>, Problem> {
        let now = Instant::now();
        let mut entries = self.lock();
        entries.retain(|entry| now.duration_since(entry.at) < KEPT_FOR);
        let Some(entry) = entries.iter().find(|entry| entry.key == *key) else {
            if entries.len() >= KEPT_MAX {
                entries.pop_front();
            }
            entries.push_back(Entry { key: key.clone(), digest, at: now, answer: None });
            return Ok(None);
        };
        if entry.digest != digest {
            let detail = "Idempotency-Key: was used for another request";
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            return Err(Problem::new(status, "KeyReused", detail).field("Idempotency-Key"));
        }
        match &entry.answer {
            Some(answer) => Ok(Some(answer.clone())),
            None => {
                let detail = "Idempotency-Key: its request is still being carried out";
                Err(Problem::new(StatusCode::CONFLICT, "UnderWay", detail).field("Idempotency-Key"))
            }
        }
    }

    fn keep(&self, key: &Key, answer: (StatusCode, Bytes)) {
        if let Some(entry) = self.lock().iter_mut().find(|entry| entry.key == *key) {
            entry.answer = Some(answer);
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(word: &str) -> Key {
        ("admin:first".to_owned(), "/api/v1/tokens".to_owned(), word.to_owned())
    }

    #[tokio::test]
    async fn the_same_comes_again_and_another_body_is_a_mistake() {
        let memory = Memory::default();
        assert_eq!(memory.begin(&key("a"), [1; 32]), Ok(None));
        assert!(memory.begin(&key("a"), [1; 32]).is_err(), "under way");
        memory.keep(&key("a"), (StatusCode::CREATED, Bytes::from_static(b"{}")));
        assert!(memory.begin(&key("a"), [1; 32]).unwrap().is_some());
        assert!(memory.begin(&key("a"), [2; 32]).is_err(), "another body");
        let other = ("viewer:eve".to_owned(), key("a").1, key("a").2);
        assert_eq!(memory.begin(&other, [1; 32]), Ok(None), "another caller");
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded_in_number_and_time() {
        tokio::time::pause();
        let memory = Memory::default();
        for n in 0..1_000 {
            memory.begin(&key(&n.to_string()), [0; 32]).unwrap();
        }
        assert_eq!(memory.lock().len(), KEPT_MAX);
        tokio::time::advance(KEPT_FOR).await;
        memory.begin(&key("later"), [0; 32]).unwrap();
        assert_eq!(memory.lock().len(), 1);
    }
}
