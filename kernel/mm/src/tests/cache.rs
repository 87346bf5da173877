//! The page cache: transfers, holes, truncation, writing back, reclaim, against a plain byte vector.

use super::*;
use crate::io::{SliceReader, VecWriter};
use proptest::prelude::*;

fn read_all(cache: &PageCache) -> Vec<u8> {
    let mut writer = VecWriter::new(1 << 24);
    cache.read(0, &mut writer).unwrap();
    writer.into_bytes()
}

#[derive(Clone, Debug)]
enum Action {
    Write(u64, usize, u8),
    Truncate(u64),
    Punch(u64, u64),
    Read(u64, usize),
    /// A program stores behind the end through a mapping.
    StoreBehind(u8),
    Sync,
    Invalidate,
}

fn action() -> impl Strategy<Value = Action> {
    let place = 0u64..6 * PAGE_SIZE as u64;
    let len = prop_oneof![1usize..50, Just(PAGE_SIZE), Just(2 * PAGE_SIZE), 1usize..9000];
    prop_oneof![
        4 => (place.clone(), len.clone(), any::<u8>()).prop_map(|(at, len, value)| Action::Write(at, len, value)),
        2 => place.clone().prop_map(Action::Truncate),
        2 => (place.clone(), place.clone()).prop_map(|(from, to)| Action::Punch(from, to)),
        2 => (place, len).prop_map(|(at, len)| Action::Read(at, len)),
        2 => any::<u8>().prop_map(Action::StoreBehind),
        1 => Just(Action::Sync),
        1 => Just(Action::Invalidate),
    ]
}

/// What a filesystem does on its side when bytes of a file cease to be.
fn forget(disk: Option<&Disk>, from: u64, to: u64) {
    let Some(disk) = disk else { return };
    let mut pages = disk.pages.lock().unwrap();
    let bytes = pages.as_flattened_mut();
    let (from, to) = ((from as usize).min(bytes.len()), (to as usize).min(bytes.len()));
    bytes[from..to].fill(0);
}

