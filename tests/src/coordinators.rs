//! Several coordinators over real etcd members, each in its own process: killed, stopped, cut off.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use trainyard_common::testing::{EtcdCluster, report_skip};

use crate::{Process, Sandbox, program, wait_for};

/// A leader's lease, the shortest that etcd keeps.
pub const LEADER_LEASE_MS: u32 = 2_000;

/// Workers' lease: far above a take-over.
const WORKER_LEASE_MS: u32 = 60_000;

/// Coordinators, etcd, and the folder that all share.
pub struct Coordinators {
    pub sandbox: Sandbox,
    pub etcd: EtcdCluster,
    members: Vec<Member>,
}

struct Member {
    address: String,
    /// What etcd is called from where it runs.
    etcd: Vec<String>,
    /// What the command begins with, to run it elsewhere.
    within: Vec<String>,
    process: Option<Process>,
}

impl Coordinators {
    /// Starts `etcd` members of etcd and `count` coordinators on loopback ports. `None`, and said
    /// loudly, where a component is missing.
    ///
    /// # Errors
    /// Where something does not start.
    pub fn start(test: &str, etcd: usize, count: usize) -> Result<Option<Self>> {
        let Some(mut all) = Self::prepare(test, etcd, count)? else {
            return Ok(None);
        };
        for number in 0..count {
            all.start_one(number)?;
        }
        Ok(Some(all))
    }

    /// As [`Coordinators::start`]; no coordinator runs yet.
    ///
    /// # Errors
    /// Where something does not start.
    pub fn prepare(test: &str, etcd: usize, count: usize) -> Result<Option<Self>> {
        if !knows_etcd()? {
            report_skip(test, "the coordinator was built without its feature `etcd`");
            return Ok(None);
        }
        let Some(etcd) = EtcdCluster::start(test, etcd) else {
            return Ok(None);
        };
        let members = free_addresses(count)?.into_iter().map(|address| Member {
            address,
            etcd: etcd.endpoints(),
            within: Vec::new(),
            process: None,
        });
        let members: Vec<Member> = members.collect();
        let mut all = Self {
            sandbox: Sandbox::new()?,
            etcd,
            members,
        };
        all.told_to_clients();
        Ok(Some(all))
    }

    /// Lets one coordinator run behind `within` (such as `ip netns exec NAME`), where it listens on
    /// `address` and reaches etcd under other names. Before it starts.
    pub fn place(&mut self, number: usize, within: &[&str], address: &str, etcd: Vec<String>) {
        let member = &mut self.members[number];
        member.within = within.iter().map(|word| (*word).to_owned()).collect();
        address.clone_into(&mut member.address);
        member.etcd = etcd;
        self.told_to_clients();
    }

    fn told_to_clients(&mut self) {
        let addresses: Vec<&str> = self.members.iter().map(|m| m.address.as_str()).collect();
        self.sandbox.address = addresses.join(",");
    }

    pub fn address(&self, number: usize) -> &str {
        &self.members[number].address
    }

    /// Starts one that does not run, and waits until it answers calls.
    ///
    /// # Errors
    /// Where it ends at once.
    pub fn start_one(&mut self, number: usize) -> Result<()> {
        let folder = self.sandbox.path().to_owned();
        let port_file = folder.join(format!("port-{number}"));
        let _ = std::fs::remove_file(&port_file);
        let member = &mut self.members[number];
        let coordinator = program("coordinator")?;
        let mut command = match member.within.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(coordinator);
                command
            }
            None => Command::new(coordinator),
        };
        command
            .args(["--listen", &member.address])
            .args(["--etcd", &member.etcd.join(",")])
            .args(["--leader-lease-ms", &LEADER_LEASE_MS.to_string()])
            .args(["--worker-lease-ms", &WORKER_LEASE_MS.to_string()])
            .args(["--checkpoint-url", &shared_store(&folder)])
            .arg("--port-file")
            .arg(&port_file);
        let name = format!("coordinator-{number}");
        let mut process = Process::spawn(&name, command, &folder)?;
        wait_for(&format!("{name} to listen"), || {
            if let Some(status) = process.child.try_wait()? {
                bail!("{name} ended ({status}):\n{}", process.log());
            }
            Ok(port_file.exists().then_some(()))
        })?;
        member.process = Some(process);
        Ok(())
    }

    /// The coordinator that leads by etcd's word, if one does.
    ///
    /// # Errors
    /// Where no member of etcd runs.
    pub fn leader(&self) -> Result<Option<usize>> {
        // Among members that have just lost one of theirs, none may answer yet.
        let value = self.etcd.value("/trainyard/leader").ok().flatten();
        let value = value.unwrap_or_default();
        let address = value.rsplit(' ').next().unwrap_or_default();
        Ok(self.members.iter().position(|m| m.address == address))
    }

    /// Waits until another than `former` leads.
    ///
    /// # Errors
    /// When that does not come about.
    pub fn next_leader(&self, former: Option<usize>) -> Result<usize> {
        wait_for("a coordinator to lead", || {
            Ok(self.leader()?.filter(|leader| Some(*leader) != former))
        })
    }

    /// The process of one that runs.
    ///
    /// # Errors
    /// Where it does not.
    pub fn process(&mut self, number: usize) -> Result<&mut Process> {
        let process = self.members[number].process.as_mut();
        process.with_context(|| format!("coordinator-{number} does not run"))
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn kill(&mut self, number: usize) -> Result<()> {
        let process = self.members[number].process.take();
        process.context("it does not run")?.kill()
    }

    /// SIGTERM, and waits for its end, which must be in order.
    ///
    /// # Errors
    /// Where it does not run, or ends otherwise.
    pub fn terminate(&mut self, number: usize) -> Result<()> {
        let process = self.members[number].process.take();
        let mut process = process.context("it does not run")?;
        process.signal(libc::SIGTERM)?;
        let status = process.wait()?;
        ensure!(status.success(), "{status}\n{}", process.log());
        Ok(())
    }
}

/// Where checkpoints, metrics and logs of all lie.
fn shared_store(folder: &Path) -> String {
    format!("file://{}", folder.join("store").display())
}

/// Whether the coordinator was built with its store for several.
fn knows_etcd() -> Result<bool> {
    let output = Command::new(program("coordinator")?)
        .args(["--etcd", "no-url", "--checkpoint-url", "file:///nowhere"])
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(said.contains("etcd"), "it refuses what is no URL: {said}");
    Ok(!said.contains("built without etcd"))
}

fn free_addresses(count: usize) -> Result<Vec<String>> {
    // All open at one time, so that they differ.
    let listeners: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<std::io::Result<_>>()?;
    let address = |listener: &TcpListener| Ok(listener.local_addr()?.to_string());
    listeners.iter().map(address).collect()
}

/// Passes connections on to another address, until the end of the process.
///
/// # Errors
/// Where nothing can be listened on there.
pub fn forward(listen: &str, to: SocketAddr) -> Result<SocketAddr> {
    use std::net::{Shutdown, TcpStream};
    let listener = TcpListener::bind(listen).with_context(|| format!("listen on {listen}"))?;
    let address = listener.local_addr()?;
    let pump = |mut from: TcpStream, mut to: TcpStream| {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    };
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let Ok(far) = TcpStream::connect(to) else {
                continue;
            };
            if let (Ok(near_again), Ok(far_again)) = (near.try_clone(), far.try_clone()) {
                std::thread::spawn(move || pump(near, far));
                std::thread::spawn(move || pump(far_again, near_again));
            }
        }
    });
    Ok(address)
}
