//! Figures that no master heard (HLD §1.2.3, §11.1): kept by the minute while there is no session, in memory,
//! and told on the next one.
//!
//! Their time is that of the monotonic clock: what is told is how long ago it was, because wall clocks differ.

use std::collections::BTreeMap;

use crate::{
    monitoring_server::{
        SeriesName,
        history::{Bucket, Ring, as_i64},
    },
    session::{
        MISSED_BUCKETS_MAX, MISSED_SERIES_MAX, MISSED_SLOTS_MAX, MISSED_STEP, MissedFigures,
        MissedSeries,
    },
    time::Timestamp,
};

#[derive(Debug, Default)]
pub(super) struct Missed {
    rings: BTreeMap<SeriesName, Ring>,
    /// On the session that is open.
    told: bool,
}

impl Missed {
    pub(super) fn sampled(&mut self, now: Timestamp, name: SeriesName, value: f32) {
        if !self.rings.contains_key(&name) {
            if self.rings.len() >= MISSED_SERIES_MAX {
                return;
            }
            self.rings.insert(name.clone(), Ring::default());
            let slots = self.slots_max();
            self.rings.values_mut().for_each(|ring| ring.trim(slots));
        }
        let slots = self.slots_max();
        if let Some(ring) = self.rings.get_mut(&name) {
            ring.add(slot(now), Bucket::of(value), slots);
        }
    }

    /// What there is to tell. It is kept until [`Self::heard`].
    pub(super) fn tell(&mut self, now: Timestamp) -> Option<MissedFigures> {
        let end = self.rings.values().map(Ring::end).max()?;
        let first = self.rings.values().map(Ring::first).min()?.max(end - as_i64(self.slots_max()));
        self.told = true;
        let series = |(name, ring): (&SeriesName, &Ring)| MissedSeries {
            name: name.clone(),
            buckets: ring.slots(first, end),
        };
        let begun = MISSED_STEP * u32::try_from(first).unwrap_or(0);
        Some(MissedFigures {
            age: now.since(Timestamp(0)).saturating_sub(begun),
            series: self.rings.iter().map(series).collect(),
        })
    }

    /// The session lives on: what was told on it has arrived.
    pub(super) fn heard(&mut self) {
        if self.told {
            *self = Self::default();
        }
    }

    /// What was told on it may be lost.
    pub(super) fn session_lost(&mut self) {
        self.told = false;
    }

    /// With many series each of them goes less far back.
    fn slots_max(&self) -> usize {
        (MISSED_BUCKETS_MAX / self.rings.len().max(1)).min(MISSED_SLOTS_MAX)
    }
}

fn slot(at: Timestamp) -> i64 {
    let seconds = at.since(Timestamp(0)).as_secs() / MISSED_STEP.as_secs().max(1);
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn name(figure: &str) -> SeriesName {
        SeriesName { figure: figure.to_owned(), ..SeriesName::default() }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn means(missed: &MissedFigures, index: usize) -> Vec<Option<f32>> {
        let mean = |b: &Bucket| (!b.is_gap()).then_some(b.mean);
        missed.series[index].buckets.iter().map(mean).collect()
    }

    #[test]
    fn what_nobody_heard_is_told_by_the_minute_and_forgotten_once_it_was_heard() {
        let mut missed = Missed::default();
        assert_eq!(missed.tell(at(600)), None);
        for (second, cpu) in [(610, 10.0), (630, 20.0), (700, 40.0)] {
            missed.sampled(at(second), name("cpu"), cpu);
        }
        missed.sampled(at(725), name("load"), 1.0);
        let told = missed.tell(at(730)).unwrap();
        assert_eq!(told.age, Duration::from_secs(130));
        assert_eq!(means(&told, 0), [Some(15.0), Some(40.0), None]);
        assert_eq!(means(&told, 1), [None, None, Some(1.0)]);
        missed.session_lost();
        missed.heard();
        assert!(missed.tell(at(800)).is_some(), "nobody knows whether it arrived");
        missed.heard();
        assert_eq!(missed.tell(at(900)), None);
    }

    #[test]
    fn months_alone_and_any_number_of_names_stay_within_bounds() {
        let mut missed = Missed::default();
        for minute in 0..3000 {
            for figure in 0..8 {
                missed.sampled(at(minute * 60), name(&format!("figure {figure}")), 1.0);
            }
        }
        let told = missed.tell(at(3000 * 60)).unwrap();
        assert_eq!(told.check(), Ok(()));
        assert_eq!(told.series[0].buckets.len(), MISSED_SLOTS_MAX);
        for figure in 0..2 * MISSED_SERIES_MAX {
            missed.sampled(at(3000 * 60), name(&format!("made up {figure}")), 1.0);
        }
        let told = missed.tell(at(3000 * 60)).unwrap();
        assert_eq!((told.check(), told.series.len()), (Ok(()), MISSED_SERIES_MAX));
    }
}
