//! Podman's JSON, decoded leniently: only the fields that are used, unknown states as strings,
//! `null` as empty, and each element of a list by itself so that a broken one hides no other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::ContainerId;
use super::client::Error;

/// Podman's zero time, 0001-01-01: "never".
const NEVER_UNIX_S: i64 = -62_135_596_800;

/// One container as the list shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Container {
    pub id: ContainerId,
    /// The first name; empty if it has none.
    pub name: String,
    pub image: String,
    pub image_id: String,
    /// Podman's word: created, initialized, running, paused, exited, stopped, stopping, removing...
    pub state: String,
    /// Meaningful once it has ended.
    pub exit_code: Option<i32>,
    /// The first process as the machine sees it, while it runs.
    pub pid: Option<u32>,
    /// Seconds since 1970.
    pub created_unix_s: Option<i64>,
    pub started_unix_s: Option<i64>,
    pub exited_unix_s: Option<i64>,
    pub labels: BTreeMap<String, String>,
    /// healthy, unhealthy, starting; `None` without a health check.
    pub health: Option<String>,
    /// `None` where Podman does not tell in its list (before 5.0).
    pub restarts: Option<u32>,
    /// A pod's pause container.
    pub is_infra: bool,
}

/// What could be read of a list, and what not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerList {
    pub containers: Vec<Container>,
    /// Elements that could not be read, with the reason and the id if that at least could be read.
    pub problems: Vec<(Option<ContainerId>, String)>,
    /// Such as `4.3.1`.
    pub podman_version: String,
    /// The process that opened the socket, as the kernel tells; 1 where systemd did.
    pub service_pid: Option<u32>,
}

/// One container as `inspect` shows it: what the list leaves out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inspected {
    pub id: ContainerId,
    pub state: String,
    pub exit_code: Option<i32>,
    pub pid: Option<u32>,
    pub health: Option<String>,
    pub restarts: Option<u32>,
    pub oom_killed: bool,
    /// Podman's own words when a start failed.
    pub error: Option<String>,
    /// Known from Podman 5 on.
    pub stopped_by_user: bool,
    /// Podman's own: empty, no, on-failure, always, unless-stopped.
    pub restart_policy: String,
    /// Of systemd, where one runs it.
    pub systemd_unit: Option<String>,
    pub paths: Option<StoragePaths>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    pub id: String,
    /// `localhost/app:1`; empty for one without a name.
    pub names: Vec<String>,
    pub size_bytes: u64,
    pub created_unix_s: Option<i64>,
}

/// Where Podman keeps what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoragePaths {
    /// `/var/lib/containers/storage` for root.
    pub graph_root: PathBuf,
    /// `/run/containers/storage` for root.
    pub run_root: PathBuf,
    /// `overlay`, `vfs`, `btrfs`...
    pub driver: String,
}

/// One line of the event stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// `container`, `image`, `pod`, `volume`, `system`...
    pub kind: String,
    /// `create`, `start`, `died`, `remove`, `health_status`...
    pub action: String,
    pub id: String,
    pub name: String,
    pub exit_code: Option<i32>,
    pub time_unix_ns: i64,
}

pub(super) fn containers(json: &[u8]) -> Result<ContainerList, Error> {
    let elements: Option<Vec<&RawValue>> = serde_json::from_slice(json).map_err(decode_error)?;
    let mut list = ContainerList::default();
    for element in elements.unwrap_or_default() {
        match serde_json::from_str::<RawContainer>(element.get()) {
            Ok(raw) if !raw.id.is_empty() => list.containers.push(raw.into_container()),
            Ok(_) => list.problems.push((None, "a container without an id".into())),
            Err(error) => list.problems.push((id_of(element), error.to_string())),
        }
    }
    Ok(list)
}

pub(super) fn images(json: &[u8]) -> Result<Vec<Image>, Error> {
    let elements: Option<Vec<&RawValue>> = serde_json::from_slice(json).map_err(decode_error)?;
    let elements = elements.unwrap_or_default();
    let decoded = elements.iter().filter_map(|e| serde_json::from_str::<RawImage>(e.get()).ok());
    Ok(decoded.map(RawImage::into_image).collect())
}

