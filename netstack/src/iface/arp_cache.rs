//! Which hardware address a neighbour has (RFC 826, RFC 1122 section 2.3.2); of IPv6 the same, asked for
//! otherwise (RFC 4861 section 7).
//!
//! ```text
//!   lookup ----------> (unknown) --request--> Incomplete --reply--> Known --60 s--> Stale --request, still used--.
//!                                                 |                   ^                |                         |
//!                                       3 requests unanswered         '---- reply -----'   3 unanswered ---------'
//!                                                 v                                                    v
//!                                            unreachable for 3 s                                    forgotten
//! ```
//!
//! Bounded, whatever the link says: strangers' gratuitous announcements change entries but never make one, a
//! request aimed at us may take the place of the least recently used entry, and requests go out once a second
//! at most for each address. The cache sends nothing itself: it says what to ask, and when.
//!
//! Who sends to one neighbour for long keeps a [`Hop`], by which the entry is found without a search.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use runtime::time::Instant;

use crate::wire::EthernetAddress;

/// How long an answer is believed.
pub const REACHABLE: Duration = Duration::from_secs(60);

/// Least time between requests for one address (RFC 1122 section 2.3.2.1).
pub const REQUEST_INTERVAL: Duration = Duration::from_secs(1);

/// Requests without an answer after which a neighbour counts as gone.
pub const MAX_REQUESTS: u8 = 3;

/// How long a silent neighbour is not asked for again.
pub const UNREACHABLE: Duration = Duration::from_secs(3);

/// Entries kept at most, if nothing else is asked for.
pub const DEFAULT_CAPACITY: usize = 1024;

/// An address that neighbours may have: of either family.
pub trait Neighbor: Copy + Ord {
    /// Whether it is not a group's, everyone's or no one's.
    fn is_one_host(&self) -> bool;
}

impl Neighbor for Ipv4Addr {
    fn is_one_host(&self) -> bool {
        !(self.is_unspecified() || self.is_broadcast() || self.is_multicast())
    }
}

impl Neighbor for Ipv6Addr {
    fn is_one_host(&self) -> bool {
        crate::iface::ipv6::is_unicast(*self)
    }
}

/// What is known of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Send there.
    Found(EthernetAddress),
    /// An answer is awaited.
    Pending,
    /// Nobody answered lately.
    Unreachable,
}

/// What the cache wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<A> {
    /// Broadcast a request for the address.
    Request(A),
    /// Ask the hardware address that had it whether it still has it (RFC 1122 section 2.3.2.1 (2), unicast
    /// poll).
    Probe(A, EthernetAddress),
    /// The address does not answer: what waits for it may give up.
    Unreachable(A),
    /// Nobody asks for the address any more, for others needed its place: what waits for it waits in vain.
    PushedOut(A),
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Asked `requests` times so far (0: the first is about to go out).
    Incomplete { requests: u8 },
    /// Answered. `requests` counts those sent after `expires`.
    Known { hardware_addr: EthernetAddress, expires: Instant, requests: u8 },
    /// Silent until the time in `due`.
    Unreachable,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    state: State,
    /// When [`ArpCache::poll`] has something to do for it; `None` for never.
    due: Option<Instant>,
    last_used: Instant,
}

/// Where an entry stands: what a connection keeps of its next hop. The entry may have gone since, or the
/// route to it; then the hop finds nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hop {
    slot: u16,
    /// That of the slot when the entry was in it; zero: of none.
    generation: u16,
}

impl Hop {
    /// Finds nothing.
    pub const NONE: Hop = Hop { slot: 0, generation: 0 };
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    entry: Entry,
    /// Counts those that were in it. Zero once numbers are used up: it gives out no hops, and is used only
    /// where there is no other.
    generation: u16,
}

impl Slot {
    /// What hops of earlier generations found is found no more.
    fn forget_hops(&mut self) {
        if self.generation != 0 {
            self.generation = self.generation.wrapping_add(1);
        }
    }
}

/// Hardware addresses of neighbours.
#[derive(Clone, Debug)]
pub struct ArpCache<A = Ipv4Addr> {
    /// Which slot an address has.
    entries: BTreeMap<A, u16>,
    /// Each is good for 65,535 hops: there are as many as entries, and one more for each 65,535 hops that
    /// were forgotten.
    slots: Vec<Slot>,
    free: Vec<u16>,
    /// Slots without numbers, which would be in use again after four thousand million.
    used_up: Vec<u16>,
    capacity: usize,
    /// A lower bound of all entries' `due`: lets `poll` return at once.
    next_due: Option<Instant>,
    /// Addresses that were asked for when they lost their entry, and of which [`ArpCache::poll`] has not told
    /// yet; no more than entries.
    pushed_out: Vec<A>,
}

