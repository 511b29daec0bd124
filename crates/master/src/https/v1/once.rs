//! A request that makes something, and may have been made before: its answer was lost, or somebody pressed twice.
//!
//! The key is the caller's own (`Idempotency-Key`). With the same body the same answer comes again, for ten minutes; with
//! another body it is a mistake. Whoever asks again is looked at again: what they may not make any more is not shown to
//! them. What was refused is not remembered: it has changed nothing. What is begun is carried out
//! also where the caller goes away meanwhile, and its answer waits for the next attempt.

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
use tonic::Status;

use super::{Answer, problem::Problem};
use crate::api_server::Api;

/// For so long an answer comes again.
const KEPT_FOR: Duration = Duration::from_secs(600);
/// Answers that are kept; the oldest goes. Of one caller, so that nobody's many push out what others made.
const KEPT_MAX: usize = 256;
const KEPT_PER_CALLER_MAX: usize = 32;
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
    /// Carries it out, unless it was before: then the caller is told what came of it, if they `may` still make it.
    pub(super) async fn carry_out<T: Serialize + Send + 'static>(
        self,
        who: String,
        digest: [u8; 32],
        may: impl Future<Output = Result<(), Problem>>,
        make: impl Future<Output = Answer<T>> + Send + 'static,
    ) -> Result<Response, Problem> {
        let Some(key) = self.key else { return Ok(make.await?.into_response()) };
        let (memory, key) = (self.memory, (who, self.path, key));
        match memory.begin(&key, digest) {
            // whether they may is found out where it is made
            Ok(None) => {}
            Ok(Some(kept)) => return may.await.map(|()| shown(kept, true)),
            Err(problem) => return may.await.and(Err(problem)),
        }
        let mut under_way = UnderWay { memory, key, is_open: false };
        let made = tokio::spawn(async move {
            let made = make.await;
            under_way.end(made)
        });
        let failed =
            |_| Problem::from(Status::internal("the master made a mistake; its log has more"));
        let made = made.await.map_err(failed)?;
        made.map(|answer| shown(answer, false))
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

/// Forgotten again unless there is an answer to keep.
struct UnderWay {
    memory: Memory,
    key: Key,
    /// Nobody knows what came of it: it stays under way, and is not begun again.
    is_open: bool,
}

impl UnderWay {
    fn end<T: Serialize>(&mut self, made: Answer<T>) -> Result<(StatusCode, Bytes), Problem> {
        let is_late = |problem: &Problem| problem.status() == StatusCode::GATEWAY_TIMEOUT;
        self.is_open = made.as_ref().is_err_and(is_late);
        let made = made?;
        let body = Bytes::from(serde_json::to_vec(&made.body).unwrap_or_default());
        if body.len() <= ANSWER_BYTES_MAX {
            self.memory.keep(&self.key, (made.status, body.clone()));
        }
        Ok((made.status, body))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if !self.is_open {
            let is_over = |entry: &Entry| entry.key == self.key && entry.answer.is_none();
            self.memory.lock().retain(|entry| !is_over(entry));
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
            make_room(&mut entries, KEPT_PER_CALLER_MAX, |of| of.0 == key.0)?;
            make_room(&mut entries, KEPT_MAX, |_| true)?;
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

/// The oldest answer among `these` goes; what is under way stays.
fn make_room(
    entries: &mut VecDeque<Entry>,
    max: usize,
    these: impl Fn(&Key) -> bool,
) -> Result<(), Problem> {
    if entries.iter().filter(|entry| these(&entry.key)).count() < max {
        return Ok(());
    }
    let oldest = entries.iter().position(|entry| these(&entry.key) && entry.answer.is_some());
    let detail = "too many requests with an Idempotency-Key are under way";
    let busy =
        || Problem::new(StatusCode::TOO_MANY_REQUESTS, "Busy", detail).help("try again later");
    entries.remove(oldest.ok_or_else(busy)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::super::Shown;
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

    fn made(memory: &Memory, key: &Key) {
        memory.begin(key, [0; 32]).unwrap();
        memory.keep(key, (StatusCode::CREATED, Bytes::new()));
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded_in_number_and_time() {
        tokio::time::pause();
        let memory = Memory::default();
        for n in 0..1_000 {
            made(&memory, &(n.to_string(), String::new(), String::new()));
        }
        assert_eq!(memory.lock().len(), KEPT_MAX);
        tokio::time::advance(KEPT_FOR).await;
        memory.begin(&key("later"), [0; 32]).unwrap();
        assert_eq!(memory.lock().len(), 1);
    }

    #[tokio::test]
    async fn nobody_pushes_out_what_another_made() {
        let memory = Memory::default();
        made(&memory, &key("mine"));
        let other = |n: usize| ("viewer:eve".to_owned(), String::new(), n.to_string());
        for n in 0..1_000 {
            made(&memory, &other(n));
        }
        assert_eq!(memory.lock().len(), 1 + KEPT_PER_CALLER_MAX);
        assert!(memory.begin(&key("mine"), [0; 32]).unwrap().is_some());
        let under_way = (1_000..2_000).filter(|n| memory.begin(&other(*n), [0; 32]).is_ok());
        assert_eq!(under_way.count(), KEPT_PER_CALLER_MAX, "and what is under way stays");
    }

    #[tokio::test]
    async fn what_may_have_been_carried_out_is_not_begun_again_and_what_was_refused_is() {
        let memory = Memory::default();
        let ask = async |status: StatusCode| {
            let (memory, key) = (memory.clone(), Some("a".to_owned()));
            let once = Once { memory, path: "/api/v1/tokens".to_owned(), key };
            let made: Answer<u32> = Err(Problem::new(status, "Test", "no"));
            let answer = once
                .carry_out("admin:first".to_owned(), [1; 32], async { Ok(()) }, async { made })
                .await;
            answer.unwrap_err().status()
        };
        assert_eq!(ask(StatusCode::SERVICE_UNAVAILABLE).await, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(ask(StatusCode::GATEWAY_TIMEOUT).await, StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(ask(StatusCode::SERVICE_UNAVAILABLE).await, StatusCode::CONFLICT);
    }

    #[tokio::test]
    async fn what_a_caller_began_and_left_is_carried_out_once() {
        let memory = Memory::default();
        let once = || {
            let (memory, key) = (memory.clone(), Some("a".to_owned()));
            Once { memory, path: "/api/v1/tokens".to_owned(), key }
        };
        let (begun, has_begun) = oneshot::channel();
        let (store_answers, answer) = oneshot::channel();
        let make = async move {
            begun.send(()).unwrap();
            Ok(Shown::ok(answer.await.unwrap_or(0)))
        };
        let asked = tokio::spawn(once().carry_out(
            "admin:first".to_owned(),
            [1; 32],
            async { Ok(()) },
            make,
        ));
        has_begun.await.unwrap();
        asked.abort();
        assert!(asked.await.unwrap_err().is_cancelled());
        let again = || {
            once().carry_out("admin:first".to_owned(), [1; 32], async { Ok(()) }, async {
                Ok(Shown::ok(2))
            })
        };
        assert!(again().await.is_err(), "it is under way");
        store_answers.send(1).unwrap();
        while memory.lock().iter().any(|entry| entry.answer.is_none()) {
            tokio::task::yield_now().await;
        }
        let replayed = again().await.unwrap();
        assert!(replayed.headers().contains_key("idempotent-replayed"));
        let body = axum::body::to_bytes(replayed.into_body(), 64).await.unwrap();
        assert_eq!(&body[..], b"1");
    }
}
