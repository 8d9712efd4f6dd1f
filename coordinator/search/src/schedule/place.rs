//! The order of results: a value as a number that is the smaller the better the value is.

use trainyard_common::ids::TrialId;
use trainyard_common::spec::search::Mode;

/// A result in the order of goodness: the better, the smaller; of equal ones the lower trial first.
pub(super) type Place = (u64, TrialId);

/// Of results without a finite value.
pub(super) const WORST: u64 = u64::MAX;

/// What is minimized: the value, or its negative. One zero of both.
pub(super) fn cost(mode: Mode, value: f64) -> f64 {
    match mode {
        Mode::Minimize => value + 0.0,
        Mode::Maximize => -value + 0.0,
    }
}

/// A value's order.
pub(super) fn order(mode: Mode, value: Option<f64>) -> u64 {
    match value.filter(|value| value.is_finite()) {
        Some(value) => order_of(cost(mode, value)),
        None => WORST,
    }
}

/// The order of a finite cost. The bits of floats, the negative ones inverted, sort as they do.
pub(super) fn order_of(cost: f64) -> u64 {
    let bits = cost.to_bits();
    let negative = bits >> 63 == 1;
    if negative { !bits } else { bits | 1 << 63 }
}

/// The cost of an order; not a number for [`WORST`].
pub(super) fn cost_of(order: u64) -> f64 {
    let negative = order >> 63 == 0;
    f64::from_bits(if negative { !order } else { order & !(1 << 63) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_sort_as_costs_and_come_back() {
        let costs = [f64::MIN, -2.5, -1e-300, 0.0, 1e-300, 0.5, 3.0, f64::MAX];
        let orders = costs.map(order_of);
        assert!(orders.is_sorted());
        assert_eq!(orders.map(cost_of), costs);
        assert!(cost_of(WORST).is_nan());
        assert!(orders.iter().all(|order| *order < WORST));
        assert_eq!(order(Mode::Minimize, Some(-0.0)), order_of(0.0));
        assert_eq!(order(Mode::Maximize, Some(0.0)), order_of(0.0));
        assert_eq!(order(Mode::Maximize, Some(f64::INFINITY)), WORST);
        assert!(order(Mode::Maximize, Some(2.0)) < order(Mode::Maximize, Some(1.0)));
    }
}
