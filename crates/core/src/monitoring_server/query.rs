//! A figure over a range of time, in steps: of one node or container, or of many together (HLD §11.1).

use std::{collections::BTreeMap, time::Duration};

use super::{
    MonitoringServer, NodeHistory, SeriesName,
    history::{LEVELS, Series, millis},
};
use crate::{
    api_server::{Code, Refusal, Selector},
    model::{FieldError, check_label_key},
    time::WallTime,
};

/// Points of a row at most.
pub const POINTS_MAX: usize = 3_000;
/// Rows of an answer at most.
pub const ROWS_MAX: usize = 1_000;
/// Steps of all series together at most: nobody may hold up the master with a question.
pub const WORK_MAX: usize = 300_000;
/// Labels to group by at most.
pub const BY_MAX: usize = 8;
/// Names that a refusal tells of what there is.
const NAMES_TOLD_MAX: usize = 64;

/// How several values become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Aggregate {
    #[default]
    Mean,
    Min,
    Max,
    Sum,
}

impl Aggregate {
    pub const ALL: [Self; 4] = [Self::Mean, Self::Min, Self::Max, Self::Sum];

    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Min => "min",
            Self::Max => "max",
            Self::Sum => "sum",
        }
    }

    /// # Errors
    /// The name is none of these.
    pub fn parse(field: &str, name: &str) -> Result<Self, FieldError> {
        let known = Self::ALL.into_iter().find(|aggregate| aggregate.name() == name);
        known.ok_or_else(|| {
            FieldError::new(field, format!("{name:?} is none of mean, min, max, sum"))
        })
    }
}

#[derive(Debug, Clone)]
pub struct Query {
    /// As the node names it, e.g. `cpu_percent`.
    pub figure: String,
    /// Which nodes.
    pub nodes: Selector,
    /// `None`: of the nodes themselves. A name that is empty: of all containers.
    pub container: Option<String>,
    pub from: WallTime,
    pub until: WallTime,
    pub step: Duration,
    /// `node`, `container`, or a label of the node, such as `soc` and `board`; nothing is one row for all.
    pub by: Vec<String>,
    /// What becomes of the series of one row.
    pub across: Aggregate,
}

/// One row for each combination of the labels that was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub labels: BTreeMap<String, String>,
    /// One for each step; `None` where nothing was seen.
    pub points: Vec<Option<f32>>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Of the first point; each stands for the step that it begins.
    pub from: WallTime,
    pub step: Duration,
    pub rows: Vec<Row>,
    /// There were more rows than may be told.
    pub truncated: bool,
}

impl Query {
    /// # Errors
    /// Names the field that makes no sense.
    pub fn check(&self) -> Result<(), Refusal> {
        if self.figure.is_empty() {
            return Err(FieldError::new("figure", "is empty").into());
        }
        if self.until <= self.from {
            return Err(FieldError::new("until", "is not after from").into());
        }
        if self.step < LEVELS[0].step {
            return Err(
                FieldError::new("step", "is less than 10 s, the finest that is kept").into()
            );
        }
        if self.steps() > POINTS_MAX {
            let problem = format!("gives {} points, more than {POINTS_MAX}", self.steps());
            return Err(Refusal::from(FieldError::new("step", problem))
                .help("a longer step, or a shorter range"));
        }
        if self.by.len() > BY_MAX {
            return Err(FieldError::new("by", format!("has more than {BY_MAX} labels")).into());
        }
        for label in &self.by {
            check_label_key("by", label)?;
        }
        Ok(())
    }

    fn steps(&self) -> usize {
        let range = self.until.0.saturating_sub(self.from.0);
        usize::try_from(range.div_euclid(millis(self.step)) + 1).unwrap_or(usize::MAX)
    }

    /// The finest level that is not finer than the step, and reaches back as far: or the coarsest.
    fn level(&self, now: WallTime) -> usize {
        let back = now.since(self.from);
        let fits = |level: &super::history::Level| {
            let slots = u32::try_from(level.slots).unwrap_or(u32::MAX);
            back <= level.step * slots
        };
        let coarsest_that_fits = LEVELS.iter().rposition(|level| level.step <= self.step);
        let finest_that_reaches = LEVELS.iter().position(fits);
        coarsest_that_fits.unwrap_or(0).max(finest_that_reaches.unwrap_or(LEVELS.len() - 1))
    }
}

