//! Where the elements of a graph's tensor lie in a stored buffer.
//!
//! Exporters move axes about all the time: to heads and back, from planes to tokens, into groups. None of it touches
//! memory here. An axis of a tensor is a list of atoms, each a size and a stride in the buffer: transposing permutes
//! axes, reshaping regroups atoms, broadcasting and nearest-neighbour upsampling are atoms of stride 0. What an
//! operation then asks is not which nodes came before it but how its input lies.

/// A stored buffer, by the node that fills it.
pub(in crate::engine) type NodeId = usize;

/// Part of an axis: `size` steps of `stride` elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) struct Atom {
    pub(in crate::engine) size: usize,
    pub(in crate::engine) stride: usize,
}

/// A tensor over a node's buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) struct View {
    pub(in crate::engine) node: NodeId,
    pub(in crate::engine) offset: usize,
    /// Atoms of each axis, outer first, none of size 1.
    pub(in crate::engine) axes: Vec<Vec<Atom>>,
}

impl View {
    /// The whole buffer, axes in their order.
    pub(in crate::engine) fn row_major(node: NodeId, shape: &[usize]) -> View {
        let mut stride = 1;
        let mut axes: Vec<Vec<Atom>> = Vec::with_capacity(shape.len());
        for &size in shape.iter().rev() {
            axes.push(atoms([Atom { size, stride }]));
            stride *= size;
        }
        axes.reverse();
        View { node, offset: 0, axes }
    }

    pub(in crate::engine) fn shape(&self) -> Vec<usize> {
        self.axes.iter().map(|axis| size(axis)).collect()
    }

    pub(in crate::engine) fn len(&self) -> usize {
        self.axes.iter().map(|axis| size(axis)).product()
    }

    /// Every atom, in the order of the axes.
    pub(in crate::engine) fn flat(&self) -> Vec<Atom> {
        atoms(self.axes.iter().flatten().copied())
    }

    pub(in crate::engine) fn moved(&self, from: usize, to: usize) -> View {
        let mut view = self.clone();
        let axis = view.axes.remove(from);
        view.axes.insert(to, axis);
        view
    }

    /// The same elements in the same order under another shape, unless atoms would have to be torn apart.
    pub(in crate::engine) fn reshaped(&self, shape: &[usize]) -> Option<View> {
        let mut rest = self.flat();
        rest.reverse();
        let mut axes = Vec::with_capacity(shape.len());
        for &size in shape {
            let (mut axis, mut wanted) = (Vec::new(), size);
            while wanted > 1 {
                let atom = rest.pop()?;
                if wanted.is_multiple_of(atom.size) {
                    wanted /= atom.size;
                    axis.push(atom);
                } else if atom.size.is_multiple_of(wanted) {
                    let inner = atom.size / wanted;
                    axis.push(Atom { size: wanted, stride: atom.stride * inner });
                    rest.push(Atom { size: inner, stride: atom.stride });
                    wanted = 1;
                } else {
                    return None;
                }
            }
            axes.push(atoms(axis));
        }
        rest.is_empty().then_some(View { node: self.node, offset: self.offset, axes })
    }

    /// Axes of size 1 stretched to `shape`.
    pub(in crate::engine) fn broadcast(&self, shape: &[usize]) -> Option<View> {
        let fits = self.axes.len() == shape.len();
        let axes = self.axes.iter().zip(shape).map(|(axis, wanted)| match size(axis) {
            have if have == *wanted => Some(axis.clone()),
            1 => Some(vec![Atom { size: *wanted, stride: 0 }]),
            _ => None,
        });
        let axes = axes.collect::<Option<_>>()?;
        fits.then_some(View { node: self.node, offset: self.offset, axes })
    }

    /// `count` elements of an axis from `start` on, unless the axis is made of several atoms.
    pub(in crate::engine) fn sliced(&self, axis: usize, start: usize, count: usize) -> Option<View> {
        let mut view = self.clone();
        if count != size(&self.axes[axis]) {
            let [atom] = self.axes[axis][..] else {
                return None;
            };
            view.offset += start * atom.stride;
            view.axes[axis] = atoms([Atom { size: count, stride: atom.stride }]);
        }
        Some(view)
    }

    /// Each column and row of the last two axes `times` times: nearest-neighbour upsampling.
    pub(in crate::engine) fn repeated(&self, times: usize) -> View {
        let mut view = self.clone();
        let rank = view.axes.len();
        for axis in &mut view.axes[rank - 2..] {
            axis.push(Atom { size: times, stride: 0 });
        }
        view
    }

