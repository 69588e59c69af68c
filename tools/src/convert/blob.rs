//! Sections in, one flat blob out, through the same `emit` that the runtime's `parse` stands beside.

use mbert_runtime::format::header::{HEADER_BYTES, Header};
use mbert_runtime::format::layout::{TILE_CHANNELS, WeightLayout, repack};
use mbert_runtime::format::section::{ENTRY_BYTES, Element, Section, SectionKind};
use sha2::{Digest, Sha256};

/// Every section begins on a multiple of it, unless a device wants more.
pub const ALIGNMENT_BYTES: usize = 64;

/// Collects sections in file order.
pub struct BlobBuilder {
    sections: Vec<(Section, Vec<u8>)>,
    alignment_bytes: usize,
}

impl BlobBuilder {
    /// No sections yet. Each will begin on a multiple of `alignment_bytes`, a power of two of at least [`ALIGNMENT_BYTES`]: the block size
    /// of a device that is read in blocks.
    pub fn new(alignment_bytes: usize) -> Self {
        Self { sections: Vec::new(), alignment_bytes }
    }

    /// Adds structured bytes.
    pub fn bytes(&mut self, kind: SectionKind, layer: usize, bytes: Vec<u8>) {
        let rows = bytes.len();
        self.push(kind, layer, Element::Bytes, WeightLayout::RowMajor, (rows, 1), bytes);
    }

    /// Adds an int16 matrix.
    pub fn i16s(&mut self, kind: SectionKind, layer: usize, columns: usize, values: &[i16]) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.push(kind, layer, Element::I16, WeightLayout::RowMajor, (values.len() / columns, columns), bytes);
    }

    /// Adds an int32 matrix.
    pub fn i32s(&mut self, kind: SectionKind, layer: usize, columns: usize, values: &[i32]) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.push(kind, layer, Element::I32, WeightLayout::RowMajor, (values.len() / columns, columns), bytes);
    }

    /// Adds the weights of a linear layer, `[rows, K]` row-major, as tiles, in the given layout or row-major where that does not fit;
    /// `parameters` has some int32 for each row. A tile begins with every `part` rows.
    ///
    /// # Panics
    ///
    /// If there are not as many parameters as the kind has.
    pub fn tiles(
        &mut self,
        kind: SectionKind,
        layer: usize,
        part: usize,
        values: &[i8],
        parameters: &[i32],
        layout: WeightLayout,
    ) {
        let rows = parameters.len() / kind.parameters();
        let columns = values.len() / rows;
        let whole = part.is_multiple_of(TILE_CHANNELS) && kind != SectionKind::WordEmbeddings;
        let layout = if whole && layout.fits(TILE_CHANNELS, columns) { layout } else { WeightLayout::RowMajor };
        let mut bytes = Vec::with_capacity(values.len() + 4 * parameters.len());
        let parts = values.chunks(part * columns).zip(parameters.chunks(part * kind.parameters()));
        for (values, parameters) in parts {
            let tiles =
                values.chunks(TILE_CHANNELS * columns).zip(parameters.chunks(TILE_CHANNELS * kind.parameters()));
            for (values, parameters) in tiles {
                bytes.extend(parameters.iter().flat_map(|parameter| parameter.to_le_bytes()));
                let mut packed = vec![0; values.len()];
                repack(WeightLayout::RowMajor, values, layout, &mut packed, columns);
                bytes.extend(packed.into_iter().map(|value| value as u8));
            }
        }
        assert_eq!(bytes.len() as u64, Section::expected_bytes(kind, Element::Tiles, rows, columns));
        self.push(kind, layer, Element::Tiles, layout, (rows, columns), bytes);
    }

    fn push(
        &mut self,
        kind: SectionKind,
        layer: usize,
        element: Element,
        layout: WeightLayout,
        (rows, columns): (usize, usize),
        bytes: Vec<u8>,
    ) {
        let section = Section {
            kind,
            layer: layer as u16,
            element,
            layout,
            offset_bytes: 0,
            length_bytes: bytes.len() as u64,
            rows: rows as u32,
            columns: columns as u32,
            sha256: [0; 32],
        };
        self.sections.push((section, bytes));
    }

    /// Adds a section of another blob; offset and hash are set anew.
    pub fn section(&mut self, section: Section, bytes: Vec<u8>) {
        self.sections.push((section, bytes));
    }

    /// Replaces the bytes of a section.
    ///
    /// # Panics
    ///
    /// If there is no such section.
    pub fn replace(&mut self, kind: SectionKind, bytes: Vec<u8>) {
        let (section, old) =
            self.sections.iter_mut().find(|(section, _)| section.kind == kind).expect("the section was added before");
        section.length_bytes = bytes.len() as u64;
        section.rows = bytes.len() as u32;
        *old = bytes;
    }

    /// Replaces the values of an int32 section by as many others.
    ///
    /// # Panics
    ///
    /// If there is no such section, or it has another length.
    pub fn replace_i32s(&mut self, kind: SectionKind, layer: usize, values: &[i32]) {
        let mut sections = self.sections.iter_mut();
        let found = sections.find(|(section, _)| section.kind == kind && usize::from(section.layer) == layer);
        let (_, bytes) = found.expect("the section was added before");
        assert_eq!(bytes.len(), values.len() * 4);
        *bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    }

    /// The whole blob.
    pub fn finish(&self) -> Vec<u8> {
        let mut offset = HEADER_BYTES + self.sections.len() * ENTRY_BYTES;
        let mut table = Vec::with_capacity(self.sections.len() * ENTRY_BYTES);
        for (section, bytes) in &self.sections {
            offset = offset.next_multiple_of(self.alignment_bytes);
            let sha256 = if section.kind == SectionKind::Signature { [0; 32] } else { Sha256::digest(bytes).into() };
            table.extend(Section { offset_bytes: offset as u64, sha256, ..*section }.emit());
            offset += bytes.len();
        }
        let total = offset.next_multiple_of(self.alignment_bytes);
        let header = Header {
            sections: self.sections.len() as u16,
            total_bytes: total as u64,
            alignment_bytes: self.alignment_bytes as u32,
        };
        let mut blob = Vec::with_capacity(total);
        blob.extend(header.emit(&table));
        blob.extend(table);
        for (_, bytes) in &self.sections {
            blob.resize(blob.len().next_multiple_of(self.alignment_bytes), 0);
            blob.extend(bytes);
        }
        blob.resize(total, 0);
        blob
    }
}
