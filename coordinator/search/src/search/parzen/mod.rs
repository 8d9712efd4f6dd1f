//! Parzen estimators: mixtures of kernels, one joint kernel for each observation, and a prior.
//!
//! Densities are relative to even draws: 1 everywhere is the density of one who knows nothing, and of
//! the prior. An observation in which a hyperparameter is inactive says nothing about it: its kernel's
//! factor there is 1. So observations of different branches of a conditional space go into one mixture.
//!
//! Kernels are products over axes: a truncated normal distribution for numbers, its mass over a cell for
//! ordered values, and for choices the observed one with some probability or else an even draw.

pub(crate) mod frame;
pub(crate) mod normal;

use trainyard_common::rng::Key;

use frame::{Cells, Dim, Frame, Group, Values};
use normal::{Normal, exp};

/// A term this far below the greatest adds less than a rounding error to a sum of thousands.
const NEGLIGIBLE: f64 = 45.0;

/// Up to so many cells an axis' masses are computed for each cell instead of for each kernel.
const TABULATED: u64 = 64;

/// A cell narrower than so many standard deviations is taken to have its middle's density: right to 7e-4
/// of its peak.
const NARROW: f64 = 0.125;

/// Draws from a normal distribution before one outside the axis is moved to its end.
const MAX_DRAWS: u64 = 32;

/// Less mass than this does not count, so that logarithms stay finite.
const LEAST_MASS: f64 = 1e-40;

/// Observations with weights.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample<'a> {
    pub(crate) points: Vec<&'a [f64]>,
    pub(crate) weights: Vec<f64>,
}

impl<'a> Sample<'a> {
    pub(crate) fn push(&mut self, point: &'a [f64], weight: f64) {
        self.points.push(point);
        self.weights.push(weight);
    }

    /// At most twice so many of these: of each of the latest its own kernel, of those before every second, third,
    /// ... one that weighs as many.
    pub(crate) fn thinned(points: &[&'a [f64]], most: usize) -> Self {
        let old = points.len().saturating_sub(most);
        let step = old.div_ceil(most.max(1)).max(1);
        let mut sample = Self::default();
        for first in (0..old).step_by(step) {
            sample.push(points[first], step.min(old - first) as f64);
        }
        for point in &points[old..] {
            sample.push(point, 1.0);
        }
        sample
    }

    /// The weight of observations that have a group of axes.
    pub(crate) fn weight(&self, group: &Group) -> f64 {
        let all = self.points.iter().zip(&self.weights);
        let active = all.filter(|(point, _)| group.is_active(point));
        active.fold(0.0, |sum, (_, weight)| sum + weight)
    }

    /// The weighted standard deviation of an axis' coordinates, to which a whole even axis is added with
    /// a weight; that of an even axis where there are none.
    pub(crate) fn spread(&self, axis: usize, even: f64) -> f64 {
        let active = || {
            let all = self.points.iter().zip(&self.weights);
            let all = all.map(|(point, weight)| (point[axis], *weight));
            all.filter(|(place, _)| !place.is_nan())
        };
        let (total, sum) = active().fold((even, even * 0.5), |(total, sum), (place, weight)| {
            (total + weight, sum + weight * place)
        });
        if total <= 0.0 {
            return libm::sqrt(1.0 / 12.0);
        }
        let mean = sum / total;
        let own = even * ((mean - 0.5) * (mean - 0.5) + 1.0 / 12.0);
        let squares = active().fold(own, |squares, (place, weight)| {
            squares + weight * (place - mean) * (place - mean)
        });
        libm::sqrt(squares / total)
    }
}

/// A mixture of kernels and an even prior.
#[derive(Debug, Clone)]
pub(crate) struct Mixture {
    /// Shares of the kernels and of the prior, and their logarithms.
    weights: Vec<f64>,
    prior: f64,
    ln_weights: Vec<f64>,
    ln_prior: f64,
    /// One for each group of the frame.
    blocks: Vec<Block>,
}

/// All kernels' factors on a group of axes.
#[derive(Debug, Clone)]
struct Block {
    columns: Vec<Column>,
    /// Of each kernel the logarithm of what does not depend on where it is evaluated; 0 where it is inactive.
    ln_constants: Vec<f64>,
}

/// All kernels' factors on an axis.
#[derive(Debug, Clone)]
struct Column {
    dim: Dim,
    law: Law,
    /// Choices: cells. Numbers: coordinates in units of the law. NaN: inactive.
    centers: Vec<f64>,
    /// Cells of an ordered axis that is tabulated.
    cells: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
enum Law {
    /// `unit` is the standard deviation times the square root of 2.
    Normal { deviation: f64, unit: f64 },
    /// The probability of an even draw instead of the observed value, and the logarithm of how much more
    /// probable than another value the observed one is.
    Choice { even: f64, ln_same: f64 },
}

impl Mixture {
    /// Of observations, a prior of a weight, and for each axis a width: the standard deviation of numbers'
    /// kernels, the probability of an even draw of choices' kernels.
    pub(crate) fn new(frame: &Frame, sample: &Sample<'_>, prior: f64, widths: &[f64]) -> Self {
        let sum = sample
            .weights
            .iter()
            .fold(prior, |sum, weight| sum + weight);
        let total = if sum > 0.0 { sum } else { 1.0 };
        let weights: Vec<f64> = sample.weights.iter().map(|weight| weight / total).collect();
        let mut last = (f64::NAN, f64::NAN);
        let ln_weights = weights.iter().map(|weight| {
            if *weight != last.0 {
                last = (*weight, libm::log(*weight));
            }
            last.1
        });
        let groups = frame.groups.iter();
        Self {
            ln_weights: ln_weights.collect(),
            ln_prior: libm::log(prior / total),
            prior: prior / total,
            blocks: groups
                .map(|group| Block::new(&frame.normal, group, sample, widths))
                .collect(),
            weights,
        }
    }

