//! Network namespaces: a process runs behind a wire that a test cuts, in one direction or both.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, ensure};

/// A hardware address that nobody has: what is sent to it is lost on the wire, and nobody is told.
const NOBODY: &str = "02:00:00:00:00:01";

/// A namespace with its wires. Removed when dropped.
pub struct Namespace {
    name: String,
    wires: Vec<Wire>,
}

/// One way out of the namespace: a network of two addresses.
struct Wire {
    near: String,
    far: String,
    here: String,
    there: String,
}

/// In which direction nothing passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    Both,
    /// What those in the namespace send is lost.
    Out,
    /// What is sent to them is.
    In,
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.success(),
        "ip {}: {said}",
        arguments.join(" ")
    );
    Ok(())
}

impl Namespace {
    /// # Errors
    /// Where this is not root, or `ip` is missing.
    pub fn create(wires: usize) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let process = std::process::id();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut namespace = Self {
            name: format!("ty{process}n{number}"),
            wires: Vec::new(),
        };
        let name = namespace.name.clone();
        ip(&["netns", "add", &name])?;
        ip(&["-n", &name, "link", "set", "lo", "up"])?;
        for at in 0..wires {
            static NETWORK: AtomicU32 = AtomicU32::new(0);
            let network = NETWORK.fetch_add(1, Ordering::Relaxed) % 64;
            // RFC 2544 sets 198.18.0.0/15 apart for tests; tests of several processes may run at once.
            let (high, low) = (18 + (process >> 8 & 1), process & 255);
            let address = |host: u32| format!("198.{high}.{low}.{}", 4 * network + host);
            let wire = Wire {
                near: format!("{name}w{at}"),
                far: format!("{name}w{at}f"),
                here: address(1),
                there: address(2),
            };
            namespace.wires.push(wire);
            namespace.lay(at)?;
        }
        Ok(namespace)
    }

    fn lay(&self, at: usize) -> Result<()> {
        let (name, wire) = (&self.name, &self.wires[at]);
        let (near, far) = (&wire.near, &wire.far);
        ip(&["link", "add", near, "type", "veth", "peer", "name", far])?;
        ip(&["link", "set", far, "netns", name])?;
        let (here, there) = (format!("{}/30", wire.here), format!("{}/30", wire.there));
        ip(&["addr", "add", &here, "dev", near])?;
        ip(&["-n", name, "addr", "add", &there, "dev", far])?;
        ip(&["link", "set", near, "up"])?;
        ip(&["-n", name, "link", "set", far, "up"])
    }

    /// What a command begins with, to run in here.
    pub fn within(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.name]
    }

    /// What those in the namespace call this side of a wire.
    pub fn here(&self, wire: usize) -> &str {
        &self.wires[wire].here
    }

    /// What this side calls those in the namespace.
    pub fn there(&self, wire: usize) -> &str {
        &self.wires[wire].there
    }

    /// From now on what is sent is lost; connections stay open.
    ///
    /// # Errors
    /// Where `ip` fails.
    pub fn cut(&self, wire: usize, cut: Cut) -> Result<()> {
        let Wire {
            near,
            far,
            here,
            there,
        } = &self.wires[wire];
        let lost = |of: &[&str], to: &str, dev: &str| {
            let to_nobody = ["neigh", "replace", to, "lladdr", NOBODY];
            let fixed = ["dev", dev, "nud", "permanent"];
            ip(&[of, &to_nobody[..], &fixed[..]].concat())
        };
        match cut {
            Cut::Both => ip(&["link", "set", near, "down"]),
            Cut::Out => lost(&["-n", &self.name], here, far),
            Cut::In => lost(&[], there, near),
        }
    }

    /// Mends what was cut.
    ///
    /// # Errors
    /// Where `ip` fails.
    pub fn mend(&self, wire: usize, cut: Cut) -> Result<()> {
        let wire = &self.wires[wire];
        match cut {
            Cut::Both => ip(&["link", "set", &wire.near, "up"]),
            Cut::Out => {
                let of = ["-n", &self.name, "neigh", "del", &wire.here];
                ip(&[&of[..], &["dev", &wire.far]].concat())
            }
            Cut::In => ip(&["neigh", "del", &wire.there, "dev", &wire.near]),
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        for wire in &self.wires {
            let _ = ip(&["link", "del", &wire.near]);
        }
        let _ = ip(&["netns", "del", &self.name]);
    }
}
