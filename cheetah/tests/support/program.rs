//! The built program, serving.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

/// `cheetah serve` on a port of the kernel's choice; killed when dropped.
pub struct Program {
    child: Child,
    /// Where it listens: `127.0.0.1:1234`.
    pub addr: String,
    /// The same as `http://127.0.0.1:1234/`.
    pub url: String,
    /// Where it speaks HTTPS, if it was told to: `127.0.0.1:1235`.
    pub https: Option<String>,
}

impl Program {
    /// Serves as `arguments` say.
    pub fn start(arguments: &[&str]) -> Program {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cheetah"));
        Program::start_by(command.arg("serve").stderr(Stdio::null()), arguments)
    }

    /// As `command` with `arguments` behind it does.
    pub fn start_by(command: &mut Command, arguments: &[&str]) -> Program {
        Program::start_with(command, arguments, arguments.contains(&"--tls-cert"))
    }

    /// The same of a server that speaks HTTPS, too, though no argument says so.
    pub fn start_secured(command: &mut Command, arguments: &[&str]) -> Program {
        Program::start_with(command, arguments, true)
    }

    fn start_with(command: &mut Command, arguments: &[&str], secured: bool) -> Program {
        let anywhere = ["--listen", "127.0.0.1:0"];
        let at = if arguments.contains(&"--listen") { &[][..] } else { &anywhere };
        let mut child = command.args(arguments).args(at).stdout(Stdio::piped()).spawn().unwrap();
        let (mut line, mut second) = (String::new(), String::new());
        let mut told = BufReader::new(child.stdout.take().unwrap());
        told.read_line(&mut line).unwrap();
        let https = secured.then(|| {
            told.read_line(&mut second).unwrap();
            let at = second.trim().strip_prefix("listening on https://").expect("the second line");
            at.trim_end_matches('/').to_owned()
        });
        let url = line.trim().strip_prefix("listening on ").expect("the line that says where").to_owned();
        let addr = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        Program { child, addr, url, https }
    }

    /// Its process number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it says on standard error, if that was asked for.
    pub fn take_errors(&mut self) -> Option<BufReader<ChildStderr>> {
        self.child.stderr.take().map(BufReader::new)
    }

    /// Status and body of what is at `path`.
    pub fn get(&self, path: &str) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.addr).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        let head = all.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        (std::str::from_utf8(&all[9..12]).unwrap().parse().unwrap(), all.split_off(head))
    }

    /// Sends it a signal, by name: `-HUP`.
    pub fn signal(&self, name: &str) {
        let done = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
    }

    /// Ends it by SIGTERM; its exit status.
    pub fn end(self) -> Option<i32> {
        self.signal("-TERM");
        self.wait()
    }

    /// Waits until it has ended; its exit status.
    pub fn wait(mut self) -> Option<i32> {
        let patience = Instant::now() + Duration::from_secs(15);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < patience, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
