//! Processors on which faer's products do not run.

/// The most rows and columns of matrices that faer decomposes on this processor; none where there is no limit, and where its
/// products of matrices in `f64` run.
///
/// faer chooses the kernels of its products by one instruction set where they need several. Without the others they panic, or
/// are illegal instructions:
/// - With FMA and without AVX2, as AMD's processors of 2012 to 2014, large products panic, and decompositions above 32×32.
/// - With AVX2 and without FMA, small products are illegal, and decompositions above 16×16.
/// - With AVX-512F and without CD, BW, DQ or VL, as Intel's Knights Landing, large products would be illegal. Nothing of ours
///   has run on such a processor.
///
/// Virtual machines may hide instructions, too. Products of a matrix and a vector run everywhere.
///
/// ```
/// use faer::Mat;
///
/// if numformer_metrics::faer_limit().is_none() {
///     let identity = Mat::<f64>::identity(64, 64);
///     assert_eq!(&identity * &identity, identity);
/// }
/// ```
#[must_use]
pub fn faer_limit() -> Option<usize> {
    #[cfg(target_arch = "x86_64")]
    {
        let has_avx512 = is_x86_feature_detected!("avx512cd")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        let (has_avx2, has_fma) = (is_x86_feature_detected!("avx2"), is_x86_feature_detected!("fma"));
        if (is_x86_feature_detected!("avx512f") && !has_avx512) || (has_avx2 && !has_fma) {
            return Some(16);
        }
        if has_fma && !has_avx2 {
            return Some(32);
        }
    }
    None
}
