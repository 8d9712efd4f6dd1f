//! The devices that a worker offers as slots: shares of its processor, and GPUs.
//!
//! GPUs are found through NVIDIA's management library, which comes with the driver and is loaded only
//! where it is installed. Which of them are this worker's is decided by a pure function.

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use trainyard_common::config::ConfigError;

use crate::config::{GpuChoice, MAX_SLOTS, WorkerConfig};

/// By this variable CUDA programs are told which GPUs they see; a worker obeys it as well.
pub(crate) const VISIBLE: &str = "CUDA_VISIBLE_DEVICES";

/// A GPU, or a part of one that stands for itself (MIG).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// `GPU-...` or `MIG-...`, by which it is meant whatever the order in which a program counts.
    pub uuid: String,
    /// Such as `NVIDIA H100 80GB HBM3`.
    pub model: String,
}

/// The slots of a worker, in order: shares of the processor first, then GPUs. Behind them come places for
/// trials that are taken ahead and wait for a share: the coordinator gives them away as it does slots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Devices {
    shares: usize,
    gpus: Vec<Gpu>,
    ahead: usize,
}

impl Devices {
    /// The slots that the configuration asks for on this machine.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] for a GPU that is asked for by name and not here, and where nothing
    /// at all would be offered.
    pub(crate) fn of(config: &WorkerConfig) -> Result<Self, ConfigError> {
        let gpus = gpus(&config.gpus)?;
        let devices = Self {
            shares: config.slots,
            gpus,
            ahead: config.prefetch,
        };
        if devices.len() < 1 || devices.len() + devices.ahead > MAX_SLOTS {
            let found = format!("{}, with {} GPUs", config.slots, devices.gpus.len());
            let accepted = format!("1 to {MAX_SLOTS} slots, GPUs and `prefetch` included");
            return Err(ConfigError::invalid("slots", found, accepted));
        }
        for (number, gpu) in devices.gpus.iter().enumerate() {
            tracing::info!(slot = devices.shares + number, uuid = %gpu.uuid, model = %gpu.model, "GPU");
        }
        Ok(devices)
    }

    pub(crate) fn len(&self) -> usize {
        self.shares + self.gpus.len()
    }

    /// One a slot, as the coordinator is told: `cpu`, `cuda:0`.
    pub(crate) fn names(&self) -> Vec<String> {
        let gpus = (0..self.gpus.len()).map(|number| format!("cuda:{number}"));
        let cpus = |count| std::iter::repeat_n("cpu".to_owned(), count);
        cpus(self.shares)
            .chain(gpus)
            .chain(cpus(self.ahead))
            .collect()
    }

    /// The slot on which an attempt runs that was given this one: itself, or the one for which it waits
    /// there. A rank of several waits for none, since the others wait for it. `None`: there is no such slot.
    pub(crate) fn runs_on(&self, slot: u32, alone: bool) -> Option<Option<usize>> {
        let slot = slot as usize;
        match slot.checked_sub(self.len()) {
            None => Some(Some(slot)),
            Some(place) if place < self.ahead => Some(alone.then_some(place % self.shares.max(1))),
            Some(_) => None,
        }
    }

    /// What a program on these slots is to see; `None` where no GPU is among them, and nothing is said.
    pub(crate) fn visible(&self, slots: &[u32]) -> Option<String> {
        let gpu = |slot: &u32| self.gpus.get((*slot as usize).checked_sub(self.shares)?);
        let uuids: Vec<&str> = slots
            .iter()
            .filter_map(gpu)
            .map(|gpu| gpu.uuid.as_str())
            .collect();
        (!uuids.is_empty()).then(|| uuids.join(","))
    }
}

#[cfg(test)]
impl Devices {
    /// GPUs are called `GPU-0`, `GPU-1`.
    pub(crate) fn for_test(shares: usize, gpus: usize) -> Self {
        let gpu = |number| Gpu {
            uuid: format!("GPU-{number}"),
            model: "test".to_owned(),
        };
        let gpus = (0..gpus).map(gpu).collect();
        Self {
            shares,
            gpus,
            ahead: 0,
        }
    }

