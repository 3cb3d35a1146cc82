//! A client of HTTPS that waits: a connection for each request, what `instant-acme` asks and is told.

use std::future::Future;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::http::chunked::{ChunkedEnd, Fed};

/// Longest response.
const MAX_BYTES: usize = 1 << 20;

/// Most answers in between (1xx) before a response.
const MAX_INTERIM: usize = 16;

/// How long the authority may be silent, and about how long a response may take from when the request is
/// written.
const PATIENCE: Duration = Duration::from_secs(30);

/// What connections are made with.
#[derive(Clone, Debug)]
pub(super) struct WaitingClient {
    config: Arc<ClientConfig>,
}

impl WaitingClient {
    /// Believes who the system believes, and the certificates in `root`.
    ///
    /// # Errors
    /// If there are none, or `root` cannot be read.
    pub(super) fn new(root: Option<&Path>) -> io::Result<WaitingClient> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = root {
            for certificate in CertificateDer::pem_file_iter(path).map_err(io::Error::other)? {
                roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
            }
        }
        if roots.is_empty() {
            return Err(io::Error::other("the system has no certificates of authorities (ca-certificates)"));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        let config = builder.with_root_certificates(roots).with_no_client_auth();
        Ok(WaitingClient { config: Arc::new(config) })
    }

    /// The response to one request, which is followed nowhere.
    ///
    /// # Errors
    /// Whatever the way there says, or if it is no response.
    pub(super) fn ask(&self, request: &Request<Vec<u8>>) -> io::Result<Response<Full<Bytes>>> {
        let uri = request.uri();
        if uri.scheme_str() != Some("https") {
            return Err(io::Error::other(format!("{uri}: an authority is asked by https:// alone")));
        }
        let authority = uri.authority().ok_or(io::ErrorKind::InvalidInput)?;
        let host = authority.host();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(bare.to_owned()).map_err(io::Error::other)?;
        let port = authority.port_u16().unwrap_or(443);
        let socket = connect(bare, port)?;
        let connection = ClientConnection::new(Arc::clone(&self.config), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, socket);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut text =
            format!("{} {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n", request.method());
        for (field, value) in request.headers() {
            let value = value.to_str().map_err(io::Error::other)?;
            text += &format!("{field}: {value}\r\n");
        }
        if !request.body().is_empty() {
            text += &format!("Content-Length: {}\r\n", request.body().len());
        }
        text += "\r\n";
        stream.write_all(&[text.as_bytes(), request.body()].concat())?;
        stream.flush()?;
        let is_head = request.method() == http::Method::HEAD;
        read_response(&mut stream, is_head)
    }
}

fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for addr in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&addr, PATIENCE / 3) {
            Ok(socket) => {
                socket.set_read_timeout(Some(PATIENCE))?;
                socket.set_write_timeout(Some(PATIENCE))?;
                return Ok(socket);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Reads a response to its end, which its framing says, or else the connection's.
fn read_response(stream: &mut impl Read, is_head: bool) -> io::Result<Response<Full<Bytes>>> {
    let until = Instant::now() + PATIENCE;
    let bad = |what: &'static str| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut all = Vec::new();
    let mut buffer = vec![0; 16 * 1024];
    let mut is_over = false;
    loop {
        if let Some(response) = parse(&all, is_head, is_over)? {
            return Ok(response);
        }
        if is_over {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if all.len() > MAX_BYTES {
            return Err(bad("a response of more than a megabyte"));
        }
        if Instant::now() > until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match stream.read(&mut buffer) {
            Ok(0) => is_over = true,
            Ok(len) => all.extend_from_slice(&buffer[..len]),
            // Without `close_notify`: whether all has come is seen by the framing.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => is_over = true,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The response, if all of it is there.
fn parse(all: &[u8], is_head: bool, is_over: bool) -> io::Result<Option<Response<Full<Bytes>>>> {
    let mut rest = all;
    for _ in 0..=MAX_INTERIM {
        match parse_one(rest, is_head, is_over)? {
            Parsed::Interim(len) => rest = &rest[len..],
            Parsed::Partial => return Ok(None),
            Parsed::Whole(response) => return Ok(Some(response)),
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "an answer in between without an end"))
}

/// What bytes begin with.
enum Parsed {
    /// A part of a response.
    Partial,
    /// An answer in between, of that many bytes.
    Interim(usize),
    Whole(Response<Full<Bytes>>),
}

fn parse_one(all: &[u8], is_head: bool, is_over: bool) -> io::Result<Parsed> {
    let bad = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut fields);
    let at = match head.parse(all).map_err(|error| bad(format!("no response of HTTP: {error}")))? {
        httparse::Status::Complete(at) => at,
        httparse::Status::Partial => return Ok(Parsed::Partial),
    };
    let code = head.code.unwrap_or_default();
    if (100..200).contains(&code) {
        return Ok(Parsed::Interim(at));
    }
    let mut response = Response::builder().status(code);
    let (mut length, mut is_chunked) = (None, false);
    for field in head.headers.iter() {
        let text = std::str::from_utf8(field.value).unwrap_or_default();
        if field.name.eq_ignore_ascii_case("content-length") {
            length = Some(text.parse::<usize>().map_err(|_| bad("no Content-Length".to_owned()))?);
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            is_chunked = true;
        }
        response = response.header(field.name, field.value);
    }
    let rest = &all[at..];
    let content = if is_head || matches!(code, 204 | 304) {
        Vec::new()
    } else if is_chunked {
        let mut content = Vec::new();
        match ChunkedEnd::new(MAX_BYTES as u64).feed_to(rest, |part| content.extend_from_slice(part)) {
            Fed::End(_) => content,
            Fed::More => return Ok(Parsed::Partial),
            Fed::Bad => return Err(bad("a chunk that is none".to_owned())),
        }
    } else {
        match length {
            Some(length) if rest.len() < length => return Ok(Parsed::Partial),
            Some(length) => rest[..length].to_vec(),
            None if !is_over => return Ok(Parsed::Partial),
            None => rest.to_vec(),
        }
    };
    let whole = response.body(Full::new(Bytes::from(content)));
    whole.map(Parsed::Whole).map_err(|error| bad(error.to_string()))
}

impl HttpClient for WaitingClient {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let Ok(body) = body.collect().await;
            let request = Request::from_parts(parts, body.to_bytes().to_vec());
            let response = client.ask(&request).map_err(|error| Error::Other(Box::new(error)))?;
            Ok(BytesResponse::from(response))
        })
    }
}

/// What `future` comes to, which waits for nothing but this client, and so never has to be asked twice.
pub(super) fn wait_for<T>(future: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(Error::Other("something was waited for that nobody wakes".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(said: &[u8], is_head: bool) -> io::Result<(u16, Vec<u8>)> {
        // A byte at a time: what is not whole yet is never taken for it.
        let mut at = 0;
        let mut slow = std::iter::from_fn(|| {
            at += 1;
            said.get(at - 1).copied()
        });
        struct Slow<'a>(&'a mut dyn Iterator<Item = u8>);
        impl Read for Slow<'_> {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                let Some(byte) = self.0.next() else { return Ok(0) };
                buf[0] = byte;
                Ok(1)
            }
        }
        let response = read_response(&mut Slow(&mut slow), is_head)?;
        let status = response.status().as_u16();
        let body = wait_for(async { response.into_body().collect().await.map_err(|error| match error {}) });
        Ok((status, body.map_err(io::Error::other)?.to_bytes().to_vec()))
    }

    #[test]
    fn responses_end_where_they_say() {
        let of = |said: &[u8]| content(said, false).map_err(|error| error.kind());
        assert_eq!(of(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc"), Ok((200, b"ab".to_vec())));
        assert_eq!(
            of(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 OK\r\nContent-Length: 0\r\n\r\n"),
            Ok((201, vec![]))
        );
        assert_eq!(of(b"HTTP/1.1 200 OK\r\n\r\nto the end"), Ok((200, b"to the end".to_vec())));
        let chunks = b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        assert_eq!(of(chunks), Ok((400, b"abc".to_vec())));
        assert_eq!(of(&chunks[..chunks.len() - 4]), Err(io::ErrorKind::UnexpectedEof));
        assert_eq!(of(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), Err(io::ErrorKind::UnexpectedEof));
        assert_eq!(of(b"SSH-2.0\r\n\r\n"), Err(io::ErrorKind::InvalidData));
        assert_eq!(of(b""), Err(io::ErrorKind::UnexpectedEof));
        assert_eq!(content(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", true).unwrap(), (200, vec![]));
        let some = [&b"HTTP/1.1 103 Early\r\n\r\n".repeat(16)[..], b"HTTP/1.1 204 OK\r\n\r\n"].concat();
        assert_eq!(of(&some), Ok((204, vec![])));
        // As many as fit.
        let hints = b"HTTP/1.1 103 E\r\n\r\n".repeat(MAX_BYTES / 18);
        let read = read_response(&mut &hints[..], false);
        assert_eq!(read.map(drop).map_err(|error| error.kind()), Err(io::ErrorKind::InvalidData));
        let endless = [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &vec![b'x'; MAX_BYTES + 1]].concat();
        assert!(read_response(&mut &endless[..], false).is_err());
    }

    #[test]
    fn only_https_is_spoken() {
        let client = WaitingClient::new(None);
        let Ok(client) = client else { return eprintln!("skipped: no ca-certificates here") };
        let request = Request::builder().uri("http://127.0.0.1/").body(Vec::new()).unwrap();
        assert!(client.ask(&request).unwrap_err().to_string().contains("https://"));
    }
}
