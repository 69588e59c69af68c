//! The functions as C calls them.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::sync::LazyLock;

use mbert::built_in::BuiltIn;
use mbert_runtime::format::layout::WeightLayout;

use super::*;

const TEXT: &str = "She opened the [MASK] and went into the [MASK].";
/// At a multiple of 8, as flash is.
static BLOB: LazyLock<Vec<u64>> = LazyLock::new(|| {
    let bytes = BuiltIn::Tiny.blob(WeightLayout::RowMajor).unwrap();
    // Its place is longer than the model.
    bytes
        .chunks(8)
        .map(|chunk| u64::from_le_bytes(std::array::from_fn(|n| chunk.get(n).copied().unwrap_or(0xff))))
        .chain([!0; 9])
        .collect()
});

fn blob() -> &'static [u8] {
    bytemuck::cast_slice(&BLOB)
}

fn open() -> MbertModel {
    let mut model = MaybeUninit::zeroed();
    let bytes = blob();
    // SAFETY: memory for a model, and one with its length.
    unsafe {
        assert_eq!(mbert_open(model.as_mut_ptr(), bytes.as_ptr(), bytes.len()), MbertStatus::Ok);
        model.assume_init()
    }
}

/// The workspace for the longest text here.
fn workspace(model: &MbertModel) -> Vec<u8> {
    // SAFETY: a model.
    vec![0; unsafe { mbert_workspace_bytes(model, 32) }]
}

fn ask(
    model: &MbertModel,
    workspace: &mut [u8],
    text: &[u8],
    room: usize,
) -> Result<Vec<MbertMaskAnswer>, MbertStatus> {
    let mut answers = Vec::with_capacity(room);
    let mut masks = 0;
    // SAFETY: memory with its length, each.
    unsafe {
        let (memory, bytes) = (workspace.as_mut_ptr(), workspace.len());
        let status = mbert_fill_mask(
            model,
            memory,
            bytes,
            text.as_ptr().cast(),
            text.len(),
            answers.as_mut_ptr(),
            room,
            &mut masks,
        );
        if status != MbertStatus::Ok {
            return Err(status);
        }
        answers.set_len(masks);
    }
    Ok(answers)
}

#[test]
fn answers_are_those_of_the_runtime() {
    let model = open();
    let mut memory = workspace(&model);
    let answers = ask(&model, &mut memory, TEXT.as_bytes(), 2).unwrap();

    let expected_model = Model::open(&blob()[..Header::total_bytes_of(blob()).unwrap() as usize]).unwrap();
    let mut expected = std::array::from_fn::<_, 2, _>(|_| MaskAnswer::<MBERT_TOP_K>::default());
    let mut pipeline = Pipeline::new(&expected_model, Kernels::native(), &mut memory).unwrap();
    let expected = pipeline.fill_mask(TEXT, &mut expected).unwrap();
    assert_eq!(answers.len(), expected.len());
    for (answer, expected) in answers.iter().zip(expected) {
        assert_eq!((answer.position as usize, answer.count as usize), (expected.position(), MBERT_TOP_K));
        let ids = |answer: &MbertMaskAnswer| answer.best.map(|token| (token.id, token.logit));
        assert_eq!(ids(answer).to_vec(), expected.best().iter().map(|best| (best.id, best.logit)).collect::<Vec<_>>());
        assert_eq!(answer.best[0].probability_q31, expected.probability(expected.best()[0]).q31());
    }

    let pair = "It was cold.";
    let mut logits = [0; 2];
    let mut features = MaybeUninit::<MbertFeatures>::zeroed();
    // SAFETY: memory with its length, each.
    unsafe {
        let (text, text_bytes, pair_bytes) = (TEXT.as_ptr().cast(), TEXT.len(), pair.len());
        let (at, bytes) = (memory.as_mut_ptr(), memory.len());
        let status = mbert_next_sentence(
            &model,
            at,
            bytes,
            text,
            text_bytes,
            pair.as_ptr().cast(),
            pair_bytes,
            logits.as_mut_ptr(),
        );
        assert_eq!(status, MbertStatus::Ok);
        assert_eq!(mbert_features(&model, at, bytes, text, text_bytes, features.as_mut_ptr()), MbertStatus::Ok);
        let features = features.assume_init();
        let values = std::slice::from_raw_parts(features.values, features.tokens * features.hidden_size).to_vec();
        let mut pipeline = Pipeline::new(&expected_model, Kernels::native(), &mut memory).unwrap();
        assert_eq!(pipeline.next_sentence(TEXT, pair).unwrap(), logits);
        pipeline.encode(TEXT, None).unwrap();
        assert_eq!(pipeline.forward(&mut ()).unwrap().last_hidden_state(), values);
    }
}

