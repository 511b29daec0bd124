//! What the certificate authority signs, looked at by our own parser, by TLS on a real loopback,
//! and by the openssl command line.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use piccolo_master::certificate_authority::{
    AUTHORITY_LIFE, CertificateAuthority, Issued, MASTER_CERTIFICATE_LIFE, SignError, Subject,
    request_spki_sha256, server_renewal_at,
};
use piccolo_rpc::tls::acceptor::{Acceptor, Protocol, ServerOptions};
use piccolo_rpc::tls::clock::Clock;
use piccolo_rpc::tls::connector::{ClientOptions, Connector};
use piccolo_rpc::tls::identity::{Identity, PrivateKey};
use piccolo_rpc::tls::names::{PeerIdentity, Role};
use piccolo_rpc::tls::token::JoinToken;
use rcgen::{CertificateParams, CustomExtension, DnType, KeyPair, PublicKeyData, SanType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const DAY: Duration = Duration::from_secs(24 * 3600);

struct Fixture {
    folder: tempfile::TempDir,
    authority: CertificateAuthority,
    now: u64,
}

impl Fixture {
    fn new() -> Fixture {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let path = folder.path().join("ca.pem");
        let authority =
            CertificateAuthority::create(&path, "vehicle-7", now).expect("an authority");
        Fixture { folder, authority, now }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn sign(&self, request: &[u8]) -> Result<Issued, SignError> {
        self.authority.sign_node(request, sub("hpc-1"), 30 * DAY, self.now)
    }

    fn server_identity(&self, names: &[&str], now: u64) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.authority
            .master_server_identity(
                &self.path("master.pem"),
                "m1",
                &names,
                MASTER_CERTIFICATE_LIFE,
                now,
            )
            .expect("a server identity")
    }

    /// Runs openssl in the fixture's folder; what it printed, if it succeeded.
    fn openssl(&self, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new("openssl")
            .args(arguments)
            .current_dir(self.folder.path())
            .output()
            .expect("the openssl command is needed for this test (Debian: apt install openssl)");
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        if output.status.success() { Ok(text) } else { Err(text) }
    }

    fn put(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).expect("a file written");
    }
}

fn sub(id: &str) -> Subject<'_> {
    Subject { role: Role::Sub, id, label: "front-left.local" }
}

fn request() -> (PrivateKey, Vec<u8>) {
    let key = PrivateKey::generate().expect("a key");
    let request = key.signing_request().expect("a request");
    (key, request)
}

fn text_of(fixture: &Fixture, issued: &Issued) -> String {
    fixture.put("cert.pem", &issued.chain_pem);
    fixture.openssl(&["x509", "-in", "cert.pem", "-noout", "-text"]).expect("openssl reads it")
}

#[test]
fn a_node_gets_a_certificate_in_its_name_for_its_key() {
    let fixture = Fixture::new();
    let (key, request) = request();
    let issued = fixture.sign(&request).unwrap();
    let name = PeerIdentity::from_certificate(&issued.certificate, fixture.now).unwrap();
    assert_eq!(name.principal().to_string(), "piccolo://vehicle-7/sub/hpc-1");
    assert_eq!(name.serial, issued.serial);
    assert_eq!(name.spki_sha256, key.spki_sha256().unwrap());
    assert_eq!(issued.spki_sha256, key.spki_sha256().unwrap());
    assert_eq!(request_spki_sha256(&request).unwrap(), key.spki_sha256().unwrap());
    assert_eq!(name.not_before, fixture.now - 300);
    assert_eq!(name.not_after, fixture.now + 30 * DAY.as_secs());
    assert_eq!((issued.not_before, issued.not_after), (name.not_before, name.not_after));
    let identity = Identity::from_issued(key, &issued.chain_pem).unwrap();
    assert_eq!(identity.ca(), [fixture.authority.certificate().clone()]);
}

