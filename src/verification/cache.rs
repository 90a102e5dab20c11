//! A bounded cache by digest, which never learns what is no longer so.
//!
//! Whoever looks for something that is not there gets a [`Ticket`], looks it up elsewhere, and brings
//! both. In between somebody may have evicted it, since it changed; then what was looked up may be
//! from before the change, and is not taken. That check and the insert are one step, under the lock
//! that the eviction takes too. A ticket is good for a whole shard: an eviction of something else there
//! makes the lookup one that is not remembered, which is rare and does no harm.
//!
//! Nothing is allocated to find something. When it is full, it makes room as a clock does (Corbató, "A
//! Paging Experiment with the Multics System", 1968): what was found since the hand last came by stays.

use std::hash::{BuildHasher, Hash, RandomState};

use hashbrown::HashTable;

use super::sync::{AtomicBool, Ordering, PoisonError, RwLock};

/// No more shards than this: so that threads rarely wait for one another.
const MAX_SHARDS: usize = 64;
/// A shard for fewer entries is not worth it.
const MIN_SHARD_ENTRIES: usize = 1024;

/// How much a cache may hold, or holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub entries: usize,
    /// Of the values' own weight; the cache adds nothing for itself.
    pub weight: usize,
}

/// What a cache holds, and what it had to let go so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Use {
    pub entries: usize,
    /// Bytes of key_cache that it takes, without what the values have elsewhere.
    pub bytes: usize,
    /// The values' own weight.
    pub weight: usize,
    /// Entries that went because it was full.
    pub pushed_out: u64,
    /// Entries that went because they changed.
    pub changed: u64,
}

/// Maps digests to values.
pub struct Cache<K, V> {
    shards: Box<[RwLock<Shard<K, V>>]>,
    hasher: RandomState,
}

/// What somebody who looked in vain may bring the value with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    evictions: u64,
}

struct Shard<K, V> {
    /// How often something was taken out because it changed.
    evictions: u64,
    /// As [`Use`] has them.
    pushed_out: u64,
    changed: u64,
    /// Where in `entries` a key is.
    places: HashTable<u32>,
    entries: Vec<Entry<K, V>>,
    /// Where the clock's hand is.
    hand: usize,
    weight: usize,
    bounds: Bounds,
}

struct Entry<K, V> {
    key: K,
    hash: u64,
    value: V,
    weight: u32,
    /// Whether it was found since the hand last came by.
    found: AtomicBool,
}

impl<K: Hash + Eq + Copy, V: Clone> Cache<K, V> {
    pub fn new(bounds: Bounds) -> Self {
        let shards = (bounds.entries / MIN_SHARD_ENTRIES).clamp(1, MAX_SHARDS);
        let of_shard = Bounds {
            entries: (bounds.entries / shards).max(1),
            weight: bounds.weight / shards,
        };
        let shards = (0..shards).map(|_| RwLock::new(Shard::new(of_shard)));
        Self {
            shards: shards.collect(),
            hasher: RandomState::new(),
        }
    }

    /// The value, or a ticket to bring it with.
    pub fn get(&self, key: &K) -> Result<V, Ticket> {
        let (hash, shard) = self.shard(key);
        let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
        match shard.find(hash, key) {
            Some(place) => {
                let entry = &shard.entries[place];
                // Written only if need be: other cores read it too.
                if !entry.found.load(Ordering::Relaxed) {
                    entry.found.store(true, Ordering::Relaxed);
                }
                Ok(entry.value.clone())
            }
            None => Err(Ticket {
                evictions: shard.evictions,
            }),
        }
    }

    /// A ticket for what is looked up although it is here.
    pub fn ticket(&self, key: &K) -> Ticket {
        let (_, shard) = self.shard(key);
        let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
        Ticket {
            evictions: shard.evictions,
        }
    }

    /// Takes a value that was looked up after `ticket` was given, unless it may have changed since.
    pub fn insert(&self, ticket: Ticket, key: K, value: V, weight: usize) -> bool {
        let (hash, shard) = self.shard(&key);
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        if shard.evictions != ticket.evictions {
            return false;
        }
        shard.insert(hash, key, value, weight)
    }

