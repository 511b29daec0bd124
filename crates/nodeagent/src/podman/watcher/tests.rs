//! The watcher on a Podman that misbehaves. The real one is in `tests/podman.rs`.

use std::sync::Mutex;

use super::*;
use crate::podman::fake::{Shared, answer, with_shared};

const PATIENCE: Duration = Duration::from_secs(90);
const TWO: &str = r#"[{"Id":"aa","Names":["a"],"State":"running","Pid":0,"Restarts":0},
                      {"Id":"bb","Names":["b"],"State":"exited","ExitCode":3,"Restarts":1}]"#;

async fn until(watcher: &mut Watcher, wanted: impl Fn(&Observation) -> bool) -> Arc<Observation> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !wanted(&watcher.current()) {
        let changed = tokio::time::timeout_at(deadline, watcher.changed()).await;
        assert!(changed.is_ok(), "this did not become what was wanted: {:#?}", watcher.current());
    }
    watcher.current()
}

fn watch(client: &Client) -> Watcher {
    let client = client.clone().with_call_limit(Duration::from_millis(200));
    Watcher::start(client, Options { method: Method::Events, ..Options::default() })
}

fn names(observation: &Observation) -> Vec<&str> {
    observation.containers.iter().map(|c| c.name.as_str()).collect()
}

fn shared(script: crate::podman::fake::Script) -> Shared {
    Arc::new(Mutex::new(script))
}

#[test]
fn a_hanging_podman_is_down_with_the_reason_and_comes_back() {
    let script = shared(None);
    with_shared(&script, async |client: Client| {
        let mut watcher = watch(&client);
        let down = until(&mut watcher, |o| o.runtime != Runtime::Unknown).await;
        let reason = "podman did not answer /v4.0.0/libpod/containers/json within 0.2 s";
        assert_eq!(down.runtime, Runtime::Down { reason: reason.into() });
        *script.lock().unwrap() = answer("200 OK", TWO.as_bytes());
        let up = until(&mut watcher, |o| matches!(o.runtime, Runtime::Up { .. })).await;
        assert_eq!(names(&up), ["a", "b"]);
    });
}

#[test]
fn a_refused_list_keeps_what_was_known_and_says_so() {
    let script = shared(answer("200 OK", TWO.as_bytes()));
    with_shared(&script, async |client: Client| {
        let mut watcher = watch(&client);
        until(&mut watcher, |o| names(o) == ["a", "b"]).await;
        let refusal = br#"{"message":"no netns file","response":500}"#;
        *script.lock().unwrap() = answer("500 Internal Server Error", refusal);
        watcher.refresh();
        let kept = until(&mut watcher, |o| !o.problems.is_empty()).await;
        assert_eq!(names(&kept), ["a", "b"]);
        assert!(matches!(kept.runtime, Runtime::Up { .. }));
        let problem = "podman cannot list its containers: podman refused (500): no netns file";
        assert_eq!(kept.problems, [problem]);
        *script.lock().unwrap() = answer("200 OK", b"[]");
        let empty = until(&mut watcher, |o| o.problems.is_empty()).await;
        assert_eq!(names(&empty), [""; 0]);
    });
}

#[test]
fn a_container_that_cannot_be_read_stays_as_it_was_known() {
    let script = shared(answer("200 OK", TWO.as_bytes()));
    with_shared(&script, async |client: Client| {
        let mut watcher = watch(&client);
        until(&mut watcher, |o| names(o) == ["a", "b"]).await;
        let broken = br#"[{"Id":"aa","Names":7},{"Id":"cc","Names":["c"],"State":"created"}]"#;
        *script.lock().unwrap() = answer("200 OK", broken);
        watcher.refresh();
        let seen = until(&mut watcher, |o| !o.problems.is_empty()).await;
        assert_eq!(names(&seen), ["a", "c"]);
        assert!(seen.problems[0].starts_with("container aa cannot be read: "));
    });
}

#[test]
fn the_same_picture_is_not_given_twice() {
    let script = shared(answer("200 OK", TWO.as_bytes()));
    with_shared(&script, async |client: Client| {
        let mut watcher = watch(&client);
        let first = until(&mut watcher, |o| names(o) == ["a", "b"]).await;
        for _ in 0..5 {
            watcher.refresh();
            let quiet = tokio::time::timeout(GATHER * 4, watcher.changed()).await;
            assert!(quiet.is_err(), "{:#?} after {first:#?}", watcher.current());
        }
    });
}
