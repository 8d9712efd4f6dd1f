//! What goes wrong: which fault comes next, whom it meets, and how everything heals at the end.

use super::network::Way;
use super::plan::Fault;
use super::rank::RunId;
use super::world::{Due, World};

impl World {
    pub(super) fn next_fault(&mut self) {
        if !self.calm && !self.plan.faults.is_empty() {
            let wait = 1 + self.below(2 * self.plan.pace_ms);
            self.after(wait, Due::Fault);
        }
    }

    /// One fault, and the next is drawn.
    pub(super) fn fault(&mut self) {
        if self.calm {
            return;
        }
        let kinds = self.plan.faults.len() as u64;
        let which = self.below(kinds) as usize;
        let fault = self.plan.faults[which];
        self.stats.faults += 1;
        self.say(|| "FAULT".to_owned(), || format!("{fault:?}"));
        match fault {
            Fault::LinkBroken | Fault::Partition => self.network_fault(fault),
            Fault::CoordinatorKilled | Fault::CoordinatorPaused | Fault::CoordinatorDeposed => {
                self.coordinator_fault(fault);
            }
            Fault::StoreSlow => self.store_slow_until = self.now + self.below(5_000),
            Fault::StoreFails | Fault::StoreTorn => self.store_fault = Some(fault),
            Fault::UserRepeats => self.user_repeats(),
            Fault::UserCancels => {
                if self.below(6) == 0 {
                    self.user_cancels();
                }
            }
            Fault::UserPauses => self.user_holds(true),
            Fault::UserResumes => self.user_holds(false),
            Fault::UserExtends => self.user_extends(),
            Fault::UserDrains => {
                if let Some(w) = self.some_worker() {
                    let undo = self.below(4) == 0;
                    self.user_drains(w, undo);
                }
            }
            _ => self.worker_fault(fault),
        }
        self.next_fault();
    }

    fn network_fault(&mut self, fault: Fault) {
        if fault == Fault::LinkBroken {
            let links = self.links.len() as u64;
            if links > 0 {
                let which = self.below(links) as usize;
                let id = self.links.keys().nth(which).copied();
                id.into_iter().for_each(|id| self.break_link(id));
            }
            return;
        }
        let Some(w) = self.some_worker() else { return };
        let n = self.below(self.nodes.len() as u64) as usize;
        let sides = self.below(3);
        if sides != 0 {
            self.cuts.insert((w, n, Way::ToCoordinator));
        }
        if sides != 1 {
            self.cuts.insert((w, n, Way::ToWorker));
        }
        let how_long = self.below(20_000);
        self.after(how_long, Due::Heal(w, n));
        // Who hears nothing for long enough gives the connection up.
        let keepalive = super::network::KEEPALIVE_MS;
        if how_long > keepalive {
            let of = |link: &super::network::Link| link.worker == w && link.node == n;
            let links = self.links.iter().filter(|(_, link)| of(link));
            let links: Vec<_> = links.map(|(id, _)| *id).collect();
            for id in links {
                let late = keepalive + self.below(how_long - keepalive);
                self.after(late, Due::Hangup(id, Way::ToWorker));
                let late = keepalive + self.below(how_long - keepalive);
                self.after(late, Due::Hangup(id, Way::ToCoordinator));
            }
        }
    }

    /// A partition ends.
    pub(super) fn heal(&mut self, w: usize, n: usize) {
        self.cuts.remove(&(w, n, Way::ToCoordinator));
        self.cuts.remove(&(w, n, Way::ToWorker));
    }

    fn some_worker(&mut self) -> Option<usize> {
        let alive = self.workers.iter().enumerate();
        let alive: Vec<usize> = alive.filter(|(_, w)| w.alive).map(|(w, _)| w).collect();
        if alive.is_empty() {
            return None;
        }
        let which = self.below(alive.len() as u64) as usize;
        Some(alive[which])
    }

    fn worker_fault(&mut self, fault: Fault) {
        let Some(w) = self.some_worker() else { return };
        match fault {
            Fault::WorkerKilled => self.exit(w, true),
            Fault::WorkerUnplugged => self.exit(w, false),
            // Longer than a lease, at times: it wakes up as one that was given up.
            Fault::WorkerStopped => {
                let how_long = self.below(25_000);
                self.workers[w].stopped_until = self.now + how_long;
            }
            Fault::WorkerHung => {
                let how_long = self.below(40_000);
                self.workers[w].hung_until = self.now + how_long;
            }
            Fault::WorkerLeaves => self.leave(w),
            Fault::GroupBroken => {
                let runs: Vec<RunId> = self.workers[w].runs.keys().copied().collect();
                let gang = runs.iter().find(|id| self.workers[w].runs[id].in_gang());
                if let Some(id) = gang {
                    let at = self.workers[w].runs[id].rank.at.clone();
                    self.groups.entry(at).or_default().broken = true;
                }
            }
            _ => {}
        }
    }

    fn coordinator_fault(&mut self, fault: Fault) {
        let n = self.below(self.nodes.len() as u64) as usize;
        match fault {
            Fault::CoordinatorKilled => self.kill_node(n),
            Fault::CoordinatorPaused if self.nodes[n].up => {
                let how_long = self.below(15_000);
                self.nodes[n].stopped_until = self.now + how_long;
                self.after(super::coordinator::ELECTION_MS, Due::Elect);
            }
            // Its lease was lost although it runs: two think that they lead.
            Fault::CoordinatorDeposed => self.elect(true),
            _ => {}
        }
    }

    fn kill_node(&mut self, n: usize) {
        if !self.nodes[n].up {
            return;
        }
        self.say(|| format!("coordinator {n}"), || "is killed".to_owned());
        let led = self.nodes[n].leader.take().is_some();
        self.nodes[n].up = false;
        // The machine that it ran on closes its connections, unless that is gone, too.
        if self.below(3) == 0 {
            let links = self.links.iter().filter(|(_, link)| link.node == n);
            let links: Vec<_> = links.map(|(id, _)| *id).collect();
            for id in links {
                self.silence_from_node(id);
            }
        } else {
            self.close_links_of(n);
        }
        let wait = 100 + self.below(6_000);
        self.after(wait, Due::Start(n));
        if led {
            let wait = self.below(super::coordinator::ELECTION_MS);
            self.after(wait, Due::Elect);
        }
    }

    pub(super) fn restart_node(&mut self, n: usize) {
        if !self.nodes[n].up {
            self.start_node(n);
            self.after(1, Due::Elect);
        }
    }

    /// From now on nothing goes wrong any more.
    pub(super) fn calm_down(&mut self) {
        self.calm = true;
        self.say(|| "CALM".to_owned(), || "no further faults".to_owned());
        self.cuts.clear();
        self.store_fault = None;
        self.store_slow_until = 0;
        for n in 0..self.nodes.len() {
            self.restart_node(n);
        }
        self.after(super::coordinator::ELECTION_MS, Due::Elect);
        self.undo_all();
    }
}
