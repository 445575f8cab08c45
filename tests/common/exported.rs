//! What networks as exporters write them are held to: how far numbers may be apart, and which nodes may be left to tract.

/// Token and time step embeddings, and a text encoder's choice of its last token, once a picture.
const GLUE: [&str; 13] = [
    "Cast",
    "Gather",
    "Sin",
    "Cos",
    "AddAxis",
    "RmAxis",
    "MultiBroadcastTo",
    "Eq",
    "Add",
    "Reduce<ArgMax(false)>",
    "Mul",
    "GatherNd",
    "Concat",
];

/// Of the nodes `left` to tract, "NAME (KIND)", those that should not be: neither [`GLUE`] nor of the kinds `also`.
pub(crate) fn unexpected<'a>(left: &'a [String], also: &[&str]) -> Vec<&'a String> {
    let is = |name: &str, kind: &str| name.ends_with(&format!("({kind})"));
    left.iter().filter(|name| !GLUE.iter().chain(also).any(|kind| is(name, kind))).collect()
}

/// |ours - theirs| / |theirs|.
pub(crate) fn error<'a>(ours: impl IntoIterator<Item = &'a f32>, theirs: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x).powi(2);
    let difference: f64 = ours.into_iter().zip(theirs).map(|(a, b)| square(a - b)).sum();
    (difference / theirs.iter().map(|b| square(*b)).sum::<f64>()).sqrt()
}
