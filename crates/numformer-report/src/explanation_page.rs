//! An explanation as a page.

use crate::page::page;
use crate::section::explanation;
use crate::{Explanation, ReportError};

impl Explanation {
    /// The explanation as a page: one self-contained file.
    ///
    /// # Errors
    /// When a figure cannot be drawn.
    pub fn to_html(&self) -> Result<String, ReportError> {
        Ok(page("How the model came to its answer", &explanation(self)?))
    }
}
