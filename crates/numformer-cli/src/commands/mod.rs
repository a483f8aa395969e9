//! The subcommands.

pub(crate) mod bench;
pub(crate) mod completions;
pub(crate) mod evaluate;
pub(crate) mod filter;
pub(crate) mod generate;
pub(crate) mod import_lawt;
pub(crate) mod presets;
pub(crate) mod problems;
pub(crate) mod report;
pub(crate) mod reproduce;
pub(crate) mod resume;
pub(crate) mod runs;
pub(crate) mod score;
pub(crate) mod solve;
pub(crate) mod train;
pub(crate) mod verify;
