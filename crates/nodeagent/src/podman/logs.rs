//! What a container has written, as libpod's API streams it: frames with a header of eight bytes that names the
//! stream, each of which holds a time, a space, and a line or a part of one.

use std::time::Duration;

use http_body_util::BodyExt;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::client::{Client, Error};
use super::{decode, http};

/// Bytes of a line that are kept: more than is told to anybody.
const LINE_BYTES_MAX: usize = 8 * 1024;
const HEADER_BYTES: usize = 8;
/// Of a refusal.
const REFUSAL_BYTES_MAX: usize = 4 * 1024;
/// For a refusal to be read, once it has begun.
const REFUSAL_WITHIN: Duration = Duration::from_secs(5);

/// What is asked of the log of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    pub follow: bool,
    /// Seconds since 1970; lines of that second are in it.
    pub since: Option<i64>,
    pub until: Option<i64>,
    /// The newest so many; `None` is all.
    pub tail: Option<u32>,
}

/// One line that a container wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Whole seconds where Podman tells no more.
    pub at_unix_ns: i64,
    pub to_stderr: bool,
    pub text: String,
}

impl Client {
    /// Sends the lines, oldest first, until there are no more, or nobody takes them. A container that does not run
    /// is not followed. Podman's service runs as long as that takes.
    ///
    /// # Errors
    /// [`Error::Status`] with 404 where there is no such container; else see [`Error`].
    pub async fn logs(
        &self,
        id: &str,
        options: &LogOptions,
        lines: &mpsc::Sender<Written>,
    ) -> Result<(), Error> {
        let path = path(&super::client::container_path(id, "logs")?, options);
        let read = |response: hyper::Response<hyper::body::Incoming>| async move {
            let status = response.status().as_u16();
            if status != 200 {
                return Err(Error::Status { status, message: refusal(response.into_body()).await });
            }
            read(response.into_body(), lines).await
        };
        http::stream(self.socket(), &path, self.call_limit(), read).await
    }
}

fn path(of_container: &str, options: &LogOptions) -> String {
    let LogOptions { follow, since, until, tail } = options;
    let mut path =
        format!("{of_container}?stdout=true&stderr=true&timestamps=true&follow={follow}");
    for (name, value) in [("since", since), ("until", until)] {
        if let Some(seconds) = value {
            path += &format!("&{name}={seconds}");
        }
    }
    if let Some(tail) = tail {
        path += &format!("&tail={tail}");
    }
    path
}

async fn refusal(mut body: hyper::body::Incoming) -> String {
    let mut bytes = Vec::new();
    let read = async {
        while let Some(Ok(frame)) = body.frame().await {
            if let Ok(data) = frame.into_data() {
                bytes.extend_from_slice(&data);
            }
            if bytes.len() > REFUSAL_BYTES_MAX {
                return;
            }
        }
    };
    // what has come by then is told
    let _ = timeout(REFUSAL_WITHIN, read).await;
    http::message_of(&bytes)
}

