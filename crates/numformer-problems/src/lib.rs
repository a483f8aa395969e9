//! Problems of linear algebra, and the random matrices they are posed on.
//!
//! A [`Problem`] maps one matrix to one matrix and says how far a candidate is from an answer; a [`Law`] draws
//! random matrices. Both are open: a new problem or law is a new type.
//!
//! ```
//! use numformer_metrics::Norm;
//! use numformer_problems::{Law, Instance, Problem, Transpose, UniformEntries};
//! use rand::SeedableRng;
//!
//! let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
//! let a = UniformEntries::new(2, 3, 10.0)?.sample(&mut rng);
//! let answer = Transpose.solve(a.as_ref())?;
//! assert_eq!(answer.shape(), (3, 2));
//! assert_eq!(answer[(2, 1)], a[(1, 2)]);
//! let instance = Instance { input: a.as_ref(), target: answer.as_ref() };
//! assert_eq!(Transpose.error(instance, answer.as_ref(), Norm::L1)?, 0.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Main types
//! - [`Problem`], its [`Instance`]s and its [`SolveError`]; [`Magnitudes`] of entries; [`Analysis`] of wrong answers;
//!   [`ReferenceComparison`], for published figures.
//! - The paper's problems: [`Transpose`], [`Addition`], [`MatrixVector`], [`Multiplication`], [`Eigenvalues`],
//!   [`Eigenvectors`], [`Inversion`], [`SymmetricInversion`], [`SingularValues`], [`Svd`]; with their options
//!   [`LeftFactor`], [`Signs`], [`InverseJudgement`].
//! - Problems beyond the paper: [`Determinant`], [`Trace`], [`Rank`], [`LinearSolve`], [`Cholesky`], [`Qr`],
//!   [`MatrixExponential`], [`MatrixSign`], [`SymmetricFunction`], [`PolynomialRoots`].
//! - [`Law`] and its [`LawError`].
//! - Matrices of independent entries: [`UniformEntries`], [`GaussianEntries`], [`LogUniformEntries`]; symmetric ones:
//!   [`Wigner`], [`Wishart`], and those of a given [`Spectrum`], [`SymmetricSpectrum`], all with uniform or Gaussian
//!   [`Entries`]; [`HaarOrthogonal`]; integer ones of every rank: [`LowRank`].
//! - [`Refinement`], with [`NewtonInverse`] and [`RayleighQuotient`]: iterations that start from an answer.
//! - Laws made from laws: [`Mixture`], [`NearSymmetric`], [`RandomScale`].
//!
//! # As a dependency
//! ```toml
//! [dependencies]
//! numformer-problems = { path = "../numformer/crates/numformer-problems" }
//! ```
//!
//! # References
//! Charton (2022), *Linear algebra with transformers*. <https://arxiv.org/abs/2112.01898>

#![forbid(unsafe_code)]

mod analysis;
mod comparison;
mod instance;
mod law;
mod law_error;
mod laws;
mod magnitudes;
mod newton_inverse;
mod problem;
mod problems;
mod rayleigh_quotient;
mod residual;
mod solve_error;
mod solvers;
#[cfg(test)]
mod testing;

pub use analysis::Analysis;
pub use comparison::ReferenceComparison;
pub use faer;
pub use instance::Instance;
pub use law::{Law, MAX_DIMENSION};
pub use law_error::LawError;
pub use laws::{
    Entries, GaussianEntries, HaarOrthogonal, LogUniformEntries, LowRank, Mixture, NearSymmetric, RandomScale,
    Spectrum, SymmetricSpectrum, UniformEntries, Wigner, Wishart,
};
pub use magnitudes::Magnitudes;
pub use newton_inverse::NewtonInverse;
pub use problem::Problem;
pub use problems::{
    Addition, Cholesky, Determinant, Eigenvalues, Eigenvectors, InverseJudgement, Inversion, LeftFactor, LinearSolve,
    MatrixExponential, MatrixSign, MatrixVector, Multiplication, PolynomialRoots, Qr, Rank, Signs, SingularValues, Svd,
    SymmetricFunction, SymmetricInversion, Trace, Transpose,
};
pub use rand;
pub use rayleigh_quotient::RayleighQuotient;
pub use residual::MAX_RESIDUAL;
pub use solve_error::{SolveError, require_finite, require_representable};
pub use solvers::refinement::{MAX_REFINEMENT_STEPS, REFINED, Refinement, steps_to_refine};
