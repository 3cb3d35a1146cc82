//! `--acme`: certificates that the server gets itself, from an authority of the tests' own, and from Pebble where there is one.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use support::authority::{Authority, Manners};
use support::program::Program;
use support::secured::{Client, Stream};

/// Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

fn start(site: &[&str], state: &Path, authority: (&str, &Path), names: &[&str]) -> Program {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cheetah"));
    command.stderr(Stdio::null());
    let (state, root) = (state.to_str().unwrap(), authority.1.to_str().unwrap());
    let mut arguments = site.to_vec();
    arguments.extend(["--tls-listen", "127.0.0.1:0", "--acme-state", state]);
    arguments.extend(["--acme-directory", authority.0, "--acme-root", root]);
    names.iter().for_each(|name| arguments.extend(["--acme", name]));
    Program::start_secured(&mut command, &arguments)
}

fn port(addr: &str) -> u16 {
    addr.parse::<SocketAddr>().unwrap().port()
}

/// A connection to who shows that `name` is theirs, by that authority.
fn connect(program: &Program, root: &CertificateDer<'static>, name: &'static str) -> Option<Stream> {
    let addr = program.https.as_ref().unwrap().parse().unwrap();
    let mut stream = Client::new(root, None).connect_at(name, addr);
    stream.conn.complete_io(&mut stream.sock).ok()?;
    Some(stream)
}

fn shown(stream: &Stream) -> CertificateDer<'static> {
    stream.conn.peer_certificates().unwrap()[0].clone().into_owned()
}

fn until_connected(program: &Program, root: &CertificateDer<'static>, name: &'static str) -> Stream {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(stream) = connect(program, root, name) {
            return stream;
        }
        assert!(Instant::now() < until, "no certificate for {name}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn get(stream: &mut Stream, path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: one.test\r\n\r\n").unwrap();
    let mut bytes = [0; 4096];
    let len = stream.read(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes[..len]).into_owned()
}

/// A folder with a page in it.
fn site(dir: &Path) -> String {
    let site = dir.join("site");
    fs::create_dir(&site).unwrap();
    fs::write(site.join("index.html"), "hello").unwrap();
    site.to_str().unwrap().to_owned()
}

#[test]
fn a_certificate_is_got_kept_and_renewed_while_connections_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (site, state) = (site(dir.path()), dir.path().join("state"));
    let authority = Authority::start(Manners { bad_nonces: 1, life: 3600, ..Manners::default() });
    let (directory, own) = (authority.directory(), authority.own_root());
    let of = (directory.as_str(), own.as_path());
    let program = start(&["serve", &site], &state, of, &["one.test", "Two.test"]);
    // Before there is one, HTTPS is there already, with one that nobody believes.
    assert!(connect(&program, &authority.root, "one.test").is_none());
    authority.asks_at(port(&program.addr));
    let mut stream = until_connected(&program, &authority.root, "one.test");
    assert!(get(&mut stream, "/").starts_with("HTTP/1.1 200"));
    assert!(connect(&program, &authority.root, "two.test").is_some());
    assert_eq!(authority.counts(), (1, 1, 1));
    for entry in fs::read_dir(&state).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
    }
    // What was shown is shown no more.
    assert_eq!(program.get("/.well-known/acme-challenge/token-0_0").0, 404);
    assert_eq!(program.end(), Some(0));

    // It is there at the next start, and nobody is asked.
    let program = start(&["serve", &site], &state, of, &["one.test", "two.test"]);
    let first = shown(&connect(&program, &authority.root, "one.test").unwrap());
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(authority.counts(), (1, 1, 1));
    assert_eq!(program.end(), Some(0));

    // Other names are another certificate, of the same account; an old one is shown until it is there.
    authority.waits_where_to_ask();
    let program = start(&["serve", &site], &state, of, &["one.test", "three.test"]);
    let mut old = connect(&program, &authority.root, "one.test").unwrap();
    assert_eq!(shown(&old), first);
    authority.asks_at(port(&program.addr));
    let new = until_connected(&program, &authority.root, "three.test");
    assert!(shown(&new) != first);
    assert!(get(&mut old, "/").starts_with("HTTP/1.1 200"), "a connection from before goes on");
    assert_eq!(authority.counts(), (1, 2, 2));
    assert_eq!(program.end(), Some(0));
}

