//! Writes a matrix as tokens in the four published encodings, and reads it back.
//!
//! Run: `cargo run --release --example round_trip`
//!
//! Expected output: for each encoding the tokens and the matrix they stand for, every number rounded to three digits.
//! Next: `quickstart`, where a model learns to work on such tokens.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use anyhow::{Result, ensure};
use numformer::encoding::{DenseMatrix, MatrixEncoding, Preset, Vocabulary};

fn main() -> Result<()> {
    let matrix: DenseMatrix = "3.14159 -0.004; 0 2718.28".parse()?;
    for preset in Preset::ALL {
        let numbers = preset.encoding();
        let vocabulary = Vocabulary::reference(&*numbers, &*numbers);
        let encoding = MatrixEncoding::new(numbers, &vocabulary)?;
        let mut tokens = Vec::new();
        encoding.encode(matrix.rows, matrix.cols, matrix.coefficients.iter().copied(), &mut tokens)?;
        let read = encoding.decode(&tokens)?;
        println!("{preset:>6}  {}\n        {read}", vocabulary.render(&tokens));
        ensure!(read.to_string() == "3.14 -0.004; 0 2720", "expected three significant digits, found {read}");
    }
    Ok(())
}
