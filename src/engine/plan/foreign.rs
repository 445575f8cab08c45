//! Nodes that no rule of ours knows: tract computes them, from tensors made of our buffers.

use anyhow::{Context, ensure};
use tract_onnx::prelude::*;

use super::{Place, Plan};
use crate::engine::lower::{NodeId, Op};

impl Plan {
    /// Has tract compute a node.
    pub(super) fn foreign(&mut self, id: NodeId, op: &dyn TypedOp) -> anyhow::Result<()> {
        let Op::Foreign(_, views) = &self.graph.nodes[id].op else {
            return Ok(());
        };
        let mut inputs = TVec::new();
        for view in views {
            let is_constant = matches!(self.graph.nodes[view.node].op, Op::Constant(_));
            inputs.push(match self.places[view.node] {
                Place::Tensor(slot) => {
                    if is_constant && self.tensors[slot].is_none() {
                        let tensor = Tensor::from_shape(&view.shape(), self.values(view.node))?;
                        self.tensors[slot] = Some(tensor.into_tvalue());
                    }
                    self.tensors[slot].clone().context("a tensor that is not there yet")?
                }
                _ => Tensor::from_shape(&view.shape(), self.values(view.node))?.into_tvalue(),
            });
        }
        let value = op.eval_out_of_plan(inputs)?.context("tract cannot run it on its own")?.remove(0);
        match self.places[id] {
            Place::Floats(slot) => {
                let len = self.graph.nodes[id].len();
                let values = value.try_as_plain_ram()?;
                let values = values.as_slice::<f32>()?;
                ensure!(values.len() == len, "{} values instead of {len}", values.len());
                self.floats[slot][..len].copy_from_slice(values);
            }
            Place::Tensor(slot) => self.tensors[slot] = Some(value),
            Place::None => {}
        }
        Ok(())
    }
}
