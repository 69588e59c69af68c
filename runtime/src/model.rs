//! A model on its storage: the blob, checked once, and typed access to its parts. Nothing is copied that lies in memory.

use sha2::{Digest, Sha256};

use crate::config::BertConfig;
use crate::error::FormatError;
use crate::format::constants::{Constants, LayerConstants};
use crate::format::contents::{self, LAYER_NORM_HEADER_BYTES};
use crate::format::header::{HEADER_BYTES, Header};
use crate::format::layout::WeightLayout;
use crate::format::manifest::{Manifest, Provenance};
use crate::format::section::{ENTRY_BYTES, Element, Section, SectionKind};
use crate::format::signature::Signature;
use crate::format::tiles::Tiles;
use crate::kernels::Kernels;
use crate::ops::linear::{Linear, LinearShifts};
use crate::storage::{Storage, Unreadable};
use crate::tokenizer::{Tokenizer, Vocab};

/// Sections up to this size are verified whenever a blob is opened.
const SMALL_SECTION_BYTES: u64 = 4096;
/// Channels that share one scale at the input of `output.dense`.
pub const GROUP_SIZE: usize = 256;
/// Bytes that are hashed, or compared with zero, at a time.
const PIECE_BYTES: usize = 4096;

/// A model, read where it lies: `Model<&[u8]>` in memory, `Model<CachedSection<…>>` on a device.
///
/// In memory it can be shared between threads.
#[derive(Clone, Debug)]
pub struct Model<S> {
    blob: S,
    header: Header,
    manifest: Manifest,
    places: Places,
    tokenizer: Tokenizer<S>,
}

/// Where sections begin, by the code of their kind: in the first encoder layer, and how far on in the next.
#[derive(Clone, Copy, Debug)]
struct Places {
    offsets: [u32; SectionKind::CODES],
    layouts: [WeightLayout; SectionKind::CODES],
    layer_bytes: u32,
}

impl Places {
    fn offset(&self, kind: SectionKind, layer: usize) -> u32 {
        let first = self.offsets.get(kind as usize).copied().unwrap_or(0);
        first.wrapping_add(self.layer_bytes.wrapping_mul(layer as u32))
    }

    fn layout(&self, kind: SectionKind) -> WeightLayout {
        self.layouts.get(kind as usize).copied().unwrap_or_default()
    }
}

/// What stands before γ and β in a layer norm section.
#[derive(Clone, Copy, Debug)]
pub struct LayerNorm {
    /// ε · H² in squared units of the input; at least 1.
    pub epsilon: u64,
    /// Of the output: see [`hidden_fraction_bits`](Model::hidden_fraction_bits).
    pub fraction_bits: i32,
}

impl LayerNorm {
    /// `None` if a value is out of range.
    fn parse(bytes: &[u8; LAYER_NORM_HEADER_BYTES]) -> Option<Self> {
        let (epsilon, rest) = bytes.split_first_chunk::<8>()?;
        let (fraction_bits, rest) = rest.split_first_chunk()?;
        let (epsilon, fraction_bits) = (u64::from_le_bytes(*epsilon), i32::from_le_bytes(*fraction_bits));
        let in_range = (1..1 << 60).contains(&epsilon) && (-64..64).contains(&fraction_bits) && rest == [0; 4];
        in_range.then_some(Self { epsilon, fraction_bits })
    }
}

