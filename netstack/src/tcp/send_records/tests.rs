//! The records against a naive scoreboard that keeps each byte by itself.

use proptest::prelude::*;

use super::*;

const BASE: SeqNumber = SeqNumber(u32::MAX - 50);

#[derive(Clone, Copy, Debug, PartialEq)]
struct Byte {
    sent: Micros,
    delivery: Delivery,
    resent: bool,
}

/// Byte by byte; index 0 is SND.UNA's.
#[derive(Default)]
struct Naive {
    una: u32,
    bytes: Vec<Byte>,
}

impl Naive {
    fn range(&mut self, from: u32, end: u32) -> &mut [Byte] {
        let (from, end) = ((from - self.una) as usize, (end - self.una) as usize);
        &mut self.bytes[from..end]
    }

    fn count(&self, delivery: Delivery) -> u32 {
        self.bytes.iter().filter(|byte| byte.delivery == delivery).count() as u32
    }
}

#[derive(Clone, Debug)]
enum Step {
    Send(u32),
    Resend(u32, u32),
    Ack(u32),
    Sack(u32, u32),
    Lose(u32, u32),
    LoseBefore(u32, u32, u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1u32..40).prop_map(Step::Send),
        1 => (0u32..200, 1u32..30).prop_map(|(at, len)| Step::Resend(at, len)),
        1 => (1u32..40).prop_map(Step::Ack),
        3 => (1u32..200, 1u32..30).prop_map(|(at, len)| Step::Sack(at, len)),
        1 => (0u32..200, 1u32..30).prop_map(|(at, len)| Step::Lose(at, len)),
        2 => (0u32..8, 0u32..200, 0u32..6).prop_map(|(ago, at, grace)| Step::LoseBefore(ago, at, grace)),
    ]
}

fn seq(offset: u32) -> SeqNumber {
    BASE + offset
}

