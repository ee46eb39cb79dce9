//! The files change with the tree.

use super::*;

/// Tags that a web server would take for names of files.
const ODD_TAGS: [&str; 6] = [
    "v1.gz",
    "1.0.html",
    "3.json",
    "latest.php",
    "_x.de.tgz",
    "a.oii",
];

/// A registry with two repositories, and what was exported of it.
struct Source {
    directory: TempDir,
    registry: DockerRegistry,
}

impl Source {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let registry = DockerRegistry::start(&directory.path().join("registry")).unwrap();
        let source = Self {
            directory,
            registry,
        };
        for tag in ODD_TAGS {
            small_image(&source.upload("team/app"), tag, tag.as_bytes());
        }
        small_image(&source.upload("team"), "1", b"one");
        source.export(&["team/app", "team"]);
        source
    }

    fn upload(&self, name: &str) -> Upload {
        Upload::to(&self.registry, name)
    }

    fn tree(&self) -> PathBuf {
        self.directory.path().join("containers")
    }

    #[track_caller]
    fn export(&self, names: &[&str]) {
        let mut sources = vec!["--prune".to_owned()];
        sources.extend(
            names
                .iter()
                .map(|name| format!("docker://{}", self.registry.reference(name))),
        );
        export(&self.tree(), &sources);
    }
}

/// Makes the files of a tree anew; what is said of it.
#[track_caller]
fn remade(tree: &Path) -> String {
    let mut command = program("mirror-tool");
    command.args([
        "site-config",
        "nginx",
        "--host",
        "h",
        "--static-v2",
        "--tree",
    ]);
    run(command.arg(tree))
        .unwrap_or_else(|error| panic!("{error:#}"))
        .stderr
}

#[track_caller]
fn follows_the_tree(kind: Server) {
    let source = Source::new();
    let mirror = Mirror::of(&source.tree(), kind);
    let copy = mirror.path("containers");
    for tag in ODD_TAGS {
        assert_eq!(mirror.manifest("team/app", tag).0, MANIFEST, "{tag}");
    }
    assert!(remade(&copy).contains("of 0 repositories"));

    // A tag moves, from an image to an index; another goes; a repository comes.
    let app = source.upload("team/app");
    let image = small_image(&app, "new", b"new");
    app.tag("v1.gz", &index(std::slice::from_ref(&image)));
    let gone = mirror.manifest("team/app", "3.json").1;
    let gone = oci_mirror::digest::Algorithm::Sha256
        .digest(&gone)
        .to_string();
    app.delete(&gone);
    small_image(&source.upload("team/app/more"), "1", b"more");
    source.export(&["team/app", "team", "team/app/more"]);
    rsyncd::sync(source.tree(), &copy, &[]).unwrap();
    assert!(remade(&copy).contains("of 2 repositories"));
    assert_eq!(mirror.manifest("team/app", "v1.gz").0, INDEX);
    assert_eq!(mirror.manifest("team/app", "new").0, MANIFEST);
    for reference in ["3.json", &gone] {
        let answer = mirror.get(&format!("team/app/manifests/{reference}"));
        assert_eq!(answer.status.as_u16(), 404, "{reference}");
    }
    assert_eq!(mirror.manifest("team/app/more", "1").0, MANIFEST);
    let tags = mirror.get("team/app/tags/list").json()["tags"].clone();
    assert_eq!(
        tags,
        serde_json::json!([
            "1.0.html",
            "_x.de.tgz",
            "a.oii",
            "latest.php",
            "new",
            "v1.gz"
        ])
    );
    assert!(remade(&copy).contains("of 0 repositories"));

    // Half an image is not offered; when it is whole, it is.
    let layer = {
        let document: Value = serde_json::from_slice(&mirror.manifest("team", "1").1).unwrap();
        document["layers"][0]["digest"]
            .as_str()
            .unwrap()
            .replace("sha256:", "")
    };
    let path = copy.join(format!("blobs/sha256/{}/{layer}", &layer[..2]));
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::remove_file(mirror.path("containers.v2/team/_made")).unwrap();
    assert!(remade(&copy).contains("1 manifests are not whole"));
    assert_eq!(mirror.get("team/manifests/1").status.as_u16(), 404);
    fs::write(&path, bytes).unwrap();
    assert!(remade(&copy).contains("of 1 repositories"));
    assert_eq!(mirror.manifest("team", "1").0, MANIFEST);

    // A repository goes, one within it stays.
    fs::remove_dir_all(copy.join("repos/team/app")).unwrap();
    rsyncd::sync(
        source.tree().join("repos/team/app/more"),
        copy.join("repos/team/app/more"),
        &["--mkpath"],
    )
    .unwrap();
    remade(&copy);
    assert_eq!(mirror.get("team/app/tags/list").status.as_u16(), 404);
    assert_eq!(mirror.manifest("team/app/more", "1").0, MANIFEST);

    // The two may be moved together.
    fs::create_dir(mirror.path("moved")).unwrap();
    for name in ["containers", "containers.v2"] {
        fs::rename(mirror.path(name), mirror.path("moved").join(name)).unwrap();
    }
    let link = mirror.path("moved/containers.v2/team/_manifests/1.oim");
    assert!(fs::metadata(link).is_ok());
}

#[test]
fn files_for_nginx_follow_the_tree() {
    follows_the_tree(Server::Nginx);
}

#[test]
fn files_for_apache_follow_the_tree() {
    follows_the_tree(Server::Apache);
}

#[test]
fn a_sync_keeps_them_up_to_date() {
    let source = Source::new();
    let directory = tempfile::tempdir().unwrap();
    let follow = |directory: &Path| {
        let mut command = program("mirror-tool");
        command.args([
            "sync",
            "--static-v2",
            "--from",
            &format!("file://{}", source.tree().display()),
        ]);
        command.arg("--tree").arg(directory.join("containers"));
        run(&mut command).unwrap_or_else(|error| panic!("{error:#}"));
    };
    follow(directory.path());
    let mirror = Mirror::at(directory, Server::Nginx);
    let before = mirror.manifest("team/app", "v1.gz");
    let moved = small_image(&source.upload("team/app"), "v1.gz", b"moved");
    source.export(&["team/app", "team"]);
    follow(mirror.directory.path());
    let after = mirror.manifest("team/app", "v1.gz");
    assert_ne!(after, before);
    // Who asked for the tag before it moved gets what it stood for: that goes only when its grace is over.
    let digest = |bytes: &[u8]| {
        oci_mirror::digest::Algorithm::Sha256
            .digest(bytes)
            .to_string()
    };
    assert_eq!(digest(&after.1), moved["digest"].as_str().unwrap());
    let blob = mirror.get(&format!("team/app/blobs/{}", digest(&before.1)));
    assert_eq!(blob.body, before.1);
}

#[test]
fn they_must_be_beside_the_tree() {
    let source = Source::new();
    for directory in [
        source.tree(),
        source.tree().join("v2"),
        source.directory.path().to_owned(),
    ] {
        let mut command = program("mirror-tool");
        command.args(["site-config", "nginx", "--host", "h", "--tree"]);
        command
            .arg(source.tree())
            .arg("--static-v2")
            .arg(&directory);
        let (code, failure) = fails(&mut command);
        assert!(code == 1 && failure.stderr.contains("beside"), "{failure}");
    }
}
