//! Boards whose clock is wrong: 1970 at boot, a day ahead and back, and both with a certificate that has run out
//! (HLD §9.2; docs/adr/0006-trust.md).
//!
//! The agent is the real one under libfaketime, which answers in the place of the system's wall clock and leaves the
//! monotonic one alone: as on a board without a battery. Which time it is stands in a file, and can change while it runs.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use piccolo_rpc::tls::identity::Identity;
use piccolo_testkit::cluster::{Cluster, Options};

type Story = Result<(), Box<dyn Error>>;

/// In these stories a board that is not Ready is so because of its clock, and not because the machine is busy.
const PATIENT: &str = "timing:\n  beat_silence: 10s\n  session_grace: 5s\n";
/// In libfaketime's words: the clock begins at the process's start.
const AT_1970: &str = "@1970-01-01 00:00:10";
const A_DAY_AHEAD: &str = "+1d";
const RIGHT: &str = "+0d";

/// One cluster, and one board that has a clock of its own.
struct Board {
    cluster: Cluster,
    clock: PathBuf,
}

impl Board {
    /// The board is not started yet.
    fn new(folder: &Path, lifetime: &str) -> Result<Self, Box<dyn Error>> {
        let master = format!("certificate_lifetime: {lifetime}\n{PATIENT}");
        let cluster = Cluster::start(Options { master, ..Options::new(folder)? })?;
        let token = cluster.token(&["--uses", "1"])?;
        cluster.prepare_agent("board-1", "", &token)?;
        Ok(Self { cluster, clock: folder.join("clock") })
    }

    /// The clock jumps; an agent that runs sees it at its next look.
    fn set_clock(&self, time: &str) -> Story {
        // in its place at once: half a file would be half a time
        let beside = self.clock.with_extension("new");
        fs::write(&beside, format!("{time}\n"))?;
        Ok(fs::rename(beside, &self.clock)?)
    }

