//! CSV files of numbers: which columns are what, and every cell checked.

use csv::ByteRecord;
use trainyard_common::spec::data::{ColumnRef, CsvSpec, Task};
use trainyard_common::text::shortened;

use super::DataError;
use super::allowance::{Allowance, Refusal};
use super::error::label_beyond;
use super::rows::{Rows, line_feeds};
use super::samples::{Features, Samples, Shard, TargetValues};
use super::source::Stream;

/// Bytes of a cell that a message quotes.
const MAX_SHOWN: usize = 40;

/// Column names that a message lists.
const NAMES_LISTED: usize = 30;

/// Columns at most: as many numbers as the longest row can well have.
const MAX_COLUMNS: usize = 1 << 20;

/// Samples of a CSV file.
pub(crate) struct Table {
    pub(crate) samples: Samples,
    /// Of the features, if the file has a header.
    pub(crate) names: Option<Vec<String>>,
}

/// What is asked of a file besides its own spec.
#[derive(Clone, Copy)]
pub(crate) struct TableSettings {
    pub(crate) task: Task,
    /// Labels must be below it, where it is known.
    pub(crate) classes: Option<usize>,
    pub(crate) shard_samples: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Feature,
    /// The position among the targets.
    Target(usize),
    Ignored,
}

/// Reads a file to its end.
pub(crate) fn read(
    spec: &CsvSpec,
    stream: Stream,
    settings: TableSettings,
    allowance: &Allowance,
) -> Result<Table, DataError> {
    let [delimiter] = spec.delimiter.as_bytes()[..] else {
        return Err(DataError::Columns {
            url: spec.url.clone(),
            field: "delimiter",
            reason: format!("`{}` is not one ASCII character", spec.delimiter),
        });
    };
    let mut rows = Rows::new(spec, stream, delimiter);
    let mut record = ByteRecord::new();
    let empty = || DataError::Empty {
        url: spec.url.clone(),
    };
    if !rows.next(&mut record)? {
        return Err(empty());
    }
    let columns = Columns::new(spec, &record, settings.task)?;
    if spec.header && !rows.next(&mut record)? {
        return Err(empty());
    }
    let mut filling = Filling::new(spec, &columns, settings, allowance);
    loop {
        filling.end_line = rows.end_line();
        filling.row(&record)?;
        if !rows.next(&mut record)? {
            break;
        }
    }
    let samples = filling.finish()?;
    let names = columns.names.as_ref().map(|names| {
        let features = names.iter().zip(&columns.roles);
        features
            .filter(|(_, role)| **role == Role::Feature)
            .map(|(name, _)| name.clone())
            .collect()
    });
    Ok(Table { samples, names })
}

/// Which column is what.
struct Columns {
    roles: Vec<Role>,
    names: Option<Vec<String>>,
    targets: usize,
}

impl Columns {
    fn new(spec: &CsvSpec, first: &ByteRecord, task: Task) -> Result<Self, DataError> {
        if first.len() > MAX_COLUMNS {
            return Err(DataError::Columns {
                url: spec.url.clone(),
                field: "url",
                reason: format!(
                    "{} columns, accepted are at most {MAX_COLUMNS}",
                    first.len()
                ),
            });
        }
        // Of fields they are trimmed off where they end a line.
        if first.as_slice().contains(&b'\r') && !first.as_slice().contains(&b'\n') {
            return Err(DataError::Line {
                url: spec.url.clone(),
                line: 1,
                reason: "its lines end with carriage returns alone; accepted are line feeds, with or without them".to_owned(),
            });
        }
        let names = spec.header.then(|| {
            first
                .iter()
                .map(|name| String::from_utf8_lossy(name).into_owned())
                .collect::<Vec<_>>()
        });
        let mut columns = Self {
            roles: vec![Role::Feature; first.len()],
            names,
            targets: spec.targets.len(),
        };
        let bad = |field, reason| DataError::Columns {
            url: spec.url.clone(),
            field,
            reason,
        };
        if spec.targets.is_empty() {
            return Err(bad("targets", "no column is named".to_owned()));
        }
        if task == Task::Classification && spec.targets.len() != 1 {
            return Err(bad(
                "targets",
                format!(
                    "{} columns are named, a classification has one",
                    spec.targets.len()
                ),
            ));
        }
        let targets = spec.targets.iter().enumerate();
        let ignored = spec.ignore.iter();
        let roles = targets
            .map(|(slot, column)| ("targets", column, Role::Target(slot)))
            .chain(ignored.map(|column| ("ignore", column, Role::Ignored)));
        for (field, column, role) in roles {
            let at = columns.find(column).map_err(|reason| bad(field, reason))?;
            if columns.roles[at] != Role::Feature {
                let reason = format!("{} is named twice", columns.name(at));
                return Err(bad(field, reason));
            }
            columns.roles[at] = role;
        }
        if !columns.roles.contains(&Role::Feature) {
            return Err(bad("targets", "no column is left for features".to_owned()));
        }
        Ok(columns)
    }

