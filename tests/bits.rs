//! The same bits, whatever runs the model: kernels, weight layout, order, neighbours, memory, threads, build profile.

use std::path::Path;
use std::sync::OnceLock;

use mbert::built_in::BuiltIn;
use mbert::convert::Calibration;
use mbert::model_file::ModelFile;
use mbert_runtime::error::FormatError;
use mbert_runtime::format::layout::WeightLayout;
use mbert_runtime::format::section::SectionKind;
use mbert_runtime::format::self_test::{TOP_K, cases};
use mbert_runtime::heads::top_k::{TokenLogit, TopK};
use mbert_runtime::kernels::scalar::SCALAR;
use mbert_runtime::kernels::{COMPILED, Kernels, available};
use mbert_runtime::model::Model;
use mbert_runtime::pipeline::{Pipeline, memory_bytes};
use mbert_tests::models::{answer, built_in, built_in_directory, convert, sha256, trace};
use mbert_tests::tiny_checkpoint::TinyCheckpoint;
use mbert_tests::{shared, splitmix64};

/// What the seeded checkpoint becomes, on every machine and in every build profile. They change with the arithmetic, the
/// format and the converter's version, and with nothing else: then both are to be written anew, from what the failing
/// tests print.
const EXPECTED_BLOB_SHA256: &str = "324b4da6574d7f9ea63fe63c2fcc9e19e0f5cac964a14cefb80e9939febec392";
/// What that blob answers to [`IDS`].
const EXPECTED_TRACE_SHA256: &str = "2a509bebaaa6afdaa660c4d595e763329ba6cee02c011adb0fe9b7f111ac4f13";

/// `[CLS] the cat [MASK] on the mat . [SEP]`, and a few others.
const IDS: [&[u32]; 4] =
    [&[2, 57, 58, 4, 60, 57, 61, 62, 3], &[2, 3], &[2, 20, 35, 50, 9, 4, 4, 31, 3, 8, 41, 3], &[2, 4, 3]];

/// The seeded checkpoint under a name that is part of the blob, so it must not be that of a temporary directory;
/// calibrated, so that the statistics are part of the blob too.
fn tiny_blob(layout: WeightLayout) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("tiny");
    TinyCheckpoint::new(1).write_to(&dir);
    let text = folder.path().join("text.txt");
    std::fs::write(&text, "the cat sat on the mat .\non the mat , the cat sat\nzebra quilts fix my jowl\n").unwrap();
    let blob = convert(&dir, Calibration::Text(text), layout).blob;
    assert!(Model::open(&blob[..]).unwrap().manifest().quantization.smoothed);
    blob
}

fn row_major() -> &'static [u8] {
    static BLOB: OnceLock<Vec<u8>> = OnceLock::new();
    BLOB.get_or_init(|| tiny_blob(WeightLayout::RowMajor))
}

fn packed() -> &'static [u8] {
    static BLOB: OnceLock<Vec<u8>> = OnceLock::new();
    BLOB.get_or_init(|| tiny_blob(WeightLayout::Vnni16x4))
}

/// What plain loops over row-major weights answer to a sequence.
fn expected(ids: &[u32]) -> String {
    trace(&Model::open(row_major()).unwrap(), &SCALAR, ids)
}

#[test]
fn seeded_checkpoint_becomes_the_same_blob_on_every_machine() {
    assert_eq!(sha256(row_major()), EXPECTED_BLOB_SHA256, "update EXPECTED_BLOB_SHA256 if the format changed");
}

#[test]
fn seeded_checkpoint_gives_the_same_answer_on_every_machine() {
    for kernels in available() {
        let found = trace(&Model::open(row_major()).unwrap(), kernels, IDS[0]);
        assert_eq!(
            found, EXPECTED_TRACE_SHA256,
            "{}: update EXPECTED_TRACE_SHA256 if arithmetic changed",
            kernels.name
        );
    }
}

#[test]
fn converting_twice_and_at_the_same_time_gives_the_same_bytes() {
    let [one, other] = std::thread::scope(|scope| {
        let threads = [(); 2].map(|()| scope.spawn(|| tiny_blob(WeightLayout::RowMajor)));
        threads.map(|thread| thread.join().unwrap())
    });
    assert!(one == row_major() && other == row_major());
}

