//! Converted models, and what they answer.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use indicatif::ProgressBar;
use mbert::built_in::BuiltIn;
use mbert::convert::checkpoint::Checkpoint;
use mbert::convert::{Calibration, Converted, Options};
use mbert_runtime::format::header::Header;
use mbert_runtime::format::layout::WeightLayout;
use mbert_runtime::format::section::{Section, SectionKind};
use mbert_runtime::kernels::Kernels;
use mbert_runtime::model::Model;
use mbert_runtime::pipeline::{Pipeline, memory_bytes};
use mbert_runtime::trace::TraceHash;
use sha2::{Digest, Sha256};

/// Converts a checkpoint.
///
/// # Panics
///
/// If it is refused.
pub fn convert(dir: &Path, calibration: Calibration, layout: WeightLayout) -> Converted {
    let options = Options { calibration, layout, ..Default::default() };
    mbert::convert::convert(&open_checkpoint(dir), &options, &ProgressBar::hidden())
        .expect("the checkpoint can be converted")
}

/// A built-in model with row-major weights, converted once for all tests of a program.
///
/// # Panics
///
/// If it cannot be converted.
pub fn built_in(model: BuiltIn) -> &'static [u8] {
    static BLOBS: [OnceLock<Vec<u8>>; BuiltIn::ALL.len()] = [const { OnceLock::new() }; BuiltIn::ALL.len()];
    BLOBS[model as usize].get_or_init(|| model.blob(WeightLayout::RowMajor).expect("a built-in model can be converted"))
}

/// The directory that a built-in model was built from, which also holds its golden outputs.
pub fn built_in_directory(model: BuiltIn) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/models").join(model.name())
}

/// Opens a checkpoint.
///
/// # Panics
///
/// If it is refused.
pub fn open_checkpoint(dir: &Path) -> Checkpoint {
    Checkpoint::open(dir).expect("the checkpoint can be read")
}

/// SHA-256 as lower-case digits.
pub fn sha256(bytes: &[u8]) -> String {
    mbert::inspect::hex(&Sha256::digest(bytes))
}

/// Runs a sequence and every head of the model, with logits at each mask token or, without one, at the last position.
///
/// # Panics
///
/// If the sequence is refused.
pub fn answer(pipeline: &mut Pipeline<'_, '_, &[u8]>, model: &Model<&[u8]>, ids: &[u32], types: &[u8]) -> String {
    let manifest = model.manifest();
    let mut trace = TraceHash::default();
    pipeline.set_ids(ids, types).expect("there is room for the sequence");
    let mut encoded = pipeline.forward(&mut trace).expect("the sequence can be run");
    if manifest.heads.masked_lm {
        let is_mask = |&position: &usize| ids[position] == manifest.tokenizer.mask_token_id;
        let mut positions: Vec<usize> = (0..ids.len()).filter(is_mask).collect();
        if positions.is_empty() {
            positions.push(ids.len() - 1);
        }
        encoded.masked_lm(&positions, &mut trace, |_, _, _| {}).expect("the model has this head");
    }
    if manifest.heads.next_sentence {
        encoded.next_sentence(&mut trace).expect("the model has this head");
    }
    mbert::inspect::hex(&trace.finish())
}

/// The trace hash of one sequence, alone in memory of its own. All token types are 0.
///
/// # Panics
///
/// If the model is packed for other kernels, or the sequence is refused.
pub fn trace(model: &Model<&[u8]>, kernels: &'static Kernels, ids: &[u32]) -> String {
    let mut memory = vec![0; memory_bytes(&model.manifest().config, ids.len())];
    let mut pipeline = Pipeline::new(model, kernels, &mut memory).expect("these kernels read the weights");
    answer(&mut pipeline, model, ids, &vec![0; ids.len()])
}

/// A blob taken apart, to be put together wrongly.
pub struct RawBlob {
    /// Entries of the section table with their bytes. Offset, length and hash are set when it is put together.
    pub sections: Vec<(Section, Vec<u8>)>,
}

impl RawBlob {
    /// Takes a blob apart.
    ///
    /// # Panics
    ///
    /// If it cannot be opened.
    pub fn new(blob: &[u8]) -> Self {
        let model = Model::open(blob).expect("the blob is whole");
        let parts = model.sections().map(|section| (section, model.section_bytes(&section).to_vec()));
        Self { sections: parts.collect() }
    }

    /// A section and its bytes.
    ///
    /// # Panics
    ///
    /// If it is not there.
    pub fn section(&mut self, kind: SectionKind, layer: u16) -> &mut (Section, Vec<u8>) {
        let mut sections = self.sections.iter_mut();
        sections.find(|(section, _)| section.kind == kind && section.layer == layer).expect("the section is there")
    }

    /// Puts the parts together; every hash is right.
    pub fn finish(&self) -> Vec<u8> {
        let mut end = 64 + 64 * self.sections.len();
        let (mut table, mut body) = (Vec::new(), Vec::new());
        for (section, bytes) in &self.sections {
            let offset = end.next_multiple_of(64);
            body.resize(body.len() + offset - end, 0);
            body.extend(bytes);
            end = offset + bytes.len();
            let is_signature = section.kind == SectionKind::Signature;
            let sha256 = if is_signature { [0; 32] } else { Sha256::digest(bytes).into() };
            let (offset_bytes, length_bytes) = (offset as u64, bytes.len() as u64);
            table.extend(Section { offset_bytes, length_bytes, sha256, ..*section }.emit());
        }
        body.resize(body.len() + end.next_multiple_of(64) - end, 0);
        with_header(self.sections.len() as u16, &table, &body)
    }
}

/// A header that is right for this table, the table, and what follows it.
pub fn with_header(sections: u16, table: &[u8], body: &[u8]) -> Vec<u8> {
    let total_bytes = (64 + table.len() + body.len()) as u64;
    let header = Header { sections, total_bytes, alignment_bytes: 64 };
    [&header.emit(table)[..], table, body].concat()
}
