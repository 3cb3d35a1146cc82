//! An application that is only its connections: each a stream with its PCB, made when one comes in, gone when
//! it is over. Enough for servers that share nothing between connections; others keep their own records
//! ([`Application`]).

use std::fmt;

use runtime::time::Instant;

use crate::application::{Application, CloseReason, Key, Pcb, Stream};

/// Connections by key. `accept` makes the stream of one that came in; `None` refuses it.
pub struct Connections<S, F> {
    records: Vec<Option<(Pcb, S)>>,
    /// Free places among them.
    free: Vec<u32>,
    accept: F,
}

impl<S: Stream, F: FnMut(&Pcb) -> Option<S>> Connections<S, F> {
    /// None yet.
    pub fn new(accept: F) -> Connections<S, F> {
        Connections { records: Vec::new(), free: Vec::new(), accept }
    }

    /// Keeps the two halves of a connection. `None` if there are 2^32 already.
    pub fn insert(&mut self, pcb: Pcb, stream: S) -> Option<Key> {
        let at = match self.free.pop() {
            Some(at) => at,
            None => {
                self.records.push(None);
                u32::try_from(self.records.len() - 1).ok()?
            }
        };
        self.records[at as usize] = Some((pcb, stream));
        Some(Key(at))
    }

    /// The stream under `key`.
    pub fn stream(&mut self, key: Key) -> Option<&mut S> {
        Some(&mut self.records.get_mut(key.0 as usize)?.as_mut()?.1)
    }

    /// Connections that stand.
    pub fn len(&self) -> usize {
        self.records.len() - self.free.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<S: Stream, F: FnMut(&Pcb) -> Option<S>> Application for Connections<S, F> {
    type Stream<'a>
        = &'a mut S
    where
        Self: 'a;

    fn accept(&mut self, _now: Instant, pcb: Pcb) -> Option<Key> {
        let stream = (self.accept)(&pcb)?;
        self.insert(pcb, stream)
    }

    fn connection(&mut self, key: Key) -> Option<(&mut Pcb, &mut S)> {
        let (pcb, stream) = self.records.get_mut(key.0 as usize)?.as_mut()?;
        Some((pcb, stream))
    }

    fn closed(&mut self, _now: Instant, key: Key, _reason: CloseReason) {
        if self.records.get_mut(key.0 as usize).and_then(Option::take).is_some() {
            self.free.push(key.0);
        }
    }
}

impl<S, F> fmt::Debug for Connections<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections")
            .field("len", &(self.records.len() - self.free.len()))
            .finish_non_exhaustive()
    }
}
