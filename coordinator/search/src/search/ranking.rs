//! Trials in the order of their costs, kept so that a new result costs a search and not a sort.

/// Costs and trials, the lowest cost first, of equal ones the earlier trial.
#[derive(Debug, Clone, Default)]
pub(super) struct Ranking(Vec<(f64, usize)>);

impl Ranking {
    pub(super) fn insert(&mut self, cost: f64, trial: usize) {
        let place = self.place(cost, trial);
        self.0.insert(place, (cost, trial));
    }

    /// Takes out what was inserted.
    pub(super) fn remove(&mut self, cost: f64, trial: usize) {
        let place = self.place(cost, trial);
        if self.0.get(place).is_some_and(|(_, found)| *found == trial) {
            self.0.remove(place);
        }
    }

    fn place(&self, cost: f64, trial: usize) -> usize {
        let before = |(other, number): &(f64, usize)| {
            let order = other.total_cmp(&cost).then(number.cmp(&trial));
            order.is_lt()
        };
        self.0.partition_point(before)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The first so many.
    pub(super) fn best(&self, count: usize) -> &[(f64, usize)] {
        &self.0[..count.min(self.0.len())]
    }

    /// Those after the first so many.
    pub(super) fn after(&self, count: usize) -> &[(f64, usize)] {
        &self.0[count.min(self.0.len())..]
    }
}
