//! The specialisations that can be switched off (`--without`), and where a switch would do nothing.
//!
//! `serve` refuses such a switch with the reason; `bench --ablate` shows the reason in its table.

use std::fmt;
use std::str::FromStr;

/// What carries the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Net {
    /// The kernel's sockets.
    Kernel,
    /// Our own TCP/IP on a TAP device.
    Tap,
    /// Our own TCP/IP on AF_PACKET rings.
    Ring,
    /// Our own TCP/IP on AF_XDP.
    Xdp,
    /// Our own TCP/IP on AF_PACKET, a call a frame.
    Packet,
}

impl Net {
    const ALL: [Net; 5] = [Net::Kernel, Net::Tap, Net::Ring, Net::Xdp, Net::Packet];

    /// Whether an interface may sum and cut for us on it.
    fn has_offloads(self) -> bool {
        matches!(self, Net::Tap | Net::Ring)
    }

    /// As it is written on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Net::Kernel => "kernel",
            Net::Tap => "tap",
            Net::Ring => "ring",
            Net::Xdp => "xdp",
            Net::Packet => "packet",
        }
    }
}

impl FromStr for Net {
    type Err = String;

    fn from_str(text: &str) -> Result<Net, String> {
        match Net::ALL.into_iter().find(|net| net.name() == text) {
            Some(net) => Ok(net),
            None => Err("there are kernel, tap, ring, xdp and packet".to_owned()),
        }
    }
}

/// How a server runs, as far as it decides what a switch does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mode {
    /// What carries the connections.
    pub(super) net: Net,
    /// With an emulated adapter in front of the device.
    pub(super) nic: bool,
    /// From a folder as it lies, not from an image.
    pub(super) folder: bool,
    /// From an image that is known to be in memory whole.
    pub(super) in_memory: bool,
    /// HTTPS, too: then bytes are sealed, whatever carries them.
    pub(super) tls: bool,
    /// Clients may put files.
    pub(super) writable: bool,
}

/// A specialisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Feature {
    /// Heads that were made when the site was packed.
    PrecomputedHeaders,
    /// The date of heads, formatted once a second.
    DateCache,
    /// Requests parsed in the buffer that they arrived in.
    InPlaceParse,
    /// What is sent points into the image or the cache, and stays there until it is acknowledged.
    Pinning,
    /// A response's head and body in the same segments.
    HeaderMerging,
    /// Fewer packets: the FIN with the last data, ACKs that wait for data.
    PacketMerging,
    /// A connection taken when its first request is there.
    DeferredAccept,
    /// Long stretches of an image in memory passed by reference, not copied.
    ZeroCopy,
    /// What is not in memory read while the loop goes on.
    AsyncReads,
    /// A page read together with what it embeds, where they lie together.
    Grouping,
    /// The block of a connection taken from those of ended ones.
    PcbPool,
    /// Small records in place of blocks in TIME-WAIT.
    TimeWaitRecords,
    /// The device sums and cuts.
    Offload,
    /// Copy and sum in one loop; of HTTPS seal in the pass that takes bytes from their page.
    FusedLoops,
    /// Of HTTPS on our own TCP/IP: seal in the pass that makes the frame, and hold no sealed bytes.
    FrameSealing,
    /// Sums that are stored in the image.
    StoredSums,
    /// Sums that the transport remembers.
    CachedSums,
    /// What is put here copied to where it stays, and its segments verified, by one loop.
    PlacedInput,
}

impl Feature {
    /// All of them.
    pub(super) const ALL: [Feature; 18] = [
        Feature::InPlaceParse,
        Feature::DateCache,
        Feature::PrecomputedHeaders,
        Feature::Pinning,
        Feature::AsyncReads,
        Feature::Grouping,
        Feature::HeaderMerging,
        Feature::PacketMerging,
        Feature::DeferredAccept,
        Feature::ZeroCopy,
        Feature::PcbPool,
        Feature::TimeWaitRecords,
        Feature::FusedLoops,
        Feature::FrameSealing,
        Feature::StoredSums,
        Feature::CachedSums,
        Feature::PlacedInput,
        Feature::Offload,
    ];

