//! SIGKILL while a tree that somebody else has made is taken over: nothing of it that was right is lost, or brought
//! again, and the next run finishes.

use super::*;

/// How many runs are begun.
const RUNS: u32 = 16;

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_a_tree_is_taken_over_nothing_is_lost() {
    let source = Source::new().await;
    tokio::task::spawn_blocking(move || take_over_often(source))
        .await
        .unwrap();
}

fn take_over_often(mut source: Source) {
    let mut whole = Duration::ZERO;
    let mut killed = 0;
    for run in 0..=RUNS {
        let way = [Way::Http, Way::Rsync][run as usize % 2];
        let context = format!("run {run} over {way:?}");
        let lacking = make_foreign(&source);
        let before = right_files(&source);
        source.asked();
        let started = Instant::now();
        // The first tells how long one takes that is not killed.
        let until = match run {
            0 => started + Duration::from_secs(60),
            run => started + whole * run / (RUNS + 1),
        };
        let mut child = source.command(way, Change::Rest).spawn().unwrap();
        match ended_before(until, &mut child) {
            Some(status) => {
                assert_eq!(status.code(), Some(0), "{context}");
                whole = started.elapsed();
            }
            None => killed += 1,
        }
        let after = right_files(&source);
        let lost: Vec<&PathBuf> = before.difference(&after).collect();
        assert_eq!(lost, [] as [&PathBuf; 0], "{context}");
        source.finish(way, &context);
        let asked = source.asked();
        let needless: Vec<&String> = asked.iter().filter(|it| !lacking.contains(it)).collect();
        assert_eq!(needless, [] as [&String; 0], "{context}: brought again");
    }
    assert!(killed >= RUNS / 4, "only {killed} were killed");
}

/// Makes a mirror as rsync without `-H` would, with a blob lost and another one damaged; which these are.
fn make_foreign(source: &Source) -> Vec<String> {
    let mirror = source.mirror();
    drop(fs::remove_dir_all(&mirror));
    let tree = source.master.tree();
    for path in crate::bench::snapshot(&tree).into_keys() {
        let below = path.strip_prefix(&tree).unwrap();
        if !below.starts_with(".~tmp~") {
            let to = mirror.join(below);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(&path, to).unwrap();
        }
    }
    let held = source.held();
    let lacking = [held.first().unwrap(), held.last().unwrap()];
    fs::remove_file(mirror.join(lacking[0])).unwrap();
    fs::write(mirror.join(lacking[1]), "x").unwrap();
    lacking.map(String::clone).to_vec()
}

/// The files of the mirror that are those of the tree it follows.
fn right_files(source: &Source) -> BTreeSet<PathBuf> {
    let (mirror, tree) = (source.mirror(), source.master.tree());
    let all = crate::bench::snapshot(&tree).into_iter();
    all.filter_map(|(path, (.., content))| {
        let below = path.strip_prefix(&tree).unwrap().to_owned();
        let found = fs::read(mirror.join(&below));
        found.is_ok_and(|found| found == content).then_some(below)
    })
    .collect()
}
