//! Proportional rate reduction (RFC 9937): how much may be sent in fast recovery, so that what is in the
//! network falls to what congestion control wants by the end of a round trip, evenly, a part of what each ACK
//! reports delivered; and where so much was lost that less is in the network than that, grows back by what is
//! delivered and no burst.
//!
//! A device brings ACKs in batches: the ones that came since segments were last asked for count as one, or
//! what the earlier of them allowed would be lost.

/// The state of one recovery, in bytes (RFC 9937 section 6). What was sent and delivered may exceed 4 GB
/// while retransmissions get lost again and again.
#[derive(Clone, Debug)]
pub(crate) struct Prr {
    /// RecoverFS: what was in the network, or lost, when it began.
    recover_fs: u32,
    /// prr_delivered.
    delivered: u64,
    /// prr_out.
    out: u64,
    /// cwnd.
    window: u32,
    /// Of `delivered`, what the batch reported; and what PRR-SSRB adds for it.
    in_batch: u32,
    extra_in_batch: u32,
}

/// What an ACK told of a recovery.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecoveryProgress {
    /// DeliveredData: bytes reported to have arrived, for the first time.
    pub(crate) delivered: u32,
    /// safeACK: SND.UNA moved, and nothing more turned out to be lost.
    pub(crate) is_safe: bool,
    /// Bytes believed to be in the network.
    pub(crate) in_flight: u32,
    /// What congestion control wants there.
    pub(crate) ssthresh: u32,
    pub(crate) smss: u32,
}

impl Prr {
    /// A recovery begins: `recover_fs` bytes were in the network, of which `delivered` have been reported
    /// since segments were last asked for, by ACKs before the one that told of the loss; `in_flight` are
    /// believed to be there still.
    pub(crate) fn new(recover_fs: u32, delivered: u32, in_flight: u32) -> Prr {
        Prr {
            recover_fs: recover_fs.max(1),
            delivered: delivered.into(),
            out: 0,
            window: in_flight,
            in_batch: delivered,
            extra_in_batch: 0,
        }
    }

    /// An ACK, the one that began it included.
    pub(crate) fn acknowledged(&mut self, ack: &RecoveryProgress) {
        if ack.delivered == 0 {
            return;
        }
        self.delivered += u64::from(ack.delivered);
        self.in_batch = self.in_batch.saturating_add(ack.delivered);
        if ack.is_safe {
            self.extra_in_batch = self.extra_in_batch.saturating_add(ack.smss);
        }
        let may_send = if ack.in_flight > ack.ssthresh {
            let due =
                (u128::from(self.delivered) * u128::from(ack.ssthresh)).div_ceil(self.recover_fs.into());
            u32::try_from(due.saturating_sub(self.out.into())).unwrap_or(u32::MAX)
        } else {
            // PRR-CRB: no more than was delivered; with PRR-SSRB, if all goes well, a segment more for each
            // ACK.
            let owed = u32::try_from(self.delivered.saturating_sub(self.out)).unwrap_or(u32::MAX);
            let bound = owed.max(self.in_batch).saturating_add(self.extra_in_batch);
            bound.min(ack.ssthresh - ack.in_flight)
        };
        self.window = ack.in_flight.saturating_add(may_send);
    }

    /// `bytes` went out, new ones or again.
    pub(crate) fn sent(&mut self, bytes: u32) {
        self.out += u64::from(bytes);
    }

    /// Segments are asked for: the next ACK begins a batch.
    pub(crate) fn batch_is_over(&mut self) {
        (self.in_batch, self.extra_in_batch) = (0, 0);
    }

    /// cwnd, while the recovery lasts.
    pub(crate) fn window(&self) -> u32 {
        self.window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMSS: u32 = 1000;

    /// A window of twenty segments of which the first is lost, one ACK at a time: how many went out after
    /// each.
    fn one_loss(ssthresh: u32, batch: usize) -> Vec<u32> {
        // Of twenty sent one is lost; the ACK of the third that arrived told.
        let mut pipe = 20 * SMSS - SMSS - 3 * SMSS;
        let mut prr = Prr::new(20 * SMSS - 2 * SMSS, 0, pipe);
        let mut sent = Vec::new();
        let mut delivered = 0;
        while delivered < 17 {
            prr.batch_is_over();
            for _ in 0..batch.min(17 - delivered) {
                if delivered > 0 {
                    pipe -= SMSS;
                }
                delivered += 1;
                prr.acknowledged(&RecoveryProgress {
                    delivered: SMSS,
                    is_safe: false,
                    in_flight: pipe,
                    ssthresh,
                    smss: SMSS,
                });
            }
            let may = prr.window().saturating_sub(pipe) / SMSS;
            prr.sent(may * SMSS);
            pipe += may * SMSS;
            sent.push(may);
        }
        assert!(pipe <= ssthresh, "{pipe}");
        sent
    }

    #[test]
    fn a_part_of_what_is_delivered_goes_out_all_along() {
        let halved = one_loss(9 * SMSS, 1);
        assert!(halved.iter().all(|&n| n <= 1), "{halved:?}");
        assert!(halved[..16].windows(3).all(|three| three.contains(&1) && three.contains(&0)), "{halved:?}");
        let seven_tenths: u32 = one_loss(14 * SMSS, 1).iter().sum();
        assert_eq!(
            seven_tenths, 14,
            "of sixteen that were in the network all leave it, and ssthresh is there then"
        );
    }

    #[test]
    fn batches_of_acks_allow_what_single_ones_do() {
        for batch in [2, 3, 5, 17] {
            let (single, batched) = (one_loss(9 * SMSS, 1), one_loss(9 * SMSS, batch));
            let sums: (u32, u32) = (single.iter().sum(), batched.iter().sum());
            assert!(sums.0.abs_diff(sums.1) <= 1, "{single:?} {batched:?}");
        }
    }

    /// RFC 9937 section 6: fifteen of twenty lost at once. The bound is what is delivered, then twice as much
    /// a round trip.
    #[test]
    fn after_heavy_losses_it_grows_as_slow_start_does() {
        let ssthresh = 10 * SMSS;
        let mut pipe = 4 * SMSS;
        let mut prr = Prr::new(20 * SMSS, 0, pipe);
        let ack = |prr: &mut Prr, pipe: u32, is_safe| {
            prr.batch_is_over();
            prr.acknowledged(&RecoveryProgress {
                delivered: SMSS,
                is_safe,
                in_flight: pipe,
                ssthresh,
                smss: SMSS,
            });
            let may = prr.window() - pipe;
            prr.sent(may);
            may
        };
        assert_eq!(ack(&mut prr, pipe, false), SMSS, "not a burst of six");
        // Retransmissions arrive: SND.UNA moves.
        assert_eq!(ack(&mut prr, pipe, true), 2 * SMSS);
        pipe += SMSS;
        assert_eq!(ack(&mut prr, pipe, true), 2 * SMSS);
        pipe = 9 * SMSS + 500;
        assert_eq!(ack(&mut prr, pipe, true), 500, "and no further than ssthresh");
    }

    #[test]
    fn absurd_numbers_stay_in_bounds() {
        let mut prr = Prr::new(0, u32::MAX, u32::MAX);
        for in_flight in [0, 1, u32::MAX] {
            for ssthresh in [2, u32::MAX] {
                let ack = RecoveryProgress {
                    delivered: u32::MAX,
                    is_safe: true,
                    in_flight,
                    ssthresh,
                    smss: 65_535,
                };
                prr.acknowledged(&ack);
                prr.sent(u32::MAX);
            }
        }
        assert!(prr.window() >= 1);
    }
}
