//! Where a client is sent that comes back for the same blob: to a mirror, to the next one, to us, and from
//! there on as if nothing had been.
//!
//! A request after we have sent the bytes ourselves is another machine behind the same address, since no
//! client asks twice for what it has. One that asks for the rest of a transfer was at a mirror before, even if
//! that is not remembered. Invariant: what is chosen is among those listed.

use crate::network::HostId;

/// How far a client has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rung {
    /// To the best mirror.
    First,
    /// To the next one.
    Next,
    /// To us.
    Origin,
}

/// Where a client was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before {
    /// How far it had come.
    pub rung: Rung,
    /// To which mirror; `None` if to us, or if it is not remembered.
    pub host: Option<HostId>,
}

/// Where a client is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// How far it has come.
    pub rung: Rung,
    /// To which of those listed; `None`: it gets the bytes from here.
    pub mirror: Option<usize>,
    /// The mirror it is sent to.
    pub host: Option<HostId>,
    /// The mirror it came back from.
    pub skipped: Option<HostId>,
}

/// The next step of a client; `aside` says what has failed it already.
pub fn step<H>(
    before: Option<Before>,
    resumes: bool,
    listed: &[H],
    id: impl Fn(&H) -> HostId,
    aside: impl Fn(HostId) -> bool,
) -> Step {
    let rung = match (before.map(|before| before.rung), resumes) {
        (None | Some(Rung::Origin), false) => Rung::First,
        (None | Some(Rung::Origin), true) | (Some(Rung::First), _) => Rung::Next,
        (Some(Rung::Next), _) => Rung::Origin,
    };
    let is_aside = |host: &H| aside(id(host));
    // Where it was, if that is not remembered, is where it would have been sent.
    let guess = || first(listed, is_aside).map(|best| id(&listed[best]));
    let skipped = match before {
        _ if rung == Rung::First => None,
        Some(Before {
            rung: Rung::Origin, ..
        }) => None,
        Some(before) => before.host.or_else(guess),
        None => guess(),
    };
    let mirror = match rung {
        Rung::First => first(listed, is_aside),
        Rung::Next => {
            let others = || {
                let all = listed.iter().enumerate();
                all.filter(|(_, host)| skipped != Some(id(host)))
            };
            let fresh = others().find(|(_, host)| !is_aside(host));
            fresh.or_else(|| others().next()).map(|(at, _)| at)
        }
        Rung::Origin => None,
    };
    Step {
        rung: if mirror.is_some() { rung } else { Rung::Origin },
        mirror,
        host: mirror.map(|at| id(&listed[at])),
        skipped,
    }
}

/// The first that is not set aside; if all are, the first.
pub fn first<H>(listed: &[H], aside: impl Fn(&H) -> bool) -> Option<usize> {
    let fresh = listed.iter().position(|host| !aside(host));
    fresh.or((!listed.is_empty()).then_some(0))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn hosts(ids: &[u32]) -> Vec<HostId> {
        ids.iter().copied().map(HostId).collect()
    }

    fn taken(before: Option<(Rung, u32)>, resumes: bool, listed: &[u32], aside: &[u32]) -> Step {
        let before = before.map(|(rung, host)| Before {
            rung,
            host: (host > 0).then_some(HostId(host)),
        });
        let aside = |host: HostId| aside.contains(&host.0);
        step(before, resumes, &hosts(listed), |host| *host, aside)
    }

    #[test]
    fn each_rung_leads_to_the_next() {
        use Rung::{First, Next, Origin};
        // Before, resumes, listed, set aside; rung, mirror, skipped.
        for (before, resumes, listed, aside, rung, mirror, skipped) in [
            (None, false, &[1, 2, 3][..], &[][..], First, 1, 0),
            (Some((First, 1)), false, &[1, 2, 3], &[], Next, 2, 1),
            (Some((Next, 2)), false, &[1, 2, 3], &[1], Origin, 0, 2),
            (Some((Origin, 0)), false, &[1, 2, 3], &[1, 2], First, 3, 0),
            // What has failed for another blob is not tried first.
            (None, false, &[1, 2, 3], &[1], First, 2, 0),
            (None, false, &[1, 2, 3], &[1, 2, 3], First, 1, 0),
            (Some((First, 3)), false, &[1, 2, 3], &[1, 2, 3], Next, 1, 3),
            // The rest of a transfer is never the first step.
            (None, true, &[1, 2, 3], &[], Next, 2, 1),
            (None, true, &[1, 2, 3], &[1], Next, 3, 2),
            (Some((First, 1)), true, &[1, 2, 3], &[], Next, 2, 1),
            (Some((Next, 2)), true, &[1, 2, 3], &[1], Origin, 0, 2),
            (Some((Origin, 0)), true, &[1, 2, 3], &[1, 2], Next, 3, 0),
            // A number too large to be remembered.
            (Some((First, 0)), false, &[1, 2, 3], &[], Next, 2, 1),
            // No other mirror, and none at all.
            (Some((First, 1)), false, &[1], &[], Origin, 0, 1),
            (None, true, &[1], &[], Origin, 0, 1),
            (None, false, &[], &[], Origin, 0, 0),
            (None, true, &[], &[], Origin, 0, 0),
            (Some((First, 1)), false, &[], &[], Origin, 0, 1),
            // The mirror it came from is no longer listed.
            (Some((First, 9)), false, &[1, 2], &[], Next, 1, 9),
        ] {
            let step = taken(before, resumes, listed, aside);
            let host = |number: u32| (number > 0).then_some(HostId(number));
            let found = (step.rung, step.host, step.skipped);
            let case = (before, resumes, listed, aside);
            assert_eq!(found, (rung, host(mirror), host(skipped)), "{case:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_chosen_is_listed_and_not_what_has_failed(
            listed in vec(1_u32..9, 0..7),
            aside in vec(1_u32..9, 0..7),
            before in proptest::option::of((0_usize..3, 0_u32..9)),
            resumes: bool,
        ) {
            let rungs = [Rung::First, Rung::Next, Rung::Origin];
            let before = before.map(|(rung, host)| (rungs[rung], host));
            let step = taken(before, resumes, &listed, &aside);
            prop_assert_eq!(step.mirror.is_none(), step.rung == Rung::Origin);
            prop_assert_eq!(step.mirror.map(|at| HostId(listed[at])), step.host);
            prop_assert!(step.host.is_none() || step.host != step.skipped);
            if let Some(host) = step.host && aside.contains(&host.0) {
                let others = listed.iter().filter(|it| Some(HostId(**it)) != step.skipped);
                prop_assert!(others.into_iter().all(|it| aside.contains(it)));
            }
        }
    }
}