impl MonitoringServer {
    /// # Errors
    /// [`Query::check`]'s, and where something is named that is not there.
    pub fn query(&self, now: WallTime, query: &Query) -> Result<Answer, Refusal> {
        query.check()?;
        let level = query.level(now);
        // a step is made of whole slots, and begins with one
        let slot = LEVELS[level].step;
        let step = slot
            * u32::try_from(query.step.as_millis().div_ceil(slot.as_millis())).unwrap_or(u32::MAX);
        let from = WallTime(query.from.0.div_euclid(millis(step)) * millis(step));
        let mut groups: BTreeMap<Vec<String>, Vec<&Series>> = BTreeMap::new();
        let mut asked = 0_usize;
        for node in self.nodes.values().filter(|node| query.nodes.selects(&node.record)) {
            for (name, series) in node.series.iter().filter(|(name, _)| asked_for(query, name)) {
                let labels = query.by.iter().map(|label| label_of(node, name, label)).collect();
                groups.entry(labels).or_default().push(series);
                asked += 1;
            }
        }
        if groups.is_empty() {
            self.check_names(query)?;
        }
        if asked.saturating_mul(query.steps()) > WORK_MAX {
            let problem = format!("gives {} points for each of {asked} series", query.steps());
            return Err(Refusal::from(FieldError::new("step", problem))
                .help("a longer step, a shorter range, or fewer nodes"));
        }
        let truncated = groups.len() > ROWS_MAX;
        let row = |(values, series): (Vec<String>, Vec<&Series>)| Row {
            labels: query.by.iter().cloned().zip(values).collect(),
            points: points(&series, level, (from, query.until, step), query.across),
        };
        let rows = groups.into_iter().take(ROWS_MAX).map(row).collect();
        Ok(Answer { from, step, rows, truncated })
    }

    /// Where there is nothing to show: whether what is named is there at all. Before anything was told, every figure may
    /// come yet.
    fn check_names(&self, query: &Query) -> Result<(), Refusal> {
        let records = self.nodes.values().map(|node| node.record.as_ref());
        if let Some(name) = query.nodes.missing(records.clone()) {
            let there = listed(records.map(|record| record.name.as_str()));
            let told = format!("there is no node {name:?}; there is {there}");
            return Err(not_there("filter", "NoSuchNode", &told).help("piccolo node list"));
        }
        let of_containers = query.container.is_some();
        let known = self.figures(of_containers);
        if known.is_empty() || known.contains(&query.figure) {
            return Ok(());
        }
        let shown: String = query.figure.chars().filter(|c| !c.is_control()).take(80).collect();
        let whose = if of_containers { "containers" } else { "nodes" };
        let there = listed(known.iter().map(String::as_str));
        let told = format!("there is no figure {shown:?} of {whose}; there is {there}");
        Err(not_there("figure", "NoSuchFigure", &told).help("piccolo metrics list"))
    }

    /// The names of all figures that are remembered; of containers where `containers`.
    pub fn figures(&self, containers: bool) -> Vec<String> {
        let names = self.nodes.values().flat_map(|node| node.series.keys());
        let mut figures: Vec<_> = names
            .filter(|name| name.container.is_empty() != containers)
            .map(|name| name.figure.clone())
            .collect();
        figures.sort_unstable();
        figures.dedup();
        figures
    }
}

fn not_there(field: &str, reason: &'static str, told: &str) -> Refusal {
    let refusal = Refusal::new(Code::NotFound, reason, format!("{field}: {told}"));
    Refusal { field: Some(field.to_owned()), ..refusal }
}

/// The first of these names.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<_> = names.take(NAMES_TOLD_MAX + 1).collect();
    if names.len() > NAMES_TOLD_MAX {
        names[NAMES_TOLD_MAX] = "and more";
    }
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn asked_for(query: &Query, name: &SeriesName) -> bool {
    let container = match &query.container {
        None => name.container.is_empty(),
        Some(all) if all.is_empty() => !name.container.is_empty(),
        Some(one) => name.container == *one,
    };
    container && name.figure == query.figure
}

/// Empty where the node has no such label.
fn label_of(node: &NodeHistory, name: &SeriesName, label: &str) -> String {
    match label {
        "node" => node.record.name.to_string(),
        "container" => name.container.clone(),
        label => node.record.labels.get(label).cloned().unwrap_or_default(),
    }
}

fn points(
    series: &[&Series],
    level: usize,
    (from, until, step): (WallTime, WallTime, Duration),
    across: Aggregate,
) -> Vec<Option<f32>> {
    let step = millis(step);
    let steps = until.0.saturating_sub(from.0).saturating_add(step - 1).div_euclid(step);
    let point = |index: i64| {
        let begin = WallTime(from.0.saturating_add(index * step));
        let seen = series
            .iter()
            .map(|series| series.within(level, begin, WallTime(begin.0.saturating_add(step))))
            .filter(|bucket| !bucket.is_gap());
        let values = seen.map(|bucket| match across {
            Aggregate::Mean | Aggregate::Sum => bucket.mean,
            Aggregate::Min => bucket.min,
            Aggregate::Max => bucket.max,
        });
        together(values, across)
    };
    (0..steps).map(point).collect()
}

fn together(values: impl Iterator<Item = f32>, across: Aggregate) -> Option<f32> {
    let (mut count, mut all) = (0.0_f32, None);
    for value in values {
        count += 1.0;
        all = Some(match (all, across) {
            (None, _) => value,
            (Some(all), Aggregate::Mean | Aggregate::Sum) => all + value,
            (Some(all), Aggregate::Min) => value.min(all),
            (Some(all), Aggregate::Max) => value.max(all),
        });
    }
    all.map(|all| if across == Aggregate::Mean { all / count } else { all })
}
