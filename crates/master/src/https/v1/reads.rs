//! What can be looked at: nodes, status, topology, events, figures.

use std::time::Duration;

use axum::{Extension, body::Bytes, extract::RawQuery, http::StatusCode, response::Response};
use piccolo_core::{api_server::Call, time::WallTime};
use piccolo_rpc::{
    convert::timestamp,
    v1::{self, api_server_service_server::ApiServerService as _},
    view::{
        cluster::StatusView, event::EventView, metrics::FiguresView, metrics::SeriesView,
        node::NodeView, topology::TopologyView,
    },
};
use serde::{Deserialize, Serialize};

use super::{
    Answer, Shown,
    asker::{Asker, Named, Params},
    cache::{Newest, Which},
    page::{Page, PageParams, check_limit},
    problem::{Problem, Problems},
    tags::{IfNoneMatch, Unchanged},
};

/// Of a list of nodes.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct NodesParams {
    /// Terms joined by commas, all of which must hold: `key=value`, `key!=value`, `key~part`, with the keys `id`,
    /// `name`, `ip`, `role`, `kind`, `status`, `label.KEY`.
    #[param(example = "status=Ready,label.zone=a")]
    filter: Option<String>,
    /// Items at most.
    #[param(minimum = 1, maximum = 1000, default = 500)]
    limit: Option<u32>,
    /// What the page before said.
    #[serde(rename = "continue")]
    go_on: Option<String>,
}

/// Nodes, in the order of their ids.
#[utoipa::path(
    get,
    path = "/nodes",
    tag = "nodes",
    params(NodesParams, IfNoneMatch),
    responses((status = 200, description = "A page of nodes.", body = Page<NodeView>), Unchanged, Problems)
)]
pub(super) async fn list_nodes(
    asker: Asker,
    Params(params): Params<NodesParams>,
    Extension(newest): Extension<Newest>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let (query, revision) = (query.unwrap_or_default(), asker.api.board.revision());
    let which = Which { query, revision };
    if let Some(list) = newest.find(&which) {
        asker.api.check(&asker.by, Call::GetNodes).await?;
        return Ok(Shown::ok(list).tagged(revision).written());
    }
    let page = PageParams { limit: params.limit, go_on: params.go_on };
    let request = asker.request(v1::GetNodesRequest { filter: params.filter, at: None });
    let listed = asker.api.get_nodes(request).await?.into_inner();
    let (nodes, revision) = (listed.nodes, listed.revision);
    let page = Page::of(nodes, revision, &page, |node| &node.id, |node| NodeView::from(node))?;
    let list = Bytes::from(serde_json::to_vec(&page).unwrap_or_default());
    newest.keep(Which { revision, ..which }, list.clone());
    Ok(Shown::ok(list).tagged(revision).written())
}

/// One node, by id or name.
#[utoipa::path(
    get,
    path = "/nodes/{node}",
    tag = "nodes",
    params(("node" = String, Path, description = "Id or name."), IfNoneMatch),
    responses(
        (status = 200, description = "The node.", body = NodeView),
        Unchanged,
        (status = 404, description = "There is no such node.", body = Problem, content_type = "application/problem+json"),
        Problems
    )
)]
pub(super) async fn get_node(asker: Asker, Named(node): Named) -> Answer<NodeView> {
    let request = asker.request(v1::GetNodeRequest { node_id: node });
    let node = asker.api.get_node(request).await?.into_inner().node.unwrap_or_default();
    Ok(Shown::ok(NodeView::from(&node)).tagged(node.revision))
}

/// Is the cluster well, and if not, what is wrong?
#[utoipa::path(
    get,
    path = "/status",
    tag = "cluster",
    responses((status = 200, description = "The cluster.", body = StatusView), Problems)
)]
pub(super) async fn get_status(asker: Asker) -> Answer<StatusView> {
    let request = asker.request(v1::GetClusterStatusRequest {});
    let status = asker.api.get_cluster_status(request).await?.into_inner();
    let request = asker.request(v1::GetNodesRequest::default());
    let mut nodes = asker.api.get_nodes(request).await?.into_inner().nodes;
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Shown::ok(StatusView::new(&status, &nodes)))
}

