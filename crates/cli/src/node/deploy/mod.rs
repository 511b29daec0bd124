//! `piccolo node deploy` and `undeploy`: from a host with SSH to a node that is Ready, and back
//! (HLD §1.2.4, §12.1).
//!
//! - [`ssh`]: one connection for each host, by the system's ssh; [`facts`]: what the host says it is
//! - [`release`]: which release for which processor; [`inventory`]: hosts from a file
//! - [`plan`]: what is to be done with a host, without side effects
//! - [`steps`]: doing it, and back where a step fails; [`undeploy`]: away again
//! - [`show`]: the live table, and what came of each host
//!
//! Hosts are worked on in parallel, and one that fails keeps no other from its end.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use futures_util::{StreamExt as _, stream};
use piccolo_core::{
    api_server::{Call, Role, may},
    model::NodeName,
};
use piccolo_rpc::{tls::names, v1};
use tokio::{sync::watch, time::Instant};

pub mod facts;
pub mod inventory;
pub mod plan;
pub mod release;
pub mod show;
pub mod ssh;
pub mod steps;
pub mod trouble;
pub mod undeploy;

use crate::{
    connection::{Cluster, host_of},
    failure::{Exit, Failure},
    output::OutputArgs,
    text::parse_duration,
};
use release::Parcel;
use show::{Board, Line, Outcome, Problem, conclude};
use ssh::{Session, SshArgs, Target, Workshop};
use steps::{Done, Step, Walk};
use trouble::Trouble;

pub const DEPLOY_EXAMPLES: &str = "Examples:
  piccolo node deploy root@192.0.2.21 root@192.0.2.22
  piccolo node deploy --file inventory.yaml --release ./dist
  piccolo node deploy --dry-run root@192.0.2.21   # installs nothing
  piccolo node deploy --name zone-a --jump gate.example.org root@board-1
  piccolo node deploy --take-over root@192.0.2.21   # from another cluster

An inventory has one entry for each host; only address must be there:
  hosts:
    - address: 192.0.2.21
      user: root
      port: 22
      name: zone-a
      identity: ~/.ssh/boards
      jump: gate.example.org
      labels: {site: seoul}";

/// For the registry to forget a node that was removed, and how often it is asked.
const GONE_TIMEOUT: Duration = Duration::from_secs(30);
const GONE_EVERY: Duration = Duration::from_millis(300);
/// The port of a master that is named without one.
const MASTER_PORT: u16 = 47098;

#[derive(Debug, Args)]
pub struct DeployArgs {
    /// Where to, as ssh knows it
    #[arg(value_name = "[USER@]HOST", value_parser = Target::parse)]
    #[arg(required_unless_present = "file")]
    hosts: Vec<Target>,
    /// A YAML file with hosts, beside those on the command line
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A release (folder or tarball), or a folder with several; may be repeated
    ///
    /// For each host the one for its processor is taken. Without it: the release of this machine.
    #[arg(long, value_name = "DIR|TARBALL")]
    release: Vec<PathBuf>,
    /// A master by the address at which the hosts reach it; may be repeated
    ///
    /// Without it: the masters of the context.
    #[arg(long, value_name = "HOST[:PORT]", value_parser = master)]
    master: Vec<String>,
    /// The node's name in the cluster, in place of the host's own; for one host
    #[arg(long, value_name = "NAME", value_parser = node_name)]
    name: Option<String>,
    /// Go on although the system check finds errors
    #[arg(long)]
    force: bool,
    /// Take a host over that is a node of another cluster, or of one whose master is lost
    ///
    /// It leaves that for good; where it cannot join this one, its old identity is put back. Containers go on.
    #[arg(long)]
    take_over: bool,
    /// Connect, check, and say what would be done
    #[arg(long)]
    dry_run: bool,
    /// How long a node may take to become Ready, once it is installed
    #[arg(long, default_value = "60s", value_parser = parse_duration, value_name = "TIME")]
    wait_timeout: Duration,
    #[command(flatten)]
    work: WorkArgs,
}

