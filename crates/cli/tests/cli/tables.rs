//! Whole tables over fixed data, compared with what they looked like when somebody last looked.

use piccolo_cli::{
    api_token, audit, events,
    metrics::{self, SeriesView},
    node,
    output::{Format, Look, Table, document, word},
    status, token,
    topology::{
        self, graph, picture,
        scene::{Scene, Told},
        svg,
    },
    user,
};
use piccolo_rpc::v1::{Alert, BackupStatus, ClusterTopology, GetClusterStatusResponse};
use prost_types::Timestamp;

use crate::fixtures;

fn look(width: Option<u16>, colour: bool) -> Look {
    Look { width, colour, now: Timestamp { seconds: fixtures::NOW, nanos: 0 } }
}

/// In a pipe.
const PIPE: Option<u16> = None;

/// Compares with `snapshots/`; every line must fit, and nothing hostile may get through.
#[track_caller]
pub(crate) fn check(name: &str, width: Option<u16>, text: &str) {
    for line in text.lines() {
        if let Some(width) = width {
            assert!(line.chars().count() <= width.into(), "wider than {width}: {line:?}");
        }
        assert!(!line.chars().any(char::is_control), "control characters in {line:?}");
        assert_eq!(line.trim_end(), line, "space at the end");
    }
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!(name, text);
    });
}

#[test]
fn nodes_at_several_widths() {
    let nodes = fixtures::nodes();
    for (name, width, format) in [
        ("node_list_pipe", PIPE, Format::Table),
        ("node_list_80", Some(80), Format::Table),
        ("node_list_60", Some(60), Format::Table),
        ("node_list_40", Some(40), Format::Table),
        ("node_list_wide_pipe", PIPE, Format::Wide),
        ("node_list_wide_240", Some(240), Format::Wide),
    ] {
        check(name, width, &node::table::nodes(&nodes, format, &look(width, false)));
    }
    check("node_list_none", PIPE, &node::table::nodes([], Format::Table, &look(PIPE, false)));
}

#[test]
fn a_narrow_terminal_gets_every_word_even_if_broken() {
    let text = node::table::nodes(&fixtures::nodes(), Format::Wide, &look(Some(100), false));
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "{line:?}");
    }
}

#[test]
fn colours_say_how_a_node_is() {
    let text = node::table::nodes(&fixtures::nodes(), Format::Table, &look(Some(100), true));
    let line = |name: &str| text.lines().find(|line| line.contains(name)).unwrap().to_owned();
    assert!(
        line("hpc").contains("\u{1b}[38;5;2m Ready") || line("hpc").contains("\u{1b}[38;5;2mReady"),
        "{text:?}"
    );
    assert!(line("zone-b").contains("\u{1b}[38;5;1mNotReady"), "{text:?}");
    assert!(line("new-board").contains("\u{1b}[38;5;3mPending"), "{text:?}");
}

#[test]
fn a_node_described() {
    let nodes = fixtures::nodes();
    let events: Vec<_> =
        fixtures::events().into_iter().filter(|event| event.node_name == "zone-a").collect();
    let text = node::describe::node(&nodes[1], &events, Some(4), &look(Some(100), false));
    check("node_describe_well", Some(100), &text);
    let text = node::describe::node(&nodes[0], &[], Some(4), &look(PIPE, false));
    check("node_describe_lost", PIPE, &text);
}

#[test]
fn the_clusters_status() {
    let nodes = fixtures::nodes();
    for (name, width) in [("status_80", Some(80)), ("status_pipe", PIPE)] {
        check(name, width, &status::render(&fixtures::status(), &nodes, &look(width, false)));
    }
    let well = [nodes[2].clone()];
    let text = status::render(&fixtures::status(), &well, &look(PIPE, false));
    assert!(text.ends_with("Everything is well.\n"), "{text}");
    let mut status = fixtures::status();
    let problem = "no space left".to_owned();
    status.backup = Some(BackupStatus { problem, ..BackupStatus::default() });
    let text = status::render(&status, &well, &look(PIPE, false));
    assert!(text.ends_with("Not well: scheduled backups. Why: piccolo doctor\n"), "{text}");
    let text = status::render(&fixtures::status(), &[], &look(PIPE, false));
    assert!(text.contains("piccolo token create"), "{text}");
}

#[test]
fn events_as_a_table_and_as_lines() {
    let all = fixtures::events();
    for (name, width, format) in
        [("events_80", Some(80), Format::Table), ("events_wide_pipe", PIPE, Format::Wide)]
    {
        check(name, width, &events::table(&all, format, &look(width, false)));
    }
    let lines = |format| -> String {
        all.iter().map(|event| events::line(event, format, &look(PIPE, false))).collect()
    };
    check("events_lines", PIPE, &lines(Format::Table));
    check("events_lines_wide", PIPE, &lines(Format::Wide));
}

#[test]
fn tokens_users_and_the_audit_log() {
    let plain = look(Some(120), false);
    check("token_list", Some(120), &token::table(&fixtures::tokens(), Format::Table, &plain));
    check("token_list_wide", Some(120), &token::table(&fixtures::tokens(), Format::Wide, &plain));
    for (width, tokens, audit) in
        [(60, "token_list_60", "audit_list_60"), (80, "token_list_80", "audit_list_80")]
    {
        let narrow = look(Some(width), false);
        check(tokens, Some(width), &token::table(&fixtures::tokens(), Format::Table, &narrow));
        check(audit, Some(width), &audit::table(&fixtures::audit(), Format::Table, &narrow));
    }
    check("api_token_list", Some(120), &api_token::table(&fixtures::api_tokens(), &plain));
    check("user_list_wide", Some(120), &user::table(&fixtures::users(), Format::Wide, &plain));
    check("audit_list", Some(120), &audit::table(&fixtures::audit(), Format::Table, &plain));
    check(
        "audit_list_wide",
        PIPE,
        &audit::table(&fixtures::audit(), Format::Wide, &look(PIPE, false)),
    );
}

