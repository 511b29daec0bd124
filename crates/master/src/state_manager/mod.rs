//! The shell of the master's machine (design §4): one owner task, one performer task.
//!
//! ```text
//! api_server --inputs--> owner --effects--> performer --> store, sessions, replies, board
//!                          \--- beats ----------------> sessions
//! ```
//!
//! The owner alone touches `piccolo_core::state_manager` and never waits for anything but its next input; the
//! performer makes each decision durable before it shows it to anybody. Only beats go past it: they reveal
//! nothing, so a store that takes seconds does not make a single node look lost.

pub(crate) mod board;
mod owner;
pub(crate) mod performer;
pub(crate) mod queue;
pub(crate) mod writer;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use piccolo_core::{
    api_server::{Call, Caller, Refusal},
    model::CredentialKind,
    state_manager::{Answer, Input, Request, RequestId},
};
use tokio::sync::{mpsc, oneshot};

pub(crate) use owner::{Owner, Published};

/// Inputs that wait for the owner; whoever sends more waits for room.
const INPUTS_MAX: usize = 4096;

/// What the owner is told.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all are inputs, thousands a second")]
pub(crate) enum ToOwner {
    Input(Input),
    Check(Box<Check>),
    Identify(Box<Identify>),
}

/// May this caller make this read? Answered at once: nothing is revealed that a commit has to precede.
#[derive(Debug)]
pub(crate) struct Check {
    by: Caller,
    call: Call,
    reply: oneshot::Sender<Result<(), Refusal>>,
}

/// Who shows the secret of this hash? As with a check, nothing is revealed that a commit has to precede.
#[derive(Debug)]
pub(crate) struct Identify {
    kind: CredentialKind,
    hash: String,
    from: String,
    reply: oneshot::Sender<Result<Caller, Refusal>>,
}

/// Why a call has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum CallError {
    #[error("{0}")]
    Refused(Refusal),
    #[error("no answer within {} s; the call may still be carried out", .0.as_secs())]
    Deadline(Duration),
    #[error("the master stops")]
    Stopping,
}

/// The way to the owner, for everybody who serves.
#[derive(Debug, Clone)]
pub(crate) struct StateHandle {
    inputs: mpsc::Sender<ToOwner>,
    replies: Arc<Replies>,
}

/// Who waits for which reply.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    waiting: Mutex<HashMap<u64, oneshot::Sender<Result<Answer, Refusal>>>>,
    next: AtomicU64,
}

impl StateHandle {
    pub(crate) fn new() -> (Self, mpsc::Receiver<ToOwner>) {
        let (inputs, receiver) = mpsc::channel(INPUTS_MAX);
        (Self { inputs, replies: Arc::default() }, receiver)
    }

    pub(crate) fn replies(&self) -> Arc<Replies> {
        Arc::clone(&self.replies)
    }

    /// Asks, and waits for the reply. Whoever stops waiting is forgotten.
    pub(crate) async fn ask(
        &self,
        by: Caller,
        request: Request,
        deadline: Duration,
    ) -> Result<Answer, CallError> {
        let (reply, answer) = oneshot::channel();
        let id = self.replies.expect(reply);
        let waiting = Waiting { handle: self, id };
        let asked = self.tell(Input::Request { id: RequestId(id), by, request });
        let answered = async {
            asked.await;
            answer.await
        };
        let result = match tokio::time::timeout(deadline, answered).await {
            Err(_) => Err(CallError::Deadline(deadline)),
            Ok(Err(_)) => Err(CallError::Stopping),
            Ok(Ok(result)) => result.map_err(CallError::Refused),
        };
        drop(waiting);
        result
    }

    /// Whether a read is allowed. Refusals are audited.
    pub(crate) async fn check(&self, by: Caller, call: Call) -> Result<(), CallError> {
        let (reply, answer) = oneshot::channel();
        let asked = self.inputs.send(ToOwner::Check(Box::new(Check { by, call, reply })));
        asked.await.map_err(|_| CallError::Stopping)?;
        answer.await.map_err(|_| CallError::Stopping)?.map_err(CallError::Refused)
    }

    /// Who shows a secret. Refusals are audited.
    pub(crate) async fn identify(
        &self,
        kind: CredentialKind,
        hash: String,
        from: String,
    ) -> Result<Caller, CallError> {
        let (reply, answer) = oneshot::channel();
        let identify = Identify { kind, hash, from, reply };
        let asked = self.inputs.send(ToOwner::Identify(Box::new(identify)));
        asked.await.map_err(|_| CallError::Stopping)?;
        answer.await.map_err(|_| CallError::Stopping)?.map_err(CallError::Refused)
    }

    /// Tells something that has no reply. After the end nobody listens, and nothing is lost by that.
    pub(crate) async fn tell(&self, input: Input) {
        self.inputs.send(ToOwner::Input(input)).await.ok();
    }

    /// A call that did not get as far as a request, for the audit log.
    pub(crate) async fn refused(&self, by: Caller, call: Call, refusal: Refusal) {
        self.tell(Input::Refused { by, call, refusal }).await;
    }

    /// Inputs that wait for the owner now.
    pub(crate) fn backlog(&self) -> usize {
        INPUTS_MAX - self.inputs.capacity()
    }
}

impl Replies {
    fn expect(&self, reply: oneshot::Sender<Result<Answer, Refusal>>) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(id, reply);
        id
    }

    fn forget(&self, id: u64) -> bool {
        self.lock().remove(&id).is_some()
    }

    pub(crate) fn complete(&self, request: RequestId, result: Result<Answer, Refusal>) {
        let waiting = self.lock().remove(&request.0);
        if let Some(reply) = waiting {
            // whoever asked may have gone in this very moment
            reply.send(result).ok();
        }
    }

    fn lock(
        &self,
    ) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<Result<Answer, Refusal>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the owner when nobody waits any more.
struct Waiting<'a> {
    handle: &'a StateHandle,
    id: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.handle.replies.forget(self.id) {
            let cancelled = Input::Cancelled { id: RequestId(self.id) };
            // where there is no room just now, the request's own time-out forgets it
            self.handle.inputs.try_send(ToOwner::Input(cancelled)).ok();
        }
    }
}
