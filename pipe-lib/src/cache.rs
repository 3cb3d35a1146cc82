//! Engines by the structure of what was composed: bounded, shared between threads.

use crate::compose::Composition;
use crate::engine::Engine;
use crate::error::CompileError;
use crate::options::CompileOptions;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash, Hasher};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// Engines that [`EngineCache::global`] keeps.
const GLOBAL_CAPACITY: usize = 256;

/// A composition with its hash, taken once: looking it up costs no walk over its pipes.
#[derive(Clone, Debug)]
pub struct Key {
    composition: Arc<Composition>,
    hash: u64,
}

impl Key {
    /// The key of a composition.
    pub fn new(composition: Arc<Composition>) -> Key {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(&composition);
        Key { composition, hash }
    }

    /// The composition.
    pub fn composition(&self) -> &Arc<Composition> {
        &self.composition
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        Arc::ptr_eq(&self.composition, &other.composition)
            || (self.hash == other.hash && self.composition == other.composition)
    }
}

impl Eq for Key {}

/// A key of the map: a composition and how it is compiled.
#[derive(Clone, PartialEq, Eq)]
struct CacheKey {
    key: Key,
    options: CompileOptions,
}

impl Hash for CacheKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.key.hash);
        self.options.hash(state);
    }
}

struct CacheEntry {
    engine: Engine,
    /// The cache's clock when it was last asked for.
    used: u64,
}

#[derive(Default)]
struct Entries {
    map: HashMap<CacheKey, CacheEntry, BuildHasherDefault<DefaultHasher>>,
    clock: u64,
}

/// A bounded map from compositions to engines; the one not asked for longest makes room.
pub struct EngineCache {
    entries: Mutex<Entries>,
    capacity: usize,
}

impl std::fmt::Debug for EngineCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineCache").field("len", &self.len()).field("capacity", &self.capacity).finish()
    }
}

impl EngineCache {
    /// A cache of at most `capacity` engines; with 0 it keeps none.
    pub fn new(capacity: usize) -> EngineCache {
        EngineCache { entries: Mutex::new(Entries::default()), capacity }
    }

    /// The cache behind [`crate::Pipeline::compile`].
    pub fn global() -> &'static EngineCache {
        static GLOBAL: LazyLock<EngineCache> = LazyLock::new(|| EngineCache::new(GLOBAL_CAPACITY));
        &GLOBAL
    }

    /// The engine of a composition, compiled if it is not there. Two threads that ask for the same new one at
    /// the same time may both compile; one of the engines is kept and given to later callers.
    pub fn get(&self, key: &Key, options: &CompileOptions) -> Result<Engine, CompileError> {
        let slot = CacheKey { key: key.clone(), options: options.clone() };
        {
            let mut entries = self.lock();
            entries.clock += 1;
            let clock = entries.clock;
            if let Some(entry) = entries.map.get_mut(&slot) {
                entry.used = clock;
                return Ok(entry.engine.clone());
            }
        }
        // Compiled outside of the lock: others need not wait.
        let engine = Engine::compile(Arc::clone(&key.composition), options)?;
        if self.capacity == 0 {
            return Ok(engine);
        }
        let mut entries = self.lock();
        let used = entries.clock;
        let evicted = if entries.map.len() >= self.capacity && !entries.map.contains_key(&slot) {
            let oldest = entries.map.iter().min_by_key(|(_, entry)| entry.used).map(|(slot, _)| slot.clone());
            oldest.and_then(|oldest| entries.map.remove_entry(&oldest))
        } else {
            None
        };
        let engine = entries.map.entry(slot).or_insert(CacheEntry { engine, used }).engine.clone();
        // Freeing code takes a system call: not under the lock.
        drop(entries);
        drop(evicted);
        Ok(engine)
    }

    /// Engines kept now.
    pub fn len(&self) -> usize {
        self.lock().map.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all engines; those still held elsewhere go on working.
    pub fn clear(&self) {
        let old = std::mem::take(&mut self.lock().map);
        drop(old);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Entries> {
        // No code that can panic runs under the lock.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
