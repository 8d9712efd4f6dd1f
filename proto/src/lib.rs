//! The wire: messages and services generated from `proto/`. No logic lives here.

/// Version 1 of the API: everything that clients, workers and the coordinator say to each other.
#[allow(
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::too_many_lines,
    rustdoc::all
)]
pub mod v1 {
    tonic::include_proto!("trainyard.v1");
}

/// The largest message that either side accepts, in bytes. Checkpoints never travel here.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// The most reports in one [`v1::ReportBatch`].
pub const MAX_REPORTS_PER_BATCH: usize = 256;

/// The longest name of a metric, bytes. A worker passes no longer one on, and a coordinator takes none.
pub const MAX_METRIC_NAME_BYTES: usize = 256;

/// Metrics of one report. A worker passes on 256 of a program's.
pub const MAX_METRICS_PER_REPORT: usize = 512;

/// The largest step, epoch, number of bytes or position: what JSON's numbers hold exactly.
pub const MAX_NUMBER: u64 = 1 << 53;

/// Metadata of an `UNAVAILABLE` from a coordinator that does not lead: the `host:port` of the one that
/// does, where it is known.
pub const LEADER_METADATA: &str = "trainyard-leader";
