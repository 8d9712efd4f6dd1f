use super::*;

#[test]
fn urls_and_paths() {
    let path = |url: &str| open(url).unwrap().1.to_string();
    assert_eq!(path("file:///a/b"), "a/b");
    assert_eq!(path("file:/a/b"), "a/b");
    assert_eq!(path("/a/./c/../b"), "a/b");
    assert_eq!(path("/with space/x#y"), "with space/x#y");
    assert_eq!(path("file:///with%20space"), "with space");
    assert_eq!(path("memory://name/a/b"), "a/b");
    assert_eq!(path("s3://bucket/a/b"), "a/b");
    assert_eq!(path("http://127.0.0.1:9/a/b.csv"), "a/b.csv");
    let here = std::env::current_dir().unwrap().join("x");
    assert_eq!(format!("/{}", path("x")), here.to_str().unwrap());
    assert_eq!(local_path("file:///a/b"), Some(PathBuf::from("/a/b")));
    assert_eq!(local_path("a"), Some(PathBuf::from("a")));
    assert_eq!(local_path("s3://a/b"), None);
    assert!(is_http("https://a/b") && !is_http("http-data/b"));
    assert!(is_memory("memory://a") && !is_memory("/memory"));
}

#[test]
fn bad_urls_are_named_with_what_is_accepted() {
    for (url, reason) in [
        ("", "an empty URL"),
        ("ftp://host/a", "unknown scheme `ftp`"),
        ("file://relative/a", "three slashes"),
        ("s3:///a", "no bucket"),
        ("http://host/a?b=c", "a query"),
        ("http://[::1/a", "not a URL"),
    ] {
        let message = open(url).unwrap_err().to_string();
        assert!(message.contains(reason), "{message}");
        assert!(
            message.contains(&format!("`{}`", redacted(url))),
            "{message}"
        );
        assert!(message.contains("s3://bucket/path"), "{message}");
    }
}

#[tokio::test]
async fn memory_stores_are_shared_by_name() {
    let (a, path) = open("memory://store-url-a/x").unwrap();
    a.put(&path, "1".into()).await.unwrap();
    let (again, path) = open("memory://store-url-a/x").unwrap();
    assert_eq!(again.get(&path).await.unwrap().bytes().await.unwrap(), "1");
    let (other, path) = open("memory://store-url-b/x").unwrap();
    let error = other.get(&path).await.unwrap_err();
    assert_eq!(describe(&error), "no such object: x");
}

#[tokio::test]
async fn probes() {
    let folder = tempfile::tempdir().unwrap();
    let shared = folder.path().join("shared").display().to_string();
    let own = folder.path().join("own").display().to_string();
    for url in [&shared, "memory://store-url-probe/job"] {
        write_probe(url, "probes/1", "héllo").await.unwrap();
        check_probe(url, "probes/1", "héllo", "probes/1-reply")
            .await
            .unwrap();
        check_reply(url, "probes/1", "héllo", "probes/1-reply")
            .await
            .unwrap();
        let error = check_reply(url, "probes/1", "héllo", "probes/1-reply").await;
        assert!(error.is_err(), "probe objects are removed");
    }
    write_probe(&shared, "p", "abc").await.unwrap();
    let message = |result: Result<(), StoreUrlError>| result.unwrap_err().to_string();
    let missing = message(check_probe(&own, "p", "abc", "r").await);
    assert!(missing.contains("the worker reads another store than the coordinator"));
    assert!(
        missing.contains(&own) && missing.contains("does not find p"),
        "{missing}"
    );
    let changed = message(check_probe(&shared, "p", "abd", "r").await);
    assert!(changed.contains("another content"), "{changed}");
    let unanswered = message(check_reply(&shared, "p", "abc", "r").await);
    assert!(
        unanswered.contains("the worker writes another store"),
        "{unanswered}"
    );
}
