//! What the names in an experiment stand for.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use numformer_encoding::{NumberEncoding, Preset, encoding_by_name};
use numformer_problems::{
    Addition, Cholesky, Determinant, Eigenvalues, Eigenvectors, Ensemble, EnsembleError, Entries, GaussianEntries,
    HaarOrthogonal, Inversion, LinearSolve, LowRank, MatrixExponential, MatrixSign, MatrixVector, Multiplication,
    PolynomialRoots, Problem, Qr, Rank, SingularValues, Spectrum, Svd, SymmetricInversion, SymmetricSpectrum, Trace,
    Transpose, UniformEntries,
};

use crate::config::ProblemConfig;
use crate::experiment_error::ExperimentError;

/// Problems, laws of random matrices and encodings by the names that experiments give them.
///
/// [`Catalogue::standard`] holds those of this workspace. One's own are added to it, and experiments may then name them.
///
/// # Examples
/// ```
/// use std::sync::Arc;
/// use numformer_encoding::Positional;
/// use numformer_experiment::{Catalogue, Experiment, presets};
///
/// // Three significant digits in base 20.
/// let p20 = Positional::new(20, 3, -20..=20)?;
/// let catalogue = Catalogue::standard().with_encoding("p20", Arc::new(p20));
/// let toml = presets::find("transpose-3x3").unwrap().toml.replace("p1000", "p20");
/// let experiment = Experiment::from_toml(&toml, "my.toml", &catalogue)?;
/// assert_eq!(experiment.task(&catalogue)?.vocabulary().tokenize("+ 1 19 0")?.len(), 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Catalogue {
    problems: BTreeMap<String, (String, MakeProblem)>,
    laws: BTreeMap<String, MakeLaw>,
    encodings: BTreeMap<String, Arc<dyn NumberEncoding>>,
}

type MakeProblem = Arc<dyn Fn(&mut ProblemConfig) -> Box<dyn Problem> + Send + Sync>;
type MakeLaw = Arc<dyn Fn(&LawParameters) -> Result<Box<dyn Ensemble>, EnsembleError> + Send + Sync>;

/// What a law of random matrices is made from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LawParameters {
    /// Number of rows of a matrix.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// The experiment's `matrices.bound`, `A` in the paper.
    pub bound: f64,
    /// The experiment's `matrices.entries`.
    pub entries: Entries,
}

impl LawParameters {
    /// The number of rows and columns, for laws of square matrices.
    ///
    /// # Errors
    /// When the two differ.
    pub fn dimension(&self) -> Result<usize, EnsembleError> {
        let Self { rows, cols: columns, .. } = *self;
        if rows == columns { Ok(rows) } else { Err(EnsembleError::NotSquare { rows, columns }) }
    }
}

impl Catalogue {
    /// All that this workspace has.
    #[must_use]
    pub fn standard() -> Self {
        let empty = Self { problems: BTreeMap::new(), laws: BTreeMap::new(), encodings: BTreeMap::new() };
        Preset::ALL
            .into_iter()
            .fold(empty, |catalogue, preset| catalogue.with_encoding(preset.name(), preset.encoding()))
            .with_problem("addition", "[A | B] to A + B, r×2c to r×c", |_| Box::new(Addition))
            .with_problem(
                "cholesky",
                "L lower triangular with positive diagonal, LLᵀ = A; n×n, symmetric positive definite",
                |_| Box::new(Cholesky),
            )
            .with_problem("determinant", "det A, n×n to 1×1", |_| Box::new(Determinant))
            .with_problem("eigenvalues", "eigenvalues in descending order, n×n symmetric to n×1", |_| {
                Box::new(Eigenvalues)
            })
            .with_problem(
                "eigenvectors",
                "eigenvalues in ascending order, then V with VᵀAV diagonal, n×n symmetric to (n+1)×n",
                |problem| Box::new(Eigenvectors { signs: problem.signs.take().unwrap_or_default() }),
            )
            .with_problem(
                "inversion",
                "A⁻¹, n×n; judged by AH - I, or with judgement = \"target\" by A⁻¹",
                |problem| Box::new(Inversion { judgement: problem.judgement.take().unwrap_or_default() }),
            )
            .with_problem("linear-solve", "[A | b] to x with Ax = b, n×(n+1) to n×1", |_| Box::new(LinearSolve))
            .with_problem("matrix-exponential", "exp A, n×n", |_| Box::new(MatrixExponential))
            .with_problem("matrix-sign", "sign A, n×n", |_| Box::new(MatrixSign))
            .with_problem(
                "matrix-vector",
                "[A | v] to Aᵀv, r×(c+1) to c×1; with left = \"plain\" to Av, n×(n+1) to n×1",
                |problem| Box::new(MatrixVector { left: problem.left.take().unwrap_or_default() }),
            )
            .with_problem(
                "multiplication",
                "[A | B] to AᵀB, r×2c to c×c; with left = \"plain\" to AB, n×2n to n×n",
                |problem| Box::new(Multiplication { left: problem.left.take().unwrap_or_default() }),
            )
            .with_problem(
                "polynomial-roots",
                "coefficients, highest first, to roots as real and imaginary parts, 1×(n+1) to n×2",
                |_| Box::new(PolynomialRoots),
            )
            .with_problem(
                "qr",
                "Q above R with A = QR, QᵀQ = I, R upper triangular, diag R not negative; r×c with r ≥ c to (r+c)×c",
                |_| Box::new(Qr),
            )
            .with_problem("rank", "numerical rank, r×c to 1×1", |_| Box::new(Rank))
            .with_problem("singular-values", "singular values in descending order, r×c to min(r,c)×1", |_| {
                Box::new(SingularValues)
            })
            .with_problem(
                "svd",
                "singular values in descending order, then U, then V, A = U diag(σ) Vᵀ, pairs of either sign; r×c to (1+r+c)×min(r,c)",
                |problem| Box::new(Svd { signs: problem.signs.take().unwrap_or_default() }),
            )
            .with_problem("symmetric-inversion", "A⁻¹, n×n symmetric; judged as inversion", |problem| {
                Box::new(SymmetricInversion { judgement: problem.judgement.take().unwrap_or_default() })
            })
            .with_problem("trace", "tr A, n×n to 1×1", |_| Box::new(Trace))
            .with_problem("transpose", "Aᵀ, r×c to c×r", |_| Box::new(Transpose))
            .with_law("uniform", |law| Ok(Box::new(UniformEntries::new(law.rows, law.cols, law.bound)?)))
            .with_law("gaussian", |law| {
                // The standard deviation of uniform entries.
                Ok(Box::new(GaussianEntries::new(law.rows, law.cols, law.bound / 3.0_f64.sqrt())?))
            })
            .with_law("low-rank", |law| Ok(Box::new(LowRank::new(law.rows, law.cols, law.bound)?)))
            .with_law("haar-orthogonal", |law| Ok(Box::new(HaarOrthogonal::new(law.dimension()?)?)))
            .with_spectrum("wigner", Spectrum::Semicircle)
            .with_spectrum("positive", Spectrum::Positive)
            .with_spectrum("uniform-spectrum", Spectrum::Uniform)
            .with_spectrum("gaussian-spectrum", Spectrum::Gaussian)
            .with_spectrum("laplace", Spectrum::Laplace)
            .with_spectrum("abs-laplace", Spectrum::AbsLaplace)
            .with_spectrum("marchenko-pastur", Spectrum::MarchenkoPastur)
    }