    /// The logarithm of the density at a settled point. `scratch` holds one number for each kernel.
    pub(crate) fn ln_density(&self, frame: &Frame, point: &[f64], scratch: &mut Vec<f64>) -> f64 {
        scratch.clear();
        scratch.extend_from_slice(&self.ln_weights);
        for (group, block) in frame.groups.iter().zip(&self.blocks) {
            if group.is_active(point) {
                block.add(&frame.normal, point, scratch);
            }
        }
        ln_sum_exp(scratch, self.ln_prior)
    }

    /// A draw. Ordered values and choices have their cells' middles. A group in which the drawn kernel is
    /// inactive is drawn from another. `active` says whether an axis is, given the point as drawn so far.
    pub(crate) fn draw(
        &self,
        frame: &Frame,
        key: Key,
        active: impl Fn(usize, &[f64]) -> bool,
    ) -> Vec<f64> {
        let mut point = vec![f64::NAN; frame.axes];
        let kernel = self.pick(key.unit(0), |_| true);
        for (number, (group, block)) in frame.groups.iter().zip(&self.blocks).enumerate() {
            if !group
                .dims
                .first()
                .is_some_and(|dim| active(dim.axis, &point))
            {
                continue;
            }
            let key = key.with(number as u64);
            let kernel = match kernel {
                Some(kernel) if !block.has(kernel) => {
                    self.pick(key.unit(0), |kernel| block.has(kernel))
                }
                kernel => kernel,
            };
            for (position, column) in block.columns.iter().enumerate() {
                let key = key.with(position as u64);
                point[column.dim.axis] = column.draw(kernel, key);
            }
        }
        point
    }

