//! Sends the list to a receiver of OpenTelemetry, where the settings name one.
//!
//! One task, one request at a time, each with a time limit, and longer pauses while it is not taken: a receiver that
//! hangs or refuses costs nobody else anything. What was not taken is not kept, for the next list has newer figures; when
//! the master stops there is no next, and the last is sent at once.
//! What goes wrong is told without what the receiver said: it may repeat the headers that it was given.

use std::{
    convert::Infallible,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper::{
    body::Bytes,
    header::{
        CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue,
        TRANSFER_ENCODING, USER_AGENT,
    },
};
use piccolo_core::{monitoring_server::export::pause, time::WallTime};
use rustls::ClientConfig;
use tokio::time::{Instant, sleep_until, timeout};
use zeroize::Zeroizing;

use super::{
    list,
    otlp::{self, Origin, Requests},
};
use crate::{
    api_server::Api,
    config::OtlpConfig,
    outbound::{
        Failed,
        post::{Target, post},
        tls,
    },
};

/// For one request.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// For the last export, once the master stops: a receiver that is away holds nothing up.
const LAST_WITHIN: Duration = Duration::from_secs(2);
/// Of an answer; it says how many samples were not taken.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Of the file with headers, and of that with the authority.
const FILE_BYTES_MAX: u64 = 256 * 1024;
const HEADERS_MAX: usize = 16;
/// The request's own.
const NOT_TO_BE_SET: [HeaderName; 6] =
    [CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING, USER_AGENT];

/// How it goes, for readers.
#[derive(Debug, Default)]
pub(crate) struct ExportHealth(Mutex<Option<ExportState>>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ExportState {
    pub(crate) every: Duration,
    /// When the receiver took them last.
    pub(crate) last_at: Option<WallTime>,
    /// Why it did not take the last; empty where it did.
    pub(crate) problem: String,
    pub(crate) delivered: u64,
    pub(crate) failed: u64,
    pub(crate) refused: u64,
}

impl ExportHealth {
    /// `None` where nothing is sent.
    pub(crate) fn get(&self) -> Option<ExportState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, state: ExportState) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(state);
    }
}

pub(crate) struct Exporter {
    settings: OtlpConfig,
    api: Api,
    started_at: WallTime,
}

/// What the files of the settings hold. They are read again after a failure: they may have been mended.
struct Means {
    headers: HeaderMap,
    /// `None`: in the clear.
    trust: Option<Arc<ClientConfig>>,
}

struct NotTaken {
    why: Failed,
    /// A pause that the receiver asks for.
    pause: Option<Duration>,
}

impl From<Failed> for NotTaken {
    fn from(why: Failed) -> Self {
        Self { why, pause: None }
    }
}

impl Exporter {
    pub(crate) fn new(settings: OtlpConfig, api: Api) -> Self {
        let started_at = api.clock.now().wall;
        api.export.set(ExportState { every: settings.interval, ..ExportState::default() });
        Self { settings, api, started_at }
    }

