//! Where a client is sent that comes back for the same blob: to a mirror, to the next one, to us, and from
//! there on as if nothing had been.
//!
//! A request after we have sent the bytes ourselves is another machine behind the same address, since no
//! client asks twice for what it has. One that asks for the rest of a transfer was at a mirror before, even if
//! that is not remembered. One that asks for another part of what it is at already goes where it was sent for
//! that. Invariant: what is chosen is among those listed.

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

/// How a client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// For the whole.
    Whole,
    /// For the rest of what broke.
    Rest,
    /// For a part beside others that it may have asked for.
    Beside,
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
    /// Whether it came back at all.
    pub is_retry: bool,
}

/// The next step of a client; `aside` says what has failed it already.
pub fn step<H>(
    before: Option<Before>,
    request: Request,
    listed: &[H],
    id: impl Fn(&H) -> HostId,
    aside: impl Fn(HostId) -> bool,
) -> Step {
    use Request::{Beside, Rest, Whole};
    let is_aside = |host: &H| aside(id(host));
    let rung = match (before.map(|before| before.rung), request) {
        (None, Whole | Beside) | (Some(Rung::Origin), Whole) => Rung::First,
        (None | Some(Rung::Origin), Rest) | (Some(Rung::First), Whole | Rest) => Rung::Next,
        (Some(Rung::Next), Whole | Rest) => Rung::Origin,
        (Some(rung), Beside) => return beside(rung, before, listed, &id, is_aside),
    };
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
        is_retry: rung != Rung::First,
    }
}

/// Where the client is already, if that is still good enough.
fn beside<H>(
    rung: Rung,
    before: Option<Before>,
    listed: &[H],
    id: impl Fn(&H) -> HostId,
    is_aside: impl Fn(&H) -> bool,
) -> Step {
    let there = before.and_then(|before| before.host);
    let same = |host: &H| there == Some(id(host)) && !is_aside(host);
    let mirror = match rung {
        Rung::First | Rung::Next => {
            let same = listed.iter().position(same);
            same.or_else(|| first(listed, is_aside))
        }
        Rung::Origin => None,
    };
    Step {
        rung: if mirror.is_some() { rung } else { Rung::Origin },
        mirror,
        host: mirror.map(|at| id(&listed[at])),
        skipped: None,
        is_retry: false,
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

    fn taken(before: Option<(Rung, u32)>, request: Request, listed: &[u32], aside: &[u32]) -> Step {
        let before = before.map(|(rung, host)| Before {
            rung,
            host: (host > 0).then_some(HostId(host)),
        });
        let aside = |host: HostId| aside.contains(&host.0);
        step(before, request, &hosts(listed), |host| *host, aside)
    }

    #[test]
    fn each_rung_leads_to_the_next() {
        use Request::{Beside, Rest, Whole};
        use Rung::{First, Next, Origin};
        // Before, request, listed, set aside; rung, mirror, skipped.
        for (before, request, listed, aside, rung, mirror, skipped) in [
            (None, Whole, &[1, 2, 3][..], &[][..], First, 1, 0),
            (Some((First, 1)), Whole, &[1, 2, 3], &[], Next, 2, 1),
            (Some((Next, 2)), Whole, &[1, 2, 3], &[1], Origin, 0, 2),
            (Some((Origin, 0)), Whole, &[1, 2, 3], &[1, 2], First, 3, 0),
            // What has failed for another blob is not tried first.
            (None, Whole, &[1, 2, 3], &[1], First, 2, 0),
            (None, Whole, &[1, 2, 3], &[1, 2, 3], First, 1, 0),
            (Some((First, 3)), Whole, &[1, 2, 3], &[1, 2, 3], Next, 1, 3),
            // The rest of a transfer is never the first step.
            (None, Rest, &[1, 2, 3], &[], Next, 2, 1),
            (None, Rest, &[1, 2, 3], &[1], Next, 3, 2),
            (Some((First, 1)), Rest, &[1, 2, 3], &[], Next, 2, 1),
            (Some((Next, 2)), Rest, &[1, 2, 3], &[1], Origin, 0, 2),
            (Some((Origin, 0)), Rest, &[1, 2, 3], &[1, 2], Next, 3, 0),
            // A number too large to be remembered.
            (Some((First, 0)), Whole, &[1, 2, 3], &[], Next, 2, 1),
            // No other mirror, and none at all.
            (Some((First, 1)), Whole, &[1], &[], Origin, 0, 1),
            (None, Rest, &[1], &[], Origin, 0, 1),
            (None, Whole, &[], &[], Origin, 0, 0),
            (None, Rest, &[], &[], Origin, 0, 0),
            (Some((First, 1)), Whole, &[], &[], Origin, 0, 1),
            // The mirror it came from is no longer listed.
            (Some((First, 9)), Whole, &[1, 2], &[], Next, 1, 9),
            // Another part goes where the client is, unless that has failed it or is gone.
            (None, Beside, &[1, 2, 3], &[1], First, 2, 0),
            (Some((First, 2)), Beside, &[1, 2, 3], &[], First, 2, 0),
            (Some((Next, 2)), Beside, &[1, 2, 3], &[1], Next, 2, 0),
            (Some((Next, 2)), Beside, &[1, 2, 3], &[1, 2], Next, 3, 0),
            (Some((Next, 9)), Beside, &[1, 2, 3], &[], Next, 1, 0),
            (Some((Origin, 0)), Beside, &[1, 2, 3], &[1], Origin, 0, 0),
            (Some((First, 1)), Beside, &[], &[], Origin, 0, 0),
        ] {
            let step = taken(before, request, listed, aside);
            let host = |number: u32| (number > 0).then_some(HostId(number));
            let found = (step.rung, step.host, step.skipped);
            let case = (before, request, listed, aside);
            assert_eq!(found, (rung, host(mirror), host(skipped)), "{case:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_chosen_is_listed_and_not_what_has_failed(
            listed in vec(1_u32..9, 0..7),
            aside in vec(1_u32..9, 0..7),
            before in proptest::option::of((0_usize..3, 0_u32..9)),
            request in 0_usize..3,
        ) {
            let rungs = [Rung::First, Rung::Next, Rung::Origin];
            let before = before.map(|(rung, host)| (rungs[rung], host));
            let request = [Request::Whole, Request::Rest, Request::Beside][request];
            let step = taken(before, request, &listed, &aside);
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
