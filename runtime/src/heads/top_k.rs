//! The best few of a stream of scores.

/// A token and its logit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenLogit {
    /// Token id.
    pub id: u32,
    /// Logit, 16 fraction bits.
    pub logit: i32,
}

/// Keeps the best of what it is shown, as many as `B` has room for; best first, ties in the order shown.
///
/// `B` is an array on a device, and may be a `Vec` on a host.
#[derive(Clone, Debug)]
pub struct TopK<B> {
    best: B,
    len: usize,
}

impl<const K: usize> Default for TopK<[TokenLogit; K]> {
    fn default() -> Self {
        Self::new([TokenLogit { id: 0, logit: 0 }; K])
    }
}

impl<B: AsRef<[TokenLogit]> + AsMut<[TokenLogit]>> TopK<B> {
    /// Keeps as many as `best` is long; what it holds is written over.
    pub fn new(best: B) -> Self {
        Self { best, len: 0 }
    }

    /// Shows it one more.
    #[inline]
    pub fn push(&mut self, candidate: TokenLogit) {
        let best = self.best.as_mut();
        if self.len == best.len() && best.last().is_none_or(|worst| worst.logit >= candidate.logit) {
            return;
        }
        let at = best.iter().take(self.len).take_while(|better| better.logit >= candidate.logit).count();
        self.len = best.len().min(self.len + 1);
        // It takes the place of the first that is not better, which takes the next place, and so on.
        best.iter_mut().take(self.len).skip(at).fold(candidate, |moved, place| core::mem::replace(place, moved));
    }

    /// The best so far.
    pub fn as_slice(&self) -> &[TokenLogit] {
        self.best.as_ref().get(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_come_first_and_ties_keep_their_order() {
        let mut top = TopK::<[TokenLogit; 3]>::default();
        for (id, logit) in [(0, 5), (1, 7), (2, 7), (3, -1), (4, 9)] {
            top.push(TokenLogit { id, logit });
        }
        assert!(top.as_slice().iter().map(|best| best.id).eq([4, 1, 2]));
    }

    #[test]
    fn fewer_candidates_than_room_are_all_kept_and_no_room_keeps_none() {
        let mut top = TopK::<[TokenLogit; 3]>::default();
        top.push(TokenLogit { id: 8, logit: 1 });
        assert_eq!(top.as_slice(), [TokenLogit { id: 8, logit: 1 }]);
        let mut top = TopK::<[TokenLogit; 0]>::default();
        top.push(TokenLogit { id: 8, logit: 1 });
        assert!(top.as_slice().is_empty());
    }
}