impl<S: Storage> Model<S> {
    /// Opens a blob: checks header, section table, small sections, and that every section the model needs is where it belongs and has
    /// its size.
    ///
    /// Nothing that reads the model afterwards can fail on its format. The hashes of the large sections are checked by
    /// [`verify`](Self::verify).
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    // What it needs of the stack is not what its caller keeps.
    #[inline(never)]
    pub fn open(blob: S) -> Result<Self, FormatError> {
        let found_bytes = blob.bytes();
        if found_bytes < HEADER_BYTES as u64 {
            return Err(FormatError::TooShort { found_bytes });
        }
        if found_bytes > u32::MAX.into() {
            return Err(FormatError::TooLong { found_bytes });
        }
        if blob.view(0, HEADER_BYTES, |bytes| !bytes.as_ptr().addr().is_multiple_of(8))? {
            return Err(FormatError::Misaligned);
        }
        let bytes = blob.read(0)?;
        let header = Header::parse(&bytes, found_bytes)?;
        let mut hasher = Header::hasher(&bytes);
        for index in 0..header.sections {
            hasher.update(blob.read::<ENTRY_BYTES>(entry_offset(index))?);
        }
        if !Header::is_intact(&bytes, hasher) {
            return Err(FormatError::DamagedHeader);
        }
        check_bounds(&blob, &header)?;

        let manifest = open_manifest(&blob, &header)?;
        let (config, given_bytes) = (&manifest.config, blob.window_bytes());
        let needed_bytes = contents::window_bytes(config);
        if needed_bytes > given_bytes {
            return Err(FormatError::WindowTooSmall { needed_bytes, given_bytes });
        }
        let (places, vocabulary) = open_sections(&blob, &header, &manifest)?;
        let vocabulary = blob.section(vocabulary.offset_bytes as u32, vocabulary.length_bytes as u32);
        let vocab = Vocab::open(vocabulary).map_err(|_| FormatError::BadVocabulary)?;
        if vocab.len() != config.vocab_size as usize {
            return Err(FormatError::BadVocabulary);
        }
        let tokenizer = Tokenizer::new(vocab, manifest.tokenizer).map_err(|_| FormatError::BadVocabulary)?;
        Ok(Self { blob, header, manifest, places, tokenizer })
    }

    /// Checks the hash of every section and that all padding is zero: no flipped bit is missed.
    ///
    /// # Errors
    ///
    /// The first byte range that is damaged.
    pub fn verify(&self) -> Result<(), FormatError> {
        (0..self.header.sections).try_for_each(|index| self.verify_section(index))
    }

    /// Checks the hash of one section, and that the padding before it, and behind the last, is zero: one piece of [`verify`](Self::verify),
    /// for whoever has several threads.
    ///
    /// # Errors
    ///
    /// The first byte range that is damaged.
    pub fn verify_section(&self, index: u16) -> Result<(), FormatError> {
        let begin = match index.checked_sub(1) {
            None => self.header.table_end() as u64,
            Some(before) => end_of(&self.section(before)?),
        };
        let section = self.section(index)?;
        check_zero(&self.blob, begin, section.offset_bytes)?;
        verify_section(&self.blob, &section)?;
        let is_last = index == self.header.sections.saturating_sub(1);
        if is_last { check_zero(&self.blob, end_of(&section), self.header.total_bytes) } else { Ok(()) }
    }

    /// Checks that these kernels read every weight of the model.
    ///
    /// # Errors
    ///
    /// The layout that they do not read.
    pub fn check_layout(&self, kernels: &Kernels) -> Result<(), FormatError> {
        match self.places.layouts.iter().find(|&&layout| !kernels.reads(layout)) {
            None => Ok(()),
            Some(&found) => Err(FormatError::UnsupportedLayout { found, native: kernels.weight_layout }),
        }
    }

