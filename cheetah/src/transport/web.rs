//! The web server as the stack sees it: the owner of all connections, TCP's half and HTTP's side by side.

use netstack::application::{Application, CloseReason, Key, Stream};
use netstack::tcp::Pcb;
use runtime::payload::{Maker, PayloadSource, Pieces};
use runtime::time::Instant;
use slab::Slab;

use crate::channel::Channel;
use crate::service::Service;

/// Blocks of ended connections that are kept, with their buffers.
const MAX_SPARE: usize = 1024;

/// The stack's application: every connection, and what they share.
#[derive(Debug)]
pub struct Web {
    /// What the connections share.
    pub service: Service,
    /// The port whose connections are secured.
    pub(super) tls_port: Option<u16>,
    connections: Slab<Box<Record>>,
    /// Of ended connections: the pool that new ones are taken from.
    #[expect(
        clippy::vec_box,
        reason = "blocks go from here to the connections and back without being copied"
    )]
    spare: Vec<Box<Record>>,
}

/// A connection: TCP's half and HTTP's.
#[derive(Debug)]
struct Record {
    pcb: Pcb,
    conn: Channel,
}

/// A connection with what it shares, as the stack sees it.
#[derive(Debug)]
pub struct Exchange<'a> {
    conn: &'a mut Channel,
    service: &'a mut Service,
}

impl Web {
    /// No connections yet.
    pub fn new(mut service: Service) -> Web {
        if let Some(tls) = &mut service.tls {
            tls.seal_into_frames();
        }
        Web { service, tls_port: None, connections: Slab::new(), spare: Vec::new() }
    }

    /// Whether there is no connection.
    pub fn is_idle(&self) -> bool {
        self.connections.is_empty()
    }

    /// Number of connections.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Bytes queued and not yet acknowledged, over all connections: a look at each.
    pub fn held_bytes(&self) -> u64 {
        self.connections.iter().map(|(_, record)| record.conn.end() - record.conn.acknowledged_end()).sum()
    }

    /// Lets connections whose bodies have grown take that in. Gives their keys, for the stack to look at.
    pub fn woken(&mut self) -> Vec<Key> {
        let mut keys = self.service.wakes.take();
        keys.retain(|&key| match self.connections.get_mut(key as usize) {
            Some(record) => {
                record.conn.resume(&mut self.service);
                true
            }
            None => false,
        });
        keys.into_iter().map(Key).collect()
    }

    /// Gives up what is left of connections, when nothing more is done for them.
    pub fn give_up(&mut self) {
        self.connections.iter_mut().for_each(|(_, record)| record.conn.retire(&mut self.service));
    }

    /// Begins to drain: idle connections end now. Gives the keys of all, for the stack to look at.
    pub fn drain(&mut self) -> Vec<Key> {
        self.service.draining = true;
        let drained = self.connections.iter_mut().map(|(key, record)| {
            record.conn.drain(&mut self.service);
            // Keys were given out by `accept`, which refuses larger ones.
            Key(key as u32)
        });
        drained.collect()
    }
}

impl Application for Web {
    type Stream<'a> = Exchange<'a>;

    fn accept(&mut self, _now: Instant, pcb: Pcb) -> Option<Key> {
        if self.connections.len() >= self.service.options.max_connections {
            return None;
        }
        let peer = Some(pcb.remote());
        let secured = self.tls_port == Some(pcb.local().port());
        let entry = self.connections.vacant_entry();
        let key = u32::try_from(entry.key()).ok().map(Key)?;
        let record = entry.insert(match self.spare.pop() {
            Some(mut record) => {
                record.pcb = pcb;
                record.conn.reset(&mut self.service, peer, secured);
                record
            }
            None => Box::new(Record { pcb, conn: Channel::new(&mut self.service, peer, secured) }),
        });
        record.conn.set_key(key.0);
        Some(key)
    }

    fn connection(&mut self, key: Key) -> Option<(&mut Pcb, Exchange<'_>)> {
        let record = &mut **self.connections.get_mut(key.0 as usize)?;
        Some((&mut record.pcb, Exchange { conn: &mut record.conn, service: &mut self.service }))
    }

    fn closed(&mut self, _now: Instant, key: Key, _reason: CloseReason) {
        if let Some(mut record) = self.connections.try_remove(key.0 as usize) {
            self.service.stats.closed += 1;
            // Let go of the site that its responses were of.
            record.conn.retire(&mut self.service);
            if self.service.options.pcb_pool && self.spare.len() < MAX_SPARE {
                self.spare.push(record);
            }
        }
    }
}

impl PayloadSource for Exchange<'_> {
    fn end(&self) -> u64 {
        self.conn.end()
    }

    fn is_finished(&self) -> bool {
        self.conn.is_finished()
    }

    fn pieces<'a>(&'a self, offset: u64, len: usize, out: &mut Pieces<'a>) -> usize {
        self.conn.pieces(offset, len, out)
    }

    fn acknowledged(&mut self, offset: u64) {
        self.conn.acknowledged(offset);
        self.conn.resume(self.service);
    }

    fn maker(&self) -> Option<&dyn Maker> {
        self.conn.maker()
    }
}

impl Stream for Exchange<'_> {
    fn receive(&mut self, _now: Instant, bytes: &[u8]) -> usize {
        self.conn.on_bytes(self.service, bytes)
    }

    fn place(&mut self, bytes: &[u8]) -> Option<u16> {
        if self.service.options.in_place_parse { self.conn.place(bytes) } else { None }
    }

    fn forget_placed(&mut self) {
        self.conn.forget_placed();
    }

    fn window(&self) -> usize {
        self.conn.window(self.service)
    }

    fn receive_finished(&mut self, _now: Instant) {
        self.conn.on_end(self.service);
    }

    fn part_end(&self, offset: u64) -> Option<u64> {
        self.conn.part_end(offset)
    }

    fn reads_no_more(&self) -> bool {
        // Only ever finished once no further request is answered.
        self.conn.is_finished()
    }

    fn deadline(&self) -> Option<Instant> {
        self.conn.deadline(self.service)
    }

    fn timeout(&mut self, _now: Instant) {
        self.conn.on_timeout(self.service);
    }

    fn is_aborted(&self) -> bool {
        self.conn.is_aborted()
    }
}
