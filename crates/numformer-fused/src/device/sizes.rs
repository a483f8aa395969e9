//! The sizes of a batch as a sublayer sees it.

use numformer_ops::device::Region;

/// The sizes of an attention on a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) batch: usize,
    /// Number of queries and keys of an example.
    pub(super) t: usize,
    pub(super) s: usize,
    /// Number of valid keys of each example.
    pub(super) key_lengths: Region,
    /// What the masks of dropout of the queries depend on; `None` where nothing is trained.
    pub(super) masks: Option<Region>,
}
