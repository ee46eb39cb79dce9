//! `mirror list` and `mirror show`.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::{Value, json};

use super::output::table;
use crate::db::{Database, Listed};
use crate::network::HostName;

/// All mirrors.
pub(super) fn list(database: &Database, as_json: bool) -> Result<String> {
    let listed = database.listed()?;
    if as_json {
        let mirrors = listed
            .iter()
            .map(|listed| value(database, listed))
            .collect::<Result<Vec<_>>>()?;
        return Ok(format!("{}\n", serde_json::to_string_pretty(&mirrors)?));
    }
    if listed.is_empty() {
        return Ok("there are no mirrors\n".to_owned());
    }
    let mut rows = vec![
        [
            "NAME", "COUNTRY", "MBIT/S", "VERIFIED", "CRAWLED", "URL", "STATUS",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for entry in &listed {
        let host = &entry.host;
        rows.push(vec![
            host.name.to_string(),
            host.country
                .map_or_else(|| "-".to_owned(), |country| country.to_string()),
            host.bandwidth.mbit().to_string(),
            database.verified_count(host.id)?.to_string(),
            crawled(entry),
            host.urls
                .first()
                .map(ToString::to_string)
                .unwrap_or_default(),
            status(entry),
        ]);
    }
    Ok(table(&rows))
}

/// One mirror, with what is held against it.
pub(super) fn one(database: &Database, name: &HostName, as_json: bool) -> Result<String> {
    let listed = database.host(name)?;
    let evidence = database.evidence(name)?;
    if as_json {
        let mut mirror = value(database, &listed)?;
        mirror["evidence"] = evidence
            .iter()
            .map(|(at, piece)| json!({"seen-at": at, "what": piece}))
            .collect();
        return Ok(format!("{}\n", serde_json::to_string_pretty(&mirror)?));
    }
    let host = &listed.host;
    let words = |items: Vec<String>| {
        if items.is_empty() {
            "-".to_owned()
        } else {
            items.join(" ")
        }
    };
    let rows = [
        ("name", host.name.to_string()),
        ("status", status(&listed)),
        (
            "urls",
            words(host.urls.iter().map(ToString::to_string).collect()),
        ),
        (
            "country",
            host.country
                .map_or_else(|| "-".to_owned(), |country| country.to_string()),
        ),
        ("bandwidth", format!("{} Mbit/s", host.bandwidth.mbit())),
        (
            "netblocks",
            words(host.netblocks.iter().map(ToString::to_string).collect()),
        ),
        (
            "AS numbers",
            words(host.asns.iter().map(ToString::to_string).collect()),
        ),
        (
            "peers",
            words(host.peer_asns.iter().map(ToString::to_string).collect()),
        ),
        (
            "private",
            if host.is_private() { "yes" } else { "no" }.to_owned(),
        ),
        (
            "repositories",
            if host.repositories.is_empty() {
                "all".to_owned()
            } else {
                words(host.repositories.iter().map(ToString::to_string).collect())
            },
        ),
        ("crawled", crawled(&listed)),
        (
            "verified",
            format!("{} blobs", database.verified_count(host.id)?),
        ),
    ];
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|(name, value)| vec![name.to_owned(), value])
        .collect();
    let mut text = table(&rows);
    for (at, piece) in evidence {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "evidence of {at}: {} at {}: {}",
            piece.digest, piece.url, piece.found
        );
    }
    Ok(text)
}

fn value(database: &Database, listed: &Listed) -> Result<Value> {
    let mut mirror = serde_json::to_value(&listed.host)?;
    mirror["verified"] = json!(database.verified_count(listed.host.id)?);
    mirror["crawled-at"] = json!(listed.crawled_at);
    mirror["active"] = json!(listed.host.standing().is_ok());
    mirror["inactive-because"] = json!(
        listed
            .host
            .standing()
            .err()
            .map(|reason| reason.to_string())
    );
    Ok(mirror)
}

fn status(listed: &Listed) -> String {
    match (listed.host.standing(), listed.crawled_at) {
        (Err(reason), _) => reason.to_string(),
        (Ok(()), None) => "not crawled yet".to_owned(),
        (Ok(()), Some(_)) => "active".to_owned(),
    }
}

fn crawled(listed: &Listed) -> String {
    listed.crawled_at.map_or_else(
        || "never".to_owned(),
        |at| at.strftime("%Y-%m-%d %H:%M").to_string(),
    )
}
