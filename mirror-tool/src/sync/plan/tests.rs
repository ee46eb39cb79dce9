//! Plans for trees that are made up.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;

use jiff::Timestamp;
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::tree::TreePath;
use oci_mirror::tree::index::{OCI_LAYOUT, RepoIndex};
use oci_mirror::tree::list::{Access, Entry, FileList, Kind, ListPath, Sum, Writer};
use oci_mirror::tree::path::{Module, RepoDir};
use oci_mirror::tree::pieces;
use oci_mirror::tree::sizes::Sizes;
use oci_mirror::tree::state::{FORMAT, ListRef, State, Totals};
use proptest::prelude::*;

use super::refusal::Why;
use super::*;

/// What a tree is made up of: blobs by number, and which of them repositories link to.
#[derive(Debug, Clone, Default)]
struct Model {
    repositories: BTreeMap<String, (BTreeSet<u8>, u8)>,
    /// Blobs that need no repository to be there.
    loose: BTreeSet<u8>,
}

/// Files by path: their lengths, and their sums.
type Files = BTreeMap<String, (u64, Option<Sum>)>;

const NOW: i64 = 1_800_000_000;

fn digest(blob: u8) -> Digest {
    match blob % 5 {
        0 => Algorithm::Sha512.digest(&[blob]),
        _ => Algorithm::Sha256.digest(&[blob]),
    }
}

/// Some are large enough to have pieces.
fn size(blob: u8) -> u64 {
    u64::from(blob) * 400_000 + 1
}

fn sum(text: &str) -> Sum {
    match Algorithm::Sha256.digest(text.as_bytes()) {
        Digest::Sha256(sum) => sum,
        Digest::Sha512(_) => unreachable!("asked for SHA-256"),
    }
}

impl Model {
    /// What there is of it for a filter, but for what a list and a state add.
    fn files(&self, filter: &Filter) -> Files {
        let mut files = Files::new();
        let mut blobs = BTreeSet::new();
        if filter.is_all() {
            blobs.extend(&self.loose);
        }
        for (name, (linked, version)) in &self.repositories {
            if filter.carries(&name.parse().unwrap()) {
                let repo: RepoDir = name.parse().unwrap();
                for blob in linked {
                    let link = TreePath::Link(repo.clone(), digest(*blob));
                    files.insert(link.to_string(), (size(*blob), None));
                    blobs.insert(blob);
                }
                let layout = String::from_utf8(OCI_LAYOUT.to_vec()).unwrap();
                let (length, layout) = (layout.len() as u64, sum(&layout));
                files.insert(format!("{repo}/oci-layout"), (length, Some(layout)));
                let index = sum(&format!("index {version}"));
                // Two of a kind have the same length.
                let length = 100 + u64::from(version / 2);
                files.insert(format!("{repo}/index.json"), (length, Some(index)));
            }
        }
        for blob in blobs {
            let digest = digest(*blob);
            files.insert(TreePath::Blob(digest).to_string(), (size(*blob), None));
            let pieces = pieces::count_for(size(*blob)) * 32;
            if pieces > 0 {
                let sum = sum(&format!("pieces of {blob}"));
                files.insert(TreePath::Pieces(digest).to_string(), (pieces, Some(sum)));
            }
        }
        files
    }

    fn listing(&self) -> Listing {
        Listing::of(self.files(&Filter::default()))
    }
}

/// A list that can be made wrong before it is written.
#[derive(Debug, Clone)]
struct Listing {
    entries: Vec<Entry>,
    sums: Vec<(ListPath, Sum)>,
    totals: Totals,
}

fn file(path: &str, size: u64) -> Entry {
    Entry {
        time: 1_700_000_000,
        kind: Kind::File,
        access: Access::Public,
        size,
        path: path.parse().unwrap(),
    }
}