    /// What the model is.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Its geometry.
    pub fn config(&self) -> &BertConfig {
        &self.manifest.config
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer<S> {
        &self.tokenizer
    }

    /// The whole blob.
    pub fn blob(&self) -> S {
        self.blob
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// An entry of the section table.
    ///
    /// # Errors
    ///
    /// If there is none with this number, or the device fails.
    pub fn section(&self, index: u16) -> Result<Section, FormatError> {
        if index < self.header.sections {
            entry(&self.blob, index)
        } else {
            Err(FormatError::BadSectionEntry { index })
        }
    }

    /// The first byte of a section that this model has.
    pub(crate) fn offset(&self, kind: SectionKind, layer: usize) -> u32 {
        self.places.offset(kind, layer)
    }

    /// Where the tiles of a linear layer lie.
    pub(crate) fn tiles(&self, kind: SectionKind, layer: usize) -> Tiles {
        contents::tiles(kind, self.config(), self.offset(kind, layer), self.places.layout(kind))
    }

    /// A linear layer.
    pub(crate) fn linear(&self, kind: SectionKind, layer: usize, shifts: LinearShifts) -> Linear<S> {
        Linear { blob: self.blob, tiles: self.tiles(kind, layer), shifts }
    }

    /// The scale of a layer norm.
    pub(crate) fn layer_norm(&self, kind: SectionKind, layer: usize) -> Result<LayerNorm, Unreadable> {
        let offset = self.offset(kind, layer);
        LayerNorm::parse(&self.blob.read(offset)?).ok_or(Unreadable { offset })
    }

    /// Constants outside the layers.
    pub(crate) fn constants(&self) -> Result<Constants, Unreadable> {
        let offset = self.offset(SectionKind::Constants, 0);
        Constants::parse(i32s(self.blob, offset)?).ok_or(Unreadable { offset })
    }

    /// Constants of one layer.
    pub(crate) fn layer_constants(&self, layer: usize) -> Result<LayerConstants, Unreadable> {
        let offset = self.offset(SectionKind::LayerConstants, layer);
        LayerConstants::parse(i32s(self.blob, offset)?).ok_or(Unreadable { offset })
    }

    /// Shows int16 or int32 values that lie in the blob.
    pub(crate) fn values<T: bytemuck::Pod, R>(
        &self,
        offset: u32,
        count: usize,
        show: impl FnOnce(&[T]) -> R,
    ) -> Result<R, Unreadable> {
        // All sections, and with them all values, are aligned.
        let cast = |bytes: &[u8]| bytemuck::try_cast_slice(bytes).ok().map(show);
        self.blob.view(offset, count * size_of::<T>(), cast)?.ok_or(Unreadable { offset })
    }
}

impl<'a> Model<&'a [u8]> {
    /// The section table, in file order.
    pub fn sections(&self) -> impl Iterator<Item = Section> + use<'a> {
        let blob = self.blob;
        (0..self.header.sections).filter_map(move |index| entry(&blob, index).ok())
    }

    /// What is to be signed: header and section table.
    pub fn signed_bytes(&self) -> &'a [u8] {
        self.blob.section(0, self.header.table_end() as u32)
    }

    /// Who signed the model; `None` where nobody did. Whether the signature is right is for who has a key to tell.
    ///
    /// # Errors
    ///
    /// If the section was damaged since the model was opened.
    pub fn signature(&self) -> Result<Option<Signature>, FormatError> {
        let (kind, layer) = (SectionKind::Signature, 0);
        Signature::parse(&self.blob.read(self.offset(kind, 0))?)
            .map_err(|_| FormatError::DamagedSection { kind, layer })
    }

    /// The bytes of a section.
    pub fn section_bytes(&self, section: &Section) -> &'a [u8] {
        self.blob.section(section.offset_bytes as u32, section.length_bytes as u32)
    }

    /// Where the model comes from.
    ///
    /// # Errors
    ///
    /// If that cannot be decoded.
    pub fn provenance(&self) -> Result<Provenance<'a>, FormatError> {
        let section = entry(&self.blob, 0)?;
        let parsed = postcard::take_from_bytes::<Manifest>(self.section_bytes(&section));
        let (_, provenance) = parsed.map_err(|_| FormatError::BadManifest)?;
        postcard::from_bytes(provenance).map_err(|_| FormatError::BadManifest)
    }
}

/// Little-endian numbers.
fn i32s<const N: usize>(blob: impl Storage, offset: u32) -> Result<[i32; N], Unreadable> {
    let mut words = [0; N];
    for (word, index) in words.iter_mut().zip(0..) {
        *word = blob.read_u32(offset, index)? as i32;
    }
    Ok(words)
}

fn entry_offset(index: u16) -> u32 {
    (HEADER_BYTES + usize::from(index) * ENTRY_BYTES) as u32
}

