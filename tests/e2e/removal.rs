//! What has left the source leaves the tree, beside a running front end and people who pull.

use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_mirror::digest::Digest;
use serde_json::{Value, json};
use support::peer::docker_registry::DockerRegistry;
use support::peer::web_server::WebServer;
use support::peer::{free_address, nginx, skopeo};
use support::process::run;
use tempfile::TempDir;

use crate::network::{FrontEnd, Tools, export, program};
use crate::upload::{CONFIG, TAR, Upload, config, image, small_image};

/// A registry with images of large layers, the tree made of it, a front end, and a slow line to that.
struct Published {
    directory: TempDir,
    _registry: DockerRegistry,
    upload: Upload,
    source: String,
    front_end: FrontEnd,
    slow: WebServer,
}

impl Published {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let registry = DockerRegistry::start(&directory.path().join("registry")).unwrap();
        let upload = Upload::to(&registry, "app");
        let source = format!("docker://{}", registry.reference("app"));
        let tree = directory.path().join("tree");
        small_image(&upload, "first", b"first");
        export(&tree, std::slice::from_ref(&source));
        let front_end = FrontEnd::start(Tools::new(&tree, directory.path()));
        let slow = slow_line(&front_end, &directory.path().join("slow"));
        Self {
            directory,
            _registry: registry,
            upload,
            source,
            front_end,
            slow,
        }
    }

    fn tree(&self) -> PathBuf {
        self.directory.path().join("tree")
    }

    /// Exports again, letting go of what has left the source.
    #[track_caller]
    fn export(&self) -> Value {
        let mut command = program("mirror-tool");
        command
            .args(["export", "--plain-http", "--json", "--prune", "--tree"])
            .arg(self.tree())
            .arg(&self.source);
        let output = run(&mut command).unwrap_or_else(|error| panic!("{error:#}"));
        serde_json::from_str(&output.stdout).unwrap()
    }

    #[track_caller]
    fn prune(&self, grace: &str) -> Value {
        let mut command = program("mirror-tool");
        command
            .args(["prune", "--json", "--grace", grace, "--tree"])
            .arg(self.tree());
        let output = run(&mut command).unwrap_or_else(|error| panic!("{error:#}"));
        serde_json::from_str(&output.stdout).unwrap()
    }

    fn tags(&self) -> Value {
        self.front_end.get("/v2/app/tags/list", &[]).json()["tags"].clone()
    }

    fn has(&self, path: &str) -> bool {
        self.front_end.get(path, &[]).status == 200
    }

    /// Runs `change` while skopeo pulls over the slow line, after it has begun to load layers and
    /// before it has them all; how the pull ended.
    fn while_pulling(&self, image: &str, change: impl FnOnce()) -> anyhow::Result<()> {
        let address = self.slow.address();
        let source = format!("docker://{address}/{image}");
        let copy = self.directory.path().join("copy");
        let copy = format!("dir:{}", copy.display());
        std::thread::scope(|scope| {
            let pull = scope.spawn(|| skopeo::copy(&["--preserve-digests"], &source, &copy));
            let has_begun = || {
                let requests = self.slow.requests().unwrap_or_default();
                requests.iter().any(|line| line.contains("/blobs/"))
            };
            wait(has_begun);
            assert!(!pull.is_finished());
            change();
            assert!(!pull.is_finished(), "the pull was over before the change");
            pull.join().unwrap().map(drop)
        })
    }
}

/// nginx before a front end, as many run it, but with a line that takes seconds for a layer.
fn slow_line(front_end: &FrontEnd, state: &Path) -> WebServer {
    let address = free_address().unwrap();
    let site = format!(
        "server {{
            listen {address};
            location / {{
                proxy_pass http://{};
                proxy_set_header Host $http_host;
                proxy_max_temp_file_size 0;
                limit_rate 300k;
            }}
        }}",
        front_end.address
    );
    nginx::start_site(&site, address, state).unwrap()
}

/// Uploads an image that the slow line takes some seconds for: skopeo loads six layers at once, so the
/// last ones are asked for only when the first have come.
fn large_image(upload: &Upload, tag: &str, salt: u8) -> Value {
    let mut layers = Vec::new();
    let mut diff_ids: Vec<Digest> = Vec::new();
    for number in 0..9_u8 {
        // Not to be compressed away on the line.
        let mut state = u32::from(salt) * 1000 + u32::from(number) + 1;
        let noise = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()
        });
        let noise: Vec<u8> = noise.take(150_000).flatten().collect();
        let bytes = crate::upload::layer(&[(&format!("layer{number}"), &noise)]);
        let descriptor = upload.blob(TAR, bytes);
        diff_ids.push(descriptor["digest"].as_str().unwrap().parse().unwrap());
        layers.push(descriptor);
    }
    let config = upload.blob(CONFIG, config(&diff_ids).to_string());
    upload.tag(tag, &image(&config, &layers))
}

fn digest(descriptor: &Value) -> &str {
    descriptor["digest"].as_str().unwrap()
}

#[track_caller]
fn wait(condition: impl Fn() -> bool) {
    for _ in 0..200 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("it did not come to pass within 10 s");
}

#[test]
fn pruning_without_grace_harms_no_pull_of_what_stays() {
    let published = Published::start();
    large_image(&published.upload, "stays", 1);
    let leaves = small_image(&published.upload, "leaves", b"leaves");
    published.export();
    wait(|| published.tags() == json!(["first", "leaves", "stays"]));
    published
        .while_pulling("app:stays", || {
            published.upload.delete(digest(&leaves));
            let report = published.export();
            assert_eq!(report["removed"][0]["tag"], "leaves", "{report}");
            let pruned = published.prune("0s");
            assert!(pruned["freed"].as_u64() > Some(0), "{pruned}");
            wait(|| published.tags() == json!(["first", "stays"]));
        })
        .unwrap();
    for reference in ["leaves", digest(&leaves)] {
        let path = format!("/v2/app/manifests/{reference}");
        let answer = published.front_end.get(&path, &[]);
        assert_eq!(answer.status, 404);
        assert_eq!(answer.json()["errors"][0]["code"], "MANIFEST_UNKNOWN");
    }
    run(program("mirror-tool")
        .args(["verify", "--tree"])
        .arg(published.tree()))
    .unwrap();
}

#[test]
fn within_the_grace_period_a_pull_of_what_has_left_ends_well() {
    let published = Published::start();
    let leaves = large_image(&published.upload, "moves", 1);
    published.export();
    wait(|| published.tags() == json!(["first", "moves"]));
    let manifest = format!("/v2/app/manifests/{}", digest(&leaves));
    published
        .while_pulling("app:moves", || {
            // The tag moves on, as `latest` does every day, and the old image is deleted.
            small_image(&published.upload, "moves", b"moved");
            published.upload.delete(digest(&leaves));
            published.export();
            let pruned = published.prune("7d");
            assert_eq!(pruned["freed"], 0, "{pruned}");
            wait(|| {
                let current = published.front_end.get("/v2/app/manifests/moves", &[]);
                current.field("docker-content-digest") != digest(&leaves)
            });
        })
        .unwrap();
    assert!(published.has(&manifest), "the old digest is still there");

    published.prune("0s");
    wait(|| !published.has(&manifest));
}
