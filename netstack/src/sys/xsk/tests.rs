//! Arrivals and rooms with a kernel of our own at the other side of the rings, which may say anything.

use std::fs::File;
use std::os::fd::AsFd;

use super::arrivals::Arrivals;
use super::rings::{Mapping, SharedRing};
use super::slots::Slots;
use super::{CHUNK_LEN, chunk_of};

/// Both ends of a ring of so many entries, in a file of memory.
fn ring<T: Copy>(entries: usize) -> [SharedRing<T>; 2] {
    let offset = libc::xdp_ring_offset { producer: 0, consumer: 64, flags: 128, desc: 192 };
    let file: File = tempfile::tempfile().unwrap();
    file.set_len((192 + entries * size_of::<T>()) as u64).unwrap();
    [(); 2].map(|()| SharedRing::map(file.as_fd(), &offset, 0, entries).unwrap())
}

/// A kernel that gives what it is told to.
struct Receiver {
    ours: Arrivals,
    fill: SharedRing<u64>,
    receive: SharedRing<libc::xdp_desc>,
    memory: Mapping,
}

const CHUNKS: usize = 8;

impl Receiver {
    fn new() -> Receiver {
        let ([fill, fill_theirs], [receive, receive_theirs]) = (ring(CHUNKS), ring(CHUNKS));
        let memory = Mapping::anonymous(2 * CHUNKS * CHUNK_LEN).unwrap();
        let ours = Arrivals::new(fill, receive, CHUNKS);
        Receiver { ours, fill: fill_theirs, receive: receive_theirs, memory }
    }

    fn describe(&mut self, addr: u64, len: u32, continues: bool) {
        let options = if continues { libc::XDP_PKT_CONTD } else { 0 };
        self.receive.push([libc::xdp_desc { addr, len, options }].into_iter());
    }

    /// Puts bytes into an empty chunk, with the room before them that the kernel keeps. Whether there was
    /// one.
    fn put(&mut self, bytes: &[u8], continues: bool) -> bool {
        let Some(chunk) = self.fill.pop() else { return false };
        // SAFETY: the chunk is the kernel's, which this is.
        unsafe { self.memory.bytes_mut(chunk as usize + 256, bytes.len()) }.copy_from_slice(bytes);
        self.describe(chunk + 256, bytes.len() as u32, continues);
        true
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        self.ours.give_back();
        self.ours.next(&self.memory).map(<[u8]>::to_vec)
    }

    /// Every chunk is with the kernel again, once.
    fn has_all_chunks(&mut self) {
        self.ours.give_back();
        let mut back: Vec<u64> = std::iter::from_fn(|| self.fill.pop()).collect();
        back.sort_unstable();
        assert_eq!(back, (0..CHUNKS as u64).map(|chunk| chunk * CHUNK_LEN as u64).collect::<Vec<_>>());
    }
}

#[test]
fn frames_in_pieces_come_whole_however_often_the_ring_goes_round() {
    let mut receiver = Receiver::new();
    for round in 0..1000usize {
        let len = 1 + round * 37 % (6 * 3840);
        let frame: Vec<u8> = (0..len).map(|at| (at + round) as u8).collect();
        let pieces: Vec<&[u8]> = frame.chunks(3840).collect();
        for (index, piece) in pieces.iter().enumerate() {
            assert!(!receiver.ours.has_arrived(), "what came is taken");
            let is_last = index + 1 == pieces.len();
            assert!(receiver.put(piece, !is_last));
            if is_last {
                assert_eq!(receiver.next(), Some(frame.clone()), "{round}");
            } else if round % 2 == 0 {
                assert_eq!(receiver.next(), None);
            } else if round % 2 == 1 {
                // Its parts wait in the ring together.
                for (index, piece) in pieces.iter().enumerate().skip(1) {
                    assert!(receiver.put(piece, index + 1 != pieces.len()));
                }
                assert_eq!(receiver.next(), Some(frame.clone()), "{round}");
                break;
            }
        }
    }
    assert_eq!(receiver.ours.useless(), 0);
    receiver.has_all_chunks();
}

#[test]
fn a_frame_that_never_ends_keeps_no_chunk_and_the_next_one_is_whole() {
    let mut receiver = Receiver::new();
    for _ in 0..10_000 {
        assert!(receiver.put(&[1; 3840], true), "chunks come back");
        assert_eq!(receiver.next(), None);
    }
    assert!(receiver.put(&[2; 10], false) && receiver.put(&[3; 10], false));
    assert_eq!((receiver.next(), receiver.ours.useless()), (Some(vec![3; 10]), 1));
    receiver.has_all_chunks();
}

#[test]
fn descriptors_of_what_is_not_there_are_no_frames() {
    let mut receiver = Receiver::new();
    let end = (2 * CHUNKS * CHUNK_LEN) as u64;
    let hostile = [
        (end, 1),
        (end - 1, 2),
        (u64::MAX, 1),
        (u64::MAX - 10, u32::MAX),
        (0, u32::MAX),
        (0, CHUNK_LEN as u32 + 1),
        // They reach into the next chunk, and into one to send from.
        (CHUNK_LEN as u64 - 10, 20),
        ((CHUNKS * CHUNK_LEN) as u64 - 10, 20),
        // A chunk to send from.
        ((CHUNKS * CHUNK_LEN) as u64, 60),
    ];
    let before: Vec<u64> = std::iter::from_fn(|| receiver.fill.pop()).collect();
    for (addr, len) in hostile {
        for continues in [true, false] {
            receiver.describe(addr, len, continues);
            assert_eq!(receiver.next(), None, "{addr:#x} {len}");
            let given: Vec<u64> = std::iter::from_fn(|| receiver.fill.pop()).collect();
            assert!(given.iter().all(|chunk| *chunk < (CHUNKS * CHUNK_LEN) as u64), "{given:x?}");
        }
    }
    assert_eq!(receiver.ours.useless(), hostile.len() as u64);
    receiver.describe(before[0] + 256, 5, false);
    assert_eq!(receiver.next(), Some(vec![0; 5]));
}

