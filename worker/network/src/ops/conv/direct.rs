//! Convolution of stride 1 without unfolding, for machines with AVX2 and FMA.
//!
//! Images lie in rows of the padded input's width w, end to end. Output position p = y w + x then
//! reads, at tap (ky, kx), the input position p + ky w + kx: one shift for a whole plane. The last
//! kw - 1 positions of each row are computed and thrown away. The forward pass and the input's
//! gradient are sums of shifted planes ([`correlate`]), the kernel's gradient dot products of them
//! ([`dots`]).

use std::arch::x86_64::{
    __m256, _mm256_add_ps, _mm256_broadcast_ss, _mm256_fmadd_ps, _mm256_loadu_ps,
    _mm256_setzero_ps, _mm256_storeu_ps,
};

/// Values of a vector.
const LANES: usize = 8;
/// Planes put out at once, and vectors of each: 8 sums hide the latency of a multiply-add, and 12 would
/// make the compiler spill one of the 16 registers (half the speed, measured).
const ROWS: usize = 4;
const VECTORS: usize = 2;
/// Positions put out at once.
pub(crate) const SPAN: usize = LANES * VECTORS;
/// Taps of one call of the dot products.
const TAPS: usize = 3;
/// Input planes summed in one go: their part under a span stays in the first-level cache.
const DEPTH: usize = 16;

/// Length of a buffer of `planes` planes of `len` positions that `correlate` may write.
pub(crate) fn output_len(planes: usize, len: usize) -> usize {
    planes.next_multiple_of(ROWS) * len.next_multiple_of(SPAN)
}

/// Weights in the order in which `correlate` reads them: for each 4 planes put out, for each input
/// plane and tap, the 4 weights. `at(output plane, input plane, tap)`.
pub(crate) fn pack(
    outputs: usize,
    inputs: usize,
    taps: usize,
    packed: &mut Vec<f32>,
    at: impl Fn(usize, usize, usize) -> f32,
) {
    packed.clear();
    packed.reserve(outputs.next_multiple_of(ROWS) * inputs * taps);
    for first in (0..outputs).step_by(ROWS) {
        for input in 0..inputs {
            for tap in 0..taps {
                let row = |row| {
                    let output = first + row;
                    if output < outputs {
                        at(output, input, tap)
                    } else {
                        0.0
                    }
                };
                packed.extend((0..ROWS).map(row));
            }
        }
    }
}

/// output[m][p] = sum over input planes c and taps t of weight(m, c, t) input[c][p + offsets[t]].
///
/// Planes of `output` are `len` rounded up to `SPAN` apart; input planes `plane` apart. The sum
/// over c and t is taken in this order. Needs AVX2 and FMA.
pub(crate) fn correlate(
    output: &mut [f32],
    outputs: usize,
    len: usize,
    input: &[f32],
    plane: usize,
    packed: &[f32],
    offsets: &[usize],
) {
    let (width, taps) = (len.next_multiple_of(SPAN), offsets.len());
    let reach = offsets.iter().max().map_or(0, |max| max + width);
    let tiles = outputs.div_ceil(ROWS);
    let inputs = packed.len() / (tiles * ROWS * taps).max(1);
    assert!(crate::simd::has_avx2(), "needs avx2 and fma");
    assert!(output.len() >= output_len(outputs, len), "output too short");
    assert!(
        packed.len() >= tiles * inputs * taps * ROWS,
        "weights too short"
    );
    assert!(
        inputs > 0 && input.len() >= (inputs - 1) * plane + reach,
        "input too short"
    );
    for first in (0..inputs).step_by(DEPTH) {
        let count = DEPTH.min(inputs - first);
        for position in (0..width).step_by(SPAN) {
            for tile in 0..tiles {
                let weights = (tile * inputs + first) * taps * ROWS;
                // SAFETY: the machine has the features; tile * ROWS + ROWS planes of `width` lie in
                // output, `reach` values from each of the input planes in input, and the weights of
                // `count` planes from here in packed: asserted above.
                #[allow(unsafe_code)]
                unsafe {
                    correlate_tile(
                        output.as_mut_ptr().add(tile * ROWS * width + position),
                        width,
                        input.as_ptr().add(first * plane + position),
                        plane,
                        count,
                        offsets,
                        packed.as_ptr().add(weights),
                        first == 0,
                    );
                }
            }
        }
    }
}

