//! From a condition to those who are to know of it: a node goes into maintenance, a rule speaks of that, and a webhook, a mail
//! server and a subscriber of MQTT are told.
//!
//! The time begins before the command that sets the condition is started, so it is rather too long than too short. It ends
//! when the whole notification is there. The three are told at once, each by a channel of its own.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread::spawn,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use piccolo_testkit::cluster::{Cluster, PATIENCE, Process, free_port};

use crate::{
    figure::{Figure, Target},
    ground::{Ground, board_name},
};

const RULE: &str = "rules:
  - name: Bench
    on: node
    when: node.status == \"Maintenance\"
    in_maintenance: true
    severity: warning
    message: \"{{ node.name }}\"
";
/// In the order of the rows.
const WAYS: [&str; 3] = ["webhook", "smtp", "mqtt"];

/// Which way it came, when, and what it says.
type Told = (usize, Instant, String);

pub(crate) fn measure(ground: &Ground) -> Result<Vec<Figure>> {
    let mut cluster = ground.empty_cluster("alerts", false, "")?;
    let board = board_name(1);
    cluster.join(&board)?;
    cluster.wait_for_status(&board, "Ready")?;
    let (tell, told) = channel();
    let broker = Broker::start(&cluster, tell.clone())?;
    let (webhook, smtp) = (listen(0, tell.clone(), post)?, listen(1, tell, letter)?);
    let channels = format!(
        "channels:
  - {{ name: webhook, per_minute: 600, webhook: {{ url: \"http://127.0.0.1:{webhook}/\" }} }}
  - {{ name: smtp, per_minute: 600, smtp: {{ host: 127.0.0.1, port: {smtp}, protection: none, from: a@example.org, to: [b@example.org] }} }}
  - {{ name: mqtt, per_minute: 600, mqtt: {{ host: 127.0.0.1, port: {}, protection: none, topic: bench }} }}
",
        broker.port
    );
    apply(&cluster, "channel", &channels)?;
    until_all_hear(&cluster, &told)?;
    apply(&cluster, "rules", RULE)?;
    let mut times = [const { Vec::new() }; WAYS.len()];
    for _ in 0..ground.runs {
        for (way, took) in set(&cluster, "on", &board, &told, " firing: ")?.into_iter().enumerate()
        {
            times[way].push(took);
        }
        set(&cluster, "off", &board, &told, " resolved: ")?;
    }
    let target = Target::Times { median: 1.0, worst: 3.0 };
    let figure = |(way, times)| {
        Figure::many(format!("condition -> told by {way}"), "s", times).target(target)
    };
    Ok(WAYS.into_iter().zip(times).map(figure).collect())
}

fn apply(cluster: &Cluster, what: &str, text: &str) -> Result<()> {
    let file = cluster.folder().join(format!("{what}.yaml"));
    std::fs::write(&file, text)?;
    let file = file.to_str().context("a path that is no text")?;
    succeed(cluster, &["alert", what, "apply", "--file", file])
}

fn succeed(cluster: &Cluster, arguments: &[&str]) -> Result<()> {
    let output = cluster.piccolo(arguments)?;
    let why = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "piccolo {}: {why}", arguments.join(" "));
    Ok(())
}

/// A subscriber does not say when it begins to hear.
fn until_all_hear(cluster: &Cluster, told: &Receiver<Told>) -> Result<()> {
    for (way, name) in WAYS.iter().enumerate() {
        let begun = Instant::now();
        loop {
            ensure!(begun.elapsed() < PATIENCE, "nothing comes by {name}");
            succeed(cluster, &["alert", "channel", "test", name])?;
            match told.recv_timeout(Duration::from_millis(500)) {
                Ok((by, ..)) if by == way => break,
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(error @ RecvTimeoutError::Disconnected) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// Seconds until each was told.
fn set(
    cluster: &Cluster,
    switch: &str,
    board: &str,
    told: &Receiver<Told>,
    what: &str,
) -> Result<[f64; WAYS.len()]> {
    let begun = Instant::now();
    succeed(cluster, &["node", "maintenance", switch, board])?;
    let mut took = [None; WAYS.len()];
    while let Some(missing) = took.iter().position(Option::is_none) {
        let next = told.recv_timeout(PATIENCE);
        let (way, at, text) = next.with_context(|| format!("{} tells nothing", WAYS[missing]))?;
        if text.contains(what) {
            took[way].get_or_insert((at - begun).as_secs_f64());
        }
    }
    Ok(took.map(Option::unwrap_or_default))
}

/// A server that takes one message of each connection, and its port.
fn listen(
    way: usize,
    tell: Sender<Told>,
    take: fn(&mut BufReader<TcpStream>) -> Result<String>,
) -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = BufReader::new(stream);
            if let Ok(text) = take(&mut stream)
                && tell.send((way, Instant::now(), text)).is_err()
            {
                return;
            }
        }
    });
    Ok(port)
}

/// The body of a POST.
fn post(stream: &mut BufReader<TcpStream>) -> Result<String> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    stream.get_mut().write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")?;
    Ok(String::from_utf8(body)?)
}

/// A letter as it is sent.
fn letter(stream: &mut BufReader<TcpStream>) -> Result<String> {
    stream.get_mut().write_all(b"220 bench\r\n")?;
    let mut letter = String::new();
    let mut is_letter = false;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            bail!("it ended within a letter");
        }
        if is_letter && line == ".\r\n" {
            stream.get_mut().write_all(b"250 taken\r\n")?;
            return Ok(letter);
        }
        if is_letter {
            letter += &line;
            continue;
        }
        is_letter = line == "DATA\r\n";
        stream.get_mut().write_all(if is_letter { b"354 go on\r\n" } else { b"250 well\r\n" })?;
    }
}

/// Mosquitto, and who hears it.
struct Broker {
    _server: Process,
    subscriber: Child,
    port: u16,
}

impl Broker {
    fn start(cluster: &Cluster, tell: Sender<Told>) -> Result<Self> {
        let port = free_port()?;
        let mut server = Command::new("mosquitto");
        server.args(["-p", &port.to_string()]);
        // Debian has it where only root's PATH leads
        server.env("PATH", std::env::var("PATH").unwrap_or_default() + ":/usr/sbin");
        let server = Process::start("mosquitto", server, &cluster.folder().join("mosquitto.log"))?;
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(begun.elapsed() < PATIENCE, "mosquitto: {}", server.log_tail());
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut subscriber = Command::new("mosquitto_sub")
            .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-t", "bench", "-q", "1"])
            .stdout(Stdio::piped())
            .spawn()
            .context("mosquitto_sub cannot be started")?;
        let lines = subscriber.stdout.take().map(BufReader::new).context("it has no output")?;
        spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                if tell.send((2, Instant::now(), line)).is_err() {
                    return;
                }
            }
        });
        Ok(Self { _server: server, subscriber, port })
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.subscriber.kill().ok();
        self.subscriber.wait().ok();
    }
}
