//! `numformer encode` and `numformer decode`: one matrix a line, in and out.

use std::io::{self, BufRead, BufReader, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Context, Error, Result, ensure};
use clap::Args;
use numformer_data::TextReader;
use numformer_encoding::{
    DecodeError, DenseMatrix, EncodingNameError, MatrixEncoding, Vocabulary, VocabularyError, encoding_by_name,
};
use serde::Deserialize;
use serde_json::{Value, json};

/// Encode matrices as tokens, one per line, from standard input to standard output.
///
/// Rows are separated by `;`, numbers by spaces; a single number is a 1x1 matrix. A JSON list of rows is accepted,
/// too, and so is the output of `numformer decode --json`. A line that cannot be encoded is reported on standard
/// error with its line number, and the exit code is then 1.
#[derive(Args)]
#[command(after_help = "Examples:
  $ echo '1.5 2; 3 4' | numformer encode --encoding p1000
  V2 V2 + 150 E-2 + 200 E-2 + 300 E-2 + 400 E-2
  $ echo '[[-0.004]]' | numformer encode --encoding fp15 --json
  {\"tokens\":[\"V1\",\"V1\",\"N-400e4\"]}")]
pub(crate) struct EncodeArguments {
    #[command(flatten)]
    common: CommonArguments,
}

/// Decode matrices written as tokens, one per line, from standard input to standard output.
///
/// The inverse of `numformer encode`. A line that is not a matrix is reported on standard error with its line number,
/// and the exit code is then 1; positions of tokens count from 0.
#[derive(Args)]
#[command(after_help = "Examples:
  $ echo 'V1 V2 + 150 E-2 - 200 E-2' | numformer decode --encoding p1000
  1.5 -2
  $ echo 'V1 V2 + 150 E-2 - 200' | numformer decode --encoding p1000 --json
  {\"error\":\"expected an exponent at position 7, found the end\",\"line\":1,\"position\":7}")]
pub(crate) struct DecodeArguments {
    #[command(flatten)]
    common: CommonArguments,
}

#[derive(Args)]
struct CommonArguments {
    /// How numbers are written: p10 or p1000, positional in base 10 or 1000; b1999, with a signed significand; fp15,
    /// as one token (magnitudes up to 9.99e8, in units of 10^-9); or a general encoding, such as
    /// 'positional(base = 100, precision = 2)', 'balanced(precision = 2)', 'floating(precision = 2, exponents = 16,
    /// decimals = 7)'.
    #[arg(long, value_name = "NAME", value_parser = encoding_name)]
    encoding: String,
    /// Print a JSON object for each line: tokens, or rows, cols and matrix; for a line that cannot be read, error,
    /// line and, if there is one, position.
    #[arg(long)]
    json: bool,
}

pub(crate) fn encode(arguments: &EncodeArguments) -> Result<ExitCode> {
    let Codec { vocabulary, matrices } = Codec::new(&arguments.common.encoding)?;
    filter_lines(arguments.common.json, |line| {
        let matrix = if line.trim_start().starts_with(['[', '{']) { from_json(line)? } else { line.parse()? };
        let mut tokens = Vec::new();
        matrices.encode(matrix.rows, matrix.cols, matrix.coefficients, &mut tokens)?;
        let text = vocabulary.render(&tokens);
        let object = json!({ "tokens": text.split(' ').collect::<Vec<_>>() });
        Ok((text, object))
    })
}

pub(crate) fn decode(arguments: &DecodeArguments) -> Result<ExitCode> {
    let Codec { vocabulary, matrices } = Codec::new(&arguments.common.encoding)?;
    filter_lines(arguments.common.json, |line| {
        let text = if line.trim_start().starts_with('{') { tokens_of(line)? } else { line.to_owned() };
        let matrix = matrices.decode(&vocabulary.tokenize(&text)?)?;
        let rows: Vec<_> = matrix.coefficients.chunks(matrix.cols).collect();
        let object = json!({ "rows": matrix.rows, "cols": matrix.cols, "matrix": rows });
        Ok((matrix.to_string(), object))
    })
}