async fn read(mut body: hyper::body::Incoming, lines: &mpsc::Sender<Written>) -> Result<(), Error> {
    let mut frames = Frames::default();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(Error::broken)?.into_data() else { continue };
        for line in frames.take(&data)? {
            if lines.send(line).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Frames that come in pieces. Whatever their headers claim, only what is kept takes memory.
#[derive(Debug, Default)]
struct Frames {
    header: Vec<u8>,
    /// Of the frame that has begun: its stream, and the bytes that are to come.
    frame: Option<(usize, usize)>,
    /// What is kept of it.
    payload: Vec<u8>,
    /// Of each stream: a line that goes on in its next frame.
    begun: [Option<Written>; 2],
}

impl Frames {
    fn take(&mut self, mut data: &[u8]) -> Result<Vec<Written>, Error> {
        let mut lines = Vec::new();
        while !data.is_empty() {
            let Some((stream, left)) = self.frame else {
                let (more, rest) = data.split_at(data.len().min(HEADER_BYTES - self.header.len()));
                self.header.extend_from_slice(more);
                data = rest;
                if self.header.len() == HEADER_BYTES {
                    self.frame = Some(frame_of(&self.header)?).filter(|(_, bytes)| *bytes > 0);
                    self.header.clear();
                }
                continue;
            };
            let (more, rest) = data.split_at(data.len().min(left));
            data = rest;
            let room = LINE_BYTES_MAX.saturating_sub(self.payload.len()).min(more.len());
            self.payload.extend_from_slice(more.get(..room).unwrap_or_default());
            self.frame = Some((stream, left - more.len()));
            if left == more.len() {
                self.frame = None;
                lines.extend(self.end_frame(stream, more.ends_with(b"\n")));
            }
        }
        Ok(lines)
    }

    /// Podman makes a line of each frame, or a part of one: without an end, and each with its time.
    fn end_frame(&mut self, stream: usize, ends_line: bool) -> Option<Written> {
        let part = written(&self.payload, stream == 1);
        self.payload.clear();
        let begun = self.begun.get_mut(stream)?;
        let line = match begun.take() {
            None => part,
            Some(mut line) => {
                let room = LINE_BYTES_MAX.saturating_sub(line.text.len());
                line.text.extend(part.text.chars().take(room));
                line
            }
        };
        if ends_line {
            return Some(line);
        }
        *begun = Some(line);
        None
    }
}

/// The stream, 0 for output and 1 for errors, and the bytes that follow.
fn frame_of(header: &[u8]) -> Result<(usize, usize), Error> {
    let broken = || Error::Broken { reason: "a frame of a log has no header".into() };
    let [stream, 0, 0, 0, a, b, c, d] = *header else { return Err(broken()) };
    let stream = match stream {
        0 | 1 => 0,
        2 => 1,
        _ => return Err(broken()),
    };
    Ok((stream, u32::from_be_bytes([a, b, c, d]) as usize))
}

/// A line whose time cannot be read is of the time before all others: it is shown, and no reason to stop.
fn written(line: &[u8], to_stderr: bool) -> Written {
    let line = String::from_utf8_lossy(line);
    let line = line.trim_end_matches(['\n', '\r']);
    let (time, text) = line.split_once(' ').unwrap_or((line, ""));
    let at_unix_ns = unix_ns(time);
    let text = if at_unix_ns.is_some() { text } else { line };
    Written { at_unix_ns: at_unix_ns.unwrap_or_default(), to_stderr, text: text.to_owned() }
}

fn unix_ns(time: &str) -> Option<i64> {
    let seconds = decode::unix_seconds(time)?;
    let digits = time.split_once('.').map_or("", |(_, fraction)| fraction);
    let digits: String = digits.chars().take_while(char::is_ascii_digit).take(9).collect();
    let fraction: i64 = format!("{digits:0<9}").parse().ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(stream: u8, text: &str) -> Vec<u8> {
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        [&[stream, 0, 0, 0], &length[..], text.as_bytes()].concat()
    }

    /// What comes of bytes, in pieces of every size.
    #[track_caller]
    fn check(bytes: &[u8], expected: &[(i64, bool, &str)]) {
        for size in 1..=bytes.len() {
            let mut frames = Frames::default();
            let mut lines = Vec::new();
            for piece in bytes.chunks(size) {
                lines.extend(frames.take(piece).unwrap());
            }
            let found: Vec<_> =
                lines.iter().map(|l| (l.at_unix_ns, l.to_stderr, l.text.as_str())).collect();
            assert_eq!(found, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn lines_of_both_streams_are_told_apart_with_their_times() {
        let bytes = [
            frame(1, "1970-01-01T00:00:01.000000002Z one\n"),
            frame(2, "1970-01-01T00:00:02Z  two \n"),
            frame(1, "1970-01-01T01:00:03.5+01:00 \n"),
        ]
        .concat();
        let expected = [
            (1_000_000_002, false, "one"),
            (2_000_000_000, true, " two "),
            (3_500_000_000, false, ""),
        ];
        check(&bytes, &expected);
    }

    #[test]
    fn parts_of_a_line_become_one_beside_the_other_stream() {
        let bytes = [
            frame(1, "1970-01-01T00:00:01Z out"),
            frame(2, "1970-01-01T00:00:01Z err\n"),
            frame(1, "1970-01-01T00:00:09Z put\n"),
        ]
        .concat();
        check(&bytes, &[(1_000_000_000, true, "err"), (1_000_000_000, false, "output")]);
    }

    #[test]
    fn an_endless_line_takes_no_memory() {
        let mut frames = Frames::default();
        assert_eq!(frames.take(&[1, 0, 0, 0, 255, 255, 255, 255]).unwrap(), []);
        for _ in 0..100 {
            assert_eq!(frames.take(&[b'x'; 4096]).unwrap(), []);
        }
        assert_eq!(frames.payload.len(), LINE_BYTES_MAX);
    }

    #[test]
    fn what_is_no_frame_is_an_error() {
        assert!(Frames::default().take(b"HTTP/1.1 200 OK").is_err());
        assert!(Frames::default().take(&[3, 0, 0, 0, 0, 0, 0, 1]).is_err());
    }

    #[test]
    fn what_is_asked_is_in_the_path() {
        let options = LogOptions { follow: true, since: Some(5), until: Some(9), tail: Some(3) };
        assert_eq!(
            path("/c/logs", &options),
            "/c/logs?stdout=true&stderr=true&timestamps=true&follow=true&since=5&until=9&tail=3"
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(0..4_u8, 0..200)) {
            Frames::default().take(&bytes).ok();
        }
    }
}