#[test]
fn every_kernel_and_layout_gives_the_same_trace() {
    let names: Vec<_> = available().map(|kernels| kernels.name).collect();
    let absent: Vec<_> = COMPILED.iter().filter(|name| !names.contains(name)).collect();
    println!("this CPU runs {names:?}; not checked here: {absent:?}");
    for ids in IDS {
        let expected = expected(ids);
        for kernels in available() {
            for (layout, blob) in [("row-major", row_major()), ("packed", packed())] {
                let model = Model::open(blob).unwrap();
                if model.check_layout(kernels).is_ok() {
                    assert_eq!(trace(&model, kernels, ids), expected, "{} over {layout} weights", kernels.name);
                }
            }
        }
    }
}

#[test]
fn packing_changes_weights_alone_and_a_host_undoes_it() {
    let (plain, packed) = (Model::open(row_major()).unwrap(), Model::open(packed()).unwrap());
    let mut changed = 0;
    for (plain_section, packed_section) in plain.sections().zip(packed.sections()) {
        let same = plain.section_bytes(&plain_section) == packed.section_bytes(&packed_section);
        assert_eq!(same, packed_section.layout == WeightLayout::RowMajor, "{:?}", plain_section.kind);
        changed += usize::from(!same);
    }
    assert!(changed >= 8, "{changed} sections are packed");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("packed.mbert");
    std::fs::write(&path, packed.blob()).unwrap();
    for kernels in available() {
        let file = ModelFile::open(&path).unwrap().for_kernels(kernels).unwrap();
        assert_eq!(trace(&file.model().unwrap(), kernels, IDS[2]), expected(IDS[2]), "{}", kernels.name);
    }
    let file = ModelFile::open(&path).unwrap().for_kernels(&SCALAR).unwrap();
    assert!(file.model().unwrap().blob() == row_major(), "a repacked blob is the row-major one");
}

#[test]
fn answers_do_not_depend_on_what_was_asked_before() {
    let model = Model::open(row_major()).unwrap();
    let expected = IDS.map(expected);
    let mut memory = vec![0; memory_bytes(&model.manifest().config, 40)];
    let mut pipeline = Pipeline::new(&model, Kernels::native(), &mut memory).unwrap();
    for round in 0..200 {
        let question = splitmix64(5, round) as usize % IDS.len();
        let ids = IDS[question];
        assert_eq!(answer(&mut pipeline, &model, ids, &vec![0; ids.len()]), expected[question], "round {round}");
    }
}

#[test]
fn answers_do_not_depend_on_memory_its_content_its_alignment_or_its_size() {
    let model = Model::open(row_major()).unwrap();
    let config = &model.manifest().config;
    for ids in IDS {
        let expected = expected(ids);
        for (tokens, stale, skip) in [(ids.len(), 0xFF, 0), (ids.len(), 0x80, 1), (40, 0x7F, 3), (ids.len() + 1, 1, 7)]
        {
            let mut memory = vec![stale; memory_bytes(config, tokens) + skip];
            let mut pipeline = Pipeline::new(&model, Kernels::native(), &mut memory[skip..]).unwrap();
            let found = answer(&mut pipeline, &model, ids, &vec![0; ids.len()]);
            assert_eq!(found, expected, "{tokens} tokens of memory filled with {stale}, {skip} bytes in");
        }
    }
}

#[test]
fn blob_is_read_at_any_multiple_of_8_and_refused_elsewhere() {
    for skip in 0..64 {
        let mut shifted = vec![0u64; 16 + row_major().len() / 8];
        let shifted = &mut bytemuck::cast_slice_mut(&mut shifted)[skip..][..row_major().len()];
        shifted.copy_from_slice(row_major());
        if skip % 8 != 0 {
            assert_eq!(Model::open(&shifted[..]).unwrap_err(), FormatError::Misaligned);
            continue;
        }
        let model = Model::open(&shifted[..]).unwrap();
        model.verify().unwrap();
        assert_eq!(trace(&model, Kernels::native(), IDS[0]), expected(IDS[0]), "{skip} bytes in");
    }
}

#[test]
fn threads_that_share_a_model_answer_as_one() {
    let model = Model::open(row_major()).unwrap();
    std::thread::scope(|scope| {
        for ids in IDS.into_iter().cycle().take(8) {
            let model = &model;
            scope.spawn(move || assert_eq!(trace(model, Kernels::native(), ids), expected(ids)));
        }
    });
}

