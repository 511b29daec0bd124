//! A master with ten nodes, ten containers on each, and a month of history: its memory, and its disk.
//!
//! Nobody waits a month. The master runs for a while with those nodes and is stopped; its own files then say what it
//! remembers of whom. Files of the same form, with a record for each quarter of an hour as it would have written them, take
//! their place, and the master starts on them. That it has taken them is checked by what it answers.

use std::{
    fs::{self, File},
    io::{BufReader, Read as _, Write as _},
    path::Path,
    thread::sleep,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use flate2::{Compression, bufread::MultiGzDecoder, write::GzEncoder};
use piccolo_testkit::{cluster::Cluster, podman::PrivatePodman};
use prost::Message as _;

use super::agent::wait_for_containers;
use crate::{
    figure::Figure,
    ground::{Ground, board_name, metric},
    usage,
};

const NODES: usize = 10;
const CONTAINERS: usize = 10;
/// A container has a history once it has run for half a minute, and boards report every ten seconds.
const KNOWN_WITHIN: Duration = Duration::from_secs(60);
const SETTLES_WITHIN: Duration = Duration::from_secs(30);
const QUARTER_MS: i64 = 900_000;
const DAY_MS: i64 = 86_400_000;
/// The name of its files, its step, slots in a record, and records.
const LEVELS: [(&str, usize, i64); 2] = [("minutes", 15, 2 * 96), ("quarters", 1, 31 * 96)];
/// 10 s, for an hour.
const FINEST_SLOTS: usize = 360;
/// Of one record, all its series together.
const RECORD_SLOTS_MAX: usize = 8192;
const MIB: f64 = 1024.0 * 1024.0;

pub(crate) fn measure(ground: &Ground) -> Result<Vec<Figure>> {
    let podman = PrivatePodman::start(ground.folder("podman-history"))?;
    for number in 1..=CONTAINERS {
        podman.run(&format!("work-{number}"), &["sleep", "100000"])?;
    }
    let mut cluster = ground.empty_cluster("history", false, "")?;
    // all of them look at the same ten containers, and each tells them as its own
    let socket = format!("podman:\n  socket: {}\n", podman.socket().display());
    for board in (1..=NODES).map(board_name) {
        cluster.join_with(&board, &socket)?;
    }
    for board in (1..=NODES).map(board_name) {
        cluster.wait_for_status(&board, "Ready")?;
        wait_for_containers(&cluster, &board, CONTAINERS)?;
    }
    sleep(KNOWN_WITHIN);
    cluster.master.terminate()?;
    let folder = cluster.folder().join("master/history");
    let series = write_a_month(&folder)?;
    ensure!(series >= NODES * CONTAINERS * 2, "only {series} figures are remembered");

    cluster.start_master()?;
    for board in (1..=NODES).map(board_name) {
        cluster.wait("it is back", |cluster| Ok(cluster.node(&board)?["connected"] == true))?;
    }
    sleep(SETTLES_WITHIN);
    let rss = usage::rss_kib(cluster.master.pid())? / 1024.0;
    let held = metric(&cluster, "piccolo_history_bytes")? / MIB;
    let days = days_remembered(&cluster)?;
    ensure!(days > 29.0, "only {days:.1} days are remembered");
    let asked = usage::rss_kib(cluster.master.pid())? / 1024.0;
    // it writes what it has, and clears what is too much
    cluster.master.terminate()?;
    let disk = size_of_files(&folder)? / MIB;
    let name = |what: &str| {
        format!("master, {NODES} nodes x {CONTAINERS} containers, 30 days of history: {what}")
    };
    let note = format!(
        "{series} figures, {held:.1} MiB of them; {asked:.1} MiB once it was asked for all"
    );
    Ok(vec![
        Figure::one(name("RSS"), "MiB", rss).at_most(40.0).note(note),
        Figure::one(name("disk"), "MiB", disk).at_most(64.0),
    ])
}

/// How far back the answer to a question for all of it reaches.
fn days_remembered(cluster: &Cluster) -> Result<f64> {
    let question =
        ["metrics", "query", "cpu_percent", "--since", "30d", "--step", "6h", "-o", "json"];
    let answer = cluster.json(&question)?;
    let rows = answer["rows"].as_array().context("an answer without rows")?;
    ensure!(rows.len() == NODES, "{} nodes in the answer", rows.len());
    let points = rows[0]["points"].as_array().context("a row without points")?;
    let told = points.iter().filter(|point| point.is_number()).count();
    Ok(told as f64 / 4.0)
}

/// In place of what is there; returns how many figures there are.
fn write_a_month(folder: &Path) -> Result<usize> {
    let known = read_finest(&folder.join("recent.gz"))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let until = i64::try_from(now)?.div_euclid(QUARTER_MS) * QUARTER_MS;
    fs::remove_dir_all(folder)?;
    fs::create_dir(folder)?;
    let mut noise = Noise(1);
    for (level, (name, slots, records)) in (1..).zip(LEVELS) {
        for record in (1..=records).rev() {
            let from_ms = until - record * QUARTER_MS;
            let packed = pack(&known, level, from_ms, slots, &mut noise)?;
            let day = from_ms.div_euclid(DAY_MS);
            let path = folder.join(format!("{name}-{day:06}.gz"));
            File::options().append(true).create(true).open(path)?.write_all(&packed)?;
        }
    }
    let finest = pack(&known, 0, until - 4 * QUARTER_MS, FINEST_SLOTS, &mut noise)?;
    fs::write(folder.join("recent.gz"), finest)?;
    Ok(known.series.len())
}

/// Records that follow each other are one that has the series of all.
fn read_finest(path: &Path) -> Result<Packed> {
    let file = File::open(path).context("the master has left no figures")?;
    let mut bytes = Vec::new();
    MultiGzDecoder::new(BufReader::new(file)).read_to_end(&mut bytes)?;
    let known = Packed::decode(&bytes[..])?;
    ensure!(!known.series.is_empty(), "the master has left no figures");
    Ok(known)
}

/// One record, or several where it is long: values that go up and down, and of which each slot's least and most are read
/// from a sensor.
fn pack(
    known: &Packed,
    level: u32,
    from_ms: i64,
    slots: usize,
    noise: &mut Noise,
) -> Result<Vec<u8>> {
    let mut packed = Vec::new();
    for some in known.series.chunks(RECORD_SLOTS_MAX / slots) {
        let series = some.iter().map(|one| stretch(one, level, slots, noise)).collect();
        let mut encoder = GzEncoder::new(&mut packed, Compression::default());
        encoder.write_all(&Packed { level, from_ms, series }.encode_to_vec())?;
        encoder.finish()?;
    }
    Ok(packed)
}

fn stretch(known: &PackedStretch, level: u32, slots: usize, noise: &mut Noise) -> PackedStretch {
    let samples = [1, 6, 90][level as usize];
    let about = known.mean.iter().copied().fold(1.0, f32::max);
    let mut stretch = PackedStretch {
        mean: Vec::new(),
        min: Vec::new(),
        max: Vec::new(),
        count: vec![samples; slots],
        ..known.clone()
    };
    for _ in 0..slots {
        let mean = about * (0.5 + noise.next());
        let step = |value: f32| (value * 10.0).round() / 10.0;
        stretch.mean.push(if samples == 1 { step(mean) } else { mean });
        let least = mean * if samples == 1 { 1.0 } else { 1.0 - noise.next() / 4.0 };
        stretch.min.push(step(least));
        let most = mean * if samples == 1 { 1.0 } else { 1.0 + noise.next() / 4.0 };
        stretch.max.push(step(most));
    }
    stretch
}

/// From 0 to 1, the same at every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        // Knuth's MMIX
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1_u64 << 24) as f32
    }
}

fn size_of_files(folder: &Path) -> Result<f64> {
    let sizes = fs::read_dir(folder)?.map(|entry| Ok(entry?.metadata()?.len() as f64));
    sizes.sum()
}

/// A record as the master writes it (crates/master/src/monitoring_server/files.rs).
#[derive(Clone, PartialEq, prost::Message)]
struct Packed {
    #[prost(uint32, tag = "1")]
    level: u32,
    #[prost(sint64, tag = "2")]
    from_ms: i64,
    #[prost(message, repeated, tag = "3")]
    series: Vec<PackedStretch>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PackedStretch {
    #[prost(string, tag = "1")]
    node: String,
    #[prost(string, tag = "2")]
    container: String,
    #[prost(string, tag = "3")]
    figure: String,
    #[prost(float, repeated, tag = "4")]
    mean: Vec<f32>,
    #[prost(float, repeated, tag = "5")]
    min: Vec<f32>,
    #[prost(float, repeated, tag = "6")]
    max: Vec<f32>,
    #[prost(uint32, repeated, tag = "7")]
    count: Vec<u32>,
}
