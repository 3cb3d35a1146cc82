//! Throws away what it receives (RFC 863), on 10.77.0.2, port 9. As root: `discard discard0 &`, then `nc
//! 10.77.0.2 9`.

use netstack::buffered::{Buffered, Handler};
use netstack::connections::Connections;
use netstack::driver;
use netstack::send_buffer::SendBuffer;

struct Discard;

impl Handler for Discard {
    fn receive(&mut self, _: &mut SendBuffer, _: &[u8]) {}
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let tap = std::env::args().nth(1).ok_or("usage: discard TAP")?;
    let app = Connections::new(|_| Some(Buffered::new(Discard)));
    let mut driver = driver::on_tap(&tap, [10, 77, 0, 1].into(), [10, 77, 0, 2].into(), 24, app)?;
    driver.stack_mut().listen(9)?;
    match driver.run()? {}
}
