//! Experiments that come with the crate.

/// An embedded experiment: a commented TOML file.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// Name, as `numformer train` takes it.
    pub name: &'static str,
    /// The file.
    pub toml: &'static str,
}

/// All presets, sorted by name.
pub const PRESETS: &[Preset] = &[
    Preset { name: "transpose-3x3", toml: include_str!("../presets/transpose-3x3.toml") },
    Preset { name: "transpose-5x5", toml: include_str!("../presets/transpose-5x5.toml") },
];

/// Their names.
#[must_use]
pub fn names() -> Vec<&'static str> {
    PRESETS.iter().map(|preset| preset.name).collect()
}
