//! Strangers at the ports of a real master: they get nothing, and those who belong notice nothing (HLD §9.2).

use std::{
    error::Error,
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use piccolo_testkit::cluster::{Cluster, Options};

type Story = Result<(), Box<dyn Error>>;

/// For the master to close a connection: far more than its own limit.
const CLOSES_WITHIN: Duration = Duration::from_secs(20);
/// More than one address may have in a moment, and less than all places together.
const SILENT_SOCKETS: usize = 200;

/// What a master that speaks TLS alone may answer: an alert, or nothing.
fn is_no_answer(bytes: &[u8]) -> bool {
    bytes.is_empty() || bytes[0] == 21
}

/// Says `bytes` and hears what comes until the other side closes.
fn says(address: &str, bytes: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(CLOSES_WITHIN))?;
    // it may have closed already: that is an answer too
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            Err("it was left open".into())
        }
        Ok(_) | Err(_) => Ok(answer),
    }
}

fn list_works(cluster: &Cluster) -> Story {
    let listed = cluster.piccolo(&["node", "list"])?;
    assert!(listed.status.success(), "{listed:?}");
    Ok(())
}

#[test]
fn who_speaks_no_tls_is_told_nothing_on_either_port() -> Story {
    let folder = tempfile::tempdir()?;
    let mut cluster = Cluster::start(Options::new(folder.path())?)?;
    let http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    // a record of TLS 1.0 that says it is 64 KiB long
    let too_long = b"\x16\x03\x01\xff\xff\x01\x00\xff\xfb\x03\x03";
    let said: [&[u8]; 5] = [
        b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
        http2,
        too_long,
        &[0; 4096],
        b"\x15\x03\x03\x00\x02\x02\x28",
    ];
    for address in [cluster.address.clone(), cluster.https_address.clone()] {
        for bytes in said {
            let answer = says(&address, bytes)?;
            assert!(is_no_answer(&answer), "{address} answered {answer:?} to {bytes:?}");
        }
    }
    list_works(&cluster)?;
    assert!(cluster.master.ended()?.is_none(), "{}", cluster.master.log_tail());
    Ok(())
}

#[test]
fn silent_strangers_do_not_keep_others_waiting() -> Story {
    let folder = tempfile::tempdir()?;
    let mut cluster = Cluster::start(Options::new(folder.path())?)?;
    let silent: Vec<_> = (0..SILENT_SOCKETS)
        .map(|_| TcpStream::connect(&cluster.address))
        .collect::<Result<_, _>>()?;
    // those of this address are refused at once where the burst is used up: then a moment later it works
    cluster.wait("the list is answered among silent strangers", |c| {
        Ok(c.piccolo(&["node", "list"])?.status.success())
    })?;
    let began = Instant::now();
    for mut stream in silent {
        stream.set_read_timeout(Some(CLOSES_WITHIN))?;
        let mut byte = [0];
        let closed = match stream.read(&mut byte) {
            Ok(count) => count == 0 || byte[0] == 21,
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        };
        assert!(closed, "a silent stranger is still there after {:?}", began.elapsed());
    }
    list_works(&cluster)?;
    assert!(cluster.master.ended()?.is_none(), "{}", cluster.master.log_tail());
    Ok(())
}