    /// Adds the law of symmetric matrices with such a spectrum.
    fn with_spectrum(self, name: &str, spectrum: Spectrum) -> Self {
        self.with_law(name, move |law| {
            let law_of = SymmetricSpectrum::new(law.dimension()?, law.bound, spectrum)?;
            Ok(Box::new(law_of.with_entries(law.entries)?))
        })
    }

    /// Adds a problem, in place of one of that name. `about` says in a line what it computes and between which shapes.
    ///
    /// `make` takes the options it heeds out of the section that asks for the problem; one that is left is an error.
    #[must_use]
    pub fn with_problem(
        mut self,
        name: &str,
        about: &str,
        make: impl Fn(&mut ProblemConfig) -> Box<dyn Problem> + Send + Sync + 'static,
    ) -> Self {
        self.problems.insert(name.to_owned(), (about.to_owned(), Arc::new(make)));
        self
    }

    /// Adds a law of random matrices, in place of one of that name.
    #[must_use]
    pub fn with_law(
        mut self,
        name: &str,
        make: impl Fn(&LawParameters) -> Result<Box<dyn Ensemble>, EnsembleError> + Send + Sync + 'static,
    ) -> Self {
        self.laws.insert(name.to_owned(), Arc::new(make));
        self
    }

    /// Adds an encoding, in place of one of that name.
    #[must_use]
    pub fn with_encoding(mut self, name: &str, encoding: Arc<dyn NumberEncoding>) -> Self {
        self.encodings.insert(name.to_owned(), encoding);
        self
    }

    /// The names of all problems, sorted, and what they compute.
    pub fn problems(&self) -> impl Iterator<Item = (&str, &str)> {
        self.problems.iter().map(|(name, (about, _))| (name.as_str(), about.as_str()))
    }

    /// The names of all laws, sorted.
    pub fn laws(&self) -> impl Iterator<Item = &str> {
        self.laws.keys().map(String::as_str)
    }

    /// The names of all encodings, sorted.
    pub fn encodings(&self) -> impl Iterator<Item = &str> {
        self.encodings.keys().map(String::as_str)
    }

    /// The problem that a section of an experiment asks for.
    ///
    /// # Errors
    /// When there is none of that name, or it does not heed an option.
    pub fn problem(&self, config: &ProblemConfig) -> Result<Box<dyn Problem>, ExperimentError> {
        let (_, make) = find(&self.problems, "problem.name", &config.name)?;
        let mut options = config.clone();
        let problem = make(&mut options);
        match options.first_option() {
            None => Ok(problem),
            Some(key) => Err(ExperimentError::UnheededOption { key, problem: config.name.clone() }),
        }
    }

    /// The law of that name.
    ///
    /// # Errors
    /// When there is none, or it does not exist with these parameters.
    pub fn law(&self, name: &str, parameters: &LawParameters) -> Result<Box<dyn Ensemble>, ExperimentError> {
        Ok(find(&self.laws, "matrices.law", name)?(parameters)?)
    }

    /// The encoding of that name, or a general one with its parameters, as [`encoding_by_name`] reads it; `key` is where an
    /// experiment names it.
    ///
    /// # Errors
    /// When there is none.
    pub fn encoding(&self, key: &'static str, name: &str) -> Result<Arc<dyn NumberEncoding>, ExperimentError> {
        if name.contains('(') && !self.encodings.contains_key(name) {
            return encoding_by_name(name).map_err(|source| ExperimentError::Encoding { key, source });
        }
        find(&self.encodings, key, name).cloned()
    }
}

fn find<'c, T>(entries: &'c BTreeMap<String, T>, key: &'static str, name: &str) -> Result<&'c T, ExperimentError> {
    entries.get(name).ok_or_else(|| {
        let known = entries.keys().cloned().collect();
        ExperimentError::UnknownName { key, found: name.to_owned(), known }
    })
}

impl fmt::Debug for Catalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catalogue")
            .field("problems", &self.problems.keys())
            .field("laws", &self.laws.keys())
            .field("encodings", &self.encodings.keys())
            .finish()
    }
}
