//! Clients that do what `rustls`'s would not.

use std::io;

use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

use super::super::certificates::KeyFiles;
use super::super::record::{Alert, ContentType, Keys, MAX_CONTENT, Version};
use super::*;

/// A server's end of a connection.
struct Server {
    tools: Workspace,
    session: Session,
    opened: Vec<u8>,
}

impl Server {
    fn hear(&mut self, bytes: &[u8]) {
        assert_eq!(self.session.receive(&mut self.tools, bytes, &mut self.opened), bytes.len());
    }

    /// What it has sent since it was last asked.
    fn sent(&mut self) -> Vec<u8> {
        let (from, end) = (self.session.acknowledged_end(), self.session.end_of_stream());
        let mut bytes = Vec::new();
        self.session.for_each_piece(from, (end - from) as usize, |piece| {
            bytes.extend_from_slice(piece.bytes);
            true
        });
        self.session.acknowledged(end);
        bytes
    }
}

/// A server, and a client of `rustls`'s whose handshake is done but for what it says last.
fn pair() -> (Server, ClientConnection) {
    let (mut server, mut client) = strangers();
    server.hear(&said_by(&mut client));
    hear(&mut client, &server.sent());
    (server, client)
}

/// A server, and a client that has said nothing.
fn strangers() -> (Server, ClientConnection) {
    strangers_with(&rustls::version::TLS13)
}

/// The same with this version.
fn strangers_with(version: &'static SupportedProtocolVersion) -> (Server, ClientConnection) {
    let folder = tempfile::tempdir().unwrap();
    let files =
        KeyFiles { cert: folder.path().join("cert.pem"), key: folder.path().join("key.pem"), ocsp: None };
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(&files.cert, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]);
    let mut config = builder.unwrap().with_root_certificates(roots).with_no_client_auth();
    config.enable_secret_extraction = true;
    let client = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let tools = Workspace::new(Arc::new(Acceptor::new(vec![files]).unwrap()));
    let session = tools.new_session();
    (Server { tools, session, opened: Vec::new() }, client)
}

fn said_by(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

fn hear(client: &mut ClientConnection, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).unwrap();
        client.process_new_packets().unwrap();
    }
}

/// In whatever pieces what the client says comes, with what lies behind its handshake at once or later:
/// `rustls` would answer a `KeyUpdate` by one that whoever takes its secrets over never sees.
#[test]
fn what_comes_right_behind_the_handshake() {
    for (piece, updates) in [(usize::MAX, 0), (usize::MAX, 1), (usize::MAX, 20), (1, 3), (100, 3)] {
        let (mut server, mut client) = pair();
        let mut bytes = said_by(&mut client);
        for _ in 0..updates {
            client.refresh_traffic_keys().unwrap();
            bytes.extend(said_by(&mut client));
        }
        io::Write::write_all(&mut client.writer(), b"question").unwrap();
        bytes.extend(said_by(&mut client));
        bytes.chunks(piece.min(bytes.len())).for_each(|piece| server.hear(piece));
        assert!(matches!(server.session.state, State::Ours(_)));
        assert_eq!(server.opened, b"question");
        server.session.seal(&mut server.tools, &[b"answer"], 6, None);
        hear(&mut client, &server.sent());
        let mut answer = [0; 6];
        io::Read::read_exact(&mut client.reader(), &mut answer).unwrap();
        assert_eq!(answer, *b"answer");
    }
}

