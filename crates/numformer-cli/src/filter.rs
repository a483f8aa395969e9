//! `numformer encode` and `numformer decode`: one matrix a line, in and out.

use std::io::{self, BufRead, ErrorKind, Write};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use numformer_encoding::{DenseMatrix, MatrixEncoding, NumberEncoding, Vocabulary, encoding_by_name};

/// Write matrices as tokens, one a line, from standard input to standard output.
///
/// Rows are separated by `;`, numbers by spaces; a lone number is a 1x1 matrix. A line that cannot be written gives an
/// error with its number on standard error, and exit code 1 at the end.
#[derive(Args)]
#[command(after_help = "Example:
  $ echo '1.5 2; 3 4' | numformer encode --encoding p1000
  V2 V2 + 150 E-2 + 200 E-2 + 300 E-2 + 400 E-2")]
pub(crate) struct EncodeArguments {
    /// How numbers are written: p10, p1000, b1999 or fp15.
    #[arg(long, value_name = "NAME")]
    encoding: String,
}

/// Read matrices written as tokens, one a line, from standard input to standard output.
///
/// The inverse of `numformer encode`. A line that is no matrix gives an error with its number on standard error, and
/// exit code 1 at the end.
#[derive(Args)]
#[command(after_help = "Example:
  $ echo 'V1 V2 + 150 E-2 - 200 E-2' | numformer decode --encoding p1000
  1.5 -2")]
pub(crate) struct DecodeArguments {
    /// How numbers are written: p10, p1000, b1999 or fp15.
    #[arg(long, value_name = "NAME")]
    encoding: String,
}

pub(crate) fn encode(arguments: &EncodeArguments) -> Result<ExitCode> {
    let codec = Codec::new(&arguments.encoding)?;
    filter_lines(|line| {
        let matrix: DenseMatrix = line.parse()?;
        let mut tokens = Vec::new();
        codec.matrices.encode(matrix.rows, matrix.cols, matrix.coefficients, &mut tokens)?;
        Ok(codec.vocabulary.render(&tokens))
    })
}

pub(crate) fn decode(arguments: &DecodeArguments) -> Result<ExitCode> {
    let codec = Codec::new(&arguments.encoding)?;
    filter_lines(|line| {
        let tokens = codec.vocabulary.tokenize(line)?;
        Ok(codec.matrices.decode(&tokens)?.to_string())
    })
}

struct Codec {
    vocabulary: Vocabulary,
    matrices: MatrixEncoding,
}

impl Codec {
    fn new(name: &str) -> Result<Self> {
        let numbers: Arc<dyn NumberEncoding> = encoding_by_name(name)?;
        let vocabulary = Vocabulary::reference(&*numbers, &*numbers);
        let matrices = MatrixEncoding::new(numbers, &vocabulary)?;
        Ok(Self { vocabulary, matrices })
    }
}

/// Applies `convert` to each line of standard input; the exit code says whether all could be done.
fn filter_lines(convert: impl Fn(&str) -> Result<String>) -> Result<ExitCode> {
    let mut output = io::BufWriter::new(io::stdout().lock());
    let mut code = ExitCode::SUCCESS;
    for (number, line) in (1..).zip(io::stdin().lock().split(b'\n')) {
        let line = line.context("cannot read standard input")?;
        let converted =
            std::str::from_utf8(&line).map_err(Into::into).and_then(|line| convert(line.trim_end_matches('\r')));
        let written = match converted {
            Ok(text) => writeln!(output, "{text}"),
            Err(error) => {
                eprintln!("line {number}: {error:#}");
                code = ExitCode::FAILURE;
                Ok(())
            }
        };
        if !is_open(written)? {
            return Ok(code);
        }
    }
    is_open(output.flush())?;
    Ok(code)
}

/// Whether the reader of standard output is still there; one that left, such as `head`, is no failure.
pub(crate) fn is_open(written: io::Result<()>) -> Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("cannot write standard output"),
    }
}
