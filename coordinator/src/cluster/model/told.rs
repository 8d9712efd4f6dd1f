//! What a searcher is told, and what it computes beside the loop: plain data that goes there and comes back.
//!
//! A search is what its searcher was told in the order of the log. Whoever computes beside the loop has a part
//! of that order, and what comes meanwhile waits for it ([`super::mind`]), so that it makes no difference how long
//! anything takes.

use std::collections::VecDeque;
use std::sync::Arc;

use trainyard_common::ids::TrialId;
use trainyard_common::space::SearchSpace;
use trainyard_common::spec::{Document, Params};

use crate::search::{Observation, Searcher};

/// A log longer than this takes its time to be read, and so does a suggestion of this effort: see
/// [`SearchTask::is_long`].
const LONG_LOG: usize = 256;
const LONG_MS: u64 = 1_000;

/// What a searcher is told, as an entry of the log says it.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cluster) enum Told {
    /// It is asked for another trial, which is to have its first result at that resource. `known`: the entry of
    /// the log, and what that trial was given.
    Asked {
        trial: TrialId,
        first_resource: Option<u64>,
        known: Option<(usize, Params)>,
    },
    /// It had nothing more to propose, which is known by now.
    Exhausted,
    Observed(Observation),
    Reached {
        trial: TrialId,
        resource: u64,
        value: Option<f64>,
    },
    Promoted {
        trial: TrialId,
    },
    Extended {
        trials: u32,
    },
}

/// What was proposed for a trial that has not begun; `None`: there is nothing more.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cluster) struct Proposal {
    pub(in crate::cluster) params: Option<Params>,
}

impl Told {
    /// Tells it. What it proposes, where that was asked and is not known.
    ///
    /// # Errors
    /// It proposes something else than the log says.
    pub(in crate::cluster) fn tell(
        self,
        searcher: &mut Searcher,
        check: Check,
    ) -> Result<Option<Proposal>, String> {
        match self {
            Self::Asked {
                trial,
                first_resource,
                known: None,
            } => {
                let params = searcher.suggest(trial, first_resource);
                return Ok(Some(Proposal { params }));
            }
            Self::Asked {
                trial,
                first_resource,
                known: Some((entry, known)),
            } => {
                let proposed = match check {
                    Check::Adopt => searcher.adopt(trial, first_resource, &known),
                    Check::All => searcher.suggest(trial, first_resource),
                };
                if proposed.as_ref() != Some(&known) {
                    return Err(format!(
                        "the search log does not replay: entry {entry}: trial {trial} was given {known:?}, and \
                         this version of the searcher proposes {proposed:?}"
                    ));
                }
            }
            Self::Exhausted => {}
            Self::Observed(observation) => searcher.observe(&observation),
            Self::Reached {
                trial,
                resource,
                value,
            } => searcher.reached(trial, resource, value),
            Self::Promoted { trial } => searcher.promoted(trial),
            Self::Extended { trials } => searcher.extend(trials),
        }
        Ok(None)
    }
}

/// How a log is replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cluster) enum Check {
    /// Every suggestion is found anew and compared.
    All,
    /// What a model proposed is taken from the log, so that a coordinator is soon there again.
    Adopt,
}

/// Something that a searcher computes beside the loop.
#[derive(Debug, Clone)]
pub struct SearchTask {
    /// `None`: it is made first.
    searcher: Option<Searcher>,
    document: Arc<Document>,
    told: VecDeque<Told>,
    proposal: Option<Proposal>,
}

/// What came of it: the searcher, and what it proposes for the next trial where that was asked.
#[derive(Debug, Clone)]
pub struct Thought {
    pub(in crate::cluster) searcher: Searcher,
    pub(in crate::cluster) proposal: Option<Proposal>,
}

impl Thought {
    /// Whether there was nothing more to propose.
    pub(in crate::cluster) fn exhausted(&self) -> bool {
        matches!(self.proposal, Some(Proposal { params: None }))
    }
}

