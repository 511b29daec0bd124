//! Every wrong key and value names its place.

use std::path::Path;

use clap::Parser as _;

use super::{
    cli::{Cli, Command, StoreCommand},
    *,
};

const TEMPLATE: &str = include_str!("../../../../config/master.yaml");

fn load(yaml: &str) -> Result<Loaded<Written>, Error> {
    let mut loaded = Loaded::default();
    SCHEMA.yaml(&mut loaded.config, &mut loaded.origins, Path::new("master.yaml"), yaml)?;
    Ok(loaded)
}

fn read(yaml: &str) -> Result<Config, Error> {
    config_of(load(yaml)?)
}

fn flags(arguments: &[&str]) -> Flags {
    Cli::try_parse_from([&["piccolo-master"], arguments].concat()).unwrap().flags
}

#[track_caller]
fn wrong(yaml: &str, expected: &str) {
    assert_eq!(read(yaml).unwrap_err().to_string(), expected);
}

#[test]
fn the_template_shows_the_defaults() {
    let defaults = Config::defaults().unwrap();
    let template = read(TEMPLATE).unwrap();
    assert_eq!(format!("{template:?}"), format!("{defaults:?}"));
}

/// Uncommenting a line must give a setting that exists: all at once are a good configuration.
#[test]
fn every_line_of_the_template_is_a_setting() {
    let setting = |line: &str| {
        let text = line.trim_start();
        let bare = text.strip_prefix('#').unwrap_or(text);
        let key = bare.trim_start().split(':').next().unwrap_or_default();
        let is_key = key.chars().all(|c| c.is_ascii_lowercase() || c == '_') && bare.contains(':');
        let is_item = bare.starts_with("  - ");
        text.starts_with('#') && !bare.starts_with(' ') && is_key || is_item
    };
    let all: Vec<String> = TEMPLATE
        .lines()
        .filter(|line| !line.trim_start().starts_with('#') || setting(line))
        .map(|line| line.replacen('#', "", 1))
        .collect();
    let mut all = all.join("\n");
    // etcd's settings need the store to be etcd
    all = all.replace("kind: embedded", "kind: etcd");
    let config = read(&all).unwrap();
    let StoreConfig::Etcd(etcd) = &config.store else { panic!("{:?}", config.store) };
    assert_eq!(etcd.endpoints, ["https://192.0.2.10:2379"]);
    assert_eq!(etcd.user.as_deref(), Some("piccolo"));
    assert_eq!(config.advertise, ["192.0.2.10:47098", "master.example.org:47098"]);
    assert!(config.names.contains(&"cluster.example.org".to_owned()));
}

#[test]
fn a_wrong_key_or_value_names_file_line_and_column() {
    wrong(
        "listen: 127.0.0.1:1\nlisden: x\n",
        "master.yaml:2:1: unknown key `lisden`; did you mean `listen`?",
    );
    wrong(
        "colour: red\n",
        "master.yaml:1:1: unknown key `colour`; known are state_dir, listen, https_listen, advertise, names, \
         cluster_id, cluster_name, approval, readiness, certificate_lifetime, probe_interval, tls_min_version, \
         log, store, timing, limits, kept_logs, backup, otlp",
    );
    wrong(
        "listen: 47098\n",
        "master.yaml:1:9: expected ADDRESS:PORT, such as `0.0.0.0:47098` or `[::]:47098`, found `47098`",
    );
    wrong("readiness: no\n", "master.yaml:1:12: expected `enforce` or `warn`, found `no`");
    wrong("approval: perhaps\n", "master.yaml:1:11: expected `auto` or `manual`, found `perhaps`");
    wrong(
        "certificate_lifetime: soon\n",
        "master.yaml:1:23: expected a span of time, such as `90d`, `12h`, `30m`, `20s` or `500ms`, \
         found `soon`",
    );
    wrong(
        "store:\n  kind: redis\n",
        "master.yaml:2:9: expected `embedded` or `etcd`, found `redis`",
    );
    wrong(
        "limits:\n  nodes: 0\n",
        "master.yaml:2:10: expected a whole number from 1 to 6000, found `0`",
    );
    for typo in ["loud=shout=3", "blah", "info,blah"] {
        wrong(
            &format!("log: {typo}\n"),
            &format!(
                "master.yaml:1:6: expected a level (off, error, warn, info, debug, trace) or a list such as \
                 `info,piccolo_master=debug`, found `{typo}`"
            ),
        );
    }
    wrong("approval: auto\napproval: auto\n", "master.yaml:2:1: `approval` is given twice");
}