/// With nothing at the port of HTTP that an authority asks, or could ask.
#[test]
fn names_are_proved_where_https_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let (site, state) = (site(dir.path()), dir.path().join("state"));
    let authority = Authority::start(Manners { by_tls: true, life: 3600, ..Manners::default() });
    let (directory, own) = (authority.directory(), authority.own_root());
    let arguments = ["serve", &site, "--acme-proof", "tls-alpn"];
    let program = start(&arguments, &state, (&directory, &own), &["one.test", "two.test"]);
    let https = port(program.https.as_ref().unwrap());
    // Who asks for proofs gets none when there are none, and never the certificate of the site.
    assert!(support::proof::shown(https, "one.test").is_none());
    authority.asks_at(https);
    let mut stream = until_connected(&program, &authority.root, "one.test");
    assert!(get(&mut stream, "/").starts_with("HTTP/1.1 200"));
    assert!(connect(&program, &authority.root, "two.test").is_some());
    assert_eq!(authority.counts(), (1, 1, 1));
    assert!(support::proof::shown(https, "one.test").is_none(), "what was shown is shown no more");
    assert_eq!(program.end(), Some(0));
}

#[test]
fn it_is_renewed_before_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let authority = Authority::start(Manners { life: 14, ..Manners::default() });
    let (directory, own) = (authority.directory(), authority.own_root());
    // Before another one's server that would answer for every path, and with a redirection to HTTPS.
    let arguments = ["accelerate", "http://127.0.0.1:9", "--redirect-http"];
    let program = start(&arguments, &state, (&directory, &own), &["one.test"]);
    authority.asks_at(port(&program.addr));
    let first = shown(&until_connected(&program, &authority.root, "one.test"));
    let until = Instant::now() + PATIENCE;
    loop {
        let now = connect(&program, &authority.root, "one.test");
        assert!(now.is_some() || Instant::now() < until, "there was a time without a certificate");
        if now.is_some_and(|now| shown(&now) != first) {
            break;
        }
        assert!(Instant::now() < until, "it is not renewed");
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(authority.counts().2 >= 2);
    assert_eq!(program.end(), Some(0));
}

/// It is renewed when the authority says so, which hears what is replaced; and not again when it does not.
#[test]
fn an_authority_can_have_a_certificate_renewed() {
    renewed_because_it_is_said(Manners { life: 3600, recalls: 1, ..Manners::default() });
}

/// An order that may take the place of nothing is one as any.
#[test]
fn what_was_replaced_before_is_renewed_as_well() {
    renewed_because_it_is_said(Manners {
        life: 3600,
        recalls: 1,
        replaced_before: true,
        ..Manners::default()
    });
}

