//! One entry of the section table: what a run of bytes is, where it lies and its SHA-256. Parse and emit side by side.

use super::layout::WeightLayout;

/// Bytes of one entry.
pub const ENTRY_BYTES: usize = 64;

/// Byte ranges of the fields of an entry.
mod field {
    use core::ops::Range;
    pub const KIND: Range<usize> = 0..2;
    pub const LAYER: Range<usize> = 2..4;
    pub const ELEMENT: usize = 4;
    pub const LAYOUT: usize = 5;
    pub const RESERVED: Range<usize> = 6..8;
    pub const OFFSET: Range<usize> = 8..16;
    pub const LENGTH: Range<usize> = 16..24;
    pub const ROWS: Range<usize> = 24..28;
    pub const COLUMNS: Range<usize> = 28..32;
    pub const SHA256: Range<usize> = 32..64;
}

macro_rules! section_kinds {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal,)+) => {
        /// What a section holds. Sections lie in the file in the order in which an answer reads them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum SectionKind { $($(#[doc = $doc])+ $name = $code,)+ }

        impl SectionKind {
            /// The kind of a code.
            pub const fn from_code(code: u16) -> Option<Self> {
                match code { $($code => Some(Self::$name),)+ _ => None }
            }
        }
    };
}

section_kinds! {
    /// postcard: configuration, tokenizer flags, quantisation, provenance.
    Manifest = 1,
    /// postcard: texts with their ids, trace hash and best answers.
    SelfTest = 2,
    /// 128 reserved bytes, zero while unsigned; a signature covers header and table. Its own hash field is zero.
    Signature = 3,
    /// The tokenizer's vocabulary in its searchable form.
    Vocabulary = 4,
    /// int32 constants that belong to no layer: see [`Constants`](super::constants::Constants).
    Constants = 5,
    /// int8 `[vocab_size, hidden_size]`, always row-major; also the masked-LM decoder.
    WordEmbeddings = 16,
    /// int32 `[vocab_size]`: scale of each word embedding, largest just below 2³¹.
    WordScales = 17,
    /// int16 `[max_position_embeddings, hidden_size]`, in the unit of the embedding sum.
    PositionEmbeddings = 18,
    /// int16 `[type_vocab_size, hidden_size]`, in the unit of the embedding sum.
    TokenTypeEmbeddings = 19,
    /// Layer norm of the embeddings.
    EmbeddingsLayerNorm = 20,
    /// int32 constants of one layer: see [`LayerConstants`](super::constants::LayerConstants).
    LayerConstants = 32,
    /// int16 `[hidden_size]`: smoothing multiplier of each input channel of query, key and value.
    QkvInput = 33,
    /// int32 `[3 · hidden_size, 2]`: bias and multiplier of each channel, ordered as the weight.
    QkvParameters = 34,
    /// int8 `[3 · hidden_size, hidden_size]`: rows head by head: query, key, value.
    QkvWeight = 35,
    /// int32 `[hidden_size, 2]`: bias and multiplier.
    AttentionOutputParameters = 36,
    /// int8 `[hidden_size, hidden_size]`.
    AttentionOutputWeight = 37,
    /// Layer norm after attention.
    AttentionLayerNorm = 38,
    /// int16 `[hidden_size]`: smoothing multiplier of each input channel.
    IntermediateInput = 39,
    /// int32 `[intermediate_size, 3]`: bias, multiplier, and multiplier after the activation.
    IntermediateParameters = 40,
    /// int8 `[intermediate_size, hidden_size]`.
    IntermediateWeight = 41,
    /// int32 `[hidden_size, 2]`: bias and multiplier.
    OutputParameters = 42,
    /// int8 `[hidden_size, intermediate_size]`.
    OutputWeight = 43,
    /// Layer norm after the feed-forward block.
    OutputLayerNorm = 44,
    /// int16 `[hidden_size]`: smoothing multiplier of each input channel.
    PoolerInput = 64,
    /// int32 `[hidden_size, 2]`: bias and multiplier.
    PoolerParameters = 65,
    /// int8 `[hidden_size, hidden_size]`.
    PoolerWeight = 66,
    /// int32 `[2, 2]`: bias and multiplier of the two next-sentence logits.
    SeqRelationshipParameters = 67,
    /// int8 `[2, hidden_size]`.
    SeqRelationshipWeight = 68,
    /// int16 `[hidden_size]`: smoothing multiplier of each input channel.
    TransformInput = 72,
    /// int32 `[hidden_size, 3]`: bias, multiplier, and multiplier after the activation.
    TransformParameters = 73,
    /// int8 `[hidden_size, hidden_size]`.
    TransformWeight = 74,
    /// Layer norm before the decoder.
    TransformLayerNorm = 75,
    /// int32 `[vocab_size]`: bias of each logit, 16 fraction bits.
    DecoderBias = 76,
}