#[test]
fn openssl_finds_the_chain_good_for_dialling_and_not_for_serving() {
    let fixture = Fixture::new();
    fixture.put("root.pem", &fixture.authority.certificate_pem());
    fixture.put("node.pem", &fixture.sign(&request().1).unwrap().chain_pem);
    let verify = |purpose, file| {
        fixture.openssl(&[
            "verify",
            "-x509_strict",
            "-check_ss_sig",
            "-purpose",
            purpose,
            "-CAfile",
            "root.pem",
            file,
        ])
    };
    assert_eq!(verify("sslclient", "node.pem"), Ok("node.pem: OK\n".to_owned()));
    let refused = verify("sslserver", "node.pem").unwrap_err();
    assert!(refused.contains("unsupported certificate purpose") || refused.contains("unsuitable"));

    fixture.server_identity(&["board.local"], fixture.now);
    assert_eq!(verify("sslserver", "master.pem"), Ok("master.pem: OK\n".to_owned()));
    assert_eq!(verify("sslclient", "master.pem"), Ok("master.pem: OK\n".to_owned()));
}

#[test]
fn openssl_reads_what_should_stand_in_each_certificate() {
    let fixture = Fixture::new();
    let node = text_of(&fixture, &fixture.sign(&request().1).unwrap());
    for expected in [
        "Subject: O = vehicle-7, OU = sub, CN = front-left.local",
        "URI:piccolo://vehicle-7/sub/hpc-1\n",
        "TLS Web Client Authentication\n",
        "CA:FALSE",
        "Digital Signature\n",
        "prime256v1",
    ] {
        assert!(node.contains(expected), "{expected} is not in {node}");
    }
    fixture.put("root.pem", &fixture.authority.certificate_pem());
    let root = fixture.openssl(&["x509", "-in", "root.pem", "-noout", "-text"]).unwrap();
    for expected in ["CA:TRUE, pathlen:1", "Certificate Sign, CRL Sign\n", "O = vehicle-7"] {
        assert!(root.contains(expected), "{expected} is not in {root}");
    }
}

#[test]
fn a_request_made_by_openssl_is_signed_in_pem_and_in_der() {
    let fixture = Fixture::new();
    let keys: [&[&str]; 3] = [
        &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
        &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"],
        &["-newkey", "ed25519"],
    ];
    for key in keys {
        let make = ["req", "-new", "-nodes", "-keyout", "k.pem", "-out", "r.pem", "-subj", "/CN=x"];
        fixture.openssl(&[&make, key].concat()).unwrap();
        fixture.openssl(&["req", "-in", "r.pem", "-outform", "DER", "-out", "r.der"]).unwrap();
        let pem = fixture.sign(&fs::read(fixture.path("r.pem")).unwrap()).unwrap();
        let der = fixture.sign(&fs::read(fixture.path("r.der")).unwrap()).unwrap();
        assert_eq!(pem.spki_sha256, der.spki_sha256);
        fixture.put("root.pem", &fixture.authority.certificate_pem());
        fixture.put("node.pem", &pem.chain_pem);
        let verified =
            fixture.openssl(&["verify", "-x509_strict", "-CAfile", "root.pem", "node.pem"]);
        assert_eq!(verified, Ok("node.pem: OK\n".to_owned()), "{key:?}");
    }
}

#[test]
fn openssl_finds_our_own_request_good() {
    let fixture = Fixture::new();
    let key = PrivateKey::generate().unwrap();
    fixture.put("r.pem", &key.signing_request_pem().unwrap());
    let said = fixture.openssl(&["req", "-in", "r.pem", "-verify", "-noout", "-text"]).unwrap();
    assert!(said.contains("verify OK"), "{said}");
}

#[test]
fn nothing_but_the_key_is_taken_from_a_request() {
    let fixture = Fixture::new();
    let key = KeyPair::generate().unwrap();
    let mut asked = CertificateParams::default();
    asked.distinguished_name.push(DnType::CommonName, "root");
    asked.subject_alt_names = vec![
        SanType::URI("piccolo://vehicle-7/admin/root".try_into().unwrap()),
        SanType::DnsName("piccolo-master".try_into().unwrap()),
    ];
    asked.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    asked.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    asked.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    // An extension that a library might stumble over.
    asked.custom_extensions =
        vec![CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![0x05, 0x00])];
    let request = asked.serialize_request(&key).unwrap();
    let issued = fixture.sign(request.der()).unwrap();
    let name = PeerIdentity::from_certificate(&issued.certificate, fixture.now).unwrap();
    assert_eq!(name.principal().to_string(), "piccolo://vehicle-7/sub/hpc-1");
    let text = text_of(&fixture, &issued);
    for wish in ["root", "piccolo-master", "CA:TRUE", "Certificate Sign", "Server Auth", "1.2.3.4"]
    {
        assert!(!text.contains(wish), "{wish} is in {text}");
    }
}

