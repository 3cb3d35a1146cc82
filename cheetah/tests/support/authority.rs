//! A certificate authority that speaks as much of ACME (RFC 8555) as a client needs, over HTTPS: it asks for
//! proofs, signs, and does what a test wants it to do wrong.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use rustls::pki_types::CertificateDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::secured::Certificate;

/// What it does wrong.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manners {
    /// So many requests are answered first with `badNonce`.
    pub bad_nonces: usize,
    /// So many orders are refused (`rateLimited`).
    pub refused_orders: usize,
    /// How long certificates are good, in seconds.
    pub life: i64,
    /// It signs other names than were asked for.
    pub other_names: bool,
    /// It says of the first so many certificates that they are to be renewed, and of others not to (RFC
    /// 9773).
    pub recalls: usize,
    /// It wants proofs by TLS-ALPN-01, not by HTTP.
    pub by_tls: bool,
    /// It refuses orders that are to take the place of a certificate (`alreadyReplaced`).
    pub replaced_before: bool,
    /// It adds a name to those that were asked for.
    pub more_names: bool,
}

struct State {
    manners: Manners,
    issuer: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
    base: String,
    nonces: u64,
    accounts: Vec<Value>,
    orders: Vec<Order>,
    refused: usize,
    /// What was asked of when to renew it.
    asked_of: Vec<String>,
    /// Where proofs are asked for, once that is known.
    port: Option<u16>,
}

#[derive(Clone)]
struct Order {
    names: Vec<String>,
    proved: Vec<Option<bool>>,
    /// What it is to take the place of.
    replaces: Value,
    chain: Option<String>,
}

/// The authority, in a thread of its own.
pub struct Authority {
    pub addr: SocketAddr,
    /// What its own server shows.
    pub own: Certificate,
    /// What it signs with.
    pub root: CertificateDer<'static>,
    state: Arc<(Mutex<State>, Condvar)>,
    _folder: TempDir,
}

impl Authority {
    pub fn start(manners: Manners) -> Authority {
        let own = Certificate::new(&["localhost"]);
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "an authority of tests");
        let issuer =
            rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
        let root = issuer.as_ref().der().clone();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let state = State {
            manners,
            issuer,
            base: format!("https://localhost:{}", addr.port()),
            nonces: 0,
            accounts: Vec::new(),
            orders: Vec::new(),
            refused: 0,
            asked_of: Vec::new(),
            port: None,
        };
        let state = Arc::new((Mutex::new(state), Condvar::new()));
        let shared = Arc::clone(&state);
        let config = Arc::new(server_config(&own));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, config) = (Arc::clone(&shared), Arc::clone(&config));
                std::thread::spawn(move || serve(stream, &config, &state));
            }
        });
        Authority { addr, own, root, state, _folder: tempfile::tempdir().unwrap() }
    }

    pub fn directory(&self) -> String {
        format!("https://localhost:{}/directory", self.addr.port())
    }

    /// The certificate of its own server, in a file.
    pub fn own_root(&self) -> PathBuf {
        self.own.files.cert.clone()
    }

    /// Proofs are to be asked for at that port of this machine.
    pub fn asks_at(&self, port: u16) {
        self.state.0.lock().unwrap().port = Some(port);
        self.state.1.notify_all();
    }

    /// Proofs wait until [`Authority::asks_at`] says where they are: the program that had the port has ended.
    pub fn waits_where_to_ask(&self) {
        self.state.0.lock().unwrap().port = None;
    }

    /// Accounts, orders, and certificates so far.
    pub fn counts(&self) -> (usize, usize, usize) {
        let state = self.state.0.lock().unwrap();
        let signed = state.orders.iter().filter(|order| order.chain.is_some()).count();
        (state.accounts.len(), state.orders.len() + state.refused, signed)
    }
}

impl Authority {
    /// What orders are to take the place of, and certificates that it was asked of when to renew.
    pub fn replaced(&self) -> (Vec<Option<String>>, Vec<String>) {
        let state = self.state.0.lock().unwrap();
        let replaces = state.orders.iter().map(|order| order.replaces.as_str().map(str::to_owned));
        (replaces.collect(), state.asked_of.clone())
    }
}

