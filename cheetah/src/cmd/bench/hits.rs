//! `cheetah bench --cache`: how much of what is asked for each policy would have found in the cache.
//!
//! The cache is the server's, with blocks of a byte: what is counted does not depend on what is in them. An
//! object of several blocks is asked for from its first to its last, and found if all of them are.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use cheetah::swamp::Replay;
use fsstack::cache::policy::{Hint, PolicyName};
use fsstack::cache::{Asker, BlockCache, Lookup};

use super::super::Usage;

/// A cache holds so many of a hundred of all blocks.
const PARTS: [u64; 3] = [1, 10, 25];

/// The trace that needs no file: so many objects, asked for by Zipf's law (exponent 1) so often.
const ZIPF: (u64, usize) = (100_000, 1_000_000);

/// Longer objects are counted as so many blocks.
const MAX_BLOCKS: u32 = 1 << 16;

/// What was asked for.
struct Trace {
    /// Numbers of objects, in order.
    order: Vec<u32>,
    /// Blocks of each object.
    blocks: Vec<u32>,
}

pub(super) fn run(name: &str) -> anyhow::Result<()> {
    let trace = Trace::load(name)?;
    let total: u64 = trace.blocks.iter().map(|&blocks| u64::from(blocks)).sum();
    println!("{name}: {} requests for {} objects of {total} blocks", trace.order.len(), trace.blocks.len());
    print!("{:<12}", "cache");
    PolicyName::ALL.iter().for_each(|policy| print!("{:>9}", policy.as_str()));
    println!();
    for part in PARTS {
        let frames = u32::try_from((total * part / 100).max(1)).unwrap_or(u32::MAX);
        print!("{:<12}", format!("{part} %"));
        for policy in PolicyName::ALL {
            let found = trace.hits(policy, frames);
            print!("{:>9}", format!("{:.2} %", 100.0 * found as f64 / trace.order.len() as f64));
        }
        println!();
    }
    Ok(())
}

impl Trace {
    fn load(name: &str) -> anyhow::Result<Trace> {
        if name == "zipf" {
            return Ok(Trace::zipf(ZIPF.0, ZIPF.1));
        }
        let bytes = fs::read(Path::new(name)).with_context(|| name.to_owned())?;
        let text = String::from_utf8_lossy(&bytes);
        let log = Replay::of_log(&text);
        let trace = if log.order.is_empty() {
            Trace::of_words(&text)?
        } else {
            Trace { blocks: vec![1; log.targets.len()], order: log.order }
        };
        ensure!(!trace.order.is_empty(), "{name}: nothing is asked for in it");
        Ok(trace)
    }

    /// A line a request: what is asked for, and of how many blocks it is if that is not one.
    fn of_words(text: &str) -> anyhow::Result<Trace> {
        let mut trace = Trace { order: Vec::new(), blocks: Vec::new() };
        let mut numbers: HashMap<&str, u32> = HashMap::new();
        for (at, line) in text.lines().enumerate() {
            let mut words = line.split_ascii_whitespace();
            let Some(object) = words.next() else { continue };
            let blocks = words.next().map_or(Ok(1), str::parse);
            let (Ok(blocks @ 1..), None) = (blocks, words.next()) else {
                let line = at + 1;
                return Err(Usage(format!(
                    "--cache: line {line}: give what is asked for and, if it is not 1, its number of blocks; or an access log"
                ))
                .into());
            };
            let next = trace.blocks.len() as u32;
            let number = *numbers.entry(object).or_insert_with(|| {
                trace.blocks.push(blocks.min(MAX_BLOCKS));
                next
            });
            trace.order.push(number);
        }
        Ok(trace)
    }

    /// Object `i` is asked for `1 / (i + 1)` as often as object 0, the same on every machine.
    fn zipf(objects: u64, requests: usize) -> Trace {
        let mut sum = 0u64;
        let ends: Vec<u64> = (1..=objects)
            .map(|i| {
                sum += (1 << 40) / i;
                sum
            })
            .collect();
        let mut state = 1u64;
        let order = (0..requests).map(|_| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            let at = (u128::from(state) * u128::from(sum)) >> 64;
            ends.partition_point(|&end| u128::from(end) <= at) as u32
        });
        Trace { order: order.collect(), blocks: vec![1; objects as usize] }
    }

    /// How many requests are found whole.
    fn hits(&self, policy: PolicyName, frames: u32) -> usize {
        let mut cache = BlockCache::<_, (u32, u32)>::new(1, frames, policy.policy(frames));
        let mut find = |object: u32| {
            let blocks = self.blocks[object as usize];
            let hint = Hint::of(blocks.into(), frames.into());
            let asker = Asker { owner: object.into(), owner_bytes: blocks.into(), hint };
            let mut is_whole = true;
            for index in 0..blocks {
                match cache.lookup_for((object, index), asker) {
                    Lookup::Ready(_) => {}
                    Lookup::Missing(fill) => {
                        cache.complete(fill);
                        is_whole = false;
                    }
                    Lookup::Pending | Lookup::Full => unreachable!("nothing is held"),
                }
            }
            is_whole
        };
        self.order.iter().filter(|&&object| find(object)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_of_words_are_read() {
        let trace = Trace::of_words("a 3\nb\n\na\nc 99999999\n").unwrap();
        assert_eq!((trace.order, trace.blocks), (vec![0, 1, 0, 2], vec![3, 1, MAX_BLOCKS]));
        for bad in ["a 0", "a b", "a 1 2", "a -1"] {
            assert!(Trace::of_words(&format!("x\n{bad}\n")).err().unwrap().to_string().contains("line 2"));
        }
    }

    #[test]
    fn what_fits_is_found_but_for_the_first_time() {
        let trace = Trace::of_words("a 3\nb 2\na 3\nb 2\nb 2\n").unwrap();
        for policy in PolicyName::ALL {
            assert_eq!((trace.hits(policy, 5), trace.hits(policy, 1)), (3, 0), "{}", policy.as_str());
        }
    }

    #[test]
    fn zipf_asks_for_the_first_most() {
        let trace = Trace::zipf(1000, 50_000);
        let of = |object| trace.order.iter().filter(|&&o| o == object).count() as f64;
        // 1 / (1 + 1/2 + ... + 1/1000) of all, and half of that.
        assert!((of(0) / 50_000.0 - 0.1336).abs() < 0.006, "{}", of(0));
        assert!((of(1) / of(0) - 0.5).abs() < 0.05, "{} {}", of(0), of(1));
    }
}