pub(super) fn inspected(json: &[u8]) -> Result<Inspected, Error> {
    let raw: RawInspected = serde_json::from_slice(json).map_err(decode_error)?;
    let paths = raw.storage_paths();
    let state = raw.state;
    let running = state.pid > 0;
    Ok(Inspected {
        id: raw.id,
        exit_code: (!running).then_some(state.exit_code).and_then(|code| i32::try_from(code).ok()),
        pid: u32::try_from(state.pid).ok().filter(|&pid| pid != 0),
        health: state.health.or(state.healthcheck).map(|h| h.status).filter(|s| !s.is_empty()),
        state: state.status,
        restarts: raw.restart_count,
        oom_killed: state.oom_killed,
        error: Some(state.error).filter(|error| !error.is_empty()),
        stopped_by_user: state.stopped_by_user,
        restart_policy: raw.host_config.unwrap_or_default().restart_policy.name,
        systemd_unit: raw.config.unwrap_or_default().labels.remove("PODMAN_SYSTEMD_UNIT"),
        paths,
    })
}

pub(super) fn storage_paths_from_info(json: &[u8]) -> Result<StoragePaths, Error> {
    #[derive(Deserialize)]
    struct Info {
        store: Store,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Store {
        graph_root: PathBuf,
        run_root: PathBuf,
        graph_driver_name: String,
    }
    let Store { graph_root, run_root, graph_driver_name } =
        serde_json::from_slice::<Info>(json).map_err(decode_error)?.store;
    Ok(StoragePaths { graph_root, run_root, driver: graph_driver_name })
}

/// `None` if the line is no event.
pub(super) fn event(line: &[u8]) -> Option<Event> {
    let raw: RawEvent = serde_json::from_slice(line.trim_ascii()).ok()?;
    let exit_code =
        raw.actor.attributes.get("containerExitCode").and_then(|code| code.parse().ok());
    Some(Event {
        kind: raw.kind,
        exit_code: exit_code.filter(|_| raw.action == "died"),
        action: raw.action,
        id: raw.actor.id,
        name: raw.actor.attributes.get("name").cloned().unwrap_or_default(),
        time_unix_ns: raw.time_nano,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct RawContainer {
    #[serde(deserialize_with = "null_is_default")]
    id: String,
    #[serde(deserialize_with = "null_is_default")]
    names: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    image: String,
    #[serde(rename = "ImageID", deserialize_with = "null_is_default")]
    image_id: String,
    #[serde(deserialize_with = "null_is_default")]
    state: String,
    #[serde(deserialize_with = "null_is_default")]
    status: String,
    #[serde(deserialize_with = "null_is_default")]
    exit_code: i64,
    #[serde(deserialize_with = "null_is_default")]
    pid: i64,
    #[serde(deserialize_with = "null_is_default")]
    created: String,
    #[serde(deserialize_with = "null_is_default")]
    started_at: i64,
    #[serde(deserialize_with = "null_is_default")]
    exited_at: i64,
    #[serde(deserialize_with = "null_is_default")]
    labels: BTreeMap<String, String>,
    restarts: Option<u32>,
    #[serde(deserialize_with = "null_is_default")]
    is_infra: bool,
}

impl RawContainer {
    fn into_container(self) -> Container {
        let pid = u32::try_from(self.pid).ok().filter(|&pid| pid != 0);
        let ended = pid.is_none() && !matches!(self.state.as_str(), "created" | "initialized");
        // `Status` is the health's word, or a phrase such as "Up 2 minutes (healthy)".
        let last = self.status.rsplit([' ', '(']).next().unwrap_or_default().trim_end_matches(')');
        let words = ["healthy", "unhealthy", "starting"];
        let health = words.into_iter().find(|word| *word == last);
        Container {
            id: self.id,
            name: self.names.into_iter().next().unwrap_or_default(),
            image: self.image,
            image_id: self.image_id,
            state: self.state,
            exit_code: ended.then_some(self.exit_code).and_then(|code| i32::try_from(code).ok()),
            pid,
            created_unix_s: unix_seconds(&self.created),
            started_unix_s: ever(self.started_at),
            exited_unix_s: ever(self.exited_at).filter(|_| ended),
            labels: self.labels,
            health: health.map(str::to_owned),
            restarts: self.restarts,
            is_infra: self.is_infra,
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct RawImage {
    #[serde(deserialize_with = "null_is_default")]
    id: String,
    #[serde(deserialize_with = "null_is_default")]
    names: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    size: i64,
    #[serde(deserialize_with = "null_is_default")]
    created: i64,
}

impl RawImage {
    fn into_image(self) -> Image {
        Image {
            id: self.id,
            names: self.names,
            size_bytes: u64::try_from(self.size).unwrap_or(0),
            created_unix_s: ever(self.created),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawInspected {
    id: String,
    state: RawState,
    restart_count: Option<u32>,
    host_config: Option<RawHostConfig>,
    config: Option<RawConfig>,
    #[serde(default, deserialize_with = "null_is_default")]
    driver: String,
    #[serde(default, deserialize_with = "null_is_default")]
    static_dir: PathBuf,
    #[serde(default, deserialize_with = "null_is_default")]
    pid_file: PathBuf,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct RawHostConfig {
    restart_policy: RawRestartPolicy,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct RawRestartPolicy {
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct RawConfig {
    #[serde(deserialize_with = "null_is_default")]
    labels: BTreeMap<String, String>,
}

impl RawInspected {
    /// `ROOT/overlay-containers/ID/userdata` and `RUN/overlay-containers/ID/userdata/pidfile`.
    fn storage_paths(&self) -> Option<StoragePaths> {
        let containers = format!("{}-containers", self.driver);
        let root_of = |path: &Path| {
            let holder = path.ancestors().find(|path| path.ends_with(&containers))?;
            holder.parent().map(Path::to_owned)
        };
        Some(StoragePaths {
            graph_root: root_of(&self.static_dir)?,
            run_root: root_of(&self.pid_file)?,
            driver: self.driver.clone(),
        })
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct RawState {
    #[serde(deserialize_with = "null_is_default")]
    status: String,
    #[serde(deserialize_with = "null_is_default")]
    pid: i64,
    #[serde(deserialize_with = "null_is_default")]
    exit_code: i64,
    #[serde(rename = "OOMKilled", deserialize_with = "null_is_default")]
    oom_killed: bool,
    #[serde(deserialize_with = "null_is_default")]
    error: String,
    #[serde(deserialize_with = "null_is_default")]
    stopped_by_user: bool,
    health: Option<RawHealth>,
    /// Older releases call it so.
    healthcheck: Option<RawHealth>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct RawHealth {
    #[serde(deserialize_with = "null_is_default")]
    status: String,
}

#[derive(Deserialize)]
struct RawEvent {
    #[serde(rename = "Type")]
    kind: String,
    #[serde(rename = "Action")]
    action: String,
    #[serde(rename = "Actor", default)]
    actor: RawActor,
    #[serde(rename = "timeNano", default)]
    time_nano: i64,
}

#[derive(Deserialize, Default)]
struct RawActor {
    #[serde(rename = "ID", default)]
    id: String,
    #[serde(rename = "Attributes", default, deserialize_with = "null_is_default")]
    attributes: BTreeMap<String, String>,
}

fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn id_of(element: &RawValue) -> Option<ContainerId> {
    #[derive(Deserialize)]
    struct OnlyId {
        #[serde(rename = "Id")]
        id: String,
    }
    serde_json::from_str::<OnlyId>(element.get()).ok().map(|only| only.id)
}

fn decode_error(error: serde_json::Error) -> Error {
    Error::Decode { reason: error.to_string() }
}

fn ever(unix_s: i64) -> Option<i64> {
    (unix_s > 0 && unix_s != NEVER_UNIX_S).then_some(unix_s)
}

/// `2026-11-23T18:06:46.427940702Z` or with `+01:00`, as seconds since 1970. Podman 5 may print a
/// plain number.
pub(super) fn unix_seconds(text: &str) -> Option<i64> {
    let part = |range: std::ops::Range<usize>| digits(text.get(range)?);
    let (year, month, day) = (part(0..4)?, part(5..7)?, part(8..10)?);
    let (hour, minute, second) = (part(11..13)?, part(14..16)?, part(17..19)?);
    let in_range = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24;
    if !in_range || minute >= 60 || second > 60 {
        return None;
    }
    let zone = text.get(19..)?.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let offset_s = match zone.as_bytes().first()? {
        b'Z' => 0,
        sign @ (b'+' | b'-') => {
            let (hours, minutes) = (digits(zone.get(1..3)?)?, digits(zone.get(4..6)?)?);
            (hours * 3600 + minutes * 60) * if *sign == b'+' { 1 } else { -1 }
        }
        _ => return None,
    };
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    ever(seconds - offset_s)
}

/// Digits alone: `parse` would take a sign too, and find an hour in `-5`.
fn digits(text: &str) -> Option<i64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Days in the proleptic Gregorian calendar; a year is taken to begin in March so that the leap
/// day is its last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year
        - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIST: &str = r#"[
        {"Id":"aa","Names":["web"],"Image":"localhost/web:1","State":"running","Pid":42,
         "ExitCode":0,"Created":"2026-11-23T18:06:46.427940702Z","StartedAt":1795457206,
         "ExitedAt":-62135596800,"Labels":{"a":"b"},"Status":"healthy"},
        {"Id":"bb","Names":5,"State":"running"},
        {"Id":"cc","Names":null,"State":"melting","Pid":0,"ExitCode":137,"ExitedAt":1795457260,
         "Labels":null,"Status":"Exited (137) 2 minutes ago","Future":{"x":[1]}},
        17
    ]"#;

    #[test]
    fn a_broken_element_hides_no_other() {
        let list = containers(LIST.as_bytes()).unwrap();
        let ids: Vec<_> = list.containers.iter().map(|c| c.id.as_str()).collect();
        assert_eq!(ids, ["aa", "cc"]);
        let broken: Vec<_> = list.problems.iter().map(|(id, _)| id.as_deref()).collect();
        assert_eq!(broken, [Some("bb"), None]);
    }

    #[test]
    fn a_running_container_has_a_pid_and_no_exit() {
        let running = containers(LIST.as_bytes()).unwrap().containers.remove(0);
        let expected = Container {
            id: "aa".into(),
            name: "web".into(),
            image: "localhost/web:1".into(),
            state: "running".into(),
            pid: Some(42),
            created_unix_s: Some(1_795_457_206),
            started_unix_s: Some(1_795_457_206),
            labels: [("a".into(), "b".into())].into(),
            health: Some("healthy".into()),
            ..Container::default()
        };
        assert_eq!(running, expected);
    }

    #[test]
    fn an_unknown_state_stays_a_string_and_keeps_its_exit_code() {
        let ended = containers(LIST.as_bytes()).unwrap().containers.remove(1);
        assert_eq!((ended.state.as_str(), ended.exit_code), ("melting", Some(137)));
        assert_eq!((ended.exited_unix_s, ended.health), (Some(1_795_457_260), None));
    }

    #[test]
    fn health_is_a_word_or_the_end_of_a_phrase() {
        for (status, expected) in [
            ("healthy", Some("healthy")),
            ("Up 2 minutes (unhealthy)", Some("unhealthy")),
            ("Up 2 minutes", None),
            ("", None),
        ] {
            let json = format!(r#"[{{"Id":"a","State":"running","Pid":1,"Status":"{status}"}}]"#);
            let list = containers(json.as_bytes()).unwrap();
            assert_eq!(list.containers[0].health.as_deref(), expected, "{status}");
        }
    }

    #[test]
    fn an_empty_machine_may_answer_null() {
        assert_eq!(containers(b"null").unwrap(), ContainerList::default());
        assert_eq!(images(b"null").unwrap(), []);
        assert!(matches!(containers(b"{}"), Err(Error::Decode { .. })));
    }

    #[test]
    fn times_are_read_with_their_zone() {
        for (text, expected) in [
            ("1970-01-01T00:00:01Z", Some(1)),
            ("2026-11-23T18:06:46.427940702Z", Some(1_795_457_206)),
            ("2026-11-23T19:06:46+01:00", Some(1_795_457_206)),
            ("2024-02-29T23:59:59.5-00:30", Some(1_709_252_999)),
            ("0001-01-01T00:00:00Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("+026-11-23T18:06:46Z", None),
            ("2026-11-23T-1:06:46Z", None),
            ("2026-11-23T18:-6:46Z", None),
            ("2026-11-23T18:06:+6Z", None),
            ("2026-11-23T19:06:46+-1:00", None),
            ("2026-11-23T19:06:46-00:+1", None),
            ("2026-11-23", None),
            ("", None),
        ] {
            assert_eq!(unix_seconds(text), expected, "{text}");
        }
    }

    #[test]
    fn an_event_is_what_its_line_says() {
        let line = br#"{"status":"died","id":"ab","Type":"container","Action":"died",
            "Actor":{"ID":"ab","Attributes":{"containerExitCode":"137","name":"web"}},
            "time":1795457120,"timeNano":1795457120902193658}"#;
        let expected = Event {
            kind: "container".into(),
            action: "died".into(),
            id: "ab".into(),
            name: "web".into(),
            exit_code: Some(137),
            time_unix_ns: 1_795_457_120_902_193_658,
        };
        assert_eq!(event(line), Some(expected));
        assert_eq!(event(b"{}"), None);
    }

    #[test]
    fn storage_is_found_through_one_container() {
        let json = br#"{"Id":"ab","Driver":"overlay","RestartCount":3,
            "StaticDir":"/var/lib/containers/storage/overlay-containers/ab/userdata",
            "PidFile":"/run/containers/storage/overlay-containers/ab/userdata/pidfile",
            "State":{"Status":"exited","ExitCode":3,"Pid":0,"OOMKilled":true,"StoppedByUser":true,
                     "Health":{"Status":"unhealthy"}},
            "HostConfig":{"RestartPolicy":{"Name":"on-failure","MaximumRetryCount":2}},
            "Config":{"Labels":{"PODMAN_SYSTEMD_UNIT":"web.service"}}}"#;
        let found = inspected(json).unwrap();
        let paths = StoragePaths {
            graph_root: "/var/lib/containers/storage".into(),
            run_root: "/run/containers/storage".into(),
            driver: "overlay".into(),
        };
        assert_eq!(found.paths, Some(paths));
        assert_eq!((found.exit_code, found.restarts, found.oom_killed), (Some(3), Some(3), true));
        assert_eq!(found.health.as_deref(), Some("unhealthy"));
        assert!(found.stopped_by_user);
        assert_eq!(found.restart_policy, "on-failure");
        assert_eq!(found.systemd_unit.as_deref(), Some("web.service"));
    }

    proptest! {
        #[test]
        fn no_answer_makes_a_decoder_panic(
            noise in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..200),
                r#"\[?\{"(Id|Names|Created|State|Type|Action)":("[0-9T:.Z+-]{0,30}"|null|-?[0-9]{1,20}|\[\])\}\]?"#
                    .prop_map(String::into_bytes),
            ],
        ) {
            containers(&noise).ok();
            images(&noise).ok();
            inspected(&noise).ok();
            storage_paths_from_info(&noise).ok();
            event(&noise);
            if let Ok(text) = std::str::from_utf8(&noise) {
                unix_seconds(text);
            }
        }
    }
}
