//! A bounded pool of buffers of one size.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::memory::Region;
use super::shared::{Memory, Shared, Store};

/// Buffers of one size that are used again and again. Cheap to clone: the clones are one pool, also in other
/// threads.
#[derive(Clone)]
pub struct Pool {
    home: Arc<Home>,
}

pub(super) struct Home {
    buffer_bytes: usize,
    capacity: usize,
    /// Buffers are parts of memory that was given.
    of_regions: bool,
    state: Mutex<State>,
}

struct State {
    /// Each the only reference to its memory, and without a home, or the pool would keep itself alive.
    free: Vec<Arc<Store>>,
    /// Of memory that was given: the parts of it that are no buffers yet.
    regions: Vec<Region>,
    /// Buffers in use.
    out: usize,
}

impl Pool {
    /// A pool of at most `capacity` buffers of `buffer_bytes` bytes. Buffers are made when they are first
    /// needed.
    pub fn new(buffer_bytes: usize, capacity: usize) -> Pool {
        Pool::with(buffer_bytes, capacity, None)
    }

    /// A pool of buffers in these parts of [`SharedMemory`](super::SharedMemory), which are of one length.
    pub fn of_regions(regions: Vec<Region>) -> Pool {
        let buffer_bytes = regions.iter().map(|region| region.bytes().len()).min().unwrap_or(0);
        Pool::with(buffer_bytes, regions.len(), Some(regions))
    }

    fn with(buffer_bytes: usize, capacity: usize, regions: Option<Vec<Region>>) -> Pool {
        let of_regions = regions.is_some();
        let state = State { free: Vec::new(), regions: regions.unwrap_or_default(), out: 0 };
        Pool { home: Arc::new(Home { buffer_bytes, capacity, of_regions, state: Mutex::new(state) }) }
    }

    /// A buffer, whose bytes are whatever its last user left; `None` if all are in use.
    pub fn take(&self) -> Option<Buffer> {
        let mut state = self.home.state();
        let mut store = match state.free.pop() {
            Some(store) => store,
            None if self.home.of_regions => Arc::new(Store::new(Memory::Region(state.regions.pop()?))),
            None if state.out < self.home.capacity => {
                Arc::new(Store::new(Memory::Own(vec![0; self.home.buffer_bytes].into())))
            }
            None => return None,
        };
        // What lies in the pool has no other user.
        let inner = Arc::get_mut(&mut store)?;
        inner.name.generation += 1;
        inner.home = Some(Arc::clone(&self.home));
        state.out += 1;
        Some(Buffer::new(store))
    }

    /// Number of buffers in use.
    pub fn in_use(&self) -> usize {
        self.home.state().out
    }

    /// Number of buffers that could be taken now.
    pub fn available(&self) -> usize {
        self.home.capacity.saturating_sub(self.in_use())
    }

    /// Length of a buffer in bytes.
    pub fn buffer_bytes(&self) -> usize {
        self.home.buffer_bytes
    }
}

impl Home {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One reference less to `store`; the last one puts it back to its pool.
    pub(super) fn take_back(mut store: Arc<Store>) {
        // Most are not the last, and that is cheaper to see than to be sure of.
        if Arc::strong_count(&store) > 1 {
            return;
        }
        // Two threads that let go of the last two references at once may both find another here. Then the
        // memory is freed, and `Store::drop` counts it.
        let home = Arc::get_mut(&mut store).and_then(|store| store.home.take());
        if let Some(home) = home {
            let mut state = home.state();
            state.out -= 1;
            state.free.push(store);
        }
    }

    /// A buffer in use is gone for good; its part of given memory is not.
    pub(super) fn lost(&self, memory: Memory) {
        let mut state = self.state();
        state.out -= 1;
        if let Memory::Region(region) = memory {
            state.regions.push(region);
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("buffer_bytes", &self.home.buffer_bytes)
            .field("capacity", &self.home.capacity)
            .field("in_use", &self.in_use())
            .finish()
    }
}

/// A buffer with one owner, who may write it. Goes back to its pool when dropped.
pub struct Buffer {
    /// The only reference; `None` only while it is being dropped or frozen.
    store: Option<Arc<Store>>,
}

impl Buffer {
    pub(super) fn new(store: Arc<Store>) -> Buffer {
        Buffer { store: Some(store) }
    }

