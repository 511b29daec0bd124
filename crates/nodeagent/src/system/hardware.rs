//! The health of the hardware, as far as files below `/sys` and `/proc` tell it (HLD §7.2.3).
//!
//! What needs a tool or a command to the device is not here but in the system check: SMART attributes and the wear
//! of NVMe and SATA disks, errors that only debugfs counts. A missing file is a part that the board has not, a value that makes
//! no sense is none. What may fail silently comes first, temperatures last: there is an end to what is told.

use std::path::{Path, PathBuf};

use piccolo_core::node_agent::hardware::{READINGS_MAX, Reading, Sign};

use super::sensors::{folders, line_of};
use super::{KeptFile, Roots, parse};

/// Parts whose temperature is told at most, those nearest to their limit.
const HEAT_PARTS_MAX: usize = 6;
/// Degrees between which a limit of a sensor is believed.
const HEAT_LIMITS: std::ops::RangeInclusive<u64> = 40..=150;
/// Steps of a life that flash tells, each of 10 %; above is nonsense.
const LIFE_STEPS: std::ops::RangeInclusive<u64> = 1..=11;

/// Everything that can be read now.
pub(crate) fn look(roots: &Roots) -> Vec<Reading> {
    let mut seen = Seen { sys: &roots.sys, readings: Vec::new() };
    seen.memory();
    seen.read_only(&roots.proc.join("self/mountinfo"));
    seen.disks();
    seen.voltages();
    seen.power_supplies();
    seen.throttling();
    seen.watchdogs();
    seen.heat();
    seen.readings
}

struct Seen<'a> {
    sys: &'a Path,
    readings: Vec<Reading>,
}

