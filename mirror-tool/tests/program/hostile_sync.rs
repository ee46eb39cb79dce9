//! Following a tree that lies, is torn, changes or goes away: the mirror stays what it was, it is said why in
//! one line, and once the tree is true again it is followed.

mod stage;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mirror_tool::exit::Exit;
use mirror_tool::sync::report::Outcome;
use mirror_tool::sync::{self, Options};
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::tree::{TreePath, TreeWriter};
use tokio::task::JoinSet;

use crate::bench::MIB;
use crate::sync::master::blob;
use stage::{Server, Stage, published, restate};

fn digest(content: &[u8]) -> Digest {
    Algorithm::Sha256.digest(content)
}

/// What is done to a tree, how a mirror that has followed it before takes it, and what it says.
type Lie = (&'static str, fn(&Stage), Outcome, &'static str);

/// All of them at a time: some are asked again and again, in the hope that they are only being changed.
async fn each_is_refused(lies: &'static [Lie]) {
    let mut running = JoinSet::new();
    for (name, lie, outcome, told) in lies {
        running.spawn(async move {
            let stage = Stage::new(name).await;
            lie(&stage);
            stage.refused(*outcome, told).await;
            stage.is_followed_once_it_is_true().await;
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_that_cannot_be_those_of_a_tree_are_refused() {
    each_is_refused(&[
        (
            "leaves the tree",
            |it| it.relist(|list| list.replace("\tblobs\n", "\t../blobs\n")),
            Outcome::Refused,
            "`../blobs` is not a path below the root of a tree",
        ),
        (
            "absolute",
            |it| it.relist(|list| list.replace("\trepos/new/index.json\n", "\t/etc/shadow\n")),
            Outcome::Refused,
            "`/etc/shadow` is not a path below the root of a tree",
        ),
        (
            "symbolic link",
            |it| it.relist(|list| list.replace("\tf\t", "\tl\t")),
            Outcome::Refused,
            "a symbolic link",
        ),
        (
            "device",
            |it| it.relist(|list| list.replacen("\td\t", "\tc\t", 1)),
            Outcome::Refused,
            "`c` is not a type of entry",
        ),
        (
            "newline",
            |it| it.relist(|list| list.replace("\trepos/new\n", "\trepos/n\new\n")),
            Outcome::Refused,
            "it has too few columns",
        ),
        (
            "control character",
            |it| it.relist(|list| list.replace("\trepos/new\n", "\trepos/\u{1b}[2Jnew\n")),
            Outcome::Refused,
            "`repos/\\u{1b}[2Jnew` is not a path",
        ),
        (
            "not sorted",
            |it| {
                it.relist(|list| {
                    let line = list.lines().find(|line| line.ends_with("\tstate.json"));
                    let line = format!("{}\n", line.unwrap());
                    list.replacen(&line, &line.repeat(2), 1)
                });
            },
            Outcome::Refused,
            "state.json, which does not stand where it belongs",
        ),
        (
            "torn",
            |it| it.relist(|list| list.replace("[End]\n", "")),
            Outcome::Refused,
            "the file list is torn",
        ),
        (
            "torn in the middle",
            |it| it.relist(|list| list[..list.len() / 2].to_owned()),
            Outcome::Refused,
            "the file list is torn",
        ),
        (
            "not the list of its state",
            |it| {
                let path = it.path(&published(&it.tree()).1);
                let list = fs::read(&path).unwrap();
                fs::write(path, &list[..list.len() - 1]).unwrap();
            },
            Outcome::Refused,
            "its state says sha256:",
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_that_contradict_themselves_or_their_state_are_refused() {
    each_is_refused(&[
        (
            "more blobs than there are",
            |it| restate(&it.tree(), |state| state.totals.blobs += 1),
            Outcome::Refused,
            "state.json counts 8 blobs, but the file list has 7",
        ),
        (
            "a link of another length",
            |it| {
                let link = format!("repos/new/blobs/sha256/{}", hex(b"new"));
                it.relist(|list| resized(&list, &link));
            },
            Outcome::Refused,
            "of 4 bytes where 3 are right",
        ),
        (
            "a link to nothing",
            |it| {
                it.relist(|list| without(&list, |line| line.ends_with(&blob_path(b"new"))));
                restate(&it.tree(), |state| {
                    state.totals.blobs -= 1;
                    state.totals.bytes -= 3;
                });
            },
            Outcome::Refused,
            "but the file list has no such blob",
        ),
        (
            "a tag that needs what is not linked",
            |it| {
                let link = format!("repos/new/blobs/sha256/{}", hex(b"new"));
                it.relist(|list| without(&list, |line| line.ends_with(&link)));
            },
            Outcome::Refused,
            "repos/new is not complete: sha256:",
        ),
        (
            "an index that nothing proves",
            |it| it.relist(|list| without(&list, |line| is_sum(line, "repos/new/index.json"))),
            Outcome::Refused,
            "repos/new/index.json, without its SHA-256",
        ),
        (
            "no list at all",
            |it| restate(&it.tree(), |state| state.list = None),
            Outcome::Refused,
            "has no file list",
        ),
        (
            "older than what is followed",
            |it| restate(&it.tree(), |state| state.serial = 0),
            Outcome::Failed,
            "is behind: its serial is 0, and this tree is at 1",
        ),
        (
            "shrunk to nothing",
            |it| {
                fs::remove_dir_all(it.tree()).unwrap();
                let writer = TreeWriter::open(&it.tree()).unwrap();
                writer.mark_stale().unwrap();
                writer.finish(jiff::Timestamp::now()).unwrap();
                restate(&it.tree(), |state| state.serial = 9);
            },
            Outcome::Refused,
            "the tree has shrunk from 3 blobs to 0; --accept-shrink follows it",
        ),
        (
            "no state",
            |it| fs::write(it.path(&TreePath::State), "{\"format\":1").unwrap(),
            Outcome::Refused,
            "state.json is not valid",
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_not_what_the_list_says_are_refused() {
    each_is_refused(&[
        (
            "wrong bytes of the right length",
            |it| fs::write(it.path(&TreePath::Blob(digest(b"new"))), "wen").unwrap(),
            Outcome::Refused,
            "is not what the file list says",
        ),
        (
            "shorter than listed",
            |it| fs::write(it.path(&TreePath::Blob(digest(b"new"))), "ne").unwrap(),
            Outcome::Refused,
            "is not what the file list says",
        ),
        (
            "longer than listed",
            |it| fs::write(it.path(&TreePath::Blob(digest(b"new"))), vec![b'n'; MIB]).unwrap(),
            Outcome::Refused,
            "is not what the file list says",
        ),
        (
            "a length that nothing has",
            |it| {
                it.relist(|list| {
                    let list = resized(&list, &blob_path(b"new"));
                    resized(&list, &format!("repos/new/blobs/sha256/{}", hex(b"new")))
                });
                restate(&it.tree(), |state| state.totals.bytes += 1);
            },
            Outcome::Refused,
            "is not what the file list says",
        ),
        (
            "a symbolic link out of the tree",
            |it| {
                let path = it.path(&TreePath::Blob(digest(b"new")));
                let outside = it.master.mirror("outside");
                fs::write(&outside, "new").unwrap();
                fs::remove_file(&path).unwrap();
                std::os::unix::fs::symlink(outside, path).unwrap();
            },
            // Its server does not follow it.
            Outcome::Failed,
            "blobs/sha256/",
        ),
        (
            "an index of a later state",
            |it| {
                let path = it.path(&TreePath::Index("new".parse().unwrap()));
                let index = fs::read_to_string(&path).unwrap();
                fs::write(path, index.replace("\"1\"", "\"2\"")).unwrap();
            },
            Outcome::Refused,
            "repos/new/index.json",
        ),
        (
            "pieces of something else",
            |it| {
                let path = TreePath::Pieces(digest(&stage::large())).to_string();
                it.relist(|list| {
                    let sum = list.lines().find(|line| is_sum(line, &path)).unwrap();
                    list.replace(sum, &format!("{}\t{path}", hex(b"something else")))
                });
            },
            Outcome::Refused,
            "of the file list is not of that blob",
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_ones_are_refused() {
    let stage = Stage::new("many entries").await;
    // In front of all others, so that the first of them is one too many.
    let names = |count: usize| {
        let lines = (0..count).map(|number| format!("1\td\t1\ta{number:08}\n"));
        lines.collect::<Vec<_>>().concat()
    };
    let few = |options: Options| Options {
        max_entries: 1000,
        ..options
    };
    let original = stage.save();
    stage.relist(|list| list.replace("[Files]\n", &format!("[Files]\n{}", names(1001))));
    let report = sync::run(few(stage.options())).await.unwrap();
    stage.is_unchanged(&report, Outcome::Refused, "has more than 1000 entries");
    // And what would take memory to find out is not even brought here.
    stage.restore(&original);
    stage.relist(|list| list.replace("[Files]\n", &format!("[Files]\n{}", names(40_000))));
    let report = sync::run(few(stage.options())).await.unwrap();
    stage.is_unchanged(&report, Outcome::Refused, "is longer than 384000 bytes");
    stage.restore(&original);
    let mut bytes = fs::read(stage.path(&TreePath::State)).unwrap();
    bytes.extend(vec![b' '; MIB]);
    fs::write(stage.path(&TreePath::State), bytes).unwrap();
    let report = sync::run(stage.options()).await.unwrap();
    stage.is_unchanged(&report, Outcome::Refused, "is longer than 65536 bytes");
    stage.restore(&original);
    stage.is_followed_once_it_is_true().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_that_changes_while_it_is_followed_is_followed_as_it_is_then() {
    let stage = Stage::new("changes").await;
    let master = Arc::clone(&stage.master);
    let has_changed = Arc::new(AtomicBool::new(false));
    let changed = Arc::clone(&has_changed);
    let server = Server::start(&stage.tree(), move |path, tree| {
        if path.starts_with("fullfiletimelist-") && !changed.swap(true, Ordering::SeqCst) {
            // What the list names has gone before it is asked for.
            let list = fs::read(tree.join(path)).unwrap();
            master.publish(&[("new", "2", &[b"newer"])]);
            master.remove("new", |tag| tag == "1");
            return Some(list);
        }
        None
    })
    .await;
    let report = sync::run(stage.options_from(&server.url())).await.unwrap();
    assert_eq!(report.outcome, Outcome::Followed, "{report:#?}");
    assert!(has_changed.load(Ordering::SeqCst));
    stage.is_the_same();
    assert!(blob(&stage.mirror(), digest(b"newer")).exists());
    assert!(!blob(&stage.mirror(), digest(b"new")).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_that_goes_away_while_it_is_followed_changes_nothing() {
    let stage = Stage::new("goes away").await;
    let is_gone = Arc::new(AtomicBool::new(false));
    let gone = Arc::clone(&is_gone);
    let server = Server::start(&stage.tree(), move |path, _| {
        // After the first blob.
        let is_over = path.starts_with("blobs/") && gone.swap(true, Ordering::SeqCst);
        assert!(!is_over, "nobody is there any more");
        None
    })
    .await;
    let report = sync::run(stage.options_from(&server.url())).await.unwrap();
    assert!(is_gone.load(Ordering::SeqCst));
    stage.is_unchanged(&report, Outcome::Failed, "cannot be followed");
    assert_eq!(report.exit(), Exit::Failed);
    stage.is_followed_once_it_is_true().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_that_leave_the_tree_are_not_followed_on_a_disk_either() {
    let stage = Stage::new("a disk").await;
    let path = stage.path(&TreePath::Blob(digest(b"new")));
    let outside = stage.master.mirror("outside");
    // What it leads to would even be right.
    fs::write(&outside, "new").unwrap();
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(outside, path).unwrap();
    let options = stage.options_from(&stage.master.url());
    let report = sync::run(options).await.unwrap();
    stage.is_unchanged(&report, Outcome::Failed, &blob_path(b"new"));
    stage.is_followed_once_it_is_true().await;
}

fn hex(content: &[u8]) -> String {
    digest(content).hex().to_string()
}

fn blob_path(content: &[u8]) -> String {
    TreePath::Blob(digest(content)).to_string()
}

/// A list in which one file is a byte longer.
fn resized(list: &str, path: &str) -> String {
    let end = format!("\t{path}");
    let line = |line: &str| {
        if !line.ends_with(&end) || is_sum(line, path) {
            return format!("{line}\n");
        }
        let mut columns: Vec<String> = line.split('\t').map(str::to_owned).collect();
        columns[2] = (columns[2].parse::<u64>().unwrap() + 1).to_string();
        format!("{}\n", columns.join("\t"))
    };
    list.lines().map(line).collect()
}

fn without(list: &str, is_left_out: impl Fn(&str) -> bool) -> String {
    let kept = list.lines().filter(|line| !is_left_out(line));
    kept.flat_map(|line| [line, "\n"]).collect()
}

/// Whether a line is the sum of a file.
fn is_sum(line: &str, path: &str) -> bool {
    let sum = line
        .strip_suffix(path)
        .and_then(|line| line.strip_suffix('\t'));
    sum.is_some_and(|sum| !sum.contains('\t'))
}
