//! Certificates and keys from files, and what of TLS is the same for all connections of a server.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use pipe_lib::aead::AesGcm;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, crypto};

use super::record::{MAX_RECORDS, RecordSize};

/// What who checks that a name is ours speaks, and nothing else (RFC 8737).
pub(super) const PROOF_PROTOCOL: &[u8] = b"acme-tls/1";

/// Where a certificate chain and its key are, both in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFiles {
    /// The server's certificate, then those that lead to one that clients know.
    pub cert: PathBuf,
    /// The key of the first of them.
    pub key: PathBuf,
    /// What its authority has signed of it last: an OCSP response in DER, shown to clients that ask for it.
    pub ocsp: Option<PathBuf>,
}

/// Whose suite is taken of those that both speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preference {
    /// AES-128-GCM where the client speaks it: safe, and of fewer rounds than AES-256-GCM.
    #[default]
    Aes128,
    /// AES-256-GCM where the client speaks it.
    Aes256,
    /// What the client would have first.
    Client,
}

/// Why no certificate can be shown.
#[derive(Debug)]
pub enum CertificateError {
    /// A file cannot be read, or holds something else.
    File(PathBuf, String),
    /// The key is not that of the certificate, or of a kind that is not spoken.
    Key(Box<KeyFiles>, rustls::Error),
    /// No versions or suites in common with `rustls` itself, or no random bytes.
    Config(rustls::Error),
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CertificateError::File(path, why) => write!(f, "{}: {why}", path.display()),
            CertificateError::Key(files, why) => {
                write!(f, "{} with {}: {why}", files.key.display(), files.cert.display())
            }
            CertificateError::Config(why) => write!(f, "TLS cannot be set up: {why}"),
        }
    }
}

impl core::error::Error for CertificateError {}

/// What every connection's handshake is done with. Shared between threads.
#[derive(Debug)]
pub struct Acceptor {
    pub(super) config: Arc<ServerConfig>,
    certificates: Arc<Certificates>,
    /// How long records are.
    pub record_size: RecordSize,
    /// Encrypt and hash in the pass that takes the bytes from their page; off (`--without fused-loops`), copy, encrypt and
    /// hash in a pass each.
    pub fused: bool,
    /// On our own TCP/IP seal in the pass that makes the frame; off, seal into buffers that are held until
    /// they are acknowledged. Only where `fused`.
    pub into_frames: bool,
    /// So many records are sealed under a key, then it is replaced (RFC 8446 section 5.5 allows 2^24.5).
    pub records_per_key: u64,
    /// Seal with the composed loop; off, as it is where that loop would be interpreted, `rustls` seals.
    pub own_records: bool,
}

