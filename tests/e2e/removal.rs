//! What has left the source leaves the tree, beside a running front end and people who pull.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;

use oci_mirror::digest::Digest;
use serde_json::{Value, json};
use support::peer::docker_registry::DockerRegistry;
use support::peer::skopeo;
use support::process::run;
use tempfile::TempDir;

use crate::held_line::HeldLine;
use crate::network::{FrontEnd, Tools, export, program, verify, wait};
use crate::upload::{CONFIG, TAR, Upload, config, image, small_image};

/// A registry, the tree made of it, and a front end.
struct Published {
    upload: Upload,
    front_end: FrontEnd,
    _registry: DockerRegistry,
    source: String,
    directory: TempDir,
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
        Self {
            upload,
            front_end,
            _registry: registry,
            source,
            directory,
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

    /// Runs `change` while skopeo is in the middle of the first layer of an image; how its pull ended.
    fn while_pulling(&self, image: &str, change: impl FnOnce()) -> anyhow::Result<()> {
        let line = HeldLine::to(&self.front_end.address, LAYER / 2);
        let source = format!("docker://{}/{image}", line.address());
        let copy = self.directory.path().join("copy");
        let copy = format!("dir:{}", copy.display());
        std::thread::scope(|scope| {
            let pull = scope.spawn(|| skopeo::copy(&["--preserve-digests"], &source, &copy));
            line.wait();
            let changed = catch_unwind(AssertUnwindSafe(change));
            line.release();
            let pulled = pull.join().unwrap();
            changed.unwrap_or_else(|panic| resume_unwind(panic));
            pulled.map(drop)
        })
    }
}

/// The size of a layer: no buffer on the way takes a large part of it.
const LAYER: usize = 4 << 20;

/// Uploads an image of layers that skopeo loads one after the other.
fn large_image(upload: &Upload, tag: &str, salt: u8) -> Value {
    let mut layers = Vec::new();
    let mut diff_ids: Vec<Digest> = Vec::new();
    for number in 0..3_u8 {
        let mut state = u32::from(salt) * 1000 + u32::from(number) + 1;
        let noise = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()
        });
        let noise: Vec<u8> = noise.take(LAYER / 4).flatten().collect();
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
    run(&mut verify(&published.tree())).unwrap();
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
