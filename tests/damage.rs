//! Blobs that are cut, flipped, forged or meant for another CPU: each is refused with the error that says so, never a panic.

use std::sync::OnceLock;

use mbert::convert::Calibration;
use mbert_runtime::config::ConfigOutOfRange;
use mbert_runtime::error::FormatError;
use mbert_runtime::format::layout::WeightLayout;
use mbert_runtime::format::manifest::Manifest;
use mbert_runtime::format::section::{Element, Section, SectionKind};
use mbert_runtime::format::self_test::cases;
use mbert_runtime::kernels::scalar::SCALAR;
use mbert_runtime::model::Model;
use mbert_runtime::pipeline::Pipeline;
use mbert_tests::models::{RawBlob, convert, trace, with_header};
use mbert_tests::splitmix64;
use mbert_tests::tiny_checkpoint::TinyCheckpoint;

fn blob() -> &'static [u8] {
    static BLOB: OnceLock<Vec<u8>> = OnceLock::new();
    BLOB.get_or_init(|| {
        let dir = TinyCheckpoint::new(1).write();
        convert(dir.path(), Calibration::BuiltIn, WeightLayout::RowMajor).blob
    })
}

/// Opens a blob as a host does: every hash is checked.
fn open(blob: &[u8]) -> Result<(), FormatError> {
    Model::open(blob)?.verify()
}

/// The error of a blob that must be refused before anything is read from it.
fn refusal(blob: &[u8]) -> FormatError {
    let error = Model::open(blob).expect_err("a blob that should be refused was opened");
    assert!(error.to_string().len() > 20, "{error:?} says too little: {error}");
    error
}

/// The error of a blob in which one section was changed and every hash is right.
fn refusal_of(kind: SectionKind, layer: u16, edit: impl FnOnce(&mut (Section, Vec<u8>))) -> FormatError {
    let mut raw = RawBlob::new(blob());
    edit(raw.section(kind, layer));
    refusal(&raw.finish())
}

/// The error of a blob with another manifest.
fn refusal_of_manifest(edit: impl FnOnce(&mut Manifest)) -> FormatError {
    let model = Model::open(blob()).unwrap();
    let mut manifest = *model.manifest();
    edit(&mut manifest);
    let mut bytes = vec![0; 4096];
    let bytes = postcard::to_slice(&(manifest, model.provenance().unwrap()), &mut bytes).unwrap().to_vec();
    refusal_of(SectionKind::Manifest, 0, |section| section.1 = bytes)
}

/// Byte range of the section table.
fn table() -> std::ops::Range<usize> {
    64..64 + 64 * Model::open(blob()).unwrap().sections().count()
}

// Damage by accident.

#[test]
fn whole_blob_is_opened_and_put_together_again_it_is_the_same() {
    open(blob()).unwrap();
    assert!(RawBlob::new(blob()).finish() == blob());
}

#[test]
fn blob_cut_anywhere_is_refused() {
    for length in 0..blob().len() {
        let expected = match length {
            0..64 => FormatError::TooShort { found_bytes: length as u64 },
            _ => FormatError::WrongLength { header_bytes: blob().len() as u64, found_bytes: length as u64 },
        };
        assert_eq!(refusal(&blob()[..length]), expected);
    }
}

#[test]
fn blob_with_bytes_behind_it_is_refused() {
    let longer = [blob(), &[0; 64]].concat();
    assert!(matches!(refusal(&longer), FormatError::WrongLength { .. }));
}

#[test]
fn every_flipped_bit_of_header_and_table_is_refused_before_anything_is_read() {
    let mut damaged = blob().to_vec();
    for bit in 0..8 * table().end {
        damaged[bit / 8] ^= 1 << (bit % 8);
        let error = refusal(&damaged);
        let expected = match bit / 8 {
            0..4 => matches!(error, FormatError::BadMagic { .. }),
            4..6 => matches!(error, FormatError::UnsupportedVersion { .. }),
            8..16 => matches!(error, FormatError::WrongLength { .. }),
            // Another number of sections can also be more than there are bytes.
            6..8 => matches!(error, FormatError::DamagedHeader | FormatError::TooShort { .. }),
            _ => error == FormatError::DamagedHeader,
        };
        assert!(expected, "bit {bit}: {error:?}");
        damaged[bit / 8] ^= 1 << (bit % 8);
    }
    open(&damaged).unwrap();
}

