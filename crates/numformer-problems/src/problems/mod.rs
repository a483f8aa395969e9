//! The problems, one family per file.

mod addition;
mod cholesky;
mod determinant;
mod eigen;
mod inverse;
mod linear_solve;
mod matrix_function;
mod product;
mod qr;
mod rank;
mod roots;
mod svd;
mod symmetric_function;
mod transpose;

pub use addition::Addition;
pub use cholesky::Cholesky;
pub use determinant::{Determinant, Trace};
pub use eigen::{Eigenvalues, Eigenvectors, Signs};
pub use inverse::{InverseJudgement, Inversion, SymmetricInversion};
pub use linear_solve::LinearSolve;
pub use matrix_function::{MatrixExponential, MatrixSign};
pub use product::{LeftFactor, MatrixVector, Multiplication};
pub use qr::Qr;
pub use rank::Rank;
pub use roots::PolynomialRoots;
pub use svd::{SingularValues, Svd};
pub use symmetric_function::SymmetricFunction;
pub use transpose::Transpose;
