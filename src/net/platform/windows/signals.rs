//! What the console, or Windows itself, asks of the process.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::time::Duration;

use mio::{Registry, Waker};
use tokio::signal::windows::{
    CtrlBreak, CtrlC, CtrlClose, CtrlLogoff, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close, ctrl_logoff,
    ctrl_shutdown,
};

use super::super::SignalsTaken;

/// Windows ends a process 5 s after its console was closed, or its user logs off; some of that is left for the end.
const GRACE_MAX: Duration = Duration::from_secs(4);

/// The console's events that stop the process, caught.
///
/// Windows calls a handler in a thread of its own, and ends the process once that returns from a close; so the
/// handler, which is tokio's, does not return from it. No runtime is needed: what it wakes wakes the loop.
pub(in crate::net) struct ProcessSignals {
    c: CtrlC,
    pause: CtrlBreak,
    close: CtrlClose,
    logoff: CtrlLogoff,
    shutdown: CtrlShutdown,
    loop_waker: std::task::Waker,
}

impl fmt::Debug for ProcessSignals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProcessSignals")
    }
}

struct LoopWaker(Arc<Waker>);

impl Wake for LoopWaker {
    fn wake(self: Arc<Self>) {
        // The loop is gone if this fails.
        let _ = self.0.wake();
    }
}

impl ProcessSignals {
    pub(in crate::net) fn catch(_: &Registry, waker: &Arc<Waker>) -> io::Result<Self> {
        // The first look is what has the loop woken from then on.
        waker.wake()?;
        Ok(Self {
            c: ctrl_c()?,
            pause: ctrl_break()?,
            close: ctrl_close()?,
            logoff: ctrl_logoff()?,
            shutdown: ctrl_shutdown()?,
            loop_waker: Arc::new(LoopWaker(Arc::clone(waker))).into(),
        })
    }

    /// A console that is closed stops the process by itself.
    #[expect(clippy::unused_self, reason = "elsewhere it depends on how the process was started")]
    pub(in crate::net) const fn has_terminal(&self) -> bool {
        false
    }

    /// What those ask for that have come since the last call.
    pub(in crate::net) fn take(&mut self, _: &Registry) -> SignalsTaken {
        let mut context = Context::from_waker(&self.loop_waker);
        let mut asked = SignalsTaken::default();
        while let Poll::Ready(Some(())) = self.c.poll_recv(&mut context) {
            asked.stops += 1;
        }
        while let Poll::Ready(Some(())) = self.pause.poll_recv(&mut context) {
            asked.stops += 1;
        }
        let ends = [
            self.close.poll_recv(&mut context),
            self.logoff.poll_recv(&mut context),
            self.shutdown.poll_recv(&mut context),
        ];
        if ends.iter().any(Poll::is_ready) {
            asked.stops += 1;
            asked.grace_max = Some(GRACE_MAX);
        }
        asked
    }
}
