//! `entrypoint.ship`: a folder is packed when its job is submitted, and sent where the job's workers find it.
//!
//! What was packed is named by its digest, which goes into the stored spec: whatever becomes of the folder, each
//! attempt runs the same code.

mod command;
mod exclude;
mod listing;
mod pack;
mod pattern;
#[cfg(test)]
mod tests;

use serde_json::Value;
use trainyard_common::bundle::short;
use trainyard_common::spec::{Document, EntrypointSpec};
use trainyard_coordinator::config::CoordinatorConfig;
use trainyard_proto::v1;

use crate::connect::{Bundle, Client};
use crate::exit::{Code, Failure, Outcome};
use crate::print;
use crate::view::output::SpecProblem;
use crate::view::text;
use listing::Listed;
use pack::{Packed, pack};

/// Times that a bundle is sent that is gone again when the job comes: one that no job names may be removed.
const TRIES: u32 = 3;

/// The folder that a job ships, before it is packed.
#[derive(Debug, Clone)]
pub(crate) struct Looked {
    listed: Listed,
    /// What is probably not meant, one sentence each.
    pub(crate) warnings: Vec<String>,
}

impl Looked {
    /// Files, links and empty folders.
    pub(crate) fn files(&self) -> usize {
        self.listed.entries.len()
    }

    /// Of the files, unpacked.
    pub(crate) fn bytes(&self) -> u64 {
        self.listed.bytes
    }

    /// How much is shipped, for people.
    fn told(&self) -> String {
        format!("{} files, {}", self.files(), text::bytes(self.bytes()))
    }
}

/// Looks at the folder that a job ships, and at whether its command finds there what it names. `None`: it ships none.
///
/// # Errors
/// What cannot be shipped, with its field.
pub(crate) fn look(document: &Document) -> Result<Option<Looked>, SpecProblem> {
    match &document.job().entrypoint {
        Some(program) => look_at(program),
        None => Ok(None),
    }
}

fn look_at(program: &EntrypointSpec) -> Result<Option<Looked>, SpecProblem> {
    let (Some(folder), None) = (&program.ship, &program.bundle) else {
        return Ok(None);
    };
    let refused = |field: &str, message| SpecProblem {
        path: format!("entrypoint.{field}"),
        message,
    };
    let listed = Listed::of(folder, &program.exclude).map_err(|why| refused("ship", why))?;
    if let Some(working) = program
        .working_directory
        .as_deref()
        .and_then(|of| of.to_str())
    {
        let at = listing::within("", working);
        if !at.is_some_and(|at| at.is_empty() || listed.has(&at)) {
            let shown = folder.display();
            return Err(refused(
                "working_directory",
                format!("`{working}` is not among what is shipped of {shown}"),
            ));
        }
    }
    if let Some(file) = requirements(program)
        && !listing::within("", file).is_some_and(|at| listed.has(&at))
    {
        let shown = folder.display();
        return Err(refused(
            "python.requirements",
            format!("`{file}` is not among what is shipped of {shown}"),
        ));
    }
    let warnings = command::missing(program, &listed);
    Ok(Some(Looked { listed, warnings }))
}

/// The list of packages that is to lie in the shipped folder; one with a reference is not known yet.
fn requirements(program: &EntrypointSpec) -> Option<&str> {
    let file = program.python.as_ref()?.requirements.as_ref()?;
    let file = file.to_str().filter(|_| file.is_relative())?;
    (!file.contains("${")).then_some(file)
}

/// The same for people, without a coordinator.
pub(crate) fn tell(document: &Document) -> Outcome {
    let looked = look(document).map_err(|problem| refusal(&problem))?;
    let Some(looked) = looked else { return Ok(()) };
    print::remark(&format!("ships {}", looked.told()));
    for warning in &looked.warnings {
        print::remark(&format!("warning: {warning}"));
    }
    let most = u64::from(CoordinatorConfig::default().max_bundle_mib) << 20;
    if looked.bytes() > most {
        print::remark(&format!(
            "warning: entrypoint.ship: packed, a coordinator accepts at most {} unless its max_bundle_mib says \
             otherwise; {}",
            text::bytes(most),
            looked.listed.advice()
        ));
    }
    Ok(())
}