/// Tokens of a text, and what is said where so many ids have room.
fn tokenize(model: &MbertModel, text: &str, ids: &mut [u32]) -> (MbertStatus, usize) {
    let (at, none, mut tokens) = (text.as_ptr().cast(), std::ptr::null(), 0);
    // SAFETY: memory with its length, each.
    let status = unsafe { mbert_tokenize(model, at, text.len(), none, 0, ids.as_mut_ptr(), ids.len(), &mut tokens) };
    (status, tokens)
}

#[test]
fn tokens_go_there_and_back() {
    let model = open();
    let (mut ids, mut text, mut bytes) = ([0; 16], [0x7f; 64], 0);
    let (status, tokens) = tokenize(&model, "Why not?", &mut ids);
    assert_eq!(status, MbertStatus::Ok);
    assert_eq!(tokenize(&model, "", &mut []), (MbertStatus::BufferTooSmall, 2));
    for room in 0..tokens {
        assert_eq!(tokenize(&model, "Why not?", &mut ids[..room]), (MbertStatus::BufferTooSmall, tokens));
    }
    assert_eq!(tokenize(&model, "Why not?", &mut ids[..tokens]), (MbertStatus::Ok, tokens));
    let mut decode = |room: usize| {
        // SAFETY: memory with its length, each.
        let status = unsafe { mbert_decode(&model, ids.as_ptr(), tokens, true, text.as_mut_ptr(), room, &mut bytes) };
        (status, bytes)
    };
    assert_eq!(decode(8), (MbertStatus::BufferTooSmall, 0));
    assert_eq!(decode(9), (MbertStatus::Ok, 8));
    // SAFETY: a text that ends with a zero byte, as was returned.
    assert_eq!(unsafe { CStr::from_ptr(text.as_ptr()) }, c"Why not?");
}

#[test]
fn models_that_are_none_are_refused_and_not_asked() {
    let mut model = open();
    let mut memory = workspace(&model);
    let mut refused = |bytes: &[u8], status: MbertStatus| {
        // SAFETY: memory for a model, and bytes with their length.
        assert_eq!(unsafe { mbert_open(&mut model, bytes.as_ptr(), bytes.len()) }, status);
        assert_eq!(ask(&model, &mut memory, TEXT.as_bytes(), 2).err(), Some(MbertStatus::NotOpen));
        // SAFETY: an MbertModel, which is not open.
        unsafe {
            assert_eq!(mbert_verify(&model), MbertStatus::NotOpen);
            assert_eq!(mbert_workspace_bytes(&model, 16), 0);
            assert_eq!(mbert_max_tokens(&model, usize::MAX), 0);
        }
    };
    let mut damaged = BLOB.clone();
    refused(&[], MbertStatus::NotAModel);
    refused(&blob()[..blob().len() / 2], MbertStatus::DamagedModel);
    refused(&blob()[8..], MbertStatus::NotAModel);
    bytemuck::cast_slice_mut::<_, u8>(&mut damaged)[4] ^= 0x80;
    refused(bytemuck::cast_slice(&damaged), MbertStatus::UnsupportedVersion);
    let mut moved = vec![0u64; BLOB.len() + 1];
    let moved: &mut [u8] = bytemuck::cast_slice_mut(&mut moved);
    moved[4..][..blob().len()].copy_from_slice(blob());
    refused(&moved[4..], MbertStatus::MisalignedModel);
}