impl<A: Neighbor> Default for ArpCache<A> {
    fn default() -> ArpCache<A> {
        ArpCache::new(DEFAULT_CAPACITY)
    }
}

impl<A: Neighbor> ArpCache<A> {
    /// An empty cache for at most `capacity` neighbours (at least one, at most 65,535).
    pub const fn new(capacity: usize) -> ArpCache<A> {
        let most = u16::MAX as usize;
        ArpCache {
            entries: BTreeMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            used_up: Vec::new(),
            capacity: if capacity == 0 {
                1
            } else if capacity > most {
                most
            } else {
                capacity
            },
            next_due: None,
            pushed_out: Vec::new(),
        }
    }

    /// What hardware address to send to for the on-link address `addr`. An unknown one is asked for: call
    /// [`ArpCache::poll`] afterwards.
    pub fn lookup(&mut self, now: Instant, addr: A) -> Lookup {
        self.lookup_hop(now, addr).0
    }

    /// The same, and the hop by which it is found again.
    pub fn lookup_hop(&mut self, now: Instant, addr: A) -> (Lookup, Hop) {
        if let Some(&slot) = self.entries.get(&addr) {
            let hop = Hop { slot, generation: self.slots[usize::from(slot)].generation };
            return (self.used(now, slot), hop);
        }
        if self.pushed_out.len() >= self.capacity {
            // More at once than the table has room for: this one is not even asked for.
            return (Lookup::Unreachable, Hop::NONE);
        }
        let state = State::Incomplete { requests: 0 };
        self.insert(addr, Entry { state, due: Some(now), last_used: now });
        (Lookup::Pending, Hop::NONE)
    }

    /// The hardware address of who `hop` is of; `None` if [`ArpCache::lookup_hop`] has to be asked: that
    /// entry is gone, routes have changed, or there is no answer.
    #[inline]
    pub fn find(&mut self, now: Instant, hop: Hop) -> Option<EthernetAddress> {
        let slot = self.slots.get(usize::from(hop.slot))?;
        if hop.generation == 0 || slot.generation != hop.generation {
            return None;
        }
        match self.used(now, hop.slot) {
            Lookup::Found(addr) => Some(addr),
            Lookup::Pending | Lookup::Unreachable => None,
        }
    }

    /// Knows nobody any more, and asks for nobody.
    pub fn clear(&mut self) {
        while let Some((&addr, _)) = self.entries.first_key_value() {
            self.remove(addr);
        }
        self.pushed_out.clear();
        self.next_due = None;
    }

    /// Routes have changed: no hop that was given out before finds anything.
    pub fn forget_hops(&mut self) {
        self.slots.iter_mut().for_each(Slot::forget_hops);
        let mut entries = std::mem::take(&mut self.entries);
        for slot in entries.values_mut() {
            let Slot { entry, generation } = self.slots[usize::from(*slot)];
            if generation == 0 {
                let before = std::mem::replace(slot, self.place(entry));
                self.used_up.push(before);
            }
        }
        self.entries = entries;
    }

    /// Somebody wants to send to who is in `slot`.
    #[inline]
    fn used(&mut self, now: Instant, slot: u16) -> Lookup {
        let entry = &mut self.slots[usize::from(slot)].entry;
        entry.last_used = now;
        match &mut entry.state {
            State::Known { hardware_addr, expires, requests } => {
                let found = *hardware_addr;
                if now >= *expires && *requests == 0 && entry.due.is_none() {
                    entry.due = Some(now);
                    self.note_due(now);
                }
                Lookup::Found(found)
            }
            State::Incomplete { .. } => Lookup::Pending,
            State::Unreachable => Lookup::Unreachable,
        }
    }

    /// Takes in the sender's addresses of an ARP packet. `for_us` says that its target is our address: only
    /// then may it make a new entry (RFC 826's merge flag). Returns whether something waited for this answer.
    pub fn learn(&mut self, now: Instant, addr: A, hardware_addr: EthernetAddress, for_us: bool) -> bool {
        if !hardware_addr.is_unicast() || !addr.is_one_host() {
            return false;
        }
        let state = State::Known { hardware_addr, expires: now + REACHABLE, requests: 0 };
        match self.entries.get(&addr) {
            Some(&slot) => {
                let entry = &mut self.slots[usize::from(slot)].entry;
                let waited = matches!(entry.state, State::Incomplete { .. });
                entry.state = state;
                entry.due = None;
                waited
            }
            None => {
                if for_us {
                    self.insert(addr, Entry { state, due: None, last_used: now });
                }
                // Its question may have been pushed out of the table meanwhile: someone may wait all the
                // same.
                for_us
            }
        }
    }