/// # Safety
/// `output` must hold ROWS rows of SPAN values, `stride` apart; `input` SPAN values from each offset
/// in each of `inputs` planes; `weights` ROWS values for each plane and offset.
#[allow(unsafe_code, clippy::too_many_arguments)]
#[target_feature(enable = "avx2,fma")]
unsafe fn correlate_tile(
    output: *mut f32,
    stride: usize,
    input: *const f32,
    plane: usize,
    inputs: usize,
    offsets: &[usize],
    mut weights: *const f32,
    fresh: bool,
) {
    // SAFETY: all addresses are those that the caller promises.
    unsafe {
        let mut sums = [[_mm256_setzero_ps(); VECTORS]; ROWS];
        if !fresh {
            for (row, sums) in sums.iter_mut().enumerate() {
                for (vector, sum) in sums.iter_mut().enumerate() {
                    *sum = _mm256_loadu_ps(output.add(row * stride + vector * LANES));
                }
            }
        }
        for channel in 0..inputs {
            let input = input.add(channel * plane);
            for &offset in offsets {
                let input = input.add(offset);
                let mut values = [_mm256_setzero_ps(); VECTORS];
                for (vector, value) in values.iter_mut().enumerate() {
                    *value = _mm256_loadu_ps(input.add(vector * LANES));
                }
                for (row, sums) in sums.iter_mut().enumerate() {
                    let weight = _mm256_broadcast_ss(&*weights.add(row));
                    for (sum, value) in sums.iter_mut().zip(values) {
                        *sum = _mm256_fmadd_ps(weight, value, *sum);
                    }
                }
                weights = weights.add(ROWS);
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            for (vector, &sum) in sums.iter().enumerate() {
                _mm256_storeu_ps(output.add(row * stride + vector * LANES), sum);
            }
        }
    }
}

/// products[m][c][t] += sum over p < len of a[m][p] b[c][p + offsets[t]], for `planes` = (number of
/// planes, distance) of a and b. `len` is a multiple of 8. Needs AVX2 and FMA.
pub(crate) fn dots(
    products: &mut [f32],
    len: usize,
    a: &[f32],
    a_planes: (usize, usize),
    b: &[f32],
    b_planes: (usize, usize),
    offsets: &[usize],
) {
    let ((rows, a_stride), (inputs, b_stride), taps) = (a_planes, b_planes, offsets.len());
    let reach = offsets.iter().max().map_or(0, |max| max + len);
    assert!(crate::simd::has_avx2(), "needs avx2 and fma");
    assert!(len.is_multiple_of(LANES), "length is not whole vectors");
    assert!(products.len() >= rows * inputs * taps, "products too short");
    assert!(
        rows > 0 && a.len() >= (rows - 1) * a_stride + len,
        "a too short"
    );
    assert!(
        inputs > 0 && b.len() >= (inputs - 1) * b_stride + reach,
        "b too short"
    );
    for first in (0..rows).step_by(ROWS) {
        // Rows and taps beyond the last repeat it; their products are not used.
        let a: [&[f32]; ROWS] =
            std::array::from_fn(|row| &a[(first + row).min(rows - 1) * a_stride..][..len]);
        for (channel, b) in b.chunks(b_stride).take(inputs).enumerate() {
            for tap in (0..taps).step_by(TAPS) {
                let shifts: [usize; TAPS] =
                    std::array::from_fn(|i| offsets[(tap + i).min(taps - 1)]);
                // SAFETY: the machine has the features; each row of a has len values, and b has, by
                // the assertion above, len values from each offset of this channel on.
                #[allow(unsafe_code)]
                let sums = unsafe { dots_tile(a.map(<[f32]>::as_ptr), b.as_ptr(), shifts, len) };
                for (row, sums) in sums.iter().enumerate().take(rows - first) {
                    let start = ((first + row) * inputs + channel) * taps + tap;
                    let products = &mut products[start..start + TAPS.min(taps - tap)];
                    products
                        .iter_mut()
                        .zip(sums)
                        .for_each(|(to, sum)| *to += sum);
                }
            }
        }
    }
}

/// # Safety
/// Each of `a` must hold `len` values, `b` as many from each shift on.
#[allow(unsafe_code)]
#[target_feature(enable = "avx2,fma")]
unsafe fn dots_tile(
    a: [*const f32; ROWS],
    b: *const f32,
    shifts: [usize; TAPS],
    len: usize,
) -> [[f32; TAPS]; ROWS] {
    let mut sums = [[_mm256_setzero_ps(); TAPS]; ROWS];
    // SAFETY: all addresses are those that the caller promises.
    unsafe {
        let b = [b.add(shifts[0]), b.add(shifts[1]), b.add(shifts[2])];
        for position in (0..len).step_by(LANES) {
            let right = [
                _mm256_loadu_ps(b[0].add(position)),
                _mm256_loadu_ps(b[1].add(position)),
                _mm256_loadu_ps(b[2].add(position)),
            ];
            for (sums, a) in sums.iter_mut().zip(a) {
                let left = _mm256_loadu_ps(a.add(position));
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum = _mm256_fmadd_ps(left, right, *sum);
                }
            }
        }
    }
    sums.map(|sums| sums.map(|sum| total(sum)))
}

