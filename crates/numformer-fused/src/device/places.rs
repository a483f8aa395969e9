//! Where the parameters lie in the vectors of a device.

use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::{Error, Result, Var};
use numformer_model::{FlatLayout, Parameters, Slot};

/// Each group begins at a multiple of this number of entries: products are fastest on matrices that begin at multiples
/// of 256 bytes.
const ALIGNMENT: usize = 128;

/// The places of the parameters of [`FlatLayout`] in the device's vectors of weights, gradients and moments. Some
/// parameters are adjacent, so that one product serves them all. The gaps between the others hold zeros.
#[derive(Debug)]
pub(super) struct DevicePlaces {
    /// For each parameter its name, its range on the host, and its start on the device.
    places: Vec<(String, Range<usize>, usize)>,
    len: usize,
}

impl DevicePlaces {
    pub(super) fn new(layout: &FlatLayout) -> Self {
        let mut groups = BTreeMap::<String, BTreeMap<usize, &Slot>>::new();
        for slot in layout.slots() {
            let (group, rank) = group(slot.name());
            groups.entry(group).or_default().insert(rank, slot);
        }
        let mut len = 0usize;
        let mut places = Vec::new();
        for members in groups.values() {
            len = len.next_multiple_of(ALIGNMENT);
            for slot in members.values() {
                places.push((slot.name().to_owned(), slot.range(), len));
                len += slot.range().len();
            }
        }
        Self { places, len }
    }

    /// Number of entries of a vector of the device.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// All parameters, with their ranges.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (&str, Range<usize>)> {
        self.places.iter().map(|(name, host, start)| (name.as_str(), *start..start + host.len()))
    }

    /// The range of the parameters `{stem}.{part}.{kind}`, which are adjacent.
    pub(super) fn joined(&self, stem: &str, parts: &[&str], kind: &str) -> Result<Range<usize>> {
        let mut ranges = parts.iter().map(|part| self.range(&format!("{stem}.{part}.{kind}")));
        let first = ranges.next().ok_or_else(|| Error::Msg("expected at least one parameter".to_owned()))??;
        ranges.try_fold(first, |joined, next| {
            let next = next?;
            match next.start == joined.end {
                true => Ok(joined.start..next.end),
                false => Err(Error::Msg(format!("expected the parts of `{stem}` next to each other"))),
            }
        })
    }

    /// The range of a parameter.
    pub(super) fn range(&self, name: &str) -> Result<Range<usize>> {
        let found = self.places.iter().find(|(found, _, _)| found == name);
        let (_, host, start) = found.ok_or_else(|| Error::Msg(format!("no parameter `{name}`")))?;
        Ok(*start..start + host.len())
    }

    /// Converts a vector of the host to the order of the device.
    pub(super) fn to_device(&self, host: &[f32]) -> Vec<f32> {
        let mut device = vec![0.0; self.len];
        for (_, range, start) in &self.places {
            device[*start..start + range.len()].copy_from_slice(&host[range.clone()]);
        }
        device
    }

    /// Converts a vector of the device to the order of the host.
    pub(super) fn to_host(&self, device: &[f32], host: &mut [f32]) {
        for (_, range, start) in &self.places {
            host[range.clone()].copy_from_slice(&device[*start..start + range.len()]);
        }
    }
}

/// The variable of a parameter in a model.
pub(super) fn variable(parameters: &Parameters, name: &str) -> Result<Var> {
    parameters.get(name).ok_or_else(|| Error::Msg(format!("no parameter `{name}`")))
}

/// The group of parameters that a parameter belongs to, and its rank there.
fn group(name: &str) -> (String, usize) {
    let split = name.rsplit_once('.').and_then(|(stem, kind)| Some((stem.rsplit_once('.')?, kind)));
    let Some(((stem, part), kind)) = split else { return (name.to_owned(), 0) };
    let joined: &[&str] = match stem.rsplit('.').next() {
        Some("self_attention") => &SELF_ATTENTION,
        Some("cross_attention") => &CROSS_ATTENTION,
        _ => &[],
    };
    match joined.iter().position(|joined| *joined == part) {
        Some(rank) => (format!("{stem}.{}.{kind}", joined[0]), rank),
        None => (name.to_owned(), 0),
    }
}

/// The results that self-attention computes from the same states, in one product.
pub(super) const SELF_ATTENTION: [&str; 3] = ["query", "key", "value"];

/// The results that cross-attention computes from the encoder's states.
pub(super) const CROSS_ATTENTION: [&str; 2] = ["key", "value"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_one_product_are_together() {
        let of = |name: &str| group(&format!("decoder.layers.0.{name}"));
        let together = of("self_attention.query.weight").0;
        assert_eq!(of("self_attention.value.weight"), (together.clone(), 2));
        assert_eq!(of("self_attention.key.weight"), (together.clone(), 1));
        assert_ne!(of("self_attention.key.bias").0, together);
        assert_eq!(of("cross_attention.value.bias"), (of("cross_attention.key.bias").0, 1));
        for alone in ["cross_attention.query.weight", "self_attention.output.weight", "feed_forward.up.bias"] {
            assert_eq!(of(alone), (format!("decoder.layers.0.{alone}"), 0));
        }
    }
}
