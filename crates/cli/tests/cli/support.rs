//! A home of its own for each test, an authority, and a peer on the wire that says what a test
//! wrote down for it. The real master is tested with this program in `tests/` of the workspace.

use std::{
    collections::VecDeque,
    fs,
    future::Future,
    io::{BufRead as _, BufReader, Read},
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    pin::Pin,
    process::{Child, ChildStdout, Output, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread::JoinHandle,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::{Stream, StreamExt as _, stream};
use piccolo_rpc::{
    tls::{
        acceptor::{Acceptor, Protocol, ServerOptions},
        clock::Clock,
        identity::{Identity, PrivateKey, certificate_pem},
    },
    v1::{
        self,
        api_server_service_server::{ApiServerService, ApiServerServiceServer},
    },
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;
use time::OffsetDateTime;
use tonic::{Request, Response, Status};

use crate::fixtures;

pub(crate) const CLUSTER: &str = "c7f3a1";
/// Longest that anything here may take, on however slow a machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const HOUR: i64 = 3600;

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("ended by a signal: {output:?}"))
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A folder that is HOME for the commands of one test.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs `piccolo` to its end.
    pub(crate) fn piccolo(&self, words: &[&str]) -> Output {
        self.command().timeout(PATIENCE).args(words).output().unwrap()
    }

    pub(crate) fn command(&self) -> assert_cmd::Command {
        self.command_of(Path::new(env!("CARGO_BIN_EXE_piccolo")))
    }

    pub(crate) fn command_of(&self, executable: &Path) -> assert_cmd::Command {
        assert_cmd::Command::from_std(self.std_command(executable))
    }

    fn std_command(&self, executable: &Path) -> std::process::Command {
        let mut command = std::process::Command::new(executable);
        command.current_dir(self.0.path()).env("HOME", self.0.path());
        for variable in ["PICCOLO_CONTEXT", "XDG_CONFIG_HOME", "NO_COLOR", "TERM"] {
            command.env_remove(variable);
        }
        command
    }

    /// Starts `piccolo` and goes on.
    pub(crate) fn start(&self, words: &[&str]) -> Running {
        self.start_with_path(words, &std::env::var("PATH").unwrap_or_default())
    }

    /// The same, with other programs beside it.
    pub(crate) fn start_with_path(&self, words: &[&str], path: &str) -> Running {
        let mut command = self.std_command(Path::new(env!("CARGO_BIN_EXE_piccolo")));
        command.env("PATH", path);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let stderr = child.stderr.take().unwrap();
        Running { child, stdout: Lines::of(stdout), stderr: Lines::of(stderr) }
    }

    /// Starts `piccolo` with this stdout, e.g. a terminal.
    pub(crate) fn start_on(&self, words: &[&str], stdout: Stdio, stderr: Stdio) -> Child {
        let mut command = self.std_command(Path::new(env!("CARGO_BIN_EXE_piccolo")));
        command.args(words).env("TERM", "xterm").stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        command.spawn().unwrap()
    }

    /// Starts it where it can ask: on a terminal, by its stdin, stdout and stderr.
    pub(crate) fn start_asking(
        &self,
        words: &[&str],
        [stdin, stdout, stderr]: [fs::File; 3],
    ) -> Child {
        let mut command = self.std_command(Path::new(env!("CARGO_BIN_EXE_piccolo")));
        command.args(words).stdin(stdin).stdout(stdout).stderr(stderr).spawn().unwrap()
    }

    /// Starts it as a shell in a terminal window does: this is its terminal, and it has it to itself.
    pub(crate) fn start_at(&self, words: &[&str], terminal: &fs::File) -> Child {
        let out = || terminal.try_clone().unwrap();
        let mut command = self.std_command(Path::new("setsid"));
        command.args(["--ctty", env!("CARGO_BIN_EXE_piccolo")]).args(words).env("TERM", "xterm");
        command.stdin(out()).stdout(out()).stderr(out()).spawn().unwrap()
    }

    /// Writes a file that may be run.
    pub(crate) fn script(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Writes a context and gives its path.
    pub(crate) fn context(&self, name: &str, servers: &str, identity: &Identity) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, context_text(servers, CLUSTER, identity)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
}

/// A context file by hand, as another program would write it.
pub(crate) fn context_text(servers: &str, cluster: &str, identity: &Identity) -> String {
    let block = |pem: &str| -> String { pem.lines().map(|line| format!("  {line}\n")).collect() };
    let pem = identity.expose_pem();
    let key = pem.split("-----BEGIN CERTIFICATE-----").next().unwrap();
    format!(
        "server: {servers}\ncluster: {cluster}\nca: |\n{}certificate: |\n{}key: |\n{}",
        block(&certificate_pem(&identity.ca()[0])),
        block(&certificate_pem(&identity.chain()[0])),
        block(key)
    )
}

/// A process that is ended with the test.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) stdout: Lines,
    pub(crate) stderr: Lines,
}

impl Running {
    /// As Ctrl-C does.
    pub(crate) fn interrupt(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    }

    pub(crate) fn exit_code(&mut self) -> i32 {
        exit_code(&mut self.child)
    }
}

/// Waits for the end, with a deadline.
pub(crate) fn exit_code(child: &mut Child) -> i32 {
    let deadline = std::time::Instant::now() + PATIENCE;
    while std::time::Instant::now() < deadline {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap_or_else(|| panic!("{status}"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("the process has not ended within {PATIENCE:?}");
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lines of a pipe as they come.
pub(crate) struct Lines(mpsc::Receiver<String>);

impl Lines {
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self(receiver)
    }

    #[track_caller]
    pub(crate) fn next(&self) -> String {
        self.0.recv_timeout(PATIENCE).unwrap()
    }

    /// The next line without the time at its beginning.
    #[track_caller]
    pub(crate) fn next_untimed(&self) -> String {
        let line = self.next();
        let (at, rest) = line.split_once("  ").unwrap();
        assert!(at.ends_with('Z') && at.len() == "2026-11-23T18:50:00.000Z".len(), "{line}");
        rest.to_owned()
    }
}

/// What is left of a pipe whose reader goes away.
pub(crate) fn drop_reader(child: &mut Child) {
    let pipe: Option<ChildStdout> = child.stdout.take();
    drop(pipe);
}

/// A certificate authority for one test.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).unwrap().into();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    pub(crate) fn identity(&self, role: &str, id: &str) -> Identity {
        let key = PrivateKey::generate().unwrap();
        let pair = KeyPair::try_from(&PrivatePkcs8KeyDer::from(key.pkcs8())).unwrap();
        let certificate = params(role, id, HOUR).signed_by(&pair, &self.issuer).unwrap().into();
        Identity::new(key, vec![certificate, self.certificate.clone()]).unwrap()
    }

    /// For the public key of a request.
    fn sign(&self, request: &[u8], role: &str, id: &str) -> String {
        let request = CertificateSigningRequestParams::from_der(&request.into()).unwrap();
        let signed = CertificateSigningRequestParams { params: params(role, id, HOUR), ..request };
        certificate_pem(signed.signed_by(&self.issuer).unwrap().der())
    }
}

fn params(role: &str, id: &str, seconds: i64) -> CertificateParams {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let now = i64::try_from(now).unwrap();
    let uri = format!("piccolo://{CLUSTER}/{role}/{id}");
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if role == "master" {
        params.subject_alt_names.push(SanType::DnsName("piccolo-master".try_into().unwrap()));
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.is_ca = IsCa::ExplicitNoCa;
    params.not_before = OffsetDateTime::from_unix_timestamp(now - HOUR).unwrap();
    params.not_after = OffsetDateTime::from_unix_timestamp(now + seconds).unwrap();
    params
}

type NodeItem = Result<v1::WatchNodesResponse, Status>;
type EventItem = Result<v1::WatchEventsResponse, Status>;

/// What the peer says, and what it was asked. A stream stays open after its last item, unless that
/// is an error.
#[derive(Default)]
pub(crate) struct Script {
    /// Instead of any answer.
    pub(crate) refusal: Option<Status>,
    /// No answer at all.
    pub(crate) mute: bool,
    pub(crate) node_streams: VecDeque<Vec<NodeItem>>,
    pub(crate) event_streams: VecDeque<Vec<EventItem>>,
    /// `from_revision` of every WatchNodes, `after_id` of every WatchEvents.
    pub(crate) resumed_from: Vec<u64>,
    pub(crate) filters: Vec<Option<String>>,
    pub(crate) labelled: Vec<v1::LabelNodeRequest>,
    /// Tokens that were asked for, and those that were revoked; none is answered while they are held.
    pub(crate) tokens_asked: usize,
    pub(crate) tokens_held: bool,
    pub(crate) revoked: Vec<String>,
    /// Names for which a user was asked for.
    pub(crate) users: Vec<String>,
    /// Dead letters of each request to send them again.
    pub(crate) resent: Vec<Vec<String>>,
}

pub(crate) type Shared = Arc<Mutex<Script>>;

/// The peer: on a thread of its own, until dropped.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) script: Shared,
    authority: Arc<Authority>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Peer {
    pub(crate) fn start(authority: &Arc<Authority>) -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self::start_at(any, authority, &Shared::default())
    }

    /// Ends, with every connection, and begins anew at the same address.
    pub(crate) fn restart(mut self) -> Self {
        self.end();
        Self::start_at(self.address, &self.authority, &self.script)
    }

    fn start_at(address: SocketAddr, authority: &Arc<Authority>, script: &Shared) -> Self {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (ready, address_of) = mpsc::channel();
        let served = Served { script: Arc::clone(script), authority: Arc::clone(authority) };
        let identity = authority.identity("master", "m1");
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let options = ServerOptions::new(Protocol::Grpc, Clock::default());
                let acceptor = Acceptor::new(&identity, options).unwrap();
                let listener = tokio::net::TcpListener::bind(address).await.unwrap();
                ready.send(listener.local_addr().unwrap()).unwrap();
                let incoming = acceptor.listen(listener);
                let service = ApiServerServiceServer::new(served);
                let server = tonic::transport::Server::builder().add_service(service);
                tokio::select! {
                    result = server.serve_with_incoming(incoming) => result.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        Self {
            address: address_of.recv_timeout(PATIENCE).unwrap(),
            script: Arc::clone(script),
            authority: Arc::clone(authority),
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    pub(crate) fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    #[track_caller]
    pub(crate) fn eventually(&self, what: &str, is_so: impl Fn(&Script) -> bool) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while !is_so(&self.script.lock().unwrap()) {
            assert!(std::time::Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.end();
    }
}

struct Served {
    script: Shared,
    authority: Arc<Authority>,
}

impl Served {
    async fn answer<T>(&self, answer: T) -> Result<Response<T>, Status> {
        let (refusal, mute) = {
            let script = self.script.lock().unwrap();
            (script.refusal.clone(), script.mute)
        };
        if mute {
            std::future::pending::<()>().await;
        }
        refusal.map_or(Ok(Response::new(answer)), Err)
    }

    /// What is written down, and then silence.
    fn stream<T: Send + 'static>(items: Vec<Result<T, Status>>) -> Boxed<T> {
        Box::pin(stream::iter(items).chain(stream::pending()))
    }
}

type Boxed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send + 'a>>;

macro_rules! not_asked_for {
    ($($name:ident: $request:ident => $response:ident),* $(,)?) => {$(
        fn $name<'a, 'b>(&'a self, _: Request<v1::$request>) -> Answer<'b, v1::$response>
        where
            'a: 'b,
        {
            Box::pin(self.answer(v1::$response::default()))
        }
    )*};
}

impl ApiServerService for Served {
    type WatchNodesStream = Boxed<v1::WatchNodesResponse>;
    type WatchEventsStream = Boxed<v1::WatchEventsResponse>;
    type ReadLogsStream = Boxed<v1::ReadLogsResponse>;

    fn read_logs<'a, 'b>(
        &'a self,
        _: Request<v1::ReadLogsRequest>,
    ) -> Answer<'b, Self::ReadLogsStream>
    where
        'a: 'b,
    {
        Box::pin(async { Err(Status::unimplemented("no test asks for logs")) })
    }

    fn get_nodes<'a, 'b>(
        &'a self,
        request: Request<v1::GetNodesRequest>,
    ) -> Answer<'b, v1::GetNodesResponse>
    where
        'a: 'b,
    {
        let v1::GetNodesRequest { filter, at } = request.into_inner();
        let mut nodes = if at.is_some() { fixtures::nodes_then() } else { fixtures::nodes() };
        let named = filter.as_deref().and_then(|filter| filter.strip_prefix("name="));
        nodes.retain(|node| named.is_none_or(|name| node.name == name));
        let past = at.map(|_| v1::Past { kept_since: at, ..Default::default() });
        self.script.lock().unwrap().filters.push(filter);
        Box::pin(self.answer(v1::GetNodesResponse { nodes, revision: 120, past }))
    }

    fn get_node<'a, 'b>(
        &'a self,
        request: Request<v1::GetNodeRequest>,
    ) -> Answer<'b, v1::GetNodeResponse>
    where
        'a: 'b,
    {
        let wanted = request.into_inner().node_id;
        Box::pin(async move {
            let node = fixtures::nodes().into_iter().find(|node| node.name == wanted);
            match node {
                Some(node) => self.answer(v1::GetNodeResponse { node: Some(node) }).await,
                None => Err(Status::not_found(format!("there is no node {wanted:?}"))),
            }
        })
    }

    fn watch_nodes<'a, 'b>(
        &'a self,
        request: Request<v1::WatchNodesRequest>,
    ) -> Answer<'b, Self::WatchNodesStream>
    where
        'a: 'b,
    {
        let items = {
            let mut script = self.script.lock().unwrap();
            script.resumed_from.push(request.into_inner().from_revision);
            script.node_streams.pop_front().unwrap_or_default()
        };
        Box::pin(self.answer(Self::stream(items)))
    }

    fn list_events<'a, 'b>(
        &'a self,
        request: Request<v1::ListEventsRequest>,
    ) -> Answer<'b, v1::ListEventsResponse>
    where
        'a: 'b,
    {
        let v1::ListEventsRequest { after_id, before_id, limit, newest, node, .. } =
            request.into_inner();
        let mut events = if node == "many" { fixtures::many_events() } else { fixtures::events() };
        let by_id = fixtures::nodes().into_iter().find(|known| known.id == node);
        let node = by_id.map_or(node, |known| known.name);
        let of = |event: &v1::Event| event.node_name == node;
        events.retain(|event| node.is_empty() || of(event));
        if newest {
            events.retain(|event| before_id == 0 || event.id < before_id);
            events.drain(..events.len().saturating_sub(limit as usize));
        } else {
            events.retain(|event| event.id > after_id);
            events.truncate(limit as usize);
        }
        Box::pin(self.answer(v1::ListEventsResponse { events, first_kept_id: 1, last_id: 44 }))
    }

    fn query_metrics<'a, 'b>(
        &'a self,
        request: Request<v1::QueryMetricsRequest>,
    ) -> Answer<'b, v1::QueryMetricsResponse>
    where
        'a: 'b,
    {
        Box::pin(self.answer(fixtures::figures(&request.into_inner())))
    }

    fn watch_events<'a, 'b>(
        &'a self,
        request: Request<v1::WatchEventsRequest>,
    ) -> Answer<'b, Self::WatchEventsStream>
    where
        'a: 'b,
    {
        let items = {
            let mut script = self.script.lock().unwrap();
            script.resumed_from.push(request.into_inner().after_id);
            script.event_streams.pop_front().unwrap_or_default()
        };
        Box::pin(self.answer(Self::stream(items)))
    }

    type WatchAlertsStream = Boxed<v1::WatchAlertsResponse>;

    fn watch_alerts<'a, 'b>(
        &'a self,
        _: Request<v1::WatchAlertsRequest>,
    ) -> Answer<'b, Self::WatchAlertsStream>
    where
        'a: 'b,
    {
        Box::pin(self.answer(Self::stream(Vec::new())))
    }

    fn get_cluster_status<'a, 'b>(
        &'a self,
        _: Request<v1::GetClusterStatusRequest>,
    ) -> Answer<'b, v1::GetClusterStatusResponse>
    where
        'a: 'b,
    {
        Box::pin(self.answer(fixtures::status()))
    }

    fn get_topology<'a, 'b>(
        &'a self,
        _: Request<v1::GetTopologyRequest>,
    ) -> Answer<'b, v1::GetTopologyResponse>
    where
        'a: 'b,
    {
        let topology = Some(fixtures::topology());
        Box::pin(self.answer(v1::GetTopologyResponse { topology }))
    }

    fn update_topology<'a, 'b>(
        &'a self,
        request: Request<v1::UpdateTopologyRequest>,
    ) -> Answer<'b, v1::UpdateTopologyResponse>
    where
        'a: 'b,
    {
        let mut topology = request.into_inner().topology.unwrap();
        topology.generation += 1;
        let answer = v1::UpdateTopologyResponse {
            updated_topology: Some(topology),
            success: true,
            error_message: None,
        };
        Box::pin(self.answer(answer))
    }

    fn label_node<'a, 'b>(
        &'a self,
        request: Request<v1::LabelNodeRequest>,
    ) -> Answer<'b, v1::LabelNodeResponse>
    where
        'a: 'b,
    {
        self.script.lock().unwrap().labelled.push(request.into_inner());
        let node = fixtures::nodes().into_iter().nth(1);
        Box::pin(self.answer(v1::LabelNodeResponse { node }))
    }

    fn create_token<'a, 'b>(
        &'a self,
        _: Request<v1::CreateTokenRequest>,
    ) -> Answer<'b, v1::CreateTokenResponse>
    where
        'a: 'b,
    {
        self.script.lock().unwrap().tokens_asked += 1;
        let info = fixtures::tokens().into_iter().next();
        let answer = v1::CreateTokenResponse { token: "PICCOLO1-d-s".to_owned(), info };
        Box::pin(async move {
            while self.script.lock().unwrap().tokens_held {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            self.answer(answer).await
        })
    }

    fn revoke_token<'a, 'b>(
        &'a self,
        request: Request<v1::RevokeTokenRequest>,
    ) -> Answer<'b, v1::RevokeTokenResponse>
    where
        'a: 'b,
    {
        self.script.lock().unwrap().revoked.push(request.into_inner().id);
        Box::pin(self.answer(v1::RevokeTokenResponse::default()))
    }

    fn create_user<'a, 'b>(
        &'a self,
        request: Request<v1::CreateUserRequest>,
    ) -> Answer<'b, v1::CreateUserResponse>
    where
        'a: 'b,
    {
        let request = request.into_inner();
        self.script.lock().unwrap().users.push(request.name.clone());
        let certificate =
            self.authority.sign(&request.certificate_signing_request, "viewer", &request.name);
        let user =
            v1::User { name: request.name, role: request.role, ..fixtures::users()[0].clone() };
        Box::pin(self.answer(v1::CreateUserResponse {
            user: Some(user),
            certificate: certificate.into_bytes(),
            ca_certificate: certificate_pem(&self.authority.certificate).into_bytes(),
        }))
    }

    fn list_alert_channels<'a, 'b>(
        &'a self,
        _: Request<v1::ListAlertChannelsRequest>,
    ) -> Answer<'b, v1::ListAlertChannelsResponse>
    where
        'a: 'b,
    {
        let dead_letters = fixtures::dead_letters();
        Box::pin(self.answer(v1::ListAlertChannelsResponse { dead_letters, ..Default::default() }))
    }

    fn resend_dead_letters<'a, 'b>(
        &'a self,
        request: Request<v1::ResendDeadLettersRequest>,
    ) -> Answer<'b, v1::ResendDeadLettersResponse>
    where
        'a: 'b,
    {
        self.script.lock().unwrap().resent.push(request.into_inner().ids);
        Box::pin(self.answer(v1::ResendDeadLettersResponse {}))
    }

    fn verify_audit<'a, 'b>(
        &'a self,
        _: Request<v1::VerifyAuditRequest>,
    ) -> Answer<'b, v1::VerifyAuditResponse>
    where
        'a: 'b,
    {
        Box::pin(self.answer(v1::VerifyAuditResponse {
            entries: 8,
            intact: false,
            first_bad_id: 5,
            message: "audit entry 5 was changed after it was written".to_owned(),
        }))
    }

    not_asked_for! {
        register_node: NodeRegistrationRequest => NodeRegistrationResponse,
        approve_node: ApproveNodeRequest => ApproveNodeResponse,
        reject_node: RejectNodeRequest => RejectNodeResponse,
        set_maintenance: SetMaintenanceRequest => SetMaintenanceResponse,
        remove_node: RemoveNodeRequest => RemoveNodeResponse,
        reset_node_identity: ResetNodeIdentityRequest => ResetNodeIdentityResponse,
        restart_container: RestartContainerRequest => RestartContainerResponse,
        check_node: CheckNodeRequest => CheckNodeResponse,
        probe_node: ProbeNodeRequest => ProbeNodeResponse,
        pause_recovery: PauseRecoveryRequest => PauseRecoveryResponse,
        force_recovery: ForceRecoveryRequest => ForceRecoveryResponse,
        list_tokens: ListTokensRequest => ListTokensResponse,
        create_api_token: CreateApiTokenRequest => CreateApiTokenResponse,
        list_api_tokens: ListApiTokensRequest => ListApiTokensResponse,
        revoke_api_token: RevokeApiTokenRequest => RevokeApiTokenResponse,
        open_console: OpenConsoleRequest => OpenConsoleResponse,
        list_users: ListUsersRequest => ListUsersResponse,
        revoke_user: RevokeUserRequest => RevokeUserResponse,
        list_audit: ListAuditRequest => ListAuditResponse,
        set_log_level: SetLogLevelRequest => SetLogLevelResponse,
        list_alerts: ListAlertsRequest => ListAlertsResponse,
        acknowledge_alerts: AcknowledgeAlertsRequest => AcknowledgeAlertsResponse,
        silence_alerts: SilenceAlertsRequest => SilenceAlertsResponse,
        unsilence_alerts: UnsilenceAlertsRequest => UnsilenceAlertsResponse,
        list_alert_rules: ListAlertRulesRequest => ListAlertRulesResponse,
        apply_alert_rules: ApplyAlertRulesRequest => ApplyAlertRulesResponse,
        delete_alert_rule: DeleteAlertRuleRequest => DeleteAlertRuleResponse,
        apply_alert_channels: ApplyAlertChannelsRequest => ApplyAlertChannelsResponse,
        delete_alert_channel: DeleteAlertChannelRequest => DeleteAlertChannelResponse,
        switch_alert_channel: SwitchAlertChannelRequest => SwitchAlertChannelResponse,
        test_alert_channel: TestAlertChannelRequest => TestAlertChannelResponse,
        clear_dead_letters: ClearDeadLettersRequest => ClearDeadLettersResponse,
    }
}
