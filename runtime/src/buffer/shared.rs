//! Filled buffers, which any number of slices and threads may refer to.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::memory::Region;
use super::memory_file::MemoryFile;
use super::pool::{Buffer, Home};

/// What a filled buffer is called. No two fillings have the same name, as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    /// Of the memory.
    pub id: u64,
    /// Of the filling.
    pub generation: u64,
}

/// A filled buffer. Its memory goes back to where it came from with the last clone.
#[derive(Clone)]
pub struct Shared {
    /// `None` only while it is being dropped or thawed.
    store: Option<Arc<Store>>,
}

/// Memory with its name and its home.
pub(super) struct Store {
    pub(super) memory: Memory,
    pub(super) name: Name,
    /// The pool to go back to. `None` while it lies there, and for memory of another owner.
    pub(super) home: Option<Arc<Home>>,
}

pub(super) enum Memory {
    Own(Box<[u8]>),
    Sealed(MemoryFile),
    Region(Region),
    Foreign(Box<dyn AsRef<[u8]> + Send + Sync>),
}

impl Store {
    pub(super) fn new(memory: Memory) -> Store {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Store { memory, name: Name { id, generation: 0 }, home: None }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match &self.memory {
            Memory::Own(bytes) => bytes,
            Memory::Sealed(file) => file.bytes(),
            Memory::Region(region) => region.bytes(),
            Memory::Foreign(owner) => (**owner).as_ref(),
        }
    }
}

impl Drop for Store {
    /// Memory that did not find its way back: its place in the pool becomes free.
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            home.lost(std::mem::replace(&mut self.memory, Memory::Own(Box::default())));
        }
    }
}

impl Shared {
    pub(super) fn new(store: Arc<Store>) -> Shared {
        Shared { store: Some(store) }
    }

    /// The bytes of `owner`, which must be the same ones at each call as long as it lives.
    pub fn from_owner(owner: impl AsRef<[u8]> + Send + Sync + 'static) -> Shared {
        Shared::new(Arc::new(Store::new(Memory::Foreign(Box::new(owner)))))
    }

    /// A buffer of `len` bytes, which `fill` writes, in a file in memory that is sealed then: see
    /// [`Shared::file_of`].
    ///
    /// # Errors
    /// If the system has no memory or no descriptor for it, and what `fill` says.
    pub fn in_memory_file(len: usize, fill: impl FnOnce(&mut [u8]) -> io::Result<()>) -> io::Result<Shared> {
        if len == 0 {
            return Ok(Shared::from(Vec::new()));
        }
        let memory = Memory::Sealed(MemoryFile::new(len, fill)?);
        Ok(Shared::new(Arc::new(Store::new(memory))))
    }

    /// The file that has the same bytes as `part`, a part of this buffer, and where in it they lie; it never
    /// changes. `None` for memory that is no file.
    pub fn file_of(&self, part: &[u8]) -> Option<(BorrowedFd<'_>, u64)> {
        match &self.store.as_ref()?.memory {
            Memory::Sealed(file) => Some((file.file(), self.offset_of(part)? as u64)),
            Memory::Own(_) | Memory::Region(_) | Memory::Foreign(_) => None,
        }
    }

    /// What these bytes are called.
    pub fn name(&self) -> Name {
        // A buffer without memory has no bytes to tell from others'.
        self.store.as_ref().map_or(Name { id: u64::MAX, generation: 0 }, |store| store.name)
    }

    /// Whether nobody else refers to the buffer.
    pub fn is_unique(&self) -> bool {
        self.store.as_ref().is_some_and(|store| Arc::strong_count(store) == 1)
    }

    /// The buffer to fill anew, if it is of a pool and nobody else refers to it.
    ///
    /// # Errors
    /// The buffer as it was, if not.
    pub fn thaw(mut self) -> Result<Buffer, Shared> {
        let Some(mut store) = self.store.take() else { return Err(self) };
        match Arc::get_mut(&mut store) {
            Some(inner) if matches!(inner.memory, Memory::Own(_) | Memory::Region(_)) => {
                inner.name.generation += 1;
                Ok(Buffer::new(store))
            }
            _ => Err(Shared::new(store)),
        }
    }

    /// Where in the [`SharedMemory`](super::SharedMemory) of its pool the buffer begins, if it is a part of
    /// such.
    pub fn region_offset(&self) -> Option<usize> {
        match &self.store.as_ref()?.memory {
            Memory::Region(region) => Some(region.offset()),
            Memory::Own(_) | Memory::Sealed(_) | Memory::Foreign(_) => None,
        }
    }

    /// Where in the buffer `part` lies, if it does: what a part of a named buffer is called by.
    pub fn offset_of(&self, part: &[u8]) -> Option<usize> {
        let offset = (part.as_ptr() as usize).checked_sub(self.as_ptr() as usize)?;
        (offset.checked_add(part.len())? <= self.len()).then_some(offset)
    }
}

impl From<Vec<u8>> for Shared {
    fn from(bytes: Vec<u8>) -> Shared {
        Shared::new(Arc::new(Store::new(Memory::Own(bytes.into()))))
    }
}

impl Deref for Shared {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.store.as_ref().map_or(&[], |store| store.bytes())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(store) = self.store.take() {
            Home::take_back(store);
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("name", &self.name()).field("len", &self.len()).finish()
    }
}
