//! The health of the hardware (HLD §7.2.3): what a look at the board has read, judged by limits with hysteresis.
//!
//! A look is a list of [`Reading`]s, made beside the loop because a failing disk may hold up who asks it. What
//! each [`Sign`] means is one table, [`law`]. A level is a problem while it is beyond its limit, a counter when
//! it has grown by too much within an hour: what it counted before the agent started is no news. A problem is
//! over after some looks in a row without it, so that nothing flaps.
//!
//! What never answers holds up its reader for ever: that is told with each sample, and a [`Wait`] for long is a
//! problem too.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use super::{Effect, NodeAgent, observe::printable};
use crate::{
    model::{CheckLevel, ConditionKind, EventKind, FINDINGS_MAX, Finding, Severity, SystemCheck},
    mutant::mutant,
    time::{Deadline, Now, Timestamp},
};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Looks in a row without a problem until it is over.
pub const LOOKS_TO_CLEAR: u8 = 5;
/// Within which a counter may not grow by more than its limit.
const HOUR: Duration = Duration::from_secs(3600);
/// Of a wait, which is told in such steps, so that it is no news with each sample.
const WAIT_STEP_S: u64 = 30;
/// The conditions that follow from a look.
const CONDITIONS: [ConditionKind; 3] =
    [ConditionKind::HardwareDegraded, ConditionKind::Throttled, ConditionKind::PowerLow];

/// Things that are waited for at a time, at most: the sampler and a look wait for one each.
const WAITS_MAX: usize = 2;
/// Readings of one look at most; one is left for what is missing, and some for what waits.
pub const READINGS_MAX: usize = FINDINGS_MAX - 1 - WAITS_MAX;

/// What is still good; `None` is never judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    pub flash_life_percent: Option<u32>,
    pub battery_percent: Option<u32>,
    pub disk_errors_per_hour: Option<u32>,
    pub ecc_errors_per_hour: Option<u32>,
    pub throttles_per_hour: Option<u32>,
    /// Whether something has to feed a watchdog.
    pub watchdog_required: bool,
    /// Parts that are shown and never judged: their sensors tell lies.
    pub ignore: Vec<String>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            flash_life_percent: Some(80),
            battery_percent: Some(20),
            disk_errors_per_hour: Some(5),
            ecc_errors_per_hour: Some(10),
            throttles_per_hour: Some(10),
            watchdog_required: false,
            ignore: Vec::new(),
        }
    }
}

/// What can be read of hardware.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// Degrees Celsius; the limit is the part's own, where the board protects itself.
    Heat,
    /// Degrees Celsius; the limit is the part's own, from where the kernel slows the processor down.
    PassiveHeat,
    /// 1 while something makes it slower than it could be.
    Slowed,
    /// How often it has slowed itself down since boot.
    Throttles,
    /// The clock it may have, in percent of what it could have: somebody may have wanted that.
    ClockCap,
    /// 1 while a supply is too low.
    VoltageLow,
    /// Percent, while nothing feeds it.
    Battery,
    /// Percent, while something feeds it.
    Charging,
    /// Percent of the life of the flash that is used up.
    FlashWear,
    /// Requests that failed since boot.
    DiskErrors,
    /// 1 where the kernel has given the device up.
    DiskGone,
    /// That the file system has recorded since it was last mended.
    FileSystemErrors,
    /// 1 where a file system became read-only because of errors.
    ReadOnly,
    /// Errors of the memory that were corrected since boot.
    EccCorrected,
    /// And those that were not.
    EccUncorrected,
    /// 1 while something feeds it.
    Watchdog,
    /// 1 where nothing feeds one, and something should.
    NoWatchdog,
    /// Seconds since it was asked, without an answer.
    NoAnswer,
}

/// A file that is being read, or a file system that is asked for its space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    pub what: String,
    pub waited: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    pub sign: Sign,
    /// As the kernel calls it, e.g. `mmcblk0`.
    pub part: String,
    pub value: u64,
    /// Of the part itself, where it tells one.
    pub limit: Option<u64>,
}

/// What is still good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Good {
    Always,
    AtMost(u64),
    AtLeast(u64),
    /// Of a counter.
    GrowsAtMost(u64),
}

