//! The options of how answers are found.

use clap::{Args, ValueEnum};
use numformer_model::{Beam, Decoding, Sampling};
use numformer_train::Answering;

/// How the model's answers are found.
#[derive(Args)]
#[command(next_help_heading = "Decoding")]
pub(crate) struct DecodingArguments {
    /// How the model's answers are found.
    #[arg(long, value_name = "HOW", visible_alias = "generate")]
    decoding: Option<How>,
    /// Answers that beam search follows at a time.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = count, requires = "decoding")]
    beam_width: usize,
    /// The power of its length by which beam search divides the logarithm of an answer's probability: 0 takes no account of
    /// the length, 1 compares means per token; the larger, the longer the answers.
    #[arg(
        long,
        value_name = "X",
        default_value_t = 1.0,
        value_parser = finite,
        allow_negative_numbers = true,
        requires = "decoding"
    )]
    length_penalty: f64,
    /// What the scores of tokens are divided by before sampling: the lower, the surer.
    #[arg(long, value_name = "T", default_value_t = 1.0, value_parser = temperature, requires = "decoding")]
    temperature: f64,
    /// Answers that are sampled for each source; the first is shown, or with --verified the best.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count, requires = "decoding")]
    candidates: usize,
    /// Seed of the samples; with another, others.
    #[arg(long, value_name = "SEED", default_value_t = 0, requires = "decoding")]
    sampling_seed: u64,
}

/// What the task says of the answers.
#[derive(Args)]
#[command(next_help_heading = "Decoding")]
pub(crate) struct TaskArguments {
    /// Write nothing but matrices of the answer's shape: tokens that cannot continue one are left out.
    #[arg(long)]
    constrained: bool,
    /// Of the answers of a beam or the --candidates of a sample, take the one with the smallest residual, where the problem
    /// has one that needs no solution; the first otherwise.
    #[arg(long, requires = "decoding")]
    verified: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum How {
    /// The most probable token each time.
    Greedy,
    /// Beam search: the answer that is the most probable as a whole.
    Beam,
    /// Tokens drawn with the probabilities that the model gives them.
    Sample,
}

impl DecodingArguments {
    /// None if it was not asked for.
    pub(crate) fn decoding(&self) -> Option<Decoding> {
        self.decoding.map(|how| match how {
            How::Greedy => Decoding::Greedy,
            How::Beam => Decoding::Beam(Beam { length_penalty: self.length_penalty, ..Beam::new(self.beam_width) }),
            How::Sample => Decoding::Sample(Sampling {
                count: self.candidates,
                temperature: self.temperature,
                seed: self.sampling_seed,
            }),
        })
    }

    /// Greedy if nothing else was asked for.
    pub(crate) fn answering(&self, task: &TaskArguments) -> Answering {
        let decoding = self.decoding().unwrap_or_default();
        Answering { decoding, constrained: task.constrained, verified: task.verified }
    }
}

fn count(text: &str) -> Result<usize, String> {
    // More would only take time.
    const MOST: usize = 1_000;
    let count = text.parse().ok().filter(|count| (1..=MOST).contains(count));
    count.ok_or_else(|| format!("expected a number from 1 to {MOST}"))
}

fn finite(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|x: &f64| x.is_finite()).ok_or_else(|| "expected a finite number".to_owned())
}

fn temperature(text: &str) -> Result<f64, String> {
    finite(text).ok().filter(|x| *x > 0.0).ok_or_else(|| "expected a positive, finite number".to_owned())
}
