//! The best few of a stream of scores.

/// A token and its logit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenLogit {
    /// Token id.
    pub id: u32,
    /// Logit, 16 fraction bits.
    pub logit: i32,
}

/// Keeps the best of what it is shown, in a slice that the caller owns; best first, ties in the order shown.
#[derive(Debug)]
pub struct TopK<'b> {
    best: &'b mut [TokenLogit],
    len: usize,
}

impl<'b> TopK<'b> {
    /// Keeps as many as `best` is long.
    pub fn new(best: &'b mut [TokenLogit]) -> Self {
        Self { best, len: 0 }
    }

    /// Shows it one more.
    #[inline]
    pub fn push(&mut self, candidate: TokenLogit) {
        if self.len == self.best.len() {
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
    pub fn into_slice(self) -> &'b [TokenLogit] {
        &self.best[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_come_first_and_ties_keep_their_order() {
        let mut best = [TokenLogit { id: 0, logit: 0 }; 3];
        let mut top = TopK::new(&mut best);
        for (id, logit) in [(0, 5), (1, 7), (2, 7), (3, -1), (4, 9)] {
            top.push(TokenLogit { id, logit });
        }
        assert!(top.into_slice().iter().map(|best| best.id).eq([4, 1, 2]));
    }

    #[test]
    fn fewer_candidates_than_room_are_all_kept_and_no_room_keeps_none() {
        let mut best = [TokenLogit { id: 0, logit: 0 }; 3];
        let mut top = TopK::new(&mut best);
        top.push(TokenLogit { id: 8, logit: 1 });
        assert_eq!(top.into_slice(), [TokenLogit { id: 8, logit: 1 }]);
        let mut top = TopK::new(&mut []);
        top.push(TokenLogit { id: 8, logit: 1 });
        assert!(top.into_slice().is_empty());
    }
}
