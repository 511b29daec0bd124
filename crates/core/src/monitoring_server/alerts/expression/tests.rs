//! Expressions, as sentences over data.

use super::*;
use crate::{
    model::{ContainerReport, NodeView},
    state_manager::fixtures::node_record,
    time::WallTime,
};

fn node() -> NodeView {
    let mut record = node_record("n1", "board-1");
    record.labels.insert("site".to_owned(), "seoul".to_owned());
    let metric = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    NodeView {
        record,
        last_heartbeat: Some(WallTime::from_secs(90)),
        connected: true,
        containers: Vec::new(),
        containers_at: None,
        metrics: [metric("cpu_percent", "91.5"), metric("version", "v2")].into(),
        sampled_at: None,
        system_check: None,
        hardware: None,
        recovery: Default::default(),
        probe: None,
        revision: 0,
    }
}

#[track_caller]
fn check(text: &str, expect: Option<bool>) {
    let expression = Expression::condition(text, On::Container).unwrap_or_else(|e| panic!("{e}"));
    let view = node();
    let container = ContainerReport {
        name: "web".to_owned(),
        state: "running".to_owned(),
        ..ContainerReport::default()
    };
    let facts = Facts {
        now: WallTime::from_secs(100),
        node: Some(&view),
        container: Some(&container),
        cluster: None,
        often: 2,
        certificate_lifetime: std::time::Duration::from_secs(100),
    };
    let value = expression.value(&facts);
    assert_eq!(value, expect.map(Value::Bool), "{text}");
}

#[track_caller]
fn check_error(text: &str, expect: &str) {
    let error = Expression::condition(text, On::Node).map(drop).unwrap_err();
    assert_eq!(error.to_string(), expect, "{text}");
}

