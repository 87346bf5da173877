//! Every input of every corpus, and some thousand changes of each: what fuzzing has found stays found. `FUZZ_CHANGES=N` makes it N.

use std::path::Path;

/// Changes for each input, unless the environment says how many.
const CHANGES: usize = 2000;

/// A number that follows another.
fn next(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 11) as usize
}

/// Sets, cuts, repeats or lengthens.
fn change(bytes: &mut Vec<u8>, state: &mut u64) {
    let at = next(state) % (bytes.len() + 1);
    match next(state) % 4 {
        0 if at < bytes.len() => bytes[at] = [0, 1, 0xff, next(state) as u8][next(state) % 4],
        1 => bytes.truncate(at),
        2 => bytes.extend_from_within(at..),
        _ => bytes.insert(at, next(state) as u8),
    }
    bytes.truncate(1 << 16);
}

#[test]
fn no_input_does_harm() {
    let changes = std::env::var("FUZZ_CHANGES").map_or(CHANGES, |text| text.parse().unwrap());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, target) in linnet_fuzz::TARGETS {
        let mut files: Vec<_> =
            std::fs::read_dir(root.join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty(), "{name} has no corpus");
        for file in files {
            let input = std::fs::read(&file).unwrap();
            target(&input);
            let mut state = 0x9e37_79b9_7f4a_7c15;
            for _ in 0..changes {
                let mut bytes = input.clone();
                for _ in 0..=next(&mut state) % 4 {
                    change(&mut bytes, &mut state);
                }
                target(&bytes);
            }
        }
    }
}
