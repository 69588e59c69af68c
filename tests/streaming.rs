//! A model that is read from a device, block by block: the same bits, every block once, errors in the middle.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::OnceLock;

use embedded_storage::nor_flash::{ErrorType, NorFlashErrorKind, ReadNorFlash};
use indicatif::ProgressBar;
use mbert::built_in::BuiltIn;
use mbert::convert::checkpoint::Checkpoint;
use mbert::convert::{Options, convert};
use mbert_runtime::encoder::schedule::Stage;
use mbert_runtime::error::{FormatError, ForwardError};
use mbert_runtime::format::section::SectionKind;
use mbert_runtime::kernels::Kernels;
use mbert_runtime::kernels::scalar::SCALAR;
use mbert_runtime::model::Model;
use mbert_runtime::pipeline::{MaskAnswer, Pipeline, PipelineError, memory_bytes, memory_bytes_in_passes};
use mbert_runtime::storage::{BlockCache, BlockSource, Blocks, NorFlashSource, SeekSource, Storage};
use mbert_runtime::trace::TraceHash;

const BLOCK: usize = 512;
const TEXT: &str = "Der Hund [MASK] im Garten, and the [MASK] is blue. Ô été!";

/// The blob of a built-in model, for a device of blocks of 512 bytes.
fn blob() -> &'static [u8] {
    static BLOB: OnceLock<Vec<u8>> = OnceLock::new();
    BLOB.get_or_init(|| converted(Options::default()))
}

/// The same with weights as the kernels of this CPU want them.
fn packed_blob() -> &'static [u8] {
    static BLOB: OnceLock<Vec<u8>> = OnceLock::new();
    BLOB.get_or_init(|| converted(Options { layout: Kernels::native().weight_layout, ..Options::default() }))
}

fn converted(options: Options) -> Vec<u8> {
    let options = Options { alignment_bytes: Some(BLOCK), ..options };
    let checkpoint = Checkpoint::open(BuiltIn::Tiny).expect("the model is built in");
    convert(&checkpoint, &options, &ProgressBar::hidden()).expect("a built-in model converts").blob
}

/// A device that keeps a record of what is read and what it is told will be; fails where it is told to, once.
struct Device<'a> {
    bytes: &'a [u8],
    reads: BTreeMap<u32, u32>,
    announced: Option<(u32, u32)>,
    hits: usize,
    fails_at: Option<u32>,
}

impl<'a> Device<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, reads: BTreeMap::new(), announced: None, hits: 0, fails_at: None }
    }
}

impl BlockSource for Device<'_> {
    type Error = u32;

    fn read(&mut self, offset: u32, buffer: &mut [u8]) -> Result<(), u32> {
        let range = offset as usize..offset as usize + buffer.len();
        if let Some(at) = self.fails_at.take_if(|at| range.contains(&(*at as usize))) {
            return Err(at);
        }
        for block in range.clone().step_by(BLOCK) {
            *self.reads.entry((block / BLOCK) as u32).or_default() += 1;
        }
        if let Some((start, bytes)) = self.announced {
            self.hits += usize::from((start..start + bytes).contains(&offset));
        }
        buffer.copy_from_slice(&self.bytes[range]);
        Ok(())
    }

    fn prefetch(&mut self, offset: u32, bytes: u32) {
        self.announced = Some((offset, bytes));
    }
}

/// Everything that a model on some storage says of the text.
fn answer<S: Storage>(model: &Model<S>, memory: &mut [u8]) -> Result<([u8; 32], Vec<u32>), PipelineError> {
    let mut pipeline = Pipeline::new(model, Kernels::native(), memory).unwrap();
    let ids = pipeline.encode(TEXT, None)?.to_vec();
    let mut positions = [0; 4];
    let masks = pipeline.mask_positions(&mut positions)?;
    let mut trace = TraceHash::default();
    let mut encoded = pipeline.forward(&mut trace)?;
    encoded.masked_lm(&positions[..masks], &mut trace, |_, _, _| {})?;
    encoded.next_sentence(&mut trace)?;
    Ok((trace.finish(), ids))
}

fn expected() -> &'static ([u8; 32], Vec<u32>) {
    static EXPECTED: OnceLock<([u8; 32], Vec<u32>)> = OnceLock::new();
    EXPECTED.get_or_init(|| {
        let model = Model::open(blob()).unwrap();
        answer(&model, &mut vec![0; memory_bytes(model.config(), 64)]).unwrap()
    })
}

