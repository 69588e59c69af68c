//! `mbert-runtime` for C: a static library, and `include/mbert.h`, which cbindgen writes.
//!
//! The functions are thin: they check pointers, and turn errors into numbers. All memory is the caller's. No panic can be reached
//! (`.ci/c-api` looks for the handler in the linked example, and finds none); should one be, a board stops in a loop, where its watchdog
//! finds it, and a host aborts.
// These comments become those of the C header, where [CLS] is a token and nothing a link.
#![allow(rustdoc::broken_intra_doc_links)]
#![cfg_attr(target_os = "none", no_std)]
// What C promises is the same for all, and stands at the beginning of the header.
#![allow(clippy::missing_safety_doc)]

mod buffer;
mod pointers;
mod status;
#[cfg(test)]
mod tests;

use core::ffi::c_char;

use mbert_runtime::error::FormatError;
use mbert_runtime::format::header::Header;
use mbert_runtime::kernels::Kernels;
use mbert_runtime::model::Model;
use mbert_runtime::pipeline::{MaskAnswer, Pipeline, max_tokens, memory_bytes};
use mbert_runtime::tokenizer::{CleanUp, Encoding, TokenizerError, Truncation};
use mbert_runtime::trace::TraceHash;

use buffer::Buffer;
use pointers::{put, slice, slice_mut};
pub use status::MbertStatus;

/// Where a panic would end. A name of its own shows in a linked program whether one can be reached.
#[cfg(target_os = "none")]
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn mbert_panicked() -> ! {
    #[allow(clippy::empty_loop)] // How this board sleeps is not known here.
    loop {}
}

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    mbert_panicked()
}

/// Tokens in the answer for a mask.
pub const MBERT_TOP_K: usize = 5;
/// Masks that a text may have.
pub const MBERT_MASKS: usize = 8;
/// Bytes of the hash that every target must agree on.
pub const MBERT_TRACE_BYTES: usize = 32;
/// Words of MbertModel.
pub const MBERT_MODEL_WORDS: usize = 96;

/// An open model: memory of the caller's, which mbert_open fills. It may be copied, and shared between threads.
#[repr(C)]
pub struct MbertModel {
    /// Of this library alone.
    pub opaque: [u64; MBERT_MODEL_WORDS],
}

/// What a model is.
#[repr(C)]
pub struct MbertConfig {
    /// Tokens of the vocabulary.
    pub vocab_size: u32,
    /// Values of a hidden state.
    pub hidden_size: u32,
    /// Encoder layers.
    pub num_hidden_layers: u32,
    /// The longest sequence in tokens.
    pub max_position_embeddings: u32,
    /// Whether mbert_fill_mask answers.
    pub has_masked_lm: bool,
    /// Whether mbert_next_sentence answers.
    pub has_next_sentence: bool,
}

/// A token that may stand where the mask is.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct MbertToken {
    /// Its id.
    pub id: u32,
    /// Its logit, in steps of 2^-16.
    pub logit: i32,
    /// Its probability, in steps of 2^-31.
    pub probability_q31: u32,
}

/// The answer for a mask.
#[repr(C)]
pub struct MbertMaskAnswer {
    /// Where the mask stands in the sequence, [CLS] being 0.
    pub position: u32,
    /// Tokens in best: MBERT_TOP_K, or all where the vocabulary has fewer.
    pub count: u32,
    /// The best, best first.
    pub best: [MbertToken; MBERT_TOP_K],
}

/// The last hidden states of a text.
#[repr(C)]
pub struct MbertFeatures {
    /// Token after token, hidden_size values each, in the workspace: until that is used again.
    pub values: *const i16,
    /// Tokens.
    pub tokens: usize,
    /// Values of a token.
    pub hidden_size: usize,
    /// A value is in steps of 2^-fraction_bits.
    pub fraction_bits: i32,
}

/// What lies in an MbertModel.
#[repr(C)]
struct Opened {
    tag: u64,
    model: Model<&'static [u8]>,
}

/// `mbert v1`: what no memory holds by accident.
const TAG: u64 = u64::from_le_bytes(*b"mbert v1");
const _: () =
    assert!(size_of::<Opened>() <= size_of::<MbertModel>() && align_of::<Opened>() <= align_of::<MbertModel>());