impl Acceptor {
    /// With the certificates of `files`: a client that names a server gets the first that is good for the
    /// name, others the first of all.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn new(files: Vec<KeyFiles>) -> Result<Acceptor, CertificateError> {
        Acceptor::with(files, Preference::default())
    }

    /// The same, with a choice of suites.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn with(files: Vec<KeyFiles>, preference: Preference) -> Result<Acceptor, CertificateError> {
        let mut provider = crypto::ring::default_provider();
        if preference == Preference::Aes128 {
            // Otherwise in their order.
            provider.cipher_suites.sort_by_key(|suite| {
                let name = suite.suite().as_str().unwrap_or_default();
                !name.contains("AES_128_GCM")
            });
        }
        let provider = Arc::new(provider);
        let certificates = Arc::new(Certificates::load(&files, Arc::clone(&provider))?);
        Acceptor::of(certificates, preference)
    }

    /// With one certificate that is in memory: a chain and its key, both in PEM.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn of_pem(chain: &str, key: &str) -> Result<Acceptor, CertificateError> {
        let bad = |why: pem::Error| CertificateError::Config(rustls::Error::General(why.to_string()));
        let chain =
            CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>().map_err(bad)?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(bad)?;
        let provider = Arc::new(crypto::ring::default_provider());
        let key = CertifiedKey::from_der(chain, key, &provider).map_err(CertificateError::Config)?;
        let current = RwLock::new((Vec::new(), vec![Arc::new(key)]));
        Acceptor::of(
            Arc::new(Certificates { provider, current, proofs: RwLock::default() }),
            Preference::Client,
        )
    }

    fn of(certificates: Arc<Certificates>, preference: Preference) -> Result<Acceptor, CertificateError> {
        let provider = Arc::clone(&certificates.provider);
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(CertificateError::Config)?;
        let mut config = builder
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&certificates) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = crypto::ring::Ticketer::new().map_err(CertificateError::Config)?;
        // Who comes again brings a ticket, so that no session's secret has to be kept.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ignore_client_order = preference != Preference::Client;
        // So that records can be sealed from where the bytes lie.
        config.enable_secret_extraction = true;
        Ok(Acceptor {
            config: Arc::new(config),
            certificates,
            record_size: RecordSize::default(),
            fused: true,
            into_frames: true,
            records_per_key: MAX_RECORDS,
            own_records: AesGcm::new(&[0; 16]).is_ok_and(|aead| aead.is_compiled()),
        })
    }

    /// Offers HTTP/2 beside HTTP/1.1, or does not.
    pub fn offer_http2(&mut self, offers: bool) {
        let protocols = &mut Arc::make_mut(&mut self.config).alpn_protocols;
        protocols.retain(|name| name != b"h2");
        if offers {
            protocols.insert(0, b"h2".to_vec());
        }
    }

    /// Speaks with who wants to see proofs that names are ours ([`Acceptor::show_proof`]), too.
    pub fn offer_proofs(&mut self) {
        let protocols = &mut Arc::make_mut(&mut self.config).alpn_protocols;
        if !protocols.iter().any(|name| name == PROOF_PROTOCOL) {
            protocols.push(PROOF_PROTOCOL.to_vec());
        }
    }

    /// Shows a certificate that says `digest`, a SHA-256, of `name` to who speaks nothing but the protocol of
    /// proofs and asks for that name (RFC 8737 section 3).
    ///
    /// # Errors
    /// If there can be no such certificate.
    pub fn show_proof(&self, name: &str, digest: &[u8; 32]) -> Result<(), CertificateError> {
        let bad = |why: rcgen::Error| CertificateError::Config(rustls::Error::General(why.to_string()));
        let key = rcgen::KeyPair::generate().map_err(bad)?;
        let mut said = rcgen::CertificateParams::new(vec![name.to_owned()]).map_err(bad)?;
        said.custom_extensions.push(rcgen::CustomExtension::new_acme_identifier(digest));
        let certificate = said.self_signed(&key).map_err(bad)?;
        let key = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|why| CertificateError::Config(rustls::Error::General(why.to_owned())))?;
        let key = self.certificates.provider.key_provider.load_private_key(key);
        // Nobody who looks at certificates as ever takes it: what it says is critical, and of this use alone.
        let certified =
            CertifiedKey::new(vec![certificate.der().clone()], key.map_err(CertificateError::Config)?);
        let mut proofs = self.certificates.proofs.write().unwrap_or_else(PoisonError::into_inner);
        proofs.insert(name.to_ascii_lowercase(), Arc::new(certified));
        Ok(())
    }

    /// Shows no proof any more.
    pub fn clear_proofs(&self) {
        self.certificates.proofs.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Reads these files, the same as before or others. Connections from now on are shown what they hold now;
    /// tickets stay good.
    ///
    /// # Errors
    /// [`CertificateError`]; then what was shown before still is.
    pub fn show(&self, files: &[KeyFiles]) -> Result<(), CertificateError> {
        let fresh = read_all(files, &self.certificates.provider)?;
        let mut current = self.certificates.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = (files.to_vec(), fresh);
        Ok(())
    }

    /// Reads the files again that were read last: somebody has replaced one.
    ///
    /// # Errors
    /// As [`Acceptor::show`].
    pub fn show_again(&self) -> Result<(), CertificateError> {
        let files = self.certificates.current.read().unwrap_or_else(PoisonError::into_inner).0.clone();
        self.show(&files)
    }
}

