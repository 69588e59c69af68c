//! A model in memory: the blob, checked once, and typed access to its parts. Nothing is copied.

use sha2::{Digest, Sha256};

use crate::error::FormatError;
use crate::format::constants::{Constants, LayerConstants};
use crate::format::header::{HEADER_BYTES, Header};
use crate::format::layout::WeightLayout;
use crate::format::manifest::Manifest;
use crate::format::section::{ENTRY_BYTES, Element, Section, SectionKind};
use crate::format::tensor::{I8Matrix, I16s, I32s};
use crate::format::u64_at;
use crate::kernels::Kernels;
use crate::ops::layer_norm::LayerNormScale;
use crate::ops::linear::{Linear, LinearShifts};
use crate::tokenizer::{Tokenizer, Vocab};

/// Sections up to this size are verified whenever a blob is opened.
const SMALL_SECTION_BYTES: u64 = 4096;
/// Channels that share one scale at the input of `output.dense`.
pub const GROUP_SIZE: usize = 256;
/// Bytes before γ and β in a layer norm section.
const LAYER_NORM_HEADER_BYTES: usize = 16;

/// A model, read in place. It can be shared between threads.
#[derive(Clone, Debug)]
pub struct Model<'a> {
    blob: &'a [u8],
    header: Header,
    manifest: Manifest<'a>,
    tokenizer: Tokenizer<&'a [u8]>,
}

/// A layer norm's parameters.
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm<'a> {
    /// ε and the fraction bits of γ and β.
    pub scale: LayerNormScale,
    /// One step of the output is `2^−fraction_bits`.
    pub fraction_bits: i32,
    parameters: I32s<'a>,
}

impl LayerNorm<'_> {
    /// γ and β of every channel.
    pub fn parameters(&self) -> impl Iterator<Item = (i32, i32)> + '_ {
        (0..self.parameters.0.len() / 8).map(|c| (self.parameters.get(2 * c), self.parameters.get(2 * c + 1)))
    }
}

impl<'a> Model<'a> {
    /// Opens a blob: checks header, section table, small sections, and that every section the model needs has its size.
    ///
    /// Nothing that reads the model afterwards can fail on its format. The hashes of the large sections are checked by
    /// [`verify`](Self::verify).
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub fn open(blob: &'a [u8]) -> Result<Self, FormatError> {
        let header = Header::parse(blob, blob.len() as u64)?;
        check_bounds(blob, &header)?;
        for section in sections(blob, &header) {
            if section.length_bytes <= SMALL_SECTION_BYTES {
                verify_section(blob, &section)?;
            }
        }
        let manifest = find(blob, &header, SectionKind::Manifest, 0)?;
        let manifest: Manifest<'a> =
            postcard::from_bytes(slice(blob, &manifest)).map_err(|_| FormatError::BadManifest)?;
        manifest.config.check()?;
        let config = &manifest.config;
        if usize::from(manifest.quantization.group_size) != GROUP_SIZE
            || (manifest.heads.next_sentence && !manifest.heads.pooler)
        {
            return Err(FormatError::BadManifest);
        }
        for (kind, layer, element, rows, columns) in required_sections(&manifest) {
            check_section(blob, &header, kind, layer, element, rows, columns, config.head_dim())?;
        }
        let vocabulary = find(blob, &header, SectionKind::Vocabulary, 0)?;
        let vocab = Vocab::open(slice(blob, &vocabulary)).map_err(|_| FormatError::BadVocabulary)?;
        if vocab.len() != config.vocab_size as usize {
            return Err(FormatError::BadVocabulary);
        }
        let tokenizer = Tokenizer::new(vocab, manifest.tokenizer).map_err(|_| FormatError::BadVocabulary)?;
        find(blob, &header, SectionKind::SelfTest, 0)?;
        Ok(Self { blob, header, manifest, tokenizer })
    }

