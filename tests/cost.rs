//! What an answer is said to read of its model is what it reads: on a storage that counts.

use std::cell::Cell;

use mbert::boards::Boards;
use mbert::convert::Calibration;
use mbert::plan::work::{Question, Sequence, Unit};
use mbert_runtime::cost::{forward_bytes, masked_lm_bytes, pooler_bytes};
use mbert_runtime::encoder::schedule::{Stage, steps};
use mbert_runtime::format::contents;
use mbert_runtime::format::layout::WeightLayout;
use mbert_runtime::kernels::scalar::SCALAR;
use mbert_runtime::model::Model;
use mbert_runtime::pipeline::{Pipeline, memory_bytes_in_passes};
use mbert_runtime::storage::{BlockCache, BlockSource, Blocks, Storage, Unreadable};
use mbert_tests::models::{built_in, convert};
use mbert_tests::tiny_checkpoint::TinyCheckpoint;

/// Memory that shows no more than `window_bytes` at a time, and counts what is asked of it.
#[derive(Clone, Copy)]
struct Counting<'a> {
    bytes: &'a [u8],
    window_bytes: usize,
    read: &'a Cell<u64>,
}

impl Storage for Counting<'_> {
    fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn section(&self, offset: u32, bytes: u32) -> Self {
        Self { bytes: self.bytes.section(offset, bytes), ..*self }
    }

    fn read<const N: usize>(&self, offset: u32) -> Result<[u8; N], Unreadable> {
        self.read.set(self.read.get() + N as u64);
        self.bytes.read(offset)
    }

    fn window_bytes(&self) -> usize {
        self.window_bytes
    }

    fn view<R>(&self, offset: u32, bytes: usize, show: impl FnOnce(&[u8]) -> R) -> Result<R, Unreadable> {
        assert!(bytes <= self.window_bytes, "{bytes} bytes in a window of {}", self.window_bytes);
        self.read.set(self.read.get() + bytes as u64);
        self.bytes.view(offset, bytes, show)
    }
}

/// A model with shapes that fill no tile, and a built-in one.
fn blobs() -> [Vec<u8>; 2] {
    let folder = tempfile::tempdir().unwrap();
    TinyCheckpoint::with_sizes(3, 40, 300, 2).write_to(folder.path());
    let odd = convert(folder.path(), Calibration::BuiltIn, WeightLayout::RowMajor).blob;
    [odd, built_in(mbert::built_in::BuiltIn::Tiny).to_vec()]
}

#[test]
fn every_step_and_every_head_reads_exactly_what_it_is_said_to() {
    for blob in blobs() {
        let read = Cell::new(0);
        let smallest = contents::window_bytes(Model::open(&blob[..]).unwrap().config()).max(1024);
        for (window_bytes, tokens, passes) in
            [(usize::MAX, 1, 1), (usize::MAX, 9, 1), (smallest, 9, 2), (smallest + 100, 13, 5), (usize::MAX, 7, 7)]
        {
            let storage = Counting { bytes: &blob, window_bytes, read: &read };
            let model = Model::open(storage).unwrap();
            let config = model.config();
            let mut memory = vec![0; memory_bytes_in_passes(config, tokens, passes)];
            let mut pipeline = Pipeline::new(&model, &SCALAR, &mut memory).unwrap();
            pipeline.set_ids(&vec![5; tokens], &vec![0; tokens]).unwrap();

            read.set(0);
            let mut forward = pipeline.start().unwrap();
            let passes = forward.passes();
            let mut expected = steps(config, tokens, passes, window_bytes);
            while let Some((layer, stage)) = forward.next_stage() {
                assert_eq!(expected.next(), Some((layer, stage)));
                let before = read.get();
                forward.step(&mut ()).unwrap();
                assert_eq!(read.get() - before, stage.bytes_read(config, window_bytes), "{stage:?}");
            }
            assert_eq!(expected.next(), None);
            let mut encoded = forward.finish(&mut ()).unwrap();
            assert_eq!(read.get(), forward_bytes(config, tokens, passes), "{tokens} tokens, {passes} passes");

            let positions: Vec<usize> = (0..tokens.min(3)).collect();
            for positions in [&positions[..1], &positions] {
                read.set(0);
                encoded.masked_lm(positions, &mut (), |_, _, _| {}).unwrap();
                assert_eq!(read.get(), masked_lm_bytes(config));
            }
            read.set(0);
            encoded.pooled().unwrap();
            assert_eq!(read.get(), pooler_bytes(config, false));
            read.set(0);
            encoded.next_sentence(&mut ()).unwrap();
            assert_eq!(read.get(), pooler_bytes(config, true));
        }
    }
}

#[test]
fn more_passes_read_the_feed_forward_weights_again() {
    let model = Model::open(built_in(mbert::built_in::BuiltIn::Tiny)).unwrap();
    let (h, f) = (u64::from(model.config().hidden_size), u64::from(model.config().intermediate_size));
    let layers = u64::from(model.config().num_hidden_layers);
    let bytes = |passes| forward_bytes(model.config(), 12, passes);
    assert!(bytes(2) - bytes(1) > 2 * layers * h * f);
    assert_eq!(bytes(3) - bytes(2), bytes(2) - bytes(1));
    // Twelve tokens in passes of three are four passes.
    assert_eq!(bytes(5), bytes(4));
    assert_eq!(steps(model.config(), 0, 1, usize::MAX).count(), 0);
    assert!(matches!(steps(model.config(), 12, 1, usize::MAX).last(), Some((_, Stage::OutputNorm { .. }))));
}