/// Reads a matrix from a list of rows, or from an object as `decode` prints it.
fn from_json(line: &str) -> Result<DenseMatrix> {
    let mut value: Value = serde_json::from_str(line).context("expected a list of rows")?;
    let rows = value.get_mut("matrix").map(Value::take).unwrap_or(value);
    let rows: Vec<Vec<f64>> = serde_json::from_value(rows).context("expected a list of rows")?;
    let cols = rows.first().map_or(0, Vec::len);
    for (row, index) in rows.iter().zip(1..) {
        ensure!(row.len() == cols, "expected {cols} numbers in row {index}, as in the first, found {}", row.len());
    }
    Ok(DenseMatrix { rows: rows.len(), cols, coefficients: rows.concat() })
}

/// The tokens that `encode` prints as JSON, separated by spaces.
fn tokens_of(line: &str) -> Result<String> {
    #[derive(Deserialize)]
    struct Tokens {
        tokens: Vec<String>,
    }
    let Tokens { tokens } = serde_json::from_str(line).context("expected an object with tokens")?;
    Ok(tokens.join(" "))
}

fn encoding_name(name: &str) -> Result<String, EncodingNameError> {
    encoding_by_name(name).map(|_| name.to_owned())
}

struct Codec {
    vocabulary: Vocabulary,
    matrices: MatrixEncoding,
}

impl Codec {
    fn new(name: &str) -> Result<Self> {
        let numbers = encoding_by_name(name)?;
        let vocabulary = Vocabulary::reference(&*numbers, &*numbers);
        let matrices = MatrixEncoding::new(numbers, &vocabulary)?;
        Ok(Self { vocabulary, matrices })
    }
}

/// The lines of standard input, in UTF-8 if they are text.
pub(crate) fn lines_of_input() -> impl Iterator<Item = io::Result<Vec<u8>>> {
    BufReader::new(TextReader::new(io::stdin().lock())).split(b'\n')
}

/// Applies `convert` to each line of standard input. The exit code says whether it succeeded for all of them.
pub(crate) fn filter_lines(json: bool, convert: impl Fn(&str) -> Result<(String, Value)>) -> Result<ExitCode> {
    let mut output = io::BufWriter::new(io::stdout().lock());
    let is_watched = io::stdout().is_terminal();
    let mut code = ExitCode::SUCCESS;
    for (number, line) in (1..).zip(lines_of_input()) {
        let line = line.context("cannot read standard input")?;
        let converted =
            std::str::from_utf8(&line).map_err(Error::from).and_then(|line| convert(line.trim_end_matches('\r')));
        if converted.is_err() {
            code = ExitCode::FAILURE;
        }
        let written = match converted {
            Ok((_, object)) if json => writeln!(output, "{object}"),
            Ok((text, _)) => writeln!(output, "{text}"),
            Err(error) if json => writeln!(output, "{}", error_object(number, &error)),
            Err(error) => {
                report!("line {number}: {}", crate::causes(error.chain()));
                Ok(())
            }
        };
        let written = if is_watched { written.and_then(|()| output.flush()) } else { written };
        if !is_open(written)? {
            return Ok(code);
        }
    }
    is_open(output.flush())?;
    Ok(code)
}

fn error_object(line: u64, error: &Error) -> Value {
    let mut object = json!({ "line": line, "error": format!("{error:#}") });
    if let Some(error) = error.downcast_ref::<DecodeError>() {
        object["position"] = error.position().into();
    } else if let Some(VocabularyError::UnknownSymbol { position, .. }) = error.downcast_ref() {
        object["position"] = (*position).into();
    }
    object
}

/// Whether standard output still has a reader. A reader that has left, such as `head`, is not an error.
pub(crate) fn is_open(written: io::Result<()>) -> Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("cannot write to standard output"),
    }
}
