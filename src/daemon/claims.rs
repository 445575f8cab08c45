//! Who makes which of the fleet's jobs: the first node that claims an id, for as long as it is there. Retained messages on
//! `<prefix>/fleet/claim/<id>` carry the claims; the broker's order decides which was first.
//!
//! Pure bookkeeping: what is heard goes in, what to do comes out.

use std::collections::{HashMap, HashSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::jobs::JobId;

/// Claims that are remembered.
const CLAIMS_MAX: usize = 4096;

/// The JSON of a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    /// Who makes it, or made it.
    pub(super) node: String,
    /// The picture is out: it is the one that counts.
    #[serde(default)]
    pub(super) done: bool,
}

/// What a node may do with a job of the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Make it.
    Mine,
    /// Claim it first.
    Unclaimed,
    /// Wait: another one makes it.
    Theirs,
    /// Leave it: another one has made it.
    Done {
        /// Who.
        node: String,
    },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Claims {
    node: String,
    known: HashMap<JobId, Claim>,
    order: VecDeque<JobId>,
    offline: HashSet<String>,
}

impl Claims {
    /// As the node `node` sees them.
    pub(super) fn new(node: &str) -> Self {
        Self { node: node.to_owned(), known: HashMap::new(), order: VecDeque::new(), offline: HashSet::new() }
    }

    /// A connection is new: what counts of claims on unfinished jobs is what the broker has kept.
    pub(super) fn connected(&mut self) {
        self.known.retain(|_, claim| claim.done);
    }

    /// Hears `claim` for `id`, or that there is none any more. `true` asks for our own claim to be published again: a later one
    /// has taken its place with the broker.
    pub(super) fn hear(&mut self, id: &JobId, claim: Option<Claim>) -> bool {
        let Some(claim) = claim else {
            self.known.remove(id);
            return false;
        };
        match self.known.get_mut(id) {
            Some(first) if first.node != claim.node => {
                let gone = !first.done && self.offline.contains(&first.node);
                if gone {
                    *first = claim;
                }
                !gone && first.node == self.node
            }
            Some(same) => {
                same.done |= claim.done;
                false
            }
            None => {
                self.known.insert(id.clone(), claim);
                self.order.push_back(id.clone());
                if self.order.len() > CLAIMS_MAX
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.known.remove(&oldest);
                }
                false
            }
        }
    }

    /// Hears whether a node is there.
    pub(super) fn hear_status(&mut self, node: &str, online: bool) {
        if online {
            self.offline.remove(node);
        } else if node != self.node {
            self.offline.insert(node.to_owned());
        }
    }

    /// What we may do with `id`.
    pub(super) fn verdict(&self, id: &JobId) -> Verdict {
        match self.known.get(id) {
            None => Verdict::Unclaimed,
            Some(claim) if claim.node == self.node => Verdict::Mine,
            Some(claim) if claim.done => Verdict::Done { node: claim.node.clone() },
            Some(claim) if self.offline.contains(&claim.node) => Verdict::Unclaimed,
            Some(_) => Verdict::Theirs,
        }
    }

    /// Our own claim.
    pub(super) fn own(&self, done: bool) -> Claim {
        Claim { node: self.node.clone(), done }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> JobId {
        JobId::parse(text).expect("valid")
    }

    fn claim(node: &str, done: bool) -> Option<Claim> {
        Some(Claim { node: node.to_owned(), done })
    }

    #[test]
    fn the_first_claim_counts_and_its_owner_defends_it() {
        let (mut ours, mut theirs) = (Claims::new("a"), Claims::new("b"));
        assert_eq!(ours.verdict(&id("j")), Verdict::Unclaimed);
        for claims in [&mut ours, &mut theirs] {
            assert!(!claims.hear(&id("j"), claim("a", false)));
        }
        assert_eq!((ours.verdict(&id("j")), theirs.verdict(&id("j"))), (Verdict::Mine, Verdict::Theirs));
        assert!(ours.hear(&id("j"), claim("b", false)), "a says so again");
        assert!(!theirs.hear(&id("j"), claim("b", false)), "b does not insist");
        assert_eq!((ours.verdict(&id("j")), theirs.verdict(&id("j"))), (Verdict::Mine, Verdict::Theirs));
    }

    #[test]
    fn a_node_that_is_gone_loses_what_it_has_not_made() {
        let mut claims = Claims::new("b");
        claims.hear(&id("open"), claim("a", false));
        claims.hear(&id("made"), claim("a", true));
        claims.hear_status("a", false);
        assert_eq!(claims.verdict(&id("open")), Verdict::Unclaimed);
        assert_eq!(claims.verdict(&id("made")), Verdict::Done { node: "a".to_owned() });
        claims.hear(&id("open"), claim("b", false));
        assert_eq!(claims.verdict(&id("open")), Verdict::Mine);
        claims.hear_status("a", true);
        assert_eq!(claims.verdict(&id("open")), Verdict::Mine);
    }

    #[test]
    fn who_comes_back_believes_the_broker() {
        let mut claims = Claims::new("a");
        claims.hear(&id("j"), claim("a", false));
        claims.connected();
        assert!(!claims.hear(&id("j"), claim("b", false)), "it was given away meanwhile");
        assert_eq!(claims.verdict(&id("j")), Verdict::Theirs);
        claims.hear(&id("j"), None);
        assert_eq!(claims.verdict(&id("j")), Verdict::Unclaimed);
    }

    #[test]
    fn memory_is_bounded() {
        let mut claims = Claims::new("a");
        for n in 0..2 * CLAIMS_MAX {
            claims.hear(&id(&n.to_string()), claim("b", true));
        }
        assert_eq!(claims.known.len(), CLAIMS_MAX);
    }
}
