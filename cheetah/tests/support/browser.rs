//! A page as a browser shows it: headless Chromium, asked by its DevTools protocol over a bare WebSocket (RFC
//! 6455).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

/// An open page; the browser ends when it is dropped.
pub struct Page {
    child: Child,
    stream: TcpStream,
    asked: u64,
    _profile: tempfile::TempDir,
}

impl Page {
    /// Opens `url`. `None`, told, where there is no Chromium.
    pub fn open(url: &str) -> Option<Page> {
        Page::open_with(url, &[])
    }

    /// The same of a browser that was started with these options, too.
    pub fn open_with(url: &str, options: &[&str]) -> Option<Page> {
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new("chromium");
        command.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-port=0",
            "--window-size=1100,1000",
        ]);
        command.args(options);
        command.arg(format!("--user-data-dir={}", profile.path().display())).arg(url);
        let spawned = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.inspect_err(|error| eprintln!("skipped: chromium: {error}")).ok()?;
        let told = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let at = told.into_iter().find_map(|line| Some(line.split_once("ws://")?.1.to_owned()));
        let Some(at) = at else {
            eprintln!("skipped: chromium does not say where it can be asked");
            return None;
        };
        let addr = at.split('/').next().unwrap().to_owned();
        let path = page_path(&addr, url);
        let mut stream = TcpStream::connect(&addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {addr}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        .unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        Some(Page { child, stream, asked: 0, _profile: profile })
    }

    /// What a method of the protocol gives.
    pub fn call(&mut self, method: &str, params: &Value) -> Value {
        self.asked += 1;
        let text = json!({ "id": self.asked, "method": method, "params": params }).to_string();
        // A client's frames are masked, by any key: zeros leave the text as it is.
        let mut frame = vec![0x81, 0x80 | 126];
        frame.extend((text.len() as u16).to_be_bytes());
        frame.extend([0; 4]);
        frame.extend(text.bytes());
        self.stream.write_all(&frame).unwrap();
        loop {
            let answer: Value = serde_json::from_slice(&self.message()).unwrap();
            if answer["id"] == self.asked {
                return answer["result"].clone();
            }
        }
    }

    /// The value of a JavaScript expression.
    pub fn value(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true });
        self.call("Runtime.evaluate", &params)["result"]["value"].clone()
    }

    fn message(&mut self) -> Vec<u8> {
        let mut message = Vec::new();
        loop {
            let mut head = [0; 2];
            self.stream.read_exact(&mut head).unwrap();
            let len = match head[1] {
                126 => u64::from(u16::from_be_bytes(self.bytes())),
                127 => u64::from_be_bytes(self.bytes()),
                len => u64::from(len),
            };
            let from = message.len();
            message.resize(from + len as usize, 0);
            self.stream.read_exact(&mut message[from..]).unwrap();
            if head[0] & 0x80 != 0 {
                return message;
            }
        }
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the page of `url` can be asked.
fn page_path(addr: &str, url: &str) -> String {
    for _ in 0..200 {
        let mut stream = TcpStream::connect(addr).unwrap();
        write!(stream, "GET /json/list HTTP/1.1\r\nHost: {addr}\r\n\r\n").unwrap();
        let mut head = String::new();
        let mut stream = BufReader::new(stream);
        while !head.ends_with("\r\n\r\n") {
            assert!(stream.read_line(&mut head).unwrap() > 0, "{head}");
        }
        // It writes no blank behind the colon.
        let len = head.to_lowercase();
        let len = len.lines().find_map(|line| line.strip_prefix("content-length:")).expect("a length");
        let mut listed = vec![0; len.trim().parse().unwrap()];
        stream.read_exact(&mut listed).unwrap();
        let listed: Value = serde_json::from_slice(&listed).unwrap();
        let page = listed.as_array().unwrap().iter().find(|page| page["url"] == url);
        if let Some(at) = page.and_then(|page| page["webSocketDebuggerUrl"].as_str()) {
            return at.splitn(4, '/').nth(3).map(|path| format!("/{path}")).unwrap();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("chromium does not open {url}");
}
