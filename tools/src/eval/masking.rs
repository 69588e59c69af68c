//! Which tokens are masked, and how: the procedure that BERT was trained with (Devlin et al. 2019, section 3.1).
//!
//! Of the ordinary tokens of a line, 15 % are to be predicted, at least one. Of these, 80 % are replaced by `[MASK]`, 10 % by
//! another ordinary token, and 10 % stay. As in Hugging Face's collator, special tokens, `[UNK]` among them, are never chosen.

use mbert_runtime::config::TokenizerConfig;

use super::random::Random;

/// Tokens of a line that are to be predicted, in per cent.
const PREDICTED_PERCENT: usize = 15;

/// A sequence with some tokens hidden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masked {
    /// What the model is given.
    pub input_ids: Vec<u32>,
    /// Positions to be predicted, ascending.
    pub positions: Vec<usize>,
    /// The true token of each.
    pub labels: Vec<u32>,
}

/// Masks a sequence. The result depends on the arguments alone.
pub fn mask(input_ids: &[u32], tokenizer: &TokenizerConfig, vocab_size: u32, random: &mut Random) -> Masked {
    let special = [
        tokenizer.pad_token_id,
        tokenizer.unk_token_id,
        tokenizer.cls_token_id,
        tokenizer.sep_token_id,
        tokenizer.mask_token_id,
    ];
    let mut ordinary: Vec<usize> =
        (0..input_ids.len()).filter(|&position| !special.contains(&input_ids[position])).collect();
    let count = ((ordinary.len() * PREDICTED_PERCENT + 50) / 100).clamp(ordinary.len().min(1), ordinary.len());
    let mut positions = random.choose(&mut ordinary, count).to_vec();
    positions.sort_unstable();
    let labels = positions.iter().map(|&position| input_ids[position]).collect();
    let mut input_ids = input_ids.to_vec();
    for &position in &positions {
        input_ids[position] = match random.below(10) {
            0..8 => tokenizer.mask_token_id,
            8 => other_token(input_ids[position], &special, vocab_size, random),
            _ => input_ids[position],
        };
    }
    Masked { input_ids, positions, labels }
}

/// A random token that is neither special nor `token`; `token` itself in a vocabulary that has no other.
fn other_token(token: u32, special: &[u32], vocab_size: u32, random: &mut Random) -> u32 {
    let mut excluded = [&[token], special].concat();
    excluded.sort_unstable();
    excluded.dedup();
    let others = vocab_size as usize - excluded.len();
    if others == 0 {
        return token;
    }
    excluded.iter().fold(random.below(others) as u32, |other, &excluded| other + u32::from(other >= excluded))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENIZER: TokenizerConfig = TokenizerConfig {
        do_lower_case: false,
        strip_accents: None,
        tokenize_chinese_chars: true,
        pad_token_id: 0,
        unk_token_id: 7,
        cls_token_id: 2,
        sep_token_id: 3,
        mask_token_id: 50,
    };
    const SPECIAL: [u32; 5] = [0, 7, 2, 3, 50];
    const VOCAB_SIZE: u32 = 60;

    /// A line of ordinary and unknown tokens, of any length.
    fn line(number: u64) -> Vec<u32> {
        let mut random = Random::new(99, number);
        let mut ids = vec![2];
        for _ in 0..random.below(80) {
            let id = random.below(VOCAB_SIZE as usize) as u32;
            ids.push(if SPECIAL.contains(&id) { 7 } else { id });
        }
        ids.push(3);
        ids
    }

    #[test]
    fn fifteen_percent_are_chosen_and_nothing_else_is_touched() {
        for number in 0..2000 {
            let ids = line(number);
            let masked = mask(&ids, &TOKENIZER, VOCAB_SIZE, &mut Random::new(1, number));
            let ordinary = ids.iter().filter(|id| !SPECIAL.contains(id)).count();
            let expected = (ordinary as f64 * 0.15 + 0.5).floor().max(1.0).min(ordinary as f64);
            assert_eq!(masked.positions.len(), expected as usize);
            assert!(masked.positions.is_sorted_by(|a, b| a < b));
            assert_eq!(masked.input_ids.len(), ids.len());
            for (position, (&before, &after)) in ids.iter().zip(&masked.input_ids).enumerate() {
                match masked.positions.binary_search(&position) {
                    Ok(index) => {
                        assert_eq!(masked.labels[index], before);
                        assert!(!SPECIAL.contains(&before), "a special token was chosen");
                        assert!(after == 50 || !SPECIAL.contains(&after) && after < VOCAB_SIZE);
                    }
                    Err(_) => assert_eq!(before, after),
                }
            }
        }
    }

    #[test]
    fn eighty_percent_become_mask_ten_another_token_and_ten_stay() {
        let (mut masks, mut others, mut same) = (0, 0, 0);
        let mut seen = [false; VOCAB_SIZE as usize];
        for number in 0..20_000 {
            let masked = mask(&line(number), &TOKENIZER, VOCAB_SIZE, &mut Random::new(1, number));
            for (&position, &label) in masked.positions.iter().zip(&masked.labels) {
                match masked.input_ids[position] {
                    50 => masks += 1,
                    id if id == label => same += 1,
                    id => {
                        others += 1;
                        seen[id as usize] = true;
                    }
                }
            }
        }
        let share = |count: i32| f64::from(count) / f64::from(masks + others + same);
        assert!((share(masks) - 0.8).abs() < 0.01, "{}", share(masks));
        assert!((share(others) - 0.1).abs() < 0.01, "{}", share(others));
        assert!((share(same) - 0.1).abs() < 0.01, "{}", share(same));
        // Every ordinary token can take another's place.
        for id in 0..VOCAB_SIZE {
            assert_eq!(seen[id as usize], !SPECIAL.contains(&id), "{id}");
        }
    }

    #[test]
    fn every_position_is_chosen_as_often() {
        let ids: Vec<u32> = [2].into_iter().chain(10..30).chain([3]).collect();
        let mut counts = [0; 22];
        for number in 0..20_000 {
            let masked = mask(&ids, &TOKENIZER, VOCAB_SIZE, &mut Random::new(5, number));
            masked.positions.iter().for_each(|&position| counts[position] += 1);
        }
        assert_eq!((counts[0], counts[21]), (0, 0));
        assert!(counts[1..21].iter().all(|&count: &i32| (count - 3000).abs() < 250), "{counts:?}");
    }

    #[test]
    fn seed_and_line_decide_and_nothing_else() {
        let ids = line(3);
        let masked = |seed, number| mask(&ids, &TOKENIZER, VOCAB_SIZE, &mut Random::new(seed, number));
        assert_eq!(masked(1, 0), masked(1, 0));
        assert_ne!(masked(1, 0), masked(2, 0));
        assert_ne!(masked(1, 0), masked(1, 1));
        assert_ne!(masked(0, 1), masked(1, 0));
    }

    #[test]
    fn lines_without_ordinary_tokens_and_vocabularies_without_others_are_left() {
        let masked = mask(&[2, 7, 7, 3], &TOKENIZER, VOCAB_SIZE, &mut Random::new(1, 0));
        assert_eq!((masked.input_ids, masked.positions), (vec![2, 7, 7, 3], vec![]));
        let tokenizer = TokenizerConfig { unk_token_id: 1, mask_token_id: 4, ..TOKENIZER };
        for number in 0..100 {
            let masked = mask(&[2, 5, 3], &tokenizer, 6, &mut Random::new(1, number));
            assert!([4, 5].contains(&masked.input_ids[1]));
        }
    }
}