#[track_caller]
fn refused(result: Result<Issued, SignError>, reason: &str) {
    let error = result.expect_err("it was signed");
    let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    let told = format!("{error}: {source}");
    assert!(told.contains(reason), "{told}");
}

#[test]
fn a_request_whose_sender_lacks_the_private_key_is_refused() {
    let fixture = Fixture::new();
    let (key, request) = request();
    // Every single byte of it, wrong: never a panic; and never signed, the name of the signature's
    // algorithm aside, which no signature covers.
    let ecdsa_sha256 = [0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
    let uncovered = request.windows(ecdsa_sha256.len()).position(|bytes| bytes == ecdsa_sha256);
    let uncovered = uncovered.map(|at| at..at + ecdsa_sha256.len()).unwrap();
    for at in 0..request.len() {
        let mut forged = request.clone();
        forged[at] ^= 1;
        let result = fixture.sign(&forged);
        assert!(result.is_err() || uncovered.contains(&at), "byte {at}");
    }
    // A victim's public key in a request signed by somebody else.
    let victim = KeyPair::generate().unwrap().subject_public_key_info();
    let own = KeyPair::try_from(&rustls_pki_types::PrivatePkcs8KeyDer::from(key.pkcs8()))
        .unwrap()
        .subject_public_key_info();
    let at = request.windows(own.len()).position(|bytes| bytes == own).unwrap();
    let mut stolen = request.clone();
    stolen[at..at + own.len()].copy_from_slice(&victim);
    refused(fixture.sign(&stolen), "the sender does not hold the private key");
}

#[test]
fn weak_keys_and_what_is_no_request_are_refused_with_the_reason() {
    let fixture = Fixture::new();
    let out = ["req", "-new", "-nodes", "-keyout", "k.pem", "-out", "r.pem", "-subj", "/CN=x"];
    let kinds: [&[&str]; 3] = [
        &["-newkey", "rsa:1024"],
        &["-newkey", "rsa:2048"],
        &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"],
    ];
    for kind in kinds {
        fixture.openssl(&[&out, kind].concat()).unwrap();
        let request = fs::read(fixture.path("r.pem")).unwrap();
        refused(fixture.sign(&request), "use ECDSA P-256, P-384 or Ed25519");
    }
    // A good key, a signature with a broken hash.
    let good = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-sha1"];
    fixture.openssl(&[&out[..], &good].concat()).unwrap();
    let request = fs::read(fixture.path("r.pem")).unwrap();
    refused(fixture.sign(&request), "signature is of a kind that does not fit");

    refused(fixture.sign(b""), "no PKCS#10 request");
    refused(fixture.sign(b"-----BEGIN CERTIFICATE REQUEST-----\nnonsense"), "no PKCS#10 request");
    refused(fixture.sign(fixture.authority.certificate_pem().as_bytes()), "no PKCS#10 request");
    refused(fixture.sign(&[0x30; 20_000]), "20000 bytes, more than 16384");
    let (_, good) = self::request();
    refused(fixture.sign(&[&good[..], &[0]].concat()), "1 bytes too many");
}

#[test]
fn each_kind_of_holder_has_its_own_way() {
    let fixture = Fixture::new();
    let (_, request) = request();
    for role in Role::ALL {
        let subject = Subject { role, id: "x", label: "" };
        let node = fixture.authority.sign_node(&request, subject, DAY, fixture.now);
        let user = fixture.authority.sign_user(&request, subject, DAY, fixture.now);
        let is_user = matches!(role, Role::Admin | Role::Operator | Role::Viewer);
        assert_eq!((node.is_ok(), user.is_ok()), (!is_user, is_user), "{role}");
    }
    let bad = Subject { role: Role::Sub, id: "../admin/root", label: "" };
    refused(
        fixture.authority.sign_node(&request, bad, DAY, fixture.now),
        "must begin and end with a letter or digit",
    );
}

#[test]
fn a_label_for_people_cannot_break_a_certificate() {
    let fixture = Fixture::new();
    let (_, request) = request();
    let label = format!("\0\n\u{7f}노드 {}", "x".repeat(10_000));
    let subject = Subject { role: Role::Sub, id: "hpc-1", label: &label };
    let issued = fixture.authority.sign_node(&request, subject, DAY, fixture.now).unwrap();
    fixture.put("root.pem", &fixture.authority.certificate_pem());
    fixture.put("node.pem", &issued.chain_pem);
    let verified = fixture.openssl(&["verify", "-x509_strict", "-CAfile", "root.pem", "node.pem"]);
    assert_eq!(verified, Ok("node.pem: OK\n".to_owned()));
}

#[test]
fn a_short_life_begins_only_a_little_before_its_issue_and_no_life_outlasts_the_authority() {
    let fixture = Fixture::new();
    let (_, request) = request();
    let sign = |life| fixture.authority.sign_node(&request, sub("x"), life, fixture.now).unwrap();
    let short = sign(Duration::from_secs(20));
    assert_eq!((short.not_before, short.not_after), (fixture.now - 2, fixture.now + 20));
    let endless = sign(Duration::MAX);
    assert_eq!(endless.not_after, fixture.now + AUTHORITY_LIFE.as_secs());
    let none = fixture.authority.sign_node(&request, sub("x"), Duration::ZERO, fixture.now);
    refused(none, "a life of at least a second");
    let late = fixture.now + AUTHORITY_LIFE.as_secs() + 1;
    refused(
        fixture.authority.sign_node(&request, sub("x"), DAY, late),
        "check this machine's clock",
    );
}

#[test]
fn no_two_certificates_share_a_serial() {
    let fixture = Fixture::new();
    let (_, request) = request();
    let serials: std::collections::BTreeSet<String> =
        (0..200).map(|_| fixture.sign(&request).unwrap().serial).collect();
    assert_eq!(serials.len(), 200);
    assert!(serials.iter().all(|serial| serial.len() == 32));
}

#[test]
fn an_authority_is_made_once_and_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let open = |id| CertificateAuthority::open_or_create(&path, id, 1_800_000_000);
    let (made, new) = open(None).unwrap();
    assert!(new);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let (found, new) = open(None).unwrap();
    assert!(!new);
    assert_eq!(found.digest(), made.digest());
    assert_eq!(found.cluster_id(), made.cluster_id());
    assert_eq!(found.cluster_id().len(), 12);
    assert!(open(Some(made.cluster_id())).is_ok());
    let error = open(Some("another")).unwrap_err().to_string();
    assert!(error.contains("but the configuration names cluster \"another\""), "{error}");
    // What one signed before a restart is good after it.
    let issued = made.sign_node(&request().1, sub("x"), DAY, 1_800_000_000).unwrap();
    assert!(issued.chain_pem.ends_with(&found.certificate_pem()));
}

