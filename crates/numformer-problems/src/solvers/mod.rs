//! Numerical methods that faer lacks, or that must be exact to the last digits.

pub(crate) mod balance;
pub(crate) mod dense;
pub(crate) mod refinement;
pub(crate) mod small;
