//! What a worker may send, made of bytes: refused, or turned into an event within the limits.

use prost::Message as _;
use trainyard_fuzz::Target;

use super::*;
use crate::grpc::limits::MAX_LINES_PER_BATCH;

#[test]
fn worker_messages() {
    let read = |input: &[u8]| {
        let message = match WorkerMessage::decode(input) {
            Ok(message) => message,
            Err(error) => return error.to_string(),
        };
        match message.message {
            Some(Message::Heartbeat(beat)) => match pulses(beat.pulses) {
                Ok(known) => {
                    assert!(known.len() <= MAX_SLOTS);
                    format!("{} pulses", known.len())
                }
                Err(error) => error.to_string(),
            },
            Some(Message::Register(mut register)) => {
                match secret(std::mem::take(&mut register.secret))
                    .and_then(|_| registration(register))
                {
                    Ok((info, running)) => {
                        assert!((1..=MAX_SLOTS).contains(&info.devices.len()));
                        assert!(running.len() <= MAX_SLOTS);
                        "registered".to_owned()
                    }
                    Err(error) => error.to_string(),
                }
            }
            Some(Message::Reports(batch)) => match reports(batch) {
                Ok(reports) => {
                    assert!(reports.len() <= MAX_REPORTS_PER_BATCH);
                    format!("{} reports", reports.len())
                }
                Err(error) => error.to_string(),
            },
            Some(Message::Logs(batch)) => match log_event(SessionId(7), batch) {
                Ok(Event::Logs { lines, .. }) => {
                    assert!(lines.len() <= MAX_LINES_PER_BATCH);
                    format!("{} lines", lines.len())
                }
                Ok(other) => panic!("{other:?}"),
                Err(error) => error.to_string(),
            },
            Some(Message::Leaving(_)) => "leaving".to_owned(),
            Some(Message::StoreProbed(answer)) => {
                let error = within(answer.error, limits::MAX_ERROR_BYTES);
                assert!(error.len() <= limits::MAX_ERROR_BYTES);
                match limits::name("path", answer.path, limits::MAX_PATH) {
                    Ok(_) => "probed".to_owned(),
                    Err(error) => error.to_string(),
                }
            }
            None => "unknown".to_owned(),
        }
    };
    Target::new("worker-messages", &read).run();
}