    /// Starts, with that time on its clock.
    fn boot(&mut self, time: &str) -> Story {
        self.set_clock(time)?;
        let library = libfaketime()?.display().to_string();
        let clock = self.clock.display().to_string();
        let environment = [
            ("LD_PRELOAD", library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", clock.as_str()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("TZ", "UTC"),
        ];
        Ok(self.cluster.start_agent_within("board-1", &environment)?)
    }

    fn power_off(&mut self) -> Story {
        self.cluster.agent("board-1")?.kill();
        Ok(self
            .cluster
            .wait("the session is over", |c| Ok(c.node("board-1")?["connected"] == false))?)
    }

    /// Everybody has to connect anew, and look at certificates again.
    fn restart_master(&mut self) -> Story {
        self.cluster.master.terminate()?;
        Ok(self.cluster.start_master()?)
    }

    /// Ready on a session that is open; before, there was none.
    fn is_ready_again(&self) -> Story {
        Ok(self.cluster.wait("board-1 is Ready with a session", |c| {
            let node = c.node("board-1")?;
            Ok(node["status"] == "Ready" && node["connected"] == true)
        })?)
    }

    fn events(&self) -> Result<String, Box<dyn Error>> {
        let events = self.cluster.piccolo(&["events", "-n", "200"])?;
        Ok(String::from_utf8_lossy(&events.stdout).into_owned())
    }

    /// Whether its own log was ever written on that day: that its clock was really wrong.
    fn lived_on(&self, seconds: u64) -> Result<bool, Box<dyn Error>> {
        let date =
            Command::new("date").args(["-u", "+%F", "-d", &format!("@{seconds}")]).output()?;
        let day = String::from_utf8(date.stdout)?;
        let log = fs::read_to_string(self.cluster.folder().join("board-1.log"))?;
        Ok(log.lines().any(|line| line.contains(day.trim())))
    }

    fn certificate(&self) -> Result<Identity, Box<dyn Error>> {
        Ok(Identity::load(&self.cluster.agent_folder("board-1").join("identity.pem"))?)
    }

    /// Seconds since 1970 that its ledger says are past.
    fn clock_floor(&self) -> Result<u64, Box<dyn Error>> {
        let ledger = fs::read(self.cluster.agent_folder("board-1").join("ledger"))?;
        let text = String::from_utf8_lossy(&ledger).into_owned();
        let (_, rest) = text.split_once("\"clock_floor\":").ok_or("no floor")?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        Ok(digits.parse::<u64>()? / 1000)
    }
}

fn libfaketime() -> Result<PathBuf, Box<dyn Error>> {
    let libraries = fs::read_dir("/usr/lib")?.flatten();
    let mut found = libraries.map(|e| e.path().join("faketime/libfaketimeMT.so.1"));
    let found = found.find(|path| path.is_file());
    found.ok_or_else(|| "libfaketime is not there (Debian: apt install faketime)".into())
}

fn now() -> Result<u64, Box<dyn Error>> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

#[test]
fn a_board_that_boots_in_1970_joins_works_and_comes_back() -> Story {
    let folder = tempfile::tempdir()?;
    let mut board = Board::new(folder.path(), "1d")?;
    let begun = now()?;
    board.boot(AT_1970)?;
    board.is_ready_again()?;
    // what it knows of time is on its disk
    let floor = board.clock_floor()?;
    assert!(floor.abs_diff(begun) < 3600, "the floor is {floor}, now is {begun}");
    let first = board.certificate()?.name().serial.clone();
    board.power_off()?;
    board.boot(AT_1970)?;
    board.is_ready_again()?;
    // with the certificate that it had: nothing has run out
    assert_eq!(board.certificate()?.name().serial, first);
    let maintenance = board.cluster.piccolo(&["node", "maintenance", "on", "board-1"])?;
    assert!(maintenance.status.success(), "{maintenance:?}");
    board.cluster.wait_for_status("board-1", "Maintenance")?;
    let events = board.events()?;
    assert!(!events.contains("Reissued") && !events.contains("1970-"), "{events}");
    assert!(board.lived_on(10)?);
    Ok(())
}

#[test]
fn a_clock_that_jumps_a_day_and_back_costs_nothing() -> Story {
    let folder = tempfile::tempdir()?;
    // by the board's clock its certificate is soon a day too old
    let mut board = Board::new(folder.path(), "1h")?;
    board.boot(RIGHT)?;
    board.is_ready_again()?;
    let first = board.certificate()?.name().serial.clone();
    for time in [A_DAY_AHEAD, RIGHT] {
        board.set_clock(time)?;
        board.restart_master()?;
        board.is_ready_again()?;
    }
    let events = board.events()?;
    assert!(!events.contains("Reissued") && !events.contains("NodeNotReady"), "{events}");
    assert_eq!(board.certificate()?.name().serial, first);
    // booted in the wrong day, it knows nothing but its clock; and then in the right one
    for time in [A_DAY_AHEAD, RIGHT] {
        board.power_off()?;
        board.boot(time)?;
        board.is_ready_again()?;
    }
    // a floor that was a day ahead would refuse every certificate of an hour
    let floor = board.clock_floor()?;
    assert!(floor.abs_diff(now()?) < 3600, "the floor is {floor}");
    assert!(board.lived_on(now()? + 86_400)? && board.lived_on(now()?)?);
    Ok(())
}

#[test]
fn a_certificate_that_ran_out_while_the_board_was_off_is_issued_again_whatever_its_clock_says()
-> Story {
    let folder = tempfile::tempdir()?;
    let mut board = Board::new(folder.path(), "6s")?;
    board.boot(AT_1970)?;
    board.is_ready_again()?;
    for (issued, time) in [AT_1970, A_DAY_AHEAD].into_iter().enumerate() {
        board.power_off()?;
        let certificate = board.certificate()?;
        board.cluster.wait("its certificate has run out", |_| {
            Ok(certificate.name().not_after < now().unwrap_or_default())
        })?;
        board.boot(time)?;
        board.is_ready_again()?;
        let told = board.events()?.matches("CertificateReissued").count();
        assert_eq!(told, issued + 1);
    }
    Ok(())
}
