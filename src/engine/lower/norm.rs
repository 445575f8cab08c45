//! Group, instance and layer norms: one operation once it is known how their groups lie in memory.

use tract_core::internal::TypedNode;
use tract_onnx::prelude::*;

use super::ir::{Norm, Op};
use super::read::Reader;
use super::view::{Atom, View, atoms};
use crate::engine::coarse::Standardize;
use crate::engine::kernels::float::Activation;

pub(super) fn norm(
    reader: &mut Reader<'_>,
    standardize: &Standardize,
    node: &TypedNode,
) -> anyhow::Result<Option<View>> {
    let view = reader.view(node.inputs[0])?;
    let view = reader.graph.dense(&view);
    let Some((batch, rows, channels, groups)) = shape(&view, standardize.axis) else {
        return Ok(None);
    };
    let op = Op::Norm(Box::new(Norm {
        input: view.node,
        batch,
        rows,
        channels,
        groups,
        epsilon: standardize.epsilon,
        gain: vec![1.0; channels],
        shift: vec![0.0; channels],
        activation: Activation::Identity,
    }));
    Ok(Some(reader.graph.add(&node.name, op, f32::datum_type(), view)))
}

/// Batch, rows, channels and groups of a dense tensor whose axes from `axis` on make up a group.
fn shape(view: &View, axis: usize) -> Option<(usize, usize, usize, usize)> {
    let lead = atoms(view.axes[..axis].iter().flatten().copied());
    let group = atoms(view.axes[axis..].iter().flatten().copied());
    match group[..] {
        [Atom { size, stride: 1 }] => Some((view.len() / size, 1, size, 1)),
        [Atom { size, stride: 1 }, Atom { size: rows, stride: channels }]
            if channels.is_multiple_of(size) =>
        {
            let (batch, groups) = (view.len() / (rows * channels), channels / size);
            let expected =
                [Atom { size: batch, stride: rows * channels }, Atom { size: groups, stride: size }];
            (lead == atoms(expected)).then_some((batch, rows, channels, groups))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_stored_rows_are_found_under_the_axes_of_planes() {
        let planes = View::row_major(0, &[2, 4, 5, 6]).moved(3, 1);
        assert_eq!(shape(&planes.reshaped(&[2, 3, 40]).unwrap(), 2), Some((2, 20, 6, 3)));
        assert_eq!(shape(&planes.reshaped(&[2, 1, 120]).unwrap(), 2), Some((2, 20, 6, 1)));
    }

    #[test]
    fn a_layer_norm_is_a_group_of_one_row() {
        assert_eq!(shape(&View::row_major(0, &[2, 20, 6]), 2), Some((40, 1, 6, 1)));
    }
}
