//! A real etcd for tests, of this crate and of others (feature `testing`; never in a shipped
//! program).
//!
//! Each [`Etcd`] has its own folder and free loopback ports, is waited for until it is healthy, and
//! is killed by its process id when dropped. It can be killed, started again and frozen on the way.
//! Everything here panics with a sentence when something goes wrong, as tests do.

use std::{
    fs::File,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{EtcdOptions, EtcdTls};

/// How long etcd may take to become healthy; only a broken one takes so long.
const START_DEADLINE: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Somebody may take a free port before etcd does.
const PORT_ATTEMPTS_MAX: usize = 5;

/// What kind of etcd to start.
#[derive(Debug, Clone, Default)]
pub struct EtcdSetup {
    /// TLS with client certificates on the client port.
    pub tls: bool,
    /// Further arguments for the etcd program.
    pub arguments: Vec<String>,
}

/// A running etcd: a cluster of its own, or one member of it.
#[derive(Debug)]
pub struct Etcd {
    setup: EtcdSetup,
    name: String,
    /// `name=peer URL` of every member, as etcd wants it.
    members: String,
    folder: TempDir,
    ports: Ports,
    pki: Option<Pki>,
    child: Option<Child>,
}

/// A CA with a server and a client certificate, as PEM.
#[derive(Debug, Clone)]
pub struct Pki {
    pub ca_pem: String,
    pub server_pem: (String, String),
    pub client_pem: (String, String),
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    client: u16,
    peer: u16,
    health: u16,
}

impl Etcd {
    /// Starts a plain etcd and waits until it is healthy.
    ///
    /// # Panics
    /// Where etcd is not installed or does not become healthy.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(EtcdSetup::default())
    }

    /// Starts an etcd of a kind and waits until it is healthy.
    ///
    /// # Panics
    /// Where etcd is not installed or does not become healthy.
    #[must_use]
    pub fn start_with(setup: EtcdSetup) -> Self {
        let mut etcd = Self::prepare(setup);
        for _ in 0..PORT_ATTEMPTS_MAX {
            match etcd.try_start() {
                Ok(()) => return etcd,
                Err(log) if log.contains("address already in use") => {
                    etcd = Self::prepare(etcd.setup.clone())
                }
                Err(log) => panic!("etcd ended at its start:\n{log}"),
            }
        }
        panic!("no free ports for etcd");
    }

    /// Chooses folder, ports and certificates, but starts nothing: an endpoint that is down.
    ///
    /// # Panics
    /// Where no folder or port can be had.
    #[must_use]
    pub fn prepare(setup: EtcdSetup) -> Self {
        let mut etcd = Self::member(setup, "test".to_owned());
        etcd.members = etcd.as_member();
        etcd
    }

    /// Starts a cluster of several plain members and waits until all are healthy.
    ///
    /// # Panics
    /// Where etcd is not installed or does not become healthy.
    #[must_use]
    pub fn start_cluster(members: usize) -> Vec<Self> {
        let name = |number| format!("test-{number}");
        let mut cluster: Vec<Self> =
            (0..members).map(|number| Self::member(EtcdSetup::default(), name(number))).collect();
        let all: Vec<String> = cluster.iter().map(Self::as_member).collect();
        for etcd in &mut cluster {
            etcd.members = all.join(",");
            etcd.spawn();
        }
        for etcd in &mut cluster {
            if let Err(log) = etcd.wait_until_healthy() {
                panic!("a member of the etcd cluster ended at its start:\n{log}");
            }
        }
        cluster
    }

    /// Starts it (again) on the same ports with the same data, and waits until it is healthy.
    ///
    /// # Panics
    /// Where etcd is not installed or does not become healthy.
    pub fn start_again(&mut self) {
        if let Err(log) = self.try_start() {
            panic!("etcd ended at its start:\n{log}");
        }
    }

    /// Kills it with SIGKILL and waits for its end. Its data stay.
    ///
    /// # Panics
    /// Where the process cannot be waited for.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // A stopped process dies of SIGKILL as well.
            child.kill().expect("etcd can be killed");
            child.wait().expect("etcd can be waited for");
        }
    }

    /// Forgets all data; the next start is an empty cluster. Only while it is down.
    ///
    /// # Panics
    /// While it runs.
    pub fn wipe(&mut self) {
        assert!(self.child.is_none(), "etcd runs, its data cannot be removed");
        std::fs::remove_dir_all(self.folder.path().join("data"))
            .expect("etcd's data can be removed");
    }

    /// Stops all its threads where they are (SIGSTOP), as a disk that hangs or a suspended machine
    /// would. Returns when the last of them stands still.
    ///
    /// # Panics
    /// Where the process is gone.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        let deadline = Instant::now() + START_DEADLINE;
        while !self.pid().is_some_and(all_threads_stopped) {
            assert!(Instant::now() < deadline, "etcd does not stop");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Panics
    /// Where the process is gone.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Where clients connect.
    #[must_use]
    pub fn endpoint(&self) -> String {
        let scheme = if self.setup.tls { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.ports.client)
    }

    /// What a store needs to connect, with certificates where it asks for them.
    #[must_use]
    pub fn options(&self, client: &str) -> EtcdOptions {
        let options = EtcdOptions::new([self.endpoint()], client);
        match &self.pki {
            Some(pki) => options.tls(pki.client_tls()),
            None => options,
        }
    }

    /// The certificates, where it was started with TLS.
    #[must_use]
    pub fn pki(&self) -> Option<&Pki> {
        self.pki.as_ref()
    }

    /// Its process id while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Makes a call of etcd's JSON gateway (`/v3/auth/enable`, ...), for what our client has no
    /// need of.
    ///
    /// # Panics
    /// Where it is not answered with 200.
    pub fn gateway(&self, path: &str, json: &str) {
        let request = format!(
            "POST {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{json}",
            json.len()
        );
        let answer = http(self.ports.client, &request).expect("etcd answers on its JSON gateway");
        assert!(answer.starts_with("HTTP/1.0 200"), "{path} {json}: {answer}");
    }

    /// Adds a root user and one user that may use PICCOLO's keys, and turns access control on.
    /// Without TLS only.
    ///
    /// # Panics
    /// Where etcd refuses.
    pub fn require_users(&self, user: &str, password: &str) {
        for (path, json) in [
            ("/v3/auth/role/add", r#"{"name":"root"}"#.to_owned()),
            ("/v3/auth/user/add", r#"{"name":"root","password":"root"}"#.to_owned()),
            ("/v3/auth/user/grant", r#"{"user":"root","role":"root"}"#.to_owned()),
            ("/v3/auth/role/add", r#"{"name":"piccolo"}"#.to_owned()),
            (
                // From /piccolo/ to /piccolo0, both in base64.
                "/v3/auth/role/grant",
                r#"{"name":"piccolo","perm":{"permType":2,"key":"L3BpY2NvbG8v","range_end":"L3BpY2NvbG8w"}}"#
                    .to_owned(),
            ),
            ("/v3/auth/user/add", format!(r#"{{"name":"{user}","password":"{password}"}}"#)),
            ("/v3/auth/user/grant", format!(r#"{{"user":"{user}","role":"piccolo"}}"#)),
            ("/v3/auth/enable", "{}".to_owned()),
        ] {
            self.gateway(path, &json);
        }
    }

    /// The number of the member that leads, as its own metrics say; `None` while there is no
    /// leader.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn leader(cluster: &[Self]) -> Option<usize> {
        cluster.iter().position(|etcd| {
            let metrics = http(etcd.ports.health, "GET /metrics HTTP/1.0\r\n\r\n");
            metrics.is_ok_and(|text| text.lines().any(|line| line == "etcd_server_is_leader 1"))
        })
    }

    fn member(setup: EtcdSetup, name: String) -> Self {
        let folder = TempDir::new().expect("a temporary folder for etcd");
        let pki = setup.tls.then(Pki::new);
        if let Some(pki) = &pki {
            pki.write(&folder);
        }
        Self { setup, name, members: String::new(), folder, ports: Ports::free(), pki, child: None }
    }

    fn as_member(&self) -> String {
        format!("{}=http://127.0.0.1:{}", self.name, self.ports.peer)
    }

    /// Starts the process; gives its log where it ends before it is healthy.
    fn try_start(&mut self) -> Result<(), String> {
        self.spawn();
        self.wait_until_healthy()
    }

    fn spawn(&mut self) {
        assert!(self.child.is_none(), "etcd runs already");
        let log = File::create(self.log_path()).expect("a log file for etcd");
        let mut command = Command::new("etcd");
        command.args(self.arguments()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // etcd 3.4 wants to be told that somebody knows it runs on ARM.
        if cfg!(target_arch = "aarch64") {
            command.env("ETCD_UNSUPPORTED_ARCH", "arm64");
        }
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("cannot start etcd ({error}); `cargo xtask setup` installs it (Debian package etcd-server)")
        });
        self.child = Some(child);
    }

    fn wait_until_healthy(&mut self) -> Result<(), String> {
        let log_path = self.log_path();
        let child = self.child.as_mut().expect("etcd was started");
        let deadline = Instant::now() + START_DEADLINE;
        while Instant::now() < deadline {
            if child.try_wait().expect("etcd can be waited for").is_some() {
                self.child = None;
                return Err(read(&log_path));
            }
            let health = http(self.ports.health, "GET /health HTTP/1.0\r\n\r\n");
            if health.is_ok_and(|answer| answer.contains(r#""health":"true""#)) {
                return Ok(());
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        panic!("etcd is not healthy after {START_DEADLINE:?}:\n{}", read(&log_path));
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn arguments(&self) -> Vec<String> {
        let Ports { peer, health, .. } = self.ports;
        let peer_url = format!("http://127.0.0.1:{peer}");
        let mut arguments = vec![
            format!("--name={}", self.name),
            format!("--data-dir={}", self.folder.path().join("data").display()),
            format!("--listen-client-urls={}", self.endpoint()),
            format!("--advertise-client-urls={}", self.endpoint()),
            format!("--listen-peer-urls={peer_url}"),
            format!("--initial-advertise-peer-urls={peer_url}"),
            format!("--initial-cluster={}", self.members),
            format!("--listen-metrics-urls=http://127.0.0.1:{health}"),
            "--logger=zap".to_owned(),
        ];
        if self.setup.tls {
            let file = |name: &str| self.folder.path().join(name).display().to_string();
            arguments.extend([
                format!("--cert-file={}", file("server.pem")),
                format!("--key-file={}", file("server.key")),
                format!("--trusted-ca-file={}", file("ca.pem")),
                "--client-cert-auth".to_owned(),
            ]);
        }
        arguments.extend(self.setup.arguments.iter().cloned());
        arguments
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("etcd runs");
        kill_process(Pid::from_child(child), signal).expect("etcd can be signalled");
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Pki {
    /// A new CA and certificates for 127.0.0.1 and for a client.
    ///
    /// # Panics
    /// Where keys cannot be made.
    #[must_use]
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "etcd test CA");
        let ca_pem = params.self_signed(&key).expect("a CA certificate").pem();
        let issuer = Issuer::new(params, key);
        let issue = |name: &str, usage| {
            let key = KeyPair::generate().expect("a key");
            let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
            let mut params = CertificateParams::new(names).expect("valid names");
            params.distinguished_name.push(DnType::CommonName, name);
            params.extended_key_usages = vec![usage];
            let certificate = params.signed_by(&key, &issuer).expect("a certificate");
            (certificate.pem(), key.serialize_pem())
        };
        // etcd's JSON gateway dials its own server with the server's certificate.
        let server_pem = issue("etcd", ExtendedKeyUsagePurpose::ServerAuth);
        let client_pem = issue("piccolo", ExtendedKeyUsagePurpose::ClientAuth);
        Self { ca_pem, server_pem, client_pem }
    }

    /// What a store needs to connect to a server with these certificates.
    #[must_use]
    pub fn client_tls(&self) -> EtcdTls {
        let (certificate, key) = &self.client_pem;
        EtcdTls {
            ca_pem: self.ca_pem.clone().into_bytes(),
            client_pem: Some((certificate.clone().into_bytes(), key.clone().into_bytes())),
            server_name: None,
        }
    }

    fn write(&self, folder: &TempDir) {
        for (name, text) in [
            ("ca.pem", &self.ca_pem),
            ("server.pem", &self.server_pem.0),
            ("server.key", &self.server_pem.1),
        ] {
            std::fs::write(folder.path().join(name), text).expect("a file in the temporary folder");
        }
    }
}

impl Default for Pki {
    fn default() -> Self {
        Self::new()
    }
}

impl Ports {
    /// Three ports that are free now. All are held until the last is known, so that they differ.
    fn free() -> Self {
        let listen = || TcpListener::bind("127.0.0.1:0").expect("a free loopback port");
        let listeners = [listen(), listen(), listen()];
        let [client, peer, health] =
            listeners.each_ref().map(|l| l.local_addr().expect("a bound socket").port());
        Self { client, peer, health }
    }
}

fn all_threads_stopped(pid: u32) -> bool {
    let threads =
        std::fs::read_dir(format!("/proc/{pid}/task")).expect("etcd's threads can be listed");
    threads.flatten().all(|thread| {
        // `pid (name) state ...`; a thread that ended meanwhile does not count.
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with('T'))
    })
}

fn http(port: u16, request: &str) -> std::io::Result<String> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn read(path: &PathBuf) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| error.to_string())
}
