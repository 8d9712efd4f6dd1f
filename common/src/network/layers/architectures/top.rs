//! What networks that classify have in common: whether they end in their classifier, and for how many classes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Layers;

use crate::network::error::Problem;
use crate::network::findings::Findings;

/// How a network by name ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Top {
    /// Width of the output; needed unless `top` is false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    classes: Option<usize>,
    /// Whether it ends in its classifier; else in what that is fed with.
    #[serde(default = "yes")]
    top: bool,
}

fn yes() -> bool {
    true
}

impl Top {
    pub(super) fn check(&self, path: &str, found: &mut Findings) {
        match self.classes {
            Some(classes) => found.at_least_one(classes, format!("{path}.classes")),
            None => found.expect(
                !self.top,
                format!("{path}.classes"),
                "nothing".to_owned(),
                "the number of classes, or `top: false`",
            ),
        }
    }

    /// Ends in means of the channels, perhaps a dropout, and the classifier of this name, if it has one.
    pub(super) fn classify(
        &self,
        layers: &mut Layers,
        name: &str,
        dropout: Option<f64>,
    ) -> Result<(), Problem> {
        let Some(classes) = self.classes()? else {
            return Ok(());
        };
        layers.add("global_avg_pool2d", "", json!({}));
        if let Some(rate) = dropout {
            layers.add("dropout", "", json!({ "rate": rate }));
        }
        layers.add("dense", name, json!({"units": classes}));
        Ok(())
    }

    /// Width of the classifier; `None` where it has none.
    pub(super) fn classes(&self) -> Result<Option<usize>, Problem> {
        match (self.top, self.classes) {
            (false, _) => Ok(None),
            (true, Some(0)) => Err(Problem::Zero { field: "classes" }),
            (true, Some(classes)) => Ok(Some(classes)),
            (true, None) => Err(Problem::other(
                "`classes` is missing; accepted are their number, or `top: false`",
            )),
        }
    }
}
