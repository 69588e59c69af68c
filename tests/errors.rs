//! Sequences and texts that cannot be answered: one test for each way, and the next question is answered as if nothing had been.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use mbert::convert::Calibration;
use mbert_runtime::encoder::workspace::Workspace;
use mbert_runtime::error::{ForwardError, Head};
use mbert_runtime::format::layout::WeightLayout;
use mbert_runtime::kernels::Kernels;
use mbert_runtime::model::Model;
use mbert_runtime::pipeline::{MaskAnswer, Pipeline, PipelineError, max_tokens, memory_bytes, memory_bytes_in_passes};
use mbert_runtime::tokenizer::TokenizerError;
use mbert_tests::models::convert;
use mbert_tests::tiny_checkpoint::TinyCheckpoint;
use serde_json::json;

/// Positions and vocabulary of the seeded checkpoint.
const POSITIONS: usize = 40;
const VOCAB_SIZE: u32 = 64;

fn blob() -> &'static [u8] {
    static BLOB: OnceLock<Vec<u8>> = OnceLock::new();
    BLOB.get_or_init(|| converted(&TinyCheckpoint::new(1)))
}

fn converted(checkpoint: &TinyCheckpoint) -> Vec<u8> {
    convert(checkpoint.write().path(), Calibration::BuiltIn, WeightLayout::RowMajor).blob
}

/// The encoder alone.
fn encoder_blob() -> Vec<u8> {
    let mut checkpoint = TinyCheckpoint::new(1);
    checkpoint.config["architectures"] = json!(["BertModel"]);
    checkpoint.tensors.retain(|name, _| !name.starts_with("cls.") && !name.contains("pooler"));
    converted(&checkpoint)
}

/// Runs `question` in memory for `tokens` tokens; it must fail, and a good question behind it must not.
fn error_of<E: std::error::Error>(
    blob: &[u8],
    tokens: usize,
    question: impl FnOnce(&mut Pipeline<'_, '_, &[u8]>) -> Result<(), E>,
) -> E {
    let model = Model::open(blob).unwrap();
    let mut memory = vec![0; memory_bytes(&model.manifest().config, tokens)];
    let mut pipeline = Pipeline::new(&model, Kernels::native(), &mut memory).unwrap();
    let good = |pipeline: &mut Pipeline<'_, '_, &[u8]>| {
        pipeline.set_ids(&[2, 57, 3], &[0; 3]).unwrap();
        pipeline.forward(&mut ()).unwrap().last_hidden_state().to_vec()
    };
    let before = good(&mut pipeline);
    let error = question(&mut pipeline).unwrap_err();
    assert!(error.to_string().len() > 20, "{error:?} says too little: {error}");
    assert_eq!(good(&mut pipeline), before, "the next question works");
    error
}

/// The error of token ids.
fn error_of_ids(input_ids: &[u32], token_type_ids: &[u8]) -> ForwardError {
    let error = error_of(blob(), POSITIONS, |pipeline| {
        pipeline.set_ids(input_ids, token_type_ids)?;
        pipeline.forward(&mut ()).map(|_| ())
    });
    match error {
        PipelineError::Forward(error) => error,
        other => panic!("{other:?}"),
    }
}

fn fill_mask(blob: &[u8], tokens: usize, text: &str) -> PipelineError {
    error_of(blob, tokens, |pipeline| {
        let mut answers: [MaskAnswer<5>; 2] = Default::default();
        pipeline.fill_mask(text, &mut answers).map(|_| ())
    })
}

#[test]
fn sequence_without_a_token_is_refused() {
    assert_eq!(error_of_ids(&[], &[]), ForwardError::EmptySequence);
}

#[test]
fn question_before_the_first_sequence_is_refused() {
    let model = Model::open(blob()).unwrap();
    let mut memory = vec![0; memory_bytes(&model.manifest().config, 8)];
    let mut pipeline = Pipeline::new(&model, Kernels::native(), &mut memory).unwrap();
    let error = pipeline.forward(&mut ()).unwrap_err();
    assert_eq!(error, PipelineError::Forward(ForwardError::EmptySequence));
}

