//! Certificates that the server gets itself, from the command line.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use cheetah::acme::{AcmeOptions, LETS_ENCRYPT, Proof, Renewer, StateFolder};
use cheetah::store::Proofs;
use cheetah::tls::{Acceptor, KeyFiles};
use rustls::pki_types::ServerName;

use super::Usage;
use super::privileges::Account;
use super::sandbox::Allowed;

/// Most names of one certificate: what authorities sign.
const MAX_NAMES: usize = 100;

/// A certificate from an authority that speaks ACME (docs/tls.md)
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Certificates by ACME")]
pub(super) struct AcmeArguments {
    /// Get a certificate for this name from an authority, renew it in time and show it: the authority asks
    /// for a proof at port 80 or 443 of the name. May be given several times, for one certificate. Who gives
    /// it agrees to the authority's terms of service
    #[arg(long, value_name = "NAME", requires = "acme_state")]
    acme: Vec<String>,
    /// The folder where its key and the account with the authority are kept, for the server alone to read
    #[arg(long, value_name = "DIR", requires = "acme")]
    acme_state: Option<PathBuf>,
    /// The authority's directory: by default that of Let's Encrypt
    #[arg(long, value_name = "URL", requires = "acme")]
    acme_directory: Option<String>,
    /// How the name is proved: http, at port 80 of it (HTTP-01, the default), or tls-alpn, at port 443
    /// (TLS-ALPN-01)
    #[arg(long, value_name = "HOW", requires = "acme", value_enum)]
    acme_proof: Option<ProofKind>,
    /// Whom the authority may write to
    #[arg(long, value_name = "MAIL", requires = "acme")]
    acme_contact: Option<String>,
    /// A certificate in PEM that the authority's own server may have, beside those that the system knows
    #[arg(long, value_name = "FILE", requires = "acme")]
    acme_root: Option<PathBuf>,
}

/// [`Proof`], as it is said.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum ProofKind {
    Http,
    TlsAlpn,
}

impl AcmeArguments {
    /// Whether names are proved where HTTPS is served.
    pub(super) fn proves_by_tls(&self) -> bool {
        matches!(self.acme_proof, Some(ProofKind::TlsAlpn))
    }

    /// Whether there is to be such a certificate.
    pub(super) fn is_given(&self) -> bool {
        !self.acme.is_empty()
    }

    fn state(&self) -> Option<&Path> {
        self.acme_state.as_deref().filter(|_| self.is_given())
    }

    /// Where the certificate is, if there is one by now.
    pub(super) fn files(&self) -> Option<KeyFiles> {
        let files = StateFolder::at(self.state()?).files();
        files.cert.exists().then_some(files)
    }

    /// What the server may open for it.
    pub(super) fn allow(&self, allowed: &mut Allowed) {
        let Some(state) = self.state() else { return };
        allowed.write.push(state.to_owned());
        allowed.read.extend(super::sites::REMOTE.map(PathBuf::from));
        self.acme_root.iter().for_each(|path| allowed.add_read(path));
    }

    /// What is asked of whom, checked.
    pub(super) fn options(&self) -> anyhow::Result<Option<AcmeOptions>> {
        if !self.is_given() {
            return Ok(None);
        }
        if self.acme.len() > MAX_NAMES {
            bail!(Usage(format!("--acme: at most {MAX_NAMES} names in one certificate")));
        }
        for name in &self.acme {
            let is_dns = matches!(ServerName::try_from(name.as_str()), Ok(ServerName::DnsName(_)));
            if !is_dns || !name.contains('.') {
                bail!(Usage(format!(
                    "--acme {name}: give a name as it stands in an address, as in www.example.org; one with a star \
                     cannot be proved by what a server shows"
                )));
            }
        }
        let directory = self.acme_directory.clone().unwrap_or_else(|| LETS_ENCRYPT.to_owned());
        if !directory.starts_with("https://") {
            bail!(Usage(format!("--acme-directory {directory}: give https://...")));
        }
        let contact = self.acme_contact.as_ref().map(|mail| match mail.starts_with("mailto:") {
            true => mail.clone(),
            false => format!("mailto:{mail}"),
        });
        if let Some(path) = &self.acme_root {
            std::fs::metadata(path).with_context(|| format!("--acme-root {}", path.display()))?;
        }
        let names = self.acme.iter().map(|name| name.to_ascii_lowercase()).collect();
        let proof = if self.proves_by_tls() { Proof::TlsAlpn } else { Proof::Http };
        Ok(Some(AcmeOptions { names, directory, contact, proof, root: self.acme_root.clone() }))
    }

    /// Makes the folder, and something to show until there is a certificate, both for `account` if the server
    /// becomes that.
    pub(super) fn make(&self, account: Option<Account>) -> anyhow::Result<()> {
        let (Some(path), Some(options)) = (self.state(), self.options()?) else { return Ok(()) };
        let told = || format!("--acme-state {}", path.display());
        let folder = StateFolder::open(path).with_context(told)?;
        folder.make_placeholder(&options.names).with_context(told)?;
        if let Some(account) = account {
            account.own(path, StateFolder::CERTIFICATE).with_context(told)?;
        }
        Ok(())
    }

    /// Has the certificate looked after, if there is to be one.
    pub(super) fn start(
        &self,
        proofs: Arc<Proofs>,
        acceptor: Option<&Arc<Acceptor>>,
    ) -> anyhow::Result<Option<Renewer>> {
        let (Some(path), Some(options), Some(acceptor)) = (self.state(), self.options()?, acceptor) else {
            return Ok(None);
        };
        let renewer = Renewer::start(options, StateFolder::at(path), proofs, Arc::clone(acceptor));
        Ok(Some(renewer.context("no certificates can be asked for")?))
    }
}
