//! Open calls: each client may have so many at one time, over all its connections.
//!
//! A call counts from its first byte to the last of its answer, so that streams count for as long as they
//! are open.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Bytes, Service, http};
use tonic::server::NamedService;
use tonic::transport::server::TcpConnectInfo;

use super::receiving::Receiving;
use crate::clients::{Client, Held, Tally};

/// A service whose calls are counted, and what they hold until it is answered.
#[derive(Debug, Clone)]
pub(super) struct Counted<S> {
    service: S,
    calls: Arc<Tally>,
    receiving: Receiving,
}

impl<S> Counted<S> {
    pub(super) fn new(service: S, calls: &Arc<Tally>, receiving: Receiving) -> Self {
        Self {
            service,
            calls: Arc::clone(calls),
            receiving,
        }
    }
}

impl<S: NamedService> NamedService for Counted<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Counted<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let client = client(request.extensions());
        let held = match self.calls.enter(client) {
            Ok(held) => held,
            Err(full) => {
                let status = Status::resource_exhausted(format!("too many open calls: {full}"));
                return Box::pin(async move { Ok(status.into_http()) });
            }
        };
        let (request, kept) = self.receiving.count(request, client);
        let answer = self.service.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            drop(kept);
            Ok(answer.map(|body| Body::new(HeldBody { body, _held: held })))
        })
    }
}

/// Who asks.
pub(super) fn client(extensions: &http::Extensions) -> Client {
    let connection = extensions.get::<TcpConnectInfo>();
    Client::at(connection.and_then(TcpConnectInfo::remote_addr))
}

/// An answer that counts until it is told or nobody wants it any more.
struct HeldBody {
    body: Body,
    _held: Held,
}

impl http_body::Body for HeldBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::grpc::receiving::Patience;

    #[derive(Clone)]
    struct Answers;

    impl Service<http::Request<Body>> for Answers {
        type Response = http::Response<Body>;
        type Error = Infallible;
        type Future = std::future::Ready<Result<Self::Response, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: http::Request<Body>) -> Self::Future {
            std::future::ready(Ok(http::Response::new(Body::new(Open))))
        }
    }

    /// An answer that goes on.
    struct Open;

    impl http_body::Body for Open {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Pending
        }
    }

    fn from(address: &str) -> http::Request<Body> {
        let mut request = http::Request::new(Body::empty());
        request.extensions_mut().insert(TcpConnectInfo {
            local_addr: None,
            remote_addr: Some(address.parse().unwrap()),
        });
        request
    }

    #[tokio::test]
    async fn a_call_counts_until_its_answer_is_gone() {
        let receiving = Receiving {
            room: Tally::new(1, 1),
            most: |_| 1,
            patience: Patience::Request(Duration::from_secs(10)),
        };
        let mut service = Counted::new(Answers, &Tally::new(3, 2), receiving);
        let refused = |answer: &http::Response<Body>| answer.headers().contains_key("grpc-status");
        let first = service.call(from("10.0.0.1:1")).await.unwrap();
        let second = service.call(from("10.0.0.1:2")).await.unwrap();
        assert!(!refused(&first) && !refused(&second));
        let third = service.call(from("10.0.0.1:3")).await.unwrap();
        assert_eq!(third.headers()["grpc-status"], "8");
        // Another client is served meanwhile.
        let other = service.call(from("10.0.0.2:1")).await.unwrap();
        assert!(!refused(&other));
        drop(first);
        let again = service.call(from("10.0.0.1:4")).await.unwrap();
        assert!(!refused(&again));
    }
}
