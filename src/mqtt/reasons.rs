//! What the library and the broker report, in words that tell people what to do; `connection` logs
//! them and the daemon shows them.

use std::io;

use rumqttc::v5::mqttbytes::v5::{
    ConnectReturnCode, DisconnectReasonCode, PubAck, PubAckReason, SubscribeReasonCode,
};
use rumqttc::v5::{ConnectionError, StateError, TlsError, mqttbytes};
use rustls::CertificateError;

use super::ClientSettings;
use super::link::CONNECT_LIMIT;

/// MQTT 5 reason code "Packet too large".
const PACKET_TOO_LARGE: u8 = 0x95;

/// Why a connection is gone, or did not come about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loss {
    /// For people.
    pub(super) reason: String,
    /// What it means for the next attempt.
    pub(super) kind: LossKind,
}

/// Losses that ask for more than another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LossKind {
    /// Try again.
    Plain,
    /// The broker closed without a word. mosquitto 2.0 does that when another client comes with our
    /// id, and the library does not understand the word that later versions send (a DISCONNECT
    /// with a reason and no properties).
    HungUp,
    /// Another client came with our client id, says the broker.
    TakenOver,
    /// The broker called a packet too large in a PUBACK (mosquitto 2.0, above `message_size_limit`),
    /// which MQTT does not foresee, so that the library gives the connection up.
    CalledTooLarge,
}

impl Loss {
    /// A loss that asks for another attempt only.
    pub(super) fn of(reason: impl Into<String>) -> Loss {
        Loss { reason: reason.into(), kind: LossKind::Plain }
    }
}

/// The reason to give when one client id seems to have two clients.
pub(super) fn shared_client_id(settings: &ClientSettings) -> String {
    format!(
        "another client connects with our client id {:?}: \
         give each node its own [node] name, or its own [mqtt] client_id",
        settings.client_id
    )
}

/// The library's error as a loss; `connecting` while the broker has not accepted us.
pub(super) fn loss(error: &ConnectionError, settings: &ClientSettings, connecting: bool) -> Loss {
    let address = settings.address();
    Loss::of(match error {
        ConnectionError::Io(error) => io_reason(error, settings, connecting),
        ConnectionError::Tls(TlsError::Io(error)) => io_reason(error, settings, connecting),
        ConnectionError::Tls(error) => format!("TLS: {error}"),
        ConnectionError::Timeout(_) => {
            format!("no answer from {address} within {} s", CONNECT_LIMIT.as_secs())
        }
        ConnectionError::ConnectionRefused(code) => refused_connection(*code, settings),
        ConnectionError::NotConnAck(_) => format!("{address} does not answer like an MQTT broker"),
        ConnectionError::MqttState(error) => {
            return state_loss(error, settings, &address, connecting);
        }
        other => other.to_string(),
    })
}

fn state_loss(error: &StateError, settings: &ClientSettings, address: &str, connecting: bool) -> Loss {
    Loss::of(match error {
        StateError::ServerDisconnect { reason_code: DisconnectReasonCode::SessionTakenOver, .. } => {
            return Loss { reason: shared_client_id(settings), kind: LossKind::TakenOver };
        }
        StateError::ServerDisconnect { reason_code, reason_string } => match reason_string {
            Some(said) => format!("the broker disconnected us: {reason_code:?} ({said})"),
            None => format!("the broker disconnected us: {reason_code:?}"),
        },
        StateError::ConnectionAborted if connecting => hung_up(settings),
        StateError::ConnectionAborted => {
            let reason = "the broker closed the connection".to_owned();
            return Loss { reason, kind: LossKind::HungUp };
        }
        StateError::Deserialization(mqttbytes::Error::InvalidConnectReturnCode(PACKET_TOO_LARGE)) => {
            let reason = "the broker found a packet too large".to_owned();
            return Loss { reason, kind: LossKind::CalledTooLarge };
        }
        StateError::AwaitPingResp => "the broker does not answer pings".to_owned(),
        StateError::Io(error) | StateError::Deserialization(mqttbytes::Error::Io(error)) => {
            io_reason(error, settings, connecting)
        }
        StateError::Deserialization(mqttbytes::Error::PayloadSizeLimitExceeded { pkt_size, max }) => {
            format!("the broker sent a packet of {pkt_size} bytes; [mqtt] max_incoming is {max}")
        }
        StateError::Deserialization(error) => {
            format!("{address} sent what is not MQTT 5 ({error}); does the broker speak MQTT 5?")
        }
        other => other.to_string(),
    })
}

