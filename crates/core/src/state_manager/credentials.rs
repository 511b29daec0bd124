//! What stands for a person without a certificate (HLD §9.1.3): API tokens, one-time codes that open the console, and its
//! sessions.
//!
//! Each is a secret that is known here by its hash alone. A session and a code speak for whoever made them, and end
//! with that one's own right: a revoked token or user takes its sessions along.

use std::{collections::BTreeMap, time::Duration};

use super::{Answer, StateManager, keys, log::Draft, outbox::Outbox};
use crate::{
    api_server::{Caller, Code, Refusal, Role, owner_of},
    model::{
        CredentialKind, CredentialRecord, EventKind, FieldError, Severity, SpeaksFor, UserName,
    },
    time::{Now, Timestamp},
};

const API_TOKEN_TTL_DEFAULT: Duration = Duration::from_secs(30 * 86_400);
const API_TOKEN_TTL_MAX: Duration = Duration::from_secs(366 * 86_400);
/// Of a code that opens the console once.
const CODE_TTL: Duration = Duration::from_secs(60);
/// Of a session, whatever happens in it.
pub const SESSION_TTL: Duration = Duration::from_secs(12 * 3600);
/// Of a session in which nothing is asked.
pub const SESSION_IDLE_MAX: Duration = Duration::from_secs(30 * 60);
/// Codes of one caller, and sessions of one caller; the oldest goes.
const CODES_PER_CALLER_MAX: usize = 4;
const SESSIONS_PER_CALLER_MAX: usize = 16;
/// Codes and sessions of all.
const BRIEF_MAX: usize = 1024;
/// Deletes of what has expired that go along with one commit.
const EXPIRED_AT_ONCE_MAX: usize = 32;
/// Wrong guesses of one address until it is locked out, and for how long at first. Each lock is twice as long.
const GUESSES_MAX: u32 = 10;
const GUESSES_WITHIN_US: u64 = 60_000_000;
const LOCKED_FIRST_US: u64 = 60_000_000;
const LOCKED_MAX_US: u64 = 3_600_000_000;
/// Addresses that are remembered at most; the oldest is forgotten first.
const ADDRESSES_MAX: usize = 1024;

/// All of them, by hash; and who guesses.
#[derive(Debug, Clone, Default)]
pub(super) struct Credentials {
    records: BTreeMap<String, CredentialRecord>,
    /// When a session was last used; since the start where it was not yet.
    used: BTreeMap<String, Timestamp>,
    guesses: Guesses,
}

impl Credentials {
    pub(super) fn restored(records: BTreeMap<String, CredentialRecord>) -> Self {
        Self { records, ..Self::default() }
    }

    /// The comparison takes as long wherever the first difference is.
    fn find(&self, hash: &str) -> Option<&CredentialRecord> {
        let id = hash.get(..CredentialRecord::ID_DIGITS)?;
        let mut alike = self.records.range(id.to_owned()..).take_while(|(h, _)| h.starts_with(id));
        alike.find(|(known, _)| is_same(known, hash)).map(|(_, record)| record)
    }

    fn remove(&mut self, out: &mut Outbox, hash: &str) {
        self.records.remove(hash);
        self.used.remove(hash);
        out.delete(keys::credential(hash));
    }

    fn insert(&mut self, now: Now, out: &mut Outbox, record: CredentialRecord) {
        out.put(keys::credential(&record.hash), &record);
        self.used.insert(record.hash.clone(), now.at);
        self.records.insert(record.hash.clone(), record);
    }

    fn forget_expired(&mut self, now: Now, out: &mut Outbox) {
        let over = self.records.values().filter(|record| record.expires_at <= now.wall);
        let over: Vec<_> = over.take(EXPIRED_AT_ONCE_MAX).map(|r| r.hash.clone()).collect();
        for hash in over {
            self.remove(out, &hash);
        }
    }

