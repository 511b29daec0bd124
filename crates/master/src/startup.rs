//! What has to be there before a master serves: its folder, its keys, its store, its first administrator.
//!
//! Everything here may be interrupted at any point and is done again at the next start: a file is written whole or
//! not at all, and the administrator's record is stored after the context that it makes usable.

use std::{
    io::{Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use piccolo_core::{
    api_server::Role,
    model::{AuditEntry, NodeId, UserName, UserRecord},
    state_manager::{Settings, Snapshot, keys},
    time::WallTime,
};
use piccolo_rpc::tls::{
    clock::Clock,
    identity::{Identity, IdentityError, PrivateKey, certificate_pem},
    names,
};
use piccolo_store::{
    EmbeddedOptions, EmbeddedStore, EtcdOptions, EtcdStore, EtcdTls, KeyRing, KeyValue, Store,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    certificate_authority::{
        AuthorityError, CertificateAuthority, MASTER_CERTIFICATE_LIFE, Subject,
    },
    config::{Config, EtcdConfig, StoreConfig},
};

/// The first administrator.
const FIRST_ADMIN: &str = "first";
const FIRST_ADMIN_LIFE: Duration = Duration::from_secs(5 * 365 * 86_400);
/// Between two attempts to reach a store that is away at the start.
const STORE_RETRY_MAX: Duration = Duration::from_secs(5);

/// Makes the state folder, open to its owner alone.
pub(crate) fn make_state_dir(path: &Path) -> anyhow::Result<()> {
    let made = make_folders_above(path)
        .and_then(|()| std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path));
    made.with_context(|| format!("the state folder {} cannot be made", path.display()))
}

/// Everybody may pass through them, whatever the umask: root restores a backup before systemd has made any, and the
/// unit's own user has to reach what lies below.
fn make_folders_above(path: &Path) -> std::io::Result<()> {
    let missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
    let missing: Vec<_> = path.ancestors().skip(1).take_while(missing).collect();
    for folder in missing.into_iter().rev() {
        match std::fs::create_dir(folder) {
            Ok(()) => std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Finds what would keep a master from serving, as far as it shows without changing or making anything.
pub(crate) fn check(config: &Config) -> anyhow::Result<()> {
    if let StoreConfig::Etcd(etcd) = &config.store {
        drop(EtcdStore::new(etcd_options(etcd, &config.state_dir, false)?)?);
    }
    let authority = config.state_dir.join("ca.pem");
    if authority.exists() {
        match CertificateAuthority::open_or_create(&authority, config.cluster_id.as_deref(), 0) {
            // whoever checks need not be the master's user
            Ok(_) | Err(AuthorityError::File(IdentityError::Owner { .. })) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let seal = config.state_dir.join("seal.key");
    if seal.exists() {
        KeyRing::load(&seal).context("the seal key cannot be used")?;
    }
    let server = served_before(config);
    if server.exists() {
        match Identity::load(&server) {
            // what is no identity is made anew
            Ok(_) | Err(IdentityError::Content { .. } | IdentityError::Owner { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The authority, and the key that secrets are sealed with; made at the first start.
pub(crate) fn open_authority(
    config: &Config,
    clock: &Clock,
) -> anyhow::Result<(CertificateAuthority, KeyRing)> {
    let path = config.state_dir.join("ca.pem");
    let (authority, new) =
        CertificateAuthority::open_or_create(&path, config.cluster_id.as_deref(), clock.now())?;
    if new {
        tracing::info!(cluster = authority.cluster_id(), "a certificate authority was made");
    }
    let seal = config.state_dir.join("seal.key");
    if !seal.exists() {
        KeyRing::create(&seal)?;
    }
    let seal = KeyRing::load(&seal).context("the seal key cannot be used")?;
    Ok((authority, seal))
}

/// The identity with which this master serves now.
pub(crate) fn server_identity(
    config: &Config,
    authority: &CertificateAuthority,
    now: u64,
) -> anyhow::Result<Identity> {
    let path = served_before(config);
    let mut names = config.names.clone();
    let host = host_name();
    if !host.is_empty() && !names.contains(&host) {
        names.push(host);
    }
    for address in [Some(config.listen), config.https_listen].into_iter().flatten() {
        if !address.ip().is_unspecified() {
            names.push(address.ip().to_string());
        }
    }
    let life = MASTER_CERTIFICATE_LIFE;
    Ok(authority.master_server_identity(&path, "master", &names, life, now)?)
}

/// The server's identity: written once a first start has come so far that there is a store.
fn served_before(config: &Config) -> PathBuf {
    config.state_dir.join("server.pem")
}

/// The machine's own name, if it can stand in a certificate.
pub(crate) fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    piccolo_core::model::NodeName::parse("hostname", &name).map(|_| name).unwrap_or_default()
}

/// Opens the configured store; waits for an etcd that is away.
pub(crate) async fn open_store(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    match &config.store {
        // only at a first start: later, a file that is not there is a file that was lost
        StoreConfig::Embedded => {
            let (create, file) = (!served_before(config).exists(), config.store_file());
            anyhow::ensure!(
                create || file.exists(),
                "the store {} is gone, but this master has served a cluster before; nothing was changed. Mount the \
                 disk that it was on, or restore the backup of {}; to begin a new cluster, remove that folder",
                file.display(),
                config.state_dir.display()
            );
            open_embedded(file, create, false).await
        }
        StoreConfig::Etcd(etcd) => open_etcd(etcd, &config.state_dir, false, None).await,
    }
}

pub(crate) async fn open_embedded(
    path: PathBuf,
    create: bool,
    incomplete: bool,
) -> anyhow::Result<Arc<dyn Store>> {
    let mut options = EmbeddedOptions::new(path);
    if create {
        options = options.create();
    }
    if incomplete {
        options = options.allow_incomplete();
    }
    let store = tokio::task::spawn_blocking(|| EmbeddedStore::open(options)).await??;
    Ok(Arc::new(store))
}

/// Waits for an etcd that is away; no longer than `patience` where there is one.
pub(crate) async fn open_etcd(
    etcd: &EtcdConfig,
    state_dir: &Path,
    incomplete: bool,
    patience: Option<Duration>,
) -> anyhow::Result<Arc<dyn Store>> {
    let store = EtcdStore::new(etcd_options(etcd, state_dir, incomplete)?)?;
    let begun = tokio::time::Instant::now();
    let mut pause = Duration::from_millis(200);
    loop {
        let error = match store.get(keys::EPOCH).await {
            Ok(_) => return Ok(Arc::new(store)),
            Err(error) if error.is_retryable() => error,
            Err(error) => return Err(error.into()),
        };
        if let Some(patience) = patience
            && begun.elapsed() + pause > patience
        {
            return Err(anyhow::Error::new(error).context(format!(
                "etcd at {} did not answer within {} s; nothing was changed. Start it or correct its address, and \
                 run the same command again",
                etcd.endpoints.join(", "),
                patience.as_secs()
            )));
        }
        tracing::warn!(%error, "waiting for the store");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(STORE_RETRY_MAX);
    }
}

fn etcd_options(
    etcd: &EtcdConfig,
    state_dir: &Path,
    incomplete: bool,
) -> anyhow::Result<EtcdOptions> {
    let read = |path: &Path| {
        std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))
    };
    let mut options = EtcdOptions::new(etcd.endpoints.clone(), client_name(state_dir));
    options.allow_plaintext = etcd.allow_plaintext;
    options.allow_incomplete = incomplete;
    if let Some(ca) = &etcd.ca {
        let client = match &etcd.client {
            Some((certificate, key)) => Some((read(certificate)?, read_key(key)?)),
            None => None,
        };
        options =
            options.tls(EtcdTls { ca_pem: read(ca)?, client_pem: client, ..EtcdTls::default() });
    }
    if let Some(user) = &etcd.user {
        let password = match &etcd.password_file {
            Some(path) => String::from_utf8(read(path)?).context("the password is no text")?,
            None => String::new(),
        };
        options = options.user(user, password.trim_end_matches(['\r', '\n']));
    }
    Ok(options)
}

/// A key that others can read is no secret: refused, as all other keys are.
fn read_key(path: &Path) -> anyhow::Result<Vec<u8>> {
    let unreadable = || format!("{} cannot be read", path.display());
    let mut file = std::fs::File::open(path).with_context(unreadable)?;
    let mode = file.metadata().with_context(unreadable)?.permissions().mode();
    anyhow::ensure!(
        mode & 0o077 == 0,
        "{} has mode {:o} and holds a key; set it to 0600, and replace the key if others had access",
        path.display(),
        mode & 0o7777
    );
    let mut content = Vec::new();
    file.read_to_end(&mut content).with_context(unreadable)?;
    Ok(content)
}

/// The same at each start of this master, and another one for another master.
fn client_name(state_dir: &Path) -> String {
    format!("{}:{}", host_name(), state_dir.display())
}

/// Everything that is stored.
pub(crate) async fn load(
    store: &dyn Store,
    seal: &KeyRing,
    authority: &CertificateAuthority,
    config: &Config,
) -> anyhow::Result<(Snapshot, Vec<KeyValue>)> {
    let (items, _) = piccolo_store::list(store, piccolo_store::ROOT).await?;
    anyhow::ensure!(
        items.iter().any(|item| item.key == keys::EPOCH) || !served_before(config).exists(),
        "the store is empty, but this master has served a cluster before; nothing was changed. Restore the \
         store, or, to begin anew, remove {}",
        config.state_dir.display()
    );
    let mut snapshot = Snapshot::empty(authority.cluster_id(), config.cluster_name.clone());
    let is_sealed = |item: &&KeyValue| item.key.starts_with(keys::SEALED);
    for item in items.iter().filter(|item| !is_sealed(item)) {
        snapshot.add(&item.key, &item.value)?;
    }
    // before anything is opened: another cluster's values have another key
    anyhow::ensure!(
        snapshot.cluster() == authority.cluster_id(),
        "the store holds cluster {}, but the certificate authority in {} is of cluster {}; nothing was changed",
        snapshot.cluster(),
        config.state_dir.display(),
        authority.cluster_id()
    );
    for item in items.iter().filter(is_sealed) {
        snapshot.add(&item.key, &seal.open(&item.key, &item.value)?)?;
    }
    Ok((snapshot, items))
}

/// The newest moment that this master is known to have seen: its clock never shows less.
pub(crate) fn clock_floor(items: &[KeyValue]) -> u64 {
    let mut newest = WallTime::default();
    for item in items {
        if item.key.starts_with(keys::HEARTBEATS) {
            let heard: Result<std::collections::BTreeMap<NodeId, WallTime>, _> =
                keys::decode(&item.key, &item.value);
            newest = newest.max(heard.unwrap_or_default().into_values().max().unwrap_or_default());
        } else if item.key.starts_with(keys::AUDIT) {
            let entry: Result<AuditEntry, _> = keys::decode(&item.key, &item.value);
            newest = newest.max(entry.map(|entry| entry.at).unwrap_or_default());
        }
    }
    u64::try_from(newest.0 / 1000).unwrap_or(0)
}

pub(crate) fn settings(config: &Config) -> Settings {
    Settings {
        timing: config.timing,
        approval: config.approval,
        readiness: config.readiness,
        certificate_lifetime: config.certificate_lifetime,
        nodes_max: config.nodes_max,
        events_max: config.events_max,
        events_age_max: config.events_age_max,
        audit_max: config.audit_max,
        probe_interval: config.probe_interval,
        masters: config.advertise.clone(),
        ..Settings::default()
    }
}

/// What `piccolo` reads. `docs/operations` describes it.
#[derive(Serialize)]
struct AdminContext<'a> {
    server: &'a [String],
    cluster: &'a str,
    ca: &'a str,
    certificate: String,
    key: &'a str,
}

/// The same context for masters at other addresses; `None` where it cannot be read as one.
pub(crate) fn context_for(content: &[u8], servers: &[String]) -> Option<Zeroizing<Vec<u8>>> {
    #[derive(Deserialize)]
    struct Found<'a> {
        cluster: std::borrow::Cow<'a, str>,
        ca: std::borrow::Cow<'a, str>,
        certificate: std::borrow::Cow<'a, str>,
        key: std::borrow::Cow<'a, str>,
    }
    let text = std::str::from_utf8(content).ok()?;
    let found: Found<'_> = serde_saphyr::from_str(text).ok()?;
    let context = AdminContext {
        server: servers,
        cluster: &found.cluster,
        ca: &found.ca,
        certificate: found.certificate.into_owned(),
        key: &found.key,
    };
    serde_saphyr::to_string(&context).ok().map(|text| Zeroizing::new(text.into_bytes()))
}

/// Makes the first administrator: a key, a certificate, and the context file with both. The record
/// is for the machine to
/// store.
pub(crate) fn first_admin(
    authority: &CertificateAuthority,
    path: &Path,
    servers: &[String],
    now: u64,
) -> anyhow::Result<UserRecord> {
    let key = PrivateKey::generate()?;
    let subject = Subject { role: names::Role::Admin, id: FIRST_ADMIN, label: FIRST_ADMIN };
    let issued = authority.sign_user(&key.signing_request()?, subject, FIRST_ADMIN_LIFE, now)?;
    let identity =
        Identity::new(key, vec![issued.certificate.clone(), authority.certificate().clone()])?;
    let pem = identity.expose_pem();
    let end = pem.find("-----BEGIN CERTIFICATE").unwrap_or(pem.len());
    let context = AdminContext {
        server: servers,
        cluster: authority.cluster_id(),
        ca: &authority.certificate_pem(),
        certificate: certificate_pem(&issued.certificate),
        key: &pem[..end],
    };
    let text = Zeroizing::new(serde_saphyr::to_string(&context)?);
    write_private(path, text.as_bytes())
        .with_context(|| format!("{} cannot be written", path.display()))?;
    tracing::info!(context = %path.display(), "the first administrator was made");
    let seconds = |seconds: u64| WallTime::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
    Ok(UserRecord {
        name: UserName::parse("name", FIRST_ADMIN)?,
        role: Role::Admin,
        created_at: seconds(now),
        expires_at: seconds(issued.not_after),
        serial: issued.serial,
        created_by: "the master itself".to_owned(),
    })
}

/// Mode 0600 from its first byte, whole or not at all.
fn write_private(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    if let Some(folder) = path.parent() {
        std::fs::File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("etcd-client-key.pem");
        std::fs::write(&path, "key").unwrap();
        for (mode, good) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read_key(&path).is_ok(), good, "{mode:o}");
        }
    }

    #[test]
    fn a_state_folder_is_its_owners_alone_and_others_may_pass_above_it() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("lib/piccolo/master");
        make_state_dir(&state).unwrap();
        make_state_dir(&state).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        let modes = [&state, &folder.path().join("lib/piccolo"), &folder.path().join("lib")];
        assert_eq!(modes.map(|path| mode(path.as_path())), [0o700, 0o755, 0o755]);
    }
}
