//! Finds out what a movement of data does by letting it move numbers that say where they came from.
//!
//! Slices, splits and nearest-neighbour resizing come as different nodes with different arguments from every exporter;
//! where their output's elements come from is all that matters.

use tract_core::internal::DimLike;
use tract_core::ops::array::Slice;
use tract_onnx::prelude::*;

use super::view::{Atom, View};

/// Beyond this f32 no longer counts.
const COUNTABLE: usize = 1 << 24;

/// The view of `view` that `op` makes of it, if it makes one: a box cut out, or rows and columns repeated.
pub(super) fn movement(op: &dyn TypedOp, view: &View, others: &[Tensor], shape: &[usize]) -> Option<View> {
    let from = view.shape();
    if let Some(slice) = op.downcast_ref::<Slice>() {
        return view.sliced(slice.axis, slice.start.to_usize().ok()?, *shape.get(slice.axis)?);
    }
    if let Some(small) = resize_of_one_plane(op, view, others, shape) {
        return small;
    }
    if let Some(small) = slice_of_few_rows(op, view, others, shape) {
        return Some(small);
    }
    if view.len() > COUNTABLE || !["StridedSlice", "Slice", "Resize", "Tile"].contains(&op.name().as_ref()) {
        return None;
    }
    let numbers: Vec<f32> = (0..view.len()).map(|at| at as f32).collect();
    let mut inputs: TVec<TValue> = tvec!(Tensor::from_shape(&from, &numbers).ok()?.into_tvalue());
    inputs.extend(others.iter().map(|tensor| tensor.clone().into_tvalue()));
    let outputs = op.eval_out_of_plan(inputs).ok()??;
    let moved = outputs.first()?.try_as_plain_ram().ok()?.as_slice::<f32>().ok()?.to_vec();
    let does = |candidate: &View| {
        let places = places(candidate);
        candidate.shape() == shape
            && places.len() == moved.len()
            && places.iter().zip(&moved).all(|(a, b)| *a as f32 == *b)
    };
    let rows = View::row_major(0, &from);
    let steps = |view: &View| cut(view, &from, shape, *moved.first()? as usize);
    if steps(&rows).is_some_and(|candidate| does(&candidate)) {
        return steps(view);
    }
    let times = shape.last()?.checked_div(*from.last()?)?;
    (from.len() >= 2 && times > 1 && does(&rows.repeated(times))).then(|| view.repeated(times))
}

/// A resizing does the same to every plane of every picture: one is enough to find out. Nothing if it is no resizing
/// of whole planes.
fn resize_of_one_plane(
    op: &dyn TypedOp,
    view: &View,
    others: &[Tensor],
    shape: &[usize],
) -> Option<Option<View>> {
    let from = view.shape();
    if op.name() != "Resize" || from.len() != 4 || from[..2] != shape[..2] || from[..2] == [1, 1] {
        return None;
    }
    let mut others = others.to_vec();
    for other in others.iter_mut().filter(|other| other.datum_type() == i64::datum_type() && other.len() == 4)
    {
        let sizes = [1, 1, shape[2] as i64, shape[3] as i64];
        *other = tensor1(&sizes);
    }
    let [height, width] = [from[2], from[3]];
    let plane = View::row_major(view.node, &[1, 1, height, width]);
    let resized = movement(op, &plane, &others, &[1, 1, shape[2], shape[3]])?;
    let times = shape[3] / width;
    (resized == plane.repeated(times)).then(|| Some(view.repeated(times)))
}

/// A cut along one axis does the same to every row: two of each other axis are enough to find out (one would hide that
/// an axis is turned around).
fn slice_of_few_rows(op: &dyn TypedOp, view: &View, others: &[Tensor], shape: &[usize]) -> Option<View> {
    const FEW: usize = 2;
    let from = view.shape();
    let cuts: Vec<usize> = (0..from.len()).filter(|axis| Some(&from[*axis]) != shape.get(*axis)).collect();
    let large = |axis: &usize| !cuts.contains(axis) && from[*axis] > FEW;
    let [cut] = cuts[..] else {
        return None;
    };
    if from.len() != shape.len() || op.name() == "Resize" || !(0..from.len()).any(|axis| large(&axis)) {
        return None;
    }
    let few = |sizes: &[usize]| -> Vec<usize> {
        sizes.iter().enumerate().map(|(axis, size)| if large(&axis) { FEW } else { *size }).collect()
    };
    let rows = View::row_major(view.node, &few(&from));
    let found = movement(op, &rows, others, &few(shape))?;
    let start = found.offset / few(&from)[cut + 1..].iter().product::<usize>();
    (rows.sliced(cut, start, shape[cut])? == found).then(|| view.sliced(cut, start, shape[cut]))?
}

/// The box of `shape` whose first element is number `first` of `view`.
fn cut(view: &View, from: &[usize], shape: &[usize], first: usize) -> Option<View> {
    if from.len() != shape.len() {
        return None;
    }
    let mut cut = view.clone();
    let mut rest = first;
    for axis in (0..from.len()).rev() {
        cut = cut.sliced(axis, rest % from[axis], shape[axis])?;
        rest /= from[axis];
    }
    Some(cut)
}

/// Where each element of a view lies in the buffer, in the order of its axes.
pub(super) fn places(view: &View) -> Vec<usize> {
    let mut places = vec![view.offset];
    for Atom { size, stride } in view.axes.iter().flatten() {
        places = places.iter().flat_map(|at| (0..*size).map(move |step| at + step * stride)).collect();
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_found_where_it_lies() {
        let op = Slice { axis: 1, start: 2.to_dim(), end: 5.to_dim() };
        let planes = View::row_major(3, &[2, 4, 6]).moved(2, 1);
        let view = movement(&op, &planes, &[], &[2, 3, 4]).unwrap();
        assert_eq!(view, planes.sliced(1, 2, 3).unwrap());
    }
}