    /// Makes room for one more of whom it speaks for.
    fn make_room(&mut self, out: &mut Outbox, kind: CredentialKind, who: &str, max: usize) {
        let own = self.records.values().filter(|r| r.kind == kind && r.speaks_for.id == who);
        let mut own: Vec<_> = own.map(|r| (r.created_at, r.hash.clone())).collect();
        own.sort();
        let surplus = (own.len() + 1).saturating_sub(max);
        for (_, hash) in own.into_iter().take(surplus) {
            self.remove(out, &hash);
        }
    }

    fn check_brief(&self) -> Result<(), Refusal> {
        let brief = self.records.values().filter(|r| r.kind != CredentialKind::ApiToken).count();
        if brief < BRIEF_MAX {
            return Ok(());
        }
        let message = format!("there are {brief} sessions, and no more may be opened");
        Err(Refusal::new(Code::ResourceExhausted, "TooManySessions", message)
            .help("close sessions that nobody needs any more"))
    }
}

fn is_same(a: &str, b: &str) -> bool {
    let differing = a.bytes().zip(b.bytes()).fold(0, |all, (a, b)| all | (a ^ b));
    a.len() == b.len() && differing == 0
}

impl StateManager {
    /// Who shows this secret, of which `hash` is SHA-256 in hexadecimal.
    ///
    /// # Errors
    /// It is unknown or over, and nothing is said of which one; or it is unknown, and its address has guessed too often.
    /// What is good passes from wherever it comes: somebody behind the same address may guess, and one of 2^256 secrets
    /// is found by no rate of guesses.
    pub fn identify(
        &mut self,
        now: Now,
        kind: CredentialKind,
        hash: &str,
        from: &str,
    ) -> Result<Caller, Refusal> {
        let found = self.credentials.find(hash).filter(|record| record.kind == kind);
        let Some(record) = found.cloned() else {
            if kind != CredentialKind::Session {
                self.credentials.guesses.check(from, now.at)?;
                self.credentials.guesses.failed(from, now.at);
            }
            return Err(not_good(kind));
        };
        let used = self.credentials.used.get(hash).copied().unwrap_or(self.started.at);
        let idle = kind == CredentialKind::Session && now.at.since(used) > SESSION_IDLE_MAX;
        if record.expires_at <= now.wall || idle {
            return Err(not_good(kind));
        }
        let by = Caller { from: from.to_owned(), ..record.caller() };
        self.check_standing(&by)?;
        if kind == CredentialKind::Session {
            self.credentials.used.insert(hash.to_owned(), now.at);
        }
        Ok(by)
    }

    /// Whether what the caller showed is still good; of the time, what was true when it was last looked at.
    pub(super) fn check_credential(&self, by: &Caller, hash: &str) -> Result<(), Refusal> {
        let Some(record) = self.credentials.find(hash) else { return Err(revoked(by)) };
        if record.kind == CredentialKind::ApiToken {
            let same = record.role == by.role && by.id == record.speaks_for.id;
            return if same { Ok(()) } else { Err(revoked(by)) };
        }
        // a session or a code is as good as what it was opened with
        let maker = Caller {
            credential: record.speaks_for.credential.clone(),
            serial: record.speaks_for.serial.clone(),
            ..by.clone()
        };
        self.check_standing(&maker)
    }

    pub(super) fn create_api_token(
        &mut self,
        now: Now,
        out: &mut Outbox,
        by: &Caller,
        (name, role): (UserName, Role),
        (ttl, hash): (Duration, String),
    ) -> Result<Answer, Refusal> {
        let ttl = if ttl.is_zero() { API_TOKEN_TTL_DEFAULT } else { ttl };
        if ttl > API_TOKEN_TTL_MAX {
            return Err(FieldError::new("ttl_seconds", "is more than a year").into());
        }
        if !role.is_user() {
            return Err(FieldError::new("role", "must be viewer, operator or admin").into());
        }
        self.credentials.forget_expired(now, out);
        let tokens = || self.api_tokens();
        if tokens().any(|token| token.name == name.as_str() && token.expires_at > now.wall) {
            let message = format!("there is an API token {name} already");
            return Err(Refusal::new(Code::AlreadyExists, "ApiTokenExists", message)
                .help("revoke it first, or take another name"));
        }
        let count = tokens().count();
        if count >= self.settings.tokens_max {
            let message = format!("there are {count} API tokens, and no more may be made");
            return Err(Refusal::new(Code::ResourceExhausted, "TooManyTokens", message)
                .help("piccolo api-token revoke"));
        }
        let record = CredentialRecord {
            kind: CredentialKind::ApiToken,
            name: name.to_string(),
            role,
            created_at: now.wall,
            expires_at: now.wall.plus(ttl),
            created_by: by.who(),
            speaks_for: SpeaksFor {
                id: format!("token/{name}"),
                credential: Some(hash.clone()),
                serial: String::new(),
                expires_at: None,
            },
            hash,
        };
        self.credentials.insert(now, out, record.clone());
        let message = format!("{} made API token {name}, with role {role}", by.who());
        let draft = Draft::cluster(Severity::Info, EventKind::TokenCreated, message);
        self.happened(now, out, draft.field("token", record.id()));
        Ok(Answer::Credential(record))
    }

