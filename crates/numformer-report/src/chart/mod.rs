//! Drawings: data in, SVG out, in the light colours of the [theme](crate::theme).

mod canvas;
mod marker;

pub(crate) mod heat_map;
pub(crate) mod histogram;
pub(crate) mod interval_chart;
pub(crate) mod line_chart;

pub(crate) use canvas::WIDTH;

use std::error::Error;

/// The reason why something cannot be drawn.
pub(crate) type DrawError = Box<dyn Error + Send + Sync>;
