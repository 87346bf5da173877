//! Whole address spaces against a model that knows each page by itself.

use super::*;
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

const BASE: usize = 0x1000_0000;
const PAGES: usize = 24;
const FILE_PAGES: usize = 16;
const MAXIMUM_SPACES: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Anonymous,
    SharedAnonymous,
    FilePrivate,
    FileShared,
}

#[derive(Clone, Debug)]
enum Action {
    Map(usize, usize, Kind, u32),
    Unmap(usize, usize),
    Protect(usize, usize, u32),
    Write(usize, u8),
    DontNeed(usize, usize),
    Move(usize, usize, usize, usize),
    Fork,
    Switch,
    Exit,
}

/// What a page reads as, and where a store goes.
#[derive(Clone)]
enum Contents {
    /// Its own value.
    Own(u8),
    /// A page of the file, until it is written.
    File(usize),
    /// A page of an object that others see too.
    Shared(Rc<RefCell<Vec<u8>>>, usize),
}

#[derive(Clone)]
struct Page {
    protection: u32,
    contents: Contents,
    /// What `MADV_DONTNEED` brings back.
    fresh: Contents,
}

type Model = BTreeMap<usize, Page>;

fn action() -> impl Strategy<Value = Action> {
    let span = || (0..PAGES, 1..8usize);
    let kind = prop_oneof![
        3 => Just(Kind::Anonymous),
        1 => Just(Kind::SharedAnonymous),
        2 => Just(Kind::FilePrivate),
        1 => Just(Kind::FileShared)
    ];
    let protection = prop_oneof![Just(3u32), Just(3u32), Just(1u32), Just(0u32)];
    prop_oneof![
        5 => (span(), kind, protection.clone()).prop_map(|((at, len), kind, p)| Action::Map(at, len, kind, p)),
        2 => span().prop_map(|(at, len)| Action::Unmap(at, len)),
        3 => (span(), protection).prop_map(|((at, len), p)| Action::Protect(at, len, p)),
        9 => (0..PAGES, 1u8..).prop_map(|(at, value)| Action::Write(at, value)),
        2 => span().prop_map(|(at, len)| Action::DontNeed(at, len)),
        2 => (span(), 0..PAGES, 1..8usize).prop_map(|((at, len), to, new)| Action::Move(at, len, to, new)),
        1 => Just(Action::Fork),
        2 => Just(Action::Switch),
        1 => Just(Action::Exit),
    ]
}

struct World {
    spaces: Vec<(Arc<AddressSpace>, Model)>,
    file: Arc<dyn MappedFile>,
    file_contents: Rc<RefCell<Vec<u8>>>,
}

fn address(page: usize) -> usize {
    BASE + page * PAGE_SIZE
}

impl World {
    fn new() -> World {
        let cache = PageCache::new(Disk::new(FILE_PAGES), (FILE_PAGES * PAGE_SIZE) as u64);
        World {
            spaces: alloc::vec![(new_space(), Model::new())],
            file: TestFile::shared(cache, FileAccess::all()),
            file_contents: Rc::new(RefCell::new((1..=FILE_PAGES as u8).collect())),
        }
    }

    fn map(&mut self, at: usize, len: usize, kind: Kind, protection: u32) {
        let len = len.min(PAGES - at);
        let (space, model) = self.spaces.first_mut().unwrap();
        let bits = Protection::from_bits(protection).unwrap();
        let fixed = mman::MAP_FIXED;
        let request = match kind {
            Kind::Anonymous => anonymous(address(at), len * PAGE_SIZE, bits, fixed | mman::MAP_PRIVATE),
            Kind::SharedAnonymous => anonymous(address(at), len * PAGE_SIZE, bits, fixed | mman::MAP_SHARED),
            Kind::FilePrivate => file_request(&self.file, address(at), len, bits, fixed | mman::MAP_PRIVATE),
            Kind::FileShared => file_request(&self.file, address(at), len, bits, fixed | mman::MAP_SHARED),
        };
        assert_eq!(space.mmap(&request, &Limits::UNLIMITED), Ok(address(at)));
        let object = Rc::new(RefCell::new(alloc::vec![0; len]));
        for page in 0..len {
            let contents = match kind {
                Kind::Anonymous => Contents::Own(0),
                Kind::SharedAnonymous => Contents::Shared(object.clone(), page),
                Kind::FilePrivate => Contents::File(page),
                Kind::FileShared => Contents::Shared(self.file_contents.clone(), page),
            };
            model.insert(at + page, Page { protection, fresh: contents.clone(), contents });
        }
    }

