//! Bounded concurrent cache that never inserts a value that was read before an invalidation.
//!
//! A miss returns a [`Ticket`]. The caller looks the value up elsewhere and passes both to [`Cache::insert`]. If the
//! key was evicted in between because it changed, the value may be older than the change: the insert is rejected.
//! That check and the insert are one step, under the same lock that the eviction takes. A ticket belongs to a whole
//! shard. So an eviction of another key of the shard also rejects the insert, which is rare and harmless.
//!
//! A lookup allocates nothing. A full cache evicts entries with the CLOCK algorithm (Corbató, "A Paging Experiment
//! with the Multics System", 1968): entries that were found since the hand last passed them stay.

use std::hash::{BuildHasher, Hash, RandomState};

use hashbrown::HashTable;

use super::sync::{AtomicBool, Ordering, PoisonError, RwLock};

/// Maximum number of shards. Several shards keep threads from waiting for one another.
const MAX_SHARDS: usize = 64;
/// Minimum number of entries per shard. Smaller shards are not worth their overhead.
const MIN_SHARD_ENTRIES: usize = 1024;

/// Maximum or current size of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub entries: usize,
    /// Total weight of the values. The cache adds no weight for its own structures.
    pub weight: usize,
}

/// Size of a cache, and numbers of removed entries since its creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Use {
    pub entries: usize,
    /// Memory of the cache in bytes, without what the values own elsewhere.
    pub bytes: usize,
    /// Total weight of the values.
    pub weight: usize,
    /// Number of entries that were evicted because the cache was full.
    pub pushed_out: u64,
    /// Number of entries that were evicted because they changed.
    pub changed: u64,
}

/// Sharded map from keys to values with bounds on the number of entries and their weight.
pub struct Cache<K, V> {
    shards: Box<[RwLock<Shard<K, V>>]>,
    hasher: RandomState,
}

/// Proof of a cache miss, which [`Cache::insert`] requires. It is valid until the next invalidation in its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    evictions: u64,
}

struct Shard<K, V> {
    /// Number of invalidations, including those that found no entry. It decides whether a ticket is valid.
    evictions: u64,
    /// See [`Use::pushed_out`].
    pushed_out: u64,
    /// See [`Use::changed`].
    changed: u64,
    /// Positions in `entries` by hash of the key.
    index: HashTable<u32>,
    entries: Vec<Entry<K, V>>,
    /// Position of the CLOCK hand in `entries`.
    hand: usize,
    weight: usize,
    bounds: Bounds,
}

struct Entry<K, V> {
    key: K,
    hash: u64,
    value: V,
    weight: u32,
    /// Reference bit of the CLOCK algorithm: true if the entry was found since the hand last passed it.
    referenced: AtomicBool,
}

impl<K: Hash + Eq + Copy, V: Clone> Cache<K, V> {
    pub fn new(bounds: Bounds) -> Self {
        let shards = (bounds.entries / MIN_SHARD_ENTRIES).clamp(1, MAX_SHARDS);
        let shard_bounds = Bounds {
            entries: (bounds.entries / shards).max(1),
            weight: bounds.weight / shards,
        };
        let shards = (0..shards).map(|_| RwLock::new(Shard::new(shard_bounds)));
        Self {
            shards: shards.collect(),
            hasher: RandomState::new(),
        }
    }

    /// Returns the value. On a miss returns a ticket for its insertion.
    pub fn get(&self, key: &K) -> Result<V, Ticket> {
        let (hash, shard) = self.shard(key);
        let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
        match shard.find(hash, key) {
            Some(position) => {
                let entry = &shard.entries[position];
                // Stores only if needed: a store would invalidate the cache line of the other cores.
                if !entry.referenced.load(Ordering::Relaxed) {
                    entry.referenced.store(true, Ordering::Relaxed);
                }
                Ok(entry.value.clone())
            }
            None => Err(Ticket {
                evictions: shard.evictions,
            }),
        }
    }

    /// Returns a ticket for a value that is looked up again although it is cached, for example because it is too old.
    pub fn ticket(&self, key: &K) -> Ticket {
        let (_, shard) = self.shard(key);
        let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
        Ticket {
            evictions: shard.evictions,
        }
    }

    /// Inserts a value that was looked up after `ticket` was issued. Returns `false` if it was rejected: because it may
    /// have changed since, or because it is too heavy.
    pub fn insert(&self, ticket: Ticket, key: K, value: V, weight: usize) -> bool {
        let (hash, shard) = self.shard(&key);
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        if shard.evictions != ticket.evictions {
            return false;
        }
        shard.insert(hash, key, value, weight)
    }

    /// Evicts a key, and invalidates tickets for it.
    pub fn evict(&self, key: &K) {
        let (hash, shard) = self.shard(key);
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        shard.evictions += 1;
        if let Some(position) = shard.find(hash, key) {
            shard.remove(position);
            shard.changed += 1;
        }
    }

