//! Which parameters are trained, and at which rate: rules by their names.

use std::fmt;

use glob::Pattern;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::findings::Findings;
use super::graph::Graph;
use crate::text::near;

/// Most rules.
const MAX_RULES: usize = 1_000;
/// Names of parameters that a message shows.
const SHOWN: usize = 6;

/// How the parameters of some names are trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParameterRule {
    /// Names of parameters, as `model summary --parameters` lists them: `*` stands for any characters, `?` for one.
    #[serde(rename = "match")]
    pub pattern: String,
    /// They stay as they begin: no gradient, no state of the optimizer. A batch normalization of which everything is
    /// frozen normalizes by its running statistics, which stay too.
    #[serde(default)]
    pub frozen: bool,
    /// In place of the optimizer's; a schedule changes both alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
}

/// A rule that is for nothing, or rules that leave nothing to train.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleError {
    /// Position of the rule; `None` for all of them together.
    pub rule: Option<usize>,
    pub message: String,
}

impl RuleError {
    /// The place in the document.
    pub fn path(&self) -> String {
        match self.rule {
            Some(rule) => format!("training.parameters[{rule}].match"),
            None => "training.parameters".to_owned(),
        }
    }
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What is wrong with rules, whatever the network is.
pub fn check(rules: &[ParameterRule], found: &mut Findings) {
    found.expect(
        rules.len() <= MAX_RULES,
        "training.parameters",
        format!("{} rules", rules.len()),
        "at most 1000",
    );
    for (index, rule) in rules.iter().enumerate() {
        let path = format!("training.parameters[{index}]");
        if let Err(error) = Pattern::new(&rule.pattern) {
            let given = format!("`{}` ({})", rule.pattern, error.msg);
            let accepted =
                "names of parameters, in which `*` stands for any characters and `?` for one";
            found.expect(false, format!("{path}.match"), given, accepted);
        }
        if let Some(rate) = rule.learning_rate {
            found.positive(rate, format!("{path}.learning_rate"));
            found.expect(
                !rule.frozen,
                format!("{path}.learning_rate"),
                "one for what is frozen".to_owned(),
                "one of `frozen` and `learning_rate`",
            );
        }
    }
}

/// The rule of each parameter of a network: the first that is for its name.
///
/// # Errors
/// The first rule that is for no parameter, or that everything is frozen.
pub fn rules_of<'a>(
    rules: &'a [ParameterRule],
    graph: &Graph,
) -> Result<Vec<Option<&'a ParameterRule>>, RuleError> {
    let patterns: Vec<Option<Pattern>> = rules
        .iter()
        .map(|rule| Pattern::new(&rule.pattern).ok())
        .collect();
    let fits = |rule: usize, name: &str| {
        let pattern = patterns[rule].as_ref();
        pattern.is_some_and(|pattern| pattern.matches(name))
    };
    let names: Vec<&str> = graph.parameters.iter().map(|p| p.name.as_str()).collect();
    for (index, rule) in rules.iter().enumerate() {
        if !names.iter().any(|name| fits(index, name)) {
            return Err(RuleError {
                rule: Some(index),
                message: unmatched(&rule.pattern, &names),
            });
        }
    }
    let first = |name: &str| (0..rules.len()).find(|&rule| fits(rule, name));
    let of: Vec<Option<&ParameterRule>> = names
        .iter()
        .map(|name| first(name).map(|rule| &rules[rule]))
        .collect();
    if !of.is_empty() && of.iter().all(|rule| rule.is_some_and(|rule| rule.frozen)) {
        return Err(RuleError {
            rule: None,
            message: "every parameter of the network is frozen: there is nothing to train"
                .to_owned(),
        });
    }
    Ok(of)
}

fn unmatched(pattern: &str, names: &[&str]) -> String {
    let hint = match near(pattern, names.iter().copied()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => {
            let shown: Vec<&str> = names.iter().copied().take(SHOWN).collect();
            let more = if names.len() > SHOWN { ", ..." } else { "" };
            format!("they are {}{more}", shown.join(", "))
        }
    };
    format!("no parameter is called `{pattern}`; {hint}")
}