impl Seen<'_> {
    /// Of two with one name the worse counts.
    fn put(&mut self, sign: Sign, part: &str, value: Option<u64>) {
        let Some(value) = value else { return };
        match self.readings.iter_mut().find(|r| r.sign == sign && r.part == part) {
            Some(known) => known.value = known.value.max(value),
            None => self.push(sign, part, value, None),
        }
    }

    fn push(&mut self, sign: Sign, part: &str, value: u64, limit: Option<u64>) {
        if self.readings.len() < READINGS_MAX {
            self.readings.push(Reading { sign, part: part.to_owned(), value, limit });
        }
    }

    /// What is in a folder of `/sys`, by name.
    fn each(&self, folder: &str) -> Vec<(PathBuf, String)> {
        folders(&self.sys.join(folder))
    }

    /// The memory controllers of EDAC.
    fn memory(&mut self) {
        for (controller, name) in self.each("devices/system/edac/mc") {
            self.put(Sign::EccCorrected, &name, number(&controller.join("ce_count")));
            self.put(Sign::EccUncorrected, &name, number(&controller.join("ue_count")));
        }
    }

    /// File systems that gave up writing. That one is read-only is no error by itself, and what a mount of it
    /// allows says nothing: only what the file system itself says counts.
    fn read_only(&mut self, mounts: &Path) {
        let mut mounts = KeptFile::new(mounts.to_owned());
        for line in mounts.read().map(parse::lines).into_iter().flatten() {
            let Ok(line) = std::str::from_utf8(line) else { continue };
            let Some((mount, [kind, _, options])) = halves(line) else { continue };
            let has = |option| options.split(',').any(|known| known == option);
            let has_errors = || {
                let device = self.sys.join("dev/block").join(mount[2]);
                let device = std::fs::read_link(device).ok()?.file_name()?.to_owned();
                number(&self.sys.join("fs/ext4").join(device).join("errors_count"))
            };
            if has("emergency_ro")
                || has("shutdown")
                || has("ro") && kind.starts_with("ext") && has_errors() > Some(0)
            {
                self.put(Sign::ReadOnly, mount[4], Some(1));
            }
        }
    }

    fn disks(&mut self) {
        for (disk, name) in self.each("block") {
            if ["loop", "ram", "zram", "sr"].iter().any(|kind| name.starts_with(kind)) {
                continue;
            }
            let device = disk.join("device");
            if !name.contains("boot") {
                self.put(Sign::FlashWear, &name, wear(&device, "life_time", "pre_eol_info"));
            }
            // of all logical units of a UFS together
            let ufs = device.join("../../../health_descriptor");
            for life in ["life_time_estimation_a", "life_time_estimation_b"] {
                self.put(Sign::FlashWear, "ufs", wear(&ufs, life, "eol_info"));
            }
            let errors = line_of(&device.join("ioerr_cnt"));
            self.put(Sign::DiskErrors, &name, errors.and_then(|count| hexadecimal(&count)));
            let state = line_of(&device.join("state"));
            if state.is_some_and(|state| state == "offline" || state == "dead") {
                self.put(Sign::DiskGone, &name, Some(1));
            }
        }
        for (file_system, name) in self.each("fs/ext4") {
            let errors = number(&file_system.join("errors_count"));
            self.put(Sign::FileSystemErrors, &name, errors.filter(|&errors| errors > 0));
        }
    }

    /// Only what says "low": other alarms of a chip stand on limits that nobody has set.
    fn voltages(&mut self) {
        for (chip, folder) in self.each("class/hwmon") {
            let chip_name = line_of(&chip.join("name")).unwrap_or(folder);
            for (alarm, file) in folders(&chip) {
                let ends = ["_lcrit_alarm", "_min_alarm"];
                let Some(input) = ends.iter().find_map(|end| file.strip_suffix(end)) else {
                    continue;
                };
                if input.starts_with("in") {
                    let label = line_of(&chip.join(format!("{input}_label")));
                    let part = format!("{chip_name} {}", label.as_deref().unwrap_or(input));
                    self.put(Sign::VoltageLow, &part, number(&alarm).filter(|&alarm| alarm < 2));
                }
            }
        }
    }

    fn power_supplies(&mut self) {
        for (supply, name) in self.each("class/power_supply") {
            let is = |file, word| line_of(&supply.join(file)).is_some_and(|line| line == word);
            // a mouse has a battery too
            if is("scope", "Device") {
                continue;
            }
            let charge = number(&supply.join("capacity")).filter(|&percent| percent <= 100);
            let sign = if is("status", "Discharging") { Sign::Battery } else { Sign::Charging };
            self.put(sign, &name, charge);
        }
    }

    fn throttling(&mut self) {
        let mut throttles = None;
        for (processor, _) in self.each("devices/system/cpu") {
            let count = number(&processor.join("thermal_throttle/core_throttle_count"));
            throttles = count.map(|c| c.saturating_add(throttles.unwrap_or(0))).or(throttles);
        }
        self.put(Sign::Throttles, "cpu", throttles);
        for (policy, name) in self.each("devices/system/cpu/cpufreq") {
            let may = number(&policy.join("scaling_max_freq"));
            let could = number(&policy.join("cpuinfo_max_freq"));
            let cap = may.zip(could).filter(|(may, could)| may < could);
            let cap = cap.and_then(|(may, could)| may.checked_mul(100)?.checked_div(could));
            self.put(Sign::ClockCap, &name, cap);
        }
        for (device, _) in self.each("class/thermal") {
            let kind = line_of(&device.join("type")).unwrap_or_default();
            let slows = ["cpufreq", "devfreq", "Processor", "intel_powerclamp"];
            if slows.iter().any(|known| kind.contains(known)) {
                let state = number(&device.join("cur_state")).filter(|&state| state > 0);
                self.put(Sign::Slowed, &kind, state.map(|_| 1));
            }
        }
        self.firmware();
    }

    /// A Raspberry Pi's firmware: bit 0 is the voltage, 1 to 3 are a clock that is held down.
    fn firmware(&mut self) {
        for (soc, name) in self.each("devices/platform") {
            if !name.starts_with("soc") {
                continue;
            }
            let word = line_of(&soc.join(format!("{name}:firmware/get_throttled")));
            let word = word.and_then(|word| hexadecimal(&word)).filter(|word| *word < 1 << 20);
            self.put(Sign::VoltageLow, "firmware", word.map(|word| word & 1));
            let slowed = word.filter(|word| word & 0b1110 > 0);
            self.put(Sign::Slowed, "firmware", slowed.map(|_| 1));
        }
    }

    fn watchdogs(&mut self) {
        for (watchdog, name) in self.each("class/watchdog") {
            let part = line_of(&watchdog.join("identity")).unwrap_or(name);
            let state = line_of(&watchdog.join("state"));
            self.put(Sign::Watchdog, &part, state.map(|state| u64::from(state == "active")));
        }
    }

    /// Zones and chips that know a limit of their own, those nearest to it first.
    fn heat(&mut self) {
        let mut parts = Vec::new();
        for (zone, folder) in self.each("class/thermal") {
            let Some(heat) = degrees(&zone.join("temp")) else { continue };
            let name = line_of(&zone.join("type")).unwrap_or(folder);
            let [hot, passive] = trip_points(&zone);
            if let Some(limit) = passive.filter(|&limit| heat > limit) {
                self.push(Sign::PassiveHeat, &name, heat, Some(limit));
            }
            parts.extend(hot.map(|limit| (limit.saturating_sub(heat), name, heat, limit)));
        }
        for (chip, folder) in self.each("class/hwmon") {
            let name = line_of(&chip.join("name")).unwrap_or(folder);
            for (limit, file) in folders(&chip) {
                let Some(input) = file.strip_suffix("_crit") else { continue };
                let limit = degrees(&limit).filter(|limit| HEAT_LIMITS.contains(limit));
                let heat = degrees(&chip.join(format!("{input}_input")));
                let known = heat.zip(limit).filter(|_| input.starts_with("temp"));
                parts.extend(
                    known.map(|(heat, limit)| {
                        (limit.saturating_sub(heat), name.clone(), heat, limit)
                    }),
                );
            }
        }
        parts.sort_by_key(|(distance, ..)| *distance);
        let mut told: Vec<String> = Vec::new();
        for (_, name, heat, limit) in parts {
            // the kernel shows a zone as a chip too
            let same = name.replace('_', "-");
            if told.len() < HEAT_PARTS_MAX && !told.contains(&same) {
                self.push(Sign::Heat, &name, heat, Some(limit));
                told.push(same);
            }
        }
    }
}

