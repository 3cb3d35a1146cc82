//! One certificate from an authority: account, order, proofs, and what it has signed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error,
    Identifier, NewAccount, NewOrder, Order, OrderStatus,
};

use super::client::{WaitingClient, wait_for};
use super::renewal::AcmeError;
use super::state::StateFolder;
use super::{AcmeOptions, Proof, state};
use crate::clock::unix_now;
use crate::store::Proofs;
use crate::tls::Acceptor;

/// How long the authority may take to look at proofs, and to sign.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long between two questions.
const PAUSE: Duration = Duration::from_millis(500);

/// Who is told so does not ask again at once (RFC 8555 section 6.7).
const RATE_LIMITED: &str = "urn:ietf:params:acme:error:rateLimited";

/// A chain and its key, in PEM.
pub(super) struct Signed {
    pub(super) chain: String,
    pub(super) key: String,
}

/// Where proofs are shown.
#[derive(Clone, Copy)]
pub(super) struct Shown<'a> {
    pub(super) proofs: &'a Proofs,
    pub(super) acceptor: &'a Acceptor,
}

/// The account in the folder, or a new one, which is kept there before it is used.
fn account(
    options: &AcmeOptions,
    client: &WaitingClient,
    folder: &StateFolder,
) -> Result<Account, AcmeError> {
    let builder = || Account::builder_with_http(Box::new(client.clone()));
    if let Some(bytes) = folder.account()? {
        let kept: serde_json::Value = serde_json::from_slice(&bytes).map_err(Error::from)?;
        // Of another authority it is nothing.
        if kept.get("directory").and_then(|url| url.as_str()) == Some(options.directory.as_str()) {
            let credentials: AccountCredentials = serde_json::from_value(kept).map_err(Error::from)?;
            return Ok(wait_for(builder().from_credentials(credentials))?);
        }
    }
    let contact: Vec<&str> = options.contact.iter().map(String::as_str).collect();
    let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let (account, credentials) = wait_for(builder().create(&new, options.directory.clone(), None))?;
    folder.write_account(&serde_json::to_vec(&credentials).map_err(Error::from)?)?;
    Ok(account)
}

/// Gets a certificate for the names of `options`, in the place of `replaces` if the authority wants to know
/// that; ends early when `stop` is set.
pub(super) fn obtain(
    options: &AcmeOptions,
    client: &WaitingClient,
    folder: &StateFolder,
    replaces: Option<CertificateIdentifier<'static>>,
    shown: Shown<'_>,
    stop: &AtomicBool,
) -> Result<Signed, AcmeError> {
    let account = account(options, client, folder)?;
    let names: Vec<Identifier> = options.names.iter().cloned().map(Identifier::Dns).collect();
    let new = || NewOrder::new(&names);
    let mut order = match replaces {
        // It may be that it was replaced before: then it is an order as any (RFC 9773 section 5).
        Some(id) => match wait_for(account.new_order(&new().replaces(id))) {
            Err(Error::Api(problem)) if problem.r#type.as_deref() != Some(RATE_LIMITED) => {
                tracing::debug!("the authority does not know what is to be replaced: {problem}");
                wait_for(account.new_order(&new()))
            }
            other => other,
        }?,
        None => wait_for(account.new_order(&new()))?,
    };
    let got = prove(&mut order, options.proof, shown, stop).and_then(|()| sign(&mut order, options, stop));
    shown.proofs.clear();
    shown.acceptor.clear_proofs();
    got
}

