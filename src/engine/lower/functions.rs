//! What is computed number by number: functions of one tensor become expressions over it, functions of two are fused or
//! become an operation.

use anyhow::Context;
use tract_core::internal::TypedNode;
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::nn::LeakyRelu;
use tract_onnx::prelude::*;

use super::expr::{Expr, Meaning, One, Two};
use super::ir::Op;
use super::read::Reader;
use super::view::View;
use crate::engine::kernels::float::Activation;

impl Reader<'_> {
    pub(super) fn elementwise(
        &mut self,
        op: &ElementWiseOp,
        node: &TypedNode,
    ) -> anyhow::Result<Option<View>> {
        if let Some(LeakyRelu { alpha: slope @ 0.0..=1.0 }) = op.0.downcast_ref() {
            let view = self.view(node.inputs[0])?;
            let (base, expr) = self.function(&view);
            return Ok(Some(self.map(&node.name, base, expr.leaky(f64::from(*slope)))));
        }
        let one = match op.0.name().as_str() {
            "Sigmoid" => One::Sigmoid,
            "Erf" => One::Erf,
            "Tanh" => One::Tanh,
            "Exp" => One::Exp,
            "Neg" => One::Neg,
            "Square" => One::Square,
            _ => return Ok(None),
        };
        let view = self.view(node.inputs[0])?;
        let (base, expr) = self.function(&view);
        Ok(Some(self.map(&node.name, base, Expr::One(one, Box::new(expr)))))
    }

    pub(super) fn binary(
        &mut self,
        op: &TypedBinOp,
        node: &TypedNode,
        shape: &[usize],
    ) -> anyhow::Result<Option<View>> {
        let two = match op.0.name() {
            "Add" => Two::Add,
            "Sub" => Two::Sub,
            "Mul" => Two::Mul,
            "Div" => Two::Div,
            "Max" => Two::Max,
            "Min" => Two::Min,
            _ => return Ok(None),
        };
        let mut sides = Vec::new();
        for outlet in &node.inputs {
            let view = self.view(*outlet)?;
            match self.scalar(&view) {
                Some(number) => sides.push((view, Some(number))),
                None => sides.push((view.broadcast(shape).context("shapes that do not fit")?, None)),
            }
        }
        let [(a, a_number), (b, b_number)] = &sides[..] else {
            return Ok(None);
        };
        let apply = |a: Expr, b: Expr| Expr::Two(two, Box::new(a), Box::new(b));
        let (base, expr) = match (a_number, b_number) {
            (Some(a), Some(b)) => return Ok(Some(self.filled(&node.name, two.apply(*a, *b), shape))),
            (Some(number), None) => {
                let (base, expr) = self.function(b);
                (base, apply(Expr::Number(*number), expr))
            }
            (None, Some(number)) if a.shape() == shape => {
                let (base, expr) = self.function(a);
                (base, apply(expr, Expr::Number(*number)))
            }
            (None, None) => {
                let (a_base, a_expr) = self.function(a);
                let (b_base, b_expr) = self.function(b);
                if a_base != b_base {
                    return Ok(Some(self.pair(&node.name, two, a, b)));
                }
                (a_base, apply(a_expr, b_expr))
            }
            _ => return Ok(None),
        };
        if base.shape() != shape {
            return Ok(None);
        }
        Ok(Some(self.map(&node.name, base, expr)))
    }

    /// Two tensors of one shape; the result lies as the larger of them does, so that what is repeated over it
    /// follows.
    fn pair(&mut self, name: &str, two: Two, a: &View, b: &View) -> View {
        let repeated = |view: &View| view.flat().iter().any(|atom| atom.stride == 0);
        let layout = if repeated(a) && !repeated(b) { b.compact() } else { a.compact() };
        self.graph.add(name, Op::Binary(two, a.clone(), b.clone()), f32::datum_type(), layout)
    }

    /// A tensor as a function of another one.
    pub(super) fn function(&self, view: &View) -> (View, Expr) {
        if let Op::Map(of, expr) = &self.graph.nodes[view.node].op {
            // The map's buffer lies as its source does, so any view of one is a view of the other.
            return (view.clone().on(*of), expr.clone());
        }
        (view.clone(), Expr::X)
    }

    fn map(&mut self, name: &str, base: View, expr: Expr) -> View {
        if expr.meaning() == Meaning::Activation(Activation::Identity) {
            return base;
        }
        // A map covers its whole source, whatever part of it is viewed; what nobody reads is never computed, and a
        // slice is left for the consumer to take.
        let whole = self.graph.nodes[base.node].view.clone();
        let node = self.graph.add(name, Op::Map(base.node, expr), f32::datum_type(), whole);
        base.on(node.node)
    }
}
