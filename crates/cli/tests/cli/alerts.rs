//! `piccolo alert`: files of rules and channels, and how alerts look.

use piccolo_cli::{
    alert::view::{self, AlertsView},
    output::{Format, Look, document},
};
use piccolo_rpc::v1;
use prost_types::Timestamp;

use crate::{calls::check, fixtures, support::Home, tables};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/alerts.yaml");

fn at(ago: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds: fixtures::NOW - ago, nanos: 0 })
}

pub(crate) fn listed() -> v1::ListAlertsResponse {
    let member = |node: &str| v1::AlertMember {
        node_id: node.to_owned(),
        node_name: node.to_owned(),
        since: at(90),
        ..Default::default()
    };
    let lost = v1::Alert {
        id: "3-12".to_owned(),
        rule: "NodeNotReady".to_owned(),
        severity: v1::Severity::Critical.into(),
        state: "firing".to_owned(),
        labels: [("site".to_owned(), "north".to_owned())].into(),
        message: "NodeNotReady, 3 at once in site=north: b1, b2, b3".to_owned(),
        group: "site=north".to_owned(),
        members: ["b1", "b2", "b3"].map(member).into(),
        since: at(90),
        fired_at: at(60),
        ..Default::default()
    };
    let hot = v1::Alert {
        id: "3-14".to_owned(),
        rule: "TemperatureHigh".to_owned(),
        severity: v1::Severity::Warning.into(),
        state: "acknowledged".to_owned(),
        message: "node b7 is 91.5 °C \u{1b}[31mhot".to_owned(),
        members: vec![member("b7")],
        since: at(400),
        fired_at: at(340),
        acknowledgement: Some(v1::AlertAcknowledgement {
            by: "operator:otto".to_owned(),
            at: at(300),
            comment: "a fan is ordered".to_owned(),
        }),
        ..Default::default()
    };
    let silence = v1::AlertSilence {
        id: "3-15".to_owned(),
        only: "node=b9".to_owned(),
        created_at: at(60),
        until: at(-7200),
        by: "operator:otto".to_owned(),
        comment: "it is being moved".to_owned(),
    };
    v1::ListAlertsResponse { alerts: vec![lost, hot], silences: vec![silence], refused: 0 }
}

#[test]
fn alerts_and_silences_at_several_widths() {
    let look = |width| Look { width, colour: false, now: at(0).unwrap() };
    for (name, width, format) in [
        ("alert_list_pipe", None, Format::Table),
        ("alert_list_80", Some(80), Format::Table),
        ("alert_list_wide", None, Format::Wide),
    ] {
        tables::check(name, width, &view::table(&listed(), format, &look(width)));
    }
    tables::check("alert_describe", None, &view::describe(&listed().alerts[1], &look(None)));
    let json = document(&AlertsView::from(&listed()), Format::Json).unwrap();
    assert!(json.contains("\"acknowledged_by\": \"operator:otto\""), "{json}");
}

#[test]
fn the_example_is_good() {
    let checked = Home::new().piccolo(&["alert", "rules", "check", "-f", EXAMPLE]);
    assert_eq!(String::from_utf8_lossy(&checked.stdout), "2 rules are good\n");
}

/// What the console's form shows as examples is taken.
#[test]
fn the_consoles_examples_are_good() {
    let forms = include_str!("../../../../console/src/forms.ts");
    let table = forms.split("const EXPRESSIONS").nth(1).unwrap().split("];").next().unwrap();
    let examples: Vec<_> = table
        .lines()
        .filter_map(|line| line.trim().strip_prefix("['")?.strip_suffix("'],")?.split_once("', '"))
        .collect();
    assert!(examples.len() > 4, "{examples:?}");
    let rule = |(index, (on, when)): (usize, &(&str, &str))| {
        format!(
            "  - name: Example{index}\n    on: {on}\n    when: >-\n      {when}\n    severity: info\n    message: x\n"
        )
    };
    let home = Home::new();
    home.script(
        "examples.yaml",
        &format!("rules:\n{}", examples.iter().enumerate().map(rule).collect::<String>()),
    );
    let file = home.path("examples.yaml").display().to_string();
    let checked = home.piccolo(&["alert", "rules", "check", "-f", &file]);
    check(&checked, 0, &[]);
}

#[test]
fn every_mistake_of_a_file_has_the_name_and_the_line_of_its_rule() {
    let home = Home::new();
    let rule = |name: &str, rest: &str| {
        format!("  - name: {name}\n    severity: info\n    when: {rest}\n")
    };
    let message = "node.connected\n    message: x";
    let text = format!(
        "rules:\n{}{}{}{}",
        rule("A", message),
        rule("Silent", "node.connected"),
        rule("A", message),
        rule("Typo", "node.status == 'Redy'\n    message: x")
    );
    home.script("bad.yaml", &text);
    let file = home.path("bad.yaml").display().to_string();
    let refused = home.piccolo(&["alert", "rules", "check", "-f", &file]);
    let parts = [
        "line 6, rule Silent: rules[1].message: is empty",
        "line 9, rule A: there is another of that name before it, in line 2",
        "line 13, rule Typo: rules[3].when: line 1, column 16: node.status is never \"Redy\"",
    ];
    check(&refused, 2, &parts);
}

#[test]
fn a_rule_that_is_wrong_is_shown_with_its_place_before_a_master_is_asked() {
    let home = Home::new();
    for (rule, parts) in [
        ("when: node.statu == 1", ["when: line 1, column 1: there is no node.statu", "^^^^^^^^^^"]),
        ("when: node.connected\n    for: soon", ["rules[0].for: ", "soon"]),
        ("when: node.connected\n    whem: true", ["cannot be read as rules and channels", "whem"]),
        ("when: node.connected\n    group: {min: many}", ["cannot be read as rules", "line 6"]),
    ] {
        let text =
            format!("rules:\n  - name: Bad\n    severity: info\n    message: x\n    {rule}\n");
        home.script("bad.yaml", &text);
        let file = home.path("bad.yaml").display().to_string();
        for verb in ["check", "apply"] {
            let refused = home.piccolo(&["alert", "rules", verb, "-f", &file]);
            if verb == "check" {
                check(&refused, 2, &parts);
            }
            assert!(!refused.status.success());
        }
    }
}
