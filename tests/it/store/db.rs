//! The async front: who is answered, when, and with what.

use std::sync::mpsc;

use futures_util::future::join_all;
use issuerwatch::store::{Cycle, Db, Filter, Role, Sqlite, Store, StoreError};

use super::{acme, at, enrolment, id, looked, observed};

#[tokio::test]
async fn a_group_is_committed_together_and_everyone_is_answered() {
    let (_folder, db) = over_a_file();
    db.call(|store| store.enroll(&(0..50).map(|n| enrolment(&format!("i{n}"), 0)).collect::<Vec<_>>())).await.unwrap();
    let answers = while_the_writer_is_busy(&db, (0..50).map(|n| cycle(&format!("i{n}")))).await;
    assert!(answers.into_iter().all(|answer| answer.is_ok()));
    assert_eq!(db.read(|store| store.spans(&Filter::default())).await.unwrap().len(), 50);
}

#[tokio::test]
async fn one_bad_cycle_does_not_fail_the_others() {
    let (_folder, db) = over_a_file();
    db.call(|store| store.enroll(&[enrolment("a", 0), enrolment("b", 0)])).await.unwrap();
    let answers = while_the_writer_is_busy(&db, ["a", "nobody", "b"].into_iter().map(cycle)).await;
    assert!(answers[0].is_ok() && answers[2].is_ok());
    assert!(matches!(&answers[1], Err(StoreError::Refused(why)) if why.contains("nobody")));
    let spans = db.read(|store| store.spans(&Filter::default())).await.unwrap();
    assert_eq!(spans.iter().map(|span| span.polls).collect::<Vec<_>>(), [1, 1], "each once");
}

#[tokio::test]
async fn a_panic_answers_its_caller_and_leaves_the_thread() {
    let (_folder, db) = over_a_file();
    for _ in 0..2 {
        let failed = db.call(|_| -> Result<(), StoreError> { panic!("oh {}", "no") }).await.unwrap_err();
        assert!(std::error::Error::source(&failed).unwrap().to_string().contains("oh no"), "{failed}");
        let failed = db.read(|_| -> Result<(), StoreError> { panic!("oh") }).await.unwrap_err();
        assert!(matches!(failed, StoreError::Failed { .. }));
    }
    assert!(db.read(|store| store.is_empty()).await.unwrap());
    db.call(|store| store.set_note("a", "b")).await.unwrap();
}

#[tokio::test]
async fn readers_see_what_was_answered() {
    let (_folder, db) = over_a_file();
    for n in 0..50 {
        db.call(move |store| store.set_note("n", &n.to_string())).await.unwrap();
        assert_eq!(db.read(|store| store.note("n")).await.unwrap(), Some(n.to_string()));
    }
}

#[tokio::test]
async fn a_reader_is_not_held_up_by_the_writer() {
    let (_folder, db) = over_a_file();
    let (release, wait) = mpsc::channel::<()>();
    let writer = db.clone();
    let busy = tokio::spawn(async move { writer.call(move |_| wait.recv().map_err(|_| unreachable!())).await });
    tokio::task::yield_now().await;
    assert!(db.read(|store| store.is_empty()).await.unwrap());
    release.send(()).unwrap();
    busy.await.unwrap().unwrap();
}

#[tokio::test]
async fn without_readers_the_writer_reads() {
    let db = Db::start(0, |_| Ok(Box::new(Sqlite::in_memory()?))).unwrap();
    db.call(|store| store.enroll(&[enrolment("acme", 0)])).await.unwrap();
    db.record(looked(0, b"{}")).await.unwrap();
    assert!(db.read(|store| store.remembered(&acme())).await.unwrap().last.is_some());
}

#[tokio::test]
async fn a_shutdown_finishes_what_is_queued_and_refuses_the_rest() {
    let (folder, db) = over_a_file();
    db.call(|store| store.enroll(&[enrolment("acme", 0)])).await.unwrap();
    let (release, wait) = mpsc::channel::<()>();
    let call = db.clone();
    let busy = tokio::spawn(async move { call.call(move |_| wait.recv().map_err(|_| unreachable!())).await });
    let recorder = db.clone();
    let record = tokio::spawn(async move { recorder.record(looked(0, b"{}")).await });
    tokio::task::yield_now().await;
    let closer = db.clone();
    let closing = tokio::spawn(async move { closer.shutdown().await });
    tokio::task::yield_now().await;
    let refused = db.record(looked(1, b"{}")).await.unwrap_err();
    assert!(std::error::Error::source(&refused).unwrap().to_string().contains("shut down"));
    assert!(db.read(|store| store.is_empty()).await.is_err());
    release.send(()).unwrap();
    closing.await.unwrap();
    busy.await.unwrap().unwrap();
    record.await.unwrap().unwrap();
    db.shutdown().await; // twice does no harm
    let mut store = Sqlite::open(&folder.path().join("x.db")).unwrap();
    assert_eq!(store.remembered(&acme()).unwrap().last.unwrap().at, at(0));
}

#[test]
fn a_store_that_cannot_be_opened_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nowhere/x.db");
    assert!(matches!(Db::start(1, |_| Ok(Box::new(Sqlite::open(&path)?))), Err(StoreError::Foreign(_))));
}

fn over_a_file() -> (tempfile::TempDir, Db) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    let open = |role| -> Result<Box<dyn Store>, StoreError> {
        Ok(match role {
            Role::Writer => Box::new(Sqlite::open(&path)?),
            Role::Reader => Box::new(Sqlite::read_only(&path)?),
        })
    };
    let db = Db::start(2, open).unwrap();
    (folder, db)
}

/// Queues the cycles behind a call that holds the writer until all are waiting.
async fn while_the_writer_is_busy(db: &Db, cycles: impl Iterator<Item = Cycle>) -> Vec<Result<(), StoreError>> {
    let (release, wait) = mpsc::channel::<()>();
    let call = db.clone();
    let busy = tokio::spawn(async move { call.call(move |_| wait.recv().map_err(|_| unreachable!())).await });
    tokio::task::yield_now().await;
    let records: Vec<_> = cycles
        .map(|cycle| {
            let db = db.clone();
            tokio::spawn(async move { db.record(cycle).await })
        })
        .collect();
    tokio::task::yield_now().await;
    release.send(()).unwrap();
    busy.await.unwrap().unwrap();
    join_all(records).await.into_iter().map(|answer| answer.unwrap()).collect()
}

fn cycle(issuer: &str) -> Cycle {
    let observation = issuerwatch::model::Observation { issuer: id(issuer), ..observed(0, b"{}") };
    Cycle { observations: vec![observation], ..Cycle::default() }
}
