//! What goes wrong: which fault comes next, whom it meets, and how everything heals at the end.

use super::coordinator::Node;
use super::jobs::variant_of;
use super::network::Way;
use super::plan::Fault;
use super::rank::RunId;
use super::stats::Hit;
use super::world::{Due, World};

/// A connection that is left behind is slow for up to this long before.
const LEFT_AFTER_MS: u64 = 4_000;

/// The farthest that a clock jumps.
const CLOCK_JUMP_MS: u64 = 60_000;

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
            Fault::LinkBroken | Fault::LinkSlow | Fault::LinkLeftBehind => self.link_fault(fault),
            Fault::Partition => self.partition(),
            Fault::CoordinatorKilled
            | Fault::CoordinatorPaused
            | Fault::CoordinatorDeposed
            | Fault::CoordinatorStale
            | Fault::ClockJumps => self.coordinator_fault(fault),
            Fault::Blackout => {
                if self.below(4) == 0 {
                    self.blackout();
                }
            }
            Fault::UploadsFail => self.objects.fails_until = self.now + self.below(5_000),
            Fault::UploadsSlow => self.objects.slow_until = self.now + self.below(10_000),
            Fault::CheckpointCorrupt => self.corrupt_checkpoint(),
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
            Fault::UserRetries => self.user_retries(),
            Fault::UserSetsShares => self.user_sets_shares(),
            Fault::UserArchives => self.user_archives(),
            Fault::UserDeletes => {
                if self.below(4) == 0 {
                    self.user_deletes();
                }
            }
            Fault::Impostor => self.impostor(),
            Fault::UserForgets => {
                let w = self.below(self.workers.len() as u64) as usize;
                self.user_forgets(w);
            }
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

    fn link_fault(&mut self, fault: Fault) {
        let links = self.links.len() as u64;
        if links == 0 {
            return;
        }
        let which = self.below(links) as usize;
        let Some(id) = self.links.keys().nth(which).copied() else {
            return;
        };
        match fault {
            Fault::LinkSlow => {
                let how_long = self.below(8_000);
                if let Some(link) = self.links.get_mut(&id) {
                    link.slow_until = self.now + how_long;
                }
            }
            // First it becomes slow, so that something is on the way.
            Fault::LinkLeftBehind => {
                if let Some(link) = self.links.get_mut(&id) {
                    link.slow_until = self.now + LEFT_AFTER_MS;
                }
                let wait = self.below(LEFT_AFTER_MS);
                self.after(wait, Due::LeftBehind(id));
            }
            _ => {
                self.stats.hit(Hit::LinkBroken);
                self.break_link(id);
            }
        }
    }

    fn partition(&mut self) {
        let Some(w) = self.some_worker() else { return };
        let n = self.below(self.nodes.len() as u64) as usize;
        let sides = self.below(3);
        self.stats.hit(match sides {
            0 => Hit::PartitionToWorker,
            1 => Hit::PartitionToCoordinator,
            _ => Hit::PartitionBothWays,
        });
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
        let alive = alive.filter(|(_, w)| !w.impostor);
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
            Fault::WorkerKilled => {
                self.stats.hit(Hit::WorkerKilled);
                self.exit(w, true);
            }
            Fault::WorkerUnplugged => {
                self.stats.hit(Hit::WorkerUnplugged);
                self.exit(w, false);
            }
            // Longer than a lease, at times: it wakes up as one that was given up.
            Fault::WorkerStopped => {
                let how_long = self.below(25_000);
                self.stats.hit(Hit::WorkerStopped);
                self.workers[w].stopped_until = self.now + how_long;
            }
            Fault::WorkerHung => {
                let how_long = self.below(40_000);
                if !self.workers[w].runs.is_empty() {
                    self.stats.hit(Hit::WorkerHung);
                }
                self.workers[w].hung_until = self.now + how_long;
            }
            Fault::WorkerLeaves => {
                self.stats.hit(Hit::WorkerLeft);
                self.leave(w);
            }
            Fault::Liar => self.liar(w),
            Fault::GroupBroken => {
                let runs: Vec<RunId> = self.workers[w].runs.keys().copied().collect();
                let gang = runs.iter().find(|id| self.workers[w].runs[id].in_gang());
                if let Some(id) = gang {
                    let at = self.workers[w].runs[id].rank.at.clone();
                    self.stats.hit(Hit::GroupBroken);
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
                self.stats.hit(Hit::CoordinatorPaused);
                self.nodes[n].stopped_until = self.now + how_long;
                self.after(super::coordinator::ELECTION_MS, Due::Elect);
            }
            // Its lease was lost although it runs: two think that they lead.
            Fault::CoordinatorDeposed => {
                let before = self.store.term;
                self.elect(true);
                if self.store.term > before && before > 0 {
                    self.stats.hit(Hit::CoordinatorDeposed);
                }
            }
            Fault::CoordinatorStale => self.stale_coordinator(),
            // A steady clock does not do so, but for a machine that was suspended or moved.
            Fault::ClockJumps if self.nodes[n].leader.is_some() => {
                let far = self.below(CLOCK_JUMP_MS);
                self.stats.hit(Hit::ClockJumped);
                self.nodes[n].offset_ms += far;
            }
            _ => {}
        }
    }

    /// One comes to lead, reads what is stored and stands still before it has said a word; meanwhile another
    /// takes over. The first wakes up with what it once read, beside the one that it had taken over from.
    fn stale_coordinator(&mut self) {
        let before = self.store.term;
        self.elect(true);
        let newest = self.store.term;
        let leads = |node: &Node| node.leader.as_ref().is_some_and(|l| l.term == newest);
        let Some(n) = self
            .nodes
            .iter()
            .position(leads)
            .filter(|_| newest > before)
        else {
            return;
        };
        let how_long = self.below(15_000);
        self.nodes[n].stopped_until = self.now + how_long;
        self.after(super::coordinator::ELECTION_MS / 3, Due::Elect);
    }

    /// Every process is gone at once; what was not committed is lost, and the next leader has what the
    /// store had at this moment, whatever it was.
    fn blackout(&mut self) {
        self.stats.hit(Hit::Blackout);
        for n in 0..self.nodes.len() {
            self.kill_node(n);
        }
        for w in 0..self.workers.len() {
            self.exit(w, true);
        }
    }

    /// A part of a checkpoint is gone or changed. Not of one that is to be judged: there is no other.
    fn corrupt_checkpoint(&mut self) {
        let jobs = self.store.jobs.values();
        let open = jobs.filter(|job| !job.record.state.ended());
        let open = open.filter(|job| variant_of(&job.record.job).is_some_and(|v| !v.is_judged()));
        let open: Vec<_> = open.map(|job| job.record.job.clone()).collect();
        if open.is_empty() {
            return;
        }
        let job = &open[self.below(open.len() as u64) as usize];
        let draw = self.below(u64::MAX);
        if self.objects.corrupt(job, |bound| draw % bound) {
            self.stats.hit(Hit::CheckpointCorrupt);
        }
    }

    fn kill_node(&mut self, n: usize) {
        if !self.nodes[n].up {
            return;
        }
        self.stats.hit(Hit::CoordinatorKilled);
        self.say(|| format!("coordinator {n}"), || "is killed".to_owned());
        let led = self.nodes[n].leader.take().is_some();
        self.nodes[n].up = false;
        // The machine that it ran on closes its connections, unless that is gone, too.
        if self.below(3) == 0 {
            self.stats.hit(Hit::CoordinatorUnplugged);
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
        self.calm_since = self.now;
        self.say(|| "CALM".to_owned(), || "no further faults".to_owned());
        self.cuts.clear();
        self.store_fault = None;
        self.store_slow_until = 0;
        self.objects.fails_until = 0;
        self.objects.slow_until = 0;
        for n in 0..self.nodes.len() {
            self.restart_node(n);
        }
        // Whose id one of them has may come back with it.
        for w in 0..self.workers.len() {
            if self.workers[w].impostor {
                self.exit(w, true);
            }
        }
        self.after(super::coordinator::ELECTION_MS, Due::Elect);
        self.undo_all();
    }
}
