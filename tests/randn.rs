//! `TorchGenerator` against PyTorch itself. Golden file: quantize/golden/randn.py.

#![allow(clippy::unwrap_used, reason = "a helper of a test may stop it")]

use easeld::diffusion::latents::TorchGenerator;
use easeld::diffusion::schedulers::NoiseSource;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    words: Vec<Words>,
    randn: Vec<Row>,
    sequences: Vec<Sequence>,
}

#[derive(Deserialize)]
struct Words {
    seed: u32,
    first: Vec<u32>,
    last: Vec<u32>,
}

#[derive(Deserialize)]
struct Row {
    seed: u32,
    size: usize,
    /// Which elements `values` holds; all when absent.
    at: Option<Vec<usize>>,
    values: Vec<f32>,
}

#[derive(Deserialize)]
struct Sequence {
    seed: u32,
    calls: Vec<Call>,
}

#[derive(Deserialize)]
struct Call {
    size: usize,
    tail: Vec<f32>,
}

const TOLERANCE: f32 = 1e-6;

fn golden() -> Golden {
    serde_json::from_str(include_str!("golden/randn/randn.json")).unwrap()
}

/// Largest absolute difference; infinite where the lengths differ or a number is not one.
fn distance(ours: &[f32], theirs: &[f32]) -> f32 {
    if ours.len() != theirs.len() || ours.iter().any(|x| !x.is_finite()) {
        return f32::INFINITY;
    }
    ours.iter().zip(theirs).fold(0.0, |worst, (a, b)| worst.max((a - b).abs()))
}

fn assert_no_failures(failures: &[String], rows: usize) {
    assert!(rows > 0, "the golden file has no rows");
    assert!(failures.is_empty(), "{} of {rows} rows differ:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn words_are_exactly_those_of_torch() {
    let rows = golden().words;
    let failures: Vec<String> = rows
        .iter()
        .filter_map(|row| {
            let mut generator = TorchGenerator::new(row.seed);
            let drawn: Vec<u32> = (0..1300).map(|_| generator.next_u32()).collect();
            let same = drawn.starts_with(&row.first) && drawn.ends_with(&row.last);
            (!same).then(|| format!("seed {}", row.seed))
        })
        .collect();
    assert_no_failures(&failures, rows.len());
}

#[test]
fn randn_agrees_with_torch_for_every_seed_and_size() {
    let rows = golden().randn;
    let mut worst = 0.0f32;
    let failures: Vec<String> = rows
        .iter()
        .filter_map(|row| {
            let all = TorchGenerator::new(row.seed).randn(row.size);
            let ours = match &row.at {
                Some(at) => at.iter().map(|&i| all[i]).collect(),
                None => all,
            };
            let d = distance(&ours, &row.values);
            worst = worst.max(d);
            (d > TOLERANCE).then(|| format!("seed {} size {}: {d:e}", row.seed, row.size))
        })
        .collect();
    println!("largest difference over {} results: {worst:e}", rows.len());
    assert_no_failures(&failures, rows.len());
}

#[test]
fn consecutive_calls_continue_the_stream_as_in_torch() {
    let rows = golden().sequences;
    let mut failures = Vec::new();
    for row in &rows {
        let mut generator = TorchGenerator::new(row.seed);
        for (i, call) in row.calls.iter().enumerate() {
            let ours = generator.randn(call.size);
            let d = distance(&ours[call.size.saturating_sub(8)..], &call.tail);
            if d > TOLERANCE {
                failures.push(format!("seed {} call {i} of size {}: {d:e}", row.seed, call.size));
            }
        }
    }
    assert_no_failures(&failures, rows.len());
}

#[test]
fn f64_noise_is_the_f32_stream_widened() {
    for size in [1, 15, 16, 33] {
        let narrow = TorchGenerator::new(42).randn(size);
        let mut wide = vec![0.0f64; size];
        TorchGenerator::new(42).fill_standard_normal(&mut wide);
        assert!(wide.iter().zip(&narrow).all(|(w, n)| *w == f64::from(*n)));
    }
}

#[test]
fn a_million_numbers_have_the_moments_of_a_standard_normal() {
    let sample = TorchGenerator::new(3).randn(1_000_000);
    let n = sample.len() as f64;
    let moment = |k: i32| sample.iter().map(|&x| f64::from(x).powi(k)).sum::<f64>() / n;
    // Five standard errors of each estimate.
    assert!(moment(1).abs() < 5e-3, "mean {}", moment(1));
    assert!((moment(2) - 1.0).abs() < 7.1e-3, "variance {}", moment(2));
    assert!(moment(3).abs() < 2e-2, "third moment {}", moment(3));
    assert!((moment(4) - 3.0).abs() < 5e-2, "fourth moment {}", moment(4));
}