#[test]
fn what_holds_is_what_holds_in_cel() {
    for (text, holds) in [
        (r#"node.status == "Ready""#, true),
        (r#"node.status != 'Ready'"#, false),
        ("node.metrics.cpu_percent > 90", true),
        (r#"node.metrics["cpu_percent"] < 9e1"#, false),
        ("node.connected && !(node.heard_seconds >= 11)", true),
        (r#"node.labels.site in ["busan", "seoul"]"#, true),
        (r#""site" in node.labels"#, true),
        (r#""Suspect" in node.conditions"#, false),
        ("has(node.metrics.load1)", false),
        ("has(node.metrics.cpu_percent) && has(node.labels.site)", true),
        ("size(node.name) == 7 && size(node.conditions) == 0", true),
        (
            r#"node.name.startsWith("board") && node.name.endsWith("1") && node.name.contains("-")"#,
            true,
        ),
        ("1 + 2 * 3 - 4 / 2 == 5 && 7 % 4 == 3 && -1 < 0", true),
        ("true || false && false", true),
        ("(true || false) && false", false),
        (r#"container.state == "running" && container.starts_15m == 2"#, true),
        (r#""a\"b" == 'a"b'"#, true),
    ] {
        check(text, Some(holds));
    }
}

#[test]
fn what_is_not_known_is_neither_and_what_decides_decides() {
    for text in [
        "node.metrics.load1 > 3",
        "!(node.metrics.load1 > 3)",
        "node.metrics['version'] > 1",
        "node.metrics['gpu_percent'] > 1",
        r#"node.labels.rack == "a""#,
        "node.certificate_seconds_left < 5",
        "1 / size(node.conditions) > 1",
        "node.metrics.load1 > 3 || node.metrics.load5 > 3",
    ] {
        check(text, None);
    }
    check("node.metrics.load1 > 3 || true", Some(true));
    check("true || node.metrics.load1 > 3", Some(true));
    check("node.metrics.load1 > 3 && false", Some(false));
}

#[test]
fn an_error_shows_its_place() {
    for (text, expect) in [
        (
            r#"node.statu == "Ready""#,
            "line 1, column 1: there is no node.statu; did you mean node.status?\n  node.statu == \"Ready\"\n  ^^^^^^^^^^",
        ),
        (
            "node.connected &&\n  node.metrics.cpu_percent > \"x\"",
            "line 2, column 30: > takes a number, and this is a text\n    node.metrics.cpu_percent > \"x\"\n                               ^^^",
        ),
        (
            "node.heard_seconds",
            "line 1, column 1: this is a number, and a condition is true or false\n  node.heard_seconds\n  ^^^^^^^^^^^^^^^^^^",
        ),
        (
            "node.status = \"x\"",
            "line 1, column 13: one = alone is nothing; equal is ==\n  node.status = \"x\"\n              ^",
        ),
        (
            "container.cpu_percent > 1",
            "line 1, column 1: a rule on node does not know container.cpu_percent: it speaks of node.*\n  container.cpu_percent > 1\n  ^^^^^^^^^^^^^^^^^^^^^",
        ),
        (
            "node.connected && node.metrics.cpu_percnt > 90",
            "line 1, column 32: no node tells cpu_percnt (one of an agent of your own is [\"cpu_percnt\"]); did you mean cpu_percent?\n  node.connected && node.metrics.cpu_percnt > 90\n                                 ^^^^^^^^^^",
        ),
        (
            "node.metrics.load1 / (2 - 2) > 1",
            "line 1, column 22: nothing can be divided by 0: this never has a value\n  node.metrics.load1 / (2 - 2) > 1\n                       ^^^^^^^",
        ),
        ("", "line 1, column 1: it is empty\n  \n  ^"),
    ] {
        check_error(text, expect);
    }
}

#[test]
fn what_is_wrong_is_told_whatever_it_is() {
    for (text, part) in [
        ("node.connected &&", "here a value is missing"),
        ("node.connected node", "here it should end"),
        ("(node.connected", "here ) is missing"),
        ("\"abc", "this text has no end"),
        ("1.2.3 > 1", "is not a number"),
        ("host.name == \"a\"", "there is no host"),
        ("node.name.matches(\"a\")", "there is no method matches"),
        ("node.connected ? true : false", "a choice with ?"),
        ("node.labels == node.labels", "cannot be compared"),
        ("node.status == \"Redy\"", "node.status is never \"Redy\": Pending, Initializing, Ready,"),
        ("'ready' != node.status", "node.status is never \"ready\""),
        ("node.status in ['Ready', 'Lost']", "node.status is never \"Lost\""),
        ("node.name.x == \"a\"", "which has no entries"),
        ("[1] == [2]", "a list takes a text"),
        ("has(1)", "has() takes a field"),
        ("size(1) > 1", "has no size"),
        ("node.name in node.name", "in looks into a list or a map"),
        ("보드 == 1", "has no meaning here"),
        ("!node.name", "! takes true or false"),
        ("node.metrics.weather > 1", "there are cpu_percent, disk_free_bytes,"),
        ("has(node.metrics.cpu)", "did you mean cpu_percent?"),
        ("1 / 0 > 1", "nothing can be divided by 0"),
        ("node.heard_seconds % 0 == 1", "nothing can be divided by 0"),
        ("true || 3 * 1e308 > 1", "too large for a number"),
        ("node.satus == 'Ready'", "did you mean node.status?"),
    ] {
        let error = Expression::condition(text, On::Node).map(drop).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn a_figure_that_nodes_can_tell_passes_whether_one_does_or_not() {
    for figure in crate::monitoring_server::NODE_FIGURES {
        let text = format!("node.metrics.{figure} > 1 && node.metrics[\"{figure}\"] > 1");
        assert_eq!(Expression::condition(&text, On::Node).map(drop), Ok(()), "{text}");
    }
    let labels = "node.labels.anything == 'x' && has(node.labels['else'])";
    assert_eq!(Expression::condition(labels, On::Node).map(drop), Ok(()));
}

#[test]
fn depth_length_and_parts_are_bounded() {
    for text in [
        "(".repeat(500),
        "!".repeat(900),
        "-".repeat(900),
        format!("{}true", "true || ".repeat(110)),
        "a".repeat(1025),
        format!("node.labels{} == \"x\"", "[node.labels".repeat(80)),
    ] {
        assert!(Expression::condition(&text, On::Node).is_err(), "{}", &text[..20]);
    }
}

proptest::proptest! {
    /// Whatever is written, it is read or refused; the place is inside it.
    #[test]
    fn nothing_that_is_written_breaks_it(text in r#"([a-z.\["() !&|<>=+*/%0-9'\\{}]|node\.|metrics|보){0,60}"#) {
        if let Err(error) = Expression::parse(&text, On::Node) {
            proptest::prop_assert!(error.at <= text.len());
            proptest::prop_assert!(!error.to_string().is_empty());
        }
    }
}
