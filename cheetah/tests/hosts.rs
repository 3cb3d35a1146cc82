//! Several sites of one server, by the names that are asked for, and what a configuration file says of them.

mod support;

use std::fs;
use std::io::{BufRead, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use support::program::Program;
use support::secured::{Certificate, Client};
use support::until;

/// A folder with the sites `top`, `a` and `b`, each with its name in `name.txt`, and the configuration
/// `text`.
fn folder(text: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["top", "a", "b"] {
        fs::create_dir(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(name).join("name.txt"), name).unwrap();
    }
    configure(dir.path(), text);
    dir
}

/// Writes the configuration, with the folder's own path for `$`.
fn configure(dir: &Path, text: &str) {
    fs::write(dir.join("site.toml"), text.replace('$', dir.to_str().unwrap())).unwrap();
}

fn start(dir: &Path) -> Program {
    Program::start(&["--config", dir.join("site.toml").to_str().unwrap()])
}

/// Status and body of what `request` gets, in HTTP/1.1 from a host.
fn ask(stream: &mut (impl Read + Write), method: &str, path: &str, host: &str) -> (u16, String) {
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
    let response = support::read_response(stream, method == "HEAD");
    (response.status, String::from_utf8(response.body).unwrap())
}

fn get(served: &Program, host: &str, path: &str) -> (u16, String) {
    ask(&mut TcpStream::connect(&served.addr).unwrap(), "GET", path, host)
}

fn check(dir: &Path) -> Output {
    let file = dir.join("site.toml");
    Command::new(env!("CARGO_BIN_EXE_cheetah")).arg("check").arg(file).output().unwrap()
}

const TWO: &str = "site = \"$/top\"\naccess-log = \"$/top.log\"\n\
    [[host]]\nnames = [\"a.example\", \"*.a.example\"]\nsite = \"$/a\"\naccess-log = \"$/a.log\"\nclean-urls = true\n\
    [[host]]\nnames = \"b.example\"\nsite = \"$/b\"\nstore = \"folder\"\naccess-log = \"$/top.log\"\nlog-format = \"json\"\n";

#[test]
fn each_name_has_its_site_and_its_log() {
    let dir = folder(TWO);
    fs::write(dir.path().join("a/about.html"), "about a").unwrap();
    fs::write(dir.path().join("top/about.html"), "about top").unwrap();
    let served = start(dir.path());
    for (host, name) in [
        ("a.example", "a"),
        ("x.y.A.example:80", "a"),
        ("b.example.", "b"),
        ("else.example", "top"),
        ("", "top"),
    ] {
        assert_eq!(get(&served, host, "/name.txt"), (200, name.to_owned()), "{host}");
    }
    // From one connection in turn; the target's own name comes first.
    let mut kept = TcpStream::connect(&served.addr).unwrap();
    for (host, path, name) in [
        ("a.example", "/name.txt", "a"),
        ("b.example", "/name.txt", "b"),
        ("b.example", "http://a.example/name.txt", "a"),
        ("a.example", "http://nobody/name.txt", "top"),
    ] {
        assert_eq!(ask(&mut kept, "GET", path, host), (200, name.to_owned()), "{host} {path}");
    }
    // What is a site's own: `/about` has a page where that is said.
    assert_eq!(get(&served, "a.example", "/about"), (200, "about a".to_owned()));
    assert_eq!(get(&served, "else.example", "/about").0, 404);
    // HTTP/1.0 names nobody.
    assert_eq!(served.get("/name.txt"), (200, b"top".to_vec()));
    let mut nonsense = TcpStream::connect(&served.addr).unwrap();
    nonsense.write_all(b"nonsense\r\n\r\n").unwrap();
    nonsense.read_to_end(&mut Vec::new()).unwrap();
    drop((kept, nonsense));
    assert_eq!(served.end(), Some(0));
    let log = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    assert_eq!((log("a.log").lines().count(), log("top.log").lines().count()), (5, 8), "{}", log("top.log"));
    assert!(log("top.log").contains("\"nonsense\" 400"));
}

#[test]
fn without_a_site_of_its_own_the_top_refuses_other_names() {
    let dir = folder("[[host]]\nnames = \"a.example\"\nsite = \"$/a\"\n");
    let served = start(dir.path());
    assert_eq!(get(&served, "a.example", "/name.txt").0, 200);
    for host in ["b.example", ""] {
        let (status, page) = get(&served, host, "/name.txt");
        assert!(status == 421 && page.contains("Misdirected"), "{status} {page}");
    }
    let mut kept = TcpStream::connect(&served.addr).unwrap();
    assert_eq!(ask(&mut kept, "HEAD", "/name.txt", "b.example"), (421, String::new()));
    assert_eq!(ask(&mut kept, "DELETE", "/name.txt", "b.example").0, 421);
    // The connection is as good as before for who has a name.
    assert_eq!(ask(&mut kept, "GET", "/name.txt", "a.example").0, 200);
}

#[test]
fn a_changed_configuration_is_taken_up_at_sighup_and_a_wrong_one_is_not() {
    let dir = folder(TWO);
    let mut command = Command::new(env!("CARGO_BIN_EXE_cheetah"));
    command.arg("serve").stderr(Stdio::piped());
    let file = dir.path().join("site.toml").to_str().unwrap().to_owned();
    let mut served = Program::start_by(&mut command, &["--config", &file]);
    let mut errors = served.take_errors().unwrap().lines();
    let mut next_line = |part: &str| {
        errors
            .by_ref()
            .map(Result::unwrap)
            .find(|line| line.contains(part))
            .unwrap_or_else(|| panic!("{part}"))
    };
    let mut kept = TcpStream::connect(&served.addr).unwrap();
    assert_eq!(ask(&mut kept, "GET", "/name.txt", "a.example").1, "a");
    for wrong in [
        "lisen = 1\n",
        "site = \"$/gone\"\n",
        "site = \"$/top\"\n[[host]]\nnames = \"b\"\nsite = \"$/gone\"\n",
    ] {
        configure(dir.path(), wrong);
        served.signal("-HUP");
        let line = next_line("what was served stays");
        assert!(line.contains("lisen") || line.contains("gone"), "{line}");
        assert_eq!(ask(&mut kept, "GET", "/name.txt", "a.example").1, "a");
    }
    // Names change their owners, one goes, one comes.
    let fresh = "site = \"$/top\"\nlisten = \"127.0.0.1:1\"\n[[host]]\nnames = \"a.example\"\nsite = \"$/b\"\n\
                 [[host]]\nnames = \"c.example\"\nsite = \"$/a\"\naccess-log = \"$/c.log\"\n";
    configure(dir.path(), fresh);
    served.signal("-HUP");
    assert!(next_line("by a restart only").contains("restart only: listen"));
    next_line("sites are taken up");
    until("a.example is b", || ask(&mut kept, "GET", "/name.txt", "a.example").1 == "b");
    assert_eq!(ask(&mut kept, "GET", "/name.txt", "b.example").1, "top");
    assert_eq!(ask(&mut kept, "GET", "/name.txt", "c.example").1, "a");
    drop(kept);
    assert_eq!(served.end(), Some(0));
    assert_eq!(fs::read_to_string(dir.path().join("c.log")).unwrap().lines().count(), 1);
}

#[test]
fn a_configuration_is_checked_without_being_served() {
    let dir = folder(TWO);
    let checked = check(dir.path());
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    assert!(String::from_utf8_lossy(&checked.stdout).contains("site.toml: fine, 3 sites"));
    assert!(!dir.path().join("a.log").exists(), "nothing is opened");
    for (text, status, said) in [
        ("lisen = 1\nsite = \"$/top\"", 1, "site.toml:1:1: there is no `lisen`: is it `listen`?"),
        ("site = \"$/gone\"", 1, "/gone: No such file"),
        ("workers = 2", 2, "nothing to serve"),
        ("site = \"$/top\"\ntls-cert = \"$/c\"", 2, "give a key with each"),
        ("site = \"$/top\"\ntls-cert = \"$/c\"\ntls-key = \"$/k\"", 1, "/c: no certificates can be read"),
        ("site = \"$/top\"\ngateway = \"10.0.0.1\"", 2, "--gateway is for our own TCP/IP"),
        ("site = \"$/top\"\nuser = \"nobody-of-that-name\"", 2, "no such account"),
        (
            "[[host]]\nnames=\"a\"\nsite=\"$/a\"\n[[host]]\nnames=\"A\"\nsite=\"$/b\"",
            1,
            "two hosts have the name a",
        ),
        ("site = \"$/top\"\nacme-challenges = \"$/gone\"", 1, "--acme-challenges"),
    ] {
        configure(dir.path(), text);
        let checked = check(dir.path());
        let errors = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.code() == Some(status) && errors.contains(said), "{text}: {errors}");
    }
    fs::remove_file(dir.path().join("site.toml")).unwrap();
    assert!(String::from_utf8_lossy(&check(dir.path()).stderr).contains("site.toml: No such file"));
}

