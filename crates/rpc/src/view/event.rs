//! What happened.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{time, words};
use crate::v1;

/// `piccolo events`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Events))]
pub struct EventsView {
    pub events: Vec<EventView>,
    pub first_kept_id: u64,
    pub last_id: u64,
}

impl From<&v1::ListEventsResponse> for EventsView {
    fn from(listed: &v1::ListEventsResponse) -> Self {
        Self {
            events: listed.events.iter().map(EventView::from).collect(),
            first_kept_id: listed.first_kept_id,
            last_id: listed.last_id,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Event))]
pub struct EventView {
    pub id: u64,
    /// By the clock of whom it happened to.
    pub at: Option<String>,
    pub severity: String,
    pub kind: String,
    /// Absent for the cluster itself.
    pub node_id: Option<String>,
    pub node_name: Option<String>,
    pub message: String,
    pub node_sequence: u64,
    pub fields: BTreeMap<String, String>,
    /// Recorded while the node was alone.
    pub delivered_late: bool,
}

impl From<&v1::Event> for EventView {
    fn from(event: &v1::Event) -> Self {
        let known = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        Self {
            id: event.id,
            at: time(event.at.as_ref()),
            severity: words::severity(event.severity),
            kind: event.kind.clone(),
            node_id: known(&event.node_id),
            node_name: known(&event.node_name),
            message: event.message.clone(),
            node_sequence: event.node_sequence,
            fields: event.fields.clone().into_iter().collect(),
            delivered_late: event.delivered_late,
        }
    }
}

/// One document of `piccolo events --watch -o json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = WatchEvent))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum WatchEventView {
    Event { event: EventView },
    Missed { first_id: u64, last_id: u64 },
}