    /// As it is written on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Feature::PrecomputedHeaders => "precomputed-headers",
            Feature::DateCache => "date-cache",
            Feature::InPlaceParse => "in-place-parse",
            Feature::Pinning => "pinning",
            Feature::HeaderMerging => "header-merging",
            Feature::PacketMerging => "packet-merging",
            Feature::DeferredAccept => "deferred-accept",
            Feature::ZeroCopy => "zero-copy",
            Feature::AsyncReads => "async-reads",
            Feature::Grouping => "grouping",
            Feature::PcbPool => "pcb-pool",
            Feature::TimeWaitRecords => "time-wait-records",
            Feature::Offload => "offload",
            Feature::FusedLoops => "fused-loops",
            Feature::FrameSealing => "frame-sealing",
            Feature::StoredSums => "stored-sums",
            Feature::CachedSums => "cached-sums",
            Feature::PlacedInput => "placed-input",
        }
    }

    /// Why switching this off, with all of `without`, would do nothing in that mode, and what to write
    /// instead; `None` if it does something.
    pub(super) fn refusal(self, mode: Mode, without: &[Feature]) -> Option<String> {
        let Mode { net, nic, folder, in_memory, tls, writable } = mode;
        let off = |feature| without.contains(&feature);
        let name = self.name();
        if folder && self == Feature::StoredSums {
            return Some(format!(
                "--without {name} does nothing here: a folder stores no sums. Leave --store folder out"
            ));
        }
        if self == Feature::Grouping && folder {
            return Some(format!(
                "--without {name} does nothing here: a folder says nothing of what is wanted together. Leave --store folder out"
            ));
        }
        if matches!(self, Feature::AsyncReads | Feature::Grouping) && in_memory {
            return Some(format!(
                "--without {name} does nothing here: the image is small and in memory. Take one of more than 64 MiB"
            ));
        }
        let needs_own_stack = |whose: &str| {
            Some(format!(
                "{whose}: --without {name} is for our own TCP/IP, add --net tap, ring, xdp or packet"
            ))
        };
        if self == Feature::FusedLoops && tls {
            return None;
        }
        if self == Feature::ZeroCopy && (folder || off(Feature::Pinning)) {
            let (what, instead) = match folder {
                true => ("a folder's files are not in memory whole", "Leave --store folder out"),
                false => ("without pinning all is copied", "Leave pinning on"),
            };
            return Some(format!("--without {name} does nothing here: {what}. {instead}"));
        }
        if self == Feature::FrameSealing && !tls {
            return Some(format!(
                "--without {name} does nothing here: nothing is sealed. Add --tls-cert and --tls-key"
            ));
        }
        if self == Feature::FrameSealing && off(Feature::FusedLoops) {
            return Some(format!(
                "--without {name} does nothing beside fused-loops: then copying, encrypting and hashing are passes of \
                 their own. Leave one out"
            ));
        }
        if self == Feature::PlacedInput && !writable {
            return Some(format!("--without {name} does nothing here: nothing is put. Add --writable"));
        }
        if net == Net::Kernel {
            return match self {
                Feature::PlacedInput => needs_own_stack("the kernel verifies what comes"),
                Feature::FrameSealing => needs_own_stack("the kernel makes the frames"),
                Feature::Offload => {
                    needs_own_stack("the kernel's offloads are the kernel's to switch (`ethtool -K`)")
                }
                Feature::FusedLoops => {
                    needs_own_stack("the kernel copies and sums, and without --tls-cert nothing is sealed")
                }
                Feature::StoredSums | Feature::CachedSums => needs_own_stack("the kernel copies and sums"),
                Feature::TimeWaitRecords => {
                    needs_own_stack("TIME-WAIT is the kernel's, and by records already")
                }
                _ => None,
            };
        }
        let device_sums = net.has_offloads() && !nic && !off(Feature::Offload);
        let sums_are_known = !nic && (!off(Feature::CachedSums) || !folder && !off(Feature::StoredSums));
        match self {
            Feature::PlacedInput if device_sums => Some(format!(
                "--without {name} does nothing while the device verifies: no loop of ours does. Add offload to --without, or \
                 take --net xdp or --net packet"
            )),
            Feature::FusedLoops if device_sums => Some(format!(
                "--without {name} does nothing while the device sums and cuts: no loop of ours touches the payload. Add \
                 offload to --without, or take --nic, --net xdp or --net packet"
            )),
            Feature::FusedLoops if sums_are_known => {
                let sums = if folder { "cached-sums" } else { "stored-sums,cached-sums" };
                Some(format!(
                    "--without {name} does nothing while sums are known without a loop: add {sums} to --without"
                ))
            }
            Feature::StoredSums | Feature::CachedSums if device_sums || nic => {
                let who = if nic { "the adapter's loop sums every byte" } else { "the device sums" };
                Some(format!(
                    "--without {name} does nothing here: {who}, so no sum is looked for. Take --without offload,{name} \
                     and no --nic"
                ))
            }
            Feature::ZeroCopy => Some(format!(
                "--without {name} is for the kernel's sockets: our own TCP/IP makes no copy but the device's. Leave --net out"
            )),
            Feature::DeferredAccept => Some(format!(
                "--without {name} is for the kernel's sockets: on our own TCP/IP a connection is a block of memory, which no \
                 call has to fetch. Leave --net out"
            )),
            Feature::Offload if !net.has_offloads() || nic => {
                let what = match net {
                    _ if nic => "an emulated adapter",
                    Net::Xdp => "AF_XDP",
                    _ => "the packet device",
                };
                Some(format!("--without {name} does nothing here: {what} has no offloads"))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Feature {
    type Err = String;

    fn from_str(text: &str) -> Result<Feature, String> {
        match Feature::ALL.into_iter().find(|feature| feature.name() == text) {
            Some(feature) => Ok(feature),
            None => {
                let names: Vec<&str> = Feature::ALL.iter().map(|feature| feature.name()).collect();
                Err(format!("there are {}", names.join(", ")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for feature in Feature::ALL {
            assert_eq!(feature.name().parse(), Ok(feature));
        }
        for net in Net::ALL {
            assert_eq!(net.name().parse(), Ok(net));
        }
    }

    #[test]
    fn sealing_in_the_frame_is_switched_where_there_are_both() {
        let refusal = |net, tls, without: &[Feature]| {
            Feature::FrameSealing.refusal(
                Mode { net, nic: false, folder: false, in_memory: false, tls, writable: false },
                without,
            )
        };
        let only = [Feature::FrameSealing];
        assert_eq!(refusal(Net::Ring, true, &only), None);
        assert!(refusal(Net::Tap, false, &only).unwrap().contains("--tls-cert"));
        assert!(refusal(Net::Kernel, true, &only).unwrap().contains("--net tap"));
        let both = [Feature::FrameSealing, Feature::FusedLoops];
        assert!(refusal(Net::Tap, true, &both).unwrap().contains("passes of their own"));
    }

    /// A folder has no sums, so loops need less to be off there.
    #[test]
    fn a_folder_stores_no_sums() {
        let mode =
            Mode { net: Net::Tap, nic: false, folder: true, in_memory: false, tls: false, writable: false };
        let off = [Feature::Offload, Feature::CachedSums, Feature::FusedLoops];
        assert_eq!(off.map(|feature| feature.refusal(mode, &off)), [None, None, None]);
        assert!(Feature::StoredSums.refusal(mode, &off).is_some());
        assert!(Feature::FusedLoops.refusal(mode, &off[..1]).unwrap().contains("add cached-sums"));
    }

    #[test]
    fn a_switch_works_somewhere() {
        let prepared = [Feature::Offload, Feature::StoredSums, Feature::CachedSums];
        for feature in Feature::ALL {
            let mut without = vec![feature];
            without.extend(prepared);
            let tls = feature == Feature::FrameSealing;
            let refusal = |net| {
                feature.refusal(
                    Mode { net, nic: false, folder: false, in_memory: false, tls, writable: true },
                    &without,
                )
            };
            assert!(refusal(Net::Tap).is_none() || refusal(Net::Kernel).is_none(), "{feature}");
        }
    }
}
