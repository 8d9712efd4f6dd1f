//! `entrypoint.ship`: a folder is packed when its job is submitted, and sent where the job's workers find it.
//!
//! What was packed is named by its digest, which goes into the stored spec: whatever becomes of the folder, each
//! attempt runs the same code.

mod exclude;
mod pack;
mod pattern;

use serde_json::Value;
use trainyard_common::bundle::short;
use trainyard_common::spec::Document;
use trainyard_proto::v1;

use crate::connect::{Bundle, Client};
use crate::exit::{Code, Failure, Outcome};
use crate::print;
use crate::view::text;
use pack::{Packed, pack};

/// Times that a bundle is sent that is gone again when the job comes: one that no job names may be removed.
const TRIES: u32 = 3;

/// Submits a job, and before it what it ships.
pub(crate) async fn submit(client: &Client, document: &Document) -> Outcome<v1::SubmitJobResponse> {
    let mut spec = document.to_json();
    let Some(packed) = packed(document).await? else {
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
        send(client, &packed, &bundle).await?;
        match client.submit(spec.to_string()).await {
            // Of several things that the state may not allow: is it this one?
            Err(failure)
                if failure.code == Code::Usage && !client.find_bundle(&bundle).await?.found => {}
            answer => return answer,
        }
    }
    send(client, &packed, &bundle).await?;
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

/// What a job ships, unless it names a bundle already.
async fn packed(document: &Document) -> Outcome<Option<Packed>> {
    let Some(entrypoint) = &document.job().entrypoint else {
        return Ok(None);
    };
    let (Some(folder), None) = (&entrypoint.ship, &entrypoint.bundle) else {
        return Ok(None);
    };
    let (folder, exclude) = (folder.clone(), entrypoint.exclude.clone());
    let packing = tokio::task::spawn_blocking(move || {
        pack(&folder, &exclude).map_err(|why| Failure::usage(format!("entrypoint.ship: {why}")))
    });
    match packing.await {
        Ok(packed) => packed.map(Some),
        Err(error) => Err(Failure::failed(format!("entrypoint.ship: {error}"))),
    }
}

/// Sends a bundle unless it is there already, and says what is shipped.
async fn send(client: &Client, packed: &Packed, bundle: &Bundle) -> Outcome {
    let known = client.find_bundle(bundle).await?;
    let length = packed.bytes.len() as u64;
    if length > known.max_bytes {
        return Err(Failure::usage(format!(
            "entrypoint.ship: packed, the folder has {}; the coordinator accepts at most {} (its max_bundle_mib); {}",
            text::bytes(length),
            text::bytes(known.max_bytes),
            packed.advice()
        )));
    }
    let how = match known.found {
        true => "which the coordinator has already".to_owned(),
        false => format!("{} packed", text::bytes(length)),
    };
    print::remark(&format!(
        "ships {} files, {}, as {}, {how}",
        packed.files,
        text::bytes(packed.size),
        short(&packed.digest)
    ));
    match known.found {
        true => Ok(()),
        false => client.upload_bundle(bundle).await,
    }
}