    fn find(&self, column: &ColumnRef) -> Result<usize, String> {
        let count = self.roles.len();
        match column {
            ColumnRef::Index(index) => {
                let at = if *index < 0 {
                    count as i64 + index
                } else {
                    *index
                };
                usize::try_from(at).ok().filter(|&at| at < count).ok_or_else(|| {
                    format!(
                        "there is no column {index}; the file has {count} (0 to {}, or -{count} to -1)",
                        count - 1
                    )
                })
            }
            ColumnRef::Name(name) => self.find_name(name),
        }
    }

    fn find_name(&self, name: &str) -> Result<usize, String> {
        let Some(names) = &self.names else {
            return Err(format!(
                "`{name}` is a name, but the file has no header (`header: false`): give a number"
            ));
        };
        let mut found = names.iter().enumerate().filter(|(_, known)| *known == name);
        match (found.next(), found.next()) {
            (Some((at, _)), None) => Ok(at),
            (Some(_), Some(_)) => Err(format!(
                "the header has several columns `{name}`: give a number"
            )),
            (None, _) => {
                let listed = names.iter().take(NAMES_LISTED).cloned().collect::<Vec<_>>();
                let more = names.len().saturating_sub(NAMES_LISTED);
                let more = if more > 0 {
                    format!(" and {more} more")
                } else {
                    String::new()
                };
                Err(format!(
                    "there is no column `{name}`; known: {}{more}",
                    listed.join(", ")
                ))
            }
        }
    }

    fn name(&self, at: usize) -> String {
        match &self.names {
            Some(names) => format!("column `{}`", names[at]),
            None => format!("column {at}"),
        }
    }
}

/// Shards being filled, row by row.
struct Filling<'a> {
    spec: &'a CsvSpec,
    columns: &'a Columns,
    settings: TableSettings,
    allowance: &'a Allowance,
    /// Feature columns.
    width: usize,
    features: Vec<f32>,
    classes: Vec<u32>,
    values: Vec<f32>,
    /// Samples in the shard that is open.
    open: usize,
    shards: Vec<Shard>,
    len: usize,
    /// The targets of one row, by position.
    row_targets: Vec<f32>,
    /// The line after the record at hand.
    end_line: u64,
}

impl<'a> Filling<'a> {
    fn new(
        spec: &'a CsvSpec,
        columns: &'a Columns,
        settings: TableSettings,
        allowance: &'a Allowance,
    ) -> Self {
        let features = columns.roles.iter();
        Self {
            spec,
            columns,
            settings,
            allowance,
            width: features.filter(|role| **role == Role::Feature).count(),
            features: Vec::new(),
            classes: Vec::new(),
            values: Vec::new(),
            open: 0,
            shards: Vec::new(),
            len: 0,
            row_targets: vec![0.0; columns.targets],
            end_line: 0,
        }
    }

    fn row(&mut self, record: &ByteRecord) -> Result<(), DataError> {
        let expected = self.columns.roles.len();
        if record.len() != expected {
            let mut reason = format!("found {} fields, expected {expected}", record.len());
            let more_lines = line_feeds(record);
            if more_lines > 0 {
                reason += &format!(
                    ", one of which goes on over {more_lines} more lines: is its quote closed?"
                );
            }
            return Err(self.bad(record, reason));
        }
        self.make_room()
            .map_err(|refusal| refusal.of(&self.spec.url))?;
        for (at, cell) in record.iter().enumerate() {
            match self.columns.roles[at] {
                Role::Ignored => {}
                Role::Feature => {
                    let value = self.number(record, at, cell)?;
                    self.features.push(to_f32(value));
                }
                Role::Target(slot) => {
                    let value = self.number(record, at, cell)?;
                    if self.settings.task == Task::Classification {
                        let class = self.class(record, at, value)?;
                        self.classes.push(class);
                    } else {
                        self.row_targets[slot] = to_f32(value);
                    }
                }
            }
        }
        if self.settings.task == Task::Regression {
            self.values.extend_from_slice(&self.row_targets);
        }
        self.len += 1;
        self.open += 1;
        if self.open == self.settings.shard_samples {
            self.close()?;
        }
        Ok(())
    }

