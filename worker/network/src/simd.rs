//! Runs loops with the widest vectors of this machine that the kernels are written for.

/// Runs `work` compiled for AVX2 and FMA where the machine has them, otherwise as it is.
///
/// The loops inside keep their order of operations either way. Mark the closure `#[inline(always)]`,
/// and what it calls too: only inlined code is compiled for the wider set.
#[inline(always)]
pub(crate) fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        // SAFETY: both features were found on this machine.
        #[allow(unsafe_code)]
        return unsafe { with_avx2(work) };
    }
    work()
}

/// Whether the machine has AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn has_avx2() -> bool {
    std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn with_avx2<R>(work: impl FnOnce() -> R) -> R {
    work()
}

/// Values handled by one task of a sum.
const BLOCK: usize = 1 << 15;

/// sum += values.
pub(crate) fn add(sum: &mut [f32], values: &[f32]) {
    use rayon::prelude::*;
    sum.par_chunks_mut(BLOCK)
        .zip(values.par_chunks(BLOCK))
        .for_each(|(sum, values)| {
            vectorized(
                #[inline(always)]
                || {
                    sum.iter_mut()
                        .zip(values)
                        .for_each(|(sum, value)| *sum += value)
                },
            );
        });
}
