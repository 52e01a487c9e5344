//! Opening a database: is it ours, of which version, is it whole; and bringing it up to date. Never touches a file that
//! is not ours.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::store::StoreError;

/// "issw": stands in the file's header, so that no other program's database is taken for ours.
const APPLICATION_ID: i32 = 0x6973_7377;

/// Forward only. Number n brings a database from version n to n + 1; what was released is never edited.
const MIGRATIONS: [&str; 1] = [include_str!("0001_init.sql")];

/// How long one process waits for another one's transaction.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn writable(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let place = Place(path);
    let mut connection = Connection::open_with_flags(path, flags).map_err(|error| place.trouble(error))?;
    prepare(&connection).map_err(|error| place.trouble(error))?;
    let version = place.version(&connection)?;
    place.whole(&connection)?;
    let durable = |connection: &Connection| {
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")
    };
    durable(&connection).map_err(|error| place.trouble(error))?;
    if version < MIGRATIONS.len() {
        migrate(&mut connection).map_err(|error| place.trouble(error))?;
    }
    Ok(connection)
}

pub(super) fn read_only(path: &Path) -> Result<Connection, StoreError> {
    let place = Place(path);
    if !path.exists() {
        return Err(StoreError::Foreign(format!("there is no database at {place}; \"issuerwatch run\" makes one")));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| place.trouble(error))?;
    prepare(&connection).map_err(|error| place.trouble(error))?;
    if place.version(&connection)? < MIGRATIONS.len() {
        return Err(StoreError::Foreign(format!(
            "{place} is empty or of an older issuerwatch; start \"issuerwatch run\" once, it brings it up to date"
        )));
    }
    Ok(connection)
}

pub(super) fn in_memory() -> Result<Connection, StoreError> {
    let place = Place(Path::new(":memory:"));
    let mut connection = Connection::open_in_memory().map_err(|error| place.trouble(error))?;
    prepare(&connection).and_then(|()| migrate(&mut connection)).map_err(|error| place.trouble(error))?;
    Ok(connection)
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(PATIENCE)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)
}

/// Two processes may start at once: the version is read again under the lock.
fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for (number, migration) in (1..).zip(MIGRATIONS).skip_while(|(number, _)| *number <= version) {
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", number)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.commit()
}

/// A database file, as it is named to people.
struct Place<'a>(&'a Path);

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.display())
    }
}

impl Place<'_> {
    /// The schema's version; 0 for a new file. Refuses what is not ours or from the future.
    fn version(&self, connection: &Connection) -> Result<usize, StoreError> {
        let number =
            |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0)).map_err(|error| self.trouble(error));
        let tables: i64 =
            connection.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0)).map_err(|error| self.trouble(error))?;
        let (application, version) = (number("application_id")?, number("user_version")?);
        if application != APPLICATION_ID {
            return match (application, version, tables) {
                (0, 0, 0) => Ok(0),
                _ => Err(StoreError::Foreign(format!("{self} is another program's database; give issuerwatch a file of its own"))),
            };
        }
        match usize::try_from(version) {
            Ok(version) if (1..=MIGRATIONS.len()).contains(&version) => Ok(version),
            Ok(0) | Err(_) => Err(StoreError::Damaged(format!("{self} is damaged: its version is {version}; restore a backup"))),
            Ok(newer) => Err(StoreError::Foreign(format!(
                "{self} was written by a newer issuerwatch (its schema is {newer}, this program knows {}); install that version or a later one",
                MIGRATIONS.len()
            ))),
        }
    }

    /// Reads every page once: a damaged one is better known now than when an alert hangs on it.
    fn whole(&self, connection: &Connection) -> Result<(), StoreError> {
        let verdict: String = connection.query_row("PRAGMA quick_check(1)", (), |row| row.get(0)).map_err(|error| self.trouble(error))?;
        if verdict == "ok" { Ok(()) } else { Err(self.damaged(&verdict)) }
    }

    fn damaged(&self, how: impl std::fmt::Display) -> StoreError {
        // SQLite's findings may span lines.
        let how = how.to_string().replace('\n', " ");
        StoreError::Damaged(format!("{self} is damaged ({how}); restore a backup, or move the file away to start a new history"))
    }

    fn trouble(&self, error: rusqlite::Error) -> StoreError {
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => {
                StoreError::Foreign(format!("{self} is no issuerwatch database, or its beginning is damaged ({error})"))
            }
            Some(ErrorCode::DatabaseCorrupt) => self.damaged(error),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                StoreError::Busy(format!("another program keeps {self} locked ({error})"))
            }
            Some(ErrorCode::CannotOpen) => {
                StoreError::Foreign(format!("{self} cannot be opened ({error}); its folder must be there and be writable"))
            }
            _ => StoreError::Failed { doing: "opening the database", source: format!("{self}: {error}").into() },
        }
    }
}
