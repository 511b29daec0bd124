//! A master in this process, and clients of every kind for it.

use std::{collections::HashMap, path::Path, time::Duration};

use piccolo_master::{Master, config::Config};
use piccolo_rpc::{
    status::ErrorView,
    tls::{
        clock::Clock,
        connector::{ClientOptions, Connector},
        identity::{Identity, PrivateKey},
        token::JoinToken,
    },
    v1::{
        self, api_server_service_client::ApiServerServiceClient,
        node_agent_service_client::NodeAgentServiceClient,
    },
};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Status, Streaming, transport::Channel};

pub(crate) type Admin = ApiServerServiceClient<Channel>;
pub(crate) type Agent = NodeAgentServiceClient<Channel>;

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A running master and its folder.
pub(crate) struct Cluster {
    pub(crate) master: Master,
    folder: TempDir,
    pub(crate) config: Config,
}

/// The settings of a test: loopback, any port, an embedded store.
pub(crate) fn config(folder: &Path) -> Config {
    let any = "127.0.0.1:0".parse().unwrap();
    Config {
        state_dir: folder.join("master"),
        listen: any,
        https_listen: Some(any),
        ..Config::defaults().unwrap()
    }
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl Fn(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path());
        change(&mut config);
        let master = Master::start(config.clone()).await.unwrap();
        Self { master, folder, config }
    }

    /// A master that a test has started by itself, elsewhere.
    pub(crate) fn on(master: Master, config: Config) -> Self {
        Self { master, folder: tempfile::tempdir().unwrap(), config }
    }

    /// Stops the master and starts it again on the same port and folder.
    pub(crate) async fn restart(self) -> Self {
        let Self { master, folder, mut config } = self;
        config.listen = master.address();
        master.stop().await;
        let master = Master::start(config.clone()).await.unwrap();
        Self { master, folder, config }
    }

    /// The same on a port of its own: somebody may take the old one meanwhile.
    pub(crate) async fn restart_elsewhere(self) -> Self {
        let Self { master, folder, config } = self;
        master.stop().await;
        let master = Master::start(config.clone()).await.unwrap();
        Self { master, folder, config }
    }

    /// Why it does not start again.
    pub(crate) async fn stop_and_start_in_vain(self) -> String {
        let Self { master, folder: _folder, config } = self;
        master.stop().await;
        format!("{:#}", Master::start(config).await.expect_err("it must not start"))
    }

    pub(crate) fn address(&self) -> String {
        self.master.address().to_string()
    }

    /// What the first administrator's context holds.
    pub(crate) fn admin_identity(&self) -> Identity {
        let text = std::fs::read_to_string(self.config.admin_context()).unwrap();
        let context: HashMap<String, serde_json::Value> = serde_saphyr::from_str(&text).unwrap();
        let part = |key: &str| context[key].as_str().unwrap().to_owned();
        Identity::from_pem(&(part("key") + &part("certificate") + &part("ca"))).unwrap()
    }

    pub(crate) async fn admin(&self) -> Admin {
        self.user(&self.admin_identity()).await
    }

    pub(crate) async fn user(&self, identity: &Identity) -> Admin {
        ApiServerServiceClient::new(self.channel(identity).await)
    }

    pub(crate) async fn agent(&self, identity: &Identity) -> Agent {
        NodeAgentServiceClient::new(self.channel(identity).await)
    }

    pub(crate) async fn channel(&self, identity: &Identity) -> Channel {
        let connector = Connector::new(identity, ClientOptions::new(Clock::default())).unwrap();
        connector.channel(&self.address()).await.unwrap()
    }

    /// A connection that trusts the token and shows no certificate.
    pub(crate) async fn stranger(&self, token: &str) -> Agent {
        NodeAgentServiceClient::new(self.strange_channel(token).await)
    }

    pub(crate) async fn strange_channel(&self, token: &str) -> Channel {
        let token: JoinToken = token.parse().unwrap();
        let options = ClientOptions::new(Clock::default());
        let connector = Connector::joining(token.ca_digest(), options).unwrap();
        connector.channel(&self.address()).await.unwrap()
    }

    pub(crate) async fn token(&self, change: impl FnOnce(&mut v1::CreateTokenRequest)) -> String {
        let mut request = v1::CreateTokenRequest {
            role: v1::NodeRole::Sub.into(),
            uses: 100,
            ..Default::default()
        };
        change(&mut request);
        self.admin().await.create_token(request).await.unwrap().into_inner().token
    }

    /// Joins a node with a token of its own.
    pub(crate) async fn join(&self, id: &str) -> Identity {
        let token = self.token(|_| {}).await;
        self.join_with(&token, id).await.unwrap()
    }

    pub(crate) async fn join_with(&self, token: &str, id: &str) -> Result<Identity, Status> {
        let key = PrivateKey::generate().unwrap();
        let request = registration(id, token, &key);
        let answer = self.stranger(token).await.register_node(request).await?.into_inner();
        let pem = String::from_utf8(answer.certificate).unwrap();
        Ok(Identity::from_issued(key, &pem).unwrap())
    }

    /// Joins a node and opens its session.
    pub(crate) async fn session(&self, id: &str) -> Session {
        let identity = self.join(id).await;
        Session::open(&mut self.agent(&identity).await, hello(id)).await
    }

    /// The session of a node that has joined and is Ready.
    pub(crate) async fn ready(&self, id: &str) -> Session {
        let mut session = self.session(id).await;
        session.configure().await;
        self.wait_for(id, v1::NodeStatus::Ready).await;
        session
    }

    /// The same, of one that has sent this report.
    pub(crate) async fn reporting(&self, id: &str, report: v1::StatusReport) -> Session {
        let mut session = self.ready(id).await;
        session.say(v1::agent_message::Message::Status(report)).await;
        session
    }

    pub(crate) async fn node(&self, id: &str) -> v1::Node {
        let request = v1::GetNodeRequest { node_id: id.to_owned() };
        self.admin().await.get_node(request).await.unwrap().into_inner().node.unwrap()
    }

    pub(crate) async fn status_of(&self, id: &str) -> v1::NodeStatus {
        self.node(id).await.status()
    }

    /// Waits until the node has the status.
    pub(crate) async fn wait_for(&self, id: &str, status: v1::NodeStatus) {
        let mut admin = self.admin().await;
        eventually(&format!("{id} is {status:?}"), async || {
            let request = v1::GetNodeRequest { node_id: id.to_owned() };
            let node = admin.get_node(request).await.unwrap().into_inner().node.unwrap();
            node.status() == status
        })
        .await;
    }

    pub(crate) async fn audit(&self) -> Vec<v1::AuditEntry> {
        let request = v1::ListAuditRequest { limit: 1000, newest: true, ..Default::default() };
        self.admin().await.list_audit(request).await.unwrap().into_inner().entries
    }

    /// The entry of the audit log that is so: what is refused, or only read, is answered before that is stored.
    pub(crate) async fn audited(&self, is: impl Fn(&v1::AuditEntry) -> bool) -> v1::AuditEntry {
        let mut found = None;
        eventually("it is in the audit log", async || {
            found = self.audit().await.into_iter().find(&is);
            found.is_some()
        })
        .await;
        found.unwrap_or_default()
    }

    pub(crate) async fn events(&self) -> Vec<v1::Event> {
        let request = v1::ListEventsRequest { limit: 1000, newest: true, ..Default::default() };
        self.admin().await.list_events(request).await.unwrap().into_inner().events
    }
}

