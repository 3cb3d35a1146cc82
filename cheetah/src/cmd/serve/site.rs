//! What can be said of a site: of the first one on the command line or at the top of a configuration, of
//! others in tables of theirs.

use std::path::PathBuf;

use anyhow::bail;
use cheetah::access_log::Format;
use cheetah::tls::KeyFiles;

use super::Usage;
use super::changes::Changes;
use super::programs::RouteOptions;
use super::values::LogFormat;
use crate::cmd::source::Source;

/// Options of a site.
#[derive(Debug, clap::Args)]
pub(super) struct SiteOptions {
    #[command(flatten)]
    pub(super) source: Source,
    #[command(flatten)]
    pub(super) changes: Changes,
    /// Answer /about, if there is no such file, with /about.html
    #[arg(long)]
    pub(super) clean_urls: bool,
    /// Answer what is not there with /index.html, but for names with an ending: an application that draws its
    /// pages itself
    #[arg(long)]
    pub(super) single_page: bool,
    /// Answer who would rather have Markdown (Accept: text/markdown) with x.md, if that lies beside x.html
    #[arg(long)]
    pub(super) markdown: bool,
    /// Serve HTTPS with this certificate chain, in PEM; may be given several times, each with its key: a
    /// client gets the first that is good for the name it asks for
    #[arg(long, value_name = "FILE")]
    tls_cert: Vec<PathBuf>,
    /// The key of that certificate, in PEM
    #[arg(long, value_name = "FILE")]
    tls_key: Vec<PathBuf>,
    /// What that certificate's authority says of it, in DER, as `openssl ocsp -respout` writes it, for
    /// clients that ask (OCSP
    /// stapling); given as often as --tls-cert, or not at all. SIGHUP reads it again
    #[arg(long, value_name = "FILE")]
    tls_ocsp: Vec<PathBuf>,
    /// Write requests down in FILE, or on standard output
    #[arg(long, value_name = "FILE|-")]
    access_log: Option<String>,
    /// What a line of the access log looks like
    #[arg(long, value_name = "FORMAT", default_value = "combined", value_enum)]
    log_format: LogFormat,
    #[command(flatten)]
    pub(super) routes: RouteOptions,
}

impl SiteOptions {
    /// The certificates that were given for it.
    pub(super) fn key_files(&self) -> anyhow::Result<Vec<KeyFiles>> {
        let (certs, keys) = (&self.tls_cert, &self.tls_key);
        if certs.len() != keys.len() {
            let (certs, keys) = (certs.len(), keys.len());
            bail!(Usage(format!(
                "--tls-cert is given {certs} times, --tls-key {keys}: give a key with each"
            )));
        }
        let responses = &self.tls_ocsp;
        if !responses.is_empty() && responses.len() != certs.len() {
            let (certs, responses) = (certs.len(), responses.len());
            bail!(Usage(format!(
                "--tls-cert is given {certs} times, --tls-ocsp {responses}: give one with each certificate, or none"
            )));
        }
        let of = |(at, (cert, key)): (usize, (&PathBuf, &PathBuf))| KeyFiles {
            cert: cert.clone(),
            key: key.clone(),
            ocsp: responses.get(at).cloned(),
        };
        Ok(certs.iter().zip(keys).enumerate().map(of).collect())
    }

    /// Where and how its requests are written down.
    pub(super) fn log(&self) -> Option<(String, Format)> {
        let path = self.access_log.clone()?;
        let format = match self.log_format {
            LogFormat::Combined => Format::Combined,
            LogFormat::Json => Format::Json,
        };
        Some((path, format))
    }
}
