//! Figures over time (HLD §11.1).

use piccolo_core::{api_server::Call, state_manager::Input};
use piccolo_rpc::{convert::metrics_query, v1};
use tonic::{Request as Asked, Response};

use super::{Answered, Api};

pub(super) async fn query_metrics(
    api: &Api,
    request: Asked<v1::QueryMetricsRequest>,
) -> Answered<v1::QueryMetricsResponse> {
    let call = Call::QueryMetrics;
    let by = api.admit_read(&request, call).await?;
    let request = request.into_inner();
    let live = request.live;
    let query = match metrics_query(request, api.clock.now().wall) {
        Ok(query) => query,
        Err(refusal) => return Err(api.refuse(by, call, refusal).await),
    };
    if live {
        api.state.tell(Input::Watched { nodes: query.nodes.clone() }).await;
    }
    if query.figure.is_empty() {
        let figures = api.monitoring.figures(query.container.is_some());
        return Ok(Response::new(v1::QueryMetricsResponse { figures, ..Default::default() }));
    }
    match api.monitoring.query(&query) {
        Ok(answer) => Ok(Response::new(answer.into())),
        Err(refusal) => Err(api.refuse(by, call, refusal).await),
    }
}
