//! The options that say how answers are found.

use clap::error::{Error, ErrorKind};
use clap::{Args, ValueEnum};
use numformer_evaluate::Answering;
use numformer_model::{Beam, Decoding, Sampling};

/// How the model's answers are found.
#[derive(Args)]
#[command(next_help_heading = "Decoding")]
pub(crate) struct DecodingArguments {
    /// How the model's answers are found.
    #[arg(long, value_name = "HOW", visible_alias = "generate")]
    decoding: Option<How>,
    /// Beam width: partial answers kept at each step [default: 3].
    #[arg(long, value_name = "N", value_parser = count, requires = "decoding")]
    beam_width: Option<usize>,
    /// Beam search divides an answer's log-probability by its length to this power: 0 ignores the length, 1 compares
    /// means per token; larger values favour longer answers [default: 1].
    #[arg(long, value_name = "X", value_parser = finite, requires = "decoding")]
    length_penalty: Option<f64>,
    /// Sampling temperature, by which the logits are divided: lower is less random [default: 1].
    #[arg(long, value_name = "T", value_parser = temperature, requires = "decoding")]
    temperature: Option<f64>,
    /// Answers sampled for each source; the first is shown, or the best with --verified [default: 1].
    #[arg(long, value_name = "N", value_parser = count, requires = "decoding")]
    candidates: Option<usize>,
    /// Random seed for sampling [default: 0].
    #[arg(long, value_name = "SEED", requires = "decoding")]
    sampling_seed: Option<u64>,
}

/// What the task says of the answers.
#[derive(Args)]
#[command(next_help_heading = "Decoding")]
pub(crate) struct TaskArguments {
    /// Generate only matrices of the answer's shape: tokens that cannot continue one are masked out.
    #[arg(long)]
    constrained: bool,
    /// Choose the answer of beam search, or the sampled candidate, with the smallest residual, if the problem has one
    /// that can be computed without the solution; the first otherwise.
    #[arg(long, requires = "decoding")]
    verified: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum How {
    /// The most probable token at each step.
    Greedy,
    /// Beam search for the answer that is most probable as a whole.
    Beam,
    /// Tokens sampled from the model's probabilities.
    Sample,
}

impl How {
    fn name(self) -> &'static str {
        match self {
            Self::Greedy => "greedy",
            Self::Beam => "beam",
            Self::Sample => "sample",
        }
    }
}

impl DecodingArguments {
    /// The decoding that was asked for; `None` if there was no `--decoding`.
    ///
    /// # Errors
    /// When an option belongs to another decoding than the one asked for.
    pub(crate) fn decoding(&self) -> Result<Option<Decoding>, Error> {
        let Some(how) = self.decoding else { return Ok(None) };
        let options = [
            ("--beam-width", How::Beam, self.beam_width.is_some()),
            ("--length-penalty", How::Beam, self.length_penalty.is_some()),
            ("--temperature", How::Sample, self.temperature.is_some()),
            ("--candidates", How::Sample, self.candidates.is_some()),
            ("--sampling-seed", How::Sample, self.sampling_seed.is_some()),
        ];
        for (option, of, is_given) in options {
            if is_given && of != how {
                return Err(without_effect(option, how, &format!("it is for --decoding {}", of.name())));
            }
        }
        Ok(Some(match how {
            How::Greedy => Decoding::Greedy,
            How::Beam => Decoding::Beam(Beam {
                length_penalty: self.length_penalty.unwrap_or(1.0),
                ..Beam::new(self.beam_width.unwrap_or(3))
            }),
            How::Sample => Decoding::Sample(Sampling {
                count: self.candidates.unwrap_or(1),
                temperature: self.temperature.unwrap_or(1.0),
                seed: self.sampling_seed.unwrap_or(0),
            }),
        }))
    }

    /// How to find the answers; greedy unless another decoding was asked for.
    ///
    /// # Errors
    /// Those of [`decoding`](Self::decoding), and when `--verified` has only one answer to choose from.
    pub(crate) fn answering(&self, task: &TaskArguments) -> Result<Answering, Error> {
        let decoding = self.decoding()?.unwrap_or_default();
        let candidates = match &decoding {
            Decoding::Greedy => 1,
            Decoding::Beam(beam) => beam.width,
            Decoding::Sample(sampling) => sampling.count,
        };
        if let Some(how) = self.decoding
            && task.verified
            && candidates == 1
        {
            let remedy = "it chooses among several answers, from beam search or several --candidates";
            return Err(without_effect("--verified", how, remedy));
        }
        Ok(Answering { decoding, constrained: task.constrained, verified: task.verified })
    }
}

/// The usage error for an option that changes nothing.
fn without_effect(option: &str, how: How, remedy: &str) -> Error {
    let message = format!("{option} has no effect with --decoding {}: {remedy}\n", how.name());
    Error::raw(ErrorKind::ArgumentConflict, message)
}

fn count(text: &str) -> Result<usize, String> {
    // A larger number would only take more time.
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