/// The certificates, as they were when their files were last read.
struct Certificates {
    provider: Arc<crypto::CryptoProvider>,
    /// With the files that they are from.
    current: RwLock<(Vec<KeyFiles>, Vec<Arc<CertifiedKey>>)>,
    /// What is shown to who wants to see a proof for a name, in small letters.
    proofs: RwLock<HashMap<String, Arc<CertifiedKey>>>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").finish_non_exhaustive()
    }
}

impl Certificates {
    fn load(
        files: &[KeyFiles],
        provider: Arc<crypto::CryptoProvider>,
    ) -> Result<Certificates, CertificateError> {
        let current = RwLock::new((files.to_vec(), read_all(files, &provider)?));
        Ok(Certificates { provider, current, proofs: RwLock::default() })
    }
}

fn read_all(
    files: &[KeyFiles],
    provider: &crypto::CryptoProvider,
) -> Result<Vec<Arc<CertifiedKey>>, CertificateError> {
    files.iter().map(|files| read(files, provider).map(Arc::new)).collect()
}

fn read(files: &KeyFiles, provider: &crypto::CryptoProvider) -> Result<CertifiedKey, CertificateError> {
    let unreadable = |path: &PathBuf, why: String| CertificateError::File(path.clone(), why);
    let chain = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|why| unreadable(&files.cert, format!("no certificates can be read: {why}")))?;
    if chain.is_empty() {
        let why = "there is no certificate in it; give a PEM file with `BEGIN CERTIFICATE`";
        return Err(unreadable(&files.cert, why.to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|why| unreadable(&files.key, format!("no private key can be read: {why}")))?;
    let mut certified = CertifiedKey::from_der(chain, key, provider)
        .map_err(|why| CertificateError::Key(Box::new(files.clone()), why))?;
    if let Some(path) = &files.ocsp {
        let response = std::fs::read(path).map_err(|why| unreadable(path, why.to_string()))?;
        if !is_sequence(&response) {
            let why =
                "there is no OCSP response in it; give it in DER, as `openssl ocsp -respout FILE` writes it";
            return Err(unreadable(path, why.to_owned()));
        }
        certified.ocsp = Some(response);
    }
    Ok(certified)
}

/// Whether `bytes` are one SEQUENCE of DER that begins with the status `successful` (RFC 6960 section 4.2.1),
/// as far as their beginning tells: clients look at the rest.
fn is_sequence(bytes: &[u8]) -> bool {
    let Some((0x30, rest)) = bytes.split_first().map(|(&tag, rest)| (tag, rest)) else { return false };
    let (len, content) = match rest {
        [short @ 0..=0x7f, content @ ..] => (usize::from(*short), content),
        [0x81, len, content @ ..] => (usize::from(*len), content),
        [0x82, high, low, content @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), content),
        _ => return false,
    };
    len == content.len() && content.starts_with(&[0x0a, 1, 0])
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if hello.alpn().is_some_and(|mut offered| offered.all(|protocol| protocol == PROOF_PROTOCOL)) {
            // Whoever this is wants to see nothing else.
            let proofs = self.proofs.read().unwrap_or_else(PoisonError::into_inner);
            return hello.server_name().and_then(|name| proofs.get(&name.to_ascii_lowercase())).cloned();
        }
        let (_, current) = &*self.current.read().unwrap_or_else(PoisonError::into_inner);
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let named = name.and_then(|name| current.iter().find(|key| is_for(key, &name)));
        named.or(current.first()).cloned()
    }
}

/// Whether a client that asked for `name` would take the certificate for it.
fn is_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let parsed = key.end_entity_cert().and_then(ParsedCertificate::try_from);
    parsed.is_ok_and(|cert| rustls::client::verify_server_name(&cert, name).is_ok())
}