/// How a value is written.
#[derive(Debug, Clone, Copy)]
enum Text {
    In(&'static str),
    /// For 0, and for all else.
    Words(&'static str, &'static str),
}

/// What a sign means.
struct Law {
    what: &'static str,
    text: Text,
    good: Good,
    condition: ConditionKind,
    /// Looks in a row until it is a problem.
    looks: u8,
    severity: Severity,
    remedy: &'static str,
}

fn law(sign: Sign, limits: &Limits, own: Option<u64>) -> Law {
    use ConditionKind::{HardwareDegraded, PowerLow, Throttled};
    use Severity::{Critical, Warning};
    const COOL: &str = "cool the board (fan, dust, place), or give it less to do";
    const POWER: &str = "look at its supply, plugs and cables";
    const DISK: &str = "keep a backup, see dmesg, and replace the disk or its cable";
    const MEMORY: &str = "replace the memory or the board";
    const FLASH: &str = "plan to replace the board or its flash; keep a backup";
    const FSCK: &str = "run fsck from a rescue system; see dmesg";
    const WATCHDOG: &str = "have systemd feed it: RuntimeWatchdogSec";
    const HANGS: &str =
        "see dmesg; look at this device, its bus or its server, and start the board anew";
    let at_most = |limit: Option<u64>| limit.map_or(Good::Always, Good::AtMost);
    let grows = |limit: Option<u32>| limit.map_or(Good::Always, |l| Good::GrowsAtMost(l.into()));
    let wear = at_most(limits.flash_life_percent.map(u64::from));
    let charge = limits.battery_percent.map_or(Good::Always, |l| Good::AtLeast(l.into()));
    let (is_no, slow) = (Good::AtMost(0), Text::Words("no", "slowed down"));
    let (volt, disk) = (Text::Words("ok", "too low"), Text::Words("ok", "given up by the kernel"));
    let (ro, fed) =
        (Text::Words("ok", "read-only after errors"), Text::Words("inactive", "active"));
    let (celsius, percent, count) = (Text::In("°C"), Text::In("%"), Text::In("since boot"));
    let (what, text, good, condition, looks, severity, remedy) = match sign {
        Sign::Heat => ("temperature", celsius, at_most(own), HardwareDegraded, 1, Critical, COOL),
        Sign::PassiveHeat => {
            ("throttling point", celsius, at_most(own), Throttled, 2, Warning, COOL)
        }
        Sign::Slowed => ("processor speed", slow, is_no, Throttled, 2, Warning, COOL),
        Sign::Throttles => {
            ("throttling", count, grows(limits.throttles_per_hour), Throttled, 1, Warning, COOL)
        }
        Sign::ClockCap => ("processor clock", percent, Good::Always, Throttled, 1, Warning, ""),
        Sign::VoltageLow => ("voltage", volt, is_no, PowerLow, 1, Warning, POWER),
        Sign::Battery => ("battery", percent, charge, PowerLow, 1, Warning, POWER),
        Sign::Charging => ("battery", percent, Good::Always, PowerLow, 1, Warning, ""),
        Sign::FlashWear => ("flash wear", percent, wear, HardwareDegraded, 1, Warning, FLASH),
        Sign::DiskErrors => {
            let good = grows(limits.disk_errors_per_hour);
            ("disk errors", count, good, HardwareDegraded, 1, Warning, DISK)
        }
        Sign::DiskGone => ("disk", disk, is_no, HardwareDegraded, 1, Critical, DISK),
        Sign::FileSystemErrors => {
            ("file system errors", Text::In("recorded"), is_no, HardwareDegraded, 1, Warning, FSCK)
        }
        Sign::ReadOnly => ("file system", ro, is_no, HardwareDegraded, 1, Critical, FSCK),
        Sign::EccCorrected => {
            let good = grows(limits.ecc_errors_per_hour);
            ("corrected memory errors", count, good, HardwareDegraded, 1, Warning, MEMORY)
        }
        Sign::EccUncorrected => {
            let good = Good::GrowsAtMost(0);
            ("uncorrected memory errors", count, good, HardwareDegraded, 1, Critical, MEMORY)
        }
        Sign::Watchdog => ("watchdog", fed, Good::Always, HardwareDegraded, 1, Warning, ""),
        Sign::NoWatchdog => {
            let none = Text::Words("", "none is active");
            ("watchdog", none, is_no, HardwareDegraded, 1, Warning, WATCHDOG)
        }
        Sign::NoAnswer => {
            let seconds = Text::In("s without an answer");
            ("reading", seconds, Good::AtMost(WAIT_STEP_S), HardwareDegraded, 1, Warning, HANGS)
        }
    };
    Law { what, text, good, condition, looks, severity, remedy }
}

impl Good {
    fn holds(self, value: u64) -> bool {
        match self {
            Self::Always => true,
            Self::AtMost(limit) | Self::GrowsAtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }
}

impl Law {
    fn value(&self, value: u64, grown: u64) -> String {
        match self.text {
            Text::In(unit) if grown > 0 => format!("{value} {unit}, {grown} within an hour"),
            Text::In(unit) => format!("{value} {unit}"),
            Text::Words(zero, more) => if value == 0 { zero } else { more }.to_owned(),
        }
    }

