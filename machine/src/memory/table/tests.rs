//! Page tables beside a model of them, and the races with what a processor notes.

use super::*;
use crate::memory::AllocFlags;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::vec::Vec;

const HERE: usize = 0x4000_0000;
const RW: Perms = Perms::READ.union(Perms::WRITE);

fn frame(mark: u8) -> Frame {
    let frame = Frame::alloc(AllocFlags::ZEROED).unwrap();
    frame.write(0, &[mark]);
    frame
}

fn mark(table: &PageTable, address: usize) -> Option<u8> {
    table.query(address).map(|mapping| {
        let mut byte = [0];
        mapping.frame.read(0, &mut byte);
        byte[0]
    })
}

/// What a processor does for a write whose translation it does not remember as dirty: in one step it notes the write in an
/// entry that allows it, or faults.
fn processor_writes(table: &PageTable, address: usize) -> bool {
    let mut number = table.root;
    for level in (1..LEVELS).rev() {
        let entry = entry_at(number, index_of(address, level)).load(Ordering::SeqCst);
        if entry == 0 {
            return false;
        }
        number = number_in(entry);
    }
    let allowed = arch::PTE_PRESENT | arch::PTE_WRITE;
    entry_at(number, index_of(address, 0))
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |entry| {
            (entry & allowed == allowed).then_some(entry | arch::PTE_ACCESSED | arch::PTE_DIRTY)
        })
        .is_ok()
}

fn clean_page(table: &PageTable, batch: &mut TlbBatch<'_>) {
    assert!(table.map(HERE, frame(1), RW).unwrap().is_none());
    table.update_range(HERE..HERE + PAGE_SIZE, batch, |_, _| EntryAction::Clean);
    assert!(!table.query(HERE).unwrap().dirty);
}

#[test]
fn a_write_during_an_unmap_is_seen_or_faults() {
    let table = PageTable::new().unwrap();
    let mut batch = TlbBatch::new(&table);
    clean_page(&table, &mut batch);
    let (mut dirty, mut written) = (false, false);
    table.unmap_range(HERE..HERE + PAGE_SIZE, &mut batch, |address, mapping| {
        dirty = mapping.dirty;
        written = processor_writes(&table, address);
    });
    assert!(!written || dirty, "a write went to a page that was unmapped as clean");
    assert!(!processor_writes(&table, HERE));
}

#[test]
fn a_write_before_an_unmap_is_seen() {
    let table = PageTable::new().unwrap();
    let mut batch = TlbBatch::new(&table);
    clean_page(&table, &mut batch);
    assert!(processor_writes(&table, HERE));
    let mut dirty = false;
    table.unmap_range(HERE..HERE + PAGE_SIZE, &mut batch, |_, mapping| dirty = mapping.dirty);
    assert!(dirty);
}

#[test]
fn looking_leaves_a_clean_page_writable() {
    let table = PageTable::new().unwrap();
    let mut batch = TlbBatch::new(&table);
    clean_page(&table, &mut batch);
    table.update_range(HERE..HERE + PAGE_SIZE, &mut batch, |_, _| EntryAction::Keep);
    table.update_range(HERE..HERE + PAGE_SIZE, &mut batch, |_, _| EntryAction::Clean);
    assert!(table.query(HERE).unwrap().perms.contains(RW));
    assert!(processor_writes(&table, HERE));
    assert!(table.query(HERE).unwrap().dirty);
}

#[test]
fn protecting_keeps_a_write_that_came_in_time() {
    let table = PageTable::new().unwrap();
    let mut batch = TlbBatch::new(&table);
    clean_page(&table, &mut batch);
    assert!(processor_writes(&table, HERE));
    table.protect_range(HERE..HERE + PAGE_SIZE, &mut batch, |_, _| Perms::READ);
    let mapping = table.query(HERE).unwrap();
    assert!(mapping.dirty && !mapping.perms.contains(Perms::WRITE));
    assert!(!processor_writes(&table, HERE));
}

