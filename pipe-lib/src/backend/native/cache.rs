//! When a transfer is too big for the caches: from where on the destination is written around them.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

/// Transfers from this many bytes on use streaming stores: source and destination together exceed this core's
/// share of the last-level cache. Determined once, from what the operating system reports.
pub(crate) fn streaming_from() -> usize {
    static FOUND: OnceLock<usize> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let share = share_of_last_level(Path::new("/sys/devices/system/cpu/cpu0/cache"));
        share.unwrap_or(DEFAULT_SHARE).clamp(SMALLEST_SHARE, MAX_SHARE) / 2
    })
}

/// A core's share where nobody tells.
const DEFAULT_SHARE: usize = 32 << 20;

/// Whatever is said, below this ordinary stores have never lost.
const SMALLEST_SHARE: usize = 8 << 20;

/// A virtual machine is shown the cache of the whole socket, which its few cores share with others. From here
/// on streaming stores won in every measurement on such a machine (260 MB shown, transfers of 16 to 256 MB).
const MAX_SHARE: usize = 32 << 20;

/// Bytes of the last-level cache for each processor that shares it.
fn share_of_last_level(folder: &Path) -> Option<usize> {
    (0..8).filter_map(|index| level(&folder.join(format!("index{index}")))).max().map(|(_, share)| share)
}

/// Level and share of one cache.
fn level(folder: &Path) -> Option<(u32, usize)> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let level = read("level")?.trim().parse().ok()?;
    let size = size(read("size")?.trim())?;
    let sharers = sharers(read("shared_cpu_list")?.trim())?;
    Some((level, size / sharers.max(1)))
}

/// "2048K", "32M".
fn size(text: &str) -> Option<usize> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        _ => return None,
    };
    digits.parse::<usize>().ok()?.checked_mul(unit)
}

/// Processors in "0-3,8,10-11".
fn sharers(text: &str) -> Option<usize> {
    text.split(',').try_fold(0, |count, range| {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        let (from, to): (usize, usize) = (from.parse().ok()?, to.parse().ok()?);
        Some(count + to.checked_sub(from)? + 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_lists_of_processors() {
        assert_eq!(size("2048K"), Some(2 << 20));
        assert_eq!(size("32M"), Some(32 << 20));
        assert_eq!(size("many"), None);
        assert_eq!(sharers("0-3,8,10-11"), Some(7));
        assert_eq!(sharers("3-0"), None);
        assert!((SMALLEST_SHARE / 2..=MAX_SHARE / 2).contains(&streaming_from()));
    }
}
