//! What an answer is made of: its steps, and what each of them counts of everything that takes instructions.

use mbert_runtime::config::BertConfig;
use mbert_runtime::cost::{CONSTANTS_BYTES, masked_lm_bytes, pooler_bytes, tile_bytes};
use mbert_runtime::encoder::schedule::{Stage, chunk_channels, steps};
use mbert_runtime::encoder::workspace::QUERY_ROWS;
use mbert_runtime::format::layout::TILE_CHANNELS;
use mbert_runtime::format::section::SectionKind;
use mbert_runtime::model::GROUP_SIZE;
use serde::{Deserialize, Serialize};

/// What takes instructions. A core's rate is its instructions for one of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A byte of the model whose hash is verified.
    HashedByte,
    /// A token of the text, tokenized.
    Token,
    /// A step, whatever it does.
    Step,
    /// A tile of weights: its parameters, and the way to them.
    Tile,
    /// A row that an operation begins and ends: its largest value, its scale, its divisor.
    Row,
    /// A channel of the sum of a token's embeddings.
    EmbeddingElement,
    /// A value that becomes int8.
    QuantizeElement,
    /// A product of a linear layer.
    LinearMac,
    /// A sum of a linear layer, of each group of inputs, and what becomes of it.
    LinearOutput,
    /// A value of the intermediate layer: activation and int8.
    ActivationElement,
    /// A product of attention: query by key, probability by value.
    AttentionMac,
    /// A score that becomes a probability.
    SoftmaxElement,
    /// A channel of the context.
    ContextElement,
    /// A channel of a layer norm.
    NormElement,
    /// A product of the masked-LM decoder.
    DecoderMac,
    /// A logit, and the choice of the best.
    DecoderLogit,
}

impl Unit {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::HashedByte,
        Self::Token,
        Self::Step,
        Self::Tile,
        Self::Row,
        Self::EmbeddingElement,
        Self::QuantizeElement,
        Self::LinearMac,
        Self::LinearOutput,
        Self::ActivationElement,
        Self::AttentionMac,
        Self::SoftmaxElement,
        Self::ContextElement,
        Self::NormElement,
        Self::DecoderMac,
        Self::DecoderLogit,
    ];
}

/// How many of each.
pub type Work = Vec<(Unit, u64)>;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Which tokens stand at some positions.
    FillMask {
        /// How many.
        masks: usize,
    },
    /// Whether the second text follows the first.
    NextSentence,
    /// The last hidden states.
    Features,
}

impl Question {
    /// The command that asks it.
    pub fn name(self) -> &'static str {
        match self {
            Self::FillMask { .. } => "fill-mask",
            Self::NextSentence => "next-sentence",
            Self::Features => "features",
        }
    }
}

/// One step of an answer.
pub struct Step {
    /// What kind of step.
    pub part: &'static str,
    /// What it computes.
    pub work: Work,
    /// Bytes of the model that it reads.
    pub bytes_read: u64,
    /// Places of the model that it reads on its own, so that a device gives a block more for each.
    pub places: u64,
    /// Rows that are multiplied by the weights it reads.
    pub rows: u64,
}

/// A model of some geometry at work on a sequence.
#[derive(Clone, Copy)]
pub struct Sequence<'a> {
    /// Geometry.
    pub config: &'a BertConfig,
    /// Its length.
    pub tokens: usize,
    /// Passes over the feed-forward weights.
    pub passes: usize,
    /// The storage's window.
    pub window_bytes: usize,
}

