//! Channels: where notifications go, and what goes there.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::matcher::Matcher;
use crate::{
    model::{FieldError, Severity, check_text},
    time::WallTime,
};

use super::alert::Alert;

pub const CHANNELS_MAX: usize = 32;
const NAME_BYTES_MAX: usize = 64;
const TEXT_BYTES_MAX: usize = 1024;
const ITEMS_MAX: usize = 32;
pub const TIMEOUT_S_DEFAULT: u32 = 10;
const TIMEOUT_S_MAX: u32 = 60;
pub const PER_MINUTE_DEFAULT: u32 = 30;
const PER_MINUTE_MAX: u32 = 600;

/// A text that is shown to nobody.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "none" } else { "***" })
    }
}

/// How a webhook's body looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Body {
    #[default]
    Json,
    Slack,
    Mattermost,
}

/// How the way to a server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protection {
    #[default]
    Tls,
    StartTls,
    /// Nothing is: for a server on the same machine.
    None,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    Webhook {
        /// A secret as a whole: Slack's and Mattermost's are.
        url: Secret,
        #[serde(default)]
        body: Body,
        /// Of the HMAC-SHA256 in the header; none where it is empty.
        #[serde(default)]
        key: Secret,
        /// PEM, of a server with an authority of its own.
        #[serde(default)]
        ca: String,
    },
    Command {
        /// The program, by its name in the master's folder for them, and its arguments.
        argv: Vec<String>,
    },
    Smtp {
        host: String,
        port: u16,
        #[serde(default)]
        protection: Protection,
        #[serde(default)]
        user: String,
        #[serde(default)]
        password: Secret,
        from: String,
        to: Vec<String>,
        #[serde(default)]
        ca: String,
    },
    Mqtt {
        host: String,
        port: u16,
        #[serde(default)]
        protection: Protection,
        topic: String,
        #[serde(default)]
        user: String,
        #[serde(default)]
        password: Secret,
        #[serde(default)]
        ca: String,
    },
}

impl Way {
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Webhook { .. } => "webhook",
            Self::Command { .. } => "command",
            Self::Smtp { .. } => "smtp",
            Self::Mqtt { .. } => "mqtt",
        }
    }

    /// Where it leads, without secrets.
    pub fn target(&self) -> String {
        match self {
            // what follows the host is the secret of many
            Self::Webhook { url, .. } => {
                let url = url.expose();
                let host = url.find("://").map_or(0, |scheme| scheme + 3);
                let end = url[host..].find(['/', '?', '#']).map_or(url.len(), |slash| host + slash);
                let authority = &url[host..end];
                let shown = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
                format!("{}{shown}", &url[..host])
            }
            // arguments may be secrets
            Self::Command { argv } => argv.first().cloned().unwrap_or_default(),
            Self::Smtp { host, port, to, .. } => format!("{host}:{port} to {}", to.join(", ")),
            Self::Mqtt { host, port, topic, .. } => format!("{host}:{port} {topic}"),
        }
    }

    fn check(&self, field: &str) -> Result<(), FieldError> {
        let place = |name: &str| format!("{field}.{name}");
        let text = |name: &str, text: &str| check_text(place(name), text, TEXT_BYTES_MAX);
        let some = |name: &str, value: &str| {
            text(name, value)?;
            let problem = "must not be empty";
            if value.is_empty() { Err(FieldError::new(place(name), problem)) } else { Ok(()) }
        };
        let list = |name: &str, list: &[String]| {
            if list.is_empty() || list.len() > ITEMS_MAX {
                return Err(FieldError::new(place(name), format!("has 1 to {ITEMS_MAX} entries")));
            }
            list.iter().try_for_each(|item| some(name, item))
        };
        match self {
            Self::Webhook { url, key, .. } => {
                some("url", url.expose())?;
                text("key", key.expose())?;
                let known = ["https://", "http://"].iter().any(|s| url.expose().starts_with(s));
                if !known || !url.expose().is_ascii() || url.expose().contains(' ') {
                    return Err(FieldError::new(place("url"), "is no http:// or https:// address"));
                }
                Ok(())
            }
            Self::Command { argv } => {
                list("command", argv)?;
                if argv.first().is_some_and(|name| !name.contains('/') && !name.starts_with('.')) {
                    return Ok(());
                }
                let problem = "begins with the name of a program in the master's folder for them";
                Err(FieldError::new(place("command"), problem))
            }
            Self::Smtp { host, user, password, from, to, port, protection, .. } => {
                some("host", host)?;
                protected(&place("protection"), *protection, user)?;
                text("user", user)?;
                text("password", password.expose())?;
                some("from", from)?;
                port_is_one(&place("port"), *port)?;
                list("to", to)?;
                address(&place("from"), from)?;
                to.iter().try_for_each(|to| address(&place("to"), to))
            }
            Self::Mqtt { host, topic, user, password, port, protection, .. } => {
                some("host", host)?;
                protected(&place("protection"), *protection, user)?;
                if *protection == Protection::StartTls {
                    return Err(FieldError::new(place("protection"), "must be tls or none"));
                }
                text("user", user)?;
                text("password", password.expose())?;
                port_is_one(&place("port"), *port)?;
                some("topic", topic)?;
                if topic.contains(['#', '+']) {
                    return Err(FieldError::new(place("topic"), "must not have '#' or '+' in it"));
                }
                Ok(())
            }
        }
    }
}

