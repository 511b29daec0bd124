//! Effects, performed in order.
//!
//! A disk that takes nothing more must not stop the agent: what could not be written is still in memory,
//! and what a restart would lose is asked for again at the next Hello. So that is told, and we go on.

use std::time::Duration;

use anyhow::{Context, Result};
use piccolo_core::{
    log_level,
    model::Severity,
    node_agent::{Effect, Input, Ledger, Runtime, Standing},
    session::{AgentCommand, ToMaster},
};
use piccolo_rpc::{
    tls::{
        connector::Connector,
        identity::{Identity, PrivateKey},
    },
    v1,
};
use tokio::{sync::oneshot, task::JoinError};

use super::{
    Done, Effects, Shell,
    connect::{self, Proof, Registration},
    files,
    local::{Asked, LocalRequest},
    view,
};
use crate::{
    check, journal,
    system::{Roots, beside, hardware},
};

/// For a container to end by itself before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// For the last words to leave the machine.
const FAREWELL: Duration = Duration::from_millis(300);
/// For an answer to be written to the local socket.
const ANSWER: Duration = Duration::from_secs(2);
/// What the journal on disk may take beyond what the core keeps, so that the core decides what goes.
const DISK_ALLOWANCE: usize = 2;

/// The core bounds the journal; the file's own bounds are a second line.
pub(super) fn journal_limits(core: journal::Limits) -> journal::Limits {
    journal::Limits {
        entries_max: core.entries_max.saturating_mul(DISK_ALLOWANCE),
        bytes_max: core.bytes_max.saturating_mul(DISK_ALLOWANCE as u64),
    }
}

impl Shell {
    pub(super) fn perform(&mut self, effects: Effects) -> Result<()> {
        for effect in effects {
            self.perform_one(effect)?;
        }
        if let Some(why) = self.machine.last_problem()
            && self.told.is_new(why)
        {
            tracing::warn!(why, "the master cannot be worked with");
        }
        if self.journal.awaits_sync() {
            let synced = self.journal.sync();
            self.written(synced, "events are not safe from a power cut");
        }
        if self.disk_problem == self.disk_told {
            return Ok(());
        }
        self.disk_told.clone_from(&self.disk_problem);
        self.feed(Input::StateFolder { problem: self.disk_problem.clone() })
    }

    fn perform_one(&mut self, effect: Effect) -> Result<()> {
        match effect {
            Effect::SaveLedger(ledger) => {
                self.clock.raise(super::seconds(ledger.clock_floor));
                self.save_ledger(&ledger)?;
            }
            Effect::JournalAppend(entry) => {
                tracing::info!(kind = entry.kind.name(), "{}", entry.message);
                let criticality = match entry.severity {
                    Severity::Info => journal::Criticality::Normal,
                    Severity::Warning | Severity::Critical => journal::Criticality::Critical,
                };
                let bytes = serde_json::to_vec(&entry)?;
                let kept = self.journal.append_as(entry.sequence, criticality, &bytes);
                self.written(kept, "an event is in memory only");
            }
            Effect::JournalTrim { through } => {
                let trimmed = self.journal.trim_through(through);
                self.written(trimmed, "the journal was not trimmed");
            }
            Effect::JournalDrop { sequence } => {
                let dropped = self.journal.drop_entry(sequence);
                self.written(dropped, "the journal was not trimmed");
            }
            Effect::Register { master } => self.register(master)?,
            Effect::Connect { master } => self.connect(master)?,
            Effect::Probe { master } => self.probe(master),
            Effect::Disconnect => self.close_session(),
            Effect::SayHello(hello) => self.send(hello.into())?,
            Effect::Send(message) => self.say(message)?,
            Effect::Apply { generation, .. } => {
                tracing::info!(generation, "a new configuration is in force");
            }
            Effect::SampleOften(often) => self.sample_often(often),
            Effect::CheckSystem => self.check_system(),
            Effect::LookAtHardware => self.look_at_hardware(),
            Effect::Recover { failure, step, forced } => self.recover(failure, step, forced),
            Effect::TellLocally(notice) => self.tell_locally(*notice),
            Effect::Run { id, command } => self.run_command(id, command)?,
            Effect::MakeCertificateRequest { new_key } => self.make_certificate_request(new_key)?,
            Effect::InstallCertificate { certificate, ca } => self.install(certificate, &ca)?,
            Effect::Stopped { left } => {
                if left {
                    // what it is just writing goes to a file that is removed
                    self.keeper = None;
                    self.files.forget_membership()?;
                    tracing::info!("the node has left its cluster; its containers go on");
                } else {
                    tracing::info!("the agent stops; containers go on");
                }
                self.stopped = true;
            }
        }
        Ok(())
    }