/// A model through a cache of `BLOCKS` blocks.
fn with_cache<const BLOCKS: usize, R>(
    blob: &[u8],
    use_it: impl FnOnce(&BlockCache<Device<'_>, &mut Blocks<BLOCKS, BLOCK>, BLOCKS, BLOCK>) -> R,
) -> R {
    use_it(&BlockCache::new(Device::new(blob), blob.len() as u32, &mut Blocks::new()))
}

/// What a blob says through a cache of `BLOCKS` blocks is what it says in place.
fn check_window<const BLOCKS: usize>(blob: &[u8]) {
    with_cache::<BLOCKS, _>(blob, |cache| {
        let model = Model::open(cache.section(0, u32::MAX)).unwrap();
        model.verify().unwrap();
        let mut memory = vec![0xA5; memory_bytes(model.config(), 64)];
        assert_eq!(&answer(&model, &mut memory).unwrap(), expected(), "{BLOCKS} blocks");
    });
}

#[test]
fn answers_equal_those_in_place_whatever_the_window() {
    check_window::<3>(blob());
    check_window::<4>(blob());
    check_window::<7>(blob());
    check_window::<64>(blob());
}

/// Windows for one tile of the layer with the most inputs, 12 blocks; for two but for the parameters between them, 24 blocks; for more.
#[test]
fn packed_weights_too() {
    let packed = packed_blob();
    check_window::<14>(packed);
    check_window::<25>(packed);
    check_window::<26>(packed);
    check_window::<38>(packed);
    check_window::<64>(packed);
}

#[test]
fn a_window_too_small_is_refused_with_both_sizes() {
    with_cache::<1, _>(blob(), |cache| {
        let error = Model::open(cache.section(0, u32::MAX)).err().unwrap();
        assert!(matches!(error, FormatError::WindowTooSmall { given_bytes: 0, .. }), "{error}");
    });
}

#[test]
fn every_block_of_the_weights_is_read_once() {
    let model = Model::open(blob()).unwrap();
    let mut device = Device::new(blob());
    let cache = BlockCache::new(&mut device, blob().len() as u32, Blocks::<8, BLOCK>::new());
    let streamed = Model::open(cache.section(0, u32::MAX)).unwrap();
    let mut memory = vec![0; memory_bytes(model.config(), 64)];
    let mut pipeline = Pipeline::new(&streamed, Kernels::native(), &mut memory).unwrap();
    pipeline.encode(TEXT, None).unwrap();
    let tokens = pipeline.input_ids().len();
    // What was read to open the model and to tokenize does not count.
    let before = cache.bytes_read();
    let mut encoded = pipeline.forward(&mut ()).unwrap();
    let of_encoder = cache.bytes_read() - before;
    encoded.masked_lm(&[3], &mut (), |_, _, _| {}).unwrap();
    let device = cache.into_source();

    let layers: u64 =
        model.sections().filter(|section| is_layer(section.kind)).map(|section| section.length_bytes).sum();
    // A token reads a row of three tables, and the blocks around them.
    let row = 2 * u64::from(model.config().hidden_size);
    let embeddings = tokens as u64 * (3 * row + 6 * BLOCK as u64);
    let padding = 9 * 2 * BLOCK as u64;
    assert!((layers..layers + embeddings + padding).contains(&of_encoder), "{of_encoder} bytes for {layers}");

    for section in model.sections() {
        let read_anyway = !is_layer(section.kind) && !matches!(section.kind, SectionKind::Transform);
        if read_anyway {
            continue;
        }
        let blocks = section.offset_bytes as u32 / BLOCK as u32
            ..(section.offset_bytes + section.length_bytes).div_ceil(BLOCK as u64) as u32;
        for block in blocks {
            let times = device.reads.get(&block).copied().unwrap_or(0);
            // The start of a layer norm or of the constants was looked at when the model was opened.
            let small = section.length_bytes <= 4096;
            assert!(times == 1 || (small && times >= 1), "{:?}: block {block} {times} times", section.kind);
        }
    }
    let reads: usize = device.reads.values().map(|&times| times as usize).sum();
    assert!(device.hits * 10 >= reads, "{} of {reads} blocks had been announced", device.hits);
}

fn is_layer(kind: SectionKind) -> bool {
    (SectionKind::LayerConstants..=SectionKind::OutputLayerNorm).contains(&kind)
}

#[test]
fn more_passes_need_less_memory_and_give_the_same_bits() {
    let model = Model::open(blob()).unwrap();
    let tokens = expected().1.len();
    let one_pass = memory_bytes(model.config(), tokens);
    let mut seen = Vec::new();
    for passes in [1, 2, 3, tokens] {
        let mut memory = vec![0x5A; memory_bytes_in_passes(model.config(), tokens, passes)];
        assert!(passes == 1 || memory.len() < one_pass);
        let mut pipeline = Pipeline::new(&model, Kernels::native(), &mut memory).unwrap();
        pipeline.encode(TEXT, None).unwrap();
        seen.push(pipeline.start().unwrap().passes());
        assert_eq!(&answer(&model, &mut memory).unwrap(), expected(), "{passes} passes");
    }
    assert!(seen[0] == 1 && seen[1] == 2, "{seen:?}");
}

#[test]
fn steps_are_counted_and_a_pass_can_be_dropped_and_begun_anew() {
    let model = Model::open(blob()).unwrap();
    let mut memory = vec![0; memory_bytes(model.config(), 64)];
    let mut pipeline = Pipeline::new(&model, &SCALAR, &mut memory).unwrap();
    for stop in [0, 1, 30, 100, usize::MAX] {
        pipeline.encode(TEXT, None).unwrap();
        let mut forward = pipeline.start().unwrap();
        let total = forward.progress().total;
        let mut layers = 0;
        for done in 1..=total.min(stop as u32) {
            if let Some((layer, Stage::QkvInput)) = forward.next_stage() {
                assert_eq!(layer, layers);
                layers += 1;
            }
            let progress = forward.step(&mut ()).unwrap();
            assert_eq!((progress.done, progress.total), (done, total));
        }
        if stop == usize::MAX {
            assert_eq!(layers, usize::from(model.config().num_hidden_layers));
            assert!(forward.progress().is_finished() && forward.next_stage().is_none());
            // Another step changes nothing.
            assert!(forward.step(&mut ()).unwrap().is_finished());
            let mut encoded = forward.finish(&mut ()).unwrap();
            let mut head = encoded.start_masked_lm(&[2, 5]).unwrap();
            let total = head.progress().total;
            let mut logits = 0;
            for done in 1..=total {
                assert_eq!(head.step(&mut (), |_, _, _| logits += 1).unwrap().done, done);
            }
            assert!(head.progress().is_finished());
            assert_eq!(logits, 2 * model.config().vocab_size);
            let mut head = encoded.start_pooler(true).unwrap();
            while !head.step(&mut ()).unwrap().is_finished() {}
        }
    }
    assert_eq!(&answer(&model, &mut memory).unwrap(), expected());
}

#[test]
fn a_read_error_anywhere_is_typed_and_the_next_question_is_answered() {
    let mut device = Device::new(blob());
    let places: Vec<u32> = {
        let model = Model::open(blob()).unwrap();
        let of = |section: mbert_runtime::format::section::Section| {
            let (begin, end) = (section.offset_bytes as u32, (section.offset_bytes + section.length_bytes) as u32);
            [begin + (end - begin) / 2, end - 1]
        };
        let large = |section: &mbert_runtime::format::section::Section| section.length_bytes > 8192;
        model.sections().filter(large).flat_map(of).collect()
    };
    let mut refused = 0;
    for place in places {
        device.fails_at = None;
        let cell = RefCell::new(&mut device);
        struct Shared<'c, 'd, 'a>(&'c RefCell<&'d mut Device<'a>>);
        impl BlockSource for Shared<'_, '_, '_> {
            type Error = u32;
            fn read(&mut self, offset: u32, buffer: &mut [u8]) -> Result<(), u32> {
                self.0.borrow_mut().read(offset, buffer)
            }
        }
        let cache = BlockCache::new(Shared(&cell), blob().len() as u32, Blocks::<8, BLOCK>::new());
        let model = Model::open(cache.section(0, u32::MAX)).unwrap();
        let mut memory = vec![0; memory_bytes(model.config(), 64)];
        cell.borrow_mut().fails_at = Some(place);
        match answer(&model, &mut memory) {
            // A row of a table that this text does not need, or a part of the vocabulary.
            Ok(found) => assert_eq!(&found, expected()),
            Err(error) => {
                refused += 1;
                assert_eq!(cache.take_error(), Some(place));
                let PipelineError::Forward(ForwardError::Unreadable { offset_bytes }) = error else {
                    assert!(error.to_string().contains("cannot be read"), "{error:?}");
                    continue;
                };
                assert!(offset_bytes <= place && place < offset_bytes + 8 * BLOCK as u32, "{offset_bytes} for {place}");
            }
        }
        cell.borrow_mut().fails_at = None;
        assert_eq!(&answer(&model, &mut memory).unwrap(), expected());
    }
    assert!(refused > 10, "only {refused} errors");
}