/// No password goes over a way that is not protected.
fn protected(field: &str, protection: Protection, user: &str) -> Result<(), FieldError> {
    if protection == Protection::None && !user.is_empty() {
        return Err(FieldError::new(field, "must not be none where there is a user"));
    }
    Ok(())
}

/// An address as SMTP takes it, without a name.
fn address(field: &str, text: &str) -> Result<(), FieldError> {
    let odd = |c: char| !c.is_ascii_graphic() || "<>,;\"()[]\\".contains(c);
    match text.split_once('@') {
        Some((user, host)) if !user.is_empty() && !host.is_empty() && !text.contains(odd) => Ok(()),
        Some(_) | None => Err(FieldError::new(field, "is no address, as ops@example.org")),
    }
}

fn port_is_one(field: &str, port: u16) -> Result<(), FieldError> {
    if port == 0 { Err(FieldError::new(field, "must be 1 to 65535")) } else { Ok(()) }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    pub name: String,
    pub way: Way,
    /// What is less is not told there.
    pub severity: Severity,
    /// Of which alerts; empty: of all.
    #[serde(default)]
    pub only: Matcher,
    /// Only what nobody acknowledged in time.
    #[serde(default)]
    pub escalations: bool,
    /// Not told of what is over.
    #[serde(default)]
    pub no_resolved: bool,
    pub timeout_s: u32,
    pub per_minute: u32,
    #[serde(default)]
    pub disabled: bool,
    pub changed_at: WallTime,
}

impl Channel {
    /// # Errors
    /// Names the field.
    pub fn check(&self, field: &str) -> Result<(), FieldError> {
        let place = |name: &str| format!("{field}.{name}");
        let word = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.name.is_empty() || self.name.len() > NAME_BYTES_MAX || !self.name.chars().all(word)
        {
            let problem = "has 1 to 64 letters, digits, '-', '_' and '.'";
            return Err(FieldError::new(place("name"), problem));
        }
        if !(1..=TIMEOUT_S_MAX).contains(&self.timeout_s) {
            return Err(FieldError::new(place("timeout"), "must be 1 s to 60 s"));
        }
        if !(1..=PER_MINUTE_MAX).contains(&self.per_minute) {
            return Err(FieldError::new(place("per_minute"), "must be 1 to 600"));
        }
        self.way.check(field)
    }

    pub(super) fn takes(&self, alert: &Alert, kind: NoticeKind) -> bool {
        let wanted = match kind {
            NoticeKind::Resolved => {
                !self.no_resolved && (!self.escalations || alert.escalated_at.is_some())
            }
            NoticeKind::Firing | NoticeKind::Updated => !self.escalations,
            NoticeKind::Escalated | NoticeKind::Test => true,
        };
        wanted
            && !self.disabled
            && alert.severity >= self.severity
            && self.only.matches(|key| alert.values(key))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoticeKind {
    Firing,
    /// Others have come to a group.
    Updated,
    /// Nobody has acknowledged it in time.
    Escalated,
    Resolved,
    Test,
}

impl NoticeKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Updated => "updated",
            Self::Escalated => "escalated",
            Self::Resolved => "resolved",
            Self::Test => "test",
        }
    }
}

/// What is told: whole, so that it does not matter what became of the alert meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// The same at every attempt: who has it already may drop it.
    pub key: String,
    pub kind: NoticeKind,
    pub at: WallTime,
    pub cluster: String,
    /// How many there are; the alert has the first of them.
    pub subjects: usize,
    pub alert: Alert,
}

impl Notice {
    /// One line: `CRITICAL firing: node board-1 is NotReady (robot)`.
    pub fn title(&self) -> String {
        let severity = super::alert::severity_name(self.alert.severity).to_uppercase();
        format!("{severity} {}: {} ({})", self.kind.name(), self.alert.message, self.cluster)
    }
}