impl Listing {
    fn of(mut files: Files) -> Self {
        let (mut totals, mut sizes) = (Totals::default(), Sizes::default());
        let mut directories = BTreeSet::new();
        for (path, (size, _)) in &files {
            let parsed: TreePath = path.parse().unwrap();
            sizes.add(Some(&parsed), *size);
            match parsed {
                TreePath::Blob(_) => {
                    totals.blobs += 1;
                    totals.bytes += size;
                }
                TreePath::Index(_) => totals.repositories += 1,
                _ => {}
            }
            let mut path = path.as_str();
            while let Some((above, _)) = path.rsplit_once('/') {
                directories.insert(above.to_owned());
                path = above;
            }
        }
        let text = sizes.to_text();
        let own = (text.len() as u64, Some(sum(&text)));
        files.insert("DIRECTORY_SIZES.txt".to_owned(), own);
        files.insert("state.json".to_owned(), (300, None));
        let mut entries: Vec<_> = files.iter().map(|(path, of)| file(path, of.0)).collect();
        entries.extend(directories.iter().map(|path| Entry {
            kind: Kind::Directory,
            ..file(path, 4096)
        }));
        entries.sort_by(|one, other| one.path.cmp(&other.path));
        let sums = files
            .iter()
            .filter_map(|(path, (_, sum))| Some((path.parse().unwrap(), (*sum)?)))
            .collect();
        Self {
            entries,
            sums,
            totals,
        }
    }

    fn text(&self) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new()).unwrap();
        for entry in &self.entries {
            writer.entry(entry).unwrap();
        }
        for (path, sum) in &self.sums {
            writer.sum(path, sum).unwrap();
        }
        writer.finish().unwrap().0
    }

    fn state(&self) -> State {
        State {
            format: FORMAT,
            serial: 9,
            created: Timestamp::UNIX_EPOCH,
            list: Some(ListRef {
                module: Module::default(),
                digest: Algorithm::Sha256.digest(&self.text()),
            }),
            totals: self.totals,
        }
    }

    /// As a walk finds it.
    fn found(&self) -> Vec<Held> {
        let sums: BTreeMap<_, _> = self.sums.iter().cloned().collect();
        let held = |entry: &Entry| Held {
            path: entry.path.clone(),
            kind: entry.kind,
            size: entry.size,
            sum: sums.get(&entry.path).copied(),
        };
        self.entries.iter().map(held).collect()
    }

    /// The plan of a tree that is new.
    fn plan(&self) -> Result<Plan, Refusal> {
        plan(
            self,
            Baseline::Nothing,
            &BTreeMap::new(),
            &terms(&Filter::default()),
        )
    }

    #[track_caller]
    fn entry(&mut self, path: &str) -> &mut Entry {
        let found = self.entries.iter_mut().find(|it| it.path.as_str() == path);
        found.unwrap()
    }

    #[track_caller]
    fn refused(&self) -> Refusal {
        self.plan().unwrap_err()
    }

    #[track_caller]
    fn refused_entry(&self) -> Why {
        match self.refused() {
            Refusal::Entry { why, .. } => why,
            other => panic!("{other}"),
        }
    }
}

fn terms(filter: &Filter) -> Terms<'_> {
    Terms {
        filter,
        max_entries: 10_000,
        accept_shrink: false,
        now: NOW,
    }
}

fn plan(
    new: &Listing,
    tree: Baseline<&[u8]>,
    gone: &BTreeMap<TreePath, u64>,
    terms: &Terms<'_>,
) -> Result<Plan, Refusal> {
    make(&new.text()[..], &new.state(), Here { tree, gone }, terms)
}

/// Does what a plan says with files.
fn apply(plan: &Plan, files: &mut Files) {
    for path in &plan.gone {
        assert!(files.remove(&path.to_string()).is_some(), "{path}");
    }
    for it in plan
        .wanted()
        .iter()
        .filter(|it| it.path != TreePath::DirectorySizes)
    {
        let sum = match it.proof {
            Proof::Name => None,
            Proof::Sum(sum) => Some(sum),
        };
        files.insert(it.path.to_string(), (it.size, sum));
    }
    for it in &plan.pieces {
        files.insert(TreePath::Pieces(it.digest).to_string(), (it.size, it.sum));
    }
    for (repo, digest) in &plan.links {
        let blob = files[&TreePath::Blob(*digest).to_string()];
        files.insert(TreePath::Link(repo.clone(), *digest).to_string(), blob);
    }
    let layout = String::from_utf8(OCI_LAYOUT.to_vec()).unwrap();
    for repo in &plan.layouts {
        let path = TreePath::Layout(repo.clone()).to_string();
        files.insert(path, (layout.len() as u64, Some(sum(&layout))));
    }
}