    /// Checks the hash of every section and that all padding is zero: no flipped bit is missed.
    ///
    /// # Errors
    ///
    /// The first byte range that is damaged.
    pub fn verify(&self) -> Result<(), FormatError> {
        let mut end = self.header.table_end() as u64;
        let zero = |from: u64, to: u64| match self.blob[from as usize..to as usize].iter().position(|&byte| byte != 0) {
            None => Ok(()),
            Some(at) => Err(FormatError::NonZeroPadding { offset_bytes: from + at as u64 }),
        };
        for section in self.sections() {
            zero(end, section.offset_bytes)?;
            end = section.offset_bytes + section.length_bytes;
            if section.kind == SectionKind::Signature {
                zero(section.offset_bytes, end)?;
            }
            verify_section(self.blob, &section)?;
        }
        zero(end, self.header.total_bytes)
    }

    /// Checks that these kernels read every weight of the model.
    ///
    /// # Errors
    ///
    /// The layout that they do not read.
    pub fn check_layout(&self, kernels: &Kernels) -> Result<(), FormatError> {
        match self.sections().find(|section| !kernels.reads(section.layout)) {
            None => Ok(()),
            Some(section) => {
                Err(FormatError::UnsupportedLayout { found: section.layout, native: kernels.weight_layout })
            }
        }
    }

    /// What the blob says of itself.
    pub fn manifest(&self) -> &Manifest<'a> {
        &self.manifest
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer<&'a [u8]> {
        &self.tokenizer
    }

    /// The whole blob.
    pub fn blob(&self) -> &'a [u8] {
        self.blob
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The section table, in file order.
    pub fn sections(&self) -> impl Iterator<Item = Section> + 'a {
        sections(self.blob, &self.header)
    }

    /// The bytes of a section.
    pub fn section_bytes(&self, section: &Section) -> &'a [u8] {
        slice(self.blob, section)
    }

    /// The bytes of a section that `open` has found.
    pub(crate) fn bytes(&self, kind: SectionKind, layer: usize) -> &'a [u8] {
        match find(self.blob, &self.header, kind, layer as u16) {
            Ok(section) => slice(self.blob, &section),
            Err(_) => &[],
        }
    }

    /// An int32 vector that `open` has found.
    pub(crate) fn i32s(&self, kind: SectionKind, layer: usize) -> I32s<'a> {
        I32s(self.bytes(kind, layer))
    }

    /// An int16 vector that `open` has found.
    pub(crate) fn i16s(&self, kind: SectionKind, layer: usize) -> I16s<'a> {
        I16s(self.bytes(kind, layer))
    }

    /// An int8 matrix that `open` has found.
    pub(crate) fn matrix(&self, kind: SectionKind, layer: usize) -> I8Matrix<'a> {
        match find(self.blob, &self.header, kind, layer as u16) {
            Ok(section) => I8Matrix {
                values: bytemuck::cast_slice(slice(self.blob, &section)),
                columns: section.columns as usize,
                layout: section.layout,
            },
            Err(_) => I8Matrix { values: &[], columns: 0, layout: WeightLayout::RowMajor },
        }
    }

    /// A linear layer with `parameter_stride` parameters per channel.
    pub(crate) fn linear(
        &self,
        parameters: SectionKind,
        weight: SectionKind,
        layer: usize,
        parameter_stride: usize,
        shifts: LinearShifts,
    ) -> Linear<'a> {
        Linear {
            weight: self.matrix(weight, layer),
            parameters: self.i32s(parameters, layer),
            parameter_stride,
            shifts,
        }
    }

    /// A layer norm that `open` has found.
    pub(crate) fn layer_norm(&self, kind: SectionKind, layer: usize) -> LayerNorm<'a> {
        let (head, parameters) = self.bytes(kind, layer).split_at(LAYER_NORM_HEADER_BYTES);
        let words = I32s(head);
        LayerNorm {
            scale: LayerNormScale { epsilon: u64_at(head, 0), shift: words.get(2) as u32 },
            fraction_bits: words.get(3),
            parameters: I32s(parameters),
        }
    }

    /// Fraction bits of the residual stream after a layer; 0 = embeddings.
    ///
    /// # Panics
    ///
    /// If the model has fewer layers.
    pub fn hidden_fraction_bits(&self, layer: usize) -> i32 {
        match layer.checked_sub(1) {
            None => self.layer_norm(SectionKind::EmbeddingsLayerNorm, 0).fraction_bits,
            Some(layer) => self.layer_norm(SectionKind::OutputLayerNorm, layer).fraction_bits,
        }
    }

    /// Constants outside the layers.
    ///
    /// # Panics
    ///
    /// Never after `open`, which has parsed them.
    pub(crate) fn constants(&self) -> Constants {
        Constants::parse(&self.i32s(SectionKind::Constants, 0)).expect("checked by `open`")
    }

    /// Constants of one layer.
    ///
    /// # Panics
    ///
    /// Never after `open`, which has parsed them.
    pub(crate) fn layer_constants(&self, layer: usize) -> LayerConstants {
        LayerConstants::parse(&self.i32s(SectionKind::LayerConstants, layer)).expect("checked by `open`")
    }
}

