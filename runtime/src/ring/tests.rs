//! Pairs of sockets and one ring: bytes, ends, full sockets, memory that runs out, numbers that are used
//! again.

use super::*;
use crate::ring::buffers::PIECE_BYTES;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

/// A ring, unless there is none here.
fn ring() -> Option<SocketRing> {
    match SocketRing::probe() {
        Ok(()) => Some(SocketRing::new().unwrap()),
        Err(error) => {
            eprintln!("skipped: there is no io_uring ({error})");
            None
        }
    }
}

fn pair() -> (UnixStream, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    (near, far)
}

const PATIENCE: Option<Duration> = Some(Duration::from_secs(10));

fn send<'a>(ring: &mut SocketRing, sends: &[(u32, &'a UnixStream, &[&'a [u8]])]) -> Vec<Sent> {
    let mut batch = ring.batch();
    for (key, socket, slices) in sends {
        slices.iter().for_each(|slice| batch.bytes(slice));
        assert_eq!(batch.slices(), slices.len());
        batch.end(*key, socket.as_fd(), false);
    }
    batch.send().unwrap();
    let mut sent = ring.sent().to_vec();
    sent.sort_by_key(|sent| sent.key);
    sent
}

#[test]
fn many_sends_are_few_calls_and_nothing_is_mixed_up() {
    let Some(mut ring) = ring() else { return };
    // More than the ring has entries.
    let pairs: Vec<_> = (0..ENTRIES * 2 + 7).map(|_| pair()).collect();
    let texts: Vec<String> = (0..pairs.len()).map(|i| format!("to number {i}")).collect();
    let mut batch = ring.batch();
    for (i, ((near, _), text)) in pairs.iter().zip(&texts).enumerate() {
        let (head, body) = text.as_bytes().split_at(3);
        batch.bytes(b"never sent");
        batch.forget();
        batch.bytes(head);
        if i % 3 > 0 {
            batch.bytes(body);
        }
        batch.end(i as u32, near.as_fd(), i % 5 == 0);
    }
    let before = crate::stats::work::Work::of_this_thread();
    batch.send().unwrap();
    let calls = crate::stats::work::Work::of_this_thread().since(&before).calls();
    assert_eq!(calls, 3);
    assert_eq!(ring.sent().len(), pairs.len());
    for (i, ((_, far), text)) in pairs.iter().zip(&texts).enumerate() {
        let mut far: &UnixStream = far;
        let expected = if i % 3 > 0 { text.as_str() } else { "to " };
        let mut heard = vec![0; 100];
        let n = far.read(&mut heard).unwrap();
        assert_eq!(std::str::from_utf8(&heard[..n]), Ok(expected));
    }
    assert!(ring.sent().iter().all(|sent| sent.result.is_ok()));
}

#[test]
fn a_full_socket_takes_a_part_and_then_nothing_until_there_is_room() {
    let Some(mut ring) = ring() else { return };
    let (near, mut far) = pair();
    let (other, mut other_far) = pair();
    let much = vec![7; 4 << 20];
    let mut sent = send(&mut ring, &[(1, &near, &[&much]), (2, &other, &[b"x", b"y"])]);
    assert_eq!(sent.pop().unwrap().result, Ok(2));
    let first = sent.pop().unwrap().result.unwrap();
    assert!((1..much.len()).contains(&first));
    assert_eq!(send(&mut ring, &[(1, &near, &[&much])])[0].result, Err(Errno::AGAIN));
    let mut heard = vec![0; first];
    far.read_exact(&mut heard).unwrap();
    assert!(heard.iter().all(|&byte| byte == 7));
    assert!(send(&mut ring, &[(1, &near, &[&much])])[0].result.is_ok());
    other_far.read_exact(&mut [0; 2]).unwrap();
    // Whoever has gone is an error, and no signal.
    drop(other_far);
    assert_eq!(send(&mut ring, &[(2, &other, &[b"x"])])[0].result, Err(Errno::PIPE));
}

