//! Figures over time: queries, and what was missed (HLD §11.1).

use std::time::Duration;

use piccolo_core::{
    api_server::{Refusal, Selector},
    model::{FieldError, check_text},
    monitoring_server::{
        SeriesName,
        history::{Bucket, LEVELS},
        query::{Aggregate, Answer, Query, Row},
    },
    session::{MissedFigures, MissedSeries},
    time::WallTime,
};

use super::{optional_time, timestamp, whole_seconds};
use crate::v1;

/// Of a range for which none was asked.
const RANGE: Duration = Duration::from_secs(3600);
/// Of a range for which no step was asked, about.
const POINTS: u64 = 60;
/// Bytes of a figure's, a container's or a label's name at most.
const NAME_BYTES_MAX: usize = 256;

/// A query from outside, with what was left out put in.
///
/// # Errors
/// Names the field that cannot be read; whether it makes sense, `Query::check` says.
pub fn metrics_query(wire: v1::QueryMetricsRequest, now: WallTime) -> Result<Query, Refusal> {
    let v1::QueryMetricsRequest {
        figure,
        filter,
        container,
        from,
        until,
        step_seconds,
        by,
        across,
        live: _,
    } = wire;
    check_text("figure", &figure, NAME_BYTES_MAX)?;
    check_text("container", container.as_deref().unwrap_or_default(), NAME_BYTES_MAX)?;
    for (index, label) in by.iter().enumerate() {
        check_text(format_args!("by[{index}]"), label, NAME_BYTES_MAX)?;
        if label.is_empty() {
            return Err(FieldError::new(format!("by[{index}]"), "is empty").into());
        }
    }
    // the slot that has begun is part of it
    let until = optional_time("until", until.as_ref())?.unwrap_or(WallTime(now.0 + 1));
    let range = i64::try_from(RANGE.as_millis()).unwrap_or(i64::MAX);
    let from = optional_time("from", from.as_ref())?.unwrap_or(WallTime(until.0 - range));
    let step = match step_seconds {
        0 => (until.since(from).as_secs() / POINTS).max(LEVELS[0].step.as_secs()),
        seconds => seconds.into(),
    };
    let across = match across.as_str() {
        "" => Aggregate::default(),
        name => Aggregate::parse("across", name)?,
    };
    let (nodes, step) = (Selector::parse(&filter)?, Duration::from_secs(step));
    Ok(Query { figure, nodes, container, from, until, step, by, across })
}

impl From<Answer> for v1::QueryMetricsResponse {
    fn from(Answer { from, step, rows, truncated }: Answer) -> Self {
        Self {
            from: Some(timestamp(from)),
            step_seconds: whole_seconds(step),
            rows: rows.into_iter().map(Into::into).collect(),
            truncated,
            figures: Vec::new(),
        }
    }
}

impl From<Row> for v1::MetricRow {
    fn from(Row { labels, points }: Row) -> Self {
        let points = points.into_iter().map(|point| point.unwrap_or(f32::NAN)).collect();
        Self { labels: labels.into_iter().collect(), points }
    }
}

impl TryFrom<v1::MissedFigures> for MissedFigures {
    type Error = FieldError;

    fn try_from(wire: v1::MissedFigures) -> Result<Self, FieldError> {
        let series = wire.series.into_iter().enumerate().map(|(i, series)| {
            let (slots, field) = (series.mean.len(), format!("series[{i}].mean"));
            if [series.min.len(), series.max.len(), series.count.len()] != [slots; 3] {
                return Err(FieldError::new(
                    field,
                    "has not as many entries as min, max and count",
                ));
            }
            let values = series.mean.into_iter().zip(series.min).zip(series.max).zip(series.count);
            let bucket = |(((mean, min), max), count)| Bucket { mean, min, max, count };
            let name = SeriesName { container: series.container, figure: series.figure };
            Ok(MissedSeries { name, buckets: values.map(bucket).collect() })
        });
        Ok(Self {
            age: Duration::from_millis(wire.age_ms),
            series: series.collect::<Result<_, _>>()?,
        })
    }
}

impl From<MissedFigures> for v1::MissedFigures {
    fn from(MissedFigures { age, series }: MissedFigures) -> Self {
        let series = series.into_iter().map(|MissedSeries { name, buckets }| {
            let of = |value: fn(&Bucket) -> f32| buckets.iter().map(value).collect();
            v1::MissedSeries {
                container: name.container,
                figure: name.figure,
                mean: of(|bucket| bucket.mean),
                min: of(|bucket| bucket.min),
                max: of(|bucket| bucket.max),
                count: buckets.iter().map(|bucket| bucket.count).collect(),
            }
        });
        Self {
            age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
            series: series.collect(),
        }
    }
}