/// Asks again until it is so.
pub(crate) async fn eventually(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is().await {
        assert!(tokio::time::Instant::now() < deadline, "in {PATIENCE:?} it was not so: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn registration(id: &str, token: &str, key: &PrivateKey) -> v1::NodeRegistrationRequest {
    v1::NodeRegistrationRequest {
        node_id: id.to_owned(),
        hostname: format!("host-{id}"),
        ip_address: "127.0.0.1".to_owned(),
        role: v1::NodeRole::Sub.into(),
        resources: Some(v1::ResourceInfo { cpu: 4, memory: 2048, disk: 32 }),
        credentials: Some(v1::Credentials {
            token: token.to_owned(),
            certificate_signing_request: key.signing_request().unwrap(),
        }),
        ..Default::default()
    }
}

#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, Status>) -> ErrorView {
    ErrorView::from(&result.unwrap_err())
}

/// A session that is spoken by hand.
pub(crate) struct Session {
    pub(crate) to: mpsc::Sender<v1::AgentMessage>,
    pub(crate) from: Streaming<v1::MasterMessage>,
}

pub(crate) fn hello(id: &str) -> v1::Hello {
    v1::Hello {
        node_id: id.to_owned(),
        next_sequence: 1,
        hostname: format!("host-{id}"),
        ip_address: "127.0.0.1".to_owned(),
        ..Default::default()
    }
}

impl Session {
    /// Opens it and says Hello.
    pub(crate) async fn open(agent: &mut Agent, hello: v1::Hello) -> Self {
        let mut session = Self::silent(agent).await.unwrap();
        session.say(v1::agent_message::Message::Hello(hello)).await;
        session
    }

    /// Opens the stream and says nothing.
    pub(crate) async fn silent(agent: &mut Agent) -> Result<Self, Status> {
        let (to, messages) = mpsc::channel(16);
        let from = agent.session(ReceiverStream::new(messages)).await?.into_inner();
        Ok(Self { to, from })
    }

    pub(crate) async fn say(&mut self, message: v1::agent_message::Message) {
        // a master that has closed the stream does not listen; the next read tells
        self.to.send(v1::AgentMessage { message: Some(message) }).await.ok();
    }

    pub(crate) async fn next(&mut self) -> Option<v1::master_message::Message> {
        let message = tokio::time::timeout(PATIENCE, self.from.next()).await.unwrap();
        message.map(|message| message.unwrap().message.unwrap())
    }

    /// The next message that `is` knows; the others are skipped.
    pub(crate) async fn next_that<T>(
        &mut self,
        is: impl Fn(v1::master_message::Message) -> Option<T>,
    ) -> T {
        loop {
            let message = self.next().await.expect("the stream ended before");
            if let Some(found) = is(message) {
                return found;
            }
        }
    }

    /// Confirms the configuration that it is sent.
    pub(crate) async fn configure(&mut self) {
        let generation = self
            .next_that(|message| match message {
                v1::master_message::Message::Config(config) => Some(config.generation),
                _ => None,
            })
            .await;
        let applied = v1::ConfigRequest { applied_generation: generation, ..Default::default() };
        self.say(v1::agent_message::Message::ConfigApplied(applied)).await;
    }

    /// Beats until it is dropped.
    pub(crate) fn keep_beating(self) -> Beating {
        Beating(tokio::spawn(async move {
            let Self { to, mut from } = self;
            let mut ticks = tokio::time::interval(Duration::from_millis(500));
            loop {
                tokio::select! {
                    _ = ticks.tick() => {
                        let beat = v1::agent_message::Message::Beat(v1::Beat {});
                        if to.send(v1::AgentMessage { message: Some(beat) }).await.is_err() {
                            return;
                        }
                    }
                    message = from.next() => if !matches!(message, Some(Ok(_))) { return },
                }
            }
        }))
    }
}

/// Says whether a message is a farewell, and which.
pub(crate) fn goodbye(message: v1::master_message::Message) -> Option<v1::Goodbye> {
    match message {
        v1::master_message::Message::Goodbye(goodbye) => Some(goodbye),
        _ => None,
    }
}

/// A session that beats in the background; dropping it ends it as if its process was killed.
pub(crate) struct Beating(tokio::task::JoinHandle<()>);

impl Drop for Beating {
    fn drop(&mut self) {
        self.0.abort();
    }
}