#[test]
fn values_that_do_not_go_together_are_refused() {
    wrong(
        "store:\n  kind: etcd\n",
        "master.yaml:2:9: store.kind etcd needs store.endpoints, such as https://192.0.2.10:2379",
    );
    wrong(
        "store:\n  endpoints: [https://a:1]\n",
        "master.yaml:2:14: store.endpoints needs store.kind etcd",
    );
    wrong(
        "limits:\n  nodes: 5\ntiming:\n  beat_interval: 2s\n",
        "master.yaml:4:18: timing.beat_silence must be twice timing.beat_interval at least",
    );
    wrong(
        "timing:\n  heartbeat_interval: 4s\n",
        "master.yaml:2:23: timing.heartbeat_interval must be 5s at least (HLD §8.1.1)",
    );
    wrong("probe_interval: 9s\n", "master.yaml:1:17: probe_interval must be 10s at least");
    wrong(
        "certificate_lifetime: 1s\n",
        "master.yaml:1:23: certificate_lifetime must be 2s at least",
    );
    let together = "backup.folder and backup.passphrase_file go together";
    wrong("backup:\n  folder: /b\n", &format!("master.yaml:2:11: {together}"));
    wrong("backup:\n  passphrase_file: /p\n", &format!("master.yaml:2:20: {together}"));
    wrong(
        "backup:\n  folder: /b\n  passphrase_file: /p\n  every: 1s\n",
        "master.yaml:4:10: backup.every must be 2s at least",
    );
    wrong(
        "{timing: {beat_silence: 1s}}",
        "master.yaml:1:25: timing.beat_silence must be twice timing.beat_interval at least",
    );
}

#[test]
fn figures_are_sent_nowhere_in_the_clear_and_no_secret_is_in_the_address() {
    let expected = "an address such as `https://otel.example.org:4318/v1/metrics`, without user, password and query";
    for address in [
        "otel.example.org:4318",
        "ftp://otel.example.org",
        "https://me:secret@otel.example.org",
        "https://otel.example.org/v1/metrics?key=secret",
        "https://",
    ] {
        let found = format!("master.yaml:2:13: expected {expected}, found `{address}`");
        wrong(&format!("otlp:\n  endpoint: {address}\n"), &found);
    }
    wrong(
        "otlp:\n  endpoint: http://192.0.2.1:4318\n",
        "master.yaml:2:13: otlp.endpoint would carry everything unencrypted over the network; use https://, or set \
         otlp.allow_plaintext",
    );
    wrong("otlp:\n  ca: /ca\n", "master.yaml:2:7: otlp.ca needs otlp.endpoint");
    wrong("otlp:\n  headers_file: /h\n", "master.yaml:2:17: otlp.headers_file needs otlp.endpoint");
    for interval in ["500ms", "2h"] {
        let yaml = format!("otlp:\n  interval: {interval}\n");
        wrong(&yaml, "master.yaml:2:13: otlp.interval must be 1s to 3600s");
    }
    let endpoint = |yaml: &str| read(yaml).unwrap().otlp.map(|otlp| otlp.endpoint.to_string());
    assert_eq!(endpoint(""), None);
    for (given, used) in [
        ("https://otel.example.org:4318", "https://otel.example.org:4318/v1/metrics"),
        ("https://otel.example.org/", "https://otel.example.org/v1/metrics"),
        ("https://prometheus/api/v1/otlp/v1/metrics", "https://prometheus/api/v1/otlp/v1/metrics"),
        ("http://localhost:4318", "http://localhost:4318/v1/metrics"),
        ("'http://[::1]:4318'", "http://[::1]:4318/v1/metrics"),
        ("http://192.0.2.1:4318\n  allow_plaintext: true", "http://192.0.2.1:4318/v1/metrics"),
    ] {
        assert_eq!(endpoint(&format!("otlp:\n  endpoint: {given}\n")).as_deref(), Some(used));
    }
}

#[test]
fn each_setting_is_told_with_who_said_so() {
    let config = read("log: debug\ntiming: {beat_interval: 1s}\n").unwrap();
    let told = |key: &str| {
        let said = config.said.iter().find(|said| said.key == key).unwrap();
        (said.value.as_str(), said.by.as_deref())
    };
    assert_eq!(told("log"), ("debug", Some("master.yaml:1")));
    assert_eq!(told("timing.beat_interval"), ("1s", Some("master.yaml:2")));
    assert_eq!(told("limits.events"), ("10000", None));
    assert_eq!(told("backup.folder"), ("", None));
    assert_eq!(config.said.len(), SCHEMA.settings.len());
}

