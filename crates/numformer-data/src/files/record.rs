//! One example as a file holds it.

use faer::Mat;
use numformer_encoding::TokenId;
use numformer_problems::Problem;
use serde::Deserialize;

use crate::task::Posed;
use crate::task::error::{no_answer, unwritable};
use crate::{RecordError, Task, TaskError};

/// One example as a file holds it.
#[derive(Debug)]
pub(crate) enum Record {
    Tokens { src: String, tgt: String },
    Matrices { problem: Option<String>, src: Vec<Vec<f64>>, tgt: Vec<Vec<f64>> },
}

/// The fields of a line of JSON; others are ignored.
#[derive(Deserialize)]
struct Fields {
    problem: Option<String>,
    src: Option<Vec<Vec<f64>>>,
    tgt: Option<Vec<Vec<f64>>>,
    src_tokens: Option<String>,
    tgt_tokens: Option<String>,
}

impl Record {
    pub(crate) fn from_tsv(line: &str) -> Result<Self, RecordError> {
        let mut fields = line.split('\t');
        match (fields.next(), fields.next(), fields.next()) {
            (Some(src), Some(tgt), None) => Ok(Self::Tokens { src: src.to_owned(), tgt: tgt.to_owned() }),
            _ => Err(RecordError::Fields { found: line.split('\t').count() }),
        }
    }

    pub(crate) fn from_json(line: &str) -> Result<Self, RecordError> {
        let Fields { problem, src, tgt, src_tokens, tgt_tokens } = serde_json::from_str(line)?;
        match ((src_tokens, tgt_tokens), (src, tgt)) {
            ((Some(src), Some(tgt)), _) => Ok(Self::Tokens { src, tgt }),
            (_, (Some(src), Some(tgt))) => Ok(Self::Matrices { problem, src, tgt }),
            _ => Err(RecordError::NoExample),
        }
    }

    /// The sequences of source and target, delimiters included.
    ///
    /// # Errors
    /// When this is not an example of the task.
    pub(crate) fn sequences(self, task: &Task) -> Result<(Vec<TokenId>, Vec<TokenId>), RecordError> {
        let (src, tgt) = match self {
            Self::Tokens { src, tgt } => {
                let read = |which, text: &str| {
                    let inner = task.vocabulary().tokenize(text);
                    let inner = inner.map_err(|source| RecordError::Symbol { which, source })?;
                    let delimiter = [task.vocabulary().delimiter()];
                    Ok::<_, RecordError>([&delimiter, &inner[..], &delimiter].concat())
                };
                (read("source", &src)?, read("target", &tgt)?)
            }
            Self::Matrices { problem, src, tgt } => task.write_pair(problem.as_deref(), &src, &tgt)?,
        };
        task.check_pair(&src, &tgt)?;
        Ok((src, tgt))
    }
}

impl Task {
    /// Checks that two sequences, delimiters included, are an input and a matrix of the shape of its answer, and that
    /// neither is longer than those the task makes.
    fn check_pair(&self, src: &[TokenId], tgt: &[TokenId]) -> Result<(), RecordError> {
        // A delimiter inside a sequence would end it for any reader.
        let [inner_src, inner_tgt] = [src, tgt].map(|sequence| &sequence[1..sequence.len() - 1]);
        // If a sequence cannot be read, its symbols say more than its length, since it may be longer in another
        // encoding.
        let within = |which, sequence: &[TokenId], limit| match sequence.len() {
            found if found > limit => Err(RecordError::TooLong { which, limit, found }),
            _ => Ok(()),
        };
        let posed = self.posed_by(inner_src);
        let input = posed.src.decode(inner_src).map_err(TaskError::Source)?;
        within("source", src, self.max_src_len())?;
        let target = posed.tgt.decode(inner_tgt).map_err(TaskError::Target)?;
        within("target", tgt, self.max_tgt_len())?;
        let expected = posed.problem.output_shape((input.rows, input.cols));
        let expected = expected.map_err(|source| no_answer(&posed.problem, source))?;
        let found = (target.rows, target.cols);
        if found == expected { Ok(()) } else { Err(TaskError::TargetShape { expected, found }.into()) }
    }

    /// The sequences of an input and an answer that are given as lists of rows. The problem may be left out if there is
    /// only one.
    fn write_pair(
        &self,
        problem: Option<&str>,
        src: &[Vec<f64>],
        tgt: &[Vec<f64>],
    ) -> Result<(Vec<TokenId>, Vec<TokenId>), RecordError> {
        let posed = match (problem, &self.posed[..]) {
            (None, [only]) => Some(only),
            (name, posed) => posed.iter().find(|posed| Some(posed.problem.name()) == name),
        };
        let Some(Posed { problem, src: src_encoding, tgt: tgt_encoding }) = posed else {
            let known = self.problems().map(Problem::name).collect();
            return Err(RecordError::Problem { known, found: problem.map(str::to_owned) });
        };
        let write = |which, matrix, encoding, rows: &[Vec<f64>]| {
            let columns = rows.first().map_or(0, Vec::len);
            if let Some(row) = rows.iter().find(|row| row.len() != columns) {
                return Err(RecordError::Ragged { which, first: columns, found: row.len() });
            }
            let mut tokens = Vec::new();
            let dense = Mat::from_fn(rows.len(), columns, |i, j| rows[i][j]);
            self.write(encoding, &dense, &mut tokens).map_err(|source| unwritable(problem, matrix, source))?;
            Ok(tokens)
        };
        Ok((write("source", "input", src_encoding, src)?, write("target", "answer", tgt_encoding, tgt)?))
    }
}
