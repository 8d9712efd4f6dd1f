//! The worker's half of proving that it and the coordinator see the same checkpoint store.

use std::sync::Arc;

use trainyard_common::store_url::{check_probe, is_memory, redacted};
use trainyard_proto::v1::{ProbeStore, StoreProbed};

use crate::runner::Host;

/// Reads what the coordinator wrote, writes the reply, and says how it went.
pub(super) async fn answer(request: ProbeStore, host: Arc<Host>) -> StoreProbed {
    let ProbeStore {
        url,
        path,
        content,
        reply_path,
    } = request;
    let result = if is_memory(&url) && !host.single_process {
        Err("memory:// is not shared between processes".to_owned())
    } else {
        // Bounded in time by itself.
        check_probe(&url, &path, &content, &reply_path)
            .await
            .map_err(|error| error.to_string())
    };
    if let Err(error) = &result {
        tracing::warn!(url = %redacted(&url), %error, "the checkpoint store is out of this worker's reach");
    }
    StoreProbed {
        url,
        path,
        error: result.err().unwrap_or_default(),
    }
}