fn server_config(own: &Certificate) -> ServerConfig {
    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::pem::PemObject as _;
    let key = PrivateKeyDer::from_pem_file(&own.files.key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    builder.with_no_client_auth().with_single_cert(vec![own.der.clone()], key).unwrap()
}

fn serve(stream: TcpStream, config: &Arc<ServerConfig>, state: &(Mutex<State>, Condvar)) {
    let connection = ServerConnection::new(Arc::clone(config)).unwrap();
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
    }
    let length = head.to_lowercase().lines().find_map(|line| {
        line.strip_prefix("content-length: ").map(|length| length.parse::<usize>().unwrap())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).unwrap();
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
    let (status, fields, content) = answer(&method, &path, &body, state);
    let nonce = {
        let mut state = state.0.lock().unwrap();
        state.nonces += 1;
        BASE64.encode(format!("nonce {}", state.nonces))
    };
    let text = format!(
        "HTTP/1.1 {status} x\r\nReplay-Nonce: {nonce}\r\n{fields}Content-Length: {}\r\nConnection: close\r\n\r\n",
        content.len()
    );
    let content = if method == "HEAD" { String::new() } else { content };
    let _ = stream.get_mut().write_all(&[text.as_bytes(), content.as_bytes()].concat());
    stream.get_mut().conn.send_close_notify();
    let _ = stream.get_mut().flush();
}

fn problem(kind: &str, detail: &str) -> (u16, String, String) {
    let status = if kind == "rateLimited" { 429 } else { 400 };
    let fields = "Content-Type: application/problem+json\r\n".to_owned();
    (
        status,
        fields,
        json!({ "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail }).to_string(),
    )
}

fn answer(method: &str, path: &str, body: &[u8], shared: &(Mutex<State>, Condvar)) -> (u16, String, String) {
    let mut state = shared.0.lock().unwrap();
    let base = state.base.clone();
    if let Some(id) = path.strip_prefix("/renewal/") {
        assert_eq!(id.split('.').count(), 2, "{id}");
        let signed = state.orders.iter().filter(|order| order.chain.is_some()).count();
        state.asked_of.push(id.to_owned());
        let years = if signed <= state.manners.recalls { [2020, 2021] } else { [2098, 2099] };
        let [start, end] = years.map(|year| format!("{year}-01-01T00:00:00Z"));
        let said = json!({ "suggestedWindow": { "start": start, "end": end } });
        return (200, "Retry-After: 21600\r\n".to_owned(), said.to_string());
    }
    if method != "POST" {
        let mut directory = json!({
            "newNonce": format!("{base}/nonce"),
            "newAccount": format!("{base}/account"),
            "newOrder": format!("{base}/order"),
            "revokeCert": format!("{base}/revoke"),
            "keyChange": format!("{base}/key"),
        });
        if state.manners.recalls > 0 {
            directory["renewalInfo"] = format!("{base}/renewal").into();
        }
        return (200, String::new(), directory.to_string());
    }
    if state.manners.bad_nonces > 0 {
        state.manners.bad_nonces -= 1;
        return problem("badNonce", "not this one");
    }
    let signed: Value = serde_json::from_slice(body).unwrap();
    let part = |name: &str| {
        let bytes = BASE64.decode(signed[name].as_str().unwrap()).unwrap();
        serde_json::from_slice::<Value>(&bytes).unwrap_or(Value::Null)
    };
    let (header, payload) = (part("protected"), part("payload"));
    assert_eq!(header["url"], format!("{base}{path}"));
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let number = |at: usize| parts[at].parse::<usize>().unwrap();
    match parts[0] {
        "account" => {
            assert_eq!(payload["termsOfServiceAgreed"], true);
            state.accounts.push(header["jwk"].clone());
            let location = format!("Location: {base}/accounts/{}\r\n", state.accounts.len() - 1);
            (201, location, json!({ "status": "valid" }).to_string())
        }
        "order" if parts.len() == 1 => {
            if state.refused < state.manners.refused_orders {
                state.refused += 1;
                return problem("rateLimited", "too many of them");
            }
            if state.manners.replaced_before && !payload["replaces"].is_null() {
                state.refused += 1;
                return problem("alreadyReplaced", "by another one");
            }
            // Before anything is shown.
            if state.manners.by_tls {
                state = until_it_is_known_where(state, &shared.1);
            }
            let wanted = payload["identifiers"].as_array().unwrap().iter();
            let names: Vec<String> = wanted.map(|name| name["value"].as_str().unwrap().to_owned()).collect();
            let proved = vec![None; names.len()];
            let replaces = payload["replaces"].clone();
            state.orders.push(Order { names, proved, replaces, chain: None });
            let number = state.orders.len() - 1;
            (201, format!("Location: {base}/order/{number}\r\n"), order(&state, number))
        }
        "order" => (200, String::new(), order(&state, number(1))),
        "authorization" => (200, String::new(), authorization(&state, number(1), number(2))),
        "challenge" => {
            let (of, at) = (number(1), number(2));
            let account =
                header["kid"].as_str().unwrap().rsplit('/').next().unwrap().parse::<usize>().unwrap();
            let wanted = format!("{}.{}", token(of, at), thumbprint(&state.accounts[account]));
            let name = state.orders[of].names[at].clone();
            state = until_it_is_known_where(state, &shared.1);
            let port = state.port.unwrap();
            let by_tls = state.manners.by_tls;
            drop(state);
            let is_proved = if by_tls {
                let digest = Sha256::digest(&wanted);
                super::proof::shown(port, &name).is_some_and(|(certificate, ends)| {
                    ends && super::proof::says(&certificate, &name, &digest)
                })
            } else {
                ask(port, &name, &token(of, at)).as_deref() == Some(&wanted)
            };
            let mut state = shared.0.lock().unwrap();
            state.orders[of].proved[at] = Some(is_proved);
            (200, String::new(), challenge(&state, of, at).to_string())
        }
        "finalize" => {
            let of = number(1);
            let csr = BASE64.decode(payload["csr"].as_str().unwrap()).unwrap();
            let mut wanted = rcgen::CertificateSigningRequestParams::from_der(&csr.into()).unwrap();
            if state.manners.other_names {
                wanted.params.subject_alt_names =
                    vec![rcgen::SanType::DnsName("other.test".try_into().unwrap())];
            }
            if state.manners.more_names {
                let name = rcgen::SanType::DnsName("more.test".try_into().unwrap());
                wanted.params.subject_alt_names.push(name);
            }
            // Begun a second ago, so that nobody's clock is before it.
            let now = time::OffsetDateTime::now_utc();
            wanted.params.not_before = now - time::Duration::seconds(1);
            wanted.params.not_after = now + time::Duration::seconds(state.manners.life);
            wanted.params.use_authority_key_identifier_extension = true;
            let certificate = wanted.signed_by(&state.issuer).unwrap();
            state.orders[of].chain = Some(format!("{}{}", certificate.pem(), state.issuer.as_ref().pem()));
            (200, String::new(), order(&state, of))
        }
        "certificate" => (200, String::new(), state.orders[number(1)].chain.clone().unwrap()),
        other => panic!("{other}"),
    }
}

fn until_it_is_known_where<'a>(state: MutexGuard<'a, State>, changed: &Condvar) -> MutexGuard<'a, State> {
    let patience = Duration::from_secs(20);
    let (state, timeout) = changed.wait_timeout_while(state, patience, |state| state.port.is_none()).unwrap();
    assert!(!timeout.timed_out(), "nobody says where to ask");
    state
}

fn token(order: usize, at: usize) -> String {
    format!("token-{order}_{at}")
}

fn order(state: &State, number: usize) -> String {
    let (base, order) = (&state.base, &state.orders[number]);
    let status = match &order.chain {
        Some(_) => "valid",
        None if order.proved.iter().all(|proved| *proved == Some(true)) => "ready",
        None if order.proved.contains(&Some(false)) => "invalid",
        None => "pending",
    };
    let mut said = json!({
        "status": status,
        "identifiers": order.names.iter().map(|name| json!({ "type": "dns", "value": name })).collect::<Vec<_>>(),
        "authorizations": (0..order.names.len()).map(|at| format!("{base}/authorization/{number}/{at}")).collect::<Vec<_>>(),
        "finalize": format!("{base}/finalize/{number}"),
    });
    if !order.replaces.is_null() {
        said["replaces"] = order.replaces.clone();
    }
    if order.chain.is_some() {
        said["certificate"] = format!("{base}/certificate/{number}").into();
    }
    said.to_string()
}

fn authorization(state: &State, of: usize, at: usize) -> String {
    let order = &state.orders[of];
    let status = match order.proved[at] {
        None => "pending",
        Some(true) => "valid",
        Some(false) => "invalid",
    };
    json!({
        "status": status,
        "identifier": { "type": "dns", "value": order.names[at] },
        "challenges": [challenge(state, of, at)],
    })
    .to_string()
}

fn challenge(state: &State, of: usize, at: usize) -> Value {
    let proved = state.orders[of].proved[at];
    let mut said = json!({
        "type": if state.manners.by_tls { "tls-alpn-01" } else { "http-01" },
        "url": format!("{}/challenge/{of}/{at}", state.base),
        "token": token(of, at),
        "status": match proved {
            None => "pending",
            Some(true) => "valid",
            Some(false) => "invalid",
        },
    });
    if proved == Some(false) {
        said["error"] =
            json!({ "type": "urn:ietf:params:acme:error:unauthorized", "detail": "no proof there" });
    }
    said
}

/// RFC 7638.
fn thumbprint(key: &Value) -> String {
    let text = format!(r#"{{"crv":{},"kty":{},"x":{},"y":{}}}"#, key["crv"], key["kty"], key["x"], key["y"]);
    BASE64.encode(Sha256::digest(text))
}

/// What the server says at the challenge's path, asked as that name.
fn ask(port: u16, name: &str, token: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let line = format!(
        "GET /.well-known/acme-challenge/{token} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(line.as_bytes()).ok()?;
    let mut all = String::new();
    stream.read_to_string(&mut all).ok()?;
    let (head, body) = all.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
}