/// # Safety
///
/// `model` is null, or points to an `MbertModel`; if that is open, the model's bytes are still there.
unsafe fn opened<'a>(model: *const MbertModel) -> Result<&'a Model<&'static [u8]>, MbertStatus> {
    // SAFETY: the caller's promise. `opaque` is read, not the model, which may not be there.
    let [handle] = (unsafe { slice(model, 1) })? else { return Err(MbertStatus::NullPointer) };
    if handle.opaque.first() != Some(&TAG) {
        return Err(MbertStatus::NotOpen);
    }
    // SAFETY: only `mbert_open` writes the tag, and with it the rest; size and alignment are checked above.
    Ok(unsafe { &(*model.cast::<Opened>()).model })
}

/// The model at the beginning of a place that may be longer, for the kernels of this CPU.
fn open(place: &'static [u8]) -> Result<Model<&'static [u8]>, FormatError> {
    let blob = Header::total_bytes_of(place)
        .and_then(|bytes| usize::try_from(bytes).ok())
        .and_then(|bytes| place.get(..bytes))
        .unwrap_or(place);
    let model = Model::open(blob)?;
    model.check_layout(Kernels::native())?;
    Ok(model)
}

fn status(result: Result<(), MbertStatus>) -> MbertStatus {
    result.err().unwrap_or(MbertStatus::Ok)
}

/// A sentence for a status: what is wrong, and what to do. Never null.
#[unsafe(no_mangle)]
pub extern "C" fn mbert_message(status: i32) -> *const c_char {
    MbertStatus::of(status).map_or(c"no such status", MbertStatus::message).as_ptr()
}

/// Opens a model in memory: checks its header, its sections, and that it is for this CPU.
///
/// bytes: the model, at a multiple of 8; its place may be longer than it. It is read in place, and must stay as it is while it is used.
/// Large sections are checked by mbert_verify.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mbert_open(model: *mut MbertModel, bytes: *const u8, bytes_len: usize) -> MbertStatus {
    status((|| {
        // SAFETY: the caller's promise. What was open before is not, should this fail.
        unsafe { put(model.cast::<u64>(), 0) }?;
        // SAFETY: the caller's promise.
        let place = unsafe { slice(bytes, bytes_len) }?;
        let opened = Opened { tag: TAG, model: open(place)? };
        // SAFETY: the caller's promise.
        unsafe { put(model.cast(), opened) }
    })())
}

/// Checks the SHA-256 of every section: once after the start, and after the model was written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mbert_verify(model: *const MbertModel) -> MbertStatus {
    // SAFETY: the caller's promise.
    status(unsafe { opened(model) }.and_then(|model| Ok(model.verify()?)))
}

/// Tells what a model is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mbert_config(model: *const MbertModel, config: *mut MbertConfig) -> MbertStatus {
    status((|| {
        // SAFETY: the caller's promise.
        let model = unsafe { opened(model) }?;
        let (found, heads) = (model.config(), model.manifest().heads);
        let answer = MbertConfig {
            vocab_size: found.vocab_size,
            hidden_size: found.hidden_size.into(),
            num_hidden_layers: found.num_hidden_layers.into(),
            max_position_embeddings: found.max_position_embeddings.into(),
            has_masked_lm: heads.masked_lm,
            has_next_sentence: heads.next_sentence,
        };
        // SAFETY: the caller's promise.
        unsafe { put(config, answer) }
    })())
}

/// Bytes of workspace for sequences of up to so many tokens, [CLS] and [SEP] included; 0 where the model is not open.
///
/// Less will do: the same answer then takes several passes over some of the weights. mbert_max_tokens tells how much less.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mbert_workspace_bytes(model: *const MbertModel, tokens: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe { opened(model) }
        .map_or(0, |model| memory_bytes(model.config(), tokens.min(model.config().max_position_embeddings.into())))
}

/// The longest sequence that so much workspace allows, in as many passes as it takes; 0 if none does, or the model is not open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mbert_max_tokens(model: *const MbertModel, workspace_bytes: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe { opened(model) }.map_or(0, |model| max_tokens(model.config(), workspace_bytes))
}