impl<'a> Sequence<'a> {
    /// Every step from the text to the answer.
    pub fn steps(self, question: Question) -> impl Iterator<Item = Step> + 'a {
        let Self { config, tokens, passes, window_bytes } = self;
        let encoder = steps(config, tokens, passes, window_bytes).map(move |(_, stage)| self.encoder_step(stage));
        let head: Box<dyn Iterator<Item = Step> + 'a> = match question {
            Question::FillMask { masks } => Box::new(self.masked_lm(masks)),
            Question::NextSentence => Box::new(self.next_sentence()),
            Question::Features => Box::new(std::iter::empty()),
        };
        // 2.5 blocks of 512 bytes a token are what the vocabulary was measured to take.
        let places = 5 * tokens as u64 / 2;
        // The forward pass is begun together with it.
        let begin = step("tokenizer", vec![(Unit::Token, tokens as u64)], CONSTANTS_BYTES);
        let tokenizer = Step { places, ..begin };
        std::iter::once(tokenizer).chain(encoder).chain(head)
    }

    fn hidden_size(self) -> usize {
        self.config.hidden_size.into()
    }

    fn encoder_step(self, stage: Stage) -> Step {
        use SectionKind as Kind;
        let (n, h, f) = (self.tokens, self.hidden_size(), usize::from(self.config.intermediate_size));
        let d = self.config.head_dim();
        let pass_tokens = n.div_ceil(self.passes.max(1));
        let rows_of = |pass: usize| pass_tokens.min(n - pass * pass_tokens);
        let (rows, work) = match stage {
            Stage::Embeddings { .. } => (1, vec![(Unit::Row, 1), (Unit::EmbeddingElement, h)]),
            Stage::EmbeddingsNorm { chunk } | Stage::AttentionNorm { chunk } => (1, self.norm(n, chunk)),
            Stage::OutputNorm { pass, chunk } => (1, self.norm(rows_of(pass), chunk)),
            Stage::QkvInput | Stage::Context => (1, quantize(n, h)),
            Stage::IntermediateInput { pass } => (1, quantize(rows_of(pass), h)),
            Stage::Qkv { part, tile, .. } => {
                let mut work = self.linear(Kind::Qkv, tile, n);
                if (tile + 1) * TILE_CHANNELS >= d {
                    // Values channel by channel, the others token by token.
                    work.extend(if part == 2 { quantize(d, n) } else { quantize(n, d) });
                }
                (n, work)
            }
            Stage::Attention { query, .. } => {
                let m = QUERY_ROWS.min(n - query);
                let products = (Unit::AttentionMac, 2 * m * n * d);
                (1, vec![products, (Unit::SoftmaxElement, m * n), (Unit::ContextElement, m * d), (Unit::Row, m)])
            }
            Stage::AttentionOutput { tile } => (n, self.linear(Kind::AttentionOutput, tile, n)),
            Stage::Intermediate { pass, tile } => {
                let t = rows_of(pass);
                let mut work = self.linear(Kind::Intermediate, tile, t);
                let (first, end) = (tile * TILE_CHANNELS, f.min((tile + 1) * TILE_CHANNELS));
                work.push((Unit::ActivationElement, t * (end - first)));
                if end == f || end.is_multiple_of(GROUP_SIZE) {
                    work.push((Unit::Row, t));
                }
                (t, work)
            }
            Stage::Output { pass, tile } => (rows_of(pass), self.linear(Kind::Output, tile, rows_of(pass))),
        };
        let work = work.into_iter().map(|(unit, count)| (unit, count as u64)).collect();
        let bytes = stage.bytes_read(self.config, self.window_bytes);
        let places = if let Stage::Embeddings { .. } = stage { 4 } else { 0 };
        Step { rows: rows as u64, places, ..step(stage.name(), work, bytes) }
    }

    /// A tile of a linear layer for some rows.
    fn linear(self, kind: SectionKind, tile: usize, rows: usize) -> Vec<(Unit, usize)> {
        let h = self.hidden_size();
        let (channels, inputs) = match kind {
            SectionKind::Qkv => (self.config.head_dim(), h),
            SectionKind::Intermediate => (self.config.intermediate_size.into(), h),
            SectionKind::Output => (h, self.config.intermediate_size.into()),
            SectionKind::SeqRelationship => (2, h),
            SectionKind::WordEmbeddings => (self.config.vocab_size as usize, h),
            _ => (h, h),
        };
        let channels = TILE_CHANNELS.min(channels - tile * TILE_CHANNELS);
        let groups = if kind == SectionKind::Output { inputs.div_ceil(GROUP_SIZE) } else { 1 };
        let (mac, output) = match kind {
            SectionKind::WordEmbeddings => (Unit::DecoderMac, Unit::DecoderLogit),
            _ => (Unit::LinearMac, Unit::LinearOutput),
        };
        vec![(Unit::Tile, 1), (mac, rows * channels * inputs), (output, rows * channels * groups)]
    }

    fn norm(self, rows: usize, chunk: usize) -> Vec<(Unit, usize)> {
        let h = self.hidden_size();
        let channels = chunk_channels(h, self.window_bytes);
        let first = chunk * channels;
        let begun = if chunk == 0 { rows } else { 0 };
        vec![(Unit::NormElement, rows * channels.min(h - first)), (Unit::Row, begun)]
    }

    fn head_step(self, part: &'static str, work: Vec<(Unit, usize)>, bytes: u64, rows: usize) -> Step {
        let work = work.into_iter().map(|(unit, count)| (unit, count as u64)).collect();
        Step { rows: rows as u64, ..step(part, work, bytes) }
    }

    fn masked_lm(self, masks: usize) -> impl Iterator<Item = Step> + 'a {
        use SectionKind::{Transform, WordEmbeddings};
        let (config, h) = (self.config, self.hidden_size());
        let tiles = |kind, channels: usize| {
            (0..channels.div_ceil(TILE_CHANNELS)).map(move |tile| (tile, tile_bytes(config, kind, tile)))
        };
        let transform = tiles(Transform, h).map(move |(tile, bytes)| {
            let mut work = self.linear(Transform, tile, masks);
            let channels = TILE_CHANNELS.min(h - tile * TILE_CHANNELS);
            work.push((Unit::ActivationElement, masks * channels));
            self.head_step("transform", work, bytes, masks)
        });
        let decoder = tiles(WordEmbeddings, config.vocab_size as usize).map(move |(tile, bytes)| {
            self.head_step("decoder", self.linear(WordEmbeddings, tile, masks), bytes, masks)
        });
        let of_tiles: u64 =
            tiles(Transform, h).chain(tiles(WordEmbeddings, config.vocab_size as usize)).map(|(_, bytes)| bytes).sum();
        // Constants, smoothing and the layer norm, which are read between them.
        let rest = masked_lm_bytes(config) - of_tiles;
        let input = self.head_step("transform", quantize(masks, h), rest, 1);
        let norms = h.div_ceil(chunk_channels(h, self.window_bytes));
        let norms = (0..norms).map(move |chunk| self.head_step("transform", self.norm(masks, chunk), 0, 1));
        let decoder_input = self.head_step("transform", quantize(masks, h), 0, 1);
        std::iter::once(input).chain(transform).chain(norms).chain([decoder_input]).chain(decoder)
    }

    fn next_sentence(self) -> impl Iterator<Item = Step> + 'a {
        use SectionKind::{Pooler, SeqRelationship};
        let (config, h) = (self.config, self.hidden_size());
        let tiles = h.div_ceil(TILE_CHANNELS);
        let of_tiles: u64 = (0..tiles).map(|tile| tile_bytes(config, Pooler, tile)).sum();
        let of_answer = tile_bytes(config, SeqRelationship, 0);
        let rest = pooler_bytes(config, true) - of_tiles - of_answer;
        let input = self.head_step("pooler", quantize(1, h), rest, 1);
        let pooler = (0..tiles).map(move |tile| {
            let mut work = self.linear(Pooler, tile, 1);
            work.push((Unit::ActivationElement, TILE_CHANNELS.min(h - tile * TILE_CHANNELS)));
            self.head_step("pooler", work, tile_bytes(config, Pooler, tile), 1)
        });
        let answer = [quantize(1, h), self.linear(SeqRelationship, 0, 1)].concat();
        let answer = self.head_step("pooler", answer, of_answer, 1);
        std::iter::once(input).chain(pooler).chain([answer])
    }
}

/// Rows of values that become int8.
fn quantize(rows: usize, width: usize) -> Vec<(Unit, usize)> {
    vec![(Unit::QuantizeElement, rows * width), (Unit::Row, rows)]
}

fn step(part: &'static str, mut work: Work, bytes_read: u64) -> Step {
    work.push((Unit::Step, 1));
    Step { part, work, bytes_read, places: 0, rows: 1 }
}
