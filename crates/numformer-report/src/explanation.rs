//! Explanations of answers: what a model looked at, and what else it might have written.

use std::path::Path;

use candle_core::{D, Device, Tensor};
use numformer_encoding::{DenseMatrix, Layout, NumberEncoding};
use numformer_evaluate::Solved;
use numformer_experiment::{RunError, StoredRun};
use numformer_model::{Mode, Model, ModelMemory, Padded, Seq2Seq};

use crate::ReportError;

/// Number of candidate tokens listed at each position.
const CANDIDATES: usize = 4;

/// An explanation of one answer: the probability that the model gave each token and, for a transformer, the
/// coefficients of the input that it looked at when it wrote the token.
///
/// # Examples
/// ```
/// use numformer_report::Explanation;
/// use numformer_experiment::{Experiment, Run, StoredRun};
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("run");
/// let mut experiment = Experiment::preset("transpose-3x3")?;
/// experiment.train.steps = 2; // 1,500 for a model that has learned
/// Run::new(experiment)?.in_dir(&path)?.run()?;
///
/// let run = StoredRun::load(&path)?;
/// let solved = run.solve(&"1 2 3; 4 5 6; 7 8 9".parse()?)?;
/// let explanation = Explanation::of(&path, &run, &solved)?;
/// assert_eq!(explanation.looked_at[0].sources.len(), 1 + 9);
/// assert!(explanation.to_html()?.starts_with("<!doctype html>"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The example and the answer.
    pub solved: Solved,
    /// The answer, token by token, followed by the end.
    pub written: Vec<Written>,
    /// What each layer of a transformer's decoder looked at, from the first layer on; empty for other models.
    pub looked_at: Vec<LookedAt>,
}

/// A token of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// The coefficient that it is a part of, as `b12`; empty for shapes, for the end, and if the answer is not a
    /// matrix.
    pub place: String,
    /// The token, `end` for the delimiter.
    pub token: String,
    /// Its probability, given the tokens before it.
    pub probability: f64,
    /// The most probable tokens at its position, the most probable first.
    pub candidates: Vec<(String, f64)>,
}

/// What one layer of a decoder looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct LookedAt {
    /// What the layer can look at: shape and delimiters together, then each coefficient, as `a12`.
    pub sources: Vec<String>,
    /// For each head and each token written, the share of each of `sources`. The shares of a token sum to 1.
    pub heads: Vec<Vec<Vec<f64>>>,
}

impl LookedAt {
    /// The mean over the heads.
    #[must_use]
    pub fn mean(&self) -> Vec<Vec<f64>> {
        let n_written = self.heads.first().map_or(0, Vec::len);
        let mut mean = vec![vec![0.0; self.sources.len()]; n_written];
        for head in &self.heads {
            for (means, shares) in mean.iter_mut().zip(head) {
                for (mean, share) in means.iter_mut().zip(shares) {
                    *mean += share / self.heads.len() as f64;
                }
            }
        }
        mean
    }
}

impl Explanation {
    /// Explains an answer that the model of `run` gave. The run was read from `dir`.
    ///
    /// # Errors
    /// When the example does not belong to this run.
    pub fn of(dir: &Path, run: &StoredRun, solved: &Solved) -> Result<Self, ReportError> {
        Self::ask(run, solved).map_err(|source| ReportError::Model { path: dir.to_owned(), source })
    }

