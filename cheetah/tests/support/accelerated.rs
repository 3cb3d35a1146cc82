//! Servers before an origin, and what they are asked.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use cheetah::accelerator::{self, Cache};
use cheetah::programs::{self, Limits, Route, Target};
use cheetah::server::{Config, Server};
use cheetah::upload::Tokens;

use super::origin::{Origin, Say};
use super::servers::{connect, on_kernel};
use super::{Response, read_response};

pub const TOKEN: &str = "0123456789abcdef-token";

pub fn config_with(origin: &Origin, limits: accelerator::Limits) -> Config {
    let target = Target::Origin(programs::Origin::parse(&origin.url()).unwrap());
    let programs = programs::Config {
        routes: vec![Route::new("/", target).unwrap()],
        limits: Limits { timeout: Duration::from_millis(700), ..Limits::default() },
        cache: Some(Arc::new(Cache::new(limits))),
        purgers: Some(Tokens::parse(TOKEN.as_bytes()).unwrap()),
        ..programs::Config::default()
    };
    Config { programs: Arc::new(programs), ..Config::default() }
}

pub fn config(origin: &Origin) -> Config {
    config_with(origin, accelerator::Limits::default())
}

pub fn server(origin: &Origin) -> Server {
    on_kernel(super::site(), &config(origin))
}

pub fn ok(fields: &str, content: &[u8]) -> Say {
    Say::Sized(
        format!("HTTP/1.1 200 OK{}{fields}", if fields.is_empty() { "" } else { "\r\n" }),
        content.to_vec(),
    )
}

pub fn not_modified() -> Say {
    Say::Raw(b"HTTP/1.1 304 Not Modified\r\n\r\n".to_vec())
}

pub fn ask(stream: &mut TcpStream, method: &str, path: &str, fields: &str) -> Response {
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: h\r\n{fields}\r\n").unwrap();
    read_response(stream, method == "HEAD")
}

pub fn get(addr: SocketAddr, path: &str, fields: &str) -> Response {
    ask(&mut connect(addr), "GET", path, fields)
}

pub fn status_of(response: &Response) -> String {
    response.field("Cache-Status").unwrap_or_default().to_owned()
}

pub fn is_hit(response: &Response) -> bool {
    status_of(response).starts_with("cheetah; hit")
}