/// A NOR flash that gives no fewer than 4 bytes at a time.
struct Flash(&'static [u8]);

impl ErrorType for Flash {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for Flash {
    const READ_SIZE: usize = 4;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        if !offset.is_multiple_of(4) || !bytes.len().is_multiple_of(4) {
            return Err(NorFlashErrorKind::NotAligned);
        }
        let found = self.0.get(offset as usize..).and_then(|behind| behind.get(..bytes.len()));
        bytes.copy_from_slice(found.ok_or(NorFlashErrorKind::OutOfBounds)?);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.0.len()
    }
}

/// A file of embedded-io.
struct File {
    bytes: &'static [u8],
    at: u64,
    seeks: usize,
}

impl embedded_io::ErrorType for File {
    type Error = Infallible;
}

impl embedded_io::Read for File {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
        let behind = self.bytes.get(self.at as usize..).unwrap_or_default();
        // A driver may give less than it is asked for.
        let bytes = buffer.len().min(behind.len()).min(300);
        buffer[..bytes].copy_from_slice(&behind[..bytes]);
        self.at += bytes as u64;
        Ok(bytes)
    }
}

impl embedded_io::Seek for File {
    fn seek(&mut self, to: embedded_io::SeekFrom) -> Result<u64, Infallible> {
        let embedded_io::SeekFrom::Start(at) = to else { unreachable!("sources seek from the start") };
        self.seeks += 1;
        self.at = at;
        Ok(at)
    }
}

