//! Thresholds with hysteresis: a figure that trembles around its limit raises no flag twice (HLD §6.2).

use super::Sample;
use crate::mutant::mutant;

/// Samples in a row that must agree before a flag is raised or cleared, in the order of [`NAMES`]. A busy
/// processor is no shortage until it has been busy for long: a minute, at the usual five seconds.
const SAMPLES_TO_CHANGE: [u8; 4] = [12, 2, 2, 2];

/// Raised at `raise` and above, never where that is `None`; cleared below `clear`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threshold {
    pub raise: Option<u32>,
    pub clear: u32,
}

/// Percent; degrees Celsius for the temperature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    pub cpu: Threshold,
    pub memory: Threshold,
    pub disk: Threshold,
    pub temperature: Threshold,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            cpu: Threshold { raise: Some(98), clear: 90 },
            memory: Threshold { raise: Some(95), clear: 90 },
            disk: Threshold { raise: Some(95), clear: 92 },
            temperature: Threshold { raise: Some(95), clear: 85 },
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Flag {
    raised: bool,
    /// Samples in a row that say otherwise.
    against: u8,
}

/// Remembers which figures are over their limit.
#[derive(Debug, Clone)]
pub struct Pressure {
    thresholds: Thresholds,
    flags: [Flag; 4],
}

const NAMES: [&str; 4] = ["cpu", "memory", "disk", "temperature"];

impl Pressure {
    pub fn new(thresholds: Thresholds) -> Self {
        Self { thresholds, flags: [Flag::default(); 4] }
    }

    /// Whether any flag changed. A figure that cannot be read changes nothing.
    pub fn sampled(&mut self, sample: &Sample) -> bool {
        let Thresholds { cpu, memory, disk, temperature } = self.thresholds;
        let figures = [
            (sample.cpu_percent, cpu),
            (sample.memory_percent, memory),
            (sample.disk_percent, disk),
            (sample.temperature, temperature),
        ];
        let mut changed = false;
        let flags = self.flags.iter_mut().zip(SAMPLES_TO_CHANGE);
        for ((flag, enough), (figure, threshold)) in flags.zip(figures) {
            if let Some(figure) = figure.filter(|f| f.is_finite()) {
                changed |= flag.sampled(f64::from(figure), threshold, enough);
            }
        }
        changed
    }

    /// What is over its limit, e.g. `memory, disk`; `None` where nothing is.
    pub fn raised(&self) -> Option<String> {
        let names: Vec<_> = NAMES
            .iter()
            .zip(&self.flags)
            .filter(|(_, f)| f.raised)
            .map(|(name, _)| *name)
            .collect();
        (!names.is_empty()).then(|| names.join(", "))
    }
}

impl Flag {
    fn sampled(&mut self, figure: f64, threshold: Threshold, enough: u8) -> bool {
        let otherwise = if self.raised {
            figure < f64::from(threshold.clear)
        } else {
            threshold.raise.is_some_and(|raise| figure >= f64::from(raise))
        };
        self.against = if otherwise { self.against + 1 } else { 0 };
        let enough = if mutant!("no hysteresis") { 1 } else { enough };
        if self.against < enough {
            return false;
        }
        *self = Self { raised: !self.raised, against: 0 };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(figures: &[f32], expect: &str) {
        let mut pressure = Pressure::new(Thresholds {
            memory: Threshold { raise: Some(90), clear: 80 },
            ..Thresholds::default()
        });
        let seen: String = figures
            .iter()
            .map(|figure| {
                pressure.sampled(&Sample { memory_percent: Some(*figure), ..Sample::default() });
                if pressure.raised().is_some() { '!' } else { '.' }
            })
            .collect();
        assert_eq!(seen, expect);
    }

    #[test]
    fn a_processor_must_be_busy_for_long() {
        let mut pressure = Pressure::new(Thresholds::default());
        let busy = Sample { cpu_percent: Some(100.0), ..Sample::default() };
        let changed = (0..20).position(|_| pressure.sampled(&busy));
        assert_eq!(changed, Some(11));
    }

    #[test]
    fn what_has_no_limit_is_never_over_it() {
        let cpu = Threshold { raise: None, clear: 90 };
        let mut pressure = Pressure::new(Thresholds { cpu, ..Thresholds::default() });
        let busy = Sample { cpu_percent: Some(100.0), ..Sample::default() };
        assert!((0..20).all(|_| !pressure.sampled(&busy)));
    }

    #[test]
    fn a_trembling_figure_does_not_flap() {
        check(&[89.0, 91.0, 89.0, 91.0, 89.0], ".....");
        check(&[91.0, 91.0, 85.0, 89.0, 91.0, 79.0, 79.0], ".!!!!!.");
        check(&[91.0, f32::NAN, 91.0, 79.0, 81.0, 79.0], "..!!!!");
        check(&[100.0; 4], ".!!!");
    }
}