#[test]
fn a_bit_of_the_weights_is_missed_by_verification_alone() {
    let mut damaged = BLOB.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let (mut model, bytes) = (open(), bytemuck::cast_slice::<_, u8>(&damaged));
    // SAFETY: memory for a model, and one with its length, which lives as long.
    unsafe {
        assert_eq!(mbert_verify(&model), MbertStatus::Ok);
        assert_eq!(mbert_open(&mut model, bytes.as_ptr(), bytes.len()), MbertStatus::Ok);
        assert_eq!(mbert_verify(&model), MbertStatus::DamagedModel);
    }
}

#[test]
fn questions_without_an_answer_are_told_apart() {
    let model = open();
    let mut memory = workspace(&model);
    let mut status = |text: &[u8], room| ask(&model, &mut memory, text, room).err();
    assert_eq!(status(b"no mask", 2), Some(MbertStatus::NoMask));
    assert_eq!(status(TEXT.as_bytes(), 1), Some(MbertStatus::TooManyMasks));
    assert_eq!(status("[MASK] ".repeat(MBERT_MASKS + 1).as_bytes(), 20), Some(MbertStatus::TooManyMasks));
    assert_eq!(status(b"[MASK] \xff", 2), Some(MbertStatus::NotUtf8));
    assert_eq!(status("[MASK]".repeat(600).as_bytes(), 2), Some(MbertStatus::TextTooLong));
    assert_eq!(status(TEXT.as_bytes(), 2), None);
    let (_, tokens) = tokenize(&model, TEXT, &mut [0; 64]);
    // SAFETY: a model.
    let least = (0..memory.len()).find(|&bytes| unsafe { mbert_max_tokens(&model, bytes) } == tokens).unwrap();
    assert_eq!(ask(&model, &mut memory[..least - 1], TEXT.as_bytes(), 2).err(), Some(MbertStatus::TextTooLong));
    assert_eq!(ask(&model, &mut memory[..least + 3], TEXT.as_bytes(), 2).err(), None);
}

#[test]
fn pointers_that_cannot_be_are_refused() {
    let mut model = open();
    let mut memory = workspace(&model);
    let mut masks = 0usize;
    let (null, bytes) = (std::ptr::null_mut::<u8>(), memory.len());
    let text = TEXT.as_ptr().cast();
    let mut answers = Vec::<MbertMaskAnswer>::with_capacity(2);
    // SAFETY: memory with its length, or pointers that are refused before they are followed.
    unsafe {
        let fill_mask = |model: *const MbertModel,
                         memory: *mut u8,
                         text: *const c_char,
                         answers: *mut MbertMaskAnswer,
                         masks: *mut usize| {
            mbert_fill_mask(model, memory, bytes, text, TEXT.len(), answers, 2, masks)
        };
        let (at, room) = (memory.as_mut_ptr(), answers.as_mut_ptr());
        assert_eq!(fill_mask(&model, at, text, room, &mut masks), MbertStatus::Ok);
        assert_eq!(fill_mask(null.cast(), at, text, room, &mut masks), MbertStatus::NullPointer);
        assert_eq!(fill_mask(&model, null, text, room, &mut masks), MbertStatus::NullPointer);
        assert_eq!(fill_mask(&model, at, null.cast(), room, &mut masks), MbertStatus::NullPointer);
        assert_eq!(fill_mask(&model, at, text, null.cast(), &mut masks), MbertStatus::NullPointer);
        assert_eq!(fill_mask(&model, at, text, room, null.cast()), MbertStatus::NullPointer);
        let odd = room.byte_add(1);
        assert_eq!(fill_mask(&model, at, text, odd, &mut masks), MbertStatus::MisalignedPointer);
        let odd = (&raw const model).byte_add(1);
        assert_eq!(fill_mask(odd, at, text, room, &mut masks), MbertStatus::MisalignedPointer);
        assert_eq!(mbert_open(null.cast(), blob().as_ptr(), blob().len()), MbertStatus::NullPointer);
        assert_eq!(mbert_open(&mut model, blob().as_ptr(), usize::MAX), MbertStatus::LengthOutOfRange);
        assert_eq!(mbert_open(&mut model, null, 1), MbertStatus::NullPointer);
    }
}

#[test]
fn every_number_has_a_sentence() {
    for code in -1..99 {
        let message = mbert_message(code);
        // SAFETY: a string that ends with a zero byte.
        assert!(!unsafe { CStr::from_ptr(message) }.is_empty());
    }
}