fn entry(blob: &impl Storage, index: u16) -> Result<Section, FormatError> {
    Section::parse(&blob.read(entry_offset(index))?).ok_or(FormatError::BadSectionEntry { index })
}

/// Entries are known, aligned, ascending, without overlap, inside the blob, and nothing but padding lies between.
fn check_bounds(blob: &impl Storage, header: &Header) -> Result<(), FormatError> {
    // A power of two.
    let align = |end: u64| (end + u64::from(header.alignment_bytes) - 1) & !(u64::from(header.alignment_bytes) - 1);
    let mut end = header.table_end() as u64;
    for index in 0..header.sections {
        let section = entry(blob, index)?;
        let Section { offset_bytes, length_bytes, .. } = section;
        let out_of_bounds = FormatError::SectionOutOfBounds { index, offset_bytes, length_bytes };
        if offset_bytes != align(end) {
            return Err(out_of_bounds);
        }
        end = offset_bytes.checked_add(length_bytes).filter(|&end| end <= header.total_bytes).ok_or(out_of_bounds)?;
    }
    if header.total_bytes != align(end) {
        return Err(FormatError::WrongLength { header_bytes: align(end), found_bytes: header.total_bytes });
    }
    Ok(())
}

/// The manifest, which is always the first section.
fn open_manifest(blob: &impl Storage, header: &Header) -> Result<Manifest, FormatError> {
    let missing = FormatError::MissingSection { kind: SectionKind::Manifest, layer: 0 };
    if header.sections == 0 {
        return Err(missing);
    }
    let section = entry(blob, 0)?;
    if section.kind != SectionKind::Manifest {
        return Err(missing);
    }
    if section.length_bytes > SMALL_SECTION_BYTES {
        return Err(FormatError::BadManifest);
    }
    verify_section(blob, &section)?;
    let (offset, bytes) = (section.offset_bytes as u32, section.length_bytes as usize);
    let given_bytes = blob.window_bytes();
    if bytes > given_bytes {
        return Err(FormatError::WindowTooSmall { needed_bytes: bytes, given_bytes });
    }
    let parse = |bytes: &[u8]| -> Option<Manifest> {
        let (manifest, rest) = postcard::take_from_bytes(bytes).ok()?;
        postcard::from_bytes::<Provenance<'_>>(rest).ok()?;
        Some(manifest)
    };
    let manifest = blob.view(offset, bytes, parse)?.ok_or(FormatError::BadManifest)?;
    manifest.config.check()?;
    if usize::from(manifest.quantization.group_size) != GROUP_SIZE
        || (manifest.heads.next_sentence && !manifest.heads.pooler)
    {
        return Err(FormatError::BadManifest);
    }
    Ok(manifest)
}

/// Compares the table with what a model of this manifest has; returns where everything lies, and the vocabulary.
fn open_sections(blob: &impl Storage, header: &Header, manifest: &Manifest) -> Result<(Places, Section), FormatError> {
    let mut places = Places {
        offsets: [0; SectionKind::CODES],
        layouts: [WeightLayout::RowMajor; SectionKind::CODES],
        layer_bytes: 0,
    };
    let mut vocabulary = None;
    let mut indices = 0..header.sections;
    for (kind, layer) in contents::sections(manifest) {
        let missing = FormatError::MissingSection { kind, layer };
        let section = entry(blob, indices.next().ok_or(missing)?)?;
        if (section.kind, section.layer) != (kind, layer) {
            return Err(missing);
        }
        check_section(blob, &section, manifest)?;
        let offset = section.offset_bytes as u32;
        let (Some(first), Some(layout)) =
            (places.offsets.get_mut(kind as usize), places.layouts.get_mut(kind as usize))
        else {
            return Err(missing);
        };
        match layer {
            0 => (*first, *layout) = (offset, section.layout),
            _ if section.layout != *layout => return Err(FormatError::BadParameter { kind, layer }),
            // Layers have the same sections of the same sizes, so all are as far apart as the first two.
            1 => places.layer_bytes = offset - *first,
            _ => {}
        }
        if kind == SectionKind::Vocabulary {
            vocabulary = Some(section);
        }
    }
    match (indices.next(), vocabulary) {
        (Some(index), _) => Err(FormatError::BadSectionEntry { index }),
        (None, None) => Err(FormatError::MissingSection { kind: SectionKind::Vocabulary, layer: 0 }),
        (None, Some(vocabulary)) => Ok((places, vocabulary)),
    }
}