#[test]
fn a_driver_that_sleeps_is_woken_for_each_chunk_that_comes_back() {
    let mut receiver = Receiver::new();
    assert!(!receiver.ours.give_back());
    receiver.fill.sleep();
    for pieces in [1, 3] {
        for piece in 1..=pieces {
            assert!(receiver.put(&[7; 100], piece < pieces));
        }
        assert_eq!(receiver.next().unwrap().len(), 100 * pieces);
        assert!(receiver.ours.give_back(), "{pieces}");
        assert!(!receiver.ours.give_back(), "{pieces}");
    }
}

/// Rooms of so many chunks in rings of eight, and the kernel's ends.
fn rooms(chunks: u8) -> (Slots, SharedRing<libc::xdp_desc>, SharedRing<u64>, Mapping) {
    let ([transmit, taken], [completion, done]) = (ring(CHUNKS), ring(CHUNKS));
    let start = (CHUNKS * CHUNK_LEN) as u64;
    let memory = Mapping::anonymous(2 * CHUNKS * CHUNK_LEN).unwrap();
    (Slots::new(transmit, completion, start, chunks, CHUNKS), taken, done, memory)
}

#[test]
fn a_frame_of_any_length_lies_side_by_side_in_as_few_chunks_as_hold_it() {
    let (mut slots, mut taken, mut done, mut memory) = rooms(3);
    let lens = [
        1,
        60,
        CHUNK_LEN - 1,
        CHUNK_LEN,
        CHUNK_LEN + 1,
        2 * CHUNK_LEN,
        2 * CHUNK_LEN + 1,
        9014,
        3 * CHUNK_LEN,
    ];
    for round in 0..100 {
        for len in lens {
            assert!(slots.transmit(&mut memory, |room| {
                assert_eq!(room.len(), 3 * CHUNK_LEN);
                room[..len].fill(round);
                Some(len)
            }));
            let mut descriptors: Vec<libc::xdp_desc> = std::iter::from_fn(|| taken.pop()).collect();
            assert_eq!(descriptors.len(), len.div_ceil(CHUNK_LEN), "{len}");
            assert_eq!(descriptors.iter().map(|descriptor| descriptor.len as usize).sum::<usize>(), len);
            for pair in descriptors.windows(2) {
                assert_eq!(pair[0].addr + CHUNK_LEN as u64, pair[1].addr);
            }
            for (index, descriptor) in descriptors.iter().enumerate() {
                assert_eq!(chunk_of(descriptor.addr), descriptor.addr);
                assert!(descriptor.len as usize <= CHUNK_LEN);
                let continues = descriptor.options & libc::XDP_PKT_CONTD != 0;
                assert_eq!(continues, index + 1 != descriptors.len(), "{len}");
                // SAFETY: the chunk is the kernel's, which this is.
                let bytes = unsafe { memory.bytes(descriptor.addr as usize, descriptor.len as usize) };
                assert!(bytes.iter().all(|byte| *byte == round), "{len}");
            }
            // They may come back in any order.
            if round % 2 == 0 {
                descriptors.reverse();
            }
            done.push(descriptors.iter().map(|descriptor| descriptor.addr));
        }
    }
}

#[test]
fn a_room_is_free_when_all_its_chunks_are() {
    let (mut slots, mut taken, mut done, mut memory) = rooms(4);
    let mut send = |slots: &mut Slots| slots.transmit(&mut memory, |_| Some(3 * CHUNK_LEN));
    assert!(send(&mut slots) && send(&mut slots));
    assert_eq!((slots.pending(), send(&mut slots)), (2, false));
    let addrs: Vec<u64> = std::iter::from_fn(|| taken.pop()).map(|descriptor| descriptor.addr).collect();
    assert_eq!(addrs.len(), 6);
    for addr in &addrs[..2] {
        done.push([*addr].into_iter());
        assert!(!slots.can_transmit());
    }
    // Of addresses that are none of ours, and of rooms that are free, nothing comes.
    done.push([0, u64::MAX, (CHUNKS * CHUNK_LEN) as u64 - 1, (2 * CHUNKS * CHUNK_LEN) as u64].into_iter());
    assert!(!slots.can_transmit());
    done.push([addrs[2], addrs[0], addrs[1]].into_iter());
    assert!(slots.can_transmit() && send(&mut slots));
    assert!(!send(&mut slots), "once, not once for each that came twice");
}

#[test]
fn what_is_not_filled_stays_free() {
    let (mut slots, mut taken, _, mut memory) = rooms(2);
    for refused in [None, Some(0), Some(2 * CHUNK_LEN + 1), Some(usize::MAX)] {
        for _ in 0..20 {
            assert!(!slots.transmit(&mut memory, |_| refused));
        }
    }
    assert!(taken.pop().is_none() && slots.can_transmit());
    assert_eq!(slots.pending(), 0);
}
