//! A request costs no allocation once its connection has warmed up, and neither does a recycled connection.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use cheetah::conn::Conn;
use cheetah::service::{Options, Service};
use runtime::payload::PayloadSource;
use runtime::time::Instant;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is handed on to the system's allocator as it is; counting touches a thread-local number
// only, which needs no allocation and has no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise is the same as ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the same as ours.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise is the same as ours.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const REQUESTS: [&[u8]; 7] = [
    b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: x\r\nAccept: */*\r\n\r\n",
    b"GET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HEAD /big.bin HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /big.bin HTTP/1.1\r\nHost: a\r\nRange: bytes=10-9999\r\n\r\n",
    b"GET /a%20b//c%26d.txt HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /hello.txt HTTP/1.1\r\nHost: a\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n",
    b"GET /hello.txt HTTP/1.1\r\nHost: a\r\n\r\nGET /docs/ HTTP/1.1\r\nHost: a\r\n\r\nGET /big.bin HTTP/1.0\r\n\
      Connection: keep-alive\r\n\r\n",
];

/// Has every request answered and taken, piece by piece as a transport does.
fn serve_all(conn: &mut Conn, service: &mut Service) -> usize {
    let mut taken = 0;
    for request in REQUESTS {
        assert_eq!(conn.on_bytes(service, request), request.len());
        while conn.end() > conn.acknowledged_end() {
            let from = conn.acknowledged_end();
            let mut len = 0;
            conn.for_each_piece(from, 1 << 20, |piece| {
                len += piece.bytes.len();
                true
            });
            conn.acknowledged(from + len as u64);
            conn.resume(service);
            taken += len;
        }
    }
    taken
}

#[test]
fn requests_allocate_nothing() {
    let mut service = Service::new(support::site(), Options::default());
    service.set_time(Instant::from_millis(1), 1_700_000_000);
    let mut conn = Conn::new(&mut service, None);
    let warm = serve_all(&mut conn, &mut service);
    let before = ALLOCATIONS.get();
    for round in 0..100 {
        if round % 10 == 9 {
            conn.retire(&mut service);
            conn.reset(&mut service, None);
        }
        assert_eq!(serve_all(&mut conn, &mut service), warm);
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
    // The counter counts: the first head of another second makes the buffers that all of that second share.
    service.set_time(Instant::from_millis(1001), 1_700_000_001);
    assert!(ALLOCATIONS.get() > before);
}
