//! Files as swap space: where their blocks are, and what is refused meanwhile.

use super::{KINDS, check_with_fsck, image, mount_disk, tree};
use crate::node::Node;
use crate::{control, regular, swap};
use abi::errno::Errno;
use abi::mount::MountFlags;
use block::memory::MemoryDisk;
use std::{format, fs, println};

#[test]
fn a_file_is_swap_space_and_stays_where_it_is() {
    let root = tree("swap");
    let (mut taken, mut kinds) = (0, 0);
    for (kind, options) in KINDS {
        let Some(bytes) = image(&format!("swap-{kind}"), options, "32M", &root) else { return };
        kinds += 1;
        let told = std::env::temp_dir().join(format!("linnet-ext4-{}-swap-{kind}", std::process::id()));
        let tell = told.clone();
        sched::host::run(1, 2, move || {
            println!("{kind}");
            let disk = MemoryDisk::new(bytes);
            let root = mount_disk(disk.clone(), MountFlags::empty()).unwrap();
            let find = |name: &str| root.operations().lookup(&root, name.as_bytes()).unwrap();
            let file = find("large");
            let node = file.private::<Node>().unwrap();
            assert_eq!(swap::store(&find("sparse"), None).err(), Some(Errno::EINVAL), "it has holes");
            assert_eq!(regular::resize(find("sparse").private().unwrap(), &find("sparse"), 10), Ok(()));
            let pages = file.size() / 4096;
            let sectors = u64::from(node.body().fs.geometry.block_size) / 512;
            match swap::store(&file, None) {
                Ok(store) => {
                    assert_eq!(store.pages(), pages);
                    let extents = swap::extents_of(node.body(), pages).unwrap();
                    for page in 0..pages {
                        let inside = |extent: &&block::Extent| {
                            extent.first <= page && page < extent.first + extent.pages
                        };
                        let extent = extents.iter().find(inside).unwrap();
                        let sector = extent.sector + (page - extent.first) * 8;
                        for block in 0..8 / sectors {
                            let place = control::block_of(node.body(), page * 8 / sectors + block).unwrap();
                            assert_eq!(place * sectors, sector + block * sectors);
                        }
                    }
                    assert_eq!(swap::store(&file, None).err(), Some(Errno::EBUSY));
                    assert_eq!(swap::check(&file), Err(Errno::ETXTBSY));
                    assert_eq!(regular::resize(node, &file, 10), Err(Errno::ETXTBSY));
                    fs::write(&tell, "taken").unwrap();
                    drop(store);
                }
                // With small blocks a page may lie in pieces: nothing is kept of the attempt.
                Err(error) => assert_eq!((error, sectors < 8), (Errno::EINVAL, true)),
            }
            assert_eq!(swap::check(&file), Ok(()));
            assert_eq!(regular::resize(node, &file, 10), Ok(()));
            drop((file, root));
            check_with_fsck(&format!("swap-{kind}"), &disk.contents());
        });
        taken += u32::from(fs::remove_file(&told).is_ok());
    }
    fs::remove_dir_all(&root).unwrap();
    assert!(
        taken * 2 > kinds || std::env::var_os("LINNET_ISOLATED").is_none(),
        "only {taken} of {kinds} could be"
    );
}