    fn save_ledger(&mut self, ledger: &Ledger) -> Result<()> {
        let saved = self.ledger.save(&serde_json::to_vec(ledger)?);
        self.ledger_saved = saved.is_ok();
        self.written(saved, "the ledger was not saved");
        Ok(())
    }

    /// Goes on after what could not be written.
    fn written<E: std::fmt::Display>(
        &mut self,
        result: std::result::Result<(), E>,
        consequence: &str,
    ) {
        let Err(error) = result else { return };
        let problem = Some(error.to_string());
        if self.disk_told != problem {
            tracing::error!(%error, consequence, "the state folder cannot be written");
        }
        self.disk_problem = problem;
    }

    /// A small write may find room where the next finds none. So what failed is over once all that a restart
    /// needs was written again.
    pub(super) fn try_state_folder_again(&mut self) -> Result<()> {
        if self.disk_problem.take().is_none() {
            return Ok(());
        }
        let ledger = self.machine.ledger().clone();
        self.save_ledger(&ledger)?;
        let synced = self.journal.sync();
        self.written(synced, "events are not safe from a power cut");
        if self.disk_problem.is_none() {
            tracing::info!("the state folder can be written again");
        }
        self.perform(Effects::default())
    }

    fn say(&mut self, message: ToMaster) -> Result<()> {
        if matches!(message, ToMaster::Events(_)) {
            // a sequence number that was sent must not be given to another event after a power cut
            let synced = self.journal.sync();
            self.written(synced, "events are not safe from a power cut");
        }
        self.send(message.into())
    }

    /// A master that reads nothing is as good as gone.
    fn send(&mut self, message: v1::AgentMessage) -> Result<()> {
        let Some(outgoing) = &self.outgoing else { return Ok(()) };
        if outgoing.try_send(message).is_ok() {
            return Ok(());
        }
        self.close_session();
        self.feed(Input::Disconnected { why: "the master reads nothing".to_owned() })
    }

    /// Dropping the task closes the connection.
    pub(super) fn close_session(&mut self) {
        self.attempt += 1;
        self.outgoing = None;
        self.log_readers = None;
        if let Some(keeper) = &self.keeper {
            keeper.session_over();
        }
        if let Some(session) = self.session.take() {
            session.abort();
        }
    }

    fn connect(&mut self, master: String) -> Result<()> {
        self.close_session();
        let Some(connector) = self.connector.clone() else {
            return self.feed(Input::ConnectFailed { why: "there is no certificate".to_owned() });
        };
        tracing::debug!(master, "connecting");
        let (attempt, sender) = (self.attempt, self.reports_sender.clone());
        let (report, mut reports) = tokio::sync::mpsc::channel(connect::OUTGOING_MAX);
        let session = connect::session(connector, self.applicant.clone(), master, report);
        let task = tokio::spawn(async move {
            let forward = async {
                while let Some(report) = reports.recv().await {
                    if sender.send((attempt, report)).await.is_err() {
                        return;
                    }
                }
            };
            tokio::join!(session, forward);
        });
        self.session = Some(task);
        Ok(())
    }

    fn register(&mut self, master: String) -> Result<()> {
        let proof = match (self.files.identity()?, self.files.token()?) {
            (Some(identity), _) => Proof::Certificate(Box::new(identity)),
            (None, Some(token)) => Proof::Token { token, key: self.files.join_key()? },
            (None, None) => {
                let why = "there is neither a certificate nor a token".to_owned();
                return self.feed(Input::RegisterFailed { why, fatal: true });
            }
        };
        tracing::debug!(master, "registering");
        let applicant = self.applicant.clone();
        self.tasks.spawn(async move {
            Done::Registered(connect::register(applicant, proof, master).await)
        });
        Ok(())
    }

    fn probe(&mut self, master: String) {
        let Some(connector) = self.connector.clone() else { return };
        let node = self.applicant.node.clone();
        self.tasks
            .spawn(async move { Done::Probed(connect::probe(connector, node, master).await) });
    }

