//! Gets a file by HTTP into one of ours, from 10.77.0.2: `get get0 10.77.0.1:8000 /big.iso big.iso`, as root,
//! where somebody serves it at 10.77.0.1, the kernel's end of the TAP device `get0`. What comes short is an
//! error.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use netstack::sockets::Network;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [tap, server, path, to] = &arguments[..] else {
        return Err("usage: get TAP ADDR:PORT PATH FILE".into());
    };
    let server: SocketAddr = server.parse()?;
    let network = Network::on_tap(tap, [10, 77, 0, 1].into(), [10, 77, 0, 2].into(), 24)?;
    let mut stream = network.connect_timeout(server, Duration::from_secs(20))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    // HTTP/1.0, in which nothing comes in chunks, and the end of the connection is that of the file.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {server}\r\n\r\n")?;
    let mut answer = BufReader::new(stream);
    let (mut line, mut len) = (String::new(), None);
    answer.by_ref().take(1 << 10).read_line(&mut line)?;
    if !line.starts_with("HTTP/1.1 200 ") && !line.starts_with("HTTP/1.0 200 ") {
        return Err(format!("{server} says: {line}").into());
    }
    while line != "\r\n" {
        line.clear();
        answer.by_ref().take(16 << 10).read_line(&mut line)?;
        match line.split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                len = Some(value.trim().parse::<u64>()?);
            }
            Some((name, _)) if name.eq_ignore_ascii_case("transfer-encoding") => {
                return Err(
                    format!("{server} sends the file in a coding that it was not asked for: {line}").into()
                );
            }
            None if line != "\r\n" => return Err("its head breaks off".into()),
            _ => {}
        }
    }
    let got = io::copy(&mut answer, &mut File::create(to)?)?;
    if len.is_some_and(|len| len != got) {
        return Err(format!("{got} bytes came of {}", len.unwrap_or(0)).into());
    }
    drop(answer);
    network.finish(Duration::from_secs(5))?;
    println!("{got} bytes");
    Ok(())
}
