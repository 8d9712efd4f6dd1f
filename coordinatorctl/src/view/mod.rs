//! How answers are shown: shapes of JSON, tables, text, and a job as it happens.

pub(crate) mod convert;
pub(crate) mod live;
pub(crate) mod output;
pub(crate) mod tables;
pub(crate) mod text;
