//! Temperature sensors: the thermal zones, and the chips under hwmon.

use std::path::{Path, PathBuf};

use super::KeptFile;
use super::parse;

/// A board with more sensors than this shows the first ones by name.
const SENSORS_MAX: usize = 32;
const INPUTS_PER_CHIP_MAX: u32 = 16;
/// No folder that is read has more; what else there is is not looked at.
const ENTRIES_MAX: usize = 1024;

/// One sensor's reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Temperature {
    /// What the kernel calls it (`cpu-thermal`, `nvme Composite`); the folder's name if nameless.
    pub name: String,
    /// Thousandths of a degree Celsius.
    pub millidegrees: Option<i32>,
}

/// The open sensor files, in the order of the readings.
#[derive(Debug, Default)]
pub(super) struct Sensors {
    files: Vec<KeptFile>,
}

impl Sensors {
    /// Looks for sensors below `sys`. What was found before and is still there stays open.
    pub(super) fn search(&mut self, sys: &Path, readings: &mut Vec<Temperature>) {
        let mut found = thermal_zones(&sys.join("class/thermal"));
        found.extend(hwmon_inputs(&sys.join("class/hwmon")));
        found.truncate(SENSORS_MAX);
        let same = found.len() == self.files.len()
            && found.iter().zip(&self.files).all(|((path, _), file)| path == file.path());
        if same {
            return;
        }
        self.files.clear();
        readings.clear();
        for (path, name) in found {
            self.files.push(KeptFile::new(path));
            readings.push(Temperature { name, millidegrees: None });
        }
    }

    pub(super) fn read(&mut self, readings: &mut [Temperature]) {
        for (file, reading) in self.files.iter_mut().zip(readings) {
            reading.millidegrees = file.read().and_then(parse::millidegrees);
        }
    }
}

fn thermal_zones(class: &Path) -> Vec<(PathBuf, String)> {
    let zones = folders(class).into_iter().filter(|(_, name)| name.starts_with("thermal_zone"));
    zones
        .filter(|(zone, _)| zone.join("temp").exists())
        .map(|(zone, folder)| (zone.join("temp"), line_of(&zone.join("type")).unwrap_or(folder)))
        .collect()
}

fn hwmon_inputs(class: &Path) -> Vec<(PathBuf, String)> {
    let mut inputs = Vec::new();
    for (chip, folder) in folders(class) {
        let chip_name = line_of(&chip.join("name")).unwrap_or(folder);
        for number in 1..=INPUTS_PER_CHIP_MAX {
            let input = chip.join(format!("temp{number}_input"));
            if !input.exists() {
                continue;
            }
            let name = match line_of(&chip.join(format!("temp{number}_label"))) {
                Some(label) => format!("{chip_name} {label}"),
                None if number == 1 => chip_name.clone(),
                None => format!("{chip_name} {number}"),
            };
            inputs.push((input, name));
        }
    }
    inputs
}

/// Path and name of what is in `folder`, `zone2` before `zone10`.
pub(super) fn folders(folder: &Path) -> Vec<(PathBuf, String)> {
    super::beside::reading(folder);
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<_> = entries
        .take(ENTRIES_MAX)
        .flatten()
        .map(|entry| (entry.path(), entry.file_name().to_string_lossy().into_owned()))
        .collect();
    found.sort_by(|(_, a), (_, b)| (a.len(), a).cmp(&(b.len(), b)));
    found
}

/// The first line of a file.
pub(super) fn line_of(path: &Path) -> Option<String> {
    KeptFile::new(path.to_owned()).read().and_then(parse::first_line)
}
