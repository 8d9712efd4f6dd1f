//! A way to an etcd member that tests cut, and let fall silent.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct State {
    /// Connections of an earlier one are closed.
    generation: u64,
    /// What is said stays here.
    silent: bool,
}

/// Passes connections on.
pub(super) struct Proxy {
    pub(super) url: String,
    state: watch::Sender<State>,
    _task: AbortOnDropHandle<()>,
}

impl Proxy {
    /// To a member, by its URL.
    pub(super) async fn start(member: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let to = member.trim_start_matches("http://").to_owned();
        let state = watch::Sender::new(State::default());
        let followed = state.subscribe();
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(&to).await else {
                    continue;
                };
                let ((from_near, to_near), (from_far, to_far)) =
                    (near.into_split(), far.into_split());
                let generation = followed.borrow().generation;
                let (there, back) = (followed.clone(), followed.clone());
                tokio::spawn(pass(from_near, to_far, there, generation));
                tokio::spawn(pass(from_far, to_near, back, generation));
            }
        });
        Self {
            url,
            state,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// Closes every connection.
    pub(super) fn cut(&self) {
        self.state.send_modify(|state| state.generation += 1);
    }

    /// Connections stay open, but nothing passes; or passes again.
    pub(super) fn set_silent(&self, silent: bool) {
        self.state.send_modify(|state| state.silent = silent);
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<State>,
    generation: u64,
) {
    let mut buffer = vec![0; 16 * 1024];
    let mut closed = state.clone();
    let passing = async {
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            if state.wait_for(|state| !state.silent).await.is_err()
                || to.write_all(&buffer[..length]).await.is_err()
            {
                break;
            }
        }
    };
    tokio::select! {
        () = passing => {}
        _ = closed.wait_for(|state| state.generation != generation) => {}
    }
}
