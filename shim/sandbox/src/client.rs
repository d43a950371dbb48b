//! How does one ask the sentry something and hear what it tells unasked?
//!
//! Key types: [`Client`] and [`Notice`]. One thread reads the control socket; it hands replies to whoever waits for
//! them and notices, in order, to one closure. When the sentry goes, every waiting and later call fails with
//! [`CallError::Gone`] and the closure hears [`Notice::Gone`] last.

use std::collections::HashMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use control::{Channel, ChannelError, Event, Failure, FailureKind, FromSentry, Reply, Request, ToSentry};

/// Bytes of stack of the reading thread.
const READER_STACK: usize = 256 << 10;

/// What is heard unasked.
#[derive(Debug)]
pub enum Notice {
    /// From the sentry.
    Event(Event),
    /// The sentry has closed its socket; nothing follows. Why, if it was not a plain close.
    Gone(Option<String>),
}

/// Why a call brought no reply.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The sentry says no.
    #[error("{}", .0.message)]
    Refused(Failure),
    /// There is no sentry any more.
    #[error("the sandbox has ended")]
    Gone,
    /// It does not answer.
    #[error("the sentry did not answer {0} in time")]
    Timeout(&'static str),
    /// It answered something else than was asked.
    #[error("the sentry gave a wrong answer to {0}")]
    Confused(&'static str),
    /// The request could not be sent.
    #[error("cannot send to the sentry: {0}")]
    Send(ChannelError),
}

impl CallError {
    /// The class of the failure.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Refused(failure) => failure.kind,
            Self::Gone => FailureKind::NotFound,
            Self::Timeout(_) | Self::Confused(_) | Self::Send(_) => FailureKind::Internal,
        }
    }
}

type Answer = (Result<Reply, Failure>, Vec<OwnedFd>);

/// Calls without a reply yet; `None` once the sentry has gone.
type Waiting = Mutex<Option<HashMap<u64, mpsc::SyncSender<Answer>>>>;

/// Our side of a control socket.
#[derive(Debug)]
pub struct Client {
    channel: Arc<Channel>,
    next: AtomicU64,
    waiting: Arc<Waiting>,
}

impl Client {
    /// Starts the reading thread; `hear` runs on it.
    ///
    /// # Errors
    /// No thread.
    pub fn start(socket: OwnedFd, mut hear: impl FnMut(Notice) + Send + 'static) -> std::io::Result<Self> {
        let channel = Arc::new(Channel::new(socket));
        let waiting: Arc<Waiting> = Arc::new(Mutex::new(Some(HashMap::new())));
        let reader = (Arc::clone(&channel), Arc::clone(&waiting));
        std::thread::Builder::new().name("control".to_owned()).stack_size(READER_STACK).spawn(move || {
            let (channel, waiting) = reader;
            let reason = read_all(&channel, &waiting, &mut hear);
            // Dropping the senders wakes those who wait.
            waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
            hear(Notice::Gone(reason));
        })?;
        Ok(Self { channel, next: AtomicU64::new(1), waiting })
    }

    /// Sends a request and waits for its reply.
    ///
    /// # Errors
    /// See [`CallError`].
    pub fn call(
        &self,
        request: Request,
        fds: &[BorrowedFd<'_>],
        limit: Duration,
    ) -> Result<(Reply, Vec<OwnedFd>), CallError> {
        let name = name(&request);
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = mpsc::sync_channel(1);
        match self.waiting.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(waiting) => waiting.insert(id, sender),
            None => return Err(CallError::Gone),
        };
        let sent = self.channel.send(&ToSentry { id, request }, fds);
        let answer = match sent {
            Ok(()) => receiver.recv_timeout(limit).map_err(|e| match e {
                mpsc::RecvTimeoutError::Timeout => CallError::Timeout(name),
                mpsc::RecvTimeoutError::Disconnected => CallError::Gone,
            }),
            Err(ChannelError::Closed) => Err(CallError::Gone),
            Err(error) => Err(CallError::Send(error)),
        };
        if answer.is_err()
            && let Some(waiting) = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).as_mut()
        {
            waiting.remove(&id);
        }
        let (result, fds) = answer?;
        Ok((result.map_err(CallError::Refused)?, fds))
    }
}

