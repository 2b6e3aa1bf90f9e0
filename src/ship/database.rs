//! The way to the database.

use std::{fmt, net::IpAddr, str, time::Duration};

use tokio::{task::AbortHandle, time::timeout};
use tokio_postgres::{
    Client, Config, NoTls, Row, Transaction,
    config::{Host, SslMode, TargetSessionAttrs},
    types::{ToSql, Type},
};

use super::{
    fault::{Failure, Reason},
    stream::Tls,
};
use crate::tls::ClientTls;

/// By when one address must take a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// By when a connection must be there, let in and ready.
const READY_TIMEOUT: Duration = Duration::from_secs(15);
/// By when a batch must be written, and any question answered.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the database waits for a lock, for whoever asked: to it a connection that was
/// closed looks as if it were there, and with each try one more would wait. Shorter than
/// our own patience by far, so that it says what it was; of the transaction alone, as
/// poolers need it. Why not cancel what is late: a commit that waits for a standby would
/// be told as done, and `PgBouncer` 1.18 ends with a bug on such a request.
const LOCK_WAIT: &str = "SET LOCAL lock_timeout = '10s'";
/// The same for what is only asked, or of no weight, and how long each of it may take.
const ANSWER_WAIT: &str = "SET LOCAL lock_timeout = '10s'; SET LOCAL statement_timeout = '25s'";
/// How long what was sent may stay without an acknowledgement.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(30);
/// After how long without a word the other side is asked whether it lives.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// What a URL looks like.
const FORM: &str = "expected postgres://USER:PASSWORD@HOST:5432/DATABASE, with what is special in the password percent-encoded; of options sslmode=require and sslmode=disable are taken, certificate authorities stand in trust beside it";

/// So the library says that the server was asked for TLS, and has none.
const WITHOUT_TLS: &str = "server does not support TLS";
/// What would do where nobody can listen on the way.
const WITHOUT_TLS_HERE: &str =
    "; as it is on this machine, sslmode=disable in its URL will do (…/DATABASE?sslmode=disable)";

/// Where the database is, and how it is spoken to. It holds a password, and shows none.
#[derive(Clone)]
pub struct Database {
    config: Config,
    /// Its URL says that each of its hosts will do.
    is_any_named: bool,
    tls: Option<ClientTls>,
    /// Each of its hosts is this machine.
    is_local: bool,
    shown: String,
}

/// A connection to the database. Dropped, it is closed.
pub struct Connected {
    /// What statements are sent with.
    pub client: Client,
    task: AbortHandle,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Database({}, redacted)", self.shown)
    }
}

impl fmt::Debug for Connected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connected")
    }
}

