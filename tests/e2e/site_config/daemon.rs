//! The rsync daemon.

use super::*;

/// Names that rsync lists at a URL.
#[track_caller]
fn listed(url: &str) -> Vec<String> {
    let output = run(peer("rsync").unwrap().args(["-r", url])).unwrap();
    let names = output
        .stdout
        .lines()
        .filter_map(|line| line.split_whitespace().last());
    names.map(str::to_owned).collect()
}

#[test]
fn rsyncd_offers_a_tree_and_computes_nothing_for_strangers() {
    let mirror = Mirror::new();
    let printed = site_config("rsyncd", &mirror.tree(), &["--max-connections", "2"]);
    let path = |name: &str| mirror.directory.path().join(name);
    fs::create_dir(path("empty")).unwrap();
    let address = free_address().unwrap();
    let settings = format!("lock file = {}\n{printed}", path("lock").display());
    let daemon =
        RsyncDaemon::start_with(&settings, address, "other", &path("empty"), &mirror.state())
            .unwrap();
    let url = |module: &str| format!("rsync://{address}/{module}");

    let modules = run(peer("rsync").unwrap().arg(url(""))).unwrap().stdout;
    assert!(
        modules.contains("containers") && modules.contains("Container images"),
        "{modules}"
    );
    assert!(!modules.contains("above"), "{modules}");
    for module in ["containers/", "above/containers/"] {
        let names = listed(&url(module));
        assert!(names.contains(&"state.json".to_owned()), "{names:?}");
        assert!(
            !names.iter().any(|name| name.contains(".~tmp~")),
            "{names:?}"
        );
    }
    // Of the directory above there is nothing but the tree.
    let names = listed(&url("above/"));
    assert!(
        names
            .iter()
            .all(|name| name == "." || name.starts_with("containers")),
        "{names:?}"
    );

    // The plain way to follow it, hardlinks included.
    let copy = path("copy");
    rsyncd::sync(url("containers"), &copy, &["--delay-updates"]).unwrap();
    fs::remove_dir_all(copy.join("blobs/sha256/00")).unwrap();
    run(&mut verify(&copy)).unwrap_or_else(|error| panic!("{error:#}"));
    let log = daemon.log().unwrap();
    assert!(log.contains("send") && log.contains("state.json"), "{log}");

    let (code, failure) = fails(
        peer("rsync")
            .unwrap()
            .args(["-rc", &url("containers/")])
            .arg(path("sums")),
    );
    assert!(
        code != 0 && failure.stderr.contains("refuse --checksum"),
        "{failure}"
    );
    let (code, failure) = fails(
        peer("rsync")
            .unwrap()
            .arg(copy.join("state.json"))
            .arg(url("containers/new")),
    );
    assert!(
        code != 0 && failure.stderr.contains("read only"),
        "{failure}"
    );

    // Both modules count together.
    let held: Vec<TcpStream> = ["containers", "above"]
        .map(|module| hold(address, module))
        .into();
    let (code, failure) = fails(peer("rsync").unwrap().arg(url("containers/state.json")));
    assert!(
        code != 0 && failure.to_string().contains("max connections (2) reached"),
        "{failure}"
    );
    drop(held);
}

/// A client of a module that says nothing more.
fn hold(address: SocketAddr, module: &str) -> TcpStream {
    let mut connection = TcpStream::connect(address).unwrap();
    connection
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    write!(connection, "@RSYNCD: 31.0\n{module}\n").unwrap();
    let mut said = String::new();
    while !said.contains("@RSYNCD: OK") {
        let mut bytes = [0; 64];
        let count = connection.read(&mut bytes).unwrap();
        assert!(count > 0, "{said}");
        said.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    connection
}
