//! Says `hello` to whoever connects to 10.77.0.2, port 7, and closes. As root: `hello hello0 &`, then `nc
//! 10.77.0.2 7`.

use netstack::{application::Stream, connections::Connections, driver};
use runtime::payload::{PayloadSource, Piece, Pieces};
use runtime::time::Instant;

struct Hello(&'static [u8]);

impl PayloadSource for Hello {
    fn end(&self) -> u64 {
        self.0.len() as u64
    }
    fn is_finished(&self) -> bool {
        true // so FIN goes with the text
    }
    fn pieces<'a>(&'a self, offset: u64, len: usize, out: &mut Pieces<'a>) -> usize {
        out.push(Piece::new(&self.0[offset as usize..][..len]));
        len
    }
    fn acknowledged(&mut self, _: u64) {} // static: nothing to let go of
}

impl Stream for Hello {
    fn receive(&mut self, _: Instant, bytes: &[u8]) -> usize {
        bytes.len()
    }
    fn window(&self) -> usize {
        65_535
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let tap = std::env::args().nth(1).ok_or("usage: hello TAP")?;
    let app = Connections::new(|_| Some(Hello(b"hello\n")));
    let mut driver = driver::on_tap(&tap, [10, 77, 0, 1].into(), [10, 77, 0, 2].into(), 24, app)?;
    driver.stack_mut().listen(7)?;
    match driver.run()? {}
}
