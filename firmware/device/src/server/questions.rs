//! The questions for a model: tokens, masks, next sentence, features.

use core::fmt::Write;

use mbert_runtime::encoder::Encoded;
use mbert_runtime::error::ForwardError;
use mbert_runtime::heads::pooler::POOLED_FRACTION_BITS;
use mbert_runtime::model::Model;
use mbert_runtime::ops::log_sum_exp::Ratio;
use mbert_runtime::pipeline::{MaskAnswer, Pipeline};
use mbert_runtime::tokenizer::CleanUp;
use mbert_runtime::trace::{Observer, Site, TraceHash};

use super::duty::{Duty, Line};
use super::pages;
use crate::protocol::link::board::BoardLink;
use crate::protocol::link::parts::MESSAGE_BYTES;
use crate::protocol::messages::{
    Answer, AnswerWriter, DeviceError, MAX_MASKS, MAX_TOP_K, MaskItem, Request, TokenItem, encode_outcome,
};

/// Ids of the longest sequence that is shown with its answer filled in: BERT's own limit.
pub const SHOWN_TOKENS: usize = 512;

/// Memory for an answer until the host has all of it.
#[derive(Debug, Default)]
pub struct Room {
    positions: [usize; MAX_MASKS],
    answers: [MaskAnswer<MAX_TOP_K>; MAX_MASKS],
    /// A sequence.
    pub ids: heapless::Vec<u32, SHOWN_TOKENS>,
    token_str: heapless::String<256>,
    sequence: heapless::String<MESSAGE_BYTES>,
}

/// The hash over hidden states and logits, where it is wanted.
struct Trace(Option<TraceHash>);

impl Trace {
    fn new(is_wanted: bool) -> Self {
        Self(is_wanted.then(TraceHash::default))
    }

    fn finish(self) -> Option<[u8; 32]> {
        self.0.map(TraceHash::finish)
    }
}

impl Observer for Trace {
    fn row(&mut self, site: Site, row: &[i16]) {
        if let Some(hash) = &mut self.0 {
            hash.row(site, row);
        }
    }

    fn prediction_logit(&mut self, logit: i32) {
        if let Some(hash) = &mut self.0 {
            hash.prediction_logit(logit);
        }
    }

    fn seq_relationship_logit(&mut self, logit: i32) {
        if let Some(hash) = &mut self.0 {
            hash.seq_relationship_logit(logit);
        }
    }
}

/// What runs the model.
pub type Run<'p, 'm, 'w, 'b> = &'p mut Pipeline<'m, 'w, &'b [u8]>;

/// The sequence at hand through the encoder.
fn encode<'p, 'b, L: Line>(
    pipeline: Run<'p, '_, '_, 'b>,
    trace: &mut Trace,
    duty: &mut Duty<'_, L>,
) -> Result<Encoded<'p, &'b [u8]>, DeviceError> {
    let mut forward = pipeline.start()?;
    loop {
        let progress = forward.step(trace)?;
        duty.attend(progress)?;
        if progress.is_finished() {
            return Ok(forward.finish(trace)?);
        }
    }
}

/// The pooled output, and the next-sentence logits if they are wanted.
fn pool<'e, L: Line>(
    encoded: &'e mut Encoded<'_, &[u8]>,
    with_next_sentence: bool,
    trace: &mut Trace,
    duty: &mut Duty<'_, L>,
) -> Result<(&'e [i16], [i32; 2]), DeviceError> {
    let mut head = encoded.start_pooler(with_next_sentence)?;
    loop {
        let progress = head.step(trace)?;
        duty.attend(progress)?;
        if progress.is_finished() {
            return Ok(head.finish(trace)?);
        }
    }
}

