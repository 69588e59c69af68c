//! Thousands of damaged models in one run: on this CPU too each is refused with its error, and none stops it.

use core::fmt::Write;

use defmt::debug;
use mbert_runtime::error::FormatError;
use mbert_runtime::format::header::HEADER_BYTES;
use mbert_runtime::format::layout::WeightLayout;
use mbert_runtime::format::section::{ENTRY_BYTES, Element, Section, SectionKind};
use mbert_runtime::kernels::Kernels;
use mbert_runtime::model::Model;
use mbert_runtime::pipeline::Pipeline;
use sha2::{Digest, Sha256};

use crate::board::blob_in;
use crate::error::Failure;
use crate::questions::answer;
use crate::semihosting::Console;

/// Where the header says how many sections there are, and where its hash lies.
const SECTIONS: usize = 6;
const HEADER_HASH: usize = 32;
/// Where an entry's hash lies.
const ENTRY_HASH: usize = 32;
/// Wrong numbers with right hashes that are tried.
const FORGERIES: u32 = 200;

/// Damages a copy of the model in every way, and returns the copy, whole again, with the memory that is left.
///
/// # Errors
///
/// Memory that the copy does not fit into, a model that is damaged already, or damage that was not refused.
pub fn sweep(region: &[u8], memory: &'static mut [u8]) -> Result<(&'static [u8], &'static mut [u8]), Failure> {
    let original = blob_in(region);
    verified(original)?;
    let given_bytes = memory.len();
    // The alignment of the sections.
    let skip = memory.as_ptr().align_offset(64);
    let too_small = Failure::NoRoomForCopy { needed_bytes: skip + original.len(), given_bytes };
    let (_, memory) = memory.split_at_mut_checked(skip).ok_or(too_small)?;
    let (copy, memory) = memory.split_at_mut_checked(original.len()).ok_or(too_small)?;
    copy.copy_from_slice(original);
    let sections = sections_in(original);
    let mut sweep = Sweep { original, copy, memory, sections, refused: 0, answered: 0, out: Console::out() };
    sweep.header_and_table()?;
    sweep.truncations()?;
    sweep.sections()?;
    sweep.wrong_tables()?;
    sweep.forged_tables()?;
    sweep.forged_numbers()?;
    let Sweep { copy, memory, .. } = sweep;
    Ok((copy, memory))
}

/// Where an entry of the section table begins.
fn entry(index: usize) -> usize {
    HEADER_BYTES + index * ENTRY_BYTES
}

/// What the header says.
fn sections_in(blob: &[u8]) -> usize {
    usize::from(u16::from_le_bytes([blob[SECTIONS], blob[SECTIONS + 1]]))
}

fn opened(blob: &[u8]) -> Result<Model<&[u8]>, FormatError> {
    let model = Model::open(blob)?;
    model.check_layout(Kernels::native())?;
    Ok(model)
}

fn verified(blob: &[u8]) -> Result<Model<&[u8]>, FormatError> {
    let model = opened(blob)?;
    model.verify()?;
    Ok(model)
}

struct Sweep<'o> {
    original: &'o [u8],
    copy: &'static mut [u8],
    memory: &'static mut [u8],
    sections: usize,
    refused: usize,
    answered: usize,
    out: Console,
}

