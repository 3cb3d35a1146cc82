//! What a server's memory holds of a connection's secrets: its keys are there while it lasts, which shows
//! that the search finds them, and when it is over neither they are nor what they were derived from. Looked
//! for in all memory that can be written, stacks and what was given back to the allocator included.

mod support;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::crypto::tls13::OkmBlock;
use rustls::pki_types::ServerName;
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, ConnectionTrafficSecrets, KeyLog, StreamOwned,
    SupportedCipherSuite, Tls13CipherSuite,
};
use support::program::Program;
use support::read_response;
use support::secured::{Certificate, Client};
use support::servers::connect;

/// Secrets by what they are.
type Secrets = Vec<(String, Vec<u8>)>;

/// What the client's side of handshakes says of them: the secrets of TLS 1.3 by their labels, the master
/// secret of TLS 1.2.
#[derive(Debug, Default)]
struct Heard(Mutex<Secrets>);

impl KeyLog for Heard {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        self.0.lock().unwrap().push((label.to_owned(), secret.to_owned()));
    }
}

/// Bytes that are read at once.
const PIECE: usize = 1 << 16;

/// Where in the process's memory there are these bytes: the names of the mappings.
fn found(memory: &File, process: u32, bytes: &[u8]) -> Vec<String> {
    let mut places = Vec::new();
    for line in fs::read_to_string(format!("/proc/{process}/maps")).unwrap().lines() {
        let mut fields = line.split_whitespace();
        let (Some(range), Some(rights)) = (fields.next(), fields.next()) else { continue };
        let Some((from, to)) = range.split_once('-').filter(|_| rights.starts_with("rw")) else { continue };
        let [from, to] = [from, to].map(|text| u64::from_str_radix(text, 16).unwrap());
        let name = fields.nth(3).unwrap_or("anonymous");
        // Mappings may go meanwhile, and have pages that cannot be read: piece by piece.
        let mut before = Vec::new();
        for at in (from..to).step_by(PIECE) {
            let mut piece = vec![0; PIECE.min((to - at) as usize)];
            if memory.read_exact_at(&mut piece, at).is_err() {
                before.clear();
                continue;
            }
            before.extend_from_slice(&piece);
            if memchr::memmem::find(&before, bytes).is_some() {
                places.push(name.to_owned());
                break;
            }
            before.drain(..before.len().saturating_sub(bytes.len() - 1));
        }
    }
    places
}

fn key(secrets: &ConnectionTrafficSecrets) -> Vec<u8> {
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, .. }
        | ConnectionTrafficSecrets::Aes256Gcm { key, .. }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, .. } => key.as_ref().to_vec(),
        _ => panic!("no suite of these was asked for"),
    }
}

/// A client that says what its secrets are.
fn telling(certificate: &Certificate, suite: CipherSuite) -> (Arc<ClientConfig>, Arc<Heard>) {
    let heard = Arc::new(Heard::default());
    let mut config = (*Client::new(&certificate.der, Some(suite)).config).clone();
    config.enable_secret_extraction = true;
    config.key_log = Arc::clone(&heard) as Arc<dyn KeyLog>;
    (Arc::new(config), heard)
}

fn open(config: &Arc<ClientConfig>, addr: &str) -> StreamOwned<ClientConnection, TcpStream> {
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
    StreamOwned::new(connection, connect(addr.parse().unwrap()))
}