    fn limit(&self) -> String {
        let unit = match self.text {
            Text::In(unit) => unit,
            Text::Words(..) => return String::new(),
        };
        match self.good {
            Good::Always => String::new(),
            Good::AtMost(limit) => format!("<= {limit} {unit}"),
            Good::AtLeast(limit) => format!(">= {limit} {unit}"),
            Good::GrowsAtMost(limit) => format!("<= {limit} within an hour"),
        }
    }
}

/// One sign of one part, from look to look.
#[derive(Debug, Clone)]
struct Watch {
    sign: Sign,
    part: String,
    /// Of a counter: what it showed last.
    count: Option<u64>,
    /// When it grew within the last hour, and by how much.
    grown: VecDeque<(Timestamp, u64)>,
    is_problem: bool,
    /// Looks in a row that say otherwise.
    against: u8,
    /// It was in the newest look.
    seen: bool,
}

impl Watch {
    /// What a counter has grown by within the last hour. One that went back has begun again.
    fn grown(&mut self, now: Timestamp, value: u64) -> u64 {
        let before = self.count.replace(value);
        let before = if mutant!("old errors are news") { before.or(Some(0)) } else { before };
        let by = before.map_or(0, |before| value.saturating_sub(before));
        if by > 0 {
            self.grown.push_back((now, by));
        }
        while self.grown.front().is_some_and(|(at, _)| now.since(*at) >= HOUR) {
            self.grown.pop_front();
        }
        self.grown.iter().fold(0, |sum, (_, by)| sum.saturating_add(*by))
    }

    /// Whether the problem has begun or is over with this look.
    fn looked(&mut self, is_bad: bool, looks: u8) -> bool {
        self.against = if is_bad == self.is_problem { 0 } else { self.against + 1 };
        let enough = if !self.is_problem {
            looks
        } else if mutant!("a problem is over at once") {
            1
        } else {
            LOOKS_TO_CLEAR
        };
        if self.against < enough {
            return false;
        }
        self.is_problem = is_bad;
        self.against = 0;
        true
    }
}

/// What becomes an event.
#[derive(Debug, PartialEq, Eq)]
struct Change {
    severity: Severity,
    kind: EventKind,
    condition: ConditionKind,
    part: String,
    message: String,
}

#[derive(Debug)]
pub(super) struct Hardware {
    limits: Limits,
    due: Timestamp,
    under_way: bool,
    watches: Vec<Watch>,
    /// What waits for an answer for long, whatever looks find.
    waiting: Vec<Reading>,
    newest: Option<Arc<SystemCheck>>,
    /// The master knows the newest.
    told: bool,
}

impl Hardware {
    pub(super) fn new(limits: Limits, now: Timestamp) -> Self {
        Self {
            limits,
            due: now,
            under_way: false,
            watches: Vec::new(),
            waiting: Vec::new(),
            newest: None,
            told: false,
        }
    }

