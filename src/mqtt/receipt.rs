//! A message is acknowledged to the broker when whoever took it lets go of it: after it was dealt with, not when it came.

use std::sync::Arc;

use tokio::sync::mpsc;

/// What the connection hears when a message was let go of: on which connection it came, and its packet id.
pub(super) type Returned = (u64, u16);

/// Acknowledges its message when the last clone is dropped; without effect for messages of QoS 0. A thread that panics
/// acknowledges nothing: the broker sends the message again.
#[derive(Debug, Clone, Default)]
pub struct Receipt {
    _slip: Option<Arc<Slip>>,
}

#[derive(Debug)]
struct Slip {
    connection: u64,
    packet_id: u16,
    returned: mpsc::UnboundedSender<Returned>,
}

impl Receipt {
    pub(super) fn new(connection: u64, packet_id: u16, returned: mpsc::UnboundedSender<Returned>) -> Self {
        Self { _slip: Some(Arc::new(Slip { connection, packet_id, returned })) }
    }
}

/// Messages are compared by what they say.
impl PartialEq for Receipt {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Drop for Slip {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // The client may be gone; then the broker sends it again.
            let _ = self.returned.send((self.connection, self.packet_id));
        }
    }
}