#[test]
fn receiving_goes_on_until_the_end() {
    let Some(mut ring) = ring() else { return };
    let (near, mut far) = pair();
    ring.keep_receiving(near.as_fd(), 5).unwrap();
    let mut all = Vec::new();
    let text: Vec<u8> = (0..50_000u32).map(|i| (i / 3) as u8).collect();
    for chunk in text.chunks(9_001) {
        far.write_all(chunk).unwrap();
        let end = all.len() + chunk.len();
        while all.len() < end {
            ring.wait(PATIENCE).unwrap();
            match ring.next_event().unwrap() {
                RingEvent::Received { key: 5, bytes: Ok(Some(bytes)), goes_on: true } => {
                    assert_eq!(bytes.is_full(), bytes.len() == PIECE_BYTES);
                    all.extend_from_slice(&bytes);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(all, text);
    drop(far);
    ring.wait(PATIENCE).unwrap();
    assert!(matches!(
        ring.next_event(),
        Some(RingEvent::Received { key: 5, bytes: Ok(None), goes_on: false })
    ));
}

#[test]
fn when_memory_is_out_it_is_said_and_nothing_is_lost() {
    let Some(mut ring) = ring() else { return };
    let (near, mut far) = pair();
    ring.keep_receiving(near.as_fd(), 5).unwrap();
    let text: Vec<u8> = (0..3 << 20).map(|i: u32| (i / 5) as u8).collect();
    let (mut all, mut kept, mut was_out) = (Vec::new(), Vec::new(), 0);
    let writer = std::thread::spawn({
        let text = text.clone();
        move || far.write_all(&text).unwrap()
    });
    loop {
        ring.wait(PATIENCE).unwrap();
        match ring.next_event().expect("in time") {
            RingEvent::Received { bytes: Ok(Some(bytes)), goes_on, .. } => {
                all.extend_from_slice(&bytes);
                // Held as nobody should.
                kept.push(bytes);
                if !goes_on {
                    ring.keep_receiving(near.as_fd(), 5).unwrap();
                }
            }
            RingEvent::Received { bytes: Err(Errno::NOBUFS), goes_on: false, .. } => {
                was_out += 1;
                kept.clear();
                ring.keep_receiving(near.as_fd(), 5).unwrap();
            }
            RingEvent::Received { bytes: Ok(None), .. } => break,
            other => panic!("{other:?}"),
        }
    }
    writer.join().unwrap();
    assert!(all == text && was_out > 0, "{was_out}");
}

#[test]
fn what_is_cancelled_ends_and_the_socket_can_be_closed() {
    let Some(mut ring) = ring() else { return };
    let (near, mut far) = pair();
    send(&mut ring, &[(3, &near, &[&vec![0; 4 << 20]])]);
    ring.keep_receiving(near.as_fd(), 3).unwrap();
    ring.await_readable(near.as_fd(), 3).unwrap();
    ring.wait(Some(Duration::from_millis(1))).unwrap();
    ring.cancel(near.as_fd()).unwrap();
    let (mut receives, mut awaits) = (true, true);
    while receives || awaits {
        ring.wait(PATIENCE).unwrap();
        match ring.next_event().expect("in time") {
            RingEvent::Received { key: 3, bytes: Err(Errno::CANCELED), goes_on: false } => receives = false,
            RingEvent::Readable { key: 3 } => awaits = false,
            other => panic!("{other:?}"),
        }
    }
    ring.close(OwnedFd::from(near)).unwrap();
    ring.wait(Some(Duration::ZERO)).unwrap();
    far.set_read_timeout(PATIENCE).unwrap();
    let mut heard = Vec::new();
    far.read_to_end(&mut heard).unwrap();
    assert!(ring.next_event().is_none());
}

#[test]
fn a_ring_that_goes_leaves_sockets_as_they_are() {
    let Some(mut ring) = ring() else { return };
    let (near, mut far) = pair();
    let (gone, mut gone_far) = pair();
    ring.keep_receiving(near.as_fd(), 3).unwrap();
    ring.wait(Some(Duration::ZERO)).unwrap();
    ring.close(OwnedFd::from(gone)).unwrap();
    drop(ring);
    far.write_all(b"still").unwrap();
    assert_eq!((&near).read(&mut [0; 9]).unwrap(), 5);
    assert_eq!(gone_far.read(&mut [0]).unwrap(), 0);
}

#[test]
fn it_waits_as_long_as_it_should() {
    let Some(mut ring) = ring() else { return };
    let start = std::time::Instant::now();
    ring.wait(Some(Duration::from_millis(3))).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(3) && ring.next_event().is_none());
    let (near, mut far) = pair();
    ring.await_readable(near.as_fd(), 8).unwrap();
    let writer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        far.write_all(b"x").unwrap();
        far
    });
    ring.wait(None).unwrap();
    assert!(matches!(ring.next_event(), Some(RingEvent::Readable { key: 8 })));
    writer.join().unwrap();
}
