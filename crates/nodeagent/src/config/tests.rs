use std::fmt::Write as _;
use std::path::Path;

use clap::{CommandFactory, Parser};
use proptest::prelude::*;

use piccolo_settings::read;

use super::settings::{MASTER, PodmanSocket};
use super::*;

const TEMPLATE: &str = include_str!("../../../../config/nodeagent.yaml");

fn load(text: &str) -> Result<Loaded, Error> {
    let mut loaded = Loaded::default();
    let path = Path::new("nodeagent.yaml");
    SCHEMA.yaml(&mut loaded.config, &mut loaded.origins, path, text)?;
    judged(loaded)
}

fn parse(text: &str) -> Result<Config, Error> {
    load(text).map(|loaded| loaded.config)
}

/// The error that a file gives.
#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(parse(text).unwrap_err().to_string(), expected, "{text}");
}

#[test]
fn the_template_as_it_is_means_the_defaults() {
    assert_eq!(parse(TEMPLATE).unwrap(), Config::default());
    assert_eq!(parse("").unwrap(), Config::default());
    assert_eq!(parse("podman:\nmasters:\n").unwrap(), Config::default());
}

/// Settings are commented by `#` right before them, explanations by `# `.
fn enabled(line: &str) -> &str {
    match line.strip_prefix('#') {
        Some(setting) if !setting.starts_with(' ') || setting.starts_with("  ") => setting,
        _ => line,
    }
}

#[test]
fn the_template_shows_every_setting_with_its_default() {
    let text = TEMPLATE.lines().fold(String::new(), |mut text, line| {
        writeln!(text, "{}", enabled(line)).unwrap();
        text
    });
    let mut loaded = load(&text).unwrap();
    for (key, _, origin) in SCHEMA.show(&mut loaded) {
        assert!(origin.is_some(), "the template does not show {key}");
    }
    let config = loaded.config;
    assert_eq!(config.masters.len(), 2);
    let shown = Config {
        masters: Vec::new(),
        name: None,
        address: None,
        bind_address: None,
        labels: Labels::new(),
        ..config
    };
    assert_eq!(shown, Config::default());
}

#[test]
fn another_podman_than_the_usual_is_restarted_only_where_its_units_are_named() {
    let units = |text: &str| parse(text).unwrap().recovery.podman_units;
    assert_eq!(units(""), ["podman.socket", "podman.service"]);
    assert_eq!(units("recovery: {podman_units: []}"), Vec::<String>::new());
    let other = "podman: {socket: /run/other.sock}\n";
    assert_eq!(units(other), Vec::<String>::new());
    let named = format!("{other}recovery: {{podman_units: [other.service]}}");
    assert_eq!(units(&named), ["other.service"]);
    check(
        "recovery: {podman_units: [--all]}",
        "nodeagent.yaml:1:27: expected a unit of systemd, such as `podman.service`, found `--all`",
    );
}

#[test]
fn a_wrong_key_names_its_place_and_the_nearest_one() {
    check(
        "name: a\nmastres: [x]\n",
        "nodeagent.yaml:2:1: unknown key `mastres`; did you mean `masters`?",
    );
    check(
        "podman:\n  sockt: none\n",
        "nodeagent.yaml:2:3: unknown key `sockt`; did you mean `socket`?",
    );
    check(
        "podman:\n  colour: red\n",
        "nodeagent.yaml:2:3: unknown key `colour`; known are socket, watch",
    );
    check("name: a\nname: b\n", "nodeagent.yaml:2:1: `name` is given twice");
}

#[test]
fn a_wrong_value_names_its_place_what_was_found_and_what_was_expected() {
    check(
        "sampling_interval_s: soon\n",
        "nodeagent.yaml:1:22: expected a whole number from 1 to 3600, found `soon`",
    );
    check(
        "sampling_interval_s: 0\n",
        "nodeagent.yaml:1:22: expected a whole number from 1 to 3600, found `0`",
    );
    check(
        "masters:\n  - good:1\n  - bad:port\n",
        "nodeagent.yaml:3:5: expected HOST:PORT, such as `master.example.org:47098` or \
         `[fd00::1]:47098`, found `bad:port`",
    );
    check("role: boss\n", "nodeagent.yaml:1:7: expected `sub` or `master`, found `boss`");
    check(
        "thresholds:\n  cpu:\n    raise_percent: 101\n",
        "nodeagent.yaml:3:20: expected a whole number from 1 to 100, or `none`, found `101`",
    );
    check(
        "podman:\n  socket: run/podman.sock\n",
        "nodeagent.yaml:2:11: expected the path of a socket, such as `/run/podman/podman.sock`, \
         or `none`, found `run/podman.sock`",
    );
}

