//! What was asked before, so that each request id acts once.
//!
//! Owns that every remembered request has its place in the order of arrival, and that they are bounded.

use std::collections::BTreeMap;

use trainyard_common::ids::{JobId, RequestId};

use crate::cluster::api::Rejection;
use crate::cluster::model::RequestRecord;

/// Longest request id, in bytes.
const MAX_REQUEST_ID: usize = 128;

/// Requests that are remembered; a retry comes within minutes, not after so many others.
pub(in crate::cluster) const MAX_REQUESTS: usize = 10_000;

#[derive(Default)]
pub(in crate::cluster) struct Requests {
    known: BTreeMap<RequestId, RequestRecord>,
    /// By order of arrival.
    order: BTreeMap<u64, RequestId>,
}

impl Requests {
    /// The job that this request led to before; `digest` is of what it asks.
    pub(in crate::cluster) fn led_to(
        &self,
        request: &RequestId,
        digest: u64,
    ) -> Result<Option<JobId>, Rejection> {
        let given = request.as_str().len();
        if given == 0 || given > MAX_REQUEST_ID {
            return Err(Rejection::RequestId {
                given,
                max: MAX_REQUEST_ID,
            });
        }
        match self.known.get(request) {
            None => Ok(None),
            Some(known) if known.digest == digest => Ok(Some(known.job.clone())),
            Some(_) => Err(Rejection::RequestReused(request.clone())),
        }
    }

    /// Takes in a request as its record tells it.
    pub(in crate::cluster) fn restore(&mut self, record: RequestRecord) {
        self.order.insert(record.number, record.request.clone());
        self.known.insert(record.request.clone(), record);
    }

    /// Remembers a new request. What it gives back is forgotten for it.
    pub(in crate::cluster) fn remember(&mut self, record: RequestRecord) -> Option<RequestId> {
        self.restore(record);
        if self.known.len() <= MAX_REQUESTS {
            return None;
        }
        let (_, oldest) = self.order.pop_first()?;
        self.known.remove(&oldest);
        Some(oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u64) -> RequestRecord {
        RequestRecord {
            request: RequestId(format!("request-{number}")),
            number,
            digest: number * 7,
            job: JobId(format!("job-{number}")),
        }
    }

    #[test]
    fn a_request_is_known_by_its_id_and_what_it_asks() {
        let mut requests = Requests::default();
        assert_eq!(requests.remember(record(3)), None);
        let id = record(3).request;
        assert_eq!(requests.led_to(&id, 21), Ok(Some(record(3).job)));
        let other = requests.led_to(&id, 22);
        assert_eq!(other, Err(Rejection::RequestReused(id)));
        assert_eq!(requests.led_to(&record(4).request, 28), Ok(None));
    }

    #[test]
    fn an_id_is_neither_empty_nor_long() {
        let requests = Requests::default();
        let ask = |length: usize| requests.led_to(&RequestId("r".repeat(length)), 0);
        let refused = |given| {
            Err(Rejection::RequestId {
                given,
                max: MAX_REQUEST_ID,
            })
        };
        assert_eq!(ask(0), refused(0));
        assert_eq!(ask(MAX_REQUEST_ID), Ok(None));
        assert_eq!(ask(MAX_REQUEST_ID + 1), refused(MAX_REQUEST_ID + 1));
    }

    #[test]
    fn the_oldest_are_forgotten_first() {
        let mut requests = Requests::default();
        for number in 0..MAX_REQUESTS as u64 {
            assert_eq!(requests.remember(record(number)), None);
        }
        let next = MAX_REQUESTS as u64;
        assert_eq!(requests.remember(record(next)), Some(record(0).request));
        assert_eq!(requests.led_to(&record(0).request, 0), Ok(None));
        assert_eq!(
            requests.led_to(&record(1).request, 7),
            Ok(Some(record(1).job))
        );
        assert_eq!(requests.known.len(), requests.order.len());
    }
}
