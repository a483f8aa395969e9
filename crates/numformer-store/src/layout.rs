//! Checks that stored tensors are those of a model.

use std::collections::BTreeMap;
use std::fmt;

use numformer_model::{ConfigError, FlatLayout, ModelConfig};

/// `f32` tensors by name: shape and row-major coefficients.
pub type NamedTensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Cuts a flat vector into named tensors, with `prefix` before each name. If the vector is too short, the tensors
/// beyond its end have no coefficients, and can be neither saved nor joined again.
pub fn named(layout: &FlatLayout, prefix: &str, flat: &[f32]) -> NamedTensors {
    let slots = layout.slots().iter();
    slots
        .map(|slot| {
            let shape = slot.shape().dims().to_vec();
            (format!("{prefix}{}", slot.name()), (shape, flat.get(slot.range()).unwrap_or_default().to_vec()))
        })
        .collect()
}

/// Joins named tensors into one flat vector: the inverse of [`named`]. Ignores tensors whose names do not begin with
/// `prefix`.
pub fn flat(layout: &FlatLayout, prefix: &str, tensors: &NamedTensors) -> Result<Vec<f32>, LayoutError> {
    let mut flat = vec![0.0; layout.len()];
    for (slot, values) in layout.slots().iter().zip(matched(layout, prefix, tensors)?) {
        flat[slot.range()].copy_from_slice(values);
    }
    Ok(flat)
}

/// Checks that `weights` are those of a model with this configuration: none missing, none extra, all finite.
pub fn check_weights(config: &ModelConfig, weights: &NamedTensors) -> Result<(), LayoutError> {
    // How a model of your own is built may not be known here.
    if !matches!(config, ModelConfig::Custom(custom) if !custom.can_build()) {
        matched(&FlatLayout::of(config)?, "", weights)?;
    }
    let not_finite = weights.iter().find(|(_, (_, values))| values.iter().any(|value| !value.is_finite()));
    match not_finite {
        None => Ok(()),
        Some((name, _)) => Err(LayoutError::NotFinite { name: name.clone() }),
    }
}

/// The coefficients of each slot, in the order of the layout.
fn matched<'t>(layout: &FlatLayout, prefix: &str, tensors: &'t NamedTensors) -> Result<Vec<&'t [f32]>, LayoutError> {
    let mut others: BTreeMap<&str, _> =
        tensors.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?, tensor))).collect();
    let (mut missing, mut found) = (Vec::new(), Vec::with_capacity(layout.slots().len()));
    for slot in layout.slots() {
        match others.remove(slot.name()) {
            Some(tensor) => found.push((slot, tensor)),
            None => missing.push(slot.name()),
        }
    }
    if !(missing.is_empty() && others.is_empty()) {
        let named = |name: &str| format!("{prefix}{name}");
        let missing = missing.into_iter().map(named).collect();
        return Err(LayoutError::Names(TensorNames { missing, unknown: others.into_keys().map(named).collect() }));
    }
    let matched = found.into_iter().map(|(slot, (shape, values))| {
        let expected = slot.shape().dims();
        if shape == expected && values.len() == slot.range().len() {
            return Ok(values.as_slice());
        }
        let name = format!("{prefix}{}", slot.name());
        Err(LayoutError::Shape { name, expected: expected.to_vec(), found: shape.clone() })
    });
    matched.collect()
}

/// Why stored tensors are not those of a model.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// No model has this configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The names of the tensors are not those of the model.
    #[error("expected the tensors of the model, found {0}")]
    Names(TensorNames),
    /// A tensor has the wrong shape.
    #[error("tensor `{name}`: expected shape {expected:?}, found {found:?}")]
    Shape {
        /// Its name.
        name: String,
        /// Shape in the model.
        expected: Vec<usize>,
        /// Shape found.
        found: Vec<usize>,
    },
    /// A tensor has a coefficient that is infinite or not a number.
    #[error("tensor `{name}`: expected finite numbers, found others")]
    NotFinite {
        /// Its name.
        name: String,
    },
}

impl LayoutError {
    /// One tensor is missing.
    pub fn missing(name: &str) -> Self {
        Self::Names(TensorNames { missing: vec![name.to_owned()], unknown: Vec::new() })
    }
}

/// The names that differ between stored tensors and a model. A tensor that was renamed is in both lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TensorNames {
    /// Names that the model has and the file lacks, sorted.
    pub missing: Vec<String>,
    /// Names that the file has and the model lacks, sorted.
    pub unknown: Vec<String>,
}

impl fmt::Display for TensorNames {
    /// For example: no tensor `a`; unknown tensors `b`, `c`, `d` and 2 more.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 3;
        let mut separator = "";
        for (what, names) in [("no", &self.missing), ("unknown", &self.unknown)] {
            if names.is_empty() {
                continue;
            }
            let plural = if names.len() > 1 { "s" } else { "" };
            let shown = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            write!(f, "{separator}{what} tensor{plural} {shown}")?;
            if names.len() > SHOWN {
                write!(f, " and {} more", names.len() - SHOWN)?;
            }
            separator = "; ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use numformer_model::{Cell, RecurrentConfig};

    use super::*;

    fn layout() -> FlatLayout {
        FlatLayout::of(&RecurrentConfig::new(Cell::Gru, 5, 2, 1).into()).expect("possible")
    }

    #[test]
    fn flat_inverts_named_and_passes_over_other_prefixes() {
        let layout = layout();
        let values: Vec<f32> = (0u16..).map(f32::from).take(layout.len()).collect();
        let mut tensors = named(&layout, "first.", &values);
        tensors.extend(named(&layout, "second.", &vec![0.0; layout.len()]));
        assert_eq!(flat(&layout, "first.", &tensors), Ok(values));
    }

    #[test]
    fn a_vector_that_is_too_short_gives_tensors_of_no_use() {
        let layout = layout();
        let tensors = named(&layout, "", &[]);
        assert_eq!(tensors.len(), layout.slots().len());
        assert!(matches!(flat(&layout, "", &tensors), Err(LayoutError::Shape { .. })));
        crate::checkpoint::to_safetensors(&tensors, safetensors::Dtype::F32).expect_err("no coefficients");
    }

    #[test]
    fn missing_extra_renamed_and_misshapen_tensors_are_named() {
        let layout = layout();
        let error = |change: &dyn Fn(&mut NamedTensors)| {
            let mut tensors = named(&layout, "m.", &vec![0.0; layout.len()]);
            change(&mut tensors);
            flat(&layout, "m.", &tensors).expect_err("not those of the model").to_string()
        };
        let missing = error(&|tensors| drop(tensors.remove("m.projection.bias")));
        assert_eq!(missing, "expected the tensors of the model, found no tensor `m.projection.bias`");
        let extra = error(&|tensors| {
            for name in ["m.e", "m.d", "m.c", "m.b", "m.a"] {
                tensors.insert(name.to_owned(), (vec![1], vec![0.0]));
            }
        });
        assert_eq!(extra, "expected the tensors of the model, found unknown tensors `m.a`, `m.b`, `m.c` and 2 more");
        let renamed = error(&|tensors| {
            let bias = tensors.remove("m.projection.bias").expect("every model has one");
            tensors.insert("m.projection.offset".to_owned(), bias);
        });
        assert!(
            renamed.ends_with("found no tensor `m.projection.bias`; unknown tensor `m.projection.offset`"),
            "{renamed}"
        );
        let shape = error(&|tensors| tensors.get_mut("m.projection.bias").expect("every model has one").0 = vec![1, 5]);
        assert_eq!(shape, "tensor `m.projection.bias`: expected shape [5], found [1, 5]");
    }
}