fn renewed_because_it_is_said(manners: Manners) {
    let dir = tempfile::tempdir().unwrap();
    let (site, state) = (site(dir.path()), dir.path().join("state"));
    let authority = Authority::start(manners);
    let (directory, own) = (authority.directory(), authority.own_root());
    let program = start(&["serve", &site], &state, (&directory, &own), &["one.test"]);
    authority.asks_at(port(&program.addr));
    // The first one is due as soon as it is there, which counts as a failure: begun anew, the server does not
    // wait for that.
    until_connected(&program, &authority.root, "one.test");
    let until = Instant::now() + PATIENCE;
    while authority.replaced().1.is_empty() {
        assert!(Instant::now() < until, "nobody asks when to renew");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(program.end(), Some(0));
    authority.waits_where_to_ask();
    let program = start(&["serve", &site], &state, (&directory, &own), &["one.test"]);
    authority.asks_at(port(&program.addr));
    while authority.counts().2 < 2 || authority.replaced().1.len() < 3 {
        assert!(
            Instant::now() < until,
            "it is not renewed: {:?} {:?}",
            authority.counts(),
            authority.replaced()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let (replaces, asked) = authority.replaced();
    let said = Some(asked[0].clone()).filter(|_| !manners.replaced_before);
    assert_eq!(replaces, [None, said]);
    assert_eq!(authority.counts().1, if manners.replaced_before { 3 } else { 2 });
    assert!(asked[1] == asked[0] && asked[2] != asked[0], "{asked:?}");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(authority.counts().2, 2);
    assert_eq!(program.end(), Some(0));
}

#[test]
fn who_gets_none_serves_on_and_does_not_ask_again_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let site = site(dir.path());
    for (manners, port_of) in [
        // Nothing is at that port.
        (Manners { life: 3600, ..Manners::default() }, Some(9)),
        (Manners { life: 3600, refused_orders: 100, ..Manners::default() }, None),
        (Manners { life: 3600, other_names: true, ..Manners::default() }, None),
    ] {
        let state = dir.path().join(format!("{manners:?}"));
        let authority = Authority::start(manners);
        let (directory, own) = (authority.directory(), authority.own_root());
        let program = start(&["serve", &site], &state, (&directory, &own), &["one.test"]);
        authority.asks_at(port_of.unwrap_or(port(&program.addr)));
        let until = Instant::now() + PATIENCE;
        while authority.counts().1 == 0 {
            assert!(Instant::now() < until);
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!(authority.counts().1, 1, "{manners:?}");
        assert_eq!(program.get("/").0, 200);
        assert!(connect(&program, &authority.root, "one.test").is_none());
        assert_eq!(program.end(), Some(0));
    }
}

/// Authorities may add names (as of `www.`): what they sign is asked for once all the same.
#[test]
fn an_authority_that_adds_a_name_is_asked_once() {
    let dir = tempfile::tempdir().unwrap();
    let (site, state) = (site(dir.path()), dir.path().join("state"));
    let authority = Authority::start(Manners { life: 3600, more_names: true, ..Manners::default() });
    let (directory, own) = (authority.directory(), authority.own_root());
    let program = start(&["serve", &site], &state, (&directory, &own), &["one.test"]);
    authority.asks_at(port(&program.addr));
    until_connected(&program, &authority.root, "one.test");
    assert!(connect(&program, &authority.root, "more.test").is_some());
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(authority.counts(), (1, 1, 1));
    assert_eq!(program.end(), Some(0));
}

/// By the server's clock what is signed has to be renewed at once: that is tried as seldom as after a
/// failure.
#[test]
fn a_certificate_that_is_over_already_is_not_asked_for_again_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (site, state) = (site(dir.path()), dir.path().join("state"));
    let authority = Authority::start(Manners { life: 0, ..Manners::default() });
    let (directory, own) = (authority.directory(), authority.own_root());
    let program = start(&["serve", &site], &state, (&directory, &own), &["one.test"]);
    authority.asks_at(port(&program.addr));
    let until = Instant::now() + PATIENCE;
    while authority.counts().2 == 0 {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(authority.counts(), (1, 1, 1));
    assert_eq!(program.end(), Some(0));
}

#[test]
fn what_cannot_be_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let open = dir.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
    let site = site(dir.path());
    let (open, state) = (open.to_str().unwrap(), dir.path().join("state"));
    let state = state.to_str().unwrap();
    for (arguments, what) in [
        (&["--acme", "one.test"][..], "--acme-state"),
        (&["--acme-state", state], "--acme"),
        (&["--acme", "*.one.test", "--acme-state", state], "star"),
        (&["--acme", "localhost", "--acme-state", state], "www.example.org"),
        (&["--acme", "127.0.0.1", "--acme-state", state], "www.example.org"),
        (&["--acme", "one.test", "--acme-state", open], "chmod 700"),
        (&["--acme", "one.test", "--acme-state", state, "--acme-directory", "http://x"], "https://"),
        (&["--acme", "one.test", "--acme-state", state, "--acme-root", "/nowhere"], "/nowhere"),
    ] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_cheetah")).args(["serve", &site]).args(arguments).output();
        let output = output.unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains(what), "{arguments:?}: {told}");
    }
    // A configuration is looked at without making anything.
    let config = dir.path().join("cheetah.toml");
    fs::write(
        &config,
        format!("site = {site:?}\nacme = [\"one.test\"]\nacme-state = {state:?}\nhsts = \"60\"\n"),
    )
    .unwrap();
    let check = || Command::new(env!("CARGO_BIN_EXE_cheetah")).arg("check").arg(&config).output().unwrap();
    assert!(check().status.success() && !Path::new(state).exists(), "{:?}", check());
    fs::write(&config, format!("site = {site:?}\nacme = [\"one\"]\nacme-state = {state:?}\n")).unwrap();
    assert!(!check().status.success());
}

