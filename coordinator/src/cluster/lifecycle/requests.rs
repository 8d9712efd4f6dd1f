//! Each request id acts once.

use trainyard_common::ids::{JobId, RequestId};

use crate::cluster::Machine;
use crate::cluster::api::Rejection;
use crate::cluster::model::{Record, RequestRecord, request_key};

/// Longest request id, in bytes.
const MAX_REQUEST_ID: usize = 128;

/// Requests that are remembered; a retry comes within minutes, not after so many others.
pub(in crate::cluster) const MAX_REQUESTS: usize = 10_000;

impl Machine {
    /// The job that this request led to before.
    pub(in crate::cluster) fn known_request(
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
        match self.requests.get(request) {
            None => Ok(None),
            Some(known) if known.digest == digest => Ok(Some(known.job.clone())),
            Some(_) => Err(Rejection::RequestReused(request.clone())),
        }
    }

    pub(in crate::cluster) fn remember(&mut self, request: &RequestId, digest: u64, job: &JobId) {
        let number = self.counters.next_request;
        self.counters.next_request += 1;
        self.draft.counters = true;
        let record = RequestRecord {
            request: request.clone(),
            number,
            digest,
            job: job.clone(),
        };
        self.request_order.insert(number, request.clone());
        self.requests.insert(request.clone(), record.clone());
        self.draft.step.records.push(Record::Request(record));
        if self.requests.len() > MAX_REQUESTS
            && let Some((_, oldest)) = self.request_order.pop_first()
        {
            self.requests.remove(&oldest);
            self.draft.step.removed.push(request_key(&oldest));
        }
    }
}

/// FNV-1a over parts, each closed by a byte that text does not contain.
pub(in crate::cluster) fn fnv1a<'a>(parts: impl IntoIterator<Item = &'a str>) -> u64 {
    parts
        .into_iter()
        .flat_map(|part| part.bytes().chain([0xFF]))
        .fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
        })
}
