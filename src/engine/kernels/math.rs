//! Elementary functions that a compiler turns into vector code: no branches, no calls.

/// `a * b + c`, in one rounding where the instruction set of the caller has it: without it `mul_add` is a call.
#[inline(always)]
pub(in crate::engine) fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// e to the `x`, relative error below 2e-7; 0 towards negative infinity comes out as 1e-38.
#[inline(always)]
pub(in crate::engine) fn exp<const FMA: bool>(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits of the mantissa.
    const MAGIC: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let shifted = fma::<FMA>(x, std::f32::consts::LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    let r = fma::<FMA>(n, -LN_2_LOW, fma::<FMA>(n, -LN_2_HIGH, x));
    // Cephes' expf: minimax on [-ln 2 / 2, ln 2 / 2].
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = fma::<FMA>(p, r, coefficient);
    }
    let p = fma::<FMA>(p * r, r, r + 1.0);
    let power = (shifted.to_bits().wrapping_sub(MAGIC.to_bits()).wrapping_add(127)) << 23;
    p * f32::from_bits(power)
}

/// 2 to the `x` for `x` up to 0, relative error below 4e-6: more than codes of 8 bits can tell.
#[inline(always)]
pub(in crate::engine) fn exp2<const FMA: bool>(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits of the mantissa.
    const MAGIC: f32 = 12_582_912.0;
    let x = if x > -100.0 { x } else { -100.0 };
    let shifted = x + MAGIC;
    let r = x - (shifted - MAGIC);
    // Least squares of the relative error on [-1/2, 1/2], reweighted towards its maximum.
    let mut p = 9.570_1e-3;
    for coefficient in [5.591_786e-2, 2.402_474_5e-1, 6.931_218e-1, 0.999_999_3] {
        p = fma::<FMA>(p, r, coefficient);
    }
    f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// The error function, absolute error below 5e-7 (Abramowitz and Stegun 7.1.26 in f32).
#[inline(always)]
pub(in crate::engine) fn erf<const FMA: bool>(x: f32) -> f32 {
    let size = x.abs();
    let t = 1.0 / fma::<FMA>(0.327_591_1, size, 1.0);
    let mut p = 1.061_405_4;
    for coefficient in [-1.453_152_1, 1.421_413_8, -0.284_496_74, 0.254_829_6] {
        p = fma::<FMA>(p, t, coefficient);
    }
    (1.0 - p * t * exp::<FMA>(-size * size)).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_exp() {
        for step in -8700..8800 {
            let x = step as f32 / 100.0;
            let (ours, theirs) = (exp::<true>(x), f64::from(x).exp());
            assert!((f64::from(ours) / theirs - 1.0).abs() < 3e-7, "{x}: {ours} {theirs}");
        }
        assert!(exp::<false>(f32::NEG_INFINITY) < 1e-37);
    }

    #[test]
    fn exp2_is_exp2() {
        for step in 0..9900 {
            let x = -step as f32 / 100.0;
            let (ours, theirs) = (exp2::<true>(x), f64::from(x).exp2());
            assert!((f64::from(ours) / theirs - 1.0).abs() < 4e-6, "{x}: {ours} {theirs}");
        }
        assert!(exp2::<false>(f32::NEG_INFINITY) < 1e-30);
    }

    #[test]
    fn erf_is_erf() {
        for step in -500..=500 {
            let x = step as f32 / 100.0;
            let (ours, theirs) = (erf::<true>(x), libm::erf(f64::from(x)));
            assert!((f64::from(ours) - theirs).abs() < 6e-7, "{x}: {ours} {theirs}");
        }
    }
}
