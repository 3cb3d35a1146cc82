//! HTTPS: a certificate for the server, and a client that takes it.
//!
//! TLS 1.3 with AES-128-GCM. Connections after the first go on by its tickets, as a browser's do.

use std::fs;
use std::io::{self, BufRead as _, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CipherSuite, ClientConfig, ClientConnection, RootCertStore};

/// The name that the certificate is for.
const NAME: &str = "bench";

/// Where certificate and key are.
pub(super) struct Files {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

impl Files {
    /// Of a folder.
    pub(super) fn of(folder: &Path) -> Files {
        Files { cert: folder.join("cert.pem"), key: folder.join("key.pem") }
    }

    /// Writes a new pair.
    pub(super) fn make(&self) -> anyhow::Result<()> {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).context("a certificate")?;
        fs::write(&self.cert, made.cert.pem())?;
        Ok(fs::write(&self.key, made.signing_key.serialize_pem())?)
    }
}

/// What connections are made from.
#[derive(Clone)]
pub(super) struct Dialler(Arc<ClientConfig>);

impl Dialler {
    pub(super) fn new(files: &Files) -> anyhow::Result<Dialler> {
        let mut provider = rustls::crypto::ring::default_provider();
        provider.cipher_suites.retain(|suite| suite.suite() == CipherSuite::TLS13_AES_128_GCM_SHA256);
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&files.cert).context("the certificate")?)?;
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots);
        let mut config = config.with_no_client_auth();
        config.resumption = Resumption::in_memory_sessions(32);
        Ok(Dialler(Arc::new(config)))
    }

    /// A connection that has not begun.
    pub(super) fn connection(&self) -> anyhow::Result<ClientConnection> {
        Ok(ClientConnection::new(Arc::clone(&self.0), ServerName::try_from(NAME)?)?)
    }
}

/// A socket that does not wait.
struct Wire<'a, S>(&'a S);

impl<S: AsFd> Read for Wire<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(recv(self.0, buffer, RecvFlags::empty())?.0)
    }
}

impl<S: AsFd> Write for Wire<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match send(self.0, bytes, SendFlags::NOSIGNAL) {
            // Not connected yet.
            Err(Errno::NOTCONN) => Err(io::ErrorKind::WouldBlock.into()),
            sent => Ok(sent?),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What came of looking at a connection.
pub(super) enum Came {
    /// So many bytes of answers.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// The other end has closed.
    End,
}

/// Sends what there is to send; whether all of it went.
pub(super) fn send_all<S: AsFd>(connection: &mut ClientConnection, socket: &S) -> io::Result<bool> {
    while connection.wants_write() {
        match connection.write_tls(&mut Wire(socket)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Takes what is there, opens it, and throws it away.
pub(super) fn receive<S: AsFd>(connection: &mut ClientConnection, socket: &S) -> io::Result<Came> {
    loop {
        let read = match connection.read_tls(&mut Wire(socket)) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Came::Nothing),
            Err(error) => return Err(error),
        };
        if read == 0 {
            return Ok(Came::End);
        }
        let state = connection.process_new_packets().map_err(io::Error::other)?;
        let mut left = state.plaintext_bytes_to_read();
        let came = left;
        while left > 0 {
            let mut reader = connection.reader();
            let n = reader.fill_buf()?.len();
            reader.consume(n);
            left = left.saturating_sub(n);
        }
        if came > 0 {
            return Ok(Came::Bytes(came));
        }
        // A handshake goes on with an answer of ours.
        if !send_all(connection, socket)? || state.peer_has_closed() {
            return Ok(if state.peer_has_closed() { Came::End } else { Came::Nothing });
        }
    }
}
