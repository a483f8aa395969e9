//! Figures in the formats that readers are used to.

use std::error::Error;
use std::iter;

use numformer_metrics::Verdict;

/// A share in per cent, as `97.30%`.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.2}%", 100.0 * share)
}

/// A share on an axis, with as few digits as needed.
pub(crate) fn percent_short(share: f64) -> String {
    let percent = 100.0 * share;
    // Rounded to nine decimals, because 100 · 0.07 is 7.000000000000001.
    format!("{}%", (percent * 1e9).round() / 1e9)
}

/// An error with its causes.
pub(crate) fn with_causes(error: &(dyn Error + 'static)) -> String {
    let causes = iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// A count with a thousands separator: `96,000`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().filter_map(|group| str::from_utf8(group).ok()).collect();
    groups.join(",")
}

/// A number on an axis, with large numbers in thousands or millions: `20k`, `1.5M`.
pub(crate) fn short(x: f64) -> String {
    let (scaled, unit) = match x.abs() {
        size if size >= 1e6 => (x / 1e6, "M"),
        size if size >= 1e4 => (x / 1e3, "k"),
        _ => (x, ""),
    };
    format!("{}{unit}", (scaled * 1e6).round() / 1e6)
}

/// A number on an axis of any scale: as in [`short`] or, if it is tiny or huge, with a power of ten: `2.5e-7`.
pub(crate) fn short_of_any_size(x: f64) -> String {
    if x == 0.0 || (1e-3..1e9).contains(&x.abs()) {
        return short(x);
    }
    // Rounded to three digits, because numbers on an axis are sums of its steps.
    let rounded: f64 = format!("{x:.2e}").parse().unwrap_or(x);
    format!("{rounded:e}")
}

/// A figure with four significant digits, without needless zeros.
pub(crate) fn significant(x: f64) -> String {
    if !x.is_finite() || x == 0.0 {
        return x.to_string();
    }
    let magnitude = x.abs().log10().floor();
    if !(-4.0..9.0).contains(&magnitude) {
        return format!("{x:.3e}");
    }
    let decimals = (3.0 - magnitude).max(0.0) as usize;
    let fixed = format!("{x:.decimals$}");
    if fixed.contains('.') { fixed.trim_end_matches('0').trim_end_matches('.').to_owned() } else { fixed }
}

/// The verdict on an answer, in words.
pub(crate) fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Measured { error } if error.is_finite() => format!("relative error {}", percent(*error)),
        Verdict::Measured { .. } => "relative error not finite".to_owned(),
        Verdict::WrongShape { expected, found } => {
            format!("wrong shape: expected {}×{}, found {}×{}", expected.0, expected.1, found.0, found.1)
        }
        Verdict::Malformed => "tokens that do not form a matrix".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_as_readers_are_used_to() {
        assert_eq!([0, 999, 1000, 96_000, 1_234_567].map(count), ["0", "999", "1,000", "96,000", "1,234,567"]);
        assert_eq!([0.0, 0.5, 9000.0, 20_000.0, 1.5e6].map(short), ["0", "0.5", "9000", "20k", "1.5M"]);
        let sizes = [0.0, 0.05, -1.5e6, 2.5e-7, -3.000_000_000_1e-4, 1e12].map(short_of_any_size);
        assert_eq!(sizes, ["0", "0.05", "-1.5M", "2.5e-7", "-3e-4", "1e12"]);
        let significants = [0.0, 0.003_4, 1.0, 12.346, 96_000.0, 1.5e-7, -2.5, f64::INFINITY].map(significant);
        assert_eq!(significants, ["0", "0.0034", "1", "12.35", "96000", "1.500e-7", "-2.5", "inf"]);
        assert_eq!([0.05, 0.07, 1.0, 0.005].map(percent_short), ["5%", "7%", "100%", "0.5%"]);
        assert_eq!(percent(0.12345), "12.35%");
        assert_eq!(verdict(&Verdict::Measured { error: f64::NAN }), "relative error not finite");
    }
}