/// The topology and its configuration.
#[utoipa::path(
    get,
    path = "/topology",
    tag = "topology",
    params(IfNoneMatch),
    responses((status = 200, description = "The topology; its ETag is its generation.", body = TopologyView), Unchanged, Problems)
)]
pub(super) async fn get_topology(asker: Asker) -> Answer<TopologyView> {
    let request = asker.request(v1::GetTopologyRequest {});
    let topology = asker.api.get_topology(request).await?.into_inner().topology.unwrap_or_default();
    Ok(Shown::ok(TopologyView::from(&topology)).tagged(topology.generation))
}

#[derive(Debug, Clone, Copy, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum SeverityParam {
    Info,
    Warning,
    Critical,
}

impl SeverityParam {
    pub(super) fn wire(severity: Option<Self>) -> i32 {
        let severity = match severity {
            None => v1::Severity::Unspecified,
            Some(Self::Info) => v1::Severity::Info,
            Some(Self::Warning) => v1::Severity::Warning,
            Some(Self::Critical) => v1::Severity::Critical,
        };
        severity.into()
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum OrderParam {
    #[default]
    Asc,
    Desc,
}

impl OrderParam {
    /// Forth from `after`, or back from `before`.
    pub(super) fn check(self, after: Option<u64>, before: Option<u64>) -> Result<(), Problem> {
        let fail = |field: &'static str, told: &str| {
            let detail = format!("{field}: {told}");
            Err(Problem::new(StatusCode::BAD_REQUEST, "InvalidField", detail).field(field))
        };
        match (self, after, before) {
            (Self::Desc, Some(_), _) => fail("after", "does not go with order=desc"),
            (Self::Asc, _, Some(_)) => fail("before", "goes with order=desc alone"),
            (_, _, Some(0)) => fail("before", "there is none before the first, which is 1"),
            (Self::Asc | Self::Desc, _, _) => Ok(()),
        }
    }

    /// Entries of a log in this order, and the id of the one to go on from, where there may be more of those that are
    /// `kept`, from the first to the last.
    pub(super) fn page<T>(
        self,
        mut entries: Vec<T>,
        id: impl Fn(&T) -> u64,
        (first, last): (u64, u64),
        limit: usize,
        after: Option<u64>,
    ) -> (Vec<T>, Option<u64>) {
        let backwards = self == Self::Desc;
        if backwards {
            entries.reverse();
        }
        let has_more = |id: &u64| {
            let more = if backwards { *id > first } else { *id < last };
            more && entries.len() == limit && (backwards || after.is_some())
        };
        let go_on = entries.last().map(id).filter(has_more);
        (entries, go_on)
    }
}

/// Which events.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsParams {
    /// The oldest after this event, instead of the newest.
    after: Option<u64>,
    /// With `order=desc`: the newest before this event.
    #[param(minimum = 1)]
    before: Option<u64>,
    /// `asc`: in the order in which they came; `desc`: the newest first, page by page back to the oldest.
    #[serde(default)]
    #[param(inline)]
    order: OrderParam,
    /// Events at most.
    #[param(minimum = 1, maximum = 1000, default = 500)]
    limit: Option<u32>,
    /// Of one node, by id or name.
    node: Option<String>,
    /// At least so severe.
    #[param(inline)]
    severity: Option<SeverityParam>,
}

/// Events, in the order that was asked for.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct EventPage {
    items: Vec<EventView>,
    /// The newest event that there is, whether it is among these or not.
    revision: u64,
    /// The oldest event that is kept.
    first_kept_id: u64,
    /// For `after`, or with `order=desc` for `before`, where there may be more.
    #[serde(rename = "continue", skip_serializing_if = "Option::is_none")]
    go_on: Option<u64>,
}