    /// `None` while a look is under way: one that never ends holds up no other thing.
    pub(super) fn deadline(&self) -> Option<Deadline> {
        (!self.under_way).then_some(Deadline { at: self.due, why: "look at the hardware" })
    }

    /// A master that has just been found knows nothing.
    pub(super) fn tell_again(&mut self) {
        self.told = false;
    }

    pub(super) fn untold(&mut self) -> Option<Arc<SystemCheck>> {
        let told = std::mem::replace(&mut self.told, true);
        self.newest.clone().filter(|_| !told)
    }

    /// The conditions, each with what it is of.
    pub(super) fn problems(&self) -> Vec<(ConditionKind, String)> {
        let of = |kind| {
            let laws = self.watches.iter().filter(|watch| watch.is_problem);
            let laws = laws.map(|watch| (law(watch.sign, &self.limits, None), &watch.part));
            let names: Vec<_> = laws
                .filter(|(law, _)| law.condition == kind)
                .map(|(law, part)| format!("{} of {part}", law.what))
                .collect();
            (!names.is_empty()).then(|| (kind, names.join(", ")))
        };
        CONDITIONS.into_iter().filter_map(of).collect()
    }

    /// Takes a look; what has begun or is over with it.
    fn looked(&mut self, now: Now, mut readings: Vec<Reading>) -> Vec<Change> {
        readings.truncate(READINGS_MAX);
        let is_fed = |reading: &Reading| reading.sign == Sign::Watchdog && reading.value > 0;
        if self.limits.watchdog_required && !readings.iter().any(is_fed) {
            let (sign, part) = (Sign::NoWatchdog, "board".to_owned());
            readings.push(Reading { sign, part, value: 1, limit: None });
        }
        readings.extend(self.waiting.iter().cloned());
        self.watches.iter_mut().for_each(|watch| watch.seen = false);
        let (mut changes, mut findings) = (Vec::new(), Vec::new());
        for reading in readings {
            self.judge(now, reading, &mut changes, &mut findings);
        }
        self.judge_the_unseen(&mut changes);
        self.put(now, findings);
        changes
    }

    /// Takes what waits for an answer now. That it has come is believed after some looks, as everything is.
    fn waits(&mut self, now: Now, waits: &[Wait]) -> Vec<Change> {
        let reading = |wait: &Wait| {
            let value = wait.waited.as_secs() / WAIT_STEP_S * WAIT_STEP_S;
            Reading { sign: Sign::NoAnswer, part: wait.what.clone(), value, limit: None }
        };
        let mut waiting: Vec<_> = waits.iter().map(reading).collect();
        waiting.retain(|wait| wait.value > WAIT_STEP_S);
        waiting.truncate(WAITS_MAX);
        if waiting == self.waiting {
            return Vec::new();
        }
        let (mut changes, mut findings) = (Vec::new(), Vec::new());
        // both readers may hang at one thing
        self.watches.iter_mut().filter(|w| w.sign == Sign::NoAnswer).for_each(|w| w.seen = false);
        for wait in waiting.clone() {
            self.judge(now, wait, &mut changes, &mut findings);
        }
        self.waiting = waiting;
        let others = self.newest.iter().flat_map(|newest| &newest.findings);
        let what = law(Sign::NoAnswer, &self.limits, None).what;
        findings.extend(others.filter(|finding| !finding.name.starts_with(what)).cloned());
        self.put(now, findings);
        changes
    }

    /// One reading; of two with one sign and part the first counts.
    fn judge(
        &mut self,
        now: Now,
        reading: Reading,
        changes: &mut Vec<Change>,
        findings: &mut Vec<Finding>,
    ) {
        let Reading { sign, part, value, limit } = reading;
        let part = printable(&part);
        if self.watches.iter().any(|w| w.seen && w.sign == sign && w.part == part) {
            return;
        }
        let law = law(sign, &self.limits, limit);
        let judged = !self.limits.ignore.contains(&part);
        let watch = self.watch(sign, part);
        watch.seen = true;
        let grown = match law.good {
            Good::GrowsAtMost(_) => watch.grown(now.at, value),
            Good::Always | Good::AtMost(_) | Good::AtLeast(_) => 0,
        };
        let figure = if matches!(law.good, Good::GrowsAtMost(_)) { grown } else { value };
        let changed = watch.looked(judged && !law.good.holds(figure), law.looks);
        let finding = finding(watch, &law, law.value(value, grown));
        if changed {
            changes.push(change(watch, &law, &finding));
        }
        findings.push(finding);
    }

