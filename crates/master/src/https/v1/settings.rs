//! The master's own settings, as they are in force (HLD §12).

use piccolo_core::api_server::Call;
use serde::Serialize;

use super::{Answer, Shown, asker::Asker, problem::Problems};
use crate::config::Said;

/// The settings of the master that answers, in the order of its template.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Settings {
    settings: Vec<Setting>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Setting {
    /// As in master.yaml: `section.name`.
    key: &'static str,
    /// As in the environment, on one line; empty where it is not set. None is a secret.
    value: String,
    /// A line of a file, a variable, or a flag; absent: its default.
    said_by: Option<String>,
}

/// Which settings are in force, and who said so.
#[utoipa::path(get, path = "/settings", tag = "cluster",
    responses((status = 200, description = "All of them.", body = Settings), Problems))]
pub(super) async fn get_settings(asker: Asker) -> Answer<Settings> {
    asker.api.check(&asker.by, Call::GetSettings).await?;
    let setting = |said: &Said| Setting {
        key: said.key,
        value: said.value.clone(),
        said_by: said.by.clone(),
    };
    Ok(Shown::ok(Settings { settings: asker.api.settings.iter().map(setting).collect() }))
}
