//! The JSON Schema that editors use.

use serde_json::Value;

use super::JobSpec;

/// The JSON Schema of a document.
pub fn json_schema() -> Value {
    schemars::schema_for!(JobSpec).to_value()
}