#[test]
fn a_flipped_bit_in_any_byte_behind_the_table_is_found_by_the_host() {
    let mut damaged = blob().to_vec();
    for byte in table().end..damaged.len() {
        let bit = 1 << (splitmix64(3, byte as u64) % 8);
        damaged[byte] ^= bit;
        let error = open(&damaged).expect_err("a flipped bit was not found");
        let known = matches!(error, FormatError::DamagedSection { .. } | FormatError::NonZeroPadding { .. });
        assert!(known, "byte {byte}: {error:?}");
        damaged[byte] ^= bit;
    }
}

#[test]
fn damaged_section_is_named_and_small_ones_are_found_without_the_host() {
    let mut damaged = blob().to_vec();
    let model = Model::open(blob()).unwrap();
    for section in model.sections() {
        damaged[section.offset_bytes as usize] ^= 0x40;
        let expected = FormatError::DamagedSection { kind: section.kind, layer: section.layer };
        assert_eq!(open(&damaged), Err(expected));
        if section.length_bytes <= 4096 {
            assert_eq!(refusal(&damaged), expected);
        }
        damaged[section.offset_bytes as usize] ^= 0x40;
    }
}

#[test]
fn padding_that_is_not_zero_is_found_with_its_place() {
    let model = Model::open(blob()).unwrap();
    let sections: Vec<_> = model.sections().collect();
    let mut gaps = 0;
    for (section, next) in sections.iter().zip(&sections[1..]) {
        let end = section.offset_bytes + section.length_bytes;
        if end < next.offset_bytes {
            let at = next.offset_bytes - 1;
            let mut damaged = blob().to_vec();
            damaged[at as usize] = 1;
            assert_eq!(open(&damaged), Err(FormatError::NonZeroPadding { offset_bytes: at }));
            gaps += 1;
        }
    }
    assert!(gaps > 5, "{gaps} places");
}

#[test]
fn random_bytes_are_refused() {
    for seed in 0..200 {
        let length = splitmix64(seed, 0) as usize % 500;
        let bytes: Vec<u8> = (0..length as u64).map(|k| splitmix64(seed, k + 1) as u8).collect();
        refusal(&bytes);
        // Behind a header that is right, only the table is left to be wrong.
        let sections = (length / 64) as u16;
        refusal(&with_header(sections, &bytes[..64 * usize::from(sections)], &[0; 640]));
    }
}

// Forged or wrongly converted: hashes are right, content is not.

#[test]
fn empty_flash_is_too_short_or_has_no_magic() {
    assert_eq!(refusal(&[]), FormatError::TooShort { found_bytes: 0 });
    assert_eq!(refusal(&[0xFF; 4096]), FormatError::BadMagic { found: [0xFF; 4] });
}

#[test]
fn blob_of_another_version_is_refused_with_both() {
    let mut other = blob().to_vec();
    other[4..6].copy_from_slice(&9u16.to_le_bytes());
    let error = refusal(&other);
    assert_eq!(error, FormatError::UnsupportedVersion { found: 9, expected: 3 });
    assert!(error.to_string().contains("version 9"), "{error}");
}

#[test]
fn more_sections_than_bytes_are_too_short() {
    let header = with_header(1000, &[0; 64], &[]);
    assert_eq!(refusal(&header), FormatError::TooShort { found_bytes: 128 });
}

#[test]
fn unknown_codes_in_a_section_entry_are_refused_with_its_number() {
    // Kind, element, layout, reserved.
    for (at, value) in [(0, 99), (4, 9), (5, 9), (6, 1)] {
        let mut table = blob()[table()].to_vec();
        table[3 * 64 + at] = value;
        let sections = (table.len() / 64) as u16;
        let forged = with_header(sections, &table, &blob()[64 + table.len()..]);
        assert_eq!(refusal(&forged), FormatError::BadSectionEntry { index: 3 });
    }
}

#[test]
fn sections_that_overlap_reach_out_or_overflow_are_refused() {
    let number = 3;
    let table = &blob()[table()];
    let offset = u64::from_le_bytes(table[number * 64 + 8..][..8].try_into().unwrap());
    for (field, value) in
        [(8, offset - 64), (8, offset + 1), (8, u64::MAX - 63), (16, u64::MAX), (16, 1 << 40), (16, 1 << 63)]
    {
        let mut table = table.to_vec();
        table[number * 64 + field..][..8].copy_from_slice(&value.to_le_bytes());
        let forged = with_header((table.len() / 64) as u16, &table, &blob()[64 + table.len()..]);
        let error = refusal(&forged);
        // A length that still lies inside the blob is noticed at the entry behind it.
        assert!(matches!(error, FormatError::SectionOutOfBounds { .. }), "{field} {value}: {error:?}");
    }
}

