//! -sum(q log softmax(z)), q = (1 - smoothing) t + smoothing / classes; of several positions the mean.

use trainyard_common::network::losses::CrossEntropySpec;

use super::channels::Channels;
use super::{Form, Kernel, Target};

#[derive(Debug)]
pub(super) struct CrossEntropy {
    smoothing: f32,
    channels: Channels,
    is_map: bool,
}

impl CrossEntropy {
    pub(super) fn new(spec: CrossEntropySpec, form: Form) -> Self {
        Self {
            smoothing: spec.label_smoothing as f32,
            channels: Channels(form.channels),
            is_map: form.is_map,
        }
    }

    /// log(sum(e^z)) - (1 - smoothing) z[class] - smoothing mean(z), shifted by the maximum.
    fn of_class(&self, outputs: &[f32], class: usize) -> f64 {
        let (max, log_sum) = self.channels.log_sum(outputs, 0);
        let smoothing = f64::from(self.smoothing);
        let mean = outputs.iter().map(|&z| f64::from(z - max)).sum::<f64>() / outputs.len() as f64;
        let spread = if smoothing > 0.0 {
            smoothing * mean
        } else {
            0.0
        };
        log_sum - (1.0 - smoothing) * f64::from(outputs[class] - max) - spread
    }

    /// What the outputs at a position should be, in the order of their channels.
    fn wanted(
        &self,
        target: Target<'_>,
        position: usize,
        positions: usize,
    ) -> impl Iterator<Item = f32> {
        let channels = self.channels.0;
        let (kept, spread) = (1.0 - self.smoothing, self.smoothing / channels as f32);
        (0..channels).map(move |c| kept * target.at(c * positions + position) + spread)
    }
}

impl Kernel for CrossEntropy {
    fn value(&self, outputs: &[f32], target: Target<'_>) -> f64 {
        if let Target::OneHot(class) = target {
            return self.of_class(outputs, class);
        }
        let positions = self.channels.positions(outputs);
        let mut sum = 0.0;
        for position in 0..positions {
            let (max, log_sum) = self.channels.log_sum(outputs, position);
            let wanted = self.wanted(target, position, positions);
            for (z, q) in self.channels.at(outputs, position).zip(wanted) {
                sum += f64::from(q) * (log_sum - f64::from(z - max));
            }
        }
        sum / positions as f64
    }

    fn finish(&self, outputs: &mut [f32]) {
        self.channels.softmax(outputs);
    }

    /// p sum(q) - q, where sum(q) is 1 for a class.
    fn differentiate(&self, _: &[f32], values: &mut [f32], target: Target<'_>) {
        if let Target::OneHot(_) = target {
            let width = values.len() as f32;
            for (j, value) in values.iter_mut().enumerate() {
                *value -= (1.0 - self.smoothing) * target.at(j) + self.smoothing / width;
            }
            return;
        }
        let positions = self.channels.positions(values);
        for position in 0..positions {
            let total: f32 = self.wanted(target, position, positions).sum();
            let wanted = self.wanted(target, position, positions);
            let own = values[position..].iter_mut().step_by(positions);
            for (value, q) in own.zip(wanted) {
                *value = (*value * total - q) / positions as f32;
            }
        }
    }

    fn refused(&self, targets: &[f32]) -> Option<usize> {
        let classes = self.channels.0 as f32;
        targets.iter().position(|&t| match self.is_map {
            true => !(t >= 0.0 && t < classes && t.fract() == 0.0),
            false => !(0.0..=1.0).contains(&t),
        })
    }

    fn accepted(&self) -> String {
        match self.is_map {
            true => format!("whole numbers from 0 to {}", self.channels.0 - 1),
            false => "[0, 1]".to_owned(),
        }
    }
}
