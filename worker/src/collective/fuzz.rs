//! What comes over a connection between ranks, from whoever has found the port.

use std::io::ErrorKind;

use trainyard_fuzz::Target;

use super::wire::{self, Hello, Reply};

/// As it is, and with checksums that fit: behind them is what a rank of another program would send.
#[test]
fn frames() {
    let read = |input: &[u8]| {
        let mut told = stream(input);
        if input.len() >= wire::HEADER_BYTES {
            let mut signed = input.to_vec();
            wire::sign_frame(&mut signed);
            told += &stream(&signed);
        }
        told
    };
    let words = [
        "TYCF",
        "\u{1}\u{0}\u{0}\u{0}",
        "\u{5}\u{0}\u{0}\u{0}",
        "\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}",
    ];
    // Room for a payload is made up to `READ_BYTES` before it is there.
    let memory = wire::READ_BYTES + (1 << 20);
    Target::new("frames", &read)
        .words(&words)
        .memory(memory)
        .run();
}

fn stream(mut rest: &[u8]) -> String {
    let mut told = String::new();
    loop {
        let before = rest;
        match wire::read_frame(&mut rest) {
            Ok(frame) => {
                let length = before.len() - rest.len();
                let mut again = wire::open_frame(frame.payload.len());
                again.extend(&frame.payload);
                wire::seal_frame(&mut again, frame.kind, frame.sequence);
                wire::sign_frame(&mut again);
                assert_eq!(again, before[..length], "one way to write a frame");
                told.push_str(&format!("{:?} ", frame.kind));
            }
            Err(error) => {
                let kinds = [ErrorKind::InvalidData, ErrorKind::UnexpectedEof];
                assert!(kinds.contains(&error.kind()), "{error}");
                return told + &error.to_string();
            }
        }
    }
}

#[test]
fn rendezvous() {
    let read = |input: &[u8]| {
        let Some((head, rest)) = input.split_first_chunk() else {
            return "short".to_owned();
        };
        let length = match wire::handshake_length(head) {
            Ok(length) => length,
            Err(error) => return error.to_string(),
        };
        let Some(body) = rest.get(..length) else {
            return "cut short".to_owned();
        };
        let hello = serde_json::from_slice::<Hello>(body).map_err(|error| error.to_string());
        let reply = serde_json::from_slice::<Reply>(body).map_err(|error| error.to_string());
        if let Ok(hello) = &hello {
            let again = serde_json::to_vec(hello).unwrap();
            assert_eq!(
                serde_json::from_slice::<Hello>(&again).ok().as_ref(),
                Some(hello)
            );
        }
        format!("{:?} {:?}", hello.map(drop), reply.map(drop))
    };
    let words = [
        "TYCW",
        "\"protocol\":",
        "\"rank\":",
        "\"welcome\"",
        "{\"refused\":{\"reason\":\"\"}}",
        "null",
        "-1",
    ];
    Target::new("rendezvous", &read).words(&words).run();
}