    /// The next thing to do at `now`; call until `None`.
    pub fn poll(&mut self, now: Instant) -> Option<Action<A>> {
        if let Some(addr) = self.pushed_out.pop() {
            return Some(Action::PushedOut(addr));
        }
        while self.next_due.is_some_and(|due| due <= now) {
            let is_due = |&(_, &slot): &(&A, &u16)| {
                self.slots[usize::from(slot)].entry.due.is_some_and(|due| due <= now)
            };
            let Some((&addr, &slot)) = self.entries.iter().find(is_due) else {
                let all = self.entries.values().filter_map(|&slot| self.slots[usize::from(slot)].entry.due);
                self.next_due = all.min();
                break;
            };
            let entry = &mut self.slots[usize::from(slot)].entry;
            entry.due = Some(now + REQUEST_INTERVAL);
            match &mut entry.state {
                State::Incomplete { requests } if *requests < MAX_REQUESTS => {
                    *requests += 1;
                    return Some(Action::Request(addr));
                }
                State::Incomplete { .. } => {
                    entry.state = State::Unreachable;
                    entry.due = Some(now + UNREACHABLE);
                    return Some(Action::Unreachable(addr));
                }
                State::Known { requests, hardware_addr, .. } if *requests < MAX_REQUESTS => {
                    *requests += 1;
                    return Some(Action::Probe(addr, *hardware_addr));
                }
                State::Known { .. } => {
                    self.remove(addr);
                    return Some(Action::Unreachable(addr));
                }
                State::Unreachable => {
                    self.remove(addr);
                }
            }
        }
        None
    }

