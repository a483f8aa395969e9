//! [architecture]: crate::docs::architecture
//! [benchmarks]: crate::docs::benchmarks
//! [distributed]: crate::docs::distributed
//! [experiments]: crate::docs::experiments
//! [findings]: crate::docs::findings
//! [gpu]: crate::docs::gpu
//! [guide]: crate::docs::guide
//! [judgement]: crate::docs::judgement
//! [reproduction]: crate::docs::reproduction
#![doc = include_str!("../README.md")]
//!
//! # The crates under one name
//! This crate holds no code of its own. It brings the crates of the workspace together:
//!
//! - [`distributed`]: processes that work together;
//! - [`encoding`]: numbers and matrices as tokens, and back;
//! - [`metrics`]: how far an answer is from right;
//! - [`problems`]: what is computed, and on which random matrices;
//! - [`data`]: examples and batches of token ids;
//! - [`ops`]: fused differentiable operations;
//! - [`model`]: encoder-decoders, and generation;
//! - [`fused`]: the training step of the standard transformer without automatic differentiation;
//! - [`store`]: weights and optimizer state on disk;
//! - [`lawt`]: published checkpoints read as data;
//! - [`evaluate`]: answers found and judged;
//! - [`train`]: the training loop;
//! - [`experiment`]: experiments as data, and their runs on disk;
//! - [`report`]: reports of runs.
//!
//! # Features
//! - `cuda`: trains, judges and answers on NVIDIA GPUs, with candle and, for the standard transformer, kernels of our own.
//!   No GPU has run this yet. Building it needs a CUDA compiler, and starting a program needs CUDA's libraries, unless it
//!   is built by `cargo xtask cuda-build`. Off by default; the page on [GPUs][gpu] has the details.
//! - `mpi`: trains in several processes that MPI connects; building it needs Open MPI or MPICH, and libclang. Off by
//!   default; see the page on [several processes][distributed].
//! - `nccl`: trains on several GPUs that NCCL connects, with `cuda`. No GPU has run this yet. Off by default.
#![forbid(unsafe_code)]

pub use numformer_data as data;
pub use numformer_distributed as distributed;
pub use numformer_encoding as encoding;
pub use numformer_evaluate as evaluate;
pub use numformer_experiment as experiment;
pub use numformer_fused as fused;
pub use numformer_lawt as lawt;
pub use numformer_metrics as metrics;
pub use numformer_model as model;
pub use numformer_ops as ops;
pub use numformer_problems as problems;
pub use numformer_report as report;
pub use numformer_store as store;
pub use numformer_train as train;

/// The pages of the folder `docs`, for readers of this documentation: code cannot use this module.
#[cfg(doc)]
pub mod docs {
    // The links of the pages lead to files. Of two definitions of a link the first counts: these lead to modules.
    macro_rules! pages {
        ($($page:ident)*) => {$(
            /// [benchmarks]: crate::docs::benchmarks
            /// [changing-a-run]: crate::docs::experiments#changing-a-run
            /// [determinants-first]: ../../../../../docs/results/findings/determinants-first.svg
            /// [distributed]: crate::docs::distributed
            /// [eigenvalues-5x5]: ../../../../../docs/results/curves/desk-eigenvalues-5x5-seed0.svg
            /// [encodings-examples]: ../../../../../docs/results/findings/encodings-examples.svg
            /// [examples]: crate::docs::experiments#examples
            /// [experiments]: crate::docs::experiments
            /// [findings]: crate::docs::findings
            /// [gpu]: crate::docs::gpu
            /// [judgement]: crate::docs::judgement
            /// [multiplication-5x5]: ../../../../../docs/results/curves/desk-multiplication-5x5-seed0.svg
            /// [noise]: crate::docs::judgement#noise
            /// [scorecard]: ../../../../../docs/results/scorecard.md
            /// [scorecard-desk]: ../../../../../docs/results/scorecard-desk.md
            /// [stages]: crate::docs::experiments#stages
            #[doc = include_str!(concat!("../docs/", stringify!($page), ".md"))]
            pub mod $page {}
        )*};
    }

    pages! { architecture benchmarks distributed experiments findings gpu guide judgement reproduction }
}