/// Turns a text, or two as a pair, into token ids with [CLS] and [SEP].
///
/// pair: null for one text. tokens: how many there are, also where ids is too short for them (MBERT_STATUS_BUFFER_TOO_SMALL).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mbert_tokenize(
    model: *const MbertModel,
    text: *const c_char,
    text_bytes: usize,
    pair: *const c_char,
    pair_bytes: usize,
    ids: *mut u32,
    ids_len: usize,
    tokens: *mut usize,
) -> MbertStatus {
    status((|| {
        // SAFETY: the caller's promise.
        let (model, text, ids) =
            unsafe { (opened(model)?, pointers::text(text, text_bytes)?, slice_mut(ids, ids_len)?) };
        let pair = match pair.is_null() {
            true => None,
            // SAFETY: the caller's promise.
            false => Some(unsafe { pointers::text(pair, pair_bytes) }?),
        };
        let (tokenizer, mut encoding) = (model.tokenizer(), Encoding::new(ids));
        let (found, result) = match tokenizer.encode(text, pair, Truncation::DoNotTruncate, &mut encoding) {
            Ok(_) => (encoding.len(), Ok(())),
            Err(TokenizerError::TooManyTokens { needed_tokens, .. }) => {
                (needed_tokens, Err(MbertStatus::BufferTooSmall))
            }
            // Then the others have not been counted.
            Err(TokenizerError::NoRoomForSpecialTokens { mut needed_tokens, .. }) => {
                tokenizer.tokens(text, |_| needed_tokens += 1)?;
                tokenizer.tokens(pair.unwrap_or_default(), |_| needed_tokens += 1)?;
                (needed_tokens, Err(MbertStatus::BufferTooSmall))
            }
            Err(error) => return Err(error.into()),
        };
        // SAFETY: the caller's promise.
        unsafe { put(tokens, found) }?;
        result
    })())
}

/// Turns token ids back into text that ends with a zero byte.
///
/// skip_special_tokens: leaves [CLS], [SEP] and their kind out. text_bytes: its length without the zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mbert_decode(
    model: *const MbertModel,
    ids: *const u32,
    ids_len: usize,
    skip_special_tokens: bool,
    text: *mut c_char,
    text_capacity: usize,
    text_bytes: *mut usize,
) -> MbertStatus {
    status((|| {
        // SAFETY: the caller's promise.
        let (model, ids) = unsafe { (opened(model)?, slice(ids, ids_len)?) };
        // SAFETY: the caller's promise.
        let mut buffer = Buffer::new(unsafe { slice_mut(text.cast(), text_capacity) }?);
        model.tokenizer().decode(ids, skip_special_tokens, CleanUp::Tokens, &mut buffer)?;
        let bytes = buffer.finish()?;
        // SAFETY: the caller's promise.
        unsafe { put(text_bytes, bytes) }
    })())
}

/// Fills in every mask of a text.
///
/// answers: one for each mask, in their order. masks: how many there are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mbert_fill_mask(
    model: *const MbertModel,
    workspace: *mut u8,
    workspace_bytes: usize,
    text: *const c_char,
    text_bytes: usize,
    answers: *mut MbertMaskAnswer,
    answers_len: usize,
    masks: *mut usize,
) -> MbertStatus {
    status((|| {
        // SAFETY: the caller's promise.
        let (model, workspace) = unsafe { (opened(model)?, slice_mut(workspace, workspace_bytes)?) };
        // SAFETY: the caller's promise.
        let (text, answers) = unsafe { (pointers::text(text, text_bytes)?, slice_mut(answers, answers_len)?) };
        let mut found: [MaskAnswer<MBERT_TOP_K>; MBERT_MASKS] = Default::default();
        let found = Pipeline::new(model, Kernels::native(), workspace)?.fill_mask(text, &mut found)?;
        if found.len() > answers.len() {
            return Err(MbertStatus::TooManyMasks);
        }
        answers.iter_mut().zip(found).for_each(|(answer, found)| *answer = found.into());
        // SAFETY: the caller's promise.
        unsafe { put(masks, found.len()) }
    })())
}

