//! Transfers against the definition of RFC 1071, word by word.

use super::*;
use pipe_lib::ir::Stripe;
use proptest::prelude::*;

fn reference(bytes: &[u8]) -> u16 {
    bytes.chunks(2).fold(0, |sum: u16, word| {
        let (sum, carry) =
            sum.overflowing_add(u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)]));
        sum + u16::from(carry)
    })
}

fn layout(name: &str, stripe: Option<(u32, u32)>, pad: u64) -> Arc<Layout> {
    let stripe = stripe.map(|(data, gap)| Stripe { data, gap });
    Arc::new(Layout { name: name.into(), doc: String::new(), stripe, store: None, fixed: false, pad })
}

fn pieces(parts: &[(Vec<u8>, bool)]) -> Vec<Piece<'_>> {
    let sum = |bytes: &[u8], known: bool| known.then(|| reference(bytes));
    parts.iter().map(|(bytes, known)| Piece { sum: sum(bytes, *known), ..Piece::new(bytes) }).collect()
}

fn parts() -> impl Strategy<Value = Vec<(Vec<u8>, bool)>> {
    let bytes = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 1..40),
        1 => prop::collection::vec(any::<u8>(), 1..1500),
        1 => prop::collection::vec(Just(0u8), 1..9),
        1 => prop::collection::vec(Just(0xffu8), 1..9),
    ];
    prop::collection::vec((bytes, any::<bool>()), 0..7)
}

proptest! {
    #[test]
    fn pieces_of_any_length_are_gathered_and_summed(parts in parts(), separate in any::<bool>()) {
        let style = if separate { Style::Separate } else { Style::Fused };
        let transfer = Transfers::new(CompileOptions::default(), style).checksum(None).unwrap();
        let whole: Vec<u8> = parts.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let mut frame = vec![0xaa; whole.len() + 5];
        let copied = transfer.copy_sum(&pieces(&parts), &mut frame).unwrap();
        prop_assert_eq!(copied, Copied { written: whole.len(), sum: reference(&whole) });
        prop_assert_eq!(&frame[..whole.len()], &whole[..]);
        prop_assert_eq!(&frame[whole.len()..], &[0xaa; 5][..]);
        if !whole.is_empty() {
            let short = transfer.copy_sum(&pieces(&parts), &mut frame[..whole.len() - 1]);
            let refused = matches!(short, Err(RunError::ShortDestination { .. }));
            prop_assert!(refused);
        }
    }

    #[test]
    fn a_striped_buffer_holds_the_frame_and_can_be_patched(
        parts in parts(),
        stripe in (1u32..20, 0u32..20),
        separate in any::<bool>(),
        patch in (any::<prop::sample::Index>(), any::<[u8; 2]>()),
    ) {
        let layout = layout("striped", Some(stripe), 0);
        let style = if separate { Style::Separate } else { Style::Fused };
        let transfer = Transfers::new(CompileOptions::default(), style).checksum(Some(&layout)).unwrap();
        let mut whole: Vec<u8> = parts.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let needed = transfer.written_len(whole.len()).unwrap();
        let mut buffer = vec![0xaa; needed];
        let copied = transfer.copy_sum(&pieces(&parts), &mut buffer).unwrap();
        prop_assert_eq!(copied, Copied { written: needed, sum: reference(&whole) });
        let place = |i: usize| Stripe { data: stripe.0, gap: stripe.1 }.offset(i as u64) as usize;
        if whole.len() >= 2 {
            let at = patch.0.index(whole.len() - 1);
            prop_assert!(transfer.patch(&mut buffer, at, &patch.1));
            whole[at..at + 2].copy_from_slice(&patch.1);
            prop_assert!(!transfer.patch(&mut buffer, whole.len() - 1, &patch.1), "the second byte lies beyond");
        }
        let mut holes = vec![true; needed];
        for (i, &byte) in whole.iter().enumerate() {
            prop_assert_eq!(buffer[place(i)], byte);
            holes[place(i)] = false;
        }
        prop_assert!((0..needed).all(|i| !holes[i] || buffer[i] == 0xaa), "holes are never written");

        let read_back = ReadBack::new(&layout, &CompileOptions::default()).unwrap();
        let mut frame = vec![0; whole.len()];
        prop_assert_eq!(read_back.read(&buffer, &mut frame).unwrap(), whole.len());
        prop_assert_eq!(frame, whole);
    }

    #[test]
    fn sums_of_stretches_add_up(parts in parts()) {
        let mut sum = OnesSum::new();
        for (bytes, _) in &parts {
            sum.append(reference(bytes), bytes.len());
        }
        let whole: Vec<u8> = parts.into_iter().flat_map(|(bytes, _)| bytes).collect();
        prop_assert_eq!(sum.value(), reference(&whole));
    }
}

#[test]
fn a_known_sum_is_believed_and_not_made_again() {
    let transfer = Transfers::default().checksum(None).unwrap();
    let pieces = [Piece::with_sum(b"ab", 0x1234), Piece::new(b"cd")];
    let mut frame = [0; 4];
    let copied = transfer.copy_sum(&pieces, &mut frame).unwrap();
    assert_eq!(copied.sum, 0x1234 + 0x6364);
    assert_eq!(&frame, b"abcd");
}

#[test]
fn a_short_frame_is_padded() {
    let transfer = Transfers::default().checksum(Some(&layout("min60", None, 60))).unwrap();
    let mut frame = [0xaa; 64];
    let copied = transfer.copy_sum(&[Piece::new(&[1; 10])], &mut frame).unwrap();
    assert_eq!(copied, Copied { written: 60, sum: 0x0505 });
    assert_eq!((frame[9], frame[10], frame[59], frame[60]), (1, 0, 0, 0xaa));
}

#[test]
fn equal_combinations_are_made_once() {
    let mut transfers = Transfers::default();
    let stripe = || layout("lance", Some((16, 16)), 0);
    for _ in 0..3 {
        transfers.checksum(None).unwrap();
        transfers.checksum(Some(&stripe())).unwrap();
    }
    assert_eq!(transfers.len(), 2);
}

#[test]
fn what_cannot_carry_a_checksum_is_refused() {
    let fifo = Arc::new(Layout { fixed: true, ..(*layout("fifo", None, 0)).clone() });
    let error = Transfers::default().checksum(Some(&fifo)).unwrap_err();
    assert_eq!(error, TransferError::CannotPatch { layout: "fifo".into() });
    let copy_only = Composition::default();
    assert_eq!(Transfers::default().get(&copy_only, None).unwrap_err(), TransferError::NoSum);
}