fn refusal(problem: &SpecProblem) -> Failure {
    Failure::usage(format!("{}: {}", problem.path, problem.message))
}

/// Submits a job, and before it what it ships.
pub(crate) async fn submit(client: &Client, document: &Document) -> Outcome<v1::SubmitJobResponse> {
    let mut spec = document.to_json();
    let Some((looked, packed)) = packed(document).await? else {
        return client.submit(spec.to_string()).await;
    };
    spec["entrypoint"]["bundle"] = Value::from(packed.digest.as_str());
    let storage = &document.job().checkpoint_storage.url;
    let bundle = Bundle {
        storage_url: storage.clone().unwrap_or_default(),
        digest: packed.digest.clone(),
        bytes: packed.bytes.clone(),
    };
    for _ in 1..TRIES {
        send(client, &looked, &packed, &bundle).await?;
        match client.submit(spec.to_string()).await {
            // Of several things that the state may not allow: is it this one?
            Err(failure)
                if failure.code == Code::Usage && !client.find_bundle(&bundle).await?.found => {}
            answer => return answer,
        }
    }
    send(client, &looked, &packed, &bundle).await?;
    client.submit(spec.to_string()).await
}

/// Before a stored spec is compared with the one of a job that goes on: what was packed stays what was packed, whatever
/// has become of the folder, and the person is told.
pub(crate) fn keep_bundle(stored: &mut Value, document: &Document) {
    let entrypoint = document.job().entrypoint.as_ref();
    let packs = entrypoint.is_some_and(|given| given.ship.is_some() && given.bundle.is_none());
    let kept = stored["entrypoint"].as_object_mut();
    if let (true, Some(kept)) = (packs, kept)
        && let Some(Value::String(digest)) = kept.remove("bundle")
    {
        print::remark(&format!(
            "goes on with the code that was shipped when the job was begun, {}",
            short(&digest)
        ));
    }
}

/// What a job ships, unless it names a bundle already. What is probably not meant is told.
async fn packed(document: &Document) -> Outcome<Option<(Looked, Packed)>> {
    let Some(program) = document.job().entrypoint.clone() else {
        return Ok(None);
    };
    let packing = tokio::task::spawn_blocking(move || {
        let looked = look_at(&program).map_err(|problem| refusal(&problem))?;
        let Some(looked) = looked else {
            return Ok(None);
        };
        for warning in &looked.warnings {
            print::remark(&format!("warning: {warning}"));
        }
        match pack(&looked.listed) {
            Ok(packed) => Ok(Some((looked, packed))),
            Err(why) => Err(Failure::usage(format!("entrypoint.ship: {why}"))),
        }
    });
    match packing.await {
        Ok(packed) => packed,
        Err(error) => Err(Failure::failed(format!("entrypoint.ship: {error}"))),
    }
}

/// Sends a bundle unless it is there already, and says what is shipped.
async fn send(client: &Client, looked: &Looked, packed: &Packed, bundle: &Bundle) -> Outcome {
    let known = client.find_bundle(bundle).await?;
    let length = packed.bytes.len() as u64;
    if length > known.max_bytes {
        return Err(Failure::usage(format!(
            "entrypoint.ship: packed, the folder has {}; the coordinator accepts at most {} (its max_bundle_mib); {}",
            text::bytes(length),
            text::bytes(known.max_bytes),
            looked.listed.advice()
        )));
    }
    let how = match known.found {
        true => "which the coordinator has already".to_owned(),
        false => format!("{} packed", text::bytes(length)),
    };
    print::remark(&format!(
        "ships {}, as {}, {how}",
        looked.told(),
        short(&packed.digest)
    ));
    match known.found {
        true => Ok(()),
        false => client.upload_bundle(bundle).await,
    }
}
