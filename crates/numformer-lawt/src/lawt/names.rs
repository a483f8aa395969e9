//! The names of tensors, in the published program and here.

use numformer_model::{OutputProjection, TransformerConfig};

/// A tensor's name in the checkpoint and in our models, and its shape.
#[derive(Clone, Debug)]
pub(super) struct Name {
    pub(super) theirs: String,
    pub(super) ours: String,
    pub(super) shape: Vec<usize>,
}

/// All tensors of a model.
pub(super) struct Wanted {
    pub(super) names: Vec<Name>,
}

impl Wanted {
    pub(super) fn of(config: &TransformerConfig) -> Self {
        let mut wanted = Self { names: Vec::new() };
        let d_memory = config.encoder.d_model;
        for (half, sizes) in [("encoder", &config.encoder), ("decoder", &config.decoder)] {
            let d = sizes.d_model;
            let of = |theirs: &str, ours: &str| (format!("{half}.{theirs}"), format!("{half}.{ours}"));
            wanted.tensor(of("embeddings.weight", "embedding.tokens.weight"), &[config.vocab_size, d]);
            wanted.tensor(of("position_embeddings.weight", "embedding.positions.weight"), &[config.max_positions, d]);
            wanted.norm(of("layer_norm_emb", "embedding.norm"), d);
            for layer in 0..sizes.n_layers {
                let of = |theirs: &str, ours: &str| {
                    of(&format!("layers.{layer}.{theirs}"), &format!("layers.{layer}.{ours}"))
                };
                wanted.attention(&of("self_attention", "self_attention"), d, d);
                wanted.norm(of("layer_norm1", "self_attention_norm"), d);
                if half == "decoder" {
                    wanted.attention(&of("cross_attention", "cross_attention"), d, d_memory);
                    wanted.norm(of("layer_norm15", "cross_attention_norm"), d);
                }
                wanted.linear(of("ffn.lin1", "feed_forward.up"), d, sizes.d_ff());
                wanted.linear(of("ffn.lin2", "feed_forward.down"), sizes.d_ff(), d);
                wanted.norm(of("layer_norm2", "feed_forward_norm"), d);
            }
        }
        let of = |part: &str| (format!("decoder.proj.{part}"), format!("projection.{part}"));
        if config.output_projection == OutputProjection::Separate {
            wanted.tensor(of("weight"), &[config.vocab_size, config.decoder.d_model]);
        }
        wanted.tensor(of("bias"), &[config.vocab_size]);
        wanted
    }

    /// Removes the tables of positions.
    pub(super) fn remove_tables(&mut self) -> Vec<Name> {
        let (tables, rest) = self.names.drain(..).partition(|name| name.ours.ends_with("positions.weight"));
        self.names = rest;
        tables
    }

    fn tensor(&mut self, (theirs, ours): (String, String), shape: &[usize]) {
        self.names.push(Name { theirs, ours, shape: shape.to_vec() });
    }

    fn linear(&mut self, (theirs, ours): (String, String), d_in: usize, d_out: usize) {
        self.tensor((format!("{theirs}.weight"), format!("{ours}.weight")), &[d_out, d_in]);
        self.tensor((format!("{theirs}.bias"), format!("{ours}.bias")), &[d_out]);
    }

    fn norm(&mut self, (theirs, ours): (String, String), d: usize) {
        for part in ["weight", "bias"] {
            self.tensor((format!("{theirs}.{part}"), format!("{ours}.{part}")), &[d]);
        }
    }

    fn attention(&mut self, (theirs, ours): &(String, String), d: usize, d_memory: usize) {
        for (name, ours_name, d_in) in
            [("q_lin", "query", d), ("k_lin", "key", d_memory), ("v_lin", "value", d_memory), ("out_lin", "output", d)]
        {
            self.linear((format!("{theirs}.{name}"), format!("{ours}.{ours_name}")), d_in, d);
        }
    }
}
