//! Card images: what a board finds on them.

use std::fs::File;

use fatfs::{FatType, FileSystem, FsOptions};
use fscommon::StreamSlice;
use mbert::built_in::BuiltIn;
use mbert_tests::models::built_in;

use super::{Folder, mbert};

/// Bytes of a card's block.
const BLOCK: usize = 512;

/// A number of the first entry in the table of partitions.
fn partition(image: &[u8], offset: usize) -> u64 {
    u32::from_le_bytes(image[446 + offset..][..4].try_into().unwrap()).into()
}

#[test]
fn model_lies_in_one_piece_on_a_fat_volume_of_one_partition() {
    let folder = Folder::new();
    let path = folder.file("card.img");
    for model in BuiltIn::ALL {
        mbert(&["sd-image", model.name(), "-o", &path]).ok();
        let image = std::fs::read(&path).unwrap();
        assert!(image.len().is_power_of_two());
        assert_eq!(image[BLOCK - 2..BLOCK], [0x55, 0xaa]);
        let (start, blocks) = (partition(&image, 8), partition(&image, 12));
        assert_eq!((start + blocks) * BLOCK as u64, image.len() as u64);

        let blob = built_in(model);
        let volume = StreamSlice::new(
            File::options().read(true).write(true).open(&path).unwrap(),
            start * BLOCK as u64,
            image.len() as u64,
        );
        let files = FileSystem::new(volume.unwrap(), FsOptions::new()).unwrap();
        assert_eq!(files.fat_type(), FatType::Fat16);
        assert_eq!(image[446 + 4], 0x0e, "FAT16, counted in blocks");
        let names: Vec<_> = files.root_dir().iter().map(|entry| entry.unwrap().short_file_name()).collect();
        assert_eq!(names, ["MODEL.MBT"]);
        let mut found = Vec::new();
        std::io::copy(&mut files.root_dir().open_file("MODEL.MBT").unwrap(), &mut found).unwrap();
        assert!(found == blob);

        let (first_block, rest) = blob.as_chunks::<BLOCK>().0.split_first().unwrap();
        let begin = image.as_chunks().0.iter().position(|block| block == first_block).unwrap();
        assert!(image[BLOCK * (begin + 1)..].starts_with(rest.as_flattened()), "block for block behind the first");
    }
}

#[test]
fn images_of_a_model_are_always_the_same() {
    let folder = Folder::new();
    let model = folder.file("tiny.mbert");
    let images = ["one.img", "two.img"].map(|name| {
        mbert(&["sd-image", &model, "-o", &folder.file(name)]).ok();
        std::fs::read(folder.path(name)).unwrap()
    });
    assert!(images[0] == images[1]);
}

#[test]
fn what_is_no_model_is_not_put_on_a_card() {
    let folder = Folder::new();
    let image = folder.file("card.img");
    let text = folder.write("text.txt", "no model, but long enough for the header of one, which has sixty-four bytes");
    mbert(&["sd-image", &text, "-o", &image]).refused(&["text.txt", "not a .mbert model"]);
    mbert(&["sd-image", &folder.file("absent"), "-o", &image]).refused(&["absent", "cannot open"]);
    mbert(&["sd-image", "tiny", "-o", &folder.file("absent/card.img")]).refused(&["absent/card.img", "does not exist"]);
    assert_eq!(folder.names(), ["text.txt", "tiny", "tiny.mbert"]);
}