/// A refusal of the connection itself (CONNACK, MQTT 5 section 3.2.2.2).
fn refused_connection(code: ConnectReturnCode, settings: &ClientSettings) -> String {
    use ConnectReturnCode as Code;
    match code {
        Code::BadUserNamePassword | Code::NotAuthorized => match &settings.credentials {
            Some(credentials) => format!(
                "the broker refused user {:?}: check [mqtt] username and password_file",
                credentials.username
            ),
            None => "the broker lets nobody in without a password: set [mqtt] username and password_file"
                .to_owned(),
        },
        Code::ClientIdentifierNotValid | Code::BadClientId => {
            format!("the broker refused the client id {:?}: set [mqtt] client_id", settings.client_id)
        }
        Code::UnsupportedProtocolVersion | Code::RefusedProtocolVersion => {
            "the broker does not speak MQTT 5, which easeld needs".to_owned()
        }
        other => format!("the broker refused the connection: {other:?}"),
    }
}

/// An input or output error, TLS ones included (rustls wraps its own in them).
fn io_reason(error: &io::Error, settings: &ClientSettings, connecting: bool) -> String {
    let address = settings.address();
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if let Some(tls) = inner {
        return tls_reason(tls, &address);
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            format!("connection refused by {address}: is a broker running there?")
        }
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof
            if connecting =>
        {
            hung_up(settings)
        }
        io::ErrorKind::ConnectionReset => format!("{address} reset the connection"),
        // The library's way to say that the stream ended inside a packet.
        io::ErrorKind::Other => {
            format!("{address} sent what is not MQTT 5 ({error}); is it an MQTT broker?")
        }
        _ => format!("cannot reach {address}: {error}"),
    }
}

/// The broker closed before it accepted us. With TLS 1.3 one that wants a certificate does that after
/// our side of TLS is done, and the reset can overtake its alert.
fn hung_up(settings: &ClientSettings) -> String {
    let address = settings.address();
    let hint = match &settings.tls {
        None => "is that its port for TLS (mqtts://)?",
        Some(tls) if tls.client_auth_cert_resolver.has_certs() => "does it know our client certificate?",
        Some(_) => "does it speak TLS there, and want a client certificate ([mqtt] cert_file)?",
    };
    format!("{address} hung up before it answered; {hint}")
}

fn tls_reason(error: &rustls::Error, address: &str) -> String {
    let rustls::Error::InvalidCertificate(certificate) = error else {
        return match error {
            rustls::Error::AlertReceived(alert) => {
                format!(
                    "TLS: the broker at {address} hung up with {alert:?}; \
                     does it want a client certificate ([mqtt] cert_file)?"
                )
            }
            rustls::Error::InvalidMessage(_) => {
                format!("TLS: {address} does not speak TLS: is this its mqtt:// port?")
            }
            other => format!("TLS: {other}"),
        };
    };
    let what = match certificate {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "it is signed by an authority that we do not know: \
             set [mqtt] ca_file to that authority's certificate"
                .to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it was issued for another host name than the one in [mqtt] url".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired, or this machine's clock is wrong".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet: this machine's clock is likely wrong".to_owned()
        }
        other => format!("{other:?}"),
    };
    format!("TLS: the certificate of {address} was not accepted: {what}")
}

/// A failed PUBACK in words; `None` for success.
pub(super) fn refused_publication(puback: &PubAck) -> Option<String> {
    let reason = match puback.reason {
        PubAckReason::Success | PubAckReason::NoMatchingSubscribers => return None,
        PubAckReason::UnspecifiedError => "unspecified error (0x80)",
        // mosquitto acknowledges what exceeds message_size_limit so, and throws it away.
        PubAckReason::ImplementationSpecificError => {
            "implementation specific error (0x83), often its message size limit"
        }
        PubAckReason::NotAuthorized => "not authorized (0x87): the broker's access list forbids the topic",
        PubAckReason::TopicNameInvalid => "topic name invalid (0x90)",
        PubAckReason::PacketIdentifierInUse => "packet identifier in use (0x91)",
        PubAckReason::QuotaExceeded => "quota exceeded (0x97)",
        PubAckReason::PayloadFormatInvalid => "payload format invalid (0x99)",
    };
    let said = puback.properties.as_ref().and_then(|properties| properties.reason_string.as_ref());
    Some(match said {
        Some(said) => format!("{reason}: {said}"),
        None => reason.to_owned(),
    })
}

/// A failed SUBACK code in words; `None` for success.
pub(super) fn refused_subscription(code: SubscribeReasonCode) -> Option<&'static str> {
    use SubscribeReasonCode as Code;
    Some(match code {
        Code::Success(_) => return None,
        Code::Failure | Code::Unspecified => "unspecified error (0x80)",
        Code::ImplementationSpecific => "implementation specific error (0x83)",
        Code::NotAuthorized => "not authorized (0x87): the broker's access list forbids it",
        Code::TopicFilterInvalid => "topic filter invalid (0x8f)",
        Code::PkidInUse => "packet identifier in use (0x91)",
        Code::QuotaExceeded => "quota exceeded (0x97)",
        Code::SharedSubscriptionsNotSupported => "shared subscriptions not supported (0x9e)",
        Code::SubscriptionIdNotSupported => "subscription identifiers not supported (0xa1)",
        Code::WildcardSubscriptionsNotSupported => "wildcard subscriptions not supported (0xa2)",
    })
}
