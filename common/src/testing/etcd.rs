//! Real etcd members on free loopback ports, for tests: started, killed, stopped, gone on, restarted.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Where Debian's `etcd-server` puts it.
const PROGRAM: &str = "/usr/bin/etcd";

/// How long a cluster may take to elect a leader: a busy machine with slow disks.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Ports are free when they are chosen, not always when they are used.
const PORT_ATTEMPTS: usize = 5;

/// A cluster of etcd members. Ends, with its data, when it is dropped.
#[derive(Debug)]
pub struct EtcdCluster {
    folder: PathBuf,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    client: SocketAddr,
    arguments: Vec<String>,
    process: Option<Child>,
    log: PathBuf,
}

impl EtcdCluster {
    /// Starts `members` members and waits until they take requests. `None`, and said loudly, where
    /// etcd is not installed.
    ///
    /// # Panics
    /// Where etcd does not start: with what it logged.
    pub fn start(test: &str, members: usize) -> Option<Self> {
        Self::start_with(test, members, &[])
    }

    /// As [`EtcdCluster::start`], with further flags for each member.
    pub fn start_with(test: &str, members: usize, flags: &[&str]) -> Option<Self> {
        if !Path::new(PROGRAM).exists() {
            let reason = format!("{PROGRAM} is missing (Debian package etcd-server)");
            super::report_skip(test, &reason);
            return None;
        }
        for attempt in 1.. {
            let mut cluster = Self::prepare(members, flags);
            for number in 0..members {
                cluster.restart(number);
            }
            match cluster.wait_healthy() {
                Ok(()) => return Some(cluster),
                Err(problem) if attempt == PORT_ATTEMPTS => panic!("{problem}"),
                Err(problem) => eprintln!("etcd did not start, trying other ports: {problem}"),
            }
        }
        None
    }

    fn prepare(members: usize, flags: &[&str]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("trainyard-etcd-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder for etcd");
        let clients = free_ports(members);
        let peers = free_ports(members);
        let peer = |number: usize| format!("http://{}", peers[number]);
        let all: Vec<_> = (0..members).map(|n| format!("m{n}={}", peer(n))).collect();
        let member = |number: usize| {
            let url = format!("http://{}", clients[number]);
            let data = folder.join(format!("m{number}"));
            let mut arguments: Vec<String> = [
                ("--name", format!("m{number}")),
                ("--data-dir", data.display().to_string()),
                ("--listen-client-urls", url.clone()),
                ("--advertise-client-urls", url),
                ("--listen-peer-urls", peer(number)),
                ("--initial-advertise-peer-urls", peer(number)),
                ("--initial-cluster", all.join(",")),
                (
                    "--initial-cluster-token",
                    format!("token-{}", peers[0].port()),
                ),
            ]
            .into_iter()
            .flat_map(|(flag, value)| [flag.to_owned(), value])
            .collect();
            arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
            Member {
                client: clients[number],
                arguments,
                process: None,
                log: folder.join(format!("m{number}.log")),
            }
        };
        Self {
            members: (0..members).map(member).collect(),
            folder,
        }
    }

    /// `http://127.0.0.1:PORT` of each member.
    pub fn endpoints(&self) -> Vec<String> {
        let url = |member: &Member| format!("http://{}", member.client);
        self.members.iter().map(url).collect()
    }