    /// For one more row.
    fn make_room(&mut self) -> Result<(), Refusal> {
        let (allowance, rows) = (self.allowance, self.settings.shard_samples);
        let most = |width: usize| rows.saturating_mul(width);
        let targets = self.columns.targets;
        allowance.grow(&mut self.features, self.width, most(self.width))?;
        match self.settings.task {
            Task::Classification => allowance.grow(&mut self.classes, 1, rows),
            Task::Regression => allowance.grow(&mut self.values, targets, most(targets)),
        }
    }

    /// A finite number that an f32 can hold.
    fn number(&self, record: &ByteRecord, at: usize, cell: &[u8]) -> Result<f64, DataError> {
        let text = String::from_utf8_lossy(cell);
        let reason = match text.parse::<f64>() {
            Ok(value) if to_f32(value).is_finite() => return Ok(value),
            Ok(value) if value.is_finite() => "is too large for a 32-bit float",
            Ok(_) => "is not finite",
            Err(_) if text.is_empty() => "is empty, expected a number",
            Err(_) => "is not a number",
        };
        let name = self.columns.name(at);
        Err(self.bad(
            record,
            format!("{name}: `{}` {reason}", shortened(&text, MAX_SHOWN)),
        ))
    }

    fn class(&self, record: &ByteRecord, at: usize, value: f64) -> Result<u32, DataError> {
        let bound = self
            .settings
            .classes
            .map_or(f64::from(u32::MAX), |n| n as f64);
        if value.fract() == 0.0 && value >= 0.0 && value < bound {
            return Ok(value as u32);
        }
        let name = self.columns.name(at);
        let reason = match self.settings.classes {
            _ if value.fract() != 0.0 => format!(
                "{name}: label {value} is not a whole number from 0; is the column a number to predict? then take `task: regression` (in `data`)"
            ),
            _ if value < 0.0 => format!("{name}: label {value} is not a whole number from 0"),
            Some(classes) => label_beyond(&format!("{name}: label {value}"), value, classes),
            None => format!("{name}: label {value} is too large"),
        };
        Err(self.bad(record, reason))
    }

    fn bad(&self, record: &ByteRecord, reason: String) -> DataError {
        // A quoted field may hold line feeds.
        let lines = 1 + line_feeds(record);
        DataError::Line {
            url: self.spec.url.clone(),
            line: self.end_line.saturating_sub(lines),
            reason,
        }
    }

    fn close(&mut self) -> Result<(), DataError> {
        let shard = self.cut().map_err(|refusal| refusal.of(&self.spec.url))?;
        self.shards.push(shard);
        self.open = 0;
        Ok(())
    }

    /// What was filled, as a shard for which there is room.
    fn cut(&mut self) -> Result<Shard, Refusal> {
        let allowance = self.allowance;
        allowance.grow(&mut self.shards, 1, usize::MAX)?;
        let features = allowance.boxed(std::mem::take(&mut self.features))?;
        let targets = match self.settings.task {
            Task::Classification => {
                TargetValues::Classes(allowance.boxed(std::mem::take(&mut self.classes))?)
            }
            Task::Regression => {
                TargetValues::Values(allowance.boxed(std::mem::take(&mut self.values))?)
            }
        };
        Ok(Shard {
            features: Features::Floats(features),
            targets,
        })
    }

    fn finish(mut self) -> Result<Samples, DataError> {
        if self.open > 0 {
            self.close()?;
        }
        Ok(Samples {
            sample_len: self.width,
            target_width: self.columns.targets,
            shard_samples: self.settings.shard_samples,
            shards: self.shards,
            len: self.len,
        })
    }
}

fn to_f32(value: f64) -> f32 {
    value as f32
}
