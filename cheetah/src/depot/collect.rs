//! What no image in a depot needs any more, removed.
//!
//! Kept are the image that is served and all whose lists of parts were written within a time of grace, with
//! their parts, and whatever else is that young. A publisher goes on safely meanwhile, without a lock that a
//! bucket could not have: it writes its list first and looks for a collector then; a collector says that it
//! is at work first and looks at the lists then. So one of the two sees the other: the list is young, and its
//! parts are kept, or the publisher is told to wait.

use std::collections::HashSet;
use std::io;
use std::time::{Duration, Instant, SystemTime};

use blake3::Hash;

use super::manifest::{MAX_MANIFEST_BYTES, Manifest};
use super::{Depot, Stored, image_name, invalid, part_name};
use crate::clock::unix_now;

/// The object that says that somebody collects.
const LEASE: &str = "collecting";

const LEASE_MAGIC: &str = "cheetah-collecting 1";

/// How long that counts, should its owner be gone.
const LEASE_TIME: Duration = Duration::from_secs(3600);

/// A collector works so long: well within that, by any clock.
const WORK_TIME: Duration = Duration::from_secs(1800);

/// The shortest grace. A publisher that takes longer than half of it looks again.
pub const MIN_GRACE: Duration = Duration::from_secs(3600);

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Lists of parts.
    pub images: usize,
    /// Parts.
    pub parts: usize,
    /// Bytes of the parts.
    pub bytes: u64,
    /// There may be more, for the next time: it took too long.
    pub is_cut_short: bool,
}

/// Removes what nobody needs and is older than `grace`.
///
/// # Errors
/// If nothing is published, or a list of parts that is to be kept cannot be read: then nothing is removed. If
/// `grace` is shorter than [`MIN_GRACE`], another collects already, or the depot refuses.
pub fn collect(depot: &dyn Depot, grace: Duration) -> io::Result<Collected> {
    if grace < MIN_GRACE {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the time of grace is an hour at least"));
    }
    let lease = Lease::take(depot)?;
    let collected = collect_under(&lease, grace);
    // A lease that is another's meanwhile is let be.
    if lease.is_held()? {
        depot.remove(LEASE)?;
    }
    collected
}

/// What publishers are to be told of a collector that is at work, if there is one.
pub(super) fn in_the_way(depot: &dyn Depot) -> io::Result<Option<&'static str>> {
    let is_taken = depot.get(LEASE, 4096)?.is_some_and(|text| until(&text) > unix_now());
    Ok(is_taken.then_some("what is not needed is being removed there just now: publish again in a while"))
}

/// When what a lease says ends; one that says something else counts as over.
fn until(text: &[u8]) -> u64 {
    let text = std::str::from_utf8(text).ok();
    let time = text.and_then(|text| text.strip_prefix(LEASE_MAGIC)?.split_whitespace().nth(1)?.parse().ok());
    time.unwrap_or(0)
}

/// When something began, by two clocks: one stands still while the machine sleeps, the other may be set back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Since {
    steady: Instant,
    wall: SystemTime,
}

impl Since {
    pub(super) fn now() -> Since {
        Since { steady: Instant::now(), wall: SystemTime::now() }
    }

    /// How long ago that was, by the clock that says longer.
    pub(super) fn elapsed(self) -> Duration {
        self.steady.elapsed().max(self.wall.elapsed().unwrap_or_default())
    }
}

struct Lease<'a> {
    depot: &'a dyn Depot,
    text: String,
    began: Since,
}

