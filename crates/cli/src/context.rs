//! `piccolo context`, and the context file: which cluster, by which masters, as whom.
//!
//! A context is one YAML file with the addresses of the masters, the cluster's id and CA, and a
//! user's certificate and private key. It is a key: a file that others may read is refused.

use std::{
    env, fmt, fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use piccolo_rpc::tls::{connector::endpoint, identity::Identity};
use prost_types::Timestamp;
use rustls_pki_types::pem::{self, PemObject as _, SectionKind};
use serde::{Deserialize, Serialize};

use crate::{
    args::Globals,
    failure::{Exit, Failure},
    output::{Format, Look, OutputArgs, document, fields, print},
    text::{moment, seconds_between, until},
};

/// A context with a chain of certificates takes about 4 KiB.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// Masters in one context.
const SERVERS_MAX: usize = 16;

pub const EXAMPLES: &str = "Examples:
  piccolo context show
  piccolo context use ./alice.context.yaml";
const SHOW_EXAMPLES: &str = "Examples:
  piccolo context show
  piccolo context show -o json
  piccolo --context ./bench.context.yaml context show";
const USE_EXAMPLES: &str = "Examples:
  piccolo context use ./alice.context.yaml        # becomes ~/.config/piccolo/context.yaml";

#[derive(Debug, Subcommand)]
pub enum ContextCommand {
    /// Show which context is in force, and whom it speaks for
    ///
    /// Reads the file only; asks no master.
    #[command(after_help = SHOW_EXAMPLES)]
    Show(OutputArgs),
    /// Make a context file the one of this user
    ///
    /// Checks the file and copies it to ~/.config/piccolo/context.yaml, mode 0600.
    #[command(name = "use", after_help = USE_EXAMPLES)]
    Use(UseArgs),
}

#[derive(Debug, Args)]
pub struct UseArgs {
    /// A context file, e.g. one that `piccolo user create` wrote
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// # Errors
/// [`Failure`] if there is no usable context.
pub fn run(globals: &Globals, command: &ContextCommand) -> Result<(), Failure> {
    match command {
        ContextCommand::Show(output) => {
            let context = Context::find(globals.context.as_deref())?;
            print(&render(&context, output.format, &Look::of_stdout())?)
        }
        ContextCommand::Use(args) => {
            let context = Context::load(&args.file)?;
            let place = own_place(&Environment::of_process()).ok_or_else(|| {
                Failure::failed("this user has no home for a context")
                    .help("set HOME, or name the file with --context or PICCOLO_CONTEXT")
            })?;
            let folder = place.parent().unwrap_or(Path::new("/"));
            fs::create_dir_all(folder).map_err(|error| not_written(&place, &error))?;
            let text = document(&context.file, Format::Yaml)?;
            PrivateFile::open(&place, true)?.write(&text)?;
            print(&format!("context {} is now {}\n", args.file.display(), place.display()))
        }
    }
}

/// What is in the file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContextFile {
    /// `host:port`, of one master or of several.
    pub server: Servers,
    /// The cluster's id.
    pub cluster: String,
    /// The cluster's authorities, PEM.
    pub ca: String,
    /// The user's certificate, PEM, then links up to a root.
    pub certificate: String,
    /// The user's private key, PKCS #8 PEM.
    pub key: String,
}

/// Without the key.
impl fmt::Debug for ContextFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContextFile")
            .field("server", &self.server)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Servers {
    One(String),
    Several(Vec<String>),
}

impl Servers {
    fn list(&self) -> &[String] {
        match self {
            Self::One(server) => std::slice::from_ref(server),
            Self::Several(servers) => servers,
        }
    }
}

/// A context that was read and checked.
#[derive(Debug, Clone)]
pub struct Context {
    pub path: PathBuf,
    pub file: ContextFile,
    pub identity: Identity,
}

impl Context {
    /// The one named on the command line or in the environment (clap reads both into `named`), or
    /// the first that exists of the usual places.
    ///
    /// # Errors
    /// [`Exit::NotFound`] with the places looked at, or as [`Context::load`].
    pub fn find(named: Option<&Path>) -> Result<Self, Failure> {
        match named {
            Some(path) => Self::load(path),
            None => Self::find_among(&places(&Environment::of_process())),
        }
    }

    fn find_among(places: &[PathBuf]) -> Result<Self, Failure> {
        let mut looked_at = Vec::new();
        for place in places {
            match fs::metadata(place) {
                Ok(_) => return Self::load(place),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    looked_at.push(format!("{} (no permission)", place.display()));
                }
                Err(_) => looked_at.push(place.display().to_string()),
            }
        }
        Err(Failure::new(Exit::NotFound, "no context found: it is not known which cluster to ask")
            .cause(format!("looked at\n{}", looked_at.join("\n")))
            .help(
                "on the master, run this as root; elsewhere ask an admin for a context\n\
                 (piccolo user create NAME --role viewer) and name it with --context FILE,\n\
                 PICCOLO_CONTEXT, or: piccolo context use FILE",
            ))
    }

    /// # Errors
    /// [`Exit::NotFound`] if there is no such file, [`Exit::Denied`] if this user may not read it
    /// or others may, [`Exit::Failed`] if it is not a context.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        let text = read_private(path)?;
        let unusable = || Failure::failed(format!("{} is not a usable context", path.display()));
        // No snippet of the file in an error: it might be a piece of the key.
        let options = serde_saphyr::options! { with_snippet: false };
        let read = serde_saphyr::from_str_with_options(&text, options);
        let file: ContextFile = read.map_err(|error| {
            unusable().cause(error.to_string()).help(
                "a context has the keys server, cluster, ca, certificate and key;\n\
                 piccolo user create writes one",
            )
        })?;
        check_servers(file.server.list()).map_err(|problem| unusable().cause(problem))?;
        for (key, text) in
            [("ca", &file.ca), ("certificate", &file.certificate), ("key", &file.key)]
        {
            check_pem(text)
                .map_err(|problem| unusable().cause(format!("{key}: is not PEM: {problem}")))?;
        }
        let pem = format!("{}\n{}\n{}\n", file.key.trim(), file.certificate.trim(), file.ca.trim());
        let identity = Identity::from_pem(&pem).map_err(|error| unusable().because(&error))?;
        let issued_for = &identity.name().cluster_id;
        if *issued_for != file.cluster {
            return Err(unusable().cause(format!(
                "it names cluster {:?}, but its certificate is of cluster {issued_for:?}",
                file.cluster
            )));
        }
        Ok(Self { path: path.to_owned(), file, identity })
    }

    pub fn servers(&self) -> &[String] {
        self.file.server.list()
    }

    /// `alice (viewer)`.
    pub fn who(&self) -> String {
        let name = self.identity.name();
        format!("{} ({})", name.id, name.role)
    }
}