#[test]
fn drivers_of_the_embedded_world_carry_a_model() {
    let shifted: &'static [u8] = [vec![0xFF; 1024], blob().to_vec()].concat().leak();
    let cache =
        BlockCache::new(NorFlashSource::new(Flash(shifted), 1024), blob().len() as u32, Blocks::<6, BLOCK>::new());
    let model = Model::open(cache.section(0, u32::MAX)).unwrap();
    let mut memory = vec![0; memory_bytes(model.config(), 64)];
    assert_eq!(&answer(&model, &mut memory).unwrap(), expected());

    let file = File { bytes: shifted, at: 0, seeks: 0 };
    let cache = BlockCache::new(SeekSource::new(file, 1024), blob().len() as u32, Blocks::<6, BLOCK>::new());
    let model = Model::open(cache.section(0, u32::MAX)).unwrap();
    assert_eq!(&answer(&model, &mut memory).unwrap(), expected());
    let read = cache.bytes_read();
    let file = cache.into_source().into_inner();
    assert!(file.seeks as u64 * 4 * BLOCK as u64 <= read, "{} seeks for {read} bytes", file.seeks);

    let cut = &blob()[..blob().len() - 1];
    let cache = BlockCache::new(NorFlashSource::new(Flash(cut), 0), blob().len() as u32, Blocks::<6, BLOCK>::new());
    assert!(matches!(Model::open(cache.section(0, u32::MAX)), Err(FormatError::Unreadable { .. }) | Ok(_)));
    assert!(matches!(cache.take_error(), None | Some(NorFlashErrorKind::OutOfBounds)));
}

#[test]
fn fill_mask_through_a_small_window_names_what_it_names_in_place() {
    let answers_of = |answers: &[MaskAnswer<5>]| -> Vec<_> {
        answers.iter().map(|answer| (answer.position(), answer.best().to_vec())).collect()
    };
    let model = Model::open(blob()).unwrap();
    let mut memory = vec![0; memory_bytes(model.config(), 64)];
    let mut answers: [MaskAnswer<5>; 2] = Default::default();
    let in_place =
        answers_of(Pipeline::new(&model, &SCALAR, &mut memory).unwrap().fill_mask(TEXT, &mut answers).unwrap());
    with_cache::<3, _>(blob(), |cache| {
        let model = Model::open(cache.section(0, u32::MAX)).unwrap();
        let streamed =
            answers_of(Pipeline::new(&model, &SCALAR, &mut memory).unwrap().fill_mask(TEXT, &mut answers).unwrap());
        assert_eq!(streamed, in_place);
    });
}