/// The newest events, or those after one or before one.
#[utoipa::path(
    get,
    path = "/events",
    tag = "events",
    params(EventsParams),
    responses((status = 200, description = "Events.", body = EventPage), Problems)
)]
pub(super) async fn list_events(
    asker: Asker,
    Params(params): Params<EventsParams>,
) -> Answer<EventPage> {
    params.order.check(params.after, params.before)?;
    let limit = check_limit(params.limit)?;
    let request = asker.request(v1::ListEventsRequest {
        after_id: params.after.unwrap_or(0),
        limit: limit as u32,
        node: params.node.unwrap_or_default(),
        minimum_severity: SeverityParam::wire(params.severity),
        newest: params.after.is_none(),
        before_id: params.before.unwrap_or(0),
    });
    let listed = asker.api.list_events(request).await?.into_inner();
    let (first_kept_id, last_id) = (listed.first_kept_id, listed.last_id);
    let kept = (first_kept_id, last_id);
    let (events, go_on) =
        params.order.page(listed.events, |event| event.id, kept, limit, params.after);
    Ok(Shown::ok(EventPage {
        items: events.iter().map(EventView::from).collect(),
        revision: last_id,
        first_kept_id,
        go_on,
    }))
}

/// Of nodes, or of their containers.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct FiguresParams {
    /// Of containers instead of nodes.
    #[serde(default)]
    containers: bool,
}

/// Which figures there are.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "metrics",
    params(FiguresParams),
    responses((status = 200, description = "Their names.", body = FiguresView), Problems)
)]
pub(super) async fn list_figures(
    asker: Asker,
    Params(params): Params<FiguresParams>,
) -> Answer<FiguresView> {
    let container = params.containers.then(String::new);
    let request = asker.request(v1::QueryMetricsRequest { container, ..Default::default() });
    let figures = asker.api.query_metrics(request).await?.into_inner().figures;
    Ok(Shown::ok(FiguresView { figures }))
}

#[derive(Debug, Clone, Copy, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum AcrossParam {
    #[default]
    Mean,
    Min,
    Max,
    Sum,
}

/// Of one figure over time.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct QueryParams {
    /// Of which nodes; as for nodes.
    filter: Option<String>,
    /// Of one container by its name, or, where it is empty, of each; absent: of the nodes themselves.
    container: Option<String>,
    /// Seconds before `until`.
    #[param(minimum = 1, default = 3600)]
    since_seconds: Option<u32>,
    /// Seconds since 1970; absent: now.
    until: Option<i64>,
    /// 10 at least, rounded up to what is kept; absent: about sixty points.
    step_seconds: Option<u32>,
    /// A row for each combination of these, joined by commas: `node`, `container`, or the key of a node's label.
    by: Option<String>,
    /// What becomes of many.
    #[serde(default)]
    #[param(inline)]
    across: AcrossParam,
    /// Somebody looks, and asks again soon: the nodes sample every second for a quarter of a minute.
    live: Option<bool>,
}

/// A figure over time.
#[utoipa::path(
    get,
    path = "/metrics/{figure}",
    tag = "metrics",
    params(("figure" = String, Path, description = "As the list names it.", example = "cpu_percent"), QueryParams),
    responses(
        (status = 200, description = "A row for each series.", body = SeriesView),
        (status = 404, description = "There is no such figure, or no such node.", body = Problem, content_type = "application/problem+json"),
        Problems
    )
)]
pub(super) async fn query_metrics(
    asker: Asker,
    Named(figure): Named,
    Params(params): Params<QueryParams>,
) -> Answer<SeriesView> {
    let now = asker.api.clock.now().wall;
    let until = params.until.map_or(now, WallTime::from_secs);
    let since = Duration::from_secs(params.since_seconds.unwrap_or(3600).into());
    let from =
        WallTime(until.0.saturating_sub(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)));
    let by = params.by.unwrap_or_default();
    let request = asker.request(v1::QueryMetricsRequest {
        figure: figure.clone(),
        filter: params.filter.unwrap_or_default(),
        container: params.container,
        from: Some(timestamp(from)),
        until: Some(timestamp(until)),
        step_seconds: params.step_seconds.unwrap_or(0),
        by: by.split(',').filter(|label| !label.is_empty()).map(str::to_owned).collect(),
        across: match params.across {
            AcrossParam::Mean => "mean",
            AcrossParam::Min => "min",
            AcrossParam::Max => "max",
            AcrossParam::Sum => "sum",
        }
        .to_owned(),
        live: params.live.unwrap_or(false),
    });
    let answer = asker.api.query_metrics(request).await?.into_inner();
    Ok(Shown::ok(SeriesView::of(&figure, answer)))
}
