//! What the agent keeps in its state folder to prove who it is: its id, its key and certificate, and
//! the token until it has joined. Everything is 0600; the folder is 0700.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use piccolo_core::{model::NodeId, node_agent::Standing, time::WallTime};
use piccolo_rpc::tls::{
    identity::{Identity, PrivateKey},
    renewal::renew_at,
    token::JoinToken,
};

/// Bytes of a token file at most.
const TOKEN_BYTES_MAX: u64 = 1024;

/// The state folder.
#[derive(Debug, Clone)]
pub struct Files {
    root: PathBuf,
}

impl Files {
    /// Makes the folder where it is missing.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(root: &Path) -> Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(root)
            .with_context(|| format!("the state folder {} cannot be made", root.display()))?;
        Ok(Self { root: root.to_owned() })
    }

    pub fn ledger(&self) -> PathBuf {
        self.root.join("ledger")
    }

    pub fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// Important lines of logs that wait for the master.
    pub fn kept(&self) -> PathBuf {
        self.root.join("kept")
    }

    /// The id of this node: made at the first start, kept for ever after.
    ///
    /// # Errors
    /// The file cannot be read or written, or holds no id.
    pub fn node_id(&self) -> Result<NodeId> {
        let path = self.root.join("node-id");
        match fs::read_to_string(&path) {
            Ok(text) => NodeId::parse("node_id", text.trim()).map_err(|error| {
                anyhow::anyhow!("{} is damaged ({error}): a node whose folder was lost joins again as a new one", path.display())
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let id = random_uuid()?;
                write_private(&path, id.as_bytes())?;
                NodeId::parse("node_id", &id).map_err(Into::into)
            }
            Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
        }
    }

    /// `None` before the node has joined.
    ///
    /// # Errors
    /// The file is there but cannot be used: that is for a person to look at.
    pub fn identity(&self) -> Result<Option<Identity>> {
        let path = self.identity_path();
        if path.exists() { Ok(Some(Identity::load(&path)?)) } else { Ok(None) }
    }

    /// # Errors
    /// The file cannot be written; the one before is still there.
    pub fn save_identity(&self, identity: &Identity) -> Result<()> {
        identity.save(&self.identity_path())?;
        // a token that has done its work is only a risk
        for spent in [self.token_path(), self.join_key_path()] {
            match fs::remove_file(&spent) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("{} stays", spent.display()));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// The key to join with: kept, so that a repeated attempt is recognised as the same.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn join_key(&self) -> Result<PrivateKey> {
        let path = self.join_key_path();
        if path.exists() {
            return Ok(PrivateKey::load(&path)?);
        }
        let key = PrivateKey::generate()?;
        key.save(&path)?;
        Ok(key)
    }

    /// # Errors
    /// The file is there but holds no token.
    pub fn token(&self) -> Result<Option<JoinToken>> {
        let path = self.token_path();
        let length = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("{}", path.display())),
        };
        if length > TOKEN_BYTES_MAX {
            bail!("{} is too large to be a token", path.display());
        }
        let text = fs::read_to_string(&path)?;
        let token = text.trim().parse::<JoinToken>();
        Ok(Some(token.with_context(|| format!("in {}", path.display()))?))
    }

    /// # Errors
    /// The file cannot be written.
    pub fn save_token(&self, token: &JoinToken) -> Result<()> {
        write_private(&self.token_path(), token.expose().as_bytes())
    }

    /// After the node has left its cluster: nothing that proves its membership stays, and nothing that was kept for its
    /// master and not sent.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn forget_membership(&self) -> Result<()> {
        let kept = self.kept();
        match fs::remove_dir_all(&kept) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("{} stays", kept.display()));
            }
            Ok(()) | Err(_) => {}
        }
        for path in [
            kept.with_extension("cursor"),
            self.identity_path(),
            self.token_path(),
            self.join_key_path(),
            self.root.join("node-id"),
        ] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("{} stays", path.display()));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn identity_path(&self) -> PathBuf {
        self.root.join("identity.pem")
    }

    fn join_key_path(&self) -> PathBuf {
        self.root.join("join-key.pem")
    }

    fn token_path(&self) -> PathBuf {
        self.root.join("token")
    }
}

/// How the node can prove who it is, with the moment of renewal drawn afresh.
///
/// # Errors
/// The operating system has no random bytes.
pub(super) fn standing(identity: Option<&Identity>, token: bool) -> Result<Standing> {
    let Some(identity) = identity else { return Ok(Standing::None { token }) };
    let name = identity.name();
    let at = |seconds: u64| WallTime::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
    Ok(Standing::Certified {
        renew_at: at(renew_at(name.not_before, name.not_after, random_u64()?)),
        expires_at: at(name.not_after),
    })
}

/// # Errors
/// The operating system has no random bytes.
pub(super) fn random_u64() -> Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
    Ok(u64::from_le_bytes(bytes))
}

fn random_uuid() -> Result<String> {
    let value = (u128::from(random_u64()?) << 64) | u128::from(random_u64()?);
    // version 4, variant 1
    let value = (value & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let text = format!("{value:032x}");
    Ok([&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-"))
}

/// Whole or not at all, and for nobody else's eyes.
fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        fs::File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
    };
    write().with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(&folder.path().join("state")).unwrap();
        let id = files.node_id().unwrap();
        assert_eq!(id.as_str().len(), 36);
        assert_eq!(files.node_id().unwrap(), id);
        let other = Files::open(&folder.path().join("other")).unwrap();
        assert_ne!(other.node_id().unwrap(), id);
    }

    #[test]
    fn the_next_cluster_gets_nothing_that_was_kept_for_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(folder.path()).unwrap();
        files.node_id().unwrap();
        fs::create_dir(files.kept()).unwrap();
        fs::write(files.kept().join("00000001"), "a line").unwrap();
        fs::write(folder.path().join("kept.cursor"), "s=1;i=2").unwrap();
        fs::write(folder.path().join("ledger"), "").unwrap();
        files.forget_membership().unwrap();
        let left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["ledger"]);
        files.forget_membership().unwrap();
    }

    #[test]
    fn a_damaged_id_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(folder.path()).unwrap();
        fs::write(folder.path().join("node-id"), "../../etc").unwrap();
        assert!(files.node_id().unwrap_err().to_string().contains("is damaged"));
    }
}
