//! Sends the same line for ever (RFC 864), on 10.77.0.2, port 19. As root: `chargen chargen0 &`, then `nc
//! 10.77.0.2 19`.

use netstack::buffered::{Buffered, Handler};
use netstack::connections::Connections;
use netstack::driver;
use netstack::send_buffer::SendBuffer;

const LINE: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789\r\n";

struct Chargen;

impl Handler for Chargen {
    fn receive(&mut self, _: &mut SendBuffer, _: &[u8]) {}

    fn room(&mut self, out: &mut SendBuffer) {
        while !out.is_finished() && out.len() < 128 << 10 {
            out.push(LINE);
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let tap = std::env::args().nth(1).ok_or("usage: chargen TAP")?;
    let app = Connections::new(|_| Some(Buffered::new(Chargen)));
    let mut driver = driver::on_tap(&tap, [10, 77, 0, 1].into(), [10, 77, 0, 2].into(), 24, app)?;
    driver.stack_mut().listen(19)?;
    match driver.run()? {}
}
