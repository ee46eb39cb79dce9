//! A file list of somebody else's, followed: no bytes make the planner panic, a tree that has done what a plan
//! says lacks nothing, and what is derived for a part of it can be followed in turn.
#![no_main]

use std::collections::BTreeMap;
use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use mirror_tool::sync::plan::{self, Baseline, Filter, Here, Terms};
use oci_mirror::tree::TreePath;
use oci_mirror::tree::index::RepoIndex;
use oci_mirror::tree::list::{FileList, Kind};
use oci_mirror::tree::state::State;

const STATE: &[u8] = br#"{"format":1,"serial":9,"created":"2026-01-01T00:00:00Z","list":{"name":
    "fullfiletimelist-containers","digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000"},
    "totals":{"repositories":0,"tags":0,"blobs":0,"bytes":0}}"#;

fuzz_target!(|bytes: &[u8]| {
    let mut state = State::from_bytes(STATE).unwrap();
    // So that what comes after the counting is reached too.
    for entry in FileList::read(bytes).iter().flat_map(|list| &list.entries) {
        match entry.path.as_str().parse() {
            Ok(TreePath::Blob(_)) if entry.kind == Kind::File => {
                state.totals.blobs += 1;
                state.totals.bytes = state.totals.bytes.saturating_add(entry.size);
            }
            Ok(TreePath::Index(_)) if entry.kind == Kind::File => state.totals.repositories += 1,
            _ => {}
        }
    }
    let all = Filter::default();
    let some = Filter {
        only: vec!["a/**".parse().unwrap(), "b".parse().unwrap()],
        except: vec!["a/c".parse().unwrap()],
    };
    let gone = BTreeMap::new();
    for filter in [&all, &some] {
        let terms = Terms {
            filter,
            max_entries: 1000,
            accept_shrink: true,
            now: 1_800_000_000,
        };
        let make = |list: &[u8], state: &State, tree: Baseline<&[u8]>, terms: &Terms<'_>| {
            plan::make(list, state, Here { tree, gone: &gone }, terms)
        };
        let Ok(plan) = make(bytes, &state, Baseline::Nothing, &terms) else {
            continue;
        };
        let _ = plan.wanted();
        let links = plan::links(bytes, &plan.repositories()).unwrap();
        assert!(plan.links.iter().all(|(repo, digest)| links[repo].contains_key(digest)));
        let mut own = bytes.to_vec();
        let mut own_state = state.clone();
        if !plan.is_verbatim {
            own.clear();
            let mut index = |_: &_| Ok(RepoIndex::default());
            let derived = plan::derive(
                Cursor::new(bytes),
                &state,
                &plan,
                &terms,
                &mut index,
                &mut own,
            );
            own_state = derived.unwrap().state;
        }
        // Followed by the next tier, and by the same again.
        let next = Terms {
            filter: &all,
            ..terms.clone()
        };
        let next = make(&own, &own_state, Baseline::Nothing, &next).unwrap();
        assert!(next.is_verbatim);
        let again = make(bytes, &state, Baseline::List(&own), &terms).unwrap();
        let lacks = [again.links.len(), again.indexes.len(), again.layouts.len(), again.gone.len()];
        assert_eq!(lacks, [0; 4]);
        assert!(again.blobs.is_empty());
    }
});
