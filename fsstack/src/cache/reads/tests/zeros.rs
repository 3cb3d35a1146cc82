//! Blocks of all lengths in few frames: behind each are zeros, whatever was in its frame.

use super::*;

/// Blocks of these lengths, each at a place that direct reads may begin at, with other bytes behind it.
#[derive(Debug)]
struct Lengths {
    file: File,
    direct: Option<File>,
    lengths: Vec<usize>,
}

impl BlockSource for Lengths {
    fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn direct_file(&self) -> Option<BorrowedFd<'_>> {
        self.direct.as_ref().map(AsFd::as_fd)
    }

    fn place(&self, index: u64) -> io::Result<(u64, usize)> {
        Ok((index * BLOCK as u64, self.lengths[index as usize]))
    }

    fn check(&self, index: u64, bytes: &[u8]) -> io::Result<Vec<Damage>> {
        // A block that is damaged leaves its bytes in a frame, too.
        let what = BadImage::new(0, "block of seven bytes", "any other", "seven");
        let damages = (bytes.len() == 7).then_some(Damage { within: 0..7, what });
        assert_eq!(bytes.len(), self.lengths[index as usize]);
        Ok(damages.into_iter().collect())
    }
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![Just(BLOCK), Just(4096), Just(7), 1..BLOCK]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn nothing_of_a_longer_block_is_behind_a_shorter_one(
        lengths in prop::collection::vec(length(), 1..9),
        asked in prop::collection::vec((0usize..9, any::<bool>()), 1..40),
        blocks in 0u64..4,
        is_direct: bool,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blocks");
        std::fs::write(&path, vec![0xee; lengths.len() * BLOCK]).unwrap();
        let file = File::open(&path).unwrap();
        let device = crate::device::FileDevice::new(file.try_clone().unwrap());
        let direct = device.open_direct().ok().filter(|_| is_direct);
        let bytes = blocks * BLOCK as u64;
        let cache = match is_direct {
            true => FileCache::aligned(bytes, PolicyName::default()).unwrap(),
            false => FileCache::new(bytes),
        };
        let cache = Arc::new(cache);
        let number = cache.number();
        let source: Arc<dyn BlockSource> =
            Arc::new(Lengths { file, direct, lengths: lengths.clone() });
        let mut held = Vec::new();
        for (index, is_held) in asked {
            let (index, len) = (index % lengths.len(), lengths[index % lengths.len()]);
            let reader = BlockReader::in_place();
            let block = cache.read(&wanted(number, index as u64, 0), &source, &reader);
            let bytes = match block {
                Block::Here(BlockOutcome::Sound(bytes) | BlockOutcome::Damaged(bytes, _)) => bytes,
                other => panic!("{other:?}"),
            };
            prop_assert!(bytes[..len].iter().all(|byte| *byte == 0xee));
            prop_assert!(bytes[len..].iter().all(|byte| *byte == 0), "something is behind {len} bytes");
            // Frames that are held come back by way of the pool, in another order.
            if is_held { held.push(bytes) } else { held.truncate(1) }
        }
    }
}