/// A page of a text's tokens.
pub fn tokenize(model: &Model<&[u8]>, text: &str, first: u32, memory: &mut [u8]) -> Result<usize, DeviceError> {
    let tokenizer = model.tokenizer();
    let mut writer = AnswerWriter::new(memory);
    let (mut total, mut has_room) = (0, true);
    let mut tell = |id, start, end| {
        if total >= first && has_room {
            has_room = writer.push(&TokenItem { id, start, end, token: tokenizer.vocab().token(id).unwrap_or(b"?") });
        }
        total += 1;
    };
    let special = &model.manifest().tokenizer;
    tell(special.cls_token_id, 0, 0);
    tokenizer.tokens(text, |token| tell(token.id, token.start, token.end))?;
    tell(special.sep_token_id, 0, 0);
    if first >= total {
        return Err(DeviceError::NothingMore);
    }
    if writer.is_empty() {
        return Err(DeviceError::ItemTooLong);
    }
    Ok(writer.finish(&Answer::Tokens { total }))
}

/// What is known of the masks of a text before it is told.
struct Masks {
    masks: usize,
    top_k: usize,
    trace_sha256: Option<[u8; 32]>,
    skip_special_tokens: bool,
}

/// The best tokens for each mask, and the texts with them.
///
/// # Errors
///
/// If the line fails.
pub fn fill_mask<L: Line>(
    pipeline: Run<'_, '_, '_, '_>,
    model: &Model<&[u8]>,
    room: &mut Room,
    link: &mut BoardLink<'_>,
    line: &mut L,
) -> Result<(), L::Error> {
    let (message, memory, watch) = link.work();
    let mut duty = Duty::new(watch, line);
    let outcome = find_masks(pipeline, model, message, room, &mut duty);
    duty.end()?;
    let Masks { masks, top_k, trace_sha256, skip_special_tokens } = match outcome {
        Ok(masks) => masks,
        Err(error) => {
            let bytes = encode_outcome(&Err(error), memory);
            return link.answer(bytes, line);
        }
    };
    let Room { answers, ids, token_str, sequence, .. } = room;
    let of_mask = |(mask, answer)| MaskAnswer::best(answer).iter().take(top_k).map(move |&best| (mask, answer, best));
    let best = || answers[..masks].iter().enumerate().flat_map(of_mask);
    let total = best().count() as u32;
    let answer = Answer::Masks { masks: masks as u8, total, trace_sha256 };
    pages::serve(link, line, answer, total, |index, writer| {
        let Some((mask, answer, best)) = best().nth(index as usize) else { return Ok(false) };
        token_str.clear();
        decode(model, &[best.id], false, token_str)?;
        sequence.clear();
        let mask_id = core::mem::replace(&mut ids[answer.position()], best.id);
        let decoded = decode(model, ids, skip_special_tokens, sequence);
        ids[answer.position()] = mask_id;
        decoded?;
        let Ratio { numerator, denominator, shift } = answer.probability(best);
        let token = best.id;
        Ok(writer.push(&MaskItem { mask: mask as u8, token, numerator, denominator, shift, token_str, sequence }))
    })
}

/// Token ids as text.
fn decode(
    model: &Model<&[u8]>,
    ids: &[u32],
    skip_special_tokens: bool,
    text: &mut impl Write,
) -> Result<(), DeviceError> {
    let decoded = model.tokenizer().decode(ids, skip_special_tokens, CleanUp::Tokens, text);
    decoded.map_err(|_| DeviceError::ItemTooLong)
}

fn find_masks<L: Line>(
    pipeline: Run<'_, '_, '_, '_>,
    model: &Model<&[u8]>,
    message: &[u8],
    room: &mut Room,
    duty: &mut Duty<'_, L>,
) -> Result<Masks, DeviceError> {
    let Request::FillMask { text, top_k, special_tokens, trace } = Request::decode(message)? else {
        return Err(DeviceError::Malformed);
    };
    if usize::from(top_k) > MAX_TOP_K {
        return Err(DeviceError::TooManyAnswers { top_k, max: MAX_TOP_K as u8 });
    }
    let mut trace = Trace::new(trace);
    let Room { positions, answers, ids, .. } = room;
    ids.clear();
    ids.extend_from_slice(pipeline.encode(text, None)?).map_err(|_| DeviceError::ItemTooLong)?;
    let masks = pipeline.mask_positions(positions)?;
    let positions = &positions[..masks];
    answers.iter_mut().zip(positions).for_each(|(answer, &position)| *answer = MaskAnswer::at(position));
    let mut encoded = encode(pipeline, &mut trace, duty)?;
    let mut head = encoded.start_masked_lm(positions)?;
    loop {
        let progress = head.step(&mut trace, |id, index, logit| answers[index].add(id, logit))?;
        duty.attend(progress)?;
        if progress.is_finished() {
            break;
        }
    }
    // As the host's: a trace covers every head.
    if trace.0.is_some() && model.manifest().heads.next_sentence {
        pool(&mut encoded, true, &mut trace, duty)?;
    }
    let skip_special_tokens = masks == 1 && !special_tokens;
    Ok(Masks { masks, top_k: top_k.into(), trace_sha256: trace.finish(), skip_special_tokens })
}

