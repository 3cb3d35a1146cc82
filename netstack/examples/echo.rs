//! Sends back what it receives (RFC 862), on 10.77.0.2, port 7, by TCP and UDP. As root: `echo echo0 &`, then
//! `nc 10.77.0.2 7`, or `nc -u 10.77.0.2 7`.

use netstack::buffered::{Buffered, Handler};
use netstack::connections::Connections;
use netstack::driver;
use netstack::send_buffer::SendBuffer;
use netstack::with_datagrams::WithDatagrams;
use runtime::buffer::{Aggregate, Shared, Slice};

struct Echo;

impl Handler for Echo {
    fn receive(&mut self, out: &mut SendBuffer, bytes: &[u8]) {
        out.push(bytes);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let tap = std::env::args().nth(1).ok_or("usage: echo TAP")?;
    let app =
        WithDatagrams::new(Connections::new(|_| Some(Buffered::new(Echo))), |socket, from, bytes, out| {
            // What finds no room is lost, as datagrams are.
            let _ = out.send(socket, from, Aggregate::from(Slice::from(Shared::from(bytes.to_vec()))));
        });
    let mut driver = driver::on_tap(&tap, [10, 77, 0, 1].into(), [10, 77, 0, 2].into(), 24, app)?;
    driver.stack_mut().listen(7)?;
    driver.stack_mut().bind_udp(Some(7))?;
    match driver.run()? {}
}