/// A greeting in many records, which come in any pieces, and between which lies what does not belong there.
#[test]
fn a_greeting_in_parts() {
    let strange: [&[u8]; 6] = [
        b"",
        &[23, 3, 3, 0, 0],
        &[23, 3, 3, 0, 1, b'x'],
        &[21, 3, 3, 0, 2, 1, 90],
        &[22, 3, 3, 0, 0],
        &[20, 3, 3, 0, 1, 1],
    ];
    for (part, piece) in [(1, 1), (2, 5), (2, 7), (7, 12), (7, 1), (100, 105), (100, 30), (2, 999), (999, 3)]
    {
        for (number, strange) in strange.iter().enumerate() {
            for at in 0..4 {
                let (mut server, mut client) = strangers();
                let hello = said_by(&mut client);
                let mut bytes = Vec::new();
                for (index, part) in hello[5..].chunks(part).enumerate() {
                    if index == at {
                        bytes.extend_from_slice(strange);
                    }
                    bytes.extend([22, 3, 1]);
                    bytes.extend((part.len() as u16).to_be_bytes());
                    bytes.extend_from_slice(part);
                }
                bytes.chunks(piece).for_each(|piece| server.hear(piece));
                let answer = server.sent();
                if number > 0 {
                    // `rustls` says which of them it bears.
                    continue;
                }
                hear(&mut client, &answer);
                server.hear(&said_by(&mut client));
                assert!(!server.session.is_handshaking() && !server.session.is_over(), "{part} {piece}");
            }
        }
    }
}

/// What belongs elsewhere between two parts of a message ends the handshake with an alert in clear, at
/// whatever point nothing is sealed yet.
#[test]
fn between_the_parts_of_a_message() {
    let versions = [(&rustls::version::TLS13, 1), (&rustls::version::TLS12, 1), (&rustls::version::TLS12, 2)];
    for (version, flights) in versions {
        let (mut server, mut client) = strangers_with(version);
        for _ in 1..flights {
            server.hear(&said_by(&mut client));
            hear(&mut client, &server.sent());
        }
        let message = said_by(&mut client);
        let part = [&[22, 3, 3, 0, 1], &message[5..6]].concat();
        server.hear(&part);
        assert!(!server.session.is_over());
        server.hear(&[20, 3, 3, 0, 1, 1]);
        assert!(server.session.is_over(), "{version:?}, {flights}");
        assert_eq!(server.sent(), [21, 3, 3, 0, 2, 2, Alert::UNEXPECTED_MESSAGE.0], "{version:?}, {flights}");
    }
}

/// A server, and the keys of its client: what that sends, and what it gets.
fn keys() -> (Server, Keys, Keys) {
    let (mut server, mut client) = pair();
    server.hear(&said_by(&mut client));
    hear(&mut client, &server.sent());
    let secrets = client.dangerous_extract_secrets().unwrap();
    let keys = |(first, secrets)| Keys::new(Version::Tls13, first, &secrets, true).unwrap();
    (server, keys(secrets.tx), keys(secrets.rx))
}

/// A record of these bytes, content, type and padding.
fn record(keys: &mut Keys, inner: &[u8]) -> Vec<u8> {
    let Some((last, before)) = inner.split_last() else { panic!("a record has a type") };
    let mut record = vec![0; inner.len() + 64];
    let len = keys.seal(ContentType(*last), &[before], before.len(), &mut record).unwrap();
    record.truncate(len);
    record
}