    pub(super) fn api_tokens(&self) -> impl Iterator<Item = &CredentialRecord> {
        let all = self.credentials.records.values();
        all.filter(|record| record.kind == CredentialKind::ApiToken)
    }

    /// By name or id. Its sessions and codes end with it.
    pub(super) fn revoke_api_token(
        &mut self,
        now: Now,
        out: &mut Outbox,
        text: &str,
    ) -> Result<Answer, Refusal> {
        let is_meant = |record: &&CredentialRecord| {
            record.name == text || (text.len() >= 8 && record.hash.starts_with(text))
        };
        let Some(record) = self.api_tokens().find(is_meant).cloned() else {
            let message = format!("there is no API token {text:?}");
            return Err(Refusal::new(Code::NotFound, "NoSuchApiToken", message)
                .help("piccolo api-token list"));
        };
        self.credentials.remove(out, &record.hash);
        let ended = self.credentials.records.values();
        let ended = ended.filter(|r| r.speaks_for.credential.as_deref() == Some(&record.hash));
        let ended: Vec<_> = ended.take(EXPIRED_AT_ONCE_MAX).map(|r| r.hash.clone()).collect();
        for hash in ended {
            self.credentials.remove(out, &hash);
        }
        let message = format!("API token {} was revoked", record.name);
        let draft = Draft::cluster(Severity::Info, EventKind::TokenRevoked, message);
        self.happened(now, out, draft.field("token", record.id()));
        Ok(Answer::Credential(record))
    }

    /// A code that opens one session of the caller, within a minute.
    pub(super) fn open_console(
        &mut self,
        now: Now,
        out: &mut Outbox,
        by: &Caller,
        hash: String,
    ) -> Result<Answer, Refusal> {
        let shown = by.credential.as_deref().and_then(|shown| self.credentials.find(shown));
        if shown.is_some_and(|shown| shown.kind == CredentialKind::Session) {
            let message = "a session cannot open another";
            return Err(Refusal::new(Code::FailedPrecondition, "InSession", message)
                .help("use a certificate or an API token"));
        }
        self.credentials.forget_expired(now, out);
        self.credentials.make_room(out, CredentialKind::Code, &by.id, CODES_PER_CALLER_MAX);
        self.credentials.check_brief()?;
        let record = brief(now, by, CredentialKind::Code, hash, CODE_TTL);
        self.credentials.insert(now, out, record.clone());
        Ok(Answer::Credential(record))
    }

