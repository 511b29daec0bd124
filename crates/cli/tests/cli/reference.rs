//! `docs/operations/cli.md` says what the commands say.

use std::{fs, path::Path};

use piccolo_cli::{
    alert::view::AlertsView,
    api_token::{ApiTokenView, ApiTokensView},
    audit::{AuditView, EntryView},
    command, events,
    metrics::SeriesView,
    node::{
        deploy::{
            show::{Outcome, OutcomesView, Problem},
            steps::{Done, Step},
        },
        view::{NodeView, NodesView},
    },
    output::{Format, document},
    reference::markdown,
    status::StatusView,
    token::{TokenView, TokensView},
    topology::TopologyView,
    user::{UserView, UsersView},
};
use piccolo_rpc::v1;
use serde::Serialize;

use crate::fixtures;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operations/cli.md");

const WATCHES: &str = "
`piccolo node get` is one element of `nodes`. `piccolo node check` has that element as `node`, and a `system_check` with
every finding, also those that are ok, as `hardware` always has. `piccolo node describe` has `nodes` too, however many were asked for; each has a `node`,
its `recent_events` (elements of `events`, the newest last) and the topology's `newest_generation`. `piccolo user create` has the `user`, an
element of `users`, and the `file` of the context. `piccolo topology apply` is as `piccolo topology get`, and `piccolo log-level` has `target`
and `message`.

`piccolo node deploy` says `result`: `deployed`, `renewed`, `taken-over`, `unchanged`, `would-deploy`, `would-renew`, `would-take-over`
(`--dry-run`) or `failed`; `problem` is null unless it failed, and its `left` is what could not be put back. `piccolo node undeploy` has the same shape, and says `undeployed`.

`piccolo alert describe` is one element of `alerts`, and `piccolo alert list --watch` writes one whenever it changes.

`piccolo node list --watch`; after `snapshot_begin` the whole follows, forget what was known:

| `type` | other keys |
|---|---|
| `changed` | `revision`, `node` |
| `removed` | `revision`, `node_id` |
| `snapshot_begin` | `revision`, `reason` |
| `snapshot_end` | `revision` |

`piccolo events --watch`:

| `type` | other keys |
|---|---|
| `event` | `event` |
| `missed` | `first_id`, `last_id`: no longer kept |
";

#[test]
fn the_reference_is_up_to_date() {
    let expect = format!("{}{}", markdown(&command()), shapes());
    if std::env::var_os("UPDATE").is_some_and(|value| value == "1") {
        fs::write(FILE, &expect).unwrap();
    }
    let found = fs::read_to_string(Path::new(FILE)).unwrap_or_default();
    assert!(found == expect, "{FILE} is stale: UPDATE=1 cargo test -p piccolo-cli reference");
}

/// The shapes of JSON, by example: from data, so that they are what programs get.
fn shapes() -> String {
    let nodes: Vec<NodeView> = fixtures::nodes()[1..2].iter().map(NodeView::from).collect();
    let listed = v1::ListEventsResponse {
        events: fixtures::events()[2..3].to_vec(),
        first_kept_id: 1,
        last_id: 44,
    };
    let tokens = fixtures::tokens()[..1].iter().map(TokenView::from).collect();
    let users = fixtures::users().iter().map(UserView::from).collect();
    let api_tokens = fixtures::api_tokens()[..1].iter().map(ApiTokenView::from).collect();
    let entries = fixtures::audit()[1..].iter().map(EntryView::from).collect();
    let mut out = "\n## Shapes of `-o json`\n".to_owned();
    let mut add = |command: &str, text: String| {
        out.push_str(&format!("\n`{command}`:\n\n```json\n{text}```\n"));
    };
    add("piccolo status", json(&StatusView::new(&fixtures::status(), &fixtures::nodes())));
    add("piccolo node list", json(&NodesView { nodes, revision: 120 }));
    add("piccolo node deploy", json(&OutcomesView { hosts: &[unreachable()] }));
    add("piccolo topology get", json(&TopologyView::from(&fixtures::topology())));
    add("piccolo events", json(&events::EventsView::from(&listed)));
    add("piccolo alert list", json(&AlertsView::from(&crate::alerts::listed())));
    let query = v1::QueryMetricsRequest {
        figure: "cpu_percent".to_owned(),
        by: vec!["node".to_owned()],
        ..Default::default()
    };
    let series = SeriesView::of("cpu_percent", fixtures::figures(&query));
    add("piccolo metrics query", json(&series));
    add("piccolo token list", json(&TokensView { tokens }));
    add("piccolo api-token list", json(&ApiTokensView { tokens: api_tokens }));
    add("piccolo user list", json(&UsersView { users }));
    add("piccolo audit list", json(&AuditView { entries }));
    out.push_str(WATCHES);
    out
}

fn unreachable() -> Outcome {
    Outcome {
        host: "root@192.0.2.22".to_owned(),
        node: None,
        result: Done::Failed,
        arch: None,
        warnings: 0,
        seconds: 10.0,
        problem: Some(Problem {
            step: Step::Connect,
            cause: "ssh: connect to host 192.0.2.22 port 22: Connection timed out".to_owned(),
            help: "is the host on, its cable in, its SSH server running?".to_owned(),
            left: None,
        }),
    }
}

fn json(value: &impl Serialize) -> String {
    document(value, Format::Json).unwrap()
}
