//! How an authority looks at a proof by TLS-ALPN-01 (RFC 8737 section 3).

use std::net::TcpStream;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// What is agreed on.
const PROTOCOL: &[u8] = b"acme-tls/1";

/// What is at `port` for who asks for `name` and speaks the protocol of proofs alone: the certificate, and
/// whether it agreed on that and ended then.
pub fn shown(port: u16, name: &str) -> Option<(CertificateDer<'static>, bool)> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let mut config = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut socket = TcpStream::connect(("127.0.0.1", port)).ok()?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket).ok()?;
    }
    let certificate = connection.peer_certificates()?[0].clone().into_owned();
    let is_agreed = connection.alpn_protocol() == Some(PROTOCOL);
    // It says goodbye of itself, and nothing else.
    let mut stream = rustls::Stream::new(&mut connection, &mut socket);
    let is_over = matches!(std::io::Read::read(&mut stream, &mut [0]), Ok(0));
    Some((certificate, is_agreed && is_over))
}

/// Whether `certificate` is for `name` alone, and says `digest`.
pub fn says(certificate: &[u8], name: &str, digest: &[u8]) -> bool {
    let (_, parsed) = X509Certificate::from_der(certificate).unwrap();
    let names = parsed.subject_alternative_name().unwrap().unwrap();
    let proof = parsed.extensions().iter().find(|other| other.oid.to_id_string() == "1.3.6.1.5.5.7.1.31");
    let said = [&[4, 32], digest].concat();
    names.value.general_names == [GeneralName::DNSName(name)]
        && proof.is_some_and(|proof| proof.critical && proof.value == said)
}

/// Takes any certificate, as authorities do here.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // Its parser takes no certificate with a critical extension that it does not know.
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