    pub(crate) fn ahead(self, ahead: usize) -> Self {
        Self { ahead, ..self }
    }
}

/// The GPUs of this machine that the choice names.
///
/// # Errors
/// [`ConfigError::Invalid`] for one that is asked for by name and not here.
pub fn gpus(choice: &GpuChoice) -> Result<Vec<Gpu>, ConfigError> {
    if *choice == GpuChoice::None {
        return Ok(Vec::new());
    }
    let found = match found() {
        Ok(found) => found,
        Err(error) if *choice == GpuChoice::All => {
            if !matches!(error, NvmlError::LibloadingError(_)) {
                tracing::warn!(%error, "no GPU can be used");
            }
            return Ok(Vec::new());
        }
        Err(error) => {
            let accepted = format!("GPUs of this machine, which cannot be asked for them: {error}");
            return Err(ConfigError::invalid("gpus", choice, accepted));
        }
    };
    let visible = std::env::var(VISIBLE).ok();
    choose(&found, choice, visible.as_deref())
}

/// In the order of the bus, as `nvidia-smi` numbers them.
fn found() -> Result<Vec<Gpu>, NvmlError> {
    let nvml = Nvml::init()?;
    let gpu = |index| {
        let device = nvml.device_by_index(index)?;
        Ok(Gpu {
            uuid: device.uuid()?,
            model: device.name()?,
        })
    };
    (0..nvml.device_count()?).map(gpu).collect()
}

/// Which of the GPUs that were found are meant. `visible` is what `CUDA_VISIBLE_DEVICES` says: where it
/// is set others do not count, and, as CUDA has it, nothing after the first that is not there.
fn choose(
    found: &[Gpu],
    choice: &GpuChoice,
    visible: Option<&str>,
) -> Result<Vec<Gpu>, ConfigError> {
    let seen: Vec<Gpu> = match visible {
        None => found.to_vec(),
        Some(ids) => ids
            .split(',')
            .map_while(|id| named(found, id.trim()))
            .collect(),
    };
    let GpuChoice::These(ids) = choice else {
        return Ok(seen);
    };
    let mut chosen: Vec<Gpu> = Vec::with_capacity(ids.len());
    for id in ids {
        let gpu = named(found, id).filter(|gpu| visible.is_none() || seen.contains(gpu));
        match gpu {
            Some(gpu) if !chosen.contains(&gpu) => chosen.push(gpu),
            Some(_) => return Err(ConfigError::invalid("gpus", choice, "each GPU once")),
            None => {
                let known: Vec<&str> = seen.iter().map(|gpu| gpu.uuid.as_str()).collect();
                let hidden =
                    visible.map_or(String::new(), |ids| format!(" ({VISIBLE} is {ids:?})"));
                let accepted = match known.as_slice() {
                    [] => format!("none: there is no GPU here{hidden}"),
                    known => format!("GPUs that are here{hidden}: {}", known.join(", ")),
                };
                return Err(ConfigError::invalid("gpus", id, accepted));
            }
        }
    }
    Ok(chosen)
}

