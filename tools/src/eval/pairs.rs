//! Which sentences are paired: half follow each other, half come from two documents (Devlin et al. 2019, section 3.1).

use anyhow::{Result, ensure};

use super::random::Random;

/// Two sentences, and whether the second follows the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair<'t> {
    /// The first.
    pub text: &'t str,
    /// The second.
    pub pair: &'t str,
    /// Whether it follows.
    pub is_next: bool,
}

/// The sentences of each document; blank lines separate documents.
fn documents(text: &str) -> Vec<Vec<&str>> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.split(|line| line.is_empty()).filter(|document| !document.is_empty()).map(<[_]>::to_vec).collect()
}

/// Every sentence that has a successor, with it or with a sentence of another document; an odd one has its successor.
///
/// # Errors
///
/// A text with fewer than two documents, or without two sentences in any.
pub fn pairs<'t>(text: &'t str, random: &mut Random) -> Result<Vec<Pair<'t>>> {
    let documents = documents(text);
    ensure!(documents.len() >= 2, "there is one document only; separate documents by blank lines");
    let mut pairs = Vec::new();
    for (number, document) in documents.iter().enumerate() {
        let successors = document.windows(2).map(|two| (number, Pair { text: two[0], pair: two[1], is_next: true }));
        pairs.extend(successors);
    }
    ensure!(!pairs.is_empty(), "no document has two lines; write one sentence a line");
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    for &mut index in random.choose(&mut order, pairs.len() / 2) {
        let (number, pair) = &mut pairs[index];
        let other = random.below(documents.len() - 1);
        let other = &documents[other + usize::from(other >= *number)];
        *pair = Pair { pair: other[random.below(other.len())], is_next: false, ..*pair };
    }
    Ok(pairs.into_iter().map(|(_, pair)| pair).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a1\na2\na3\n\n\nb1\nb2\n \nc1\nc2\n\nlonely\n";

    #[test]
    fn half_follow_and_half_come_from_another_document() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let pairs = pairs(TEXT, &mut Random::new(seed, 0)).unwrap();
            assert_eq!(pairs.iter().map(|pair| pair.text).collect::<Vec<_>>(), ["a1", "a2", "b1", "c1"]);
            assert_eq!(pairs.iter().filter(|pair| pair.is_next).count(), 2);
            for Pair { text, pair, is_next } in pairs {
                let same_document = text.as_bytes()[0] == pair.as_bytes()[0];
                assert_eq!(is_next, same_document);
                assert!(!is_next || pair.as_bytes()[1] == text.as_bytes()[1] + 1, "{text} {pair}");
                seen.insert(pair);
            }
        }
        assert_eq!(seen.len(), 8, "every sentence is drawn: {seen:?}");
    }

    #[test]
    fn texts_that_cannot_be_paired_are_refused() {
        for (text, part) in [("a\nb\n", "one document"), ("a\n\nb\n", "two lines")] {
            let error = pairs(text, &mut Random::new(0, 0)).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
