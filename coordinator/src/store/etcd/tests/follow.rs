//! What a standby knows by following is what is stored, whatever happens to its watch.

use std::sync::atomic::AtomicBool;

use super::proxy::Proxy;
use super::*;

/// Commits of one round, at least: as long as the disturbance lasts there are more.
const COMMITS: usize = 12;

/// How long a condition is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Small and large batches in turn: with chunks, staged parts, deletions and objects.
fn batch(round: usize, number: usize) -> Batch {
    match number % 4 {
        0 => small_batch(),
        1 => large_batch(),
        2 => Batch {
            changes: (0..300)
                .map(|record| Change::Delete {
                    key: format!("trial/{record:05}"),
                })
                .collect(),
            appends: vec![lines(&[&format!("{round} {number}")])],
        },
        _ => Batch {
            changes: vec![
                put("counter", format!("{round} {number}").into_bytes()),
                put(&format!("kept/{round}/{number}"), vec![3; 70_000]),
            ],
            appends: Vec::new(),
        },
    }
}

async fn looks(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !condition().await {
        assert!(
            tokio::time::Instant::now() < deadline,
            "waited in vain for {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What can happen to a watch while commits go on.
async fn disturb(round: usize, leader: &EtcdStore, standby: &EtcdStore, proxy: &Proxy) {
    let followed = standby.shared.followed();
    match round % 4 {
        0 => {}
        1 => {
            for _ in 0..5 {
                proxy.cut();
                let before = followed.mirror().revision();
                looks("the watch to go on", async || {
                    followed.mirror().revision() > before
                })
                .await;
            }
        }
        // The history that it lacks is gone before it comes back.
        2 => {
            proxy.set_silent(true);
            let behind = followed.mirror().revision();
            looks("commits to go on", async || {
                let now = Mirror::read(&leader.shared.etcd, 0).await.unwrap();
                now.revision() > behind + 20
            })
            .await;
            let now = Mirror::read(&leader.shared.etcd, 0).await.unwrap();
            leader
                .shared
                .compact_history(now.revision() - 1)
                .await
                .unwrap();
            proxy.cut();
            proxy.set_silent(false);
        }
        // Nothing closes the connection: the silence is noticed.
        _ => {
            proxy.set_silent(true);
            let before = standby.shared.etcd.connection.current();
            looks("the silence to be noticed", async || {
                standby.shared.etcd.connection.current() != before
            })
            .await;
            proxy.set_silent(false);
        }
    }
}

/// Commits, compactions of etcd's history and a watch that is cut or falls silent, in every order: in
/// the end, and each time the standby wins, it has exactly what a reader of everything finds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_followed_is_what_is_stored() {
    let Some(place) = Place::new("what_is_followed_is_what_is_stored", 1) else {
        return;
    };
    let mut settings = place.settings();
    settings.lease_ms = 30_000;
    let member = place.cluster.endpoints().remove(0);
    // Twice the same member, so that it is seen which one is asked.
    let proxy = Proxy::start(&member).await;
    let through = EtcdSettings {
        endpoints: vec![proxy.url.clone(), proxy.url.clone()],
        ..settings.clone()
    };
    let mut rounds_at_once = 0;
    for round in 0..8 {
        let leader = EtcdStore::connect(settings.clone()).await.unwrap();
        let term = leader.acquire_term().await.unwrap();
        let standby = EtcdStore::connect(through.clone()).await.unwrap();
        let mut following = standby.follow();
        assert!(following.changed().await);
        let etcd = &leader.shared.etcd;
        let calm = AtomicBool::new(false);
        let committing = async {
            for number in 0.. {
                if number >= COMMITS && calm.load(Ordering::Relaxed) {
                    break;
                }
                leader.commit(term, batch(round, number)).await.unwrap();
                // What is seen between commits is one moment, too.
                let seen = standby.shared.followed().mirror();
                if let Ok(stored) = Mirror::read(etcd, seen.revision()).await {
                    rounds_at_once += usize::from(seen.same(&stored));
                }
            }
        };
        let disturbing = async {
            disturb(round, &leader, &standby, &proxy).await;
            calm.store(true, Ordering::Relaxed);
        };
        tokio::join!(committing, disturbing);
        let stored = Mirror::read(etcd, 0).await.unwrap();
        looks("everything to be seen", async || {
            standby.shared.followed().mirror().same(&stored)
        })
        .await;
        assert_eq!(following.leader().map(|leader| leader.term), Some(term));

        leader.resign().await;
        let followed = standby.shared.followed().standing();
        let lease = Duration::from_secs(30);
        let etcd = &standby.shared.etcd;
        let won = Leadership::campaign(etcd, lease, "standby", followed)
            .await
            .unwrap();
        let follower = standby.shared.follower.lock().unwrap().take().unwrap();
        let mirror = follower.until_led(won.term, PATIENCE).await;
        let mirror = mirror.expect("it catches up");
        let revision = i64::try_from(won.term.0).unwrap();
        let stored = Mirror::read(etcd, revision).await.unwrap();
        assert!(mirror.same(&stored), "round {round}");
        let (ours, theirs) = (mirror.records(etcd), stored.records(etcd));
        assert!(ours.unwrap() == theirs.unwrap(), "round {round}");
        while following.changed().await {}
        won.resign(etcd).await;
    }
    assert!(rounds_at_once > 8, "{rounds_at_once}");
}

/// A standby that wins in the middle of a large batch, decided or not, has all of it or none of it: by
/// what it followed, not by a look.
#[tokio::test]
async fn a_warm_standby_never_takes_over_half_a_batch() {
    let Some(place) = Place::new("a_warm_standby_never_takes_over_half_a_batch", 1) else {
        return;
    };
    let (mut absent, mut whole) = (0, 0);
    for after in 0.. {
        let settings = place.settings();
        let first = EtcdStore::connect(settings.clone()).await.unwrap();
        let term = first.acquire_term().await.unwrap();
        first.commit(term, small_batch()).await.unwrap();
        let standby = EtcdStore::connect(settings).await.unwrap();
        let mut following = standby.follow();
        assert!(following.changed().await);
        first
            .shared
            .etcd
            .connection
            .faults
            .set(Fault::CutAfter(after));
        if first.commit(term, large_batch()).await.is_ok() {
            assert!(after > 6, "the batch is not large");
            break;
        }
        let decided = first.load().await.unwrap().len() > 2;
        depose(&first).await;
        let (term, records) = standby.lead().await.unwrap();
        let loaded = standby.load().await.unwrap();
        assert_eq!(records.len(), loaded.len());
        let same = |((a, x), (b, y)): (&(String, Bytes), &(String, Vec<u8>))| a == b && x == y;
        assert!(records.iter().zip(&loaded).all(same));
        expect(&standby, decided).await;
        *if decided { &mut whole } else { &mut absent } += 1;
        standby.commit(term, large_batch()).await.unwrap();
    }
    assert!(absent > 3 && whole > 3, "{absent} absent, {whole} whole");
}

/// The leader's going is seen by the watch, and so is the next one.
#[tokio::test]
async fn who_leads_is_followed() {
    let Some(place) = Place::new("who_leads_is_followed", 1) else {
        return;
    };
    let settings = place.settings();
    let watching = EtcdStore::connect(settings.clone()).await.unwrap();
    let mut following = watching.follow();
    let mut named = settings.clone();
    for identity in ["a:1", "b:2"] {
        named.identity = identity.to_owned();
        let leader = EtcdStore::connect(named.clone()).await.unwrap();
        let term = leader.acquire_term().await.unwrap();
        while following.leader().map(|leader| leader.term) != Some(term) {
            assert!(following.changed().await);
        }
        assert_eq!(following.leader().unwrap().identity, identity);
        let batch = Batch {
            changes: vec![put("job/a", identity.as_bytes().to_vec())],
            appends: Vec::new(),
        };
        leader.commit(term, batch).await.unwrap();
        let told = ("job/a".to_owned(), Some(Bytes::from(identity)));
        while following.records().last() != Some(&told) {
            assert!(following.changed().await);
        }
        leader.resign().await;
        while following.leader().is_some() {
            assert!(following.changed().await);
        }
    }
}
