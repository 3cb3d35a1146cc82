//! HTTPS of the load generator: `rustls` between an exchange and what carries its bytes.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme};

/// What HTTP/2 is called in a handshake (RFC 9113 section 3.2).
const HTTP2: &[u8] = b"h2";

/// How a server is asked in secret.
#[derive(Clone, Debug)]
pub struct Secrecy {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// Whose certificates are taken.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'a> {
    /// Those that this file, in PEM, vouches for.
    Authorities(&'a Path),
    /// Any: for measurements alone.
    Anybody,
}

impl Secrecy {
    /// For the server `host`; unless it `resumes`, each connection has a whole handshake.
    ///
    /// # Errors
    /// What to give instead.
    pub fn new(host: &str, trust: Trust<'_>, resumes: bool) -> Result<Secrecy, String> {
        let name =
            ServerName::try_from(host.to_owned()).map_err(|_| format!("`{host}` is no name of a server"))?;
        let provider = Arc::new(ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match trust {
            Trust::Anybody => Arc::new(Anybody(Arc::clone(&provider))),
            Trust::Authorities(path) => {
                let wrong = |why: String| format!("{}: {why}", path.display());
                let mut roots = RootCertStore::empty();
                for certificate in
                    CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?
                {
                    let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
                    // Of a system's hundred some may be of a kind that is not known here.
                    let _ = roots.add(certificate);
                }
                let verifier =
                    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
                verifier
                    .build()
                    .map_err(|error| wrong(format!("no certificate of an authority ({error})")))?
            }
        };
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| error.to_string())?;
        let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        if !resumes {
            config.resumption = Resumption::disabled();
        }
        Ok(Secrecy { config: Arc::new(config), name })
    }

    /// The same by HTTP/2, and nothing else.
    #[must_use]
    pub fn over_http2(self) -> Secrecy {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = vec![HTTP2.to_vec()];
        Secrecy { config: Arc::new(config), ..self }
    }

    /// A connection that is to be made.
    ///
    /// # Errors
    /// If there are no random bytes.
    pub(super) fn connect(&self) -> Result<Secure, rustls::Error> {
        let mut connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone())?;
        // What is said before the handshake is done is kept here and nowhere else, so there must be room.
        connection.set_buffer_limit(None);
        let wants_http2 = self.config.alpn_protocols[0] == HTTP2;
        Ok(Secure { connection, wants_http2, held: 0 })
    }
}

/// One connection's TLS.
#[derive(Debug)]
pub(super) struct Secure {
    connection: ClientConnection,
    wants_http2: bool,
    /// What was said and not written yet, in bytes.
    held: usize,
}

impl Secure {
    /// Takes what is to be said, and keeps it until the handshake is done.
    pub(super) fn say(&mut self, plain: &[u8]) {
        // Writing to memory does not fail.
        let _ = self.connection.writer().write_all(plain);
        self.held += plain.len();
    }

    /// Bytes that were said and are not written yet, or a little less: records have a head each.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Writes what there is to `out`, the handshake's part as well.
    ///
    /// # Errors
    /// Those of `out`.
    pub(super) fn flush(&mut self, out: &mut dyn Write) -> io::Result<()> {
        while self.connection.wants_write() {
            match self.connection.write_tls(out) {
                Ok(n) if self.is_up() => self.held = self.held.saturating_sub(n),
                // Of the handshake.
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.is_up() {
            self.held = 0;
        }
        Ok(())
    }

    /// Whether the handshake is done.
    pub(super) fn is_up(&self) -> bool {
        !self.connection.is_handshaking()
    }

    /// Opens what has come; what it held goes to `opened`.
    pub(super) fn open(&mut self, mut sealed: &[u8], opened: &mut Vec<u8>) -> Result<(), rustls::Error> {
        let failed = |error: &io::Error| rustls::Error::General(error.to_string());
        while !sealed.is_empty() {
            if self.connection.read_tls(&mut sealed).map_err(|error| failed(&error))? == 0 {
                // What comes behind a goodbye is nothing (RFC 8446 section 6.1).
                break;
            }
            self.connection.process_new_packets()?;
            if self.wants_http2 && self.is_up() && self.connection.alpn_protocol() != Some(HTTP2) {
                return Err(rustls::Error::General("the server speaks no HTTP/2".to_owned()));
            }
            match self.connection.reader().read_to_end(opened) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(failed(&error)),
            }
        }
        Ok(())
    }
}

/// Takes any certificate; that who shows it has its key is looked at all the same.
struct Anybody(Arc<CryptoProvider>);

impl fmt::Debug for Anybody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Anybody")
    }
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_known() {
        let mut client = Secrecy::new("localhost", Trust::Anybody, false).unwrap().connect().unwrap();
        client.say(&[0; 1000]);
        let mut said = Vec::new();
        client.flush(&mut said).unwrap();
        assert_eq!((client.held(), said.is_empty()), (1000, false), "it waits for the handshake");
    }

    #[test]
    fn what_comes_behind_a_goodbye_is_nothing() {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key =
            rustls::pki_types::PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes());
        let builder = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = builder.with_single_cert(vec![made.cert.der().clone()], key.unwrap()).unwrap();
        let mut server = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        let mut client = Secrecy::new("localhost", Trust::Anybody, false).unwrap().connect().unwrap();
        let mut opened = Vec::new();
        while server.is_handshaking() || client.connection.is_handshaking() {
            let mut said = Vec::new();
            client.flush(&mut said).unwrap();
            let mut said = &said[..];
            while !said.is_empty() {
                server.read_tls(&mut said).unwrap();
                server.process_new_packets().unwrap();
            }
            let mut said = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut said).unwrap();
            }
            client.open(&said, &mut opened).unwrap();
        }
        server.writer().write_all(b"all").unwrap();
        server.send_close_notify();
        let mut said = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut said).unwrap();
        }
        // More than is taken at once.
        said.resize(200_000, 0);
        client.open(&said, &mut opened).unwrap();
        assert_eq!(opened, b"all");
        client.open(b"more", &mut opened).unwrap();
        assert_eq!(opened, b"all");
    }
}
