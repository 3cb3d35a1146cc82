//! A site that can hold a loop: whoever asks for `/held` is answered when the test lets go, and everybody
//! else with it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use cheetah::store::{Found, Store};
use fsstack::cache::BlockReader;

#[derive(Debug)]
pub struct Gated {
    store: Arc<dyn Store>,
    gate: Mutex<()>,
    is_held: AtomicBool,
}

impl Gated {
    pub fn new(store: Arc<dyn Store>) -> Arc<Gated> {
        Arc::new(Gated { store, gate: Mutex::new(()), is_held: AtomicBool::new(false) })
    }

    /// Until that is dropped, the loop that is asked for `/held` waits.
    pub fn shut(&self) -> MutexGuard<'_, ()> {
        self.gate.lock().unwrap()
    }

    /// A loop waits.
    pub fn until_held(&self) {
        super::until("a loop is held", || self.is_held.load(Ordering::Relaxed));
    }
}

impl Store for Gated {
    fn look_up(&self, path: &[u8], reader: &BlockReader) -> Found {
        if path == b"/held" {
            self.is_held.store(true, Ordering::Relaxed);
            drop(self.gate.lock().unwrap());
        }
        self.store.look_up(path, reader)
    }
}