/// Shows what the authority wants to see, and waits until it has seen it.
fn prove(order: &mut Order, by: Proof, shown: Shown<'_>, stop: &AtomicBool) -> Result<(), AcmeError> {
    let (kind, name) = match by {
        Proof::Http => (ChallengeType::Http01, "http-01"),
        Proof::TlsAlpn => (ChallengeType::TlsAlpn01, "tls-alpn-01"),
    };
    let mut authorizations = order.authorizations();
    while let Some(authorization) = wait_for(async { Ok(authorizations.next().await) })? {
        let mut authorization = authorization?;
        match authorization.status {
            AuthorizationStatus::Pending => {}
            AuthorizationStatus::Valid => continue,
            other => return Err(AcmeError::Refused(format!("the authority says {other:?} of a name"))),
        }
        let Some(mut challenge) = authorization.challenge(kind.clone()) else {
            return Err(AcmeError::Refused(format!("the authority does not take proofs by {name}")));
        };
        let proof = challenge.key_authorization();
        match by {
            Proof::Http => shown.proofs.show(&challenge.token, proof.as_str(), unix_now()),
            Proof::TlsAlpn => {
                let Identifier::Dns(host) = challenge.identifier().identifier else {
                    return Err(AcmeError::Refused("the authority asks for what is no name".to_owned()));
                };
                let digest = proof.digest();
                let digest =
                    digest.as_ref().first_chunk().ok_or_else(|| AcmeError::Refused(name.to_owned()))?;
                let said = shown.acceptor.show_proof(host, digest);
                said.map_err(|why| AcmeError::Refused(why.to_string()))?;
            }
        }
        wait_for(challenge.set_ready())?;
    }
    let status = poll(order, stop, |status| matches!(status, OrderStatus::Pending))?;
    match status {
        OrderStatus::Ready => Ok(()),
        other => Err(AcmeError::Refused(format!("{}; the order is {other:?}", failures(order)))),
    }
}

/// Asks for the signature, with a key of its own, and waits for it.
fn sign(order: &mut Order, options: &AcmeOptions, stop: &AtomicBool) -> Result<Signed, AcmeError> {
    let made = |error: rcgen::Error| AcmeError::Refused(error.to_string());
    let key = rcgen::KeyPair::generate().map_err(made)?;
    let mut wanted = rcgen::CertificateParams::new(options.names.clone()).map_err(made)?;
    wanted.distinguished_name = rcgen::DistinguishedName::new();
    let request = wanted.serialize_request(&key).map_err(made)?;
    wait_for(order.finalize_csr(request.der()))?;
    poll(order, stop, |status| matches!(status, OrderStatus::Processing | OrderStatus::Ready))?;
    let chain = wait_for(order.certificate())?;
    let chain = chain.ok_or_else(|| AcmeError::Refused("the authority has signed nothing".to_owned()))?;
    check(&chain, options)?;
    Ok(Signed { chain, key: key.serialize_pem() })
}

/// Asks what has become of the order until it is no more what `waits` says.
fn poll(
    order: &mut Order,
    stop: &AtomicBool,
    waits: impl Fn(OrderStatus) -> bool,
) -> Result<OrderStatus, AcmeError> {
    let until = Instant::now() + PATIENCE;
    loop {
        let status = wait_for(async { Ok(order.refresh().await?.status) })?;
        if !waits(status) {
            return Ok(status);
        }
        if stop.load(Ordering::Relaxed) {
            return Err(AcmeError::Stopped);
        }
        if Instant::now() > until {
            return Err(AcmeError::Refused("the authority takes too long".to_owned()));
        }
        thread::sleep(PAUSE);
    }
}

/// What the authority says is wrong with proofs.
fn failures(order: &mut Order) -> String {
    let mut said = Vec::new();
    let mut authorizations = order.authorizations();
    while let Ok(Some(Ok(mut authorization))) = wait_for(async { Ok(authorizations.next().await) }) {
        let Ok(()) = wait_for(async { authorization.refresh().await.map(drop) }) else { continue };
        let errors = authorization.challenges.iter().filter_map(|challenge| challenge.error.as_ref());
        said.extend(errors.map(|error| error.to_string()));
    }
    if said.is_empty() { "the authority does not say what is wrong".to_owned() } else { said.join("; ") }
}

/// Whether what was signed is what was asked for: it is shown to everybody.
fn check(chain: &str, options: &AcmeOptions) -> Result<(), AcmeError> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    let first = CertificateDer::pem_slice_iter(chain.as_bytes()).flatten().next();
    let life = first.and_then(|first| state::life(&first));
    let has_all = life
        .is_some_and(|life| options.names.iter().all(|name| life.names.contains(&name.to_ascii_lowercase())));
    if has_all {
        Ok(())
    } else {
        Err(AcmeError::Refused("what was signed is not for these names".to_owned()))
    }
}
