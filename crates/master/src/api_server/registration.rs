//! Joining (HLD §5.1, §9.1): what the machine cannot see is checked here, and the certificate is signed here.

use piccolo_core::{
    api_server::{Call, Code, Refusal},
    model::{FieldError, NodeRole},
    state_manager::{Answer, Registered, Request},
};
use piccolo_rpc::{
    convert::RegistrationText,
    tls::{
        names::check_id,
        token::{JoinToken, TokenError, hash_secret},
    },
    v1,
};
use tonic::{Request as Asked, Response, Status};

use super::{
    Answered, Api,
    caller::{DEADLINE, unexpected},
};
use crate::{
    certificate_authority::{CertificateAuthority, Subject, request_spki_sha256},
    state_manager::performer::{life, tls_role},
};

/// After which a node that waits for approval asks again.
const RETRY_AFTER_SECONDS: u32 = 5;

pub(super) async fn register(
    api: &Api,
    request: Asked<v1::NodeRegistrationRequest>,
) -> Answered<v1::NodeRegistrationResponse> {
    let call = Call::RegisterNode;
    let by = api.admit(&request, call).await?;
    let wire = request.into_inner();
    let signing_request = wire
        .credentials
        .as_ref()
        .map(|credentials| credentials.certificate_signing_request.clone())
        .unwrap_or_default();
    let request = match convert(&api.authority, wire) {
        Ok(request) => request,
        Err(refusal) => return Err(api.refuse(by, call, refusal).await),
    };
    let answer = api.ask(by, call, request, DEADLINE).await?;
    let Answer::Registered(registered) = answer else { return Err(unexpected(call)) };
    respond(api, registered, &signing_request)
}

/// Looks at the token and at the signing request; nothing is taken from them but a hash each.
fn convert(
    authority: &CertificateAuthority,
    wire: v1::NodeRegistrationRequest,
) -> Result<Request, Refusal> {
    let text = RegistrationText::try_from(wire)?;
    check_id("node id", text.node.as_str())
        .map_err(|error| FieldError::new("node_id", error.to_string()))?;
    let key_fingerprint = request_spki_sha256(&text.signing_request).map_err(|error| {
        FieldError::new("credentials.certificate_signing_request", error.to_string())
    })?;
    let token_hash =
        if text.token.is_empty() { None } else { Some(token_hash(authority, &text.token)?) };
    Ok(Request::Register(Box::new(text.into_registration(token_hash, key_fingerprint))))
}

fn token_hash(authority: &CertificateAuthority, token: &str) -> Result<String, Refusal> {
    let token: JoinToken = token.trim().parse().map_err(|error: TokenError| {
        Refusal::from(FieldError::new("credentials.token", error.to_string()))
            .help("copy the whole of what piccolo token create printed")
    })?;
    if token.ca_digest() != authority.digest() {
        return Err(Refusal {
            field: Some("credentials.token".to_owned()),
            ..Refusal::new(
                Code::PermissionDenied,
                "TokenWrongCluster",
                "credentials.token: the token is of another cluster",
            )
        }
        .help("make one on this master: piccolo token create"));
    }
    Ok(hash_secret(token.secret()))
}

fn respond(
    api: &Api,
    registered: Registered,
    signing_request: &[u8],
) -> Answered<v1::NodeRegistrationResponse> {
    let certificate = match registered.certificate_until {
        None => None,
        Some(until) => {
            let (id, label) = (registered.node.as_str(), registered.name.as_str());
            let subject = Subject { role: tls_role(registered.role), id, label };
            let now = api.clock.seconds();
            let issued = api.authority.sign_node(signing_request, subject, life(until, now), now);
            Some(issued.map_err(|error| {
                tracing::error!(node = id, %error, "a certificate could not be signed");
                Status::internal(format!("the certificate could not be signed: {error}"))
            })?)
        }
    };
    let message = match (&certificate, registered.role) {
        (None, _) => "waits for approval: piccolo node approve".to_owned(),
        (Some(_), role @ (NodeRole::Master | NodeRole::Sub)) => format!("joined as {role}"),
    };
    let waits = certificate.is_none();
    Ok(Response::new(v1::NodeRegistrationResponse {
        certificate: certificate.map(|issued| issued.chain_pem.into_bytes()).unwrap_or_default(),
        ca_certificate: api.authority.certificate_pem().into_bytes(),
        retry_after_seconds: if waits { RETRY_AFTER_SECONDS } else { 0 },
        message,
        ..registered.into()
    }))
}
