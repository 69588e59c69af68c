//! What is accepted, what is refused and why, and which model answers then.

use ed25519_dalek::SigningKey;
use mbert_device::store::{ModelStore, Offer, Resume, StoreError, StoreStatus, Verdict};
use mbert_runtime::format::section::SectionKind;
use mbert_runtime::format::signature::Signature;
use mbert_runtime::model::Model;
use mbert_tests::models::RawBlob;
use mbert_tests::splitmix64;

use crate::board::{Board as AnyBoard, bad, new, offer, old, passes, start, upload};

type Board = AnyBoard<4, 4096>;

/// The new model with another rollback counter.
fn counted(counter: u32) -> Vec<u8> {
    let model = Model::open(new()).unwrap();
    let mut provenance = model.provenance().unwrap();
    provenance.rollback_counter = counter;
    let mut bytes = vec![0; 4096];
    let bytes = postcard::to_slice(&(model.manifest(), provenance), &mut bytes).unwrap().to_vec();
    let mut raw = RawBlob::new(new());
    raw.section(SectionKind::Manifest, 0).1 = bytes;
    raw.finish()
}

/// Signs a model as `mbert sign` does.
fn signed(blob: &[u8], key: &SigningKey) -> Vec<u8> {
    mbert::sign::signed(blob, key).unwrap()
}

/// Where the signature lies.
fn signature(blob: &[u8]) -> std::ops::Range<usize> {
    let section = Model::open(blob).unwrap().sections().find(|section| section.kind == SectionKind::Signature).unwrap();
    section.offset_bytes as usize..(section.offset_bytes + section.length_bytes) as usize
}

/// A board that uses the old model, and lets it be looked at when something was done.
fn updated(board: &mut Board, blob: &[u8]) -> Result<Verdict, StoreError> {
    let mut device = board.safe();
    start(&mut device).unwrap();
    upload(&mut device, blob)
}

#[test]
fn a_new_model_is_used_after_the_next_start_and_the_one_after_that_goes_to_the_other_slot() {
    let mut board = Board::with_old();
    assert_eq!(updated(&mut board, new()), Ok(Verdict::Switched { slot: 1 }));
    assert_eq!(board.started(), Some(new()));
    assert_eq!(updated(&mut board, new()), Ok(Verdict::AlreadyInUse));
    assert_eq!(updated(&mut board, old()), Ok(Verdict::Switched { slot: 0 }));
    assert_eq!(board.started(), Some(old()));
}

#[test]
fn a_host_that_missed_the_verdict_may_ask_again() {
    let mut board = Board::with_old();
    assert_eq!(updated(&mut board, new()), Ok(Verdict::Switched { slot: 1 }));
    let mut device = board.safe();
    assert_eq!(device.begin(&offer(new())), Ok(Resume { next_offset: new().len() as u32 }));
    assert_eq!(device.finish(), Ok(Verdict::Switched { slot: 1 }));
    assert_eq!(board.started(), Some(new()));
}

#[test]
fn a_model_that_fails_its_self_test_is_left_for_the_old_one() {
    let mut board = Board::with_old();
    assert!(!passes(&Model::open(bad()).unwrap()));
    assert_eq!(updated(&mut board, bad()), Ok(Verdict::Switched { slot: 1 }));
    for _ in 0..3 {
        assert_eq!(board.started(), Some(old()));
    }
    assert_eq!(board.safe().status().upload, None);
}

#[test]
fn a_model_that_stops_the_device_is_not_tried_again() {
    let mut board = Board::with_old();
    assert_eq!(updated(&mut board, new()), Ok(Verdict::Switched { slot: 1 }));
    let mut device = board.safe();
    let stopped = std::panic::AssertUnwindSafe(|| device.start(|_| std::panic::resume_unwind(Box::new("a reset"))));
    std::panic::catch_unwind(stopped).unwrap_err();
    assert_eq!(board.started(), Some(old()));
    // It may be uploaded again.
    assert_eq!(updated(&mut board, new()), Ok(Verdict::Switched { slot: 1 }));
    assert_eq!(board.started(), Some(new()));
}