    pub(super) fn task_done(&mut self, done: Result<Done, JoinError>) -> Result<()> {
        match done.context("a background task failed")? {
            Done::Registered(Registration::Certified(identity)) => {
                self.refused = false;
                let standing = self.take_identity(&identity)?;
                self.feed(Input::Registered { standing, pending: false })
            }
            Done::Registered(Registration::Pending) => {
                self.refused = false;
                let standing = Standing::None { token: true };
                self.feed(Input::Registered { standing, pending: true })
            }
            Done::Registered(Registration::Failed { why, fatal }) => {
                self.refused = fatal;
                self.feed(Input::RegisterFailed { why, fatal })
            }
            Done::Probed(true) => self.feed(Input::ProbeAnswered),
            Done::Probed(false) => Ok(()),
            Done::Command { id, success, message } => {
                self.look_again();
                self.feed(Input::CommandDone { id, success, message })
            }
            Done::Checked(check) => self.feed(Input::Checked(check)),
            Done::HardwareSeen(readings) => self.feed(Input::HardwareSeen(readings)),
            Done::Recovered { failure, outcome } => {
                self.look_again();
                self.feed(Input::Recovered { failure, outcome })
            }
            Done::ToldLocally(result) => {
                if let Err(why) = &result
                    && self.told.is_new(why)
                {
                    tracing::warn!(why, "the local channel of alerts was not told");
                }
                self.feed(Input::ToldLocally(result))
            }
            Done::Proved { id, parts } => {
                if parts.iter().any(|part| !part.ok) {
                    self.look_again();
                }
                self.feed(Input::Probed { id, parts })
            }
        }
    }

    /// At Podman, which looks different now.
    fn look_again(&self) {
        if let Some(podman) = &self.podman {
            podman.refresh();
        }
    }

    fn check_system(&mut self) {
        let Some(program) = self.system_check.clone() else { return };
        let arguments = check::script::arguments(&self.config, false);
        self.tasks
            .spawn(async move { Done::Checked(check::script::run(&program, &arguments).await) });
    }

    /// In a thread of its own, which nobody waits for: a disk that hangs holds up its reader, and nothing else.
    fn look_at_hardware(&mut self) {
        let (tell, told) = oneshot::channel();
        let progress = self.looking.clone();
        let look = move || drop(tell.send(progress.note(|| hardware::look(&Roots::default()))));
        if let Err(error) = std::thread::Builder::new().stack_size(beside::STACK_BYTES).spawn(look)
        {
            tracing::debug!(%error, "no thread to look at the hardware");
        }
        self.tasks.spawn(async move { Done::HardwareSeen(told.await.unwrap_or_default()) });
    }

    /// Saved first, then used. Where it cannot be saved, a new start has the one before with the same key, for
    /// which the master issues another.
    fn take_identity(&mut self, identity: &Identity) -> Result<Standing> {
        let saved = self.files.save_identity(identity);
        self.written(saved, "the certificate is in memory only");
        self.use_identity(identity)
    }

    fn use_identity(&mut self, identity: &Identity) -> Result<Standing> {
        self.clock.raise(identity.name().not_before);
        match &self.connector {
            Some(connector) => connector.set_identity(identity)?,
            None => self.connector = Some(Connector::new(identity, self.applicant.options())?),
        }
        self.key = Some(identity.key().clone());
        files::standing(Some(identity), false)
    }

    fn make_certificate_request(&mut self, new_key: bool) -> Result<()> {
        self.next_key = new_key.then(PrivateKey::generate).transpose()?;
        let Some(key) = self.next_key.as_ref().or(self.key.as_ref()) else { return Ok(()) };
        let csr = key.signing_request()?;
        self.feed(Input::CertificateRequestMade { csr })
    }

    fn install(&mut self, certificate: Vec<u8>, ca: &[u8]) -> Result<()> {
        let new_key = self.next_key.take();
        let is_new = new_key.is_some();
        let Some(key) = new_key.or(self.key.clone()) else { return Ok(()) };
        let pem = [certificate.as_slice(), ca].concat();
        let identity = String::from_utf8(pem)
            .map_err(|error| error.to_string())
            .and_then(|pem| Identity::from_issued(key, &pem).map_err(|error| error.to_string()));
        match identity {
            Ok(identity) if identity.name().id == self.applicant.node.as_str() => {
                self.renew(&identity, is_new)
            }
            Ok(_) => self.feed(Input::CertificateRefused {
                why: "the master sent a certificate for somebody else".to_owned(),
            }),
            Err(why) => self.feed(Input::CertificateRefused { why }),
        }
    }

