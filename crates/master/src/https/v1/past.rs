//! The cluster at a past moment, as far as kept events and present nodes tell of it (HLD §14.3).

use axum::http::StatusCode;
use piccolo_core::api_server::Call;
use piccolo_rpc::{convert::wall_time, view::past::PastView};
use serde::Deserialize;

use super::{
    Answer, Shown,
    asker::{Asker, Params},
    problem::{Problem, Problems},
    watches::moment,
};

/// Which moment.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryParams {
    /// RFC 3339; not ahead.
    #[param(required, example = "2030-01-31T12:00:00Z")]
    at: Option<String>,
}

/// The cluster at a past moment: what was so, and what nothing that is kept tells.
#[utoipa::path(get, path = "/history", tag = "events", params(HistoryParams),
    responses((status = 200, description = "The cluster as it was.", body = PastView), Problems))]
pub(super) async fn get_history(
    asker: Asker,
    Params(params): Params<HistoryParams>,
) -> Answer<PastView> {
    asker.api.check(&asker.by, Call::ListEvents).await?;
    let wrong =
        |told: String| Problem::new(StatusCode::BAD_REQUEST, "InvalidField", told).field("at");
    let at = moment("at", params.at.as_deref())?
        .ok_or_else(|| wrong("at: must say which moment is asked for".to_owned()))?;
    let at = wall_time("at", &at).map_err(|error| wrong(error.to_string()))?;
    if at > asker.api.clock.now().wall {
        return Err(wrong("at: lies ahead".to_owned()));
    }
    let past = asker.api.past(at).await?;
    Ok(Shown::ok(PastView::from(&past)))
}
