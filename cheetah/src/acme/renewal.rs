//! The thread that looks after the certificate.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use instant_acme::CertificateIdentifier;

use super::AcmeOptions;
use super::client::WaitingClient;
use super::information::{self, Advice, LATEST, USUAL};
use super::order::{self, Shown, Signed};
use super::schedule;
use super::state::{Life, StateFolder};
use crate::clock::unix_now;
use crate::store::Proofs;
use crate::tls::Acceptor;

/// The clock is looked at so often: it may be set, and the machine may sleep.
const LOOK: Duration = Duration::from_secs(3600);

/// Why there is no certificate.
#[derive(Debug)]
pub enum AcmeError {
    /// What the authority, or the way to it, says.
    Protocol(Box<instant_acme::Error>),
    /// The authority does not give one.
    Refused(String),
    /// The folder cannot be read or written.
    Folder(io::Error),
    /// The server ends.
    Stopped,
}

impl fmt::Display for AcmeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AcmeError::Protocol(error) => error.fmt(f),
            AcmeError::Refused(why) => f.write_str(why),
            AcmeError::Folder(error) => error.fmt(f),
            AcmeError::Stopped => f.write_str("the server ends"),
        }
    }
}

impl core::error::Error for AcmeError {}

impl From<instant_acme::Error> for AcmeError {
    fn from(error: instant_acme::Error) -> AcmeError {
        AcmeError::Protocol(Box::new(error))
    }
}

impl From<io::Error> for AcmeError {
    fn from(error: io::Error) -> AcmeError {
        AcmeError::Folder(error)
    }
}

/// The thread, for who ends it.
#[derive(Debug)]
pub struct Renewer {
    stop: Arc<AtomicBool>,
    wake: Sender<()>,
    thread: JoinHandle<()>,
}

impl Renewer {
    /// Has the certificate of `folder` renewed whenever that is due, shown by `acceptor`, and what proves
    /// that the names are ours by `proofs`.
    ///
    /// # Errors
    /// If nobody's certificates are believed, or the system has no more threads.
    pub fn start(
        options: AcmeOptions,
        folder: StateFolder,
        proofs: Arc<Proofs>,
        acceptor: Arc<Acceptor>,
    ) -> io::Result<Renewer> {
        let client = WaitingClient::new(options.root.as_deref())?;
        let (wake, woken) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let run = move || {
            let names = options.names.join(", ");
            let mut failures = 0;
            let mut got = Got::default();
            loop {
                got.ask(&options, &client, &folder);
                let rest = look(&options, &folder, &got);
                let wait = match rest.filter(|_| got.unwritten.is_none()) {
                    Some(wait) => {
                        failures = 0;
                        wait
                    }
                    None => {
                        let renewed =
                            renew(&options, &client, &folder, (&proofs, &acceptor), &told, &mut got);
                        // An authority that would have each renewed at once is asked as one that fails.
                        let after = renewed.map(|()| {
                            got.ask(&options, &client, &folder);
                            look(&options, &folder, &got)
                        });
                        let why = match after {
                            Ok(Some(_)) => continue,
                            Ok(None) => "the new one is to be renewed already (see the clock, or the authority wants it)".to_owned(),
                            Err(AcmeError::Stopped) => return,
                            Err(error) => error.to_string(),
                        };
                        failures += 1;
                        let wait = schedule::wait(failures, fastrand::f64());
                        let seconds = wait.as_secs();
                        tracing::error!("no certificate for {names}: {why}; again in {seconds} seconds");
                        wait
                    }
                };
                match woken.recv_timeout(wait) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        let thread = thread::Builder::new().name("acme".to_owned()).spawn(run)?;
        Ok(Renewer { stop, wake, thread })
    }

    /// Ends the thread; what it is about is begun anew at the next start.
    pub fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.wake.send(());
        // It may wait for the authority: that is not worth waiting for.
        if self.thread.is_finished() {
            let _ = self.thread.join();
        }
    }
}

fn now() -> i64 {
    i64::try_from(unix_now()).unwrap_or(i64::MAX)
}

/// What was got since the start.
#[derive(Default)]
struct Got {
    /// Signed, but not in the folder yet.
    unwritten: Option<Signed>,
    /// The names that the authority has put into the last one: it may add some to those that it is asked for.
    names: Option<Vec<String>>,
    /// What the authority has said of when to renew, and of which certificate.
    advice: Option<(CertificateIdentifier<'static>, Advice)>,
}

impl Got {
    /// Asks the authority when to renew what is in the folder, if that is to be asked.
    fn ask(&mut self, options: &AcmeOptions, client: &WaitingClient, folder: &StateFolder) {
        let life = folder.life().filter(|life| !life.is_placeholder);
        let Some(id) = life.and_then(|life| life.id) else { return self.advice = None };
        let before = self.advice.take().filter(|(of, _)| *of == id).map(|(_, advice)| advice);
        // So far off it is only when the clock has been set back since.
        let is_known = |advice: &Advice| (1..=LATEST).contains(&advice.again.saturating_sub(now()));
        let advice = before.filter(is_known).unwrap_or_else(|| {
            let chance = chance_of(options, &id.to_string());
            told(information::ask(client, &options.directory, &id, chance, now()), before, now())
        });
        self.advice = Some((id, advice));
    }

