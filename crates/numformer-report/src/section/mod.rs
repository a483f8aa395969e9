//! The content of a report, section by section.

mod accuracy;
mod comparison;
mod curves;
mod errors;
mod explanation;
mod failures;
mod laws;
mod summary;

pub(crate) use accuracy::accuracy;
pub(crate) use comparison::comparison;
pub(crate) use curves::curves;
pub(crate) use errors::errors;
pub(crate) use explanation::explanation;
pub(crate) use failures::failures;
pub(crate) use laws::laws;
pub(crate) use summary::summary;

use crate::chart::DrawError;
use crate::{Figure, ReportError, ReportedRun, Table};

/// A run with its names in a report.
pub(crate) struct Named<'a> {
    pub(crate) run: &'a ReportedRun,
    /// Its name on the page.
    pub(crate) label: String,
    /// The beginning of the names of its figures and files.
    pub(crate) prefix: String,
}

/// A part of a page, in reading order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Block {
    /// The heading of a section. The table of contents links to its id.
    Section { id: String, text: String },
    /// A heading within a section, of level 3 or deeper.
    Heading { level: u8, text: String },
    /// A paragraph.
    Paragraph(String),
    /// A figure; adjacent figures stand side by side where there is room.
    Figure(Box<Figure>),
    /// A table, with the name of its file.
    Table { name: String, table: Table },
    /// A part with its own markup.
    Html(String),
}

impl Block {
    pub(crate) fn section(id: impl Into<String>, text: impl Into<String>) -> Self {
        Self::Section { id: id.into(), text: text.into() }
    }

    pub(crate) fn heading(level: u8, text: impl Into<String>) -> Self {
        Self::Heading { level, text: text.into() }
    }

    /// A figure with the given drawing.
    fn figure(
        name: String,
        title: &str,
        description: String,
        table: Table,
        drawing: Result<String, DrawError>,
    ) -> Result<Self, ReportError> {
        match drawing {
            Ok(svg) => Ok(Self::Figure(Box::new(Figure::new(name, title, description, table, svg)))),
            Err(source) => Err(ReportError::Drawing { figure: name, source }),
        }
    }
}