impl Database {
    /// Reads a URL; trailing newlines are dropped. TLS is spoken, and the certificate
    /// verified, unless it says `sslmode=disable`: that is for loopback, Unix sockets,
    /// and where `allow_plaintext` is given.
    ///
    /// # Errors
    ///
    /// What is wrong, without anything of the URL: a part of it that was not understood
    /// may be a part of the password.
    pub fn parse(raw: &[u8], allow_plaintext: bool) -> Result<Self, String> {
        let text = str::from_utf8(raw).map_err(|_| FORM.to_owned())?;
        let text = text.trim_end_matches(['\r', '\n']);
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            return Err(FORM.to_owned());
        }
        let mut config: Config = text.parse().map_err(|_| FORM.to_owned())?;
        let hosts = config.get_hosts();
        let is_unix = |host: &Host| matches!(host, Host::Unix(_));
        let (Some(user), Some(name), false) =
            (config.get_user(), config.get_dbname(), hosts.is_empty())
        else {
            return Err(format!("a user, a host or a database is missing: {FORM}"));
        };
        let (user, name) = (user.to_owned(), name.to_owned());
        if hosts.iter().any(is_unix) && !hosts.iter().all(is_unix) {
            return Err("names Unix sockets beside other hosts".to_owned());
        }
        let addresses = config.get_hostaddrs();
        if !addresses.is_empty() && (hosts.len() != addresses.len() || hosts.iter().any(is_unix)) {
            return Err("hostaddr must give one IP address for each host".to_owned());
        }
        let is_local = |host: &Host| match host {
            Host::Unix(_) => true,
            Host::Tcp(name) => {
                name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
            }
        };
        let ssl_mode = match config.get_ssl_mode() {
            _ if hosts.iter().all(is_unix) => SslMode::Disable,
            SslMode::Disable => SslMode::Disable,
            // Never what an attacker on the way can choose.
            _ => SslMode::Require,
        };
        // With hostaddr that is where the connection goes; the host is a name alone.
        let stays_here = match addresses {
            [] => hosts.iter().all(is_local),
            addresses => addresses.iter().all(IpAddr::is_loopback),
        };
        if ssl_mode == SslMode::Disable && !allow_plaintext && !stays_here {
            return Err(
                "password and records would travel readable: take sslmode=disable out, or put allow_plaintext: true beside url".to_owned(),
            );
        }
        let shown = shown(&config, &name);
        config
            .user(&user)
            .dbname(&name)
            .ssl_mode(ssl_mode)
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_user_timeout(UNACKNOWLEDGED_MAX)
            .keepalives_idle(KEEPALIVE);
        if config.get_application_name().is_none() {
            config.application_name("alloy-gateway");
        }
        Ok(Self {
            config,
            // To the library it is as if the URL said nothing.
            is_any_named: text.contains("target_session_attrs=any"),
            tls: None,
            is_local: stays_here,
            shown,
        })
    }

    /// Whether TLS is to be spoken.
    pub fn wants_tls(&self) -> bool {
        self.config.get_ssl_mode() != SslMode::Disable
    }

    /// The same, with the way to speak TLS.
    #[must_use]
    pub fn with_tls(self, tls: ClientTls) -> Self {
        Self {
            tls: Some(tls),
            ..self
        }
    }

    /// To be written to: of several hosts the first that answers may be one that only
    /// follows another, which will do to read from. What the URL says of that stands.
    #[must_use]
    pub fn for_writing(mut self) -> Self {
        let config = &mut self.config;
        if config.get_hosts().len() > 1
            && config.get_target_session_attrs() == TargetSessionAttrs::Any
            && !self.is_any_named
        {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        self
    }

    /// Hosts and database, without user and password.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Connects, within bounds of time.
    ///
    /// # Errors
    ///
    /// What went wrong.
    pub async fn connect(&self) -> Result<Connected, Failure> {
        match timeout(READY_TIMEOUT, self.connect_at_leisure()).await {
            Ok(Ok(connected)) => Ok(connected),
            Ok(Err(failure)) => {
                let hint = match self.is_local && failure.what.ends_with(WITHOUT_TLS) {
                    true => WITHOUT_TLS_HERE,
                    false => "",
                };
                let what = format!("{}: {failure}{hint}", self.shown);
                Err(Failure::new(Reason::Connect, what))
            }
            Err(_) => Err(Failure::new(
                Reason::Timeout,
                format!("{}: not ready within {READY_TIMEOUT:?}", self.shown),
            )),
        }
    }

    async fn connect_at_leisure(&self) -> Result<Connected, Failure> {
        // What went wrong on a connection reaches whoever waits for an answer.
        Ok(match &self.tls {
            Some(tls) => {
                let (client, connection) = self.config.connect(Tls(tls.clone())).await?;
                let task = tokio::spawn(async move { drop(connection.await) });
                Connected {
                    client,
                    task: task.abort_handle(),
                }
            }
            None => {
                let (client, connection) = self.config.connect(NoTls).await?;
                let task = tokio::spawn(async move { drop(connection.await) });
                Connected {
                    client,
                    task: task.abort_handle(),
                }
            }
        })
    }
}

/// Begins a transaction that writes. It may take long to commit, and is left to do so: it
/// holds the chain's row, so that others of this gateway wait behind it, for a lock.
///
/// # Errors
///
/// If the database refuses.
pub async fn begin(client: &mut Client) -> Result<Transaction<'_>, tokio_postgres::Error> {
    begin_with(client, LOCK_WAIT).await
}

/// Begins a transaction of questions.
///
/// # Errors
///
/// If the database refuses.
pub async fn begin_asking(client: &mut Client) -> Result<Transaction<'_>, tokio_postgres::Error> {
    begin_with(client, ANSWER_WAIT).await
}

async fn begin_with<'a>(
    client: &'a mut Client,
    bounds: &str,
) -> Result<Transaction<'a>, tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    transaction.batch_execute(bounds).await?;
    Ok(transaction)
}

/// Asks one thing, in a transaction of its own.
///
/// # Errors
///
/// If the database refuses.
pub async fn ask_one(
    client: &mut Client,
    sql: &str,
    parameters: &[(&(dyn ToSql + Sync), Type)],
) -> Result<Vec<Row>, tokio_postgres::Error> {
    let transaction = begin_asking(client).await?;
    let rows = transaction.query_typed(sql, parameters).await?;
    transaction.commit().await?;
    Ok(rows)
}

/// What the database answers, or that it does not. For each question by itself: a large
/// trail may need many.
///
/// # Errors
///
/// If there is no answer in time, or a failure is the answer.
pub async fn in_time<T, E>(answer: impl Future<Output = Result<T, E>>) -> Result<T, Failure>
where
    Failure: From<E>,
{
    match timeout(ANSWER_TIMEOUT, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Failure::new(
            Reason::Timeout,
            format!("the database does not answer within {ANSWER_TIMEOUT:?}"),
        )),
    }
}