/// Every tensor a model must have: kind, layer, element type, rows, columns. Layer norms and constants are counted in bytes.
pub fn required_sections<'m>(
    manifest: &'m Manifest<'_>,
) -> impl Iterator<Item = (SectionKind, u16, Element, usize, usize)> + 'm {
    use Element::{Bytes, I8, I16, I32};
    use SectionKind::*;
    let config = &manifest.config;
    let (h, f, v) =
        (usize::from(config.hidden_size), usize::from(config.intermediate_size), config.vocab_size as usize);
    let (positions, types) = (usize::from(config.max_position_embeddings), usize::from(config.type_vocab_size));
    let layer_norm = LAYER_NORM_HEADER_BYTES + 8 * h;
    let embeddings = [
        (Constants, 0, I32, crate::format::constants::Constants::COUNT, 1),
        (WordEmbeddings, 0, I8, v, h),
        (WordScales, 0, I32, v, 1),
        (PositionEmbeddings, 0, I16, positions, h),
        (TokenTypeEmbeddings, 0, I16, types, h),
        (EmbeddingsLayerNorm, 0, Bytes, layer_norm, 1),
    ];
    let layers = (0..u16::from(config.num_hidden_layers)).flat_map(move |layer| {
        [
            (LayerConstants, layer, I32, crate::format::constants::LayerConstants::COUNT, 1),
            (QkvInput, layer, I16, h, 1),
            (QkvParameters, layer, I32, 3 * h, 2),
            (QkvWeight, layer, I8, 3 * h, h),
            (AttentionOutputParameters, layer, I32, h, 2),
            (AttentionOutputWeight, layer, I8, h, h),
            (AttentionLayerNorm, layer, Bytes, layer_norm, 1),
            (IntermediateInput, layer, I16, h, 1),
            (IntermediateParameters, layer, I32, f, 3),
            (IntermediateWeight, layer, I8, f, h),
            (OutputParameters, layer, I32, h, 2),
            (OutputWeight, layer, I8, h, f),
            (OutputLayerNorm, layer, Bytes, layer_norm, 1),
        ]
    });
    let pooler = [(PoolerInput, 0, I16, h, 1), (PoolerParameters, 0, I32, h, 2), (PoolerWeight, 0, I8, h, h)];
    let next_sentence = [(SeqRelationshipParameters, 0, I32, 2, 2), (SeqRelationshipWeight, 0, I8, 2, h)];
    let masked_lm = [
        (TransformInput, 0, I16, h, 1),
        (TransformParameters, 0, I32, h, 3),
        (TransformWeight, 0, I8, h, h),
        (TransformLayerNorm, 0, Bytes, layer_norm, 1),
        (DecoderBias, 0, I32, v, 1),
    ];
    let heads = &manifest.heads;
    embeddings
        .into_iter()
        .chain(layers)
        .chain(pooler.into_iter().filter(|_| heads.pooler))
        .chain(next_sentence.into_iter().filter(|_| heads.next_sentence))
        .chain(masked_lm.into_iter().filter(|_| heads.masked_lm))
}

fn entry(blob: &[u8], index: usize) -> Option<Section> {
    Section::parse(blob.get(HEADER_BYTES + index * ENTRY_BYTES..)?.first_chunk()?)
}

fn sections<'a>(blob: &'a [u8], header: &Header) -> impl Iterator<Item = Section> + use<'a> {
    (0..usize::from(header.sections)).filter_map(move |index| entry(blob, index))
}

/// The bytes of a section whose bounds have been checked.
fn slice<'a>(blob: &'a [u8], section: &Section) -> &'a [u8] {
    blob.get(section.offset_bytes as usize..(section.offset_bytes + section.length_bytes) as usize).unwrap_or(&[])
}