impl From<&MaskAnswer<MBERT_TOP_K>> for MbertMaskAnswer {
    fn from(found: &MaskAnswer<MBERT_TOP_K>) -> Self {
        let mut best = [MbertToken::default(); MBERT_TOP_K];
        for (entry, &token) in best.iter_mut().zip(found.best()) {
            *entry = MbertToken { id: token.id, logit: token.logit, probability_q31: found.probability(token).q31() };
        }
        Self { position: found.position() as u32, count: found.best().len() as u32, best }
    }
}

/// Tells whether the second text follows the first: if logits[0] is larger than logits[1].
///
/// logits: two values in steps of 2^-16.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mbert_next_sentence(
    model: *const MbertModel,
    workspace: *mut u8,
    workspace_bytes: usize,
    text: *const c_char,
    text_bytes: usize,
    pair: *const c_char,
    pair_bytes: usize,
    logits: *mut i32,
) -> MbertStatus {
    status((|| {
        // SAFETY: the caller's promise.
        let (model, workspace) = unsafe { (opened(model)?, slice_mut(workspace, workspace_bytes)?) };
        // SAFETY: the caller's promise.
        let (text, pair) = unsafe { (pointers::text(text, text_bytes)?, pointers::text(pair, pair_bytes)?) };
        let found = Pipeline::new(model, Kernels::native(), workspace)?.next_sentence(text, pair)?;
        // SAFETY: the caller's promise: two values.
        unsafe { put(logits.cast::<[i32; 2]>(), found) }
    })())
}

/// Gives the last hidden states of a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mbert_features(
    model: *const MbertModel,
    workspace: *mut u8,
    workspace_bytes: usize,
    text: *const c_char,
    text_bytes: usize,
    features: *mut MbertFeatures,
) -> MbertStatus {
    status((|| {
        // SAFETY: the caller's promise.
        let (model, workspace) = unsafe { (opened(model)?, slice_mut(workspace, workspace_bytes)?) };
        // SAFETY: the caller's promise.
        let text = unsafe { pointers::text(text, text_bytes) }?;
        let mut pipeline = Pipeline::new(model, Kernels::native(), workspace)?;
        let tokens = pipeline.encode(text, None)?.len();
        let encoded = pipeline.forward(&mut ())?;
        let config = model.config();
        let fraction_bits =
            model.hidden_fraction_bits(config.num_hidden_layers.into()).map_err(|_| MbertStatus::DamagedModel)?;
        let values = encoded.last_hidden_state().as_ptr();
        let answer = MbertFeatures { values, tokens, hidden_size: config.hidden_size.into(), fraction_bits };
        // SAFETY: the caller's promise.
        unsafe { put(features, answer) }
    })())
}

/// The SHA-256 over every hidden state and logit of a text with masks, on which every target must agree: `mbert fill-mask --trace-hash` prints
/// the same.
///
/// hash: MBERT_TRACE_BYTES bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mbert_trace(
    model: *const MbertModel,
    workspace: *mut u8,
    workspace_bytes: usize,
    text: *const c_char,
    text_bytes: usize,
    hash: *mut u8,
) -> MbertStatus {
    status((|| {
        // SAFETY: the caller's promise.
        let (model, workspace) = unsafe { (opened(model)?, slice_mut(workspace, workspace_bytes)?) };
        // SAFETY: the caller's promise.
        let text = unsafe { pointers::text(text, text_bytes) }?;
        let mut pipeline = Pipeline::new(model, Kernels::native(), workspace)?;
        pipeline.encode(text, None)?;
        let mut positions = [0; MBERT_MASKS];
        let masks = pipeline.mask_positions(&mut positions)?;
        let mut trace = TraceHash::default();
        let mut encoded = pipeline.forward(&mut trace)?;
        encoded.masked_lm(positions.get(..masks).unwrap_or_default(), &mut trace, |_, _, _| {})?;
        if model.manifest().heads.next_sentence {
            encoded.next_sentence(&mut trace)?;
        }
        // SAFETY: the caller's promise: so many bytes.
        unsafe { put(hash.cast::<[u8; MBERT_TRACE_BYTES]>(), trace.finish()) }
    })())
}