fn apply(cache: &PageCache, disk: Option<&Disk>, model: &mut Vec<u8>, action: &Action) {
    match *action {
        Action::Write(at, len, value) => {
            let bytes: Vec<u8> = (0..len).map(|i| value.wrapping_add(i as u8)).collect();
            assert_eq!(cache.write(at, &mut SliceReader::new(&bytes)), Ok(len));
            let end = at as usize + len;
            if model.len() < end {
                model.resize(end, 0);
            }
            model[at as usize..end].copy_from_slice(&bytes);
        }
        Action::Truncate(size) => {
            forget(disk, size, u64::MAX);
            cache.truncate(size).unwrap();
            model.resize(size as usize, 0);
        }
        Action::Punch(from, to) => {
            if from < to {
                forget(disk, from, to);
                cache.punch_hole(from..to).unwrap();
                let end = (to as usize).min(model.len());
                if (from as usize) < end {
                    model[from as usize..end].fill(0);
                }
            }
        }
        Action::Read(at, len) => {
            let mut writer = VecWriter::new(len);
            let count = cache.read(at, &mut writer).unwrap();
            let start = (at as usize).min(model.len());
            let expect = &model[start..(start + len).min(model.len())];
            assert!(writer.into_bytes() == expect, "read {at}+{len}");
            assert_eq!(count, expect.len());
        }
        Action::StoreBehind(value) => {
            let (index, offset) =
                (cache.size() / PAGE_SIZE as u64, (cache.size() % PAGE_SIZE as u64) as usize);
            if offset != 0 {
                let frame = loop {
                    let frame = cache.get_page(index, Access::Create).unwrap();
                    if cache.make_dirty(index, &frame).unwrap() {
                        break frame;
                    }
                };
                frame.write(offset, &[value; PAGE_SIZE][offset..]);
            }
        }
        Action::Sync => cache.sync(0..u64::MAX).unwrap(),
        Action::Invalidate => {
            cache.invalidate(0..u64::MAX);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn agrees_with_a_byte_vector(actions in proptest::collection::vec(action(), 1..60)) {
        kernel(|| {
            for disk in [None, Some(Disk::new(0))] {
                let cache = match &disk {
                    Some(disk) => PageCache::new(disk.clone(), 0),
                    None => PageCache::new_in_memory(0),
                };
                let mut model = Vec::new();
                for action in &actions {
                    apply(&cache, disk.as_deref(), &mut model, action);
                    assert_eq!(cache.size(), model.len() as u64);
                }
                assert!(read_all(&cache) == model);
            }
        });
    }
}

#[test]
fn a_short_source_exposes_nothing() {
    kernel(|| {
        let cache = PageCache::new_in_memory(0);
        assert_eq!(cache.write(10, &mut SliceReader::new(b"abc")), Ok(3));
        cache.truncate(PAGE_SIZE as u64).unwrap();
        let bytes = read_all(&cache);
        assert_eq!(&bytes[8..15], b"\0\0abc\0\0");
        assert!(bytes[15..].iter().all(|byte| *byte == 0));
    });
}

#[test]
fn sparse_files_know_their_holes() {
    kernel(|| {
        let page = PAGE_SIZE as u64;
        let cache = PageCache::new_in_memory(10 * page);
        cache.write(3 * page + 5, &mut SliceReader::new(b"x")).unwrap();
        cache.write(7 * page, &mut SliceReader::new(b"y")).unwrap();
        assert_eq!(cache.page_count(), 2);
        assert_eq!((cache.seek_data(0), cache.seek_hole(0)), (Some(3 * page), Some(0)));
        assert_eq!(
            (cache.seek_data(3 * page + 9), cache.seek_hole(3 * page + 9)),
            (Some(3 * page + 9), Some(4 * page))
        );
        assert_eq!((cache.seek_data(8 * page), cache.seek_hole(9 * page)), (None, Some(9 * page)));
        assert_eq!((cache.seek_data(10 * page), cache.seek_hole(10 * page)), (None, None));
        cache.punch_hole(3 * page..4 * page).unwrap();
        assert_eq!(cache.page_count(), 1);
        cache.allocate_range(0..2 * page).unwrap();
        assert_eq!((cache.page_count(), cache.size()), (3, 10 * page));
    });
}

#[test]
fn limits_of_the_filesystem_hold() {
    struct Small(Mutex<u64>);
    impl Pager for Small {
        fn charge(&self, pages: u64) -> Result<()> {
            let mut left = self.0.lock().unwrap();
            *left = left.checked_sub(pages).ok_or(abi::errno::Errno::ENOSPC)?;
            Ok(())
        }
        fn uncharge(&self, pages: u64) {
            *self.0.lock().unwrap() += pages;
        }
    }
    kernel(|| {
        let pager = Arc::new(Small(Mutex::new(2)));
        let cache = PageCache::new(pager.clone(), 0);
        let bytes = [1; 3 * PAGE_SIZE];
        assert_eq!(cache.write(0, &mut SliceReader::new(&bytes)), Ok(2 * PAGE_SIZE));
        assert_eq!(
            cache.write(2 * PAGE_SIZE as u64, &mut SliceReader::new(&bytes)),
            Err(abi::errno::Errno::ENOSPC)
        );
        assert_eq!(cache.size(), 2 * PAGE_SIZE as u64);
        cache.truncate(1).unwrap();
        assert_eq!(*pager.0.lock().unwrap(), 1);
        drop(cache);
        assert_eq!(*pager.0.lock().unwrap(), 2);
    });
}

#[test]
fn reclaim_drops_clean_pages_and_leaves_dirty_ones_to_the_flusher() {
    kernel(|| {
        let disk = Disk::new(8);
        let cache = PageCache::new(disk.clone(), 8 * PAGE_SIZE as u64);
        let file = TestFile::shared(cache.clone(), FileAccess::all());
        let space = new_space();
        let request = file_request(&file, 0, 8, RW, mman::MAP_SHARED);
        let at = space.mmap(&request, &Limits::UNLIMITED).unwrap();
        for page in 0..8 {
            assert_eq!(peek(&space, at + page * PAGE_SIZE), Ok(page as u8 + 1));
        }
        poke(&space, at + 2 * PAGE_SIZE, 200).unwrap();
        space.mlock(at + 5 * PAGE_SIZE, PAGE_SIZE, 0, &Limits::UNLIMITED).unwrap();
        let mut freed: usize = (0..3).map(|_| reclaim::reclaim(8)).sum();
        assert!(freed >= 6, "{freed}");
        assert!(disk.writes.lock().unwrap().is_empty(), "an allocation writes nothing itself");
        // The flusher's part.
        cache.sync(0..u64::MAX).unwrap();
        freed += (0..3).map(|_| reclaim::reclaim(8)).sum::<usize>();
        assert!(freed >= 7, "{freed}");
        assert_eq!(cache.page_count(), 1, "what is locked stays");
        assert_eq!(disk.pages.lock().unwrap()[2][0], 200);
        assert_eq!(space.usage().rss_file, 1);
        assert_eq!(peek(&space, at + 2 * PAGE_SIZE), Ok(200));
    });
}
