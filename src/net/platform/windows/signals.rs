//! Console events as requests to stop.

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

/// Windows ends a process 5 s after its console was closed or its user logged off. One second is left for the end of
/// the process.
const GRACE_MAX: Duration = Duration::from_secs(4);

/// Catches the console events that stop the process.
///
/// Windows calls the handler in a thread of its own, and ends the process when the handler returns from a close. The
/// handler is tokio's, which does not return from it. It needs no runtime: its waker wakes the loop.
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
        // An error means that the loop is gone.
        let _ = self.0.wake();
    }
}

impl ProcessSignals {
    pub(in crate::net) fn catch(_: &Registry, waker: &Arc<Waker>) -> io::Result<Self> {
        // Makes the loop call `take`, whose first call registers the waker.
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

    /// False: on Windows, closing the console is an event of its own that stops the process.
    #[expect(clippy::unused_self, reason = "elsewhere it depends on how the process was started")]
    pub(in crate::net) const fn has_terminal(&self) -> bool {
        false
    }

    /// Takes the events received since the last call.
    pub(in crate::net) fn take(&mut self, _: &Registry) -> SignalsTaken {
        let mut context = Context::from_waker(&self.loop_waker);
        let mut asked = SignalsTaken::default();
        while let Poll::Ready(Some(())) = self.c.poll_recv(&mut context) {
            asked.stops += 1;
        }
        while let Poll::Ready(Some(())) = self.pause.poll_recv(&mut context) {
            asked.stops += 1;
        }
        // All three are polled each time, so that each has a waker.
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