#[test]
fn bytes_that_belong_to_no_section_are_refused() {
    let body = [&blob()[table().end..], &[0; 64]].concat();
    let forged = with_header((table().len() / 64) as u16, &blob()[table()], &body);
    assert!(matches!(refusal(&forged), FormatError::WrongLength { .. }));
}

#[test]
fn absent_and_doubled_sections_are_refused_by_name() {
    use SectionKind::{Intermediate, Manifest, SelfTest, TransformLayerNorm, Vocabulary, WordEmbeddings};
    let free = [(Manifest, 0), (Vocabulary, 0), (SelfTest, 0)];
    for (kind, layer) in free.into_iter().chain([(WordEmbeddings, 0), (Intermediate, 1), (TransformLayerNorm, 0)]) {
        let mut raw = RawBlob::new(blob());
        raw.sections.retain(|(section, _)| (section.kind, section.layer) != (kind, layer));
        assert_eq!(refusal(&raw.finish()), FormatError::MissingSection { kind, layer });
        let mut raw = RawBlob::new(blob());
        let doubled = raw.section(kind, layer).clone();
        raw.sections.push(doubled);
        let index = raw.sections.len() as u16 - 1;
        assert_eq!(refusal(&raw.finish()), FormatError::BadSectionEntry { index });
    }
}

#[test]
fn section_of_another_size_is_refused_with_both_sizes() {
    let (kind, layer) = (SectionKind::AttentionOutput, 1);
    let error = refusal_of(kind, layer, |(_, bytes)| bytes.truncate(1000));
    assert_eq!(error, FormatError::WrongSectionSize { kind, layer, found_bytes: 1000, expected_bytes: 1024 + 12 * 32 });
}

#[test]
fn every_tensor_section_is_checked_for_size_and_type() {
    let sections: Vec<_> = Model::open(blob()).unwrap().sections().collect();
    let free = [SectionKind::Manifest, SectionKind::SelfTest, SectionKind::Vocabulary];
    for section in sections.iter().filter(|section| !free.contains(&section.kind)) {
        let (kind, layer) = (section.kind, section.layer);
        let error = refusal_of(kind, layer, |(_, bytes)| bytes.push(0));
        assert!(matches!(error, FormatError::WrongSectionSize { .. }), "{kind:?}: {error:?}");
        let other = if section.element == Element::Tiles { Element::Bytes } else { Element::Tiles };
        let edits: [&dyn Fn(&mut Section); 3] =
            [&|entry| entry.rows += 1, &|entry| entry.columns *= 2, &|entry| entry.element = other];
        for edit in edits {
            let error = refusal_of(kind, layer, |(section, _)| edit(section));
            assert_eq!(error, FormatError::BadParameter { kind, layer });
        }
    }
}

#[test]
fn manifest_that_cannot_be_decoded_is_refused() {
    assert_eq!(refusal_of(SectionKind::Manifest, 0, |(_, bytes)| bytes.truncate(10)), FormatError::BadManifest);
    assert_eq!(refusal_of(SectionKind::Manifest, 0, |(_, bytes)| bytes.fill(0xFF)), FormatError::BadManifest);
    assert_eq!(refusal_of_manifest(|manifest| manifest.quantization.group_size = 128), FormatError::BadManifest);
    assert_eq!(refusal_of_manifest(|manifest| manifest.heads.pooler = false), FormatError::BadManifest);
}

#[test]
fn manifest_out_of_range_is_refused_with_the_field() {
    let error = refusal_of_manifest(|manifest| manifest.config.num_attention_heads = 5);
    let expected = ConfigOutOfRange { field: "num_attention_heads", value: 5, min: 1, max: 4 };
    assert_eq!(error, FormatError::Config(expected));
    let error = refusal_of_manifest(|manifest| manifest.config.hidden_size = 0);
    assert!(matches!(error, FormatError::Config(ConfigOutOfRange { field: "hidden_size", .. })), "{error:?}");
}

#[test]
fn vocabulary_that_does_not_fit_is_refused() {
    assert_eq!(refusal_of(SectionKind::Vocabulary, 0, |(_, bytes)| bytes.truncate(8)), FormatError::BadVocabulary);
    assert_eq!(refusal_of(SectionKind::Vocabulary, 0, |(_, bytes)| bytes.fill(0xFF)), FormatError::BadVocabulary);
    let error = refusal_of_manifest(|manifest| manifest.tokenizer.mask_token_id = 100_000);
    assert_eq!(error, FormatError::BadVocabulary);
}

