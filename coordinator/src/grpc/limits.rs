//! What one message of a worker may hold. A worker bounds what it sends itself; whoever speaks as one need not.
//!
//! Texts for people are cut with a mark. Names, which are compared, and counts are refused, with the field
//! that is too large: cut, a name would be another's.

/// Slots of one worker, and attempts that it says it runs.
pub(super) const MAX_SLOTS: usize = 1024;

/// Log lines in one batch; a worker sends 256.
pub(super) const MAX_LINES_PER_BATCH: usize = 4096;

/// A host's name: DNS allows 253.
pub(super) const MAX_HOST: usize = 255;

/// A version, a device such as `cuda:0`, a log level.
pub(super) const MAX_VERSION: usize = 64;
pub(super) const MAX_DEVICE: usize = 64;
pub(super) const MAX_LEVEL: usize = 16;

/// `host:port`.
pub(super) const MAX_ADDRESS: usize = MAX_HOST + 8;

/// A kind of processor, such as `x86_64/avx2+fma`.
pub(super) const MAX_CPU_KIND: usize = 128;

/// A metric's name, and the metrics of one report. A worker keeps to them, too.
pub(super) const MAX_METRIC_NAME: usize = trainyard_proto::MAX_METRIC_NAME_BYTES;
pub(super) const MAX_METRICS: usize = trainyard_proto::MAX_METRICS_PER_REPORT;

/// A path in a checkpoint store or of a probe, and a digest in hexadecimal.
pub(super) const MAX_PATH: usize = 1024;
pub(super) const MAX_DIGEST: usize = 128;

/// Manifests that one report says were deleted: more than a trial is known to have.
pub(super) const MAX_MANIFESTS: usize = 1024;

/// An identifier, as in requests.
const MAX_ID: usize = 256;

/// Why an attempt ended or a store cannot be used; a worker cuts it at 4 KiB.
pub(super) const MAX_ERROR_BYTES: usize = 16 * 1024;

/// Steps, epochs, times and positions.
const MAX_NUMBER: u64 = trainyard_proto::MAX_NUMBER;

/// Something is larger than it may be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {given} given; accepted: {accepted}")]
pub(crate) struct Refused {
    field: String,
    given: String,
    accepted: String,
}

impl Refused {
    fn new(field: &str, given: String, accepted: String) -> Self {
        Self {
            field: field.to_owned(),
            given,
            accepted,
        }
    }

    pub(super) fn empty(field: &str) -> Self {
        Self::new(field, "nothing".to_owned(), "a name".to_owned())
    }

    /// The same, said of a part of `whole`.
    pub(super) fn within(mut self, whole: &str) -> Self {
        self.field = format!("{whole}.{}", self.field);
        self
    }
}

/// A name: at most so many bytes, none of them a control character.
pub(super) fn name(field: &str, name: String, most: usize) -> Result<String, Refused> {
    if name.len() > most {
        let (given, accepted) = (format!("{} bytes", name.len()), format!("at most {most}"));
        return Err(Refused::new(field, given, accepted));
    }
    if name.chars().any(char::is_control) {
        let given = format!("{:?}", name.chars().take(64).collect::<String>());
        let accepted = "text without control characters".to_owned();
        return Err(Refused::new(field, given, accepted));
    }
    Ok(name)
}

/// An identifier of a job.
pub(super) fn id(field: &str, id: String) -> Result<String, Refused> {
    name(field, id, MAX_ID)
}

pub(super) fn count(field: &str, given: usize, most: usize) -> Result<(), Refused> {
    match given <= most {
        true => Ok(()),
        false => Err(Refused::new(
            field,
            given.to_string(),
            format!("at most {most}"),
        )),
    }
}

pub(super) fn number(field: &str, number: u64) -> Result<u64, Refused> {
    match number <= MAX_NUMBER {
        true => Ok(number),
        false => Err(Refused::new(
            field,
            number.to_string(),
            format!("at most {MAX_NUMBER}"),
        )),
    }
}

/// A number that is only shown, or only says that there is life: beyond the largest it is the largest.
pub(super) fn shown(number: u64) -> u64 {
    number.min(MAX_NUMBER)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn names_are_kept_whole_or_refused(given in "(\\PC|\\n){0,80}", most in 0_usize..120) {
            match name("field", given.clone(), most) {
                Ok(kept) => {
                    prop_assert!(kept.len() <= most && !kept.contains('\n'));
                    prop_assert_eq!(kept, given);
                }
                Err(refused) => {
                    prop_assert!(given.len() > most || given.contains('\n'));
                    let told = refused.to_string();
                    prop_assert!(told.starts_with("field: ") && told.len() < 600, "{}", told);
                    prop_assert!(!told.contains('\n'));
                }
            }
        }
    }

    #[test]
    fn what_is_refused_names_its_place_and_what_is_accepted() {
        let refused = count("metrics", 600, MAX_METRICS).unwrap_err();
        let told = refused.within("reports[3]").to_string();
        assert_eq!(told, "reports[3].metrics: 600 given; accepted: at most 512");
        assert!(number("step", u64::MAX).is_err());
        assert_eq!(number("step", MAX_NUMBER), Ok(MAX_NUMBER));
    }
}
