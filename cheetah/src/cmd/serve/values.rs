//! Values of options: what they may be, and what to write instead.

use cheetah::http::target;
use cheetah::tls::RecordSize;
use netstack::device::vlan::VlanId;

/// See [`cheetah::tls::Preference`].
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Suite {
    Aes128,
    Aes256,
    Client,
}

/// RFC 9438 or RFC 5681.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Congestion {
    Cubic,
    Reno,
}

/// Whether clients that ask for explicit congestion notification get it.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Ecn {
    On,
    Off,
}

/// Where arrival handlers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum HandlersIn {
    Stack,
    Xdp,
}

/// See [`cheetah::transport::kernel::SocketCalls`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum SocketsBy {
    Epoll,
    IoUring,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum LogFormat {
    Combined,
    Json,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum CountersForm {
    Table,
    Json,
}

/// Whether a path can be found as it is written.
pub(super) fn is_canonical(path: &str) -> bool {
    let mut scratch = Vec::new();
    !path.ends_with('/')
        && target::resolve(path, &mut scratch).is_ok_and(|found| found.path == path.as_bytes())
}

/// More threads than any machine has processors are a mistake.
pub(super) fn workers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=1024) => Ok(number),
        _ => Err("give a number, 1 to 1024; more than there are processors gain nothing".to_owned()),
    }
}

/// Nobody serves with no thread, or no connection.
pub(super) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("give a number, 1 or more".to_owned()),
        Ok(number) => Ok(number),
    }
}

pub(super) fn on_or_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("write on or off".to_owned()),
    }
}

/// The id of a VLAN.
pub(super) fn vlan_id(text: &str) -> Result<VlanId, String> {
    text.parse().ok().and_then(VlanId::new).ok_or_else(|| "write an id of 1 to 4094".to_owned())
}

/// How long records are to be.
pub(super) fn record_size(text: &str) -> Result<RecordSize, String> {
    match text.parse() {
        _ if text == "adaptive" => Ok(RecordSize::Adaptive),
        Ok(len @ 512..=16384) => Ok(RecordSize::Fixed(len)),
        _ => Err("give `adaptive`, or a number of bytes from 512 to 16384".to_owned()),
    }
}

/// What `Strict-Transport-Security` says (RFC 6797 section 6.1).
#[derive(Clone, Debug)]
pub(super) struct Hsts(pub(super) String);

/// How long, and for which names, clients are to ask by HTTPS alone.
pub(super) fn hsts(text: &str) -> Result<Hsts, String> {
    const YEAR: u64 = 31_536_000;
    let wrong = || "give a number of seconds, as in 31536000 or 31536000,subdomains,preload".to_owned();
    let mut parts = text.split(',');
    let seconds: u64 = parts.next().and_then(|seconds| seconds.parse().ok()).ok_or_else(wrong)?;
    let parts: Vec<&str> = parts.collect();
    if parts.iter().any(|part| !["subdomains", "preload"].contains(part)) {
        return Err(wrong());
    }
    let has = |part: &str| parts.contains(&part);
    if has("preload") && !(has("subdomains") && seconds >= YEAR) {
        return Err(format!("browsers' lists take only {YEAR},subdomains,preload or more seconds"));
    }
    let mut value = format!("max-age={seconds}");
    for (part, directive) in [("subdomains", "; includeSubDomains"), ("preload", "; preload")] {
        value += if has(part) { directive } else { "" };
    }
    Ok(Hsts(value))
}