/// Reads until the end; why, if it was not a plain close.
fn read_all(channel: &Channel, waiting: &Waiting, hear: &mut impl FnMut(Notice)) -> Option<String> {
    loop {
        match channel.receive::<FromSentry>() {
            Ok((FromSentry::Event(event), _)) => hear(Notice::Event(event)),
            Ok((FromSentry::Reply { id, result }, fds)) => {
                let mut guard = waiting.lock().unwrap_or_else(PoisonError::into_inner);
                // A reply that nobody waits for (any more) is dropped, with its descriptors.
                if let Some(sender) = guard.as_mut().and_then(|waiting| waiting.remove(&id)) {
                    let _ = sender.send((result, fds));
                }
            }
            Err(ChannelError::Closed) => return None,
            Err(error) => return Some(error.to_string()),
        }
    }
}

fn name(request: &Request) -> &'static str {
    match request {
        Request::Boot(_) => "boot",
        Request::Create(_) => "create",
        Request::Start { .. } => "start",
        Request::Exec { .. } => "exec",
        Request::Signal { .. } => "signal",
        Request::Resize { .. } => "resize",
        Request::Pids { .. } => "pids",
        Request::Limit { .. } => "limit",
        Request::Usage { .. } => "usage",
        Request::Delete { .. } => "delete",
        Request::Shutdown => "shutdown",
        Request::Status => "status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    const SHORT: Duration = Duration::from_millis(50);

    fn pair(hear: impl FnMut(Notice) + Send + 'static) -> (Client, Channel) {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).expect("a pair");
        (Client::start(ours, hear).expect("a thread"), Channel::new(theirs))
    }

    fn event(text: &str) -> FromSentry {
        FromSentry::Event(Event::Warning(text.to_owned()))
    }

    #[test]
    fn replies_find_their_callers_and_notices_keep_their_order() {
        let (heard, notices) = mpsc::channel();
        let (client, sentry) = pair(move |notice| drop(heard.send(format!("{notice:?}"))));
        let server = std::thread::spawn(move || {
            let (first, _) = sentry.receive::<ToSentry>().expect("a request");
            sentry.send(&event("a"), &[]).expect("sent");
            let stranger = FromSentry::Reply { id: 999, result: Ok(Reply::Ok) };
            sentry.send(&stranger, &[]).expect("sent");
            let reply = FromSentry::Reply { id: first.id, result: Ok(Reply::Started { pid: 7 }) };
            sentry.send(&reply, &[]).expect("sent");
            sentry.send(&event("b"), &[]).expect("sent");
        });
        let (reply, _) = client.call(Request::Status, &[], Duration::from_secs(5)).expect("a reply");
        assert!(matches!(reply, Reply::Started { pid: 7 }));
        server.join().expect("served");
        let heard: Vec<_> = notices.iter().take(3).collect();
        assert_eq!(heard, ["Event(Warning(\"a\"))", "Event(Warning(\"b\"))", "Gone(None)"]);
    }

    #[test]
    fn a_call_to_a_sentry_that_goes_fails_at_once() {
        let (client, sentry) = pair(|_| {});
        let server = std::thread::spawn(move || drop(sentry.receive::<ToSentry>()));
        let error = client.call(Request::Status, &[], Duration::from_secs(60)).expect_err("gone");
        assert!(matches!(error, CallError::Gone), "{error}");
        server.join().expect("served");
        let error = client.call(Request::Status, &[], Duration::from_secs(60)).expect_err("gone");
        assert!(matches!(error, CallError::Gone), "{error}");
    }

    #[test]
    fn a_sentry_that_does_not_answer_is_not_waited_for_longer_than_asked() {
        let (client, _sentry) = pair(|_| {});
        let error = client.call(Request::Status, &[], SHORT).expect_err("no answer");
        assert_eq!(error.to_string(), "the sentry did not answer status in time");
    }

    #[test]
    fn rubbish_from_the_sentry_ends_the_sandbox_with_a_reason() {
        let (heard, notices) = mpsc::channel();
        let (_client, sentry) = pair(move |notice| drop(heard.send(format!("{notice:?}"))));
        sentry.send(&"rubbish", &[]).expect("sent");
        let text = notices.recv().expect("a notice");
        assert!(text.contains("malformed control message"), "{text}");
    }
}
