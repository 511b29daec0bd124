//! The way to a host: the system's `ssh`, with the user's configuration, agent and known hosts.
//!
//! One connection for each host carries everything (`ControlMaster`). It belongs to this process: its
//! first session runs `probe.sh`, which waits for the end of its input and then removes what was copied. So
//! whatever becomes of us, or of the network, nothing of it stays on the host. Files go through the same
//! connection as a tar stream: boards with a small SSH server have neither `scp` nor SFTP.
//!
//! Nothing here asks a person (`BatchMode`), and no secret stands on a command line: secrets are input.

use std::{
    fmt, fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use clap::Args;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, Command},
    time::timeout,
};

use super::{facts::Facts, trouble::Trouble};
use crate::failure::{Exit, Failure};

/// What a host is asked when it is connected to.
const PROBE: &str = include_str!("probe.sh");
/// From the connection to the last fact; a board that has just booted is slow.
const PROBE_TIMEOUT: Duration = Duration::from_secs(60);
/// For a host to remove what was copied.
const FAREWELL: Duration = Duration::from_secs(10);
/// Of what a command on a host says, the end is kept.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// Lines of facts, and bytes of one, that a host may say.
const FACTS_BYTES_MAX: u64 = 64 * 1024;
/// A connection that hears nothing for three times as long is over.
const ALIVE_EVERY_S: u32 = 5;

/// How to reach hosts, for what ssh's own configuration does not say.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "SSH")]
pub struct SshArgs {
    /// A file with the private key, tried before those of ssh's configuration; no other of the agent's is
    #[arg(short = 'i', long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    // no doc comment: rustdoc takes the brackets for links
    #[arg(help = "A host to go through, or several with commas between them: [USER@]HOST[:PORT]")]
    #[arg(short = 'J', long, value_name = "HOST", value_parser = jump)]
    pub jump: Option<String>,
    /// The port of the SSH server
    #[arg(short = 'p', long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// ssh's configuration, in place of ~/.ssh/config
    #[arg(short = 'F', long, value_name = "FILE")]
    pub ssh_config: Option<PathBuf>,
    /// Until a host must have answered, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=600))]
    pub connect_timeout: u32,
}

impl SshArgs {
    /// ssh itself goes on with its own choice where the file is not there.
    ///
    /// # Errors
    /// The file with the key cannot be read.
    pub fn check(&self) -> Result<(), Failure> {
        let Some(file) = &self.identity else { return Ok(()) };
        let text = file.display().to_string();
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let path = match (text.strip_prefix("~/"), home) {
            (Some(rest), Some(home)) => home.join(rest),
            // What ssh alone can make a path of: ~user, %h.
            _ if text.starts_with('~') || text.contains('%') => return Ok(()),
            _ => file.clone(),
        };
        fs::File::open(&path).map(drop).map_err(|error| {
            let exit = Exit::of_unreadable(&error);
            Failure::new(exit, format!("the key {text} cannot be read; nothing was done"))
                .because(&error)
                .help("name another with --identity, or none: then ssh chooses")
        })
    }
}

/// Hosts to go through, with ports where they need some.
///
/// # Errors
/// What was expected.
pub fn jump(text: &str) -> Result<String, String> {
    word(text).map(|()| text.to_owned())
}

/// What would be an option, or several words, is no name.
fn word(text: &str) -> Result<(), String> {
    let odd = |c: char| c.is_whitespace() || c.is_control();
    if text.is_empty() || text.starts_with('-') || text.contains(odd) {
        return Err("expected a host as ssh knows it: [USER@]HOST".to_owned());
    }
    Ok(())
}

/// `[USER@]HOST`, as ssh takes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    pub user: Option<String>,
    pub host: String,
}