#[test]
fn what_is_shown_is_a_configuration_that_says_the_same() {
    for yaml in [
        "",
        "names: [a.example.org]\nadvertise: [b, c:7]\nhttps_listen: none\ncluster_id: c1\n",
        "store:\n  kind: etcd\n  endpoints: ['https://a:1', 'https://b:1']\n  ca: '/x y/ca: z'\n  \
         certificate: /c\n  key: /k\n  user: 'true'\n  password_file: /p\n  allow_plaintext: true\n",
        "tls_min_version: 1.2\nlog: debug,h2=debug\napproval: manual\nreadiness: enforce\n\
         certificate_lifetime: 36h\n",
        "timing:\n  beat_interval: 1500ms\n  beat_silence: 4s\nlimits:\n  nodes: 7\n  \
         connections_per_address_per_second: 900\n  events_age: 90m\n",
        "backup:\n  folder: /b\n  every: 12h\n  keep: 3\n  passphrase_file: /p\n",
        "otlp:\n  endpoint: https://otel.example.org:4318\n  interval: 1m\n  headers_file: /h\n  ca: /ca\n",
    ] {
        let config = read(yaml).unwrap();
        let shown = SCHEMA.to_yaml(&mut load(yaml).unwrap());
        let again = read(&shown).unwrap_or_else(|error| panic!("{error}\n{shown}"));
        // where it is said differs
        let [again, config] = [again, config].map(|config| Config { said: Vec::new(), ..config });
        assert_eq!(format!("{again:?}"), format!("{config:?}"), "{shown}");
    }
    let shown = SCHEMA.to_yaml(&mut Loaded::default());
    for key in [
        "tls_min_version",
        "readiness",
        "beat_silence",
        "events_age",
        "names",
        "kind",
        "connections",
    ] {
        assert!(shown.contains(&format!("{key}: ")), "{key} is not in\n{shown}");
    }
}

#[test]
fn flags_weigh_more_than_the_environment_and_that_more_than_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("master.yaml");
    std::fs::write(&file, "listen: 127.0.0.1:1\napproval: manual\nlog: warn\n").unwrap();
    let flags =
        flags(&["--listen", "127.0.0.1:2", "--https-listen", "none", "--advertise", "a,b:3"]);
    let environment = [("LOG", "debug"), ("LISTEN", "127.0.0.1:3"), ("TIMING_BEAT_SILENCE", "4s")]
        .map(|(name, value)| (format!("PICCOLO_MASTER_{name}"), value.to_owned()));
    let mut loaded = SCHEMA.load(Some(&file), environment.to_vec()).unwrap();
    flags.apply(&mut loaded);
    let config = config_of(loaded).unwrap();
    assert_eq!(config.listen.port(), 2);
    assert_eq!(config.https_listen, None);
    assert_eq!(config.approval, Approval::Manual);
    assert_eq!(config.advertise, ["a:47098", "b:3"]);
    assert_eq!(config.log_filter, "debug");
    assert_eq!(config.timing.beat_silence, Duration::from_secs(4));
}

#[test]
fn the_command_line_is_well_formed() {
    use clap::CommandFactory as _;
    Cli::command().debug_assert();
    let cli = Cli::try_parse_from([
        "piccolo-master",
        "store",
        "migrate",
        "--from",
        "embedded",
        "--to",
        "etcd:http://127.0.0.1:1",
    ])
    .unwrap();
    let Some(Command::Store { command: StoreCommand::Migrate(args) }) = cli.command else {
        panic!("{:?}", cli.command)
    };
    assert_eq!(args.to, "etcd:http://127.0.0.1:1");
}

#[test]
fn people_on_this_machine_reach_a_master_that_listens_everywhere() {
    let config = Config::defaults().unwrap();
    assert_eq!(config.servers("0.0.0.0:5".parse().unwrap()), ["127.0.0.1:5"]);
    assert_eq!(config.servers("[::]:5".parse().unwrap()), ["[::1]:5"]);
    assert_eq!(config.servers("192.0.2.1:5".parse().unwrap()), ["192.0.2.1:5"]);
    let config = Config { advertise: vec!["m:1".to_owned()], ..config };
    assert_eq!(config.servers("0.0.0.0:5".parse().unwrap()), ["m:1"]);
}