impl<'a> Lease<'a> {
    fn take(depot: &'a dyn Depot) -> io::Result<Lease<'a>> {
        if in_the_way(depot)?.is_some() {
            return Err(io::Error::other("another removes what is not needed there just now"));
        }
        let mut own = [0; 16];
        rustix::rand::getrandom(&mut own, rustix::rand::GetRandomFlags::empty())?;
        let own = u128::from_ne_bytes(own);
        let began = Since::now();
        let text = format!("{LEASE_MAGIC}\nuntil {}\nby {own:032x}\n", unix_now() + LEASE_TIME.as_secs());
        let lease = Lease { depot, text, began };
        depot.put(LEASE, lease.text.as_bytes())?;
        Ok(lease)
    }

    /// Whether nobody else has taken it meanwhile.
    fn is_held(&self) -> io::Result<bool> {
        Ok(self.depot.get(LEASE, 4096)?.as_deref() == Some(self.text.as_bytes()))
    }

    /// Whether it is safe to remove something. Nobody else can take it as long as it is not over: that it is
    /// still there is `asked` of the depot now and then, the clocks each time.
    fn holds(&self, asked: bool) -> io::Result<bool> {
        Ok(self.began.elapsed() < WORK_TIME && (!asked || self.is_held()?))
    }
}

fn collect_under(lease: &Lease<'_>, grace: Duration) -> io::Result<Collected> {
    let depot = lease.depot;
    let pointer = depot.pointer()?;
    let pointer =
        pointer.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "nothing is published there"))?;
    let current = pointer.image()?;
    let is_old = |stored: &Stored| stored.modified.elapsed().is_ok_and(|age| age > grace);
    let (mut needed, mut stale) = (HashSet::new(), Vec::new());
    let mut is_there = false;
    for stored in depot.list("images")? {
        let Some(image) = hash_of(&stored.name) else { continue };
        let image = image.to_hex().to_string();
        is_there |= image == current;
        if image != current && is_old(&stored) {
            stale.push(image);
        } else {
            needed.extend(read(depot, &image)?.parts().iter().map(|part| part.hash));
        }
    }
    if !is_there {
        return Err(invalid(format!("{}, which `current` leads to, is not there", image_name(&current))));
    }
    let mut collected = Collected::default();
    for shelf in 0..=u8::MAX {
        let stored = depot.list(&format!("parts/{shelf:02x}"))?;
        let unneeded = stored.into_iter().filter(is_old).filter_map(|stored| {
            let hash = hash_of(&stored.name).filter(|hash| !needed.contains(hash))?;
            Some((hash, stored.bytes))
        });
        for (number, (hash, bytes)) in unneeded.enumerate() {
            if !lease.holds(number % 64 == 0)? {
                return Ok(Collected { is_cut_short: true, ..collected });
            }
            depot.remove(&part_name(&hash))?;
            (collected.parts, collected.bytes) = (collected.parts + 1, collected.bytes + bytes);
        }
    }
    // Last: as long as there is a list, what it names is looked at again.
    for image in stale {
        if !lease.holds(true)? {
            return Ok(Collected { is_cut_short: true, ..collected });
        }
        depot.remove(&image_name(&image))?;
        collected.images += 1;
    }
    Ok(collected)
}

/// The list of the parts of an image.
pub(super) fn read(depot: &dyn Depot, image: &str) -> io::Result<Manifest> {
    let name = image_name(image);
    let text = depot.get(&name, MAX_MANIFEST_BYTES)?;
    let text = text.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{name} is not there")))?;
    if blake3::hash(&text).to_hex().as_str() != image {
        return Err(invalid(format!("{name} has another hash than its name")));
    }
    let manifest = String::from_utf8(text).map_err(|_| invalid(format!("{name} is no text")))?;
    manifest.parse().map_err(|error| invalid(format!("{name}: {error}")))
}

/// The hash that an object is named by; none of ours has another name.
fn hash_of(name: &str) -> Option<Hash> {
    Hash::from_hex(name).ok().filter(|hash| hash.to_hex().as_str() == name)
}

#[cfg(test)]
mod tests {
    use super::super::FolderDepot;
    use super::*;

    #[test]
    fn a_machine_that_slept_removes_nothing_any_more() {
        let dir = tempfile::tempdir().unwrap();
        let depot = FolderDepot::open(dir.path());
        let mut lease = Lease::take(&depot).unwrap();
        assert!(lease.holds(true).unwrap() && lease.holds(false).unwrap());
        lease.began.wall -= WORK_TIME;
        assert!(!lease.holds(true).unwrap() && !lease.holds(false).unwrap());
        // A clock that was set back makes nothing younger.
        let steady = Since::now();
        let since = Since { wall: SystemTime::now() + WORK_TIME, ..steady };
        assert!(since.elapsed() >= Duration::ZERO && since.elapsed() < WORK_TIME);
    }
}
