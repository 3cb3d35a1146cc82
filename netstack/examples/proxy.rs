//! Passes connections to 10.77.0.2, port 80, on to a server that the kernel reaches, and its answers back:
//! our own TCP on one side, the kernel's on the other. As root: `proxy proxy0 127.0.0.1:8080 &`, then `curl
//! http://10.77.0.2/`.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream as KernelStream};
use std::thread;

use netstack::sockets::{Network, TcpStream};

/// Copies until the end, and passes that on; where a side breaks, the other is to know.
fn pass(mut from: impl Read, mut to: impl Write, end: impl FnOnce(bool)) {
    end(io::copy(&mut from, &mut to).is_ok());
}

fn serve(client: TcpStream, server: SocketAddr) {
    let Ok(server) = KernelStream::connect(server) else { return client.abort() };
    thread::scope(|scope| {
        scope.spawn(|| {
            pass(&client, &server, |whole| {
                let _ = server.shutdown(if whole { Shutdown::Write } else { Shutdown::Both });
            });
        });
        pass(&server, &client, |whole| {
            if !whole {
                return client.abort();
            }
            let _ = client.shutdown(Shutdown::Write);
        });
    });
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [tap, server] = &arguments[..] else { return Err("usage: proxy TAP ADDR:PORT".into()) };
    let server: SocketAddr = server.parse()?;
    let network = Network::on_tap(tap, [10, 77, 0, 1].into(), [10, 77, 0, 2].into(), 24)?;
    let listener = network.listen_on(80)?;
    for client in listener.incoming() {
        // A client for whom no thread can be had is dropped, and the others are served on.
        let _ = thread::Builder::new().spawn(move || serve(client, server));
    }
    network.finish(std::time::Duration::ZERO)?;
    Ok(())
}