    /// Writes what was signed, or keeps it for the next time.
    fn write(&mut self, signed: Signed, folder: &StateFolder) -> io::Result<()> {
        if let Err(error) = folder.write_certificate(&signed.chain, &signed.key) {
            self.unwritten = Some(signed);
            return Err(error);
        }
        self.names = folder.life().map(|life| life.names);
        Ok(())
    }
}

/// What holds after the authority was asked again: if it did not answer (it may be busy with just that), what
/// it has said before.
fn told(asked: io::Result<Advice>, before: Option<Advice>, now: i64) -> Advice {
    asked.unwrap_or_else(|error| {
        tracing::debug!("the authority does not say when to renew: {error}");
        Advice { at: before.and_then(|advice| advice.at), again: now + USUAL }
    })
}

/// How long there is nothing to do; `None` if there is.
fn look(options: &AcmeOptions, folder: &StateFolder, got: &Got) -> Option<Duration> {
    let is_ours = |life: &Life| has_names(life, &options.names) || got.names.as_ref() == Some(&life.names);
    let life = folder.life().filter(|life| !life.is_placeholder && is_ours(life))?;
    let advice = got.advice.as_ref().filter(|(id, _)| life.id.as_ref() == Some(id)).map(|(_, advice)| advice);
    let due = schedule::due(life.from, life.until, chance_of(options, &life.from.to_string()));
    let due = match advice.and_then(|advice| advice.at) {
        // Not so late that there might be none, whatever it says.
        Some(at) => at.min(schedule::last(life.from, life.until)),
        None => due,
    };
    let left = due.saturating_sub(now());
    let again = advice.map_or(i64::MAX, |advice| advice.again.saturating_sub(now()).max(1));
    let wait = u64::try_from(left.min(again)).ok().map(|left| Duration::from_secs(left).min(LOOK));
    wait.filter(|_| left > 0)
}

/// 0 to 1. Each server has its own moment, and keeps it: by its names and its certificate.
fn chance_of(options: &AcmeOptions, certificate: &str) -> f64 {
    let names = fsstack::path::hash(0, options.names.concat().as_bytes());
    fastrand::Rng::with_seed(fsstack::path::hash(names, certificate.as_bytes())).f64()
}

fn has_names(life: &Life, names: &[String]) -> bool {
    let mut wanted: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
    wanted.sort();
    wanted.dedup();
    life.names == wanted
}

fn renew(
    options: &AcmeOptions,
    client: &WaitingClient,
    folder: &StateFolder,
    (proofs, acceptor): (&Proofs, &Acceptor),
    stop: &AtomicBool,
    got: &mut Got,
) -> Result<(), AcmeError> {
    let signed = match got.unwritten.take() {
        Some(signed) => signed,
        None => {
            folder.check_writable()?;
            let replaces = got.advice.as_ref().filter(|(_, advice)| advice.at.is_some());
            let replaces = replaces.map(|(id, _)| id.clone());
            order::obtain(options, client, folder, replaces, Shown { proofs, acceptor }, stop)?
        }
    };
    got.write(signed, folder)?;
    match acceptor.show_again() {
        Ok(()) => tracing::info!("there is a new certificate for {}", options.names.join(", ")),
        // Of another host's files; the new one is there for the next reload.
        Err(error) => tracing::error!("the old certificates stay: {error}"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_answer_has_not_changed_its_mind() {
        let before = Advice { at: Some(500), again: 10 };
        let failed = || Err(io::Error::other("503"));
        assert_eq!(told(failed(), Some(before), 10), Advice { at: Some(500), again: 10 + USUAL });
        assert_eq!(told(failed(), None, 10), Advice { at: None, again: 10 + USUAL });
        let none = Advice { at: None, again: 70 };
        assert_eq!(told(Ok(none), Some(before), 10), none);
    }

    #[test]
    fn what_was_signed_is_not_lost_when_it_cannot_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let folder = StateFolder::open(&dir.path().join("state")).unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["one.test".to_owned()]).unwrap();
        let signed = Signed { chain: made.cert.pem(), key: made.signing_key.serialize_pem() };
        // Nothing can take the place of a folder.
        let file = folder.files().cert;
        std::fs::create_dir(&file).unwrap();
        let mut got = Got::default();
        assert!(got.write(signed, &folder).is_err() && got.names.is_none());
        std::fs::remove_dir(&file).unwrap();
        let signed = got.unwritten.take().unwrap();
        got.write(signed, &folder).unwrap();
        assert_eq!(got.names, Some(vec!["one.test".to_owned()]));
        assert!(got.unwritten.is_none() && file.exists());
    }
}