fn filter(only: &[&str], except: &[&str]) -> Filter {
    let globs = |globs: &[&str]| globs.iter().map(|glob| glob.parse().unwrap()).collect();
    Filter {
        only: globs(only),
        except: globs(except),
    }
}

fn model() -> impl Strategy<Value = Model> {
    let name = prop_oneof![
        Just("a"),
        Just("a-b"),
        Just("a/b"),
        Just("b"),
        Just("b/c/d")
    ];
    let blobs = || proptest::collection::btree_set(0..12_u8, 0..6);
    let repository = (blobs(), 0..4_u8);
    let repositories =
        proptest::collection::btree_map(name.prop_map(String::from), repository, 0..4);
    (repositories, blobs()).prop_map(|(repositories, loose)| Model {
        repositories,
        loose,
    })
}

fn any_filter() -> impl Strategy<Value = Filter> {
    prop_oneof![
        Just(filter(&[], &[])),
        Just(filter(&["a"], &[])),
        Just(filter(&["**"], &["b"])),
        Just(filter(&[], &["a/**"])),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_plan_makes_the_old_tree_the_new(
        old in model(),
        new in model(),
        filters in (any_filter(), any_filter()),
        is_walked: bool,
        in_grace in proptest::collection::btree_set(0..12_u8, 0..6),
    ) {
        let (old_filter, filter) = filters;
        let mut files = old.files(&old_filter);
        let here = Listing::of(files.clone());
        // What waits for its end beside what the list of the tree has.
        let mut gone = BTreeMap::new();
        for blob in in_grace {
            for path in [
                TreePath::Blob(digest(blob)),
                TreePath::Link("a/b".parse().unwrap(), digest(blob)),
            ] {
                if !files.contains_key(&path.to_string()) {
                    gone.insert(path, size(blob));
                }
            }
        }
        let text = here.text();
        let tree = if is_walked { Baseline::Found(here.found()) } else { Baseline::List(&text[..]) };
        let listing = new.listing();
        let terms = Terms { accept_shrink: true, ..terms(&filter) };
        let plan = plan(&listing, tree, &gone, &terms).unwrap();

        let before = files.clone();
        for (path, size) in &gone {
            files.insert(path.to_string(), (*size, None));
        }
        let staying = files.clone();
        apply(&plan, &mut files);
        for path in gone.keys().filter(|path| !plan.back.contains(path)) {
            files.remove(&path.to_string());
        }
        let expected = new.files(&filter);
        prop_assert_eq!(&files, &expected);
        prop_assert!(plan.back.iter().all(|path| gone.contains_key(path)));
        // Nothing is fetched that is here, each thing once, and only what is needed.
        let wanted: Vec<_> = plan.wanted().iter().map(|it| it.path.to_string()).collect();
        prop_assert_eq!(wanted.iter().collect::<BTreeSet<_>>().len(), wanted.len());
        for it in plan.wanted() {
            let path = it.path.to_string();
            if it.path != TreePath::DirectorySizes {
                prop_assert_ne!(staying.get(&path), expected.get(&path), "{}", path);
            }
        }
        prop_assert_eq!(plan.bytes, plan.wanted().iter().map(|it| it.size).sum::<u64>());
        prop_assert_eq!(plan.is_verbatim, filter.is_all());
        if before == expected && gone.is_empty() && filter.is_all() {
            prop_assert!(plan.is_empty(), "{:?}", plan);
        }
    }

    #[test]
    fn what_is_derived_is_true_of_itself(model in model(), filter in any_filter(), has_foreign: bool) {
        let mut listing = model.listing();
        if has_foreign {
            listing.entries.insert(0, file("A/README", 5));
        }
        let terms = terms(&filter);
        let plan = plan(&listing, Baseline::Nothing, &BTreeMap::new(), &terms).unwrap();
        prop_assert_eq!(plan.skipped, u64::from(has_foreign));
        prop_assert_eq!(plan.is_verbatim, filter.is_all() && !has_foreign);
        let mut list = Vec::new();
        let mut index = |_: &RepoDir| Ok(RepoIndex::default());
        let from = Cursor::new(listing.text());
        let derived = derive(from, &listing.state(), &plan, &terms, &mut index, &mut list).unwrap();
        let of = derived.state.list.as_ref().unwrap();
        prop_assert_eq!(of.digest, Algorithm::Sha256.digest(&list));
        let read = FileList::read(&list[..]).unwrap();
        let length_of = |path: &str| {
            let found = read.entries.iter().find(|entry| entry.path.as_str() == path);
            found.map(|entry| entry.size)
        };
        prop_assert_eq!(length_of("state.json"), Some(derived.state.to_bytes().len() as u64));
        prop_assert_eq!(length_of("DIRECTORY_SIZES.txt"), Some(derived.sizes.len() as u64));

        // The same as if there were nothing else over there.
        let expected = Listing::of(model.files(&filter));
        let paths = |entries: &[Entry]| -> Vec<_> {
            entries.iter().map(|entry| (entry.kind, entry.path.to_string())).collect()
        };
        prop_assert_eq!(paths(&read.entries), paths(&expected.entries));
        prop_assert_eq!(&read.sums, &expected.sums);
        prop_assert_eq!(derived.state.totals, expected.totals);
        prop_assert_eq!(derived.state.serial, 9);

        // And the next tier follows it byte for byte.
        let all = Filter::default();
        let here = Here { tree: Baseline::<&[u8]>::Nothing, gone: &BTreeMap::new() };
        let next = make(&list[..], &derived.state, here, &self::terms(&all)).unwrap();
        prop_assert!(next.is_verbatim);
    }

    #[test]
    fn no_list_that_is_cut_off_is_planned_from(model in model(), cut in any::<prop::sample::Index>()) {
        let listing = model.listing();
        let text = listing.text();
        let cut = &text[..cut.index(text.len())];
        let (all, gone) = (Filter::default(), BTreeMap::new());
        let here = Here { tree: Baseline::<&[u8]>::Nothing, gone: &gone };
        prop_assert!(make(cut, &listing.state(), here, &terms(&all)).is_err());
    }

    #[test]
    fn links_are_those_of_the_repositories_asked_for(model in model()) {
        let repositories = BTreeSet::from(["a".parse().unwrap(), "b/c/d".parse().unwrap()]);
        let found = links(&model.listing().text()[..], &repositories).unwrap();
        prop_assert_eq!(found.len(), 2);
        for (repo, links) in found {
            let expected = model.repositories.get(repo.name().as_str());
            let expected = expected.map(|(blobs, _)| blobs.iter().map(|it| (digest(*it), size(*it))));
            prop_assert_eq!(links, expected.into_iter().flatten().collect());
        }
    }
}

/// Two repositories that share a blob with pieces, and one of their own each.
fn two() -> Listing {
    let repository = |blobs: &[u8]| (blobs.iter().copied().collect(), 0);
    Model {
        repositories: BTreeMap::from([
            ("a".to_owned(), repository(&[1, 9])),
            ("b".to_owned(), repository(&[2, 9])),
        ]),
        loose: BTreeSet::new(),
    }
    .listing()
}

fn many(blobs: u8) -> Listing {
    Model {
        repositories: BTreeMap::from([("a".to_owned(), ((0..blobs).collect(), 0))]),
        loose: BTreeSet::new(),
    }
    .listing()
}

#[test]
fn a_new_tree_lacks_all_and_each_thing_once() {
    let plan = two().plan().unwrap();
    assert_eq!(plan.blobs.len(), 3);
    assert_eq!(plan.pieces.len(), 1);
    assert_eq!(plan.links.len(), 4);
    assert_eq!((plan.layouts.len(), plan.indexes.len()), (2, 2));
    // Pieces come of hashing.
    assert_eq!(plan.wanted().len(), 3 + 2 + 1);
    assert_eq!(plan.repositories().len(), 2);
    assert!(plan.is_verbatim && !plan.is_empty());
}

#[test]
fn what_cannot_be_an_entry_is_refused() {
    let mut listing = two();
    listing.entries.swap(1, 2);
    assert_eq!(listing.refused_entry(), Why::Unsorted);

    let mut listing = two();
    let twice = listing.entries[3].clone();
    listing.entries.insert(3, twice);
    assert_eq!(listing.refused_entry(), Why::Unsorted);

    let mut listing = two();
    listing.entries.insert(
        0,
        Entry {
            kind: Kind::Link,
            ..file("A", 3)
        },
    );
    assert_eq!(listing.refused_entry(), Why::SymbolicLink);

    let mut listing = two();
    let link = TreePath::Link("a".parse().unwrap(), digest(1)).to_string();
    listing.entry(&link).size += 1;
    let (listed, expected) = (size(1) + 1, size(1));
    assert_eq!(listing.refused_entry(), Why::Size { listed, expected });

    let mut listing = two();
    listing.entry("repos/a/oci-layout").size += 1;
    assert_eq!(listing.refused_entry(), Why::Layout);

    for (path, why) in [
        ("repos/a/index.json", Why::NoSum),
        ("repos/b/index.json", Why::NoSum),
        ("DIRECTORY_SIZES.txt", Why::NoSum),
    ] {
        let mut listing = two();
        listing.sums.retain(|(it, _)| it.as_str() != path);
        assert_eq!(listing.refused_entry(), why, "{path}");
    }

    let mut listing = two();
    listing.sums.swap(0, 1);
    assert_eq!(listing.refused_entry(), Why::Unsorted);

    let mut listing = two();
    let at = listing
        .sums
        .iter()
        .position(|(path, _)| path.as_str().ends_with("oci-layout"));
    listing.sums[at.unwrap()].1 = sum("another");
    assert_eq!(listing.refused_entry(), Why::Layout);

    for line in ["../x", "/etc/passwd", "a//b", "a\u{7}b"] {
        let text = String::from_utf8(two().text()).unwrap();
        let text = text.replace("\t4096\tblobs\n", &format!("\t4096\t{line}\n"));
        let (all, gone) = (Filter::default(), BTreeMap::new());
        let here = Here {
            tree: Baseline::<&[u8]>::Nothing,
            gone: &gone,
        };
        let refused = make(text.as_bytes(), &two().state(), here, &terms(&all));
        assert!(matches!(refused, Err(Refusal::List(_))), "{line:?}");
    }
}

#[test]
fn a_link_to_nothing_is_refused() {
    let mut listing = two();
    let blob = TreePath::Blob(digest(1)).to_string();
    listing.entries.retain(|entry| entry.path.as_str() != blob);
    assert!(matches!(listing.refused(), Refusal::Dangling { digest: it, .. } if it == digest(1)));
}

#[test]
fn a_list_that_does_not_add_up_to_its_state_is_refused() {
    for (change, passes) in [
        (|totals: &mut Totals| totals.blobs += 1, false),
        (|totals: &mut Totals| totals.blobs -= 1, true),
        (|totals: &mut Totals| totals.bytes += 1, false),
        (|totals: &mut Totals| totals.repositories += 1, false),
        // A prune is at work over there.
        (|totals: &mut Totals| totals.repositories -= 1, true),
    ] as [(fn(&mut Totals), bool); 5]
    {
        let mut listing = two();
        change(&mut listing.totals);
        let refused = listing.refused();
        assert!(matches!(refused, Refusal::Totals { .. }), "{refused}");
        assert_eq!(refused.may_pass(), passes, "{refused}");
    }
}

#[test]
fn what_others_put_there_is_left_out_and_counted() {
    let mut listing = two();
    let blob = TreePath::Blob(digest(2)).to_string();
    listing.entries.insert(0, file("A", 3));
    listing.entries.push(file("zoo/animal", 3));
    listing.entries.push(Entry {
        kind: Kind::Directory,
        ..file("zoo2", 3)
    });
    listing.entry("repos/a/blobs").access = Access::Restricted;
    let plan = listing.plan().unwrap();
    assert_eq!((plan.skipped, plan.is_verbatim), (4, false));
    assert!(
        plan.directories
            .iter()
            .all(|path| !path.as_str().starts_with("zoo"))
    );
    // Not for everybody, but counted in the totals and linked to: what is left is not whole.
    listing.entry(&blob).access = Access::Unreleased;
    assert!(matches!(listing.refused(), Refusal::Dangling { .. }));
}

#[test]
fn pieces_that_nobody_vouches_for_come_of_hashing_the_blob_again() {
    let here = two();
    let pieces = TreePath::Pieces(digest(9)).to_string();
    let mut new = two();
    new.sums.retain(|(path, _)| path.as_str() != pieces);
    let without: Vec<_> = here
        .entries
        .iter()
        .filter(|it| it.path.as_str() != pieces)
        .cloned()
        .collect();
    let text = Listing {
        entries: without,
        ..new.clone()
    }
    .text();
    let (all, gone) = (Filter::default(), BTreeMap::new());
    let plan = plan(&new, Baseline::List(&text[..]), &gone, &terms(&all)).unwrap();
    assert_eq!(plan.pieces.len(), 1);
    assert_eq!(plan.blobs.len(), 1);
    assert_eq!(plan.wanted().len(), 1);

    // Of another length they are none.
    let mut new = two();
    new.entry(&pieces).size += 32;
    let plan = new.plan().unwrap();
    assert_eq!((plan.skipped, plan.pieces.len()), (1, 0));
}

#[test]
fn links_of_a_blob_that_is_not_here_are_made_again() {
    let (here, new) = (two(), two());
    let blob = TreePath::Blob(digest(9)).to_string();
    let found = here
        .found()
        .into_iter()
        .filter(|held| held.path.as_str() != blob);
    let (all, gone) = (Filter::default(), BTreeMap::new());
    let plan = plan(&new, Baseline::Found(found.collect()), &gone, &terms(&all)).unwrap();
    assert_eq!(plan.blobs.len(), 1);
    assert_eq!(plan.links.len(), 2);
}

#[test]
fn a_tree_that_lost_more_than_half_is_refused_unless_that_is_meant() {
    let (all, gone) = (Filter::default(), BTreeMap::new());
    let planned = |was: &Listing, is: &Listing, accept_shrink: bool| {
        let text = was.text();
        let terms = Terms {
            accept_shrink,
            ..terms(&all)
        };
        plan(is, Baseline::List(&text[..]), &gone, &terms)
    };
    let shrunk = planned(&many(12), &many(5), false).unwrap_err();
    assert_eq!(
        shrunk.to_string(),
        "the tree has shrunk from 12 blobs to 5; --accept-shrink follows it"
    );
    planned(&many(12), &many(6), false).unwrap();
    planned(&many(9), &many(1), false).unwrap();
    planned(&many(12), &many(5), true).unwrap();
    let nothing = Model::default().listing();
    planned(&many(1), &nothing, false).unwrap_err();
    planned(&nothing, &nothing, false).unwrap();

    // What waits for its end is none of what there was.
    let here = many(12);
    let gone: BTreeMap<_, _> = (5..12)
        .map(|it| (TreePath::Blob(digest(it)), size(it)))
        .collect();
    plan(&many(5), Baseline::Found(here.found()), &gone, &terms(&all)).unwrap();
}

#[test]
fn a_list_that_never_ends_is_refused_before_it_is_read() {
    use std::io::{BufReader, Read};
    /// A directory of a tree after the other, for ever.
    struct Endless {
        line: Cursor<Vec<u8>>,
        next: u64,
    }
    impl Read for Endless {
        fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
            match self.line.read(to)? {
                0 => {
                    self.next += 1;
                    let line = format!("1\td\t1\trepos/r{:012}\n", self.next);
                    self.line = Cursor::new(line.into_bytes());
                    self.line.read(to)
                }
                length => Ok(length),
            }
        }
    }
    let line = Cursor::new(b"[Version]\n3\n[Files]\n".to_vec());
    let (all, gone) = (Filter::default(), BTreeMap::new());
    let here = Here {
        tree: Baseline::<&[u8]>::Nothing,
        gone: &gone,
    };
    let endless = BufReader::new(Endless { line, next: 0 });
    let refused = make(endless, &two().state(), here, &terms(&all)).unwrap_err();
    assert!(matches!(refused, Refusal::TooMany(10_000)), "{refused}");
}

#[test]
fn times_that_no_file_can_have_are_brought_back() {
    let mut listing = two();
    let blob = TreePath::Blob(digest(1)).to_string();
    for (time, expected) in [(-5, 0), (i64::MAX, NOW + 86_400), (77, 77)] {
        listing.entry(&blob).time = time;
        let plan = listing.plan().unwrap();
        let wanted = plan.blobs.iter().find(|it| it.path.to_string() == blob);
        assert_eq!(wanted.unwrap().time, expected);
    }
}