/// Whether the second text follows the first.
pub fn next_sentence<L: Line>(
    pipeline: Run<'_, '_, '_, '_>,
    (text, pair, trace): (&str, &str, bool),
    duty: &mut Duty<'_, L>,
) -> Result<Answer<'static>, DeviceError> {
    let mut trace = Trace::new(trace);
    pipeline.encode(text, Some(pair))?;
    let mut encoded = encode(pipeline, &mut trace, duty)?;
    let (_, logits) = pool(&mut encoded, true, &mut trace, duty)?;
    Ok(Answer::NextSentence { logits, trace_sha256: trace.finish() })
}

/// A sequence whose features are wanted, behind the encoder.
struct Featured<'p, 'b> {
    tokens: u16,
    encoded: Encoded<'p, &'b [u8]>,
    pooled: bool,
    trace_sha256: Option<[u8; 32]>,
}

/// The last hidden states, or the pooled output.
///
/// # Errors
///
/// If the line fails.
pub fn features<L: Line>(
    pipeline: Run<'_, '_, '_, '_>,
    model: &Model<&[u8]>,
    link: &mut BoardLink<'_>,
    line: &mut L,
) -> Result<(), L::Error> {
    let (message, memory, watch) = link.work();
    let mut duty = Duty::new(watch, line);
    let mut featured = run_encoder(pipeline, message, &mut duty);
    let values = match &mut featured {
        Ok(featured) => read_features(featured, model, &mut duty),
        Err(error) => Err(*error),
    };
    duty.end()?;
    match values {
        Ok((answer, values)) => pages::serve(link, line, answer, values.len() as u32, |index, writer| {
            Ok(values.get(index as usize).is_some_and(|value| writer.push(&value.to_le_bytes())))
        }),
        Err(error) => {
            let bytes = encode_outcome(&Err(error), memory);
            link.answer(bytes, line)
        }
    }
}

fn run_encoder<'p, 'b, L: Line>(
    pipeline: Run<'p, '_, '_, 'b>,
    message: &[u8],
    duty: &mut Duty<'_, L>,
) -> Result<Featured<'p, 'b>, DeviceError> {
    let Request::Features { text, pooled, trace } = Request::decode(message)? else {
        return Err(DeviceError::Malformed);
    };
    let mut trace = Trace::new(trace);
    let tokens = pipeline.encode(text, None)?.len() as u16;
    let encoded = encode(pipeline, &mut trace, duty)?;
    Ok(Featured { tokens, encoded, pooled, trace_sha256: trace.finish() })
}

fn read_features<'e, L: Line>(
    featured: &'e mut Featured<'_, '_>,
    model: &Model<&[u8]>,
    duty: &mut Duty<'_, L>,
) -> Result<(Answer<'static>, &'e [i16]), DeviceError> {
    let Featured { tokens, encoded, pooled, trace_sha256 } = featured;
    let config = model.config();
    let (values, fraction_bits) = if *pooled {
        (pool(encoded, false, &mut Trace(None), duty)?.0, POOLED_FRACTION_BITS)
    } else {
        let bits = model.hidden_fraction_bits(config.num_hidden_layers.into()).map_err(ForwardError::from)?;
        (encoded.last_hidden_state(), bits)
    };
    let (tokens, columns, total) = (*tokens, config.hidden_size, values.len() as u32);
    let fraction_bits = fraction_bits as i8;
    Ok((Answer::Features { tokens, columns, total, fraction_bits, trace_sha256: *trace_sha256 }, values))
}