    /// The kernel at a share of the weights of those that `may`, and of the prior, which is `None`.
    fn pick(&self, share: f64, may: impl Fn(usize) -> bool) -> Option<usize> {
        let kernels = || {
            let all = self.weights.iter().enumerate();
            all.filter(|(kernel, _)| may(*kernel))
        };
        let total = kernels().fold(self.prior, |sum, (_, weight)| sum + weight);
        let mut left = share * total;
        kernels().find_map(|(kernel, weight)| {
            left -= weight;
            (left < 0.0).then_some(kernel)
        })
    }
}

impl Block {
    fn new(normal: &Normal, group: &Group, sample: &Sample<'_>, widths: &[f64]) -> Self {
        let column = |dim: &Dim| {
            let width = widths.get(dim.axis).copied().unwrap_or(1.0);
            Column::new(*dim, sample, width)
        };
        let columns: Vec<Column> = group.dims.iter().map(column).collect();
        let mut inside = vec![1.0; sample.points.len()];
        let mut ln_constant = 0.0;
        for column in &columns {
            ln_constant += column.ln_constant();
            column.cut(normal, &mut inside);
        }
        let constants = sample.points.iter().zip(&inside).map(|(point, inside)| {
            if !group.is_active(point) {
                0.0
            } else if *inside == 1.0 {
                ln_constant
            } else {
                ln_constant - libm::log(*inside)
            }
        });
        Self {
            ln_constants: constants.collect(),
            columns,
        }
    }

    fn has(&self, kernel: usize) -> bool {
        let first = self
            .columns
            .first()
            .and_then(|column| column.centers.get(kernel));
        first.is_some_and(|center| !center.is_nan())
    }

    /// Adds the logarithms of all kernels at a point.
    fn add(&self, normal: &Normal, point: &[f64], sums: &mut [f64]) {
        for (sum, constant) in sums.iter_mut().zip(&self.ln_constants) {
            *sum += constant;
        }
        for column in &self.columns {
            column.add(normal, point[column.dim.axis], sums);
        }
    }
}

impl Column {
    fn new(dim: Dim, sample: &Sample<'_>, width: f64) -> Self {
        let places = sample.points.iter().map(|point| point[dim.axis]);
        if let Values::Unordered { cells } = dim.values {
            let count = cells as f64;
            let even = width.clamp(1e-9, 1.0);
            let ln_same = libm::log((1.0 - even) * count / even + 1.0);
            return Self {
                dim,
                law: Law::Choice { even, ln_same },
                centers: places.map(|place| libm::floor(place * count)).collect(),
                cells: Vec::new(),
            };
        }
        let cells = match dim.values {
            Values::Ordered(cells) if cells.count <= TABULATED => {
                let cell = |place: f64| {
                    if place.is_nan() {
                        0
                    } else {
                        cells.at(place) as u32
                    }
                };
                places.clone().map(cell).collect()
            }
            _ => Vec::new(),
        };
        let unit = width * std::f64::consts::SQRT_2;
        Self {
            dim,
            law: Law::Normal {
                deviation: width,
                unit,
            },
            centers: places.map(|place| place / unit).collect(),
            cells,
        }
    }

    /// The logarithm of the factor that all kernels have everywhere.
    fn ln_constant(&self) -> f64 {
        match self.law {
            Law::Normal { deviation, .. } => {
                -libm::log(deviation * libm::sqrt(2.0 * std::f64::consts::PI))
            }
            Law::Choice { even, .. } => libm::log(even),
        }
    }

    /// Multiplies what each kernel has with the share of its normal distribution that lies on the axis.
    fn cut(&self, normal: &Normal, inside: &mut [f64]) {
        let Law::Normal { deviation, .. } = self.law else {
            return;
        };
        let length = 1.0 / deviation;
        for (inside, center) in inside.iter_mut().zip(&self.centers) {
            let below = center * std::f64::consts::SQRT_2;
            // Eight deviations from both ends all of it does; and NaN is less than nothing.
            if below < 8.0 || length - below < 8.0 {
                *inside *= normal.between(-below, length - below);
            }
        }
    }

    /// Adds each kernel's logarithm at a coordinate, without the constant.
    fn add(&self, normal: &Normal, place: f64, sums: &mut [f64]) {
        match (self.law, self.dim.values) {
            (Law::Choice { ln_same, .. }, Values::Unordered { cells }) => {
                let cell = libm::floor(place * cells as f64);
                for (sum, center) in sums.iter_mut().zip(&self.centers) {
                    *sum += if *center == cell { ln_same } else { 0.0 };
                }
            }
            (Law::Normal { deviation, unit }, Values::Ordered(cells)) => {
                let ends = cells.bounds(cells.at(place));
                if ends.1 - ends.0 < NARROW * deviation {
                    self.add_density(place / unit, sums);
                } else {
                    self.add_mass(normal, &cells, ends, (deviation, unit), sums);
                }
            }
            (Law::Normal { unit, .. }, _) => self.add_density(place / unit, sums),
            (Law::Choice { .. }, _) => {}
        }
    }

