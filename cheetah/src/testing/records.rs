//! TLS from a peer whose records are damaged on the way, or never were any.

use std::io::Write as _;
use std::sync::{Arc, OnceLock};

use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::tls::{Acceptor, Session, Workspace};

/// Both sides' configuration, made once.
fn ends() -> Option<&'static (Arc<Acceptor>, Arc<ClientConfig>)> {
    static ENDS: OnceLock<Option<(Arc<Acceptor>, Arc<ClientConfig>)>> = OnceLock::new();
    ENDS.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).ok()?;
        let acceptor = Acceptor::of_pem(&made.cert.pem(), &made.signing_key.serialize_pem()).ok()?;
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).ok()?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
        let config = builder.with_root_certificates(roots).with_no_client_auth();
        Some((Arc::new(acceptor), Arc::new(config)))
    })
    .as_ref()
}

/// What the server's end has to say.
fn answer(session: &mut Session) -> Vec<u8> {
    let (from, end) = (session.acknowledged_end(), session.end_of_stream());
    let mut bytes = Vec::new();
    session.for_each_piece(from, (end - from) as usize, |piece| {
        bytes.extend_from_slice(piece.bytes);
        true
    });
    session.acknowledged(end);
    bytes
}

fn said_by(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() && client.write_tls(&mut bytes).is_ok() {}
    bytes
}

/// What is opened of a damaged stream is the beginning of what was sent; a stranger's bytes are nothing.
pub fn fuzz_records(bytes: &[u8]) {
    let Some((acceptor, config)) = ends() else { panic!("a configuration of TLS cannot be made") };
    let mut tools = Workspace::new(Arc::clone(acceptor));
    let (head, decisions) = bytes.split_at(bytes.len().min(3));
    let piece = usize::from(head.first().copied().unwrap_or(0)) * 5 + 1;
    let mut opened = Vec::new();
    let mut session = tools.new_session();
    if head.get(1).is_some_and(|kind| kind % 4 == 0) {
        // What never was TLS, or begins as it does.
        let begin: &[u8] = if head[1] % 8 == 0 { &[22, 3, 1] } else { &[] };
        for part in [begin, decisions].concat().chunks(piece) {
            session.receive(&mut tools, part, &mut opened);
            answer(&mut session);
        }
        assert!(opened.is_empty(), "something came of nothing");
        return;
    }
    let name = "localhost".try_into().ok();
    let client = name.and_then(|name| ClientConnection::new(Arc::clone(config), name).ok());
    let Some(mut client) = client else { panic!("a client of TLS cannot be made") };
    for _ in 0..4 {
        session.receive(&mut tools, &said_by(&mut client), &mut opened);
        let mut said = &answer(&mut session)[..];
        while !said.is_empty() && client.read_tls(&mut said).is_ok() {
            assert!(client.process_new_packets().is_ok(), "a client that does all right is refused");
        }
    }
    assert!(!client.is_handshaking() && opened.is_empty());
    // A record for each length, then damage.
    let mut sent = Vec::new();
    let mut sealed = Vec::new();
    for &len in decisions.iter().take(12) {
        let from = sent.len();
        sent.extend((0..usize::from(len) * 20).map(|at| (at + from) as u8));
        let _ = client.writer().write_all(&sent[from..]);
        if len % 7 == 3 {
            let _ = client.refresh_traffic_keys();
        }
        sealed.extend(said_by(&mut client));
    }
    let whole = sealed.clone();
    for change in decisions.get(12..).unwrap_or_default().chunks_exact(4).take(4) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % sealed.len().max(1);
        match change[2] % 4 {
            0 if !sealed.is_empty() => sealed[at] ^= change[3],
            1 => sealed.truncate(at),
            2 => drop(sealed.drain(at..sealed.len().min(at + usize::from(change[3])))),
            _ => {
                let again = sealed[at..sealed.len().min(at + usize::from(change[3]))].to_vec();
                sealed.splice(at..at, again);
            }
        }
    }
    for part in sealed.chunks(piece) {
        session.receive(&mut tools, part, &mut opened);
        answer(&mut session);
    }
    assert!(sent.starts_with(&opened), "what was opened was never sent");
    let is_damaged = sealed != whole;
    assert!(is_damaged || opened == sent, "what is not damaged is not all there");
}