impl Thought {
    /// The task of which this is the outcome, for who takes it in later.
    pub(in crate::cluster) fn again(self, document: &Arc<Document>) -> SearchTask {
        SearchTask {
            searcher: Some(self.searcher),
            document: Arc::clone(document),
            told: VecDeque::new(),
            proposal: self.proposal,
        }
    }
}

impl From<Searcher> for Thought {
    fn from(searcher: Searcher) -> Self {
        Self {
            searcher,
            proposal: None,
        }
    }
}

impl SearchTask {
    /// A suggestion.
    pub(in crate::cluster) fn ask(searcher: Searcher, document: Arc<Document>, ask: Told) -> Self {
        Self {
            searcher: Some(searcher),
            document,
            told: VecDeque::from([ask]),
            proposal: None,
        }
    }

    /// A search as its log tells it.
    pub(in crate::cluster) fn load(
        document: Arc<Document>,
        told: impl IntoIterator<Item = Told>,
    ) -> Self {
        Self {
            searcher: None,
            document,
            told: told.into_iter().collect(),
            proposal: None,
        }
    }

    /// What is still to be told.
    pub(in crate::cluster) fn len(&self) -> usize {
        self.told.len()
    }

    /// Whether it may take seconds: such tasks leave room for others.
    pub fn is_long(&self) -> bool {
        match &self.searcher {
            None => self.told.len() > LONG_LOG || self.document.space().is_constrained(),
            Some(searcher) => searcher.effort_ms() >= LONG_MS || self.told.len() > LONG_LOG,
        }
    }

    /// Computes it, however long that takes. The same wherever and whenever it is done.
    ///
    /// # Errors
    /// The log does not replay, or the spec makes no searcher any more.
    pub fn run(mut self) -> Result<Thought, String> {
        let mut searcher = match self.searcher.take() {
            Some(searcher) => searcher,
            None => {
                look_through(self.document.space());
                self.made()?
            }
        };
        while let Some(told) = self.told.pop_front() {
            self.step(&mut searcher, told)?;
        }
        Ok(self.thought(searcher))
    }

    /// As [`run`](Self::run), as far as no suggestion takes so long; hands back what is left of it then.
    ///
    /// # Errors
    /// As there.
    pub(in crate::cluster) fn run_quickly(
        mut self,
        quick_ms: u64,
    ) -> Result<Result<Thought, Self>, String> {
        let mut searcher = match self.searcher.take() {
            Some(searcher) => searcher,
            None => self.made()?,
        };
        while let Some(told) = self.told.pop_front() {
            if matches!(told, Told::Asked { .. }) && searcher.effort_ms() >= quick_ms {
                self.told.push_front(told);
                self.searcher = Some(searcher);
                return Ok(Err(self));
            }
            self.step(&mut searcher, told)?;
        }
        Ok(Ok(self.thought(searcher)))
    }

    fn made(&self) -> Result<Searcher, String> {
        let document = &self.document;
        let searcher = Searcher::over(document.job(), document.space().clone());
        searcher.map_err(|error| error.to_string())
    }

    fn step(&mut self, searcher: &mut Searcher, told: Told) -> Result<(), String> {
        match &told {
            // What was proposed before is in the log by then.
            Told::Asked { .. } | Told::Exhausted => self.proposal = None,
            // There may be more now.
            Told::Extended { .. } => {
                self.proposal = self.proposal.take().filter(|known| known.params.is_some());
            }
            Told::Observed(_) | Told::Reached { .. } | Told::Promoted { .. } => {}
        }
        if let Some(proposal) = told.tell(searcher, Check::Adopt)? {
            self.proposal = Some(proposal);
        }
        Ok(())
    }

    fn thought(self, searcher: Searcher) -> Thought {
        Thought {
            searcher,
            proposal: self.proposal,
        }
    }
}

/// Finds out about a space what later suggestions rely on, so that none of them has to.
fn look_through(space: &SearchSpace) {
    if space.is_constrained() {
        space.known();
        space.listing();
    }
}
