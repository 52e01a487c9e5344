//! Email: one message for one recipient, threaded by incident, over implicit TLS or STARTTLS.
//!
//! Clear text goes to loopback only. No text from outside can make a header: subjects are visible characters on one
//! line, ids are reduced to the characters that a Message-ID may have.

use std::time::{Duration, SystemTime};

use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Attachment, Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::extension::ClientId;

use super::{ChannelError, Message, NotDelivered, chain, is_loopback, readable};
use crate::model::{Alert, NoticeKind};

/// Connecting, and each whole delivery.
const CONNECT: Duration = Duration::from_secs(15);
const DELIVERY: Duration = Duration::from_secs(90);

/// How the connection to the mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EmailTls {
    #[default]
    Implicit,
    /// Demanded, never optional.
    Starttls,
    /// Loopback only.
    None,
}

/// What the configuration says about an email channel.
#[derive(Clone, Default)]
pub struct EmailSettings {
    pub id: String,
    pub server: String,
    pub port: u16,
    pub tls: EmailTls,
    /// With a password: the server is logged into by AUTH PLAIN or LOGIN.
    pub user: Option<String>,
    pub password: Option<String>,
    /// Certificates added to the system's roots.
    pub ca_pem: Option<Vec<u8>>,
    pub from: String,
}

/// An email channel, ready to send.
pub struct Email {
    id: String,
    server: String,
    port: u16,
    tls: Option<TlsParameters>,
    starttls: bool,
    credentials: Option<Credentials>,
    from: Mailbox,
}

impl Email {
    /// Checks the settings and loads the trusted certificates.
    ///
    /// # Errors
    /// The server, the sender, the CA or the login is not what it should be.
    pub fn new(settings: EmailSettings) -> Result<Self, ChannelError> {
        let EmailSettings { id, server, port, tls, user, password, ca_pem, from } = settings;
        let wrong = |what: String| ChannelError { id: id.clone(), what };
        if server.is_empty() {
            return Err(wrong("server is empty".into()));
        }
        if tls == EmailTls::None && !is_loopback(&server) {
            return Err(wrong("tls = \"none\" is for loopback only; use \"implicit\" or \"starttls\"".into()));
        }
        let from = from.parse().map_err(|error| wrong(format!("from is no mail address: {error}")))?;
        let credentials = match (user, password) {
            (Some(user), Some(password)) => Some(Credentials::new(user, password)),
            (None, None) => None,
            (Some(_), None) => return Err(wrong("user is given, password is not".into())),
            (None, Some(_)) => return Err(wrong("password is given, user is not".into())),
        };
        let parameters = match tls {
            EmailTls::None => None,
            EmailTls::Implicit | EmailTls::Starttls => Some(parameters(&server, ca_pem.as_deref()).map_err(wrong)?),
        };
        Ok(Self { id, server, port, tls: parameters, starttls: tls == EmailTls::Starttls, credentials, from })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) async fn deliver(&self, alert: &Alert, message: &Message) -> Result<(), NotDelivered> {
        let mail = self.compose(alert, message).map_err(NotDelivered::Never)?;
        match tokio::time::timeout(DELIVERY, self.transmit(&mail)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(NotDelivered::later(format!("the mail server took longer than {} s", DELIVERY.as_secs()))),
        }
    }