/// By number, or by the beginning of a UUID. A part of a GPU (MIG) is taken at its word: the library
/// lists whole ones.
fn named(found: &[Gpu], id: &str) -> Option<Gpu> {
    if id.starts_with("MIG-") {
        return Some(Gpu {
            uuid: id.to_owned(),
            model: "a part of a GPU".to_owned(),
        });
    }
    match id.parse::<usize>() {
        Ok(number) => found.get(number).cloned(),
        Err(_) if id.is_empty() => None,
        Err(_) => found.iter().find(|gpu| gpu.uuid.starts_with(id)).cloned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> Vec<Gpu> {
        ["GPU-aa", "GPU-bb", "GPU-cc"]
            .map(|uuid| Gpu {
                uuid: uuid.to_owned(),
                model: "test".to_owned(),
            })
            .to_vec()
    }

    #[test]
    fn choices_and_what_is_visible() {
        for (choice, visible, expected) in [
            ("all", None, "GPU-aa,GPU-bb,GPU-cc"),
            ("all", Some("2,0"), "GPU-cc,GPU-aa"),
            ("all", Some("GPU-b"), "GPU-bb"),
            ("all", Some(""), ""),
            ("all", Some("-1"), ""),
            ("all", Some("0,7,1"), "GPU-aa"),
            ("all", Some("MIG-5"), "MIG-5"),
            ("none", Some("0"), ""),
            ("1", None, "GPU-bb"),
            ("GPU-cc, 0", None, "GPU-cc,GPU-aa"),
            ("1", Some("1,2"), "GPU-bb"),
            (
                "3",
                None,
                "gpus: 3 is not accepted; expected GPUs that are here: GPU-aa, GPU-bb, GPU-cc",
            ),
            (
                "0,GPU-aa",
                None,
                "gpus: 0,GPU-aa is not accepted; expected each GPU once",
            ),
            (
                "0",
                Some("1"),
                "gpus: 0 is not accepted; expected GPUs that are here (CUDA_VISIBLE_DEVICES is \"1\"): GPU-bb",
            ),
        ] {
            let choice: GpuChoice = choice.parse().unwrap();
            let found = if choice == GpuChoice::None {
                Vec::new()
            } else {
                found()
            };
            let told = match choose(&found, &choice, visible) {
                Ok(gpus) => gpus
                    .into_iter()
                    .map(|gpu| gpu.uuid)
                    .collect::<Vec<_>>()
                    .join(","),
                Err(error) => error.to_string(),
            };
            assert_eq!(told, expected, "{choice} {visible:?}");
        }
    }

    #[test]
    fn choices_are_read_and_written_alike() {
        for text in ["all", "none", "0", "0,2", "GPU-8932f937,MIG-1"] {
            assert_eq!(text.parse::<GpuChoice>().unwrap().to_string(), text);
        }
        for text in ["", "some", "0;1", "-1", "cuda:0"] {
            let error = text.parse::<GpuChoice>().unwrap_err();
            assert!(error.contains("accepted are all, none"), "{error}");
        }
    }

    #[test]
    fn slots_are_shares_then_gpus() {
        let devices = Devices::for_test(2, 2);
        assert_eq!(devices.names(), ["cpu", "cpu", "cuda:0", "cuda:1"]);
        assert_eq!(devices.visible(&[0, 1]), None);
        assert_eq!(devices.visible(&[3]).as_deref(), Some("GPU-1"));
        assert_eq!(devices.visible(&[2, 3]).as_deref(), Some("GPU-0,GPU-1"));
        assert_eq!(devices.visible(&[9]), None);
    }

    #[test]
    fn places_ahead_wait_for_the_shares_in_turn() {
        let devices = Devices::for_test(2, 1).ahead(3);
        assert_eq!(devices.len(), 3);
        assert_eq!(
            devices.names(),
            ["cpu", "cpu", "cuda:0", "cpu", "cpu", "cpu"]
        );
        let alone: Vec<_> = (0..7).map(|slot| devices.runs_on(slot, true)).collect();
        let on = |slot| Some(Some(slot));
        assert_eq!(alone, [on(0), on(1), on(2), on(0), on(1), on(0), None]);
        assert_eq!(devices.runs_on(1, false), on(1));
        assert_eq!(devices.runs_on(4, false), Some(None));
    }

    #[test]
    fn a_worker_without_any_slot_is_refused() {
        let config = WorkerConfig {
            slots: 0,
            gpus: GpuChoice::None,
            ..WorkerConfig::default()
        };
        let error = Devices::of(&config).unwrap_err().to_string();
        assert!(error.starts_with("slots: 0, with 0 GPUs"), "{error}");
    }
}