proptest! {
    #[test]
    fn records_agree_with_a_scoreboard_of_bytes(steps in prop::collection::vec((step(), 0u32..2), 1..80)) {
        let mut records = SendRecords::new(BASE);
        let mut naive = Naive::default();
        let mut now = Micros(u32::MAX - 10);
        for (step, pause) in steps {
            now = Micros(now.0.wrapping_add(pause));
            let max = naive.una + naive.bytes.len() as u32;
            let clip = |at: u32, len: u32| {
                let from = (naive.una + at).min(max);
                (from, (from + len).min(max))
            };
            let fresh = Byte { sent: now, delivery: Delivery::OnItsWay, resent: false };
            match step {
                Step::Send(len) => {
                    naive.bytes.extend(std::iter::repeat_n(fresh, len as usize));
                    records.sent(seq(max + len), now);
                }
                Step::Resend(at, len) => {
                    let (from, end) = clip(at, len);
                    for byte in naive.range(from, end) {
                        if byte.delivery != Delivery::Sacked {
                            *byte = Byte { resent: true, ..fresh };
                        }
                    }
                    records.resent(seq(from), seq(end), now);
                }
                Step::Ack(len) => {
                    let una = (naive.una + len).min(max);
                    let taken: Vec<Byte> = naive.bytes.drain(..(una - naive.una) as usize).collect();
                    let any_resent = taken.iter().any(|byte| byte.resent);
                    let news = taken.iter().filter(|byte| byte.delivery != Delivery::Sacked);
                    let expected: Vec<_> = news.map(|byte| (byte.sent, byte.resent)).collect();
                    let mut seen = Vec::new();
                    let mut before = naive.una;
                    naive.una = una;
                    let mut ends = Vec::new();
                    let resent = records.acknowledged(seq(una), |delivered| {
                        ends.push(delivered.end);
                        seen.push((delivered.sent, delivered.resent));
                    });
                    // A SACKed record stands for the resending of all its parts, so it may only say so too
                    // often.
                    prop_assert!(resent || !any_resent);
                    let mut distinct = expected.clone();
                    distinct.dedup();
                    seen.dedup();
                    prop_assert_eq!(seen, distinct);
                    for end in ends {
                        let end = end - BASE;
                        prop_assert!(end > before && end <= una);
                        before = end;
                    }
                }
                Step::Sack(at, len) => {
                    let (from, end) = clip(at, len);
                    if from < end {
                        let range = naive.range(from, end);
                        let expected = range.iter().filter(|byte| byte.delivery != Delivery::Sacked).count();
                        range.iter_mut().for_each(|byte| byte.delivery = Delivery::Sacked);
                        let mut last = seq(from);
                        let news = records.sacked(seq(from), seq(end), |delivered| {
                            assert!(delivered.end.gt(last));
                            last = delivered.end;
                        });
                        prop_assert_eq!(news as usize, expected);
                    }
                }
                Step::Lose(at, len) => {
                    let (from, end) = clip(at, len);
                    let range = naive.range(from, end).iter_mut();
                    let mut expected = 0;
                    for byte in range.filter(|byte| byte.delivery == Delivery::OnItsWay) {
                        byte.delivery = Delivery::Lost;
                        expected += 1;
                    }
                    prop_assert_eq!(records.lost(seq(from), seq(end)), expected);
                }
                Step::LoseBefore(ago, at, grace) => {
                    let when = Micros(now.0.wrapping_sub(ago));
                    let end = (naive.una + at).min(max);
                    let remaining = |sent: Micros| {
                        let left = grace.saturating_sub(now.since(sent));
                        (left > 0).then_some(left)
                    };
                    let (mut bytes, mut wait, mut lost_end) = (0, 0, None);
                    let una = naive.una;
                    for (i, byte) in naive.bytes.iter_mut().enumerate() {
                        let offset = una + i as u32;
                        let before = when.gt(byte.sent) || (byte.sent == when && offset < end);
                        if byte.delivery == Delivery::OnItsWay && before {
                            match remaining(byte.sent) {
                                Some(left) => wait = wait.max(left),
                                None => {
                                    byte.delivery = Delivery::Lost;
                                    bytes += 1;
                                    lost_end = Some(seq(offset + 1));
                                }
                            }
                        }
                    }
                    let losses = records.lost_before(when, seq(end), remaining);
                    prop_assert_eq!(losses, Losses { bytes, end: lost_end, wait_us: wait });
                }
            }
            prop_assert_eq!(records.sacked_bytes(), naive.count(Delivery::Sacked));
            prop_assert_eq!(records.lost_bytes(), naive.count(Delivery::Lost));
            let first = naive.bytes.iter().position(|byte| byte.delivery == Delivery::Lost);
            let expected = first.map(|first| {
                let rest = naive.bytes[first..].iter();
                let len = rest.take_while(|byte| byte.delivery == Delivery::Lost).count();
                (seq(naive.una + first as u32), len as u32)
            });
            prop_assert_eq!(records.first_lost(), expected);
            prop_assert!(records.records.len() <= naive.bytes.len());
        }
    }
}

#[test]
fn a_burst_is_one_record_and_nothing_is_kept_when_all_is_acknowledged() {
    let mut records = SendRecords::new(BASE);
    for i in 1..=100 {
        records.sent(seq(100 * i), Micros(7));
    }
    assert_eq!(records.records.len(), 1);
    for i in 0..50 {
        records.sacked(seq(200 * i + 100), seq(200 * i + 200), |_| {});
    }
    assert_eq!(records.records.len(), 100);
    assert!(records.records.spilled());
    records.acknowledged(seq(10_000), |_| {});
    assert!(records.records.is_empty() && !records.records.spilled());
    assert_eq!((records.sacked_bytes(), records.lost_bytes()), (0, 0));
}

#[test]
fn a_peer_that_reports_every_other_byte_is_not_believed_without_bound() {
    let mut records = SendRecords::new(BASE);
    records.sent(seq(1 << 20), Micros(1));
    for i in 0..100_000 {
        records.sacked(seq(2 * i + 1), seq(2 * i + 2), |_| {});
    }
    assert!(records.records.len() <= MAX_RECORDS);
    for i in 0..2000 {
        records.sent(seq((1 << 20) + i), Micros(2 + i));
    }
    assert!(records.records.len() <= MAX_RECORDS + 1);
}

#[test]
fn a_record_is_twelve_bytes() {
    assert_eq!(size_of::<Record>(), 12);
}