#[test]
fn sequence_longer_than_the_positions_is_refused_with_both_numbers() {
    let error = error_of_ids(&[4; POSITIONS + 1], &[0; POSITIONS + 1]);
    assert_eq!(error, ForwardError::SequenceTooLong { tokens: POSITIONS + 1, max: POSITIONS });
    let text = error.to_string();
    assert!(text.contains("41") && text.contains("40"), "{text}");
}

#[test]
fn sequence_longer_than_the_memory_is_refused_with_both_numbers() {
    let config = Model::open(blob()).unwrap().manifest().config;
    let given_bytes = memory_bytes(&config, 6);
    // In more than one pass a few more fit.
    let tokens = max_tokens(&config, given_bytes) + 1;
    assert!(tokens > 6);
    let error = error_of(blob(), 6, |pipeline| pipeline.set_ids(&vec![4; tokens], &vec![0; tokens]));
    let needed_bytes = memory_bytes_in_passes(&config, tokens, tokens);
    assert_eq!(error, PipelineError::Forward(ForwardError::WorkspaceTooSmall { needed_bytes, given_bytes }));
}

#[test]
fn token_id_out_of_range_is_refused_with_its_place() {
    for id in [VOCAB_SIZE, u32::MAX] {
        let expected = ForwardError::TokenOutOfRange { position: 2, id, vocab_size: VOCAB_SIZE };
        assert_eq!(error_of_ids(&[2, VOCAB_SIZE - 1, id, 3], &[0; 4]), expected);
    }
}

#[test]
fn token_type_out_of_range_is_refused_with_its_place() {
    let error = error_of_ids(&[2, 57, 3], &[0, 1, 2]);
    assert_eq!(error, ForwardError::TokenTypeOutOfRange { position: 2, id: 2, type_vocab_size: 2 });
}

#[test]
fn ids_and_types_of_different_length_are_refused() {
    assert_eq!(error_of_ids(&[2, 57, 3], &[0, 0]), ForwardError::LengthMismatch { input_ids: 3, token_type_ids: 2 });
}

#[test]
fn workspace_that_is_too_small_tells_what_it_needs() {
    let config = Model::open(blob()).unwrap().manifest().config;
    let needed_bytes = Workspace::bytes_in_passes(&config, 9, 9);
    let mut memory = vec![0; needed_bytes];
    assert!(Workspace::new(&mut memory, &config, 9).is_ok());
    let error = Workspace::new(&mut memory[1..], &config, 9).unwrap_err();
    assert_eq!(error, ForwardError::WorkspaceTooSmall { needed_bytes, given_bytes: needed_bytes - 1 });
}

/// A pipeline in this memory refuses everything.
fn assert_takes_no_token(memory: &mut [u8]) {
    let model = Model::open(blob()).unwrap();
    let mut pipeline = Pipeline::new(&model, Kernels::native(), memory).unwrap();
    assert!(pipeline.set_ids(&[2], &[0]).is_err());
    assert!(pipeline.encode("the cat", None).is_err());
    assert!(pipeline.forward(&mut ()).is_err());
}

#[test]
fn pipeline_with_hardly_any_memory_takes_no_token() {
    for bytes in [4, 100, 500] {
        assert_takes_no_token(&mut vec![0; bytes]);
    }
}

#[test]
fn pipeline_without_memory_takes_no_token_at_any_address() {
    let mut memory = [0; 64];
    for skip in 0..4 {
        for bytes in 0..4 {
            assert_takes_no_token(&mut memory[skip..skip + bytes]);
        }
    }
}

