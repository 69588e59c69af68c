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
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
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
    /// postcard: [`Manifest`](super::manifest::Manifest), then [`Provenance`](super::manifest::Provenance).
    Manifest = 1,
    /// postcard: texts with their ids, trace hash and best answers.
    SelfTest = 2,
    /// Covers header and table, and is zero while the blob is unsigned: see [`Signature`](super::signature::Signature). Its own hash field
    /// is zero.
    Signature = 3,
    /// The tokenizer's vocabulary in its searchable form.
    Vocabulary = 4,
    /// int32 constants that belong to no layer: see [`Constants`](super::constants::Constants).
    Constants = 5,
    /// Tiles `[vocab_size, hidden_size]`, always row-major: also the masked-LM decoder. A word's parameters are the bias of its logit
    /// (16 fraction bits) and the scale of its row, the largest scale just below 2³¹.
    WordEmbeddings = 6,
    /// int16 `[max_position_embeddings, hidden_size]`, in the unit of the embedding sum.
    PositionEmbeddings = 7,
    /// int16 `[type_vocab_size, hidden_size]`, in the unit of the embedding sum.
    TokenTypeEmbeddings = 8,
    /// Layer norm of the embeddings.
    EmbeddingsLayerNorm = 9,
    /// int32 constants of one layer: see [`LayerConstants`](super::constants::LayerConstants).
    LayerConstants = 10,
    /// Tiles `[3 · hidden_size, hidden_size]`, head by head: query, key, value. Each of these begins a tile.
    Qkv = 12,
    /// Tiles `[hidden_size, hidden_size]` with three parameters.
    AttentionOutput = 13,
    /// Layer norm after attention.
    AttentionLayerNorm = 14,
    /// Tiles `[intermediate_size, hidden_size]` with three parameters.
    Intermediate = 16,
    /// Tiles `[hidden_size, intermediate_size]` with three parameters.
    Output = 17,
    /// Layer norm after the feed-forward block.
    OutputLayerNorm = 18,
    /// int16 `[hidden_size]`: smoothing multiplier of each input channel.
    PoolerInput = 19,
    /// Tiles `[hidden_size, hidden_size]`.
    Pooler = 20,
    /// Tiles `[2, hidden_size]`: the two next-sentence logits.
    SeqRelationship = 21,
    /// int16 `[hidden_size]`: smoothing multiplier of each input channel.
    TransformInput = 22,
    /// Tiles `[hidden_size, hidden_size]` with three parameters.
    Transform = 23,
    /// Layer norm before the decoder.
    TransformLayerNorm = 24,
}

impl SectionKind {
    /// One more than the largest code.
    pub const CODES: usize = 25;

    /// int32 parameters of each output channel of a linear layer: bias, multiplier, and where an activation follows, the multiplier
    /// behind it, or where the residual is added, its multiplier.
    pub const fn parameters(self) -> usize {
        match self {
            Self::AttentionOutput | Self::Intermediate | Self::Output | Self::Transform => 3,
            _ => 2,
        }
    }
}

/// The element type of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// Structured bytes, described by the kind.
    Bytes,
    /// The weights of a linear layer, int8 with int32 parameters: see [`tiles`](super::tiles).
    Tiles,
    /// int16, little-endian.
    I16,
    /// int32, little-endian.
    I32,
}

impl Element {
    /// Bytes of one element; of tiles, of one weight.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Bytes | Self::Tiles => 1,
            Self::I16 => 2,
            Self::I32 => 4,
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::Bytes => 0,
            Self::Tiles => 1,
            Self::I16 => 2,
            Self::I32 => 3,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Bytes),
            1 => Some(Self::Tiles),
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
    /// Bytes that elements of this kind and shape take.
    pub const fn expected_bytes(kind: SectionKind, element: Element, rows: usize, columns: usize) -> u64 {
        let parameters = match element {
            Element::Tiles => size_of::<i32>() * kind.parameters(),
            _ => 0,
        };
        rows as u64 * (columns * element.bytes() + parameters) as u64
    }

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
