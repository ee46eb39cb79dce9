//! What holds of all plans.

use std::io::Cursor;

use oci_mirror::tree::index::RepoIndex;
use oci_mirror::tree::list::FileList;
use proptest::prelude::*;

use super::*;

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