#[test]
fn a_move_carries_pages_and_what_is_noted_of_them() {
    let region = span(1);
    for (from, to) in [
        (HERE, HERE + 8 * region),                                      // aligned alike
        (HERE + 3 * PAGE_SIZE, HERE + 8 * region + region - PAGE_SIZE), // across regions on both sides
        (HERE, HERE + 16 * PAGE_SIZE),                                  // within one leaf table
        (HERE + 8 * region, HERE),                                      // downwards
    ] {
        let table = PageTable::new().unwrap();
        let mut batch = TlbBatch::new(&table);
        for page in [0, 1, 5, 15] {
            assert!(table.map(from + page * PAGE_SIZE, frame(page as u8 + 1), RW).unwrap().is_none());
        }
        table.protect_range(from..from + PAGE_SIZE, &mut batch, |_, _| Perms::READ);
        table.move_range(from..from + 16 * PAGE_SIZE, to, &mut batch).unwrap();
        for page in 0..16 {
            let expected = [0, 1, 5, 15].contains(&page).then_some(page as u8 + 1);
            assert_eq!(mark(&table, to + page * PAGE_SIZE), expected);
            assert_eq!(mark(&table, from + page * PAGE_SIZE), None);
        }
        let first = table.query(to).unwrap();
        assert!(first.dirty && first.perms == Perms::READ, "a page that was written before it was protected");
    }
}

#[test]
fn a_move_over_thousands_of_pages_drops_what_does_not_fit() {
    const PAGES: usize = 1500;
    let table = PageTable::new().unwrap();
    let mut batch = TlbBatch::new(&table);
    let (from, to) = (HERE + PAGE_SIZE, HERE + 32 * span(1));
    let shared = frame(1);
    for page in 0..PAGES {
        assert!(table.map(from + page * PAGE_SIZE, shared.clone(), RW).unwrap().is_none());
        if page % 2 == 0 {
            assert!(table.map(to + page * PAGE_SIZE, frame(2), RW).unwrap().is_none());
        }
    }
    table.move_range(from..from + PAGES * PAGE_SIZE, to, &mut batch).unwrap();
    batch.flush();
    for page in 0..PAGES {
        assert_eq!(mark(&table, to + page * PAGE_SIZE), Some(if page % 2 == 0 { 2 } else { 1 }));
    }
    assert_eq!(shared.ref_count() as usize, 1 + PAGES / 2, "what was dropped has been given back");
}

/// Pages of the model: three runs, in two leaf tables that touch and in one far away.
const RUNS: [usize; 3] = [HERE + 510 * PAGE_SIZE, HERE + 512 * PAGE_SIZE, 0x7000_0000_0000];
const RUN_PAGES: usize = 6;

#[derive(Clone, Debug)]
enum Step {
    Map(usize, bool),
    Replace(usize),
    Unmap(usize, usize),
    Protect(usize, usize, bool),
    Clean(usize, usize),
    Write(usize),
    Fork(usize, usize, bool),
    Move(usize, usize, usize),
    FreeTables,
}

fn step() -> impl Strategy<Value = Step> {
    let page = || 0..RUN_PAGES * RUNS.len();
    let length = || 1..RUN_PAGES;
    prop_oneof![
        6 => (page(), any::<bool>()).prop_map(|(page, write)| Step::Map(page, write)),
        2 => page().prop_map(Step::Replace),
        2 => (page(), length()).prop_map(|(page, length)| Step::Unmap(page, length)),
        2 => (page(), length(), any::<bool>()).prop_map(|(page, length, write)| Step::Protect(page, length, write)),
        1 => (page(), length()).prop_map(|(page, length)| Step::Clean(page, length)),
        3 => page().prop_map(Step::Write),
        1 => (page(), length(), any::<bool>()).prop_map(|(page, length, shared)| Step::Fork(page, length, shared)),
        2 => (page(), page(), length()).prop_map(|(from, to, length)| Step::Move(from, to, length)),
        1 => Just(Step::FreeTables),
    ]
}

fn address_of(page: usize) -> usize {
    RUNS[page / RUN_PAGES] + page % RUN_PAGES * PAGE_SIZE
}

/// The addresses from a page on, within its run.
fn range_of(page: usize, length: usize) -> Range<usize> {
    let last = (page % RUN_PAGES + length).min(RUN_PAGES) - page % RUN_PAGES;
    address_of(page)..address_of(page) + last * PAGE_SIZE
}

/// What the model knows of a page: its mark, whether it can be written, whether it was.
type Model = BTreeMap<usize, (u8, bool, bool)>;

fn agree(table: &PageTable, model: &Model) {
    for address in (0..RUNS.len() * RUN_PAGES).map(address_of) {
        let found = table.query(address).map(|mapping| (mapping.perms.contains(Perms::WRITE), mapping.dirty));
        let expected = model.get(&address).map(|(_, write, dirty)| (*write, *dirty));
        assert_eq!(found, expected, "{address:#x}");
        assert_eq!(mark(table, address), model.get(&address).map(|page| page.0), "{address:#x}");
    }
}