#[test]
fn tokens_of_one_host_are_no_others() {
    let dir = folder("");
    for name in ["a", "b"] {
        fs::write(dir.path().join(format!("{name}.token")), format!("secret-of-{name}-0123456789\n"))
            .unwrap();
    }
    let host = |name: &str| {
        format!(
            "[[host]]\nnames = \"{name}\"\nsite = \"$/{name}.img\"\nwritable = true\ntoken-file = \"$/{name}.token\"\n\
             access-log = \"$/{name}.log\"\n"
        )
    };
    configure(dir.path(), &format!("site = \"$/top\"\n{}{}", host("a"), host("b")));
    let served = start(dir.path());
    let put = |host: &str, token: &str| {
        let mut stream = TcpStream::connect(&served.addr).unwrap();
        write!(
            stream,
            "PUT /x.txt HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer secret-of-{token}-0123456789\r\n\
             Content-Length: 1\r\n\r\n{token}"
        )
        .unwrap();
        support::read_response(&mut stream, false).status
    };
    assert_eq!((put("a", "b"), put("b", "a"), put("top", "a")), (401, 401, 405));
    assert_eq!((put("a", "a"), put("b", "b"), put("a", "a")), (201, 201, 204));
    assert_eq!((get(&served, "a", "/x.txt").1, get(&served, "b", "/x.txt").1), ("a".into(), "b".into()));
    assert_eq!(get(&served, "top", "/x.txt").0, 404);
    // At SIGHUP they stay open, and take files as before.
    served.signal("-HUP");
    assert_eq!((put("b", "b"), get(&served, "b", "/x.txt").1), (204, "b".into()));
    assert_eq!(served.end(), Some(0));
    let log = fs::read_to_string(dir.path().join("a.log")).unwrap();
    assert!(log.matches("PUT /x.txt").count() == 3 && log.contains("\" 201 "), "{log}");
}