/// What deploying and undeploying have in common.
#[derive(Debug, Args)]
pub struct WorkArgs {
    /// Hosts that are worked on at the same time
    #[arg(long, default_value_t = 8, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=32))]
    parallel: u16,
    #[command(flatten)]
    ssh: SshArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// A host to work on.
#[derive(Debug, Clone)]
pub struct Host {
    pub target: Target,
    pub ssh: SshArgs,
    pub name: Option<String>,
    pub labels: BTreeMap<String, String>,
}

/// What is the same for all hosts.
#[derive(Debug)]
pub struct Job<'j> {
    pub cluster: &'j Cluster,
    pub workshop: &'j Path,
    pub parcels: Vec<Parcel>,
    pub masters: Vec<String>,
    pub force: bool,
    pub dry_run: bool,
    pub take_over: bool,
    pub wait_timeout: Duration,
    pub machines: Machines,
}

/// The machines that hosts turned out to be, each with the host that came first.
#[derive(Debug, Default)]
pub struct Machines(RefCell<BTreeMap<String, String>>);

impl Machines {
    /// # Errors
    /// That machine is worked on already, under another address.
    pub fn claim(&self, machine: &str, host: &str) -> Result<(), Trouble> {
        if machine.is_empty() {
            return Ok(());
        }
        let mut known = self.0.borrow_mut();
        if let Some(first) = known.get(machine) {
            return Err(Trouble::new(format!("it is the same machine as {first}"))
                .help(format!("name it once; {host} was left alone")));
        }
        known.insert(machine.to_owned(), host.to_owned());
        Ok(())
    }
}

