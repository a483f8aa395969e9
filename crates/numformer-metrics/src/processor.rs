//! Processors on which faer's products do not run.

/// Whether faer's products of matrices in `f64` run on this processor, whatever their size; its other methods rest on them.
///
/// faer leaves large products to kernels that it chooses by one instruction set where they need several: with AVX-512F,
/// but not all of AVX-512 that is usual, or with FMA, but without AVX2, they panic. So did AMD's processors of 2012 to
/// 2014, and virtual machines that hide some instructions. What runs there all the same: products with a vector, products of at
/// most $16^3$ steps, and decompositions of matrices of up to 32 rows and columns.
///
/// ```
/// use faer::Mat;
///
/// if numformer_metrics::faer_multiplies() {
///     let identity = Mat::<f64>::identity(64, 64);
///     assert_eq!(&identity * &identity, identity);
/// }
/// ```
#[must_use]
pub fn faer_multiplies() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        let has_avx512 = is_x86_feature_detected!("avx512cd")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        if is_x86_feature_detected!("avx512f") && !has_avx512 {
            return false;
        }
        if is_x86_feature_detected!("fma") && !is_x86_feature_detected!("avx2") {
            return false;
        }
    }
    true
}
