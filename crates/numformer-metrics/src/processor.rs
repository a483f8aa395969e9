//! Processors on which faer's products do not run.

/// The largest number of rows and columns of matrices that faer decomposes on this processor. `None` if there is no
/// limit: in this case, faer's products of `f64` matrices run, too.
///
/// faer selects the kernels of its products by one instruction set, although the kernels need several. On a processor
/// that lacks the others, they panic or are illegal instructions:
/// - With FMA but without AVX2, as on AMD's processors of 2012 to 2014, large products panic, and so do decompositions
///   above 32×32.
/// - With AVX2 but without FMA, small products are illegal instructions, and so are decompositions above 16×16.
/// - With AVX-512F but without CD, BW, DQ or VL, as on Intel's Knights Landing, large products would be illegal
///   instructions. This crate has not been run on such a processor.
///
/// Virtual machines may hide instruction sets, too. Products of a matrix and a vector run everywhere.
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
