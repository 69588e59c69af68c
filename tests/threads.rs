//! One sequence on several threads: the same bits, and no thread waits for one that has failed.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};

use mbert::built_in::BuiltIn;
use mbert_runtime::encoder::Encoded;
use mbert_runtime::encoder::threads::{Sequence, Threads};
use mbert_runtime::error::ForwardError;
use mbert_runtime::kernels::{Kernels, available};
use mbert_runtime::model::Model;
use mbert_runtime::pipeline::{Pipeline, PipelineError, memory_bytes, memory_bytes_in_passes};
use mbert_runtime::storage::{Storage, Unreadable};
use mbert_runtime::trace::{Observer, Site};
use mbert_tests::models::built_in;

/// Everything that an observer is shown.
#[derive(Default, PartialEq)]
struct Rows(Vec<(Site, Vec<i16>)>);

impl Observer for Rows {
    fn row(&mut self, site: Site, row: &[i16]) {
        self.0.push((site, row.to_vec()));
    }
}

fn ids(model: &Model<&[u8]>, tokens: u32) -> Vec<u32> {
    (0..tokens).map(|i| (1000 + 7919 * i) % model.config().vocab_size).collect()
}

fn threads(count: usize) -> Threads {
    Threads::new(NonZeroUsize::new(count).unwrap())
}

#[test]
fn any_number_of_threads_shows_the_same_rows_in_the_same_order() {
    let layouts = available().map(|kernels| (kernels, BuiltIn::Tiny.blob(kernels.weight_layout).unwrap()));
    for (kernels, blob) in layouts {
        let model = Model::open(&blob[..]).unwrap();
        // One after another, so that memory is used anew for longer and for shorter sequences.
        let mut crews = [1, 2, 3, 4, 7].map(threads);
        for tokens in [1, 2, 5, 16, 33, 47] {
            let ids = ids(&model, tokens);
            let types = vec![0; ids.len()];
            for passes in [1, 2] {
                let bytes = memory_bytes_in_passes(model.config(), ids.len(), passes);
                let mut memory = vec![0xA5; bytes];
                let mut pipeline = Pipeline::new(&model, kernels, &mut memory).unwrap();
                pipeline.set_ids(&ids, &types).unwrap();
                let mut expected = Rows::default();
                let last = pipeline.forward(&mut expected).unwrap().last_hidden_state().to_vec();
                for crew in &mut crews {
                    let (count, mut found) = (crew.count(), Rows::default());
                    let encoded = pipeline.forward_on(crew, &mut found).unwrap();
                    let case = format!("{}, {tokens} tokens, {passes} passes, {count} threads", kernels.name);
                    assert!(encoded.last_hidden_state() == last, "{case}");
                    // In two passes one thread shows the rows of the first pass first, site after site.
                    let in_order = |rows: &Rows| {
                        rows.0
                            .iter()
                            .filter(|(site, _)| passes == 1 || matches!(site, Site::Hidden { .. }))
                            .cloned()
                            .collect::<Vec<_>>()
                    };
                    assert!(in_order(&found) == in_order(&expected), "{case}: rows differ");
                    pipeline.forward_on(crew, &mut ()).unwrap();
                }
            }
        }
    }
}

#[test]
fn sequences_of_a_batch_get_the_bits_that_they_get_alone() {
    let kernels = Kernels::native();
    let blob = BuiltIn::Tiny.blob(kernels.weight_layout).unwrap();
    let model = Model::open(&blob[..]).unwrap();
    let all = [16, 1, 33, 16, 2, 9, 16].map(|tokens| ids(&model, tokens));
    let types = [0; 33];
    let sequences: Vec<_> =
        all.iter().map(|ids| Sequence { input_ids: ids, token_type_ids: &types[..ids.len()] }).collect();
    let mut memory = vec![0; memory_bytes(model.config(), 33)];
    let mut pipeline = Pipeline::new(&model, kernels, &mut memory).unwrap();
    let expected: Vec<_> = sequences
        .iter()
        .enumerate()
        .map(|(number, sequence)| {
            pipeline.set_ids(sequence.input_ids, sequence.token_type_ids).unwrap();
            (number, pipeline.forward(&mut ()).unwrap().last_hidden_state().to_vec())
        })
        .collect();
    for count in [1, 2, 3, 10] {
        let state = |number, encoded: Encoded<'_, &[u8]>| (number, encoded.last_hidden_state().to_vec());
        let found = threads(count).batch(&model, kernels, &sequences, state).unwrap();
        assert!(found == expected, "{count} threads");
        assert!(threads(count).batch(&model, kernels, &[], state).unwrap().is_empty());
    }
    let empty = Sequence { input_ids: &[], token_type_ids: &[] };
    let refused = threads(2).batch(&model, kernels, &[sequences[0], empty], |_, _| ()).unwrap_err();
    assert_eq!(refused, ForwardError::EmptySequence);
}

/// A memory that fails from some view on.
#[derive(Clone, Copy, Debug)]
struct Failing<'a> {
    bytes: &'a [u8],
    views_left: &'a AtomicUsize,
}

impl Storage for Failing<'_> {
    fn bytes(&self) -> u64 {
        self.bytes.bytes()
    }
    fn section(&self, offset: u32, bytes: u32) -> Self {
        Self { bytes: self.bytes.section(offset, bytes), ..*self }
    }
    fn read<const N: usize>(&self, offset: u32) -> Result<[u8; N], Unreadable> {
        self.bytes.read(offset)
    }
    fn window_bytes(&self) -> usize {
        self.bytes.window_bytes()
    }
    fn view<R>(&self, offset: u32, bytes: usize, show: impl FnOnce(&[u8]) -> R) -> Result<R, Unreadable> {
        let take_one = |left: usize| left.checked_sub(1);
        match self.views_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take_one) {
            Ok(_) => self.bytes.view(offset, bytes, show),
            // Every byte of the blob has another offset than the one that a thread without an error of its own would tell.
            Err(_) => Err(Unreadable { offset: offset.max(1) }),
        }
    }
}

#[test]
fn a_device_that_fails_one_thread_fails_the_sequence_and_the_next_one_works() {
    let views_left = AtomicUsize::new(usize::MAX);
    let blob = built_in(BuiltIn::Tiny);
    let model = Model::open(Failing { bytes: blob, views_left: &views_left }).unwrap();
    let mut memory = vec![0; memory_bytes(model.config(), 12)];
    let mut pipeline = Pipeline::new(&model, Kernels::named("scalar").unwrap(), &mut memory).unwrap();
    pipeline.set_ids(&[7; 12], &[0; 12]).unwrap();
    let expected = pipeline.forward(&mut ()).unwrap().last_hidden_state().to_vec();
    let mut crew = threads(3);
    for views in (0..400).step_by(23) {
        views_left.store(views, Ordering::Relaxed);
        let error = pipeline.forward_on(&mut crew, &mut ()).unwrap_err();
        let PipelineError::Forward(ForwardError::Unreadable { offset_bytes }) = error else {
            panic!("{error:?} after {views} views");
        };
        assert!(offset_bytes > 0, "the error is that of the thread that failed");
    }
    views_left.store(usize::MAX, Ordering::Relaxed);
    assert!(pipeline.forward_on(&mut crew, &mut ()).unwrap().last_hidden_state() == expected);
}
