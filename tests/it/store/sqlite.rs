//! What only a file can show: reopening, foreign and damaged files, growth.

use std::path::{Path, PathBuf};

use issuerwatch::model::NoticeKind;
use issuerwatch::store::{Cycle, Filter, Sqlite, Store, StoreError};
use rusqlite::Connection;

use super::{acme, alert, announcement, at, enrolled, looked, minute, observed};

#[test]
fn reopening_keeps_everything_and_gives_up_claims() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = filled(folder.path());
    store.claim_due(at(1), minute(), 9).unwrap();
    store.claim_alerts(at(1), minute(), 9).unwrap();
    drop(store);
    let mut store = Sqlite::open(&file(folder.path())).unwrap();
    assert_eq!(store.claim_due(at(1), minute(), 9).unwrap(), [], "not before `run` enrolls: another command may have opened it");
    enrolled(&mut store);
    assert_eq!(store.claim_due(at(1), minute(), 9).unwrap(), [acme()]);
    assert_eq!(store.claim_alerts(at(1), minute(), 9).unwrap().len(), 1);
    assert_eq!(store.spans(&Filter::default()).unwrap().len(), 20);
    assert_eq!(store.acts(None).unwrap().len(), 1);
    assert!(!store.is_empty().unwrap());
}

#[test]
fn an_empty_file_becomes_a_database() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(file(folder.path()), b"").unwrap();
    assert!(Sqlite::open(&file(folder.path())).unwrap().is_empty().unwrap());
}

#[test]
fn a_reader_sees_what_was_committed_and_cannot_write() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = filled(folder.path());
    let mut reader = Sqlite::read_only(&file(folder.path())).unwrap();
    assert_eq!(reader.spans(&Filter::default()).unwrap().len(), 20);
    writer.record(&[looked(99, b"new")]).unwrap();
    assert_eq!(reader.spans(&Filter::default()).unwrap().len(), 21);
    let refused = reader.set_note("a", "b").unwrap_err();
    assert!(matches!(&refused, StoreError::Refused(why) if why.contains("reading only")), "{refused}");
    drop((writer, reader));
    let mut alone = Sqlite::read_only(&file(folder.path())).unwrap();
    assert_eq!(alone.spans(&Filter::default()).unwrap().len(), 21, "with no writer about");
}

#[test]
fn a_second_writer_takes_its_turn() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = filled(folder.path());
    let mut command = Sqlite::open(&file(folder.path())).unwrap();
    command.act(&announcement(2, "acme", "B")).unwrap();
    command.hasten(&acme(), at(0)).unwrap();
    assert_eq!(run.remembered(&acme()).unwrap().acts.len(), 2);
}

#[test]
fn reading_makes_no_database() {
    let folder = tempfile::tempdir().unwrap();
    let why = refusal(Sqlite::read_only(&file(folder.path())));
    assert!(why.contains("there is no database at"), "{why}");
    assert!(!file(folder.path()).exists());
    std::fs::write(file(folder.path()), b"").unwrap();
    let why = refusal(Sqlite::read_only(&file(folder.path())));
    assert!(why.contains("is empty or of an older issuerwatch"), "{why}");
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let why = refusal(Sqlite::open(&folder.path().join("nowhere/x.db")));
    assert!(why.contains("nowhere") && why.contains("its folder must be there"), "{why}");
}

#[test]
fn a_newer_schema_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(filled(folder.path()));
    Connection::open(file(folder.path())).unwrap().pragma_update(None, "user_version", 99).unwrap();
    for opened in [Sqlite::open(&file(folder.path())), Sqlite::read_only(&file(folder.path()))] {
        let why = refusal(opened);
        assert!(why.contains("a newer issuerwatch (its schema is 99"), "{why}");
    }
}

#[test]
fn a_foreign_file_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("notes.txt");
    std::fs::write(&text, "shopping list\n".repeat(400)).unwrap();
    let database = folder.path().join("other.db");
    Connection::open(&database).unwrap().execute_batch("CREATE TABLE issuer (id INTEGER)").unwrap();
    let marked = folder.path().join("marked.db");
    Connection::open(&marked).unwrap().pragma_update(None, "application_id", 7).unwrap();
    for (path, words) in [(&text, "is no issuerwatch database"), (&database, "another program's"), (&marked, "another program's")] {
        let before = std::fs::read(path).unwrap();
        for opened in [Sqlite::open(path), Sqlite::read_only(path)] {
            let error = opened.err().expect("it is foreign");
            assert!(matches!(&error, StoreError::Foreign(why) if why.contains(words)), "{error}");
        }
        assert_eq!(std::fs::read(path).unwrap(), before);
    }
}