/// A certificate that runs out within this time is worth a word.
const WARNED_BEFORE_SECONDS: u64 = 14 * 86_400;

/// What to say about a certificate that runs out soon, or has.
pub fn expiry_warning(not_after: u64, now: Timestamp) -> Option<String> {
    let expires = Timestamp { seconds: i64::try_from(not_after).unwrap_or(i64::MAX), nanos: 0 };
    if seconds_between(&now, &expires) > WARNED_BEFORE_SECONDS {
        return None;
    }
    let when = match until(now, Some(&expires)).as_str() {
        "expired" => format!("has expired ({})", moment(Some(&expires))),
        left => format!("expires in {left}"),
    };
    Some(format!(
        "warning: the certificate of this context {when}; ask an admin for a new one: \
         piccolo user create"
    ))
}

/// The context as JSON has it: everything but the key.
#[derive(Debug, Serialize)]
struct ContextView<'a> {
    path: String,
    servers: &'a [String],
    cluster: &'a str,
    user: &'a str,
    role: String,
    certificate_serial: &'a str,
    certificate_expires_at: String,
    ca_digests: Vec<String>,
}

fn render(context: &Context, format: Format, look: &Look) -> Result<String, Failure> {
    let name = context.identity.name();
    let seconds = i64::try_from(name.not_after).unwrap_or(i64::MAX);
    let expires = Timestamp { seconds, nanos: 0 };
    let digests: Vec<_> = context.identity.ca_digests().iter().map(ToString::to_string).collect();
    Ok(match format {
        Format::Table | Format::Wide => fields(
            look,
            [
                ("File", context.path.display().to_string()),
                ("Masters", context.servers().join(", ")),
                ("Cluster", name.cluster_id.clone()),
                ("User", name.id.clone()),
                ("Role", name.role.to_string()),
                (
                    "Certificate",
                    format!("{} ({})", until(look.now, Some(&expires)), moment(Some(&expires))),
                ),
                ("CA", digests.join(", ")),
            ],
        ),
        Format::Json | Format::Yaml => document(
            &ContextView {
                path: context.path.display().to_string(),
                servers: context.servers(),
                cluster: &name.cluster_id,
                user: &name.id,
                role: name.role.to_string(),
                certificate_serial: &name.serial,
                certificate_expires_at: expires.to_string(),
                ca_digests: digests,
            },
            format,
        )?,
    })
}