    fn ask(run: &StoredRun, solved: &Solved) -> Result<Self, Box<RunError>> {
        let (model, vocabulary) = (run.model(), run.task().vocabulary());
        let encoding = &run.experiment().encoding;
        let catalogue = run.catalogue();
        let tokenize = |text: &str| -> Result<Vec<u32>, Box<RunError>> {
            let tokens = vocabulary.tokenize(text).map_err(|error| RunError::from(candle_core::Error::wrap(error)))?;
            Ok(tokens.iter().map(|token| token.0).collect())
        };
        let delimiter = model.delimiter_id();
        let answer = tokenize(&solved.answer)?;
        let src = [vec![delimiter], tokenize(&solved.src)?, vec![delimiter]].concat();
        let read = [vec![delimiter], answer.clone()].concat();
        let (probabilities, weights) = ask_model(model, &src, &read).map_err(|error| Box::new(error.into()))?;

        let input = catalogue.encoding("encoding.input", &encoding.input).map_err(|error| Box::new(error.into()))?;
        let output = catalogue.encoding("encoding.output", &encoding.output).map_err(|error| Box::new(error.into()))?;
        let symbol = |id: usize| {
            let is_end = id == delimiter as usize;
            if is_end { "end".to_owned() } else { vocabulary.symbols().get(id).cloned().unwrap_or_default() }
        };
        let places =
            solved.found.as_ref().ok().and_then(|found| places('b', found, &*output, Layout::RowMajor, answer.len()));
        let places = places.unwrap_or_else(|| vec![String::new(); answer.len()]);
        let written =
            answer.iter().chain([&delimiter]).zip(places.into_iter().chain([String::new()])).zip(&probabilities);
        let written = written.map(|((&id, place), probabilities)| Written {
            place,
            token: symbol(id as usize),
            probability: f64::from(probabilities[id as usize]),
            candidates: most_probable(probabilities).map(|(id, p)| (symbol(id), p)).collect(),
        });
        let source_places = places_of_source(&solved.input, &*input, encoding.input_layout, src.len());
        let looked_at = weights.into_iter().map(|heads| gather(heads, &source_places)).collect();
        Ok(Self { solved: solved.clone(), written: written.collect(), looked_at })
    }
}

/// Attention weights by head, token written and token read.
type Weights = Vec<Vec<Vec<f32>>>;

/// The probabilities of every token after each of `read`, and the weights of each layer's cross-attention.
fn ask_model(model: &Model, src: &[u32], read: &[u32]) -> candle_core::Result<(Vec<Vec<f32>>, Vec<Weights>)> {
    let row = |ids: &[u32]| Tensor::from_slice(ids, (1, ids.len()), &Device::Cpu).map(Padded::full);
    let (src, read) = (row(src)?, row(read)?);
    let memory = model.encode(&src, Mode::Evaluate)?;
    let logits = model.logits(&model.decode(&memory, &read, None, Mode::Evaluate)?)?.get(0)?;
    let largest = logits.max_keepdim(D::Minus1)?;
    let exponentials = logits.broadcast_sub(&largest)?.exp()?;
    let probabilities = exponentials.broadcast_div(&exponentials.sum_keepdim(D::Minus1)?)?;
    let weights = match (model, &memory) {
        (Model::Transformer(model), ModelMemory::Transformer(memory)) => {
            model.cross_attention_weights(memory, &read)?
        }
        _ => Vec::new(),
    };
    let weights = weights.iter().map(|layer| layer.get(0)?.to_vec3());
    Ok((probabilities.to_vec2()?, weights.collect::<candle_core::Result<_>>()?))
}

/// The most probable tokens; of equals, the first.
fn most_probable(probabilities: &[f32]) -> impl Iterator<Item = (usize, f64)> {
    let mut all: Vec<(usize, f64)> = probabilities.iter().map(|p| f64::from(*p)).enumerate().collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all.into_iter().take(CANDIDATES)
}

/// For each of `n_tokens` tokens of a matrix, the coefficient that it is a part of, or an empty string before the words
/// begin. `None` if the words are not those of the matrix.
fn places(
    letter: char,
    matrix: &DenseMatrix,
    encoding: &dyn NumberEncoding,
    layout: Layout,
    n_tokens: usize,
) -> Option<Vec<String>> {
    let mut places = Vec::with_capacity(n_tokens);
    let mut word = Vec::new();
    for (row, column) in layout.entries(matrix.rows, matrix.cols) {
        word.clear();
        encoding.encode(*matrix.coefficients.get(row * matrix.cols + column)?, &mut word).ok()?;
        let name = coefficient(letter, (row + 1, column + 1), matrix);
        places.extend(word.iter().map(|_| name.clone()));
    }
    let before = n_tokens.checked_sub(places.len())?;
    Some([vec![String::new(); before], places].concat())
}