impl Sweep<'_> {
    fn table_end(&self) -> usize {
        entry(self.sections)
    }

    fn section(&self, index: usize) -> Result<Section, Failure> {
        let bytes = self.original[entry(index)..].first_chunk();
        bytes.and_then(Section::parse).ok_or(Failure::Check { what: "section entry", at: index })
    }

    /// Makes the copy whole again, from the header to the end of a section that was changed.
    fn restore(&mut self, end: usize) {
        self.copy[..end].copy_from_slice(&self.original[..end]);
    }

    /// Gives the header the hash that fits it and the table, as many sections as it may have.
    fn hash_header(&mut self) {
        let table = self.copy.get(HEADER_BYTES..entry(sections_in(self.copy))).unwrap_or_default();
        let hash = Sha256::new().chain_update(&self.copy[..HEADER_HASH]).chain_update(table).finalize();
        self.copy[HEADER_HASH..HEADER_BYTES].copy_from_slice(&hash);
    }

    /// The first bytes of the copy must be refused as `expected` says.
    fn refuses(
        &mut self,
        what: &'static str,
        at: usize,
        bytes: usize,
        expected: impl FnOnce(FormatError) -> bool,
    ) -> Result<(), Failure> {
        debug!("{=str} {=usize}", what, at);
        match verified(&self.copy[..bytes]) {
            Err(error) if expected(error) => self.refused += 1,
            _ => return Err(Failure::Check { what, at }),
        }
        Ok(())
    }

    /// What cannot be told from a model may be answered, and the answer be nonsense, but it must come to an end.
    fn refuses_or_answers(
        &mut self,
        what: &'static str,
        at: usize,
        open: impl FnOnce(&[u8]) -> Result<Model<&[u8]>, FormatError>,
    ) {
        debug!("{=str} {=usize}", what, at);
        let answered = open(self.copy).map_err(Failure::from).and_then(|model| {
            let mut pipeline = Pipeline::new(&model, Kernels::native(), self.memory)?;
            answer(&mut pipeline)
        });
        if answered.is_ok() { self.answered += 1 } else { self.refused += 1 }
    }

    fn report(&mut self, what: &str) -> Result<(), Failure> {
        write!(self.out, "{what}: {} refused", core::mem::take(&mut self.refused))?;
        match core::mem::take(&mut self.answered) {
            0 => writeln!(self.out)?,
            answered => writeln!(self.out, ", {answered} answered")?,
        }
        Ok(())
    }

    fn header_and_table(&mut self) -> Result<(), Failure> {
        for at in 0..self.table_end() {
            self.copy[at] ^= 1 << (at % 8);
            self.refuses("header or table flipped at", at, self.copy.len(), |error| match at {
                0..4 => matches!(error, FormatError::BadMagic { .. }),
                4..6 => matches!(error, FormatError::UnsupportedVersion { .. }),
                8..16 => matches!(error, FormatError::WrongLength { .. }),
                // More sections can also be more than there are bytes.
                6..8 => matches!(error, FormatError::DamagedHeader | FormatError::TooShort { .. }),
                _ => error == FormatError::DamagedHeader,
            })?;
            self.copy[at] = self.original[at];
        }
        self.report("each byte of header and section table flipped")
    }

    fn truncations(&mut self) -> Result<(), Failure> {
        for bytes in [0, 1, HEADER_BYTES - 1] {
            self.refuses("cut at", bytes, bytes, |error| matches!(error, FormatError::TooShort { .. }))?;
        }
        for index in 0..self.sections {
            let Section { offset_bytes, length_bytes, .. } = self.section(index)?;
            for bytes in [entry(index) as u64, offset_bytes, offset_bytes + length_bytes / 2] {
                self.refuses("cut at", bytes as usize, bytes as usize, |error| {
                    matches!(error, FormatError::WrongLength { .. })
                })?;
            }
        }
        self.report("cut short")
    }

    /// The first, the last and a middle byte of each section, and the padding behind it.
    fn sections(&mut self) -> Result<(), Failure> {
        for index in 0..self.sections {
            let Section { kind, layer, offset_bytes, length_bytes, .. } = self.section(index)?;
            let (begin, end) = (offset_bytes as usize, (offset_bytes + length_bytes) as usize);
            let padding = end.next_multiple_of(64) - 1;
            for at in [begin, begin + (end - begin) / 3, end - 1, padding] {
                self.copy[at] ^= 0x80 >> (at % 8);
                self.refuses("section flipped at", at, self.copy.len(), |error| {
                    if at >= end {
                        error == FormatError::NonZeroPadding { offset_bytes: at as u64 }
                    } else {
                        // The vocabulary is looked at before it is hashed.
                        error == FormatError::DamagedSection { kind, layer }
                            || (kind == SectionKind::Vocabulary && error == FormatError::BadVocabulary)
                    }
                })?;
                self.copy[at] = self.original[at];
            }
        }
        self.report("bytes of every section flipped")
    }

    /// Tables that are wrong although their hash is right.
    fn wrong_tables(&mut self) -> Result<(), Failure> {
        let bytes = self.copy.len();
        for index in 1..self.sections {
            let (first, second) = self.copy[entry(index - 1)..entry(index + 1)].split_at_mut(ENTRY_BYTES);
            first.swap_with_slice(second);
            self.hash_header();
            self.refuses("sections swapped before", index, bytes, |_| true)?;
            self.restore(self.table_end());
        }
        self.report("neighbouring sections swapped, hash right")?;

        let mut for_another_cpu = 0;
        for layout in WeightLayout::ALL.into_iter().filter(|&layout| !Kernels::native().reads(layout)) {
            for index in 0..self.sections {
                let section = self.section(index)?;
                if section.element != Element::Tiles {
                    continue;
                }
                let packed = Section { layout, ..section }.emit();
                self.copy[entry(index)..entry(index + 1)].copy_from_slice(&packed);
                self.hash_header();
                self.refuses("layout of section", index, bytes, |error| {
                    for_another_cpu += usize::from(matches!(error, FormatError::UnsupportedLayout { .. }));
                    matches!(error, FormatError::UnsupportedLayout { .. } | FormatError::BadParameter { .. })
                })?;
                self.restore(self.table_end());
            }
        }
        if for_another_cpu == 0 {
            return Err(Failure::Check { what: "weights packed for another CPU, refused as such", at: 0 });
        }
        self.report("weights packed for another CPU, hash right")?;

        for index in 0..self.sections {
            let section = self.section(index)?;
            if section.kind == SectionKind::Signature {
                continue;
            }
            self.copy[entry(index) + ENTRY_HASH + index % 32] ^= 1;
            self.hash_header();
            let damaged = FormatError::DamagedSection { kind: section.kind, layer: section.layer };
            self.refuses("hash of section", index, bytes, |error| error == damaged)?;
            self.restore(self.table_end());
        }
        self.report("hash of a section wrong, hash of the header right")
    }

    /// Each number of header and table changed, with a hash that fits. A few mean nothing: the shape of what has none.
    fn forged_tables(&mut self) -> Result<(), Failure> {
        let numbers = |&at: &usize| at < HEADER_HASH || (at >= HEADER_BYTES && at % ENTRY_BYTES < ENTRY_HASH);
        for at in (0..self.table_end()).filter(numbers) {
            self.copy[at] ^= 0x80 >> (at % 8);
            self.hash_header();
            self.refuses_or_answers("table forged at", at, verified);
            self.restore(self.table_end());
        }
        self.report("each number of header and section table forged")
    }

    /// Random numbers in the sections, with hashes that fit: these need not be computed again.
    fn forged_numbers(&mut self) -> Result<(), Failure> {
        let mut state = 1u32;
        let mut below = |bound: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as usize % bound
        };
        for number in 0..FORGERIES {
            let index = below(self.sections);
            let section = self.section(index)?;
            let (begin, end) = (section.offset_bytes as usize, (section.offset_bytes + section.length_bytes) as usize);
            for _ in 0..=below(8) {
                self.copy[begin + below(end - begin)] = [0, 1, 0x7F, 0x80, 0xFF][below(5)];
            }
            let hash = Sha256::digest(&self.copy[begin..end]);
            if section.kind != SectionKind::Signature {
                let at = entry(index) + ENTRY_HASH;
                self.copy[at..at + hash.len()].copy_from_slice(&hash);
            }
            self.hash_header();
            self.refuses_or_answers("numbers forged, the", number as usize, opened);
            self.restore(end);
        }
        self.report("numbers of sections forged")
    }
}
