//! Figures over time.

use std::collections::BTreeMap;

use serde::Serialize;

use super::time;
use crate::v1;

/// `piccolo metrics list`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Figures))]
pub struct FiguresView {
    pub figures: Vec<String>,
}

/// `piccolo metrics query`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Series))]
pub struct SeriesView {
    pub figure: String,
    /// Of the first point.
    pub from: Option<String>,
    pub step_seconds: u32,
    pub rows: Vec<RowView>,
    pub truncated: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Row))]
pub struct RowView {
    pub labels: BTreeMap<String, String>,
    /// One for each step; null where nothing was seen.
    pub points: Vec<Option<f32>>,
}

impl SeriesView {
    #[must_use]
    pub fn of(figure: &str, answer: v1::QueryMetricsResponse) -> Self {
        let row = |row: v1::MetricRow| RowView {
            labels: row.labels.into_iter().collect(),
            points: row.points.into_iter().map(|p| Some(p).filter(|p| p.is_finite())).collect(),
        };
        Self {
            figure: figure.to_owned(),
            from: time(answer.from.as_ref()),
            step_seconds: answer.step_seconds,
            rows: answer.rows.into_iter().map(row).collect(),
            truncated: answer.truncated,
        }
    }
}
