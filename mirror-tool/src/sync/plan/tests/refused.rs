//! What is refused, and what only looks as if it had to be.

use std::io::{BufReader, Cursor, Read};

use super::*;

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
}

#[test]
fn what_waits_for_its_end_is_none_of_what_was_there() {
    let repositories = |count: u8| {
        let repository = |it| (format!("r{it}"), (BTreeSet::from([it]), 0));
        Model {
            repositories: (0..count).map(repository).collect(),
            loose: BTreeSet::new(),
        }
    };
    let (here, new) = (repositories(12), repositories(5));
    let all = Filter::default();
    let (mut gone, stays) = (here.files(&all), new.files(&all));
    gone.retain(|path, _| !stays.contains_key(path));
    let gone = gone.iter().map(|(path, of)| (path.parse().unwrap(), of.0));
    let (gone, found) = (gone.collect(), here.listing().found());
    plan(
        &new.listing(),
        Baseline::Found(found.clone()),
        &gone,
        &terms(&all),
    )
    .unwrap();
    let shrunk = plan(
        &new.listing(),
        Baseline::Found(found),
        &BTreeMap::new(),
        &terms(&all),
    );
    assert!(matches!(shrunk, Err(Refusal::Shrunk { .. })));
}

#[test]
fn a_list_that_never_ends_is_refused_before_it_is_read() {
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
