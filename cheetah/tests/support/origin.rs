//! An HTTP server that says what a test has written down, byte for byte, and remembers what it was asked.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What it does when a path is asked for the nth time; the last one also for all times after it.
#[derive(Clone, Debug)]
pub enum Say {
    /// Head without its empty line, and content; its length is said.
    Sized(String, Vec<u8>),
    /// These bytes as they are, then it waits for the next request.
    Raw(Vec<u8>),
    /// These bytes, then it closes.
    Last(Vec<u8>),
    /// These bytes, and when they have been read it breaks the connection off.
    Reset(Vec<u8>),
    /// Nothing, for so long; then it closes.
    Silence(Duration),
    /// Each of these after such a pause.
    Slowly(Vec<Vec<u8>>, Duration),
}

/// An origin.
pub struct Origin {
    pub addr: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    scripts: HashMap<String, Vec<Say>>,
    /// Heads and contents of requests, by path.
    asked: HashMap<String, Vec<(String, Vec<u8>)>>,
    connections: usize,
}

impl Origin {
    pub fn start() -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                state.lock().unwrap().connections += 1;
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        Origin { addr, state }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub fn script(&self, path: &str, says: Vec<Say>) {
        self.state.lock().unwrap().scripts.insert(path.to_owned(), says);
    }

    /// Heads that came for a path.
    pub fn heads(&self, path: &str) -> Vec<String> {
        let state = self.state.lock().unwrap();
        state.asked.get(path).into_iter().flatten().map(|(head, _)| head.clone()).collect()
    }

    /// Contents that came for a path.
    pub fn contents(&self, path: &str) -> Vec<Vec<u8>> {
        let state = self.state.lock().unwrap();
        state.asked.get(path).into_iter().flatten().map(|(_, content)| content.clone()).collect()
    }

    pub fn asked(&self, path: &str) -> usize {
        self.heads(path).len()
    }

    pub fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let mut content = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        if reader.read_exact(&mut content).is_err() {
            return;
        }
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let is_head = head.starts_with("HEAD");
        let say = {
            let mut state = state.lock().unwrap();
            let asked = state.asked.entry(path.clone()).or_default();
            asked.push((head, content));
            let number = asked.len() - 1;
            let script = state.scripts.get(&path);
            script.and_then(|says| says.get(number).or(says.last()).cloned())
        };
        let written = match say {
            None => stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
            Some(Say::Sized(head, content)) => {
                let head = format!("{head}\r\nContent-Length: {}\r\n\r\n", content.len());
                let content = if is_head { &[][..] } else { &content };
                stream.write_all(&[head.as_bytes(), content].concat())
            }
            Some(Say::Raw(bytes)) => stream.write_all(&bytes),
            Some(Say::Last(bytes)) => {
                let _ = stream.write_all(&bytes);
                return;
            }
            Some(Say::Reset(bytes)) => {
                let _ = stream.write_all(&bytes);
                std::thread::sleep(Duration::from_millis(300));
                let _ = rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
                return;
            }
            Some(Say::Silence(time)) => {
                std::thread::sleep(time);
                return;
            }
            Some(Say::Slowly(parts, pause)) => parts.iter().try_for_each(|part| {
                std::thread::sleep(pause);
                stream.write_all(part)
            }),
        };
        if written.is_err() {
            return;
        }
    }
}