    /// Runs until the master stops, and then for as long as the last export may take.
    pub(crate) async fn run(self) {
        let mut stopping = self.api.stopping.clone();
        tokio::select! {
            never = self.keep_sending() => match never {},
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
        let last = timeout(LAST_WITHIN, self.export(&mut None)).await.unwrap_or_else(|_| {
            let why = format!("not taken within {} s of the master's stop", LAST_WITHIN.as_secs());
            Err(Failed::now(why).into())
        });
        self.tell(last.map_err(|not_taken| not_taken.why));
    }

    async fn keep_sending(&self) -> Infallible {
        let mut means = None;
        let mut failures = 0_u32;
        loop {
            let begun = Instant::now();
            let ended = self.export(&mut means).await;
            let asked = ended.as_ref().err().and_then(|not_taken| not_taken.pause);
            failures = if ended.is_ok() { 0 } else { failures.saturating_add(1) };
            self.tell(ended.map_err(|not_taken| not_taken.why));
            sleep_until(begun + pause(self.settings.interval, failures, asked)).await;
        }
    }

    async fn export(&self, kept: &mut Option<Means>) -> Result<(), NotTaken> {
        let means = match kept.take() {
            Some(means) => means,
            None => self.means().await?,
        };
        let nanoseconds = |at: WallTime| u64::try_from(at.0).unwrap_or(0).saturating_mul(1_000_000);
        let mut requests = Requests::new(Origin {
            instance: self.api.authority.cluster_id().to_owned(),
            started_at: nanoseconds(self.started_at),
            now: nanoseconds(self.api.clock.now().wall),
        });
        list(&mut requests, &self.api);
        let (requests, left_out) = requests.finish();
        for request in requests {
            self.send(&means, request.into()).await?;
        }
        *kept = Some(means);
        if left_out > 0 {
            let why = format!("{left_out} samples are more than one export may have");
            return Err(Failed::ForGood(why).into());
        }
        Ok(())
    }

    async fn send(&self, means: &Means, request: Bytes) -> Result<(), NotTaken> {
        let target = Target { uri: &self.settings.endpoint, trust: means.trust.clone() };
        let posted = post(target, means.headers.clone(), request, ANSWER_BYTES_MAX);
        let answer = timeout(ANSWER_WITHIN, posted).await.unwrap_or_else(|_| {
            Err(Failed::now(format!("no answer within {} s", ANSWER_WITHIN.as_secs())))
        })?;
        let status = answer.status;
        let said = format!("the receiver answered {status}");
        match status.as_u16() {
            200..300 => match otlp::rejected(&answer.body) {
                Ok(..=0) => Ok(()),
                Ok(count) => {
                    let why =
                        format!("the receiver did not take {count} samples; its log has more");
                    Err(Failed::ForGood(why).into())
                }
                Err(_) => {
                    let why =
                        format!("{said}, and that is no answer of OTLP: is it the right path?");
                    Err(Failed::ForGood(why).into())
                }
            },
            429 | 500.. => Err(NotTaken { why: Failed::now(said), pause: answer.retry_after }),
            _ => Err(Failed::ForGood(said).into()),
        }
    }

    async fn means(&self) -> Result<Means, Failed> {
        let OtlpConfig { headers_file, ca, endpoint, .. } = self.settings.clone();
        let read = move || -> Result<(HeaderMap, String), String> {
            let mut headers = match headers_file {
                Some(file) => headers(&file)?,
                None => HeaderMap::new(),
            };
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
            let ca = match ca {
                Some(file) => text(&file, false)?.to_string(),
                None => String::new(),
            };
            Ok((headers, ca))
        };
        let read = tokio::task::spawn_blocking(read).await.map_err(Failed::now)?;
        let (headers, ca) = read.map_err(Failed::ForNow)?;
        let is_secure = endpoint.scheme_str() == Some("https");
        let trust = if is_secure { Some(tls::client(&ca).await?) } else { None };
        Ok(Means { headers, trust })
    }

    /// The log hears of a change, and not of each export.
    fn tell(&self, ended: Result<(), Failed>) {
        let before = self.api.export.get().unwrap_or_default();
        let mut state = ExportState { problem: String::new(), ..before.clone() };
        match ended {
            Ok(()) => {
                state.delivered += 1;
                state.last_at = Some(self.api.clock.now().wall);
            }
            Err(Failed::ForNow(problem)) => {
                state.failed += 1;
                state.problem = problem;
            }
            Err(Failed::ForGood(problem)) => {
                state.refused += 1;
                state.problem = problem;
            }
        }
        let problem = &state.problem;
        if !problem.is_empty() && *problem != before.problem {
            tracing::warn!(
                problem,
                "figures were not exported; it is tried again, with longer pauses"
            );
        } else if problem.is_empty() && !before.problem.is_empty() {
            tracing::info!("figures are exported again");
        }
        self.api.export.set(state);
    }
}

/// `Name: value` in each line; a line that begins with `#` is a remark. No error shows a value.
fn headers(file: &Path) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (number, line) in text(file, true)?.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |what: &str| format!("{}:{}: {what}", file.display(), number + 1);
        let header = line.split_once(':').and_then(|(name, value)| {
            let mut value = HeaderValue::from_str(value.trim()).ok()?;
            value.set_sensitive(true);
            Some((HeaderName::from_bytes(name.trim().as_bytes()).ok()?, value))
        });
        let (name, value) = header.ok_or_else(|| wrong("expected `Name: value`"))?;
        if NOT_TO_BE_SET.contains(&name) {
            return Err(wrong(&format!("{name} is the request's own")));
        }
        if headers.len() >= HEADERS_MAX {
            return Err(wrong(&format!("more than {HEADERS_MAX} headers")));
        }
        headers.insert(name, value);
    }
    Ok(headers)
}

fn text(path: &Path, is_secret: bool) -> Result<Zeroizing<String>, String> {
    let unreadable = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.mode();
    if is_secret && mode & 0o077 != 0 {
        let mode = mode & 0o7777;
        return Err(format!(
            "{} has mode {mode:o} and holds secrets; set it to 0600",
            path.display()
        ));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn read(content: &str, mode: u32) -> Result<HeaderMap, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("headers");
        std::fs::write(&file, content).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        headers(&file).map_err(|error| error.replace(folder.path().to_str().unwrap(), ""))
    }

    #[test]
    fn headers_are_lines_and_their_values_are_shown_to_nobody() {
        let headers =
            read("# of the receiver\n\nAuthorization: Bearer s3cret\nX-Tenant:a\n", 0o600);
        let headers = headers.unwrap();
        assert_eq!(headers.len(), 2);
        assert_eq!(headers["x-tenant"], "a");
        assert_eq!(headers["authorization"], "Bearer s3cret");
        assert!(!format!("{headers:?}").contains("s3cret"), "{headers:?}");
    }

    #[test]
    fn a_file_that_is_wrong_says_where_and_not_what_is_in_it() {
        let many: String = (0..17).map(|i| format!("x-{i}: s3cret\n")).collect();
        for (content, mode, why) in [
            ("X: 1\ns3cret\n", 0o600, "/headers:2: expected `Name: value`"),
            ("s3 cret: s3cret\n", 0o600, "/headers:1: expected `Name: value`"),
            ("X: s3\u{7f}cret\n", 0o600, "/headers:1: expected `Name: value`"),
            ("Content-Type: s3cret\n", 0o600, "/headers:1: content-type is the request's own"),
            (&many, 0o600, "/headers:17: more than 16 headers"),
            ("X: s3cret\n", 0o640, "/headers has mode 640 and holds secrets; set it to 0600"),
        ] {
            assert_eq!(read(content, mode).unwrap_err(), why);
        }
    }
}
