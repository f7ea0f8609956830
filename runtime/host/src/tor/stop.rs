//! What happens on SIGTERM: workers drain, coordinators write down what is not written, and then the process ends.
use super::Callback;
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use torhost_tcl::{Error, Interp, Obj, Result};

/// Ends the process, by the `exit` of the script, when the last that holds it has dropped it.
#[derive(Debug)]
pub(crate) struct Exit(Callback);

impl Drop for Exit {
    fn drop(&mut self) {
        self.0.call(|| vec![0.into()]);
    }
}

type Stop = Box<dyn Fn(Arc<Exit>) + Send>;

static STOPS: Mutex<Vec<Stop>> = Mutex::new(Vec::new());

fn stops() -> MutexGuard<'static, Vec<Stop>> {
    STOPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on `stop` is called on SIGTERM, and the process ends when all who were called have dropped what they were given. The first
/// interpreter that asks for this is the one that exits. A second SIGTERM ends the process at once.
///
/// # Errors
/// If signals cannot be waited for.
pub(super) fn on_sigterm(interp: &Interp, stop: impl Fn(Arc<Exit>) + Send + 'static) -> Result<()> {
    static WAITS: Once = Once::new();
    let exit = Callback::new(interp, &Obj::from("exit"))?;
    let mut outcome = Ok(());
    WAITS.call_once(|| {
        outcome = Signals::new([SIGTERM]).and_then(|signals| {
            std::thread::Builder::new()
                .name("signals".into())
                .spawn(move || wait(signals, exit))
                .map(drop)
        });
    });
    outcome.map_err(|error| Error::new(format!("cannot wait for signals: {error}")))?;
    stops().push(Box::new(stop));
    Ok(())
}

fn wait(mut signals: Signals, exit: Callback) {
    let exit = Arc::new(Exit(exit));
    let mut signals = signals.forever();
    signals.next();
    log::info!("SIGTERM: stopping");
    for stop in stops().iter() {
        stop(exit.clone());
    }
    drop(exit);
    signals.next();
    std::process::exit(1);
}
