//! etcd that wants to know who is there: tokens that run out, are forgotten, or are older than its users.

use etcd_client::{
    Client, ConnectOptions, Permission, PermissionType, RoleRevokePermissionOptions,
};

use super::*;

const PASSWORD: &str = "secret";

/// A cluster with users, of which `trainyard` may use its prefix alone; tokens live for a second.
async fn with_users(test: &str) -> Option<(EtcdCluster, Client)> {
    // The other logger of etcd 3.4, the only one of later ones, tells when a token ends.
    let flags = ["--auth-token-ttl", "1", "--logger", "zap"];
    let cluster = EtcdCluster::start_with(test, 1, &flags)?;
    let mut plain = Client::connect(cluster.endpoints(), None).await.unwrap();
    for user in ["root", "trainyard"] {
        plain.user_add(user, PASSWORD, None).await.unwrap();
        plain.role_add(user).await.unwrap();
        plain.user_grant_role(user, user).await.unwrap();
    }
    let prefix = Permission::read_write("/trainyard/").with_prefix();
    let granted = plain.role_grant_permission("trainyard", prefix).await;
    granted.unwrap();
    plain.auth_enable().await.unwrap();
    let options = ConnectOptions::new().with_user("root", PASSWORD);
    let options = options.with_auto_token_refresh(true);
    let root = Client::connect(cluster.endpoints(), Some(options)).await;
    Some((cluster, root.unwrap()))
}

struct Users {
    cluster: EtcdCluster,
    root: Client,
    folder: TempDir,
    changes: u32,
}

impl Users {
    async fn start(test: &str) -> Option<Self> {
        let (cluster, root) = with_users(test).await?;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("password"), format!("{PASSWORD}\n")).unwrap();
        Some(Self {
            cluster,
            root,
            folder,
            changes: 0,
        })
    }

    fn settings(&self) -> EtcdSettings {
        let url = self.folder.path().join("objects").display().to_string();
        let mut settings = EtcdSettings::new(self.cluster.endpoints(), url);
        settings.user = Some("trainyard".to_owned());
        settings.password_file = Some(self.folder.path().join("password"));
        settings
    }

    /// Tokens that were made before are older than etcd's users from now on.
    async fn change(&mut self) {
        self.changes += 1;
        let role = format!("role-{}", self.changes);
        self.root.role_add(role.as_str()).await.unwrap();
        let any = Permission::new(PermissionType::Read, "x");
        let granted = self.root.role_grant_permission(role.as_str(), any).await;
        granted.unwrap();
        let options = RoleRevokePermissionOptions::new();
        let taken = self.root.role_revoke_permission(role, "x", Some(options));
        taken.await.unwrap();
    }

    /// Waits until a token that nobody uses has run out.
    async fn until_expired(&self) {
        let ended = || self.cluster.logged(0, "deleted a simple token");
        let before = ended();
        let options = ConnectOptions::new().with_user("root", PASSWORD);
        let unused = Client::connect(self.cluster.endpoints(), Some(options)).await;
        drop(unused.unwrap());
        let patience = Duration::from_secs(60);
        let expired = async {
            while ended() == before {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(patience, expired).await.unwrap();
    }
}

/// Whatever becomes of the leader's token, it leads on and stores what it is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_lost_is_renewed() {
    let Some(mut users) = Users::start("a_token_that_is_lost_is_renewed").await else {
        return;
    };
    let mut settings = users.settings();
    settings.lease_ms = 30_000;
    let store = EtcdStore::connect(settings).await.unwrap();
    let term = store.acquire_term().await.unwrap();
    let line = async |text: &str| {
        let batch = Batch {
            changes: vec![put("job/a", text.as_bytes().to_vec())],
            appends: vec![lines(&[text])],
        };
        store.commit(term, batch).await.unwrap();
    };
    line("first").await;
    // It runs out.
    users.until_expired().await;
    line("expired").await;
    // etcd's users have changed.
    users.change().await;
    line("changed").await;
    users.change().await;
    store.shared.compact_history(0).await.unwrap();
    store.shared.look_at_size().await.unwrap();
    assert_eq!(store.notes(), Vec::<String>::new());
    assert_eq!(store.load().await.unwrap().len(), 1);
    // The member has forgotten it.
    users.cluster.kill(0);
    users.cluster.restart(0);
    tokio::task::block_in_place(|| users.cluster.wait_healthy()).unwrap();
    line("restarted").await;
    let texts: Vec<_> = told(&store)
        .await
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    assert_eq!(texts, ["first", "expired", "changed", "restarted"]);
    assert!(store.holds(term));
}

/// A standby follows on, and takes over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_whose_token_is_lost_follows_and_leads() {
    let Some(mut users) = Users::start("a_standby_whose_token_is_lost_follows_and_leads").await
    else {
        return;
    };
    let mut settings = users.settings();
    settings.lease_ms = 30_000;
    let first = EtcdStore::connect(settings.clone()).await.unwrap();
    let term = first.acquire_term().await.unwrap();
    let second = EtcdStore::connect(settings).await.unwrap();
    let following = second.follow();
    let followed = second.shared.followed();
    let until = async |key: &str| {
        let seen = async {
            while followed.mirror().record(key).is_none() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let patience = Duration::from_secs(60);
        tokio::time::timeout(patience, seen).await.expect(key);
    };
    let commit = async |key: &str| {
        let batch = Batch {
            changes: vec![put(key, b"x".to_vec())],
            appends: Vec::new(),
        };
        first.commit(term, batch).await.unwrap();
    };
    commit("job/a").await;
    until("job/a").await;
    users.change().await;
    users.until_expired().await;
    commit("job/b").await;
    until("job/b").await;
    // Streams of before are gone with the member, and so are all tokens.
    users.cluster.kill(0);
    users.cluster.restart(0);
    tokio::task::block_in_place(|| users.cluster.wait_healthy()).unwrap();
    commit("job/c").await;
    until("job/c").await;
    assert_eq!(following.leader().unwrap().term, term);
    first.resign().await;
    second.acquire_term().await.unwrap();
    assert_eq!(second.load().await.unwrap().len(), 3);
}

/// A wrong password is no lost token: it is told at once, as etcd tells it.
#[tokio::test]
async fn a_wrong_password_is_told() {
    let Some(users) = Users::start("a_wrong_password_is_told").await else {
        return;
    };
    std::fs::write(users.folder.path().join("password"), "other").unwrap();
    let error = EtcdStore::connect(users.settings()).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused { .. }), "{error}");
    assert!(
        error.to_string().contains("authentication failed"),
        "{error}"
    );
    let mut nobody = users.settings();
    (nobody.user, nobody.password_file) = (None, None);
    let error = EtcdStore::connect(nobody).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused { .. }), "{error}");
}