#[test]
fn a_model_without_questions_is_left_too() {
    let mut raw = RawBlob::new(new());
    raw.section(SectionKind::SelfTest, 0).1 = vec![0];
    let mut board = Board::with_old();
    assert_eq!(updated(&mut board, &raw.finish()), Ok(Verdict::Switched { slot: 1 }));
    assert_eq!(board.started(), Some(old()));
}

#[test]
fn what_cannot_be_accepted_is_refused_before_anything_is_erased() {
    let mut board = Board::with_old();
    let before = board.memory.clone();
    let mut device = board.safe();
    start(&mut device).unwrap();
    let slot_bytes = device.status().slot_bytes;
    let whole = offer(new());
    for (offer, refusal) in [
        (
            Offer { total_bytes: slot_bytes + 1, ..whole },
            StoreError::TooLarge { total_bytes: slot_bytes + 1, slot_bytes },
        ),
        (Offer { format_version: 9, ..whole }, StoreError::UnsupportedVersion { found: 9, expected: 3 }),
        (Offer { layout: 200, ..whole }, StoreError::UnsupportedLayout { found: 200 }),
    ] {
        assert_eq!(device.begin(&offer), Err(refusal));
        assert_eq!(device.write(0, &[0; 8]), Err(StoreError::NotBegun));
        assert_eq!(device.finish(), Err(StoreError::NotBegun));
    }
    assert!(board.memory == before);
}

#[test]
fn bytes_at_a_wrong_place_or_too_many_are_refused_and_harm_nothing() {
    let mut board = Board::with_old();
    let mut device = board.safe();
    start(&mut device).unwrap();
    let total_bytes = new().len() as u32;
    device.begin(&offer(new())).unwrap();
    device.write(0, &new()[..300]).unwrap();
    assert_eq!(device.write(0, &new()[..300]), Err(StoreError::WrongOffset { found: 0, expected: 300 }));
    assert_eq!(device.finish(), Err(StoreError::Incomplete { found_bytes: 300, total_bytes }));
    let room_bytes = total_bytes - 300;
    let too_many = vec![0; room_bytes as usize + 1];
    assert_eq!(device.write(300, &too_many), Err(StoreError::TooMany { found_bytes: room_bytes + 1, room_bytes }));
    device.write(300, &new()[300..]).unwrap();
    assert_eq!(device.finish(), Ok(Verdict::Switched { slot: 1 }));
}

#[test]
fn a_model_damaged_on_its_way_is_refused_and_the_next_upload_begins_anew() {
    let mut board = Board::with_old();
    let mut device = board.safe();
    start(&mut device).unwrap();
    for (at, refusal) in
        [(40, StoreError::NotAsOffered), (80, StoreError::Damaged), (new().len() - 1, StoreError::Damaged)]
    {
        let mut damaged = new().to_vec();
        damaged[at] ^= 1;
        assert_eq!(device.begin(&offer(new())), Ok(Resume { next_offset: 0 }));
        device.write(0, &damaged).unwrap();
        assert_eq!(device.finish(), Err(refusal), "byte {at}");
    }
    assert_eq!(board.started(), Some(old()));
    assert_eq!(updated(&mut board, new()), Ok(Verdict::Switched { slot: 1 }));
}

#[test]
fn a_worn_flash_is_found_at_the_start_and_the_other_model_used_if_it_is_whole() {
    let mut board = Board::with_old();
    updated(&mut board, new()).unwrap();
    assert_eq!(board.started(), Some(new()));
    let slot_bytes = board.safe().status().slot_bytes as usize;
    board.memory[slot_bytes + 5000] ^= 4;
    assert_eq!(board.started(), Some(old()));
    board.memory[5000] ^= 4;
    assert_eq!(board.started(), None);
    let status = board.safe().status();
    assert_eq!(status, StoreStatus { slots: 2, active: None, upload: None, ..status });
    // It takes a model all the same.
    updated(&mut board, new()).unwrap();
    assert_eq!(board.started(), Some(new()));
}

#[test]
fn a_state_that_is_lost_or_random_costs_no_model() {
    let mut board = Board::with_old();
    let begin = 2 * board.safe().status().slot_bytes as usize;
    for seed in 0..50 {
        for (k, byte) in board.memory[begin..].iter_mut().enumerate() {
            *byte = if seed == 0 { 0xFF } else { splitmix64(seed, k as u64) as u8 };
        }
        assert_eq!(board.started(), Some(old()));
        assert_eq!(board.started(), Some(old()));
    }
}