#[test]
fn ids_addresses_and_names_are_never_broken_on_a_narrow_terminal() {
    let id = "019ab3f0-7c1e-7a52-b0de-5f0c6e0d9a11";
    let mut audit = fixtures::audit();
    audit[0].target = id.to_owned();
    audit[0].call = "ResetNodeIdentity".to_owned();
    audit[1].outcome = "ok".to_owned();
    let mut tokens = fixtures::tokens();
    tokens[1].node_name = "a-board-with-quite-a-long-name".to_owned();
    tokens[1].created_by = "operator:somebody".to_owned();
    for width in 50..160 {
        let look = look(Some(width), false);
        for (table, rows) in [
            (audit::table(&audit, Format::Table, &look), audit.len()),
            (token::table(&tokens, Format::Table, &look), tokens.len()),
            (user::table(&fixtures::users(), Format::Table, &look), 1),
        ] {
            // What is broken goes on in a line of its own.
            assert_eq!(table.lines().count(), rows + 1, "{width}: {table}");
            assert!(table.lines().all(|line| line.len() <= width.into()), "{width}: {table}");
        }
    }
}

/// The cluster as it is drawn, with alerts that fire.
fn scene<'a>(
    topology: &'a ClusterTopology,
    status: &'a GetClusterStatusResponse,
    alerts: &'a [Alert],
) -> Scene<'a> {
    Scene::of(Told { topology, status, alerts }, "site")
}

#[test]
fn the_topology_as_text_and_as_pictures() {
    let (topology, status) = (fixtures::topology(), fixtures::status());
    check("topology_get", PIPE, &topology::render(&topology, &look(PIPE, false)));
    let alerts = fixtures::alerts();
    let drawn = scene(&topology, &status, &alerts);
    check("topology_graph", PIPE, &picture::picture(&drawn, &look(PIPE, false)));
    check("topology_graph_60", Some(60), &picture::picture(&drawn, &look(Some(60), false)));
    check("topology_graph_dot", PIPE, &graph::dot(&drawn));
    check("topology_graph_svg", PIPE, &svg::svg(&drawn));
    check("topology_graph_mermaid", PIPE, &graph::mermaid(&drawn));
    let empty = ClusterTopology { name: "robot".to_owned(), ..Default::default() };
    let text = picture::picture(&scene(&empty, &status, &[]), &look(PIPE, false));
    assert!(text.contains("master") && text.contains("no board has joined yet"), "{text}");
}

#[test]
fn a_crowd_is_drawn_with_those_in_trouble_first_and_fits_a_terminal() {
    for (nodes, name) in [(60, "topology_graph_crowd_60"), (200, "topology_graph_crowd_200")] {
        let (topology, status) = (fixtures::crowd(nodes), fixtures::status());
        let alerts = fixtures::alerts();
        let drawn = scene(&topology, &status, &alerts);
        check(name, Some(80), &picture::picture(&drawn, &look(Some(80), false)));
        for width in [40, 120, 240] {
            let text = picture::picture(&drawn, &look(Some(width), false));
            assert!(text.lines().all(|line| line.chars().count() <= width.into()), "{text}");
            assert_eq!(text.matches("board-").count(), nodes, "{text}");
        }
    }
}

#[test]
fn all_four_ways_show_the_same() {
    let (topology, status) = (fixtures::topology(), fixtures::status());
    let alerts = fixtures::alerts();
    let drawn = scene(&topology, &status, &alerts);
    for drawing in [
        picture::picture(&drawn, &look(PIPE, false)),
        svg::svg(&drawn),
        graph::dot(&drawn),
        graph::mermaid(&drawn),
    ] {
        for part in [
            "robot",
            "master",
            "192.168.7.10:47098",
            "hpc",
            "zone-a",
            "zone-b",
            "new-board",
            "site seoul",
            "without site",
            "0.31 ms",
            "NotReady",
            "SessionLost",
            "camera",
            "exited (1)",
            "1 critical",
            "1 warning",
            "1 info",
        ] {
            assert!(drawing.contains(part), "{part:?} is not in {drawing}");
        }
    }
}

#[test]
fn figures_over_time() {
    let query = piccolo_rpc::v1::QueryMetricsRequest {
        figure: "cpu_percent".to_owned(),
        by: vec!["node".to_owned()],
        ..Default::default()
    };
    let view = SeriesView::of("cpu_percent", fixtures::figures(&query));
    for (name, width) in [("metrics_query", PIPE), ("metrics_query_40", Some(40))] {
        check(name, width, &metrics::table(&view, &query.by, &look(width, false)));
    }
}

#[test]
fn documents_for_programs() {
    let node = node::view::NodeView::from(&fixtures::nodes()[1]);
    check("node_get_json", PIPE, &document(&node, Format::Json).unwrap());
    check("node_get_yaml", PIPE, &document(&node, Format::Yaml).unwrap());
    let status = status::StatusView::new(&fixtures::status(), &fixtures::nodes());
    check("status_json", PIPE, &document(&status, Format::Json).unwrap());
}

#[test]
fn a_table_without_columns_for_its_words_still_fits() {
    let mut table = Table::new([word("A"), word("B")]);
    table.row([
        piccolo_cli::output::Cell::new("x".repeat(50)),
        piccolo_cli::output::Cell::new("y".repeat(50)),
    ]);
    let text = table.render(&look(Some(40), false));
    assert!(text.lines().all(|line| line.chars().count() <= 40), "{text}");
    assert_eq!(text.matches('x').count(), 50, "{text}");
}