/// A child that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Let's Encrypt's small test server: it checks signatures, refuses some nonces and takes its time.
#[test]
fn pebble_gives_a_certificate() {
    for proof in ["http", "tls-alpn"] {
        pebble_gives_one_by(proof);
    }
}

fn pebble_gives_one_by(proof: &str) {
    let dir = tempfile::tempdir().unwrap();
    let (site, state) = (site(dir.path()), dir.path().join("state"));
    let own = support::secured::Certificate::new(&["localhost"]);
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (ports, at, tls_at) = ((free(), free()), free(), free());
    let config = dir.path().join("pebble.json");
    let text = serde_json::json!({ "pebble": {
        "listenAddress": format!("127.0.0.1:{}", ports.0),
        "managementListenAddress": format!("127.0.0.1:{}", ports.1),
        "certificate": own.files.cert,
        "privateKey": own.files.key,
        "httpPort": if proof == "http" { at } else { 9 },
        "tlsPort": if proof == "http" { 9 } else { tls_at },
        "ocspResponderURL": "",
        "externalAccountBindingRequired": false,
    }});
    fs::write(&config, text.to_string()).unwrap();
    // A server of names that says 127.0.0.1 to all.
    let names = free();
    let spawned = Command::new("pebble-challtestsrv")
        .args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-dns01", &format!("127.0.0.1:{names}")])
        .args(["-http01", "", "-https01", "", "-tlsalpn01", ""])
        .args(["-management", &format!("127.0.0.1:{}", free())])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(dns) = spawned.inspect_err(|error| eprintln!("skipped: pebble: {error}")) else { return };
    let _dns = Running(dns);
    let pebble = Command::new("pebble")
        .arg("-config")
        .arg(&config)
        .args(["-dnsserver", &format!("127.0.0.1:{names}")])
        // One in twenty: four in a row, which is as often as is tried, would be a failure.
        .envs([("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_WFE_NONCEREJECT", "5")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(pebble) = pebble.inspect_err(|error| eprintln!("skipped: pebble: {error}")) else { return };
    let _pebble = Running(pebble);
    let until = Instant::now() + PATIENCE;
    while std::net::TcpStream::connect(("127.0.0.1", ports.0)).is_err() {
        assert!(Instant::now() < until, "pebble does not listen");
        std::thread::sleep(Duration::from_millis(50));
    }
    let directory = format!("https://localhost:{}/dir", ports.0);
    let mut command = Command::new(env!("CARGO_BIN_EXE_cheetah"));
    let state = state.to_str().unwrap();
    let (http, https) = (format!("127.0.0.1:{at}"), format!("127.0.0.1:{tls_at}"));
    let arguments = ["serve", &site, "--listen", &http, "--tls-listen", &https, "--acme-proof", proof];
    let acme = ["--acme", "one.test", "--acme", "www.one.test", "--acme-contact", "me@one.test"];
    let root = own.files.cert.to_str().unwrap();
    let of = ["--acme-state", state, "--acme-directory", &directory, "--acme-root", root];
    let mut server = Running(
        command
            .args(arguments)
            .args(acme)
            .args(of)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let file = Path::new(state).join("certificate.pem");
    let is_pebbles =
        || fs::read_to_string(&file).is_ok_and(|pem| pem.matches("BEGIN CERTIFICATE").count() > 1);
    let until = Instant::now() + 2 * PATIENCE;
    while !is_pebbles() {
        assert!(Instant::now() < until, "no certificate");
        assert!(server.0.try_wait().unwrap().is_none(), "the server has ended");
        std::thread::sleep(Duration::from_millis(100));
    }
    use rustls::pki_types::pem::PemObject as _;
    let chain: Vec<_> = CertificateDer::pem_file_iter(&file).unwrap().map(Result::unwrap).collect();
    let parsed = rustls::server::ParsedCertificate::try_from(&chain[0]).unwrap();
    for name in ["one.test", "www.one.test"] {
        let name = name.try_into().unwrap();
        assert!(rustls::client::verify_server_name(&parsed, &name).is_ok());
    }
}
