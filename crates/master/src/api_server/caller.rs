//! Who calls, and how a call ends: the two things that every call has.

use piccolo_core::{
    api_server::{Call, Caller, Code, Refusal, Role},
    state_manager::{Answer, Request},
    time::WallTime,
};
use piccolo_rpc::{
    status,
    tls::{
        acceptor::{PeerInfo, peer_of},
        names,
    },
};
use std::time::Duration;
use tonic::Status;

use super::Api;
use crate::state_manager::CallError;

/// For an answer, where the call does not say otherwise.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);

/// From the certificate of the connection, and nothing else.
pub(crate) fn caller_of(peer: Option<&PeerInfo>, now: u64) -> Caller {
    let Some(peer) = peer else { return Caller::anonymous("unknown") };
    let from = peer.address.ip().to_string();
    let Some(identity) = &peer.identity else { return Caller::anonymous(from) };
    Caller {
        role: role(identity.role),
        id: identity.id.clone(),
        from,
        key_fingerprint: identity.spki_sha256.clone(),
        serial: identity.serial.clone(),
        credential: None,
        valid_from: moment(identity.not_before),
        expires_at: Some(moment(identity.not_after)),
        // a connection may outlive the certificate that it was opened with
        expired: identity.expired || identity.expired_at(now),
    }
}

fn moment(seconds: u64) -> WallTime {
    WallTime::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX))
}

fn role(role: names::Role) -> Role {
    match role {
        names::Role::Master => Role::Master,
        names::Role::Sub => Role::Sub,
        names::Role::Admin => Role::Admin,
        names::Role::Operator => Role::Operator,
        names::Role::Viewer => Role::Viewer,
        names::Role::Cluster => Role::Cluster,
    }
}

/// Beside a request: it is to be carried out only if what it changes is still at one of these revisions or generations.
#[derive(Debug, Clone)]
pub(crate) struct OnlyAt(pub(crate) Vec<u64>);

impl Api {
    /// As the REST API has found out already, which knows other proofs than a certificate; or from the connection.
    fn caller<T>(&self, request: &tonic::Request<T>) -> Caller {
        let known = request.extensions().get::<Caller>().cloned();
        known.unwrap_or_else(|| caller_of(peer_of(request), self.clock.seconds()))
    }

    /// Who made the request, if the role table lets them; every refusal is audited.
    pub(super) async fn admit<T>(
        &self,
        request: &tonic::Request<T>,
        call: Call,
    ) -> Result<Caller, Status> {
        let by = self.caller(request);
        match by.check(call) {
            Ok(()) => Ok(by),
            Err(refusal) => Err(self.refuse(by, call, refusal).await),
        }
    }

    /// The same for a read, with a look at whether the caller's certificate still stands; that counts as the call.
    pub(super) async fn admit_read<T>(
        &self,
        request: &tonic::Request<T>,
        call: Call,
    ) -> Result<Caller, Status> {
        let by = self.caller(request);
        match self.state.check(by.clone(), call).await {
            Ok(()) => {
                self.figures.called(call.name(), tonic::Code::Ok);
                Ok(by)
            }
            Err(error) => Err(self.failed(call, error)),
        }
    }

    /// Converts, asks the owner, and waits for the answer.
    pub(super) async fn call<T>(
        &self,
        request: tonic::Request<T>,
        call: Call,
        convert: impl FnOnce(T) -> Result<Request, Refusal>,
    ) -> Result<Answer, Status> {
        self.call_within(request, call, DEADLINE, convert).await
    }

    pub(super) async fn call_within<T>(
        &self,
        request: tonic::Request<T>,
        call: Call,
        deadline: Duration,
        convert: impl FnOnce(T) -> Result<Request, Refusal>,
    ) -> Result<Answer, Status> {
        let by = self.admit(&request, call).await?;
        let only_at = request.extensions().get::<OnlyAt>().cloned();
        let on_condition = |request| match only_at {
            Some(OnlyAt(versions)) => Request::OnlyAt { versions, request: Box::new(request) },
            None => request,
        };
        match convert(request.into_inner()).map(on_condition) {
            Ok(request) => self.ask(by, call, request, deadline).await,
            Err(refusal) => Err(self.refuse(by, call, refusal).await),
        }
    }

    pub(super) async fn ask(
        &self,
        by: Caller,
        call: Call,
        request: Request,
        deadline: Duration,
    ) -> Result<Answer, Status> {
        let answer = self.state.ask(by, request, deadline).await;
        match answer {
            Ok(answer) => {
                self.figures.called(call.name(), tonic::Code::Ok);
                Ok(answer)
            }
            Err(error) => Err(self.failed(call, error)),
        }
    }

    /// Refused before it got to the owner: it is audited all the same.
    pub(super) async fn refuse(&self, by: Caller, call: Call, refusal: Refusal) -> Status {
        let status = status::status(&refusal);
        self.figures.called(call.name(), status.code());
        self.state.refused(by, call, refusal).await;
        status
    }

    /// The one place where a failed call becomes a status.
    pub(super) fn failed(&self, call: Call, error: CallError) -> Status {
        let status = match error {
            CallError::Refused(refusal) => status::status(&refusal),
            CallError::Deadline(_) => Status::deadline_exceeded(error.to_string()),
            CallError::Stopping => {
                let refusal = Refusal::new(Code::Unavailable, "Stopping", error.to_string());
                status::status(&refusal)
            }
        };
        self.figures.called(call.name(), status.code());
        status
    }
}

/// The machine gave an answer that does not fit the question: a fault of ours.
pub(super) fn unexpected(call: Call) -> Status {
    tracing::error!(call = call.name(), "an answer does not fit its question");
    Status::internal("the master made a mistake; its log has more")
}