    /// Evicts all values that match, and invalidates all tickets.
    pub fn evict_where(&self, matches: impl Fn(&V) -> bool) {
        for shard in &self.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            shard.evictions += 1;
            let mut position = 0;
            while let Some(entry) = shard.entries.get(position) {
                if matches(&entry.value) {
                    shard.remove(position);
                    shard.changed += 1;
                } else {
                    position += 1;
                }
            }
        }
    }

    /// Evicts all entries, and invalidates all tickets.
    pub fn clear(&self) {
        for shard in &self.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            let emptied = Shard {
                evictions: shard.evictions + 1,
                pushed_out: shard.pushed_out,
                changed: shard.changed + shard.entries.len() as u64,
                ..Shard::new(shard.bounds)
            };
            let evicted = std::mem::replace(&mut *shard, emptied);
            // Releases the lock first: other threads need not wait until the memory is freed.
            drop((shard, evicted));
        }
    }

    /// Returns the current number of entries and their weight.
    pub fn size(&self) -> Bounds {
        let mut size = Bounds {
            entries: 0,
            weight: 0,
        };
        for shard in &self.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            size.entries += shard.entries.len();
            size.weight += shard.weight;
        }
        size
    }

    /// Returns the current size, and the numbers of removed entries.
    pub fn usage(&self) -> Use {
        let mut usage = Use {
            entries: 0,
            bytes: size_of::<Self>() + self.shards.len() * size_of::<RwLock<Shard<K, V>>>(),
            weight: 0,
            pushed_out: 0,
            changed: 0,
        };
        for shard in &self.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            usage.entries += shard.entries.len();
            usage.bytes += shard.entries.capacity() * size_of::<Entry<K, V>>();
            usage.bytes += shard.index.allocation_size();
            usage.weight += shard.weight;
            usage.pushed_out += shard.pushed_out;
            usage.changed += shard.changed;
        }
        usage
    }

    fn shard(&self, key: &K) -> (u64, &RwLock<Shard<K, V>>) {
        let hash = self.hasher.hash_one(key);
        // Uses other bits of the hash than the index of a shard.
        let shard = (hash >> 32) as usize % self.shards.len();
        (hash, &self.shards[shard])
    }
}

impl<K: Hash + Eq + Copy, V> Shard<K, V> {
    fn new(bounds: Bounds) -> Self {
        Self {
            evictions: 0,
            pushed_out: 0,
            changed: 0,
            index: HashTable::new(),
            entries: Vec::new(),
            hand: 0,
            weight: 0,
            bounds,
        }
    }

    fn find(&self, hash: u64, key: &K) -> Option<usize> {
        let has_key = |position: &u32| self.entries[*position as usize].key == *key;
        self.index
            .find(hash, has_key)
            .map(|position| *position as usize)
    }

    fn insert(&mut self, hash: u64, key: K, value: V, weight: usize) -> bool {
        // A value that would evict much of the shard is not cached.
        let Some(weight) = u32::try_from(weight)
            .ok()
            .filter(|weight| *weight as usize <= self.bounds.weight / 8)
        else {
            return false;
        };
        if let Some(position) = self.find(hash, &key) {
            self.remove(position);
        }
        while self.entries.len() >= self.bounds.entries
            || self.weight + weight as usize > self.bounds.weight
        {
            self.make_room();
        }
        let Ok(position) = u32::try_from(self.entries.len()) else {
            return false;
        };
        self.weight += weight as usize;
        self.entries.push(Entry {
            key,
            hash,
            value,
            weight,
            referenced: AtomicBool::new(false),
        });
        let entries = &self.entries;
        self.index
            .insert_unique(hash, position, |position| entries[*position as usize].hash);
        true
    }

    /// Evicts the first entry, starting at the hand, whose reference bit is not set. The hand clears the bits that it
    /// passes, so there is such an entry in its second round at the latest.
    fn make_room(&mut self) {
        loop {
            self.hand %= self.entries.len().max(1);
            match self.entries.get(self.hand) {
                Some(entry) if entry.referenced.load(Ordering::Relaxed) => {
                    entry.referenced.store(false, Ordering::Relaxed);
                    self.hand += 1;
                }
                Some(_) => {
                    self.pushed_out += 1;
                    return self.remove(self.hand);
                }
                None => return,
            }
        }
    }

    /// Removes an entry and moves the last one to its position.
    fn remove(&mut self, position: usize) {
        let (hash, last) = (self.entries[position].hash, self.entries.len() - 1);
        if let Ok(found) = self
            .index
            .find_entry(hash, |other| *other as usize == position)
        {
            found.remove();
        }
        if position != last {
            let hash = self.entries[last].hash;
            if let Some(moved) = self.index.find_mut(hash, |other| *other as usize == last) {
                *moved = position as u32;
            }
        }
        self.weight -= self.entries.swap_remove(position).weight as usize;
    }
}