    /// When [`ArpCache::poll`] may have something to do. May be early, never late.
    #[inline]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.next_due
    }

    /// Entries of any kind.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is known nor asked.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn insert(&mut self, addr: A, entry: Entry) {
        if self.entries.len() >= self.capacity {
            // Those without an answer go first: a scan of our prefix must not push out who is talking to us.
            let worth = |&(_, &slot): &(&A, &u16)| {
                let entry = &self.slots[usize::from(slot)].entry;
                (matches!(entry.state, State::Known { .. }), entry.last_used)
            };
            let victim = self.entries.iter().min_by_key(worth).map(|(addr, _)| *addr);
            if let Some(victim) = victim
                && let Some(Entry { state: State::Incomplete { .. }, .. }) = self.remove(victim)
            {
                self.pushed_out.push(victim);
                self.note_due(entry.last_used);
            }
        }
        if let Some(due) = entry.due {
            self.note_due(due);
        }
        let slot = self.place(entry);
        self.entries.insert(addr, slot);
    }

    /// Puts `entry` into a slot that has numbers left, if there can be one.
    fn place(&mut self, entry: Entry) -> u16 {
        while let Some(slot) = self.free.pop() {
            let free = &mut self.slots[usize::from(slot)];
            if free.generation != 0 {
                free.entry = entry;
                return slot;
            }
            self.used_up.push(slot);
        }
        if let Ok(slot) = u16::try_from(self.slots.len()) {
            self.slots.push(Slot { entry, generation: 1 });
            return slot;
        }
        // There are fewer entries than slots: one that is in no use is here.
        let slot = self.used_up.pop().unwrap_or_default();
        self.slots[usize::from(slot)].entry = entry;
        slot
    }

    fn remove(&mut self, addr: A) -> Option<Entry> {
        let slot = self.entries.remove(&addr)?;
        self.slots[usize::from(slot)].forget_hops();
        self.free.push(slot);
        Some(self.slots[usize::from(slot)].entry)
    }

    fn note_due(&mut self, due: Instant) {
        self.next_due = Some(self.next_due.map_or(due, |next| next.min(due)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const HW: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
    const HW2: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 2]);

    fn seconds(s: u64) -> Instant {
        Instant::from_millis(1000 * s)
    }

    #[test]
    fn asks_thrice_then_gives_up_for_a_while() {
        let mut cache = ArpCache::<Ipv4Addr>::default();
        assert_eq!(cache.lookup(seconds(0), ADDR), Lookup::Pending);
        for second in 0..3 {
            assert_eq!(cache.poll(seconds(second)), Some(Action::Request(ADDR)));
            assert_eq!(cache.poll(seconds(second)), None);
            assert_eq!(cache.poll_timeout(), Some(seconds(second + 1)));
            assert_eq!(cache.lookup(seconds(second), ADDR), Lookup::Pending);
            assert_eq!(cache.poll(seconds(second)), None, "no second request within the interval");
        }
        assert_eq!(cache.poll(seconds(3)), Some(Action::Unreachable(ADDR)));
        assert_eq!(cache.lookup(seconds(4), ADDR), Lookup::Unreachable);
        assert_eq!(cache.poll(seconds(6)), None);
        assert!(cache.is_empty());
        assert_eq!(cache.lookup(seconds(6), ADDR), Lookup::Pending);
        assert_eq!(cache.poll(seconds(6)), Some(Action::Request(ADDR)));
    }

    #[test]
    fn answers_are_used_beyond_their_time_while_asked_again() {
        let mut cache = ArpCache::<Ipv4Addr>::default();
        cache.lookup(seconds(0), ADDR);
        cache.poll(seconds(0));
        assert!(cache.learn(seconds(0), ADDR, HW, true));
        assert_eq!(cache.lookup(seconds(59), ADDR), Lookup::Found(HW));
        assert_eq!(cache.poll(seconds(59)), None);
        assert_eq!(cache.lookup(seconds(61), ADDR), Lookup::Found(HW));
        assert_eq!(cache.poll(seconds(61)), Some(Action::Probe(ADDR, HW)));
        assert!(!cache.learn(seconds(61), ADDR, HW2, false), "a probe's answer frees nobody");
        assert_eq!(cache.lookup(seconds(62), ADDR), Lookup::Found(HW2));
        assert_eq!(cache.poll(seconds(62)), None);
        // Silence this time.
        cache.lookup(seconds(130), ADDR);
        for second in 130..133 {
            assert_eq!(cache.poll(seconds(second)), Some(Action::Probe(ADDR, HW2)));
        }
        assert_eq!(cache.poll(seconds(133)), Some(Action::Unreachable(ADDR)));
        assert!(cache.is_empty());
    }

    #[test]
    fn an_answer_frees_who_waits_even_when_its_question_gave_way() {
        let mut cache = ArpCache::new(2);
        cache.lookup(seconds(0), ADDR);
        for host in 2..10 {
            cache.lookup(seconds(1), Ipv4Addr::new(10, 0, 0, host));
        }
        assert!(cache.learn(seconds(2), ADDR, HW, true), "the answer to our question");
        assert!(!cache.learn(seconds(2), Ipv4Addr::new(10, 0, 0, 200), HW2, false), "talk of others");
        assert_eq!(cache.lookup(seconds(2), ADDR), Lookup::Found(HW));
    }

    #[test]
    fn strangers_cannot_fill_or_poison_by_announcement() {
        let mut cache = ArpCache::new(4);
        cache.learn(seconds(0), ADDR, HW, true);
        for host in 2..200 {
            cache.learn(seconds(1), Ipv4Addr::new(10, 0, 0, host), HW2, false);
        }
        assert_eq!(cache.len(), 1);
        for bad in [EthernetAddress::BROADCAST, EthernetAddress([1, 0, 0, 0, 0, 0]), EthernetAddress([0; 6])]
        {
            cache.learn(seconds(1), ADDR, bad, true);
        }
        cache.learn(seconds(1), Ipv4Addr::UNSPECIFIED, HW, true);
        cache.learn(seconds(1), Ipv4Addr::BROADCAST, HW, true);
        assert_eq!(cache.len(), 1);
        assert_eq!(cache.lookup(seconds(2), ADDR), Lookup::Found(HW));
    }

    #[test]
    fn a_hop_finds_its_neighbor_until_that_is_gone() {
        let mut cache = ArpCache::new(2);
        assert_eq!(cache.find(seconds(0), Hop::NONE), None);
        let (lookup, hop) = cache.lookup_hop(seconds(0), ADDR);
        assert_eq!((lookup, cache.find(seconds(0), hop)), (Lookup::Pending, None));
        cache.learn(seconds(0), ADDR, HW, true);
        let (_, hop) = cache.lookup_hop(seconds(0), ADDR);
        assert_eq!(cache.find(seconds(1), hop), Some(HW));
        cache.learn(seconds(1), ADDR, HW2, false);
        assert_eq!(cache.find(seconds(2), hop), Some(HW2), "it has another address now");
        // Its use keeps it: another gives way, and it is asked again in time.
        for host in 2..10 {
            cache.find(seconds(10 + u64::from(host)), hop);
            cache.learn(seconds(10), Ipv4Addr::new(10, 0, 0, host), HW, true);
        }
        assert_eq!(cache.find(seconds(62), hop), Some(HW2));
        assert_eq!(cache.poll(seconds(62)), Some(Action::Probe(ADDR, HW2)));
        for second in 63..65 {
            assert!(cache.poll(seconds(second)).is_some());
        }
        assert_eq!(cache.poll(seconds(65)), Some(Action::Unreachable(ADDR)));
        assert_eq!(cache.find(seconds(65), hop), None, "forgotten");
        // Who has its place now is another.
        let stranger = Ipv4Addr::new(10, 0, 0, 99);
        cache.learn(seconds(66), stranger, HW, true);
        assert_eq!(cache.find(seconds(66), hop), None);
        let (_, hop) = cache.lookup_hop(seconds(66), stranger);
        assert_eq!(cache.find(seconds(66), hop), Some(HW));
        cache.forget_hops();
        assert_eq!(cache.find(seconds(66), hop), None, "the way there may be another");
        let (_, hop) = cache.lookup_hop(seconds(66), stranger);
        cache.clear();
        assert_eq!((cache.find(seconds(66), hop), cache.is_empty()), (None, true));
        cache.learn(seconds(66), ADDR, HW, true);
        assert_eq!(cache.find(seconds(66), hop), None);
    }

    /// Whose numbers are used up gives way to another slot: no hop comes back, and each neighbour has one.
    #[test]
    fn no_hop_is_of_two_neighbors() {
        let mut cache = ArpCache::new(1);
        let mut given = std::collections::HashSet::new();
        for number in 0..70_000u32 {
            let addr = Ipv4Addr::from_bits(0x0a00_0001 + number);
            cache.learn(seconds(0), addr, HW, true);
            let (lookup, hop) = cache.lookup_hop(seconds(0), addr);
            assert_eq!(lookup, Lookup::Found(HW));
            assert_eq!(cache.find(seconds(0), hop), Some(HW));
            assert!(given.insert((hop.slot, hop.generation)));
        }
        assert_eq!((given.len(), cache.slots.len()), (70_000, 2));
    }

    /// The same where the neighbours stay, and the routes change.
    #[test]
    fn neighbors_have_hops_however_often_routes_have_changed() {
        let mut cache = ArpCache::new(4);
        let others = [ADDR, Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 3)];
        for addr in others {
            cache.learn(seconds(0), addr, HW, true);
        }
        cache.learn(seconds(0), others[2], HW2, true);
        let mut given = std::collections::HashSet::new();
        for _ in 0..70_000 {
            cache.forget_hops();
            let (_, hop) = cache.lookup_hop(seconds(0), others[2]);
            assert_eq!(cache.find(seconds(0), hop), Some(HW2));
            assert!(given.insert((hop.slot, hop.generation)));
        }
        assert_eq!((cache.len(), cache.slots.len()), (3, 6));
        assert_eq!(cache.lookup(seconds(0), others[1]), Lookup::Found(HW));
    }

    /// Slots are bounded as well: when the last has no numbers left, neighbours are found by their addresses.
    #[test]
    fn without_any_numbers_left_addresses_are_looked_up() {
        let mut cache = ArpCache::new(2);
        cache.learn(seconds(0), ADDR, HW, true);
        let spent = Slot { generation: 0, ..cache.slots[0] };
        cache.slots.resize(65_536, spent);
        cache.used_up.extend(1..=u16::MAX);
        cache.slots[0].generation = u16::MAX;
        cache.forget_hops();
        for number in 0..1000u32 {
            cache.learn(seconds(1), Ipv4Addr::from_bits(0x0a00_0100 + number), HW2, true);
            let (lookup, hop) = cache.lookup_hop(seconds(2), ADDR);
            cache.learn(seconds(3), ADDR, HW, true);
            assert!(matches!(lookup, Lookup::Found(HW)), "{number}");
            assert_eq!(cache.find(seconds(2), hop), None);
            assert_eq!((cache.slots.len(), cache.used_up.len()), (65_536, 65_536 - cache.len()));
        }
    }

    #[test]
    fn bounded_and_a_scan_spares_the_living() {
        let mut cache = ArpCache::new(4);
        cache.learn(seconds(0), ADDR, HW, true);
        for host in 2..200 {
            cache.lookup(seconds(1), Ipv4Addr::new(10, 0, 0, host));
            assert!(cache.len() <= 4);
        }
        assert_eq!(cache.lookup(seconds(2), ADDR), Lookup::Found(HW));
        let actions: Vec<_> = std::iter::from_fn(|| cache.poll(seconds(2))).collect();
        assert_eq!(actions.iter().filter(|action| matches!(action, Action::Request(_))).count(), 3);
        // Each that lost its place is told of; further ones got none.
        assert_eq!(actions.iter().filter(|action| matches!(action, Action::PushedOut(_))).count(), 4);
        assert_eq!(actions.len(), 7);
    }
}
