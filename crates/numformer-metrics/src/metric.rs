//! The trait of statistics over many samples.

/// A statistic that can be updated, merged across workers and read at any time.
///
/// Merging the statistics of two halves gives the statistic of the whole, up to the rounding of floating-point sums. To
/// get the same bits for any number of threads, merge fixed parts in a fixed order.
///
/// # Examples
/// The largest sample:
/// ```
/// use numformer_metrics::Metric;
///
/// #[derive(Default)]
/// struct Largest(Option<f64>);
///
/// impl Metric for Largest {
///     type Sample = f64;
///     type Value = f64;
///
///     fn update(&mut self, sample: &f64) {
///         self.0 = Some(self.0.map_or(*sample, |largest| largest.max(*sample)));
///     }
///     fn merge(&mut self, other: &Self) {
///         other.0.iter().for_each(|sample| self.update(sample));
///     }
///     fn value(&self) -> Option<f64> {
///         self.0
///     }
/// }
///
/// let mut largest = Largest::default();
/// assert_eq!(largest.value(), None);
/// largest.update(&2.0);
/// largest.merge(&Largest(Some(1.0)));
/// assert_eq!(largest.value(), Some(2.0));
/// ```
pub trait Metric {
    /// One observation.
    type Sample: ?Sized;
    /// What the statistic says about all observations.
    type Value;

    /// Adds one observation.
    fn update(&mut self, sample: &Self::Sample);

    /// Adds everything that another statistic has observed.
    fn merge(&mut self, other: &Self);

    /// The statistic over everything observed so far; `None` before the first observation.
    fn value(&self) -> Option<Self::Value>;
}
