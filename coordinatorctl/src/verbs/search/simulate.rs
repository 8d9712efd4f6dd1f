//! `preview --simulate`: the whole search in virtual time, on a surrogate for training.

use trainyard_common::rng::Key;
use trainyard_common::spec::Document;
use trainyard_common::spec::search::Mode;
use trainyard_coordinator::search::Searcher;
use trainyard_coordinator::search::axes::Axes;
use trainyard_coordinator::study::Study;
use trainyard_coordinator::study::simulate::{Forecast, Plan, Surrogate, simulate};
use trainyard_proto::v1;

use crate::exit::{Failure, Outcome};
use crate::options::{Format, Global};
use crate::print;
use crate::session;
use crate::view::output::{ForecastRung, Improvement, SearchForecast};
use crate::view::tables;

/// How a search is simulated.
#[derive(Debug, clap::Args)]
pub(crate) struct Simulation {
    /// Run the whole search in virtual time: how many trials, how far each is trained, when it ends
    #[arg(long)]
    simulate: bool,
    /// Trials that train at once
    #[arg(long, value_name = "N", requires = "simulate", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    workers: u32,
    /// What one epoch of one trial takes
    #[arg(long, value_name = "SECONDS", requires = "simulate", default_value_t = 1.0,
          value_parser = seconds)]
    epoch_seconds: f64,
    /// Trials learn as those of this job did, instead of on a made-up surface
    #[arg(long, value_name = "JOB", requires = "simulate")]
    like: Option<String>,
}

pub(super) fn searcher(document: &Document) -> Outcome<Searcher> {
    let searcher = Searcher::over(document.job(), document.space().clone());
    searcher.map_err(|error| Failure::usage(error.to_string()))
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds.is_finite() => Ok(seconds),
        _ => Err("accepted are seconds, above 0".to_owned()),
    }
}

impl Simulation {
    pub(super) fn wanted(&self) -> bool {
        self.simulate
    }
}

pub(super) async fn run(global: &Global, document: &Document, args: &Simulation) -> Outcome {
    let axes = Axes::new(document.space().clone());
    let job = document.job();
    let endless = searcher(document)?.expected_trials().is_none();
    if endless && job.searcher.max_time.is_none() {
        let message = "--simulate: the search has no end; say one with --set searcher.max_trials=N";
        return Err(Failure::usage(message));
    }
    let whole = match (&job.scheduler, &job.model) {
        (Some(scheduler), _) if scheduler.max_resource.is_some() => scheduler.max_resource,
        (_, Some(_)) => Some(u64::from(job.training.epochs)),
        _ => None,
    };
    let whole = whole.unwrap_or(1);
    let surrogate = match &args.like {
        None => {
            let mode = job.objectives.first().map_or(Mode::Minimize, |o| o.mode);
            Surrogate::bowl(axes, Key::new(job.seed).named("surrogate"), mode, whole)
        }
        Some(like) => curves(global, document, axes, like).await?,
    };
    let plan = Plan {
        workers: args.workers,
        whole,
        unit_seconds: args.epoch_seconds,
        max_seconds: job.searcher.max_time,
    };
    let mut study = Study::of(job).map_err(|error| Failure::usage(error.to_string()))?;
    let forecast = simulate(&mut study, &surrogate, plan)
        .map_err(|error| Failure::failed(format!("the simulation failed: {error}")))?;
    let slots = u64::from(job.resources.slots_per_trial);
    let shown = shown(&forecast, plan, slots);
    match global.output {
        Format::Text => print::line(&tables::forecast(&shown)),
        Format::Json => print::json(&shown),
    }
}

/// The learning curves of an earlier job.
async fn curves(
    global: &Global,
    document: &Document,
    axes: Axes,
    like: &str,
) -> Outcome<Surrogate> {
    let metric = document.job().objectives.first().map(|o| o.metric.clone());
    let metric = metric.unwrap_or_default();
    let known = session::with(&global.endpoint(), async |session| {
        let mut known = Vec::new();
        for summary in session.client.trials(like).await? {
            let (_, points) = session.client.trial(like, summary.trial_id).await?;
            let params = serde_json::from_str(&summary.params_json).unwrap_or_default();
            known.push((params, curve(&points, &metric)));
        }
        Ok(known)
    })
    .await?;
    Surrogate::curves(axes, &known).ok_or_else(|| {
        Failure::usage(format!(
            "--like: {like} has no trial with the hyperparameters of this job that reported `{metric}`"
        ))
    })
}

/// (epoch, value), one each epoch.
fn curve(points: &[v1::MetricPoint], metric: &str) -> Vec<(u64, f64)> {
    let mut curve: Vec<(u64, f64)> = Vec::new();
    for point in points {
        let mut metrics = point.metrics.iter();
        let found = metrics.find(|known| known.name == metric && known.value.is_finite());
        let Some(value) = found.map(|known| known.value) else {
            continue;
        };
        match curve.last_mut() {
            Some((epoch, last)) if *epoch == point.epoch => *last = value,
            _ => curve.push((point.epoch, value)),
        }
    }
    curve
}

fn shown(forecast: &Forecast, plan: Plan, slots: u64) -> SearchForecast {
    let rungs = forecast
        .reached
        .iter()
        .map(|(epochs, reached)| ForecastRung {
            epochs: *epochs,
            reached: *reached,
            ended: forecast.ended_at.get(epochs).copied().unwrap_or(0),
        });
    let best = forecast.best.iter().map(|(seconds, value)| Improvement {
        seconds: *seconds,
        value: *value,
    });
    SearchForecast {
        trials: forecast.trials,
        epochs: forecast.units,
        epochs_without_stopping: u64::from(forecast.trials) * plan.whole,
        slot_seconds: forecast.units as f64 * plan.unit_seconds * slots as f64,
        finish_seconds: forecast.finish_seconds,
        busy: forecast.busy,
        rungs: rungs.collect(),
        best: best.collect(),
        cut: forecast.cut,
    }
}