#[test]
fn token_types_and_ids_reach_the_trace() {
    let model = Model::open(row_major()).unwrap();
    let mut memory = vec![0; memory_bytes(&model.manifest().config, 40)];
    let mut pipeline = Pipeline::new(&model, Kernels::native(), &mut memory).unwrap();
    let plain = answer(&mut pipeline, &model, &[2, 57, 3], &[0, 0, 0]);
    assert_ne!(answer(&mut pipeline, &model, &[2, 57, 3], &[0, 0, 1]), plain);
    assert_ne!(answer(&mut pipeline, &model, &[2, 58, 3], &[0, 0, 0]), plain);
}

/// Answers every self-test case of a blob with every kernel, and compares trace and best tokens with what is written there.
fn check_self_test(blob: &[u8]) {
    let model = Model::open(blob).unwrap();
    let manifest = model.manifest();
    let section = model.sections().find(|section| section.kind == SectionKind::SelfTest).unwrap();
    let mut count = 0;
    for kernels in available().filter(|kernels| model.check_layout(kernels).is_ok()) {
        for case in cases(model.section_bytes(&section)).unwrap() {
            let case = case.unwrap();
            let ids: Vec<u32> = case.ids().collect();
            let mut memory = vec![0xFF; memory_bytes(&manifest.config, ids.len())];
            let mut pipeline = Pipeline::new(&model, kernels, &mut memory).unwrap();
            pipeline.set_ids(&ids, &vec![0; ids.len()]).unwrap();
            let mut trace = mbert_runtime::trace::TraceHash::default();
            let mut encoded = pipeline.forward(&mut trace).unwrap();
            let mut top = TopK::<[TokenLogit; TOP_K]>::default();
            if let Some(position) = case.mask_position {
                let positions = [usize::from(position)];
                encoded.masked_lm(&positions, &mut trace, |id, _, logit| top.push(TokenLogit { id, logit })).unwrap();
                assert_eq!(ids[positions[0]], manifest.tokenizer.mask_token_id);
                let found: Vec<_> = top.as_slice().iter().map(|best| (best.id, best.logit)).collect();
                assert_eq!(found, case.top, "{}: {}", kernels.name, case.text);
            }
            if manifest.heads.next_sentence {
                encoded.next_sentence(&mut trace).unwrap();
            }
            assert_eq!(trace.finish(), case.trace_sha256, "{}: {}", kernels.name, case.text);
            count += 1;
        }
    }
    assert!(count >= 4, "{count} cases");
}

#[test]
fn self_test_of_every_seeded_blob_is_passed() {
    check_self_test(row_major());
    let model = Model::open(packed()).unwrap();
    if model.check_layout(Kernels::native()).is_ok() {
        check_self_test(packed());
    }
}

#[test]
fn built_in_models_are_those_of_their_directories_and_pass_their_self_tests() {
    for model in BuiltIn::ALL {
        let blob = built_in(model);
        assert!(blob == convert(&built_in_directory(model), Calibration::BuiltIn, WeightLayout::RowMajor).blob);
        check_self_test(blob);
        let plain = Model::open(blob).unwrap();
        assert_eq!(plain.provenance().unwrap().model_name, model.name());
        assert!(plain.manifest().quantization.smoothed, "the calibration text is known to {}", model.name());
        for kernels in available() {
            let packed = model.blob(kernels.weight_layout).unwrap();
            let ids = [plain.manifest().tokenizer.mask_token_id; 7];
            let found = trace(&Model::open(&packed[..]).unwrap(), kernels, &ids);
            assert_eq!(found, trace(&plain, &SCALAR, &ids), "{}", kernels.name);
        }
    }
}

#[test]
fn self_test_of_real_blobs_is_passed() {
    for name in ["models/splade-tiny-mlm", "models/rxnfp-bert-mlm"] {
        let Some(dir) = shared(name) else { continue };
        let convert = |layout| convert(Path::new(&dir), Calibration::BuiltIn, layout).blob;
        let blob = convert(WeightLayout::RowMajor);
        check_self_test(&blob);
        assert!(blob == convert(WeightLayout::RowMajor), "{name}: a second conversion gives the same bytes");
    }
}