#[test]
fn each_host_has_its_certificate_and_plain_requests_are_sent_there() {
    let dir = folder("");
    let (a, b) = (Certificate::new(&["a.example"]), Certificate::new(&["b.example"]));
    let host = |name: &str, certificate: &Certificate| {
        let (cert, key) = (certificate.files.cert.display(), certificate.files.key.display());
        format!(
            "[[host]]\nnames = \"{name}.example\"\nsite = \"$/{name}\"\ntls-cert = \"{cert}\"\ntls-key = \"{key}\"\n"
        )
    };
    fs::create_dir_all(dir.path().join("acme/.well-known/acme-challenge")).unwrap();
    fs::write(dir.path().join("acme/.well-known/acme-challenge/token"), "proof").unwrap();
    fs::write(dir.path().join("acme/secret"), "no").unwrap();
    let text = "tls-listen = \"127.0.0.1:0\"\nredirect-http = true\nhsts = \"31536000,subdomains\"\n\
                acme-challenges = \"$/acme\"\n";
    configure(dir.path(), &format!("{text}{}{}", host("a", &a), host("b", &b)));
    let mut command = Command::new(env!("CARGO_BIN_EXE_cheetah"));
    command.arg("serve").stderr(Stdio::null());
    let file = dir.path().join("site.toml").to_str().unwrap().to_owned();
    let served = Program::start_secured(&mut command, &["--config", &file]);
    let https = served.https.clone().unwrap();
    for (name, certificate) in [("a.example", &a), ("b.example", &b)] {
        let client = Client::new(&certificate.der, None);
        let mut stream = client.connect_at(name, https.parse().unwrap());
        write!(stream, "GET /name.txt HTTP/1.1\r\nHost: {name}\r\n\r\n").unwrap();
        let response = support::read_response(&mut stream, false);
        assert_eq!(response.body, &name.as_bytes()[..1]);
        let said = response.field("Strict-Transport-Security");
        assert_eq!(said, Some("max-age=31536000; includeSubDomains"), "{}", response.head);
        // What is no file says it, too, and so does what is not written anew.
        write!(stream, "GET /gone HTTP/1.1\r\nHost: {name}\r\n\r\n").unwrap();
        assert!(support::read_response(&mut stream, false).field("Strict-Transport-Security").is_some());
    }
    let port = https.rsplit(':').next().unwrap();
    let plain = |method: &str, target: &str, host: &str| {
        let mut stream = TcpStream::connect(&served.addr).unwrap();
        write!(stream, "{method} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n").unwrap();
        support::read_response(&mut stream, method == "HEAD")
    };
    for (target, location) in [
        ("/name.txt", "/name.txt"),
        ("/", "/"),
        ("/a%20b/../c?d=%0d%0aX:y", "/c?d=%0d%0aX:y"),
        ("/\u{e4}", "/%C3%A4"),
        ("http://a.example/x", "/x"),
    ] {
        for method in ["GET", "HEAD", "PUT", "POST"] {
            let response = plain(method, target, "a.example:8080");
            assert_eq!(response.status, 308, "{method} {target}: {}", response.head);
            let expected = format!("https://a.example:{port}{location}");
            assert_eq!(response.field("Location"), Some(&expected[..]), "{target}");
            assert_eq!(response.field("Strict-Transport-Security"), None, "not where nothing is secured");
        }
    }
    assert_eq!(plain("GET", "/x", "c.example").status, 421);
    assert_eq!(plain("GET", "/../x", "a.example").status, 400);
    assert_eq!(plain("GET", "http://a\"b/x", "a.example").status, 421);
    // A certificate authority asks by HTTP, and is answered; the folder holds nothing else.
    let proof = plain("GET", "/.well-known/acme-challenge/token", "b.example");
    assert_eq!((proof.status, &proof.body[..]), (200, &b"proof"[..]));
    assert_eq!(plain("GET", "/.well-known/acme-challenge/../../secret", "b.example").status, 308);
    assert_eq!(plain("GET", "/.well-known/acme-challenge/", "b.example").status, 404);
    fs::write(dir.path().join("acme/.well-known/acme-challenge/later"), "2").unwrap();
    assert_eq!(plain("GET", "/.well-known/acme-challenge/later", "a.example").body, b"2");
    assert_eq!(served.end(), Some(0));
}
