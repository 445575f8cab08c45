//! A plan for a band of a picture: norms get the statistics of the whole picture, which are gathered band by band.

use std::ops::Range;

use tract_onnx::prelude::*;

use super::{Plan, Step};
use crate::engine::lower::{NodeId, Norm, Op};
use crate::engine::ops::norm::{channel_maps, moments};
use crate::engine::weights::Weights;

impl Plan {
    /// Norms that take the statistics of more than one row, in the order in which they run.
    pub(in crate::engine) fn pooled_norms(&self) -> Vec<(NodeId, usize)> {
        let pooled = self.steps.iter().filter_map(|step| match *step {
            Step::Node(id) => match &self.graph.nodes[id].op {
                Op::Norm(norm) if norm.rows > 1 => Some((id, norm.rows)),
                _ => None,
            },
            Step::Encode(_) => None,
        });
        pooled.collect()
    }

    /// Sums over `rows` of the input of the norm at `id`. No more runs than it takes to have that input.
    pub(in crate::engine) fn moments(
        &mut self,
        weights: &mut Weights,
        input: Tensor,
        id: NodeId,
        rows: Range<usize>,
    ) -> anyhow::Result<Vec<f32>> {
        let read = self.norm(id).input;
        let (mut needed, mut coded) = (vec![false; read + 1], vec![false; read + 1]);
        needed[read] = true;
        for node in (0..=read).rev() {
            if !needed[node] {
                continue;
            }
            let op = &self.graph.nodes[node].op;
            op.reads().into_iter().for_each(|read| needed[read] = true);
            if let Op::Gemm(gemm) = op {
                coded[gemm.input] = true;
            }
        }
        let runs = |step: &Step| match *step {
            Step::Node(id) => needed.get(id) == Some(&true),
            Step::Encode(id) => coded.get(id) == Some(&true),
        };
        let steps: Vec<Step> = self.steps.iter().copied().filter(runs).collect();
        // Nothing may be relied upon by the next run: only a part of it ran.
        self.last_inputs.clear();
        self.fill_inputs(&[input])?;
        self.execute(weights, &steps)?;
        let machine = self.machine.clone();
        Ok(machine.pool.enter(|| moments(&machine, self.norm(id), rows, self.values(read))))
    }

    /// From now on the norm at `id` takes its statistics from `moments`, those of `rows` rows.
    pub(in crate::engine) fn impose(&mut self, id: NodeId, moments: &[f32], rows: usize) {
        let maps = channel_maps(self.norm(id), rows, moments);
        self.imposed.insert(id, maps);
    }

    fn norm(&self, id: NodeId) -> &Norm {
        match &self.graph.nodes[id].op {
            Op::Norm(norm) => norm,
            op => unreachable!("node {id} is a {}", op.kind()),
        }
    }
}