/// The lowest of those that are hot or critical, and of those that are passive.
fn trip_points(zone: &Path) -> [Option<u64>; 2] {
    let mut lowest: [Option<u64>; 2] = [None; 2];
    for (kind, file) in folders(zone) {
        let Some(trip) = file.strip_prefix("trip_point_").and_then(|f| f.strip_suffix("_type"))
        else {
            continue;
        };
        let place = match line_of(&kind).as_deref() {
            Some("critical" | "hot") => &mut lowest[0],
            Some("passive") => &mut lowest[1],
            _ => continue,
        };
        let limit = degrees(&zone.join(format!("trip_point_{trip}_temp")));
        let limit = limit.filter(|limit| HEAT_LIMITS.contains(limit));
        *place = (*place).into_iter().chain(limit).min();
    }
    lowest
}

/// Percent of a life: the worse of what is used of its two kinds of cells, and no less than what the end of
/// its reserve means.
fn wear(device: &Path, life: &str, reserve: &str) -> Option<u64> {
    let steps = line_of(&device.join(life))?;
    let steps = steps.split_whitespace().filter_map(hexadecimal);
    let used = steps.filter(|step| LIFE_STEPS.contains(step)).max()? * 10;
    Some(match line_of(&device.join(reserve)).and_then(|line| hexadecimal(&line)) {
        Some(2) => used.max(90),
        Some(3) => used.max(110),
        Some(_) | None => used,
    })
}

/// Whole degrees Celsius, rounded up; what is below zero is zero.
fn degrees(file: &Path) -> Option<u64> {
    let millidegrees = KeptFile::new(file.to_owned()).read().and_then(parse::millidegrees)?;
    Some(u64::try_from(millidegrees).unwrap_or(0).div_ceil(1000))
}

fn number(file: &Path) -> Option<u64> {
    line_of(file).and_then(|line| parse::number(line.as_bytes()))
}

fn hexadecimal(word: &str) -> Option<u64> {
    let digits = word.strip_prefix("0x").unwrap_or(word);
    u64::from_str_radix(digits, 16).ok()
}

/// A line of `mountinfo`: what is of the mount, and behind a `-` kind, source and options of its file system.
fn halves(line: &str) -> Option<(Vec<&str>, [&str; 3])> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mount: Vec<_> = mount.split(' ').collect();
    let file_system: Vec<_> = file_system.split(' ').collect();
    (mount.len() > 4).then_some((mount, file_system.try_into().ok()?))
}

#[cfg(test)]
mod tests;