/// What records end a connection, and with what alert (RFC 8446 sections 4.6.3, 5.1, 5.2 and 5.4).
#[test]
fn records_that_are_none() {
    let padded = |content: &[u8], kind: u8, padding: usize| [content, &[kind], &vec![0; padding]].concat();
    let update = |request: u8| [24, 0, 0, 1, request, 22].to_vec();
    let long = vec![b'x'; MAX_CONTENT - 8];
    type Case = (&'static str, Vec<Vec<u8>>, Option<Alert>);
    let cases: [Case; 24] = [
        ("data", vec![padded(b"x", 23, 0)], None),
        ("nothing, padded", vec![padded(b"", 23, 100)], None),
        ("as long as it may be", vec![padded(&long, 23, 8)], None),
        ("longer", vec![padded(&long, 23, 9)], Some(Alert::RECORD_OVERFLOW)),
        ("no type", vec![vec![0]], Some(Alert::UNEXPECTED_MESSAGE)),
        ("no type, padded", vec![vec![0; 100]], Some(Alert::UNEXPECTED_MESSAGE)),
        ("another type", vec![padded(b"x", 24, 0)], Some(Alert::UNEXPECTED_MESSAGE)),
        ("ChangeCipherSpec, sealed", vec![padded(&[1], 20, 0)], Some(Alert::UNEXPECTED_MESSAGE)),
        ("an alert of nothing", vec![padded(b"", 21, 3)], Some(Alert::UNEXPECTED_MESSAGE)),
        ("half an alert", vec![padded(&[2], 21, 0)], Some(Alert::DECODE_ERROR)),
        ("an alert and a half", vec![padded(&[1, 90, 1], 21, 0)], Some(Alert::DECODE_ERROR)),
        ("user_canceled", vec![padded(&[1, 90], 21, 0)], None),
        ("a handshake message of nothing", vec![padded(b"", 22, 0)], Some(Alert::UNEXPECTED_MESSAGE)),
        ("another handshake message", vec![padded(&[1, 0, 0, 1, 0], 22, 0)], Some(Alert::UNEXPECTED_MESSAGE)),
        ("KeyUpdate", vec![update(1)], None),
        ("KeyUpdate that asks for none", vec![update(0)], None),
        ("KeyUpdate, 2", vec![update(2)], Some(Alert::ILLEGAL_PARAMETER)),
        ("KeyUpdate, 255", vec![update(255)], Some(Alert::ILLEGAL_PARAMETER)),
        ("KeyUpdate of nothing", vec![padded(&[24, 0, 0, 0], 22, 0)], Some(Alert::DECODE_ERROR)),
        ("KeyUpdate of two", vec![padded(&[24, 0, 0, 2, 0, 0], 22, 0)], Some(Alert::DECODE_ERROR)),
        (
            "KeyUpdate, more behind it",
            vec![padded(&[24, 0, 0, 1, 0, 24], 22, 0)],
            Some(Alert::UNEXPECTED_MESSAGE),
        ),
        (
            "KeyUpdate in parts",
            vec![padded(&[24], 22, 1), padded(&[0, 0], 22, 0), padded(&[1], 22, 2), padded(&[1], 22, 0)],
            None,
        ),
        (
            "a part, then data",
            vec![padded(&[24, 0], 22, 0), padded(b"x", 23, 0)],
            Some(Alert::UNEXPECTED_MESSAGE),
        ),
        (
            "a part, then an alert",
            vec![padded(&[24], 22, 0), padded(&[1, 0], 21, 0)],
            Some(Alert::UNEXPECTED_MESSAGE),
        ),
    ];
    for (what, records, alert) in cases {
        let (mut server, mut ours, mut theirs) = keys();
        for inner in &records {
            server.hear(&record(&mut ours, inner));
        }
        assert_eq!(server.session.is_over(), alert.is_some(), "{what}");
        let Some(alert) = alert else {
            continue;
        };
        let (sent, mut plain) = (server.sent(), Vec::new());
        assert_eq!(theirs.open(&sent, &mut plain), Ok(ContentType::ALERT), "{what}");
        assert_eq!(plain, [2, alert.0], "{what}");
    }
    // Not sealed at all.
    for plain in [&[20, 3, 3, 0, 1, 1][..], &[21, 3, 3, 0, 2, 1, 0], &[22, 3, 3, 0, 1, 1], &[23, 3, 3, 0, 0]]
    {
        let (mut server, _, mut theirs) = keys();
        server.hear(plain);
        let (sent, mut content) = (server.sent(), Vec::new());
        assert_eq!(theirs.open(&sent, &mut content), Ok(ContentType::ALERT));
        let expected = if plain[0] == 23 { Alert::BAD_RECORD_MAC } else { Alert::UNEXPECTED_MESSAGE };
        assert_eq!(content, [2, expected.0], "{plain:?}");
    }
}