/// The element type of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// Structured bytes, described by the kind.
    Bytes,
    /// int8.
    I8,
    /// int16, little-endian.
    I16,
    /// int32, little-endian.
    I32,
}

impl Element {
    /// Bytes of one element.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Bytes | Self::I8 => 1,
            Self::I16 => 2,
            Self::I32 => 4,
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::Bytes => 0,
            Self::I8 => 1,
            Self::I16 => 2,
            Self::I32 => 3,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Bytes),
            1 => Some(Self::I8),
            2 => Some(Self::I16),
            3 => Some(Self::I32),
            _ => None,
        }
    }
}

/// One entry of the section table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// What it holds.
    pub kind: SectionKind,
    /// Encoder layer, 0 outside the encoder.
    pub layer: u16,
    /// Type of its elements.
    pub element: Element,
    /// Order of its elements.
    pub layout: WeightLayout,
    /// First byte, from the beginning of the blob.
    pub offset_bytes: u64,
    /// Length, without padding.
    pub length_bytes: u64,
    /// First dimension.
    pub rows: u32,
    /// Second dimension; 1 for a vector.
    pub columns: u32,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
}

impl Section {
    /// Reads an entry; `None` for an unknown code or a reserved byte that is not zero.
    pub fn parse(entry: &[u8; ENTRY_BYTES]) -> Option<Self> {
        use super::{u16_at, u32_at, u64_at};
        if u16_at(entry, field::RESERVED.start) != 0 {
            return None;
        }
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(&entry[field::SHA256]);
        Some(Self {
            kind: SectionKind::from_code(u16_at(entry, field::KIND.start))?,
            layer: u16_at(entry, field::LAYER.start),
            element: Element::from_code(entry[field::ELEMENT])?,
            layout: WeightLayout::from_code(entry[field::LAYOUT])?,
            offset_bytes: u64_at(entry, field::OFFSET.start),
            length_bytes: u64_at(entry, field::LENGTH.start),
            rows: u32_at(entry, field::ROWS.start),
            columns: u32_at(entry, field::COLUMNS.start),
            sha256,
        })
    }

    /// Writes the entry that [`parse`](Self::parse) reads.
    pub fn emit(&self) -> [u8; ENTRY_BYTES] {
        let mut entry = [0; ENTRY_BYTES];
        entry[field::KIND].copy_from_slice(&(self.kind as u16).to_le_bytes());
        entry[field::LAYER].copy_from_slice(&self.layer.to_le_bytes());
        entry[field::ELEMENT] = self.element.code();
        entry[field::LAYOUT] = self.layout.code();
        entry[field::OFFSET].copy_from_slice(&self.offset_bytes.to_le_bytes());
        entry[field::LENGTH].copy_from_slice(&self.length_bytes.to_le_bytes());
        entry[field::ROWS].copy_from_slice(&self.rows.to_le_bytes());
        entry[field::COLUMNS].copy_from_slice(&self.columns.to_le_bytes());
        entry[field::SHA256].copy_from_slice(&self.sha256);
        entry
    }
}