#[test]
fn damage_is_said_in_words_at_start() {
    let folder = tempfile::tempdir().unwrap();
    drop(filled(folder.path()));
    let whole = std::fs::read(file(folder.path())).unwrap();
    let page = 4096;
    assert!(whole.len() > 8 * page);
    let truncated = whole[..whole.len() - 3 * page].to_vec();
    std::fs::write(file(folder.path()), truncated).unwrap();
    let why = refusal(Sqlite::open(&file(folder.path())));
    assert!(why.contains("is damaged") && why.contains("restore a backup"), "{why}");
    let mut noticed = 0;
    for number in 1..whole.len() / page {
        let mut damaged = whole.clone();
        damaged[number * page..][..64].fill(0xa5);
        std::fs::write(file(folder.path()), damaged).unwrap();
        if let Err(error) = Sqlite::open(&file(folder.path())) {
            assert!(matches!(&error, StoreError::Damaged(why) if why.contains("restore a backup")), "page {number}: {error}");
            noticed += 1;
        }
    }
    // Of an overflow page only the checksum of its content tells; see the next test.
    assert!(noticed * 2 > whole.len() / page, "{noticed} of {}", whole.len() / page);
    let mut headless = whole;
    headless[..100].fill(0);
    std::fs::write(file(folder.path()), headless).unwrap();
    let why = refusal(Sqlite::open(&file(folder.path())));
    assert!(why.contains("its beginning is damaged"), "{why}");
}

#[test]
fn a_rotten_body_is_noticed_when_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    drop(filled(folder.path()));
    let connection = Connection::open(file(folder.path())).unwrap();
    connection.execute("UPDATE document SET content = CAST(substr(content, 1, length(content) - 1) || x'00' AS BLOB)", ()).unwrap();
    drop(connection);
    let mut store = Sqlite::open(&file(folder.path())).unwrap();
    let error = store.spans(&Filter::default()).unwrap_err();
    assert!(matches!(&error, StoreError::Damaged(why) if why.contains("a document cannot be read back")), "{error}");
}

#[test]
fn a_thousand_unchanged_polls_cost_next_to_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = filled(folder.path());
    let pages = |_: &Sqlite| -> i64 {
        let connection = Connection::open(file(folder.path())).unwrap();
        connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap()
    };
    store.record(&[looked(100, b"{}")]).unwrap();
    let before = pages(&store);
    let cycles: Vec<Cycle> = (101..1101)
        .map(|second| Cycle {
            observations: vec![observed(second, b"{}")],
            touched: vec![(issuerwatch::model::Channel::Jwks, at(second))],
            due: Some(at(second + 300)),
            ..Cycle::default()
        })
        .collect();
    cycles.iter().for_each(|cycle| store.record(std::slice::from_ref(cycle)).unwrap());
    assert!(pages(&store) - before <= 1, "{} pages more", pages(&store) - before);
    assert_eq!(store.spans(&Filter::default()).unwrap().last().unwrap().polls, 1001);
}

/// A database with some of everything, of a few dozen pages.
fn filled(folder: &Path) -> Sqlite {
    let mut store = Sqlite::open(&file(folder)).unwrap();
    enrolled(&mut store);
    for second in 0..20 {
        let noise: String = (0..60).map(|n| issuerwatch::model::Digest::of(format!("{second}/{n}").as_bytes()).to_string()).collect();
        store.record(&[looked(second, noise.as_bytes())]).unwrap();
    }
    store.enqueue(&[alert("inc-1", NoticeKind::Opened, 0)]).unwrap();
    store.act(&announcement(1, "acme", "A")).unwrap();
    store
}

fn file(folder: &Path) -> PathBuf {
    folder.join("issuerwatch.db")
}

fn refusal(opened: Result<Sqlite, StoreError>) -> String {
    opened.err().expect("it cannot be opened").to_string()
}
