//! A function of one number as a graph spells it, and what it means.
//!
//! SiLU is `x * sigmoid(x)`, GELU comes in half a dozen spellings. Rather than know them all, the function is evaluated:
//! what agrees with SiLU wherever one looks is SiLU.

use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2};

use half::{bf16, f16};

use crate::engine::kernels::float::Activation;

/// Numbers in the spellings of activations: a graph in half precision has the next half in their place.
const SPELLED: [f64; 4] = [SQRT_2, FRAC_1_SQRT_2, 1.702, 0.2];

/// Operations of two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Two {
    Add,
    Sub,
    Mul,
    Div,
    Max,
    Min,
}

impl Two {
    pub(in crate::engine) fn apply(self, a: f64, b: f64) -> f64 {
        match self {
            Two::Add => a + b,
            Two::Sub => a - b,
            Two::Mul => a * b,
            Two::Div => a / b,
            Two::Max => a.max(b),
            Two::Min => a.min(b),
        }
    }
}

/// Operations of one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum One {
    Sigmoid,
    Erf,
    Tanh,
    Exp,
    Neg,
    Square,
}

/// An expression in `x`.
#[derive(Debug, Clone)]
pub(in crate::engine) enum Expr {
    X,
    Number(f64),
    One(One, Box<Expr>),
    Two(Two, Box<Expr>, Box<Expr>),
}

/// What an expression means.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::engine) enum Meaning {
    Activation(Activation),
    /// `x` times this.
    Gain(f64),
    Other,
}

impl Expr {
    pub(in crate::engine) fn at(&self, x: f64) -> f64 {
        match self {
            Expr::X => x,
            Expr::Number(number) => *number,
            Expr::Two(two, a, b) => two.apply(a.at(x), b.at(x)),
            Expr::One(one, a) => {
                let a = a.at(x);
                match one {
                    One::Sigmoid => 1.0 / (1.0 + (-a).exp()),
                    One::Erf => libm::erf(a),
                    One::Tanh => a.tanh(),
                    One::Exp => a.exp(),
                    One::Neg => -a,
                    One::Square => a * a,
                }
            }
        }
    }

    /// The expression, or `slope` of it below 0; the slope is 0 to 1.
    pub(super) fn leaky(self, slope: f64) -> Expr {
        let small = Expr::Two(Two::Mul, Box::new(self.clone()), Box::new(Expr::Number(slope)));
        Expr::Two(Two::Max, Box::new(self), Box::new(small))
    }

    /// The same with [`SPELLED`] numbers as they were before they were rounded to halves.
    fn unrounded(&self) -> Expr {
        let whole = |number: f64| {
            let halves = |of: &f64| [f16::from_f64(*of).to_f64(), bf16::from_f64(*of).to_f64()];
            SPELLED.into_iter().find(|spelled| halves(spelled).contains(&number)).unwrap_or(number)
        };
        match self {
            Expr::X => Expr::X,
            Expr::Number(number) => Expr::Number(whole(*number)),
            Expr::One(one, a) => Expr::One(*one, Box::new(a.unrounded())),
            Expr::Two(two, a, b) => Expr::Two(*two, Box::new(a.unrounded()), Box::new(b.unrounded())),
        }
    }

    pub(in crate::engine) fn meaning(&self) -> Meaning {
        let unrounded = self.unrounded();
        // Off the integers, dense where the functions bend, far enough out for their tails.
        let probes = || (-60..=60).map(|i| f64::from(i) * 0.13 + 0.01);
        let agree = |own: &Expr, wanted: &dyn Fn(f64) -> f64| {
            probes().all(|x| (own.at(x) - wanted(x)).abs() <= 2e-6 * (1.0 + wanted(x).abs()))
        };
        let known = [
            Activation::Identity,
            Activation::Silu,
            Activation::QuickGelu,
            Activation::Gelu,
            Activation::Relu,
            Activation::LeakyRelu,
        ];
        if let Some(activation) = known.into_iter().find(|known| agree(&unrounded, &|x| known.reference(x))) {
            return Meaning::Activation(activation);
        }
        let gain = self.at(1.0);
        if agree(self, &|x| gain * x) { Meaning::Gain(gain) } else { Meaning::Other }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two(two: Two, a: Expr, b: Expr) -> Expr {
        Expr::Two(two, Box::new(a), Box::new(b))
    }

    fn one(one: One, a: Expr) -> Expr {
        Expr::One(one, Box::new(a))
    }

    #[test]
    fn spellings_are_recognized_by_what_they_do() {
        use Expr::{Number, X};
        let silu = two(Two::Mul, one(One::Sigmoid, X), X);
        assert_eq!(silu.meaning(), Meaning::Activation(Activation::Silu));
        let quotient = two(Two::Div, X, two(Two::Add, Number(1.0), one(One::Exp, one(One::Neg, X))));
        assert_eq!(quotient.meaning(), Meaning::Activation(Activation::Silu));
        let half = one(One::Erf, two(Two::Div, X, Number(std::f64::consts::SQRT_2)));
        let gelu = two(Two::Mul, two(Two::Mul, X, two(Two::Add, half, Number(1.0))), Number(0.5));
        assert_eq!(gelu.meaning(), Meaning::Activation(Activation::Gelu));
        assert_eq!(two(Two::Div, X, Number(1.0)).meaning(), Meaning::Activation(Activation::Identity));
        assert_eq!(two(Two::Mul, Number(0.125), X).meaning(), Meaning::Gain(0.125));
        assert_eq!(two(Two::Max, X, Number(0.0)).meaning(), Meaning::Activation(Activation::Relu));
        let leaky = two(Two::Max, X, two(Two::Mul, X, Number(0.2)));
        assert_eq!(leaky.meaning(), Meaning::Activation(Activation::LeakyRelu));
    }

    #[test]
    fn numbers_that_were_rounded_to_halves_spell_the_same() {
        use Expr::X;
        let spelled = |number: f64, meant: Activation| match meant {
            Activation::QuickGelu => {
                two(Two::Mul, one(One::Sigmoid, two(Two::Mul, X, Expr::Number(number))), X)
            }
            _ => {
                let erf = one(One::Erf, two(Two::Div, X, Expr::Number(number)));
                two(Two::Mul, two(Two::Mul, X, two(Two::Add, erf, Expr::Number(1.0))), Expr::Number(0.5))
            }
        };
        for (number, meant) in [(SQRT_2, Activation::Gelu), (1.702, Activation::QuickGelu)] {
            for half in [f16::from_f64(number).to_f64(), bf16::from_f64(number).to_f64()] {
                assert_eq!(spelled(half, meant).meaning(), Meaning::Activation(meant), "{half}");
            }
        }
        assert_eq!(spelled(1.415, Activation::Gelu).meaning(), Meaning::Other);
        // A gain is the number that stands there.
        assert_eq!(two(Two::Mul, X, Expr::Number(1.414_062_5)).meaning(), Meaning::Gain(1.414_062_5));
    }

    #[test]
    fn what_only_resembles_a_function_is_not_it() {
        let nearly = two(Two::Mul, one(One::Sigmoid, two(Two::Mul, Expr::X, Expr::Number(1.001))), Expr::X);
        assert_eq!(nearly.meaning(), Meaning::Other);
        assert_eq!(two(Two::Add, Expr::X, Expr::Number(0.5)).meaning(), Meaning::Other);
    }
}
