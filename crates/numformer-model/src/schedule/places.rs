//! Where the parameters lie in the flat vectors of weights and of gradients.

use std::ops::Range;

use candle_core::{Error, Result};

use crate::flat::FlatLayout;

/// Two flat vectors: the weights of the model, in the order of [`FlatLayout`], and the gradients that a part of the
/// batch has of its own. The latter leave out the tables of embeddings, whose gradients have few rows that are not zero.
#[derive(Debug)]
pub(super) struct Places {
    /// Name, place among the weights, and place among the private gradients, in the order of the weights.
    slots: Vec<(String, Range<usize>, Option<Range<usize>>)>,
    private_len: usize,
}

impl Places {
    /// `is_shared` says of a name whether its gradients are not private.
    pub(super) fn new(layout: &FlatLayout, is_shared: impl Fn(&str) -> bool) -> Self {
        let mut private_len = 0;
        let slots = layout.slots().iter().map(|slot| {
            let range = slot.range();
            let private = (!is_shared(slot.name())).then(|| {
                let start = private_len;
                private_len += range.len();
                start..private_len
            });
            (slot.name().to_owned(), range, private)
        });
        let slots = slots.collect();
        Self { slots, private_len }
    }

    /// Length of the private gradients.
    pub(super) fn private_len(&self) -> usize {
        self.private_len
    }

    /// Where each private gradient lies, and where its weights do.
    pub(super) fn private(&self) -> impl Iterator<Item = (Range<usize>, Range<usize>)> + '_ {
        self.slots.iter().filter_map(|(_, range, private)| Some((private.clone()?, range.clone())))
    }

    /// The weights called `name`.
    pub(super) fn weights(&self, name: &str) -> Result<Range<usize>> {
        self.slot(name).map(|(_, range, _)| range.clone())
    }

    /// The parameters `{name}.weight` and `{name}.bias`, both private.
    pub(super) fn pair(&self, name: &str) -> Result<Pair> {
        let part = |part: &str| {
            let (name, weights, private) = self.slot(&format!("{name}.{part}"))?;
            let private = private.clone().ok_or_else(|| Error::Msg(format!("`{name}` has no private gradients")))?;
            Ok::<_, Error>((weights.clone(), private))
        };
        let ((bias, private_bias), (weight, private_weight)) = (part("bias")?, part("weight")?);
        if private_bias.end != private_weight.start {
            return Err(Error::Msg(format!("expected `{name}.weight` right after `{name}.bias`")));
        }
        Ok(Pair { weight, bias, private_bias, private_weight })
    }

    fn slot(&self, name: &str) -> Result<&(String, Range<usize>, Option<Range<usize>>)> {
        let found = self.slots.iter().find(|(found, ..)| found == name);
        found.ok_or_else(|| Error::Msg(format!("no parameter `{name}`")))
    }
}

/// A weight and its bias: of an affine map, or of a layer norm.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    weight: Range<usize>,
    bias: Range<usize>,
    private_bias: Range<usize>,
    private_weight: Range<usize>,
}

impl Pair {
    pub(super) fn weight<'a>(&self, weights: &'a [f32]) -> &'a [f32] {
        &weights[self.weight.clone()]
    }

    pub(super) fn bias<'a>(&self, weights: &'a [f32]) -> &'a [f32] {
        &weights[self.bias.clone()]
    }

    /// The private gradients of weight and bias.
    pub(super) fn gradients<'a>(&self, private: &'a mut [f32]) -> [&'a mut [f32]; 2] {
        // In the order of names the bias comes first, and the weight right after it.
        let both = &mut private[self.private_bias.start..self.private_weight.end];
        let (bias, weight) = both.split_at_mut(self.private_bias.len());
        [weight, bias]
    }
}
