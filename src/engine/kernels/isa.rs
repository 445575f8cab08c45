//! Which instruction sets there are, which this CPU has, and which one `EASELD_ISA` asks for.

use super::Kernel;

/// The environment variable that forces an instruction set.
pub(super) const VARIABLE: &str = "EASELD_ISA";

/// A set of instructions that a kernel is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// Plain Rust, for any CPU; the reference of the others.
    Scalar,
    /// x86-64 since 2013.
    Avx2,
    /// 256-bit dot products without AVX-512: Alder Lake, Zen 5.
    AvxVnni,
    /// 512-bit dot products: Ice Lake, Zen 4.
    Avx512Vnni,
    /// Every aarch64: Cortex-A53, A72.
    Neon,
    /// Cortex-A76 (Raspberry Pi 5), A78AE (Orin).
    Dotprod,
    /// Matrix multiplication: Neoverse V1, Cortex-A710.
    I8mm,
}

/// `EASELD_ISA` asks for something this process cannot do.
#[derive(Debug, thiserror::Error)]
pub enum IsaError {
    /// No such name.
    #[error("EASELD_ISA is '{0}'; it takes scalar, avx2, avxvnni, avx512vnni, neon, dotprod or i8mm")]
    Unknown(String),
    /// A known name, on the wrong CPU.
    #[error("EASELD_ISA is '{asked}', which this CPU does not have; it has {}", names(.has))]
    Unsupported {
        /// What was asked for.
        asked: &'static str,
        /// What would do.
        has: Vec<Isa>,
    },
}

fn names(sets: &[Isa]) -> String {
    sets.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", ")
}

impl Isa {
    /// All of them, a faster one after those it replaces.
    pub const ALL: [Isa; 7] =
        [Isa::Scalar, Isa::Avx2, Isa::AvxVnni, Isa::Avx512Vnni, Isa::Neon, Isa::Dotprod, Isa::I8mm];

    /// The name that `EASELD_ISA` takes.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::AvxVnni => "avxvnni",
            Isa::Avx512Vnni => "avx512vnni",
            Isa::Neon => "neon",
            Isa::Dotprod => "dotprod",
            Isa::I8mm => "i8mm",
        }
    }

    /// Those that this CPU has.
    pub fn supported() -> Vec<Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.kernel().is_some()).collect()
    }

    /// What `EASELD_ISA` asks for, or the fastest that this CPU has.
    pub fn choose() -> Result<Isa, IsaError> {
        match std::env::var_os(VARIABLE) {
            Some(asked) if !asked.is_empty() => Isa::parse(&asked.to_string_lossy()),
            _ => Ok(Isa::supported().pop().expect("scalar is always there")),
        }
    }

    fn parse(asked: &str) -> Result<Isa, IsaError> {
        let isa = Isa::ALL
            .into_iter()
            .find(|isa| isa.name() == asked)
            .ok_or_else(|| IsaError::Unknown(asked.to_owned()))?;
        match isa.kernel() {
            Some(_) => Ok(isa),
            None => Err(IsaError::Unsupported { asked: isa.name(), has: Isa::supported() }),
        }
    }

    /// Its integer kernel, if this CPU can run it.
    pub(in crate::engine) fn kernel(self) -> Option<&'static Kernel> {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq");
            match self {
                Isa::Avx2 if avx2 => return Some(&super::avx2::KERNEL),
                Isa::AvxVnni if avx2 && is_x86_feature_detected!("avxvnni") => {
                    return Some(&super::avxvnni::KERNEL);
                }
                Isa::Avx512Vnni if avx512 && is_x86_feature_detected!("avx512vnni") => {
                    return Some(&super::avx512vnni::KERNEL);
                }
                _ => {}
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            use std::arch::is_aarch64_feature_detected as has;
            match self {
                Isa::Neon => return Some(&super::neon::KERNEL),
                Isa::Dotprod if has!("dotprod") => return Some(&super::dotprod::KERNEL),
                Isa::I8mm if has!("i8mm") => return Some(&super::i8mm::KERNEL),
                _ => {}
            }
        }
        (self == Isa::Scalar).then_some(&super::scalar::KERNEL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_none_is_an_error_that_lists_the_names() {
        let message = Isa::parse("sse9").unwrap_err().to_string();
        assert_eq!(
            message,
            "EASELD_ISA is 'sse9'; it takes scalar, avx2, avxvnni, avx512vnni, neon, dotprod or i8mm"
        );
    }

    #[test]
    fn a_set_of_another_cpu_is_an_error_that_lists_what_would_do() {
        let other = if cfg!(target_arch = "aarch64") { "avx2" } else { "neon" };
        let message = Isa::parse(other).unwrap_err().to_string();
        assert!(
            message.starts_with(&format!("EASELD_ISA is '{other}', which this CPU does not have; it has"))
        );
        assert!(message.contains("scalar"), "{message}");
    }

    #[test]
    fn every_supported_set_is_found_by_its_name() {
        for isa in Isa::supported() {
            assert_eq!(Isa::parse(isa.name()).unwrap(), isa);
        }
    }
}