impl Job<'_> {
    /// # Errors
    /// As the master answers.
    pub async fn nodes(&self) -> Result<Vec<v1::Node>, Failure> {
        let mut client = self.cluster.connect().await?;
        let request = v1::GetNodesRequest::default();
        let answer = client
            .call("cannot list nodes", request, async |api, r| api.get_nodes(r).await)
            .await?;
        Ok(answer.nodes)
    }

    /// # Errors
    /// The role of the context may not call that: the master would refuse it, and some hosts would have changed by
    /// then.
    pub fn may(&self, call: Call, what: &str) -> Result<(), Failure> {
        let context = &self.cluster.context;
        let role = match context.identity.name().role {
            names::Role::Admin => Role::Admin,
            names::Role::Operator => Role::Operator,
            names::Role::Viewer => Role::Viewer,
            // None of a person; the master decides.
            names::Role::Master | names::Role::Sub | names::Role::Cluster => return Ok(()),
        };
        if may(role, call) {
            return Ok(());
        }
        let error = format!("{} may not {what}; nothing was done", context.who());
        Err(Failure::new(Exit::Denied, error)
            .help("do it with the context of an admin: --context FILE"))
    }

    /// Waits until the registry no longer lists it: one that is removed leaves first.
    ///
    /// # Errors
    /// It is still there after some time, or as the master answers.
    pub async fn gone(&self, id: &str) -> Result<(), Trouble> {
        let deadline = Instant::now() + GONE_TIMEOUT;
        loop {
            let nodes = self.nodes().await?;
            let Some(node) = nodes.iter().find(|node| node.id == id) else { return Ok(()) };
            if Instant::now() >= deadline {
                let status = crate::words::status(node.status);
                return Err(Trouble::new(format!("node {} is still {status}", node.name))
                    .help("it goes by itself: piccolo node list --watch"));
            }
            tokio::time::sleep(GONE_EVERY).await;
        }
    }

    /// Out of the registry; one that is not there is out.
    ///
    /// # Errors
    /// As the master answers.
    pub async fn remove(&self, id: &str) -> Result<(), Trouble> {
        let mut client = self.cluster.connect().await?;
        let request = v1::RemoveNodeRequest { node_id: id.to_owned() };
        let what = format!("cannot remove node {id}");
        match client.call(&what, request, async |api, r| api.remove_node(r).await).await {
            Err(failure) if failure.exit != Exit::NotFound => Err(failure.into()),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// # Errors
/// Nothing was done, or, silently, a host failed: then the others are done.
pub async fn deploy(cluster: &Cluster, args: &DeployArgs) -> Result<(), Failure> {
    let hosts = hosts(args)?;
    let masters = masters(cluster, &args.master)?;
    let workshop = workshop()?;
    let releases = release::find(&args.release, workshop.path()).await?;
    let mut job = Job {
        cluster,
        workshop: workshop.path(),
        parcels: vec![],
        masters,
        force: args.force,
        dry_run: args.dry_run,
        take_over: args.take_over,
        wait_timeout: args.wait_timeout,
        machines: Machines::default(),
    };
    // Before any host is touched: is there a master, and may we?
    job.nodes().await?;
    job.parcels = release::pack(&releases, workshop.path()).await?;
    let board = Board::new(args.work.output.format, hosts.iter().map(|h| h.target.to_string()));
    let outcomes = each(&hosts, args.work.parallel, async |number, host, stop| {
        let line = board.line(&host.target.to_string());
        let outcome = deploy_one(&job, number, host, &line, stop).await;
        line.end(&outcome);
        outcome
    })
    .await;
    conclude(&outcomes, args.work.output.format)
}

/// From the command line, and from the inventory.
fn hosts(args: &DeployArgs) -> Result<Vec<Host>, Failure> {
    let from_file = args.file.as_deref().map(|file| inventory::read(file, &args.work.ssh));
    let mut hosts = from_file.transpose()?.unwrap_or_default();
    for target in &args.hosts {
        if hosts.iter().any(|host| host.target == *target) {
            return Err(Failure::usage(format!("{target} is there twice; nothing was done")));
        }
        let ssh = args.work.ssh.clone();
        hosts.push(Host { target: target.clone(), ssh, name: None, labels: BTreeMap::new() });
    }
    if hosts.len() > inventory::HOSTS_MAX {
        return Err(Failure::usage(format!("more than {} hosts", inventory::HOSTS_MAX)));
    }
    for host in &hosts {
        host.ssh.check()?;
    }
    if let Some(name) = &args.name {
        let [host] = hosts.as_mut_slice() else {
            return Err(Failure::usage("--name is for one host; nothing was done")
                .help("give each host its name in an inventory: --file inventory.yaml"));
        };
        host.name = Some(name.clone());
    }
    Ok(hosts)
}

/// As the hosts shall know them.
fn masters(cluster: &Cluster, named: &[String]) -> Result<Vec<String>, Failure> {
    if !named.is_empty() {
        return Ok(named.to_vec());
    }
    let known: Result<Vec<_>, _> =
        cluster.context.servers().iter().map(|text| master(text)).collect();
    let masters: Vec<_> =
        known.unwrap_or_default().into_iter().filter(|master| !is_loopback(master)).collect();
    if !masters.is_empty() {
        return Ok(masters);
    }
    Err(Failure::usage("it is not known by which address the hosts reach the master")
        .cause(format!(
            "{} names {}, which is good on this machine only",
            cluster.context.path.display(),
            cluster.context.servers().join(", ")
        ))
        .help("name it: --master HOST[:PORT]"))
}

fn is_loopback(master: &str) -> bool {
    let host = host_of(master);
    host == "localhost"
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified())
}

/// `HOST:PORT` as `install.sh` writes it; it goes into YAML and onto a command line.
fn master(text: &str) -> Result<String, String> {
    let expected = || "expected HOST or HOST:PORT, an IPv6 address in brackets".to_owned();
    let has_port = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or_else(expected)?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| expected())?;
            !port.is_empty()
        }
        None => {
            let host = text.split(':').next().unwrap_or_default();
            NodeName::parse("HOST", host).map_err(|error| error.to_string())?;
            text.contains(':')
        }
    };
    let full = if has_port { text.to_owned() } else { format!("{text}:{MASTER_PORT}") };
    let port = full.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    let is_plain = full.matches(':').count() == 1 || full.starts_with('[');
    if is_plain && port.is_some_and(|port| port > 0) { Ok(full) } else { Err(expected()) }
}

fn node_name(text: &str) -> Result<String, String> {
    NodeName::parse("NAME", text).map(|name| name.to_string()).map_err(|error| error.to_string())
}