/// Sum of the lanes, in a fixed tree.
#[allow(unsafe_code)]
#[target_feature(enable = "avx2,fma")]
fn total(sum: __m256) -> f32 {
    let mut lanes = [0.0; LANES];
    // SAFETY: the array holds a whole vector.
    unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), _mm256_add_ps(sum, _mm256_setzero_ps())) };
    ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5]))
        + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(len: usize, salt: usize) -> Vec<f32> {
        (0..len)
            .map(|i| ((i * 7919 + salt * 104_729) % 1000) as f32 / 500.0 - 1.0)
            .collect()
    }

    // Reference of both tests: the definitions in f64; tolerance 1e-6 a term.
    #[test]
    fn planes_are_shifted_and_summed() {
        if !crate::simd::has_avx2() {
            return;
        }
        for (outputs, inputs, len) in [(1, 1, 5usize), (4, 3, 24), (7, 20, 50), (9, 33, 100)] {
            let offsets = [0, 1, 2, 11, 12];
            let plane = len.next_multiple_of(SPAN) + 12;
            let (input, weights) = (values(inputs * plane, 1), values(outputs * inputs * 5, 2));
            let at = |m: usize, c: usize, t: usize| weights[(m * inputs + c) * 5 + t];
            let mut packed = Vec::new();
            pack(outputs, inputs, 5, &mut packed, at);
            let mut output = vec![f32::NAN; output_len(outputs, len)];
            correlate(&mut output, outputs, len, &input, plane, &packed, &offsets);
            for m in 0..outputs {
                for p in 0..len {
                    let expected: f64 = (0..inputs * 5)
                        .map(|i| {
                            let (c, t) = (i / 5, i % 5);
                            f64::from(at(m, c, t)) * f64::from(input[c * plane + p + offsets[t]])
                        })
                        .sum();
                    let given = f64::from(output[m * len.next_multiple_of(SPAN) + p]);
                    assert!((given - expected).abs() < 1e-6 * (inputs * 5) as f64);
                }
            }
        }
    }

    #[test]
    fn dots_are_those_of_shifted_planes() {
        if !crate::simd::has_avx2() {
            return;
        }
        for (rows, inputs, taps, len) in [(1, 1, 1, 8), (4, 2, 3, 40), (6, 3, 5, 96)] {
            let offsets = &[0, 1, 2, 11, 12][..taps];
            let (a, b) = (values(rows * (len + 3), 1), values(inputs * (len + 12), 2));
            let mut products = vec![0.5; rows * inputs * taps];
            dots(
                &mut products,
                len,
                &a,
                (rows, len + 3),
                &b,
                (inputs, len + 12),
                offsets,
            );
            for (i, &given) in products.iter().enumerate() {
                let (m, c, t) = (i / taps / inputs, i / taps % inputs, i % taps);
                let expected: f64 = (0..len)
                    .map(|p| {
                        f64::from(a[m * (len + 3) + p])
                            * f64::from(b[c * (len + 12) + p + offsets[t]])
                    })
                    .sum();
                assert!((f64::from(given) - 0.5 - expected).abs() < 1e-6 * len as f64);
            }
        }
    }
}
