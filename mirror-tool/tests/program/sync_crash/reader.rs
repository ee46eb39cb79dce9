//! Those who pull from a mirror while it is being made anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::{self, JoinHandle};

use oci_mirror::descriptor::Descriptor;
use oci_mirror::digest::Algorithm;
use oci_mirror::manifest::{Child, Manifest};
use oci_mirror::tree::{RepoDir, Tree, TreePath};

use super::link;

/// Threads that follow every tag they see down to its last layer, over and over.
pub(super) struct Readers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    tree: PathBuf,
    looked: AtomicU64,
    complaints: Mutex<Vec<String>>,
    /// Held by whoever reads.
    gate: RwLock<()>,
    stop: AtomicBool,
}

impl Readers {
    pub(super) fn start(tree: &Path) -> Self {
        let shared = Arc::new(Shared {
            tree: tree.to_owned(),
            looked: AtomicU64::new(0),
            complaints: Mutex::default(),
            gate: RwLock::default(),
            stop: AtomicBool::new(false),
        });
        let threads = (0..2).map(|_| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                while !shared.stop.load(Ordering::Relaxed) {
                    shared.look();
                    // Others need the processor too.
                    thread::sleep(std::time::Duration::from_millis(2));
                }
            })
        });
        Self {
            threads: threads.collect(),
            shared,
        }
    }

    /// Does something that no mirror would do to its readers.
    pub(super) fn pause(&self, work: impl FnOnce()) {
        let _gate = self.shared.gate.write().unwrap();
        work();
    }

    pub(super) fn complaints(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.complaints.lock().unwrap())
    }

    /// Ends them; says how many tags they have looked at.
    pub(super) fn stop(self) -> u64 {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        assert_eq!(
            self.shared.complaints.lock().unwrap()[..],
            [] as [String; 0]
        );
        self.shared.looked.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn look(&self) {
        let _gate = self.gate.read().unwrap();
        let Ok(tree) = Tree::open(&self.tree) else {
            return;
        };
        for repo in tree.repositories().unwrap() {
            let path = TreePath::Index(repo.clone()).under(&self.tree);
            let Ok(bytes) = fs::read(&path) else {
                continue;
            };
            let index = oci_mirror::tree::index::RepoIndex::from_bytes(&bytes).unwrap();
            for entry in index.entries() {
                let Err(complaint) = self.follow(&repo, entry) else {
                    self.looked.fetch_add(1, Ordering::Relaxed);
                    continue;
                };
                // Without any grace, what an index named a moment ago may go with that index.
                if fs::read(&path).is_ok_and(|now| now == bytes) {
                    let tag = entry.ref_name().unwrap_or("-");
                    let complaint = format!("{repo}:{tag}: {complaint}");
                    self.complaints.lock().unwrap().push(complaint);
                }
                break;
            }
        }
    }

    /// Looks at all that an image needs, under the names by which a static server knows it.
    fn follow(&self, repo: &RepoDir, image: &Descriptor) -> Result<(), String> {
        let path = link(&self.tree, repo, image.digest);
        let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        if Algorithm::Sha256.digest(&bytes) != image.digest {
            return Err(format!("{} is damaged", path.display()));
        }
        let manifest = Manifest::with_digest(bytes.into(), image.digest, Some(&image.media_type));
        for child in manifest.unwrap().children() {
            let (Child::Manifest(child) | Child::Blob(child)) = child;
            let link = link(&self.tree, repo, child.digest);
            let blob = TreePath::Blob(child.digest).under(&self.tree);
            for path in [link, blob] {
                let found = fs::metadata(&path);
                let found = found.map_err(|error| format!("{}: {error}", path.display()))?;
                if found.len() != child.size {
                    return Err(format!("{} has {} bytes", path.display(), found.len()));
                }
            }
        }
        Ok(())
    }
}
