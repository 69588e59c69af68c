//! The best few of a stream of scores.

/// A token and its logit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenLogit {
    /// Token id.
    pub id: u32,
    /// Logit, 16 fraction bits.
    pub logit: i32,
}

/// Keeps the best K of what it is shown; best first, ties in the order shown.
#[derive(Clone, Debug)]
pub struct TopK<const K: usize> {
    best: [TokenLogit; K],
    len: usize,
}

impl<const K: usize> Default for TopK<K> {
    fn default() -> Self {
        Self { best: [TokenLogit { id: 0, logit: 0 }; K], len: 0 }
    }
}

impl<const K: usize> TopK<K> {
    /// Shows it one more.
    #[inline]
    pub fn push(&mut self, candidate: TokenLogit) {
        if self.len == K {
            match self.best.last() {
                Some(worst) if worst.logit < candidate.logit => self.len -= 1,
                _ => return,
            }
        }
        let at = self.best[..self.len].partition_point(|better| better.logit >= candidate.logit);
        self.best.copy_within(at..self.len, at + 1);
        self.best[at] = candidate;
        self.len += 1;
    }

    /// The best so far.
    pub fn as_slice(&self) -> &[TokenLogit] {
        &self.best[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_come_first_and_ties_keep_their_order() {
        let mut top = TopK::<3>::default();
        for (id, logit) in [(0, 5), (1, 7), (2, 7), (3, -1), (4, 9)] {
            top.push(TokenLogit { id, logit });
        }
        assert!(top.as_slice().iter().map(|best| best.id).eq([4, 1, 2]));
    }

    #[test]
    fn fewer_candidates_than_room_are_all_kept_and_no_room_keeps_none() {
        let mut top = TopK::<3>::default();
        top.push(TokenLogit { id: 8, logit: 1 });
        assert_eq!(top.as_slice(), [TokenLogit { id: 8, logit: 1 }]);
        let mut top = TopK::<0>::default();
        top.push(TokenLogit { id: 8, logit: 1 });
        assert!(top.as_slice().is_empty());
    }
}