    /// Ends the writing: from now on the bytes can be shared, and never change.
    pub fn freeze(mut self) -> Shared {
        match self.store.take() {
            Some(store) => Shared::new(store),
            None => Shared::from(Vec::new()),
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.store.as_ref().map_or(&[], |store| store.bytes())
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self.store.as_mut().and_then(Arc::get_mut).map(|store| &mut store.memory) {
            Some(Memory::Own(bytes)) => bytes,
            Some(Memory::Region(region)) => region.bytes_mut(),
            // Never so: buffers have memory of their own.
            _ => &mut [],
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(store) = self.store.take() {
            Home::take_back(store);
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("len", &self.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_bounded_and_uses_buffers_again() {
        let pool = Pool::new(16, 2);
        let mut a = pool.take().unwrap();
        let b = pool.take().unwrap();
        assert!(pool.take().is_none());
        a[0] = 7;
        let address = a.as_ptr();
        drop(a);
        let again = pool.take().unwrap();
        assert_eq!((again.as_ptr(), again.len(), pool.in_use()), (address, 16, 2));
        drop((b, again));
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn a_shared_buffer_comes_back_with_its_last_user() {
        let pool = Pool::new(4, 1);
        let shared = pool.take().unwrap().freeze();
        let other = shared.clone();
        let shared = shared.thaw().unwrap_err();
        drop(shared);
        assert!(pool.take().is_none());
        assert!(other.thaw().is_ok());
        assert!(pool.take().is_some());
    }

    #[test]
    fn every_filling_has_a_name_of_its_own() {
        let pool = Pool::new(4, 2);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..5 {
            let first = pool.take().unwrap().freeze();
            let second = pool.take().unwrap().freeze();
            assert!(seen.insert(first.name()) && seen.insert(second.name()));
            assert_eq!(first.clone().name(), first.name());
            let again = first.thaw().unwrap().freeze();
            assert!(seen.insert(again.name()), "thawed, it may have other bytes");
        }
        assert!(seen.insert(Shared::from(vec![1]).name()));
        assert!(seen.insert(Shared::from_owner([1u8; 4]).name()));
    }

    #[test]
    fn a_part_knows_its_place() {
        let shared = Shared::from(vec![0; 10]);
        assert_eq!(shared.offset_of(&shared[3..7]), Some(3));
        assert_eq!(shared.offset_of(&shared[10..]), Some(10));
        assert_eq!(shared.offset_of(&[0; 10]), None);
        assert!(shared.thaw().is_ok_and(|buffer| buffer.len() == 10));
        assert!(Shared::from_owner([0u8; 4]).thaw().is_err(), "not ours to write");
    }

    /// The count of a pool is right however the last references go.
    #[test]
    fn threads_let_go_of_the_same_buffers() {
        let pool = Pool::new(8, 4);
        for _ in 0..200 {
            let buffers: Vec<Shared> = (0..4).map(|_| pool.take().unwrap().freeze()).collect();
            let copies = buffers.clone();
            let other = std::thread::spawn(move || drop(copies));
            drop(buffers);
            other.join().unwrap();
            assert_eq!(pool.in_use(), 0);
        }
    }

    #[test]
    fn memory_outlives_the_handle_of_its_pool() {
        let pool = Pool::new(8, 1);
        let mut buffer = pool.take().unwrap();
        let weak = Arc::downgrade(&pool.home);
        drop(pool);
        buffer.fill(3);
        let shared = buffer.freeze();
        assert_eq!(shared[..], [3; 8]);
        drop(shared);
        assert!(weak.upgrade().is_none(), "the pool went with its last buffer");
    }
}