/// `a12`, or `a1,12` if that could be misread.
fn coefficient(letter: char, (row, col): (usize, usize), matrix: &DenseMatrix) -> String {
    if matrix.rows > 9 || matrix.cols > 9 { format!("{letter}{row},{col}") } else { format!("{letter}{row}{col}") }
}

/// [`places`] for a source of `n_tokens`, delimiters included.
fn places_of_source(
    input: &DenseMatrix,
    encoding: &dyn NumberEncoding,
    layout: Layout,
    n_tokens: usize,
) -> Vec<String> {
    let places = places('a', input, encoding, layout, n_tokens.saturating_sub(1));
    let places = places.unwrap_or_else(|| vec![String::new(); n_tokens.saturating_sub(1)]);
    [places, vec![String::new()]].concat()
}

/// Sums the weights of the tokens of each coefficient.
fn gather(heads: Weights, places: &[String]) -> LookedAt {
    let mut sources = vec![String::new()];
    let mut columns = Vec::with_capacity(places.len());
    for place in places {
        let column = sources.iter().position(|source| source == place).unwrap_or(sources.len());
        if column == sources.len() {
            sources.push(place.clone());
        }
        columns.push(column);
    }
    let gathered = |row: Vec<f32>| {
        let mut shares = vec![0.0; sources.len()];
        row.iter().zip(&columns).for_each(|(weight, column)| shares[*column] += f64::from(*weight));
        shares
    };
    let heads = heads.into_iter().map(|head| head.into_iter().map(gathered).collect()).collect();
    sources[0] = "shape".to_owned();
    LookedAt { sources, heads }
}

#[cfg(test)]
mod tests {
    use numformer_encoding::{Floating, Positional};

    use super::*;

    #[test]
    fn tokens_belong_to_the_coefficients_whose_words_they_are() {
        let matrix = "3.14 -0.5".parse().expect("a matrix");
        let found = places('b', &matrix, &Positional::p1000(), Layout::RowMajor, 8).expect("two words");
        assert_eq!(found, ["", "", "b11", "b11", "b11", "b12", "b12", "b12"]);
        assert_eq!(places('b', &matrix, &Positional::p1000(), Layout::RowMajor, 5), None);
        let wide = DenseMatrix { rows: 1, cols: 11, coefficients: vec![0.0; 11] };
        assert_eq!(
            (coefficient('a', (1, 11), &wide), coefficient('a', (2, 2), &matrix)),
            ("a1,11".into(), "a22".into())
        );
    }

    #[test]
    fn a_lower_triangle_has_the_places_of_its_entries() {
        let matrix = "1 2; 2 3".parse().expect("a matrix");
        let one_token = Floating::fp15();
        let found = places_of_source(&matrix, &one_token, Layout::LowerTriangle, 7);
        assert_eq!(found, ["", "", "", "a11", "a21", "a22", ""]);
    }

    #[test]
    fn weights_are_gathered_by_coefficient() {
        let places = ["", "", "a11", "a11", "a12", ""].map(str::to_owned);
        let heads = vec![vec![vec![0.125, 0.125, 0.25, 0.25, 0.125, 0.125]], vec![vec![0.0, 0.0, 0.0, 0.0, 1.0, 0.0]]];
        let looked_at = gather(heads, &places);
        assert_eq!(looked_at.sources, ["shape", "a11", "a12"]);
        assert_eq!(looked_at.heads, [[[0.375, 0.5, 0.125]], [[0.0, 0.0, 1.0]]]);
        assert_eq!(looked_at.mean(), [[0.1875, 0.25, 0.5625]]);
    }

    #[test]
    fn the_most_probable_come_first() {
        let found: Vec<_> = most_probable(&[0.125, 0.5, 0.125, 0.25, 0.0]).collect();
        assert_eq!(found, [(1, 0.5), (3, 0.25), (0, 0.125), (2, 0.125)]);
    }
}