    /// Forgets a value, and what is being looked up of it.
    pub fn evict(&self, key: &K) {
        let (hash, shard) = self.shard(key);
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        shard.evictions += 1;
        if let Some(place) = shard.find(hash, key) {
            shard.remove(place);
            shard.changed += 1;
        }
    }

    /// Forgets all values like this, and everything that is being looked up.
    pub fn evict_where(&self, matches: impl Fn(&V) -> bool) {
        for shard in &self.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            shard.evictions += 1;
            let mut place = 0;
            while let Some(entry) = shard.entries.get(place) {
                match matches(&entry.value) {
                    true => {
                        shard.remove(place);
                        shard.changed += 1;
                    }
                    false => place += 1,
                }
            }
        }
    }

    /// Forgets everything.
    pub fn clear(&self) {
        for shard in &self.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            let emptied = Shard {
                evictions: shard.evictions + 1,
                pushed_out: shard.pushed_out,
                changed: shard.changed + shard.entries.len() as u64,
                ..Shard::new(shard.bounds)
            };
            let forgotten = std::mem::replace(&mut *shard, emptied);
            // Others need not wait while it is given back.
            drop((shard, forgotten));
        }
    }

    /// How many entries there are, and what they weigh.
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

    /// The same with what became of entries.
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
            usage.bytes += shard.places.allocation_size();
            usage.weight += shard.weight;
            usage.pushed_out += shard.pushed_out;
            usage.changed += shard.changed;
        }
        usage
    }

    fn shard(&self, key: &K) -> (u64, &RwLock<Shard<K, V>>) {
        let hash = self.hasher.hash_one(key);
        // Other bits than those by which a shard finds its entries.
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
            places: HashTable::new(),
            entries: Vec::new(),
            hand: 0,
            weight: 0,
            bounds,
        }
    }

    fn find(&self, hash: u64, key: &K) -> Option<usize> {
        let is_it = |place: &u32| self.entries[*place as usize].key == *key;
        self.places.find(hash, is_it).map(|place| *place as usize)
    }

    fn insert(&mut self, hash: u64, key: K, value: V, weight: usize) -> bool {
        // What would push out much of the rest is not worth it.
        let Some(weight) = u32::try_from(weight)
            .ok()
            .filter(|weight| *weight as usize <= self.bounds.weight / 8)
        else {
            return false;
        };
        if let Some(place) = self.find(hash, &key) {
            self.remove(place);
        }
        while self.entries.len() >= self.bounds.entries
            || self.weight + weight as usize > self.bounds.weight
        {
            self.make_room();
        }
        let Ok(place) = u32::try_from(self.entries.len()) else {
            return false;
        };
        self.weight += weight as usize;
        self.entries.push(Entry {
            key,
            hash,
            value,
            weight,
            found: AtomicBool::new(false),
        });
        let entries = &self.entries;
        self.places
            .insert_unique(hash, place, |place| entries[*place as usize].hash);
        true
    }

    /// Takes out the first entry from the hand on that was not found since the hand came by. There is
    /// one: on its second way round the hand finds none that was.
    fn make_room(&mut self) {
        loop {
            self.hand %= self.entries.len().max(1);
            match self.entries.get(self.hand) {
                Some(entry) if entry.found.load(Ordering::Relaxed) => {
                    entry.found.store(false, Ordering::Relaxed);
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

    /// Puts the last entry in the place of this one.
    fn remove(&mut self, place: usize) {
        let (hash, last) = (self.entries[place].hash, self.entries.len() - 1);
        if let Ok(found) = self
            .places
            .find_entry(hash, |other| *other as usize == place)
        {
            found.remove();
        }
        if place != last {
            let hash = self.entries[last].hash;
            if let Some(moved) = self.places.find_mut(hash, |other| *other as usize == last) {
                *moved = place as u32;
            }
        }
        self.weight -= self.entries.swap_remove(place).weight as usize;
    }
}
