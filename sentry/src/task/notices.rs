//! What does the operator hear of a container's trouble? One line each, but no more of them than a hostile guest should be able to cause.
//!
//! Key type: [`Notices`], one per container.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};

use control::Event;
use platform::host::clock::{Clock, now_ns};

use super::Task;
use crate::container::EventSink;

/// So many lines at once.
const BURST: u64 = 16;
/// After them, one in this time.
const PERIOD_NS: u64 = 10_000_000_000;

/// Tells lines about a container's processes.
pub struct Notices {
    container: String,
    events: Arc<dyn EventSink>,
    /// LOCK: leaf.
    quota: Mutex<Quota>,
}

impl Notices {
    /// About `container`; the lines go to `events`.
    #[must_use]
    pub fn new(container: String, events: Arc<dyn EventSink>) -> Self {
        Self { container, events, quota: Mutex::default() }
    }

    /// Tells a line, or counts it with those that are left out.
    pub fn tell(&self, line: impl Display) {
        let admitted =
            self.quota.lock().unwrap_or_else(PoisonError::into_inner).admit(now_ns(Clock::Monotonic));
        let Some(left_out) = admitted else { return };
        let more =
            if left_out == 0 { String::new() } else { format!(" ({left_out} lines were left out before)") };
        let line = format!("container {}: {line}{more}", self.container);
        tracing::info!("{line}");
        self.events.event(Event::Warning(line));
    }
}

/// How many lines may be told now.
#[derive(Default)]
struct Quota {
    /// Until then what has been told is paid for, at one line in [`PERIOD_NS`].
    paid_until_ns: u64,
    left_out: u64,
}

impl Quota {
    /// One more line: `None` if it is left out, else how many were before it.
    fn admit(&mut self, now_ns: u64) -> Option<u64> {
        let from = self.paid_until_ns.max(now_ns);
        if from - now_ns > (BURST - 1) * PERIOD_NS {
            self.left_out += 1;
            return None;
        }
        self.paid_until_ns = from + PERIOD_NS;
        Some(std::mem::take(&mut self.left_out))
    }
}

impl Task {
    /// Tells the operator what became of the task's process, or of what it asked.
    pub(super) fn tell(&self, what: impl Display) {
        if let Some(origin) = self.process.origin() {
            // The name is the guest's choice: no line breaks, no commands to a terminal.
            let name = self.name_text();
            origin.notices.tell(format_args!(
                "process {} ({}) {what}",
                self.process.pid,
                name.escape_debug()
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_lines_is_cut_and_what_was_left_out_is_counted() {
        let mut quota = Quota::default();
        let told = (0..1000).filter(|_| quota.admit(5).is_some()).count();
        assert_eq!(told, 16);
        assert_eq!(quota.admit(5 + PERIOD_NS), Some(984));
        assert_eq!(quota.admit(5 + PERIOD_NS), None);
        assert_eq!(quota.admit(5 + 2 * PERIOD_NS), Some(1));
    }

    #[test]
    fn lines_that_come_seldom_are_all_told() {
        let mut quota = Quota::default();
        assert!((1..1000).all(|n| quota.admit(n * PERIOD_NS) == Some(0)));
        assert!((0..16).all(|_| quota.admit(1001 * PERIOD_NS) == Some(0)));
    }

    #[test]
    fn a_line_names_its_container() {
        struct Heard(Mutex<Vec<Event>>);
        impl EventSink for Heard {
            fn event(&self, event: Event) {
                self.0.lock().expect("no panic under the lock").push(event);
            }
        }
        let heard = Arc::new(Heard(Mutex::default()));
        let events: Arc<dyn EventSink> = Arc::<Heard>::clone(&heard);
        Notices::new("web".into(), events).tell("process 7 (sh) killed: why");
        let events = heard.0.lock().expect("no panic under the lock");
        assert_eq!(*events, [Event::Warning("container web: process 7 (sh) killed: why".into())]);
    }
}