/// A device that is read in blocks.
struct Device<'a>(&'a [u8]);

impl BlockSource for Device<'_> {
    type Error = ();

    fn read(&mut self, offset: u32, buffer: &mut [u8]) -> Result<(), ()> {
        buffer.copy_from_slice(&self.0[offset as usize..][..buffer.len()]);
        Ok(())
    }
}

#[test]
fn a_device_of_blocks_gives_little_more_than_is_asked_for() {
    let blob = built_in(mbert::built_in::BuiltIn::Tiny);
    let cache = BlockCache::new(Device(blob), blob.len() as u32, Blocks::<8, 512>::new());
    let model = Model::open(cache.section(0, u32::MAX)).unwrap();
    let (config, tokens) = (model.config(), 16);
    let mut memory = vec![0; memory_bytes_in_passes(config, tokens, 1)];
    let mut pipeline = Pipeline::new(&model, &SCALAR, &mut memory).unwrap();
    pipeline.set_ids(&core::array::from_fn::<u32, 16, _>(|index| 100 * index as u32), &[0; 16]).unwrap();
    let before = cache.bytes_read();
    let mut encoded = pipeline.forward(&mut ()).unwrap();
    encoded.masked_lm(&[3], &mut (), |_, _, _| {}).unwrap();
    let asked = forward_bytes(config, tokens, 1) + masked_lm_bytes(config);
    let given = cache.bytes_read() - before;
    assert!((asked..asked + asked / 20).contains(&given), "{given} bytes from the device for {asked}");
}

#[test]
fn a_plan_has_the_steps_that_a_run_has_and_counts_the_bytes_that_are_read() {
    for blob in blobs() {
        let model = Model::open(&blob[..]).unwrap();
        let config = model.config();
        for (tokens, passes) in [(1, 1), (9, 1), (13, 4)] {
            let mut memory = vec![0; memory_bytes_in_passes(config, tokens, passes)];
            let mut pipeline = Pipeline::new(&model, &SCALAR, &mut memory).unwrap();
            pipeline.set_ids(&vec![5; tokens], &vec![0; tokens]).unwrap();
            let forward = pipeline.start().unwrap();
            let (of_forward, passes) = (forward.progress().total, forward.passes());
            let mut encoded = forward.finish(&mut ()).unwrap();
            let of_masked_lm = encoded.start_masked_lm(&[0]).unwrap().progress().total;
            let of_pooler = encoded.start_pooler(true).unwrap().progress().total;

            let sequence = Sequence { config, tokens, passes, window_bytes: usize::MAX };
            let read = forward_bytes(config, tokens, passes);
            for (question, of_head, read) in [
                (Question::FillMask { masks: 1 }, of_masked_lm, read + masked_lm_bytes(config)),
                (Question::NextSentence, of_pooler, read + pooler_bytes(config, true)),
                (Question::Features, 0, read),
            ] {
                let steps: Vec<_> = sequence.steps(question).collect();
                // The tokenizer is the first.
                assert_eq!(steps.len() as u32, 1 + of_forward + of_head, "{question:?}");
                assert_eq!(steps.iter().map(|step| step.bytes_read).sum::<u64>(), read, "{question:?}");
            }
        }
    }
}

#[test]
fn a_plan_counts_every_product() {
    let model = Model::open(built_in(mbert::built_in::BuiltIn::Tiny)).unwrap();
    let config = model.config();
    let (n, h, f) = (16, u64::from(config.hidden_size), u64::from(config.intermediate_size));
    let (layers, vocabulary) = (u64::from(config.num_hidden_layers), u64::from(config.vocab_size));
    for passes in [1, 3] {
        let sequence = Sequence { config, tokens: n as usize, passes, window_bytes: usize::MAX };
        let steps: Vec<_> = sequence.steps(Question::FillMask { masks: 2 }).collect();
        let count = |unit: Unit| -> u64 {
            let work = steps.iter().flat_map(|step| &step.work);
            work.filter(|(found, _)| *found == unit).map(|(_, count)| count).sum()
        };
        assert_eq!(count(Unit::LinearMac), layers * n * (4 * h * h + 2 * h * f) + 2 * h * h);
        assert_eq!(count(Unit::AttentionMac), layers * 2 * n * n * h);
        assert_eq!(count(Unit::SoftmaxElement), layers * n * n * u64::from(config.num_attention_heads));
        assert_eq!(count(Unit::ContextElement), layers * n * h);
        assert_eq!(count(Unit::ActivationElement), layers * n * f + 2 * h);
        assert_eq!(count(Unit::NormElement), (2 * layers + 1) * n * h + 2 * h);
        assert_eq!(count(Unit::EmbeddingElement), n * h);
        assert_eq!(count(Unit::DecoderMac), 2 * h * vocabulary);
        assert_eq!(count(Unit::Token), n);
    }
}

#[test]
fn every_board_has_a_core_whose_rates_are_all_known() {
    let boards = Boards::known().unwrap();
    for board in &boards.board {
        let (_, core) = boards.find(&board.name).unwrap();
        for unit in Unit::ALL {
            let rate = core.measured.rates.get(&unit).copied();
            assert!(rate.is_some_and(|rate| (0.0..10_000.0).contains(&rate)), "{}: {unit:?} {rate:?}", board.core);
        }
        let footprint = board.footprint(core);
        assert!(footprint.code_bytes > 0 && footprint.stack_bytes > 0);
        let (measured, _) = boards.find(&core.measured.on).unwrap();
        assert_eq!((&measured.core, &measured.target), (&board.core, &board.target));
    }
}