#[test]
fn missing_heads_are_named() {
    let blob = encoder_blob();
    let error_of_head = |head: fn(&mut Pipeline<'_, '_, &[u8]>) -> Result<(), ForwardError>| {
        error_of(&blob, POSITIONS, |pipeline| {
            pipeline.set_ids(&[2, 4, 3], &[0; 3]).unwrap();
            head(pipeline)
        })
    };
    let masked_lm = error_of_head(|pipeline| {
        let mut encoded = pipeline.forward(&mut ()).unwrap();
        encoded.masked_lm(&[1], &mut (), |_, _, _| {})
    });
    let next_sentence = error_of_head(|pipeline| {
        let mut encoded = pipeline.forward(&mut ()).unwrap();
        encoded.next_sentence(&mut ()).map(|_| ())
    });
    let pooler = error_of_head(|pipeline| pipeline.forward(&mut ()).unwrap().pooled().map(|_| ()));
    let expected = [Head::MaskedLm, Head::NextSentence, Head::Pooler].map(ForwardError::MissingHead);
    assert_eq!([masked_lm, next_sentence, pooler], expected);
    assert_eq!(fill_mask(&blob, POSITIONS, "the [MASK]"), PipelineError::Forward(expected[0]));
}

#[test]
fn answered_position_outside_the_sequence_or_out_of_order_is_refused() {
    for (positions, position) in [(&[3][..], 3), (&[1, 1], 1), (&[2, 0], 0), (&[usize::MAX], usize::MAX)] {
        let error = error_of(blob(), POSITIONS, |pipeline| {
            pipeline.set_ids(&[2, 4, 3], &[0; 3]).unwrap();
            pipeline.forward(&mut ()).unwrap().masked_lm(positions, &mut (), |_, _, _| {})
        });
        assert_eq!(error, ForwardError::PositionOutOfRange { position, tokens: 3 });
    }
}

#[test]
fn text_without_mask_is_refused_in_words() {
    for text in ["the cat", "", "[mask]", "[MASK"] {
        let error = fill_mask(blob(), POSITIONS, text);
        assert_eq!(error, PipelineError::NoMask, "{text:?}");
        assert!(error.to_string().contains("[MASK]"), "{error}");
    }
}

#[test]
fn more_masks_than_room_for_answers_are_refused_with_both_numbers() {
    let error = fill_mask(blob(), POSITIONS, "[MASK] the [MASK] on [MASK]");
    assert_eq!(error, PipelineError::TooManyMasks { masks: 3, room: 2 });
}

#[test]
fn text_longer_than_the_positions_is_refused_with_both_numbers() {
    let error = fill_mask(blob(), POSITIONS, &"the cat ".repeat(300));
    assert_eq!(error, PipelineError::Forward(ForwardError::SequenceTooLong { tokens: 602, max: POSITIONS }));
    let text = error.to_string();
    assert!(text.contains("602") && text.contains("40"), "{text}");
}

#[test]
fn ten_megabytes_of_text_are_refused_at_once() {
    for piece in ["the cat ", "x", "\u{301}", "\u{4E1C}", "[MASK]", " ", "\u{0}"] {
        let text = piece.repeat(10_000_000 / piece.len());
        let start = Instant::now();
        let error = error_of(blob(), POSITIONS, |pipeline| {
            pipeline.encode(&text, None)?;
            // Text of which nothing remains is no error to the tokenizer; it has no mask, though.
            Err(PipelineError::NoMask)
        });
        let too_long = matches!(error, PipelineError::Forward(ForwardError::SequenceTooLong { .. }));
        assert!(too_long || error == PipelineError::NoMask, "{error:?}");
        assert!(start.elapsed() < Duration::from_secs(5), "{piece:?} took {:?}", start.elapsed());
    }
}

#[test]
fn text_longer_than_the_memory_is_refused_with_both_numbers() {
    let error = fill_mask(blob(), 8, &"the cat ".repeat(9));
    let config = Model::open(blob()).unwrap().manifest().config;
    let given_tokens = max_tokens(&config, memory_bytes(&config, 8));
    let expected = TokenizerError::TooManyTokens { needed_tokens: 20, given_tokens };
    assert_eq!(error, PipelineError::Tokenizer(expected));
}
