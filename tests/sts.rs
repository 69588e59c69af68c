//! Sentence similarity: the rank correlation that a sentence model reaches with integers alone.

use std::cmp::Ordering;

use mbert::compare::cosine;
use mbert::convert::Calibration;
use mbert::features::mean;
use mbert::hidden_states::HiddenStates;
use mbert_runtime::format::layout::WeightLayout;
use mbert_runtime::kernels::Kernels;
use mbert_runtime::model::Model;
use mbert_runtime::pipeline::{Pipeline, memory_bytes};
use mbert_runtime::tokenizer::{Encoding, Truncation};
use mbert_tests::models::convert;
use mbert_tests::shared;

/// Longest sentence in tokens; the rest is cut off.
const MAX_TOKENS: usize = 128;
/// Of 0.8672 in float32.
const LEAST_SPEARMAN: f64 = 0.866;

/// Two sentences and how alike people find them.
struct Pair {
    sentences: [String; 2],
    score: f64,
}

/// A line `a,b,score`; a field with a comma or a quote stands in quotes, and a quote in it is doubled.
fn parse(line: &str) -> Pair {
    let mut fields = vec![String::new()];
    let (mut quoted, mut characters) = (false, line.chars().peekable());
    while let Some(character) = characters.next() {
        let field = fields.last_mut().unwrap();
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => field.extend(characters.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => field.push(other),
        }
    }
    let [a, b, score]: [String; 3] = fields.try_into().unwrap();
    Pair { score: score.parse().unwrap(), sentences: [a, b] }
}

/// The mean of the last hidden states of a text.
fn embed(model: &Model<&[u8]>, pipeline: &mut Pipeline<'_, '_, &[u8]>, text: &str) -> Vec<f32> {
    let mut ids = [0; MAX_TOKENS];
    let mut encoding = Encoding::new(&mut ids);
    model.tokenizer().encode(text, None, Truncation::LongestFirst, &mut encoding).unwrap();
    let ids = encoding.ids();
    pipeline.set_ids(ids, &vec![0; ids.len()]).unwrap();
    let mut hidden = HiddenStates::new(model);
    pipeline.forward(&mut hidden).unwrap();
    mean(hidden.layers.last().unwrap(), usize::from(model.manifest().config.hidden_size))
}

/// Ranks from 0; equal values share the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].partial_cmp(&values[b]).unwrap_or(Ordering::Equal));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for tied in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let shared_rank = first as f64 + (tied.len() - 1) as f64 / 2.0;
        tied.iter().for_each(|&index| ranks[index] = shared_rank);
        first += tied.len();
    }
    ranks
}

/// Spearman's rank correlation.
fn spearman(a: &[f64], b: &[f64]) -> f64 {
    let centred = |values: &[f64]| -> Vec<f64> {
        let mean = (values.len() - 1) as f64 / 2.0;
        ranks(values).into_iter().map(|rank| rank - mean).collect()
    };
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let (a, b) = (centred(a), centred(b));
    dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt()
}

#[test]
fn rank_correlation_knows_order_ties_and_reversal() {
    assert!((spearman(&[1.0, 2.0, 9.0], &[10.0, 20.0, 21.0]) - 1.0).abs() < 1e-12);
    assert!((spearman(&[1.0, 2.0, 9.0], &[3.0, 2.0, 1.0]) + 1.0).abs() < 1e-12);
    // As scipy.stats.spearmanr([1, 2, 2, 3], [1, 3, 2, 4]).
    assert!((spearman(&[1.0, 2.0, 2.0, 3.0], &[1.0, 3.0, 2.0, 4.0]) - 0.948_683_298_050_513_8).abs() < 1e-12);
    assert_eq!(parse(r#""a ""b"", c",d,4.75"#).sentences, [r#"a "b", c"#, "d"]);
}

#[test]
fn minilm_orders_english_sentence_pairs_as_people_do() {
    let (Some(dir), Some(path)) = (shared("models/all-MiniLM-L6-v2"), shared("text/stsb-multi/stsb-en-dev.csv")) else {
        return;
    };
    let pairs: Vec<Pair> = std::fs::read_to_string(path).unwrap().lines().map(parse).collect();
    assert_eq!(pairs.len(), 1500);
    let blob = convert(&dir, Calibration::BuiltIn, WeightLayout::RowMajor).blob;
    let model = Model::open(&blob[..]).unwrap();
    let similarities = |pairs: &[Pair]| -> Vec<f64> {
        let mut memory = vec![0; memory_bytes(&model.manifest().config, MAX_TOKENS)];
        let mut pipeline = Pipeline::new(&model, Kernels::native(), &mut memory).unwrap();
        let of_pair = |pair: &Pair| {
            let [a, b] = pair.sentences.each_ref().map(|sentence| embed(&model, &mut pipeline, sentence));
            cosine(&a, &b)
        };
        pairs.iter().map(of_pair).collect()
    };
    // The model is shared between threads; each has its own memory.
    let (first, second) = pairs.split_at(pairs.len() / 2);
    let found = std::thread::scope(|scope| {
        let other = scope.spawn(|| similarities(second));
        let mut found = similarities(first);
        found.extend(other.join().unwrap());
        found
    });
    let scores: Vec<f64> = pairs.iter().map(|pair| pair.score).collect();
    let correlation = spearman(&found, &scores);
    println!("all-MiniLM-L6-v2, STS-B en dev: Spearman {correlation:.4}");
    assert!(correlation >= LEAST_SPEARMAN, "Spearman {correlation}");
}