/// The size of a section, its layout, and if it is small its hash and its values.
fn check_section(blob: &impl Storage, section: &Section, manifest: &Manifest) -> Result<(), FormatError> {
    let (kind, layer) = (section.kind, section.layer);
    if let Some((element, rows, columns)) = contents::shape(kind, &manifest.config) {
        let (found_bytes, expected_bytes) =
            (section.length_bytes, Section::expected_bytes(kind, element, rows, columns));
        if found_bytes != expected_bytes {
            return Err(FormatError::WrongSectionSize { kind, layer, found_bytes, expected_bytes });
        }
        let found = (section.element, section.rows as usize, section.columns as usize);
        if found != (element, rows, columns) || !contents::packable(kind, &manifest.config, section.layout) {
            return Err(FormatError::BadParameter { kind, layer });
        }
    } else if section.element != Element::Bytes || section.layout != WeightLayout::RowMajor {
        return Err(FormatError::BadParameter { kind, layer });
    }
    if section.length_bytes <= SMALL_SECTION_BYTES {
        verify_section(blob, section)?;
    }
    let offset = section.offset_bytes as u32;
    let in_range = match kind {
        SectionKind::EmbeddingsLayerNorm
        | SectionKind::AttentionLayerNorm
        | SectionKind::OutputLayerNorm
        | SectionKind::TransformLayerNorm => LayerNorm::parse(&blob.read(offset)?).is_some(),
        SectionKind::LayerConstants => LayerConstants::parse(i32s(*blob, offset)?).is_some(),
        SectionKind::Constants => Constants::parse(i32s(*blob, offset)?).is_some(),
        _ => true,
    };
    if in_range { Ok(()) } else { Err(FormatError::BadParameter { kind, layer }) }
}

/// Shows some bytes of a blob whose bounds have been checked, piece by piece.
fn pieces(
    blob: &impl Storage,
    from: u64,
    to: u64,
    mut show: impl FnMut(u64, &[u8]) -> Result<(), FormatError>,
) -> Result<(), FormatError> {
    let piece = blob.window_bytes().clamp(1, PIECE_BYTES) as u64;
    let mut at = from;
    while at < to {
        let bytes = piece.min(to - at);
        blob.view(at as u32, bytes as usize, |bytes| show(at, bytes))??;
        at += bytes;
    }
    Ok(())
}

fn check_zero(blob: &impl Storage, from: u64, to: u64) -> Result<(), FormatError> {
    pieces(blob, from, to, |at, bytes| match bytes.iter().position(|&byte| byte != 0) {
        None => Ok(()),
        Some(index) => Err(FormatError::NonZeroPadding { offset_bytes: at + index as u64 }),
    })
}

/// The first byte behind a section.
fn end_of(section: &Section) -> u64 {
    section.offset_bytes + section.length_bytes
}

fn verify_section(blob: &impl Storage, section: &Section) -> Result<(), FormatError> {
    let damaged = FormatError::DamagedSection { kind: section.kind, layer: section.layer };
    let hash: [u8; 32] = if section.kind == SectionKind::Signature {
        // It has its hash in itself: it is written when the table is signed already.
        Signature::parse(&blob.read(section.offset_bytes as u32)?).map_err(|_| damaged)?;
        [0; 32]
    } else {
        let mut hasher = Sha256::new();
        let end = section.offset_bytes + section.length_bytes;
        pieces(blob, section.offset_bytes, end, |_, bytes| {
            hasher.update(bytes);
            Ok(())
        })?;
        hasher.finalize().into()
    };
    if hash == section.sha256 { Ok(()) } else { Err(damaged) }
}
