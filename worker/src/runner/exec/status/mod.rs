//! An endpoint on loopback for programs that report as to Kubeflow Trainer. Hugging Face's Transformers does so by
//! itself where `KUBEFLOW_TRAINER_SERVER_URL` is set: its scripts report without a changed line.
//!
//! What updates say is read in [`wire`] and becomes reports in [`turn`]. Bounded are connections, bodies, and the time
//! that a request may take.

mod turn;
mod wire;

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::telling::Telling;
use turn::Turning;

/// Where updates go; a program whose spec sets it reports elsewhere.
pub(super) const URL: &str = "KUBEFLOW_TRAINER_SERVER_URL";
/// The path of the file with the token.
const TOKEN_FILE: &str = "KUBEFLOW_TRAINER_SERVER_TOKEN";
/// One process sends one update at a time.
const MAX_CONNECTIONS: usize = 8;
/// An update of as many metrics as one may have takes some 30 KiB.
const MAX_BODY_BYTES: usize = 256 << 10;
/// What hyper needs at least for a request's head.
const MAX_HEAD_BYTES: usize = 8 << 10;
/// Programs wait for five seconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a connection could not be accepted (no descriptors are left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An open endpoint. Dropped, it serves nobody any more.
#[derive(Debug)]
pub(super) struct StatusServer {
    url: String,
    token_file: PathBuf,
    closing: CancellationToken,
    serving: JoinHandle<()>,
}

/// What the connections of an attempt share.
struct Shared {
    telling: Arc<Telling>,
    authorization: String,
    /// Held until an update is told, so that they are told in their order.
    turning: tokio::sync::Mutex<Turning>,
}

impl StatusServer {
    /// Opens the endpoint of an attempt whose program is about to start. `token_file` has its token in it.
    pub(super) async fn open(
        telling: &Arc<Telling>,
        token: &str,
        token_file: PathBuf,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("http://{}/", listener.local_addr()?);
        let shared = Arc::new(Shared {
            telling: telling.clone(),
            authorization: format!("Bearer {token}"),
            turning: tokio::sync::Mutex::default(),
        });
        let closing = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, shared, closing.clone()));
        Ok(Self {
            url,
            token_file,
            closing,
            serving,
        })
    }

    /// How the program finds it.
    pub(super) fn environment(&self) -> [(&'static str, String); 2] {
        let token_file = self.token_file.display().to_string();
        [(URL, self.url.clone()), (TOKEN_FILE, token_file)]
    }

    /// Accepts nobody any more; the task ends once all that was said is told.
    pub(super) fn close(&mut self) -> &mut JoinHandle<()> {
        self.closing.cancel();
        &mut self.serving
    }
}

impl Drop for StatusServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>, closing: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(_) = connections.join_next() => {}
            () = closing.cancelled() => break,
            // Others wait in the queue of the listener.
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, shared.clone()));
                }
                Err(error) => {
                    tracing::debug!(%error, "a program's connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(answer(request, &shared).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .keep_alive(false)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::debug!(%error, "a program's update could not be read");
    }
}

async fn answer(request: Request<Incoming>, shared: &Shared) -> Response<Full<Bytes>> {
    let (status, text) = match take(request, shared).await {
        Ok(()) => (StatusCode::OK, "{}".to_owned()),
        Err((status, why)) => {
            tracing::debug!(%status, why, "a program's update is refused");
            (status, serde_json::json!({"message": why}).to_string())
        }
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}

async fn take(request: Request<Incoming>, shared: &Shared) -> Result<(), (StatusCode, String)> {
    let refused = |status, why: &str| Err((status, why.to_owned()));
    let given = request.headers().get(AUTHORIZATION);
    if given.map(|given| given.as_bytes()) != Some(shared.authorization.as_bytes()) {
        let why = "the token is not this attempt's";
        return refused(StatusCode::UNAUTHORIZED, why);
    }
    if request.method() != Method::POST {
        return refused(StatusCode::METHOD_NOT_ALLOWED, "expected POST");
    }
    let body = Limited::new(request.into_body(), MAX_BODY_BYTES).collect();
    let body = match tokio::time::timeout(PATIENCE, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) => {
            let why = format!("at most {MAX_BODY_BYTES} bytes are accepted: {error}");
            return Err((StatusCode::PAYLOAD_TOO_LARGE, why));
        }
        Err(_) => return refused(StatusCode::REQUEST_TIMEOUT, "the body does not come"),
    };
    let telling = &shared.telling;
    let update = wire::read(&body, telling.reporter.mask());
    let update = update.map_err(|why| (StatusCode::BAD_REQUEST, why))?;
    telling.reporter.activity.sign();
    let mut turning = shared.turning.lock().await;
    // Also what does not count is known then.
    match turning.turn(&update) {
        _ if telling.has_reported() || telling.has_channel() => {}
        None => {}
        Some(turn::Turned::Epoch(said)) => telling.update(said).await,
        Some(turn::Turned::Within {
            epoch,
            step,
            metrics,
        }) => telling.within(epoch, step, metrics).await,
    }
    Ok(())
}
