//! Where the parameters lie in the flat vectors of weights and of gradients.

use std::ops::Range;

use candle_core::{Error, Result, Shape};
use numformer_model::FlatLayout;

/// The places of all parameters in two flat vectors. The first holds the weights of the model, or their gradients, in
/// the order of [`FlatLayout`]. The second holds the private gradients of a part of the batch. It omits the tables of
/// embeddings, whose gradients have few nonzero rows.
#[derive(Debug)]
pub(super) struct HostPlaces {
    /// Sorted in the order of the weights.
    places: Vec<Place>,
    private_len: usize,
}

/// The place of one parameter.
#[derive(Debug)]
struct Place {
    name: String,
    shape: Shape,
    weights: Range<usize>,
    private: Option<Range<usize>>,
}

impl HostPlaces {
    /// `is_shared` returns whether the gradients of the parameter with a given name are not private.
    pub(super) fn new(layout: &FlatLayout, is_shared: impl Fn(&str) -> bool) -> Self {
        let mut private_len = 0;
        let places = layout.slots().iter().map(|slot| {
            let range = slot.range();
            let private = (!is_shared(slot.name())).then(|| {
                let start = private_len;
                private_len += range.len();
                start..private_len
            });
            Place { name: slot.name().to_owned(), shape: slot.shape().clone(), weights: range, private }
        });
        let places = places.collect();
        Self { places, private_len }
    }

    /// Number of private gradients.
    pub(super) fn private_len(&self) -> usize {
        self.private_len
    }

    /// The ranges of each private gradient and of its weights.
    pub(super) fn private(&self) -> impl Iterator<Item = (Range<usize>, Range<usize>)> + '_ {
        self.places.iter().filter_map(|place| Some((place.private.clone()?, place.weights.clone())))
    }

    /// The range of the weights called `name`, which must have the given shape.
    pub(super) fn weights(&self, name: &str, shape: &[usize]) -> Result<Range<usize>> {
        self.place(name, shape).map(|place| place.weights.clone())
    }

    /// The parameters `{name}.weight` and `{name}.bias`, both with private gradients. There is one bias for each row of
    /// the weight.
    pub(super) fn pair(&self, name: &str, shape: &[usize]) -> Result<Pair> {
        self.pair_of(&format!("{name}.weight"), &format!("{name}.bias"), shape)?
            .ok_or_else(|| Error::Msg(format!("expected private gradients of `{name}`")))
    }

    /// A weight and its bias by their names; `None` if their gradients are not private.
    pub(super) fn pair_of(&self, weight: &str, bias: &str, shape: &[usize]) -> Result<Option<Pair>> {
        let (weight, bias) = (self.place(weight, shape)?, self.place(bias, &shape[..1])?);
        let private = weight.private.clone().zip(bias.private.clone());
        Ok(private.map(|(private_weight, private_bias)| Pair {
            weight: weight.weights.clone(),
            bias: bias.weights.clone(),
            private_weight,
            private_bias,
        }))
    }

    fn place(&self, name: &str, shape: &[usize]) -> Result<&Place> {
        let found = self.places.iter().find(|place| place.name == name);
        let place = found.ok_or_else(|| Error::Msg(format!("no parameter `{name}`")))?;
        if place.shape.dims() != shape {
            let found = place.shape.dims();
            return Err(Error::Msg(format!("parameter `{name}`: expected shape {shape:?}, found {found:?}")));
        }
        Ok(place)
    }
}

/// Where a part of the batch writes its gradients.
#[derive(Debug)]
pub(super) enum PartGradients<'a> {
    /// Among the gradients of all weights. The first part does this, which saves memory and a pass over it.
    Whole(&'a mut [f32]),
    /// In a vector of its own.
    Private(&'a mut [f32]),
}

/// A weight and its bias: of an affine map, or of a layer norm.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    weight: Range<usize>,
    bias: Range<usize>,
    private_weight: Range<usize>,
    private_bias: Range<usize>,
}

impl Pair {
    pub(super) fn weight<'a>(&self, weights: &'a [f32]) -> &'a [f32] {
        &weights[self.weight.clone()]
    }

    pub(super) fn bias<'a>(&self, weights: &'a [f32]) -> &'a [f32] {
        &weights[self.bias.clone()]
    }

    /// The gradients of weight and bias.
    pub(super) fn gradients<'a>(&self, gradients: &'a mut PartGradients<'_>) -> [&'a mut [f32]; 2] {
        let (entries, weight, bias) = match gradients {
            PartGradients::Whole(entries) => (entries, &self.weight, &self.bias),
            PartGradients::Private(entries) => (entries, &self.private_weight, &self.private_bias),
        };
        entries.get_disjoint_mut([weight.clone(), bias.clone()]).expect("parameters do not overlap")
    }
}