#[test]
fn a_file_that_is_no_private_authority_is_refused_and_left_alone() {
    let fixture = Fixture::new();
    let open = |path: &Path| {
        let error = CertificateAuthority::open_or_create(path, None, fixture.now).unwrap_err();
        let mut told = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            told = format!("{told}: {error}");
            cause = error.source();
        }
        told
    };
    let path = fixture.path("ca.pem");
    let content = fs::read(&path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    assert!(open(&path).contains("chmod 0600"), "{}", open(&path));
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, &content[..content.len() / 2]).unwrap();
    assert!(open(&path).contains("does not hold one key"), "{}", open(&path));
    assert_eq!(fs::read(&path).unwrap(), &content[..content.len() / 2]);
    let node = fixture.path("node.pem");
    let (key, request) = request();
    Identity::from_issued(key, &fixture.sign(&request).unwrap().chain_pem)
        .unwrap()
        .save(&node)
        .unwrap();
    assert!(open(&node).contains("no certificate authority"), "{}", open(&node));
}

#[test]
fn a_masters_certificate_is_kept_until_two_thirds_of_its_life_or_other_names() {
    let fixture = Fixture::new();
    let first = fixture.server_identity(&["board.local", "10.0.0.1"], fixture.now);
    let serial = |identity: &Identity| identity.name().serial.clone();
    let renewal = server_renewal_at(first.name().not_before, first.name().not_after);
    let life = first.name().not_after - first.name().not_before;
    assert_eq!(renewal, first.name().not_before + life * 2 / 3);

    let again = fixture.server_identity(&["board.local", "10.0.0.1"], renewal - 1);
    assert_eq!(serial(&again), serial(&first));
    let renewed = fixture.server_identity(&["board.local", "10.0.0.1"], renewal);
    assert_ne!(serial(&renewed), serial(&first));
    assert_ne!(renewed.key().pkcs8(), first.key().pkcs8());
    let moved = fixture.server_identity(&["board.local", "10.0.0.2"], renewal);
    assert_ne!(serial(&moved), serial(&renewed));
    let other =
        CertificateAuthority::create(&fixture.path("ca2.pem"), "vehicle-7", renewal).unwrap();
    let path = fixture.path("master.pem");
    let reissued =
        other.master_server_identity(&path, "m1", &[], MASTER_CERTIFICATE_LIFE, renewal).unwrap();
    assert_eq!(reissued.ca(), [other.certificate().clone()]);
}