/// Entries are known, aligned, ascending, without overlap, inside the blob, and nothing but padding lies between.
fn check_bounds(blob: &[u8], header: &Header) -> Result<(), FormatError> {
    let alignment = u64::from(header.alignment_bytes);
    let mut end = header.table_end() as u64;
    for index in 0..header.sections {
        let section = entry(blob, usize::from(index)).ok_or(FormatError::BadSectionEntry { index })?;
        let Section { offset_bytes, length_bytes, .. } = section;
        let out_of_bounds = FormatError::SectionOutOfBounds { index, offset_bytes, length_bytes };
        if offset_bytes != end.next_multiple_of(alignment) {
            return Err(out_of_bounds);
        }
        end = offset_bytes.checked_add(length_bytes).filter(|&end| end <= header.total_bytes).ok_or(out_of_bounds)?;
    }
    if header.total_bytes != end.next_multiple_of(alignment) {
        return Err(FormatError::WrongLength {
            header_bytes: end.next_multiple_of(alignment),
            found_bytes: header.total_bytes,
        });
    }
    Ok(())
}

fn verify_section(blob: &[u8], section: &Section) -> Result<(), FormatError> {
    let hash: [u8; 32] = match section.kind {
        SectionKind::Signature => [0; 32],
        _ => Sha256::digest(slice(blob, section)).into(),
    };
    if hash == section.sha256 {
        Ok(())
    } else {
        Err(FormatError::DamagedSection { kind: section.kind, layer: section.layer })
    }
}

/// The one section of a kind and layer.
fn find(blob: &[u8], header: &Header, kind: SectionKind, layer: u16) -> Result<Section, FormatError> {
    let mut found = sections(blob, header).filter(|section| section.kind == kind && section.layer == layer);
    match (found.next(), found.next()) {
        (Some(section), None) => Ok(section),
        _ => Err(FormatError::MissingSection { kind, layer }),
    }
}

#[allow(clippy::too_many_arguments)] // One row of `required_sections` and where to look.
fn check_section(
    blob: &[u8],
    header: &Header,
    kind: SectionKind,
    layer: u16,
    element: Element,
    rows: usize,
    columns: usize,
    head_dim: usize,
) -> Result<(), FormatError> {
    let section = find(blob, header, kind, layer)?;
    let expected_bytes = (rows * columns * element.bytes()) as u64;
    if section.length_bytes != expected_bytes {
        return Err(FormatError::WrongSectionSize { kind, layer, found_bytes: section.length_bytes, expected_bytes });
    }
    let is_weight = matches!(
        kind,
        SectionKind::QkvWeight
            | SectionKind::AttentionOutputWeight
            | SectionKind::IntermediateWeight
            | SectionKind::OutputWeight
            | SectionKind::PoolerWeight
            | SectionKind::TransformWeight
    );
    // A head's query, key and value rows are computed apart, so they must be whole tiles.
    let tiles = kind != SectionKind::QkvWeight || head_dim.is_multiple_of(crate::format::layout::TILE_CHANNELS);
    let packable = is_weight && tiles && section.layout.fits(rows, columns) && GROUP_SIZE.is_multiple_of(4);
    let shape = section.rows as usize == rows && section.columns as usize == columns && section.element == element;
    let parameters = slice(blob, &section);
    let in_range = match kind {
        SectionKind::EmbeddingsLayerNorm
        | SectionKind::AttentionLayerNorm
        | SectionKind::OutputLayerNorm
        | SectionKind::TransformLayerNorm => {
            let words = I32s(parameters);
            (1..1 << 60).contains(&u64_at(parameters, 0))
                && (0..32).contains(&words.get(2))
                && (-32..32).contains(&words.get(3))
        }
        SectionKind::LayerConstants => LayerConstants::parse(&I32s(parameters)).is_some(),
        SectionKind::Constants => Constants::parse(&I32s(parameters)).is_some(),
        _ => true,
    };
    if shape && in_range && (section.layout == WeightLayout::RowMajor || packable) {
        Ok(())
    } else {
        Err(FormatError::BadParameter { kind, layer })
    }
}
