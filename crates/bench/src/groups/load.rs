//! Thousands of agents on one master, over real TLS (HLD §4.2).
//!
//! They live in this process: each has its own key, certificate, loopback address and connection, joins
//! with a token, beats once a second, and reports its status every ten. What they report does not
//! change but for the figures; that is what an idle board does. The master and they share the cores.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use piccolo_rpc::{
    tls::{
        clock::Clock,
        connector::{ClientOptions, Connector},
        identity::{Identity, PrivateKey},
        token::JoinToken,
    },
    v1::{
        self, agent_message::Message as Up, master_message::Message as Down,
        node_agent_service_client::NodeAgentServiceClient,
    },
};
use piccolo_testkit::cluster::Cluster;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::{
    runtime::Runtime,
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{MissedTickBehavior, interval_at, timeout},
};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    figure::Figure,
    ground::{Ground, cpu_percent},
    usage,
};

/// What one token may be used for at most.
const USES_PER_TOKEN: usize = 1000;
/// Agents that join at the same moment.
const JOINING_MAX: usize = 16;
const BEAT_EVERY: Duration = Duration::from_secs(1);
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// For one agent to join or to open its session, on a machine that does it for thousands.
const PATIENCE: Duration = Duration::from_secs(60);
/// For all of them to be Ready once they have sessions.
const READY_WITHIN: Duration = Duration::from_secs(120);
const MEASURED_FOR: Duration = Duration::from_secs(60);
/// Messages that wait for the network.
const OUTGOING_MAX: usize = 8;
/// Files that a process has open besides its sessions.
const OTHER_FILES: u64 = 200;

pub(crate) fn measure(ground: &Ground) -> Result<Vec<Figure>> {
    let small = hold(ground, 1000)?;
    let large = hold(ground, 5000)?;
    let more = |held: &Held| {
        format!(
            "{:.0} % of a core, {:.0} MiB; {} sessions of agents broke",
            held.cpu, held.rss_mib, held.broken
        )
    };
    Ok(vec![
        Figure::one("1,000 simulated agents: master CPU", "% of a core", small.cpu)
            .at_most(15.0)
            .note(format!("{:.0} MiB; {} false NotReady", small.rss_mib, small.not_ready)),
        Figure::one("5,000 simulated agents: false NotReady", "count", large.not_ready as f64)
            .at_most(0.0)
            .note(more(&large)),
        Figure::one("1,000 agents join and are Ready", "s", small.joined),
        Figure::one("5,000 agents join and are Ready", "s", large.joined),
    ])
}

struct Held {
    cpu: f64,
    rss_mib: f64,
    not_ready: usize,
    broken: usize,
    joined: f64,
}

fn hold(ground: &Ground, agents: usize) -> Result<Held> {
    raise_file_limit(agents as u64 + OTHER_FILES)?;
    let cluster = ground.empty_cluster(&format!("load-{agents}"), false, "")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let begun = Instant::now();
    let broken = Arc::new(AtomicUsize::new(0));
    let mut sessions = start_agents(&runtime, &cluster, agents, &broken)?;
    let ready = || -> Result<usize> {
        let nodes = cluster.json(&["--timeout", "60s", "node", "list", "-o", "json"])?;
        let nodes = nodes["nodes"].as_array().context("no list of nodes")?;
        Ok(nodes.iter().filter(|node| node["status"] == "Ready").count())
    };
    let until = Instant::now() + READY_WITHIN;
    loop {
        let count = ready()?;
        if count == agents {
            break;
        }
        ensure!(Instant::now() < until, "only {count} of {agents} agents are Ready");
        sleep(Duration::from_secs(1));
    }
    let joined = begun.elapsed().as_secs_f64();
    let mut events = cluster.watch(&["events", "--watch", "-n", "1"])?;
    // the answers to all those questions are over
    sleep(Duration::from_secs(5));
    let before = broken.load(Ordering::Relaxed);
    let pid = cluster.master.pid();
    let cpu = cpu_percent(&[(pid, false)], MEASURED_FOR)?[0];
    let rss_mib = usage::rss_kib(pid)? / 1024.0;
    let not_ready = events.so_far().iter().filter(|line| line.contains("NodeNotReady")).count();
    let still = ready()?;
    ensure!(still + not_ready >= agents, "{still} of {agents} are Ready, and no event says why");
    let broken = broken.load(Ordering::Relaxed) - before;
    runtime.block_on(sessions.shutdown());
    Ok(Held { cpu, rss_mib, not_ready, broken, joined })
}

