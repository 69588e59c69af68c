//! The few numbers of a model, and of each layer, that belong to no tensor. A section is its fields in order, int32 each.

use crate::ops::linear::LinearShifts;
use crate::ops::softmax::SoftmaxScale;

/// Constants outside the layers, in the order of their section.
#[derive(Clone, Copy, Debug)]
pub struct Constants {
    /// Word scale → multiplier to the embedding sum.
    pub embedding_multiplier: i32,
    /// Logit scale: `decoder_multiplier · 2^−decoder_exponent`.
    pub decoder_multiplier: i32,
    /// See above.
    pub decoder_exponent: i32,
    /// Accumulator shift of the decoder.
    pub decoder_shift: u32,
    /// Shifts of the pooler.
    pub pooler: LinearShifts,
    /// Shifts of the next-sentence layer.
    pub seq_relationship: LinearShifts,
    /// Shifts of the masked-LM transform.
    pub transform: LinearShifts,
}

impl Constants {
    /// int32 values in the section.
    pub const COUNT: usize = 10;

    /// The values of the section.
    pub fn emit(&self) -> [i32; Self::COUNT] {
        let [pooler, seq_relationship, transform] = [self.pooler, self.seq_relationship, self.transform];
        [
            self.embedding_multiplier,
            self.decoder_multiplier,
            self.decoder_exponent,
            self.decoder_shift as i32,
            pooler.accumulator as i32,
            pooler.output,
            seq_relationship.accumulator as i32,
            seq_relationship.output,
            transform.accumulator as i32,
            transform.output,
        ]
    }

    /// The values of a section; `None` if one is out of range.
    pub(crate) fn parse(words: [i32; Self::COUNT]) -> Option<Self> {
        let [embedding, decoder, decoder_exponent, decoder_shift, a, b, c, d, e, f] = words;
        Some(Self {
            embedding_multiplier: embedding,
            decoder_multiplier: decoder,
            decoder_exponent: exponent(decoder_exponent)?,
            decoder_shift: shift(decoder_shift)?,
            pooler: shifts(a, b)?,
            seq_relationship: shifts(c, d)?,
            transform: shifts(e, f)?,
        })
    }
}

/// Constants of one encoder layer, in the order of their section.
#[derive(Clone, Copy, Debug, Default)]
pub struct LayerConstants {
    /// Attention scores → exponents.
    pub softmax: SoftmaxScale,
    /// Values → context: `value_multiplier · 2^−value_exponent`.
    pub value_multiplier: i32,
    /// See above.
    pub value_exponent: i32,
    /// Shifts of query, key and value.
    pub qkv: LinearShifts,
    /// Shifts of `attention.output.dense`.
    pub attention_output: LinearShifts,
    /// Shifts of `intermediate.dense`.
    pub intermediate: LinearShifts,
    /// Shifts of `output.dense`.
    pub output: LinearShifts,
}

impl LayerConstants {
    /// int32 values in the section.
    pub const COUNT: usize = 12;

    /// The values of the section.
    pub fn emit(&self) -> [i32; Self::COUNT] {
        let [qkv, attention_output, intermediate, output] =
            [self.qkv, self.attention_output, self.intermediate, self.output];
        [
            self.softmax.multiplier,
            self.softmax.exponent,
            self.value_multiplier,
            self.value_exponent,
            qkv.accumulator as i32,
            qkv.output,
            attention_output.accumulator as i32,
            attention_output.output,
            intermediate.accumulator as i32,
            intermediate.output,
            output.accumulator as i32,
            output.output,
        ]
    }

    /// The values of a section; `None` if one is out of range.
    pub(crate) fn parse(words: [i32; Self::COUNT]) -> Option<Self> {
        let [multiplier, softmax, value_multiplier, value, a, b, c, d, e, f, g, h] = words;
        Some(Self {
            softmax: SoftmaxScale { multiplier, exponent: exponent(softmax)? },
            value_multiplier,
            value_exponent: exponent(value)?,
            qkv: shifts(a, b)?,
            attention_output: shifts(c, d)?,
            intermediate: shifts(e, f)?,
            output: shifts(g, h)?,
        })
    }
}

fn shift(value: i32) -> Option<u32> {
    u32::try_from(value).ok().filter(|&shift| shift < 32)
}

fn shifts(accumulator: i32, output: i32) -> Option<LinearShifts> {
    Some(LinearShifts { accumulator: shift(accumulator)?, output: exponent(output)? })
}

fn exponent(value: i32) -> Option<i32> {
    Some(value).filter(|value| value.unsigned_abs() < 1024)
}
