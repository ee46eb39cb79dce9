//! Mirrors of a large tree, entered as the crawler leaves them.

use std::path::Path;

use anyhow::Context as _;
use oci_mirror::tree::Catalog;
use registry_proxy::db::Database;
use registry_proxy::network::NewHost;
use roaring::RoaringBitmap;
use rusqlite::{Connection, params};

/// Makes a database of `hosts` mirrors: half of them hold all; of the others, some lag behind, some
/// carry a part of the repositories and some have lost a blob here and there.
pub(crate) fn fill(path: &Path, hosts: u32, catalog: &Catalog) -> anyhow::Result<Database> {
    let mut database = Database::open(path)?;
    for number in 0..hosts {
        let url = format!("https://m{number}.example/containers").parse()?;
        database.add_host(&NewHost::new(format!("m{number}").parse()?, vec![url]))?;
    }
    let mut connection = Connection::open(path)?;
    let transaction = connection.transaction()?;
    let mut enter = transaction.prepare("INSERT INTO blob (digest, size) VALUES (?1, ?2)")?;
    for blob in catalog.blobs().iter() {
        enter.execute(params![blob.digest.to_string(), blob.size.cast_signed()])?;
    }
    drop(enter);
    let blobs = u32::try_from(catalog.blobs().len())?;
    for number in 0..hosts {
        let mut verified = holdings(number, blobs);
        verified.optimize();
        let mut bytes = Vec::new();
        verified.serialize_into(&mut bytes)?;
        transaction.execute(
            "INSERT INTO presence (host, verified, missing, damaged)
             SELECT id, ?2, x'', x'' FROM host WHERE name = ?1",
            params![format!("m{number}"), bytes],
        )?;
    }
    transaction.commit()?;
    drop(connection);
    Database::open_reader(path).context("cannot open the database again")
}

/// Numbers all that mirrors hold, as if each had been crawled.
pub(crate) fn number(path: &Path) -> anyhow::Result<()> {
    Connection::open(path)?.execute("UPDATE presence SET revision = host", ())?;
    Ok(())
}

/// Records that a mirror has lost a blob.
pub(crate) fn lose(path: &Path, host: u32) -> anyhow::Result<()> {
    let connection = Connection::open(path)?;
    let query = "SELECT verified FROM presence WHERE host = ?1";
    let bytes: Vec<u8> = connection.query_row(query, [host], |row| row.get(0))?;
    let mut verified = RoaringBitmap::deserialize_from(&bytes[..])?;
    verified.remove_smallest(1);
    let mut bytes = Vec::new();
    verified.serialize_into(&mut bytes)?;
    connection.execute(
        "UPDATE presence SET verified = ?2, revision = (SELECT 1 + max(revision) FROM presence)
         WHERE host = ?1",
        params![host, bytes],
    )?;
    Ok(())
}

/// What a mirror holds, by the database's numbers, which begin with 1.
fn holdings(number: u32, blobs: u32) -> RoaringBitmap {
    let mut all: RoaringBitmap = (1..=blobs).collect();
    match number % 10 {
        0..5 => {}
        5..8 => drop(all.remove_range(blobs - blobs / 1000 * (number % 30)..)),
        8 => {
            let part = blobs / 20;
            for skipped in (number..number + 20).filter(|it| it % 3 != 0) {
                all.remove_range(skipped % 20 * part..(skipped % 20 + 1) * part);
            }
        }
        _ => {
            let mut lost = number;
            for _ in 0..blobs / 1000 {
                // Any numbers will do; these do not meet.
                lost = lost.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                all.remove(lost % blobs);
            }
        }
    }
    all
}