fn ask(stream: &mut StreamOwned<ClientConnection, TcpStream>) {
    stream.write_all(b"GET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(read_response(stream, false).body, b"hello, world\n");
}

/// A server of one file by HTTPS, and its memory.
fn server(folder: &Path, certificate: &Certificate) -> Option<(Program, File)> {
    fs::write(folder.join("hello.txt"), "hello, world\n").unwrap();
    let [site, cert, private] =
        [folder, &certificate.files.cert, &certificate.files.key].map(|path| path.to_str().unwrap());
    let program =
        Program::start(&[site, "--tls-cert", cert, "--tls-key", private, "--tls-listen", "127.0.0.1:0"]);
    match File::open(format!("/proc/{}/mem", program.id())) {
        Ok(memory) => Some((program, memory)),
        Err(error) => {
            eprintln!("skipped: a process's memory cannot be read: {error}");
            None
        }
    }
}

/// Waits until none of them is there any more.
fn wait_until_gone(memory: &File, process: u32, secrets: &[(String, Vec<u8>)], after: &str) {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let places = secrets.iter().map(|(what, secret)| (what, found(memory, process, secret)));
        let left: Vec<_> = places.filter(|(_, places)| !places.is_empty()).collect();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "{after}: {left:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A request, and what there is to look for then: keys, and secrets behind them.
fn talk(config: &Arc<ClientConfig>, heard: &Heard, addr: &str) -> (Secrets, Secrets, TcpStream) {
    let mut stream = open(config, addr);
    ask(&mut stream);
    let StreamOwned { conn, sock } = stream;
    let secrets = conn.dangerous_extract_secrets().unwrap();
    let keys = [("key of answers", &secrets.rx.1), ("key of requests", &secrets.tx.1)];
    let keys = keys.map(|(what, secrets)| (what.to_owned(), key(secrets)));
    (keys.into(), std::mem::take(&mut heard.0.lock().unwrap()), sock)
}

#[test]
fn secrets_are_gone_when_a_connection_is() {
    use CipherSuite as Suite;
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::new(&["localhost"]);
    let Some((program, memory)) = server(folder.path(), &certificate) else { return };
    // The last one's records are `rustls`'s.
    for suite in [
        Suite::TLS13_AES_128_GCM_SHA256,
        Suite::TLS13_AES_256_GCM_SHA384,
        Suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        Suite::TLS13_CHACHA20_POLY1305_SHA256,
    ] {
        let (config, heard) = telling(&certificate, suite);
        // The second by a ticket.
        for handshake in ["full", "by a ticket"] {
            let (keys, behind, sock) = talk(&config, &heard, program.https.as_ref().unwrap());
            for (what, key) in &keys {
                let places = found(&memory, program.id(), key);
                assert!(
                    !places.is_empty(),
                    "{suite:?}, {handshake}: {what} was not found while it is in use"
                );
            }
            assert!(!behind.is_empty());
            // The server sees the end, and says good-bye, under the last of its keys.
            sock.shutdown(std::net::Shutdown::Write).unwrap();
            let _ = (&sock).read_to_end(&mut Vec::new());
            drop(sock);
            let secrets = [keys, behind].concat();
            wait_until_gone(&memory, program.id(), &secrets, &format!("{suite:?}, {handshake}"));
            assert_eq!(program.get("/hello.txt").0, 200);
        }
    }
    assert_eq!(program.end(), Some(0));
}

/// What comes of a secret of TLS 1.3 by a label (RFC 8446 7.1, `HKDF-Expand-Label` without a context).
fn derived(suite: &Tls13CipherSuite, secret: &[u8], label: &str, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let label = format!("tls13 {label}");
    let info: [&[u8]; 4] = [&(len as u16).to_be_bytes(), &[label.len() as u8], label.as_bytes(), &[0]];
    let expander = suite.hkdf_provider.expander_for_okm(&OkmBlock::new(secret));
    expander.expand_slice(&info, &mut bytes).unwrap();
    bytes
}

#[test]
fn keys_are_gone_when_others_took_their_place() {
    use CipherSuite as Suite;
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::new(&["localhost"]);
    let Some((program, memory)) = server(folder.path(), &certificate) else { return };
    for suite in [
        Suite::TLS13_AES_128_GCM_SHA256,
        Suite::TLS13_AES_256_GCM_SHA384,
        Suite::TLS13_CHACHA20_POLY1305_SHA256,
    ] {
        let (config, heard) = telling(&certificate, suite);
        let mut stream = open(&config, program.https.as_ref().unwrap());
        ask(&mut stream);
        let SupportedCipherSuite::Tls13(agreed) = stream.conn.negotiated_cipher_suite().unwrap() else {
            panic!("of TLS 1.3 alone")
        };
        let first: Secrets = std::mem::take(&mut *heard.0.lock().unwrap())
            .into_iter()
            .filter(|(label, _)| label.ends_with("_TRAFFIC_SECRET_0"))
            .collect();
        assert_eq!(first.len(), 2, "of both directions");
        let keys = |secrets: &Secrets| -> Secrets {
            let len = agreed.aead_alg.key_len();
            let key = |(label, secret): &(String, Vec<u8>)| {
                (format!("key of {label}"), derived(agreed, secret, "key", len))
            };
            secrets.iter().map(key).collect()
        };
        let in_use = |secrets: &Secrets, when: &str| {
            for (what, key) in keys(secrets) {
                assert!(!found(&memory, program.id(), &key).is_empty(), "{suite:?}: no {what} {when}");
            }
        };
        in_use(&first, "while it is in use");

        // Its own direction anew, and it asks for the other.
        stream.conn.refresh_traffic_keys().unwrap();
        ask(&mut stream);
        ask(&mut stream);
        let after = format!("{suite:?}, after a KeyUpdate");
        wait_until_gone(&memory, program.id(), &[keys(&first), first.clone()].concat(), &after);
        let second: Secrets = first
            .iter()
            .map(|(label, secret)| (label.clone(), derived(agreed, secret, "traffic upd", secret.len())))
            .collect();
        in_use(&second, "after a KeyUpdate");
    }
    assert_eq!(program.end(), Some(0));
}