    fn write(&mut self, at: usize, value: u8) {
        let (space, model) = self.spaces.first_mut().unwrap();
        let result = poke(space, address(at), value);
        let writable = model.get(&at).is_some_and(|page| page.protection & 2 != 0);
        assert_eq!(result.is_ok(), writable);
        let Some(page) = model.get_mut(&at).filter(|_| writable) else { return };
        match &mut page.contents {
            Contents::Shared(object, index) => object.borrow_mut()[*index] = value,
            own => *own = Contents::Own(value),
        }
    }

    fn protect(&mut self, at: usize, len: usize, protection: u32) {
        let (space, model) = self.spaces.first_mut().unwrap();
        let result = space.mprotect(address(at), len * PAGE_SIZE, protection, &Limits::UNLIMITED);
        let mapped = (at..at + len).take_while(|page| model.contains_key(page)).count();
        assert_eq!(result.is_ok(), mapped == len);
        for page in at..at + mapped {
            model.get_mut(&page).unwrap().protection = protection;
        }
    }

    fn dont_need(&mut self, at: usize, len: usize) {
        let (space, model) = self.spaces.first_mut().unwrap();
        let result = space.madvise(address(at), len * PAGE_SIZE, mman::MADV_DONTNEED);
        assert_eq!(result.is_ok(), (at..at + len).all(|page| model.contains_key(&page)));
        for (_, page) in model.range_mut(at..at + len) {
            page.contents = page.fresh.clone();
        }
    }

    /// Whatever `mremap` says, the model does the same if it says yes.
    fn remap(&mut self, at: usize, len: usize, to: usize, new_len: usize) {
        let (len, new_len) = (len.min(PAGES - at), new_len.min(PAGES - to));
        let (space, model) = self.spaces.first_mut().unwrap();
        let flags = mman::MREMAP_MAYMOVE | mman::MREMAP_FIXED;
        // Only shrink or keep: what a bigger one shows behind the old end is the mapping's affair.
        let new_len = new_len.min(len);
        let overlaps = at < to + new_len && to < at + len;
        let one_mapping = space.find_vma(address(at)).is_some_and(|vma| vma.end() >= address(at + new_len));
        let result = space.mremap(
            address(at),
            len * PAGE_SIZE,
            new_len * PAGE_SIZE,
            flags,
            address(to),
            &Limits::UNLIMITED,
        );
        if overlaps {
            assert!(result.is_err());
            return;
        }
        assert_eq!(result.is_ok(), one_mapping);
        if one_mapping {
            (to..to + new_len).for_each(|page| drop(model.remove(&page)));
            (at + new_len..at + len).for_each(|page| drop(model.remove(&page)));
            for page in 0..new_len {
                let moved = model.remove(&(at + page)).unwrap();
                model.insert(to + page, moved);
            }
        }
    }

    fn apply(&mut self, action: &Action) {
        match *action {
            Action::Map(at, len, kind, protection) => self.map(at, len, kind, protection),
            Action::Unmap(at, len) => {
                let (space, model) = self.spaces.first_mut().unwrap();
                space.munmap(address(at), len * PAGE_SIZE).unwrap();
                (at..at + len).for_each(|page| drop(model.remove(&page)));
            }
            Action::Protect(at, len, protection) => self.protect(at, len, protection),
            Action::Write(at, value) => self.write(at, value),
            Action::DontNeed(at, len) => self.dont_need(at, len),
            Action::Move(at, len, to, new) => self.remap(at, len, to, new),
            Action::Fork if self.spaces.len() < MAXIMUM_SPACES => {
                let (space, model) = self.spaces.first().unwrap();
                let child = (space.fork().unwrap(), model.clone());
                self.spaces.push(child);
            }
            Action::Exit if self.spaces.len() > 1 => drop(self.spaces.remove(0)),
            Action::Fork | Action::Exit => {}
            Action::Switch => self.spaces.rotate_left(1),
        }
    }

    fn check(&self) {
        for (space, model) in &self.spaces {
            assert_eq!(space.usage().total, model.len());
            let data = model
                .values()
                .filter(|page| page.protection & 2 != 0 && !matches!(page.contents, Contents::Shared(..)));
            assert_eq!(space.usage().data, data.count());
            for at in 0..PAGES + 8 {
                let expect = model.get(&at).filter(|page| page.protection & 1 != 0);
                let expect = expect.map(|page| match &page.contents {
                    Contents::Own(value) => *value,
                    Contents::File(index) => self.file_contents.borrow()[*index],
                    Contents::Shared(object, index) => object.borrow()[*index],
                });
                assert_eq!(peek(space, address(at)).ok(), expect, "page {at} of {}", maps(space));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn agrees_page_by_page(actions in proptest::collection::vec(action(), 1..60)) {
        kernel(|| {
            let committed = commit::committed_pages();
            let mut world = World::new();
            for action in &actions {
                world.apply(action);
                world.check();
            }
            drop(world);
            assert_eq!(commit::committed_pages(), committed);
        });
    }
}
