//! The first question on a new connection: whether a Trainyard coordinator answers there at all.
//!
//! A port that accepts proves nothing: the system accepts for a process that stands still, and any other
//! program may listen there. What such a one answers is in no person's words.

use std::error::Error;
use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Code, Status};
use trainyard_proto::v1;
use trainyard_proto::v1::job_service_client::JobServiceClient;

/// How the status of an answer that is no gRPC names the one that it came with.
const HTTP_STATUS: &str = "HTTP status code ";

/// Asks for a job without a name: every coordinator refuses that before it looks at anything.
pub(super) async fn greet(
    service: &JobServiceClient<Channel>,
    limit: Duration,
) -> Result<(), Status> {
    let mut service = service.clone();
    let question = v1::GetJobRequest::default();
    match tokio::time::timeout(limit, service.get_job(question)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(status)) => judged(&status),
        Err(_) => Err(silent(limit)),
    }
}

pub(super) fn silent(limit: Duration) -> Status {
    Status::unavailable(format!("no answer within {} s", limit.as_secs()))
}

/// Whether a coordinator has refused, or something that is none.
fn judged(status: &Status) -> Result<(), Status> {
    let reason = match status.code() {
        Code::Unimplemented | Code::Internal | Code::PermissionDenied | Code::Unauthenticated => {
            match http_status(status.message()) {
                Some(code) => format!("HTTP status {code}"),
                None if status.code() == Code::Unimplemented => {
                    "it does not know this service".to_owned()
                }
                None => root_cause(status),
            }
        }
        Code::Unknown => match http_status(status.message()) {
            Some(code) => format!("HTTP status {code}"),
            None => return Err(Status::unavailable(root_cause(status))),
        },
        // One that does not lead, has too much to do, or has looked at what was asked.
        _ => return Ok(()),
    };
    Err(Status::unavailable(format!(
        "what answers there is no Trainyard coordinator: {reason}"
    )))
}

/// The number of an HTTP status that came without gRPC's own.
fn http_status(message: &str) -> Option<&str> {
    let (_, code) = message.split_once(HTTP_STATUS)?;
    let end = code.find(|c: char| !c.is_ascii_digit());
    Some(&code[..end.unwrap_or(code.len())])
}

/// The innermost message of a chain of errors, where the reason stands.
pub(super) fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    match innermost.downcast_ref::<Status>() {
        Some(status) if status.message().is_empty() => format!("{:?}", status.code()),
        Some(status) => status.message().to_owned(),
        None => innermost.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use tokio::time::Instant;

    use crate::connect::Client;
    use crate::exit::Code;

    /// HTTP/2 frames: settings, their acknowledgement, and headers of stream 1 that end it with a status
    /// of HPACK's static table (RFC 7541, appendix A).
    fn h2_status(index: u8) -> Vec<u8> {
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        let acknowledged = [0, 0, 0, 4, 1, 0, 0, 0, 0];
        let headers = [0, 0, 1, 1, 5, 0, 0, 0, 1, 0x80 | index];
        [&settings[..], &acknowledged, &headers].concat()
    }

    /// A program that answers whoever connects with these bytes and then stays silent until they leave.
    fn stranger(answer: Vec<u8>, then_closes: bool) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = connection.unwrap();
                let mut heard = [0; 4096];
                let mut first = true;
                while matches!(connection.read(&mut heard), Ok(1..)) {
                    if std::mem::take(&mut first) {
                        let _ = connection.write_all(&answer);
                    }
                    if then_closes {
                        break;
                    }
                }
            }
        });
        address
    }

    #[tokio::test]
    async fn another_program_at_the_port_is_told_in_a_persons_words() {
        let http1 = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let cases = [
            (stranger(http1.to_vec(), false), "no Trainyard coordinator"),
            (stranger(h2_status(13), false), "HTTP status 404"),
            (stranger(h2_status(14), false), "HTTP status 500"),
            (stranger(Vec::new(), true), "no coordinator at"),
        ];
        for (address, expected) in cases {
            let failure = Client::connect(&address).await.unwrap_err();
            assert_eq!(failure.code, Code::Unreachable, "{failure}");
            assert!(failure.message.contains(expected), "{failure}");
            assert!(failure.message.contains(&address), "{failure}");
            assert!(failure.message.contains("--coordinator"), "{failure}");
            assert!(!failure.message.contains("grpc-status"), "{failure}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_port_that_accepts_and_says_nothing_is_told_within_the_documented_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let began = Instant::now();
        let failure = Client::connect(&address).await.unwrap_err();
        assert_eq!(failure.code, Code::Unreachable, "{failure}");
        assert!(
            failure.message.contains("no answer within 5 s"),
            "{failure}"
        );
        assert!(began.elapsed().as_secs() <= 5, "{:?}", began.elapsed());
    }
}
