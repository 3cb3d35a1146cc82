//! HTTPS: certificates of the test's own, servers that show them, and clients that want to see them.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use cheetah::server::{Config, Server, Tls};
use cheetah::store::Store;
use cheetah::tls::{Acceptor, KeyFiles};
use cheetah::transport::device::{self, DeviceOptions};
use cheetah::transport::stack::StackOptions;
use netstack::stack::Features;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CipherSuite, ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;

use super::servers::{OURS, connect};

/// A client's end.
pub type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A certificate for some names, which signs itself, and where it and its key lie.
pub struct Certificate {
    pub files: KeyFiles,
    pub der: CertificateDer<'static>,
    _folder: TempDir,
}

impl Certificate {
    pub fn new(names: &[&str]) -> Certificate {
        let folder = tempfile::tempdir().unwrap();
        let files =
            KeyFiles { cert: folder.path().join("cert.pem"), key: folder.path().join("key.pem"), ocsp: None };
        let der = write(names, &files);
        Certificate { files, der, _folder: folder }
    }

    /// Another certificate in the same place.
    pub fn renew(&mut self, names: &[&str]) {
        self.der = write(names, &self.files);
    }

    /// An acceptor that shows it.
    pub fn acceptor(&self) -> Acceptor {
        Acceptor::new(vec![self.files.clone()]).unwrap()
    }
}

fn write(names: &[&str], files: &KeyFiles) -> CertificateDer<'static> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    std::fs::write(&files.cert, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

/// A configuration with HTTPS on any port of the kernel's.
pub fn config(acceptor: Acceptor) -> Config {
    let addr = SocketAddr::from(([127, 0, 0, 1], 0));
    Config { tls: Some(Tls { acceptor: Arc::new(acceptor), addr }), ..Config::default() }
}

/// On the kernel's sockets.
pub fn on_kernel(acceptor: Acceptor) -> Server {
    super::servers::on_kernel(super::site(), &config(acceptor))
}

/// By our own TCP/IP. `None`, told, where there is no such device.
pub fn on_device(acceptor: Acceptor, options: &DeviceOptions, features: Features) -> Option<Server> {
    on_device_of(super::site(), acceptor, options, features)
}

/// The same of another site.
pub fn on_device_of(
    site: Arc<dyn Store>,
    acceptor: Acceptor,
    options: &DeviceOptions,
    features: Features,
) -> Option<Server> {
    let device = device::open(options).inspect_err(|error| eprintln!("skipped: {error}")).ok()?.device;
    let stack = StackOptions { features, tls_port: Some(443), ..StackOptions::new((OURS, 24), 80) };
    Some(Server::on_device(site, device, &stack, &config(acceptor)).unwrap())
}

/// A client that speaks one suite, or any, and trusts one certificate.
#[derive(Clone)]
pub struct Client {
    pub config: Arc<ClientConfig>,
}

impl Client {
    pub fn new(trusted: &CertificateDer<'static>, suite: Option<CipherSuite>) -> Client {
        let mut provider = rustls::crypto::ring::default_provider();
        if let Some(suite) = suite {
            provider.cipher_suites.retain(|known| known.suite() == suite);
        }
        let versions: &[_] = match suite.map(|suite| suite.as_str().unwrap().starts_with("TLS13")) {
            None => &[&rustls::version::TLS13, &rustls::version::TLS12],
            Some(true) => &[&rustls::version::TLS13],
            Some(false) => &[&rustls::version::TLS12],
        };
        Client { config: client_config(provider, versions, trusted) }
    }

    /// A client that would have those suites, of TLS 1.3, in that order.
    pub fn with_order(trusted: &CertificateDer<'static>, suites: &[CipherSuite]) -> Client {
        let mut client = Client::new(trusted, None);
        let mut provider = rustls::crypto::ring::default_provider();
        provider.cipher_suites.retain(|known| suites.contains(&known.suite()));
        provider.cipher_suites.sort_by_key(|known| suites.iter().position(|suite| *suite == known.suite()));
        client.config = client_config(provider, &[&rustls::version::TLS13], trusted);
        client
    }

    /// Connects as to the server `localhost`; the handshake comes with the first bytes.
    pub fn connect(&self, server: &Server) -> Stream {
        self.connect_to("localhost", server)
    }

    pub fn connect_to(&self, name: &'static str, server: &Server) -> Stream {
        self.connect_at(name, server.tls_addr().unwrap())
    }

    pub fn connect_at(&self, name: &'static str, addr: SocketAddr) -> Stream {
        let name = ServerName::try_from(name).unwrap();
        let connection = ClientConnection::new(Arc::clone(&self.config), name).unwrap();
        StreamOwned::new(connection, connect(addr))
    }
}

fn client_config(
    provider: rustls::crypto::CryptoProvider,
    versions: &[&'static rustls::SupportedProtocolVersion],
    trusted: &CertificateDer<'static>,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(provider));
    let builder = builder.with_protocol_versions(versions).unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// Whether the server has said that it sends no more: `rustls` takes a bare end for an error.
pub fn ends(stream: &mut Stream) -> bool {
    matches!(stream.read(&mut [0]), Ok(0))
}

/// A path for a file that is to be made.
pub fn path_in(folder: &TempDir, name: &str) -> PathBuf {
    folder.path().join(name)
}