    /// Kills a member at once.
    pub fn kill(&mut self, member: usize) {
        if let Some(mut process) = self.members[member].process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Makes a member stand still, with its connections open (SIGSTOP).
    pub fn stop(&self, member: usize) {
        self.signal(member, "-STOP");
    }

    /// Lets a stopped member go on.
    pub fn go_on(&self, member: usize) {
        self.signal(member, "-CONT");
    }

    fn signal(&self, member: usize, signal: &str) {
        let process = self.members[member].process.as_ref();
        let id = process.expect("the member runs").id().to_string();
        let done = Command::new("kill").args([signal, &id]).status();
        assert!(
            done.is_ok_and(|status| status.success()),
            "kill {signal} {id}"
        );
    }

    /// Starts a member that does not run, with the data that it had.
    pub fn restart(&mut self, member: usize) {
        let member = &mut self.members[member];
        if member.process.is_some() {
            return;
        }
        let open = || {
            let mut options = std::fs::OpenOptions::new();
            options.create(true).append(true).open(&member.log)
        };
        let mut command = Command::new(PROGRAM);
        command
            .args(&member.arguments)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(open().expect("a log for etcd"))
            .stderr(open().expect("a log for etcd"));
        member.process = Some(command.spawn().expect("etcd starts"));
    }

    /// How often a member has logged `text`.
    pub fn logged(&self, member: usize, text: &str) -> usize {
        let log = std::fs::read(&self.members[member].log).unwrap_or_default();
        String::from_utf8_lossy(&log).matches(text).count()
    }

    /// Number of the member that leads, if one says so.
    pub fn leader(&self) -> Option<usize> {
        let leads = |member: &Member| {
            let metrics = get(member.client, "/metrics").unwrap_or_default();
            metrics
                .lines()
                .any(|line| line == "etcd_server_is_leader 1")
        };
        (0..self.members.len()).find(|number| leads(&self.members[*number]))
    }

    /// What a key holds, by the word of the first member that answers; `None` where it holds nothing.
    ///
    /// # Errors
    /// Where no member answers.
    pub fn value(&self, key: &str) -> Result<Option<String>, String> {
        let question = format!(r#"{{"key":"{}"}}"#, base64(key.as_bytes()));
        let mut said = "no member runs".to_owned();
        for member in self.members.iter().filter(|m| m.process.is_some()) {
            match post(member.client, "/v3/kv/range", &question) {
                Ok(answer) if answer.contains(" 200 ") => {
                    let value = answer.split_once(r#""value":""#);
                    let value = value.and_then(|(_, rest)| rest.split_once('"'));
                    return Ok(value.map(|(value, _)| text_of(value)));
                }
                Ok(answer) => said = answer,
                Err(error) => said = error.to_string(),
            }
        }
        Err(said)
    }

    /// Waits until every member that runs is healthy.
    pub fn wait_healthy(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + START_DEADLINE;
        for member in &mut self.members {
            while let Some(process) = &mut member.process {
                let ended = process.try_wait().ok().flatten().is_some();
                let answer = get(member.client, "/health").unwrap_or_default();
                if answer.contains(r#""health":"true""#) {
                    break;
                }
                if ended || Instant::now() > deadline {
                    let log = std::fs::read_to_string(&member.log).unwrap_or_default();
                    let tail: Vec<_> = log.lines().rev().take(20).collect();
                    return Err(format!(
                        "etcd is not healthy; newest first:\n{}",
                        tail.join("\n")
                    ));
                }
                std::thread::sleep(LOOK);
            }
        }
        Ok(())
    }
}

impl Drop for EtcdCluster {
    fn drop(&mut self) {
        for number in 0..self.members.len() {
            self.kill(number);
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn free_ports(count: usize) -> Vec<SocketAddr> {
    // All open at one time, so that they differ.
    let listeners: Vec<_> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"))
        .collect();
    let address = |listener: &TcpListener| listener.local_addr().expect("an address");
    listeners.iter().map(address).collect()
}

/// The answer to a plain HTTP GET.
fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    ask(
        address,
        &format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n"),
    )
}

/// The answer to a POST of JSON.
fn post(address: SocketAddr, path: &str, json: &str) -> std::io::Result<String> {
    let length = json.len();
    ask(
        address,
        &format!(
            "POST {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{json}"
        ),
    )
}

fn ask(address: SocketAddr, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// etcd's JSON has keys and values in base64.
fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = [0; 3];
        group[..chunk.len()].copy_from_slice(chunk);
        let group = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for place in 0..4 {
            let digit = (group >> (18 - 6 * place)) as usize & 63;
            let padding = place > chunk.len();
            text.push(if padding {
                '='
            } else {
                char::from(BASE64[digit])
            });
        }
    }
    text
}

fn text_of(base64: &str) -> String {
    let mut bytes = Vec::new();
    let (mut group, mut bits) = (0_u32, 0);
    let digits = base64.bytes().filter_map(|byte| {
        let digit = BASE64.iter().position(|digit| *digit == byte)?;
        u32::try_from(digit).ok()
    });
    for digit in digits {
        group = group << 6 | digit;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((group >> bits) as u8);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 4648, section 10.
    #[test]
    fn base64_is_the_standard_s() {
        for (text, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(text.as_bytes()), encoded);
            assert_eq!(text_of(encoded), text);
        }
    }
}