    /// `by` has shown an API token or a code; a code is used up by that.
    pub(super) fn open_session(
        &mut self,
        now: Now,
        out: &mut Outbox,
        by: &Caller,
        hash: String,
    ) -> Result<Answer, Refusal> {
        self.credentials.forget_expired(now, out);
        let shown =
            by.credential.as_deref().and_then(|shown| self.credentials.find(shown)).cloned();
        let Some(shown) = shown.filter(|shown| shown.kind != CredentialKind::Session) else {
            let message = "a session is opened with an API token or a code of piccolo console";
            return Err(Refusal::new(Code::FailedPrecondition, "NoCredential", message));
        };
        self.credentials.check_brief()?;
        self.credentials.make_room(out, CredentialKind::Session, &by.id, SESSIONS_PER_CALLER_MAX);
        let of_the_maker = match shown.kind {
            CredentialKind::Code => shown.speaks_for.expires_at,
            CredentialKind::ApiToken | CredentialKind::Session => Some(shown.expires_at),
        };
        let maker = Caller {
            credential: shown.speaks_for.credential.clone(),
            serial: shown.speaks_for.serial.clone(),
            expires_at: of_the_maker,
            ..by.clone()
        };
        let record = brief(now, &maker, CredentialKind::Session, hash, SESSION_TTL);
        if shown.kind == CredentialKind::Code {
            self.credentials.remove(out, &shown.hash);
        }
        self.credentials.insert(now, out, record.clone());
        Ok(Answer::Credential(record))
    }

    pub(super) fn close_session(
        &mut self,
        out: &mut Outbox,
        by: &Caller,
    ) -> Result<Answer, Refusal> {
        let hash = by.credential.clone().unwrap_or_default();
        let is_session = |record: &CredentialRecord| record.kind == CredentialKind::Session;
        if !self.credentials.find(&hash).is_some_and(is_session) {
            let message = "there is no session: this caller has shown a token or a certificate";
            return Err(Refusal::new(Code::FailedPrecondition, "NotInSession", message));
        }
        self.credentials.remove(out, &hash);
        Ok(Answer::Done)
    }
}

/// It ends with the right of whoever makes it.
fn brief(
    now: Now,
    by: &Caller,
    kind: CredentialKind,
    hash: String,
    ttl: Duration,
) -> CredentialRecord {
    let until = now.wall.plus(ttl);
    CredentialRecord {
        hash,
        kind,
        name: String::new(),
        role: by.role,
        created_at: now.wall,
        expires_at: by.expires_at.map_or(until, |end| end.min(until)),
        created_by: by.who(),
        speaks_for: SpeaksFor {
            id: by.id.clone(),
            credential: by.credential.clone(),
            serial: by.serial.clone(),
            expires_at: by.expires_at,
        },
    }
}

fn not_good(kind: CredentialKind) -> Refusal {
    let (reason, message, help) = match kind {
        CredentialKind::ApiToken => (
            "ApiTokenNotGood",
            "the API token is unknown, expired or revoked",
            "piccolo api-token create makes another",
        ),
        CredentialKind::Code => (
            "CodeNotGood",
            "the code is unknown, older than a minute, or was used",
            "piccolo console makes another",
        ),
        CredentialKind::Session => {
            ("SessionOver", "the session is over, or unknown here", "sign in again")
        }
    };
    Refusal::new(Code::Unauthenticated, reason, message).help(help)
}

fn revoked(by: &Caller) -> Refusal {
    let message = format!("what {} has shown was revoked", by.who());
    Refusal::new(Code::Unauthenticated, "CredentialRevoked", message).help("sign in again")
}

/// Slows down whoever guesses secrets.
#[derive(Debug, Clone, Default)]
struct Guesses(BTreeMap<String, Attempts>);

#[derive(Debug, Clone, Copy)]
struct Attempts {
    since: Timestamp,
    failures: u32,
    locked_until: Timestamp,
    locks: u32,
}