    fn add_density(&self, place: f64, sums: &mut [f64]) {
        for (sum, center) in sums.iter_mut().zip(&self.centers) {
            let apart = place - center;
            let square = apart * apart;
            *sum -= if square >= 0.0 { square } else { 0.0 };
        }
    }

    /// The mass of a cell over its length.
    fn add_mass(
        &self,
        normal: &Normal,
        cells: &Cells,
        (low, high): (f64, f64),
        (deviation, unit): (f64, f64),
        sums: &mut [f64],
    ) {
        // The constant has the height of the density, which the mass does not.
        let height = (high - low) * libm::exp(self.ln_constant());
        let ln_mass = |center: f64| {
            let mass = normal.between((low - center) / deviation, (high - center) / deviation);
            libm::log(mass.max(LEAST_MASS) / height)
        };
        if self.cells.is_empty() {
            for (sum, center) in sums.iter_mut().zip(&self.centers) {
                *sum += if center.is_nan() {
                    0.0
                } else {
                    ln_mass(center * unit)
                };
            }
            return;
        }
        let masses: Vec<f64> = (0..cells.count)
            .map(|cell| ln_mass(cells.middle(cell)))
            .collect();
        for ((sum, center), cell) in sums.iter_mut().zip(&self.centers).zip(&self.cells) {
            let mass = masses.get(*cell as usize).copied().unwrap_or(0.0);
            *sum += if center.is_nan() { 0.0 } else { mass };
        }
    }

    /// A coordinate drawn from a kernel or, `None`, from the prior.
    fn draw(&self, kernel: Option<usize>, key: Key) -> f64 {
        let center = kernel.and_then(|kernel| self.centers.get(kernel)).copied();
        let center = center.filter(|center| !center.is_nan());
        let place = match (self.law, center) {
            (Law::Normal { deviation, unit }, Some(center)) => {
                let center = center * unit;
                let drawn = |draw| center + deviation * key.normal(draw);
                let inside = (0..MAX_DRAWS)
                    .map(drawn)
                    .find(|place| (0.0..=1.0).contains(place));
                inside.unwrap_or(center).clamp(0.0, 1.0)
            }
            (Law::Choice { even, .. }, Some(center)) if key.unit(0) >= even => {
                match self.dim.values {
                    Values::Unordered { cells } => (center + 0.5) / cells as f64,
                    _ => key.unit(1),
                }
            }
            _ => key.unit(1),
        };
        self.dim.values.settle(place)
    }
}

/// The logarithm of the sum of exponentials of these and one more. Four sums are added at the end: so the
/// order of additions is fixed, and they need not wait for each other.
fn ln_sum_exp(terms: &[f64], last: f64) -> f64 {
    let (fours, rest) = terms.as_chunks::<4>();
    let mut most = [last; 4];
    for four in fours {
        for (most, term) in most.iter_mut().zip(four) {
            *most = if *term > *most { *term } else { *most };
        }
    }
    let most = most
        .iter()
        .chain(rest)
        .fold(last, |most, term| if *term > most { *term } else { most });
    if most == f64::NEG_INFINITY {
        return most;
    }
    let floor = most - NEGLIGIBLE;
    let mut sums = [0.0; 4];
    for four in fours {
        if four.iter().any(|term| *term > floor) {
            for (sum, term) in sums.iter_mut().zip(four) {
                *sum += exp(term - most);
            }
        }
    }
    let rest = rest
        .iter()
        .fold(exp(last - most), |sum, term| sum + exp(term - most));
    most + libm::log(((sums[0] + sums[1]) + (sums[2] + sums[3])) + rest)
}

#[cfg(test)]
mod tests;