#[test]
fn a_wrong_shape_names_its_place() {
    for (text, place) in [
        ("masters: {a: b}\n", "nodeagent.yaml:1:10: "),
        ("name: [a]\n", "nodeagent.yaml:1:7: "),
        ("name: \"open\nrole: sub", "nodeagent.yaml:"),
        ("- a\n", "nodeagent.yaml:1:1: "),
    ] {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.starts_with(place), "{text:?}: {error}");
    }
}

#[test]
fn a_threshold_must_be_cleared_below_where_it_is_raised() {
    check(
        "thresholds:\n  disk: {raise_percent: 80, clear_percent: 80}\n",
        "nodeagent.yaml:2:25: thresholds.disk: it is cleared at 80, which must be below 80, where it is raised",
    );
    let config = parse("thresholds:\n  disk: {raise_percent: 80}\n").unwrap();
    assert_eq!(config.thresholds.disk, Threshold { raise: Some(80), clear: 77 });
    let config = parse("thresholds:\n  cpu: {clear_percent: 50}\n").unwrap();
    assert_eq!(config.thresholds.cpu, Threshold { raise: Some(98), clear: 50 });
    let config = parse("thresholds:\n  cpu: {raise_percent: none}\n").unwrap();
    assert_eq!(config.thresholds.cpu, Threshold { raise: None, clear: 90 });
}

#[test]
fn what_is_wrong_only_beside_others_names_its_place_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("agent.yaml");
    let many = (0..17).map(|i| format!("  - m{i}:1\n")).collect::<String>();
    for (text, place, part) in [
        ("name: a\nlabels:\n  site: x\n  a b: y\n", ":4:8: ", "labels[a b]: a key has"),
        ("thresholds:\n  disk: {clear_percent: 5}\n  cpu: {clear_percent: 99}\n", ":3:24: ", "cpu"),
        (&format!("name: a\nmasters:\n{many}"), ":3:3: ", "masters: 17 entries"),
    ] {
        std::fs::write(&file, text).unwrap();
        let flags = Flags { config: Some(file.clone()), ..Flags::default() };
        let error = Config::from_parts(&flags, Vec::new()).unwrap_err().to_string();
        let begin = format!("{}{place}", file.display());
        assert!(error.starts_with(&begin) && error.contains(part), "{text}: {error}");
    }
    // the file is not blamed for what it does not say
    std::fs::write(&file, "masters: [m:1]\n").unwrap();
    let masters = vec![read(&MASTER, "m:1").unwrap(); 17];
    let flags = Flags { config: Some(file), masters, ..Flags::default() };
    let error = Config::from_parts(&flags, Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "masters: 17 entries, more than 16");
    assert!(Cli::try_parse_from(["piccolo-nodeagent", "--label", "a b=c"]).is_err());
}

#[test]
fn flags_override_the_environment_which_overrides_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("agent.yaml");
    std::fs::write(&file, "name: from-file\nrole: master\nlog_level: warn\n").unwrap();
    let environment = [
        ("PICCOLO_AGENT_CONFIG", file.to_str().unwrap()),
        ("PICCOLO_AGENT_NAME", "from-env"),
        ("PICCOLO_AGENT_LOG_LEVEL", "debug"),
        ("PICCOLO_AGENT_MASTERS", "a:1, [fd00::1]:2 ,c"),
        ("PICCOLO_AGENT_LABELS", "site=seoul,soc="),
        ("PICCOLO_AGENT_TOKEN", "is read elsewhere"),
        ("UNRELATED", "x"),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let cli = Cli::parse_from(["piccolo-nodeagent", "run", "--log-level", "trace"]);
    let config = Config::from_parts(&cli.flags, environment.to_vec()).unwrap().config;
    assert_eq!(config.role, NodeRole::Master);
    assert_eq!(config.name.as_ref().map(NodeName::as_str), Some("from-env"));
    assert_eq!(config.log_level, LogLevel::Trace);
    let masters: Vec<_> = config.masters.iter().map(ToString::to_string).collect();
    assert_eq!(masters, ["a:1", "[fd00::1]:2", "c:47098"]);
    assert_eq!(config.labels.get("site").map(String::as_str), Some("seoul"));
}