impl Guesses {
    fn check(&self, address: &str, now: Timestamp) -> Result<(), Refusal> {
        match self.0.get(&owner_of(address)) {
            Some(attempts) if now < attempts.locked_until => {
                let seconds = attempts.locked_until.since(now).as_secs() + 1;
                let message =
                    format!("too many wrong tokens from {address}: locked out for {seconds} s");
                let refusal = Refusal::new(Code::ResourceExhausted, "LockedOut", message);
                Err(Refusal { retry_after_s: Some(seconds), ..refusal }
                    .help("check the token: a good one is taken at once"))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn failed(&mut self, address: &str, now: Timestamp) {
        let fresh = Attempts { since: now, failures: 0, locked_until: Timestamp(0), locks: 0 };
        let attempts = self.0.entry(owner_of(address)).or_insert(fresh);
        if now.0.saturating_sub(attempts.since.0) > GUESSES_WITHIN_US.max(LOCKED_MAX_US) {
            *attempts = fresh;
        } else if now.0.saturating_sub(attempts.since.0) > GUESSES_WITHIN_US {
            attempts.failures = 0;
            attempts.since = now;
        }
        attempts.failures += 1;
        if attempts.failures >= GUESSES_MAX {
            let locked = LOCKED_FIRST_US << attempts.locks.min(6);
            attempts.locked_until = Timestamp(now.0 + locked.min(LOCKED_MAX_US));
            attempts.locks += 1;
            attempts.failures = 0;
            attempts.since = now;
        }
        if self.0.len() > ADDRESSES_MAX {
            let oldest = self.0.iter().min_by_key(|(_, a)| a.since.max(a.locked_until));
            if let Some(address) = oldest.map(|(address, _)| address.clone()) {
                self.0.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api_server::Call,
        state_manager::{
            Request, Settings,
            fixtures::{Cluster, admin, at},
        },
        time::WallTime,
    };

    const FROM: &str = "10.0.0.7";

    fn token(name: &str, role: Role, hash: &str) -> Request {
        let name = UserName::parse("name", name).unwrap();
        let ttl = Duration::from_secs(7 * 86_400);
        Request::CreateApiToken { name, role, ttl, hash: hash.repeat(16) }
    }

    /// Who shows the secret of that hash, or the reason why it is not let in.
    fn identify(
        cluster: &mut Cluster,
        ms: u64,
        kind: CredentialKind,
        hash: &str,
    ) -> Result<String, &'static str> {
        let found = cluster.machine.identify(at(ms), kind, &hash.repeat(16), FROM);
        found.map(|by| by.who()).map_err(|refusal| refusal.reason)
    }

    fn caller(cluster: &mut Cluster, ms: u64, kind: CredentialKind, hash: &str) -> Caller {
        cluster.machine.identify(at(ms), kind, &hash.repeat(16), FROM).unwrap()
    }

    use CredentialKind::{ApiToken, Code as OnceCode, Session};

    #[test]
    fn a_token_speaks_for_itself_until_it_is_revoked_or_over() {
        let mut cluster = Cluster::new(Settings::default());
        cluster.ask(1_000, admin(), token("ci", Role::Operator, "abcd")).unwrap();
        let same_name = cluster.ask(1_000, admin(), token("ci", Role::Viewer, "0123"));
        assert_eq!(same_name.unwrap_err().reason, "ApiTokenExists");
        let ci = caller(&mut cluster, 2_000, ApiToken, "abcd");
        assert_eq!(ci.who(), "operator:token/ci");
        assert!(cluster.ask(2_000, ci.clone(), Request::ListTokens).is_ok());
        let more = cluster.ask(2_000, ci.clone(), token("own", Role::Admin, "4567"));
        assert_eq!(more.unwrap_err().reason, "RoleNotAllowed");
        assert_eq!(identify(&mut cluster, 2_000, ApiToken, "abce"), Err("ApiTokenNotGood"));
        assert_eq!(identify(&mut cluster, 2_000, Session, "abcd"), Err("SessionOver"));
        let week = 7 * 86_400_000;
        assert_eq!(
            identify(&mut cluster, week, ApiToken, "abcd").as_deref(),
            Ok("operator:token/ci")
        );
        let over = identify(&mut cluster, week + 1_000, ApiToken, "abcd");
        assert_eq!(over, Err("ApiTokenNotGood"));
        cluster.ask(3_000, admin(), Request::RevokeApiToken("ci".to_owned())).unwrap();
        assert_eq!(identify(&mut cluster, 3_000, ApiToken, "abcd"), Err("ApiTokenNotGood"));
        let late = cluster.ask(3_000, ci, Request::ListTokens);
        assert_eq!(late.unwrap_err().reason, "CredentialRevoked", "of a stream that was open");
    }

    #[test]
    fn a_code_opens_one_session_which_ends_with_its_users_right() {
        let mut cluster = Cluster::new(Settings::default());
        let hash = |hash: &str| hash.repeat(16);
        cluster.ask(0, admin(), Request::OpenConsole { hash: hash("c0de") }).unwrap();
        assert_eq!(identify(&mut cluster, 60_000, OnceCode, "c0de"), Err("CodeNotGood"));
        let code = caller(&mut cluster, 59_999, OnceCode, "c0de");
        assert_eq!(code.who(), "admin:admin");
        cluster.ask(59_999, code.clone(), Request::OpenSession { hash: hash("5e55") }).unwrap();
        let again = cluster.ask(59_999, code, Request::OpenSession { hash: hash("5e56") });
        assert_eq!(again.unwrap_err().reason, "CredentialRevoked");
        let session = caller(&mut cluster, 61_000, Session, "5e55");
        assert!(cluster.ask(61_000, session.clone(), Request::ListUsers).is_ok());
        let another = Request::OpenConsole { hash: hash("c0df") };
        assert_eq!(cluster.ask(61_000, session.clone(), another).unwrap_err().reason, "InSession");
        cluster.ask(62_000, session.clone(), Request::CloseSession).unwrap();
        assert_eq!(identify(&mut cluster, 62_000, Session, "5e55"), Err("SessionOver"));
        let users = cluster.ask(62_000, session, Request::ListUsers);
        assert_eq!(users.unwrap_err().reason, "CredentialRevoked");
    }

    #[test]
    fn a_session_is_over_when_it_is_not_used_and_at_the_end_of_the_day() {
        let mut cluster = Cluster::new(Settings::default());
        cluster.ask(0, admin(), token("ci", Role::Viewer, "abcd")).unwrap();
        let open = |cluster: &mut Cluster, hash: &str| {
            let ci = caller(cluster, 0, ApiToken, "abcd");
            cluster.ask(0, ci, Request::OpenSession { hash: hash.repeat(16) }).unwrap();
        };
        open(&mut cluster, "aaaa");
        open(&mut cluster, "bbbb");
        let minute = 60_000;
        for at in (0..12 * 60).step_by(29) {
            assert!(identify(&mut cluster, at * minute, Session, "aaaa").is_ok(), "{at}");
        }
        assert_eq!(identify(&mut cluster, 31 * minute, Session, "bbbb"), Err("SessionOver"));
        assert_eq!(identify(&mut cluster, 12 * 60 * minute, Session, "aaaa"), Err("SessionOver"));
    }

    #[test]
    fn sessions_outlive_a_restart_and_end_with_their_token() {
        let mut cluster = Cluster::new(Settings::default());
        cluster.ask(0, admin(), token("ci", Role::Viewer, "abcd")).unwrap();
        let ci = caller(&mut cluster, 0, ApiToken, "abcd");
        cluster.ask(0, ci, Request::OpenSession { hash: "5e55".repeat(16) }).unwrap();
        cluster.restart(Settings::default(), 1_000);
        assert!(identify(&mut cluster, 1_000, Session, "5e55").is_ok());
        cluster.ask(2_000, admin(), Request::RevokeApiToken("ci".to_owned())).unwrap();
        assert_eq!(identify(&mut cluster, 2_000, Session, "5e55"), Err("SessionOver"));
        assert!(!cluster.store.keys().any(|key| key.starts_with(keys::CREDENTIALS)));
    }

    #[test]
    fn no_session_outlives_what_it_was_opened_with() {
        let hour = 3_600_000_u64;
        let until = |ms: u64| Some(WallTime(i64::try_from(ms).unwrap()));
        for (lasts, ends) in [(5 * hour, 5 * hour), (24 * hour, 12 * hour)] {
            let mut cluster = Cluster::new(Settings::default());
            let with_certificate = Caller { expires_at: until(lasts), ..admin() };
            let name = UserName::parse("name", "ci").unwrap();
            let (role, ttl) = (Role::Viewer, Duration::from_millis(lasts));
            let hash = "abcd".repeat(16);
            cluster.ask(0, admin(), Request::CreateApiToken { name, role, ttl, hash }).unwrap();
            let with_token = caller(&mut cluster, 0, ApiToken, "abcd");
            for (maker, code, session) in
                [(with_certificate, "c0de", "5e55"), (with_token.clone(), "c0df", "5e56")]
            {
                cluster.ask(0, maker, Request::OpenConsole { hash: code.repeat(16) }).unwrap();
                let code = caller(&mut cluster, 0, OnceCode, code);
                cluster.ask(0, code, Request::OpenSession { hash: session.repeat(16) }).unwrap();
            }
            let open = Request::OpenSession { hash: "5e57".repeat(16) };
            cluster.ask(0, with_token, open).unwrap();
            cluster.restart(Settings::default(), 1);
            for session in ["5e55", "5e56", "5e57"] {
                for ms in (0..ends).step_by(29 * 60_000) {
                    let by = caller(&mut cluster, ms, Session, session);
                    assert_eq!(by.expires_at, until(ends), "{session} at {ms}");
                }
                let over = identify(&mut cluster, ends, Session, session);
                assert_eq!(over, Err("SessionOver"), "{session}");
            }
        }
    }

    #[test]
    fn one_caller_has_so_many_sessions_and_the_oldest_goes() {
        let mut cluster = Cluster::new(Settings::default());
        cluster.ask(0, admin(), token("ci", Role::Viewer, "abcd")).unwrap();
        for n in 0..40_u64 {
            let ci = caller(&mut cluster, n, ApiToken, "abcd");
            let hash = format!("{n:04}").repeat(16);
            cluster.ask(n, ci, Request::OpenSession { hash }).unwrap();
        }
        assert_eq!(identify(&mut cluster, 40, Session, "0023"), Err("SessionOver"));
        assert!(identify(&mut cluster, 40, Session, "0024").is_ok());
        let stored = cluster.store.keys().filter(|key| key.starts_with(keys::CREDENTIALS)).count();
        assert_eq!(stored, 1 + SESSIONS_PER_CALLER_MAX);
    }

    #[test]
    fn who_guesses_is_locked_out_longer_each_time_and_nobody_else_is() {
        let mut cluster = Cluster::new(Settings::default());
        cluster.ask(0, admin(), token("ci", Role::Viewer, "abcd")).unwrap();
        let mut guess = |ms: u64| {
            let mut tried = 0;
            while identify(&mut cluster, ms, ApiToken, "ffff") == Err("ApiTokenNotGood") {
                tried += 1;
            }
            assert_eq!(
                identify(&mut cluster, ms, ApiToken, "abcd").as_deref(),
                Ok("viewer:token/ci"),
                "a good token comes from a neighbour of who guesses"
            );
            let locked = cluster.machine.identify(at(ms), ApiToken, &"ffff".repeat(16), FROM);
            let wait = locked.unwrap_err().retry_after_s;
            let other = "a".repeat(64);
            let elsewhere = cluster.machine.identify(at(ms), ApiToken, &other, "10.0.0.8");
            (tried, wait, elsewhere.unwrap_err().reason)
        };
        let not_good = "ApiTokenNotGood";
        assert_eq!(guess(1_000), (GUESSES_MAX, Some(61), not_good));
        assert_eq!(guess(60_999), (0, Some(1), not_good));
        assert_eq!(guess(61_000), (GUESSES_MAX, Some(121), not_good));
        assert_eq!(guess(180_999).0, 0, "two minutes now");
        assert_eq!(guess(181_000).0, GUESSES_MAX);
    }

    #[test]
    fn guessing_from_everywhere_takes_bounded_memory() {
        let mut guesses = Guesses::default();
        for n in 0..5_000_u64 {
            guesses.failed(&format!("10.0.{}.{}", n / 256, n % 256), Timestamp(n));
        }
        assert_eq!(guesses.0.len(), ADDRESSES_MAX);
    }

    #[test]
    fn every_kind_of_credential_is_refused_where_its_record_is_gone() {
        let cluster = Cluster::new(Settings::default());
        let by = Caller { credential: Some("ab".repeat(32)), ..admin() };
        assert_eq!(by.check(Call::ListUsers), Ok(()));
        assert_eq!(cluster.machine.standing(&by).unwrap_err().reason, "CredentialRevoked");
    }
}
