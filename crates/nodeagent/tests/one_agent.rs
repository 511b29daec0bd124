//! One agent at a time on a state folder, and what `piccolo-nodeagent leave` may take for "not running".
//!
//! The real program, without a master and without a token: it waits, and answers on its socket.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use piccolo_testkit::cluster::{Process, client};

type Story = Result<(), Box<dyn Error>>;

const PROGRAM: &str = env!("CARGO_BIN_EXE_piccolo-nodeagent");

/// A board with its configuration; a second one may share part of it.
struct Board {
    folder: tempfile::TempDir,
    config: PathBuf,
}

impl Board {
    fn new() -> Result<Self, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("nodeagent.yaml");
        let board = Self { folder, config };
        fs::write(&board.config, board.settings(&board.state()))?;
        Ok(board)
    }

    fn settings(&self, state: &Path) -> String {
        format!(
            "masters: [\"127.0.0.1:1\"]\nname: board\nstate_dir: {}\ncontrol_socket: {}\n\
             podman: {{socket: none}}\n",
            state.display(),
            self.socket().display()
        )
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("agent.sock")
    }

    fn id(&self) -> std::io::Result<String> {
        fs::read_to_string(self.state().join("node-id"))
    }

    fn ask(&self, arguments: &[&str]) -> std::io::Result<Output> {
        Command::new(PROGRAM).arg("--config").arg(&self.config).args(arguments).output()
    }

    /// An agent that answers.
    fn start(&self) -> Result<Process, Box<dyn Error>> {
        let mut command = Command::new(PROGRAM);
        command.arg("--config").arg(&self.config).arg("run");
        let agent = Process::start("agent", command, &self.folder.path().join("log"))?;
        client::wait(
            "the agent answers",
            || Ok(self.status(agent.pid()).is_ok()),
            || agent.log_tail(),
        )?;
        Ok(agent)
    }

    /// That the agent which owns the folder answers on the socket.
    fn status(&self, pid: u32) -> Result<(), String> {
        let status = self.ask(&["status"]).map_err(|error| error.to_string())?;
        let owner = fs::read_to_string(self.state().join("agent.lock")).unwrap_or_default();
        if status.status.success() && owner == pid.to_string() {
            Ok(())
        } else {
            Err(format!("owner {owner}, wanted {pid}: {status:?}"))
        }
    }
}

/// It failed as an error, and said this.
#[track_caller]
fn refused(output: &Output, parts: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
}

#[test]
fn a_second_agent_on_the_same_folder_is_refused_and_the_first_goes_on() -> Story {
    let board = Board::new()?;
    let mut first = board.start()?;
    let owner = format!("is in use by process {}", first.pid());
    refused(&board.ask(&["run"])?, &[&owner, "stop that one first"]);
    board.status(first.pid())?;
    // not even with another socket, and a token is not put beneath the first
    let token = board.folder.path().join("token");
    fs::write(&token, "whatever")?;
    let socket = board.folder.path().join("other.sock").display().to_string();
    let arguments =
        ["--control-socket", &socket, "run", "--token-file", &token.display().to_string()];
    refused(&board.ask(&arguments)?, &[&owner]);
    board.status(first.pid())?;
    // the lock goes with the process, and the socket that a killed one leaves is in nobody's way
    first.kill();
    assert!(board.socket().exists());
    board.start()?;
    Ok(())
}

#[test]
fn nobodys_socket_is_taken_from_under_them() -> Story {
    let board = Board::new()?;
    let first = board.start()?;
    let other = board.folder.path().join("other");
    let arguments = ["--state-dir", &other.display().to_string(), "run"];
    refused(&board.ask(&arguments)?, &["another process listens on the control socket"]);
    board.status(first.pid())?;
    drop(first);
    fs::remove_file(board.socket())?;
    fs::write(board.socket(), "a file of somebody")?;
    refused(&board.ask(&["run"])?, &["is in the way, and is no socket"]);
    assert_eq!(fs::read_to_string(board.socket())?, "a file of somebody");
    Ok(())
}

#[test]
fn an_agent_that_stands_still_is_not_taken_for_one_that_does_not_run() -> Story {
    let board = Board::new()?;
    let agent = board.start()?;
    let id = board.id()?;
    agent.freeze();
    let owner = format!("process {}", agent.pid());
    refused(&board.ask(&["leave"])?, &[&owner, "nothing was removed", "did not answer in time"]);
    assert_eq!(board.id()?, id);
    // what it was told while it stood still, and nobody waits for any more, it does not do
    agent.thaw();
    board.status(agent.pid())?;
    assert_eq!(board.id()?, id);
    Ok(())
}

#[test]
fn an_agent_that_lost_its_socket_is_not_taken_for_one_that_does_not_run() -> Story {
    let board = Board::new()?;
    let mut agent = board.start()?;
    let id = board.id()?;
    fs::remove_file(board.socket())?;
    let owner = format!("process {}", agent.pid());
    refused(&board.ask(&["leave"])?, &[&owner, "nothing was removed", "no agent answers on"]);
    assert_eq!(board.id()?, id);
    assert!(agent.ended()?.is_none());
    Ok(())
}

#[test]
fn whoever_makes_an_agent_leave_that_has_no_master_hears_that_it_left() -> Story {
    let board = Board::new()?;
    let mut agent = board.start()?;
    let left = board.ask(&["leave"])?;
    let said = String::from_utf8_lossy(&left.stdout).into_owned();
    assert!(left.status.success() && said.contains("the node has left its cluster"), "{left:?}");
    client::wait("it ends", || Ok(agent_ended(&board)), || agent.log_tail())?;
    assert!(agent.terminate()?.success());
    assert!(!board.state().join("node-id").exists());
    let again = board.ask(&["leave"])?;
    let said = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(again.status.success() && said.contains("belongs to no cluster"), "{again:?}");
    assert!(!said.contains("the master still lists it"), "{said}");
    Ok(())
}

/// Nobody listens any more.
fn agent_ended(board: &Board) -> bool {
    std::os::unix::net::UnixStream::connect(board.socket()).is_err()
}

#[test]
fn a_configuration_is_checked_by_itself_and_nothing_is_made() -> Story {
    let board = Board::new()?;
    let good = board.ask(&["check-config"])?;
    let text = String::from_utf8_lossy(&good.stdout);
    assert!(good.status.success() && text.contains("\nname: board\n"), "{good:?}");
    // what is in force is a configuration that says the same
    fs::write(&board.config, &good.stdout)?;
    assert_eq!(String::from_utf8_lossy(&board.ask(&["check-config"])?.stdout), text);
    fs::write(&board.config, board.settings(&board.state()) + "mastres: [x]\n")?;
    let bad = board.ask(&["check-config"])?;
    let said = String::from_utf8_lossy(&bad.stderr);
    let place = format!("error: {}:6:1: unknown key `mastres`", board.config.display());
    assert!(bad.status.code() == Some(1) && said.starts_with(&place), "{said}");
    assert!(!board.state().exists());
    Ok(())
}

#[test]
fn a_reader_that_went_away_has_seen_enough() -> Story {
    let board = Board::new()?;
    for words in [&["check"][..], &["version"]] {
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let mut command = Command::new(PROGRAM);
        let said =
            command.arg("--config").arg(&board.config).args(words).stdout(writer).output()?;
        let stderr = String::from_utf8_lossy(&said.stderr);
        assert!(stderr.is_empty() && said.status.code().is_some_and(|code| code <= 2), "{stderr}");
    }
    Ok(())
}
