//! Each request id acts once.

use trainyard_common::ids::{JobId, RequestId};

use crate::cluster::Machine;
use crate::cluster::api::Rejection;
use crate::cluster::model::{Record, RequestRecord, request_key};

impl Machine {
    /// The job that this request led to before.
    pub(in crate::cluster) fn known_request(
        &self,
        request: &RequestId,
        digest: u64,
    ) -> Result<Option<JobId>, Rejection> {
        self.requests.led_to(request, digest)
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
        self.draft
            .step
            .records
            .push(Record::Request(record.clone()));
        if let Some(forgotten) = self.requests.remember(record) {
            self.draft.step.removed.push(request_key(&forgotten));
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
