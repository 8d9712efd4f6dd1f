//! Which GPUs a worker is to offer, as it is written in a setting.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Which GPUs a worker offers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum GpuChoice {
    /// Every one that it sees; none is no mistake.
    #[default]
    All,
    None,
    /// Numbers as `nvidia-smi -L` gives them, or UUIDs; each must be there.
    These(Vec<String>),
}

impl FromStr for GpuChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ids = || text.split(',').map(str::trim);
        let is_id = |id: &str| {
            id.parse::<u32>().is_ok() || id.starts_with("GPU-") || id.starts_with("MIG-")
        };
        match text.trim() {
            "all" => Ok(Self::All),
            "none" => Ok(Self::None),
            _ if ids().all(is_id) => Ok(Self::These(ids().map(str::to_owned).collect())),
            _ => Err(format!(
                "{text:?} given; accepted are all, none, or GPUs separated by commas: numbers such as 0, UUIDs such as \
                 GPU-8932f937"
            )),
        }
    }
}

impl fmt::Display for GpuChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::None => f.write_str("none"),
            Self::These(ids) => f.write_str(&ids.join(",")),
        }
    }
}

impl TryFrom<String> for GpuChoice {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<GpuChoice> for String {
    fn from(choice: GpuChoice) -> Self {
        choice.to_string()
    }
}