#[test]
fn a_wrong_variable_is_named() {
    for (name, value, expected) in [
        (
            "PICCOLO_AGENT_MASTER",
            "x",
            "PICCOLO_AGENT_MASTER in the environment: unknown setting `MASTER`; did you mean \
             `MASTERS`?",
        ),
        (
            "PICCOLO_AGENT_RECONNECT_MAX_S",
            "-1",
            "PICCOLO_AGENT_RECONNECT_MAX_S in the environment: expected a whole number from 1 to \
             3600, found `-1`",
        ),
        (
            "PICCOLO_AGENT_LABELS",
            "a=b,c",
            "PICCOLO_AGENT_LABELS in the environment: expected KEY=VALUE, found `c`",
        ),
    ] {
        let environment = [(name.to_owned(), value.to_owned())];
        let error = Config::from_parts(&Flags::default(), environment.to_vec()).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn a_file_asked_for_by_name_must_exist() {
    let cli = Cli::parse_from(["piccolo-nodeagent", "--config", "/no/such/file.yaml"]);
    let error = Config::from_parts(&cli.flags, Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "cannot read /no/such/file.yaml");
}

#[test]
fn the_command_line_is_well_formed_and_takes_no_token() {
    Cli::command().debug_assert();
    for (words, accepted) in [
        (&["piccolo-nodeagent"][..], true),
        (&["piccolo-nodeagent", "status", "-o", "json"], true),
        (&["piccolo-nodeagent", "join", "--token-file", "-", "--master", "m:1"], true),
        (&["piccolo-nodeagent", "join", "--token", "PICCOLO1-x-y"], false),
        (&["piccolo-nodeagent", "join", "PICCOLO1-x-y"], false),
        (&["piccolo-nodeagent", "--master", "m:0"], false),
        (&["piccolo-nodeagent", "--state-dir", "relative"], false),
    ] {
        assert_eq!(Cli::try_parse_from(words).is_ok(), accepted, "{words:?}");
    }
    assert!(Cli::parse_from(["piccolo-nodeagent"]).command.is_none());
}

#[test]
fn help_names_the_variables_and_the_exit_codes() {
    let help = Cli::command().render_long_help().to_string();
    for name in ["CONFIG", "TOKEN", "MASTERS", "STATE_DIR", "JOURNAL_SIZE_MAX_MIB"] {
        assert!(help.contains(&format!("\n  PICCOLO_AGENT_{name}")), "{name}: {help}");
    }
    let mut command = Cli::command();
    let help = command.find_subcommand_mut("check").unwrap().render_help().to_string();
    assert!(help.contains("1 there are warnings, 2 there are errors"), "{help}");
}

#[test]
fn master_addresses_are_read_strictly() {
    for (text, expected) in [
        ("10.0.0.1:5", Some("10.0.0.1:5")),
        ("host", Some("host:47098")),
        ("[::1]", Some("[::1]:47098")),
        ("::1:5", None),
        ("[::1]5", None),
        ("[host]:5", None),
        ("host:", None),
        ("host:65536", None),
        ("https://host:5", None),
        (":5", None),
        ("", None),
    ] {
        let read = read(&MASTER, text).ok().map(|m| m.to_string());
        assert_eq!(read.as_deref(), expected, "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(
        text in prop_oneof![
            ".{0,80}",
            r"((masters|name|podman|labels|thresholds|journal|cpu): ?[\[{&*!\n a-z0-9:-]{0,12}\n?){1,4}",
        ],
    ) {
        parse(&text).ok();
        read(&MASTER, &text).ok();
        read(&PodmanSocket, &text).ok();
    }
}
