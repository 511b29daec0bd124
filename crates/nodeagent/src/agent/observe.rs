//! What the system and Podman say, in the words of the core.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use piccolo_core::{
    model::{ContainerReport, Resources, RestartPolicy, SystemInfo},
    node_agent::{Host, Observation, Runtime, Sample, hardware::Wait},
    time::WallTime,
};

use crate::{podman, system};

/// What is told of the host when a session opens.
pub(super) fn host(hostname: String, info: &system::HostInfo, disk_total_bytes: u64) -> Host {
    let memory = info.memory_total_bytes.unwrap_or_default();
    Host {
        hostname,
        boot: info.boot_id.clone().unwrap_or_default(),
        system: SystemInfo {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            architecture: info.architecture.to_owned(),
            os: info.os_name.clone().unwrap_or_default(),
            kernel: info.kernel_release.clone().unwrap_or_default(),
            machine_id: info.machine_id.clone().unwrap_or_default(),
            runtime_version: String::new(),
        },
        resources: Resources {
            cpu: info.cpu_cores.unwrap_or_default().into(),
            memory: memory >> 20,
            disk: disk_total_bytes >> 30,
        },
    }
}

/// Figures for people and graphs; names carry their unit.
pub(super) fn sample(seen: &system::Sample) -> Sample {
    let percent = |basis_points: u16| f32::from(basis_points) / 100.0;
    let fullest = seen.disks.iter().filter_map(system::Disk::used_basis_points).max();
    let hottest = seen.hottest_millidegrees();
    Sample {
        cpu_percent: seen.cpu_basis_points.map(percent),
        memory_percent: seen.memory_used_basis_points().map(percent),
        disk_percent: fullest.map(percent),
        #[allow(clippy::cast_precision_loss, reason = "a temperature has few digits")]
        temperature: hottest.map(|millidegrees| millidegrees as f32 / 1000.0),
        metrics: metrics(seen),
        waits: Vec::new(),
    }
}

pub(super) fn wait((what, waited): (PathBuf, Duration)) -> Wait {
    Wait { what: what.display().to_string(), waited }
}

fn metrics(seen: &system::Sample) -> BTreeMap<String, String> {
    let mut metrics = BTreeMap::new();
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            metrics.insert(name.to_owned(), value);
        }
    };
    let percent = |basis_points: u16| format!("{:.1}", f32::from(basis_points) / 100.0);
    put("cpu_percent", seen.cpu_basis_points.map(percent));
    put("memory_total_bytes", seen.memory_total_bytes.map(|v| v.to_string()));
    put("memory_available_bytes", seen.memory_available_bytes.map(|v| v.to_string()));
    if let Some(disk) = seen.disks.iter().max_by_key(|disk| disk.used_basis_points()) {
        put("disk_total_bytes", disk.total_bytes.map(|v| v.to_string()));
        put("disk_free_bytes", disk.free_bytes.map(|v| v.to_string()));
    }
    put("network_rx_bytes_per_s", seen.network_rx_bytes_per_s.map(|v| v.to_string()));
    put("network_tx_bytes_per_s", seen.network_tx_bytes_per_s.map(|v| v.to_string()));
    let load = |x100: u32| format!("{}.{:02}", x100 / 100, x100 % 100);
    put("load1", seen.load.map(|l| load(l.one_minute_x100)));
    put("load5", seen.load.map(|l| load(l.five_minutes_x100)));
    put("load15", seen.load.map(|l| load(l.fifteen_minutes_x100)));
    let degrees = |millidegrees: i32| format!("{:.1}", f64::from(millidegrees) / 1000.0);
    put("temperature_celsius", seen.hottest_millidegrees().map(degrees));
    put("uptime_seconds", seen.uptime_s.map(|v| v.to_string()));
    metrics
}

/// `None` before Podman was asked for the first time.
pub(super) fn observation(
    seen: &podman::Observation,
    default: RestartPolicy,
    usage: impl Fn(&podman::Container) -> Option<podman::Usage>,
) -> Option<Observation> {
    let runtime = match &seen.runtime {
        podman::Runtime::Unknown => return None,
        podman::Runtime::Up { version } => Runtime::Up { version: version.clone() },
        podman::Runtime::Down { reason } => Runtime::Down { why: reason.clone() },
    };
    let containers = seen
        .containers
        .iter()
        .filter(|container| !container.is_infra)
        .map(|container| report(container, default, usage(container)))
        .collect();
    Some(Observation { runtime, containers })
}

fn report(
    container: &podman::Container,
    default: RestartPolicy,
    usage: Option<podman::Usage>,
) -> ContainerReport {
    let asked = container.labels.get(RestartPolicy::LABEL);
    let asked = asked.map(|word| RestartPolicy::from_name(word).unwrap_or_default());
    let ended = !matches!(container.state.as_str(), "created" | "initialized" | "running");
    let mut report = ContainerReport {
        id: container.id.clone(),
        name: container.name.clone(),
        image: container.image.clone(),
        state: container.state.clone(),
        exit_code: container.exit_code.filter(|_| ended),
        health: container.health.clone().unwrap_or_default(),
        started_at: container.started_unix_s.map(WallTime::from_secs),
        finished_at: container.exited_unix_s.filter(|_| ended).map(WallTime::from_secs),
        memory_bytes: 0,
        cpu_basis_points: 0,
        restarts: container.restarts.unwrap_or_default(),
        restart: asked.unwrap_or(default),
    };
    if let Some(usage) = usage {
        report.memory_bytes = usage.memory_bytes.unwrap_or_default();
        report.cpu_basis_points = usage.cpu_basis_points.unwrap_or_default();
    }
    report
}

#[cfg(test)]
mod tests {
    use piccolo_core::monitoring_server::{NODE_FIGURES, ROUND_TRIP};

    use super::*;

    #[test]
    fn what_is_told_of_a_node_is_what_rules_of_alerts_can_name() {
        let disk = system::Disk { path: "/".into(), total_bytes: Some(2), free_bytes: Some(1) };
        let load =
            system::Load { one_minute_x100: 1, five_minutes_x100: 2, fifteen_minutes_x100: 3 };
        let warm = system::Temperature { name: "cpu".to_owned(), millidegrees: Some(40_000) };
        let seen = system::Sample {
            cpu_basis_points: Some(1),
            cpu_cores: Some(1),
            memory_total_bytes: Some(2),
            memory_available_bytes: Some(1),
            disks: vec![disk],
            network_rx_bytes_per_s: Some(1),
            network_tx_bytes_per_s: Some(1),
            load: Some(load),
            temperatures: vec![warm],
            uptime_s: Some(1),
        };
        let mut told: Vec<_> = metrics(&seen).into_keys().collect();
        // the core's own
        told.push(ROUND_TRIP.to_owned());
        told.sort_unstable();
        assert_eq!(told, NODE_FIGURES);
    }
}
