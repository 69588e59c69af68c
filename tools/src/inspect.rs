//! `mbert inspect`: what a model file holds.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use mbert_device::signature;
use mbert_runtime::format::contents;
use mbert_runtime::format::layout::WeightLayout;
use mbert_runtime::format::section::{Element, Section, SectionKind};
use mbert_runtime::format::self_test;
use mbert_runtime::model::Model;
use mbert_runtime::pipeline::memory_bytes;
use serde_json::{Value, json};

use crate::cli::InspectArgs;
use crate::model_file::ModelFile;
use crate::sign::read_public_key;

/// Sequence lengths for which the RAM is told.
const TOKENS: [usize; 6] = [8, 16, 32, 64, 128, 512];

/// Runs the command.
///
/// # Errors
///
/// If the file is not a model, damaged, or not signed as it must be.
pub fn run(args: &InspectArgs, out: &mut impl Write) -> Result<ExitCode> {
    let file = ModelFile::named(&args.model.clone().unwrap_or_default(), WeightLayout::RowMajor)?;
    let model = file.model()?;
    if let Some(path) = &args.public_key {
        signature::check(&model, &read_public_key(path)?).with_context(|| format!("the key {}", path.display()))?;
    }
    let signed =
        Signed { public_key: model.signature()?.map(|found| found.public_key), is_verified: args.public_key.is_some() };
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&to_json(&model, &signed)?)?)?;
    } else {
        print(&model, &signed, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What is told of the signature.
struct Signed {
    public_key: Option<[u8; 32]>,
    is_verified: bool,
}

/// Bytes as MB (10⁶ bytes).
pub fn megabytes(bytes: u64) -> String {
    if bytes < 1_000_000 { format!("{:.3} MB", bytes as f64 / 1e6) } else { format!("{:.2} MB", bytes as f64 / 1e6) }
}

/// A number with a comma before every third digit.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes of the parts of a file, in file order.
pub fn section_groups(model: &Model<&[u8]>) -> Vec<(&'static str, u64)> {
    use SectionKind::*;
    let mut groups: Vec<(&'static str, u64)> = Vec::new();
    let mut sum = 0;
    for section in model.sections() {
        let name = match section.kind {
            Manifest | SelfTest | Signature | Constants => "manifest and self-test",
            Vocabulary => "vocabulary",
            WordEmbeddings => "word embeddings",
            PositionEmbeddings | TokenTypeEmbeddings | EmbeddingsLayerNorm => "other embeddings",
            PoolerInput | Pooler | SeqRelationship => "pooler, next sentence",
            TransformInput | Transform | TransformLayerNorm => "masked LM",
            Qkv | AttentionOutput | Intermediate | Output => "encoder weights",
            _ => "encoder parameters",
        };
        sum += section.length_bytes;
        match groups.iter_mut().find(|(found, _)| *found == name) {
            Some((_, bytes)) => *bytes += section.length_bytes,
            None => groups.push((name, section.length_bytes)),
        }
    }
    groups.push(("header, table, padding", model.header().total_bytes - sum));
    groups
}

/// Workspace bytes for sequence lengths that the model can read.
fn memory(model: &Model<&[u8]>) -> Vec<(usize, usize)> {
    let config = &model.manifest().config;
    let max = usize::from(config.max_position_embeddings);
    let mut tokens: Vec<usize> = TOKENS.into_iter().filter(|&tokens| tokens < max).collect();
    tokens.push(max);
    tokens.into_iter().map(|tokens| (tokens, memory_bytes(config, tokens))).collect()
}

fn element_name(element: Element) -> &'static str {
    match element {
        Element::Bytes => "bytes",
        Element::Tiles => "int8 tiles",
        Element::I16 => "int16",
        Element::I32 => "int32",
    }
}

/// Smallest and largest multiplier of the tiles of a section: how far the scales of a tensor's channels lie apart.
fn multipliers(model: &Model<&[u8]>, section: &Section) -> Option<(i32, i32)> {
    if section.element != Element::Tiles {
        return None;
    }
    let (bytes, tiles) =
        (model.section_bytes(section), contents::tiles(section.kind, model.config(), 0, section.layout));
    let mut range = None;
    for part in 0..section.rows as usize / tiles.channels {
        for tile in (0..tiles.count()).map(|index| tiles.tile(part, index)) {
            for channel in bytes[tile.offset as usize..tile.weights as usize].chunks_exact(4 * tiles.parameters) {
                let value = i32::from_le_bytes([channel[4], channel[5], channel[6], channel[7]]);
                let (low, high) = range.unwrap_or((value, value));
                range = Some((low.min(value), high.max(value)));
            }
        }
    }
    range
}

fn print(model: &Model<&[u8]>, signed: &Signed, out: &mut impl Write) -> Result<()> {
    let manifest = model.manifest();
    let (config, tokenizer, provenance) = (&manifest.config, &manifest.tokenizer, model.provenance()?);
    writeln!(
        out,
        "model      {} ({}, licence {})",
        provenance.model_name, provenance.architecture, provenance.licence
    )?;
    writeln!(
        out,
        "config     {} layers, hidden {}, {} heads, intermediate {}, {} positions, {} types, vocabulary {}, {}",
        config.num_hidden_layers,
        config.hidden_size,
        config.num_attention_heads,
        config.intermediate_size,
        config.max_position_embeddings,
        config.type_vocab_size,
        config.vocab_size,
        config.hidden_act.name()
    )?;
    writeln!(
        out,
        "tokenizer  do_lower_case {}, strip_accents {}, tokenize_chinese_chars {}; [PAD] {}, [UNK] {}, [CLS] {}, [SEP] {}, [MASK] {}",
        tokenizer.do_lower_case,
        tokenizer.strip_accents.map_or("as do_lower_case".to_owned(), |strip| strip.to_string()),
        tokenizer.tokenize_chinese_chars,
        tokenizer.pad_token_id,
        tokenizer.unk_token_id,
        tokenizer.cls_token_id,
        tokenizer.sep_token_id,
        tokenizer.mask_token_id
    )?;
    writeln!(out, "heads      {}", heads(model).join(", "))?;
    let quantization = &manifest.quantization;
    writeln!(
        out,
        "quantised  int8, {}, {} channels a group into output.dense",
        if quantization.smoothed {
            format!("smoothed on {} tokens", quantization.calibration_tokens)
        } else {
            "not smoothed".to_owned()
        },
        quantization.group_size
    )?;
    writeln!(out, "checkpoint sha256 {}", hex(&provenance.checkpoint_sha256))?;
    writeln!(out, "calibrated sha256 {}", hex(&provenance.calibration_sha256))?;
    writeln!(out, "converter  {}, rollback counter {}", provenance.converter_version, provenance.rollback_counter)?;
    match &signed.public_key {
        None => writeln!(out, "signed     no")?,
        Some(key) if signed.is_verified => writeln!(out, "signed     by {}, verified", hex(key))?,
        Some(key) => writeln!(out, "signed     by {} as it says; --public-key verifies that", hex(key))?,
    }
    writeln!(
        out,
        "\n{:<28} {:>5} {:<6} {:>16} {:>12} {:<10} multipliers",
        "section", "layer", "type", "shape", "bytes", "layout"
    )?;
    for section in model.sections() {
        let range = multipliers(model, &section).map_or(String::new(), |(low, high)| format!("{low} to {high}"));
        writeln!(
            out,
            "{:<28} {:>5} {:<6} {:>16} {:>12} {:<10} {range}",
            format!("{:?}", section.kind),
            section.layer,
            element_name(section.element),
            format!("{} × {}", section.rows, section.columns),
            section.length_bytes,
            if section.layout == WeightLayout::RowMajor { "" } else { section.layout.name() }
        )?;
    }
    writeln!(
        out,
        "\n{} in all, every SHA-256 verified; {} self-test cases",
        megabytes(model.header().total_bytes),
        cases(model)?
    )?;
    writeln!(out, "\ntokens   RAM in bytes (token ids and workspace)")?;
    for (tokens, bytes) in memory(model) {
        writeln!(out, "{tokens:>6}   {bytes:>10}")?;
    }
    Ok(())
}

fn heads(model: &Model<&[u8]>) -> Vec<&'static str> {
    let heads = &model.manifest().heads;
    let all = [("pooler", heads.pooler), ("masked LM", heads.masked_lm), ("next sentence", heads.next_sentence)];
    let names: Vec<_> = all.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect();
    if names.is_empty() { vec!["none (encoder only)"] } else { names }
}

fn cases(model: &Model<&[u8]>) -> Result<usize> {
    let section = model.sections().find(|section| section.kind == SectionKind::SelfTest);
    let section = section.context("the model has no self-test section")?;
    self_test::cases(model.section_bytes(&section))?.try_fold(0, |count, case| Ok(case.map(|_| count + 1)?))
}

fn to_json(model: &Model<&[u8]>, signed: &Signed) -> Result<Value> {
    let manifest = model.manifest();
    let sections: Vec<Value> = model
        .sections()
        .map(|section| {
            json!({
                "kind": format!("{:?}", section.kind),
                "layer": section.layer,
                "element": element_name(section.element),
                "layout": section.layout.name(),
                "rows": section.rows,
                "columns": section.columns,
                "offset_bytes": section.offset_bytes,
                "length_bytes": section.length_bytes,
                "sha256": hex(&section.sha256),
                "multipliers": multipliers(model, &section).map(|(low, high)| [low, high]),
            })
        })
        .collect();
    let memory: Vec<Value> =
        memory(model).into_iter().map(|(tokens, bytes)| json!({ "tokens": tokens, "ram_bytes": bytes })).collect();
    let provenance = model.provenance()?;
    Ok(json!({
        "config": manifest.config,
        "tokenizer": manifest.tokenizer,
        "heads": manifest.heads,
        "quantization": manifest.quantization,
        "provenance": {
            "model_name": provenance.model_name,
            "licence": provenance.licence,
            "architecture": provenance.architecture,
            "converter_version": provenance.converter_version,
            "checkpoint_sha256": hex(&provenance.checkpoint_sha256),
            "calibration_sha256": hex(&provenance.calibration_sha256),
            "rollback_counter": provenance.rollback_counter,
        },
        "signature": signed.public_key.map(|key| json!({ "public_key": hex(&key), "verified": signed.is_verified })),
        "total_bytes": model.header().total_bytes,
        "verified": true,
        "self_test_cases": cases(model)?,
        "sections": sections,
        "memory": memory,
    }))
}