#[test]
fn constants_and_layer_norms_out_of_range_are_refused_by_name() {
    let int32 = |value: i32| value.to_le_bytes();
    for (kind, layer, at, value) in [
        (SectionKind::Constants, 0, 12, 32),
        (SectionKind::Constants, 0, 8, 1024),
        (SectionKind::LayerConstants, 1, 16, -1),
        (SectionKind::LayerConstants, 1, 4, i32::MIN),
        (SectionKind::EmbeddingsLayerNorm, 0, 8, 64),
        (SectionKind::OutputLayerNorm, 1, 12, -40),
        (SectionKind::AttentionLayerNorm, 0, 4, i32::MAX),
    ] {
        let error = refusal_of(kind, layer, |(_, bytes)| bytes[at..at + 4].copy_from_slice(&int32(value)));
        assert_eq!(error, FormatError::BadParameter { kind, layer }, "{value} at {at}");
    }
    let kind = SectionKind::TransformLayerNorm;
    let error = refusal_of(kind, 0, |(_, bytes)| bytes[..8].fill(0));
    assert_eq!(error, FormatError::BadParameter { kind, layer: 0 });
}

#[test]
fn packing_that_does_not_fit_a_tensor_is_refused() {
    for kind in [SectionKind::WordEmbeddings, SectionKind::SeqRelationship, SectionKind::PoolerInput] {
        let error = refusal_of(kind, 0, |(section, _)| section.layout = WeightLayout::Vnni16x4);
        assert_eq!(error, FormatError::BadParameter { kind, layer: 0 });
    }
}

#[test]
fn self_test_that_cannot_be_decoded_is_an_error_of_its_own() {
    let mut raw = RawBlob::new(blob());
    let bytes = raw.section(SectionKind::SelfTest, 0).1.clone();
    assert!(cases(&bytes).unwrap().all(|case| case.is_ok()));
    assert_eq!(cases(&[]).err(), Some(FormatError::BadSelfTest));
    let found: Vec<_> = cases(&bytes[..bytes.len() - 1]).unwrap().collect();
    assert_eq!((found.len(), found.last().unwrap().err()), (4, Some(FormatError::BadSelfTest)));
}

#[test]
fn blob_packed_for_another_cpu_is_refused_by_the_kernels_of_this_one() {
    let dir = TinyCheckpoint::new(1).write();
    let packed = convert(dir.path(), Calibration::BuiltIn, WeightLayout::Vnni16x4).blob;
    let model = Model::open(&packed[..]).unwrap();
    let error = Pipeline::new(&model, &SCALAR, &mut []).unwrap_err();
    let expected = FormatError::UnsupportedLayout { found: WeightLayout::Vnni16x4, native: WeightLayout::RowMajor };
    assert_eq!(error, expected);
    assert!(error.to_string().contains("vnni16x4"), "{error}");
}

#[test]
fn forged_tables_never_panic() {
    let table = &blob()[table()];
    let body = &blob()[64 + table.len()..];
    let mut opened = 0;
    for seed in 0..5000 {
        let mut forged = table.to_vec();
        let below = |k, n: usize| splitmix64(seed, k) as usize % n;
        let (entry, field, value) = (below(0, table.len() / 64), below(1, 32), [0, 1, 0x40, 0x80, 0xFF][below(2, 5)]);
        forged[64 * entry + field] = value;
        let forged = with_header((table.len() / 64) as u16, &forged, body);
        let found = std::panic::catch_unwind(|| open(&forged));
        opened += usize::from(found.expect("a table made open or verify panic").is_ok());
    }
    // Those in which the byte was what it had been.
    assert!((1..5000).contains(&opened), "{opened} were opened");
}

/// Whoever can write a blob with right hashes can write any number into it: the answer is then nonsense, but an answer.
#[test]
fn forged_numbers_never_panic() {
    let clean = RawBlob::new(blob());
    for seed in 0..3000 {
        let mut forged = RawBlob { sections: clean.sections.clone() };
        let mut draw = (0..).map(|k| splitmix64(seed, k) as usize);
        let mut below = |n: usize| draw.next().unwrap() % n;
        let (_, bytes) = &mut forged.sections[below(clean.sections.len())];
        if bytes.is_empty() {
            continue;
        }
        for _ in 0..=below(8) {
            let at = below(bytes.len());
            bytes[at] = [0, 1, 0x7F, 0x80, 0xFF, below(256) as u8][below(6)];
        }
        let forged = forged.finish();
        let Ok(model) = Model::open(&forged[..]) else { continue };
        let ran = std::panic::catch_unwind(|| trace(&model, &SCALAR, &[2, 57, 58, 4, 60, 57, 61, 62, 3]));
        assert!(ran.is_ok(), "seed {seed}");
    }
}
