//! Which buffers can share memory: those that are never needed at the same time.

/// The steps, first and last, between which a buffer has to last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) from: usize,
    pub(super) to: usize,
    /// Outlasts the run: its memory is its own.
    pub(super) kept: bool,
}

/// A slot for every buffer that lives, and the sizes of the slots.
///
/// Buffers are taken largest first, each into the first slot that is free all its life: the slots are then hardly larger
/// than what is alive at the worst moment.
pub(super) fn share(
    lives: &[Option<Life>],
    len: impl Fn(usize) -> usize,
) -> (Vec<Option<usize>>, Vec<usize>) {
    let mut order: Vec<usize> = (0..lives.len()).filter(|at| lives[*at].is_some()).collect();
    order.sort_by_key(|at| (std::cmp::Reverse(len(*at)), *at));
    let mut slots: Vec<(usize, Vec<Life>)> = Vec::new();
    let mut places = vec![None; lives.len()];
    for at in order {
        let Some(life) = lives[at] else {
            continue;
        };
        let apart =
            |other: &Life| !other.kept && !life.kept && (other.to < life.from || life.to < other.from);
        let slot = slots.iter().position(|(_, held)| held.iter().all(apart)).unwrap_or_else(|| {
            slots.push((len(at), Vec::new()));
            slots.len() - 1
        });
        slots[slot].1.push(life);
        places[at] = Some(slot);
    }
    (places, slots.into_iter().map(|(len, _)| len).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(from: usize, to: usize) -> Option<Life> {
        Some(Life { from, to, kept: false })
    }

    #[test]
    fn a_chain_needs_two_slots_and_what_is_kept_its_own() {
        let kept = Some(Life { from: 0, to: 1, kept: true });
        let lives = [life(0, 1), life(1, 2), life(2, 3), kept, None, life(3, 4)];
        let (places, sizes) = share(&lives, |at| 10 + at);
        assert_eq!(sizes.len(), 3);
        assert_ne!(places[0], places[1]);
        assert_ne!(places[1], places[2]);
        assert_eq!(places[4], None);
        let own = places[3];
        assert!(places.iter().enumerate().all(|(at, place)| at == 3 || *place != own));
        for (at, place) in places.iter().enumerate().filter_map(|(at, place)| Some((at, (*place)?))) {
            assert!(sizes[place] >= 10 + at, "slot {place} is too small");
        }
    }
}