/// A file that will hold a key: mode 0600 from its first byte, whole or not at all. It is opened
/// beside its place before what goes into it is known, so that a call which cannot be undone is not
/// made for a file that cannot be written.
#[derive(Debug)]
pub struct PrivateFile {
    place: PathBuf,
    temporary: PathBuf,
    file: fs::File,
}

impl PrivateFile {
    /// # Errors
    /// [`Exit::Failed`] if there is no writing at this place, or something is there already that
    /// must not be replaced.
    pub fn open(place: &Path, replace: bool) -> Result<Self, Failure> {
        let failed = |error: io::Error| not_written(place, &error);
        if place.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        if !replace && place.exists() {
            return Err(not_written(place, &io::ErrorKind::AlreadyExists.into())
                .help("choose another place with --file, or overwrite it with --force"));
        }
        let mut temporary = place.as_os_str().to_owned();
        temporary.push(format!(".{}.new", std::process::id()));
        let temporary = PathBuf::from(temporary);
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary);
        Ok(Self { place: place.to_owned(), file: file.map_err(failed)?, temporary })
    }

    /// # Errors
    /// [`Exit::Failed`]; the old file, if any, is unchanged.
    pub fn write(mut self, text: &str) -> Result<(), Failure> {
        let written = self
            .file
            .write_all(text.as_bytes())
            .and_then(|()| self.file.sync_all())
            .and_then(|()| fs::rename(&self.temporary, &self.place));
        written.map_err(|error| not_written(&self.place, &error))
    }
}

/// What was not finished must not lie around: it may hold the key.
impl Drop for PrivateFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.temporary);
    }
}

fn not_written(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("{} could not be written", path.display())).because(error)
}

