//! The models' answers to the questions that a proposal asks: where to improve on what.

use trainyard_common::rng::Key;

use super::super::axes::Axes;
use super::super::history::History;
use super::Gp;
use super::explore::{Found, Known, Question, explore};
use super::maximize::{Effort, Search};
use super::posterior::Posterior;
use super::subset::subset;

/// The best points around which the next is looked for.
const BEST: usize = 5;

/// A finite space of up to so many configurations is scored as a whole.
const LISTED: u128 = 1_000;

/// Improvement is counted beyond this share of the range of costs.
const MARGIN: f64 = 1e-5;

/// Results that the doubtful model is made of at most: it is made anew each time.
const DOUBTFUL_POINTS: usize = 300;

/// What a proposal by the model starts from.
pub(super) struct Task<'a> {
    pub(super) axes: &'a Axes,
    pub(super) history: &'a History,
    pub(super) pending: Vec<usize>,
    /// Warped costs of the model's rows.
    pub(super) values: Vec<f64>,
    /// Coordinates that the point must have.
    pub(super) focus: Vec<(usize, f64)>,
    /// The range of costs as the model sees a small share of it near the best.
    pub(super) grain: f64,
}

impl<'a> Task<'a> {
    pub(super) fn point(&self, trial: usize) -> &'a [f64] {
        &self.history.trials[trial].point
    }
}

impl Gp {
    /// The answer to the question that this proposal is for; of the costs of rows, and how long there was no
    /// better one.
    pub(super) fn chosen(
        &self,
        task: &Task<'_>,
        (costs, stagnation): (&[f64], usize),
        posterior: &mut Posterior,
        key: Key,
    ) -> Found {
        let mut order: Vec<usize> = (0..costs.len()).collect();
        order.sort_by(|a, b| costs[*a].total_cmp(&costs[*b]).then(a.cmp(b)));
        if task.focus.is_empty() {
            let points = self.rows.iter().map(|row| task.point(*row));
            let known = Known {
                axes: task.axes,
                points: &points.collect::<Vec<_>>(),
                order: &order,
                stagnation,
                range: task.grain,
                turn: task.history.trials.len(),
                key,
            };
            let mut doubtful = None;
            explore(&known, |question| {
                if question.doubtful {
                    let model = doubtful.get_or_insert_with(|| self.doubtful(task, costs));
                    let (rows, values, model) = (&model.0, &model.1, &mut model.2);
                    self.answer(task, (rows, values, model), &order, question)
                } else {
                    let model = (&self.rows[..], &task.values[..], &mut *posterior);
                    self.answer(task, model, &order, question)
                }
            })
        } else {
            let question = Question {
                doubtful: false,
                niche: None,
                key,
            };
            let model = (&self.rows[..], &task.values[..], &mut *posterior);
            self.answer(task, model, &order, question)
        }
    }

    /// A model of results that trusts the fitted hyperparameters less: its rows and their values.
    fn doubtful(&self, task: &Task<'_>, costs: &[f64]) -> (Vec<usize>, Vec<f64>, Posterior) {
        let kept = subset(costs, DOUBTFUL_POINTS.min(self.max_points));
        let rows: Vec<usize> = kept.iter().map(|at| self.rows[*at]).collect();
        let values: Vec<f64> = kept.iter().map(|at| task.values[*at]).collect();
        let all = rows.iter().chain(&task.pending);
        let features: Vec<Vec<f64>> = all.map(|row| self.features[*row].clone()).collect();
        let hyper = self.hypers[self.warp].doubted();
        let mut posterior = Posterior::new(&self.layout, &hyper, &features);
        posterior.learn(&values);
        (rows, values, posterior)
    }

    /// Where a model (its rows, their values) expects most improvement, as the question wants it.
    fn answer(
        &self,
        task: &Task<'_>,
        (rows, values, posterior): (&[usize], &[f64], &mut Posterior),
        order: &[usize],
        question: Question<'_>,
    ) -> Found {
        let wanted = |point: &[f64]| {
            let mut focus = task.focus.iter();
            focus.all(|(axis, place)| point[*axis] == *place)
                && (question.niche).is_none_or(|niche| niche.contains(task.axes, point))
        };
        let row_of = |row: usize| rows.get(row).or_else(|| task.pending.get(row - rows.len()));
        let is_wanted = |row: usize| row_of(row).is_some_and(|row| wanted(task.point(*row)));
        posterior.improve_on(values, is_wanted);
        posterior.ask_for(MARGIN * task.grain);
        let best = order.iter().map(|at| task.point(self.rows[*at]));
        let best = best.filter(|point| wanted(point)).take(BEST);
        let best: Vec<Vec<f64>> = best.map(<[f64]>::to_vec).collect();
        let search = Search {
            axes: task.axes,
            layout: &self.layout,
            posterior,
            taken: &self.taken,
            best: &best,
            focus: &task.focus,
            niche: question.niche,
            key: question.key,
        };
        match self.finite {
            Some(size) if size <= LISTED => {
                let mut left = self.left(task.axes);
                left.retain(|point| wanted(point));
                search.best_of(left)
            }
            _ => search.run(Effort::for_rows(posterior.rows())),
        }
    }
}
