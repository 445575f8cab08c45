//! What a plan does and how long it takes, by kind of operation.

use std::time::Duration;

use super::{Plan, Step};
use crate::engine::component::KindTime;
use crate::engine::lower::{Graph, Node, NodeId, Op};

impl Plan {
    pub(super) fn measure(&mut self, step: Step, time: Duration) {
        let Some(times) = &mut self.times else {
            return;
        };
        let (kind, macs) = match step {
            Step::Encode(_) => ("encode", 0.0),
            Step::Node(id) => (self.graph.nodes[id].op.kind(), macs(&self.graph, id)),
        };
        let at = times.iter().position(|entry| entry.kind == kind).unwrap_or_else(|| {
            times.push(KindTime { kind, time: Duration::ZERO, count: 0, macs: 0.0 });
            times.len() - 1
        });
        times[at].time += time;
        times[at].count += 1;
        times[at].macs += macs;
    }

    /// From now on adds up time by kind of operation; returns what was added up so far.
    pub(in crate::engine) fn take_times(&mut self) -> Vec<KindTime> {
        self.times.replace(Vec::new()).unwrap_or_default()
    }

    /// Multiplications with an addition of a whole run, by kind of operation.
    pub(in crate::engine) fn work(&self) -> Vec<(&'static str, f64)> {
        let mut work: Vec<(&'static str, f64)> = Vec::new();
        for step in &self.steps {
            let Step::Node(id) = *step else { continue };
            let (kind, macs) = (self.graph.nodes[id].op.kind(), macs(&self.graph, id));
            match work.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, sum)) => *sum += macs,
                None => work.push((kind, macs)),
            }
        }
        work.retain(|(_, macs)| *macs > 0.0);
        work
    }

    /// Operations by kind, and those that tract runs.
    pub(in crate::engine) fn report(&self) -> (Vec<(&'static str, usize)>, Vec<String>) {
        let mut kinds: Vec<(&'static str, usize)> = Vec::new();
        let mut foreign = Vec::new();
        for step in &self.steps {
            let (kind, node) = match step {
                Step::Encode(_) => ("encode", None),
                Step::Node(id) => (self.graph.nodes[*id].op.kind(), Some(&self.graph.nodes[*id])),
            };
            match kinds.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, count)) => *count += 1,
                None => kinds.push((kind, 1)),
            }
            if let Some(Node { name, op: Op::Foreign(op, _), .. }) = node {
                foreign.push(format!("{name} ({})", op.name()));
            }
        }
        (kinds, foreign)
    }
}

/// Multiplications that a node takes.
pub(super) fn macs(graph: &Graph, id: NodeId) -> f64 {
    match &graph.nodes[id].op {
        Op::Gemm(gemm) => {
            let inputs = graph.nodes[gemm.input].len() / gemm.geometry.input_rows();
            (gemm.geometry.output_rows() * gemm.geometry.taps() * gemm.channels * inputs) as f64
        }
        Op::Attention(attention) => {
            let keys = attention.key.shape()[1];
            (attention.query.len() * keys + attention.output.len() * keys) as f64
        }
        _ => 0.0,
    }
}