fn shown(config: &Config, name: &str) -> String {
    let ports = config.get_ports();
    let hosts = config.get_hosts().iter().enumerate();
    let hosts = hosts.map(|(at, host)| {
        let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432);
        match host {
            Host::Tcp(host) => format!("{host}:{port}"),
            Host::Unix(path) => format!("{}:{port}", path.display()),
        }
    });
    format!("{}/{name}", hosts.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_a_url_is_told_that_may_be_a_part_of_its_password() {
        for url in [
            "postgres://gateway:s3cret@db.example/audit?sslmode=disable",
            "postgres://gateway@db.example/audit?s3cret=1",
            "postgres://gateway:s3cret@db.example:s3cret/audit",
            "postgres://gateway:s3cret@db.example",
            "host=db.example password=s3cret user=gateway dbname=audit",
            "s3cret",
        ] {
            let said = Database::parse(url.as_bytes(), false).unwrap_err();
            assert!(!said.contains("s3"), "{said}");
        }
        let good = "postgres://gateway:s3cret@db.example/audit\n";
        let database = Database::parse(good.as_bytes(), false).unwrap();
        assert_eq!(
            format!("{database:?}"),
            "Database(db.example:5432/audit, redacted)"
        );
    }

    #[test]
    fn plaintext_is_spoken_only_where_nobody_can_listen_or_it_is_allowed() {
        let parse = |url: &str, allow| Database::parse(url.as_bytes(), allow);
        let wants_tls = |url: &str| parse(url, false).unwrap().wants_tls();
        assert!(wants_tls("postgres://u@db.example/a"));
        assert!(wants_tls("postgres://u@db.example/a?sslmode=prefer"));
        assert!(wants_tls("postgres://u@127.0.0.1/a"));
        assert!(!wants_tls("postgres://u@127.0.0.1/a?sslmode=disable"));
        assert!(!wants_tls("postgres://u@localhost/a?sslmode=disable"));
        assert!(!wants_tls("postgres://u@%2Frun%2Fpostgresql/a"));
        let far = "postgres://u@db.example,127.0.0.1/a?sslmode=disable";
        assert!(parse(far, false).is_err());
        assert!(!parse(far, true).unwrap().wants_tls());
        assert!(parse("postgres://u@%2Frun,db.example/a", true).is_err());
    }

    #[test]
    fn of_several_hosts_the_one_that_takes_records_is_looked_for_to_write_and_any_to_read() {
        use TargetSessionAttrs::{Any, ReadOnly, ReadWrite};
        let parse = |url: &str| Database::parse(url.as_bytes(), false).unwrap();
        let attributes = |database: Database| database.config.get_target_session_attrs();
        for (url, to_read, to_write) in [
            ("postgres://u@a/d", Any, Any),
            ("postgres://u@a,b/d", Any, ReadWrite),
            ("postgres://u@a,b/d?target_session_attrs=any", Any, Any),
            (
                "postgres://u@a,b/d?target_session_attrs=read-only",
                ReadOnly,
                ReadOnly,
            ),
        ] {
            assert_eq!(attributes(parse(url)), to_read, "{url}");
            assert_eq!(attributes(parse(url).for_writing()), to_write, "{url}");
        }
    }

    #[test]
    fn an_address_beside_the_host_is_held_against_the_rule_for_plaintext() {
        let parse = |url: &str, allow| Database::parse(url.as_bytes(), allow);
        let far = "postgres://u:p@localhost/a?hostaddr=10.0.0.1&sslmode=disable";
        assert!(parse(far, false).is_err());
        assert!(!parse(far, true).unwrap().wants_tls());
        let one_of_two =
            "postgres://u@localhost,localhost/a?hostaddr=127.0.0.1,10.0.0.1&sslmode=disable";
        assert!(parse(one_of_two, false).is_err());
        let near = "postgres://u@db.example/a?hostaddr=127.0.0.1&sslmode=disable";
        assert!(!parse(near, false).unwrap().wants_tls());
        let with_tls = "postgres://u@db.example/a?hostaddr=10.0.0.1";
        assert!(parse(with_tls, false).unwrap().wants_tls());
        // A path speaks no TLS, and the connection would go to the address.
        assert!(parse("postgres://u@%2Frun/a?hostaddr=10.0.0.1", true).is_err());
        assert!(parse("postgres://u@db.example/a?hostaddr=10.0.0.1,10.0.0.2", true).is_err());
    }
}
