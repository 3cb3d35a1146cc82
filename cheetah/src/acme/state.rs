//! The folder with the account and the certificate: for the server alone to read, each file replaced whole.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use fsstack::device::AtomicFile;
use instant_acme::CertificateIdentifier;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::information;
use crate::tls::KeyFiles;

const ACCOUNT: &str = "account.json";

/// The folder.
#[derive(Clone, Debug)]
pub struct StateFolder {
    path: PathBuf,
}

/// What has to be known of a certificate to renew it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Life {
    /// Seconds since 1970.
    pub(super) from: i64,
    pub(super) until: i64,
    /// In small letters, sorted.
    pub(super) names: Vec<String>,
    /// What its authority knows it by, if it does.
    pub(super) id: Option<CertificateIdentifier<'static>>,
    /// Nobody but itself says that it is good: it was made to have something to show.
    pub(super) is_placeholder: bool,
}

impl StateFolder {
    /// The file in it that has the certificate and its key.
    pub const CERTIFICATE: &str = "certificate.pem";

    /// The folder at `path`, which was opened before.
    pub fn at(path: &Path) -> StateFolder {
        StateFolder { path: path.to_owned() }
    }

    /// The folder at `path`; it is made if there is none.
    ///
    /// # Errors
    /// If it cannot be made, or others can read it.
    pub fn open(path: &Path) -> io::Result<StateFolder> {
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let meta = fs::metadata(path)?;
        if !meta.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        if meta.permissions().mode() & 0o077 != 0 {
            return Err(io::Error::other("keys are in it, and others can read it: `chmod 700` it"));
        }
        Ok(StateFolder::at(path))
    }

    /// Where the certificate and its key are: in one file, so that they go together.
    pub fn files(&self) -> KeyFiles {
        let both = self.path.join(StateFolder::CERTIFICATE);
        KeyFiles { cert: both.clone(), key: both, ocsp: None }
    }

    /// Makes a certificate that signs itself if there is none, so that HTTPS can begin: it is never due later
    /// than now.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn make_placeholder(&self, names: &[String]) -> io::Result<()> {
        if self.path.join(StateFolder::CERTIFICATE).try_exists()? {
            return Ok(());
        }
        let made = rcgen::generate_simple_self_signed(names).map_err(io::Error::other)?;
        self.write_certificate(&made.cert.pem(), &made.signing_key.serialize_pem())
    }

    pub(super) fn write_certificate(&self, chain: &str, key: &str) -> io::Result<()> {
        self.write(StateFolder::CERTIFICATE, format!("{}\n{key}", chain.trim_end()).as_bytes())
    }

    /// Whether something can be written there: asked before an authority is, which counts what it has signed.
    pub(super) fn check_writable(&self) -> io::Result<()> {
        AtomicFile::create(&self.path.join(StateFolder::CERTIFICATE)).map(drop)
    }

    /// What is known of the account, if there is one.
    pub(super) fn account(&self) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path.join(ACCOUNT)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn write_account(&self, bytes: &[u8]) -> io::Result<()> {
        self.write(ACCOUNT, bytes)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let file = AtomicFile::create(&self.path.join(name))?;
        let mut inner = file.file();
        // Before there is anything in it.
        inner.set_permissions(fs::Permissions::from_mode(0o600))?;
        inner.write_all(bytes)?;
        file.publish()
    }

    /// What is to be known of the certificate; `None` if there is none that can be read.
    pub(super) fn life(&self) -> Option<Life> {
        let chain = CertificateDer::pem_file_iter(self.path.join(StateFolder::CERTIFICATE)).ok()?;
        life(&chain.flatten().next()?)
    }
}

/// The same of a certificate.
pub(super) fn life(certificate: &[u8]) -> Option<Life> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let mut names: Vec<String> = Vec::new();
    if let Ok(Some(extension)) = parsed.subject_alternative_name() {
        names.extend(extension.value.general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        }));
    }
    names.sort();
    names.dedup();
    let validity = parsed.validity();
    Some(Life {
        from: validity.not_before.timestamp(),
        until: validity.not_after.timestamp(),
        names,
        id: information::id(&CertificateDer::from(certificate)),
        is_placeholder: parsed.issuer() == parsed.subject(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_it_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("acme");
        let state = StateFolder::open(&path).unwrap();
        assert_eq!((state.account().unwrap(), state.life()), (None, None));
        state.write_account(b"{}").unwrap();
        state.make_placeholder(&["b.example".to_owned(), "A.example".to_owned()]).unwrap();
        let life = state.life().unwrap();
        assert_eq!(
            (life.names.clone(), life.is_placeholder),
            (vec!["a.example".into(), "b.example".into()], true)
        );
        // One that is there stays.
        state.make_placeholder(&["c.example".to_owned()]).unwrap();
        assert_eq!(state.life(), Some(life));
        for name in [ACCOUNT, StateFolder::CERTIFICATE] {
            let mode = fs::metadata(path.join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(crate::tls::Acceptor::new(vec![state.files()]).is_ok());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(StateFolder::open(&path).unwrap_err().to_string().contains("chmod 700"));
    }

    #[test]
    fn nonsense_is_no_certificate() {
        for bytes in [&b""[..], b"\x30\x82\xff\xff", &[0x30; 100]] {
            assert_eq!(life(bytes), None);
        }
    }
}
