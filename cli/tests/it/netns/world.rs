//! Machines with network namespaces of their own, addresses of 100.64.0.0/10, and a bridge between them.
//!
//! Each namespace has no name and lives as long as a process of ours that reads its standard input. So nothing is left behind, however
//! the test ends: when the test is gone the process is, and with it the namespace and every interface in it.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long the kernel may take to make a namespace.
const MADE_WITHIN: Duration = Duration::from_secs(10);

/// A network namespace.
struct Space(Child);

impl Drop for Space {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Space {
    fn new() -> Result<Self, String> {
        let held = Command::new("unshare")
            .args(["--net", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut space = Self(held.map_err(|e| format!("unshare: {e}"))?);
        let of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net"));
        let began = Instant::now();
        loop {
            if let Ok(Some(status)) = space.0.try_wait() {
                return Err(format!(
                    "no network namespace can be made: unshare ended with {status}"
                ));
            }
            let (own, its) = (of("self"), of(&space.0.id().to_string()));
            if let (Ok(own), Ok(its)) = (own, its)
                && own != its
            {
                return Ok(space);
            }
            if began.elapsed() > MADE_WITHIN {
                return Err("no network namespace within 10 s".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    // Another command, with its arguments and environment, but inside.
    fn within(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside
            .arg(format!("--net=/proc/{}/ns/net", self.0.id()))
            .arg("--")
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::null());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }

    fn run(&self, words: &[&str], input: &str) -> Result<(), String> {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        let mut child = self
            .within(&command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("{words:?}: {e}"))?;
        child
            .stdin
            .take()
            .ok_or("its input is piped")?
            .write_all(input.as_bytes())
            .map_err(|e| format!("{words:?}: {e}"))?;
        let out: Output = child.wait_with_output().map_err(|e| format!("{words:?}: {e}"))?;
        if out.status.success() {
            Ok(())
        } else {
            Err(format!("{words:?}: {}", crate::said(&out)))
        }
    }
}

/// The bridge and the machines on it.
pub(super) struct World {
    // The bridge goes with its namespace.
    _hub: Space,
    machines: Vec<(&'static str, Space)>,
}

/// The address of a machine by its place.
pub(super) fn address(at: usize) -> String {
    format!("100.64.7.{}", at + 1)
}

impl World {
    /// Connects machines. Without root or the tools it says loudly that the test was skipped, and fails where `CI` is set.
    pub(super) fn new(machines: &[&'static str]) -> Option<Self> {
        match Self::build(machines) {
            Ok(world) => Some(world),
            Err(why) => {
                assert!(
                    std::env::var("CI").as_deref() != Ok("true"),
                    "network namespaces need root, iproute2, util-linux and nftables: {why}"
                );
                eprintln!(
                    "SKIPPED: no network namespaces, which need root, iproute2, util-linux and nftables: {why}"
                );
                None
            }
        }
    }

    fn build(names: &[&'static str]) -> Result<Self, String> {
        let hub = Space::new()?;
        hub.run(&["ip", "link", "add", "br0", "type", "bridge"], "")?;
        hub.run(&["ip", "link", "set", "br0", "up"], "")?;
        let mut machines = Vec::new();
        for (at, name) in names.iter().enumerate() {
            let space = Space::new()?;
            let (port, pid) = (format!("port{at}"), space.0.id().to_string());
            hub.run(
                &[
                    "ip", "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &pid,
                ],
                "",
            )?;
            hub.run(&["ip", "link", "set", &port, "master", "br0", "up"], "")?;
            space.run(&["ip", "link", "set", "lo", "up"], "")?;
            space.run(
                &[
                    "ip",
                    "address",
                    "add",
                    &format!("{}/10", address(at)),
                    "dev",
                    "eth0",
                ],
                "",
            )?;
            space.run(&["ip", "link", "set", "eth0", "up"], "")?;
            space.run(&["nft", "add", "table", "inet", "faults"], "")?;
            machines.push((*name, space));
        }
        Ok(Self { _hub: hub, machines })
    }

    fn space(&self, machine: &str) -> &Space {
        let found = self.machines.iter().find(|(name, _)| *name == machine);
        &found.expect("a machine of this world").1
    }

    /// The command `ledger` on a machine.
    pub(super) fn ledger(&self, machine: &str, dir: &Path) -> Command {
        self.space(machine).within(&crate::ledger(dir))
    }

    fn rules(&self, machine: &str, chains: &str) {
        let text = format!("delete table inet faults\ntable inet faults {{\n{chains}\n}}\n");
        self.space(machine).run(&["nft", "-f", "-"], &text).unwrap();
    }

    /// A machine hears nobody.
    pub(super) fn deafen(&self, machine: &str) {
        self.rules(
            machine,
            "chain i { type filter hook input priority 0; iifname \"eth0\" drop; }",
        );
    }

    /// Nobody hears a machine.
    pub(super) fn mute(&self, machine: &str) {
        self.rules(
            machine,
            "chain o { type filter hook output priority 0; oifname \"eth0\" drop; }",
        );
    }

    /// Neither.
    pub(super) fn cut(&self, machine: &str) {
        self.rules(
            machine,
            "chain i { type filter hook input priority 0; iifname \"eth0\" drop; }
             chain o { type filter hook output priority 0; oifname \"eth0\" drop; }",
        );
    }

    /// So many of a hundred packets that come to a machine are lost, and what it sends is as slow as an old modem.
    pub(super) fn slow_and_lossy(&self, machine: &str, per_cent: u8) {
        self.rules(
            machine,
            &format!(
                "chain i {{ type filter hook input priority 0; iifname \"eth0\" numgen random mod 100 < {per_cent} drop; }}"
            ),
        );
        let words = "tc qdisc replace dev eth0 root tbf rate 128kbit burst 8kb latency 400ms";
        let words: Vec<&str> = words.split(' ').collect();
        self.space(machine).run(&words, "").unwrap();
    }

    /// The cable of a machine is pulled, or put back.
    pub(super) fn plug(&self, machine: &str, is_in: bool) {
        let state = if is_in { "up" } else { "down" };
        self.space(machine)
            .run(&["ip", "link", "set", "eth0", state], "")
            .unwrap();
    }

    /// Everything is as it should be.
    pub(super) fn heal(&self, machine: &str) {
        self.rules(machine, "");
        // There is none to delete unless the link was made slow.
        drop(
            self.space(machine)
                .run(&["tc", "qdisc", "delete", "dev", "eth0", "root"], ""),
        );
    }
}