    /// One with a new key is saved or not used: a new start would come with a key that is worth nothing since the
    /// new one was seen.
    fn renew(&mut self, identity: &Identity, new_key: bool) -> Result<()> {
        let standing = if !new_key {
            self.take_identity(identity)?
        } else if let Err(error) = self.files.save_identity(identity) {
            let why = format!("the new key cannot be kept: {error:#}");
            self.written(Err(error), "the certificate is renewed for the key of before");
            return self.feed(Input::CertificateRefused { why });
        } else {
            self.use_identity(identity)?
        };
        tracing::info!(serial = identity.name().serial, "the certificate was renewed");
        self.feed(Input::CertificateInstalled { standing })
    }

    fn run_command(&mut self, id: String, command: AgentCommand) -> Result<()> {
        match command {
            AgentCommand::SetLogLevel { filter, span } => {
                let result = (self.set_log_level)(&filter);
                let success = result.is_ok();
                if success {
                    self.log_level.changed(self.now().at, span);
                }
                let words = log_level::words(&filter, span);
                let message = result.err().unwrap_or_else(|| format!("the level is {words} now"));
                self.feed(Input::CommandDone { id, success, message })
            }
            AgentCommand::RestartContainer { container } => {
                let Some(client) = self.podman_client.clone() else {
                    let message = "this node has no container runtime".to_owned();
                    return self.feed(Input::CommandDone { id, success: false, message });
                };
                self.tasks.spawn(async move {
                    let result = client.restart(&container, STOP_GRACE).await;
                    let success = result.is_ok();
                    let message = match result {
                        Ok(()) => format!("container {container} was restarted"),
                        Err(error) => error.to_string(),
                    };
                    Done::Command { id, success, message }
                });
                Ok(())
            }
            AgentCommand::Probe => {
                self.prove(id);
                Ok(())
            }
            // the core answers these by itself
            AgentCommand::CheckSystem | AgentCommand::Recover { .. } => Ok(()),
        }
    }

    /// Of a change of the level for a time, which is over.
    pub(super) fn return_log_level(&mut self) {
        let now = self.now().at;
        let Some(filter) = self.log_level.due(now) else { return };
        match (self.set_log_level)(filter) {
            Ok(()) => tracing::info!(filter, "the level of the log is as configured again"),
            Err(error) => tracing::warn!(error, "the level of the log cannot be changed back"),
        }
    }

    pub(super) fn answer(&mut self, asked: Asked) -> Result<()> {
        let value = match asked.request {
            LocalRequest::Status => view::json(&self.machine.view(), &self.applicant, self.now()),
            LocalRequest::Problem => serde_json::json!({
                "problem": self.machine.last_problem(),
                "refused": self.refused || self.machine.is_refused(),
            }),
            LocalRequest::Leave => {
                self.last_answer = Some(asked.written);
                let left = self.feed(Input::Stop { leave: true });
                let error = left.as_ref().err().map(|error| format!("{error:#}"));
                let _ =
                    asked.reply.send(serde_json::json!({ "left": left.is_ok(), "error": error }));
                return left;
            }
            LocalRequest::TokenArrived => {
                let token = self.files.token()?.is_some();
                let standing = files::standing(self.files.identity()?.as_ref(), token)?;
                self.feed(Input::Registered { standing, pending: false })?;
                serde_json::json!({ "joining": token })
            }
        };
        // whoever asked may be gone
        let _ = asked.reply.send(value);
        Ok(())
    }

    /// Gives Goodbye, and the answer to who made us leave, a moment to leave this process.
    pub(super) async fn say_farewell(&mut self) {
        self.outgoing = None;
        self.log_readers = None;
        if let Some(session) = self.session.take() {
            let _ = tokio::time::timeout(FAREWELL, session).await;
        }
        if let Some(written) = self.last_answer.take() {
            let _ = tokio::time::timeout(ANSWER, written).await;
        }
    }
}

/// In one line, for people.
pub(super) fn runtime_text(runtime: Option<&Runtime>) -> String {
    match runtime {
        None => "not asked yet".to_owned(),
        Some(Runtime::Up { version }) => format!("Podman {version}"),
        Some(Runtime::Down { why }) => format!("not available: {why}"),
        Some(Runtime::Absent) => "not used on this node".to_owned(),
    }
}