/// Returns when all have joined; their sessions go on in the set.
pub(super) fn start_agents(
    runtime: &Runtime,
    cluster: &Cluster,
    agents: usize,
    broken: &Arc<AtomicUsize>,
) -> Result<JoinSet<()>> {
    let uses = USES_PER_TOKEN.to_string();
    let tokens: Vec<JoinToken> = (0..agents.div_ceil(USES_PER_TOKEN))
        .map(|_| Ok(cluster.token(&["--uses", &uses])?.parse()?))
        .collect::<Result<_>>()?;
    let slots = Arc::new(Semaphore::new(JOINING_MAX));
    runtime.block_on(async {
        let mut joining = JoinSet::new();
        let mut sessions = JoinSet::new();
        for number in 0..agents {
            let agent = Agent {
                number,
                id: format!("load-{number:05}"),
                address: address(number),
                master: cluster.address.clone(),
            };
            let (token, slots) = (tokens[number / USES_PER_TOKEN].clone(), Arc::clone(&slots));
            joining.spawn(async move {
                let _slot = slots.acquire_owned().await?;
                let identity = timeout(PATIENCE, agent.join(&token)).await??;
                let open = timeout(PATIENCE, agent.open(&identity)).await??;
                Ok::<_, anyhow::Error>((agent, open))
            });
        }
        while let Some(joined) = joining.join_next().await {
            let (agent, open) = joined?.context("an agent cannot join")?;
            let broken = Arc::clone(broken);
            sessions.spawn(async move {
                if agent.live(open).await.is_err() {
                    broken.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Ok(sessions)
    })
}

struct Agent {
    number: usize,
    id: String,
    address: IpAddr,
    master: String,
}

struct Open {
    outgoing: mpsc::Sender<v1::AgentMessage>,
    incoming: tonic::Streaming<v1::MasterMessage>,
}

impl Agent {
    fn options(&self) -> ClientOptions {
        ClientOptions {
            source: Some(self.address),
            dial_timeout: PATIENCE,
            connect_timeout: PATIENCE,
            ..ClientOptions::new(Clock::with_floor(0))
        }
    }

    async fn join(&self, token: &JoinToken) -> Result<Identity> {
        let key = PrivateKey::generate()?;
        let connector = Connector::joining(token.ca_digest(), self.options())?;
        let channel = connector.channel(&self.master).await?;
        let request = v1::NodeRegistrationRequest {
            node_id: self.id.clone(),
            hostname: self.id.clone(),
            ip_address: self.address.to_string(),
            role: v1::NodeRole::Sub.into(),
            kind: v1::NodeKind::Embedded.into(),
            resources: Some(resources()),
            credentials: Some(v1::Credentials {
                token: token.expose(),
                certificate_signing_request: key.signing_request()?,
            }),
            system: Some(system()),
            ..v1::NodeRegistrationRequest::default()
        };
        let answer =
            NodeAgentServiceClient::new(channel).register_node(request).await?.into_inner();
        let pem = String::from_utf8([answer.certificate, answer.ca_certificate].concat())?;
        Ok(Identity::from_issued(key, &pem)?)
    }

    async fn open(&self, identity: &Identity) -> Result<Open> {
        let channel = Connector::new(identity, self.options())?.channel(&self.master).await?;
        let (outgoing, messages) = mpsc::channel(OUTGOING_MAX);
        let hello = v1::Hello {
            node_id: self.id.clone(),
            next_sequence: 1,
            hostname: self.id.clone(),
            ip_address: self.address.to_string(),
            resources: Some(resources()),
            system: Some(system()),
            ..v1::Hello::default()
        };
        outgoing.send(up(Up::Hello(hello))).await?;
        let messages = ReceiverStream::new(messages);
        let incoming = NodeAgentServiceClient::new(channel).session(messages).await?.into_inner();
        Ok(Open { outgoing, incoming })
    }

    /// Until the master ends it; that is never meant to be.
    async fn live(&self, mut open: Open) -> Result<()> {
        // spread over the second, and over the ten: boards are not switched on by one switch
        let phase = Duration::from_millis(self.number as u64 * 37 % 1000);
        let begin = tokio::time::Instant::now() + phase;
        let mut beats = interval_at(begin, BEAT_EVERY);
        let mut reports = interval_at(begin + BEAT_EVERY * (self.number as u32 % 10), REPORT_EVERY);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sample = 0;
        loop {
            tokio::select! {
                message = open.incoming.message() => match message?.and_then(|m| m.message) {
                    Some(Down::Config(config)) => {
                        let applied = v1::ConfigRequest {
                            node_id: self.id.clone(),
                            applied_generation: config.generation,
                            ..v1::ConfigRequest::default()
                        };
                        open.outgoing.send(up(Up::ConfigApplied(applied))).await?;
                    }
                    Some(Down::Goodbye(goodbye)) => bail!("{}: {}", goodbye.reason, goodbye.message),
                    Some(_) => {}
                    None => bail!("the master has closed the session"),
                },
                _ = beats.tick() => open.outgoing.send(up(Up::Beat(v1::Beat {}))).await?,
                _ = reports.tick() => {
                    sample += 1;
                    open.outgoing.send(up(Up::Status(self.report(sample)))).await?;
                }
            }
        }
    }

    fn report(&self, sample: u64) -> v1::StatusReport {
        let figures = [
            ("cpu_percent", sample % 7),
            ("memory_used_bytes", 200_000_000 + sample * 4096),
            ("memory_total_bytes", 512_000_000),
            ("disk_used_bytes", 1_000_000_000),
            ("disk_total_bytes", 4_000_000_000),
            ("net_rx_bytes_total", sample * 5000),
            ("net_tx_bytes_total", sample * 6000),
            ("uptime_seconds", sample * 10),
        ];
        v1::StatusReport {
            node_id: self.id.clone(),
            status: v1::NodeStatus::Ready.into(),
            metrics: figures.iter().map(|(k, v)| ((*k).to_owned(), v.to_string())).collect(),
            metrics_only: sample > 1,
            ..v1::StatusReport::default()
        }
    }
}

fn up(message: Up) -> v1::AgentMessage {
    v1::AgentMessage { message: Some(message) }
}

fn resources() -> v1::ResourceInfo {
    v1::ResourceInfo { cpu: 4, memory: 512, disk: 4 }
}

fn system() -> v1::SystemInfo {
    v1::SystemInfo {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        architecture: "x86_64".to_owned(),
        os: "simulated".to_owned(),
        ..v1::SystemInfo::default()
    }
}

/// One of its own for each: the master's limits are per address.
fn address(number: usize) -> IpAddr {
    let (high, low) = (number / 250, number % 250 + 1);
    Ipv4Addr::new(127, 7, high as u8, low as u8).into()
}

/// For this process and the master that it starts.
fn raise_file_limit(files: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < files) {
        let most = limit.maximum.unwrap_or(files);
        ensure!(most >= files, "{files} open files are needed, and {most} are allowed: ulimit -Hn");
        setrlimit(Resource::Nofile, rustix::process::Rlimit { current: Some(most), ..limit })?;
    }
    Ok(())
}