#[test]
fn an_older_model_is_refused_by_its_counter_also_where_the_offer_tells_another() {
    let mut board = Board::with_old();
    updated(&mut board, &counted(7)).unwrap();
    board.started().unwrap();
    let older = counted(6);
    let refusal = Err(StoreError::RolledBack { found: 6, minimum: 7 });
    assert_eq!(updated(&mut board, &older), refusal);
    let mut device = board.safe();
    start(&mut device).unwrap();
    device.begin(&Offer { rollback_counter: 8, ..offer(&older) }).unwrap();
    device.write(0, &older).unwrap();
    assert_eq!(device.finish(), refusal.map(|_: Verdict| Verdict::AlreadyInUse));
    assert_eq!(board.safe().status().min_rollback_counter, 7);
    assert_eq!(updated(&mut board, &counted(7)), Ok(Verdict::AlreadyInUse));
    assert_eq!(updated(&mut board, &counted(9)), Ok(Verdict::Switched { slot: 0 }));
}

#[test]
fn a_device_with_a_key_takes_signed_models_only() {
    let (key, other) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
    let public_key = key.verifying_key().to_bytes();
    let first = signed(old(), &key);
    let mut board = Board::empty();
    board.public_key = Some(public_key);
    board.memory[..first.len()].copy_from_slice(&first);
    assert_eq!(board.started(), Some(&first[..]));

    assert_eq!(updated(&mut board, new()), Err(StoreError::Unsigned));
    assert_eq!(updated(&mut board, &signed(new(), &other)), Err(StoreError::WrongSignature));
    // The key's own name on another's signature, and the other way round.
    let (mut forged, place) = (signed(new(), &other), signature(new()));
    let mut section = Signature::parse(forged[place.clone()].try_into().unwrap()).unwrap().unwrap();
    section.public_key = public_key;
    forged[place].copy_from_slice(&section.emit());
    assert_eq!(updated(&mut board, &forged), Err(StoreError::WrongSignature));
    assert_eq!(board.started(), Some(&first[..]));
    assert_eq!(updated(&mut board, &signed(new(), &key)), Ok(Verdict::Switched { slot: 1 }));
    assert_eq!(board.started(), Some(&signed(new(), &key)[..]));

    // A flash in which the signature was taken away is not trusted either.
    let place = signature(new());
    let slot_bytes = board.safe().status().slot_bytes as usize;
    board.memory[slot_bytes..][place].fill(0);
    assert_eq!(board.started(), Some(&first[..]));
}

#[test]
fn any_flipped_byte_of_a_signed_model_is_refused() {
    let key = SigningKey::from_bytes(&[1; 32]);
    let public_key = key.verifying_key().to_bytes();
    let whole = signed(&counted(3), &key);
    let refused = |blob: &[u8]| {
        let Ok(model) = Model::open(blob) else { return true };
        mbert_device::signature::check(&model, &public_key).is_err() || model.verify().is_err()
    };
    assert!(!refused(&whole));
    // Header, table, manifest, self-test and signature lie before the vocabulary.
    let vocabulary =
        Model::open(&whole[..]).unwrap().sections().find(|section| section.kind == SectionKind::Vocabulary);
    let begin = vocabulary.unwrap().offset_bytes as usize;
    assert!(begin > signature(&whole).end - 1);
    let sample = (0..1000).map(|k| begin + splitmix64(5, k) as usize % (whole.len() - begin));
    let mut blob = whole.clone();
    let mut flipped = 0;
    for at in (0..begin).chain(sample) {
        blob[at] ^= 1 << (splitmix64(6, at as u64) % 8);
        assert!(refused(&blob), "byte {at}");
        blob[at] = whole[at];
        flipped += 1;
    }
    println!("{flipped} bytes flipped, every one up to {begin}");
    // With hashes that fit, only the signature is left to refuse.
    for kind in [SectionKind::Manifest, SectionKind::SelfTest, SectionKind::Vocabulary, SectionKind::Constants] {
        let mut raw = RawBlob::new(&whole);
        *raw.section(kind, 0).1.last_mut().unwrap() ^= 1;
        assert!(refused(&raw.finish()), "{kind:?}");
    }
}