fn workshop() -> Result<Workshop, Failure> {
    Workshop::new()
        .map_err(|error| Failure::failed("there is no room for work in /tmp").because(&error))
}

/// Turns true when the user wants to stop.
type Stop = watch::Receiver<bool>;

/// Works on all hosts, so many at a time. The outcomes are in the order of the hosts.
async fn each<H>(
    hosts: &[H],
    parallel: u16,
    act: impl AsyncFn(usize, &H, Stop) -> Outcome,
) -> Vec<Outcome> {
    let (stop, stopped) = watch::channel(false);
    let work = stream::iter(hosts.iter().enumerate())
        .map(|(number, host)| {
            let (act, stopped) = (&act, stopped.clone());
            async move { (number, act(number, host, stopped).await) }
        })
        .buffer_unordered(parallel.into())
        .collect::<Vec<_>>();
    let interrupted = async {
        // What cannot be heard stops nobody.
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.send_replace(true);
        }
        std::future::pending::<Vec<(usize, Outcome)>>().await
    };
    let mut outcomes = tokio::select! {
        outcomes = work => outcomes,
        never = interrupted => never,
    };
    outcomes.sort_by_key(|(number, _)| *number);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

/// Ends early when the user wants to stop; what comes after puts things in order.
async fn unless_stopped<T>(
    mut stop: Stop,
    work: impl Future<Output = Result<T, Trouble>>,
) -> Result<T, Trouble> {
    tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop) => {
            Err(Trouble::new("interrupted").help("run the same again: it goes on from here"))
        }
        done = work => done,
    }
}

async fn deploy_one(job: &Job<'_>, number: usize, host: &Host, line: &Line, stop: Stop) -> Outcome {
    let mut walk = Walk::new(job, host, line);
    walk.at(Step::Connect, "");
    let socket = job.workshop.join(format!("{number}"));
    let connecting = Session::open(&host.target, &host.ssh, &socket);
    let (mut arch, mut left) = (None, None);
    let done = match unless_stopped(stop.clone(), connecting).await {
        Err(trouble) => Err(trouble),
        Ok(session) => {
            arch = Some(session.facts.arch.clone());
            let done = unless_stopped(stop, walk.go(&session)).await;
            let failed_at = walk.step;
            left = walk.back(&session, done.is_err()).await;
            walk.step = failed_at;
            session.close().await;
            done
        }
    };
    let step = walk.step;
    outcome(host.target.to_string(), walk.node, done, step, left, line).with(arch, walk.warnings)
}

fn outcome(
    host: String,
    node: Option<String>,
    done: Result<Done, Trouble>,
    step: Step,
    left: Option<String>,
    line: &Line,
) -> Outcome {
    let (result, problem) = match done {
        Ok(done) => (done, None),
        Err(Trouble { said, help }) => {
            (Done::Failed, Some(Problem { step, cause: said, help, left }))
        }
    };
    Outcome { host, node, result, arch: None, warnings: 0, seconds: line.seconds(), problem }
}

impl Outcome {
    fn with(self, arch: Option<String>, warnings: u32) -> Self {
        Self { arch, warnings, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_gets_its_port_and_nothing_odd_passes() {
        for (text, full) in [
            ("192.0.2.1", "192.0.2.1:47098"),
            ("master.example:5", "master.example:5"),
            ("[2001:db8::1]", "[2001:db8::1]:47098"),
            ("[2001:db8::1]:5", "[2001:db8::1]:5"),
        ] {
            assert_eq!(master(text).as_deref(), Ok(full));
        }
        for text in
            ["", ":5", "a:0", "a:70000", "2001:db8::1", "[x]:5", "-a", "a b", "a:5:6", "a\"b"]
        {
            assert!(master(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_that_is_good_on_this_machine_only_is_known() {
        for text in ["127.0.0.1:1", "[::1]:1", "localhost:1", "0.0.0.0:1"] {
            assert!(is_loopback(text), "{text}");
        }
        assert!(!is_loopback("192.0.2.1:47098") && !is_loopback("master:1"));
    }
}