    fn put(&mut self, now: Now, findings: Vec<Finding>) {
        let newest = SystemCheck { at: now.wall, findings }.bounded();
        if self.newest.as_ref().map(|known| &known.findings) != Some(&newest.findings) {
            self.newest = Some(Arc::new(newest));
            self.told = false;
        }
    }

    /// What cannot be read any more is no problem for ever.
    fn judge_the_unseen(&mut self, changes: &mut Vec<Change>) {
        for watch in self.watches.iter_mut().filter(|watch| !watch.seen) {
            if watch.looked(false, 1) {
                let law = law(watch.sign, &self.limits, None);
                let finding = finding(watch, &law, String::new());
                changes.push(change(watch, &law, &finding));
            }
        }
        self.watches.retain(|watch| watch.seen || watch.is_problem);
    }

    fn watch(&mut self, sign: Sign, part: String) -> &mut Watch {
        let known = self.watches.iter().position(|w| w.sign == sign && w.part == part);
        let at = known.unwrap_or_else(|| {
            self.watches.push(Watch {
                sign,
                part,
                count: None,
                grown: VecDeque::new(),
                is_problem: false,
                against: 0,
                seen: false,
            });
            self.watches.len() - 1
        });
        &mut self.watches[at]
    }
}

fn finding(watch: &Watch, law: &Law, value: String) -> Finding {
    let level = match (watch.is_problem, law.severity) {
        (false, _) => CheckLevel::Ok,
        (true, Severity::Info | Severity::Warning) => CheckLevel::Warning,
        (true, Severity::Critical) => CheckLevel::Error,
    };
    let remedy = if watch.is_problem { law.remedy } else { "" }.to_owned();
    let name = printable(&format!("{} of {}", law.what, watch.part));
    Finding { name, level, value, limit: law.limit(), remedy }
}

fn change(watch: &Watch, law: &Law, finding: &Finding) -> Change {
    let Finding { name, value, limit, .. } = finding;
    let (severity, kind, message) = if watch.is_problem {
        let limit = if limit.is_empty() { String::new() } else { format!(" (limit {limit})") };
        (law.severity, EventKind::HardwareProblem, format!("{name}: {value}{limit}"))
    } else {
        (Severity::Info, EventKind::HardwareProblemOver, format!("{name}: no problem any more"))
    };
    Change { severity, kind, condition: law.condition, part: watch.part.clone(), message }
}

impl NodeAgent {
    pub(super) fn look_if_due(&mut self, now: Now, out: &mut Vec<Effect>) {
        if self.hardware.deadline().is_some_and(|deadline| deadline.at <= now.at) {
            self.hardware.under_way = true;
            out.push(Effect::LookAtHardware);
        }
    }

    /// What has changed is told at once; figures that only moved go with the next report.
    pub(super) fn hardware_seen(
        &mut self,
        now: Now,
        out: &mut Vec<Effect>,
        readings: Vec<Reading>,
    ) {
        self.hardware.under_way = false;
        self.hardware.due = now.at + LOOK_EVERY;
        let changes = self.hardware.looked(now, readings);
        self.hardware_changed(now, out, &changes);
    }

    pub(super) fn hardware_waits(&mut self, now: Now, out: &mut Vec<Effect>, waits: &[Wait]) {
        let changes = self.hardware.waits(now, waits);
        self.hardware_changed(now, out, &changes);
    }

    fn hardware_changed(&mut self, now: Now, out: &mut Vec<Effect>, changes: &[Change]) {
        for Change { severity, kind, condition, part, message } in changes {
            let fields = [("condition", condition.name()), ("part", part)];
            self.record(now, out, *severity, *kind, message.clone(), &fields);
        }
        if !changes.is_empty() {
            self.report(now, out);
        }
    }
}

#[cfg(test)]
mod tests;
