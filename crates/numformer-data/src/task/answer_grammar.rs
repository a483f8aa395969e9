//! Which tokens may follow which in an answer.

use std::ops::Range;

use numformer_encoding::{MatrixGrammar, MatrixState, TokenId};

use crate::task::error::no_answer;
use crate::{Task, TaskError};

/// The grammar of answers to the sources of a task: which tokens may come next. It allows exactly what reads as a
/// matrix of the shape of the answer.
///
/// [`Task::answer_grammar`] makes it.
#[derive(Clone, Debug)]
pub struct AnswerGrammar<'t> {
    task: &'t Task,
    /// One for each problem. It begins with the letter of the problem.
    matrices: Vec<MatrixGrammar>,
}

/// The state of an [`AnswerGrammar`]: how far an answer has been written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerState {
    problem: usize,
    matrix: MatrixState,
}

impl Task {
    /// The grammar of answers.
    ///
    /// # Errors
    /// When the encoding of answers has no [grammar](numformer_encoding::NumberEncoding::grammar).
    ///
    /// # Examples
    /// ```
    /// use std::sync::Arc;
    /// use numformer_data::Task;
    /// use numformer_encoding::Positional;
    /// use numformer_problems::{Transpose, UniformEntries};
    ///
    /// let p1000 = Arc::new(Positional::p1000());
    /// let task = Task::new(Transpose, UniformEntries::new(1, 2, 10.0)?, p1000.clone(), p1000)?;
    /// let src = task.vocabulary().tokenize("<s> V1 V2 + 3 E0 + 4 E0 <s>")?;
    /// let grammar = task.answer_grammar()?;
    /// let state = grammar.start(&src, task.max_tgt_len())?;
    /// // The transpose has two rows.
    /// let two = task.vocabulary().id("V2").expect("a dimension").0;
    /// assert_eq!(grammar.allowed(&state), [two..two + 1]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn answer_grammar(&self) -> Result<AnswerGrammar<'_>, TaskError> {
        let grammar = |encoding: &numformer_encoding::MatrixEncoding| {
            encoding.grammar().ok_or_else(|| TaskError::NoGrammar { encoding: format!("{:?}", encoding.number()) })
        };
        let matrices = self.posed.iter().map(|posed| grammar(&posed.tgt)).collect::<Result<_, _>>()?;
        Ok(AnswerGrammar { task: self, matrices })
    }
}

impl AnswerGrammar<'_> {
    /// The state before the first token of the answer to `src`. The answer may have at most `max_len` tokens, including
    /// both delimiters. `src` may have its delimiters or not.
    ///
    /// # Errors
    /// When `src` is not a matrix that its problem is posed on, or the shortest answer has more than `max_len` tokens.
    pub fn start(&self, src: &[TokenId], max_len: usize) -> Result<AnswerState, TaskError> {
        let src = self.task.between_delimiters(src);
        let problem = self.task.problem_of(src);
        let posed = &self.task.posed[problem];
        let input = posed.src.decode(src).map_err(TaskError::Source)?;
        let shape = posed.problem.output_shape((input.rows, input.cols));
        let (rows, cols) = shape.map_err(|source| no_answer(&posed.problem, source))?;
        let room = max_len.saturating_sub(1);
        let matrix = self.matrices[problem].start(rows, cols, room).map_err(TaskError::AnswerGrammar)?;
        Ok(AnswerState { problem, matrix })
    }

    /// The ids that may follow, as ascending ranges. There is always at least one until the delimiter has been written.
    #[must_use]
    pub fn allowed(&self, state: &AnswerState) -> &[Range<u32>] {
        self.matrices[state.problem].allowed(&state.matrix)
    }

    /// Moves past `token`. If `token` is not allowed, no token may follow it.
    pub fn advance(&self, state: &mut AnswerState, token: TokenId) {
        self.matrices[state.problem].advance(&mut state.matrix, token);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use numformer_encoding::{DecodeError, EncodeError, NumberEncoding, Positional};
    use numformer_problems::{Transpose, UniformEntries};

    use super::*;

    /// P10 without its grammar.
    #[derive(Debug)]
    struct Secretive(Positional);

    impl NumberEncoding for Secretive {
        fn symbols(&self) -> &[String] {
            self.0.symbols()
        }
        fn max_word_len(&self) -> usize {
            self.0.max_word_len()
        }
        fn encode(&self, x: f64, word: &mut Vec<TokenId>) -> Result<(), EncodeError> {
            self.0.encode(x, word)
        }
        fn decode<'t>(&self, tokens: &'t [TokenId]) -> Result<(f64, &'t [TokenId]), DecodeError> {
            self.0.decode(tokens)
        }
    }

    fn task(output: Arc<dyn NumberEncoding>) -> Task {
        Task::new(Transpose, UniformEntries::new(1, 2, 10.0).unwrap(), Arc::new(Positional::p10()), output).unwrap()
    }

    #[test]
    fn an_encoding_that_does_not_say_has_no_grammar() {
        let error = task(Arc::new(Secretive(Positional::p10()))).answer_grammar().unwrap_err().to_string();
        assert!(error.contains("Secretive(Positional { base: 10"), "{error}");
    }

    #[test]
    fn there_is_room_for_the_shortest_answer_or_an_error() {
        let task = task(Arc::new(Positional::p10()));
        let src = task.vocabulary().tokenize("V1 V2 + 3 E0 + 4 E0").unwrap();
        let grammar = task.answer_grammar().unwrap();
        // Two delimiters, two dimensions, two words of three tokens.
        assert!(grammar.start(&src, 10).is_ok());
        let error = grammar.start(&src, 9).unwrap_err();
        assert!(matches!(error, TaskError::AnswerGrammar(_)), "{error:?}");
        assert!(matches!(grammar.start(&src[1..], 100), Err(TaskError::Source(_))));
        assert!(matches!(grammar.start(&[], 100), Err(TaskError::Source(_))));
    }
}