    /// Only what the server says about *this mail* can be final; that it turns us away at the door (a refused login,
    /// a block list, a broken certificate) is for the operator to mend while we go on trying.
    async fn transmit(&self, mail: &lettre::Message) -> Result<(), NotDelivered> {
        let mut connection = self.connect().await.map_err(|error| NotDelivered::later(chain(&error)))?;
        let sent = connection.send(mail.envelope(), &mail.formatted()).await;
        match sent {
            Ok(_) => {
                // The mail is accepted; whether the farewell is heard changes nothing.
                let _ = connection.quit().await;
                Ok(())
            }
            Err(error) if error.is_permanent() => Err(NotDelivered::Never(chain(&error))),
            Err(error) => Err(NotDelivered::later(chain(&error))),
        }
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, lettre::transport::smtp::Error> {
        let hello = ClientId::default();
        let at_once = self.tls.clone().filter(|_| !self.starttls);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1((self.server.as_str(), self.port), Some(CONNECT), &hello, at_once, None).await?;
        if let Some(tls) = self.tls.clone().filter(|_| self.starttls) {
            connection.starttls(tls, &hello).await?;
        }
        if let Some(credentials) = &self.credentials {
            connection.auth(&[Mechanism::Plain, Mechanism::Login], credentials).await?;
        }
        Ok(connection)
    }

    /// The mail as it goes out, headers and all.
    ///
    /// # Errors
    /// The alert names no recipient, or none that a mail can be addressed to.
    pub fn mail(&self, alert: &Alert, message: &Message) -> Result<Vec<u8>, String> {
        Ok(self.compose(alert, message)?.formatted())
    }

    fn compose(&self, alert: &Alert, message: &Message) -> Result<lettre::Message, String> {
        let recipient = alert.destination.recipient.as_deref().ok_or("an email alert without a recipient")?;
        let to: Mailbox = recipient.parse().map_err(|error| format!("the recipient is no mail address: {error}"))?;
        let domain = self.from.email.domain();
        let thread = message_id(&alert.notice.incident, domain);
        let mut builder = lettre::Message::builder()
            .message_id(Some(message_id(&alert.id, domain)))
            .from(self.from.clone())
            .to(to)
            .subject(header_text(&message.subject))
            .date(SystemTime::from(alert.created))
            .raw_header(header("Auto-Submitted", "auto-generated"))
            .raw_header(header("X-Auto-Response-Suppress", "All"))
            .raw_header(header("X-Issuerwatch-Type", alert.notice.kind.name()))
            .raw_header(header("X-Issuerwatch-Severity", alert.notice.severity.name()))
            .raw_header(header("X-Issuerwatch-Incident", &alert.notice.incident));
        if matches!(alert.notice.kind, NoticeKind::Opened | NoticeKind::Updated | NoticeKind::Resolved | NoticeKind::Baseline) {
            // All messages of an incident refer to the same id, so that they stand in one thread even if one is lost.
            builder = builder.references(thread.clone()).in_reply_to(thread);
        }
        let texts = MultiPart::alternative_plain_html(message.text.clone(), message.html.clone());
        let mail = match &alert.notice.attachment {
            Some((name, document)) => builder.multipart(MultiPart::mixed().multipart(texts).singlepart(attachment(name, document))),
            None => builder.multipart(texts),
        };
        mail.map_err(|error| format!("the mail cannot be composed: {error}"))
    }
}

fn parameters(server: &str, ca_pem: Option<&[u8]>) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(server.to_owned());
    if let Some(pem) = ca_pem {
        let certificate = Certificate::from_pem(pem).map_err(|error| format!("the CA file is no PEM: {}", chain(&error)))?;
        builder = builder.add_root_certificate(certificate);
    }
    builder.build().map_err(|error| format!("TLS cannot be set up: {}", chain(&error)))
}

/// `<id@domain>` from those characters only that need no quoting there (RFC 5322 §3.6.4).
fn message_id(id: &str, domain: &str) -> String {
    let kept = |text: &str| text.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).take(100).collect::<String>();
    format!("<{}@{}>", kept(id), kept(domain))
}

/// One visible line; a reader must not decode what looks like an encoded word (RFC 2047 §2), nobody here wrote one.
fn header_text(text: &str) -> String {
    readable(text, 300).replace("=?", "= ?")
}

fn header(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), header_text(value))
}

fn attachment(name: &str, document: &str) -> SinglePart {
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' }).take(100).collect();
    let kind = if name.ends_with(".html") { ContentType::TEXT_HTML } else { ContentType::TEXT_PLAIN };
    Attachment::new(name).body(document.to_owned(), kind)
}