fn read_private(path: &Path) -> Result<String, Failure> {
    let failed = |error: &io::Error| {
        let exit = Exit::of_unreadable(error);
        Failure::new(exit, format!("context {} cannot be read", path.display())).because(error)
    };
    let file = fs::File::open(path).map_err(|error| failed(&error))?;
    // Asked of the open file, not of the path: what is checked is what is read.
    let metadata = file.metadata().map_err(|error| failed(&error))?;
    if !metadata.is_file() {
        return Err(Failure::failed(format!("context {} is not a file", path.display())));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        let error = format!("context {} was not read: others can", path.display());
        return Err(Failure::new(Exit::Denied, error)
            .cause(format!("it holds a private key and has mode {mode:04o}"))
            .help(format!("chmod 0600 {}", path.display())));
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| failed(&error))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        let error = format!("context {} is too large", path.display());
        return Err(Failure::failed(error).cause(format!("more than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// In words: the library's own show a line as the numbers of its bytes, and it may be the key's.
fn check_pem(text: &str) -> Result<(), String> {
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()) {
        let Err(error) = section else { continue };
        return Err(if let pem::Error::MissingSectionEnd { end_marker } = &error {
            let label = String::from_utf8_lossy(end_marker);
            let label = label.split("--").next().unwrap_or_default().trim();
            format!("there is no line -----END {label}-----")
        } else if matches!(error, pem::Error::IllegalSectionStart { .. }) {
            "a line that begins with -----BEGIN does not end with -----".to_owned()
        } else {
            error.to_string()
        });
    }
    Ok(())
}

fn check_servers(servers: &[String]) -> Result<(), String> {
    if servers.is_empty() {
        return Err("server: names no master".to_owned());
    }
    if servers.len() > SERVERS_MAX {
        return Err(format!("server: has {} entries, more than {SERVERS_MAX}", servers.len()));
    }
    servers.iter().try_for_each(|server| {
        endpoint(server).map(drop).map_err(|error| format!("server: {error}"))
    })
}

/// What the search depends on.
#[derive(Debug, Default)]
struct Environment {
    config_home: Option<PathBuf>,
    home: Option<PathBuf>,
}

impl Environment {
    fn of_process() -> Self {
        let path = |key| env::var_os(key).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self { config_home: path("XDG_CONFIG_HOME"), home: path("HOME") }
    }
}

fn own_place(environment: &Environment) -> Option<PathBuf> {
    let home = || environment.home.as_ref().map(|home| home.join(".config"));
    Some(environment.config_home.clone().or_else(home)?.join("piccolo/context.yaml"))
}

fn places(environment: &Environment) -> Vec<PathBuf> {
    let shared = ["/etc/piccolo/admin.context.yaml", "/var/lib/piccolo/master/admin.context.yaml"];
    own_place(environment).into_iter().chain(shared.map(PathBuf::from)).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_users_own_context_comes_first() {
        let environment =
            Environment { config_home: None, home: Some(PathBuf::from("/home/alice")) };
        let expect = [
            "/home/alice/.config/piccolo/context.yaml",
            "/etc/piccolo/admin.context.yaml",
            "/var/lib/piccolo/master/admin.context.yaml",
        ];
        assert_eq!(places(&environment), expect.map(PathBuf::from));
        assert_eq!(places(&Environment::default()).len(), 2);
    }

    #[test]
    fn a_written_context_is_private_and_never_overwritten_by_accident() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        PrivateFile::open(&path, false).unwrap().write("one").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let failure = PrivateFile::open(&path, false).unwrap_err();
        assert!(failure.to_string().contains("--force"), "{failure}");
        PrivateFile::open(&path, true).unwrap().write("two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        drop(PrivateFile::open(&path, true).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "two", "it was given up");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn without_any_context_every_place_looked_at_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let places = [folder.path().join("a"), folder.path().join("b")];
        let failure = Context::find_among(&places).unwrap_err();
        assert_eq!(failure.exit, Exit::NotFound);
        for place in &places {
            assert!(failure.to_string().contains(&place.display().to_string()), "{failure}");
        }
        // the first that is there counts, even if it is no good
        fs::write(&places[1], "x").unwrap();
        let failure = Context::find_among(&places).unwrap_err();
        assert!(failure.error.contains("/b"), "{failure}");
    }

    #[test]
    fn a_certificate_that_runs_out_soon_is_told_in_time() {
        let now = Timestamp { seconds: 1_000_000, nanos: 0 };
        assert_eq!(expiry_warning(1_000_000 + 15 * 86_400, now), None);
        assert!(expiry_warning(1_000_000 + 3 * 86_400, now).unwrap().contains("expires in 3d"));
        assert!(expiry_warning(999_999, now).unwrap().contains("has expired"));
    }

    #[track_caller]
    fn check_servers_of(servers: &[&str], expect: Result<(), &str>) {
        let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
        match (check_servers(&servers), expect) {
            (Ok(()), Ok(())) => {}
            (Err(got), Err(part)) => assert!(got.contains(part), "{got}"),
            (got, expect) => panic!("{servers:?}: got {got:?}, expected {expect:?}"),
        }
    }

    #[test]
    fn a_server_is_host_and_port() {
        check_servers_of(&["10.0.0.1:47098", "[::1]:47098", "master.local:1"], Ok(()));
        check_servers_of(&[], Err("no master"));
        check_servers_of(&["10.0.0.1"], Err("host:port"));
        check_servers_of(&["https://10.0.0.1:47098"], Err("host:port"));
        check_servers_of(&["a:1"; 17], Err("more than 16"));
    }
}
