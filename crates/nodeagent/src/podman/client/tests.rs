//! The client against servers that misbehave. The real Podman is in `tests/podman.rs`.

use std::time::Instant;

use tempfile::TempDir;

use super::*;
use crate::podman::fake::{self, Script, answer};

const LIMIT: Duration = Duration::from_millis(300);

fn with_server<T>(script: Script, test: impl AsyncFnOnce(Client) -> T) -> T {
    fake::with_server(script, async |client: Client| test(client.with_call_limit(LIMIT)).await)
}

/// The error that a list of containers ends with.
#[track_caller]
fn check(script: Script, expected: &str) {
    let error = with_server(script, async |client| client.containers().await.unwrap_err());
    let text = error.to_string();
    assert!(text.contains(expected), "{text:?} should contain {expected:?}");
}

#[test]
fn a_server_that_never_answers_is_given_up_in_time() {
    let before = Instant::now();
    check(None, "did not answer /v4.0.0/libpod/containers/json within 0.3 s");
    assert!(before.elapsed() >= LIMIT);
}

#[test]
fn a_body_that_never_ends_is_given_up_in_time() {
    let endless = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[".to_vec();
    // the server closes after it has written, so this is a truncated body
    check(Some(endless), "not HTTP as expected");
}

#[test]
fn garbage_is_an_error_not_a_panic() {
    check(Some(b"\x00\xff\xfe SSH-2.0\r\n\r\n".to_vec()), "not HTTP as expected");
    check(Some(Vec::new()), "not HTTP as expected");
    check(answer("200 OK", b"<html>"), "cannot be understood");
    check(answer("200 OK", b"\xff\xff"), "cannot be understood");
}

#[test]
fn a_refusal_carries_podmans_own_message() {
    let body = br#"{"cause":"x","message":"no netns file","response":500}"#;
    check(answer("500 Internal Server Error", body), "podman refused (500): no netns file");
    check(answer("404 Not Found", b"plain text\n"), "podman refused (404): plain text");
    check(answer("503 Busy", b""), "podman refused (503): ");
}

#[test]
fn a_truncated_chunk_is_an_error() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    check(Some(format!("{head}ff\r\n[").into_bytes()), "not HTTP as expected");
    check(Some(format!("{head}zz\r\n[").into_bytes()), "not HTTP as expected");
}

#[test]
fn a_huge_answer_is_refused_before_it_fills_the_memory() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n".to_vec();
    check(Some([head, vec![b' '; 9 * 1024 * 1024]].concat()), "larger than 8388608 bytes");
    let long_header = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(1024 * 1024));
    check(Some(long_header.into_bytes()), "not HTTP as expected");
}

#[test]
fn a_missing_or_dead_socket_is_named() {
    let dir = TempDir::new().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ping = |socket: PathBuf| runtime.block_on(Client::new(socket).ping()).unwrap_err();
    let missing = ping(dir.path().join("none.sock"));
    assert!(matches!(missing, Error::NoSocket { .. }), "{missing}");
    let dead = dir.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    assert!(matches!(ping(dead), Error::NobodyListens { .. }));
    let long = dir.path().join("x".repeat(200));
    assert!(matches!(ping(long), Error::Connect { .. }));
}

#[test]
fn an_id_cannot_change_the_path() {
    with_server(answer("200 OK", b"{}"), async |client| {
        for id in ["", "..", "a/b", "a?force=true", "a b", "ä", &"x".repeat(300)] {
            let error = client.start(id).await.unwrap_err();
            assert!(matches!(error, Error::Status { status: 400, .. }), "{id:?}: {error}");
        }
        client.start("good-1.name_2").await.unwrap();
    });
}

#[test]
fn already_so_and_already_gone_are_successes() {
    with_server(Some(b"HTTP/1.1 304 Not Modified\r\n\r\n".to_vec()), async |client| {
        client.start("a").await.unwrap();
        client.stop("a", Duration::ZERO).await.unwrap();
    });
    with_server(answer("404 Not Found", b"{}"), async |client| {
        client.remove("a", Duration::ZERO).await.unwrap();
        assert!(client.start("a").await.unwrap_err().is_refusal());
    });
}

#[test]
fn repeated_events_come_once_and_broken_lines_are_left_out() {
    let event = |ns: i64| {
        format!(r#"{{"Type":"container","Action":"start","Actor":{{"ID":"a"}},"timeNano":{ns}}}"#)
    };
    let lines = [event(5), event(6), event(6), "{oops".into(), event(4), event(9)].join("\n");
    let script = answer("200 OK", format!("{lines}\n").as_bytes());
    let times = with_server(script, async |client| {
        let mut stream = client.events(Some(5));
        let mut times = Vec::new();
        while let Some(Ok(event)) = stream.next().await {
            times.push(event.time_unix_ns);
        }
        assert_eq!(stream.newest_unix_ns(), Some(9));
        times
    });
    assert_eq!(times, [6, 9]);
}

#[test]
fn an_event_line_that_never_ends_is_refused() {
    let script = answer("200 OK", &vec![b'x'; 1024 * 1024]);
    let error = with_server(script, async |client| client.events(None).next().await);
    assert!(matches!(error, Some(Err(Error::TooLarge { .. }))), "{error:?}");
}
