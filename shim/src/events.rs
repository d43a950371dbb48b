//! How do events reach containerd, in order and without loss?
//!
//! Key type: [`Publisher`]. One queue, one task that sends: an event that cannot be sent is tried again in its place,
//! so that nothing overtakes it. Without an address (CRI-O's way) events go nowhere.

use std::time::{Duration, SystemTime};

use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim_protos::protobuf::{MessageField, MessageFull, well_known_types::any::Any};
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim::events::ForwardRequest;
use containerd_shim_protos::shim_async::{Client, EventsClient};
use tokio::sync::{mpsc, oneshot};

/// How long one attempt may take.
const SEND_LIMIT: Duration = Duration::from_secs(5);
/// Pauses between attempts; after the last the event is given up, with a line in the log.
const PAUSES_MS: [u64; 8] = [10, 50, 100, 250, 500, 1000, 2000, 4000];
/// How long a shutdown waits for the queue.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);

/// One thing to be sent.
enum Item {
    Event(Box<Envelope>),
    Flush(oneshot::Sender<()>),
}

/// Where events are handed in.
#[derive(Debug, Clone)]
pub(crate) struct Publisher {
    queue: mpsc::UnboundedSender<Item>,
    namespace: String,
}

impl Publisher {
    /// Starts the sending task. `address` is containerd's ttrpc socket, with or without `unix://`.
    pub(crate) fn start(address: &str, namespace: &str) -> Self {
        let (queue, items) = mpsc::unbounded_channel();
        let address = match address {
            "" => None,
            path if path.starts_with('/') => Some(format!("unix://{path}")),
            other => Some(other.to_owned()),
        };
        tokio::spawn(send_all(items, address, namespace.to_owned()));
        Self { queue, namespace: namespace.to_owned() }
    }

    /// Hands in an event. The order of calls is the order in which containerd hears.
    pub(crate) fn publish<E: MessageFull>(&self, topic: &str, event: &E) {
        let value = match event.write_to_bytes() {
            Ok(value) => value,
            Err(error) => return tracing::error!(topic, %error, "an event cannot be encoded"),
        };
        let any = Any { type_url: E::descriptor().full_name().to_owned(), value, ..Any::default() };
        let envelope = Envelope {
            timestamp: MessageField::some(timestamp(SystemTime::now())),
            namespace: self.namespace.clone(),
            topic: topic.to_owned(),
            event: MessageField::some(any),
            ..Envelope::default()
        };
        tracing::debug!(topic, "event");
        let _ = self.queue.send(Item::Event(Box::new(envelope)));
    }

    /// Waits until everything handed in so far has been sent, but not forever.
    pub(crate) async fn flush(&self) {
        let (done, sent) = oneshot::channel();
        if self.queue.send(Item::Flush(done)).is_ok() {
            let _ = tokio::time::timeout(FLUSH_LIMIT, sent).await;
        }
    }
}

/// A time as protobuf has it.
pub(crate) fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).expect("below 10^9"),
        ..Timestamp::default()
    }
}

async fn send_all(mut items: mpsc::UnboundedReceiver<Item>, address: Option<String>, namespace: String) {
    let mut connection: Option<EventsClient> = None;
    while let Some(item) = items.recv().await {
        match (item, &address) {
            (Item::Flush(done), _) => drop(done.send(())),
            (Item::Event(_), None) => {}
            (Item::Event(envelope), Some(address)) => {
                send(&mut connection, address, &namespace, *envelope).await;
            }
        }
    }
}

async fn send(connection: &mut Option<EventsClient>, address: &str, namespace: &str, envelope: Envelope) {
    let topic = envelope.topic.clone();
    let request = ForwardRequest { envelope: MessageField::some(envelope), ..ForwardRequest::default() };
    let mut pauses = PAUSES_MS.iter();
    loop {
        match attempt(connection, address, namespace, &request).await {
            Ok(()) => return,
            Err(error) => {
                *connection = None;
                let Some(pause) = pauses.next() else {
                    return tracing::error!(topic, error, "event given up");
                };
                tokio::time::sleep(Duration::from_millis(*pause)).await;
            }
        }
    }
}

async fn attempt(
    connection: &mut Option<EventsClient>,
    address: &str,
    namespace: &str,
    request: &ForwardRequest,
) -> Result<(), String> {
    let client = match connection {
        Some(client) => client,
        None => {
            let client = Client::connect(address).await.map_err(|e| e.to_string())?;
            connection.insert(EventsClient::new(client))
        }
    };
    let mut context = ttrpc::context::with_duration(SEND_LIMIT);
    context.add("containerd-namespace-ttrpc".to_owned(), namespace.to_owned());
    client.forward(context, request).await.map(|_| ()).map_err(|e| e.to_string())
}