#[test]
fn a_damaged_master_identity_is_made_anew_but_an_open_one_is_reported() {
    let fixture = Fixture::new();
    let first = fixture.server_identity(&[], fixture.now);
    let path = fixture.path("master.pem");
    fs::write(&path, "damaged").unwrap();
    let second = fixture.server_identity(&[], fixture.now);
    assert_ne!(first.name().serial, second.name().serial);
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let life = MASTER_CERTIFICATE_LIFE;
    let error = fixture.authority.master_server_identity(&path, "m1", &[], life, fixture.now);
    let error = error.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("chmod 0600"), "{source}");
}

#[test]
fn a_name_that_cannot_stand_in_a_certificate_is_refused() {
    let fixture = Fixture::new();
    let (_, request) = request();
    for name in ["", "a b", "노드", "-x", "x..y", "*"] {
        let names = [name.to_owned()];
        let result = fixture.authority.sign_master(&request, "m1", &names, DAY, fixture.now);
        refused(result, "cannot be a host name");
    }
}

/// The whole way of a board: token, first connection, request, certificate, mutual TLS.
#[tokio::test]
async fn a_board_joins_with_a_token_and_comes_back_with_its_certificate() {
    let fixture = Fixture::new();
    let clock = Clock::default();
    let server = fixture.server_identity(&[], fixture.now);
    let options = ServerOptions::new(Protocol::Grpc, clock.clone());
    let acceptor = Acceptor::new(&server, options).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut incoming = acceptor.listen(listener);

    let token = JoinToken::generate(fixture.authority.digest()).unwrap();
    let options = ClientOptions::new(clock.clone());
    let joining = Connector::joining(token.ca_digest(), options.clone()).unwrap();
    let mut stranger = joining.connect("127.0.0.1", port).await.unwrap();
    stranger.write_all(b"hello").await.unwrap();
    let met = incoming.accept().await.unwrap();
    assert!(met.peer().identity.is_none());

    let (key, request) = request();
    let issued = fixture.sign(&request).unwrap();
    let identity = Identity::from_issued(key, &issued.chain_pem).unwrap();
    assert_eq!(identity.ca_digests(), [token.ca_digest()]);
    let member = Connector::new(&identity, options).unwrap();
    let mut connection = member.connect("127.0.0.1", port).await.unwrap();
    connection.write_all(b"hello").await.unwrap();
    let mut met = incoming.accept().await.unwrap();
    let name = met.peer().identity.clone().unwrap();
    assert_eq!((name.role, name.id.as_str(), name.expired), (Role::Sub, "hpc-1", false));
    assert_eq!(name.serial, issued.serial);
    let mut bytes = [0; 5];
    met.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"hello");
}
