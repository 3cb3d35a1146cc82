//! A bounded pool of buffers of one size.

use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

/// Buffers of one size that are used again and again. Cheap to clone: the clones are one pool.
#[derive(Clone)]
pub struct Pool {
    home: Rc<Home>,
}

struct Home {
    buffer_bytes: usize,
    capacity: usize,
    state: RefCell<State>,
}

struct State {
    free: Vec<Box<[u8]>>,
    /// Buffers in use.
    out: usize,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Home { buffer_bytes, capacity, .. } = *self.home;
        f.debug_struct("Pool")
            .field("buffer_bytes", &buffer_bytes)
            .field("capacity", &capacity)
            .field("in_use", &self.in_use())
            .finish()
    }
}

impl Pool {
    /// A pool of at most `capacity` buffers of `buffer_bytes` bytes. Buffers are made when they are first
    /// needed.
    pub fn new(buffer_bytes: usize, capacity: usize) -> Pool {
        let state = RefCell::new(State { free: Vec::new(), out: 0 });
        Pool { home: Rc::new(Home { buffer_bytes, capacity, state }) }
    }

    /// A buffer, whose bytes are whatever its last user left; `None` if all are in use.
    pub fn take(&self) -> Option<Buffer> {
        let mut state = self.home.state.borrow_mut();
        let bytes = match state.free.pop() {
            Some(bytes) => bytes,
            None if state.out < self.home.capacity => vec![0; self.home.buffer_bytes].into(),
            None => return None,
        };
        state.out += 1;
        Some(Buffer { bytes, home: Rc::clone(&self.home) })
    }

    /// Number of buffers in use.
    pub fn in_use(&self) -> usize {
        self.home.state.borrow().out
    }
}

/// A buffer with one owner, who may write it. Goes back to its pool when dropped.
pub struct Buffer {
    bytes: Box<[u8]>,
    home: Rc<Home>,
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("len", &self.bytes.len()).finish()
    }
}

impl Buffer {
    /// Ends the writing: from now on the bytes can be shared, and never change.
    pub fn freeze(self) -> Shared {
        Shared { buffer: Rc::new(self) }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut state = self.home.state.borrow_mut();
        state.out -= 1;
        state.free.push(std::mem::take(&mut self.bytes));
    }
}

/// A filled buffer, which any number of slices may refer to. Goes back to its pool with the last of them.
#[derive(Clone, Debug)]
pub struct Shared {
    buffer: Rc<Buffer>,
}

impl Shared {
    /// The buffer to write again, if nobody else refers to it.
    ///
    /// # Errors
    /// The buffer as it was, if somebody does.
    pub fn thaw(self) -> Result<Buffer, Shared> {
        Rc::try_unwrap(self.buffer).map_err(|buffer| Shared { buffer })
    }
}

impl Deref for Shared {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer
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
}
