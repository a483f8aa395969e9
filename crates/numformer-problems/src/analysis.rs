//! What can be said about a candidate beyond how far it is from being right.

use std::fmt::Debug;

use faer::MatRef;
use numformer_metrics::Deviations;

use crate::{Instance, ReferenceComparison, Refinement, SolveError, require_finite};

/// The analysis of a problem's wrong answers: how to take them apart, improve them, and compare them with published
/// figures.
///
/// Each of these is optional. A problem that offers any of them implements this trait, too, and returns itself from
/// [`Problem::analysis`](crate::Problem::analysis).
///
/// # Examples
/// ```
/// use faer::mat;
/// use numformer_metrics::Property;
/// use numformer_problems::{Instance, Inversion, Problem, Trace};
///
/// let (input, target) = (mat![[2.0, 0.0], [0.0, 4.0]], mat![[0.5, 0.0], [0.0, 0.25]]);
/// let instance = Instance { input: input.as_ref(), target: target.as_ref() };
/// let inversion = Inversion::default();
/// let analysis = inversion.analysis().unwrap();
/// let deviations = analysis.deviations(instance, mat![[0.5, 0.0], [0.0, 0.5]].as_ref()).unwrap();
/// assert!((deviations.of(Property::Coefficients).unwrap() - 0.25 / 0.75).abs() < 1e-15);
/// assert!(analysis.refinement().is_some());
/// assert!(Trace.analysis().is_none());
/// ```
pub trait Analysis: Debug + Send + Sync {
    /// Which properties of the exact answer a candidate lacks. `None` by default, for problems whose answers have no
    /// separate parts.
    ///
    /// # Panics
    /// If the shape of the candidate or of the target is not that of an answer to the input.
    fn deviations(&self, _instance: Instance<'_>, _candidate: MatRef<'_, f64>) -> Option<Deviations> {
        None
    }

    /// An iteration that brings answers closer to exact ones; `None` by default.
    fn refinement(&self) -> Option<&dyn Refinement> {
        None
    }

    /// The matrices that the program of the paper's authors compares to judge this candidate. They are used for
    /// comparisons with published figures. [`ReferenceComparison::of`] finds them for any problem.
    ///
    /// By default, these are the candidate and the target. If the program judges a problem differently, the problem
    /// overrides this method and says how its [`error`](crate::Problem::error) differs.
    ///
    /// # Errors
    /// When the input holds an entry that is not finite.
    ///
    /// # Panics
    /// If the shape of the candidate or of the target is not that of an answer to the input.
    fn reference_comparison(
        &self,
        instance: Instance<'_>,
        candidate: MatRef<'_, f64>,
    ) -> Result<ReferenceComparison, SolveError> {
        require_finite(instance.input)?;
        Ok(ReferenceComparison::new(candidate.to_owned(), instance.target.to_owned()))
    }
}