    /// Is it every element of a buffer of `len`, each once?
    pub(in crate::engine) fn is_dense(&self, len: usize) -> bool {
        self.offset == 0 && self.len() == len && self.compact().axes == self.axes
    }

    /// A buffer of its own for the same tensor, its atoms in the same order of memory, no gaps, nothing repeated.
    /// The node is to be filled in.
    pub(in crate::engine) fn compact(&self) -> View {
        let mut places: Vec<(usize, usize)> = Vec::new();
        for (axis, list) in self.axes.iter().enumerate() {
            places.extend((0..list.len()).map(|at| (axis, at)));
        }
        // Repeated elements have no place of their own: they go innermost, in the order of the axes.
        places.sort_by_key(|(axis, at)| std::cmp::Reverse(self.axes[*axis][*at].stride));
        let mut view = View { node: self.node, offset: 0, axes: self.axes.clone() };
        let mut stride = 1;
        for (axis, at) in places.into_iter().rev() {
            let atom = &mut view.axes[axis][at];
            atom.stride = stride;
            stride *= atom.size;
        }
        for axis in &mut view.axes {
            *axis = atoms(axis.drain(..));
        }
        view
    }

    pub(in crate::engine) fn on(mut self, node: NodeId) -> View {
        self.node = node;
        self
    }
}

/// Elements along an axis.
pub(in crate::engine) fn size(axis: &[Atom]) -> usize {
    axis.iter().map(|atom| atom.size).product()
}

/// Atoms without those of size 1, neighbours that continue each other joined.
pub(in crate::engine) fn atoms(list: impl IntoIterator<Item = Atom>) -> Vec<Atom> {
    let mut joined: Vec<Atom> = Vec::new();
    for atom in list.into_iter().filter(|atom| atom.size != 1) {
        match joined.last_mut() {
            Some(last) if last.stride == atom.stride * atom.size && (atom.stride > 0 || last.stride == 0) => {
                *last = Atom { size: last.size * atom.size, stride: atom.stride };
            }
            _ => joined.push(atom),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [2, 6, 4, 5] planes, stored with channels last.
    fn planes() -> View {
        View::row_major(7, &[2, 4, 5, 6]).moved(3, 1)
    }

    #[test]
    fn planes_to_tokens_is_no_move_at_all() {
        let tokens = planes().moved(1, 3).reshaped(&[2, 20, 6]).unwrap();
        assert_eq!(tokens, View::row_major(7, &[2, 20, 6]));
    }

    #[test]
    fn heads_are_a_regrouping_and_come_back() {
        let heads = View::row_major(7, &[2, 20, 6]).reshaped(&[2, 20, 3, 2]).unwrap().moved(1, 2);
        let merged = heads.reshaped(&[6, 20, 2]).unwrap();
        assert_eq!(merged.axes[0], [Atom { size: 2, stride: 120 }, Atom { size: 3, stride: 2 }]);
        let back = merged.reshaped(&[2, 3, 20, 2]).unwrap().moved(2, 1).reshaped(&[2, 20, 6]).unwrap();
        assert_eq!(back, View::row_major(7, &[2, 20, 6]));
    }

    #[test]
    fn groups_split_the_channels_of_stored_rows() {
        let groups = planes().reshaped(&[2, 3, 40]).unwrap();
        assert_eq!(groups.axes[1], [Atom { size: 3, stride: 2 }]);
        assert_eq!(groups.axes[2], [Atom { size: 2, stride: 1 }, Atom { size: 20, stride: 6 }]);
        assert!(groups.is_dense(240));
        assert_eq!(groups.reshaped(&[2, 6, 4, 5]).unwrap(), planes());
    }

    #[test]
    fn what_tears_an_atom_apart_is_no_view() {
        assert_eq!(planes().reshaped(&[2, 4, 60]), None);
    }

    #[test]
    fn a_slice_and_an_upsampling_are_not_dense() {
        let half = View::row_major(0, &[4, 8]).sliced(1, 4, 4).unwrap();
        assert_eq!((half.offset, half.shape()), (4, vec![4, 4]));
        assert!(!half.is_dense(32) && !half.is_dense(16));
        assert_eq!(half.compact(), View::row_major(0, &[4, 4]));
        let larger = planes().repeated(2);
        assert_eq!(larger.shape(), [2, 6, 8, 10]);
        assert!(!larger.is_dense(240));
    }
}