fn perms(write: bool) -> Perms {
    if write { RW } else { Perms::READ }
}

fn copy(table: &PageTable, model: &mut Model, range: Range<usize>, mode: CopyMode, batch: &mut TlbBatch<'_>) {
    let child = PageTable::new().unwrap();
    table.copy_range_cow(&child, range.clone(), mode, batch, |_, _| {}).unwrap();
    if mode == CopyMode::CopyOnWrite {
        model.range_mut(range.clone()).for_each(|(_, page)| page.1 = false);
    }
    for (address, page) in &*model {
        let copied = child.query(*address).map(|mapping| mapping.perms.contains(Perms::WRITE));
        assert_eq!(copied, range.contains(address).then_some(page.1));
        assert!(copied.is_none() || mark(&child, *address) == Some(page.0));
    }
}

fn relocate(table: &PageTable, model: &mut Model, from: Range<usize>, to: usize, batch: &mut TlbBatch<'_>) {
    if from.start < to + from.len() && to < from.end {
        return;
    }
    table.move_range(from.clone(), to, batch).unwrap();
    for address in from.clone().step_by(PAGE_SIZE) {
        if let Some(page) = model.remove(&address) {
            model.entry(address - from.start + to).or_insert(page);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Every page is what a map of pages says, after any steps; in the end every frame comes back.
    #[test]
    fn agrees_with_a_btree_model(steps in proptest::collection::vec(step(), 1..60)) {
        let table = PageTable::new().unwrap();
        let mut batch = TlbBatch::new(&table);
        let mut model = Model::new();
        for (number, step) in steps.into_iter().enumerate() {
            let new_mark = number as u8 + 1;
            match step {
                Step::Map(page, write) => {
                    let there = table.map(address_of(page), frame(new_mark), perms(write)).unwrap().is_some();
                    assert_eq!(there, model.contains_key(&address_of(page)));
                    // A page that is mapped to be written counts as written.
                    model.entry(address_of(page)).or_insert((new_mark, write, write));
                }
                Step::Replace(page) => {
                    let new = frame(new_mark);
                    table.update(address_of(page), &mut batch, |_| (EntryAction::Map(new, RW), ())).unwrap();
                    model.insert(address_of(page), (new_mark, true, true));
                }
                Step::Unmap(page, length) => {
                    let range = range_of(page, length);
                    let mut removed = Vec::new();
                    table.unmap_range(range.clone(), &mut batch, |address, _| removed.push(address));
                    let expected: Vec<_> = model.range(range).map(|(address, _)| *address).collect();
                    assert_eq!(&removed, &expected);
                    model.retain(|address, _| !expected.contains(address));
                }
                Step::Protect(page, length, write) => {
                    table.protect_range(range_of(page, length), &mut batch, |_, _| perms(write));
                    model.range_mut(range_of(page, length)).for_each(|(_, page)| page.1 = write);
                }
                Step::Clean(page, length) => {
                    table.update_range(range_of(page, length), &mut batch, |_, _| EntryAction::Clean);
                    model.range_mut(range_of(page, length)).for_each(|(_, page)| page.2 = false);
                }
                Step::Write(page) => {
                    let known = model.get_mut(&address_of(page)).filter(|page| page.1);
                    let writes = table.query(address_of(page)).is_some() && processor_writes(&table, address_of(page));
                    assert_eq!(writes, known.is_some());
                    known.into_iter().for_each(|page| page.2 = true);
                }
                Step::Fork(page, length, shared) => {
                    let mode = if shared { CopyMode::Shared } else { CopyMode::CopyOnWrite };
                    copy(&table, &mut model, range_of(page, length), mode, &mut batch);
                }
                Step::Move(from, to, length) => {
                    let most = RUN_PAGES - (from % RUN_PAGES).max(to % RUN_PAGES);
                    relocate(&table, &mut model, range_of(from, length.min(most)), address_of(to), &mut batch);
                }
                Step::FreeTables => {
                    let used = model.range(RUNS[2]..).next().is_some();
                    if !used {
                        table.free_tables(RUNS[2]..RUNS[2] + span(1), &mut batch);
                    }
                }
            }
            batch.flush();
            agree(&table, &model);
        }
    }
}