impl Target {
    /// # Errors
    /// What was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        word(text)?;
        // An IPv6 address has more colons.
        if let Some((host, port)) = text.split_once(':')
            && port.parse::<u16>().is_ok()
        {
            return Err(format!(
                "expected [USER@]HOST; the port is another option: {host} --port {port}"
            ));
        }
        match text.rsplit_once('@') {
            None => Ok(Self { user: None, host: text.to_owned() }),
            Some((user, host)) => {
                word(user).and_then(|()| word(host))?;
                Ok(Self { user: Some(user.to_owned()), host: host.to_owned() })
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.user {
            Some(user) => write!(f, "{user}@{}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

/// A folder of this process for the connections' sockets and for releases on their way. Nobody else can
/// read it, and it goes when this is dropped.
#[derive(Debug)]
pub struct Workshop(PathBuf);

impl Workshop {
    /// # Errors
    /// It cannot be made.
    pub fn new() -> io::Result<Self> {
        // Not TMPDIR: the path of a socket has 107 bytes at most, and ssh appends 17 while it is made.
        let path = PathBuf::from(format!("/tmp/piccolo-deploy-{}", std::process::id()));
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // Best effort: nothing in it is secret.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// One connection to a host.
#[derive(Debug)]
pub struct Session {
    arguments: Vec<String>,
    destination: String,
    connection: Child,
    /// The host keeps the folder until this is closed.
    input: Option<ChildStdin>,
    pub facts: Facts,
}

/// What a command on a host is given.
#[derive(Debug)]
pub enum Input<'i> {
    Nothing,
    /// A secret, say. It goes through a pipe.
    Text(&'i str),
    File(&'i Path),
}

/// What came of a command on a host.
#[derive(Debug)]
pub struct Said {
    /// `None` where it was ended by a signal.
    pub code: Option<i32>,
    /// The ends of what it wrote.
    pub out: String,
    pub err: String,
}

impl Said {
    /// Everything, as one text.
    pub fn all(&self) -> String {
        format!("{}\n{}", self.out.trim_end(), self.err.trim_end()).trim().to_owned()
    }
}

impl Session {
    /// Connects, and hears what the host is.
    ///
    /// # Errors
    /// What ssh said, with what to do about it.
    pub async fn open(target: &Target, ssh: &SshArgs, socket: &Path) -> Result<Self, Trouble> {
        let arguments = arguments(ssh, socket);
        let destination = target.to_string();
        let mut command = program(&arguments);
        command.args(["-o", "ControlMaster=yes", "--", &destination, &in_shell(PROBE)]);
        let mut connection =
            command.stdin(Stdio::piped()).spawn().map_err(|error| not_started(&error))?;
        let input = connection.stdin.take();
        let out = connection.stdout.take();
        let complaint = tokio::spawn(end_of(connection.stderr.take()));
        let limit = PROBE_TIMEOUT + Duration::from_secs(ssh.connect_timeout.into());
        let why = match timeout(limit, read_facts(out)).await {
            Ok(Ok(facts)) => {
                return Ok(Self { arguments, destination, connection, input, facts });
            }
            Ok(Err(why)) => why,
            Err(_) => format!("it did not say what it is within {} s", limit.as_secs()),
        };
        drop(input);
        // What it complains of comes before its end.
        let _ = timeout(FAREWELL, connection.wait()).await;
        let _ = connection.start_kill();
        let said = timeout(FAREWELL, complaint).await;
        let said = said.ok().and_then(Result::ok).unwrap_or_default();
        let help = remedy(&said, target, ssh.port);
        let said = if said.trim().is_empty() { why } else { said };
        Err(Trouble::new(said).help(help))
    }

    /// Runs a command of POSIX's shell, as the user that logged in.
    ///
    /// # Errors
    /// The connection broke, or the limit is over. That the command failed is no error here.
    pub async fn run(
        &self,
        command: &str,
        input: Input<'_>,
        limit: Duration,
    ) -> Result<Said, Trouble> {
        let mut ssh = program(&self.arguments);
        ssh.args([
            "-o",
            "ControlMaster=no",
            "--",
            &self.destination,
            &in_shell(&with_its_code(command)),
        ]);
        match &input {
            Input::Nothing => ssh.stdin(Stdio::null()),
            Input::Text(_) => ssh.stdin(Stdio::piped()),
            Input::File(path) => {
                let file = fs::File::open(path).map_err(|error| {
                    Trouble::new(format!("{} cannot be read: {error}", path.display()))
                })?;
                ssh.stdin(file)
            }
        };
        let mut child = ssh.spawn().map_err(|error| not_started(&error))?;
        let (out, err) = (end_of(child.stdout.take()), end_of(child.stderr.take()));
        let stdin = child.stdin.take();
        let write = async {
            if let (Some(mut stdin), Input::Text(text)) = (stdin, &input) {
                // Who does not want it says so by its exit code.
                let _ = stdin.write_all(text.as_bytes()).await;
            }
        };
        let work = async {
            let ((), out, err) = tokio::join!(write, out, err);
            child.wait().await.map(|status| (status, out, err))
        };
        match timeout(limit, work).await {
            Ok(Ok((status, out, err))) => said(status, out, err),
            Ok(Err(error)) => Err(not_started(&error)),
            Err(_) => Err(Trouble::new(format!("it was not done within {} s", limit.as_secs()))
                .help("is the host overloaded, or the connection very slow? Run this again")),
        }
    }

    /// Gives the host the time to remove what was copied.
    pub async fn close(mut self) {
        drop(self.input.take());
        let _ = timeout(FAREWELL, self.connection.wait()).await;
    }
}

/// 255 is what ssh says of itself.
fn said(status: ExitStatus, out: String, err: String) -> Result<Said, Trouble> {
    const OF_SSH: i32 = 255;
    if status.code() == Some(OF_SSH) {
        let text = if err.trim().is_empty() { "the connection broke".to_owned() } else { err };
        return Err(
            Trouble::new(text).help("is the host still on, and the network good? Run this again")
        );
    }
    Ok(Said { code: status.code(), out, err })
}

fn program(arguments: &[String]) -> Command {
    let mut command = Command::new("ssh");
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Ctrl-C is for us, and we leave hosts in order.
    command.kill_on_drop(true).process_group(0);
    command
}

fn arguments(ssh: &SshArgs, socket: &Path) -> Vec<String> {
    let mut words = Vec::new();
    if let Some(file) = &ssh.ssh_config {
        words.extend(["-F".to_owned(), file.display().to_string()]);
    }
    for option in [
        "BatchMode=yes".to_owned(),
        format!("ConnectTimeout={}", ssh.connect_timeout),
        format!("ServerAliveInterval={ALIVE_EVERY_S}"),
        "ControlPersist=no".to_owned(),
        format!("ControlPath={}", socket.display()),
        // Programs speak here.
        "RequestTTY=no".to_owned(),
        "LogLevel=ERROR".to_owned(),
    ] {
        words.extend(["-o".to_owned(), option]);
    }
    if let Some(file) = &ssh.identity {
        words.extend(["-o".to_owned(), "IdentitiesOnly=yes".to_owned()]);
        words.extend(["-i".to_owned(), file.display().to_string()]);
    }
    if let Some(jump) = &ssh.jump {
        words.extend(["-J".to_owned(), jump.clone()]);
    }
    if let Some(port) = ssh.port {
        words.extend(["-p".to_owned(), port.to_string()]);
    }
    words
}

/// Whatever the user's own shell is.
fn in_shell(script: &str) -> String {
    format!("exec sh -c {}", quoted(script))
}

/// A command that a signal ends has an exit code too: for ssh it would look like a broken connection.
fn with_its_code(command: &str) -> String {
    format!("{command}\nexit $?")
}

/// As one word for a shell.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn not_started(error: &io::Error) -> Trouble {
    Trouble::new(format!("ssh cannot be run: {error}")).help("install the OpenSSH client here")
}

async fn read_facts(out: Option<impl AsyncRead + Unpin>) -> Result<Facts, String> {
    let out = out.ok_or("ssh has no output")?;
    let mut lines = BufReader::new(out.take(FACTS_BYTES_MAX)).lines();
    let mut facts = Facts::default();
    while let Some(line) = lines.next_line().await.map_err(|error| error.to_string())? {
        if facts.learn(&line) {
            return Ok(facts);
        }
    }
    Err("the connection ended before the host said what it is".to_owned())
}

/// All that can be read; the end of it is kept.
async fn end_of(pipe: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut pipe) = pipe else { return String::new() };
    let mut kept = Vec::new();
    let mut piece = vec![0; 8192];
    while let Ok(count @ 1..) = pipe.read(&mut piece).await {
        kept.extend_from_slice(piece.get(..count).unwrap_or_default());
        let surplus = kept.len().saturating_sub(OUTPUT_BYTES_MAX);
        kept.drain(..surplus);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// What to do about what ssh says when it cannot connect.
fn remedy(said: &str, target: &Target, port: Option<u16>) -> String {
    let destination = target.to_string();
    // As it stands in known_hosts.
    let known = match port {
        Some(port) if port != 22 => quoted(&format!("[{}]:{port}", target.host)),
        Some(_) | None => target.host.clone(),
    };
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if has(&["REMOTE HOST IDENTIFICATION HAS CHANGED"]) {
        format!(
            "was the board re-flashed? Compare its new key with what the board itself shows, and \
             then: ssh-keygen -R {known}"
        )
    } else if has(&["Host key verification failed", "host key is known"]) {
        format!(
            "this machine does not know the host yet: ssh {destination}, once, and compare the key"
        )
    } else if has(&["Permission denied", "Too many authentication failures"]) {
        format!(
            "it takes none of the keys: ssh-copy-id {destination}, or name the right one with \
             --identity FILE; passwords are not asked for"
        )
    } else if has(&["Could not resolve", "Name or service not known"]) {
        "nobody knows that name: is it spelled right? An address will do".to_owned()
    } else if has(&["timed out", "No route", "refused", "unreachable"]) {
        "is the host on, its cable in, its SSH server running, and does a firewall let it through?"
            .to_owned()
    } else {
        format!("see what it says by hand: ssh -v {destination} true")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_user_and_a_host_and_never_an_option() {
        let target = |user: Option<&str>, host: &str| Target {
            user: user.map(str::to_owned),
            host: host.to_owned(),
        };
        assert_eq!(Target::parse("board-1"), Ok(target(None, "board-1")));
        assert_eq!(Target::parse("root@192.0.2.1"), Ok(target(Some("root"), "192.0.2.1")));
        assert_eq!(Target::parse("a@b@c"), Ok(target(Some("a@b"), "c")));
        for text in ["", "-oProxyCommand=x", "root@", "@host", "root@-x", "a b", "a\nb"] {
            assert!(Target::parse(text).unwrap_err().contains("[USER@]HOST"), "{text:?}");
        }
        assert!(Target::parse("root@b:22").unwrap_err().ends_with(": root@b --port 22"));
        assert_eq!(Target::parse("fe80::1"), Ok(target(None, "fe80::1")));
    }

    #[test]
    fn what_a_shell_gets_is_one_word() {
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's; $(x)"), r"'it'\''s; $(x)'");
    }

    #[test]
    fn every_way_not_to_connect_has_its_remedy() {
        let target = Target { user: Some("root".into()), host: "b".into() };
        for (said, part) in [
            ("Host key verification failed.", "does not know the host yet"),
            (
                "WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!\nHost key verification failed.",
                "re-flashed",
            ),
            ("root@b: Permission denied (publickey).", "ssh-copy-id"),
            ("ssh: connect to host b port 22: Connection timed out", "is the host on"),
            ("ssh: Could not resolve hostname b: Name or service not known", "spelled right"),
            ("kex_exchange_identification: x", "ssh -v"),
        ] {
            assert!(remedy(said, &target, None).contains(part), "{said}");
        }
        let changed = "REMOTE HOST IDENTIFICATION HAS CHANGED";
        assert!(remedy(changed, &target, None).ends_with("ssh-keygen -R b"));
        assert!(remedy(changed, &target, Some(2222)).ends_with("ssh-keygen -R '[b]:2222'"));
    }

    #[test]
    fn nothing_is_asked_of_a_person_and_ssh_decides_about_unknown_hosts() {
        let ssh = SshArgs {
            identity: Some("/k".into()),
            jump: Some("gate".into()),
            port: Some(2222),
            ssh_config: Some("/c".into()),
            connect_timeout: 7,
        };
        let words = arguments(&ssh, Path::new("/s")).join(" ");
        for part in ["-F /c", "BatchMode=yes", "ConnectTimeout=7", "-i /k", "-J gate", "-p 2222"] {
            assert!(words.contains(part), "{words}");
        }
        assert!(!words.contains("StrictHostKeyChecking"), "{words}");
    }
}
